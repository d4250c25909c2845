//! Where guidance comes from and where it is put.

pub(crate) mod first;
pub(crate) mod guidance;
pub(crate) mod own;
pub(crate) mod placement;
pub(crate) mod sources;
pub(crate) mod think;
pub(crate) mod written;
