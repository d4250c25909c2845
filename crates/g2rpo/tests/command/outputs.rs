//! What commands write, and where: pipes that nobody reads, devices, and files that must not be overwritten.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{place, run};

const BINARY: &str = env!("CARGO_BIN_EXE_g2rpo");

/// What a shell makes of a script in which `$0` is the program.
fn shell(at: &Path, script: &str) -> (i32, String, String) {
    let output = Command::new("bash")
        .args(["-c", script, BINARY])
        .current_dir(at)
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap_or(-1);
    (code, text(output.stdout), text(output.stderr))
}

const ANSWERS: &str = "{\"response\": \"\\\\boxed{5}\", \"reference\": \"5\"}\n\n{\"response\": 5}\n[1]\n\
    {\"response\": \"6\", \"reference\": \"7\", \"verifier\": \"oracle\"}\n{\"response\": \"#### 7\", \"reference\": \"7\", \"verifier\": \"gsm8k\"}\n";

#[test]
fn lines_that_cannot_be_graded_are_told_one_by_one_and_left_out_if_asked() {
    let place = place();
    let at = place.path();
    fs::write(
        at.join("answers.jsonl"),
        [ANSWERS.as_bytes(), b"\"\xff\"\n"].concat(),
    )
    .unwrap();
    let lines = "answers.jsonl, line 3: column \"response\" is missing or no text\n\
        answers.jsonl, line 4: expected a JSON object\n\
        answers.jsonl, line 5: verifier \"oracle\" is none of gsm8k, math, choice, code\n\
        answers.jsonl, line 7: it is not UTF-8\n";
    let (code, out, err) = run(at, &["verify", "answers.jsonl"]);
    let told = "answers.jsonl: 4 of 6 rows cannot be used: mend them, or leave them out with --broken-rows skip\n";
    assert_eq!((code, out.as_str(), err), (3, "", format!("{lines}{told}")));
    let skip = [
        "verify",
        "answers.jsonl",
        "--broken-rows",
        "skip",
        "--out",
        "graded.jsonl",
    ];
    let (code, out, err) = run(at, &skip);
    let told = "answers.jsonl: 4 of 6 rows cannot be used and are left out\n";
    assert_eq!((code, err), (0, format!("{lines}{told}")));
    assert!(
        out.contains("6: correct") && out.contains("right: 1.000"),
        "{out}"
    );
    assert_eq!(
        fs::read_to_string(at.join("graded.jsonl"))
            .unwrap()
            .lines()
            .count(),
        2
    );
    fs::write(at.join("none.jsonl"), "[1]\n").unwrap();
    let (code, _, err) = run(at, &["verify", "none.jsonl", "--broken-rows", "skip"]);
    assert!(
        code == 3 && err.ends_with("none.jsonl: 1 of 1 rows cannot be used\n"),
        "{err}"
    );
    let (code, _, err) = run(at, &["verify", "answers.jsonl", "--verifier", "oracle"]);
    assert!(
        code == 2 && err.contains("[possible values: gsm8k, math, choice, code]"),
        "{err}"
    );
}

#[test]
fn no_command_writes_over_what_it_reads() {
    let place = place();
    let at = place.path();
    let answer = "{\"response\": \"5\", \"reference\": \"5\"}\n";
    fs::write(at.join("answers.jsonl"), answer).unwrap();
    fs::create_dir(at.join("run")).unwrap();
    for file in ["metrics.jsonl", "recipe.toml"] {
        fs::write(at.join("run").join(file), "").unwrap();
    }
    std::os::unix::fs::symlink("answers.jsonl", at.join("link.jsonl")).unwrap();
    for (args, message) in [
        (
            &["verify", "answers.jsonl", "--out", "./answers.jsonl"][..],
            "--out ./answers.jsonl: that is the file that is read",
        ),
        (
            &["verify", "link.jsonl", "--out", "answers.jsonl"],
            "--out answers.jsonl: that is the file that is read",
        ),
        (
            &["eval", "recipe.toml", "--out", "."],
            "--out .: test.jsonl in it is the data set of eval_datasets",
        ),
    ] {
        let (code, _, err) = run(at, args);
        assert!(
            code == 2 && err.starts_with(message),
            "{args:?}: {code}: {err}"
        );
    }
    assert_eq!(
        fs::read_to_string(at.join("answers.jsonl")).unwrap(),
        answer
    );
}

