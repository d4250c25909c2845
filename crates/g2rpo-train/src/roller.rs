//! The first half of a step, up to what controllers learn from it: it asks the engine and the verifier, and no learner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use g2rpo_guidance::{
    Cutter, GuidanceSource, LengthController, Level, Method, Query, Selector, Steering,
    StepFeedback, Trace,
};
use g2rpo_rollout::{Purpose, RolloutEngine, RolloutKey, Tokenizer};
use g2rpo_verify::{Verifier, WeightedReward};
use serde_json::Value;

use crate::data::dataset::{Dataset, Item};
use crate::data::order::{TaskOrder, TaskOrderState};
use crate::error::Result;
use crate::settings::TrainerConfig;
use crate::step::grade::{Judge, accepts_silence};
use crate::step::group::{Group, StepKey, feedback};
use crate::step::plan::Planner;
use crate::step::play::play;
use crate::step::report::Seconds;

/// What both halves of a step read.
pub(crate) struct Frame<'a> {
    pub(crate) method: Method,
    pub(crate) config: TrainerConfig,
    pub(crate) data: &'a Dataset<'a>,
}

/// Everything that makes graded rollouts, and remembers what they were like.
pub(crate) struct Roller<'a, E> {
    pub(crate) engine: E,
    pub(crate) verifier: Box<dyn Verifier + 'a>,
    pub(crate) rewards: WeightedReward,
    pub(crate) source: Box<dyn GuidanceSource + Send + 'a>,
    /// Whether it is not the method's, which may keep nothing.
    pub(crate) own_source: bool,
    pub(crate) controller: Box<dyn LengthController + Send>,
    /// In the place of the method's.
    pub(crate) selector: Option<Box<dyn Selector + Send + 'a>>,
    /// In the place of the method's.
    pub(crate) cutter: Option<Box<dyn Cutter + Send + 'a>>,
    pub(crate) order: TaskOrder,
    /// Of every task met so far, whether the verifier accepts an empty response.
    pub(crate) silence: BTreeMap<usize, bool>,
    /// Names the next batch.
    pub(crate) next: u64,
}

/// Where a [`Roller`] is.
#[derive(Debug, Clone)]
pub(crate) struct RollerState {
    pub(crate) order: TaskOrderState,
    pub(crate) controller: Value,
    pub(crate) source: Value,
}

/// The groups of a step before it is learned from.
pub(crate) struct Rolled {
    pub(crate) key: StepKey,
    pub(crate) length: f64,
    pub(crate) groups: Vec<Group>,
    pub(crate) replaced: Vec<Group>,
    pub(crate) gen_batches: usize,
    pub(crate) tier: Option<usize>,
    pub(crate) guided_expected: Option<usize>,
    pub(crate) epoch: f64,
    pub(crate) feedback: StepFeedback,
    pub(crate) steering: Option<Steering>,
    pub(crate) silence_accepted: u64,
    pub(crate) reward_names: Vec<String>,
    pub(crate) seconds: Seconds,
    /// Steps that the weights behind it had learned from.
    pub(crate) version: u64,
    /// What there was before it, for a run that goes on without it.
    pub(crate) before: RollerState,
}

impl Rolled {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(&self.replaced)
    }

    /// Oldest and newest of the versions that the engine named.
    pub(crate) fn weight_versions(&self) -> Option<(u64, u64)> {
        let rollouts = self.all().flat_map(|group| &group.rollouts);
        let versions = rollouts.filter_map(|r| r.completion.weight_versions.as_deref());
        let of_tokens = versions.flatten().copied();
        of_tokens.fold(None, |range, version| {
            let (low, high) = range.unwrap_or((version, version));
            Some((low.min(version), high.max(version)))
        })
    }
}

