//! Reward sequences in, lengths out: the vectors of `testdata/guidance/trajectories.py`.

use g2rpo_guidance::{
    BinomialCosine, Bisection, BisectionConfig, ControllerConfig, Difficulty, DifficultyConfig,
    ExampleId, Irt, IrtConfig, LengthController, Query, Record, StepFeedback,
};
use rand::SeedableRng;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    trajectories: Vec<Case>,
    bisection: BisectionCase,
    difficulty: DifficultyCase,
    binomial_cosine: Vec<f64>,
    irt: IrtCase,
}

#[derive(Deserialize)]
struct IrtCase {
    /// Task, fraction, rollouts and successes of each group of each step.
    steps: Vec<Vec<(u64, f64, u64, u64)>>,
    /// What tasks 0, 1 and 2 get after each step.
    fractions: Vec<[f64; 3]>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    controller: ControllerConfig,
    steps: Vec<Step>,
    lengths: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    /// One rollout with this reward.
    Reward { reward: f64 },
    /// Successes and rollouts of each stratum.
    Counts {
        guided: [u64; 2],
        unguided: [u64; 2],
    },
}

#[derive(Deserialize)]
struct BisectionCase {
    config: BisectionConfig,
    steps: Vec<(u64, f64, f64)>,
    intervals: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct DifficultyCase {
    rewards: Vec<f64>,
    targets: Vec<f64>,
}

fn vectors() -> Vectors {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/guidance/trajectories.json"
    );
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Python and Rust agree on every operation used except the last digit of tanh, cos and pow, which
/// may then be multiplied through a dozen steps.
const TOLERANCE: f64 = 1e-12;

fn close(got: f64, want: f64) -> bool {
    (got - want).abs() <= TOLERANCE * want.abs().max(1.0)
}

fn feedback(number: usize, step: &Step) -> StepFeedback {
    let mut feedback = StepFeedback::new(number as u64);
    let mut record_all = |chosen, reward: f64, n| {
        for _ in 0..n {
            let record = Record {
                chosen,
                amount: 0.0,
                reward,
                success: reward > 0.5,
            };
            feedback.record(ExampleId(0), &record);
        }
    };
    match *step {
        Step::Reward { reward } => record_all(true, reward, 1),
        Step::Counts { guided, unguided } => {
            for (is_guided, [successes, n]) in [(true, guided), (false, unguided)] {
                record_all(is_guided, 1.0, successes);
                record_all(is_guided, 0.0, n - successes);
            }
        }
    }
    feedback
}

#[test]
fn controllers_follow_their_formulas() {
    let cases = vectors().trajectories;
    assert!(cases.len() > 80);
    for case in cases {
        let mut controller = case
            .controller
            .build()
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        for (number, step) in case.steps.iter().enumerate() {
            controller.observe(&feedback(number, step));
            let query = Query {
                step: number as u64 + 1,
                ..Query::default()
            };
            let got = controller.amount(&query, &mut rng).value();
            let want = case.lengths[number];
            assert!(
                close(got, want),
                "{}, step {number}: expected {want}, got {got}",
                case.name
            );
        }
        assert_eq!(case.lengths.len(), case.steps.len(), "{}", case.name);
    }
}

#[test]
fn bisection_follows_its_formula() {
    let case = vectors().bisection;
    let mut search = Bisection::new(case.config).unwrap();
    for (number, (&(task, rho, reward), want)) in case.steps.iter().zip(case.intervals).enumerate()
    {
        search.step(ExampleId(task), rho, reward);
        let got = search.interval(ExampleId(task));
        assert!(
            close(got.0, want.0) && close(got.1, want.1),
            "step {number}: expected {want:?}, got {got:?}"
        );
    }
}

#[test]
fn difficulty_follows_its_formula() {
    let case = vectors().difficulty;
    let mut difficulty = Difficulty::new(DifficultyConfig::default()).unwrap();
    for (reward, want) in case.rewards.into_iter().zip(case.targets) {
        difficulty.step(reward);
        assert!(
            close(difficulty.target(), want),
            "expected {want}, got {}",
            difficulty.target()
        );
    }
}

#[test]
fn the_binomial_probability_follows_its_cosine() {
    for (i, want) in vectors().binomial_cosine.into_iter().enumerate() {
        let got = BinomialCosine::default().probability(20 * i as u64);
        assert!(
            close(got, want),
            "step {}: expected {want}, got {got}",
            20 * i
        );
    }
}

#[test]
fn the_curve_of_each_task_follows_its_formula() {
    let case = vectors().irt;
    let mut irt = Irt::new(IrtConfig::default()).unwrap();
    for (number, (groups, fractions)) in case.steps.into_iter().zip(case.fractions).enumerate() {
        let mut feedback = StepFeedback::new(number as u64);
        for (task, amount, n, successes) in groups {
            for i in 0..n {
                let success = i < successes;
                let record = Record {
                    chosen: true,
                    amount,
                    reward: f64::from(u8::from(success)),
                    success,
                };
                feedback.record(ExampleId(task), &record);
            }
        }
        irt.observe(&feedback);
        for (task, want) in (0u64..).zip(fractions) {
            let got = irt.fraction(ExampleId(task));
            // The search for the fraction ends at 1e-6.
            assert!(
                (got - want).abs() < 2e-6,
                "step {number}, task {task}: expected {want}, got {got}"
            );
        }
    }
}
