//! What every comparison carries along. How forms are compared stands in `compare.rs`.

use crate::comparison::Policy;
use crate::fuel::Fuel;

/// Compares forms. Symmetric, but for [`Policy::rounded_reference`] and the reason given.
pub(crate) struct Comparer<'a> {
    pub(crate) policy: Policy,
    pub(crate) fuel: &'a mut Fuel,
}