#[test]
fn pages_and_verdicts_go_to_pipes_as_they_are_and_never_over_parts_of_a_run() {
    let place = place();
    let at = place.path();
    let (code, _, err) = run(
        at,
        &["train", "recipe.toml", "--quiet", "--set", "max_steps=2"],
    );
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = shell(
        at,
        "mkfifo pipe; cat pipe > read & $0 report run --out pipe && wait && test -p pipe && head -c 15 read",
    );
    assert_eq!((code, out.as_str()), (0, "<!doctype html>"), "{err}");
    // Behind the name is a pipe, or a file that something else is written to as well.
    let (code, out, err) = shell(at, "$0 report run --out /dev/stdout | tail -c 8");
    assert_eq!((code, out.trim()), (0, "</html>"), "{err}");
    let script = "echo before > page; $0 report run --out /dev/stdout >> page; head -c 22 page; \
        $0 report run --out /dev/stdout | head -c 9; S=${PIPESTATUS[*]}; echo; echo $S";
    let (code, out, err) = shell(at, script);
    assert_eq!(
        (code, out.as_str()),
        (0, "before\n<!doctype html><!doctype\n0 0\n"),
        "{err}"
    );
    let before = fs::read(at.join("run/metrics.jsonl")).unwrap();
    let (code, _, err) = run(at, &["report", "run", "--out", "run/metrics.jsonl"]);
    assert!(
        code == 2
            && err.contains("metrics.jsonl belongs to the run in run, and would be overwritten"),
        "{code}: {err}"
    );
    assert_eq!(fs::read(at.join("run/metrics.jsonl")).unwrap(), before);
    assert_eq!(run(at, &["report", "run", "--out", "run/report.html"]).0, 0);
}

#[test]
fn a_page_replaces_pages_alone_and_a_check_writes_none() {
    let place = place();
    let at = place.path();
    fs::create_dir(at.join("run")).unwrap();
    fs::write(at.join("run/metrics.jsonl"), "").unwrap();
    let before = fs::read(at.join("train.jsonl")).unwrap();
    fs::create_dir(at.join("folder")).unwrap();
    for (out, message) in [
        (
            "train.jsonl",
            "there is a file that is no HTML page, and would be overwritten: choose another file",
        ),
        ("folder", "it is a folder: choose another file"),
    ] {
        let (code, _, err) = run(at, &["report", "run", "--out", out]);
        assert_eq!(
            (code, err.trim_end()),
            (2, format!("--out {out}: {message}").as_str())
        );
    }
    assert_eq!(fs::read(at.join("train.jsonl")).unwrap(), before);
    fs::write(at.join("empty.html"), "").unwrap();
    fs::write(at.join("old.html"), "\n<HTML>of another program</HTML>").unwrap();
    for out in ["empty.html", "old.html", "new.html", "new.html"] {
        let (code, _, err) = run(at, &["report", "run", "--out", out]);
        assert_eq!(code, 0, "{err}");
        let page = fs::read_to_string(at.join(out)).unwrap();
        assert!(page.starts_with("<!doctype html>"), "{page}");
    }
    let (code, _, err) = run(at, &["report", "run", "--check", "--out", "checked.html"]);
    assert!(
        code == 2 && err.contains("cannot be used with"),
        "{code}: {err}"
    );
    assert!(!at.join("checked.html").exists());
}

