//! A real vLLM against our own engine and learner, where there is one: `G2RPO_VLLM` names a server
//! of `examples/gsm8k_tiny/warm_up` (or of the folder `G2RPO_VLLM_MODEL`) in float32, started as
//! docs/remote.md says; `G2RPO_VLLM_SERVE` is a command that starts one on the port that stands for
//! `{port}`, for the test that kills it. The server must see this machine's files.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use g2rpo::core::{
    Learner, Ragged, Scoring, Sequences, TokenGrads, TokenId, TokenOutputs, WhichPolicy,
};
use g2rpo::libtorch::{
    Checkpoint, DType, Decoder, HfTokenizer, LearnerConfig, LoraConfig, TorchEngine, TorchLearner,
    load_checkpoint, save_checkpoint,
};
use g2rpo::rollout::{
    ChainProblems, Completion, Request, RolloutEngine, RolloutKey, SamplingParams, Split,
};
use g2rpo_remote::{Error, RemoteConfig, RemoteEngine, Route, WeightSync, write_untied};
use tch::{Device, Kind};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Setting {
    url: String,
    checkpoint: Checkpoint,
    tokenizer: std::sync::Arc<HfTokenizer>,
    prompts: Vec<Vec<TokenId>>,
    folders: tempfile::TempDir,
}

fn model() -> PathBuf {
    match std::env::var_os("G2RPO_VLLM_MODEL") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gsm8k_tiny/warm_up"),
    }
}

fn setting(url: String) -> Setting {
    let folder = model();
    let tokenizer = HfTokenizer::from_dir(&folder).unwrap();
    let tasks = ChainProblems::default()
        .generate(2, 64, Split::HeldOut, 0)
        .unwrap();
    let prompt = |question: &str| {
        let text = format!("Question: {question}\nAnswer:");
        tokenizer.encode(&text).unwrap()
    };
    Setting {
        url,
        checkpoint: load_checkpoint(&folder, Some(Kind::Float), Device::Cpu).unwrap(),
        prompts: tasks.iter().map(|task| prompt(&task.question)).collect(),
        tokenizer: tokenizer.into(),
        folders: tempfile::tempdir().unwrap(),
    }
}

impl Setting {
    fn config(&self, weight_sync: WeightSync) -> RemoteConfig {
        RemoteConfig {
            vllm_server_base_url: vec![self.url.clone()],
            vocab_size: Some(self.checkpoint.config.vocab_size),
            weight_sync,
            canary_tolerance: 1e-3,
            ..RemoteConfig::default()
        }
    }

    fn connect(&self, weight_sync: WeightSync) -> RemoteEngine {
        let canary = self.prompts[..4].to_vec();
        RemoteEngine::connect(self.config(weight_sync), canary).unwrap()
    }

    fn engine(&self) -> TorchEngine {
        TorchEngine::new(
            &Decoder::new(&self.checkpoint.config, &self.checkpoint.parameters).unwrap(),
        )
    }

    fn learner(&self, lora: Option<LoraConfig>) -> TorchLearner {
        let parameters = self
            .checkpoint
            .parameters
            .to(Kind::Float, Device::Cpu)
            .unwrap();
        let config = LearnerConfig {
            lora,
            ..LearnerConfig::default()
        };
        TorchLearner::new(&self.checkpoint.config, parameters, config).unwrap()
    }

    /// A folder with all weights of the learner, as servers want it.
    fn folder(&self, name: &str, learner: &TorchLearner) -> PathBuf {
        let tied = self.folders.path().join(format!("{name}-tied"));
        let (config, base) = (&self.checkpoint.config, learner.base());
        save_checkpoint(&tied, config, base, DType::F32, Some(&self.tokenizer)).unwrap();
        let folder = self.folders.path().join(name);
        write_untied(&tied, &folder).unwrap();
        folder
    }

    fn requests(&self, step: u64, n: usize, max_new_tokens: usize) -> Vec<Request> {
        (0..n)
            .map(|i| Request {
                prompt: self.prompts[i % self.prompts.len()].clone(),
                guidance: vec![],
                key: RolloutKey {
                    run: 17,
                    step,
                    group: (i % self.prompts.len()) as u32,
                    member: (i / self.prompts.len()) as u32,
                },
                max_new_tokens,
            })
            .collect()
    }

