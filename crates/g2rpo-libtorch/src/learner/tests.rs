//! The learner against finite differences, torch and itself.

use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, TokenOutputs, WhichPolicy};

use super::config::{LearnerConfig, Reference};
use super::optim::grad_norm;
use super::torch_learner::TorchLearner;
use crate::error::{Error, Result, says};
use crate::model::config::DecoderConfig;
use crate::model::init::init_parameters;
use crate::model::lora::Adapter;
use tch::{Device, Kind, Tensor};

/// A Qwen3 with grouped heads, 2 layers, 11 ids.
fn model(tied: bool) -> DecoderConfig {
    DecoderConfig {
        tie_word_embeddings: tied,
        initializer_range: 0.3,
        ..DecoderConfig::tiny_qwen3(11, 16, 2, 4, 2)
    }
}

fn learner(tied: bool, kind: Kind, config: LearnerConfig) -> TorchLearner {
    let model = model(tied);
    let parameters = init_parameters(&model, 7, kind, Device::Cpu).unwrap();
    TorchLearner::new(&model, parameters, config).unwrap()
}

/// Rows of lengths 7, 4, 9, 3 and 5, the fourth without completion.
fn sequences() -> Sequences {
    let row = |n: u32, seed: u32| (0..n).map(move |t| (t * t + seed) % 11);
    let tokens = Ragged::from_rows([
        row(7, 1).collect::<Vec<_>>(),
        row(4, 2).collect(),
        row(9, 3).collect(),
        row(3, 5).collect(),
        row(5, 4).collect(),
    ]);
    Sequences::new(tokens, vec![2, 1, 4, 3, 2]).unwrap()
}

/// Coefficients that differ from token to token; the loss is Σ a·logp + b·entropy.
fn coefficients(row: usize, t: usize) -> (f64, f64) {
    let x = (row * 7 + t * 3) as f64;
    (x.sin(), 0.3 * x.cos())
}

fn linear_loss(outputs: &TokenOutputs, with_entropy: bool) -> TokenGrads {
    let grad = |pick: fn((f64, f64)) -> f64| {
        let rows = outputs.rows.iter().zip(outputs.logp.lengths());
        Ragged::from_rows(rows.map(|(&row, len)| {
            let token = |t| pick(coefficients(row, t));
            (0..len).map(token).collect::<Vec<_>>()
        }))
    };
    TokenGrads {
        logp: grad(|c| c.0),
        entropy: with_entropy.then(|| grad(|c| c.1)),
    }
}

/// The gradient by plain autograd through the whole decoder, row by row, without padding.
fn plain_gradient(learner: &TorchLearner, scoring: &Scoring) -> (Vec<f64>, TokenOutputs) {
    let sequences = sequences();
    let Scoring {
        temperature,
        entropy: with_entropy,
    } = *scoring;
    let (kind, decoder) = (learner.base().kind(), learner.policy());
    let mut total = Tensor::zeros([], (kind, Device::Cpu));
    let (mut logps, mut entropies) = (Vec::new(), Vec::new());
    for row in 0..sequences.n_rows() {
        let ids: Vec<i64> = (sequences.tokens().row(row).iter())
            .map(|&i| i.into())
            .collect();
        let logits = decoder.logits_btv(&Tensor::from_slice(&ids).unsqueeze(0));
        let logits = logits.unwrap().squeeze_dim(0);
        let all = (logits / temperature).log_softmax(-1, None);
        let entropy = -(all.exp() * &all).sum_dim_intlist(&[-1i64][..], false, None);
        let prompt = sequences.prompt_lens()[row];
        let (mut values, mut spreads) = (Vec::new(), Vec::new());
        for (t, &id) in sequences.completion(row).iter().enumerate() {
            let at = (prompt + t - 1) as i64;
            let (a, b) = coefficients(row, t);
            let logp = all.get(at).get(id.into());
            values.push(logp.double_value(&[]));
            spreads.push(entropy.double_value(&[at]));
            total += logp * a;
            if with_entropy {
                total += entropy.get(at) * b;
            }
        }
        logps.push(values);
        entropies.push(spreads);
    }
    let tensors = learner.updated().tensors();
    let grads = Tensor::run_backward(&[total], tensors, false, false);
    let flat = learner.gradient().zeros_like();
    let views = learner.updated().layout().views(&flat).unwrap();
    for (mut view, grad) in views.into_iter().zip(grads) {
        view.copy_(&grad);
    }
    let outputs = TokenOutputs {
        rows: (0..sequences.n_rows()).collect(),
        logp: Ragged::from_rows(logps),
        entropy: with_entropy.then(|| Ragged::from_rows(entropies)),
    };
    (flat_values(&flat), outputs)
}

