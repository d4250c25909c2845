//! G²RPO-A's rule: the length follows the reward's past over its present.

use std::collections::VecDeque;

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::controller::amount::{Amount, AmountUnit, Rounding};
use crate::controller::length::{
    LengthController, Query, check_lengths, length_within, restored, saved,
};
use crate::error::{AT_LEAST_1, POSITIVE, Result};
use crate::feedback::StepFeedback;
use crate::signal::{Signal, Smoothing, Steering};

/// What the ratio rule does when the reward, or the mean of the rewards before it, is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroReward {
    /// The length stays; the reward enters the history. The released code, and the default.
    #[default]
    Skip,
    /// The length stays and the step is forgotten: the history holds positive rewards only.
    Drop,
    /// This number is added to both sides of the ratio. The reproduction uses 1e-8, with which a
    /// single zero sends the length to its maximum and the next reward sends it to its minimum.
    Epsilon(f64),
    /// The length goes to its maximum.
    Maximum,
}

/// Numbers of the ratio rule. The default is [`RatioConfig::paper`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RatioConfig {
    /// Unit of all lengths here. The paper counts tokens.
    pub unit: AmountUnit,
    /// ℓ₀, the first length.
    pub initial: f64,
    /// Smallest length, at least 0. The released code and the reproduction use 1; a length of 0
    /// could never grow again under a rule that multiplies.
    pub min: f64,
    /// ℓmax, the largest length.
    pub max: f64,
    /// T, the number of past rewards the new one is compared with.
    pub window: usize,
    /// The length changes after every `every`-th step.
    pub every: u64,
    /// What happens when a reward is 0.
    pub zero_reward: ZeroReward,
    /// Rounding of the length that is kept; `None` keeps it real.
    pub rounding: Option<Rounding>,
    /// Exponent of the ratio, above 0: below 1 damps it. The paper has 1.
    pub gain: f64,
    /// What is compared. The paper compares the mean reward of all rollouts.
    pub signal: Signal,
    /// Smoothing of the signal.
    pub smoothing: Smoothing,
}

impl Default for RatioConfig {
    fn default() -> Self {
        Self::paper()
    }
}

impl RatioConfig {
    /// The rule as the paper states it (arXiv 2508.13023): an update after every step, the mean of
    /// the previous `min(T, k)` rewards, T = 2. What the paper leaves open is settled so: zero
    /// rewards are skipped, the length is kept real, at least 1, and starts at ℓmax = 3072 as in
    /// the released code.
    pub fn paper() -> Self {
        Self {
            unit: AmountUnit::Tokens,
            initial: 3072.0,
            min: 1.0,
            max: 3072.0,
            window: 2,
            every: 1,
            zero_reward: ZeroReward::Skip,
            rounding: None,
            gain: 1.0,
            signal: Signal::REWARD,
            smoothing: Smoothing::None,
        }
    }

    /// The rule as the released trainer executes it: two steps collect, the third updates, the
    /// length is rounded down.
    pub fn released() -> Self {
        Self {
            every: 3,
            rounding: Some(Rounding::Floor),
            ..Self::paper()
        }
    }

    /// The rule of the independent reproduction: every step, 1e-8 added to both sides, rounded to
    /// the nearest, from 384 of at most 768 tokens.
    pub fn reproduction() -> Self {
        Self {
            initial: 384.0,
            max: 768.0,
            zero_reward: ZeroReward::Epsilon(1e-8),
            rounding: Some(Rounding::Nearest),
            ..Self::paper()
        }
    }
}

/// G²RPO-A's rule: the length follows the reward's past over its present.
///
/// ```text
/// ℓ' = clamp(ℓ · ((1/m) Σ_{τ=1..m} r_{k-τ} / r_k)^gain, min, max),   m = min(T, k)
/// ```
///
/// Rewards that rise shorten the guidance, rewards that fall lengthen it. There is no set-point:
/// the length depends on how far the reward has come, not on where it is (docs/algorithm.md).
///
/// Rewards below 0 count as 0. A step without any rollout of the signal's kind changes nothing.
///
/// ```
/// use g2rpo_guidance::{Ratio, RatioConfig};
/// let mut ratio = Ratio::new(RatioConfig { initial: 100.0, ..RatioConfig::paper() })?;
/// for reward in [0.2, 0.4, 0.4] {
///     ratio.step(reward);
/// }
/// // 100 · 0.2/0.4 = 50, then 50 · (0.2 + 0.4)/2/0.4 = 37.5
/// assert!((ratio.length() - 37.5).abs() < 1e-12);
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    config: RatioConfig,
    state: Past,
}

/// The length and the rewards that led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Past {
    length: f64,
    history: VecDeque<f64>,
    seen: u64,
    smoothed: Option<f64>,
}

