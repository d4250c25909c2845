//! Advantages and weights of single tokens, from what the policy thinks of its own completions when a
//! hint is in the prompt.

mod choice;
mod reliance;
mod rlcsd;
mod rlsd;
mod stream;

pub use choice::TokenAdvantage;
pub use reliance::{hint_reliance, hint_reliance_weight};
pub use rlcsd::{Rlcsd, RlcsdAdvantages};
pub use rlsd::Rlsd;
