//! First and fourth of a step: who is guided, by how much, cut where; and, once rewards are known,
//! whether that was enough.

use g2rpo_guidance::{
    Caps, ExampleId, GuidanceSource, Next, Parts, Query, Trace, plan_group, revise_group,
};
use g2rpo_verify::{Verdict, Verifier, verify_parallel};

use crate::data::dataset::Dataset;
use crate::error::Result;
use crate::step::group::{Group, StepKey};

/// Plans the groups of one step, and plans again when the selector has seen rewards.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    /// Tasks and prompts.
    pub data: &'a Dataset<'a>,
    /// Where guidance comes from.
    pub source: &'a dyn GuidanceSource,
    /// Selector, controller, cutter, placement and caps.
    pub parts: Parts<'a>,
    /// G, the members of a group.
    pub num_generations: usize,
    /// Asked whether a prefix would pass by itself; none does then.
    pub verifier: Option<&'a dyn Verifier>,
    /// Names the step's draws.
    pub key: StepKey,
}

impl std::fmt::Debug for Planner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner")
            .field("parts", &self.parts)
            .field("num_generations", &self.num_generations)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Planner<'_> {
    /// Plans one group for each of `tasks`; the draws of the first are named by `first`, which is 0
    /// unless groups of the step were planned before.
    ///
    /// # Errors
    /// [`Error::Guidance`](crate::Error::Guidance) if the selector refuses the group's size, or the
    /// placement needs what the guidance lacks; as [`Dataset::item`].
    ///
    /// # Panics
    /// If a task is not one of the data set, as indexing does.
    pub fn plan(&self, tasks: &[usize], first: u32) -> Result<Vec<Group>> {
        let plan_one = |(index, &task): (u32, &usize)| {
            let item = self.data.item(task)?;
            let query = Query {
                step: self.key.step,
                example: ExampleId(item.task.id),
                trace_len: item.trace.as_ref().map_or(0, |t| t.len()),
            };
            // A draw of its own, so that a source that draws changes nothing else.
            let guidance = (self.source).guidance(&query, &mut self.key.rng(index, u32::MAX));
            let mut rng = self.key.rng(index, 0);
            let (found, size) = (guidance.as_ref(), self.num_generations);
            let plan = self.with_caps(&item.task.reference, |parts| {
                plan_group(parts, &query, found, size, &mut rng)
            })?;
            Ok(Group {
                task,
                item,
                example: query.example,
                index,
                guidance,
                plan,
                rollouts: Vec::new(),
                grades: Vec::new(),
                trained: None,
            })
        };
        (first..).zip(tasks).map(plan_one).collect()
    }

    /// Asks the selector about every group that it has not finished. Returns whether it planned
    /// more members: generate and grade them, and ask again.
    ///
    /// A member that could not be graded counts as a failure here.
    ///
    /// # Errors
    /// [`Error::Guidance`](crate::Error::Guidance): the selector's.
    pub fn revise(&self, groups: &mut [Group]) -> Result<bool> {
        let mut more = false;
        for group in groups.iter_mut().filter(|g| g.trained.is_none()) {
            let scores: Vec<(f64, bool)> = (group.grades.iter())
                .map(|g| (g.reward.unwrap_or(0.0), g.verdict.is_correct()))
                .collect();
            let round = group.plan.group.round as u32 + 1;
            let mut rng = self.key.rng(group.index, round);
            let guidance = group.guidance.as_ref();
            let plan = &mut group.plan;
            let next = self.with_caps(&group.item.task.reference, |parts| {
                revise_group(parts, plan, guidance, &scores, &mut rng)
            })?;
            match next {
                Next::Generate(_) => more = true,
                Next::Train(members) => group.trained = Some(members),
            }
        }
        Ok(more)
    }

    /// The parts, with the verifier's word on prefixes beside this reference among the caps.
    fn with_caps<T>(&self, reference: &str, run: impl FnOnce(&Parts<'_>) -> T) -> T {
        let Some(verifier) = self.verifier else {
            return run(&self.parts);
        };
        let passes = |trace: &Trace, n: usize| {
            let prefix = trace.prefix_text(n);
            prefix.is_some_and(|text| {
                let verdicts = verify_parallel(verifier, &[(text, reference)], 1);
                verdicts.iter().all(Verdict::is_correct)
            })
        };
        run(&Parts {
            caps: Caps {
                passes: Some(&passes),
                ..self.parts.caps
            },
            ..self.parts
        })
    }
}
