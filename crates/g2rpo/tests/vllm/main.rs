//! A real vLLM against our own engine and learner, where there is one: `G2RPO_VLLM` names a server
//! of `examples/gsm8k_tiny/warm_up` (or of the folder `G2RPO_VLLM_MODEL`) in float32, started as
//! docs/remote.md says; `G2RPO_VLLM_SERVE` is a command that starts one on the port that stands for
//! `{port}`, for the test that kills it. The server must see this machine's files.

mod restart;
mod setting;
mod training;

use std::time::{Duration, Instant};

use g2rpo::libtorch::{LoraConfig, TorchEngine, TorchLearner};
use g2rpo::rollout::{Request, RolloutEngine, RolloutKey, SamplingParams};
use g2rpo_remote::{Error, RemoteConfig, RemoteEngine, WeightSync};

use crate::setting::{Setting, largest_distance, scores, setting, step};
use crate::training::trained;

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
    trained(&setting, &engine);
    let report = engine
        .sync(&folder, 99, &mut |ids| scores(&mut start, ids))
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
    // Members of a group differ.
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
