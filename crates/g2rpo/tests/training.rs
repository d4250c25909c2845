//! A tiny model trained by the real engine and learner: runs repeat, resume and, without guidance,
//! are plain GRPO, all to the bit on one CPU thread.

use std::collections::HashMap;

use g2rpo::core::{LossConfig, LossType};
use g2rpo::guidance::{
    Amount, AmountUnit, ControllerConfig, Method, TargetConfig, Unit, UnitCutter,
};
use g2rpo::libtorch::{
    DType, DecoderConfig, HfTokenizer, LearnerConfig, Model, TokenizerConfig, TorchEngine,
    TorchLearner,
};
use g2rpo::rollout::{ChainProblems, Split, Task};
use g2rpo::train::{Dataset, LrSchedule, Rows, RunState, Trainer, TrainerConfig};
use g2rpo::verify::Verdict;
use tch::{Device, Tensor};

const MAX_LEN: usize = 40;

struct Setting {
    tasks: Vec<Task>,
    model: Model,
}

/// The same tasks and the same numbers every time.
fn setting() -> Setting {
    tch::set_num_threads(1);
    let tasks = ChainProblems::default()
        .generate(2, 40, Split::Train, 0)
        .unwrap();
    let texts = tasks
        .iter()
        .flat_map(|t| [Some(&*t.question), t.solution.as_deref()]);
    let tokenizer = HfTokenizer::train(texts.flatten(), &TokenizerConfig::default()).unwrap();
    let config = DecoderConfig::tiny_qwen3(tokenizer.vocab_size(), 32, 2, 2, 1);
    let model = Model::init(config, tokenizer, 1, Device::Cpu, DType::F32).unwrap();
    Setting { tasks, model }
}

/// An untrained model solves nothing, so what is paid here is how few digits it writes: any reward
/// will do that differs between rollouts.
fn few_digits(answer: &str, _: &str) -> Verdict {
    let digits = answer.bytes().filter(u8::is_ascii_digit).count();
    Verdict::from(digits % 2 == 0)
}

fn method(alpha: f64, controller: ControllerConfig) -> Method {
    Method {
        num_generations: 4,
        controller,
        cutter: UnitCutter {
            unit: Unit::Line,
            ..UnitCutter::default()
        },
        loss: LossConfig {
            loss_type: LossType::Dapo,
            max_completion_length: MAX_LEN,
            ..LossConfig::default()
        },
        ..Method::default()
    }
    .set("alpha", alpha)
    .unwrap()
}

fn target() -> ControllerConfig {
    ControllerConfig::Target(TargetConfig {
        initial: 1.0,
        max: 1.5,
        unit: AmountUnit::Units,
        ..TargetConfig::default()
    })
}

fn lines(n: f64) -> ControllerConfig {
    ControllerConfig::Fixed {
        amount: Amount::Units(n),
    }
}

type Run<'a> = Trainer<'a, TorchEngine, TorchLearner>;

/// Runs `script` on a fresh trainer.
fn with_run<T>(method: Method, script: impl FnOnce(&mut Run<'_>) -> T) -> T {
    let setting = setting();
    let tokenizer = &*setting.model.tokenizer;
    let data = Dataset::with_template(setting.tasks, tokenizer, "{question}\n").unwrap();
    let learner = TorchLearner::of(&setting.model, LearnerConfig::default()).unwrap();
    let engine = TorchEngine::of(&setting.model).unwrap();
    let config = TrainerConfig {
        seed: 3,
        prompts_per_step: 4,
        sampling: setting.model.sampling(),
        schedule: LrSchedule::constant(1e-3),
        ..TrainerConfig::default()
    };
    let mut run = Trainer::new(method, &data, engine, learner, few_digits, config).unwrap();
    script(&mut run)
}

fn steps(run: &mut Run<'_>, n: u64) -> Vec<Rows> {
    run.steps(n).map(|report| report.unwrap().rows).collect()
}

fn parameters(run: &mut Run<'_>) -> Vec<f32> {
    let flat: &Tensor = run.learner().updated().flat();
    Vec::try_from(flat.detach()).unwrap()
}

#[test]
fn ten_seeded_steps_repeat_to_the_bit() {
    let ten = || {
        with_run(method(0.5, target()), |run| {
            let before = parameters(run);
            let rows = steps(run, 10);
            assert_ne!(parameters(run), before, "nothing was learned");
            (rows, parameters(run))
        })
    };
    assert_eq!(ten(), ten());
}

#[test]
fn without_guidance_a_run_is_plain_grpo_to_the_bit() {
    let four = |method| {
        with_run(method, |run| {
            steps(run, 4);
            parameters(run)
        })
    };
    let plain = four(method(0.0, lines(0.0)));
    assert_eq!(four(method(0.0, target())), plain);
    assert_eq!(four(method(0.5, lines(0.0))), plain);
}

#[test]
fn a_resumed_run_repeats_the_uninterrupted_one_to_the_bit() {
    let (rows, last) = with_run(method(0.5, target()), |run| {
        (steps(run, 6), parameters(run))
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.safetensors");
    with_run(method(0.5, target()), |run| {
        steps(run, 3);
        // The run's own state travels in the learner's file, so that the two can never disagree.
        let state = serde_json::to_string(&run.state()).unwrap();
        let state = HashMap::from([("run".to_owned(), state)]);
        run.learner().save_state(&file, &state).unwrap();
    });
    with_run(method(0.5, target()), |run| {
        let state = run.learner().load_state(&file).unwrap();
        let state: RunState = serde_json::from_str(&state["run"]).unwrap();
        run.restore(state).unwrap();
        assert_eq!(steps(run, 3), rows[3..]);
        assert_eq!(parameters(run), last);
    });
}
