//! Processes that train together over Gloo: equal to one process, and what happens when one dies, hangs or differs.
//!
//! Every test starts this program again for each rank, with the variables that torchrun sets.

use std::env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use g2rpo_core::{
    BatchTotals, Learner, LossConfig, LossType, Ragged, Role, Scoring, Sequences, TokenStreams,
    WhichPolicy, policy_loss,
};
use g2rpo_libtorch::{DecoderConfig, Gloo, Launch, LearnerConfig, TorchLearner, init_parameters};
use g2rpo_rollout::ranks::{Collective, RankError, RankedLearner, Solo, Values};
use tch::{Device, Kind, Tensor};

/// Where ranks write what they come to; set for them alone.
const FOLDER: &str = "G2RPO_TEST_RANKS";
const STEPS: usize = 5;
const VOCAB: u32 = 11;

/// A rank that the test has started.
struct Rank {
    launch: Launch,
    folder: PathBuf,
}

impl Rank {
    fn this() -> Option<Self> {
        let folder = env::var_os(FOLDER)?;
        tch::set_num_threads(1);
        Some(Self {
            launch: Launch::from_env().unwrap().unwrap(),
            folder: folder.into(),
        })
    }

    fn join(&self, limit: Duration) -> Gloo {
        Gloo::join(&self.launch, limit).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-{}", self.launch.rank))
    }
}

/// Starts a test of this program once for each rank.
fn start(test: &str, size: usize, folder: &Path) -> Vec<Child> {
    // Nobody takes a port in the moment between this and rank 0.
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let one = |rank: usize| {
        let mut command = Command::new(env::current_exe().unwrap());
        (command.args(["--exact", test, "--nocapture"]))
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", size.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env("GLOO_SOCKET_IFNAME", "lo")
            .env("OMP_NUM_THREADS", "1")
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    (0..size).map(one).collect()
}

fn wait(ranks: Vec<Child>) -> Vec<Output> {
    let outputs = ranks.into_iter().map(|rank| rank.wait_with_output());
    outputs.map(Result::unwrap).collect()
}

fn learner(kind: Kind, seed: u64) -> TorchLearner {
    let model = DecoderConfig {
        initializer_range: 0.3,
        ..DecoderConfig::tiny_qwen3(VOCAB as usize, 16, 2, 4, 2)
    };
    let parameters = init_parameters(&model, seed, kind, Device::Cpu).unwrap();
    let config = LearnerConfig {
        max_tokens_per_micro_batch: 24,
        ..LearnerConfig::default()
    };
    TorchLearner::new(&model, parameters, config).unwrap()
}

/// Nine rows of unequal lengths.
fn sequences(step: usize) -> Sequences {
    let row = |i: u32| {
        let n = 4 + (i * 5) % 9;
        (0..n).map(move |t| (t * t + 3 * i + step as u32 + i * t) % VOCAB)
    };
    let tokens = Ragged::from_rows((0..9).map(row));
    Sequences::new(tokens, vec![1, 2, 3, 1, 2, 3, 1, 2, 3]).unwrap()
}

/// Five optimiser steps, on two micro-batches or more each; the parameters before every step and at the end, and
/// the gradient norms.
fn train(ranks: &Arc<dyn Collective>, kind: Kind, loss_type: LossType) -> Vec<f64> {
    let mut learner = RankedLearner::new(learner(kind, 7), ranks.clone(), 2).unwrap();
    let loss = LossConfig {
        loss_type,
        beta: 0.1,
        entropy_coef: 0.01,
        ..LossConfig::default()
    };
    let scoring = Scoring {
        entropy: true,
        ..Scoring::default()
    };
    let mut norms = Vec::new();
    for step in 0..STEPS {
        let sequences = sequences(step);
        let old = learner
            .token_logps(&sequences, WhichPolicy::Current, &scoring)
            .unwrap();
        let roles = Ragged::from_rows(old.logp.lengths().map(|n| vec![Role::Own; n]));
        let advantages = (0..9).map(|i| f64::from(i % 3) - 0.9).collect();
        let streams = TokenStreams::new(roles.clone(), old.logp.clone(), advantages)
            .and_then(|s| s.with_logp_ref(old.logp.map(|l| l * 0.9)))
            .and_then(|s| s.with_logp_old(old.logp.map(|l| l * 1.1)))
            .and_then(|s| s.with_logp_sampling(old.logp.map(|l| l * 1.05)))
            .unwrap();
        let totals = BatchTotals::of(&roles, None, &loss).unwrap();
        (learner.accumulate(&sequences, &scoring, &mut |outputs| {
            let part = policy_loss(&streams.with_outputs(outputs)?, &loss, &totals)?;
            Ok(part.into_grads())
        }))
        .unwrap();
        norms.push(learner.apply(1e-2).unwrap().grad_norm);
    }
    let flat = learner.get().updated().flat().to_kind(Kind::Double);
    let mut values = Vec::<f64>::try_from(flat).unwrap();
    values.extend(norms);
    values
}

/// In f64, where rounding leaves no doubt. In f32 AdamW makes much of gradients near zero.
fn cases() -> impl Iterator<Item = (Kind, LossType)> {
    LossType::ALL.iter().map(|loss| (Kind::Double, *loss))
}

#[test]
fn ranks_are_one_process() {
    if let Some(rank) = Rank::this() {
        let ranks: Arc<dyn Collective> = Arc::new(rank.join(Duration::from_secs(120)));
        for (i, (kind, loss)) in cases().enumerate() {
            let values = Tensor::from_slice(&train(&ranks, kind, loss));
            values.save(rank.file(&i.to_string())).unwrap();
        }
        return;
    }
    tch::set_num_threads(1);
    let solo: Arc<dyn Collective> = Arc::new(Solo);
    let alone: Vec<_> = cases()
        .map(|(kind, loss)| train(&solo, kind, loss))
        .collect();
    for size in [2, 3, 4] {
        let folder = tempfile::tempdir().unwrap();
        for output in wait(start("ranks_are_one_process", size, folder.path())) {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}");
        }
        for (i, (kind, loss)) in cases().enumerate() {
            let file = |rank: usize| {
                let values = Tensor::load(folder.path().join(format!("{i}-{rank}"))).unwrap();
                Vec::<f64>::try_from(values).unwrap()
            };
            let first = file(0);
            let scale = alone[i].iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let differences = alone[i].iter().zip(&first).map(|(a, b)| (a - b).abs());
            let error = differences.fold(0.0, f64::max) / scale;
            println!("{size} ranks, {loss}, {kind:?}: {error:e}");
            assert!(error <= 1e-12, "{size} ranks, {loss}, {kind:?}: {error:e}");
            for rank in 1..size {
                assert_eq!(file(rank), first, "{size} ranks, {loss}: to the bit");
            }
        }
    }
}