fn flat_values(flat: &Tensor) -> Vec<f64> {
    Vec::try_from(flat.to_kind(Kind::Double)).unwrap()
}

/// A sum is rounded to the precision of the largest numbers that it passes through, not to that of
/// its own value, so the largest element is the measure.
fn assert_close(a: &[f64], b: &[f64], tolerance: f64, what: &str) {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1f64, |most, b| most.max(b.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{what}, element {i}: {a} and {b}"
        );
    }
}

fn logps(learner: &mut TorchLearner, policy: WhichPolicy) -> Ragged<f64> {
    let scoring = Scoring::default();
    (learner.token_logps(&sequences(), policy, &scoring))
        .unwrap()
        .logp
}

fn accumulate(learner: &mut TorchLearner, scoring: &Scoring) {
    try_accumulate(learner, scoring).unwrap();
}

fn try_accumulate(learner: &mut TorchLearner, scoring: &Scoring) -> Result<()> {
    learner.accumulate(&sequences(), scoring, &mut |outputs| {
        Ok(linear_loss(outputs, scoring.entropy))
    })
}

fn step(learner: &mut TorchLearner, lr: f64) {
    accumulate(learner, &Scoring::default());
    learner.apply(lr).unwrap();
}

fn of_logps(logp: Ragged<f64>) -> TokenGrads {
    let entropy = None;
    TokenGrads { logp, entropy }
}

/// The log-probability of everything before and after so many steps of maximum likelihood.
fn trained(learner: &mut TorchLearner, steps: u64, lr: f64) -> (f64, f64) {
    let sum =
        |l: &mut TorchLearner| -> f64 { logps(l, WhichPolicy::Current).values().iter().sum() };
    let before = sum(learner);
    for step in 1..=steps {
        (learner.accumulate(&sequences(), &Scoring::default(), &mut |outputs| {
            Ok(of_logps(outputs.logp.map(|_| -1.0 / 16.0)))
        }))
        .unwrap();
        let stats = learner.apply(lr).unwrap();
        assert!(stats.grad_norm > 0.0 && stats.lr == lr);
        assert_eq!(learner.steps(), step);
    }
    (before, sum(learner))
}

#[test]
fn chunked_and_checkpointed_gradients_equal_plain_ones() {
    // The plain path in f64 is the truth; f32 differs by its rounding.
    for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
        for (tied, checkpointing, budget, mib, with_entropy) in [
            (true, true, 1, 0, true),
            (true, false, 16, 64, true),
            (false, true, 1000, 0, false),
            (false, false, 1000, 64, true),
        ] {
            let config = LearnerConfig {
                gradient_checkpointing: checkpointing,
                max_tokens_per_micro_batch: budget,
                max_logits_mib: mib,
                ..LearnerConfig::default()
            };
            let scoring = Scoring {
                temperature: 0.8,
                entropy: with_entropy,
            };
            let mut learner = learner(tied, kind, config);
            let (expected, outputs) = plain_gradient(&learner, &scoring);
            accumulate(&mut learner, &scoring);
            let what = format!("{kind:?}, budget {budget}");
            let gradient = flat_values(learner.gradient());
            assert_close(&gradient, &expected, tolerance, &what);
            let got = (learner.token_logps(&sequences(), WhichPolicy::Current, &scoring)).unwrap();
            assert_eq!(got.rows, outputs.rows);
            assert_eq!(got.entropy.is_some(), with_entropy);
            let entropies = got.entropy.iter().zip(&outputs.entropy);
            for (got, plain) in std::iter::once((&got.logp, &outputs.logp)).chain(entropies) {
                got.check_shape("outputs", plain).unwrap();
                assert_close(got.values(), plain.values(), tolerance, &what);
            }
            // A second call adds.
            accumulate(&mut learner, &scoring);
            let twice: Vec<f64> = expected.iter().map(|g| 2.0 * g).collect();
            assert_close(&flat_values(learner.gradient()), &twice, tolerance, &what);
        }
    }
}

