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
use g2rpo_libtorch::{
    DecoderConfig, Launch, LearnerConfig, ProcessGroup, TorchLearner, init_parameters,
};
use g2rpo_rollout::ranks::{Collective, DataParallel, RankError, RankedLearner, Solo, Values};
use tch::{Device, Kind, Tensor};

/// Where ranks write what they come to; set for them alone.
const FOLDER: &str = "G2RPO_TEST_RANKS";
const STEPS: usize = 5;

/// Large, so that what differs after a step shows in the next.
const LR: f64 = 1e-2;
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

    fn join(&self, limit: Duration) -> ProcessGroup {
        ProcessGroup::join(&self.launch, Device::Cpu, limit).unwrap()
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

/// Lengths of the rows of a batch, which say how it is divided.
const BATCHES: [&[u32]; 3] = [
    // Parts of unequal numbers of rows.
    &[4, 9, 5, 10, 6, 11, 7, 12, 8],
    // One rank has the long row alone, and of three or four ranks the first has nothing to do.
    &[40, 4, 5, 4, 6],
    // Of three or four ranks one or two have nothing to do.
    &[12, 11],
];

fn sequences(lengths: &[u32], step: usize) -> Sequences {
    let row = |i: u32, n: u32| (0..n).map(move |t| (t * t + 3 * i + step as u32 + i * t) % VOCAB);
    let rows = lengths.iter().enumerate();
    let tokens = Ragged::from_rows(rows.map(|(i, n)| row(i as u32, *n)));
    let prompts = (0..lengths.len()).map(|i| 1 + i % 3).collect();
    Sequences::new(tokens, prompts).unwrap()
}

/// What training comes to, in f64 whatever it was computed in.
const PARTS: [&str; 4] = [
    "the first gradient",
    "the gradient after the last update",
    "the parameters after it",
    "the norms of all gradients",
];

#[derive(Debug, Clone, Copy)]
struct Case {
    kind: Kind,
    loss: LossType,
    lengths: &'static [u32],
}

fn cases() -> impl Iterator<Item = Case> {
    [Kind::Double, Kind::Float].into_iter().flat_map(|kind| {
        LossType::ALL.iter().flat_map(move |&loss| {
            BATCHES.map(|lengths| Case {
                kind,
                loss,
                lengths,
            })
        })
    })
}

/// Five optimiser steps, on two micro-batches or more each.
fn train(ranks: &Arc<dyn Collective>, case: Case) -> [Vec<f64>; 4] {
    let mut learner = RankedLearner::new(learner(case.kind, 7), ranks.clone(), 2).unwrap();
    let loss = LossConfig {
        loss_type: case.loss,
        beta: 0.1,
        entropy_coef: 0.01,
        ..LossConfig::default()
    };
    let scoring = Scoring {
        entropy: true,
        ..Scoring::default()
    };
    let accumulate = |learner: &mut RankedLearner<TorchLearner>, step| {
        let sequences = sequences(case.lengths, step);
        let old = learner
            .token_logps(&sequences, WhichPolicy::Current, &scoring)
            .unwrap();
        let roles = Ragged::from_rows(old.logp.lengths().map(|n| vec![Role::Own; n]));
        let rows = 0..sequences.n_rows();
        let advantages = rows.map(|i| (i % 3) as f64 - 0.9).collect();
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
    };
    let wide = |flat: &Tensor| Vec::<f64>::try_from(flat.to_kind(Kind::Double)).unwrap();
    let gradient = |learner: &mut RankedLearner<TorchLearner>, step| {
        accumulate(learner, step);
        learner.get_mut().sum_gradient(&**ranks).unwrap();
        let gradient = wide(learner.get().gradient());
        learner.get_mut().clear_gradient().unwrap();
        gradient
    };
    let first = gradient(&mut learner, 0);
    let mut norms = Vec::new();
    for step in 0..STEPS {
        accumulate(&mut learner, step);
        norms.push(learner.apply(LR).unwrap().grad_norm);
    }
    let parameters = wide(learner.get().updated().flat());
    let last = gradient(&mut learner, STEPS);
    [first, last, parameters, norms]
}

/// Length of the difference of two vectors, in parts of the length of the first.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let squares = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let apart = squares(&mut one.iter().zip(other).map(|(a, b)| a - b));
    apart / squares(&mut one.iter().copied())
}

