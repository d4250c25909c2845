//! Every field of every configuration can be seen: set to another value, where it applies, it changes
//! the loss, a gradient or an advantage. A field that is added without a case here does not compile.

mod common;

use common::{Draw, totals};
use g2rpo_core::{
    AdvantageEstimator, Aggregation, Baseline, CispoClip, DppoDivergence, GuidanceTokenLoss,
    ImportanceSamplingLevel, KlEstimator, KlGradient, KlPlacement, LengthNormalizer, LossConfig,
    LossType, MismatchCorrection, MismatchLevel, OutOfRange, PolicyLoss, Ragged, Rlcsd, Rlsd, Role,
    Scale, Singleton, Strata, TokenStreams, policy_loss,
};

/// For each field: where it applies, and its other value.
macro_rules! each_field {
    ($type:ident, $see:expr; $($field:ident: $context:expr => $value:expr),+ $(,)?) => {
        let $type { $($field: _),+ } = $type::default();
        $(
            let before: $type = $context;
            let after = $type { $field: $value, ..before.clone() };
            assert_ne!(before, after, "{} has that value already", stringify!($field));
            let see = $see;
            assert_ne!(see(&before), see(&after), "nothing shows {}", stringify!($field));
        )+
    };
}

/// Four rows of guidance and own tokens, off policy, both signs of advantage, one row truncated.
fn streams() -> TokenStreams {
    let draw = &mut Draw(3);
    let row =
        |n: usize, g: usize| (0..n).map(move |t| if t < g { Role::Guidance } else { Role::Own });
    let roles = Ragged::from_rows([row(6, 2), row(8, 0), row(5, 3), row(7, 1)]);
    let mut near = |center: Option<&Ragged<f64>>, spread: f64| match center {
        Some(center) => center.map(|x| x + draw.uniform(-spread, spread)),
        None => roles.map(|_| draw.uniform(-3.0, -0.1)),
    };
    let logp = near(None, 0.0);
    let old = near(Some(&logp), 0.6);
    let (reference, sampling) = (near(Some(&logp), 0.8), near(Some(&old), 0.5));
    let entropy = near(None, 0.0).map(|x| -x);
    TokenStreams::new(roles, logp, vec![1.2, -0.8, 0.5, -1.5])
        .and_then(|s| s.with_logp_old(old))
        .and_then(|s| s.with_logp_ref(reference))
        .and_then(|s| s.with_logp_sampling(sampling))
        .and_then(|s| s.with_entropy(entropy))
        .and_then(|s| s.with_truncated(vec![false, true, false, false]))
        .unwrap()
}

fn loss(config: &LossConfig) -> (f64, Ragged<f64>, Option<Ragged<f64>>) {
    let streams = streams();
    let PolicyLoss {
        loss,
        grad_logp,
        grad_entropy,
        ..
    } = policy_loss(&streams, config, &totals(&streams, config)).unwrap();
    (loss, grad_logp, grad_entropy)
}

