//! The loop as a whole, on a table as policy: every method, detector and setting runs through it.

mod choices;
mod contrast;
mod detectors;
mod lessons;
mod methods;
mod misuse;
mod probe;
mod refusals;
mod settings;
mod settings_of_plans;
mod settings_of_runs;
mod success;