impl<E: RolloutEngine> Roller<'_, E> {
    /// One batch: tasks, guidance, rollouts, verdicts, and all of that again for members that the selector asks for
    /// and for groups that dynamic sampling replaces. Controller, curriculum and source then learn from it: what
    /// they need to know is decided here, whatever the learner makes of it. `version` names the engine's weights.
    /// After an error the same tasks are still to come.
    pub(crate) fn roll(&mut self, frame: &Frame<'_>, version: u64) -> Result<Rolled> {
        let before = self.order.state();
        let rolled = self.batch(frame, version);
        rolled.or_else(|error| {
            self.order.restore(before)?;
            Err(error)
        })
    }

    fn batch(&mut self, frame: &Frame<'_>, version: u64) -> Result<Rolled> {
        let key = StepKey {
            run: frame.config.seed,
            step: self.next,
        };
        let size = frame.method.num_generations;
        let mut rolled = Rolled {
            key,
            length: self.amount(),
            groups: Vec::new(),
            replaced: Vec::new(),
            gen_batches: 0,
            tier: None,
            guided_expected: match &self.selector {
                Some(selector) => selector.chosen_of(size),
                None => frame.method.selector.chosen_of(size),
            },
            epoch: 0.0,
            feedback: StepFeedback::new(key.step),
            steering: None,
            silence_accepted: 0,
            reward_names: self.rewards.names().map(str::to_owned).collect(),
            seconds: Seconds::default(),
            version,
            before: self.state(),
        };
        let wanted = frame.config.prompts_per_step;
        let most = (frame.method.dynamic_sampling).map_or(1, |d| d.max_num_gen_batches.max(1));
        while rolled.groups.len() < wanted && rolled.gen_batches < most {
            let taken: Vec<usize> = rolled.all().map(|g| g.task).collect();
            let tasks = self.order.take(wanted - rolled.groups.len(), &taken)?;
            if tasks.is_empty() {
                break;
            }
            let groups = self.groups(frame, &tasks, taken.len() as u32, &mut rolled)?;
            rolled.gen_batches += 1;
            for group in groups {
                if frame.method.dynamic_sampling.is_none()
                    || group.has_advantages(&frame.method.advantages)?
                {
                    rolled.groups.push(group);
                } else {
                    rolled.replaced.push(group);
                }
            }
        }
        if let Some(length) = given(&rolled) {
            rolled.length = length;
        }
        rolled.tier = self.order.tier();
        let clock = Instant::now();
        rolled.silence_accepted = self.silence_accepted(frame, &rolled)?;
        rolled.seconds.grade += clock.elapsed().as_secs_f64();
        rolled.feedback = feedback(rolled.all(), key.step);
        rolled.steering = self.controller.steering();
        self.observe(frame, &rolled);
        rolled.epoch = self.order.epoch();
        self.next += 1;
        Ok(rolled)
    }

    /// Complete groups of the given tasks.
    fn groups(
        &mut self,
        frame: &Frame<'_>,
        tasks: &[usize],
        first: u32,
        rolled: &mut Rolled,
    ) -> Result<Vec<Group>> {
        let (method, config, data) = (&frame.method, &frame.config, frame.data);
        let key = rolled.key;
        let mut parts = method.parts(&*self.controller, None)?;
        if let Some(selector) = &self.selector {
            parts.selector = &**selector;
        }
        if let Some(cutter) = &self.cutter {
            parts.cutter = &**cutter;
        }
        // Verdicts on prefixes are verdicts too, wherever they are asked for.
        let asked = AtomicU64::new(0);
        let of_prefixes = |response: &str, reference: &str| {
            let clock = Instant::now();
            let verdict = (*self.verifier).verify(response, reference);
            asked.fetch_add(clock.elapsed().as_nanos() as u64, Ordering::Relaxed);
            verdict
        };
        let planner = Planner {
            data,
            source: &*self.source,
            parts,
            num_generations: method.num_generations,
            verifier: config.verify_prefixes.then_some(&of_prefixes as _),
            key,
        };
        let judge = Judge {
            verifier: &*self.verifier,
            rewards: &self.rewards,
        };
        let mut groups = planner.plan(tasks, first)?;
        loop {
            let (engine, sampling) = (&mut self.engine, &config.sampling);
            let spent = play(engine, &mut groups, data, &judge, method, sampling, key)?;
            rolled.seconds.generate += spent.generate;
            rolled.seconds.grade += spent.grade;
            if !planner.revise(&mut groups)? {
                rolled.seconds.grade += asked.load(Ordering::Relaxed) as f64 * 1e-9;
                return Ok(groups);
            }
        }
    }

    /// Tasks of the step that an empty response solves. The verifier is asked once for each task.
    fn silence_accepted(&mut self, frame: &Frame<'_>, rolled: &Rolled) -> Result<u64> {
        let tasks: BTreeMap<usize, &Arc<Item>> = rolled.all().map(|g| (g.task, &g.item)).collect();
        let (new, items): (Vec<usize>, Vec<Arc<Item>>) = (tasks.iter())
            .filter(|(task, _)| !self.silence.contains_key(task))
            .map(|(task, item)| (*task, Arc::clone(item)))
            .unzip();
        let accepted = accepts_silence(frame.data, &*self.verifier, items)?;
        self.silence.extend(new.into_iter().zip(accepted));
        Ok(tasks.keys().filter(|&task| self.silence[task]).count() as u64)
    }

    /// Controller, curriculum and source learn from a batch.
    fn observe(&mut self, frame: &Frame<'_>, rolled: &Rolled) {
        self.controller.observe(&rolled.feedback);
        self.order.observe(&rolled.feedback);
        if !self.own_source && !frame.method.source.learns() {
            return;
        }
        for group in rolled.all() {
            for member in group.members() {
                if !member.plan.is_guided() && member.grade.verdict.is_correct() {
                    let own = &member.rollout.completion.tokens;
                    let ends = &frame.config.sampling.stop_token_ids;
                    let ended = own.last().is_some_and(|id| ends.contains(id));
                    let ids = &own[..own.len() - usize::from(ended)];
                    if let Some(trace) = own_trace(ids, frame.data.tokenizer()) {
                        self.source.offer(group.example, trace);
                    }
                }
            }
        }
    }

    /// The amount that the controller gives now to a task of no known length.
    fn amount(&self) -> f64 {
        let query = Query {
            step: self.next,
            ..Query::default()
        };
        let mut rng = RolloutKey::default().rng(Purpose::Guidance);
        self.controller.amount(&query, &mut rng).value()
    }
}

