//! Shared objects of C++ that the crate holds as bytes: how they are loaded, and how their errors come back.
#![allow(
    unsafe_code,
    reason = "shared objects are loaded and the texts that they write are read; this file checks what that needs"
)]

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::TchError;

use crate::error::{Error, Result};

/// What a function of a shim writes the text of an error to: a place and its room.
pub(crate) type Text = (*mut c_char, usize);

/// Calls a function of a shim, which returns 0, or writes the text of an error to the place it is given.
pub(crate) fn call(f: impl FnOnce(Text) -> c_int) -> Result<()> {
    let mut text = [0 as c_char; 2048];
    if f((text.as_mut_ptr(), text.len())) == 0 {
        return Ok(());
    }
    // SAFETY: a shim ends what it writes with a zero within the room it is told, and the buffer is
    // zeros where it writes nothing.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    let text = text.to_string_lossy().into_owned();
    Err(Error::Torch(TchError::Torch(text)))
}

/// Declares the functions of a shim, whose `shim.cpp` says what they do, in a struct `Shim`, and how they are found:
/// the build script's flag for the shim, its variable with the object's path, what names begin with there, and what is
/// said where the shim was not built. To the arguments of those that are called come [`Text`]'s two; those that free
/// take what they free.
macro_rules! shim {
    (
        $built:ident, $object:literal, $prefix:literal, $missing:literal,
        call { $($call:ident($($argument:ty),*);)* }
        free { $($free:ident;)* }
    ) => {
        /// The functions of the shim.
        #[derive(Debug, Clone, Copy)]
        #[cfg_attr(
            not(all($built, target_os = "linux")),
            allow(dead_code, reason = "nothing makes one where the shim was not built")
        )]
        pub(super) struct Shim {
            $(pub(super) $call: unsafe extern "C" fn($($argument,)* *mut c_char, usize) -> c_int,)*
            $(pub(super) $free: unsafe extern "C" fn(Raw),)*
        }

        impl Shim {
            /// The shim, loaded at the first call, or why there is none.
            pub(super) fn get() -> std::result::Result<&'static Self, String> {
                static SHIM: OnceLock<std::result::Result<Shim, String>> = OnceLock::new();
                SHIM.get_or_init(Self::load).as_ref().map_err(String::clone)
            }

            #[cfg(not(all($built, target_os = "linux")))]
            fn load() -> std::result::Result<Self, String> {
                Err($missing.into())
            }

            #[cfg(all($built, target_os = "linux"))]
            fn load() -> std::result::Result<Self, String> {
                let library = crate::shim::open(stringify!($built), include_bytes!(env!($object)))?;
                let lacks = |error| format!("the shim lacks a function: {error}");
                // SAFETY: each symbol is the function of this name in `shim.cpp`, whose declaration the type of the
                // field repeats.
                let shim = unsafe {
                    Self {
                        $($call: *(library.get(concat!($prefix, stringify!($call)).as_bytes())).map_err(lacks)?,)*
                        $($free: *(library.get(concat!($prefix, stringify!($free)).as_bytes())).map_err(lacks)?,)*
                    }
                };
                // The functions must stay where they are.
                std::mem::forget(library);
                Ok(shim)
            }
        }
    };
}

pub(crate) use shim;

/// A pointer to something that a shim made, or to an `at::Tensor`.
pub(crate) type Raw = *mut c_void;

/// Loads a shim from its bytes.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "nothing is loaded where no shim was built")]
pub(crate) fn open(
    name: &str,
    bytes: &[u8],
) -> std::result::Result<libloading::os::unix::Library, String> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::io::Write;
    use std::os::fd::AsRawFd;

    // A file in memory: the program may have been carried to a machine without its build folder,
    // and no folder need be writable there.
    let file = memfd_create(name, MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(file.map_err(|error| format!("memfd_create: {error}"))?);
    (file.write_all(bytes)).map_err(|error| format!("writing the shim to memory: {error}"))?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: the object is ours, compiled against the release of libtorch that this process runs (its
    // build script and torch-sys's check the version); its initialisers are the C++ library's.
    // With RTLD_NOW every symbol is found here or loading fails, not at a later call.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
    library.map_err(|error| format!("loading the shim: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_errors_arrive() {
        let failed = call(|(text, room)| {
            assert_eq!(room, 2048);
            // SAFETY: three characters fit into 2048.
            unsafe { text.copy_from_nonoverlapping(c"no".as_ptr(), 3) };
            1
        });
        assert!(failed.unwrap_err().to_string().ends_with("no"));
        call(|_| 0).unwrap();
    }
}
