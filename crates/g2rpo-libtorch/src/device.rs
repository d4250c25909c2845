//! Devices by name.

use std::sync::OnceLock;

use tch::Device;

use crate::error::{Error, Result, ensure};

/// Makes CUDA usable if it can be: loads libtorch's CUDA half, which the linker leaves out because
/// no symbol of it is named. Returns whether a CUDA device is there. Cheap after the first call.
///
/// One binary thus runs on machines with and without a GPU.
pub fn cuda_is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        load_cuda_libraries();
        tch::Cuda::is_available()
    })
}

/// The device that a name like those of PyTorch means: `cpu`, `cuda` (the first), `cuda:1`, or
/// `auto` (the first CUDA device if there is one, else the CPU).
///
/// # Errors
/// [`Error::Invalid`] for another name, or for a CUDA device that is not there.
pub fn device(name: &str) -> Result<Device> {
    match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" if cuda_is_available() => return Ok(Device::Cuda(0)),
        "auto" => return Ok(Device::Cpu),
        _ => {}
    }
    let index = match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse().ok()),
        None => None,
    };
    let Some(index) = index else {
        return Err(Error::invalid(
            "device",
            format!("expected cpu, cuda, cuda:N or auto, got `{name}`"),
        ));
    };
    let count = match cuda_is_available() {
        true => tch::Cuda::device_count(),
        false => 0,
    };
    ensure((index as i64) < count, "device", || {
        format!("`{name}` asked for, but {count} CUDA devices are usable here")
    })?;
    Ok(Device::Cuda(index))
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "loading a library runs its initialisers")]
fn load_cuda_libraries() {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the initialisers of libtorch_cuda register kernels with the dispatcher of the
    // libtorch_cpu that this process already runs; both come from one release of PyTorch, which is
    // how libtorch itself loads them. The library is never unloaded.
    if let Ok(library) = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) }
    {
        std::mem::forget(library);
    }
}

#[cfg(not(unix))]
fn load_cuda_libraries() {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    #[test]
    fn names_are_those_of_pytorch() {
        assert_eq!(device("cpu").unwrap(), Device::Cpu);
        for wrong in ["gpu", "cuda0", "cuda:", "cuda:-1", ""] {
            let expected = format!("device: expected cpu, cuda, cuda:N or auto, got `{wrong}`");
            says(device(wrong), &expected);
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_refused() {
        says(device("cuda:99"), "device: `cuda:99` asked for, but …");
    }
}