/// In f64 to 1e-12. In f32 no farther apart than rounding moves a single process: its distance from f64, the largest of
/// all cases, for each part.
#[test]
fn ranks_are_one_process() {
    if let Some(rank) = Rank::this() {
        let ranks: Arc<dyn Collective> = Arc::new(rank.join(Duration::from_secs(120)));
        for (i, case) in cases().enumerate() {
            let values = Tensor::from_slice(&train(&ranks, case).concat());
            values.save(rank.file(&i.to_string())).unwrap();
        }
        return;
    }
    tch::set_num_threads(1);
    let solo: Arc<dyn Collective> = Arc::new(Solo);
    let alone: Vec<_> = cases().map(|case| train(&solo, case)).collect();
    // Cases in f64 come first, those in f32 behind them in the same order.
    let (exact, rounded) = alone.split_at(alone.len() / 2);
    let rounding = |part: usize| {
        let apart = (exact.iter().zip(rounded))
            .map(|(exact, rounded)| distance(&exact[part], &rounded[part]));
        apart.fold(0.0, f64::max)
    };
    let roundings: [f64; 4] = std::array::from_fn(rounding);
    println!("one process in f32, distance from f64: {roundings:?}");
    let mut problems = Vec::new();
    for size in [2, 3, 4] {
        let folder = tempfile::tempdir().unwrap();
        for output in wait(start("ranks_are_one_process", size, folder.path())) {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}");
        }
        for ((i, case), alone) in cases().enumerate().zip(&alone) {
            let file = |rank: usize| {
                let values = Tensor::load(folder.path().join(format!("{i}-{rank}"))).unwrap();
                Vec::<f64>::try_from(values).unwrap()
            };
            let first = file(0);
            let mut rest = &first[..];
            for ((part, alone), rounding) in PARTS.iter().zip(alone).zip(roundings) {
                let (values, behind) = rest.split_at(alone.len());
                rest = behind;
                let error = distance(alone, values);
                let said = format!("{size} ranks, {case:?}, {part}: {error:e}");
                println!("{said}");
                let limit = if case.kind == Kind::Double {
                    1e-12
                } else {
                    rounding
                };
                if error.is_nan() || error > limit {
                    problems.push(said);
                }
            }
            for rank in 1..size {
                assert_eq!(file(rank), first, "{size} ranks, {case:?}: to the bit");
            }
        }
    }
    assert_eq!(problems, [""; 0]);
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

/// Three ranks that sum until they cannot; one gets a signal. What the others say, and how soon.
fn interrupted(test: &str, victim: usize, signal: &str) {
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
            matches!(&error, RankError::Lost { ranks, .. } if *ranks == [victim]),
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
    let mut last = ranks.remove(victim);
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
    for (rank, output) in (0..3).filter(|rank| *rank != victim).zip(&outputs) {
        let text = std::fs::read_to_string(folder.path().join(format!("error-{rank}")));
        let text = text.unwrap_or_else(|_| String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(
            text.starts_with(&format!("rank {victim} did not take part in a test")),
            "{text}"
        );
    }
}

#[test]
fn a_rank_that_is_killed_is_named() {
    interrupted("a_rank_that_is_killed_is_named", 2, "-KILL");
}

#[test]
fn a_rank_that_hangs_is_named() {
    interrupted("a_rank_that_hangs_is_named", 2, "-STOP");
}

/// Rank 0 holds the store, which says nothing any more either.
#[test]
fn a_rank_0_that_hangs_is_named() {
    interrupted("a_rank_0_that_hangs_is_named", 0, "-STOP");
}
