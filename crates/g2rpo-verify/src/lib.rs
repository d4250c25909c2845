//! Answer checking for reinforcement learning with verifiable rewards.
//!
//! A reward is what the policy optimises: a false positive is an exploit that training will find,
//! a false negative costs signal. Verifiers here are total (any text in, a verdict out, in bounded
//! time), never evaluate what a model wrote, and mask what they cannot decide instead of paying it.
//!
//! * [`Verifier`] and [`Verdict`]: the contract. Closures are verifiers.
//! * [`Gsm8k`]: `#### 42` answers of grade-school problems.
//! * [`code`]: Python code by its tests, in a sandbox that does not know the answers.
//! * [`MathVerifier`]: answers in LaTeX and plain text, found by an [`Extraction`] policy.
//! * [`MultipleChoice`]: the letter of an option.
//! * [`RewardFn`] and [`WeightedReward`]: shaping terms and their weighted sum.
//!
//! What counts as the same answer, and what is refused and why: `docs/verify.md` in the repository.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod bounded;
mod calculator;
mod choice;
#[cfg(feature = "code")]
pub mod code;
mod compat;
mod extract;
mod gsm8k;
mod list;
mod math;
mod numeral;
mod reward;
mod shaping;
mod verdict;
mod verifier;

pub use bounded::Bounded;
pub use choice::MultipleChoice;
pub use compat::ReferenceCodeBugsPaidAndSwapped;
pub use extract::{Anchor, Extraction, Reasoning, first_announcement};
pub use g2rpo_math::Policy;
pub use gsm8k::{CalculatorMarks, Gsm8k, Gsm8kExtraction};
pub use math::MathVerifier;
pub use reward::{Accuracy, Reward, RewardError, RewardFn, Sample, WeightedReward};
pub use shaping::{
    CosineScaled, Format, Length, ReasoningSteps, RepetitionPenalty, SoftOverlong, TagCount,
    ThinkFormat,
};
pub use verdict::{Fault, Incorrect, Outcome, Unverifiable, Verdict};
pub use verifier::{
    ReferenceReport, ScriptedVerifier, Verifier, check_references, verify_parallel,
};