#[test]
fn runs_folders_and_files_of_evaluations_are_compared_with_each_other() {
    let place = place();
    let at = place.path();
    let (code, _, err) = run(at, &["eval", "recipe.toml", "--quiet", "--out", "graded"]);
    assert_eq!(code, 0, "{err}");
    fs::create_dir_all(at.join("run/evaluations")).unwrap();
    fs::create_dir_all(at.join("bare")).unwrap();
    fs::write(at.join("run/recipe.toml"), "").unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    fs::write(at.join("bare/.recipe.toml"), "").unwrap();
    let copy = |to: &str| {
        fs::copy(at.join("graded/test.jsonl"), at.join(to)).unwrap();
    };
    // The first is damaged, and not the last.
    fs::write(at.join("run/evaluations/test_step_000003.jsonl"), "{").unwrap();
    copy("run/evaluations/test_step_000006.jsonl");
    copy("other.jsonl");
    for pair in [
        ["graded", "run"],
        ["run", "graded"],
        ["graded/test.jsonl", "run"],
        ["run", "other.jsonl"],
        ["graded", "graded/test.jsonl"],
    ] {
        let (code, out, err) = run(at, &["compare", pair[0], pair[1]]);
        assert_eq!(code, 0, "{pair:?}: {err}");
        assert!(
            out.starts_with("test: ") && out.contains("on 12 problems"),
            "{pair:?}: {out}"
        );
    }
    copy("run/evaluations/hard_step_000006.jsonl");
    assert_eq!(run(at, &["compare", "graded/test.jsonl", "run"]).0, 0);
    let wanted = "expected the folder of a run that evaluated, a folder of `g2rpo eval --out`, or a JSONL file in one";
    for (args, code, message) in [
        (
            ["compare", "run", "other.jsonl"],
            3,
            "no set was evaluated in both: run has hard, test, other.jsonl has other".to_owned(),
        ),
        (
            ["compare", "run", "bare"],
            4,
            format!("bare: the run was not evaluated: {wanted}"),
        ),
        (
            ["compare", "none", "run"],
            4,
            format!("none: there is no such file or folder: {wanted}"),
        ),
        (
            ["compare", "run", "empty"],
            4,
            format!("empty: there is no evaluation in it: {wanted}"),
        ),
    ] {
        let (got, _, err) = run(at, &args);
        assert!(
            got == code && err.starts_with(&message),
            "{args:?}: {got}: {err}"
        );
    }
}

#[test]
fn a_run_needs_a_folder_and_a_changed_recipe_is_told_with_its_ways_out() {
    let place = place();
    let at = place.path();
    for (folder, what) in [("train.jsonl", "it"), ("train.jsonl/run", "train.jsonl")] {
        let set = format!("output_dir={folder}");
        for dry in [&["--dry-run"][..], &[]] {
            let (code, _, err) = run(
                at,
                &[&["train", "recipe.toml", "--set", &set], dry].concat(),
            );
            let told = format!(
                "output_dir = {folder}: {what} is a file, and a folder is needed: choose another name, or move the file away\n"
            );
            assert_eq!((code, err), (4, told));
        }
    }
    let (code, _, err) = run(
        at,
        &["train", "recipe.toml", "--quiet", "--set", "max_steps=2"],
    );
    assert_eq!(code, 0, "{err}");
    let refused = |args: &[&str], ways: &str| {
        let (code, _, err) = run(at, &[&["resume", "run"], args].concat());
        let told = format!("the recipe is changed: say --yes to go on with it, or {ways}\n");
        assert!(code == 2 && err.ends_with(&told), "{code}: {err}");
    };
    let set = ["--set", "max_steps=3"];
    refused(&set, "leave --set and --unset out");
    let recipe = fs::read_to_string(at.join("run/recipe.toml")).unwrap();
    let edited = recipe.replace("learning_rate = 0.001", "learning_rate = 0.01");
    assert_ne!(edited, recipe);
    fs::write(at.join("run/recipe.toml"), edited).unwrap();
    let undo = "undo the edit of run/recipe.toml: run/.recipe.toml has it as it was";
    refused(&[], undo);
    refused(&set, &format!("leave --set and --unset out, and {undo}"));
}

#[test]
fn a_reader_that_goes_away_ends_nothing_loudly() {
    let place = place();
    let at = place.path();
    let rows = "{\"response\": \"5\", \"reference\": \"5\"}\n".repeat(3000);
    fs::write(at.join("answers.jsonl"), rows).unwrap();
    for command in [
        "completions bash",
        "--help",
        "init --from list",
        "verify answers.jsonl",
        "train recipe.toml --dry-run",
    ] {
        // Standard output and standard error are closed while they are written to.
        let script = format!("{{ $0 {command}; echo $? > code; }} 2> told | true; cat code told");
        let (_, out, _) = shell(at, &script);
        assert_eq!(out, "0\n", "{command}");
        let script = format!(
            "{{ RUST_LOG=g2rpo=debug $0 {command}; echo $? > code; }} 2>&1 | true; cat code"
        );
        let (_, out, _) = shell(at, &script);
        assert_eq!(out, "0\n", "{command}");
    }
}
