//! Files mapped into memory.
#![allow(
    unsafe_code,
    reason = "a mapped file can be changed by others while it is read; argued below"
)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// A file whose bytes are read from the page cache as they are needed.
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: nothing in this crate writes to a checkpoint's files in place; they are replaced
        // by renaming, which leaves the mapped ones as they are. Another process that truncates
        // the file while it is mapped ends this one with SIGBUS, as it does every reader of
        // safetensors; one that changes bytes changes numbers, no matter of memory safety for
        // plain bytes that are copied out.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Ok(Self(map))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
