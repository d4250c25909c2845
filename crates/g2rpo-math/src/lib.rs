//! Mathematical answers compared: two texts in LaTeX or plain text, and whether they say the same.
//!
//! The reader must understand all of a text; there is no reading of a part. Values are compared
//! exactly: rationals, residues modulo primes, numbers with error bounds. Nothing is evaluated as
//! code, no clock is read, no thread is started, and the same two texts always compare the same.
//! What a comparison may cost is counted; what cannot be decided is not equal.
//!
//! [`compare`] is the whole interface for most; [`compare_with`] takes a [`Policy`] and a budget,
//! and [`check_reference`] says beforehand whether a reference can decide anything. Where in a longer
//! text the answer stands is not this crate's matter.
//!
//! ```
//! use g2rpo_math::compare;
//!
//! assert!(compare("x < 1 or x > 3", "(-\\infty,1)\\cup(3,\\infty)").is_equal());
//! assert!(compare("180^\\circ", "\\pi").is_equal());
//! assert!(!compare("e^{-50}", "e^{-60}").is_equal());
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod agree;
mod answer;
mod compare;
mod comparer;
mod comparison;
mod complex;
mod equal;
mod equality;
mod exact;
mod expr;
mod float;
mod fold;
mod form;
mod fuel;
mod lex;
mod modular;
mod numeric;
mod parse;
mod realset;
mod region;
mod relation;
mod rounding;
mod sample;
mod units;

pub use answer::{DEFAULT_BUDGET, check_reference, compare, compare_with};
pub use comparison::{Comparison, Mismatch, Policy, ReferenceError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
