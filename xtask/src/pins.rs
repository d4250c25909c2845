//! Which wheels make up libtorch on which system: versions and hashes pinned.

use crate::error::{Error, Result};
use std::fmt;

/// The one release of PyTorch that the `tch` crate in this workspace binds.
pub(crate) const TORCH_VERSION: &str = "2.11.0";

/// The first driver generation that runs CUDA 13 (CUDA 13.0 release notes, table 3).
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

const LINUX_X86_64: &[&str] = &[
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux_2_18_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
];

const HEADER: &str = "torch/include/torch/csrc/api/include/torch/torch.h";

const LINUX_X86_64_CPU: Pins = Pins {
    requirements: include_str!("../libtorch/linux-x86_64-cpu.txt"),
    platforms: LINUX_X86_64,
    download_bytes: 543_600_000,
    installed_bytes: 1_260_000_000,
    files: &[
        HEADER,
        "torch/version.py",
        "torch/lib/libc10.so",
        "torch/lib/libtorch_cpu.so",
        "nvidia/cu13/lib/libcudart.so.13",
        "nvidia/cu13/lib/libcupti.so.13",
    ],
    loads: &["torch/lib/libtorch_cpu.so"],
};

/// The wheels for an operating system and architecture, named as in [`std::env::consts`].
pub(crate) fn pins(os: &str, arch: &str, flavor: Flavor) -> Result<Pins> {
    match (os, arch, flavor) {
        ("linux", "x86_64", Flavor::Cpu) => Ok(LINUX_X86_64_CPU),
        _ => Err(Error::new(format!(
            "no {flavor} build of libtorch {TORCH_VERSION} is pinned for {os} on {arch}: install PyTorch {TORCH_VERSION} yourself and set LIBTORCH_USE_PYTORCH=1, or set LIBTORCH to a folder with libtorch {TORCH_VERSION}"
        ))),
    }
}
