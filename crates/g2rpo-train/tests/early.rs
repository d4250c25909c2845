//! Verdicts while others are still sampled: the same numbers as afterwards, whatever engine and verifier do.

mod common;

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::{config, data, method, opens, policy, trainer};
use g2rpo_guidance::Method;
use g2rpo_rollout::{
    Completion, Error, Finished, Request, RolloutEngine, SamplingParams, Shared, TabularPolicy,
};
use g2rpo_train::{Dataset, StepReport, Trainer, evaluate};
use g2rpo_verify::{Bounded, Fault, Outcome, Verdict, Verifier};

type Policy = Shared<TabularPolicy>;

/// Hands completions over from the last to the first, and some not at all.
struct Backwards(Policy);

impl RolloutEngine for Backwards {
    type Error = Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Error> {
        self.0.generate(requests, params)
    }

    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>, Error> {
        let completions = self.generate(requests, params)?;
        for (place, completion) in completions.iter().enumerate().rev() {
            if place % 5 != 3 {
                finished(place, completion);
            }
        }
        // Longer than a verdict takes, so that most are early.
        std::thread::sleep(Duration::from_millis(2));
        Ok(completions)
    }
}

/// Judges whole batches only.
struct Whole;

impl Verifier for Whole {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        opens(response, reference).into()
    }
}

/// Everything of a report but its times, as text: numbers print as what they are.
fn told(mut report: StepReport) -> String {
    report.seconds = Default::default();
    format!("{report:?}")
}

fn early<'a>(data: &'a Dataset<'a>, method: Method) -> Trainer<'a, Backwards, Policy> {
    let policy = policy();
    let verifier = Bounded::new(opens, Duration::from_secs(60), 3);
    Trainer::new(
        method,
        data,
        Backwards(policy.clone()),
        policy,
        verifier,
        config(),
    )
    .unwrap()
}

fn afterwards<'a>(data: &'a Dataset<'a>, method: Method) -> Trainer<'a, Policy, Policy> {
    let policy = policy();
    Trainer::new(method, data, policy.clone(), policy, Whole, config()).unwrap()
}

/// By a method that samples again in place of groups without variance, one that asks for guided members when it has seen
/// rewards, and one that learns on while it samples.
#[test]
fn steps_are_the_same_to_the_bit() {
    let data = data();
    for name in ["dapo", "hint-grpo", "g2rpo-a"] {
        let mut method = method(name);
        method.overlong = None;
        method.cutter = Method::preset("g2rpo-a", 40).unwrap().cutter;
        let (mut a, mut b) = (early(&data, method.clone()), afterwards(&data, method));
        let (mut batches, mut guided) = (0, 0);
        for step in 0..6 {
            let (a, b) = (a.step().unwrap(), b.step().unwrap());
            batches += a.gen_batches;
            let members = a.groups.iter().flat_map(|group| &group.plan.members);
            guided += members.filter(|member| member.is_guided()).count();
            let (a, b) = (told(a), told(b));
            assert!(a == b, "{name}, step {step}");
        }
        assert_eq!(batches > 6, name == "dapo", "{batches} batches");
        assert_eq!(guided > 0, name != "dapo", "{guided} guided");
        let states = [a.state(), b.state()].map(|s| serde_json::to_string(&s).unwrap());
        assert_eq!(states[0], states[1], "{name}");
        assert_eq!(*a.learner().get(), *b.learner().get(), "{name}");
    }
}

#[test]
fn a_run_that_goes_on_is_the_same_to_the_bit() {
    let data = data();
    let mut whole = early(&data, method("g2rpo-a"));
    whole.steps(2).for_each(|report| drop(report.unwrap()));
    let (state, table) = (whole.state(), whole.learner().get().clone());
    let mut resumed = early(&data, method("g2rpo-a"));
    resumed.restore(state).unwrap();
    *resumed.learner().get() = table;
    for _ in 0..3 {
        assert_eq!(told(resumed.step().unwrap()), told(whole.step().unwrap()));
    }
}

#[test]
fn evaluations_are_the_same() {
    let (data, config) = (data(), g2rpo_train::EvalConfig::default());
    let verifier = Bounded::new(opens, Duration::from_secs(60), 2);
    let early = evaluate(&mut Backwards(policy()), &data, &verifier, &config).unwrap();
    assert_eq!(
        early,
        evaluate(&mut policy(), &data, &Whole, &config).unwrap()
    );
}

/// Goes on only when the verifier has seen its first completion.
struct Waiting {
    policy: Policy,
    judged: Receiver<()>,
}

impl RolloutEngine for Waiting {
    type Error = Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Error> {
        self.policy.generate(requests, params)
    }

    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>, Error> {
        let completions = self.generate(requests, params)?;
        // The trainer's question before the first step is for nobody to judge.
        if completions.len() == 1 {
            return Ok(completions);
        }
        finished(0, &completions[0]);
        let waited = self.judged.recv_timeout(Duration::from_secs(60));
        waited.expect("a verdict while the engine is at work");
        Ok(completions)
    }
}

