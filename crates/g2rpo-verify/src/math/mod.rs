//! Mathematical answers: reading, comparing, and the verifier that does both.

mod compare;
mod complex;
mod equal;
mod exact;
mod expr;
mod fold;
mod form;
mod fuel;
mod lex;
mod modular;
mod numeric;
mod parse;
mod realset;
mod relation;
mod units;
mod verifier;

pub use compare::Policy;
pub use verifier::MathVerifier;
