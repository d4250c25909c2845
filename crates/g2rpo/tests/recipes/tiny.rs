//! What the tiny recipes come with: problems, made up, and a model that solves some of them.

use std::fs;
use std::path::{Path, PathBuf};

use g2rpo::guidance::{Curriculum, TaskFacts};
use g2rpo::libtorch::{DType, LearnerConfig, Model, TorchLearner, device};
use g2rpo::rollout::{ChainProblems, Split, TokenId, write_gsm8k};
use g2rpo::train::data::formats::read_problems;
use g2rpo::train::recipe::settings::DataSettings;
use g2rpo::train::{LrSchedule, LrSchedulerType, TaskOrder, supervised_step};
use serde_json::json;

/// Where they are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/tiny")
}

/// A function of one number and its tests, as HumanEval has them.
fn function(kind: usize, n: i64) -> serde_json::Value {
    let (name, says, body): (&str, String, String) = match kind {
        0 => ("add", format!("Return x plus {n}."), format!("x + {n}")),
        1 => ("sub", format!("Return x minus {n}."), format!("x - {n}")),
        2 => ("mul", format!("Return {n} times x."), format!("{n} * x")),
        3 => (
            "top",
            format!("Return the larger of x and {n}."),
            format!("max(x, {n})"),
        ),
        _ => (
            "low",
            format!("Return the smaller of x and {n}."),
            format!("min(x, {n})"),
        ),
    };
    let value = |x: i64| match kind {
        0 => x + n,
        1 => x - n,
        2 => n * x,
        3 => x.max(n),
        _ => x.min(n),
    };
    let asserts: String = [0, 3, 50, 200]
        .map(|x| format!("    assert candidate({x}) == {}\n", value(x)))
        .concat();
    json!({
        "task_id": format!("tiny/{name}_{n}"),
        "prompt": format!("def {name}_{n}(x):\n    \"\"\"{says}\"\"\"\n"),
        "canonical_solution": format!("    return {body}\n"),
        "test": format!("def check(candidate):\n{asserts}"),
        "entry_point": format!("{name}_{n}"),
    })
}

/// Writes the functions of some numbers; a model that is tested has seen others.
fn write_functions(path: &Path, numbers: impl Iterator<Item = i64>) {
    let rows = numbers.flat_map(|n| (0..5).map(move |kind| function(kind, n)));
    let text: String = rows.map(|row| format!("{row}\n")).collect();
    fs::write(path, text).unwrap();
}

/// Numbers whose functions are evaluated on.
fn is_held_out(n: &i64) -> bool {
    n % 6 == 1
}

fn maths_prompt(question: &str) -> String {
    format!("{question}\n")
}

/// Makes everything in recipes/tiny anew; a few minutes on two cores. What comes out differs in the last
/// digits from machine to machine.
#[test]
#[ignore = "makes what is shipped"]
fn make() {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let problems = |steps, n, split| {
        ChainProblems::default()
            .generate(steps, n, split, 0)
            .unwrap()
    };
    write_gsm8k(
        folder.join("tiny-train.jsonl"),
        &problems(2, 160, Split::Train),
    )
    .unwrap();
    write_gsm8k(
        folder.join("tiny-test.jsonl"),
        &problems(2, 24, Split::HeldOut),
    )
    .unwrap();
    write_functions(
        &folder.join("tiny-code.jsonl"),
        (10..50).filter(|n| !is_held_out(n)).take(12),
    );
    write_functions(
        &folder.join("tiny-code-test.jsonl"),
        (10..50).filter(is_held_out).take(3),
    );

    let maths = problems(2, 400, Split::Train).into_iter();
    let maths = maths.map(|task| (maths_prompt(&task.question), task.solution.unwrap()));
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("functions.jsonl");
    write_functions(&file, (2..100).filter(|n| !is_held_out(n)));
    let code = read_problems(&file, &DataSettings::default(), None).unwrap();
    let code = code.problems.into_iter();
    let code = code.map(|p| (format!("{}\n", p.question), p.solution.unwrap()));
    let pairs: Vec<(String, String)> = maths.chain(code).collect();

    // It knows the maths already.
    let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gsm8k_tiny/warm_up");
    let cpu = device("cpu").unwrap();
    let model = Model::load(start, cpu, Some(DType::F32)).unwrap();
    let eos = model.eos().unwrap();
    let settings = LearnerConfig {
        gradient_checkpointing: false,
        ..LearnerConfig::default()
    };
    let mut learner = TorchLearner::of(&model, settings).unwrap();
    let ids = |text: &str| model.tokenizer.encode(text).unwrap();
    let examples: Vec<(Vec<TokenId>, Vec<TokenId>)> = (pairs.iter())
        .map(|(prompt, answer)| (ids(prompt), [ids(answer), vec![eos]].concat()))
        .collect();
    let steps = std::env::var("G2RPO_STEPS").map_or(180, |n| n.parse().unwrap());
    let schedule = LrSchedule {
        learning_rate: 2e-3,
        lr_scheduler_type: LrSchedulerType::Cosine,
        warmup_steps: 10.0,
        num_training_steps: steps,
    };
    let facts = vec![TaskFacts::default(); examples.len()];
    let mut order = TaskOrder::new(facts, Curriculum::Shuffled, None, 0).unwrap();
    for step in 0..steps {
        let chosen = order.take(16, &[]).unwrap();
        let pairs = chosen
            .iter()
            .map(|&i| (&examples[i].0[..], &examples[i].1[..]));
        let (loss, _) = supervised_step(&mut learner, pairs, schedule.lr(step)).unwrap();
        if step % 10 == 9 {
            let (prompt, answer) = &examples[examples.len() - 1];
            let (n, m) = (prompt.len(), answer.len());
            eprintln!(
                "step {}: loss {loss:.4}; code has {n} and {m} tokens",
                step + 1
            );
        }
    }
    // In 16 bits it takes half of the room.
    let wide = place.path().join("model");
    model.save(&wide, &learner).unwrap();
    let narrow = Model::load(&wide, cpu, Some(DType::Bf16)).unwrap();
    let learner = TorchLearner::of(&narrow, LearnerConfig::default()).unwrap();
    narrow.save(folder.join("tiny-model"), &learner).unwrap();
}
