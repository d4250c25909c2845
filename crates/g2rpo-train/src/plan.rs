use std::sync::Arc;

use g2rpo_guidance::{
    Cut, ExampleId, Given, Guidance, LengthController, MemberPlan, Parts, Placement, Provenance,
    Query, StepFeedback, Trace, plan_group,
};
use g2rpo_rollout::{GroupPlan, Purpose, RolloutKey, Task, TokenId, Tokenizer};

use crate::{Error, Result, Scores};

/// A task as ids: what a policy is asked and what guidance is cut from.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Prompt ids.
    pub prompt: Vec<TokenId>,
    /// The worked solution with its text, so that cuts fall between steps.
    pub trace: Trace,
}

/// Encodes tasks once, before training. `template` holds `{question}`; the trace is encoded by
/// itself, so a guided prefix is always a prefix of the ids a supervised example would have.
///
/// # Errors
/// [`Error::Task`] with the task's index if its prompt or its solution is empty as ids, or if the
/// text cannot be encoded; [`Error::Config`] if the template lacks `{question}`.
pub fn prepare(tasks: &[Task], tokenizer: &dyn Tokenizer, template: &str) -> Result<Vec<Prepared>> {
    if !template.contains("{question}") {
        return Err(Error::Config {
            name: "prompt template",
            value: format!("{template:?}"),
            problem: "must contain {question}",
        });
    }
    let prepare_one = |(task, t): (usize, &Task)| {
        let fault = |problem: String| Error::Task { task, problem };
        let encode = |text: &str| tokenizer.encode(text).map_err(|e| fault(e.to_string()));
        let prompt = encode(&template.replace("{question}", &t.question))?.ids;
        let solution = encode(&t.solution)?;
        if prompt.is_empty() || solution.ids.is_empty() {
            return Err(fault("its prompt or its solution has no token".into()));
        }
        let offsets: Vec<_> = solution.offsets.iter().map(|r| (r.start, r.end)).collect();
        let trace = Trace::from_offsets(solution.ids, t.solution.clone(), &offsets)
            .map_err(|e| fault(e.to_string()))?;
        Ok(Prepared { prompt, trace })
    };
    tasks.iter().enumerate().map(prepare_one).collect()
}

/// What one step will generate, and why each prefix is as long as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPlan {
    /// One group per chosen task, ready for [`g2rpo_rollout::collect`].
    pub groups: Vec<GroupPlan>,
    /// The guidance of every member, group after group: the row order of
    /// [`g2rpo_rollout::pack`].
    pub members: Vec<MemberPlan>,
}

/// Plans the groups of one step: for each chosen task, who is guided, by how much, and where the
/// trace is cut. All draws are keyed by run, step and group.
///
/// # Errors
/// [`Error::Guidance`] for a fraction outside [0, 1] or a group that is too small.
///
/// # Panics
/// If an index of `chosen` is out of range, as indexing does.
pub fn plan_step(
    tasks: &[Task],
    prepared: &[Prepared],
    chosen: &[usize],
    parts: &Parts<'_>,
    num_generations: usize,
    run: u64,
    step: u64,
) -> Result<StepPlan> {
    let mut plan = StepPlan {
        groups: Vec::with_capacity(chosen.len()),
        members: Vec::new(),
    };
    for (group, &task) in chosen.iter().enumerate() {
        let key = RolloutKey {
            run,
            step,
            group: group as u32,
            member: 0,
        };
        let Prepared { prompt, trace } = &prepared[task];
        let query = Query {
            step,
            example: ExampleId(tasks[task].id),
            trace_len: trace.len(),
        };
        let mut rng = key.rng(Purpose::Guidance);
        let gold = Guidance::trace(Arc::new(trace.clone()), Provenance::Gold);
        let of_group = plan_group(parts, &query, Some(&gold), num_generations, &mut rng)?;
        let prefix = |m: &MemberPlan| {
            let given = m.given(Some(&gold), Placement::AssistantPrefix)?;
            Ok(match given {
                Given::Prefix(ids) => ids.to_vec(),
                Given::Nothing | Given::Hint(_) => Vec::new(),
            })
        };
        let prefixes: Result<_> = of_group.members.iter().map(prefix).collect();
        plan.groups.push(GroupPlan {
            task,
            prompt: prompt.clone(),
            guidance: prefixes?,
        });
        plan.members.extend(of_group.members);
    }
    Ok(plan)
}

impl StepPlan {
    /// What the controller and the detectors learn from: who was guided by how much, and what it
    /// earned. Rows without a verdict are left out.
    pub fn feedback(&self, tasks: &[Task], scores: &Scores, step: u64) -> StepFeedback {
        let mut feedback = StepFeedback::new(step);
        let of_row = (self.groups.iter()).flat_map(|g| g.guidance.iter().map(|_| g.task));
        let paid = scores.rewards.iter().zip(&scores.verdicts);
        for ((task, member), (reward, verdict)) in of_row.zip(&self.members).zip(paid) {
            if let Some(reward) = *reward {
                let record = member.record(reward, verdict.is_correct());
                feedback.record(ExampleId(tasks[task].id), &record);
            }
        }
        feedback
    }

    /// The cuts of all members.
    pub fn cuts(&self) -> impl Iterator<Item = &Cut> {
        self.members.iter().map(|m| &m.cut)
    }

    /// Mean number of guidance tokens over the members that were chosen to be guided; 0 when there
    /// are none.
    pub fn mean_guidance_tokens(&self) -> f64 {
        let guided = self.members.iter().filter(|m| m.is_chosen());
        let (sum, n) = guided.fold((0, 0), |(sum, n), m| (sum + m.cut.len, n + 1));
        sum as f64 / f64::from(n.max(1))
    }
}

/// The amount a controller would give now, for the log.
pub fn current_amount(controller: &dyn LengthController, step: u64) -> f64 {
    let mut rng = RolloutKey::default().rng(Purpose::Guidance);
    let query = Query {
        step,
        ..Query::default()
    };
    controller.amount(&query, &mut rng).value()
}
