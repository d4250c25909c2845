//! The loop: every piece of a step, joined.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::thread;
use std::time::Instant;

use g2rpo_core::Learner;
use g2rpo_guidance::{Detectors, Difficulty, Method, Selector};
use g2rpo_rollout::RolloutEngine;
use g2rpo_verify::{Verifier, WeightedReward};

use crate::check;
use crate::data::dataset::Dataset;
use crate::data::order::TaskOrder;
use crate::error::{Error, Result};
use crate::roller::{Frame, Rolled, Roller, RollerState};
use crate::settings::TrainerConfig;
use crate::state::RunState;
use crate::step::context::token_advantages;
use crate::step::learn::advantages;
use crate::step::reliance::reliance;
use crate::step::report::{Staleness, StepReport};
use crate::step::rescore::rescore;
use crate::step::rows::Rows;
use crate::step::update::{UpdateConfig, update};

mod parts;

/// Runs a method: one call of [`step`](Self::step) is one step of docs/algorithm.md.
///
/// With [`Ahead::max_staleness`](crate::Ahead) above 0 the next batch is sampled on a thread of its own while the learner
/// learns from this one.
///
/// It holds no formula. A loop written by hand from the same pieces gives the same numbers, bit for
/// bit.
///
/// ```
/// use g2rpo_guidance::Method;
/// use g2rpo_rollout::{ByteTokenizer, SamplingParams, TabularPolicy, Task};
/// use g2rpo_train::{Dataset, LrSchedule, Trainer, TrainerConfig};
/// let task = |id, question: &str, answer: &str| Task {
///     id, question: question.into(), reference: answer.into(), solution: Some(answer.into()), ..Task::default()
/// };
/// let tasks = vec![task(0, "a", "xyz"), task(1, "b", "zyx")];
/// let data = Dataset::with_template(tasks, &ByteTokenizer, "{question}")?;
/// let method = Method::preset("g2rpo-a", 10)?.set("alpha", 0.5)?.set("max_completion_length", 3)?;
/// // One table is both the engine and the learner.
/// let policy = g2rpo_rollout::Shared::new(TabularPolicy::new(128, 4));
/// let same = |answer: &str, reference: &str| answer == reference;
/// let config = TrainerConfig {
///     schedule: LrSchedule::constant(50.0),
///     ..TrainerConfig::default()
/// };
/// let mut trainer = Trainer::new(method, &data, policy.clone(), policy, same, config)?;
/// for report in trainer.steps(3) {
///     let report = report?;
///     assert_eq!(report.groups.len(), 8);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<'a, E, L> {
    frame: Frame<'a>,
    roller: Roller<'a, E>,
    pupil: Pupil<L>,
    sync: Option<Box<Sync<'a, E, L>>>,
    /// Batches that are sampled and not learned from yet, at most `max_staleness`.
    ahead: VecDeque<Result<Rolled>>,
    /// Steps after which nothing more is sampled ahead.
    end: u64,
    /// The newest weights that the engine named.
    newest: Option<u64>,
    staleness: Staleness,
    /// Whether the data set is still to be asked for the guidance of the method.
    seeks_guidance: bool,
}

type Sync<'a, E, L> = dyn FnMut(&mut E, &mut L) -> Result<(), Box<dyn std::error::Error + Send + std::marker::Sync>>
    + 'a;

/// The learner, and what is counted as it learns.
struct Pupil<L> {
    learner: L,
    detectors: Detectors,
    step: u64,
    updates: u64,
    sampled_tokens: u64,
}

/// Batches in a row that may be too old before something is wrong with the engine.
const MOST_DROPPED: u64 = 3;

impl<E, L> fmt::Debug for Trainer<'_, E, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("method", &self.frame.method)
            .field("config", &self.frame.config)
            .field("step", &self.pupil.step)
            .finish_non_exhaustive()
    }
}

