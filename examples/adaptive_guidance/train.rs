//! One run: a method on the locks.

use std::collections::BTreeSet;

use anyhow::Result;
use g2rpo::guidance::{Detector, Method};
use g2rpo::rollout::{Shared, Tokenizer};
use g2rpo::train::{Dataset, LrSchedule, Trainer, TrainerConfig, supervised_step};
use g2rpo_examples::Letters;

use crate::lock::{self, LOCKS};

/// A row of the table.
pub(crate) struct Arm {
    pub(crate) name: &'static str,
    /// What is trained by; `None` learns from the worked solutions directly, without rollouts.
    pub(crate) method: Option<Method>,
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
#[derive(Default)]
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
    let Some(method) = &arm.method else {
        return imitate(setting);
    };
    let tasks = lock::tasks(setting.seed)?;
    let policy = Shared::new(lock::policy(&tasks, setting.success)?);
    let data = Dataset::with_template(tasks.clone(), &Letters, "{question}")?;
    let opens = |answer: &str, code: &str| answer == code;
    let config = TrainerConfig {
        seed: setting.seed,
        prompts_per_step: LOCKS,
        schedule: LrSchedule::constant(setting.lr),
        ..TrainerConfig::default()
    };
    let mut trainer = Trainer::new(
        method.clone(),
        &data,
        policy.clone(),
        policy.clone(),
        opens,
        config,
    )?;
    let mut run = Run::default();
    for report in trainer.steps(setting.steps) {
        let report = report?;
        let row = report.row();
        let mean = |name| row.get(name).unwrap_or(0.0) / setting.steps as f64;
        run.zero_variance += mean("frac_reward_zero_std");
        run.identity_only += mean("guidance/frac_identity_only");
        run.accuracy.push(lock::accuracy(&policy.get(), &tasks)?);
        run.length.push(row.get("guidance/tokens").unwrap_or(0.0));
        run.own_tokens += report.sampled_tokens() as u64;
        run.warnings
            .extend(report.warnings.iter().map(|w| w.detector));
    }
    Ok(run)
}

/// Supervised steps on the worked solutions, one copy of each per step: what imitation alone does.
fn imitate(setting: &Setting) -> Result<Run> {
    let tasks = lock::tasks(setting.seed)?;
    let mut policy = lock::policy(&tasks, setting.success)?;
    let ids = |text: &str| Letters.encode(text).map(|encoded| encoded.ids);
    let pairs = (tasks.iter())
        .map(|task| Ok((ids(&task.question)?, ids(&task.reference)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut run = Run::default();
    for _ in 0..setting.steps {
        let pairs = pairs.iter().map(|(q, a)| (&q[..], &a[..]));
        supervised_step(&mut policy, pairs, setting.lr)?;
        run.accuracy.push(lock::accuracy(&policy, &tasks)?);
    }
    Ok(run)
}
