//! The command over the recipes that come along.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use g2rpo::libtorch::{
    Architecture, DType, DecoderConfig, HfTokenizer, LearnerConfig, Model, TokenizerConfig,
    TorchLearner, device,
};
use g2rpo::rollout::{ChainProblems, Split, Task, write_gsm8k};
use g2rpo::train::evaluate::graded::read_graded;
use serde_json::json;

pub(crate) fn command(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_g2rpo"));
    command.args(args).current_dir(place).env_remove("RUST_LOG");
    command
}

/// What a command that succeeds says on standard output.
pub(crate) fn said(place: &Path, args: &[&str]) -> String {
    let output = command(place, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{args:?}: {:?}\n{err}\n{out}",
        output.status
    );
    out
}

/// The number that follows `before` in a text.
fn number(text: &str, before: &str) -> f64 {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before:?} in {text}"));
    let rest = rest.trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    rest[..end]
        .parse()
        .unwrap_or_else(|e| panic!("{before:?}: {e}: {text}"))
}

/// A recipe as a person runs it: begun, interrupted after a step or two, resumed, evaluated, reported.
/// Returns what `report --check` said, and whether it found the run sound.
pub(crate) fn run_through(at: &Path, recipe: &str, sets: &[String]) -> (bool, String) {
    let name = recipe.trim_end_matches(".toml");
    let run = format!("runs/{name}");
    let metrics = at.join(&run).join("metrics.jsonl");
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let mut child = command(at, &[&["train", recipe], &sets[..]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let steps =
        || fs::read_to_string(&metrics).map_or(0, |rows| rows.matches("\"step_time\"").count());
    while steps() < 2 {
        assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(900));
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("stopped by a signal after step"), "{err}");

    let out = said(at, &["resume", &run]);
    assert!(out.contains("going on after"), "{out}");
    // The estimate of memory holds, and almost all time goes into the work.
    let memory = out.lines().find(|l| l.contains("at its peak")).unwrap();
    let (peak, estimate) = (number(memory, "memory:"), number(memory, "peak,"));
    let times = out
        .lines()
        .find(|l| l.contains("outside sampling"))
        .unwrap();
    eprintln!("{name}: {memory}\n{name}: {times}");
    assert!((peak - estimate).abs() <= 0.2 * peak, "{memory}");
    assert!(
        number(times.split_once(", ").unwrap().1, "") < 2.0,
        "{times}"
    );

    let model = format!("{run}/model");
    let eval = ["eval", recipe, "--model", &model, "--out", "graded"];
    eprintln!("{name}: {}", said(at, &[&eval, &sets[..]].concat()));
    said(at, &["report", &run]);
    let page = fs::read_to_string(at.join(&run).join("report.html")).unwrap();
    assert!(page.contains("guidance length"));
    let output = command(at, &["report", &run, "--check"]).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 5)), "{told}");
    (output.status.success(), told)
}

/// A recipe that comes with all it needs, in about a minute.
fn run_tiny(name: &str) {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    let recipe = format!("{name}.toml");
    said(at, &["init", &recipe, "--from", name]);
    let plan = said(at, &["train", &recipe, "--dry-run"]);
    assert!(
        plan.contains("a step takes") && plan.contains("⟦"),
        "{plan}"
    );
    assert!(!at.join("runs").exists());
    let (sound, told) = run_through(at, &recipe, &[]);
    assert!(sound, "{told}");
    let accuracy = |file: &Path| {
        let graded = read_graded(file).unwrap();
        graded.iter().filter(|s| s.is_correct()).count()
    };
    assert!(accuracy(&at.join("graded/test.jsonl")) > 0);
}

#[test]
fn tiny_maths_from_its_recipe_to_its_report() {
    run_tiny("tiny-math");
}

#[test]
fn tiny_code_from_its_recipe_to_its_report() {
    run_tiny("tiny-code");
}