#[test]
fn every_row_is_shown_once_with_its_own_numbers() {
    let config = LearnerConfig {
        max_tokens_per_micro_batch: 10,
        ..LearnerConfig::default()
    };
    let mut learner = learner(true, Kind::Float, config);
    let logps = logps(&mut learner, WhichPolicy::Current);
    let mut seen = Vec::new();
    let mut calls = 0;
    let scoring = Scoring {
        entropy: true,
        ..Scoring::default()
    };
    learner
        .accumulate(&sequences(), &scoring, &mut |outputs| {
            calls += 1;
            seen.extend(outputs.rows.clone());
            let expected = logps.select(&outputs.rows);
            outputs.logp.check_shape("logp", &expected)?;
            assert_close(outputs.logp.values(), expected.values(), 1e-5, "logp");
            // The entropy of 11 ids is at most ln 11.
            let entropy = outputs.entropy.as_ref().unwrap().values();
            assert!(entropy.iter().all(|&s| s > 0.0 && s <= 11f64.ln()));
            Ok(linear_loss(outputs, false))
        })
        .unwrap();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert!(calls > 2);
}

#[test]
fn training_raises_the_likelihood() {
    let mut learner = learner(true, Kind::Float, LearnerConfig::default());
    let (before, after) = trained(&mut learner, 30, 1e-2);
    assert!(before < -35.0 && after > -2.0, "{before} → {after}");
}

#[test]
fn a_gradient_that_is_not_finite_touches_nothing() {
    let mut learner = learner(true, Kind::Float, LearnerConfig::default());
    accumulate(&mut learner, &Scoring::default());
    let before = learner.base().flat().copy();
    let name = "model.layers.1.mlp.up_proj.weight";
    let i = (learner.base().specs().iter())
        .position(|s| s.name == name)
        .unwrap();
    let _ = learner.gradients.view(i).get(3).fill_(f64::NAN);
    let expected = format!("the gradient of `{name}` holds a value that is not finite");
    says(learner.apply(1e-3), &expected);
    assert_eq!(learner.base().flat(), &before);
    assert_eq!(learner.steps(), 0);
    // The bad gradient is gone; the next step is an ordinary one.
    accumulate(&mut learner, &Scoring::default());
    assert!(learner.apply(1e-3).unwrap().grad_norm.is_finite());
    assert!(learner.apply(f64::NAN).is_err());
}

#[test]
fn a_weight_that_is_not_finite_is_named_and_stops_the_step() {
    let mut learner = learner(true, Kind::Float, LearnerConfig::default());
    let name = "model.layers.0.self_attn.k_proj.weight";
    let bad = learner.base().get(name).unwrap().full_like(f64::INFINITY);
    learner.base.copy_from(name, &bad).unwrap();
    let expected = format!("parameter `{name}` holds a value that is not finite");
    let scored = learner.token_logps(&sequences(), WhichPolicy::Current, &Scoring::default());
    says(scored, &expected);
    says(try_accumulate(&mut learner, &Scoring::default()), &expected);
    assert!(!learner.has_gradient);
}

#[test]
fn log_probs_that_overflow_stop_the_step() {
    let mut learner = learner(true, Kind::Float, LearnerConfig::default());
    accumulate(&mut learner, &Scoring::default());
    // Every weight is finite, their products are not.
    let name = "model.norm.weight";
    let huge = learner.base().get(name).unwrap().full_like(1e38);
    learner.base.copy_from(name, &huge).unwrap();
    let embedding = "model.embed_tokens.weight";
    let huge = learner.base().get(embedding).unwrap() * 1e6;
    learner.base.copy_from(embedding, &huge).unwrap();
    let before = learner.base().flat().copy();
    let failed = try_accumulate(&mut learner, &Scoring::default());
    assert!(matches!(failed, Err(Error::NotFinite { .. })), "{failed:?}");
    says(failed, "the log-probability of row …");
    assert!(!learner.has_gradient);
    assert_eq!(learner.base().flat(), &before);
    assert_eq!(learner.steps(), 0);
}

