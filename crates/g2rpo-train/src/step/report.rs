//! Last of a step: everything that happened in it, and the views that loops log.

use g2rpo_core::Advantages;
use g2rpo_guidance::{
    Given, Level, Placement, Steering, StepFeedback, StepStats, Warning, Which, inspect_prefix,
};
use g2rpo_rollout::{Stop, TokenId};
use serde::{Deserialize, Serialize};

use crate::data::dataset::Dataset;
use crate::error::Result;
use crate::metrics::MetricsRow;
use crate::step::group::{Group, Member, StepKey};
use crate::step::rows::Rows;
use crate::step::update::Update;

/// What was planned, sampled, graded, learned and warned of in one step.
///
/// [`row`](Self::row), [`stats`](Self::stats) and [`samples`](Self::samples) are views of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StepReport {
    /// The step, counted from 0.
    pub step: u64,
    /// By what its randomness was drawn: ahead of the step by the batches that were dropped.
    pub key: StepKey,
    /// The groups that the step trained on.
    pub groups: Vec<Group>,
    /// Groups without advantages that dynamic sampling replaced by others.
    pub replaced: Vec<Group>,
    /// Batches that were generated for the step: 1 without dynamic sampling.
    pub gen_batches: usize,
    /// The members trained on, as rows.
    pub rows: Rows,
    /// Their advantages.
    pub advantages: Advantages,
    /// What the updates did.
    pub update: Update,
    /// What the controller and the curriculum learned from.
    pub feedback: StepFeedback,
    /// The amount that chosen members were given, mean, in its unit; what the controller says where there were none.
    pub length: f64,
    /// What the controller steers on, if it does.
    pub steering: Option<Steering>,
    /// Members of a group that the selector always chooses, where that is known.
    pub guided_expected: Option<usize>,
    /// Tier of the curriculum, where it has tiers.
    pub tier: Option<usize>,
    /// Passes over the data set so far.
    pub epoch: f64,
    /// Names of the reward functions, in the order of [`crate::Grade::parts`].
    pub reward_names: Vec<String>,
    /// Ids that end a completion.
    pub stop_ids: Vec<TokenId>,
    /// Tasks of the step whose verifier accepts an empty response, where it was asked.
    pub silence_accepted: Option<u64>,
    /// Mean over hinted successes of `mean log p(y|x) - mean log p(y|x, hint)` before the update, in
    /// nats per token; missing without any.
    pub hint_reliance: Option<f64>,
    /// How old the rollouts are.
    pub staleness: Staleness,
    /// What the detectors say.
    pub warnings: Vec<Warning>,
    /// Wall-clock seconds of the parts of the step.
    pub seconds: Seconds,
}

/// How old the rollouts of a step are, and what was lost to age so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Staleness {
    /// Steps that the learner made since the weights that sampled them; 0 without rollouts ahead of the learner.
    pub steps: u64,
    /// Most that it may be.
    pub most: u64,
    /// Batches of the run that were dropped because they were older than allowed.
    pub dropped: u64,
    /// Batches of the run that were discarded in flight when it was stopped.
    pub discarded: u64,
}

/// Wall-clock seconds of the parts of a step. With rollouts ahead of the learner parts go on at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seconds {
    /// Sampling.
    pub generate: f64,
    /// Verdicts and rewards, as far as they were not found while sampling.
    pub grade: f64,
    /// Log-probabilities and the update.
    pub learn: f64,
    /// All of the step.
    pub step: f64,
}

/// One completion of a step, for reading: a line of samples.jsonl.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRow {
    /// The step.
    pub step: u64,
    /// The task's id.
    pub task: u64,
    /// Index of the member in its group.
    pub member: usize,
    /// What was asked.
    pub question: String,
    /// The hint in the prompt; empty without.
    pub hint: String,
    /// The guidance at the start of the completion; empty without.
    pub guidance: String,
    /// What the policy wrote behind it.
    pub completion: String,
    /// What the verifier compared with.
    pub reference: String,
    /// What the verifier said.
    pub verdict: String,
    /// What was paid; missing where the row was masked.
    pub reward: Option<f64>,
    /// The advantage; missing where the member was not trained on.
    pub advantage: Option<f64>,
    /// Tokens sampled.
    pub tokens: usize,
    /// Whether the length limit cut it off.
    pub truncated: bool,
}

