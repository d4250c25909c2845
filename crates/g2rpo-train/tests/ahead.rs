//! Rollouts ahead of the learner: by whose weights they are sampled, what the loss makes of them, what is lost when a run
//! stops.

mod common;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{config, data, method, opens, policy, trainer};
use g2rpo_core::{
    Learner, Result as CoreResult, Role, Scoring, Sequences, TokenGrads, TokenOutputs, UpdateStats,
    WhichPolicy,
};
use g2rpo_guidance::{AmountUnit, ControllerConfig, Method, TargetConfig};
use g2rpo_rollout::{
    Completion, Error, Request, RolloutEngine, SamplingParams, Shared, TabularPolicy,
};
use g2rpo_train::{
    Ahead, Dataset, RunState, StalenessCorrection, StepReport, Trainer, TrainerConfig,
};

type Policy = Shared<TabularPolicy>;
type Stale<'a> = Trainer<'a, Policy, Policy>;

/// Half of each group guided, by an amount that follows success; guidance tokens learn as well.
fn guided() -> Method {
    let controller = ControllerConfig::Target(TargetConfig {
        initial: 4.0,
        max: 5.0,
        unit: AmountUnit::Tokens,
        ..TargetConfig::default()
    });
    let method = method("g2rpo-a").set("alpha", 0.5).unwrap();
    Method {
        controller,
        ..method
    }
}

fn by(max_staleness: u64, correction: StalenessCorrection) -> TrainerConfig {
    TrainerConfig {
        ahead: Ahead {
            max_staleness,
            correction,
        },
        ..config()
    }
}

/// A trainer whose engine has weights of its own.
fn stale<'a>(data: &'a Dataset<'a>, method: Method, config: TrainerConfig) -> Stale<'a> {
    let (engine, learner) = (policy(), policy());
    let trainer = Trainer::new(method, data, engine, learner, opens, config).unwrap();
    trainer.with_sync(|engine, learner| {
        let weights = learner.get().clone();
        *engine.get() = weights;
        Ok(())
    })
}

fn logps(policy: &TabularPolicy, report: &StepReport) -> Vec<f64> {
    let batch = &report.rows.batch;
    let sequences = &batch.sequences;
    let out = (policy.clone()).token_logps(sequences, WhichPolicy::Current, &Scoring::default());
    let out = out.unwrap().logp;
    let own = batch.roles.values().iter().zip(out.values());
    own.filter(|(role, _)| **role == Role::Own)
        .map(|(_, logp)| *logp)
        .collect()
}

fn sampled(report: &StepReport) -> Vec<f64> {
    let batch = &report.rows.batch;
    let own = batch
        .roles
        .values()
        .iter()
        .zip(batch.logp_sampling.values());
    own.filter(|(role, _)| **role == Role::Own)
        .map(|(_, logp)| *logp)
        .collect()
}

/// The reports of some steps, and the policy before each and at the end.
fn run(trainer: &mut Stale<'_>, n: u64) -> (Vec<StepReport>, Vec<TabularPolicy>) {
    let mut policies = vec![trainer.learner().get().clone()];
    let mut reports = Vec::new();
    trainer.end_at(trainer.next_step() + n);
    for _ in 0..n {
        reports.push(trainer.step().unwrap());
        policies.push(trainer.learner().get().clone());
    }
    (reports, policies)
}

#[test]
fn without_staleness_nothing_changes_to_the_bit() {
    let data = data();
    let mut plain = trainer(&data, guided());
    let reports: Vec<StepReport> = plain.steps(6).map(Result::unwrap).collect();
    let mut own = stale(&data, guided(), by(0, StalenessCorrection::Ratio));
    let (again, policies) = run(&mut own, 6);
    assert_eq!(policies[6], plain.learner().get().clone());
    for (a, b) in reports.iter().zip(&again) {
        assert_eq!(
            (&a.rows, a.length, a.update.loss),
            (&b.rows, b.length, b.update.loss)
        );
        assert_eq!(b.row().get("staleness"), None);
    }
}

