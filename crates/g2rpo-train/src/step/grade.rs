//! Third of a step: one verdict for every rollout, and the rewards on top of it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use g2rpo_guidance::Method;
use g2rpo_rollout::{Rollout, TokenId};
use g2rpo_verify::{Sample, Verdict, Verifier, WeightedReward, verify_parallel};

use crate::data::dataset::{Dataset, Item};
use crate::error::{Error, Result};
use crate::step::early::Early;
use crate::step::generate::Place;
use crate::step::group::{Grade, Group};

/// What judges rollouts.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// Decides what is right.
    pub verifier: &'a dyn Verifier,
    /// Weighted reward functions, paid on top of the verdict.
    pub rewards: &'a WeightedReward,
}

impl std::fmt::Debug for Judge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge")
            .field("rewards", self.rewards)
            .finish_non_exhaustive()
    }
}

/// Verdicts on answers, each to its task, and their texts. Those without an early verdict go to the verifier in one
/// batch, so that one with workers uses them. Ids are decoded for the verifier's eyes only; the ids that were sampled
/// stay the ids that are trained on.
///
/// # Errors
/// [`Error::Rollout`] if ids cannot be decoded, [`Error::Verdicts`] if the verifier does not return
/// one verdict per answer.
pub(crate) fn verdicts(
    data: &Dataset<'_>,
    verifier: &dyn Verifier,
    answers: &[(Arc<Item>, Vec<TokenId>)],
    early: Vec<Option<Early>>,
) -> Result<Vec<(String, Verdict)>> {
    let early = early.into_iter().chain(std::iter::repeat_with(|| None));
    let mut judged: Vec<Option<(String, Verdict)>> = (answers.iter().zip(early))
        .map(|((_, ids), early)| {
            let early = early.filter(|early| early.ids == *ids)?;
            Some((early.text, early.verdict))
        })
        .collect();
    let mut rest = Vec::new();
    for (i, (item, ids)) in answers.iter().enumerate() {
        if judged[i].is_none() {
            rest.push((i, item, data.tokenizer().decode(ids)?));
        }
    }
    let pairs: Vec<_> = (rest.iter())
        .map(|(_, item, text)| (text.as_str(), item.task.reference.as_str()))
        .collect();
    // A verifier that panics says nothing about the pair it panicked at, and goes on with the others.
    let verdicts = catch_unwind(AssertUnwindSafe(|| verifier.verify_batch(&pairs)))
        .unwrap_or_else(|_| verify_parallel(verifier, &pairs, 1));
    if verdicts.len() != pairs.len() {
        return Err(Error::Verdicts {
            expected: pairs.len(),
            got: verdicts.len(),
        });
    }
    for ((i, _, text), verdict) in rest.into_iter().zip(verdicts) {
        judged[i] = Some((text, verdict));
    }
    Ok(judged.into_iter().flatten().collect())
}

/// Whether an empty response to each of these tasks would be accepted.
pub(crate) fn accepts_silence(
    data: &Dataset<'_>,
    verifier: &dyn Verifier,
    items: Vec<Arc<Item>>,
) -> Result<Vec<bool>> {
    let silent: Vec<_> = items.into_iter().map(|item| (item, Vec::new())).collect();
    let judged = verdicts(data, verifier, &silent, Vec::new())?;
    Ok(judged.iter().map(|(_, v)| v.is_correct()).collect())
}

/// Grades the rollouts that have no grade yet: one verdict each, then the reward functions by
/// group, then the method's penalty on length. A function that does not apply to a row adds nothing
/// there, as in TRL; if it is a required one, the row is masked. A masked row stays so, and what
/// counts as success does not change.
///
/// # Errors
/// [`Error::Rollout`] if ids cannot be decoded, [`Error::Verdicts`] if the verifier miscounts,
/// [`Error::Reward`] if a reward function does, or returns what is not finite.
pub fn grade(
    groups: &mut [Group],
    data: &Dataset<'_>,
    judge: &Judge<'_>,
    method: &Method,
) -> Result<()> {
    grade_all(groups, data, judge, method, HashMap::new())
}

/// As [`grade`], with verdicts that were found early.
pub(crate) fn grade_all(
    groups: &mut [Group],
    data: &Dataset<'_>,
    judge: &Judge<'_>,
    method: &Method,
    mut early: HashMap<Place, Early>,
) -> Result<()> {
    let (mut answers, mut found) = (Vec::new(), Vec::new());
    for (place, group) in groups.iter().enumerate() {
        for member in group.grades.len()..group.rollouts.len() {
            answers.push((Arc::clone(&group.item), group.rollouts[member].answer()));
            found.push(early.remove(&(place, member)));
        }
    }
    let verdicts = verdicts(data, judge.verifier, &answers, found)?;
    let mut graded = verdicts.into_iter().zip(&answers);
    for group in groups {
        let item = Arc::clone(&group.item);
        let missing = group.rollouts.len() - group.grades.len();
        let new: Vec<_> = graded.by_ref().take(missing).collect();
        let prompts = prompts(&group.rollouts[group.grades.len()..], data, judge)?;
        let samples: Vec<_> = (new.iter().zip(&prompts))
            .map(|(((response, verdict), (_, tokens)), prompt)| Sample {
                prompt,
                response,
                reference: &item.task.reference,
                tokens,
                verdict: Some(verdict),
            })
            .collect();
        let added = judge.rewards.rewards(&samples)?;
        for (((answer, verdict), _), added) in new.into_iter().zip(added) {
            let rollout = &group.rollouts[group.grades.len()];
            let own = rollout.completion.tokens.len();
            let length = method.limits.budget.counted(rollout.guidance.len(), own);
            let overlong = (method.overlong.as_ref()).map_or(0.0, |o| {
                o.penalty(method.loss.max_completion_length, length)
            });
            let reward = (verdict.reward())
                .filter(|_| !added.lacks_required)
                .map(|paid| paid + added.value.unwrap_or(0.0) + overlong);
            group.grades.push(Grade {
                answer,
                verdict,
                reward,
                parts: added.parts,
            });
        }
    }
    Ok(())
}

/// The prompts that rollouts were sampled under as text, hints and the template's own words included;
/// empty where no reward function would look.
fn prompts(rollouts: &[Rollout], data: &Dataset<'_>, judge: &Judge<'_>) -> Result<Vec<String>> {
    if judge.rewards.names().next().is_none() {
        return Ok(vec![String::new(); rollouts.len()]);
    }
    let mut texts: Vec<String> = Vec::with_capacity(rollouts.len());
    for (i, rollout) in rollouts.iter().enumerate() {
        texts.push(match i.checked_sub(1) {
            Some(before) if rollouts[before].prompt == rollout.prompt => texts[before].clone(),
            _ => data.tokenizer().decode(&rollout.prompt)?,
        });
    }
    Ok(texts)
}