struct Telling(Mutex<Sender<()>>);

impl Verifier for Telling {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        // The engine waits for the first of a step alone.
        let _ = self.0.lock().unwrap().send(());
        opens(response, reference).into()
    }

    fn parallelism(&self) -> usize {
        1
    }
}

#[test]
fn verdicts_are_found_while_the_engine_is_at_work() {
    let data = data();
    let (sender, judged) = channel();
    let learner = policy();
    let engine = Waiting {
        policy: learner.clone(),
        judged,
    };
    let verifier = Telling(Mutex::new(sender));
    let mut trainer =
        Trainer::new(method("grpo"), &data, engine, learner, verifier, config()).unwrap();
    trainer.step().unwrap();
}

#[test]
fn a_verifier_that_hangs_holds_a_step_up_for_its_limit_at_most_twice() {
    const LIMIT: Duration = Duration::from_millis(500);
    const HANGS: [char; 2] = ['a', 'b'];
    let data = data();
    let hangs = |answer: &str, code: &str| {
        if answer.starts_with(HANGS) {
            std::thread::sleep(Duration::from_secs(600));
        }
        opens(answer, code)
    };
    let learner = policy();
    let verifier = Bounded::new(hangs, LIMIT, 8);
    let engine = Backwards(learner.clone());
    let trainer = Trainer::new(method("grpo"), &data, engine, learner, verifier, config());
    let began = Instant::now();
    let report = trainer.unwrap().step().unwrap();
    // Two for the answers, one more for empty ones.
    assert!(began.elapsed() < 8 * LIMIT, "{:?}", began.elapsed());
    let grades = report.groups.iter().flat_map(|group| &group.grades);
    let mut hung = 0;
    for grade in grades {
        let hangs = grade.answer.starts_with(HANGS);
        assert_eq!(grade.reward.is_none(), hangs, "{}", grade.answer);
        assert_eq!(
            grade.verdict.outcome == Outcome::Fault(Fault::Hung(LIMIT)),
            hangs
        );
        hung += usize::from(hangs);
    }
    assert!(hung > 0 && hung < 16, "{hung} of 32");
}

/// Fails, or says something else in the end, after it has handed over its completions.
struct Fickle(Policy, bool);

impl RolloutEngine for Fickle {
    type Error = Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Error> {
        self.0.generate(requests, params)
    }

    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>, Error> {
        let mut completions = self.generate(requests, params)?;
        for (place, completion) in completions.iter().enumerate() {
            finished(place, completion);
            finished(place + requests.len(), completion);
        }
        std::thread::sleep(Duration::from_millis(20));
        if self.1 && requests.len() > 1 {
            return Err(Error::Tokenizer("the engine is gone".into()));
        }
        completions.iter_mut().for_each(|c| c.tokens.reverse());
        Ok(completions)
    }
}

#[test]
fn what_the_engine_returns_counts() {
    let data = data();
    let run = |fails| {
        let learner = policy();
        let engine = Fickle(learner.clone(), fails);
        let trainer = Trainer::new(method("grpo"), &data, engine, learner, opens, config());
        trainer.unwrap().step()
    };
    assert!(
        run(true)
            .unwrap_err()
            .to_string()
            .contains("the engine is gone")
    );
    for group in run(false).unwrap().groups {
        let code = &group.item.task.reference;
        for (rollout, grade) in group.rollouts.iter().zip(&group.grades) {
            let letter = |id: &u32| char::from(b'a' + *id as u8);
            let answer: String = rollout.completion.tokens.iter().map(letter).collect();
            assert_eq!(
                (&grade.answer, grade.verdict.is_correct()),
                (&answer, answer == *code)
            );
        }
    }
}

#[test]
fn a_panic_is_a_fault_of_one_answer() {
    let data = data();
    let touchy = |answer: &str, code: &str| {
        assert!(!answer.starts_with('b'), "no {answer}");
        opens(answer, code)
    };
    let learner = policy();
    let engine = Backwards(learner.clone());
    let made = Trainer::new(method("grpo"), &data, engine, learner, touchy, config());
    let report = made.unwrap().step().unwrap();
    let grades: Vec<_> = report.groups.iter().flat_map(|g| &g.grades).collect();
    assert!(grades.iter().any(|g| g.answer.starts_with('b')));
    for grade in grades {
        let panicked = matches!(grade.verdict.outcome, Outcome::Fault(Fault::Panic(_)));
        assert_eq!(panicked, grade.answer.starts_with('b'));
    }
    // The plain trainer of these tests judges one answer at a time as well.
    assert!(trainer(&data, method("grpo")).step().is_ok());
}