#[test]
fn batches_are_sampled_by_the_weights_of_that_many_steps_before() {
    for depth in [1, 2, 3] {
        let data = data();
        let mut trainer = stale(&data, guided(), by(depth, StalenessCorrection::Ratio));
        let (reports, policies) = run(&mut trainer, 8);
        assert_ne!(policies[0], policies[8], "nothing was learned");
        let mut largest = 0.0_f64;
        for (k, report) in reports.iter().enumerate() {
            let old = k.saturating_sub(depth as usize);
            assert_eq!(report.key.step, k as u64);
            assert_eq!(report.staleness.steps, (k - old) as u64);
            let expected = logps(&policies[old], report);
            for (a, b) in expected.iter().zip(sampled(report)) {
                assert!((a - b).abs() < 1e-6, "step {k}: {a} {b}");
            }
            // What is reported of the distance, by hand: this method's KL term scores every row.
            let now = logps(&policies[k], report);
            let distances = now.iter().zip(sampled(report)).map(|(a, b)| (a - b).abs());
            let by_hand = distances.sum::<f64>() / now.len() as f64;
            let row = report.row();
            let reported = row.get("mismatch/logp_difference").unwrap();
            assert!(
                (reported - by_hand).abs() < 1e-9,
                "step {k}: {reported} {by_hand}"
            );
            assert!(
                row.get("mismatch/kl").unwrap() >= -1e-9 && row.get("mismatch/ess").unwrap() <= 1.0
            );
            largest = largest.max(reported);
        }
        assert!(largest > 1e-3, "the policies never differed");
        // The controller has seen every step before, in order.
        let mut plain = stale(&data, guided(), by(0, StalenessCorrection::Ratio));
        assert_eq!(plain.step().unwrap().length, reports[0].length);
        assert!(reports.windows(2).any(|two| two[0].length != two[1].length));
    }
}

#[test]
fn a_run_ahead_repeats_to_the_bit() {
    let twice = || {
        let data = data();
        let mut trainer = stale(&data, guided(), by(1, StalenessCorrection::Tis));
        let (reports, policies) = run(&mut trainer, 6);
        (
            reports.into_iter().map(|r| r.rows).collect::<Vec<_>>(),
            policies,
        )
    };
    assert_eq!(twice(), twice());
}

#[test]
fn every_correction_does_what_it_is_named_for() {
    let steps = |correction| {
        let data = data();
        let narrow = guided().set("epsilon", 0.01).unwrap();
        let mut trainer = stale(&data, narrow, by(2, correction));
        run(&mut trainer, 8).0
    };
    let last = |reports: &[StepReport], name: &str| {
        let values = reports.iter().skip(2).filter_map(|r| r.row().get(name));
        values.fold(None, |most: Option<f64>, v| {
            Some(most.map_or(v, |m| m.max(v)))
        })
    };
    let ratio = steps(StalenessCorrection::Ratio);
    // Ratios against the sampler, as they are before they are clipped.
    assert!(last(&ratio, "ratio/max").unwrap() > 1.2);
    assert_eq!(last(&ratio, "sampling/importance_sampling_ratio/max"), None);
    for (correction, most) in [
        (StalenessCorrection::Tis, 2.0),
        (StalenessCorrection::Decoupled, 5.0),
    ] {
        let reports = steps(correction);
        // One update: against the policy before it the ratio is 1.
        assert_eq!(last(&reports, "ratio/max"), Some(1.0), "{correction}");
        let weight = last(&reports, "sampling/importance_sampling_ratio/max").unwrap();
        assert!(weight > 1.1 && weight <= most, "{correction}: {weight}");
    }
    let dppo = steps(StalenessCorrection::Dppo);
    assert!(last(&dppo, "dppo/masked_ratio").unwrap() > 0.0);
}

/// Guided tokens have the ratio 1 whatever they were under the older policy: with all guidance in the loss, the ratios of a batch
/// are those of its own tokens.
#[test]
fn guided_prefixes_carry_no_ratio() {
    let data = data();
    let mut trainer = stale(&data, guided(), by(2, StalenessCorrection::Ratio));
    trainer.end_at(6);
    // A KL term scores every row.
    let all = trainer.method().loss.needs_reference();
    let mut seen = 0;
    for k in 0..6 {
        let before = trainer.learner().get().clone();
        let report = trainer.step().unwrap();
        let scored: Vec<usize> = (0..report.rows.len())
            .filter(|&row| all || report.advantages.advantages[row] != 0.0)
            .collect();
        let batch = &report.rows.batch;
        let sequences = batch.sequences.select(&scored);
        let now =
            (before.clone()).token_logps(&sequences, WhichPolicy::Current, &Scoring::default());
        let now = now.unwrap().logp;
        let (roles, old) = (
            batch.roles.select(&scored),
            batch.logp_sampling.select(&scored),
        );
        let (mut sum, mut n, mut guided) = (0.0, 0.0, 0);
        for ((role, now), old) in roles.values().iter().zip(now.values()).zip(old.values()) {
            sum += if *role == Role::Own {
                (now - old).exp()
            } else {
                1.0
            };
            n += 1.0;
            guided += usize::from(*role == Role::Guidance);
        }
        if let Some(mean) = report.row().get("ratio") {
            assert!(
                (mean - sum / n).abs() < 1e-6,
                "step {k}: {mean} {}",
                sum / n
            );
            seen += guided;
        }
    }
    assert!(seen > 0);
}

