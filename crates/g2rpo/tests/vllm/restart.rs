//! A server that dies in the middle of a call.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use g2rpo::rollout::{RolloutEngine, SamplingParams};
use g2rpo_remote::WeightSync;

use crate::setting::{largest_distance, scores, setting, step};

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
