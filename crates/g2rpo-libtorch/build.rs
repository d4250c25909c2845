//! Finds libtorch the way `torch-sys` does, so that programs find it again when they start.
//!
//! `torch-sys` tells the linker where libtorch is, but the path is not kept in the program, and a
//! build script can add link arguments to its own package only. So this script gives this package's
//! own tests and doctests an rpath, and hands the path on to packages that depend on this one, as
//! `DEP_G2RPO_LIBTORCH_RPATH`: their build scripts do the same (`crates/g2rpo/build.rs` is made to
//! be reused).
//!
//! It also compiles what tch does not bind of libtorch, where the headers for that are: `cuda/shim.cpp` of its GPU
//! half, `gloo/shim.cpp` of its collectives, `nccl/shim.cpp` of those between GPUs. The objects are not linked: the crate
//! holds their bytes and loads them when there is a GPU, or when there are several processes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The release that `tch` binds; its own check sees only the `build-version` file of the zip files.
const TORCH_VERSION: &str = "2.11.0";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=common");
    for name in ["cuda", "gloo", "nccl"] {
        println!("cargo::rustc-check-cfg=cfg(g2rpo_{name}_shim)");
        println!("cargo::rerun-if-changed={name}");
    }
    for name in [
        "LIBTORCH",
        "LIBTORCH_LIB",
        "LIBTORCH_USE_PYTORCH",
        "LIBTORCH_BYPASS_VERSION_CHECK",
        "VIRTUAL_ENV",
    ] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() || env::var_os("DOCS_RS").is_some() {
        return;
    }
    let Some(lib) = libtorch_lib() else {
        return;
    };
    if let Some(torch) = lib.parent()
        && env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
    {
        // Each takes half a minute, most of it to read libtorch's headers.
        let mut shims: Vec<(&str, Compile, &str)> = vec![
            (
                "cuda",
                compile_cuda,
                "CUDA graphs and flash attention in decoding steps, which only GPUs use",
            ),
            ("gloo", compile_gloo, "training by several processes"),
        ];
        // A set-up for CPUs has no NCCL, which needs no warning.
        if nccl_include(torch).join("nccl.h").is_file() {
            shims.push(("nccl", compile_nccl, "sums of gradients on several GPUs"));
        }
        std::thread::scope(|scope| {
            let started: Vec<_> = (shims.into_iter())
                .map(|(name, compile, what)| (name, scope.spawn(move || compile(torch)), what))
                .collect();
            for (name, thread, what) in started {
                let died = |_| Err("its compilation panicked".to_owned());
                match thread.join().unwrap_or_else(died) {
                    Ok(object) => {
                        println!("cargo::rustc-cfg=g2rpo_{name}_shim");
                        let variable = name.to_uppercase();
                        println!(
                            "cargo::rustc-env=G2RPO_{variable}_SHIM={}",
                            object.display()
                        );
                    }
                    Err(why) => println!("cargo::warning=built without {what}: {why}"),
                }
            }
        });
    }
    // The path as it was given follows a link that is set anew (`cargo xtask setup --cuda`); the
    // real one serves an installed program after the checkout is gone.
    let real = fs::canonicalize(&lib).unwrap_or_else(|_| lib.clone());
    let mut dirs = vec![lib];
    if real != dirs[0] {
        dirs.push(real);
    }
    if env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
        for dir in &dirs {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", dir.display());
        }
        if let Ok(path) = env::join_paths(&dirs) {
            println!("cargo::metadata=RPATH={}", path.display());
        }
    }
}

/// The folder with the libraries; `None` for a system-wide libtorch, which needs no path.
fn libtorch_lib() -> Option<PathBuf> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return Some(python_torch().join("lib"));
    }
    let root = PathBuf::from(env::var_os("LIBTORCH")?);
    let lib = env::var_os("LIBTORCH_LIB")
        .map_or_else(|| root.clone(), PathBuf::from)
        .join("lib");
    if !lib.is_dir() {
        fail(&format!(
            "there is no libtorch in {}: run `cargo xtask setup` in the checkout, or set LIBTORCH to a libtorch {TORCH_VERSION}, \
             or LIBTORCH_USE_PYTORCH=1 to use the PyTorch {TORCH_VERSION} of your python3",
            root.display()
        ));
    }
    println!(
        "cargo::rerun-if-changed={}",
        root.join("version.py").display()
    );
    if let Some(version) = wheel_version(&root)
        && version != TORCH_VERSION
        && env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_none()
    {
        fail(&format!(
            "{} holds libtorch {version}, but {TORCH_VERSION} is needed: set LIBTORCH to a libtorch {TORCH_VERSION}, \
             or unset it and run `cargo xtask setup`",
            root.display()
        ));
    }
    Some(lib)
}