    fn params(&self, temperature: f64) -> SamplingParams {
        SamplingParams {
            temperature,
            stop_token_ids: self.checkpoint.config.eos_token_id.clone(),
            ..SamplingParams::default()
        }
    }
}

/// The learner's log-probabilities of `ids` from the second on.
fn scores(learner: &mut TorchLearner, ids: &[TokenId]) -> Result<Vec<f32>, Failure> {
    let sequences = Sequences::new(Ragged::from_rows([ids.to_vec()]), vec![1])?;
    let out = learner.token_logps(&sequences, WhichPolicy::Current, &Scoring::default())?;
    Ok(out.logp.row(0).iter().map(|logp| *logp as f32).collect())
}

/// One step on some sequences, large enough to be seen in log-probabilities.
fn step(learner: &mut TorchLearner, prompts: &[Vec<TokenId>], lr: f64) {
    let sequences = Sequences::new(Ragged::from_rows(prompts[..8].to_vec()), vec![1; 8]).unwrap();
    let mut loss = |out: &TokenOutputs| {
        Ok(TokenGrads {
            logp: out.logp.map(|_| -0.01),
            entropy: None,
        })
    };
    (learner.accumulate(&sequences, &Scoring::default(), &mut loss)).unwrap();
    learner.apply(lr).unwrap();
}

/// Largest distance of the log-probabilities of completions from those of the learner.
fn largest_distance(
    learner: &mut TorchLearner,
    requests: &[Request],
    completions: &[Completion],
    temperature: f64,
) -> f64 {
    let mut largest = 0.0_f64;
    for (request, completion) in requests.iter().zip(completions) {
        let context = [&request.prompt[..], &request.guidance].concat();
        let row = [&context[..], &completion.tokens].concat();
        let sequences = Sequences::new(Ragged::from_rows([row]), vec![context.len()]).unwrap();
        let scoring = Scoring {
            temperature,
            entropy: false,
        };
        let out = learner
            .token_logps(&sequences, WhichPolicy::Current, &scoring)
            .unwrap();
        for (ours, theirs) in out.logp.row(0).iter().zip(&completion.logps) {
            largest = largest.max((ours - f64::from(*theirs)).abs());
        }
    }
    largest
}

/// One test, as its parts change the weights of the one server.
#[test]
fn against_a_real_server() {
    let Ok(url) = std::env::var("G2RPO_VLLM") else {
        eprintln!("skipped: G2RPO_VLLM names no server, see docs/remote.md");
        return;
    };
    tch::set_num_threads(1);
    let setting = setting(url);
    let mut engine = setting.connect(WeightSync::Folder);
    eprintln!("{:?}", engine.servers().collect::<Vec<_>>());
    // Whatever an earlier run left there.
    let mut start = setting.learner(None);
    let folder = setting.folder("start", &start);
    let report = engine
        .sync(&folder, 0, &mut |ids| scores(&mut start, ids))
        .unwrap();
    eprintln!(
        "folder, as started: {:?}: {}",
        report.time, report.canaries[0]
    );
    greedy(&setting, &mut engine);
    sampled(&setting, &mut engine, &mut start);
    guided(&setting, &mut engine);
    stop_texts(&setting, &mut engine);
    many(&setting, &mut engine);
    cancelled(&setting, &mut engine);
    adapters(&setting, &mut start);
    folders(&setting, &mut engine);
    let report = engine
        .sync(&folder, 9, &mut |ids| scores(&mut start, ids))
        .unwrap();
    eprintln!(
        "folder, back again: {:?}: {}",
        report.time, report.canaries[0]
    );
}

