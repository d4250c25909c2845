//! g2rpo-train
#![forbid(unsafe_code)]
#![deny(missing_docs)]
