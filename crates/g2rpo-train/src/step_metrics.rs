use g2rpo_core::Advantages;
use g2rpo_guidance::{StepFeedback, StepStats};
use g2rpo_rollout::Batch;

use crate::{MetricsRow, StepPlan, Update};

/// The numbers of one step under TRL's names, and ours under `guidance/`.
///
/// | name | meaning |
/// |---|---|
/// | `reward`, `reward_std` | mean over all members; mean of the groups' standard deviations |
/// | `frac_reward_zero_std` | share of completions in groups of equal rewards |
/// | `advantage_abs` | mean absolute advantage: 0 when a step teaches nothing |
/// | `completions/mean_length`, `completions/clipped_ratio` | guidance and own tokens; share cut off by the limit |
/// | `completions/own_length` | sampled tokens only |
/// | `guidance/length` | the controller's amount, in its unit |
/// | `guidance/tokens` | mean ids given to a guided member, after all cuts |
/// | `guidance/reward_guided`, `guidance/reward_unguided` | mean reward of each stratum |
/// | `guidance/frac_identity_only` | groups whose rewards only tell guided from unguided |
/// | `loss`, `kl`, `entropy`, `clip_ratio/…`, … | of the update, from [`g2rpo_core::LossMetrics`] |
/// | `grad_norm`, `learning_rate` | of the last optimiser step |
pub fn step_row(
    plan: &StepPlan,
    batch: &Batch,
    feedback: &StepFeedback,
    advantages: &Advantages,
    update: &Update,
    length: f64,
) -> MetricsRow {
    let stats = StepStats::from_feedback(feedback);
    let mut row = MetricsRow::new(feedback.step);
    let n = batch.groups.len().max(1) as f64;
    let stds: Vec<f64> = advantages.groups.iter().filter_map(|g| g.std).collect();
    row.put("reward", stats.reward.unwrap_or(f64::NAN));
    row.put(
        "reward_std",
        stds.iter().sum::<f64>() / stds.len().max(1) as f64,
    );
    row.put("frac_reward_zero_std", advantages.frac_reward_zero_std());
    let spread: f64 = advantages.advantages.iter().map(|a| a.abs()).sum();
    row.put("advantage_abs", spread / n);
    row.put(
        "completions/mean_length",
        batch.roles.values().len() as f64 / n,
    );
    row.put("completions/own_length", batch.sampled_tokens() as f64 / n);
    let truncated = batch.truncated.iter().filter(|t| **t).count();
    row.put("completions/clipped_ratio", truncated as f64 / n);
    row.put("guidance/length", length);
    row.put("guidance/tokens", plan.mean_guidance_tokens());
    for (name, share) in [
        ("guidance/reward_guided", stats.success_guided),
        ("guidance/reward_unguided", stats.success_unguided),
    ] {
        if let Some(share) = share {
            row.put(name, share);
        }
    }
    row.put(
        "guidance/frac_identity_only",
        advantages.frac_identity_only_variance(),
    );
    row.extend(update.metrics.entries());
    if let Some(stats) = update.stats {
        row.put("grad_norm", stats.grad_norm);
        row.put("learning_rate", stats.lr);
    }
    row
}
