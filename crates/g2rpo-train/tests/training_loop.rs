//! The whole loop on test doubles: a combination lock, a table as policy, no tensor library.

use g2rpo_core::{AdvantageEstimator, Learner, LossConfig, LossType};
use g2rpo_guidance::{
    Amount, AmountUnit, Caps, CutLimits, CutReason, Fixed, FixedFraction, LengthController, Parts,
    Placement, Rounding, Selector, StepStats, Target, TargetConfig, UnitCutter,
};
use g2rpo_rollout::{
    Encoding, Error, RolloutEngine, SamplingParams, TabularPolicy, Task, TaskSampler, TokenId,
    Tokenizer, collect, pack,
};
use g2rpo_train::{
    EvalSet, MetricsRow, RunState, UpdateConfig, evaluate, plan_step, prepare, score, step_row,
    step_stats, update,
};

const V: u32 = 4;
const L: usize = 6;
const SEED: u64 = 11;
const NO_ONE: FixedFraction = FixedFraction {
    alpha: 0.0,
    rounding: Rounding::Ceil,
};

/// `a` to `d` are the ids 0 to 3; `?` asks for lock number 0 and so on, up to `V` locks.
struct Letters;

impl Tokenizer for Letters {
    fn encode(&self, text: &str) -> Result<Encoding, Error> {
        let id = |b: u8| match b {
            b'a'..=b'd' => Ok(u32::from(b - b'a')),
            b'0'..=b'9' => Ok(V + u32::from(b - b'0')),
            _ => Err(Error::Tokenizer(format!(
                "{:?} is no letter",
                char::from(b)
            ))),
        };
        Ok(Encoding {
            ids: text.bytes().map(id).collect::<Result<_, _>>()?,
            offsets: (0..text.len()).map(|i| i..i + 1).collect(),
        })
    }

    fn decode(&self, ids: &[TokenId]) -> Result<String, Error> {
        Ok(ids.iter().map(|&id| char::from(b'a' + id as u8)).collect())
    }
}

fn tasks() -> Vec<Task> {
    let lock = |(id, combination): (usize, &str)| Task {
        id: id as u64,
        question: id.to_string(),
        solution: combination.into(),
        reference: combination.into(),
        difficulty: L as f64,
    };
    ["abcdab", "bbacda", "cdabba", "dacbcd"]
        .iter()
        .copied()
        .enumerate()
        .map(lock)
        .collect()
}

struct Run<'a> {
    policy: TabularPolicy,
    controller: Box<dyn LengthController>,
    selector: &'a dyn Selector,
    rows: Vec<MetricsRow>,
    stats: Vec<StepStats>,
}

impl<'a> Run<'a> {
    fn new(controller: impl LengthController + 'static, selector: &'a dyn Selector) -> Self {
        Self {
            // The lock's number and all letters so far: the table can tell every position apart.
            policy: TabularPolicy::new(V as usize + 10, L + 1),
            controller: Box::new(controller),
            selector,
            rows: Vec::new(),
            stats: Vec::new(),
        }
    }

