//! One row of a batch, what it is judged by, and the buffers it is computed in.

use crate::config::LossConfig;
use crate::error::{Error, Result};
use crate::exp::map_into;
use crate::guidance::{GuidanceTokenLoss, top_entropy_guidance};
use crate::sequences::Role;
use crate::streams::TokenStreams;
use crate::totals::{BatchTotals, RowCounts};

/// The importance ratio of a row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Ratio {
    /// One per token, in [`Scratch::ratio`].
    #[default]
    Token,
    /// One for the sequence. `flow` is 0 where the clamp stops the gradient.
    Sequence { ratio: f64, flow: f64 },
    /// The value of `Sequence`, with each token's own gradient.
    SequenceToken { ratio: f64, flow: f64 },
}

/// Buffers of one row, reused from row to row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// 1 for tokens of the policy term, else 0.
    pub(super) mask: Vec<f64>,
    /// Number of tokens of the policy term.
    pub(super) n_policy: f64,
    /// What the row's ratios are taken over.
    pub(super) level: Ratio,
    /// Detached weight of the whole row.
    pub(super) row_weight: f64,
    /// Advantage of every token of the policy term, else 0; empty where the row's holds for all.
    pub(super) advantage: Vec<f64>,
    /// Masked `logp − logp_old`, clamped.
    pub(super) log_ratio: Vec<f64>,
    /// 0 where the clamp stops the gradient; empty without clamp.
    pub(super) flow: Vec<f64>,
    /// Importance ratio per token; empty at sequence level.
    pub(super) ratio: Vec<f64>,
    /// Detached token weights; empty where all are 1.
    pub(super) weight: Vec<f64>,
    /// Token losses.
    pub(super) value: Vec<f64>,
    /// Derivatives of the row's summed token losses.
    pub(super) slope: Vec<f64>,
    /// KL per token.
    pub(super) kl: Vec<f64>,
    /// Derivatives of KL.
    pub(super) kl_slope: Vec<f64>,
    /// Derivatives of KL times a ratio, over that ratio.
    pub(super) kl_score: Vec<f64>,
}

/// One row and everything it is judged by.
pub(super) struct RowPass<'a> {
    pub(super) streams: &'a TokenStreams,
    pub(super) config: &'a LossConfig,
    pub(super) totals: &'a BatchTotals,
    pub(super) row: usize,
    pub(super) roles: &'a [Role],
    pub(super) logp: &'a [f64],
    /// The row's advantage; see [`Self::advantage_at`] for that of a token.
    pub(super) advantage: f64,
    pub(super) counts: RowCounts,
    pub(super) is_masked: bool,
}

impl<'a> RowPass<'a> {
    pub(super) fn new(
        streams: &'a TokenStreams,
        config: &'a LossConfig,
        totals: &'a BatchTotals,
        row: usize,
    ) -> Self {
        let roles = streams.roles.row(row);
        Self {
            streams,
            config,
            totals,
            row,
            roles,
            logp: streams.logp.row(row),
            advantage: streams.advantages[row],
            counts: RowCounts::of(roles),
            is_masked: streams.is_masked_row(row, config),
        }
    }

    /// Advantage of token `t`. Not finite where the stream is not; only tokens of the loss are
    /// checked.
    pub(super) fn advantage_at(&self, t: usize) -> f64 {
        (self.streams.token_advantages.as_ref()).map_or(self.advantage, |a| a.row(self.row)[t])
    }

