//! g2rpo-verify
#![forbid(unsafe_code)]
#![deny(missing_docs)]
