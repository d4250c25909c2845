//! Random but reproducible streams and settings for property tests.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test program includes this module and uses a part of it"
)]

use g2rpo_core::{
    Aggregation, BatchTotals, CispoClip, DppoDivergence, GuidanceTokenLoss,
    ImportanceSamplingLevel, KlEstimator, KlGradient, LengthNormalizer, LossConfig, LossType,
    MismatchCorrection, MismatchLevel, OutOfRange, Ragged, Role, TokenStreams,
};

pub const TREATMENTS: [GuidanceTokenLoss; 7] = [
    GuidanceTokenLoss::Masked,
    GuidanceTokenLoss::SameAdvantage,
    GuidanceTokenLoss::PositiveOnly,
    GuidanceTokenLoss::Supervised { coef: 0.3 },
    GuidanceTokenLoss::Shaped { gamma: 0.1 },
    GuidanceTokenLoss::Trust {
        alpha: 0.2,
        coef: 0.5,
    },
    GuidanceTokenLoss::TopEntropy { fraction: 0.5 },
];

/// Steele, Lea & Flood's SplitMix64: enough to spread test inputs, and no dependency.
pub struct Draw(pub u64);

impl Draw {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn flag(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }
}

/// Streams of up to six rows with guidance prefixes, holes, empty rows and truncated rows.
pub fn streams(draw: &mut Draw) -> TokenStreams {
    let n_rows = 1 + draw.below(6);
    let roles: Vec<Vec<Role>> = (0..n_rows)
        .map(|_| {
            let n = draw.below(12);
            let n_guidance = if draw.flag() { draw.below(n + 1) } else { 0 };
            (0..n)
                .map(|t| match draw.below(5) {
                    0 => Role::Prompt,
                    _ if t < n_guidance => Role::Guidance,
                    _ => Role::Own,
                })
                .collect()
        })
        .collect();
    let roles = Ragged::from_rows(roles);
    let near = |draw: &mut Draw, center: &Ragged<f64>, spread: f64| {
        center.map(|x| x + draw.uniform(-spread, spread))
    };
    let logp = roles.map(|_| draw.uniform(-4.0, -0.01));
    let spread = draw.one_of(&[0.1, 0.6, 2.0]);
    let logp_old = near(draw, &logp, spread);
    let logp_ref = near(draw, &logp, 0.8);
    let logp_sampling = near(draw, &logp_old, 0.3);
    let log_kept = roles.map(|_| draw.uniform(-0.2, 0.0));
    let entropy = roles.map(|_| draw.uniform(0.0, 3.0));
    let advantages = (0..n_rows)
        .map(|_| {
            if draw.below(6) == 0 {
                0.0
            } else {
                draw.uniform(-2.0, 2.0)
            }
        })
        .collect();
    let mut streams = TokenStreams::new(roles, logp, advantages).unwrap();
    streams.logp_old = (draw.below(4) > 0).then_some(logp_old);
    streams.logp_ref = Some(logp_ref);
    streams.logp_sampling = Some(logp_sampling);
    streams.log_kept = draw.flag().then_some(log_kept);
    streams.entropy = Some(entropy);
    streams.truncated = Some((0..n_rows).map(|_| draw.below(5) == 0).collect());
    streams
}

/// Advantages and weights of single tokens, where the loss takes them.
pub fn add_token_streams(draw: &mut Draw, streams: &mut TokenStreams, config: &LossConfig) {
    let by_row = matches!(config.loss_type, LossType::Vespo | LossType::Gmpo)
        || config.importance_sampling_level == ImportanceSamplingLevel::Sequence;
    if !by_row && draw.flag() {
        streams.token_advantages = Some(streams.roles.map(|_| draw.uniform(-2.0, 2.0)));
    }
    if config.loss_type != LossType::Gmpo && draw.flag() {
        let any = |draw: &mut Draw| draw.one_of(&[0.0, 0.5, 1.0, 1.7]);
        streams.token_weights = Some(streams.roles.map(|_| any(draw)));
    }
}

/// Any valid settings.
pub fn config(draw: &mut Draw) -> LossConfig {
    let config = LossConfig {
        loss_type: draw.one_of(LossType::ALL),
        aggregation: draw.one_of(&[
            None,
            Some(Aggregation::SequenceMean),
            Some(Aggregation::TokenMean),
            Some(Aggregation::ConstantLength),
            Some(Aggregation::SequenceSum),
        ]),
        importance_sampling_level: draw.one_of(ImportanceSamplingLevel::ALL),
        epsilon: draw.one_of(&[0.0, 0.2, 0.4]),
        epsilon_high: draw.one_of(&[None, Some(0.28), Some(1.5)]),
        delta: draw.one_of(&[None, Some(1.1), Some(4.0)]),
        dual_clip: draw.one_of(&[None, Some(3.0)]),
        cispo_clip: draw.one_of(CispoClip::ALL),
        log_ratio_clamp: draw.one_of(&[None, Some([-20.0, 20.0]), Some([-0.3, 0.4])]),
        dppo_divergence: draw.one_of(DppoDivergence::ALL),
        beta: draw.one_of(&[0.0, 0.04, 1.0]),
        kl_estimator: draw.one_of(KlEstimator::ALL),
        kl_gradient: draw.one_of(KlGradient::ALL),
        use_bias_correction_kl: draw.one_of(&[None, Some(false), Some(true)]),
        kl_log_ratio_clamp: draw.one_of(&[None, Some(20.0), Some(0.3)]),
        kl_clamp: draw.one_of(&[None, Some(10.0), Some(0.05)]),
        guidance_token_loss: draw.one_of(&TREATMENTS),
        length_normalizer: draw.one_of(LengthNormalizer::ALL),
        max_completion_length: 12,
        mask_truncated_completions: draw.flag(),
        off_policy_mask_threshold: draw.one_of(&[None, Some(0.05)]),
        top_entropy_quantile: draw.one_of(&[1.0, 0.5]),
        entropy_coef: draw.one_of(&[0.0, 0.01]),
        importance_sampling_correction: draw.one_of(&[
            None,
            Some(MismatchCorrection::default()),
            Some(MismatchCorrection {
                level: MismatchLevel::Token,
                out_of_range: OutOfRange::Truncate,
                clip_min: Some(0.9),
                clip_max: Some(1.1),
            }),
            Some(MismatchCorrection {
                level: MismatchLevel::SequenceMean,
                out_of_range: OutOfRange::Mask,
                clip_min: None,
                clip_max: None,
            }),
        ]),
        ..LossConfig::default()
    };
    if config.check().is_ok() {
        config
    } else {
        self::config(draw)
    }
}

/// Totals of a whole batch.
pub fn totals(streams: &TokenStreams, config: &LossConfig) -> BatchTotals {
    let truncated = streams.truncated.as_deref();
    let totals = BatchTotals::of(&streams.roles, truncated, config).unwrap();
    match &streams.entropy {
        Some(entropy) => totals
            .with_entropies(&streams.roles, entropy, truncated, config)
            .unwrap(),
        None => totals,
    }
}