#[test]
fn mistakes_of_the_loss_clear_the_gradient() {
    let mut learner = learner(true, Kind::Float, LearnerConfig::default());
    accumulate(&mut learner, &Scoring::default());
    type Loss = fn(&TokenOutputs) -> TokenGrads;
    let mistakes: [(Loss, &str); 3] = [
        (
            |_| of_logps(Ragged::default()),
            "gradient of log-probabilities: expected length…",
        ),
        (
            |o| linear_loss(o, true),
            "Scoring::entropy: the loss has an entropy term…",
        ),
        (
            |o| of_logps(o.logp.map(|_| f64::NAN)),
            "the gradient of the log-probability of row 2, completion token 0 holds…",
        ),
    ];
    for (grads, message) in mistakes {
        let mut loss = |o: &TokenOutputs| Ok(grads(o));
        let failed = learner.accumulate(&sequences(), &Scoring::default(), &mut loss);
        says(failed, message);
        assert!(!learner.has_gradient);
        assert_eq!(grad_norm(learner.gradient()).unwrap(), 0.0);
    }
}

#[test]
fn the_reference_stays_until_it_is_synced() {
    let config = LearnerConfig {
        reference: Reference::FrozenCopy,
        sync_ref_model: true,
        ref_model_sync_steps: 2,
        ..LearnerConfig::default()
    };
    let mut learner = learner(true, Kind::Float, config);
    let start = learner.base().flat().copy();
    let before = logps(&mut learner, WhichPolicy::Reference);
    step(&mut learner, 1e-2);
    assert_eq!(logps(&mut learner, WhichPolicy::Reference), before);
    assert_ne!(logps(&mut learner, WhichPolicy::Current), before);
    step(&mut learner, 1e-2);
    // TRL's rule: 0.4 of the old reference and 0.6 of the policy.
    let mixed = &start * 0.4 + learner.base().flat() * 0.6;
    let copy = learner.reference_copy().unwrap().flat();
    assert_close(&flat_values(copy), &flat_values(&mixed), 1e-6, "mixture");
    learner.sync_reference(1.0).unwrap();
    let copy = learner.reference_copy().unwrap();
    assert_eq!(copy.flat(), learner.base().flat());
}

#[test]
fn without_a_reference_asking_for_one_is_an_error() {
    let mut learner = learner(true, Kind::Float, LearnerConfig::default());
    let scored = learner.token_logps(&sequences(), WhichPolicy::Reference, &Scoring::default());
    says(
        scored,
        "reference: the learner was made without a reference policy",
    );
    assert!(learner.sync_reference(1.0).is_err());
}

#[test]
fn bf16_models_learn_through_their_master_weights() {
    let mut learner = learner(true, Kind::BFloat16, LearnerConfig::default());
    assert_eq!(learner.gradient().kind(), Kind::Float);
    // Less than half the spacing of bf16 at the size of most weights.
    let (before, after) = trained(&mut learner, 100, 3e-4);
    assert!(after > before + 5.0, "{before} → {after}");
}

fn lora_config(reference: Reference) -> LearnerConfig {
    LearnerConfig {
        reference,
        lora: Some(crate::LoraConfig {
            r: 2,
            lora_alpha: 3.0,
            target_modules: vec!["q_proj".into(), "o_proj".into(), "up_proj".into()],
            ..crate::LoraConfig::default()
        }),
        ..LearnerConfig::default()
    }
}

#[test]
fn lora_gradients_equal_finite_differences() {
    // With chunks of one token and no entropy the head's gradient is found in the forward pass.
    for (checkpointing, mib, with_entropy) in [(true, 64, true), (false, 0, true), (true, 0, false)]
    {
        let config = LearnerConfig {
            gradient_checkpointing: checkpointing,
            max_logits_mib: mib,
            ..lora_config(Reference::None)
        };
        let scoring = Scoring {
            entropy: with_entropy,
            temperature: 0.8,
        };
        let mut learner = learner(true, Kind::Double, config);
        // With B = 0 the gradient of A would be zero, which proves little.
        let flat = learner.updated().flat().shallow_clone();
        let noise = Tensor::arange(flat.size()[0], (Kind::Double, Device::Cpu)).sin() * 0.1;
        for view in learner.updated().layout().views(&flat).unwrap() {
            let n = view.numel() as i64;
            view.shallow_clone()
                .copy_(&noise.narrow(0, 0, n).view_as(&view));
        }
        accumulate(&mut learner, &scoring);
        let gradient = learner.gradient().copy();
        learner.clear_gradient().unwrap();
        let mut objective = || -> f64 {
            let scored = learner.token_logps(&sequences(), WhichPolicy::Current, &scoring);
            let TokenOutputs { logp, entropy, .. } = scored.unwrap();
            let entropy = entropy.unwrap_or_else(|| logp.map(|_| 0.0));
            let rows = logp.rows().zip(entropy.rows()).enumerate();
            rows.flat_map(|(row, (logps, entropies))| {
                (logps.iter().zip(entropies).enumerate()).map(move |(t, (l, s))| {
                    let (a, b) = coefficients(row, t);
                    a * l + b * s
                })
            })
            .sum()
        };
        let h = 1e-5;
        for i in (0..flat.size()[0]).step_by(7) {
            let mut element = flat.get(i);
            let _ = element.f_add_scalar_(h).unwrap();
            let up = objective();
            let _ = element.f_add_scalar_(-2.0 * h).unwrap();
            let down = objective();
            let _ = element.f_add_scalar_(h).unwrap();
            let (numeric, ours) = ((up - down) / (2.0 * h), gradient.double_value(&[i]));
            // Gaps of the flat buffer belong to no tensor: both are 0 there.
            assert!(
                (numeric - ours).abs() < 1e-7,
                "element {i}: {numeric} and {ours}"
            );
        }
        assert!(grad_norm(&gradient).unwrap() > 0.1);
    }
}

