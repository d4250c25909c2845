//! What somebody sees who waits for a server. Alone in its file, since other tests would share what `tracing` knows of a
//! place in the code.

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Stub, config, connect};
use g2rpo_remote::RemoteConfig;

#[test]
fn who_waits_for_a_server_is_told_what_for() {
    let mut stub = Stub::start();
    stub.kill();
    let config = RemoteConfig {
        vllm_server_timeout: 4.0,
        ..config(&[&stub])
    };
    let told = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::fmt()
        .with_writer(Told(told.clone()))
        .without_time()
        .with_ansi(false)
        .finish();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1800));
        stub.restart();
        stub
    });
    tracing::subscriber::with_default(subscriber, || connect(config));
    let stub = thread.join().unwrap();
    let told = String::from_utf8(told.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    let at = &stub.url;
    assert!(
        lines[0].contains(&format!(
            "waiting for {at}, at most 4 s (vllm_server_timeout): no connection"
        )),
        "{told}"
    );
    assert!(
        lines[1].contains(&format!("{at} answers after 2 s")),
        "{told}"
    );
}

/// What was told, kept.
#[derive(Clone)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Told {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
