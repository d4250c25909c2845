//! A tiny model trained by the real engine and learner: runs repeat, resume and, without guidance,
//! are plain GRPO, all to the bit on one CPU thread.

use std::collections::HashMap;

use g2rpo::core::AdvantageEstimator;
use g2rpo::guidance::{
    Amount, AmountUnit, Caps, CutLimits, Fixed, FixedFraction, LengthController, Parts, Placement,
    Rounding, Selector, Target, TargetConfig, Unit, UnitCutter,
};
use g2rpo::libtorch::{
    DecoderConfig, HfTokenizer, LearnerConfig, TokenizerConfig, TorchEngine, TorchLearner,
    init_parameters,
};
use g2rpo::rollout::{ChainProblems, SamplingParams, Split, Task, TaskSampler, collect, pack};
use g2rpo::train::{
    MetricsRow, Prepared, RunState, UpdateConfig, plan_step, prepare, score, step_row, update,
};
use g2rpo::verify::Verdict;
use tch::{Device, Kind, Tensor};

const SEED: u64 = 3;
const NO_ONE: FixedFraction = FixedFraction {
    alpha: 0.0,
    rounding: Rounding::Ceil,
};
const MAX_LEN: usize = 40;

struct Setting {
    tasks: Vec<Task>,
    prepared: Vec<Prepared>,
    tokenizer: HfTokenizer,
    config: DecoderConfig,
}

fn setting() -> Setting {
    tch::set_num_threads(1);
    let tasks = ChainProblems::default()
        .generate(2, 40, Split::Train, 0)
        .unwrap();
    let texts = tasks.iter().flat_map(|t| [&*t.question, &*t.solution]);
    let tokenizer = HfTokenizer::train(texts, &TokenizerConfig::default()).unwrap();
    let prepared = prepare(&tasks, &tokenizer, "{question}\n").unwrap();
    let config = DecoderConfig::tiny_qwen3(tokenizer.vocab_size(), 32, 2, 2, 1);
    Setting {
        tasks,
        prepared,
        tokenizer,
        config,
    }
}

struct Run<'a> {
    setting: &'a Setting,
    learner: TorchLearner,
    controller: Box<dyn LengthController>,
    selector: &'a dyn Selector,
    rows: Vec<MetricsRow>,
}

impl<'a> Run<'a> {
    fn new(
        setting: &'a Setting,
        controller: impl LengthController + 'static,
        selector: &'a dyn Selector,
    ) -> Self {
        let parameters = init_parameters(&setting.config, 1, Kind::Float, Device::Cpu).unwrap();
        let settings = LearnerConfig::default();
        let learner = TorchLearner::new(&setting.config, parameters, settings).unwrap();
        Self {
            setting,
            learner,
            controller: Box::new(controller),
            selector,
            rows: Vec::new(),
        }
    }

    fn steps(&mut self, steps: std::ops::Range<u64>) {
        let Setting {
            tasks,
            prepared,
            tokenizer,
            ..
        } = self.setting;
        let mut engine = TorchEngine::new(self.learner.policy());
        // An untrained model solves nothing, so what is paid here is how few digits it writes: any
        // reward will do that differs between rollouts.
        let verifier = |answer: &str, _: &str| {
            let digits = answer.bytes().filter(u8::is_ascii_digit).count();
            Verdict::from(digits % 2 == 0)
        };
        let sampling = SamplingParams {
            stop_token_ids: vec![tokenizer.eos_token_id().unwrap()],
            ..SamplingParams::default()
        };
        for step in steps {
            let limits = CutLimits::default();
            let parts = Parts {
                selector: self.selector,
                controller: &self.controller,
                cutter: &UnitCutter {
                    unit: Unit::Line,
                    ..UnitCutter::default()
                },
                placement: Placement::AssistantPrefix,
                caps: Caps::new(&limits),
            };
            let chosen = TaskSampler::new(tasks.len(), SEED).batch(step, 4);
            let plan = plan_step(tasks, prepared, &chosen, &parts, 4, SEED, step).unwrap();
            let groups = collect(
                &mut engine,
                plan.groups.clone(),
                &sampling,
                SEED,
                step,
                MAX_LEN,
            )
            .unwrap();
            let scores = score(&groups, tasks, tokenizer, &verifier).unwrap();
            let batch = pack(&groups).unwrap();
            let advantages = AdvantageEstimator::default()
                .advantages(&scores.rewards, &batch.groups, &batch.guided, None)
                .unwrap();
            let config = UpdateConfig::default();
            let done = update(
                &mut self.learner,
                &batch,
                &advantages.advantages,
                &config,
                &sampling.scoring(true),
                1e-3,
            )
            .unwrap();
            let feedback = plan.feedback(tasks, &scores, step);
            self.controller.observe(&feedback);
            self.rows
                .push(step_row(&plan, &batch, &feedback, &advantages, &done, 0.0));
        }
    }

