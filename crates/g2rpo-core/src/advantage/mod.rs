//! Advantages of groups of completions.

mod baseline;
mod multi;
mod report;

use std::collections::HashMap;

use crate::error::check_len;
use crate::error::domain;
use crate::error::{Error, Result};
use baseline::{is_constant, mean, std};

pub use multi::{MultiObjectiveAggregation, weighted_rewards};
pub use report::{Advantages, GroupStats};

/// How rewards become advantages: `A = (r − baseline) / (scale + eps)`.
///
/// [`Default`] is TRL's `scale_rewards="group"`: group mean, group standard deviation with
/// `ddof = 1` and `eps = 1e-4`, over guided and unguided members together (the paper).
///
/// | framework or paper | baseline | scale | eps | ddof |
/// |---|---|---|---|---|
/// | TRL `group` / `batch` / `none` | `Mean` | `GroupStd` / `BatchStd` / `None` | 1e-4 | 1 |
/// | verl `grpo`, SkyRL, ROLL | `Mean` | `GroupStd` | 1e-6 | 1 |
/// | OpenRLHF `group_norm` | `Mean` | `GroupStd` | 1e-9 | 1 |
/// | open-instruct `standard` | `Mean` | `GroupStd` | 1e-8 | 0 |
/// | Dr. GRPO, open-instruct `centered`, prime-rl | `Mean` | `None` | – | – |
/// | RLOO | `LeaveOneOut` | `None` | – | – |
/// | NeMo-RL leave-one-out | `LeaveOneOut` | `LeaveOneOutStd` | 1e-6 | 1 |
/// | REINFORCE++-baseline | `Mean` | `Whiten` | 1e-8 | 0 |
/// | OPO (arXiv 2505.23585) | `LengthWeighted` | `None` | – | – |
/// | max-RL | `Mean` | `GroupMean` | 0 | – |
/// | verl `grpo_passk` | `SecondBest` | `GroupStd` or `None` | 1e-6 | 1 |
/// | pass@k training (arXiv 2508.10751) | `PassAtK` | (its own) | any | – |
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct AdvantageEstimator {
    /// What is subtracted from a reward.
    pub baseline: Baseline,
    /// What the difference is divided by.
    pub scale: Scale,
    /// Added to the divisor. 1e-4 in TRL, 1e-6 in verl.
    pub eps: f64,
    /// Standard deviations divide by `n − ddof`: 1 (sample) in TRL, verl and NeMo-RL, 0
    /// (population) in NumPy-based code. Eight binary rewards with one success give that member
    /// 2.475 with 1 and 2.646 with 0.
    pub ddof: usize,
    /// Whether guided and unguided members share a baseline.
    pub strata: Strata,
    /// What the only scored member of its group gets.
    pub singleton: Singleton,
}

impl Default for AdvantageEstimator {
    fn default() -> Self {
        Self {
            baseline: Baseline::Mean,
            scale: Scale::GroupStd,
            eps: 1e-4,
            ddof: 1,
            strata: Strata::Joint,
            singleton: Singleton::Zero,
        }
    }
}

/// What is subtracted from a member's reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Baseline {
    /// Mean of the group.
    Mean,
    /// Mean of the group's other members (RLOO, arXiv 2402.14740): `(r − mean)·n/(n−1)`.
    LeaveOneOut,
    /// Mean weighted by completion length, the variance-optimal baseline of OPO
    /// (arXiv 2505.23585). Needs lengths.
    LengthWeighted,
    /// Only the best member counts: it gets its lead over the second best, the others 0 (verl's
    /// `grpo_passk`, arXiv 2503.19595). Of several best members the first is taken, with lead 0.
    SecondBest,
    /// Expected best reward of `k` members drawn with this one, minus that of `k` drawn from the
    /// group, over the standard deviation of the latter: pass@k training (arXiv 2508.10751),
    /// extended from binary to any rewards. Brings its own scale; `scale` must be `None`.
    PassAtK {
        /// How many attempts count, 1 ≤ k ≤ scored members. Smaller groups get 0.
        k: usize,
    },
}

/// What the difference from the baseline is divided by, `eps` added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Scale {
    /// Nothing: the difference itself (Dr. GRPO, arXiv 2503.20783).
    None,
    /// Standard deviation of the group's rewards.
    GroupStd,
    /// Standard deviation of all rewards of the batch (arXiv 2508.08221; TRL's `batch`).
    BatchStd,
    /// Standard deviation of the group's other members (NeMo-RL); where those are all equal the
    /// difference is not divided.
    LeaveOneOutStd,
    /// Mean of the group: `(r − mean)/mean` (max-RL). Rewards must not be negative, else the sign
    /// would flip; an all-zero group gets 0.
    GroupMean,
    /// The differences are whitened over the batch: minus their mean, divided by their standard
    /// deviation (REINFORCE++-baseline, arXiv 2501.03262). Every completion counts once; verl
    /// weights completions by their length here.
    Whiten,
}

