//! Runs of several ranks against runs of one process: threads as ranks, a table as policy.

mod common;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{LENGTH, config, data, method, opens, policy};
use g2rpo_core::LossType;
use g2rpo_guidance::{AmountUnit, ControllerConfig, Method, TargetConfig};
use g2rpo_rollout::ranks::{
    Collective, Local, RankError, RankedEngine, RankedLearner, Solo, Values,
};
use g2rpo_rollout::{Shared, TabularPolicy};
use g2rpo_train::{RankedVerifier, StepReport, Trainer, TrainerConfig};

const STEPS: u64 = 5;

/// What a run comes to: its reports, and its policy.
type Outcome = Result<(Vec<StepReport>, TabularPolicy), String>;

fn run_from(
    policy: &Shared<TabularPolicy>,
    ranks: impl Collective + 'static,
    method: Method,
    config: TrainerConfig,
    steps: u64,
) -> Outcome {
    let ranks: Arc<dyn Collective> = Arc::new(ranks);
    let data = data();
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let learner = RankedLearner::new(policy.clone(), ranks.clone(), 2).map_err(|e| text(&e))?;
    let engine = RankedEngine::new(policy.clone(), ranks.clone());
    let verifier = RankedVerifier::new(opens, ranks);
    let trainer = Trainer::new(method, &data, engine, learner, verifier, config);
    let mut trainer = trainer.map_err(|e| text(&e))?;
    let reports = trainer.steps(steps).collect::<Result<_, _>>();
    let reports = reports.map_err(|e| text(&e))?;
    drop(trainer);
    let policy = policy.get().clone();
    Ok((reports, policy))
}

fn run(ranks: impl Collective + 'static, method: Method, config: TrainerConfig) -> Outcome {
    run_from(&policy(), ranks, method, config, STEPS)
}

