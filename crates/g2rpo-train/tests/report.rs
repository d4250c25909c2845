//! The report page, also as a browser sees it.

use std::f64::consts::PI;
use std::fs;
use std::path::Path;
use std::process::Command;

use g2rpo_train::MetricsRow;
use g2rpo_train::recipe::settings::Recipe;
use g2rpo_train::recipe::write::to_toml;
use g2rpo_train::run::report::page::render_report;
use g2rpo_train::run::report::record::RunRecord;
use g2rpo_train::run::step_log::StepLog;
use serde_json::json;

/// Writes what a run of that seed and method leaves behind, with numbers that look like it.
fn write_run(path: &Path, method: &str, seed: u64) {
    fs::create_dir_all(path).unwrap();
    let mut recipe = Recipe::default();
    recipe.model.model_name_or_path = "model".into();
    recipe.data.dataset_name = "train.jsonl".into();
    recipe
        .data
        .eval_datasets
        .insert("gsm8k".into(), "test.jsonl".into());
    recipe.save.output_dir = path.into();
    recipe.method.method = method.into();
    recipe.train.seed = seed;
    recipe.train.max_steps = Some(120);
    fs::write(path.join("recipe.toml"), to_toml(&recipe, false)).unwrap();
    let guided = method != "grpo";
    let mut metrics = StepLog::create(path.join("metrics.jsonl")).unwrap();
    for step in 0..120_u64 {
        let t = step as f64 / 120.0;
        let noise = ((step * 7919 + seed * 104_729) % 101) as f64 / 101.0 - 0.5;
        let level = if guided { 0.55 } else { 0.3 };
        let reward = 0.04 + level * t + 0.08 * noise;
        let mut row = MetricsRow::new(step);
        row.extend([
            ("reward", reward.max(0.0)),
            (
                "frac_reward_zero_std",
                (0.9 - 0.7 * t + 0.1 * noise).clamp(0.0, 1.0),
            ),
            ("completions/own_length", 60.0 + 40.0 * t + 8.0 * noise),
            ("completions/clipped_ratio", 0.1),
            ("entropy", 1.2 - 0.7 * t + 0.05 * noise),
            ("loss", 1e-3 * noise),
            ("grad_norm", 0.5 + 0.2 * noise),
            ("learning_rate", 1e-6 * (1.0 + (PI * t).cos()) / 2.0),
            ("step_time", 2.0 + noise),
        ]);
        if guided {
            row.put("guidance/length", (24.0 * (1.0 - t)).floor());
            row.put("guidance/tokens", 22.0 * (1.0 - t));
            row.put(
                "guidance/reward_guided",
                (reward + 0.25 * (1.0 - t)).max(0.0),
            );
            row.put("guidance/reward_unguided", (reward - 0.05).max(0.0));
        }
        if step % 20 == 19 {
            row.put(
                "eval/gsm8k/accuracy",
                (0.05 + level * t + 0.03 * noise).max(0.0),
            );
            row.put("eval/gsm8k/problems", 200.0);
        }
        metrics.write(&row).unwrap();
    }
    let mut samples = StepLog::create(path.join("samples.jsonl")).unwrap();
    for step in [100_u64, 110] {
        for (member, reward) in [
            (0, Some(1.0)),
            (1, Some(0.0)),
            (2, None),
            (3, Some(1.0)),
            (4, Some(0.0)),
        ] {
            let guidance = if guided { "There are 48 / 2 = " } else { "" };
            samples
                .write(&json!({
                    "step": step, "task": 7, "member": member, "question": "Natalia sold clips to 48 of her friends <b>…</b>",
                    "hint": "", "guidance": guidance, "completion": "24 in May.\nAltogether 72.\n#### 72", "reference": "72",
                    "verdict": if reward == Some(1.0) { "correct" } else { "incorrect: another value" }, "reward": reward,
                    "advantage": 0.5, "tokens": 20, "truncated": false,
                }))
                .unwrap();
        }
    }
    let mut warnings = StepLog::create(path.join("warnings.jsonl")).unwrap();
    for (step, name) in [
        (3, "no_spread"),
        (4, "no_spread"),
        (40, "guidance_at_maximum"),
        (97, "length_gap"),
    ] {
        warnings
            .write(&json!({"step": step, "name": name, "text": "The share of groups without spread is 0.9 & rising."}))
            .unwrap();
    }
}

fn report() -> String {
    let dir = tempfile::tempdir().unwrap();
    let runs: Vec<RunRecord> = [("g2rpo-a", 1), ("g2rpo-a", 2), ("g2rpo-a", 3), ("grpo", 1)]
        .into_iter()
        .map(|(method, seed)| {
            let path = dir.path().join(format!("{method}-{seed}"));
            write_run(&path, method, seed);
            RunRecord::read(&path).unwrap()
        })
        .collect();
    render_report(&runs)
}

#[test]
fn seeds_are_one_arm_and_everything_is_on_the_page() {
    let html = report();
    for expected in [
        "g2rpo-a-1 and 2 other seeds",
        "accuracy on gsm8k, without guidance",
        "reward of guided and unguided members",
        "guidance length",
        "class=\"band k0\"",
        "Warnings: grpo-1",
        "guidance_at_maximum",
        "<mark>There are 48 / 2 = </mark>24 in May.",
        "&lt;b&gt;…&lt;/b&gt;",
        "<td>method</td><td>&quot;g2rpo-a&quot;</td><td>&quot;grpo&quot;</td>",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
    // Nothing is fetched and nothing runs.
    for forbidden in ["<script", "http:", "https:", "src=", "@import", "url("] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert!(!html.contains("NaN"));
    assert!(html.len() < 600_000, "{}", html.len());
}

#[test]
fn a_folder_without_a_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = RunRecord::read(dir.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("it holds no metrics.jsonl, so no run was started in it"),
        "{error}"
    );
}

/// A browser that is installed, by the names that distributions give it.
fn chromium() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let there = |name: &&str| {
        Command::new(name)
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success())
    };
    names.into_iter().find(there).map(str::to_owned)
}

#[test]
fn a_browser_has_nothing_to_complain_about() {
    let Some(browser) = chromium() else {
        eprintln!("skipped: no Chromium is installed");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    fs::write(&page, report()).unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=2000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            dir.path().join("profile").display()
        ))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    assert!(
        dom.contains("accuracy on gsm8k") && dom.contains("</svg>"),
        "{dom:.300}"
    );
    // What a page does wrong is logged with CONSOLE; the rest is the browser's own.
    let log = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
