//! What goes wrong around a run: it goes on, or it ends with one clear sentence and nothing is lost.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{command, place, rows, run};

const BINARY: &str = env!("CARGO_BIN_EXE_g2rpo");

/// Runs a shell script that may mount what it likes, as root of a namespace of its own. Nothing where
/// the system does not allow that.
fn with_mounts(at: &Path, script: &str) -> Option<String> {
    let unshare = |script: &str| {
        Command::new("unshare")
            .args(["-rm", "sh", "-ec", script, BINARY])
            .current_dir(at)
            .env("OMP_NUM_THREADS", "1")
            .output()
    };
    let allowed = unshare("mkdir -p try && mount -t tmpfs none try");
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mounts without root here");
        return None;
    }
    let output = unshare(script).unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_full_disk_ends_the_run_and_with_room_it_goes_on_exactly() {
    let place = place();
    let at = place.path();
    let whole = [
        "train",
        "recipe.toml",
        "--quiet",
        "--set",
        "output_dir=whole",
    ];
    assert_eq!(run(at, &whole).0, 0);
    // There is room for a checkpoint, and not for the next beside it.
    let script = "mkdir run; mount -t tmpfs -o size=15m none run
        $0 train recipe.toml --quiet || echo ends with $?
        mount -o remount,size=100m run
        $0 resume run --quiet; cp -r run kept";
    let Some(told) = with_mounts(at, script) else {
        return;
    };
    assert!(
        told.contains("No space left on device") && told.contains("ends with 4"),
        "{told}"
    );
    assert!(!told.contains("panicked"), "{told}");
    assert_eq!(rows(&at.join("kept")), rows(&at.join("whole")), "{told}");
    let model = |run: &str| fs::read(at.join(run).join("model/model.safetensors")).unwrap();
    assert!(model("kept") == model("whole"));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let place = place();
    let script = "mkdir run; mount -t tmpfs -o ro,size=1m none run
        $0 train recipe.toml --quiet || echo ends with $?";
    let Some(told) = with_mounts(place.path(), script) else {
        return;
    };
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(
        told.contains("run/run.lock: Read-only file system") && told.contains("ends with 4"),
        "{told}"
    );
}

#[test]
fn data_that_went_away_are_named_and_the_run_goes_on_when_they_are_back() {
    let place = place();
    let at = place.path();
    assert_eq!(
        run(
            at,
            &["train", "recipe.toml", "--quiet", "--set", "max_steps=2"]
        )
        .0,
        0
    );
    fs::rename(at.join("train.jsonl"), at.join("away.jsonl")).unwrap();
    let on = ["resume", "run", "--quiet", "--set", "max_steps=4", "--yes"];
    let (code, out, err) = run(at, &on);
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(
        err.ends_with("train.jsonl: No such file or directory (os error 2)\n"),
        "{err}"
    );
    fs::rename(at.join("away.jsonl"), at.join("train.jsonl")).unwrap();
    assert_eq!(run(at, &on).0, 0);
    assert_eq!(rows(&at.join("run")).len(), 4);
}

#[test]
fn rows_that_are_broken_are_told_with_their_lines_and_left_out_if_asked() {
    let place = place();
    let at = place.path();
    let text = fs::read_to_string(at.join("train.jsonl")).unwrap();
    let mut lines: Vec<&str> = text.lines().cycle().take(200).collect();
    lines[49] = "{\"question\": \"How many?\"";
    lines[149] = "{\"question\": \"How many?\", \"answer\": \"many\"}";
    fs::write(at.join("train.jsonl"), lines.join("\n")).unwrap();
    let (code, _, err) = run(at, &["train", "recipe.toml", "--quiet"]);
    let told = "train.jsonl: 2 of 200 rows cannot be used\n  line 50: EOF while parsing an object at column 24\n  \
                line 150: the answer has no line \"#### number\"\n";
    assert_eq!((code, err.as_str()), (3, told));
    let skip = [
        "train",
        "recipe.toml",
        "--quiet",
        "--set",
        "broken_rows=skip",
        "--set",
        "max_steps=1",
    ];
    let (code, _, err) = run(at, &skip);
    assert_eq!((code, err.starts_with(told)), (0, true), "{err}");
}

/// Reads the time of day, and every second time it is thirty years later.
const JUMPING: &str = "#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    static int n;
    if (!real) real = dlsym(RTLD_NEXT, \"clock_gettime\");
    int r = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += n++ % 2 ? 946080000 : -94608000;
    return r;
}";

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let place = place();
    let at = place.path();
    fs::write(at.join("clock.c"), JUMPING).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"])
        .current_dir(at)
        .status();
    assert!(built.unwrap().success());
    let train = |folder: &str| {
        let output = format!("output_dir={folder}");
        let mut command = command(
            at,
            &[
                "train",
                "recipe.toml",
                "--quiet",
                "--set",
                &output,
                "--set",
                "max_steps=4",
            ],
        );
        if folder == "jumping" {
            command.env("LD_PRELOAD", at.join("clock.so"));
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        rows(&at.join(folder))
    };
    assert_eq!(train("jumping"), train("steady"));
    let (code, out, _) = run(at, &["report", "jumping"]);
    assert_eq!(code, 0, "{out}");
}

#[test]
fn a_pipe_that_nobody_empties_holds_up_nothing() {
    let place = place();
    let at = place.path();
    // Some four times what a pipe holds.
    let args = [
        "train",
        "recipe.toml",
        "--set",
        "max_steps=70",
        "--set",
        "log_completions_steps=1",
        "--set",
        "num_completions_to_print=12",
        "--unset",
        "eval_steps",
        "--set",
        "save_steps=70",
    ];
    let mut child = command(at, &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(300),
            "it waits for a reader"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.stdout.len() >= 60_000,
        "{} bytes",
        output.stdout.len()
    );
    assert_eq!(rows(&at.join("run")).len(), 70);
    // A reader that goes away at once.
    let script = "$0 resume run --set max_steps=72 --yes | true; echo \"${PIPESTATUS:-}\"";
    let output = Command::new("bash")
        .args(["-c", script, BINARY])
        .current_dir(at)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with('0'));
    assert_eq!(rows(&at.join("run")).len(), 72);
}

#[test]
fn a_second_process_in_the_folder_is_refused_and_the_first_goes_on() {
    let place = place();
    let at = place.path();
    let args = [
        "train",
        "recipe.toml",
        "--quiet",
        "--set",
        "max_steps=10000",
        "--unset",
        "eval_steps",
    ];
    let mut first = command(at, &args).spawn().unwrap();
    let rows_so_far = || fs::metadata(at.join("run/metrics.jsonl")).map_or(0, |m| m.len());
    while rows_so_far() == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let id = first.id();
    for args in [
        &["train", "recipe.toml"][..],
        &["train", "recipe.toml", "--overwrite"],
        &["resume", "run"],
    ] {
        let (code, _, err) = run(at, args);
        let told = format!(
            "run: it is in use by process {id}: end that one first, or choose another folder\n"
        );
        assert_eq!((code, err), (4, told), "{args:?}");
    }
    let before = rows_so_far();
    while rows_so_far() == before {
        assert!(first.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    first.kill().unwrap();
    first.wait().unwrap();
}