#[test]
fn a_rank_with_another_checkpoint_is_named() {
    if let Some(rank) = Rank::this() {
        let ranks = Arc::new(rank.join(Duration::from_secs(60)));
        let other = u64::from(rank.launch.rank == 1);
        let error = RankedLearner::new(learner(Kind::Float, other), ranks, 1).unwrap_err();
        std::fs::write(rank.file("error"), error.to_string()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    wait(start(
        "a_rank_with_another_checkpoint_is_named",
        2,
        folder.path(),
    ));
    for rank in 0..2 {
        let text = std::fs::read_to_string(folder.path().join(format!("error-{rank}"))).unwrap();
        let expected = "rank 1 differs from the others in the hash of the parameters";
        assert!(text.starts_with(expected), "{text}");
    }
}

/// Three ranks that sum until they cannot; the last gets a signal. What the others say, and how soon.
fn interrupted(test: &str, signal: &str) {
    if let Some(rank) = Rank::this() {
        let ranks = rank.join(Duration::from_secs(8));
        let error = loop {
            let mut values = [1.0; 1000];
            if let Err(error) = ranks.sum("a test", Values::F64(&mut values)) {
                break error;
            }
            assert_eq!(values, [3.0; 1000]);
            std::fs::write(rank.file("ready"), "").unwrap();
        };
        assert!(
            matches!(&error, RankError::Lost { ranks, .. } if *ranks == [2]),
            "{error}"
        );
        std::fs::write(rank.file("error"), error.to_string()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut ranks = start(test, 3, folder.path());
    let begin = Instant::now();
    while !folder.path().join("ready-2").exists() {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "no rank is ready"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut last = ranks.pop().unwrap();
    let kill = |signal: &str| {
        let id = last.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    };
    kill(signal);
    let clock = Instant::now();
    let outputs = wait(ranks);
    let waited = clock.elapsed();
    println!("{signal}: the others stopped after {waited:.1?}");
    kill("-KILL");
    last.wait().unwrap();
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    for (rank, output) in outputs.iter().enumerate() {
        let text = std::fs::read_to_string(folder.path().join(format!("error-{rank}")));
        let text = text.unwrap_or_else(|_| String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(
            text.starts_with("rank 2 did not take part in a test"),
            "{text}"
        );
    }
}

#[test]
fn a_rank_that_is_killed_is_named() {
    interrupted("a_rank_that_is_killed_is_named", "-KILL");
}

#[test]
fn a_rank_that_hangs_is_named() {
    interrupted("a_rank_that_hangs_is_named", "-STOP");
}