/// A checkpoint of noise with a chat template of its own.
fn write_model(folder: &Path, architecture: Architecture, texts: &[String]) {
    let tokens = TokenizerConfig {
        special_tokens: vec![
            "<|im_start|>".into(),
            "<|im_end|>".into(),
            "<think>".into(),
            "</think>".into(),
        ],
        ..TokenizerConfig::default()
    };
    let tokenizer = HfTokenizer::train(texts.iter().map(String::as_str), &tokens).unwrap();
    let end = tokenizer.token_to_id("<|im_end|>").unwrap();
    let config = DecoderConfig {
        architecture,
        eos_token_id: vec![end],
        pad_token_id: tokenizer.pad_token_id(),
        ..DecoderConfig::tiny_qwen3(tokenizer.vocab_size(), 32, 2, 2, 1)
    };
    let model = Model::init(config, tokenizer, 0, device("cpu").unwrap(), DType::F32).unwrap();
    let learner = TorchLearner::of(&model, LearnerConfig::default()).unwrap();
    model.save(folder, &learner).unwrap();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                    {% if add_generation_prompt %}<|im_start|>assistant\n\
                    {% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}";
    fs::write(folder.join("chat_template.jinja"), template).unwrap();
}

/// Rows as MATH has them, from level 1 to 5.
fn math_rows(tasks: &[Task]) -> String {
    let row = |task: &Task| {
        let solution = task.solution.as_deref().unwrap_or_default();
        let (steps, answer) = solution.split_once("#### ").unwrap();
        json!({
            "problem": task.question,
            "solution": format!("{steps}So it is $\\boxed{{{answer}}}$."),
            "answer": answer,
            "level": format!("Level {}", 1 + task.id % 5),
        })
    };
    tasks
        .iter()
        .map(|task| format!("{}\n", row(task)))
        .collect()
}

#[test]
fn every_recipe_takes_a_step_as_grpo_and_as_guided() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    let tasks = |n, split| ChainProblems::default().generate(2, n, split, 0).unwrap();
    let (train, test) = (tasks(10, Split::Train), tasks(2, Split::HeldOut));
    for folder in ["gsm8k", "math", "math500", "code", "humaneval"] {
        fs::create_dir(at.join(folder)).unwrap();
    }
    write_gsm8k(at.join("gsm8k/train.jsonl"), &train).unwrap();
    write_gsm8k(at.join("gsm8k/test.jsonl"), &test).unwrap();
    fs::write(at.join("math/train.jsonl"), math_rows(&train)).unwrap();
    fs::write(at.join("math500/test.jsonl"), math_rows(&test)).unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/tiny");
    fs::copy(tiny.join("tiny-code.jsonl"), at.join("code/train.jsonl")).unwrap();
    fs::copy(
        tiny.join("tiny-code-test.jsonl"),
        at.join("humaneval/HumanEval.jsonl"),
    )
    .unwrap();
    // Models of the families and at the places that the recipes name.
    let texts: Vec<String> = train
        .iter()
        .map(|t| format!("{}\n{}", t.question, t.solution.as_deref().unwrap_or("")))
        .collect();
    write_model(&at.join("Qwen/Qwen3-0.6B"), Architecture::Qwen3, &texts);
    write_model(&at.join("Qwen/Qwen3-1.7B"), Architecture::Qwen3, &texts);
    write_model(
        &at.join("HuggingFaceTB/SmolLM2-135M-Instruct"),
        Architecture::Llama,
        &texts,
    );

    let names = said(at, &["init", "--from", "list"]);
    let mut runs = 0;
    for name in names
        .trim()
        .split(", ")
        .filter(|name| !name.starts_with("tiny-"))
    {
        let recipe = format!("{name}.toml");
        said(at, &["init", &recipe, "--from", name]);
        for method in ["grpo", "g2rpo-a"] {
            let run = format!("{name}-{method}");
            let mut args = vec!["train".to_owned(), recipe.clone()];
            let guided: &[&str] = match method {
                "grpo" => &[],
                _ => &["controller.initial=4", "controller.max=8"],
            };
            let sets = [
                &format!("method={method}"),
                &format!("output_dir={run}"),
                "device=cpu",
                "max_steps=1",
                "eval_steps=1",
                "prompts_per_step=2",
                "num_generations=4",
                "max_completion_length=12",
            ];
            args.extend(
                sets.iter()
                    .chain(guided)
                    .flat_map(|set| ["--set".to_owned(), (*set).to_owned()]),
            );
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let out = said(at, &args);
            let kept = format!("{run}/model/model.safetensors");
            assert!(
                out.contains(&format!("method {method} on ")) && at.join(&kept).exists(),
                "{run}: {out}"
            );
            assert!(out.contains("after 1 steps"), "{run}: {out}");
            runs += 1;
        }
    }
    assert_eq!(runs, 12);
}
