//! Every preset on a tiny model, engine and learner of libtorch: three steps, and in them what makes it that method.

use g2rpo::core::Role;
use g2rpo::guidance::{Method, ScoreContext};
use g2rpo::libtorch::{
    Architecture, DType, DecoderConfig, ExpertsConfig, HfTokenizer, LayerSpec, LearnerConfig,
    Model, Reference, TokenizerConfig, TorchEngine, TorchLearner,
};
use g2rpo::rollout::{ChainProblems, Split, Task};
use g2rpo::train::{Dataset, LrSchedule, StepReport, Trainer, TrainerConfig};
use tch::{Device, Tensor};

/// Tokens of a completion: room for some steps of a solution.
const MAX_LEN: usize = 40;

fn tasks() -> Vec<Task> {
    let chains = ChainProblems::default()
        .generate(2, 4, Split::Train, 0)
        .unwrap();
    let hinted = |task: Task| Task {
        // Without the calculator's marks, within which nothing is cut.
        solution: Some(format!(
            "first we take\nthen we add\nso it is\n#### {}",
            task.reference
        )),
        hints: (0..12).map(|i| format!("hint {i}")).collect(),
        difficulty: Some(1.0),
        ..task
    };
    chains.into_iter().map(hinted).collect()
}

/// An untrained model solves nothing: what is paid is a property that half of all texts have. The task of the answer
/// given is one that nobody solves.
fn half(unsolved: String) -> impl Fn(&str, &str) -> bool + Send + Sync + 'static {
    move |answer, reference| {
        reference != unsolved && answer.bytes().map(u32::from).sum::<u32>() % 2 == 1
    }
}

/// Where a preset puts guidance.
const PREFIX: [&str; 13] = [
    "g2rpo-a",
    "g2rpo-a-released",
    "g2rpo-a-reproduction",
    "target",
    "adaback",
    "luffy",
    "prefix-rft",
    "uft",
    "trapo",
    "hint-grpo",
    "r3",
    "rtpo",
    "random",
];
const PROMPT: [&str; 8] = [
    "ghpo", "guide", "scaf", "questa", "pope", "sage", "seele", "nurl",
];
/// Presets that sample more members where all have failed.
const RETRIES: [&str; 5] = ["ghpo", "guide", "scaf", "hint-grpo", "sage"];

/// What three steps show of the method, whatever the model writes.
fn shows(name: &str, method: &Method, reports: &[StepReport]) {
    let groups = || {
        reports
            .iter()
            .flat_map(|r| r.groups.iter().chain(&r.replaced))
    };
    let (mut prefixes, mut hints, mut grown) = (0, 0, 0);
    for group in groups() {
        grown += usize::from(group.plan.members.len() > method.num_generations);
        for member in group.members() {
            let (rollout, item) = (member.rollout, &group.item);
            let trace = item.trace.as_ref().unwrap().tokens();
            assert!(trace.starts_with(&rollout.guidance), "{name}");
            prefixes += usize::from(!rollout.guidance.is_empty());
            let has_hint = rollout.prompt != item.prompt;
            assert!(
                !has_hint || rollout.prompt.len() > item.prompt.len(),
                "{name}"
            );
            hints += usize::from(has_hint);
        }
    }
    assert_eq!(
        prefixes > 0,
        PREFIX.contains(&name),
        "{name}: {prefixes} prefixes"
    );
    assert_eq!(
        hints > 0,
        PROMPT.contains(&name),
        "{name}: {hints} hints in prompts"
    );
    assert_eq!(
        grown > 0,
        RETRIES.contains(&name),
        "{name}: {grown} groups that were retried"
    );
    let replaced: usize = reports.iter().map(|r| r.replaced.len()).sum();
    assert_eq!(
        replaced > 0,
        name == "dapo",
        "{name}: {replaced} groups replaced"
    );
    for report in reports {
        let batch = &report.rows.batch;
        let mut given = 0;
        for (row, &(group, member)) in report.rows.members.iter().enumerate() {
            let (group, rollout) = (
                &report.groups[group],
                &report.groups[group].rollouts[member],
            );
            given += rollout.guidance.len();
            let prompt = match method.score_context {
                ScoreContext::AsSampled => &rollout.prompt,
                ScoreContext::HintFree | ScoreContext::OffPolicy => &group.item.prompt,
            };
            let tokens = batch.sequences.tokens().row(row);
            let expected = [&prompt[..], &rollout.answer()].concat();
            assert_eq!(tokens, expected, "{name}: the prompt that is scored");
        }
        let roles = batch.roles.values().iter();
        assert_eq!(
            roles.filter(|r| **r == Role::Guidance).count(),
            given,
            "{name}"
        );
        let mut baselines = report.rows.baselines.clone();
        baselines.sort_unstable();
        baselines.dedup();
        let kinds = if name == "pope" {
            2 * report.groups.len()
        } else {
            report.groups.len()
        };
        assert!(
            name == "seele" || baselines.len() <= kinds,
            "{name}: {baselines:?}"
        );
        assert!(
            name != "pope" || baselines.len() == kinds,
            "{name}: {baselines:?}"
        );
    }
}

#[test]
fn every_preset_is_that_method_on_a_model() {
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
        if *name == "scaf" {
            method = method.set("warmup_steps", 1).unwrap();
        }
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
        let verifier = half(tasks[0].reference.clone());
        let mut run = Trainer::new(method.clone(), &data, engine, learner, verifier, settings)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let flat = |run: &mut Trainer<'_, TorchEngine, TorchLearner>| -> Vec<f32> {
            let flat: &Tensor = run.learner().updated().flat();
            Vec::try_from(flat.detach()).unwrap()
        };
        let (mut steps_with_a_lesson, mut reports) = (0, Vec::new());
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
            reports.push(report);
        }
        shows(name, &method, &reports);
        if steps_with_a_lesson == 0 {
            idle.push(*name);
        }
    }
    assert!(idle.is_empty(), "never learned: {idle:?}");
}
