//! Every detector goes off in a loop that runs under the fault it is for; none does in a healthy one.

use std::sync::Arc;

use g2rpo_guidance::{Detector, Detectors, Method, Thresholds, Warning};
use g2rpo_rollout::Task;
use g2rpo_train::{LrSchedule, TrainerConfig};
use g2rpo_verify::{Unverifiable, Verdict, Verifier, WeightedReward};
use serde_json::{Value, json};

use crate::probe::{Asked, MAX_LEN, Probe, config, dataset, is_right, run_with, tasks, writes};

/// A run under which something is wrong.
struct Fault {
    method: Method,
    tasks: Vec<Task>,
    script: fn(&Asked) -> Vec<u32>,
    verifier: Box<dyn Verifier>,
    rewards: WeightedReward,
    thresholds: Thresholds,
    config: TrainerConfig,
    steps: usize,
}

impl Fault {
    fn new(method: Method, script: fn(&Asked) -> Vec<u32>) -> Self {
        Self {
            method,
            tasks: tasks(),
            script,
            verifier: Box::new(is_right),
            rewards: WeightedReward::default(),
            // Short runs show what long ones would.
            thresholds: Thresholds {
                window: 3,
                trend: 4,
                ..Thresholds::default()
            },
            config: config(),
            steps: 1,
        }
    }

    fn steps(self, steps: usize) -> Self {
        Self { steps, ..self }
    }

    fn lr(mut self, lr: f64) -> Self {
        self.config.schedule = LrSchedule::constant(lr);
        self
    }

    fn warnings(self) -> Vec<Warning> {
        let data = dataset(self.tasks);
        let probe = Probe::new(Some(Arc::new(self.script)));
        let (rewards, detectors) = (self.rewards, Detectors::new(self.thresholds));
        let run = run_with(
            &self.method,
            &data,
            &probe,
            self.verifier,
            self.config,
            self.steps,
            |trainer| trainer.with_rewards(rewards).with_detectors(detectors),
        );
        run.unwrap()
            .reports
            .into_iter()
            .flat_map(|r| r.warnings)
            .collect()
    }
}

fn set(method: Method, settings: &[(&str, Value)]) -> Method {
    let method = method.set("max_completion_length", MAX_LEN).unwrap();
    settings
        .iter()
        .fold(method, |m, (key, value)| m.set(key, value.clone()).unwrap())
}

fn grpo() -> Method {
    set(Method::default(), &[("beta", json!(0.0))])
}

/// Half of the members have half of the solution; guidance is masked.
fn half(settings: &[(&str, Value)]) -> Method {
    let target = Method::preset("target", 10).unwrap();
    let fixed = json!({"kind": "fixed", "amount": {"fraction": 0.5}});
    set(set(target, &[("controller", fixed)]), settings)
}

/// As `half`, the length by the ratio rule, at most 8 tokens.
fn ratio() -> Method {
    half(&[(
        "controller",
        json!({"kind": "ratio", "initial": 8.0, "max": 8.0, "window": 1}),
    )])
}

fn never(asked: &Asked) -> Vec<u32> {
    writes(asked.member, false)
}

fn always(asked: &Asked) -> Vec<u32> {
    writes(asked.member, true)
}

fn only_with_help(asked: &Asked) -> Vec<u32> {
    writes(asked.member, asked.help > 0)
}

fn only_without_help(asked: &Asked) -> Vec<u32> {
    writes(asked.member, asked.help == 0)
}

/// As `only_without_help`, in words that no step before had.
fn new_words(asked: &Asked) -> Vec<u32> {
    let mut answer = only_without_help(asked);
    answer.insert(0, u32::from(b'a') + asked.step as u32);
    answer
}

fn every_second(asked: &Asked) -> Vec<u32> {
    writes(asked.member, asked.member.is_multiple_of(2))
}

/// Everybody in odd steps, one of eight in even ones.
fn by_turns(asked: &Asked) -> Vec<u32> {
    writes(
        asked.member,
        !asked.step.is_multiple_of(2) || asked.member == 0,
    )
}