    fn parameters(&self) -> Vec<f32> {
        let flat: &Tensor = self.learner.updated().flat();
        Vec::try_from(flat.detach()).unwrap()
    }
}

fn target() -> Target {
    Target::new(TargetConfig {
        initial: 1.0,
        max: 1.5,
        unit: AmountUnit::Units,
        ..TargetConfig::default()
    })
    .unwrap()
}

fn fraction(alpha: f64) -> FixedFraction {
    FixedFraction {
        alpha,
        rounding: Rounding::Ceil,
    }
}

#[test]
fn ten_seeded_steps_repeat_to_the_bit() {
    let setting = setting();
    let half = fraction(0.5);
    let mut first = Run::new(&setting, target(), &half);
    first.steps(0..10);
    let mut second = Run::new(&setting, target(), &half);
    second.steps(0..10);
    assert_eq!(first.rows, second.rows);
    assert_eq!(first.parameters(), second.parameters());
    let untrained = Run::new(&setting, target(), &half);
    assert_ne!(
        first.parameters(),
        untrained.parameters(),
        "nothing was learned"
    );
}

#[test]
fn without_guidance_a_run_is_plain_grpo_to_the_bit() {
    let setting = setting();
    let mut plain = Run::new(&setting, Fixed(Amount::NONE), &NO_ONE);
    plain.steps(0..4);
    let (nobody, half) = (fraction(0.0), fraction(0.5));
    let mut alpha_zero = Run::new(&setting, target(), &nobody);
    alpha_zero.steps(0..4);
    assert_eq!(alpha_zero.parameters(), plain.parameters());
    let mut length_zero = Run::new(&setting, Fixed(Amount::Units(0.0)), &half);
    length_zero.steps(0..4);
    assert_eq!(length_zero.parameters(), plain.parameters());
}

#[test]
fn a_resumed_run_repeats_the_uninterrupted_one_to_the_bit() {
    let setting = setting();
    let half = fraction(0.5);
    let mut whole = Run::new(&setting, target(), &half);
    whole.steps(0..6);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.safetensors");
    let mut first = Run::new(&setting, target(), &half);
    first.steps(0..3);
    let state = RunState {
        seed: SEED,
        step: 3,
        sampled_tokens: 0,
        controller: first.controller.state(),
    };
    // The run's own state travels in the learner's file, so that the two can never disagree.
    let run = HashMap::from([("run".to_owned(), serde_json::to_string(&state).unwrap())]);
    first.learner.save_state(&file, &run).unwrap();
    drop(first);

    let mut second = Run::new(&setting, target(), &half);
    let run = second.learner.load_state(&file).unwrap();
    let state: RunState = serde_json::from_str(&run["run"]).unwrap();
    second.controller.restore(state.controller).unwrap();
    second.steps(state.step..6);
    assert_eq!(second.rows, whole.rows[3..]);
    assert_eq!(second.parameters(), whole.parameters());
}
