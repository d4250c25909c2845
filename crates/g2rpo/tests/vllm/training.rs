//! Training through the server, against training with our own engine.

use g2rpo::core::LossConfig;
use g2rpo::guidance::Method;
use g2rpo::libtorch::{TorchEngine, TorchLearner};
use g2rpo::rollout::RolloutEngine;
use g2rpo::train::{Dataset, LrSchedule, Trainer, TrainerConfig};
use g2rpo::verify::Verdict;
use g2rpo_remote::RemoteEngine;

use crate::setting::{Failure, Setting, scores};

/// Ten steps of plain GRPO; `sync` brings the learner's weights to the engine after each. Mean
/// rewards of the steps.
fn train<E: RolloutEngine + Send>(
    setting: &Setting,
    seed: u64,
    longest: usize,
    (engine, learner): (E, TorchLearner),
    sync: impl FnMut(&mut E, &mut TorchLearner) -> Result<(), Failure>,
) -> Vec<f64> {
    let method = Method {
        num_generations: 8,
        loss: LossConfig {
            max_completion_length: 64,
            ..LossConfig::default()
        },
        ..Method::default()
    };
    let method = method.set("alpha", 0.0).unwrap();
    let tasks = setting.tasks[..16].to_vec();
    let template = "Question: {question}\nAnswer:";
    let data = Dataset::with_template(tasks, &*setting.tokenizer, template).unwrap();
    // Paid is an answer that is shorter than half of them are at first: this is learned within a
    // few steps, which the problems themselves are not.
    let short = |answer: &str, _: &str| Verdict::from(answer.len() < longest);
    let config = TrainerConfig {
        seed,
        prompts_per_step: 16,
        sampling: setting.params(1.0),
        schedule: LrSchedule::constant(3e-4),
        ..TrainerConfig::default()
    };
    let trainer = Trainer::new(method, &data, engine, learner, short, config).unwrap();
    let mut trainer = trainer.with_sync(sync);
    let steps = trainer.steps(10).map(|report| {
        let rewards = report.unwrap().rows.rewards;
        rewards.iter().flatten().sum::<f64>() / rewards.len() as f64
    });
    steps.collect()
}

/// Training through the server learns as training with our own engine does.
pub(crate) fn trained(setting: &Setting, remote: &RemoteEngine) {
    let mut requests = setting.requests(7, 128, 64);
    for (i, request) in requests.iter_mut().enumerate() {
        request.prompt = setting.prompts[i % 16].clone();
    }
    let at_first = setting.engine().generate(&requests, &setting.params(1.0));
    let mut lengths: Vec<usize> = (at_first.unwrap().iter())
        .map(|c| setting.tokenizer.decode(&c.tokens).unwrap().len())
        .collect();
    lengths.sort_unstable();
    let median = lengths[64];
    let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
    let local: Vec<f64> = (1..=4)
        .map(|run| {
            let learner = setting.learner(None);
            // It reads the learner's own numbers.
            let engine = TorchEngine::new(learner.policy());
            let rewards = train(setting, run, median, (engine, learner), |_, _| Ok(()));
            eprintln!("local, run {run}: {rewards:.2?}");
            mean(&rewards)
        })
        .collect();
    let mut version = 10;
    let mut sync = |engine: &mut RemoteEngine, learner: &mut TorchLearner| {
        version += 1;
        let folder = setting.folder(&format!("training-{version}"), learner);
        engine.sync(&folder, version, &mut |ids| scores(learner, ids))?;
        Ok(())
    };
    let (mut engine, mut learner) = (remote.clone(), setting.learner(None));
    sync(&mut engine, &mut learner).unwrap();
    let rewards = train(setting, 1, median, (engine, learner), sync);
    eprintln!("remote, run 1: {rewards:.2?}");
    let (remote, centre) = (mean(&rewards), mean(&local));
    let spread = local.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / 3.0;
    // Of one run against four: 4.3 standard errors is one in fifty for three degrees of freedom.
    let allowed = 4.3 * (spread * 1.25).sqrt();
    eprintln!("ten steps: {remote:.3} at the server, {centre:.3} ± {allowed:.3} locally");
    assert!((remote - centre).abs() <= allowed);
}
