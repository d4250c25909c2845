//! Replays the inputs in `testdata/core/fuzz/<target>`: seeds and everything that fuzzing found.
//! `cargo fuzz run core_policy_loss` in `fuzz/` looks for more.

#[path = "common/harness.rs"]
mod harness;

#[test]
fn kept_inputs() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/core/fuzz");
    type Harness = fn(&[u8]);
    let targets: [(&str, Harness); 3] = [
        ("core_policy_loss", harness::policy_loss),
        ("core_advantages", harness::advantages),
        ("core_other", harness::other),
    ];
    for (target, run) in targets {
        let directory = std::fs::read_dir(format!("{root}/{target}")).unwrap();
        let mut n = 0;
        for entry in directory {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            n += 1;
        }
        assert!(n > 0, "no inputs for {target}");
    }
}

/// A few seconds' worth of arbitrary bytes on every test run.
#[test]
fn arbitrary_bytes() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for length in (0..400).cycle().take(20_000) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        harness::policy_loss(&bytes);
        harness::advantages(&bytes);
        harness::other(&bytes);
    }
}
