//! Which wheels make up libtorch on which system: versions and hashes pinned.

use crate::error::{Error, Result};
use std::fmt;

/// The one release of PyTorch that the `tch` crate in this workspace binds.
pub(crate) const TORCH_VERSION: &str = "2.11.0";

/// The first generation of NVIDIA drivers that runs CUDA 13, by the CUDA 13.0 release notes.
pub(crate) const MIN_CUDA_DRIVER: u32 = 580;

/// Which devices the installed libtorch can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Cpu,
    Cuda,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// A set of wheels that is installed into one folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pins {
    /// A requirements file with a version and a hash for every wheel.
    pub(crate) requirements: &'static str,
    /// Platform tags of the wheels, as `pip --platform` takes them. Old releases of pip do not
    /// know that a newer manylinux tag includes the older ones, so each is listed.
    pub(crate) platforms: &'static [&'static str],
    /// Sum of the wheels, in bytes.
    pub(crate) download_bytes: u64,
    /// Space taken after the installation, in bytes.
    pub(crate) installed_bytes: u64,
    /// Files that must be there for a build and for loading the library.
    pub(crate) files: &'static [&'static str],
    /// Libraries that must load, or a program linked with them will not start.
    pub(crate) loads: &'static [&'static str],
}

impl Pins {
    /// A version and a hash for each wheel.
    pub(crate) fn wheels(&self) -> impl Iterator<Item = &'static str> {
        (self.requirements.lines()).filter(|line| !line.starts_with('#'))
    }
}

const LINUX_X86_64: &[&str] = &[
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux_2_18_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_12_x86_64",
    "manylinux2010_x86_64",
    "manylinux_2_5_x86_64",
    "manylinux1_x86_64",
];

const HEADER: &str = "torch/include/torch/csrc/api/include/torch/torch.h";

const LINUX_CPU_FILES: &[&str] = &[
    HEADER,
    "torch/version.py",
    "torch/lib/libc10.so",
    "torch/lib/libtorch_cpu.so",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
];

const LINUX_X86_64_CPU: Pins = Pins {
    requirements: include_str!("../libtorch/linux-x86_64-cpu.txt"),
    platforms: LINUX_X86_64,
    download_bytes: 543_600_000,
    installed_bytes: 1_260_000_000,
    files: LINUX_CPU_FILES,
    loads: &["torch/lib/libtorch_cpu.so"],
};

const LINUX_X86_64_CUDA: Pins = Pins {
    requirements: include_str!("../libtorch/linux-x86_64-cuda.txt"),
    download_bytes: 2_512_500_000,
    installed_bytes: 4_050_000_000,
    files: &[
        HEADER,
        "torch/version.py",
        "torch/lib/libc10.so",
        "torch/lib/libtorch_cpu.so",
        "torch/lib/libtorch_cuda.so",
        "nvidia/cu13/lib/libcudart.so.13",
        "nvidia/cu13/lib/libcublas.so.13",
        "nvidia/cudnn/lib/libcudnn.so.9",
        "nvidia/nccl/lib/libnccl.so.2",
    ],
    loads: &["torch/lib/libtorch_cpu.so", "torch/lib/libtorch_cuda.so"],
    ..LINUX_X86_64_CPU
};

const LINUX_AARCH64_CPU: Pins = Pins {
    requirements: include_str!("../libtorch/linux-aarch64-cpu.txt"),
    platforms: &[
        "manylinux_2_28_aarch64",
        "manylinux_2_25_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
    ],
    download_bytes: 432_300_000,
    installed_bytes: 1_000_000_000,
    ..LINUX_X86_64_CPU
};

const MACOS_AARCH64: Pins = Pins {
    requirements: include_str!("../libtorch/macos-aarch64-cpu.txt"),
    platforms: &["macosx_11_0_arm64"],
    download_bytes: 80_600_000,
    installed_bytes: 420_000_000,
    files: &[
        HEADER,
        "torch/version.py",
        "torch/lib/libc10.dylib",
        "torch/lib/libtorch_cpu.dylib",
    ],
    loads: &["torch/lib/libtorch_cpu.dylib"],
};

/// The wheels for an operating system and architecture, named as in [`std::env::consts`].
pub(crate) fn pins(os: &str, arch: &str, flavor: Flavor) -> Result<Pins> {
    match (os, arch, flavor) {
        ("linux", "x86_64", Flavor::Cpu) => Ok(LINUX_X86_64_CPU),
        ("linux", "x86_64", Flavor::Cuda) => Ok(LINUX_X86_64_CUDA),
        ("linux", "aarch64", Flavor::Cpu) => Ok(LINUX_AARCH64_CPU),
        ("macos", "aarch64", Flavor::Cpu) => Ok(MACOS_AARCH64),
        _ => Err(Error::new(format!(
            "no {flavor} build of libtorch {TORCH_VERSION} is pinned for {os} on {arch}: install PyTorch {TORCH_VERSION} yourself and set LIBTORCH_USE_PYTORCH=1, or set LIBTORCH to a folder with libtorch {TORCH_VERSION}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_has_a_version_and_a_hash() {
        for (os, arch, flavor, wheels) in [
            ("linux", "x86_64", Flavor::Cpu, 3),
            ("linux", "x86_64", Flavor::Cuda, 16),
            ("linux", "aarch64", Flavor::Cpu, 3),
            ("macos", "aarch64", Flavor::Cpu, 1),
        ] {
            let pins = pins(os, arch, flavor).unwrap();
            let lines: Vec<&str> = pins.wheels().collect();
            assert_eq!(lines.len(), wheels, "{os} {arch} {flavor}");
            assert!(lines[0].starts_with(&format!("torch=={TORCH_VERSION} ")));
            for line in lines {
                let (wheel, hash) = line.split_once(" --hash=sha256:").expect(line);
                assert!(wheel.contains("==") && !wheel.contains('/'), "{line}");
                let is_hex = hash.chars().all(|c| c.is_ascii_hexdigit());
                assert!(hash.len() == 64 && is_hex, "{line}");
            }
            assert!(pins.installed_bytes > pins.download_bytes);
        }
    }

    #[test]
    fn the_build_script_checks_for_the_same_version() {
        let script = include_str!("../../crates/g2rpo-libtorch/build.rs");
        assert!(script.contains(&format!("const TORCH_VERSION: &str = \"{TORCH_VERSION}\";")));
    }

    #[test]
    fn other_systems_are_told_what_to_do() {
        for (os, arch, flavor) in [
            ("windows", "x86_64", Flavor::Cpu),
            ("macos", "x86_64", Flavor::Cpu),
            ("macos", "aarch64", Flavor::Cuda),
            ("linux", "aarch64", Flavor::Cuda),
        ] {
            let message = pins(os, arch, flavor).unwrap_err().to_string();
            assert!(message.contains(os) && message.contains("LIBTORCH_USE_PYTORCH=1"));
        }
    }
}