    /// Marks the tokens of the policy term and counts them.
    pub(super) fn fill_mask(&self, mask: &mut Vec<f64>) -> f64 {
        if self.is_masked {
            map_into(mask, self.roles, |_| 0.0);
            return 0.0;
        }
        let has_token_advantages = self.streams.token_advantages.is_some();
        let like_own = match self.config.guidance_token_loss {
            GuidanceTokenLoss::SameAdvantage => true,
            GuidanceTokenLoss::PositiveOnly => !has_token_advantages && self.advantage > 0.0,
            GuidanceTokenLoss::Masked
            | GuidanceTokenLoss::Supervised { .. }
            | GuidanceTokenLoss::Shaped { .. }
            | GuidanceTokenLoss::Trust { .. }
            | GuidanceTokenLoss::TopEntropy { .. } => false,
        };
        if like_own {
            map_into(mask, self.roles, |r| f64::from(u8::from(r != Role::Prompt)));
            return (self.counts.own + self.counts.guidance) as f64;
        }
        map_into(mask, self.roles, |r| f64::from(u8::from(r == Role::Own)));
        let mut n_policy = self.counts.own;
        let mut take = |token: usize| {
            mask[token] = 1.0;
            n_policy += 1;
        };
        match (self.config.guidance_token_loss, &self.streams.entropy) {
            (treatment @ GuidanceTokenLoss::TopEntropy { .. }, Some(entropy)) => {
                let n_kept = treatment.n_in_policy_term(self.counts.guidance);
                top_entropy_guidance(self.roles, entropy.row(self.row), n_kept)
                    .into_iter()
                    .for_each(take);
            }
            (GuidanceTokenLoss::PositiveOnly, _) if has_token_advantages => (0..self.roles.len())
                .filter(|&t| self.roles[t] == Role::Guidance && self.advantage_at(t) > 0.0)
                .for_each(&mut take),
            _ => {}
        }
        n_policy as f64
    }

    /// Fills [`Scratch::advantage`], and checks advantages and weights of single tokens where the
    /// loss reads them.
    pub(super) fn fill_advantage(&self, scratch: &mut Scratch) -> Result<()> {
        let Scratch {
            mask, advantage, ..
        } = scratch;
        advantage.clear();
        let in_use = |t: usize| {
            let treatment = self.config.guidance_token_loss;
            !self.is_masked
                && (mask[t] > 0.0
                    || self.roles[t] == Role::Guidance
                        && matches!(
                            treatment,
                            GuidanceTokenLoss::PositiveOnly | GuidanceTokenLoss::Shaped { .. }
                        ))
        };
        if let Some(stream) = &self.streams.token_advantages {
            for (position, &value) in stream.row(self.row).iter().enumerate() {
                if in_use(position) && !value.is_finite() {
                    return Err(self.not_finite("token_advantages", position, value));
                }
                advantage.push(if mask[position] > 0.0 { value } else { 0.0 });
            }
        }
        if let Some(stream) = &self.streams.token_weights {
            for (position, &value) in stream.row(self.row).iter().enumerate() {
                if !in_use(position) {
                    continue;
                }
                if !value.is_finite() {
                    return Err(self.not_finite("token_weights", position, value));
                }
                if value < 0.0 {
                    return Err(Error::Negative {
                        what: "token_weights",
                        row: self.row,
                        position,
                        value,
                    });
                }
            }
        }
        Ok(())
    }

    /// Refuses an entropy that is read and not finite.
    pub(super) fn check_entropies(&self, mask: &[f64]) -> Result<()> {
        let Some(entropy) = &self.streams.entropy else {
            return Ok(());
        };
        let entropy = entropy.row(self.row);
        let ranks_guidance = matches!(
            self.config.guidance_token_loss,
            GuidanceTokenLoss::TopEntropy { .. }
        );
        let in_use = |t: usize| match self.roles[t] {
            Role::Prompt => false,
            Role::Own => true,
            Role::Guidance => {
                ranks_guidance || (mask[t] > 0.0 && self.config.top_entropy_quantile < 1.0)
            }
        };
        match (0..entropy.len()).find(|&t| in_use(t) && !entropy[t].is_finite()) {
            None => Ok(()),
            Some(position) => Err(self.not_finite("entropy", position, entropy[position])),
        }
    }

    /// Own tokens of a row that is in the loss.
    pub(super) fn in_loss(&self) -> impl Iterator<Item = usize> + '_ {
        let len = if self.is_masked { 0 } else { self.roles.len() };
        (0..len).filter(|&t| self.roles[t] == Role::Own)
    }

    pub(super) fn overflow(&self, what: &'static str, position: usize, value: f64) -> Error {
        Error::Overflow {
            what,
            row: self.row,
            position,
            value,
        }
    }

    pub(super) fn not_finite(&self, what: &'static str, position: usize, value: f64) -> Error {
        Error::NotFinite {
            what,
            row: self.row,
            position,
            value,
        }
    }
}