fn greedy(setting: &Setting, engine: &mut RemoteEngine) {
    let requests = setting.requests(1, 64, 48);
    let params = setting.params(0.0);
    let theirs = engine.generate(&requests, &params).unwrap();
    let ours = setting.engine().generate(&requests, &params).unwrap();
    let mut largest = 0.0_f32;
    for (a, b) in theirs.iter().zip(&ours) {
        assert_eq!((&a.tokens, a.stop), (&b.tokens, b.stop));
        assert_eq!(a.weight_versions, Some(vec![0; a.tokens.len()]));
        for (x, y) in a.logps.iter().zip(&b.logps) {
            largest = largest.max((x - y).abs());
        }
    }
    let tokens: usize = ours.iter().map(|c| c.tokens.len()).sum();
    eprintln!("greedy: 64 completions, {tokens} ids equal, log-probabilities within {largest:.1e}");
    assert!(largest < 1e-4);
}

fn sampled(setting: &Setting, engine: &mut RemoteEngine, learner: &mut TorchLearner) {
    let requests = setting.requests(2, 64, 48);
    for (temperature, tolerance) in [(1.0, 1e-4), (0.7, 1e-3)] {
        let params = setting.params(temperature);
        let completions = engine.generate(&requests, &params).unwrap();
        let largest = largest_distance(learner, &requests, &completions, temperature);
        eprintln!("temperature {temperature}: log-probabilities within {largest:.1e}");
        assert!(largest < tolerance);
        // The same keys give the same rollouts, whatever the company.
        let alone = engine.generate(&requests[5..7], &params).unwrap();
        assert_eq!(alone[0].tokens, completions[5].tokens);
        assert_eq!(alone[1].tokens, completions[6].tokens);
    }
    // The other route gives the same.
    let completions = engine
        .generate(&requests[..8], &setting.params(1.0))
        .unwrap();
    assert!(
        engine
            .servers()
            .all(|server| server.route == Route::Generate)
    );
    let members: Vec<Request> = (0..4)
        .map(|member| Request {
            key: RolloutKey {
                member,
                ..requests[0].key
            },
            ..requests[0].clone()
        })
        .collect();
    let members = engine.generate(&members, &setting.params(1.5)).unwrap();
    assert!(members[1..].iter().any(|c| c.tokens != members[0].tokens));
    assert_eq!(completions.len(), 8);
}

/// A prefix is continued as it would have gone on.
fn guided(setting: &Setting, engine: &mut RemoteEngine) {
    let params = setting.params(0.0);
    let plain = setting.requests(3, 16, 32);
    let whole = engine.generate(&plain, &params).unwrap();
    let guided: Vec<Request> = (plain.iter().zip(&whole))
        .map(|(request, whole)| {
            let cut = whole.tokens.len() / 2;
            Request {
                guidance: whole.tokens[..cut].to_vec(),
                max_new_tokens: 32 - cut,
                ..request.clone()
            }
        })
        .collect();
    let rest = engine.generate(&guided, &params).unwrap();
    let mut ids = 0;
    for ((request, rest), whole) in guided.iter().zip(&rest).zip(&whole) {
        assert_eq!([&request.guidance[..], &rest.tokens].concat(), whole.tokens);
        ids += rest.tokens.len();
    }
    eprintln!("guided: 16 prefixes continued exactly, {ids} ids");
}

/// A text ends a completion, and its ids are all there.
fn stop_texts(setting: &Setting, engine: &mut RemoteEngine) {
    let mut params = setting.params(0.0);
    let requests = setting.requests(4, 16, 32);
    let whole = engine.generate(&requests, &params).unwrap();
    params.stop = vec!["=".into()];
    let theirs = engine.generate(&requests, &params).unwrap();
    let ours = TorchEngine::with_tokenizer(setting.engine(), setting.tokenizer.clone())
        .generate(&requests, &params)
        .unwrap();
    let mut shorter = 0;
    for ((a, b), whole) in theirs.iter().zip(&ours).zip(&whole) {
        assert_eq!((&a.tokens, a.stop), (&b.tokens, b.stop));
        shorter += usize::from(a.tokens.len() < whole.tokens.len());
    }
    eprintln!("stop texts: 16 completions as ours, {shorter} of them cut short by the text");
    assert!(shorter > 0);
}