/// What a learner's checkpoint would hold: the policy after four steps of the same run.
fn first_policy(json: &str) -> TabularPolicy {
    let data = data();
    let mut trainer = stale(&data, guided(), by(2, StalenessCorrection::Ratio));
    for _ in 0..4 {
        trainer.step().unwrap();
    }
    assert_eq!(serde_json::to_string(&trainer.state()).unwrap(), json);
    trainer.learner().get().clone()
}

#[test]
fn a_resumed_run_discards_what_was_in_flight_and_says_so() {
    let data = data();
    let whole = || stale(&data, guided(), by(2, StalenessCorrection::Ratio));
    let mut first = whole();
    for _ in 0..4 {
        first.step().unwrap();
    }
    let state = first.state();
    assert_eq!((state.step, state.discarded), (4, 2));
    let json = serde_json::to_string(&state).unwrap();
    let resumed = || {
        let mut trainer = whole();
        let table = first_policy(&json);
        *trainer.learner().get() = table;
        trainer
            .restore(serde_json::from_str(&json).unwrap())
            .unwrap();
        trainer.sync().unwrap();
        let (reports, policies) = run(&mut trainer, 4);
        (reports, policies, trainer.state())
    };
    // The same tasks as in the run that went on, sampled anew.
    let (reports, policies, end) = resumed();
    let mut first_goes_on = first;
    let (others, _) = run(&mut first_goes_on, 4);
    for (k, (a, b)) in reports.iter().zip(&others).enumerate() {
        let tasks = |r: &StepReport| r.groups.iter().map(|g| g.task).collect::<Vec<_>>();
        assert_eq!((a.key, tasks(a)), (b.key, tasks(b)), "step {k}");
    }
    assert_eq!(reports[0].staleness.steps, 0);
    assert_eq!(reports[2].staleness.steps, 2);
    assert_eq!(reports[0].row().get("staleness/discarded"), Some(2.0));
    assert_eq!((end.step, end.discarded), (8, 2));
    let (again, same, _) = resumed();
    assert_eq!(policies, same);
    assert_eq!(again[3].rows, reports[3].rows);
}

#[test]
fn a_state_without_rollouts_in_flight_is_what_it_was() {
    let data = data();
    let mut plain = trainer(&data, guided());
    plain.step().unwrap();
    let json = serde_json::to_value(plain.state()).unwrap();
    assert!(json.get("discarded").is_none() && json.get("dropped").is_none());
    let _: RunState = serde_json::from_value(json).unwrap();
}

/// An engine that names the versions of its weights, and lags behind in some calls.
struct Versioned {
    policy: Policy,
    calls: Arc<Mutex<u64>>,
    version: fn(u64) -> u64,
}

impl RolloutEngine for Versioned {
    type Error = Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Error> {
        let mut calls = self.calls.lock().unwrap();
        let version = (self.version)(*calls);
        *calls += 1;
        let mut completions = self.policy.generate(requests, params)?;
        for completion in &mut completions {
            completion.weight_versions = Some(vec![version; completion.tokens.len()]);
        }
        Ok(completions)
    }
}

#[test]
fn batches_by_weights_that_are_too_old_are_dropped_and_counted() {
    let data = data();
    let run = |version: fn(u64) -> u64| {
        let learner = policy();
        let engine = Versioned {
            policy: learner.clone(),
            calls: Arc::default(),
            version,
        };
        let calls = engine.calls.clone();
        let mut trainer =
            Trainer::new(method("grpo"), &data, engine, learner, opens, config()).unwrap();
        let reports: Result<Vec<_>, _> = (0..4).map(|_| trainer.step()).collect();
        let calls = *calls.lock().unwrap();
        (reports, calls)
    };
    // The first call is the trainer's question. The third batch is of weights that are two older.
    let (reports, calls) = run(|call| if call == 3 { 1 } else { call });
    let reports = reports.unwrap();
    let keys: Vec<u64> = reports.iter().map(|r| r.key.step).collect();
    assert_eq!((keys, calls), (vec![0, 1, 3, 4], 6));
    // Rows count steps, so that what a resumed run cuts off is what it does again.
    let steps: Vec<u64> = reports.iter().map(|r| r.row().step()).collect();
    assert_eq!(steps, [0, 1, 2, 3]);
    assert_eq!(reports[1].staleness.dropped, 0);
    assert_eq!(reports[2].row().get("staleness/dropped"), Some(1.0));
    // An engine that never gets new weights is found out.
    let (reports, _) = run(|call| if call == 1 { 9 } else { 1 });
    let error = reports.unwrap_err().to_string();
    assert!(
        error.starts_with(
            "4 batches in a row were sampled by weights more than max_staleness = 0 behind"
        ),
        "{error}"
    );
}