/// The outcomes of all ranks, each from a thread.
fn on_ranks(size: usize, one: impl Fn(Local) -> Outcome + Sync) -> Vec<Outcome> {
    let ranks = Local::group(size, Duration::from_secs(20));
    thread::scope(|scope| {
        let one = &one;
        let spawned: Vec<_> = (ranks.into_iter())
            .map(|rank| scope.spawn(move || one(rank)))
            .collect();
        spawned.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e-3)
}

fn assert_same(alone: &(Vec<StepReport>, TabularPolicy), ranked: &Outcome, name: &str) {
    let ranked = ranked.as_ref().unwrap_or_else(|e| panic!("{name}: {e}"));
    for (a, b) in alone.0.iter().zip(&ranked.0) {
        assert_eq!(a.rows.batch.sequences, b.rows.batch.sequences, "{name}");
        assert_eq!(a.rows.rewards, b.rows.rewards, "{name}");
        assert_eq!(a.feedback, b.feedback, "{name}: what controllers see");
        assert!(close(a.update.loss, b.update.loss), "{name}: loss");
        let norm = |r: &StepReport| r.update.stats.map_or(0.0, |s| s.grad_norm);
        assert!(close(norm(a), norm(b)), "{name}: {} {}", norm(a), norm(b));
        let counts = |r: &StepReport| (r.length, r.gen_batches, r.update.n_updates);
        assert_eq!(counts(a), counts(b), "{name}");
        for tokens in a.rows.batch.sequences.tokens().rows() {
            for end in 1..tokens.len() {
                let one = alone.1.probabilities(&tokens[..end]);
                let other = ranked.1.probabilities(&tokens[..end]);
                let same = one.iter().zip(&other).all(|(a, b)| close(*a, *b));
                assert!(same, "{name}: {one:?} {other:?}");
            }
        }
    }
}

/// Half of each group guided, by an amount that follows success; KL and entropies needed.
fn guided() -> Method {
    let controller = ControllerConfig::Target(TargetConfig {
        initial: 5.0,
        max: 5.0,
        unit: AmountUnit::Tokens,
        ..TargetConfig::default()
    });
    let method = method("g2rpo-a").set("alpha", 0.5).unwrap();
    let method = Method {
        controller,
        ..method
    };
    method.set("beta", 0.1).unwrap()
}

/// Every loss, and everything that is decided from the whole batch.
fn cases() -> Vec<(String, Method, TrainerConfig)> {
    let mut cases = Vec::new();
    for loss in LossType::ALL {
        let method = guided().set("loss_type", loss.name()).unwrap();
        cases.push((loss.to_string(), method, config()));
    }
    let settings = [
        ("loss.top_entropy_quantile", 0.5.into()),
        ("loss.entropy_coef", 0.01.into()),
        ("advantages.scale", "batch_std".into()),
        ("advantages.scale", "whiten".into()),
        ("max_num_gen_batches", 3.into()),
    ];
    for (key, value) in settings {
        let value: serde_json::Value = value;
        let method = guided().set(key, value.clone()).unwrap();
        cases.push((format!("{key} = {value}"), method, config()));
    }
    let mut reused = config();
    reused.update.num_iterations = 2;
    reused.update.steps_per_generation = 2;
    cases.push(("two updates, twice".into(), guided(), reused));
    cases
}

#[test]
fn any_number_of_ranks_is_one_process() {
    for (name, method, config) in cases() {
        let whole = run(Solo, method.clone(), config.clone()).unwrap();
        let taught = |r: &StepReport| r.update.stats.is_some_and(|s| s.grad_norm > 0.0);
        assert!(whole.0.iter().any(taught), "{name}: nothing to compare");
        for size in [2, 3, 4] {
            let name = format!("{name}, {size} ranks");
            let outcomes = on_ranks(size, |rank| run(rank, method.clone(), config.clone()));
            for outcome in &outcomes {
                assert_same(&whole, outcome, &name);
                let policy = |o: &Outcome| o.as_ref().unwrap().1.clone();
                assert_eq!(policy(outcome), policy(&outcomes[0]), "{name}: to the bit");
            }
        }
    }
}

#[test]
fn more_ranks_than_groups_have_nothing_to_do_and_agree() {
    let mut config = config();
    config.prompts_per_step = 1;
    let whole = run(Solo, guided(), config.clone()).unwrap();
    for outcome in on_ranks(3, |rank| run(rank, guided(), config.clone())) {
        assert_same(&whole, &outcome, "one group");
    }
}

#[test]
fn one_rank_is_the_run_without_ranks_to_the_bit() {
    let data = data();
    let mut plain = common::trainer(&data, guided());
    let reports: Vec<_> = plain.steps(STEPS).map(Result::unwrap).collect();
    let solo = run(Solo, guided(), config()).unwrap();
    assert_eq!(solo.1, plain.learner().get().clone());
    let rows = |r: &[StepReport]| r.iter().map(|r| r.rows.clone()).collect::<Vec<_>>();
    assert_eq!(rows(&solo.0), rows(&reports));
}

#[test]
fn a_rank_with_another_seed_is_named() {
    for outcome in on_ranks(3, |rank| {
        let mut config = config();
        config.seed += u64::from(rank.rank() == 1);
        run(rank, guided(), config)
    }) {
        let error = outcome.unwrap_err();
        assert!(
            error.contains("rank 1 differs from the others in sampling of rollouts"),
            "{error}"
        );
    }
}

#[test]
fn a_rank_with_another_checkpoint_is_named() {
    let trained = run(Solo, guided(), config()).unwrap().1;
    for outcome in on_ranks(3, |rank| {
        let policy = match rank.rank() {
            0 => Shared::new(trained.clone()),
            _ => policy(),
        };
        run_from(&policy, rank, guided(), config(), STEPS)
    }) {
        let error = outcome.unwrap_err();
        assert!(
            error.contains("rank 0 differs from the others in the hash of the parameters"),
            "{error}"
        );
    }
}

#[test]
fn a_rank_that_ends_early_stops_the_others_with_its_name() {
    let outcomes = on_ranks(3, |rank| {
        let steps = if rank.rank() == 2 { 1 } else { STEPS };
        run_from(&policy(), rank, guided(), config(), steps)
    });
    assert!(outcomes[2].is_ok());
    for outcome in &outcomes[..2] {
        let error = outcome.as_ref().unwrap_err();
        assert!(error.contains("rank 2 did not take part in"), "{error}");
    }
}

#[test]
fn a_rank_that_hangs_is_named_within_the_limit() {
    let mut ranks = Local::group(2, Duration::from_millis(200));
    let (hangs, waits) = (ranks.pop().unwrap(), ranks.pop().unwrap());
    let error = waits.sum("a test", Values::F64(&mut [1.0])).unwrap_err();
    let lost = RankError::Lost {
        ranks: vec![hangs.rank()],
        what: "a test".into(),
        seconds: 0.2,
    };
    assert_eq!(error, lost);
    // Coming late does not help: the group is over for both.
    assert_eq!(hangs.sum("a test", Values::F64(&mut [1.0])), Err(lost));
}

#[test]
fn a_failure_on_one_rank_reaches_all_with_its_words() {
    // The second rank's table has room for fewer ids than the tasks need.
    let outcomes = on_ranks(2, |rank| {
        let vocab = if rank.rank() == 1 { 4 } else { 14 };
        let policy = Shared::new(TabularPolicy::new(vocab, LENGTH + 1));
        run_from(&policy, rank, guided(), config(), STEPS)
    });
    let own = outcomes[1].as_ref().unwrap_err();
    assert!(own.contains("size of the vocabulary"), "{own}");
    let other = outcomes[0].as_ref().unwrap_err();
    assert!(other.contains("rank 1 failed in"), "{other}");
    assert!(other.contains("size of the vocabulary"), "{other}");
}