impl<'a, E: RolloutEngine + Send, L: Learner> Trainer<'a, E, L> {
    /// Joins a method, tasks, an engine, a learner and a verifier.
    ///
    /// The solutions and hints of the data set are the method's guidance.
    ///
    /// # Errors
    /// In one sentence, whatever of the settings cannot be done: by the method itself, for lack of
    /// solutions or hints, by the engine, or by the learner. Both are asked for a trifle here.
    pub fn new(
        mut method: Method,
        data: &'a Dataset<'a>,
        engine: E,
        learner: L,
        verifier: impl Verifier + 'a,
        mut config: TrainerConfig,
    ) -> Result<Self> {
        let (learns, samples) = (config.update.temperature, config.sampling.temperature);
        if learns != samples && learns != UpdateConfig::default().temperature {
            let problem =
                format!("rollouts are sampled at {samples}: set the temperature of sampling alone");
            return Err(Error::config("update.temperature", learns, problem));
        }
        config.update.temperature = samples;
        config.check(&method)?;
        check::tasks(&method, config.prompts_per_step, data.len())?;
        config.ahead.prepare(&mut method, &mut config.update)?;
        let controller = method.controller.build()?;
        let difficulty = method.difficulty.map(Difficulty::new).transpose()?;
        let facts = data.facts(method.curriculum)?;
        let order = TaskOrder::new(facts, method.curriculum, difficulty, config.seed)?;
        let mut trainer = Self {
            seeks_guidance: true,
            roller: Roller {
                engine,
                verifier: Box::new(verifier),
                rewards: WeightedReward::default(),
                source: data.source(&method.source),
                own_source: false,
                controller,
                selector: None,
                cutter: None,
                order,
                silence: BTreeMap::new(),
                next: 0,
            },
            pupil: Pupil {
                learner,
                detectors: Detectors::default(),
                step: 0,
                updates: 0,
                sampled_tokens: 0,
            },
            sync: None,
            ahead: VecDeque::new(),
            end: u64::MAX,
            newest: None,
            staleness: Staleness::default(),
            frame: Frame {
                method,
                config,
                data,
            },
        };
        check::references(&*trainer.roller.verifier, data)?;
        let item = data.item(0)?;
        let (prompt, frame) = (&item.prompt[..], &trainer.frame);
        check::engine(&mut trainer.roller.engine, prompt, &frame.config.sampling)?;
        let learner = &mut trainer.pupil.learner;
        check::learner(learner, prompt, &frame.method.loss, &frame.config.update)?;
        Ok(trainer)
    }

    /// Brings the learner's weights to the engine now, by the function of [`with_sync`](Self::with_sync);
    /// before the first step and after a restored state, where the engine does not have them.
    ///
    /// # Errors
    /// [`Error::Sync`].
    pub fn sync(&mut self) -> Result<()> {
        let Some(sync) = &mut self.sync else {
            return Ok(());
        };
        sync(&mut self.roller.engine, &mut self.pupil.learner).map_err(Error::Sync)
    }

    /// Whether there is the guidance that the method needs, and, for rollouts ahead of the learner, an engine with weights
    /// of its own. The first step asks this as well.
    ///
    /// # Errors
    /// [`Error::Config`], if the tasks have no solutions or hints by the authors of `source.order`
    /// and there is no other [source](Self::with_source), or none as strong as a hint asked for; [`Error::Guidance`], if a
    /// [selector](Self::with_selector) refuses groups of `num_generations`; [`Error::Reward`], if the weight of a
    /// [reward function](Self::with_rewards) is not finite; with `max_staleness` and without [`with_sync`](Self::with_sync).
    pub fn check(&mut self) -> Result<()> {
        if self.frame.config.ahead.max_staleness > 0 && self.sync.is_none() {
            let problem = "the engine samples while the learner's weights change, so it needs weights of its own: give \
                           Trainer::with_sync what brings them to it";
            let steps = self.frame.config.ahead.max_staleness;
            return Err(Error::config("max_staleness", steps, problem));
        }
        if let Some(selector) = &self.roller.selector {
            selector.check(self.frame.method.num_generations)?;
        }
        self.roller.rewards.check()?;
        if self.seeks_guidance {
            check::guidance(&self.frame.method, self.frame.data)?;
            self.seeks_guidance = false;
        }
        Ok(())
    }

    /// Nothing is sampled ahead for steps from `step` on; [`steps`](Self::steps) sets it by itself.
    pub fn end_at(&mut self, step: u64) {
        self.end = step;
    }

