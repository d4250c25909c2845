//! Beside the step: how much of what succeeded rests on the hint in its prompt.

use g2rpo_core::{Learner, WhichPolicy, hint_reliance};
use g2rpo_rollout::pack;

use crate::error::Result;
use crate::step::group::Group;
use crate::step::rescore::logps;
use crate::step::rows::Rows;
use crate::step::update::UpdateConfig;

/// [`hint_reliance`] over the hinted successes among the rows; `None`, and no pass of the learner,
/// without any. Two passes over these rows otherwise.
pub(crate) fn reliance<L: Learner + ?Sized>(
    learner: &mut L,
    groups: &[Group],
    rows: &Rows,
    config: &UpdateConfig,
) -> Result<Option<f64>> {
    let hinted: Vec<_> = (rows.members.iter())
        .map(|&(g, m)| (&groups[g].item.prompt[..], &groups[g].rollouts[m]))
        .zip(rows.iter(groups))
        .filter(|((bare, rollout), member)| {
            member.grade.verdict.is_correct() && rollout.prompt != *bare
        })
        .map(|(row, _)| row)
        .collect();
    if hinted.is_empty() {
        return Ok(None);
    }
    let scoring = config.scoring(false);
    let bare = pack(hinted.iter().copied())?;
    let sampled = hinted
        .iter()
        .map(|(_, rollout)| (&rollout.prompt[..], *rollout));
    let sampled = pack(sampled)?;
    let mut of = |sequences| logps(learner, sequences, WhichPolicy::Current, &scoring);
    let (plain, with_hint) = (of(&bare.sequences)?, of(&sampled.sequences)?);
    let all: Vec<usize> = (0..hinted.len()).collect();
    Ok(hint_reliance(&bare.roles, &plain, &with_hint, &all)?)
}