#[test]
fn of_the_loss() {
    let default = LossConfig::default;
    let of = |loss_type| LossConfig {
        loss_type,
        ..default()
    };
    let with_kl = || LossConfig {
        beta: 0.5,
        ..default()
    };
    let with_guidance = || LossConfig {
        guidance_token_loss: GuidanceTokenLoss::Shaped { gamma: 0.1 },
        ..default()
    };
    each_field!(LossConfig, loss;
        loss_type: default() => LossType::Reinforce,
        aggregation: default() => Some(Aggregation::SequenceSum),
        importance_sampling_level: default() => ImportanceSamplingLevel::Sequence,
        epsilon: default() => 0.05,
        epsilon_high: default() => Some(0.05),
        delta: default() => Some(1.1),
        dual_clip: default() => Some(1.1),
        cispo_clip: of(LossType::Cispo) => CispoClip::AroundOne,
        log_ratio_clamp: default() => Some([-0.05, 0.05]),
        sapo_temperature_pos: of(LossType::Sapo) => 2.0,
        sapo_temperature_neg: of(LossType::Sapo) => 2.0,
        vespo_k_pos: of(LossType::Vespo) => 1.0,
        vespo_lambda_pos: of(LossType::Vespo) => 1.0,
        vespo_k_neg: of(LossType::Vespo) => 1.0,
        vespo_lambda_neg: of(LossType::Vespo) => 1.0,
        dppo_divergence: LossConfig { epsilon: 0.01, ..of(LossType::Dppo) } => DppoDivergence::BinaryKl,
        beta: default() => 0.5,
        kl_estimator: with_kl() => KlEstimator::K2,
        kl_gradient: LossConfig { use_bias_correction_kl: Some(false), ..with_kl() } => KlGradient::K2,
        kl_placement: with_kl() => KlPlacement::Reward,
        use_bias_correction_kl: with_kl() => Some(false),
        kl_log_ratio_clamp: with_kl() => Some(0.1),
        kl_clamp: with_kl() => Some(0.01),
        guidance_token_loss: default() => GuidanceTokenLoss::SameAdvantage,
        length_normalizer: with_guidance() => LengthNormalizer::Own,
        max_completion_length: of(LossType::DrGrpo) => 64,
        mask_truncated_completions: default() => true,
        off_policy_mask_threshold: default() => Some(-10.0),
        top_entropy_quantile: default() => 0.5,
        entropy_coef: default() => 0.1,
        importance_sampling_correction: default() => Some(MismatchCorrection::default()),
    );
}

#[test]
fn of_the_mismatch_correction() {
    let see = |correction: &MismatchCorrection| {
        loss(&LossConfig {
            importance_sampling_correction: Some(*correction),
            ..LossConfig::default()
        })
    };
    let token = || MismatchCorrection {
        level: MismatchLevel::Token,
        clip_max: Some(1.1),
        ..MismatchCorrection::default()
    };
    each_field!(MismatchCorrection, see;
        level: token() => MismatchLevel::SequenceMean,
        out_of_range: token() => OutOfRange::Truncate,
        clip_min: token() => Some(0.95),
        clip_max: token() => Some(3.0),
    );
}

#[test]
fn of_the_advantages() {
    let see = |estimator: &AdvantageEstimator| {
        let rewards = [1.0, 0.0, 0.5, 0.0, 0.9, 0.2, 0.7].map(Some);
        let groups = [0, 0, 0, 0, 1, 1, 2];
        let guided = [true, false, true, false, true, false, false];
        (estimator.advantages(&rewards, &groups, &guided, None))
            .unwrap()
            .advantages
    };
    let default = AdvantageEstimator::default;
    each_field!(AdvantageEstimator, see;
        baseline: default() => Baseline::LeaveOneOut,
        scale: default() => Scale::None,
        eps: default() => 0.1,
        ddof: default() => 0,
        strata: default() => Strata::Split,
        singleton: default() => Singleton::Reward,
    );
}

#[test]
fn of_the_advantages_of_tokens() {
    let streams = streams();
    let hinted = streams.logp.map(|x| x + 0.3 * (7.0 * x).sin());
    let rlsd = |setting: &Rlsd| {
        let (roles, advantages) = (&streams.roles, &streams.advantages);
        setting.token_advantages(roles, advantages, &streams.logp, &hinted)
    };
    each_field!(Rlsd, rlsd;
        lambda: Rlsd::default() => 0.9,
        epsilon_w: Rlsd::default() => 0.1,
    );
    let wrong = vec![streams.logp.clone(); 3];
    let rlcsd = |setting: &Rlcsd| {
        let (roles, advantages) = (&streams.roles, &streams.advantages);
        setting.token_advantages(roles, advantages, &hinted, &wrong, None)
    };
    let gentle = || Rlcsd {
        tau: 0.5,
        delta: 0.1,
        ..Rlcsd::default()
    };
    each_field!(Rlcsd, rlcsd;
        beta: gentle() => 0.5,
        lambda: gentle() => 0.9,
        tau: gentle() => 1.0,
        residual_clip: gentle() => 0.15,
        delta: gentle() => 0.2,
        eta: gentle() => 2.0,
        k_max: gentle() => 2,
    );
}
