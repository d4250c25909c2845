//! Makes what the tiny recipes come with: problems, made up, and a model that solves some of them. A few minutes on
//! two cores. The problems are always the same; the model differs in the last digits from machine to machine.
//!
//! ```text
//! cargo run --release -p g2rpo --example make_tiny -- [FOLDER] [STEPS]
//! ```

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use g2rpo::guidance::{Curriculum, TaskFacts};
use g2rpo::libtorch::{DType, LearnerConfig, Model, TorchLearner, device};
use g2rpo::rollout::{ChainProblems, Split, TokenId, write_gsm8k};
use g2rpo::train::data::formats::read_problems;
use g2rpo::train::recipe::settings::DataSettings;
use g2rpo::train::{LrSchedule, LrSchedulerType, TaskOrder, supervised_step};
use serde_json::json;

/// A function of one number and its tests, as HumanEval has them.
fn function(kind: usize, n: i64) -> serde_json::Value {
    type Value = fn(i64, i64) -> i64;
    let (name, says, body, value): (&str, &str, &str, Value) = match kind {
        0 => ("add", "x plus N", "x + N", |x, n| x + n),
        1 => ("sub", "x minus N", "x - N", |x, n| x - n),
        2 => ("mul", "N times x", "N * x", |x, n| n * x),
        3 => ("top", "the larger of x and N", "max(x, N)", i64::max),
        _ => ("low", "the smaller of x and N", "min(x, N)", i64::min),
    };
    let [says, body] = [says, body].map(|text| text.replace('N', &n.to_string()));
    let asserts: String = [0, 3, 50, 200]
        .map(|x| format!("    assert candidate({x}) == {}\n", value(x, n)))
        .concat();
    json!({
        "task_id": format!("tiny/{name}_{n}"),
        "prompt": format!("def {name}_{n}(x):\n    \"\"\"Return {says}.\"\"\"\n"),
        "canonical_solution": format!("    return {body}\n"),
        "test": format!("def check(candidate):\n{asserts}"),
        "entry_point": format!("{name}_{n}"),
    })
}

/// Writes the functions of some numbers; a model that is tested has seen others.
fn write_functions(path: &Path, numbers: impl Iterator<Item = i64>) -> Result<()> {
    let rows = numbers.flat_map(|n| (0..5).map(move |kind| function(kind, n)));
    let text: String = rows.map(|row| format!("{row}\n")).collect();
    Ok(fs::write(path, text)?)
}

/// Numbers whose functions are evaluated on.
fn is_held_out(n: &i64) -> bool {
    n % 6 == 1
}

fn maths_prompt(question: &str) -> String {
    format!("{question}\n")
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/tiny");
    let folder = words.next().map_or(recipes, PathBuf::from);
    let steps = words.next().map_or(Ok(180), |word| word.parse())?;
    fs::create_dir_all(&folder)?;
    let problems = |steps, n, split| ChainProblems::default().generate(steps, n, split, 0);
    write_gsm8k(
        folder.join("tiny-train.jsonl"),
        &problems(2, 160, Split::Train)?,
    )?;
    write_gsm8k(
        folder.join("tiny-test.jsonl"),
        &problems(2, 24, Split::HeldOut)?,
    )?;
    write_functions(
        &folder.join("tiny-code.jsonl"),
        (10..50).filter(|n| !is_held_out(n)).take(12),
    )?;
    write_functions(
        &folder.join("tiny-code-test.jsonl"),
        (10..50).filter(is_held_out).take(3),
    )?;

    let maths = problems(2, 400, Split::Train)?.into_iter();
    let maths = maths.filter_map(|task| Some((maths_prompt(&task.question), task.solution?)));
    let place = tempfile::tempdir()?;
    let file = place.path().join("functions.jsonl");
    write_functions(&file, (2..100).filter(|n| !is_held_out(n)))?;
    let code = read_problems(&file, &DataSettings::default(), None)?;
    let code = code.problems.into_iter();
    let code = code.filter_map(|p| Some((format!("{}\n", p.question), p.solution?)));
    let pairs: Vec<(String, String)> = maths.chain(code).collect();

    // It knows the maths already.
    let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gsm8k_tiny/warm_up");
    let cpu = device("cpu")?;
    let model = Model::load(start, cpu, Some(DType::F32))?;
    let eos = model.eos()?;
    let settings = LearnerConfig {
        gradient_checkpointing: false,
        ..LearnerConfig::default()
    };
    let mut learner = TorchLearner::of(&model, settings)?;
    let ids = |text: &str| model.tokenizer.encode(text);
    let examples = (pairs.iter())
        .map(|(prompt, answer)| Ok((ids(prompt)?, [ids(answer)?, vec![eos]].concat())))
        .collect::<Result<Vec<(Vec<TokenId>, Vec<TokenId>)>>>()?;
    let schedule = LrSchedule {
        learning_rate: 2e-3,
        lr_scheduler_type: LrSchedulerType::Cosine,
        warmup_steps: 10.0,
        num_training_steps: steps,
    };
    let facts = vec![TaskFacts::default(); examples.len()];
    let mut order = TaskOrder::new(facts, Curriculum::Shuffled, None, 0)?;
    for step in 0..steps {
        let chosen = order.take(16, &[])?;
        let pairs = chosen
            .iter()
            .map(|&i| (&examples[i].0[..], &examples[i].1[..]));
        let (loss, _) = supervised_step(&mut learner, pairs, schedule.lr(step))?;
        if step % 10 == 9 {
            eprintln!("step {}: loss {loss:.4}", step + 1);
        }
    }
    // In 16 bits it takes half of the room.
    let wide = place.path().join("model");
    model.save(&wide, &learner)?;
    let narrow = Model::load(&wide, cpu, Some(DType::Bf16))?;
    let learner = TorchLearner::of(&narrow, LearnerConfig::default())?;
    narrow.save(folder.join("tiny-model"), &learner)?;
    Ok(())
}
