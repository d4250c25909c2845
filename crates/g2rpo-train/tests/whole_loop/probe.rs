//! A policy that notes what the loop asks of it, and tasks whose difficulty a script decides.

use std::sync::{Arc, Mutex};

use g2rpo_core::{
    Learner, Ragged, Result as CoreResult, Scoring, Sequences, TokenGrads, TokenOutputs,
    UpdateStats, WhichPolicy,
};
use g2rpo_guidance::Method;
use g2rpo_rollout::{
    ByteTokenizer, Completion, Error, Request, RolloutEngine, SamplingParams, ScriptedEngine,
    Shared, TabularPolicy, Task, TokenId,
};
use g2rpo_train::{
    Dataset, Error as TrainError, LrSchedule, RunState, StepReport, Trainer, TrainerConfig,
};
use g2rpo_verify::Verifier;

/// Every worked solution: 14 tokens of steps, then 6 that announce the answer.
pub(crate) const SOLUTION: &str = "ab\ncd\n\nef\ngh\n\n#### 7";
/// Tokens of a solution before its answer: what may be given of it.
pub(crate) const GIVEABLE: usize = 14;
/// Tokens of a completion, of which guidance takes its part.
pub(crate) const MAX_LEN: usize = 24;
/// Ids are ASCII bytes.
pub(crate) const VOCAB: usize = 128;

/// Four tasks, the first the hardest.
pub(crate) fn tasks() -> Vec<Task> {
    let task = |id: u64| Task {
        id,
        question: format!("Q{id}"),
        reference: "7".into(),
        solution: Some(SOLUTION.into()),
        hints: (0..12).map(|i| format!("hint {i}")).collect(),
        difficulty: Some(10.0 - id as f64),
        // The last is the hardest by this.
        pass_rate: Some(1.0 - 0.25 * id as f64),
    };
    (0..4).map(task).collect()
}

pub(crate) fn dataset(tasks: Vec<Task>) -> Dataset<'static> {
    Dataset::with_template(tasks, &ByteTokenizer, "{question}").unwrap()
}

/// What a request gives away: its task and how much help it holds.
pub(crate) struct Asked {
    pub(crate) task: usize,
    pub(crate) member: u32,
    pub(crate) step: u64,
    /// Tokens of a prefix or of a text in the prompt; hint `i` counts as `5 · (i + 1)`.
    pub(crate) help: usize,
}

impl Asked {
    pub(crate) fn of(request: &Request) -> Self {
        let prompt: String = request
            .prompt
            .iter()
            .map(|&id| char::from(id as u8))
            .collect();
        let hint = prompt
            .split_once("begins like this:\n")
            .map_or("", |(_, hint)| hint);
        let help = match hint.strip_prefix("hint ") {
            Some(number) => 5 * (number.parse::<usize>().unwrap() + 1),
            None => hint.len(),
        };
        Self {
            task: prompt[1..2].parse().unwrap(),
            member: request.key.member,
            // The trainer's first question is of a step that never comes.
            step: request.key.step % (u64::MAX - 1),
            help: help + request.guidance.len(),
        }
    }
}

/// What a member writes: its name, so that completions differ, and whether it is right.
pub(crate) fn writes(member: u32, right: bool) -> Vec<TokenId> {
    let name = b'A' + (member % 26) as u8;
    let word = if right { b"ok!" } else { b"no." };
    [name]
        .iter()
        .chain(word)
        .map(|&byte| u32::from(byte))
        .collect()
}

/// Whether an answer is right: a rule that looks at what the script wrote.
pub(crate) fn is_right(answer: &str, _: &str) -> bool {
    answer.contains('!')
}

pub(crate) type Script = Arc<dyn Fn(&Asked) -> Vec<TokenId> + Send + Sync>;

/// Everything the loop asked for in a step.
#[derive(Default, Clone)]
pub(crate) struct Log {
    /// The engine's calls.
    pub(crate) calls: Vec<Vec<Request>>,
    /// Passes without gradient.
    pub(crate) scored: Vec<Scored>,
    /// Passes with gradient.
    pub(crate) taught: Vec<Taught>,
}

/// A pass without gradient and what came of it.
#[derive(Clone)]
pub(crate) struct Scored {
    pub(crate) policy: WhichPolicy,
    pub(crate) sequences: Sequences,
    pub(crate) logp: Ragged<f64>,
}

/// A pass with gradient and what came of it.
#[derive(Clone)]
pub(crate) struct Taught {
    pub(crate) sequences: Sequences,
    pub(crate) logp: Ragged<f64>,
    pub(crate) grads: Ragged<f64>,
    pub(crate) entropy: bool,
}

/// A table that notes what it is asked; with a script it says what that says.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) policy: Shared<TabularPolicy>,
    pub(crate) script: Option<Script>,
    pub(crate) log: Arc<Mutex<Log>>,
    /// Added to the log-probabilities that the engine reports, as a sampler's rounding is.
    pub(crate) rounding: f32,
}

