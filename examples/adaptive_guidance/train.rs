//! One run: the loop over plan, rollouts, rewards, advantages, loss and feedback.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use g2rpo_core::{
    AdvantageEstimator, BatchTotals, GuidanceTokenLoss, LossConfig, LossType, Ragged, Role, Strata,
    TokenStreams, policy_loss, supervised_loss,
};
use g2rpo_guidance::{
    Caps, CutLimits, Detector, Detectors, ExampleId, Given, Guidance, LengthController, Parts,
    Placement, Provenance, Query, Selector, StepFeedback, StepStats, Trace, UnitCutter, plan_group,
};
use g2rpo_rollout::{Purpose, RolloutKey};

use crate::lock::{LENGTH, LOCKS, Policy};

/// Members per group.
pub(crate) const GROUP_SIZE: usize = 8;

/// What distinguishes one arm from the others; all else is shared.
pub(crate) struct Arm {
    pub(crate) name: &'static str,
    pub(crate) selector: Box<dyn Selector + Sync>,
    pub(crate) controller: fn() -> g2rpo_guidance::Result<Box<dyn LengthController>>,
    pub(crate) strata: Strata,
    pub(crate) guidance_token_loss: GuidanceTokenLoss,
    /// Learn from the worked solutions directly, without rollouts.
    pub(crate) imitate: bool,
}

/// What is shared by all arms of a comparison.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) lr: f64,
    /// Success of the initial policy.
    pub(crate) success: f64,
}

/// What became of a run.
pub(crate) struct Run {
    /// Exact unguided accuracy after every step.
    pub(crate) accuracy: Vec<f64>,
    /// Guidance tokens per guided rollout, in every step.
    pub(crate) length: Vec<f64>,
    /// Mean over steps of the share of groups without variance.
    pub(crate) zero_variance: f64,
    /// Mean over steps of the share of groups that differ by guidance only.
    pub(crate) identity_only: f64,
    /// Sampled tokens in all.
    pub(crate) own_tokens: u64,
    /// Guidance tokens in all.
    pub(crate) guidance_tokens: u64,
    /// What the detectors said at least once.
    pub(crate) warnings: BTreeSet<Detector>,
}

impl Run {
    /// The first step after which half of all attempts succeed.
    pub(crate) fn steps_to_half(&self) -> Option<usize> {
        self.accuracy.iter().position(|&a| a >= 0.5).map(|i| i + 1)
    }
}

