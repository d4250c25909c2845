//! Worked solutions as ids and text, and how they are cut without giving the answer away.

pub(crate) mod answer;
pub(crate) mod budget;
pub(crate) mod cut;
pub(crate) mod cutter;
pub(crate) mod inspect;
pub(crate) mod protect;
pub(crate) mod solution;
