use g2rpo_core::{Advantages, Role};
use g2rpo_guidance::{StepFeedback, StepStats};
use g2rpo_rollout::Batch;

use crate::{StepPlan, Update};

/// What the detectors of guidance gone wrong look at, as far as it follows from one step.
///
/// Filled on top of [`StepStats::from_feedback`]: `length`, the cuts, `guided_min` and `guided_max`,
/// the share of truncated rollouts and the mean own length of each stratum, `advantage_unguided` and
/// `entropy`. What only the loop knows stays unset: `guided_expected`, the bounds of the length, and
/// the signal that a controller steers on.
///
/// A stratum without members gives `None`.
pub fn step_stats(
    plan: &StepPlan,
    batch: &Batch,
    feedback: &StepFeedback,
    advantages: &Advantages,
    update: &Update,
    length: f64,
) -> StepStats {
    let mut stats = StepStats::from_feedback(feedback).with_cuts(&plan.members);
    stats.length = Some(length);
    let guided_counts = || advantages.groups.iter().map(|g| g.n_guided);
    stats.guided_min = guided_counts().min();
    stats.guided_max = guided_counts().max();
    let rows: Vec<Row> = (batch.guided.iter().enumerate())
        .map(|(row, &guided)| Row {
            guided,
            truncated: f64::from(u8::from(batch.truncated[row])),
            own: (batch.roles.row(row).iter())
                .filter(|role| **role == Role::Own)
                .count() as f64,
            advantage: advantages.advantages[row],
        })
        .collect();
    stats.truncated_guided = mean(&rows, true, |r| r.truncated);
    stats.truncated_unguided = mean(&rows, false, |r| r.truncated);
    stats.own_tokens_guided = mean(&rows, true, |r| r.own);
    stats.own_tokens_unguided = mean(&rows, false, |r| r.own);
    stats.advantage_unguided = mean(&rows, false, |r| r.advantage);
    stats.entropy = update.metrics.entropy.mean();
    stats
}

struct Row {
    guided: bool,
    truncated: f64,
    own: f64,
    advantage: f64,
}

fn mean(rows: &[Row], guided: bool, value: impl Fn(&Row) -> f64) -> Option<f64> {
    let of_stratum = rows.iter().filter(|r| r.guided == guided);
    let (sum, n) = of_stratum.fold((0.0, 0_u32), |(sum, n), row| (sum + value(row), n + 1));
    (n > 0).then(|| sum / f64::from(n))
}
