//! The loop: every piece of a step, joined.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use g2rpo_core::Learner;
use g2rpo_guidance::{
    Cutter, Detectors, Difficulty, GuidanceSource, LengthController, Method, Selector,
    StepFeedback, Trace,
};
use g2rpo_rollout::{RolloutEngine, RolloutKey, Tokenizer};
use g2rpo_verify::{Verifier, WeightedReward};

use crate::check;
use crate::data::dataset::Dataset;
use crate::data::order::TaskOrder;
use crate::error::{Error, Result};
use crate::settings::TrainerConfig;
use crate::state::RunState;
use crate::step::context::token_advantages;
use crate::step::generate::generate;
use crate::step::grade::{Judge, accepts_silence, grade};
use crate::step::group::{Group, StepKey, feedback};
use crate::step::learn::advantages;
use crate::step::plan::Planner;
use crate::step::reliance::reliance;
use crate::step::report::{Seconds, StepReport};
use crate::step::rescore::rescore;
use crate::step::rows::Rows;
use crate::step::update::update;

/// Runs a method: one call of [`step`](Self::step) is one step of docs/algorithm.md.
///
/// It holds no formula. A loop written by hand from the same pieces gives the same numbers, bit for
/// bit.
///
/// ```
/// use g2rpo_guidance::Method;
/// use g2rpo_rollout::{ByteTokenizer, SamplingParams, TabularPolicy, Task};
/// use g2rpo_train::{Dataset, LrSchedule, Trainer, TrainerConfig};
/// # use std::{cell::RefCell, rc::Rc};
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
    method: Method,
    config: TrainerConfig,
    data: &'a Dataset<'a>,
    engine: E,
    learner: L,
    verifier: Box<dyn Verifier + 'a>,
    rewards: WeightedReward,
    source: Box<dyn GuidanceSource + Send + 'a>,
    controller: Box<dyn LengthController + Send>,
    selector: Option<Box<dyn Selector + Send + 'a>>,
    cutter: Option<Box<dyn Cutter + Send + 'a>>,
    detectors: Detectors,
    order: TaskOrder,
    sync: Option<Box<Sync<'a, E, L>>>,
    /// Why the data set cannot guide as the method asks, unless a source of one's own does.
    lacks_guidance: Option<Error>,
    step: u64,
    updates: u64,
    sampled_tokens: u64,
    /// Of every task met so far, whether the verifier accepts an empty response.
    silence: BTreeMap<usize, bool>,
}

type Sync<'a, E, L> = dyn FnMut(&mut E, &mut L) -> Result<(), Box<dyn std::error::Error + Send + std::marker::Sync>>
    + 'a;

