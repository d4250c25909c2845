//! Second of a step: every member that is planned and not sampled yet, in one call of the engine.

use g2rpo_guidance::{Given, HintTemplate, Method};
use g2rpo_rollout::{Request, Rollout, RolloutEngine, SamplingParams, TokenId, collect};

use crate::data::dataset::Dataset;
use crate::error::{Error, Result};
use crate::step::group::{Group, StepKey};

/// Samples the members of all groups that have no rollout yet. A prefix is spliced as ids; a hint
/// goes into the prompt of its member alone, through the method's template and the data set's.
///
/// # Errors
/// [`Error::Rollout`] with what the engine said, [`Error::Task`] for a hint that cannot be encoded.
pub fn generate<E: RolloutEngine + ?Sized>(
    engine: &mut E,
    groups: &mut [Group],
    data: &Dataset<'_>,
    method: &Method,
    sampling: &SamplingParams,
    key: StepKey,
) -> Result<()> {
    let (requests, _) = requests(groups, data, method, key)?;
    if requests.is_empty() {
        return Ok(());
    }
    take_up(groups, collect(engine, requests, sampling)?);
    Ok(())
}

/// Index of a group, and index of a member in it.
pub(crate) type Place = (usize, usize);

/// Requests, and whose each is.
type Asked = (Vec<Request>, Vec<Place>);

/// What is to be asked for members without a rollout.
pub(crate) fn requests(
    groups: &[Group],
    data: &Dataset<'_>,
    method: &Method,
    key: StepKey,
) -> Result<Asked> {
    let (mut requests, mut places) = (Vec::new(), Vec::new());
    for (place, group) in groups.iter().enumerate() {
        let sampled = group.rollouts.len();
        for (member, plan) in group.plan.members.iter().enumerate().skip(sampled) {
            let given = plan.given(group.guidance.as_ref(), method.placement)?;
            let (prompt, guidance) = match given {
                Given::Nothing => (group.item.prompt.clone(), Vec::new()),
                Given::Prefix(ids) => (group.item.prompt.clone(), ids.to_vec()),
                Given::Hint(hint) => {
                    let prompt = hinted_prompt(data, group, &method.hint_template, &hint)?;
                    (prompt, Vec::new())
                }
            };
            let budget = &method.limits.budget;
            let room = method.loss.max_completion_length;
            requests.push(Request {
                max_new_tokens: budget.max_new_tokens(room, guidance.len()),
                prompt,
                guidance,
                key: key.member(group.index, member as u32),
            });
            places.push((place, member));
        }
    }
    Ok((requests, places))
}

/// Gives rollouts to the members without one, in their order.
pub(crate) fn take_up(groups: &mut [Group], rollouts: Vec<Rollout>) {
    let mut rollouts = rollouts.into_iter();
    for group in groups {
        let missing = group.plan.members.len() - group.rollouts.len();
        group.rollouts.extend(rollouts.by_ref().take(missing));
    }
}

/// Ids of a task's prompt with a hint.
pub(crate) fn hinted_prompt(
    data: &Dataset<'_>,
    group: &Group,
    template: &HintTemplate,
    hint: &str,
) -> Result<Vec<TokenId>> {
    let question = template.render(&group.item.task.question, hint);
    let task = group.task;
    data.encode_prompt(&question)
        .map_err(|problem| Error::Task { task, problem })
}