/// What compiles a shim against the libtorch in a folder.
type Compile = fn(&Path) -> Result<PathBuf, String>;

/// `cuda/shim.cpp` as a shared object in the build folder.
fn compile_cuda(torch: &Path) -> Result<PathBuf, String> {
    let runtime = cuda_runtime(torch)?;
    compile("cuda", torch, |command| {
        command.arg("-isystem").arg(runtime);
        command.args(["-idirafter", "cuda/stand-in"]);
    })
}

/// The folder with the headers of CUDA's runtime, for a libtorch that has a CUDA half.
fn cuda_runtime(torch: &Path) -> Result<PathBuf, String> {
    there(&torch.join("include/c10/cuda/impl/cuda_cmake_macros.h"))?;
    let runtime = [
        torch.join("../nvidia/cu13/include"),
        PathBuf::from(env::var_os("CUDA_HOME").unwrap_or("/usr/local/cuda".into())).join("include"),
    ];
    let found = (runtime.iter()).find(|dir| dir.join("cuda_runtime_api.h").is_file());
    found.cloned().ok_or_else(|| {
        format!(
            "no cuda_runtime_api.h in {} or {}",
            runtime[0].display(),
            runtime[1].display()
        )
    })
}

/// Where NCCL's header is, if anywhere. It must be of the release that libtorch was built with, as classes of c10d have
/// other members with another: it is taken from the wheel that torch itself asks for.
fn nccl_include(torch: &Path) -> PathBuf {
    torch.join("../nvidia/nccl/include")
}

/// `nccl/shim.cpp` as a shared object in the build folder.
fn compile_nccl(torch: &Path) -> Result<PathBuf, String> {
    there(&torch.join("include/torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp"))?;
    let (runtime, nccl) = (cuda_runtime(torch)?, nccl_include(torch));
    compile("nccl", torch, |command| {
        // Before CUDA's own headers, which it stands in for.
        command.args(["-DUSE_C10D_NCCL", "-I", "nccl/stand-in"]);
        for folder in [&runtime, &nccl] {
            command.arg("-isystem").arg(folder);
        }
        command.args(["-idirafter", "cuda/stand-in"]);
    })
}

/// `gloo/shim.cpp` as a shared object in the build folder. Gloo's own headers are in no wheel; what c10d's header
/// names of them stands in for them.
fn compile_gloo(torch: &Path) -> Result<PathBuf, String> {
    there(&torch.join("include/torch/csrc/distributed/c10d/ProcessGroupGloo.hpp"))?;
    compile("gloo", torch, |command| {
        command.args(["-DUSE_C10D_GLOO", "-idirafter", "gloo/stand-in"]);
    })
}

fn there(header: &Path) -> Result<(), String> {
    if header.is_file() {
        return Ok(());
    }
    Err(format!("{} is not there", header.display()))
}

/// The `shim.cpp` of a folder as a shared object in the build folder.
fn compile(
    folder: &str,
    torch: &Path,
    arguments: impl FnOnce(&mut Command),
) -> Result<PathBuf, String> {
    let include = torch.join("include");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let object = out.join(format!("{folder}-shim.so"));
    // Symbols of libtorch stay open: they are found when the object is loaded.
    let mut command = cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false)
        .std("c++17")
        .opt_level(1)
        .debug(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .try_get_compiler()
        .map_err(|error| error.to_string())?
        .to_command();
    arguments(&mut command);
    command
        .args(["-shared", "-s"])
        .arg(format!("{folder}/shim.cpp"))
        .arg("-o")
        .arg(&object);
    let output = (command.output()).map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(object);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().find(|line| line.contains("error"));
    Err(format!(
        "{folder}/shim.cpp does not compile: {}",
        first.unwrap_or("the compiler gives no reason")
    ))
}

fn python_torch() -> PathBuf {
    let python = if env::var_os("VIRTUAL_ENV").is_some() {
        "python"
    } else {
        "python3"
    };
    let script =
        "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])";
    match Command::new(python).args(["-c", script]).output() {
        Ok(output) if output.status.success() => {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => fail(&format!(
            "LIBTORCH_USE_PYTORCH is set, but {python} has no torch: run `{python} -m pip install torch=={TORCH_VERSION}`, \
             or unset the variable and run `cargo xtask setup`"
        )),
    }
}

/// The version in a Python package of torch, without its local part (`+cpu`).
fn wheel_version(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    Some(
        line.split(['\'', '"'])
            .nth(1)?
            .split('+')
            .next()?
            .to_owned(),
    )
}

fn fail(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    exit(1)
}