pub(crate) fn run(arm: &Arm, setting: &Setting) -> Result<Run> {
    let mut policy = Policy::new(setting.seed, setting.success);
    if arm.imitate {
        return imitate(policy, setting);
    }
    let mut controller = (arm.controller)()?;
    let mut detectors = Detectors::default();
    let limits = CutLimits::default();
    let solutions: Vec<Guidance> = (0..LOCKS)
        .map(|lock| Trace::from_tokens(policy.code(lock).to_vec()))
        .map(|trace| Guidance::trace(Arc::new(trace), Provenance::Gold))
        .collect();
    let estimator = AdvantageEstimator {
        strata: arm.strata,
        ..AdvantageEstimator::default()
    };
    let config = LossConfig {
        // The weight of a sampled token does not depend on how many were given.
        loss_type: LossType::DrGrpo,
        max_completion_length: LENGTH,
        guidance_token_loss: arm.guidance_token_loss,
        ..LossConfig::default()
    };
    let mut run = Run {
        accuracy: Vec::new(),
        length: Vec::new(),
        zero_variance: 0.0,
        identity_only: 0.0,
        own_tokens: 0,
        guidance_tokens: 0,
        warnings: BTreeSet::new(),
    };

    for step in 0..setting.steps {
        let mut feedback = StepFeedback::new(step);
        let (mut locks, mut guided, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tokens, mut roles, mut logp) =
            (Ragged::default(), Ragged::default(), Ragged::default());
        let mut given = Vec::new();
        for (lock, gold) in solutions.iter().enumerate() {
            let key = RolloutKey {
                run: setting.seed,
                step,
                group: lock as u32,
                member: 0,
            };
            let parts = Parts {
                selector: &arm.selector,
                controller: &controller,
                cutter: &UnitCutter::default(),
                placement: Placement::AssistantPrefix,
                caps: Caps::new(&limits),
            };
            let query = Query {
                step,
                example: ExampleId(lock as u64),
                ..Query::default()
            };
            let mut rng = key.rng(Purpose::Guidance);
            let plan = plan_group(&parts, &query, Some(gold), GROUP_SIZE, &mut rng)?;
            for (member, planned) in plan.members.iter().enumerate() {
                let key = RolloutKey {
                    member: member as u32,
                    ..key
                };
                let prefix = match planned.given(Some(gold), parts.placement)? {
                    Given::Prefix(ids) => ids,
                    Given::Nothing | Given::Hint(_) => &[],
                };
                let completion = policy.complete(lock, prefix, key);
                let success = completion == policy.code(lock);
                let reward = f64::from(u8::from(success));
                feedback.record(query.example, &planned.record(reward, success));
                logp.push_row(policy.logp(lock, &completion));
                roles.push_row((0..LENGTH).map(|i| {
                    if i < prefix.len() {
                        Role::Guidance
                    } else {
                        Role::Own
                    }
                }));
                tokens.push_row(completion);
                locks.push(lock);
                guided.push(planned.is_chosen());
                rewards.push(Some(reward));
                if planned.is_chosen() {
                    given.push(prefix.len() as f64);
                }
                run.guidance_tokens += prefix.len() as u64;
                run.own_tokens += (LENGTH - prefix.len()) as u64;
            }
        }
        let advantages = estimator
            .advantages(&rewards, &locks, &guided, None)?
            .advantages;
        let streams = TokenStreams::new(roles, logp, advantages)?;
        let totals = BatchTotals::of(&streams.roles, None, &config)?;
        let loss = policy_loss(&streams, &config, &totals)?;
        policy.descend(&locks, &tokens, &loss.grad_logp, setting.lr);
        controller.observe(&feedback);

        let length = given.iter().fold(0.0, |sum, n| sum + n) / given.len().max(1) as f64;
        let stats = StepStats {
            length: (!given.is_empty()).then_some(length),
            length_min: Some(0.0),
            length_max: Some(LENGTH as f64 - 1.0),
            ..StepStats::from_feedback(&feedback)
        };
        run.warnings
            .extend(detectors.observe(&stats).iter().map(|w| w.detector));
        run.zero_variance += stats.frac_reward_zero_std.unwrap_or(0.0) / setting.steps as f64;
        run.identity_only += stats.frac_identity_only.unwrap_or(0.0) / setting.steps as f64;
        run.accuracy.push(policy.accuracy());
        run.length.push(length);
    }
    Ok(run)
}

/// Supervised steps on the worked solutions, one copy of each per step: what imitation alone does.
fn imitate(mut policy: Policy, setting: &Setting) -> Result<Run> {
    let locks: Vec<usize> = (0..LOCKS).collect();
    let tokens = Ragged::from_rows(locks.iter().map(|&lock| policy.code(lock).to_vec()));
    let roles = tokens.map(|_| Role::Guidance);
    let mut accuracy = Vec::new();
    for _ in 0..setting.steps {
        let logp = Ragged::from_rows(
            locks
                .iter()
                .map(|&lock| policy.logp(lock, tokens.row(lock))),
        );
        let loss = supervised_loss(&roles, &logp, &[Role::Guidance], LOCKS * LENGTH)?;
        policy.descend(&locks, &tokens, &loss.grad_logp, setting.lr);
        accuracy.push(policy.accuracy());
    }
    Ok(Run {
        accuracy,
        length: Vec::new(),
        zero_variance: 0.0,
        identity_only: 0.0,
        own_tokens: 0,
        guidance_tokens: setting.steps * (LOCKS * LENGTH) as u64,
        warnings: BTreeSet::new(),
    })
}
