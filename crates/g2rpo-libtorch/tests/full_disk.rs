//! A disk that fills while a checkpoint is saved: the kernel refuses to let a file grow, as it does
//! when no space is left.
#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use g2rpo_libtorch::{
    DType, DecoderConfig, Parameters, init_parameters, load_checkpoint, save_checkpoint,
};
use tch::{Device, Kind};

const FOLDER: &str = "G2RPO_TEST_CHECKPOINT";

fn model(seed: u64) -> (DecoderConfig, Parameters) {
    let config = DecoderConfig::tiny_qwen3(300, 64, 1, 2, 1);
    let parameters = init_parameters(&config, seed, Kind::Float, Device::Cpu).unwrap();
    (config, parameters)
}

fn save(folder: &Path, seed: u64) -> g2rpo_libtorch::Result<()> {
    let (config, parameters) = model(seed);
    save_checkpoint(folder, &config, &parameters, DType::F32, None)
}

/// Does nothing of its own: the other test starts it again where no file may grow beyond 64 KiB.
#[test]
fn in_little_space() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let error = save(Path::new(&folder), 2).unwrap_err();
        println!("refused: {error}");
    }
}

#[test]
fn the_old_checkpoint_survives() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 1).unwrap();
    let files = || {
        let mut names: Vec<_> = (std::fs::read_dir(dir.path()).unwrap())
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = files();
    let weights = std::fs::read(dir.path().join("model.safetensors")).unwrap();

    // `ulimit -f` counts blocks of 512 bytes; the signal that goes with the limit is ignored, so
    // that the write fails as on a full disk instead of ending the process.
    let script = "trap '' XFSZ; ulimit -f 128; exec \"$0\" --exact in_little_space --nocapture";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("refused: "), "{said}");
    assert!(
        said.contains("model.safetensors"),
        "the file is named: {said}"
    );

    assert_eq!(files(), before, "nothing half-written stays behind");
    let now = std::fs::read(dir.path().join("model.safetensors")).unwrap();
    assert!(now == weights, "the weights changed");
    load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
}
