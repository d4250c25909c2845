//! What a trainer takes in place of its method's own parts, or beside them.

use g2rpo_core::Learner;
use g2rpo_guidance::{Cutter, Detectors, GuidanceSource, LengthController, Selector};
use g2rpo_rollout::RolloutEngine;
use g2rpo_verify::WeightedReward;

use super::Trainer;

impl<'a, E: RolloutEngine + Send, L: Learner> Trainer<'a, E, L> {
    /// Adds reward functions, paid on top of the verdict.
    #[must_use]
    pub fn with_rewards(mut self, rewards: WeightedReward) -> Self {
        self.roller.rewards = rewards;
        self
    }

    /// Takes guidance from a source of one's own instead of the data set. It is
    /// [offered](GuidanceSource::offer) the own successes of every step.
    #[must_use]
    pub fn with_source(mut self, source: impl GuidanceSource + Send + 'a) -> Self {
        self.roller.source = Box::new(source);
        self.roller.own_source = true;
        self.seeks_guidance = false;
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
        self.roller.controller = Box::new(controller);
        self
    }

    /// Lets a selector of one's own say who is guided, instead of the method's. What it will ask for
    /// is not known beforehand, so nothing is asked of the data set: members that it chooses where
    /// there is no guidance get none, and their cut says so.
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
        self.seeks_guidance = false;
        self.roller.selector = Some(Box::new(selector));
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
        self.roller.cutter = Some(Box::new(cutter));
        self
    }

    /// Replaces the thresholds of the detectors.
    #[must_use]
    pub fn with_detectors(mut self, detectors: Detectors) -> Self {
        self.pupil.detectors = detectors;
        self
    }

    /// Called after every step that changed parameters, for an engine that does not share them
    /// with the learner. With rollouts ahead of the learner the engine must not: it samples while they change.
    #[must_use]
    pub fn with_sync(
        mut self,
        sync: impl FnMut(&mut E, &mut L) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a,
    ) -> Self {
        self.sync = Some(Box::new(sync));
        self
    }
}