    fn steps(&mut self, steps: std::ops::Range<u64>) {
        let tasks = tasks();
        let prepared = prepare(&tasks, &Letters, "{question}").unwrap();
        let sampler = TaskSampler::new(tasks.len(), SEED);
        let verifier = |answer: &str, gold: &str| answer == gold;
        let config = UpdateConfig {
            loss: LossConfig {
                loss_type: LossType::Dapo,
                ..LossConfig::default()
            },
            ..UpdateConfig::default()
        };
        for step in steps {
            let limits = CutLimits::default();
            let parts = Parts {
                selector: self.selector,
                controller: &self.controller,
                cutter: &UnitCutter::default(),
                placement: Placement::AssistantPrefix,
                caps: Caps::new(&limits),
            };
            let chosen = sampler.batch(step, 4);
            let plan = plan_step(&tasks, &prepared, &chosen, &parts, 8, SEED, step).unwrap();
            let params = SamplingParams::default();
            let groups = collect(
                &mut self.policy,
                plan.groups.clone(),
                &params,
                SEED,
                step,
                L,
            )
            .unwrap();
            let scores = score(&groups, &tasks, &Letters, &verifier).unwrap();
            let batch = pack(&groups).unwrap();
            let advantages = AdvantageEstimator::default()
                .advantages(&scores.rewards, &batch.groups, &batch.guided, None)
                .unwrap();
            let done = update(
                &mut self.policy,
                &batch,
                &advantages.advantages,
                &config,
                &params.scoring(false),
                20.0,
            )
            .unwrap();
            let feedback = plan.feedback(&tasks, &scores, step);
            self.controller.observe(&feedback);
            self.rows
                .push(step_row(&plan, &batch, &feedback, &advantages, &done, 0.0));
            self.stats.push(step_stats(
                &plan,
                &batch,
                &feedback,
                &advantages,
                &done,
                5.0,
            ));
        }
    }

    fn accuracy(&mut self) -> f64 {
        let tasks = tasks();
        let prepared = prepare(&tasks, &Letters, "{question}").unwrap();
        let prompts: Vec<_> = prepared.into_iter().map(|p| p.prompt).collect();
        let verifier = |answer: &str, gold: &str| answer == gold;
        let set = EvalSet {
            tasks: &tasks,
            prompts: &prompts,
            tokenizer: &Letters,
            verifier: &verifier,
        };
        evaluate(&mut self.policy, &set, &SamplingParams::greedy(), L, 0)
            .unwrap()
            .accuracy()
    }
}

fn target() -> Target {
    Target::new(TargetConfig {
        initial: 3.0,
        max: L as f64 - 1.0,
        unit: AmountUnit::Tokens,
        ..TargetConfig::default()
    })
    .unwrap()
}

fn half() -> FixedFraction {
    FixedFraction {
        alpha: 0.5,
        rounding: Rounding::Ceil,
    }
}

#[test]
fn guidance_opens_locks_that_plain_grpo_never_opens() {
    let half = half();
    let mut guided = Run::new(target(), &half);
    guided.steps(0..250);
    let mut plain = Run::new(Fixed(Amount::NONE), &NO_ONE);
    plain.steps(0..250);
    assert_eq!(plain.accuracy(), 0.0, "4^-6 should not be found by chance");
    assert!(guided.accuracy() >= 0.75, "{}", guided.accuracy());
}

#[test]
fn the_same_run_twice_is_the_same_run() {
    let half = half();
    let mut runs = [Run::new(target(), &half), Run::new(target(), &half)];
    for run in &mut runs {
        run.steps(0..10);
    }
    assert_eq!(runs[0].policy, runs[1].policy);
    assert_eq!(runs[0].rows, runs[1].rows);
}

#[test]
fn no_guided_member_and_no_guidance_are_both_plain_grpo_to_the_bit() {
    let mut plain = Run::new(Fixed(Amount::NONE), &NO_ONE);
    let nobody = FixedFraction {
        alpha: 0.0,
        rounding: Rounding::Ceil,
    };
    let half = half();
    for mut run in [
        Run::new(target(), &nobody),
        Run::new(Fixed(Amount::Tokens(0.0)), &half),
    ] {
        plain.policy = TabularPolicy::new(V as usize + 10, L + 1);
        plain.steps(0..15);
        run.steps(0..15);
        assert_eq!(run.policy, plain.policy);
    }
}

#[test]
fn a_resumed_run_repeats_the_uninterrupted_one() {
    let half = half();
    let mut whole = Run::new(target(), &half);
    whole.steps(0..20);

    let mut first = Run::new(target(), &half);
    first.steps(0..9);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    RunState {
        seed: SEED,
        step: 9,
        sampled_tokens: 0,
        controller: first.controller.state(),
    }
    .save(&path)
    .unwrap();

    let state = RunState::load(&path).unwrap();
    let mut second = Run::new(target(), &half);
    second.policy = first.policy;
    second.controller.restore(state.controller).unwrap();
    second.steps(state.step..20);
    assert_eq!(second.policy, whole.policy);
    assert_eq!(second.rows, whole.rows[9..]);
}