impl Probe {
    pub(crate) fn new(script: Option<Script>) -> Self {
        Self {
            policy: Shared::new(TabularPolicy::new(VOCAB, 64)),
            script,
            log: Arc::default(),
            rounding: 0.0,
        }
    }

    /// What was noted so far.
    pub(crate) fn take_log(&self) -> Log {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// Makes some tokens of the solutions likelier than others.
    pub(crate) fn warmed(self) -> Self {
        let prompts = tasks().into_iter().map(|t| t.question);
        let rows = prompts.map(|p| (p + SOLUTION).bytes().map(u32::from).collect::<Vec<_>>());
        let sequences = Sequences::new(Ragged::from_rows(rows), vec![2; 4]).unwrap();
        let mut policy = self.policy.clone();
        let push = |outputs: &TokenOutputs| {
            let logp = Ragged::from_rows(outputs.logp.rows().map(|row| {
                let push = |t: usize| -0.5 - (t * 7 % 5) as f64;
                (0..row.len()).map(push).collect::<Vec<_>>()
            }));
            Ok(TokenGrads {
                logp,
                entropy: None,
            })
        };
        (policy.accumulate(&sequences, &Scoring::default(), &mut { push })).unwrap();
        policy.apply(1.0).unwrap();
        self
    }
}

impl RolloutEngine for Probe {
    type Error = Error;

    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Error> {
        self.log.lock().unwrap().calls.push(requests.to_vec());
        let mut completions = match &self.script {
            None => self.policy.generate(requests, params)?,
            Some(script) => {
                let mut scripted =
                    ScriptedEngine::new(|request: &Request| script(&Asked::of(request)));
                scripted.generate(requests, params).unwrap_or_default()
            }
        };
        let logps = completions.iter_mut().flat_map(|c| &mut c.logps);
        logps
            .enumerate()
            .for_each(|(i, logp)| *logp += self.rounding * (i % 5) as f32);
        Ok(completions)
    }
}

impl Learner for Probe {
    type Error = Error;

    fn token_logps(
        &mut self,
        sequences: &Sequences,
        policy: WhichPolicy,
        scoring: &Scoring,
    ) -> Result<TokenOutputs, Error> {
        let outputs = self.policy.token_logps(sequences, policy, scoring)?;
        self.log.lock().unwrap().scored.push(Scored {
            policy,
            sequences: sequences.clone(),
            logp: outputs.logp.clone(),
        });
        Ok(outputs)
    }

    fn accumulate(
        &mut self,
        sequences: &Sequences,
        scoring: &Scoring,
        loss: &mut dyn FnMut(&TokenOutputs) -> CoreResult<TokenGrads>,
    ) -> Result<(), Error> {
        let log = Arc::clone(&self.log);
        self.policy.accumulate(sequences, scoring, &mut |outputs| {
            let grads = loss(outputs)?;
            log.lock().unwrap().taught.push(Taught {
                sequences: sequences.clone(),
                logp: outputs.logp.clone(),
                grads: grads.logp.clone(),
                entropy: scoring.entropy,
            });
            Ok(grads)
        })
    }

    fn apply(&mut self, lr: f64) -> Result<UpdateStats, Error> {
        self.policy.apply(lr)
    }
}

/// All tasks in every step, at a rate that a table bears.
pub(crate) fn config() -> TrainerConfig {
    TrainerConfig {
        seed: 5,
        prompts_per_step: 4,
        schedule: LrSchedule::constant(1.0),
        ..TrainerConfig::default()
    }
}

/// A finished run.
pub(crate) struct Run {
    pub(crate) reports: Vec<StepReport>,
    pub(crate) logs: Vec<Log>,
    pub(crate) state: RunState,
    pub(crate) table: TabularPolicy,
}

pub(crate) type ProbeTrainer<'a> = Trainer<'a, Probe, Probe>;

/// `n` steps of a method.
pub(crate) fn run(
    method: &Method,
    data: &Dataset<'_>,
    probe: &Probe,
    verifier: impl Verifier,
    n: usize,
) -> Result<Run, TrainError> {
    run_with(method, data, probe, verifier, config(), n, |trainer| {
        trainer
    })
}

/// `n` steps of a method, with more to say about the trainer.
pub(crate) fn run_with<'a>(
    method: &Method,
    data: &'a Dataset<'a>,
    probe: &Probe,
    verifier: impl Verifier + 'a,
    config: TrainerConfig,
    n: usize,
    more: impl FnOnce(ProbeTrainer<'a>) -> ProbeTrainer<'a>,
) -> Result<Run, TrainError> {
    let (engine, learner) = (probe.clone(), probe.clone());
    let trainer = Trainer::new(method.clone(), data, engine, learner, verifier, config)?;
    let mut trainer = more(trainer);
    let (mut reports, mut logs) = (Vec::new(), Vec::new());
    probe.take_log();
    for _ in 0..n {
        reports.push(trainer.step()?);
        logs.push(probe.take_log());
    }
    Ok(Run {
        reports,
        logs,
        state: trainer.state(),
        table: probe.policy.get().clone(),
    })
}
