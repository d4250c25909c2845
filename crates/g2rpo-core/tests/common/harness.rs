//! What must hold for any input, read from bytes. Run by the fuzz targets `core_policy_loss`,
//! `core_advantages` and `core_other`, and by `tests/fuzz.rs` on the inputs kept in
//! `testdata/core/fuzz`.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each fuzz target includes this module for one function"
)]

use g2rpo_core::{
    AdvantageEstimator, Aggregation, Baseline, BatchTotals, CispoClip, DppoDivergence,
    GuidanceTokenLoss, ImportanceSamplingLevel, KlEstimator, KlGradient, KlPlacement,
    LengthNormalizer, LossConfig, LossMetrics, LossType, MismatchCorrection, MismatchLevel,
    MultiObjectiveAggregation, OutOfRange, Ragged, Role, Scale, Singleton, Strata, TokenOutputs,
    TokenStreams, kl_penalties, supervised_loss, weighted_rewards,
};

/// Any loss of any streams is an error or finite, zero outside the loss, and the sum of its rows.
pub fn policy_loss(bytes: &[u8]) {
    let bytes = &mut Bytes(bytes);
    let mut streams = bytes.streams();
    let config = bytes.config();
    bytes.fill_token_streams(&mut streams);
    let truncated = streams.truncated.as_deref();
    let Ok(mut totals) = BatchTotals::of(&streams.roles, truncated, &config) else {
        assert!(config.check().is_err() || streams.check().is_err());
        return;
    };
    if let Some(entropy) = &streams.entropy
        && let Ok(with) = totals.with_entropies(&streams.roles, entropy, truncated, &config)
    {
        totals = with;
    }
    let whole = match g2rpo_core::policy_loss(&streams, &config, &totals) {
        Ok(whole) => whole,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(whole.loss.is_finite());
    let grads = whole.grad_logp.values();
    for (&grad, &role) in grads.iter().zip(streams.roles.values()) {
        assert!(grad.is_finite());
        assert!(role != Role::Prompt || grad == 0.0);
    }
    let (mut sum, mut magnitude) = (0.0, 0.0);
    let mut metrics = LossMetrics::default();
    for row in 0..streams.n_rows() {
        let part = g2rpo_core::policy_loss(&streams.select(&[row]), &config, &totals)
            .expect("rows do not depend on each other");
        assert_eq!(part.grad_logp.values(), whole.grad_logp.row(row));
        sum += part.loss;
        magnitude += part.loss.abs();
        metrics.merge(&part.metrics);
    }
    // The entropy bonus and the policy term of one row may cancel.
    let bonus = config.entropy_coef.abs() * whole.metrics.entropy.sum().abs();
    let tolerance = 1e-9 * (magnitude + bonus);
    assert!(
        (sum - whole.loss).abs() <= tolerance || !tolerance.is_finite(),
        "{sum} {}",
        whole.loss
    );
    assert_eq!(metrics.entries().len(), whole.metrics.entries().len());
    if is_moderate(&streams) {
        assert!(
            whole
                .metrics
                .entries()
                .iter()
                .all(|(_, value)| !value.is_nan())
        );
    }
}

/// Any advantages are an error or finite, and 0 without reward and in constant groups.
pub fn advantages(bytes: &[u8]) {
    let bytes = &mut Bytes(bytes);
    let n = bytes.below(12);
    let n_functions = 1 + bytes.below(3);
    let rewards: Vec<Vec<Option<f64>>> = (0..n_functions)
        .map(|_| {
            (0..n)
                .map(|_| bytes.flag().then(|| bytes.float()))
                .collect()
        })
        .collect();
    let groups: Vec<usize> = (0..n).map(|_| bytes.below(4)).collect();
    let guided: Vec<bool> = (0..bytes.one_of(&[0, n])).map(|_| bytes.flag()).collect();
    let lengths: Vec<usize> = (0..n).map(|_| bytes.below(200)).collect();
    let weights: Vec<f64> = (0..n_functions).map(|_| bytes.float()).collect();
    let estimator = bytes.estimator();
    let lengths = bytes.flag().then_some(lengths.as_slice());
    let rewards_of_one = &rewards[0];
    if let Ok(report) = estimator.advantages(rewards_of_one, &groups, &guided, lengths) {
        for (i, advantage) in report.advantages.iter().enumerate() {
            assert!(advantage.is_finite(), "{estimator:?} {rewards_of_one:?}");
            let reward = rewards_of_one[i].filter(|r| !r.is_nan());
            assert!(reward.is_some() || *advantage == 0.0);
            let group = report
                .groups
                .iter()
                .find(|g| g.id == groups[i])
                .expect("its group");
            let is_single = group.n_scored == 1 && estimator.singleton == Singleton::Reward;
            let moves_as_a_whole = estimator.scale == Scale::Whiten;
            if group.zero_variance
                && !is_single
                && !moves_as_a_whole
                && estimator.strata != Strata::Split
            {
                assert_eq!(
                    *advantage, 0.0,
                    "{estimator:?} {rewards_of_one:?} {groups:?}"
                );
            }
        }
        assert!((0.0..=1.0).contains(&report.frac_reward_zero_std()));
        assert!((0.0..=1.0).contains(&report.frac_identity_only_variance()));
    }
    for aggregation in [
        MultiObjectiveAggregation::SumThenNormalize,
        MultiObjectiveAggregation::NormalizeThenSum,
    ] {
        let report = estimator.advantages_of_several(
            &rewards,
            &weights,
            aggregation,
            &groups,
            &guided,
            lengths,
        );
        if let Ok(report) = report {
            assert!(
                report.advantages.iter().all(|a| a.is_finite()),
                "{estimator:?} {rewards:?}"
            );
        }
    }
}

/// The other functions that take streams.
pub fn other(bytes: &[u8]) {
    let bytes = &mut Bytes(bytes);
    let streams = bytes.streams();
    let config = bytes.config();
    let trained = bytes.one_of(&[[Role::Own, Role::Own], [Role::Own, Role::Guidance]]);
    let n_tokens = bytes.below(20);
    if let Ok(got) = supervised_loss(&streams.roles, &streams.logp, &trained, n_tokens) {
        assert!(got.grad_logp.values().iter().all(|g| g.is_finite()));
        assert!(!got.loss.is_nan() || !is_moderate(&streams));
    }
    if let Some(reference) = &streams.logp_ref
        && let Ok(penalties) = kl_penalties(&streams.roles, &streams.logp, reference, &config)
    {
        assert_eq!(penalties.len(), streams.n_rows());
        assert!(
            penalties.iter().all(|p| p.is_finite()),
            "{config:?} {streams:?}"
        );
    }
    let lengths: Vec<usize> = (0..bytes.below(5)).map(|_| bytes.below(5)).collect();
    let values: Vec<f64> = (0..bytes.below(20)).map(|_| bytes.float()).collect();
    if let Ok(ragged) = Ragged::from_parts(values, &lengths) {
        assert_eq!(ragged.lengths().collect::<Vec<_>>(), lengths);
        let outputs = TokenOutputs {
            rows: (0..bytes.below(4)).map(|_| bytes.below(5)).collect(),
            logp: ragged,
            entropy: None,
        };
        if let Ok(selected) = streams.with_outputs(&outputs) {
            assert_eq!(selected.n_rows(), outputs.rows.len());
            assert!(selected.check().is_ok());
        }
    }
    let rewards = [
        vec![Some(bytes.float()), None],
        vec![Some(bytes.float()), None],
    ];
    if let Ok(total) = weighted_rewards(&rewards, &[bytes.float(), bytes.float()]) {
        assert_eq!(total[1], None);
    }
}

/// Whether sums of the streams' values stay in the range of f64.
fn is_moderate(streams: &TokenStreams) -> bool {
    let small = |stream: &Ragged<f64>| stream.values().iter().all(|x| x.abs() < 1e100);
    let optional = [
        &streams.token_advantages,
        &streams.token_weights,
        &streams.logp_old,
        &streams.logp_ref,
        &streams.logp_sampling,
        &streams.log_kept,
        &streams.entropy,
    ];
    small(&streams.logp)
        && streams.advantages.iter().all(|x| x.abs() < 1e100)
        && optional.into_iter().flatten().all(small)
}

/// Reads choices from bytes; zeros when they run out.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }

    /// Mostly a plausible log-probability or reward, sometimes an edge case, sometimes any bits.
    fn float(&mut self) -> f64 {
        const EDGES: [f64; 14] = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            1.0,
            -1.0,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            5e-324,
            -709.5,
            709.5,
            1e150,
        ];
        match self.byte() {
            0..220 => (f64::from(self.byte()) - 200.0) / 32.0,
            220..250 => self.one_of(&EDGES),
            250.. => f64::from_bits(u64::from_le_bytes(std::array::from_fn(|_| self.byte()))),
        }
    }

    fn streams(&mut self) -> TokenStreams {
        let n_rows = self.below(4);
        let roles = Ragged::from_rows((0..n_rows).map(|_| {
            (0..self.below(7))
                .map(|_| self.one_of(&[Role::Own, Role::Own, Role::Guidance, Role::Prompt]))
                .collect::<Vec<_>>()
        }));
        let logp = roles.map(|_| self.float());
        let advantages = (0..n_rows).map(|_| self.float()).collect();
        let mut streams = TokenStreams {
            roles,
            logp,
            advantages,
            token_advantages: None,
            token_weights: None,
            logp_old: None,
            logp_ref: None,
            logp_sampling: None,
            log_kept: None,
            entropy: None,
            truncated: None,
        };
        let roles = streams.roles.clone();
        for stream in [
            &mut streams.logp_old,
            &mut streams.logp_ref,
            &mut streams.logp_sampling,
            &mut streams.log_kept,
            &mut streams.entropy,
        ] {
            *stream = match self.below(8) {
                0 => None,
                1 => Some(Ragged::from_rows([vec![self.float()]])), // misaligned, most likely
                _ => Some(roles.map(|_| self.float())),
            };
        }
        streams.truncated = self
            .flag()
            .then(|| (0..n_rows).map(|_| self.flag()).collect());
        streams
    }

    /// Read last, so that inputs kept from earlier mean what they meant.
    fn fill_token_streams(&mut self, streams: &mut TokenStreams) {
        let roles = streams.roles.clone();
        for stream in [&mut streams.token_advantages, &mut streams.token_weights] {
            *stream = (self.below(4) == 3).then(|| roles.map(|_| self.float()));
        }
    }

    fn config(&mut self) -> LossConfig {
        let float_or = |bytes: &mut Self, usual: f64| {
            if bytes.below(8) == 0 {
                bytes.float()
            } else {
                usual
            }
        };
        LossConfig {
            loss_type: self.one_of(LossType::ALL),
            aggregation: self.one_of(&[
                None,
                Some(Aggregation::SequenceMean),
                Some(Aggregation::TokenMean),
                Some(Aggregation::ConstantLength),
                Some(Aggregation::SequenceSum),
            ]),
            importance_sampling_level: self.one_of(ImportanceSamplingLevel::ALL),
            epsilon: float_or(self, 0.2),
            epsilon_high: self.flag().then(|| float_or(self, 0.28)),
            delta: self.flag().then(|| float_or(self, 4.0)),
            dual_clip: (self.below(4) == 0).then(|| float_or(self, 3.0)),
            cispo_clip: self.one_of(CispoClip::ALL),
            log_ratio_clamp: self
                .flag()
                .then(|| [float_or(self, -20.0), float_or(self, 20.0)]),
            sapo_temperature_pos: float_or(self, 1.0),
            sapo_temperature_neg: float_or(self, 1.05),
            vespo_k_pos: float_or(self, 2.0),
            vespo_lambda_pos: float_or(self, 3.0),
            vespo_k_neg: float_or(self, 3.0),
            vespo_lambda_neg: float_or(self, 2.0),
            dppo_divergence: self.one_of(DppoDivergence::ALL),
            beta: self.one_of(&[0.0, 0.04, 1.0, 1e300, f64::NAN]),
            kl_estimator: self.one_of(KlEstimator::ALL),
            kl_gradient: self.one_of(KlGradient::ALL),
            kl_placement: self.one_of(KlPlacement::ALL),
            use_bias_correction_kl: Some(self.flag()),
            kl_log_ratio_clamp: self.flag().then(|| float_or(self, 20.0)),
            kl_clamp: self.flag().then(|| float_or(self, 10.0)),
            guidance_token_loss: match self.below(7) {
                0 => GuidanceTokenLoss::Masked,
                1 => GuidanceTokenLoss::SameAdvantage,
                2 => GuidanceTokenLoss::PositiveOnly,
                3 => GuidanceTokenLoss::Supervised {
                    coef: float_or(self, 0.1),
                },
                4 => GuidanceTokenLoss::Shaped {
                    gamma: float_or(self, 0.1),
                },
                5 => GuidanceTokenLoss::Trust {
                    alpha: float_or(self, 0.1),
                    coef: float_or(self, 1.0),
                },
                _ => GuidanceTokenLoss::TopEntropy {
                    fraction: float_or(self, 0.2),
                },
            },
            length_normalizer: self.one_of(LengthNormalizer::ALL),
            max_completion_length: self.below(20),
            mask_truncated_completions: self.flag(),
            off_policy_mask_threshold: self.flag().then(|| float_or(self, 0.1)),
            top_entropy_quantile: self.one_of(&[1.0, 0.5, 0.2, 0.0]),
            entropy_coef: self.one_of(&[0.0, 0.01, -0.01, 1e300]),
            importance_sampling_correction: self.flag().then(|| MismatchCorrection {
                level: self.one_of(MismatchLevel::ALL),
                out_of_range: self.one_of(OutOfRange::ALL),
                clip_min: self.flag().then(|| float_or(self, 0.5)),
                clip_max: self.flag().then(|| float_or(self, 2.0)),
            }),
        }
    }

    fn estimator(&mut self) -> AdvantageEstimator {
        AdvantageEstimator {
            baseline: self.one_of(&[
                Baseline::Mean,
                Baseline::LeaveOneOut,
                Baseline::LengthWeighted,
                Baseline::SecondBest,
                Baseline::PassAtK { k: 2 },
                Baseline::PassAtK { k: 30 },
            ]),
            scale: self.one_of(Scale::ALL),
            eps: self.one_of(&[1e-4, 0.0, 1e-6, 1.0, f64::NAN]),
            ddof: self.below(4),
            strata: self.one_of(Strata::ALL),
            singleton: self.one_of(Singleton::ALL),
        }
    }
}
