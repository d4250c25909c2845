//! How fast is `policy_loss`, in tokens a second, and against the same computation in NumPy?
//!
//! ```text
//! cargo bench -p g2rpo-benches --bench policy_loss
//! G2RPO_BENCH_PYTHON=python3 cargo bench -p g2rpo-benches --bench policy_loss
//! ```
//!
//! The batch is 1000 rows of 1000 tokens with a KL term (k3, bias-corrected). With
//! `G2RPO_BENCH_PYTHON` naming a Python that has NumPy, `policy_loss.py` computes loss and gradient
//! of the same streams in the same process run, turn by turn; both must agree to 1e-9 before their
//! times are compared. Both sides use one thread.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use g2rpo_core::{BatchTotals, LossConfig, LossType, Ragged, Role, TokenStreams, policy_loss};

const N_ROWS: usize = 1000;
const N_TOKENS: usize = 1000;

fn streams() -> TokenStreams {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let roles = Ragged::from_rows((0..N_ROWS).map(|_| vec![Role::Own; N_TOKENS]));
    let logp = roles.map(|_| -3.0 * uniform());
    let logp_old = logp.map(|x| x + 0.5 * (uniform() - 0.5));
    let logp_ref = logp.map(|x| x + 0.8 * (uniform() - 0.5));
    let advantages = (0..N_ROWS).map(|_| uniform() - 0.5).collect();
    TokenStreams::new(roles, logp, advantages)
        .and_then(|s| s.with_logp_old(logp_old))
        .and_then(|s| s.with_logp_ref(logp_ref))
        .expect("aligned by construction")
}

fn config(loss_type: LossType) -> LossConfig {
    LossConfig {
        loss_type,
        beta: 0.04,
        epsilon_high: Some(0.28),
        max_completion_length: N_TOKENS,
        ..LossConfig::default()
    }
}

fn throughput(c: &mut Criterion) {
    let streams = streams();
    let mut group = c.benchmark_group("policy_loss");
    group.throughput(Throughput::Elements((N_ROWS * N_TOKENS) as u64));
    group.sample_size(20);
    for loss_type in LossType::ALL {
        let (name, config) = (loss_type.name(), config(*loss_type));
        let totals = BatchTotals::of(&streams.roles, None, &config).expect("valid settings");
        group.bench_function(name, |b| {
            b.iter(|| policy_loss(&streams, &config, &totals).expect("valid streams"));
        });
    }
    group.finish();
}

fn against_numpy(_: &mut Criterion) {
    let Some(python) = std::env::var_os("G2RPO_BENCH_PYTHON") else {
        println!("NumPy comparison skipped: G2RPO_BENCH_PYTHON does not name a Python");
        return;
    };
    let streams = streams();
    let mut numpy = NumPy::start(&python, &streams);
    println!("loss       ours M tokens/s  NumPy M tokens/s  ratio (medians of 7, turn by turn)");
    for loss_type in LossType::ALL {
        let (name, config) = (loss_type.name(), config(*loss_type));
        let totals = BatchTotals::of(&streams.roles, None, &config).expect("valid settings");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            let start = Instant::now();
            let got = policy_loss(&streams, &config, &totals).expect("valid streams");
            ours.push(start.elapsed().as_secs_f64());
            let [seconds, loss, norm] = numpy.run(name);
            theirs.push(seconds);
            let squares: f64 = got.grad_logp.values().iter().map(|g| g * g).sum();
            let agree = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1e-3);
            for (ours, theirs) in [(got.loss, loss), (squares.sqrt(), norm)] {
                assert!(agree(ours, theirs), "{name}: {ours} and {theirs}");
            }
        }
        let rate = |seconds: &mut Vec<f64>| {
            seconds.sort_by(f64::total_cmp);
            1e-6 * (N_ROWS * N_TOKENS) as f64 / seconds[seconds.len() / 2]
        };
        let (ours, theirs) = (rate(&mut ours), rate(&mut theirs));
        let ratio = ours / theirs;
        println!("{name:10} {ours:15.1}  {theirs:16.1}  {ratio:5.1}");
    }
}

/// `policy_loss.py`, told the name of a loss per line.
struct NumPy {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    directory: std::path::PathBuf,
}

impl NumPy {
    fn start(python: &std::ffi::OsStr, streams: &TokenStreams) -> Self {
        let directory = std::env::temp_dir().join(format!("g2rpo-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let write = |name: &str, values: &[f64]| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            std::fs::write(directory.join(name), bytes).expect("room for the streams");
        };
        let flat =
            |stream: &Option<Ragged<f64>>| stream.as_ref().map_or(vec![], |s| s.values().to_vec());
        write("logp", streams.logp.values());
        write("logp_old", &flat(&streams.logp_old));
        write("logp_ref", &flat(&streams.logp_ref));
        write("advantages", &streams.advantages);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/policy_loss.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(&directory)
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("G2RPO_BENCH_PYTHON runs");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            input,
            output,
            directory,
        }
    }

    /// Seconds, loss, and the gradient's Euclidean norm.
    fn run(&mut self, loss: &str) -> [f64; 3] {
        writeln!(self.input, "{loss}").expect("the script listens");
        let mut line = String::new();
        (self.output.read_line(&mut line)).expect("the script answers");
        let numbers: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
        numbers.expect("three numbers")
    }
}

impl Drop for NumPy {
    fn drop(&mut self) {
        // Nothing to do about a process or a directory that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

criterion_group!(benches, throughput, against_numpy);
criterion_main!(benches);
