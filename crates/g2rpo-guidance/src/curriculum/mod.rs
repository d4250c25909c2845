//! Which tasks come when: fixed orders, and a choice that follows the reward.

pub(crate) mod difficulty;
pub(crate) mod order;
