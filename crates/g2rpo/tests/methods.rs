//! Every preset on a tiny model, engine and learner of libtorch: three steps without error.

use g2rpo::guidance::Method;
use g2rpo::libtorch::{
    Architecture, DType, DecoderConfig, ExpertsConfig, HfTokenizer, LayerSpec, LearnerConfig,
    Model, Reference, TokenizerConfig, TorchEngine, TorchLearner,
};
use g2rpo::rollout::{ChainProblems, Split, Task};
use g2rpo::train::{Dataset, LrSchedule, Trainer, TrainerConfig};
use tch::{Device, Tensor};

/// Tokens of a completion.
const MAX_LEN: usize = 12;

fn tasks() -> Vec<Task> {
    let chains = ChainProblems::default()
        .generate(2, 4, Split::Train, 0)
        .unwrap();
    let hinted = |task| Task {
        hints: (0..12).map(|i| format!("hint {i}")).collect(),
        difficulty: Some(1.0),
        ..task
    };
    chains.into_iter().map(hinted).collect()
}

/// An untrained model solves nothing: what is paid is a property that half of all texts have.
fn even(answer: &str, _: &str) -> bool {
    answer.bytes().map(u32::from).sum::<u32>() % 2 == 1
}

#[test]
fn every_preset_takes_three_steps_on_a_model() {
    tch::set_num_threads(1);
    // For the presets that measure from the start.
    let learning = LearnerConfig {
        reference: Reference::FrozenCopy,
        ..LearnerConfig::default()
    };
    let tasks = tasks();
    let texts = (tasks.iter()).flat_map(|t| [Some(&*t.question), t.solution.as_deref()]);
    let texts: Vec<&str> = texts.flatten().collect();
    let mut idle = Vec::new();
    for name in Method::NAMES {
        let texts = texts.iter().copied();
        let tokenizer = HfTokenizer::train(texts, &TokenizerConfig::default()).unwrap();
        let mut config = DecoderConfig::tiny_qwen3(tokenizer.vocab_size(), 16, 1, 2, 1);
        // One of them with experts, whose load is in the metrics then.
        let has_experts = *name == "grpo";
        if has_experts {
            config.architecture = Architecture::Qwen3Moe;
            config.experts = Some(ExpertsConfig {
                num_experts: 3,
                num_experts_per_tok: 2,
                intermediate_size: 8,
                norm_topk_prob: true,
            });
            config.layers = vec![LayerSpec {
                experts: true,
                ..LayerSpec::default()
            }];
        }
        let model = Model::init(config, tokenizer, 1, Device::Cpu, DType::F32).unwrap();
        let mut method = Method::preset(name, 3).unwrap();
        method.num_generations = method.num_generations.min(8);
        method.loss.max_completion_length = MAX_LEN;
        if let Some(overlong) = &mut method.overlong {
            overlong.cache = 4;
        }
        let data =
            Dataset::with_template(tasks.clone(), &*model.tokenizer, "{question}\n").unwrap();
        let settings = TrainerConfig {
            prompts_per_step: 2,
            sampling: model.sampling(),
            schedule: LrSchedule::constant(1e-2),
            ..TrainerConfig::default()
        };
        let learner = TorchLearner::of(&model, learning.clone()).unwrap();
        let engine = TorchEngine::of(&model).unwrap();
        let mut run = Trainer::new(method, &data, engine, learner, even, settings)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let flat = |run: &mut Trainer<'_, TorchEngine, TorchLearner>| -> Vec<f32> {
            let flat: &Tensor = run.learner().updated().flat();
            Vec::try_from(flat.detach()).unwrap()
        };
        let mut steps_with_a_lesson = 0;
        for step in 0..3 {
            let before = flat(&mut run);
            let report = run
                .step()
                .unwrap_or_else(|e| panic!("{name}, step {step}: {e}"));
            for (key, value) in report.row().iter() {
                assert!(value.is_finite(), "{name}, step {step}: {key} = {value}");
            }
            let after = flat(&mut run);
            assert!(after.iter().all(|x| x.is_finite()), "{name}, step {step}");
            steps_with_a_lesson += usize::from(before != after);
            let learned = !report.line().contains("nothing learned");
            let load = report.row().get("experts/max_load");
            assert_eq!(load.is_some(), has_experts && learned, "{name}, {load:?}");
            assert_eq!(
                before != after,
                learned,
                "{name}, step {step}: {}",
                report.line()
            );
        }
        if steps_with_a_lesson == 0 {
            idle.push(*name);
        }
    }
    assert!(idle.is_empty(), "never learned: {idle:?}");
}