/// Whether guided and unguided members of a group are judged by one baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Strata {
    /// One group (the paper).
    Joint,
    /// Guided and unguided members form separate groups.
    Split,
    /// Baseline (and group scale) from the unguided members alone, for all; a group without scored
    /// unguided members falls back to `Joint`. Mean baselines only.
    UnguidedMean,
}

/// What the only scored member of its group (or stratum) gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Singleton {
    /// 0: nothing to compare with (TRL).
    Zero,
    /// Its reward: mean 0, group standard deviation 1 (verl).
    Reward,
}

impl AdvantageEstimator {
    /// Advantage of every completion.
    ///
    /// - `rewards`: one per completion; `None` or NaN means "not scored": left out of every mean
    ///   and standard deviation, advantage 0.
    /// - `groups`: id of each completion's group; ids are arbitrary, order does not matter.
    /// - `guided`: whether the completion began with guidance; empty means none did.
    /// - `lengths`: completion lengths in tokens, read by [`Baseline::LengthWeighted`] only.
    ///
    /// Members of a group whose scored rewards are all equal get exactly 0.
    ///
    /// # Errors
    /// [`Error::Length`] for misaligned slices, [`Error::Config`] or [`Error::Conflict`] for
    /// settings, [`Error::Missing`] without lengths that the baseline needs, [`Error::Reward`] for
    /// a reward that is infinite or beyond 1e150, or negative under [`Scale::GroupMean`].
    ///
    /// ```
    /// use g2rpo_core::{AdvantageEstimator, Scale};
    /// let rewards = [Some(1.0), Some(0.0), Some(0.5), None];
    /// let estimator = AdvantageEstimator { scale: Scale::None, ..Default::default() };
    /// let report = estimator.advantages(&rewards, &[7, 7, 7, 7], &[], None)?;
    /// assert_eq!(report.advantages, [0.5, -0.5, 0.0, 0.0]);
    /// assert_eq!(report.groups[0].mean, Some(0.5));
    /// assert_eq!(report.groups[0].std, Some(0.5)); // √((¼ + ¼)/(3 − 1))
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn advantages(
        &self,
        rewards: &[Option<f64>],
        groups: &[usize],
        guided: &[bool],
        lengths: Option<&[usize]>,
    ) -> Result<Advantages> {
        self.check()?;
        let rewards = checked_rewards(rewards)?;
        let grouping = Grouping::new(rewards.len(), groups, guided)?;
        if let Some(lengths) = lengths {
            check_len("lengths", lengths.len(), rewards.len())?;
        } else if self.baseline == Baseline::LengthWeighted {
            return Err(Error::Missing {
                what: "lengths",
                why: "baseline = length_weighted uses them",
            });
        }
        if self.scale == Scale::GroupMean
            && let Some(row) = rewards.iter().position(|r| r.is_some_and(|r| r < 0.0))
        {
            return Err(Error::Reward {
                row,
                value: rewards[row].unwrap_or_default(),
                expected: "at least 0, as it is divided by the group mean",
            });
        }
        let mut advantages = vec![0.0; rewards.len()];
        let scored: Vec<f64> = rewards.iter().copied().flatten().collect();
        let batch_std = std(&scored, self.ddof).unwrap_or(0.0);
        for members in grouping.strata(self.strata) {
            self.of_stratum(&members, &rewards, lengths, batch_std, &mut advantages);
        }
        if self.scale == Scale::Whiten {
            self.whiten(&rewards, &mut advantages);
        }
        check_finite(&advantages, &rewards)?;
        Ok(Advantages {
            advantages,
            groups: grouping.stats(&rewards, self.ddof),
        })
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Conflict`].
    pub fn check(&self) -> Result<()> {
        if !(self.eps.is_finite() && self.eps >= 0.0) {
            return domain("eps", self.eps, "[0, inf)");
        }
        if let Baseline::PassAtK { k } = self.baseline {
            if k == 0 {
                return domain("k", 0.0, "[1, inf)");
            }
            if self.scale != Scale::None {
                return Err(Error::Conflict {
                    first: "baseline = pass_at_k",
                    second: "a scale",
                    why: "it divides by its own standard deviation; set scale = none",
                });
            }
        }
        let has_mean = match self.baseline {
            Baseline::Mean | Baseline::LengthWeighted => true,
            Baseline::LeaveOneOut | Baseline::SecondBest | Baseline::PassAtK { .. } => false,
        };
        if self.strata == Strata::UnguidedMean && !has_mean {
            return Err(Error::Conflict {
                first: "strata = unguided_mean",
                second: "a baseline other than mean or length_weighted",
                why: "only a mean can be taken over other members",
            });
        }
        if self.strata == Strata::UnguidedMean && self.scale == Scale::LeaveOneOutStd {
            return Err(Error::Conflict {
                first: "strata = unguided_mean",
                second: "scale = leave_one_out_std",
                why: "guided members are not among those the baseline is taken from",
            });
        }
        Ok(())
    }

    fn whiten(&self, rewards: &[Option<f64>], advantages: &mut [f64]) {
        let rows: Vec<usize> = (0..rewards.len())
            .filter(|&i| rewards[i].is_some())
            .collect();
        let values: Vec<f64> = rows.iter().map(|&i| advantages[i]).collect();
        if is_constant(&values) {
            rows.iter().for_each(|&i| advantages[i] = 0.0);
            return;
        }
        let (mean, std) = (mean(&values), std(&values, self.ddof).unwrap_or(0.0));
        let divisor = std + self.eps;
        for i in rows {
            let difference = advantages[i] - mean;
            advantages[i] = if divisor == 0.0 {
                0.0
            } else {
                difference / divisor
            };
        }
    }
}

/// Members of a stratum and of the part its baseline is taken from.
struct Stratum {
    members: Vec<usize>,
    reference: Vec<usize>,
}

/// Rows by group, in order of first appearance.
struct Grouping<'a> {
    ids: Vec<usize>,
    rows: Vec<Vec<usize>>,
    guided: &'a [bool],
}

impl<'a> Grouping<'a> {
    fn new(n: usize, groups: &[usize], guided: &'a [bool]) -> Result<Self> {
        check_len("groups", groups.len(), n)?;
        if !guided.is_empty() {
            check_len("guided", guided.len(), n)?;
        }
        let mut place = HashMap::new();
        let (mut ids, mut rows) = (Vec::new(), Vec::<Vec<usize>>::new());
        for (row, &id) in groups.iter().enumerate() {
            let index = *place.entry(id).or_insert_with(|| {
                ids.push(id);
                rows.push(Vec::new());
                ids.len() - 1
            });
            rows[index].push(row);
        }
        Ok(Self { ids, rows, guided })
    }

    fn is_guided(&self, row: usize) -> bool {
        self.guided.get(row).copied().unwrap_or(false)
    }

    fn strata(&self, strata: Strata) -> Vec<Stratum> {
        let joint = |rows: &Vec<usize>| Stratum {
            members: rows.clone(),
            reference: rows.clone(),
        };
        match strata {
            Strata::Joint => self.rows.iter().map(joint).collect(),
            Strata::Split => (self.rows.iter())
                .flat_map(|rows| {
                    let (guided, unguided): (Vec<_>, Vec<_>) =
                        rows.iter().partition(|&&row| self.is_guided(row));
                    [joint(&guided), joint(&unguided)]
                })
                .collect(),
            Strata::UnguidedMean => (self.rows.iter())
                .map(|rows| Stratum {
                    members: rows.clone(),
                    reference: (rows.iter().copied())
                        .filter(|&row| !self.is_guided(row))
                        .collect(),
                })
                .collect(),
        }
    }
}

/// Refuses what only extreme rewards, weights and a vanishing scale can bring about.
fn check_finite(advantages: &[f64], rewards: &[Option<f64>]) -> Result<()> {
    match advantages.iter().position(|a| !a.is_finite()) {
        None => Ok(()),
        Some(row) => Err(Error::Reward {
            row,
            value: rewards[row].unwrap_or_default(),
            expected: "a difference from the baseline that the scale can divide; raise eps",
        }),
    }
}

/// Squares of larger rewards, summed over a batch, leave the range of f64.
const MAX_REWARD: f64 = 1e150;

fn checked_rewards(rewards: &[Option<f64>]) -> Result<Vec<Option<f64>>> {
    (rewards.iter().enumerate())
        .map(|(row, reward)| match reward {
            Some(value) if value.is_nan() => Ok(None),
            Some(value) if value.abs() > MAX_REWARD => Err(Error::Reward {
                row,
                value: *value,
                expected: "at most 1e150 in magnitude, or None for a completion without score",
            }),
            reward => Ok(*reward),
        })
        .collect()
}
