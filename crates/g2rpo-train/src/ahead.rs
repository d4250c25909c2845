//! Rollouts ahead of the learner: how far, and how the loss accounts for the older policy behind them.

use std::fmt;

use g2rpo_core::{KlPlacement, LossType, MismatchCorrection, MismatchLevel, OutOfRange};
use g2rpo_guidance::Method;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::step::update::{UpdateConfig, needs_its_sampler};

/// How far rollouts are ahead of the learner. The next batches are sampled, by the weights of the step before, while
/// the learner learns from this one.
///
/// With `max_staleness` n, batch k is sampled by the weights after step k − n (the first n by those of the start), in
/// every run alike, so a run depends on its seed and not on its speed. 1 hides the shorter of the two halves of a step behind
/// the longer one; more makes nothing faster, and shows how much staleness a method bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ahead {
    /// Steps between the policy that samples and the one that learns, at most 64. Default 0: one after the other. TRL's name.
    pub max_staleness: u64,
    /// How the loss accounts for them.
    pub correction: StalenessCorrection,
}

/// How the loss accounts for rollouts of an older policy. `p` is the policy that learns, `q` the one that sampled, `p₀` the
/// former before the updates from the batch. Guided prefixes were not sampled, and carry no ratio under any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StalenessCorrection {
    /// The ratio of the loss is `p/q`, limited as the loss limits ratios (TRL's asynchronous GRPO). A method with an
    /// `importance_sampling_correction` of its own keeps that, with ratios `p/p₀`.
    #[default]
    Ratio,
    /// Ratios `p/p₀`, and every token weighted by `min(p₀/q, 2)`: truncated importance weights, by the cap of verl
    /// and open-instruct.
    Tis,
    /// Loss `dppo` with ratios `p/q`: tokens whose probability left the trust region of q are masked.
    Dppo,
    /// Ratios `p/p₀`, and every token weighted by `p₀/q`, masked above 5: the decoupled form of AReaL.
    Decoupled,
}

/// The largest `max_staleness`.
const MOST: u64 = 64;

impl fmt::Display for StalenessCorrection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl Ahead {
    /// Sets the method and the update up for stale rollouts, or refuses what cannot be learned from them.
    pub(crate) fn prepare(&self, method: &mut Method, update: &mut UpdateConfig) -> Result<()> {
        let steps = self.max_staleness;
        let of_steps = |problem| Err(Error::config("max_staleness", steps, problem));
        let of_correction = |problem: &str| {
            Err(Error::config(
                "staleness_correction",
                self.correction,
                problem,
            ))
        };
        if steps == 0 {
            return match self.correction {
                StalenessCorrection::Ratio => Ok(()),
                _ => of_correction("has no effect without max_staleness above 0"),
            };
        }
        if steps > MOST {
            return of_steps(
                "is above 64, and that many batches are sampled before the first step and kept in memory",
            );
        }
        if let Some(problem) = needs_its_sampler(method) {
            return of_steps(problem);
        }
        let corrected = method.loss.importance_sampling_correction.is_some();
        if corrected && self.correction != StalenessCorrection::Ratio {
            let problem = "the method has an importance_sampling_correction already: leave one of the two out";
            return of_correction(problem);
        }
        let by_token = |out_of_range, clip_max| {
            Some(MismatchCorrection {
                level: MismatchLevel::Token,
                out_of_range,
                clip_min: None,
                clip_max: Some(clip_max),
            })
        };
        let loss = &mut method.loss;
        match self.correction {
            StalenessCorrection::Ratio => {}
            StalenessCorrection::Dppo => loss.loss_type = LossType::Dppo,
            StalenessCorrection::Tis => {
                loss.importance_sampling_correction = by_token(OutOfRange::Truncate, 2.0);
            }
            StalenessCorrection::Decoupled => {
                loss.importance_sampling_correction = by_token(OutOfRange::Mask, 5.0);
            }
        }
        update.old_is_sampler = loss.importance_sampling_correction.is_none();
        update.log_mismatch = true;
        let kl_in_reward = loss.needs_reference() && loss.kl_placement == KlPlacement::Reward;
        if kl_in_reward && !update.old_is_sampler {
            let problem = "kl_placement = reward takes off the KL of the policy that sampled: use the correction ratio or dppo";
            return of_correction(problem);
        }
        // What the correction made of the method's loss is not what the user wrote.
        (method.check())
            .or_else(|error| of_correction(&format!("does not fit the method: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use g2rpo_guidance::ScoreContext;

    use super::*;

    fn prepared(preset: &str, correction: StalenessCorrection) -> Result<(Method, UpdateConfig)> {
        let mut method = Method::preset(preset, 10)?;
        let mut update = UpdateConfig::default();
        let ahead = Ahead {
            max_staleness: 1,
            correction,
        };
        ahead.prepare(&mut method, &mut update)?;
        Ok((method, update))
    }

    #[test]
    fn corrections_are_settings_of_the_loss() {
        let plain = Method::preset("grpo", 10).unwrap();
        let (grpo, dppo) = (plain.loss.loss_type, LossType::Dppo);
        let truncated = Some((OutOfRange::Truncate, Some(2.0)));
        let masked = Some((OutOfRange::Mask, Some(5.0)));
        for (correction, loss_type, weights) in [
            (StalenessCorrection::Ratio, grpo, None),
            (StalenessCorrection::Dppo, dppo, None),
            (StalenessCorrection::Tis, grpo, truncated),
            (StalenessCorrection::Decoupled, grpo, masked),
        ] {
            let (method, update) = prepared("grpo", correction).unwrap();
            let of_loss = method.loss.importance_sampling_correction;
            let of_loss = of_loss.map(|c| (c.out_of_range, c.clip_max));
            assert_eq!((method.loss.loss_type, of_loss), (loss_type, weights));
            assert!(update.old_is_sampler == weights.is_none() && update.log_mismatch);
            assert!(correction != StalenessCorrection::Ratio || method == plain);
        }
    }

    #[test]
    fn what_cannot_be_stale_is_refused_by_name() {
        let mut method = Method::preset("grpo", 10).unwrap();
        method.score_context = ScoreContext::HintFree;
        for (max_staleness, correction, words) in [
            (2, StalenessCorrection::Ratio, "score_context = hint_free"),
            (65, StalenessCorrection::Ratio, "is above 64"),
            (
                0,
                StalenessCorrection::Tis,
                "no effect without max_staleness",
            ),
        ] {
            let ahead = Ahead {
                max_staleness,
                correction,
            };
            let refused = ahead.prepare(&mut method, &mut UpdateConfig::default());
            let told = refused.unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}