/// An engine whose filters keep a part of the mass; its log-probabilities are those before the filters.
struct Filtered(Policy);

impl RolloutEngine for Filtered {
    type Error = Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Error> {
        let mut completions = self.0.generate(requests, params)?;
        let kept = completions.iter_mut().flat_map(|c| &mut c.log_kept);
        kept.for_each(|kept| *kept = -0.5);
        Ok(completions)
    }
}

#[test]
fn filters_are_no_mismatch() {
    let data = data();
    let learner = policy();
    let mut method = guided();
    method.loss.importance_sampling_correction = Some(g2rpo_core::MismatchCorrection::default());
    let engine = Filtered(learner.clone());
    let mut trainer = Trainer::new(method, &data, engine, learner, opens, config()).unwrap();
    let row = trainer.step().unwrap().row();
    let weight = row.get("sampling/importance_sampling_ratio/mean").unwrap();
    assert!((weight - 1.0).abs() < 1e-6, "{weight}");
}

#[test]
fn what_cannot_run_ahead_is_refused_before_the_first_step() {
    let data = data();
    let shared = policy();
    let config = by(1, StalenessCorrection::Ratio);
    let mut trainer = Trainer::new(guided(), &data, shared.clone(), shared, opens, config).unwrap();
    let error = trainer.step().unwrap_err().to_string();
    assert!(
        error.starts_with("max_staleness = 1: the engine samples while"),
        "{error}"
    );
    for (preset, correction, words) in [
        (
            "rlsd",
            StalenessCorrection::Ratio,
            "token_advantages compare",
        ),
        ("grpo", StalenessCorrection::Tis, ""),
    ] {
        let config = by(1, correction);
        let made = Trainer::new(method(preset), &data, policy(), policy(), opens, config);
        match made {
            Ok(_) => assert!(words.is_empty(), "{preset}"),
            Err(error) => assert!(
                !words.is_empty() && error.to_string().contains(words),
                "{error}"
            ),
        }
    }
}

/// One half of a pair of whom each waits in its work for the other to be at work.
struct Meets {
    there: Sender<()>,
    other: Receiver<()>,
}

impl Meets {
    fn pair() -> (Self, Self) {
        let ((a, b), (c, d)) = (channel(), channel());
        (Self { there: a, other: d }, Self { there: c, other: b })
    }

    fn meet(&self) -> Result<(), RecvTimeoutError> {
        // The other may have ended with its last step.
        let _ = self.there.send(());
        self.other.recv_timeout(Duration::from_secs(20))
    }
}

struct MeetingEngine {
    policy: Policy,
    meets: Meets,
    calls: Arc<Mutex<u64>>,
}

impl RolloutEngine for MeetingEngine {
    type Error = Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Error> {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        // The trainer's question and the first batch come before there is anything to learn from.
        if *calls > 2 {
            self.meets.meet().expect("the learner is at work");
        }
        self.policy.generate(requests, params)
    }
}

struct MeetingLearner {
    policy: Policy,
    meets: Meets,
    updates: u64,
    last: u64,
}

impl Learner for MeetingLearner {
    type Error = Error;

    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs, Error> {
        self.policy.token_logps(sequences, policy, scoring)
    }

    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> CoreResult<TokenGrads>,
    ) -> Result<(), Error> {
        self.updates += 1;
        if self.updates < self.last {
            self.meets.meet().expect("the engine is at work");
        }
        self.policy.accumulate(sequences, scoring, loss)
    }

    fn apply(&mut self, lr: f64) -> Result<UpdateStats, Error> {
        self.policy.apply(lr)
    }
}

/// Each half of a step waits for the other to be at work: one after the other they would wait for ever.
#[test]
fn sampling_and_learning_go_on_at_the_same_time_and_no_batch_too_many_is_made() {
    const STEPS: u64 = 5;
    let data = data();
    let (engine, learner) = Meets::pair();
    let calls = Arc::default();
    let engine = MeetingEngine {
        policy: policy(),
        meets: engine,
        calls: Arc::clone(&calls),
    };
    let learner = MeetingLearner {
        policy: policy(),
        meets: learner,
        updates: 0,
        last: STEPS,
    };
    // Any answer pays that begins with an a, so that every step has something to teach.
    let pays = |answer: &str, _: &str| answer.starts_with('a');
    let config = by(1, StalenessCorrection::Ratio);
    let trainer = Trainer::new(method("grpo"), &data, engine, learner, pays, config).unwrap();
    let mut trainer = trainer.with_sync(|engine, learner| {
        let weights = learner.policy.get().clone();
        *engine.policy.get() = weights;
        Ok(())
    });
    for report in trainer.steps(STEPS) {
        assert!(report.unwrap().update.stats.is_some());
    }
    assert_eq!(*calls.lock().unwrap(), STEPS + 1);
}
