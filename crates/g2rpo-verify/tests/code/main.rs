//! Code verification end to end, in real sandboxes. Levels that this machine does not offer are
//! named and skipped.
#![cfg(all(feature = "code", target_os = "linux"))]

mod attacks;
mod formats;
mod fresh;
mod honest;
mod human_eval;
mod support;