/// Everybody at the easier half of the tasks, one of eight at the others.
fn by_tier(asked: &Asked) -> Vec<u32> {
    writes(asked.member, asked.task > 1 || asked.member == 0)
}

fn nearly_always(asked: &Asked) -> Vec<u32> {
    writes(asked.member, asked.member != 0)
}

fn terse_with_help(asked: &Asked) -> Vec<u32> {
    let mut answer = every_second(asked);
    if asked.help == 0 {
        answer.extend([u32::from(b'.'); 6]);
    }
    answer
}

/// A word that the format asks for is there at first.
fn forgetful(asked: &Asked) -> Vec<u32> {
    let mut answer = every_second(asked);
    if asked.step > 0 {
        answer.remove(1);
    }
    answer
}

fn as_solution(text: &str) -> Vec<Task> {
    let task = |t| Task {
        solution: Some(text.into()),
        ..t
    };
    tasks().into_iter().map(task).collect()
}

fn off(fields: &[&str]) -> Value {
    fields
        .iter()
        .map(|f| ((*f).to_owned(), json!(false)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn faults() -> Vec<(Detector, Fault)> {
    let same = ("guidance_token_loss", json!("same_advantage"));
    let hinted = half(&[
        ("selector.alpha", json!(1.0)),
        ("placement", json!("prompt_hint")),
    ]);
    let blind = set(
        Method::preset("target", 10).unwrap(),
        &[("selector.alpha", json!(0.0))],
    );
    let silence = Fault {
        verifier: Box::new(|_: &str, _: &str| true),
        ..Fault::new(grpo(), never)
    };
    let mut tiers = Fault::new(
        set(
            ratio(),
            &[(
                "curriculum",
                json!({"tiers": {"by": "difficulty", "tiers": 2}}),
            )],
        ),
        by_tier,
    )
    .steps(8);
    tiers.config.prompts_per_step = 2;
    let mut turns = Fault::new(ratio(), by_turns).steps(8);
    turns.thresholds.window = 6;
    let undecided = Fault {
        // One of the guided members, by its name.
        verifier: Box::new(|answer: &str, _: &str| {
            if answer.contains("Ano") {
                Verdict::from(Unverifiable::Undecidable)
            } else {
                Verdict::from(answer.contains('!'))
            }
        }),
        ..Fault::new(half(&[]), |asked| {
            writes(asked.member, asked.member % 2 == 1)
        })
    };
    let no_markers =
        json!({"hashes": false, "boxed": false, "tags": false, "sentence": false, "phrases": []});
    let all_of_it = json!({"kind": "fixed", "amount": {"fraction": 1.0}});
    let bare = |t: Task| Task {
        solution: t.solution.filter(|_| t.id > 1),
        ..t
    };
    let mut stops = Fault::new(half(&[]), every_second);
    stops.config.sampling.stop_token_ids = vec![u32::from(b'b')];
    let five = json!({"kind": "fixed", "amount": {"tokens": 5.0}});
    let in_tag = half(&[
        ("controller", five),
        ("cutter.unit", json!("token")),
        (
            "limits.protected",
            off(&["calculator_marks", "tags", "code_fences"]),
        ),
    ]);
    let has_word = |s: &g2rpo_verify::Sample<'_>| {
        Some(f64::from(
            s.response.contains("ok") || s.response.contains("no"),
        ))
    };
    vec![
        (Detector::ZeroVariance, Fault::new(grpo(), never)),
        (
            Detector::IdentityOnlyVariance,
            Fault::new(half(&[]), only_with_help),
        ),
        (
            Detector::AllGuidedSaturated,
            Fault::new(half(&[("selector.alpha", json!(1.0))]), always),
        ),
        (Detector::ZeroReward, Fault::new(grpo(), never)),
        (Detector::PermissiveVerifier, silence),
        (
            Detector::ControllerBlind,
            Fault::new(blind, every_second).steps(3),
        ),
        (
            Detector::LengthPinned,
            Fault::new(ratio(), every_second).steps(3),
        ),
        (Detector::LengthOscillating, turns),
        (
            Detector::LengthStalled,
            Fault::new(ratio(), only_with_help).steps(3),
        ),
        (Detector::CurriculumConfound, tiers),
        (
            Detector::RelianceGap,
            Fault::new(half(&[]), only_with_help).steps(4),
        ),
        (
            Detector::HintReliance,
            Fault::new(hinted, every_second).steps(4).lr(50.0),
        ),
        (
            Detector::UnguidedPushedDown,
            Fault::new(half(&[]), only_with_help).steps(3),
        ),
        (Detector::GuidedCount, undecided),
        (
            Detector::GuidanceExceedsTrace,
            Fault::new(
                set(Method::preset("g2rpo-a", 10).unwrap(), &[]),
                every_second,
            ),
        ),
        (
            Detector::AnswerInPrefix,
            Fault::new(
                half(&[
                    ("controller", all_of_it),
                    ("limits.answer", no_markers),
                    ("cutter.unit", json!("token")),
                ]),
                every_second,
            ),
        ),
        (
            Detector::BudgetTight,
            Fault::new(half(&[("max_completion_length", json!(8))]), every_second),
        ),
        (
            Detector::NoTrace,
            Fault {
                tasks: tasks().into_iter().map(bare).collect(),
                ..Fault::new(half(&[]), every_second)
            },
        ),
        (
            Detector::BrokenTags,
            Fault {
                tasks: as_solution("ab\n<think>cd\n\n#### 7"),
                ..Fault::new(in_tag, every_second)
            },
        ),
        (Detector::StopInPrefix, stops),
        (
            Detector::NegativeGuidance,
            Fault::new(half(std::slice::from_ref(&same)), only_without_help),
        ),
        (
            Detector::GuidanceDominates,
            Fault::new(half(std::slice::from_ref(&same)), only_with_help),
        ),
        (
            Detector::ImprobablePrefix,
            Fault::new(half(&[same]), new_words).steps(4).lr(200.0),
        ),
        (
            Detector::UnequalBudget,
            Fault::new(half(&[]), terse_with_help),
        ),
        (
            Detector::EntropyCollapse,
            Fault::new(grpo(), nearly_always).steps(6).lr(1500.0),
        ),
        (
            Detector::FormatCollapse,
            Fault {
                rewards: WeightedReward::default().with_fn("format", 0.1, has_word),
                ..Fault::new(grpo(), forgetful).steps(2)
            },
        ),
    ]
}

#[test]
fn every_detector_goes_off_in_a_loop_under_its_fault() {
    let mut left: Vec<Detector> = Detector::ALL.to_vec();
    let mut silent = Vec::new();
    for (detector, fault) in faults() {
        left.retain(|d| *d != detector);
        let warnings = fault.warnings();
        if warnings.iter().all(|w| w.detector != detector) {
            silent.push((detector, warnings));
        }
    }
    assert!(left.is_empty(), "without a fault: {left:?}");
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn a_healthy_run_sets_none_off() {
    /// Four of ten without help, six of ten with it, by a draw of each member's own.
    fn fair(asked: &Asked) -> Vec<u32> {
        let place = (asked.step * 4 + asked.task as u64) * 8 + u64::from(asked.member);
        let draw = place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let of_ten = draw % 10;
        writes(asked.member, of_ten < if asked.help > 0 { 6 } else { 4 })
    }
    let healthy = Fault {
        thresholds: Thresholds {
            trend: 20,
            ..Thresholds::default()
        },
        ..Fault::new(set(Method::preset("target", 10).unwrap(), &[]), fair)
            .steps(30)
            .lr(0.01)
    };
    assert_eq!(healthy.warnings(), []);
}

#[test]
fn the_verifier_is_asked_about_silence_once_for_each_task() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let asked = AtomicUsize::new(0);
    let verifier = |answer: &str, _: &str| {
        asked.fetch_add(usize::from(answer.is_empty()), Ordering::Relaxed);
        answer.is_empty() || answer.contains('!')
    };
    let data = dataset(tasks());
    let probe = Probe::new(Some(Arc::new(every_second)));
    let run = run_with(&grpo(), &data, &probe, verifier, config(), 3, |t| t).unwrap();
    assert!(run.reports.iter().all(|r| r.silence_accepted == Some(4)));
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}
