//! Whether a run can do what its settings say, asked before the first step.

use g2rpo_core::{
    Baseline, KlPlacement, Learner, LossConfig, Ragged, Scale, Sequences, WhichPolicy,
};
use g2rpo_guidance::{Level, Method};
use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams, TokenId, collect};
use g2rpo_verify::Verifier;

use crate::data::dataset::Dataset;
use crate::error::{Error, Result};
use crate::step::update::UpdateConfig;

/// Tasks that a step cannot be made of.
pub(crate) fn tasks(method: &Method, prompts: usize, n_tasks: usize) -> Result<()> {
    if method.difficulty.is_some() && prompts > n_tasks {
        let problem = format!(
            "difficulty chooses tasks, each once in a step, and there are {n_tasks}: ask for no more"
        );
        return Err(Error::config("prompts_per_step", prompts, problem));
    }
    Ok(())
}

/// Advantages that cannot be taken in groups of this size, or of rewards like these.
pub(crate) fn estimator(method: &Method, n_groups: usize) -> Result<()> {
    let (advantages, members) = (&method.advantages, method.num_generations);
    let deviation_of = match advantages.scale {
        Scale::GroupStd | Scale::LeaveOneOutStd => members,
        Scale::BatchStd | Scale::Whiten => members.saturating_mul(n_groups),
        Scale::None | Scale::GroupMean => usize::MAX,
    };
    if advantages.ddof >= deviation_of {
        let problem = format!(
            "a standard deviation of {deviation_of} rewards divides by their number less ddof, so it must be smaller"
        );
        return Err(Error::config("advantages.ddof", advantages.ddof, problem));
    }
    if let Baseline::PassAtK { k } = advantages.baseline
        && k > members
    {
        let problem = format!("no more than num_generations = {members} can be drawn from a group");
        return Err(Error::config("advantages.baseline.pass_at_k.k", k, problem));
    }
    let kl = method.loss.needs_reference() && method.loss.kl_placement == KlPlacement::Reward;
    if advantages.scale == Scale::GroupMean && (kl || method.overlong.is_some()) {
        let problem = "rewards must not be negative, and the KL term in the reward and the overlong penalty can make them \
                       so: set another scale, or leave those out";
        return Err(Error::config("advantages.scale", "group_mean", problem));
    }
    Ok(())
}

/// Guidance that the method needs and the tasks do not have.
pub(crate) fn guidance(method: &Method, data: &Dataset<'_>) -> Result<()> {
    let levels = method.selector.levels();
    let hint = (levels.iter())
        .filter_map(|level| match level {
            Level::Hint(index) => Some(*index),
            _ => None,
        })
        .max();
    let traces = (levels.iter()).any(|l| matches!(l, Level::Controlled | Level::Exactly(_)));
    let (solved, most) = data.known(&method.source.order);
    let order = (method.source.order.iter())
        .map(|author| format!("{author:?}").to_lowercase())
        .collect::<Vec<_>>()
        .join(", ");
    if traces && !method.source.learns() && !solved {
        let problem = "the method cuts guidance from worked solutions of these authors, and no task \
                       has one: give Task::solution, name its author in source.order, or choose a \
                       method without guidance, such as grpo";
        return Err(Error::config("source.order", order, problem));
    }
    if let Some(hint) = hint.filter(|&hint| hint >= most) {
        let problem = format!(
            "the method puts hints of these authors into prompts, up to the one with index {hint}, and no task has \
             more than {most}: give Task::hints, name their author in source.order, or ask for lower levels"
        );
        return Err(Error::config("source.order", order, problem));
    }
    Ok(())
}

/// A data set on which no verdict can be reached.
pub(crate) fn references(verifier: &dyn Verifier, data: &Dataset<'_>) -> Result<()> {
    let mut why = None;
    for place in 0..data.len() {
        let reference = data.tasks().task(place)?.reference;
        match verifier.check_reference(&reference) {
            Ok(()) => return Ok(()),
            Err(unverifiable) => why = why.or(Some(unverifiable)),
        }
    }
    let problem = format!(
        "the verifier cannot reach a verdict on any reference: {}",
        why.map(|why| why.to_string()).unwrap_or_default()
    );
    Err(Error::config("tasks", data.len(), problem))
}

/// One token from the engine, under the settings of the run.
pub(crate) fn engine<E: RolloutEngine>(
    engine: &mut E,
    prompt: &[TokenId],
    sampling: &SamplingParams,
) -> Result<()> {
    let request = Request {
        prompt: prompt.to_vec(),
        guidance: Vec::new(),
        // Training steps count from 0, evaluations take the largest number.
        key: RolloutKey {
            step: u64::MAX - 1,
            ..RolloutKey::default()
        },
        max_new_tokens: 1,
    };
    collect(engine, vec![request], sampling)?;
    Ok(())
}

/// One log-probability from the learner, of every kind that the loss will ask for.
pub(crate) fn learner<L: Learner>(
    learner: &mut L,
    prompt: &[TokenId],
    loss: &LossConfig,
    config: &UpdateConfig,
) -> Result<()> {
    let row = [prompt, &prompt[..1]].concat();
    let sequences = Sequences::new(Ragged::from_rows([row]), vec![prompt.len()])?;
    let entropy = config.log_entropy || loss.needs_entropy();
    let mut ask = |policy, entropy| {
        let asked = learner.token_logps(&sequences, policy, &config.scoring(entropy));
        asked.map(drop).map_err(Error::learner)
    };
    ask(WhichPolicy::Current, entropy)?;
    if loss.needs_reference() {
        ask(WhichPolicy::Reference, false)?;
    }
    Ok(())
}