    /// One training step.
    ///
    /// # Errors
    /// The engine's, the verifier's, the learner's. A step in which nothing can be learned is no
    /// error: its report says so.
    pub fn step(&mut self) -> Result<StepReport> {
        self.check()?;
        let clock = Instant::now();
        let depth = self.frame.config.ahead.max_staleness;
        // Only the first steps of a run find nothing there.
        while (self.ahead.len() as u64) < depth && self.is_wanted(0) {
            let rolled = self.roll();
            self.ahead.push_back(rolled);
        }
        let rolled = self.next_batch()?;
        let ahead = depth > 0 && self.is_wanted(1);
        let version = self.pupil.step;
        let (frame, roller, pupil) = (&self.frame, &mut self.roller, &mut self.pupil);
        let (report, next) = thread::scope(|scope| {
            let next = ahead.then(|| scope.spawn(|| roller.roll(frame, version)));
            let report = pupil.learn(frame, rolled);
            let joined = next.map(|next| {
                let join = next.join();
                join.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            (report, joined)
        });
        self.ahead.extend(next);
        let mut report = report?;
        if report.update.stats.is_some() {
            let clock = Instant::now();
            self.sync()?;
            report.seconds.learn += clock.elapsed().as_secs_f64();
        }
        report.seconds.step = clock.elapsed().as_secs_f64();
        report.staleness = Staleness {
            steps: report.staleness.steps,
            most: depth,
            ..self.staleness
        };
        Ok(report)
    }

    /// The reports of `n` steps, as they are made.
    pub fn steps(&mut self, n: u64) -> impl Iterator<Item = Result<StepReport>> {
        self.end_at(self.pupil.step + n);
        (0..n).map(|_| self.step())
    }

    /// Whether a further batch would be learned from, behind those that wait and those in hand.
    fn is_wanted(&self, in_hand: u64) -> bool {
        self.pupil.step + in_hand + (self.ahead.len() as u64) < self.end
    }

    fn roll(&mut self) -> Result<Rolled> {
        self.roller.roll(&self.frame, self.pupil.step)
    }

    /// The batch to learn from. Batches by weights that are too old are dropped and counted: the trainer's own pace never
    /// makes one, an engine that names the versions of its weights may.
    fn next_batch(&mut self) -> Result<Rolled> {
        for _ in 0..=MOST_DROPPED {
            let mut rolled = match self.ahead.pop_front() {
                Some(rolled) => rolled?,
                None => self.roll()?,
            };
            let mut behind = 0;
            if let Some((oldest, newest)) = rolled.weight_versions() {
                let newest = newest.max(self.newest.unwrap_or(newest));
                self.newest = Some(newest);
                behind = newest - oldest;
            }
            let steps = self.pupil.step.saturating_sub(rolled.version).max(behind);
            if steps <= self.frame.config.ahead.max_staleness {
                rolled.version = self.pupil.step - steps.min(self.pupil.step);
                return Ok(rolled);
            }
            self.staleness.dropped += 1;
        }
        Err(Error::Stale {
            batches: MOST_DROPPED + 1,
            max_staleness: self.frame.config.ahead.max_staleness,
        })
    }

    /// What the run has to remember beside the learner to go on. With rollouts ahead of the learner, those in flight are not
    /// part of it: the run that goes on samples them again, by its newer weights, and counts them as discarded.
    pub fn state(&self) -> RunState {
        let first = self.ahead.front().and_then(|rolled| rolled.as_ref().ok());
        let of_roller = first.map(|rolled| rolled.before.clone());
        let of_roller = of_roller.unwrap_or_else(|| self.roller.state());
        RunState {
            seed: self.frame.config.seed,
            method: serde_json::to_string(&self.frame.method).unwrap_or_default(),
            tasks: self.frame.data.len() as u64,
            questions: self.frame.data.fingerprint(),
            step: self.pupil.step,
            updates: self.pupil.updates,
            sampled_tokens: self.pupil.sampled_tokens,
            dropped: self.staleness.dropped,
            discarded: self.staleness.discarded + self.ahead.len() as u64,
            order: of_roller.order,
            controller: of_roller.controller,
            source: of_roller.source,
            detectors: self.pupil.detectors.clone(),
        }
    }

    /// Goes on from a state. The learner's own is restored by the learner; an engine with weights of its own then needs
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// [`Error::Config`] for a run of another seed, number of tasks, group size, selector, controller, source, curriculum
    /// or difficulty, [`Error::Guidance`] for a state that
    /// a controller, source or difficulty cannot take up. The trainer is unchanged then.
    pub fn restore(&mut self, state: RunState) -> Result<()> {
        let (seed, tasks) = (self.frame.config.seed, self.frame.data.len());
        if state.seed != seed {
            let problem = format!("the run to go on with has the seed {}", state.seed);
            return Err(Error::config("seed", seed, problem));
        }
        if state.tasks != tasks as u64 {
            let problem = format!("the run to go on with has {}", state.tasks);
            return Err(Error::config("tasks", tasks, problem));
        }
        if state.questions != 0 && state.questions != self.frame.data.fingerprint() {
            let problem = "the run to go on with drew from other questions, or from the same in another order";
            return Err(Error::config("tasks", tasks, problem));
        }
        self.check_method(&state.method)?;
        self.roller.restore(RollerState {
            order: state.order,
            controller: state.controller,
            source: state.source,
        })?;
        self.ahead.clear();
        self.roller.next = state.step + state.dropped;
        (self.staleness.dropped, self.staleness.discarded) = (state.dropped, state.discarded);
        self.pupil.detectors = state.detectors;
        (self.pupil.step, self.pupil.updates) = (state.step, state.updates);
        self.pupil.sampled_tokens = state.sampled_tokens;
        Ok(())
    }

    /// Whether what a run of `method` has learned is of use to this one. A loss may change on the way.
    fn check_method(&self, method: &str) -> Result<()> {
        const LEARNED_BY: [&str; 6] = [
            "num_generations",
            "selector",
            "controller",
            "source",
            "curriculum",
            "difficulty",
        ];
        if serde_json::to_string(&self.frame.method).is_ok_and(|own| own == method) {
            return Ok(());
        }
        let refused = |problem: String| Error::config("method", "another", problem);
        let other: Method = serde_json::from_str(method)
            .map_err(|e| refused(format!("that of the run to go on with cannot be read: {e}")))?;
        let differences = self.frame.method.diff(&other);
        let learned_by = |key: &str| LEARNED_BY.iter().any(|part| key.starts_with(part));
        match differences.iter().find(|(key, ..)| learned_by(key)) {
            Some((key, here, there)) => Err(refused(format!(
                "the run to go on with learned by another: {key} is {there} there and {here} here"
            ))),
            None => Ok(()),
        }
    }

    /// The next step, counted from 0.
    pub fn next_step(&self) -> u64 {
        self.pupil.step
    }

    /// Tokens sampled so far, in the steps that were learned from.
    pub fn sampled_tokens(&self) -> u64 {
        self.pupil.sampled_tokens
    }

    /// The method that runs.
    pub fn method(&self) -> &Method {
        &self.frame.method
    }

    /// The tasks that are trained on.
    pub fn data(&self) -> &'a Dataset<'a> {
        self.frame.data
    }

    /// What grades.
    pub fn verifier(&self) -> &dyn Verifier {
        &*self.roller.verifier
    }

    /// What samples.
    pub fn engine(&mut self) -> &mut E {
        &mut self.roller.engine
    }

    /// What learns.
    pub fn learner(&mut self) -> &mut L {
        &mut self.pupil.learner
    }
}

impl<L: Learner> Pupil<L> {
    /// The second half of a step: advantages, the update, and the report.
    fn learn(&mut self, frame: &Frame<'_>, rolled: Rolled) -> Result<StepReport> {
        let (method, run, data) = (&frame.method, &frame.config, frame.data);
        let clock = Instant::now();
        let config = &run.update;
        let groups = &rolled.groups;
        let rows = Rows::of(groups, method.score_context)?;
        let mut streams = rescore(&mut self.learner, groups, &rows, method, config)?;
        let advantages = advantages(&rows, &streams, method)?;
        streams.advantages.clone_from(&advantages.advantages);
        let learner = &mut self.learner;
        let streams = token_advantages(learner, groups, &rows, streams, data, method, config)?;
        let hint_reliance = reliance(&mut self.learner, groups, &rows, config)?;
        let first = self.updates;
        let lr = |i| run.schedule.lr(first + i);
        let done = update(&mut self.learner, &rows, &streams, method, config, lr)?;
        self.updates += done.n_updates;
        let mut seconds = rolled.seconds;
        seconds.learn = clock.elapsed().as_secs_f64();
        let mut report = StepReport {
            step: self.step,
            key: rolled.key,
            groups: rolled.groups,
            replaced: rolled.replaced,
            gen_batches: rolled.gen_batches,
            rows,
            advantages,
            update: done,
            feedback: rolled.feedback,
            length: rolled.length,
            steering: rolled.steering,
            guided_expected: rolled.guided_expected,
            tier: rolled.tier,
            epoch: rolled.epoch,
            reward_names: rolled.reward_names,
            stop_ids: run.sampling.stop_token_ids.clone(),
            silence_accepted: Some(rolled.silence_accepted),
            hint_reliance,
            staleness: Staleness {
                steps: self.step - rolled.version,
                ..Staleness::default()
            },
            warnings: Vec::new(),
            seconds,
        };
        self.sampled_tokens += report.sampled_tokens() as u64;
        let stats = report.stats(method.placement);
        report.warnings = self.detectors.observe(&stats);
        self.step += 1;
        Ok(report)
    }
}