#[test]
fn detectors_are_told_what_the_step_did() {
    let half = half();
    let mut run = Run::new(Fixed(Amount::Tokens(5.0)), &half);
    run.steps(0..1);
    let stats = &run.stats[0];
    assert_eq!((stats.guided_min, stats.guided_max), (Some(4), Some(4)));
    assert_eq!(stats.length, Some(5.0));
    assert_eq!(stats.cuts.get(&CutReason::Exact), Some(&16));
    // Nothing ends a combination but the limit of L tokens, of which guidance holds five.
    assert_eq!(stats.own_tokens_guided, Some(L as f64 - 5.0));
    assert_eq!(stats.own_tokens_unguided, Some(L as f64));
    assert_eq!(stats.truncated_guided, Some(1.0));
    assert_eq!(stats.truncated_unguided, Some(1.0));
    // Nobody opens a lock unguided, so whatever the guided earn is the others' disadvantage.
    let reward = run.rows[0].get("reward").unwrap();
    assert!(reward > 0.0 && stats.success_unguided == Some(0.0));
    assert!(stats.advantage_unguided.is_some_and(|a| a < 0.0));

    let mut plain = Run::new(Fixed(Amount::NONE), &NO_ONE);
    plain.steps(0..1);
    let stats = &plain.stats[0];
    assert_eq!(stats.own_tokens_guided, None);
    assert_eq!((stats.guided_min, stats.guided_max), (Some(0), Some(0)));
}

#[test]
fn settings_that_cannot_work_are_explained() {
    let tasks = tasks();
    let prepared = prepare(&tasks, &Letters, "{question}").unwrap();
    let plan = |alpha, num_generations| {
        let selector = FixedFraction {
            alpha,
            rounding: Rounding::Ceil,
        };
        let limits = CutLimits::default();
        let parts = Parts {
            selector: &selector,
            controller: &Fixed(Amount::Tokens(1.0)),
            cutter: &UnitCutter::default(),
            placement: Placement::AssistantPrefix,
            caps: Caps::new(&limits),
        };
        plan_step(&tasks, &prepared, &[0], &parts, num_generations, 0, 0)
            .unwrap_err()
            .to_string()
    };
    for alpha in [-0.1, 1.5, f64::NAN] {
        let message = plan(alpha, 8);
        assert!(
            message.contains("alpha") && message.contains("[0, 1]"),
            "{message}"
        );
    }
    let message = plan(0.5, 1);
    assert!(message.contains('1') && message.contains('2'), "{message}");
    let message = prepare(&tasks, &Letters, "no place")
        .unwrap_err()
        .to_string();
    assert!(message.contains("must contain {question}"), "{message}");
}

#[test]
fn a_trace_shorter_than_the_length_is_cut_before_its_end() {
    let tasks = tasks();
    let prepared = prepare(&tasks, &Letters, "{question}").unwrap();
    let half = half();
    let limits = CutLimits::default();
    let parts = Parts {
        selector: &half,
        controller: &Fixed(Amount::Tokens(1000.0)),
        cutter: &UnitCutter::default(),
        placement: Placement::AssistantPrefix,
        caps: Caps::new(&limits),
    };
    let plan = plan_step(&tasks, &prepared, &[0], &parts, 4, 0, 0).unwrap();
    let lengths: Vec<_> = plan.groups[0].guidance.iter().map(Vec::len).collect();
    assert_eq!(
        lengths,
        [L - 1, L - 1, 0, 0],
        "the last letter is the policy's to find"
    );
}

/// The loop is written against these two traits; any backend that has them can be trained.
#[allow(dead_code, reason = "compiles or does not")]
fn any_backend<B: Learner + RolloutEngine>() {}