impl StepReport {
    /// All groups, trained on or replaced.
    pub fn all_groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(&self.replaced)
    }

    fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.all_groups().flat_map(Group::members)
    }

    /// Tokens sampled in the step, those of members that are not trained on included.
    pub fn sampled_tokens(&self) -> usize {
        (self.members().map(|m| m.rollout.completion.tokens.len())).sum()
    }

    /// The step as numbers under TRL's names; what concerns guidance is under `guidance/`.
    ///
    /// | name | meaning |
    /// |---|---|
    /// | `reward`, `rewards/{name}/mean` | mean reward; of each reward function, unweighted |
    /// | `reward_std`, `frac_reward_zero_std` | mean of the groups' standard deviations; share of rows in groups without any |
    /// | `advantage_abs` | mean absolute advantage |
    /// | `completions/…` | lengths in tokens with and without guidance, share cut off by the limit |
    /// | `masked` | share of rollouts without a verdict, which nothing is learned from |
    /// | `guidance/length` | amount of members that were chosen, in its unit, mean; the controller's where none was |
    /// | `guidance/tokens` | tokens given to a member that was chosen, mean |
    /// | `guidance/reward_guided`, `…_unguided` | mean reward of members chosen and not chosen |
    /// | `guidance/frac_guided` | share of the rows that had a prefix or a hint |
    /// | `guidance/frac_identity_only` | rows in groups whose rewards only tell guided from unguided |
    /// | `guidance/hint_reliance` | of hinted successes, log-probability of a token without the hint minus with it |
    /// | `dynamic_sampling/…` | batches generated, share of groups that were replaced |
    /// | `loss`, `kl`, `entropy`, `clip_ratio/…`, … | of the update, from [`g2rpo_core::LossMetrics`] |
    /// | `staleness`, `…/dropped`, `…/discarded` | age of the rollouts in steps; batches lost to age, and in flight when the run stopped |
    /// | `mismatch/logp_difference`, `…/kl`, `…/ess` | sampler against learner: mean of the absolute difference, KL of a token, effective share of the tokens |
    /// | `grad_norm`, `learning_rate` | of the last optimiser step |
    /// | `experts/max_load`, `experts/frac_idle` | of that step, for models with experts: [`g2rpo_core::ExpertLoad`] |
    /// | `epoch`, `num_tokens`, `step_time`, … | where the run is, and how fast |
    pub fn row(&self) -> MetricsRow {
        let mut row = MetricsRow::new(self.step);
        let n = self.rows.len().max(1) as f64;
        let batch = &self.rows.batch;
        let share = |count: usize| count as f64 / n;
        let mean_reward = |which| {
            let pool = self.feedback.pooled(which);
            (pool.n > 0).then(|| pool.reward_sum / pool.n as f64)
        };
        row.put("reward", mean_reward(Which::All).unwrap_or(f64::NAN));
        for (i, name) in self.reward_names.iter().enumerate() {
            let parts = self.members().filter_map(|m| m.grade.parts[i]);
            row.put(&format!("rewards/{name}/mean"), mean(parts));
        }
        let stds = self.advantages.groups.iter().filter_map(|g| g.std);
        row.put("reward_std", mean(stds).unwrap_or(0.0));
        let advantages = &self.advantages;
        row.put("frac_reward_zero_std", advantages.frac_reward_zero_std());
        let absolute: f64 = self.advantages.advantages.iter().map(|a| a.abs()).sum();
        row.put("advantage_abs", absolute / n);
        row.put("completions/mean_length", share(batch.roles.values().len()));
        row.put("completions/own_length", share(batch.sampled_tokens()));
        let truncated = batch.truncated.iter().filter(|t| **t).count();
        row.put("completions/clipped_ratio", share(truncated));
        let masked = self.members().filter(|m| m.grade.reward.is_none()).count();
        let all = self.members().count().max(1) as f64;
        row.put("masked", masked as f64 / all);
        row.put("guidance/length", self.length);
        let chosen = self.members().filter(|m| m.plan.is_chosen());
        let tokens = mean(chosen.map(|m| m.plan.cut.len as f64));
        row.put("guidance/tokens", tokens.unwrap_or(0.0));
        row.put("guidance/reward_guided", mean_reward(Which::Guided));
        row.put("guidance/reward_unguided", mean_reward(Which::Unguided));
        let guided = self.rows.guided.iter().filter(|g| **g).count();
        row.put("guidance/frac_guided", share(guided));
        let identity_only = advantages.frac_identity_only_variance();
        row.put("guidance/frac_identity_only", identity_only);
        row.put("guidance/hint_reliance", self.hint_reliance);
        if self.gen_batches > 1 || !self.replaced.is_empty() {
            let replaced = self.replaced.len() as f64;
            let all = self.groups.len() as f64 + replaced;
            row.put("dynamic_sampling/num_gen_batches", self.gen_batches as f64);
            row.put("dynamic_sampling/frac_replaced", replaced / all.max(1.0));
        }
        row.extend(self.update.metrics.entries());
        let mismatch = &self.update.mismatch;
        row.put("mismatch/logp_difference", mismatch.logp_difference());
        row.put("mismatch/kl", mismatch.kl());
        row.put("mismatch/ess", mismatch.ess());
        if self.staleness != Staleness::default() {
            row.put("staleness", self.staleness.steps as f64);
            row.put("staleness/dropped", self.staleness.dropped as f64);
            row.put("staleness/discarded", self.staleness.discarded as f64);
        }
        if let Some(stats) = self.update.stats {
            row.put("grad_norm", stats.grad_norm);
            row.put("learning_rate", stats.lr);
            if let Some(experts) = stats.experts {
                row.put("experts/max_load", experts.max);
                row.put("experts/frac_idle", experts.idle);
            }
        }
        row.put("epoch", self.epoch);
        row.put("step_time", self.seconds.step);
        row.put("step_time/generate", self.seconds.generate);
        row.put("step_time/grade", self.seconds.grade);
        row.put("step_time/learn", self.seconds.learn);
        if self.seconds.generate > 0.0 {
            let rate = self.sampled_tokens() as f64 / self.seconds.generate;
            row.put("generate/tokens_per_second", rate);
        }
        row
    }

    /// The step in one line of a terminal; – where a quantity does not exist, like the reward of
    /// guided members when there are none. When nothing was learned it says why, and when members are
    /// chosen for an amount of 0 it says so.
    pub fn line(&self) -> String {
        let row = self.row();
        let show = |name: &str, digits: usize| {
            let value = row.get(name).filter(|x| x.is_finite());
            // 0.0 is added for a zero without a sign.
            value.map_or_else(|| "–".to_owned(), |x| format!("{:.digits$}", x + 0.0))
        };
        let mut line = format!(
            "step {:3}  reward {} guided {} unguided  ℓ {}  |A| {}  equal groups {}  kl {}  \
             entropy {}  {} tokens/s",
            self.step,
            show("guidance/reward_guided", 3),
            show("guidance/reward_unguided", 3),
            show("guidance/length", 2),
            show("advantage_abs", 2),
            show("frac_reward_zero_std", 2),
            show("kl", 4),
            show("entropy", 3),
            show("generate/tokens_per_second", 0),
        );
        let (mut chosen, mut guided) = (false, false);
        for member in self.members() {
            chosen |= member.plan.is_chosen();
            guided |= member.plan.is_guided();
        }
        if chosen && !guided && self.length == 0.0 {
            let hints = (self.members().filter(|m| m.plan.is_chosen()))
                .all(|m| matches!(m.plan.member.level, Level::Hint(_)));
            line += "  (members are chosen to be guided and given nothing: ";
            line += if hints {
                "their tasks have no hint)"
            } else {
                "the amount is 0)"
            };
        }
        if self.update.stats.is_none() {
            let masked = self.members().all(|m| m.grade.reward.is_none());
            let all_zero = self.advantages.advantages.iter().all(|a| *a == 0.0);
            line += if self.groups.is_empty() && !self.replaced.is_empty() {
                "  (nothing learned: no advantages in any group, and dynamic sampling replaced them all)"
            } else if self.rows.is_empty() {
                "  (nothing learned: the selector kept no member)"
            } else if masked {
                "  (nothing learned: no verdict could be reached)"
            } else if self.advantages.frac_reward_zero_std() == 1.0 {
                "  (nothing learned: equal rewards in every group)"
            } else if all_zero {
                "  (nothing learned: the rewards differ, but by this baseline every advantage is 0)"
            } else {
                "  (nothing learned: every completion is masked)"
            };
        }
        line
    }

    /// What the detectors look at.
    pub fn stats(&self, placement: Placement) -> StepStats {
        let plans = || self.all_groups().flat_map(|g| &g.plan.members);
        let mut stats = StepStats::from_feedback(&self.feedback).with_cuts(plans());
        stats.length = Some(self.length);
        stats = stats.with_steering(self.steering, &self.feedback);
        stats.tier = self.tier;
        stats.guided_expected = self.guided_expected;
        // Members that something is learned from; a group without any has nothing to count.
        let counts = || {
            self.groups.iter().filter_map(|group| {
                let trained = group.trained.iter().flatten();
                let scored = trained.filter(|&&m| group.grades[m].reward.is_some());
                let chosen = scored.map(|&m| usize::from(group.plan.members[m].is_chosen()));
                chosen.reduce(|a, b| a + b)
            })
        };
        stats.guided_min = counts().min();
        stats.guided_max = counts().max();
        let (mut answers, mut broken, mut stops) = (0, 0, 0);
        for group in self.all_groups() {
            let trace = group.guidance.as_ref().and_then(|g| g.trace.as_ref());
            for plan in &group.plan.members {
                if let (Some(trace), Ok(Given::Prefix(ids))) =
                    (trace, plan.given(group.guidance.as_ref(), placement))
                {
                    let problems = inspect_prefix(trace, ids.len());
                    answers += u64::from(problems.announces_answer);
                    broken += u64::from(problems.broken_tags);
                    stops += u64::from(ids.iter().any(|id| self.stop_ids.contains(id)));
                }
            }
        }
        stats.prefixes_with_answer = Some(answers);
        stats.prefixes_with_broken_tags = Some(broken);
        stats.prefixes_with_stop = Some(stops);
        stats.silence_accepted = self.silence_accepted;
        stats.hint_reliance = self.hint_reliance;
        let format = (self.reward_names.iter()).position(|name| name.contains("format"));
        if let Some(i) = format {
            stats.format_reward = mean(self.members().filter_map(|m| m.grade.parts[i]));
        }
        let of = |guided: bool, value: &dyn Fn(usize) -> f64| {
            let rows = (0..self.rows.len()).filter(|&row| self.rows.guided[row] == guided);
            mean(rows.map(value))
        };
        let truncated = |row: usize| f64::from(u8::from(self.rows.batch.truncated[row]));
        let lengths: Vec<usize> = self.rows.own_lengths().collect();
        let own = |row: usize| lengths[row] as f64;
        stats.truncated_guided = of(true, &truncated);
        stats.truncated_unguided = of(false, &truncated);
        stats.own_tokens_guided = of(true, &own);
        stats.own_tokens_unguided = of(false, &own);
        stats.advantage_unguided = of(false, &|row| self.advantages.advantages[row]);
        let metrics = &self.update.metrics;
        stats.entropy = metrics.entropy.mean();
        stats.guidance_negative_share = metrics.guidance_negative.mean();
        stats.guidance_weight_ratio = (metrics.guidance_logp.count() > 0
            && metrics.own_gradient > 0.0)
            .then(|| metrics.guidance_gradient / metrics.own_gradient);
        stats.logp_guidance = metrics.guidance_logp.mean();
        stats.logp_own = metrics.own_logp.mean();
        stats
    }

    /// Every completion of the step as text, groups in order.
    ///
    /// # Errors
    /// [`Error::Rollout`](crate::Error::Rollout) if ids cannot be decoded.
    pub fn samples(&self, data: &Dataset<'_>, placement: Placement) -> Result<Vec<SampleRow>> {
        let mut samples = Vec::new();
        for (g, group) in self.groups.iter().enumerate() {
            let task = &group.item.task;
            for (m, member) in group.members().enumerate() {
                let row = self.rows.members.iter().position(|at| *at == (g, m));
                let decode = |ids: &[u32]| data.tokenizer().decode(ids);
                let hint = match member.plan.given(group.guidance.as_ref(), placement)? {
                    Given::Hint(hint) => hint.into_owned(),
                    Given::Prefix(_) | Given::Nothing => String::new(),
                };
                samples.push(SampleRow {
                    step: self.step,
                    task: task.id,
                    member: m,
                    question: task.question.clone(),
                    hint,
                    guidance: decode(&member.rollout.guidance)?,
                    completion: decode(&member.rollout.completion.tokens)?,
                    reference: task.reference.clone(),
                    verdict: member.grade.verdict.to_string(),
                    reward: member.grade.reward,
                    advantage: row.map(|row| self.advantages.advantages[row]),
                    tokens: member.rollout.completion.tokens.len(),
                    truncated: member.rollout.completion.stop == Stop::Length,
                });
            }
        }
        Ok(samples)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0_u32), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}
