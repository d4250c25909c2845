//! Which libtorch a build in this checkout uses.

use crate::error::{Error, Result};
use crate::install::{Installer, is_whole};
use crate::pins::{Flavor, MIN_CUDA_DRIVER, Pins, TORCH_VERSION, pins};
use crate::pip::Python;
use crate::{probe, repo};
use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::{Path, PathBuf};

/// What the caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// What the checkout has; if nothing, as [`Wish::Detect`].
    Any,
    /// CUDA where there is an NVIDIA driver for it, else the CPU.
    Detect,
    /// This one.
    Only(Flavor),
}

/// Makes sure that plain cargo commands in this checkout find a libtorch.
pub(crate) fn ensure(wish: Wish) -> Result<()> {
    if user_libtorch()? {
        return Ok(());
    }
    let link = repo::libtorch_link();
    let flavor = match wish {
        Wish::Only(flavor) => flavor,
        Wish::Any => linked_flavor(&link).unwrap_or_else(detect),
        Wish::Detect => detect(),
    };
    let pins: Pins = pins(OS, ARCH, flavor)?;
    // The link may point to the cache of an earlier XDG_CACHE_HOME: no reason to fetch again.
    if wish == Wish::Any && is_whole(&link, &pins) {
        return Ok(());
    }
    let folder = Installer::new()?.ensure(flavor, &pins)?;
    point(&link, &folder)?;
    if wish != Wish::Any {
        let shown = folder.display();
        eprintln!("libtorch {TORCH_VERSION} ({flavor}) is ready in {shown}");
    }
    Ok(())
}

/// Whether the user brings a libtorch; an error if it does not fit.
fn user_libtorch() -> Result<bool> {
    let bypass = std::env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some();
    if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let python = Python::new();
        probe::check_user_pytorch(&python, bypass)?;
        eprintln!("Using the PyTorch of {python}, because LIBTORCH_USE_PYTORCH is set");
        return Ok(true);
    }
    // `cargo xtask` sets LIBTORCH from .cargo/config.toml if the user has not.
    match std::env::var_os("LIBTORCH").map(PathBuf::from) {
        Some(dir) if dir != repo::libtorch_dir() => {
            probe::check_user_libtorch(&dir, bypass)?;
            let shown = dir.display();
            eprintln!("Using the libtorch in {shown}, because LIBTORCH is set");
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn detect() -> Flavor {
    if pins(OS, ARCH, Flavor::Cuda).is_err() {
        return Flavor::Cpu;
    }
    choose(probe::nvidia_driver())
}

/// CUDA for a driver that can run it, or whose version nobody could read.
fn choose(driver: Option<probe::Driver>) -> Flavor {
    match driver {
        None => Flavor::Cpu,
        Some(probe::Driver { major: Some(major) }) if major < MIN_CUDA_DRIVER => {
            eprintln!(
                "The NVIDIA driver {major} is too old for CUDA 13, which needs {MIN_CUDA_DRIVER}: installing libtorch for the CPU; after updating the driver, run `cargo xtask setup --cuda`"
            );
            Flavor::Cpu
        }
        Some(_) => Flavor::Cuda,
    }
}

/// The flavor that an earlier set-up linked, by the name of the folder.
fn linked_flavor(link: &Path) -> Option<Flavor> {
    let target = fs::read_link(link).ok()?;
    let name = target.file_name()?.to_str()?;
    [Flavor::Cpu, Flavor::Cuda]
        .into_iter()
        .find(|flavor| name.ends_with(&format!("-{flavor}")))
}

/// Makes `link` a link to `folder`, in one step.
#[cfg(unix)]
fn point(link: &Path, folder: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|target| target == folder) {
        return Ok(());
    }
    if link.symlink_metadata().is_ok_and(|meta| !meta.is_symlink()) {
        return Err(Error::new(format!(
            "{} is in the way: it should be a link to {}; move it elsewhere and run the same command again",
            link.display(),
            folder.display()
        )));
    }
    let fresh = link.with_file_name(format!(".libtorch.{}", std::process::id()));
    std::os::unix::fs::symlink(folder, &fresh)
        .map_err(Error::io("create the link", fresh.display()))?;
    fs::rename(&fresh, link).map_err(Error::io("create the link", link.display()))
}

#[cfg(not(unix))]
fn point(_link: &Path, folder: &Path) -> Result<()> {
    Err(Error::new(format!(
        "set LIBTORCH to {}",
        folder.join("torch").display()
    )))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn cuda_goes_with_a_driver_that_can_run_it() {
        let driver = |major| Some(probe::Driver { major });
        assert_eq!(choose(None), Flavor::Cpu);
        assert_eq!(choose(driver(Some(535))), Flavor::Cpu);
        assert_eq!(choose(driver(Some(580))), Flavor::Cuda);
        assert_eq!(choose(driver(None)), Flavor::Cuda);
    }

    #[test]
    fn the_link_is_made_moved_and_never_overwrites_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join(".libtorch");
        let cpu = dir.path().join("libtorch-2.11.0-cpu");
        let cuda = dir.path().join("libtorch-2.11.0-cuda");
        assert_eq!(linked_flavor(&link), None);
        for (folder, flavor) in [
            (&cpu, Flavor::Cpu),
            (&cuda, Flavor::Cuda),
            (&cuda, Flavor::Cuda),
        ] {
            point(&link, folder).unwrap();
            assert_eq!(&fs::read_link(&link).unwrap(), folder);
            assert_eq!(linked_flavor(&link), Some(flavor));
        }
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        fs::write(link.join("mine"), "").unwrap();
        let message = point(&link, &cpu).unwrap_err().to_string();
        assert!(message.contains("in the way"), "{message}");
        assert!(link.join("mine").exists());
    }
}
