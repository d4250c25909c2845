//! How much guidance: amounts, the trait of length controllers, and its implementations.

pub(crate) mod amount;
pub(crate) mod bisection;
pub(crate) mod bucketed;
pub(crate) mod controllers;
pub(crate) mod curve;
pub(crate) mod irt;
pub(crate) mod length;
pub(crate) mod ratio;
pub(crate) mod schedule;
pub(crate) mod target;
