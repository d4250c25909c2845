//! Measures training by several processes: the same batch of 32 rows, updated from ten times, however many ranks there are.
//!
//! ```text
//! cargo build --release --example ranks
//! OMP_NUM_THREADS=1 target/release/examples/ranks
//! OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 --no-python target/release/examples/ranks
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads};
use g2rpo_libtorch::{
    DecoderConfig, Launch, LearnerConfig, ProcessGroup, TorchLearner, init_parameters,
};
use g2rpo_rollout::ranks::{Collective, RankedLearner, Solo};
use tch::{Device, Kind};

const VOCAB: u32 = 4096;
const ROWS: u32 = 32;
const LENGTH: u32 = 128;
const UPDATES: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    tch::set_num_threads(1);
    let ranks: Arc<dyn Collective> = match Launch::from_env()? {
        Some(launch) => Arc::new(ProcessGroup::join(
            &launch,
            Device::Cpu,
            Duration::from_secs(300),
        )?),
        None => Arc::new(Solo),
    };
    let model = DecoderConfig::tiny_qwen3(VOCAB as usize, 256, 6, 4, 2);
    let parameters = init_parameters(&model, 7, Kind::Float, Device::Cpu)?;
    let learner = TorchLearner::new(&model, parameters, LearnerConfig::default())?;
    let mut learner = RankedLearner::new(learner, ranks.clone(), 10)?;
    let row = |i: u32| (0..LENGTH).map(move |t| (t * t + 31 * i) % VOCAB);
    let sequences = Sequences::new(
        Ragged::from_rows((0..ROWS).map(row)),
        vec![32; ROWS as usize],
    )?;

    let mut update = || {
        learner.accumulate(&sequences, &Scoring::default(), &mut |outputs| {
            let n = f64::from(ROWS * (LENGTH - 32));
            Ok(TokenGrads {
                logp: outputs.logp.map(|_| -1.0 / n),
                entropy: None,
            })
        })?;
        learner.apply(1e-3)
    };
    let mut norm = update()?.grad_norm;
    let clock = Instant::now();
    for _ in 0..UPDATES {
        norm = update()?.grad_norm;
    }
    let seconds = clock.elapsed().as_secs_f64() / f64::from(UPDATES);
    println!(
        "rank {} of {}: {} parameters, {seconds:.3} s an update, {:.0} tokens/s together, peak memory {}, last gradient norm {norm:.9}",
        ranks.rank(),
        ranks.size(),
        model.num_parameters(),
        f64::from(ROWS * LENGTH) / seconds,
        peak_memory(),
    );
    Ok(())
}

/// Most memory this process has had, as Linux says it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".into(), |kb| kb.trim().to_owned())
}
