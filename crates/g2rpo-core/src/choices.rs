//! The choices that a loss configuration names: surrogate, aggregation, ratio, clip, normaliser.

use crate::names::named;

named! {
    /// The surrogate objective, by TRL's names. `r` is the importance ratio, `A` the advantage.
    pub enum LossType: "loss_type" {
        /// `−min(rA, clip(r)A)`, mean over the tokens of a sequence, then over sequences
        /// (DeepSeekMath, arXiv 2402.03300).
        Grpo = "grpo",
        /// `−min(rA, clip(r)A)`, mean over all tokens of the batch that the totals describe. TRL's
        /// batch is the micro-batch: give each micro-batch its own totals to reproduce that.
        Bnpo = "bnpo",
        /// `−min(rA, clip(r)A)`, sum over tokens / (sequences · `max_completion_length`)
        /// (arXiv 2503.20783).
        DrGrpo = "dr_grpo",
        /// `−min(rA, clip(r)A)`, mean over all tokens of the optimiser step (arXiv 2503.14476).
        Dapo = "dapo",
        /// `−sg(min(r, cap))·A·logp`, mean over all tokens (MiniMax-M1, arXiv 2506.13585).
        Cispo = "cispo",
        /// `−min(rA, clip(r)A)`, sum over the tokens of a sequence, mean over sequences; meant for
        /// sequence-level ratios (arXiv 2602.05261).
        Luspo = "luspo",
        /// `−σ(τ(r−1))·4/τ·A`, mean over tokens, then over sequences (arXiv 2511.20347).
        Sapo = "sapo",
        /// `−φ(w)·A·logp` with `φ = e^{λ + k·ln w − λw}` of the sequence ratio, no gradient through φ
        /// (arXiv 2602.10693).
        Vespo = "vespo",
        /// `−exp(mean of one-sidedly clipped log ratios)·A` per sequence, mean over sequences;
        /// `epsilon` bounds log ratios, the paper recommends 0.4 (arXiv 2507.20673).
        Gmpo = "gmpo",
        /// `−A·logp`, no ratio: REINFORCE, verl's `gpg`; mean over all tokens.
        Reinforce = "reinforce",
        /// `−sg(min(r, delta))·A·logp` where the divergence of the token's probability is within
        /// `epsilon`/`epsilon_high` or moving back, 0 elsewhere (arXiv 2602.04879; verl's `dppo_tv`
        /// and `dppo_kl`); mean over all tokens.
        Dppo = "dppo",
    }
}

impl LossType {
    /// The aggregation that goes with the loss type unless [`crate::LossConfig::aggregation`] says
    /// otherwise.
    ///
    /// ```
    /// use g2rpo_core::{Aggregation, LossType};
    /// assert_eq!(LossType::Grpo.aggregation(), Aggregation::SequenceMean);
    /// assert_eq!(LossType::Dapo.aggregation(), Aggregation::TokenMean);
    /// ```
    pub fn aggregation(self) -> Aggregation {
        match self {
            Self::Grpo | Self::Sapo | Self::Gmpo => Aggregation::SequenceMean,
            Self::DrGrpo => Aggregation::ConstantLength,
            Self::Luspo => Aggregation::SequenceSum,
            Self::Bnpo | Self::Dapo | Self::Cispo | Self::Vespo | Self::Reinforce | Self::Dppo => {
                Aggregation::TokenMean
            }
        }
    }

    /// Whether the loss is `−min(rA, clip(r)A)`, to which `delta` and `dual_clip` apply.
    pub(crate) fn is_clipped_surrogate(self) -> bool {
        match self {
            Self::Grpo | Self::Bnpo | Self::DrGrpo | Self::Dapo | Self::Luspo => true,
            Self::Cispo | Self::Sapo | Self::Vespo | Self::Gmpo | Self::Reinforce | Self::Dppo => {
                false
            }
        }
    }
}

named! {
    /// How token losses become one number. `B` is the number of sequences of the optimiser step, `m`
    /// the mask of the loss; all counts come from [`crate::BatchTotals`].
    pub enum Aggregation: "aggregation" {
        /// `(1/B) Σ_b Σ_t L·m / max(Σ_t m, 1)`; verl's `seq-mean-token-mean`.
        SequenceMean = "sequence_mean",
        /// `Σ L·m / Σ m` over the whole batch; verl's `token-mean`.
        TokenMean = "token_mean",
        /// `Σ L·m / (B · max_completion_length)`; verl's `seq-mean-token-sum-norm`.
        ConstantLength = "constant_length",
        /// `(1/B) Σ_b Σ_t L·m`; verl's `seq-mean-token-sum`.
        SequenceSum = "sequence_sum",
    }
}

named! {
    /// What the importance ratio is taken over.
    pub enum ImportanceSamplingLevel: "importance_sampling_level" {
        /// `r_t = exp(logp_t − logp_old_t)`.
        Token = "token",
        /// `s = exp(mean_t(logp_t − logp_old_t))`, one per sequence (GSPO, arXiv 2507.18071).
        Sequence = "sequence",
        /// The value of `Sequence`, but token `t`'s gradient is `s·∇logp_t` (GSPO-token, same paper).
        SequenceToken = "sequence_token",
    }
}

named! {
    /// What `cispo` clips the ratio to: the same words mean different numbers.
    pub enum CispoClip: "cispo_clip" {
        /// `min(r, epsilon_high)`: the cap itself, no lower bound (TRL).
        Absolute = "absolute",
        /// `clip(r, 1 − epsilon, 1 + epsilon_high)` (verl, NeMo-RL; open-instruct and SkyRL with
        /// `epsilon` = 1, so that the lower bound is 0).
        AroundOne = "around_one",
    }
}

named! {
    /// The trust region of [`LossType::Dppo`].
    pub enum DppoDivergence: "dppo_divergence" {
        /// `p − p_old` of the sampled token: at most `epsilon_high` where the advantage is positive,
        /// at least `−epsilon` elsewhere (verl's `dppo_tv`, prime-rl's default).
        TotalVariation = "total_variation",
        /// `KL(Bernoulli(p_old) ‖ Bernoulli(p))`, at most `epsilon_high` (advantage positive) or
        /// `epsilon`, unless `p` moves back towards `p_old` (verl's `dppo_kl`).
        BinaryKl = "binary_kl",
    }
}

named! {
    /// Which completion tokens the denominators count. Holes ([`crate::Role::Prompt`]) never count.
    pub enum LengthNormalizer: "length_normalizer" {
        /// Own tokens, and guidance tokens where the guidance treatment puts them into the policy
        /// term (the released G²RPO-A code: `1/(|g|+|o|)` as guidance is in the loss there).
        InLoss = "in_loss",
        /// Own tokens only, whatever guidance contributes.
        Own = "own",
        /// Own and guidance tokens, even where guidance contributes nothing.
        Completion = "completion",
    }
}