impl<E, L> fmt::Debug for Trainer<'_, E, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("method", &self.method)
            .field("config", &self.config)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl<'a, E: RolloutEngine, L: Learner> Trainer<'a, E, L> {
    /// Joins a method, tasks, an engine, a learner and a verifier.
    ///
    /// The solutions and hints of the data set are the method's guidance.
    ///
    /// # Errors
    /// In one sentence, whatever of the settings cannot be done: by the method itself, for lack of
    /// solutions or hints, by the engine, or by the learner. Both are asked for a trifle here.
    pub fn new(
        method: Method,
        data: &'a Dataset<'a>,
        engine: E,
        learner: L,
        verifier: impl Verifier + 'a,
        mut config: TrainerConfig,
    ) -> Result<Self> {
        config.update.temperature = config.sampling.temperature;
        check::settings(&method, &config)?;
        let controller = method.controller.build()?;
        let difficulty = method.difficulty.map(Difficulty::new).transpose()?;
        let order = TaskOrder::new(data.facts(), method.curriculum, difficulty, config.seed)?;
        let mut trainer = Self {
            lacks_guidance: check::guidance(&method, data).err(),
            source: method.source.build(data.written()),
            verifier: Box::new(verifier),
            rewards: WeightedReward::default(),
            detectors: Detectors::default(),
            selector: None,
            cutter: None,
            sync: None,
            step: 0,
            updates: 0,
            sampled_tokens: 0,
            silence: BTreeMap::new(),
            method,
            config,
            data,
            engine,
            learner,
            controller,
            order,
        };
        check::references(&*trainer.verifier, data)?;
        let prompt = data.prompt(0);
        check::engine(&mut trainer.engine, prompt, &trainer.config.sampling)?;
        let loss = &trainer.method.loss;
        check::learner(&mut trainer.learner, prompt, loss, &trainer.config.update)?;
        Ok(trainer)
    }

    /// Adds reward functions, paid on top of the verdict.
    #[must_use]
    pub fn with_rewards(mut self, rewards: WeightedReward) -> Self {
        self.rewards = rewards;
        self
    }

    /// Takes guidance from a source of one's own instead of the data set.
    #[must_use]
    pub fn with_source(mut self, source: impl GuidanceSource + Send + 'a) -> Self {
        self.source = Box::new(source);
        self.lacks_guidance = None;
        self
    }

    /// Lets a length controller of one's own say how much is given, instead of the method's.
    ///
    /// ```
    /// use g2rpo_guidance::{Amount, LengthController, Method, Query, Result, StepFeedback};
    /// # use g2rpo_rollout::{ByteTokenizer, Shared, TabularPolicy, Task};
    /// # use g2rpo_train::{Dataset, Trainer, TrainerConfig};
    /// /// One token more after every step.
    /// #[derive(Default)]
    /// struct Rising(u32);
    ///
    /// impl LengthController for Rising {
    ///     fn amount(&self, _: &Query, _: &mut dyn rand::Rng) -> Amount {
    ///         Amount::Tokens(self.0.into())
    ///     }
    ///     fn observe(&mut self, _: &StepFeedback) {
    ///         self.0 += 1;
    ///     }
    /// }
    /// # let tasks = vec![Task { question: "a".into(), reference: "xyz".into(), solution: Some("xyz".into()), ..Task::default() }];
    /// # let data = Dataset::with_template(tasks, &ByteTokenizer, "{question}")?;
    /// # let method = Method::preset("target", 10)?.set("max_completion_length", 3)?;
    /// # let policy = Shared::new(TabularPolicy::new(128, 4));
    /// # let same = |answer: &str, reference: &str| answer == reference;
    /// # let trainer = Trainer::new(method, &data, policy.clone(), policy, same, TrainerConfig::default())?;
    /// let mut trainer = trainer.with_controller(Rising::default());
    /// let given: Vec<f64> = trainer.steps(3).map(|r| Ok(r?.length)).collect::<g2rpo_train::Result<_>>()?;
    /// assert_eq!(given, [0.0, 1.0, 2.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_controller(mut self, controller: impl LengthController + Send + 'static) -> Self {
        self.controller = Box::new(controller);
        self
    }

    /// Lets a selector of one's own say who is guided, instead of the method's.
    ///
    /// ```
    /// use g2rpo_guidance::{GroupContext, Level, Member, Method, Played, Result, Revision, Selector};
    /// # use g2rpo_rollout::{ByteTokenizer, Shared, TabularPolicy, Task};
    /// # use g2rpo_train::{Dataset, Trainer, TrainerConfig};
    /// /// One guided member on top, where the best of the group is worth less than one.
    /// struct Rescue;
    ///
    /// impl Selector for Rescue {
    ///     fn plan(&self, group: &GroupContext, _: &mut dyn rand::Rng) -> Result<Vec<Member>> {
    ///         Ok(vec![Member::default(); group.group_size])
    ///     }
    ///     fn revise(&self, group: &GroupContext, played: &[Played], _: &mut dyn rand::Rng) -> Result<Revision> {
    ///         let done = group.round > 1 || played.iter().any(|p| p.reward >= 1.0);
    ///         let guided = Member::new(Level::Controlled);
    ///         Ok(if done { Revision::Keep } else { Revision::Append(vec![guided]) })
    ///     }
    /// }
    /// # let tasks = vec![Task { question: "a".into(), reference: "xyz".into(), solution: Some("x\ny\nz".into()), ..Task::default() }];
    /// # let data = Dataset::with_template(tasks, &ByteTokenizer, "{question}")?;
    /// # let method = Method::preset("target", 10)?.set("max_completion_length", 6)?;
    /// # let policy = Shared::new(TabularPolicy::new(128, 4));
    /// # let never = |_: &str, _: &str| false;
    /// # let trainer = Trainer::new(method, &data, policy.clone(), policy, never, TrainerConfig::default())?;
    /// let report = trainer.with_selector(Rescue).step()?;
    /// let members = &report.groups[0].plan.members;
    /// assert!(members.len() == 9 && members[8].is_guided());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_selector(mut self, selector: impl Selector + Send + 'a) -> Self {
        self.selector = Some(Box::new(selector));
        self
    }

    /// Lets a cutter of one's own say where solutions are cut, instead of the method's. The
    /// method's limits hold whatever it says.
    ///
    /// ```
    /// use g2rpo_guidance::{Amount, CutReason, Cutter, Method, Proposal, Trace};
    /// # use g2rpo_rollout::{ByteTokenizer, Shared, TabularPolicy, Task};
    /// # use g2rpo_train::{Dataset, Trainer, TrainerConfig};
    /// /// Everything before the last comma.
    /// struct LastComma;
    ///
    /// impl Cutter for LastComma {
    ///     fn propose(&self, trace: &Trace, _: Amount, _: f64) -> Proposal {
    ///         let ends = |n: &usize| trace.prefix_text(*n).is_some_and(|text| text.ends_with(','));
    ///         let len = (0..trace.len()).rev().find(ends).unwrap_or(0);
    ///         Proposal { len, requested: len as f64, reason: CutReason::Exact }
    ///     }
    /// }
    /// # let tasks = vec![Task { question: "a".into(), reference: "z".into(), solution: Some("x,y,z".into()), ..Task::default() }];
    /// # let data = Dataset::with_template(tasks, &ByteTokenizer, "{question}")?;
    /// # let method = Method::preset("target", 10)?.set("max_completion_length", 6)?;
    /// # let policy = Shared::new(TabularPolicy::new(128, 4));
    /// # let never = |_: &str, _: &str| false;
    /// # let trainer = Trainer::new(method, &data, policy.clone(), policy, never, TrainerConfig::default())?;
    /// let report = trainer.with_cutter(LastComma).step()?;
    /// assert_eq!(report.groups[0].plan.members[0].cut.len, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_cutter(mut self, cutter: impl Cutter + Send + 'a) -> Self {
        self.cutter = Some(Box::new(cutter));
        self
    }

    /// Replaces the thresholds of the detectors.
    #[must_use]
    pub fn with_detectors(mut self, detectors: Detectors) -> Self {
        self.detectors = detectors;
        self
    }

    /// Called after every step that changed parameters, for an engine that does not share them
    /// with the learner.
    #[must_use]
    pub fn with_sync(
        mut self,
        sync: impl FnMut(
            &mut E,
            &mut L,
        ) -> Result<(), Box<dyn std::error::Error + Send + std::marker::Sync>>
        + 'a,
    ) -> Self {
        self.sync = Some(Box::new(sync));
        self
    }

    /// Whether there is the guidance that the method needs. The first step asks this as well.
    ///
    /// # Errors
    /// [`Error::Config`], if the tasks have no solutions or hints by the authors of `source.order`
    /// and there is no other [source](Self::with_source); [`Error::Guidance`], if a
    /// [selector](Self::with_selector) refuses groups of `num_generations`.
    pub fn check(&mut self) -> Result<()> {
        if let Some(selector) = &self.selector {
            selector.check(self.method.num_generations)?;
        }
        self.lacks_guidance.take().map_or(Ok(()), Err)
    }

    /// One training step.
    ///
    /// # Errors
    /// The engine's, the verifier's, the learner's. A step in which nothing can be learned is no
    /// error: its report says so.
    pub fn step(&mut self) -> Result<StepReport> {
        self.check()?;
        let rolled = self.roll()?;
        self.learn(rolled)
    }

    /// The reports of `n` steps, as they are made.
    pub fn steps(&mut self, n: u64) -> impl Iterator<Item = Result<StepReport>> {
        (0..n).map(|_| self.step())
    }

    /// The first half of a step: tasks, guidance, rollouts, verdicts, and all of that again for
    /// members that the selector asks for and for groups that dynamic sampling replaces.
    fn roll(&mut self) -> Result<Rolled> {
        let start = Instant::now();
        let key = StepKey {
            run: self.config.seed,
            step: self.step,
        };
        let length = self.amount();
        let wanted = self.config.prompts_per_step;
        let most = (self.method.dynamic_sampling).map_or(1, |d| d.max_num_gen_batches.max(1));
        let mut rolled = Rolled {
            key,
            length,
            groups: Vec::new(),
            replaced: Vec::new(),
            gen_batches: 0,
            tier: None,
            start,
            seconds: Seconds::default(),
        };
        while rolled.groups.len() < wanted && rolled.gen_batches < most {
            let taken: Vec<usize> = rolled.all().map(|g| g.task).collect();
            let tasks = self.order.take(wanted - rolled.groups.len(), &taken)?;
            if tasks.is_empty() {
                break;
            }
            let groups = self.groups(&tasks, taken.len() as u32, &mut rolled)?;
            rolled.gen_batches += 1;
            for group in groups {
                if self.method.dynamic_sampling.is_none() || group.has_variance() {
                    rolled.groups.push(group);
                } else {
                    rolled.replaced.push(group);
                }
            }
        }
        rolled.tier = self.order.tier();
        Ok(rolled)
    }

    /// Complete groups of the given tasks.
    fn groups(&mut self, tasks: &[usize], first: u32, rolled: &mut Rolled) -> Result<Vec<Group>> {
        let mut parts = self.method.parts(&*self.controller, None);
        if let Some(selector) = &self.selector {
            parts.selector = &**selector;
        }
        if let Some(cutter) = &self.cutter {
            parts.cutter = &**cutter;
        }
        let planner = Planner {
            data: self.data,
            source: &*self.source,
            parts,
            num_generations: self.method.num_generations,
            verifier: self.config.verify_prefixes.then_some(&*self.verifier as _),
            key: rolled.key,
        };
        let judge = Judge {
            verifier: &*self.verifier,
            rewards: &self.rewards,
        };
        let mut groups = planner.plan(tasks, first)?;
        loop {
            let clock = Instant::now();
            let (method, sampling) = (&self.method, &self.config.sampling);
            generate(
                &mut self.engine,
                &mut groups,
                self.data,
                method,
                sampling,
                rolled.key,
            )?;
            rolled.seconds.generate += clock.elapsed().as_secs_f64();
            let clock = Instant::now();
            grade(&mut groups, self.data, &judge, method)?;
            rolled.seconds.grade += clock.elapsed().as_secs_f64();
            if !planner.revise(&mut groups)? {
                return Ok(groups);
            }
        }
    }

    /// Tasks of the step that an empty response solves. The verifier is asked once for each task.
    fn silence_accepted(&mut self, rolled: &Rolled) -> Result<u64> {
        let tasks: BTreeSet<usize> = rolled.all().map(|g| g.task).collect();
        let new: Vec<usize> = (tasks.iter().copied())
            .filter(|task| !self.silence.contains_key(task))
            .collect();
        let accepted = accepts_silence(self.data, &*self.verifier, &new)?;
        self.silence.extend(new.into_iter().zip(accepted));
        Ok(tasks.iter().filter(|&task| self.silence[task]).count() as u64)
    }

    /// The second half of a step: advantages, the update, and what everybody learns from it.
    fn learn(&mut self, rolled: Rolled) -> Result<StepReport> {
        let silence_accepted = Some(self.silence_accepted(&rolled)?);
        let clock = Instant::now();
        let (method, config) = (&self.method, &self.config.update);
        let groups = &rolled.groups;
        let rows = Rows::of(groups, self.data, method.score_context)?;
        let (loss, context) = (&method.loss, method.score_context);
        let mut streams = rescore(&mut self.learner, groups, &rows, loss, context, config)?;
        let advantages = advantages(&rows, &streams, method)?;
        streams.advantages.clone_from(&advantages.advantages);
        let learner = &mut self.learner;
        let streams = token_advantages(learner, groups, &rows, streams, self.data, method, config)?;
        let hint_reliance = reliance(&mut self.learner, groups, &rows, self.data, config)?;
        let parts: Vec<usize> = rows.members.iter().map(|(g, _)| *g).collect();
        let first = self.updates;
        let lr = |i| self.config.schedule.lr(first + i);
        let sequences = &rows.batch.sequences;
        let done = update(
            &mut self.learner,
            sequences,
            &streams,
            &parts,
            loss,
            config,
            lr,
        )?;
        self.updates += done.n_updates;
        if let (Some(sync), true) = (&mut self.sync, done.stats.is_some()) {
            sync(&mut self.engine, &mut self.learner).map_err(Error::Sync)?;
        }
        let mut seconds = rolled.seconds;
        seconds.learn = clock.elapsed().as_secs_f64();

        let feedback = feedback(rolled.all(), rolled.key.step);
        let steering = self.controller.steering();
        self.observe(&rolled, &feedback);
        seconds.step = rolled.start.elapsed().as_secs_f64();
        let mut report = StepReport {
            key: rolled.key,
            groups: rolled.groups,
            replaced: rolled.replaced,
            gen_batches: rolled.gen_batches,
            rows,
            advantages,
            update: done,
            feedback,
            length: rolled.length,
            steering,
            guided_expected: match &self.selector {
                Some(selector) => selector.chosen_of(self.method.num_generations),
                None => self.method.selector.chosen_of(self.method.num_generations),
            },
            tier: rolled.tier,
            epoch: self.order.epoch(),
            reward_names: self.rewards.names().map(str::to_owned).collect(),
            stop_ids: self.config.sampling.stop_token_ids.clone(),
            silence_accepted,
            hint_reliance,
            warnings: Vec::new(),
            seconds,
        };
        self.sampled_tokens += report.sampled_tokens() as u64;
        let stats = report.stats(self.data, self.method.placement);
        report.warnings = self.detectors.observe(&stats);
        self.step += 1;
        Ok(report)
    }

    /// Controller, curriculum and source learn from the step.
    fn observe(&mut self, rolled: &Rolled, feedback: &StepFeedback) {
        self.controller.observe(feedback);
        self.order.observe(feedback);
        if !self.method.source.learns() {
            return;
        }
        for group in rolled.all() {
            for member in group.members() {
                if !member.plan.is_guided() && member.grade.verdict.is_correct() {
                    let own = &member.rollout.completion.tokens;
                    let ended = (own.last())
                        .is_some_and(|id| self.config.sampling.stop_token_ids.contains(id));
                    let ids = &own[..own.len() - usize::from(ended)];
                    if let Some(trace) = own_trace(ids, self.data.tokenizer()) {
                        self.source.offer(group.example, trace);
                    }
                }
            }
        }
    }

    /// The amount that the controller gives now to a task of no known length.
    fn amount(&self) -> f64 {
        let query = g2rpo_guidance::Query {
            step: self.step,
            ..g2rpo_guidance::Query::default()
        };
        let mut rng = RolloutKey::default().rng(g2rpo_rollout::Purpose::Guidance);
        self.controller.amount(&query, &mut rng).value()
    }

    /// What the run has to remember beside the learner to go on exactly.
    pub fn state(&self) -> RunState {
        RunState {
            seed: self.config.seed,
            step: self.step,
            updates: self.updates,
            sampled_tokens: self.sampled_tokens,
            order: self.order.state(),
            controller: self.controller.state(),
            source: self.source.state(),
            detectors: self.detectors.clone(),
        }
    }

    /// Goes on from a state. The learner's own is restored by the learner.
    ///
    /// # Errors
    /// [`Error::Config`] for a run of another seed, [`Error::Guidance`] for a state of another
    /// method.
    pub fn restore(&mut self, state: RunState) -> Result<()> {
        if state.seed != self.config.seed {
            return Err(Error::Config {
                name: "seed",
                value: self.config.seed.to_string(),
                problem: format!("the run to go on with has the seed {}", state.seed),
            });
        }
        self.controller.restore(state.controller)?;
        self.source.restore(state.source)?;
        self.order.restore(state.order)?;
        self.detectors = state.detectors;
        (self.step, self.updates) = (state.step, state.updates);
        self.sampled_tokens = state.sampled_tokens;
        Ok(())
    }

    /// The next step, counted from 0.
    pub fn next_step(&self) -> u64 {
        self.step
    }

    /// Tokens sampled so far.
    pub fn sampled_tokens(&self) -> u64 {
        self.sampled_tokens
    }

    /// The method that runs.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The tasks that are trained on.
    pub fn data(&self) -> &'a Dataset<'a> {
        self.data
    }

    /// What grades.
    pub fn verifier(&self) -> &dyn Verifier {
        &*self.verifier
    }

    /// What samples.
    pub fn engine(&mut self) -> &mut E {
        &mut self.engine
    }

    /// What learns.
    pub fn learner(&mut self) -> &mut L {
        &mut self.learner
    }
}

/// The groups of a step before it is learned from.
struct Rolled {
    key: StepKey,
    length: f64,
    groups: Vec<Group>,
    replaced: Vec<Group>,
    gen_batches: usize,
    tier: Option<usize>,
    start: Instant,
    seconds: Seconds,
}

impl Rolled {
    fn all(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(&self.replaced)
    }
}

/// A completion of the policy as a trace. Its text is known if it encodes to the same ids.
fn own_trace(ids: &[u32], tokenizer: &dyn Tokenizer) -> Option<Trace> {
    if ids.is_empty() {
        return None;
    }
    let encoded = (tokenizer.decode(ids)).and_then(|text| Ok((tokenizer.encode(&text)?, text)));
    match encoded {
        Ok((encoded, text)) if encoded.ids == ids => {
            let offsets: Vec<_> = encoded.offsets.iter().map(|r| (r.start, r.end)).collect();
            Trace::from_offsets(encoded.ids, text, &offsets).ok()
        }
        _ => Some(Trace::from_tokens(ids.to_vec())),
    }
}
