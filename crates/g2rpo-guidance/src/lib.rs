//! g2rpo-guidance
#![forbid(unsafe_code)]
#![deny(missing_docs)]