fn many(setting: &Setting, engine: &mut RemoteEngine) {
    let requests = setting.requests(5, 200, 48);
    let params = setting.params(1.0);
    let start = Instant::now();
    let all = engine.generate(&requests, &params).unwrap();
    let time = start.elapsed();
    let tokens: usize = all.iter().map(|c| c.tokens.len()).sum();
    eprintln!("many: 200 requests at once, {tokens} ids in {time:?}");
    for i in [0, 77, 199] {
        let one = engine.generate(&requests[i..=i], &params).unwrap();
        assert_eq!(one[0].tokens, all[i].tokens);
    }
}

fn cancelled(setting: &Setting, engine: &mut RemoteEngine) {
    // Without stop ids every completion goes to its limit.
    let requests = setting.requests(6, 64, 400);
    let canceller = engine.canceller();
    let start = Instant::now();
    let thread = std::thread::spawn({
        let canceller = canceller.clone();
        move || {
            std::thread::sleep(Duration::from_millis(700));
            canceller.cancel();
        }
    });
    let outcome = engine.generate(&requests, &SamplingParams::default());
    let time = start.elapsed();
    thread.join().unwrap();
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    canceller.clear();
    let start = Instant::now();
    engine
        .generate(&requests[..1], &setting.params(0.0))
        .unwrap();
    eprintln!(
        "cancelled: 64 completions of 400 ids ended after {time:?}, the next call took {:?}",
        start.elapsed()
    );
}

fn adapters(setting: &Setting, start: &mut TorchLearner) {
    let config = RemoteConfig {
        // As for bf16: too wide to see a small step, which the canary's direction shows.
        canary_tolerance: 0.05,
        ..setting.config(WeightSync::Adapter)
    };
    let mut engine = RemoteEngine::connect(config, setting.prompts[..4].to_vec()).unwrap();
    let report = engine.confirm(0, &mut |ids| scores(start, ids)).unwrap();
    eprintln!("confirmed: {}", report.canaries[0]);
    let lora = LoraConfig {
        lora_alpha: 16.0,
        target_modules: vec!["all-linear".into()],
        ..LoraConfig::default()
    };
    let mut learner = setting.learner(Some(lora));
    for version in 1..=3 {
        step(&mut learner, &setting.prompts, 1e-3);
        let folder = setting.folders.path().join(format!("adapter-{version}"));
        learner.adapter().unwrap().save(&folder, None).unwrap();
        let report = engine
            .sync(&folder, version, &mut |ids| scores(&mut learner, ids))
            .unwrap();
        eprintln!(
            "adapter {version}: {:?}: {}",
            report.time, report.canaries[0]
        );
        let requests = setting.requests(version, 16, 32);
        let completions = engine.generate(&requests, &setting.params(0.7)).unwrap();
        let largest = largest_distance(&mut learner, &requests, &completions, 0.7);
        eprintln!("adapter {version}: log-probabilities at 0.7 within {largest:.1e}");
        assert!(largest < 1e-3);
        let tokens = completions[0].tokens.len();
        assert_eq!(completions[0].weight_versions, Some(vec![version; tokens]));
    }
    // The learner takes a small step, and the adapter that is sent is the one before it.
    step(&mut learner, &setting.prompts, 1e-5);
    let folder = setting.folders.path().join("adapter-3");
    let error = engine
        .sync(&folder, 4, &mut |ids| scores(&mut learner, ids))
        .unwrap_err();
    eprintln!("adapter, stale: {error}");
    assert!(matches!(error, Error::Canary { .. }), "{error}");
    let error = engine
        .generate(&setting.requests(9, 1, 4), &setting.params(1.0))
        .unwrap_err();
    assert!(error.to_string().contains("sync again"), "{error}");
    let folder = setting.folders.path().join("adapter-5");
    learner.adapter().unwrap().save(&folder, None).unwrap();
    let report = engine
        .sync(&folder, 5, &mut |ids| scores(&mut learner, ids))
        .unwrap();
    eprintln!("adapter 5: {:?}: {}", report.time, report.canaries[0]);
}