impl Ratio {
    /// Starts at `config.initial`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for numbers outside their domain.
    pub fn new(config: RatioConfig) -> Result<Self> {
        check_lengths(config.initial, config.min, config.max)?;
        AT_LEAST_1.check("window", config.window as f64)?;
        AT_LEAST_1.check("every", config.every as f64)?;
        POSITIVE.check("gain", config.gain)?;
        if let ZeroReward::Epsilon(eps) = config.zero_reward {
            POSITIVE.check("epsilon", eps)?;
        }
        config.smoothing.check()?;
        Ok(Self {
            config,
            state: Past {
                length: config.initial,
                history: VecDeque::new(),
                seen: 0,
                smoothed: None,
            },
        })
    }

    /// The present length, in the configured unit.
    pub fn length(&self) -> f64 {
        self.state.length
    }

    /// One step with the given value of the signal. NaN and infinities are ignored, numbers below
    /// 0 count as 0.
    pub fn step(&mut self, reward: f64) {
        if !reward.is_finite() {
            return;
        }
        let reward = reward.max(0.0);
        let zero = reward == 0.0;
        if zero && self.config.zero_reward == ZeroReward::Drop {
            return;
        }
        self.state.seen += 1;
        if !self.state.history.is_empty() && self.state.seen.is_multiple_of(self.config.every) {
            let mean = self.state.history.iter().sum::<f64>() / self.state.history.len() as f64;
            if let Some(length) = self.updated(mean, reward) {
                self.state.length = self.kept(length);
            }
        }
        self.state.history.push_back(reward);
        if self.state.history.len() > self.config.window {
            self.state.history.pop_front();
        }
    }

    fn updated(&self, mean: f64, reward: f64) -> Option<f64> {
        let (above, below) = match self.config.zero_reward {
            ZeroReward::Epsilon(eps) => (mean + eps, reward + eps),
            ZeroReward::Maximum if mean == 0.0 || reward == 0.0 => return Some(self.config.max),
            _ if mean == 0.0 || reward == 0.0 => return None,
            _ => (mean, reward),
        };
        // Dividing by what was multiplied with may lose a last digit, and rounding down a token.
        if above == below {
            return None;
        }
        let length = self.state.length;
        Some(if self.config.gain != 1.0 {
            length * (above / below).powf(self.config.gain)
        } else if self.config.rounding == Some(Rounding::Floor) {
            // The released code takes the quotient first; rounding down makes the order matter.
            length * (above / below)
        } else {
            length * above / below
        })
    }

    fn kept(&self, length: f64) -> f64 {
        // Neither NaN (0 · ∞) nor an infinity survives the clamp.
        let length = if length.is_nan() {
            self.state.length
        } else {
            length
        };
        let length = length.clamp(self.config.min, self.config.max);
        let rounded = match self.config.rounding {
            None | Some(Rounding::Stochastic) => length,
            Some(rounding) => rounding.apply(length, 0.0) as f64,
        };
        rounded.clamp(self.config.min, self.config.max)
    }
}

impl LengthController for Ratio {
    fn amount(&self, _: &Query, _: &mut dyn Rng) -> Amount {
        self.config.unit.of(self.state.length)
    }

    fn observe(&mut self, feedback: &StepFeedback) {
        let c = &self.config;
        let value = (c.smoothing).follow(c.signal, feedback, &mut self.state.smoothed);
        value.into_iter().for_each(|value| self.step(value));
    }

    fn steering(&self) -> Option<Steering> {
        let c = &self.config;
        Some(Steering {
            signal: c.signal,
            min: c.min,
            max: c.max,
            unit: c.unit,
        })
    }

    fn state(&self) -> Value {
        saved(&self.state)
    }

    fn restore(&mut self, saved: Value) -> Result<()> {
        let mut state: Past = restored("ratio", saved)?;
        length_within("ratio", state.length, self.config.min, self.config.max)?;
        // A shorter window than the saved one keeps the latest.
        let extra = state.history.len().saturating_sub(self.config.window);
        state.history.drain(..extra);
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::feedback;

    fn from_100() -> RatioConfig {
        RatioConfig {
            initial: 100.0,
            ..RatioConfig::paper()
        }
    }

    fn lengths(config: RatioConfig, rewards: &[f64]) -> Vec<f64> {
        let mut ratio = Ratio::new(config).unwrap();
        (rewards.iter())
            .map(|&r| {
                ratio.observe(&feedback(0, [(0, true, 0.0, r)]));
                ratio.length()
            })
            .collect()
    }

    #[test]
    fn equal_rewards_cost_no_token() {
        for initial in 1..3072 {
            let config = RatioConfig {
                initial: f64::from(initial),
                ..RatioConfig::released()
            };
            for reward in [0.1, 0.3, 0.7] {
                assert_eq!(lengths(config, &[reward; 3])[2], f64::from(initial));
            }
        }
    }

    #[test]
    fn negative_and_missing_rewards_do_no_harm() {
        let got = lengths(from_100(), &[0.5, -0.5, f64::NAN, 0.5]);
        assert_eq!(got, [100.0, 100.0, 100.0, 50.0]);
        let mut ratio = Ratio::new(from_100()).unwrap();
        ratio.observe(&StepFeedback::new(0));
        assert_eq!(ratio.length(), 100.0);
    }
}