#[test]
fn lora_trains_the_adapter_and_nothing_else() {
    let mut learner = learner(false, Kind::Float, lora_config(Reference::AdapterDisabled));
    let base = learner.base().flat().copy();
    let before = logps(&mut learner, WhichPolicy::Current);
    // Fresh adapters add nothing, and the reference is the model without them.
    let reference = logps(&mut learner, WhichPolicy::Reference);
    assert_eq!(before, reference);
    for _ in 0..5 {
        step(&mut learner, 1e-2);
    }
    assert_eq!(learner.base().flat(), &base);
    assert_eq!(logps(&mut learner, WhichPolicy::Reference), reference);
    let after = logps(&mut learner, WhichPolicy::Current);
    assert_ne!(after, before);
    // Merging gives a plain model with the same log-probabilities.
    let plain = TorchLearner::new(
        &model(false),
        learner.merged().unwrap(),
        LearnerConfig::default(),
    );
    let merged = logps(&mut plain.unwrap(), WhichPolicy::Current);
    assert_close(merged.values(), after.values(), 1e-5, "merged");
    assert!(learner.sync_reference(1.0).is_err());
}

#[test]
fn a_copy_of_the_adapter_is_the_reference_of_a_resumed_one() {
    let mut first = learner(true, Kind::Float, lora_config(Reference::None));
    step(&mut first, 1e-1);
    let trained = logps(&mut first, WhichPolicy::Current);
    let dir = tempfile::tempdir().unwrap();
    first.adapter().unwrap().save(dir.path(), None).unwrap();

    let adapter = Adapter::load(dir.path(), &model(true), Kind::Float, Device::Cpu).unwrap();
    let config = LearnerConfig {
        reference: Reference::FrozenCopy,
        ..LearnerConfig::default()
    };
    let base = first.base().to(Kind::Float, Device::Cpu).unwrap();
    let mut second = TorchLearner::with_adapter(&model(true), base, Some(adapter), config).unwrap();
    assert_eq!(second.config().lora, first.config().lora);
    step(&mut second, 1e-1);
    assert_eq!(logps(&mut second, WhichPolicy::Reference), trained);
    assert_ne!(logps(&mut second, WhichPolicy::Current), trained);
}

#[test]
fn a_projection_in_f32_is_that_of_the_rounded_weights() {
    // A bf16 model, and an f32 model with the same (rounded) weights: the projection in f32 comes
    // closer to the latter than the one in bf16 does.
    let scored = |kind: Kind, cast_lm_head_to_fp32: bool| {
        let config = LearnerConfig {
            cast_lm_head_to_fp32,
            ..LearnerConfig::default()
        };
        let rounded = learner(true, Kind::BFloat16, LearnerConfig::default());
        let parameters = rounded.base().to(kind, Device::Cpu).unwrap();
        let mut learner = TorchLearner::new(&model(true), parameters, config).unwrap();
        accumulate(&mut learner, &Scoring::default());
        assert!(grad_norm(learner.gradient()).unwrap() > 0.0);
        logps(&mut learner, WhichPolicy::Current)
    };
    let truth = scored(Kind::Float, false);
    let error = |got: Ragged<f64>| {
        let squares = (got.values().iter().zip(truth.values())).map(|(a, b)| (a - b).powi(2));
        squares.sum::<f64>()
    };
    assert!(error(scored(Kind::BFloat16, true)) < error(scored(Kind::BFloat16, false)));
}
