//! Data sets: how they are read, and what is wrong with them.

pub mod formats;
pub mod lint;
