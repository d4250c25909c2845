//! How rewards become advantages: the settings.

use crate::error::{Error, Result};
use crate::names::named;
use crate::settings::{AT_LEAST_1, NON_NEGATIVE, settings};

settings! {
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
    #[derive(Copy)]
    pub struct AdvantageEstimator {
        /// What is subtracted from a reward.
        pub baseline: Baseline = Baseline::Mean,
        /// What the difference is divided by.
        pub scale: Scale = Scale::GroupStd,
        /// Added to the divisor. 1e-4 in TRL, 1e-6 in verl.
        pub eps: f64 = 1e-4,
        /// Standard deviations divide by `n − ddof`: 1 (sample) in TRL, verl and NeMo-RL, 0
        /// (population) in NumPy-based code. Eight binary rewards with one success give that member
        /// 2.475 with 1 and 2.646 with 0. Of no more than `ddof` rewards there is no deviation, and the
        /// advantages are 0.
        pub ddof: usize = 1,
        /// Whether guided and unguided members share a baseline.
        pub strata: Strata = Strata::Joint,
        /// What the only scored member of its group gets.
        pub singleton: Singleton = Singleton::Zero,
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

named! {
    /// What the difference from the baseline is divided by, `eps` added.
    pub enum Scale: "scale" {
        /// Nothing: the difference itself (Dr. GRPO, arXiv 2503.20783).
        None = "none",
        /// Standard deviation of the group's rewards.
        GroupStd = "group_std",
        /// Standard deviation of all rewards of the batch (arXiv 2508.08221; TRL's `batch`).
        BatchStd = "batch_std",
        /// Standard deviation of the group's other members (NeMo-RL); where those are all equal the
        /// difference is not divided.
        LeaveOneOutStd = "leave_one_out_std",
        /// Mean of the group: `(r − mean)/mean` (max-RL). Rewards must not be negative, else the sign
        /// would flip; an all-zero group gets 0.
        GroupMean = "group_mean",
        /// The differences are whitened over the batch: minus their mean, divided by their standard
        /// deviation (REINFORCE++-baseline, arXiv 2501.03262). Every completion counts once; verl
        /// weights completions by their length here.
        Whiten = "whiten",
    }
}

named! {
    /// Whether guided and unguided members of a group are judged by one baseline.
    pub enum Strata: "strata" {
        /// One group (the paper).
        Joint = "joint",
        /// Guided and unguided members form separate groups.
        Split = "split",
        /// Baseline (and group scale) from the unguided members alone, for all; a group without scored
        /// unguided members falls back to `Joint`. Where the unguided have no scale, being equal or
        /// single (or, for `group_mean`, of mean 0), it is that of the whole group. Mean baselines only.
        UnguidedMean = "unguided_mean",
    }
}

named! {
    /// What the only scored member of its group (or stratum) gets.
    pub enum Singleton: "singleton" {
        /// 0: nothing to compare with (TRL).
        Zero = "zero",
        /// Its reward: mean 0, group standard deviation 1 (verl).
        Reward = "reward",
    }
}

impl AdvantageEstimator {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Conflict`].
    pub fn check(&self) -> Result<()> {
        NON_NEGATIVE.check("eps", self.eps)?;
        if let Baseline::PassAtK { k } = self.baseline {
            AT_LEAST_1.check("k", k as f64)?;
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
}