fn folders(setting: &Setting, engine: &mut RemoteEngine) {
    let mut learner = setting.learner(None);
    for version in 1..=2 {
        step(&mut learner, &setting.prompts, 1e-4);
        let folder = setting.folder(&format!("folder-{version}"), &learner);
        let report = engine
            .sync(&folder, version, &mut |ids| scores(&mut learner, ids))
            .unwrap();
        eprintln!(
            "folder {version}: {:?}: {}",
            report.time, report.canaries[0]
        );
        let requests = setting.requests(version, 16, 32);
        let completions = engine.generate(&requests, &setting.params(0.7)).unwrap();
        let largest = largest_distance(&mut learner, &requests, &completions, 0.7);
        eprintln!("folder {version}: log-probabilities at 0.7 within {largest:.1e}");
        assert!(largest < 1e-3);
        let tokens = completions[0].tokens.len();
        assert_eq!(completions[0].weight_versions, Some(vec![version; tokens]));
    }
    // Tied embeddings, as our checkpoints have them, never reach the server.
    let error = engine
        .sync(
            setting.folders.path().join("folder-2-tied"),
            3,
            &mut |ids| scores(&mut learner, ids),
        )
        .unwrap_err();
    assert!(matches!(error, Error::Folder { .. }), "{error}");
    step(&mut learner, &setting.prompts, 1e-5);
    let stale = setting.folders.path().join("folder-2");
    let error = engine
        .sync(&stale, 4, &mut |ids| scores(&mut learner, ids))
        .unwrap_err();
    eprintln!("folder, stale: {error}");
    assert!(matches!(error, Error::Canary { .. }), "{error}");
}

/// A server of our own, which can be killed.
struct Owned {
    child: Child,
}

impl Owned {
    fn start(command: &str, port: u16) -> Self {
        let child = Command::new("sh")
            .args([
                "-c",
                &format!("exec {}", command.replace("{port}", &port.to_string())),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child }
    }

    /// The server and its workers.
    fn kill(mut self) {
        let group = format!("-{}", self.child.id());
        Command::new("kill")
            .args(["-9", "--", &group])
            .status()
            .unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_server_that_is_killed_and_started_again_loses_nothing() {
    let Ok(command) = std::env::var("G2RPO_VLLM_SERVE") else {
        eprintln!("skipped: G2RPO_VLLM_SERVE is no command that starts a server");
        return;
    };
    tch::set_num_threads(1);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let setting = setting(format!("http://127.0.0.1:{port}"));
    let server = Owned::start(&command, port);
    let start = Instant::now();
    let mut engine = setting.connect(WeightSync::Folder);
    eprintln!("up after {:?}", start.elapsed());
    let mut learner = setting.learner(None);
    step(&mut learner, &setting.prompts, 1e-4);
    let folder = setting.folder("one", &learner);
    engine
        .sync(&folder, 1, &mut |ids| scores(&mut learner, ids))
        .unwrap();
    let requests = setting.requests(1, 64, 300);
    let params = SamplingParams::default();
    let start = Instant::now();
    let undisturbed = engine.generate(&requests, &params).unwrap();
    let time = start.elapsed();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(time / 3);
        server.kill();
        Owned::start(&command, port)
    });
    let start = Instant::now();
    let completions = engine.generate(&requests, &params);
    let server = killer.join().unwrap();
    let elapsed = start.elapsed();
    let same = completions.as_ref().map(|all| {
        let same = all
            .iter()
            .zip(&undisturbed)
            .filter(|(a, b)| a.tokens == b.tokens);
        same.count()
    });
    eprintln!(
        "64 completions of 300 ids: {time:?}; with a kill and a restart: {elapsed:?}, {same:?} the same"
    );
    server.kill();
    let completions = completions.unwrap();
    assert_eq!(completions.len(), 64);
    for completion in &completions {
        assert_eq!(completion.tokens.len(), 300);
        assert_eq!(completion.weight_versions, Some(vec![1; 300]));
    }
    let largest = largest_distance(&mut learner, &requests[..8], &completions[..8], 1.0);
    eprintln!("log-probabilities after the restart within {largest:.1e}");
    assert!(largest < 1e-3);
}
