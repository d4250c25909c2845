//! The loop as a whole, on a table as policy: every method, detector and setting runs through it.

mod contrast;
mod detectors;
mod methods;
mod misuse;
mod probe;
mod refusals;
mod settings;
mod success;