/// Mean amount of the members that were chosen to be guided by one; where all have the same, that.
fn given(rolled: &Rolled) -> Option<f64> {
    let plans = rolled.all().flat_map(|group| &group.plan.members);
    let chosen = plans.filter(|m| m.is_chosen() && !matches!(m.member.level, Level::Hint(_)));
    let amounts: Vec<f64> = chosen.map(|m| m.amount.value()).collect();
    let first = *amounts.first()?;
    if amounts.iter().all(|amount| *amount == first) {
        return Some(first);
    }
    Some(amounts.iter().sum::<f64>() / amounts.len() as f64)
}

impl<E> Roller<'_, E> {
    pub(crate) fn state(&self) -> RollerState {
        RollerState {
            order: self.order.state(),
            controller: self.controller.state(),
            source: self.source.state(),
        }
    }

    /// All of it, or nothing.
    pub(crate) fn restore(&mut self, state: RollerState) -> Result<()> {
        let before = self.state();
        self.take_up(state).or_else(|error| {
            self.take_up(before)?;
            Err(error)
        })
    }

    fn take_up(&mut self, state: RollerState) -> Result<()> {
        self.controller.restore(state.controller)?;
        self.source.restore(state.source)?;
        self.order.restore(state.order)
    }
}

/// A completion of the policy as a trace with its text, which need not be what the tokenizer would encode to these ids.
fn own_trace(ids: &[u32], tokenizer: &dyn Tokenizer) -> Option<Trace> {
    if ids.is_empty() {
        return None;
    }
    let text = tokenizer.decode(ids).ok()?;
    let offsets: Vec<_> = match tokenizer.encode(&text) {
        Ok(encoded) if encoded.ids == ids => {
            (encoded.offsets.iter()).map(|r| (r.start, r.end)).collect()
        }
        _ => offsets_by_prefixes(ids, &text, tokenizer)?,
    };
    Trace::from_offsets(ids.to_vec(), text, &offsets).ok()
}

/// Where tokens end, by the texts of the first `n` of them. Tokens that only together end where a character does share
/// one range, between which [`Trace`] does not cut.
fn offsets_by_prefixes(
    ids: &[u32],
    text: &str,
    tokenizer: &dyn Tokenizer,
) -> Option<Vec<(usize, usize)>> {
    let mut offsets = Vec::with_capacity(ids.len());
    let mut start = 0;
    for n in 1..=ids.len() {
        let prefix = tokenizer.decode(&ids[..n]).ok()?;
        if text.starts_with(&prefix) && prefix.len() >= start {
            offsets.resize(n, (start, prefix.len()));
            start = prefix.len();
        }
    }
    Some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_rollout::{Encoding, Result};

    /// 1 is "ab", 2 and 3 are the two bytes of "é", 4 is "a" and 5 is "b"; it writes "ab" as 1.
    struct Merging;

    impl Tokenizer for Merging {
        fn encode(&self, text: &str) -> Result<Encoding> {
            Ok(Encoding {
                ids: vec![1],
                offsets: std::iter::once(0..text.len()).collect(),
            })
        }
        fn decode(&self, ids: &[u32]) -> Result<String> {
            let bytes: Vec<u8> = (ids.iter())
                .flat_map(|id| match id {
                    1 => &b"ab"[..],
                    2 => &[0xC3],
                    3 => &[0xA9],
                    4 => b"a",
                    _ => b"b",
                })
                .copied()
                .collect();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
    }

    #[test]
    fn own_tokens_that_the_tokenizer_would_not_write_keep_their_text() {
        let trace = own_trace(&[4, 5, 2, 3, 1], &Merging).unwrap();
        let prefixes: Vec<_> = (0..=5).map(|n| trace.prefix_text(n)).collect();
        let expected = ["", "a", "ab", "?", "ab\u{e9}", "ab\u{e9}ab"].map(Some);
        assert_eq!(prefixes[..3], expected[..3]);
        // Half a character is no place to cut.
        assert_eq!(prefixes[3], None);
        assert_eq!(prefixes[4..], expected[4..]);
    }
}
