//! Recipes: merging, several mistakes at once, and what is written is read.

mod mistakes;

use std::fs;

use g2rpo_train::Error;
use g2rpo_train::recipe::read::{merge, parse_set, parse_toml, parse_unset, read_recipe};
use g2rpo_train::recipe::settings::{BrokenRows, DataFormat, Recipe, SchedulerName};
use g2rpo_train::recipe::trl_keys;
use g2rpo_train::recipe::write::{differences, to_toml};

const GOOD: &str = r#"
model_name_or_path = "model"
[data]
dataset_name = "train.jsonl"
dataset_format = "gsm8k"
columns = { question = "problem" }
eval_datasets = { test = "test.jsonl" }
[method]
method = "grpo"
[optim]
learning_rate = 3e-6
[save]
output_dir = "run"
"#;

fn read(texts: &[&str], sets: &[&str]) -> Result<Recipe, Error> {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = (texts.iter().enumerate())
        .map(|(i, text)| {
            let path = dir.path().join(format!("{i}.toml"));
            fs::write(&path, text).unwrap();
            path
        })
        .collect();
    read_recipe(&files, sets)
}

#[test]
fn files_and_settings_are_merged_from_left_to_right() {
    let second =
        "learning_rate = 5e-6\n[data.columns]\nreference = \"final\"\n[train]\nmax_steps = 7";
    let sets = [
        "max_steps=9",
        "optim.lr_scheduler_type=cosine",
        "data.broken_rows = skip",
        "seed=0x10",
    ];
    let recipe = read(&[GOOD, second], &sets).unwrap();
    assert_eq!(recipe.model.model_name_or_path, "model");
    assert_eq!(recipe.optim.learning_rate, 5e-6);
    assert_eq!(recipe.optim.lr_scheduler_type, SchedulerName::Cosine);
    assert_eq!(recipe.data.columns["question"], "problem");
    assert_eq!(recipe.data.columns["reference"], "final");
    assert_eq!(recipe.data.dataset_format, DataFormat::Gsm8k);
    assert_eq!(recipe.data.broken_rows, BrokenRows::Skip);
    assert_eq!((recipe.train.max_steps, recipe.train.seed), (Some(9), 16));
}

#[test]
fn what_files_say_is_taken_back_by_name_and_nothing_is_no_value() {
    let texts = [
        GOOD,
        "max_steps = 7\n[method]\nloss.beta = 0.5\nepsilon = 0.1",
    ];
    let with = |unset: &[&str]| {
        let files = texts
            .iter()
            .flat_map(|text| parse_toml(text, "a.toml").unwrap());
        let unset = unset.iter().map(|key| parse_unset(key).unwrap());
        merge(files.chain(unset).collect(), Vec::new())
    };
    let recipe = with(&["train.max_steps", "beta", "loss.epsilon", "seed"]).unwrap();
    assert_eq!(recipe.train.max_steps, None);
    assert!(
        recipe
            .method
            .overrides
            .values()
            .all(|v| v == &serde_json::json!({}))
            || recipe.method.overrides.is_empty()
    );
    let told = with(&["max_step", "bta"]).unwrap_err().to_string();
    assert!(
        told.contains("--unset: no setting is called `bta`"),
        "{told}"
    );
    assert_eq!(
        parse_unset("max_steps=3").unwrap_err(),
        "--unset max_steps=3: expected a key alone, such as --unset max_steps"
    );
    let told = read(&texts, &["max_steps=", "seed=2"])
        .unwrap_err()
        .to_string();
    assert_eq!(
        told,
        "--set max_steps=: nothing is behind the sign: write a value, '\"\"' for an empty text, or --unset max_steps to \
         leave out what files say"
    );
    let empty = read(&texts, &["system_prompt=\"\""]).unwrap();
    assert_eq!(empty.data.system_prompt.as_deref(), Some(""));
}

/// Everything that is wrong with a recipe.
fn problems(texts: &[&str], sets: &[&str]) -> Vec<String> {
    match read(texts, sets) {
        Err(Error::Recipe(problems)) => {
            let name = |p: &String| p.rsplit_once("/").map_or(p.clone(), |(_, p)| p.to_owned());
            problems.iter().map(name).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_number_that_is_none_hides_no_other_mistake_and_invents_none() {
    let text = "model_name_or_path = \"m\"\ndataset_name = 1979-05-27\noutput_dir = \"run\"\nlearning_rate = nan\nsed = 1\n\
                top_p = 7.0\nuse_peft = inf\nlora_r = 8\n[method]\nloss.beta = -inf\nepsilon = -1.0\nkl_estimator = \"k2\"\n";
    assert_eq!(
        problems(&[text], &["temperature=nan"]),
        [
            "0.toml, line 2: dataset_name: 1979-05-27: no setting is a date",
            "0.toml, line 4: learning_rate: nan is not a finite number",
            "0.toml, line 7: use_peft: inf is not a finite number",
            "0.toml, line 10: loss.beta: -inf is not a finite number",
            "--set: temperature: nan is not a finite number",
            "0.toml, line 6: top_p = 7.0: must be in (0, 1]",
            "0.toml, line 5: sed = 1: unknown key: did you mean seed?",
            "0.toml, line 11: epsilon = -1.0: epsilon = -1 is outside its domain [0, inf)",
        ]
    );
    // A file that is no TOML hides what it says, and nothing is made of that.
    assert_eq!(problems(&["seed = "], &["top_p=7"]).len(), 1);
}

#[test]
fn mistakes_of_the_method_are_told_at_once_with_lines_of_their_own() {
    let text = "[method]\nmethod = \"g2rpo-a\"\nnum_generations = 1\nepsilom = 0.2\n[method.loss]\nbeta = -1.0\n\
                epsilon = \"wide\"\ntop_entropy_quantile = 2.0\n[method.selector]\nkind = \"fixed_fraction\"\n\
                alpha = 1.5\n[method.g2rpo-a]\ncontroller.rato = 3\ncontroller.max = 4.5\n";
    let mut told = problems(&[GOOD, text], &[]);
    told.sort();
    let expected = [
        "line 13: g2rpo-a.controller.rato = 3: unknown key",
        "line 14: g2rpo-a.controller.max = 4.5: initial = 3072 is outside its domain [min, max]",
        "line 3: num_generations = 1: group size 1",
        "line 4: epsilom = 0.2: unknown key: did you mean",
        "line 6: loss.beta = -1.0: beta = -1 is outside",
        "line 7: loss.epsilon = \"wide\": expected a number",
        "line 8: loss.top_entropy_quantile = 2.0: top_entropy_quantile = 2",
        "line 11: selector.alpha = 1.5: alpha = 1.5",
    ];
    for expected in expected {
        let found = told
            .iter()
            .any(|p| p.starts_with(&format!("1.toml, {expected}")));
        assert!(found, "{expected}\n{told:#?}");
    }
    let text = "[method.controller]\nkind = \"fixed\"\namont = 3\namount = { tokens = 3.0 }\n";
    let told = problems(&[GOOD, text], &[]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with("1.toml, line 3: controller.amont = 3: unknown field `amont`"),
        "{told:#?}"
    );
    // Settings that exclude each other or have no effect, each where it stands.
    let text = "[method]\nmethod = \"grpo\"\nsapo_temperature_pos = 0.5\nloss.delta = 2.0\nloss_type = \"vespo\"\n\
                kl_estimator = \"k2\"\nbeta = 0.0\n";
    let told = problems(&[GOOD, text], &[]);
    let lines: Vec<&str> = told.iter().filter_map(|p| p.split(": ").next()).collect();
    assert_eq!(
        lines,
        ["1.toml, line 4", "1.toml, line 3", "1.toml, line 6"],
        "{told:#?}"
    );
}

#[test]
fn what_a_file_says_twice_is_refused_with_both_lines() {
    const END: &str = ", and nothing says which counts: keep one of the two";
    let text = format!("seed = 2{GOOD}[train]\nseed = 1\n");
    assert_eq!(
        problems(&[&text], &[]),
        [format!(
            "0.toml, line 15: seed: line 1 gives it as well{END}"
        )]
    );
    // Under the two names that a setting of the method has, and in a table of a kind.
    let text = "[method]\nepsilon = 0.1\nalpha = 0.5\nloss.epsilon = 0.2\n[method.selector]\nkind = \"fixed_fraction\"\n\
                alpha = 0.25\n";
    assert_eq!(
        problems(&[GOOD, text], &[]),
        [
            format!("1.toml, line 4: loss.epsilon: line 2 gives it as well, as epsilon{END}"),
            format!("1.toml, line 7: selector.alpha: line 3 gives it as well, as alpha{END}"),
        ]
    );
    // A single setting changes the section beside it.
    let text = "[method]\nprobes = 2\n[method.selector]\nkind = \"fixed_fraction\"\nalpha = 0.25\n";
    assert!(problems(&[GOOD, text], &[])[0].contains("line 2: probes = 2: unknown key"));
    let text =
        "[method]\nmethod = \"grpo\"\nalpha = 0.25\n[method.selector]\nkind = \"fixed_fraction\"\n";
    read(&[GOOD, text], &[]).unwrap();
    // Several files go from left to right, and what the command line says twice does.
    let files = [
        "[method]\nepsilon = 0.1\n",
        "[method.loss]\nepsilon = 0.2\n",
    ];
    let epsilon = |texts: &[&str], sets: &[&str]| {
        let recipe = read(texts, sets).unwrap();
        recipe.method.build(10).unwrap().loss.epsilon
    };
    assert_eq!(epsilon(&[GOOD, files[0], files[1]], &[]), 0.2);
    assert_eq!(epsilon(&[GOOD, files[1], files[0]], &[]), 0.1);
    let sets = ["epsilon=0.4", "loss.epsilon=0.3"];
    assert_eq!(epsilon(&[GOOD, files[0]], &sets), 0.3);
    assert_eq!(epsilon(&[GOOD, files[1]], &["epsilon=0.3"]), 0.3);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    fs::write(&path, format!("{GOOD}[method.loss]\nepsilon = 0.2\n")).unwrap();
    let none: [&str; 0] = [];
    assert!(read_recipe(&[&path, &path], &none).is_ok());
}

#[test]
fn what_is_for_one_preset_alone_wins_over_what_the_file_says_of_all() {
    let text =
        "[method]\nepsilon = 0.1\nloss.beta = 0.3\n[method.grpo]\nepsilon = 0.2\nbeta = 0.4\n";
    let loss = read(&[GOOD, text], &[])
        .unwrap()
        .method
        .build(10)
        .unwrap()
        .loss;
    assert_eq!((loss.epsilon, loss.beta), (0.2, 0.4));
}

#[test]
fn a_recipe_that_is_written_is_read() {
    let mut recipe = read(&[GOOD], &["max_steps=3", "system_prompt=say \"so\""]).unwrap();
    recipe
        .data
        .chat_template_kwargs
        .insert("enable_thinking".into(), false.into());
    recipe
        .data
        .chat_template_kwargs
        .insert("depth".into(), 1.5.into());
    for comments in [false, true] {
        let text = to_toml(&recipe, comments);
        let again = merge(parse_toml(&text, "written").unwrap(), Vec::new()).unwrap();
        assert_eq!(again, recipe);
    }
    let other = read(&[GOOD], &["seed=1"]).unwrap();
    let found = differences(&recipe, &other);
    let keys: Vec<&str> = found.iter().map(|d| d.0.as_str()).collect();
    assert_eq!(
        keys,
        ["system_prompt", "chat_template_kwargs", "max_steps", "seed"]
    );
    assert_eq!(found[2], ("max_steps".into(), "3".into(), "none".into()));
}

#[test]
fn what_is_missing_is_named_and_all_mistakes_are_told_at_once() {
    let Err(Error::Recipe(problems)) = read(&["[optim]\nlerning_rate = 1"], &["seed", "seed=x"])
    else {
        panic!("three mistakes and three omissions");
    };
    let expected = [
        "--set seed: expected key=value, such as learning_rate=1e-6",
        "unknown key lerning_rate",
        "--set: seed = \"x\": expected a whole number, 0 or more",
        "model_name_or_path: is missing",
        "dataset_name: is missing",
        "output_dir: is missing",
    ];
    for expected in expected {
        assert!(
            problems.iter().any(|p| p.contains(expected)),
            "{expected}: {problems:#?}"
        );
    }
    let nothing = read(
        &[GOOD.replace("eval_datasets", "#").as_str()],
        &["eval_steps=5"],
    );
    let told = nothing.unwrap_err().to_string();
    assert!(
        told.contains("--set: eval_steps = 5: there is nothing to evaluate on: give eval_datasets")
    );
    for set in ["=", "=1"] {
        let told = parse_set(set).unwrap_err();
        let expected = format!("--set {set}: no key is before the sign: expected key=value");
        assert!(told.starts_with(&expected), "{told}");
    }
}

#[test]
fn an_unknown_method_hides_no_mistake_that_every_method_has() {
    let text = "[method]\nmethod = \"g2rpoa\"\nlearning_rte = 1.0\nepsilon = -1.0\nnum_generations = 1\nalpha = 0.5\n\
                [method.grpo]\nbeta = -2.0\n";
    let mut told = problems(&[GOOD, text], &[]);
    told.sort();
    let expected = [
        "1.toml, line 2: method = \"g2rpoa\": did you mean g2rpo-a?",
        "1.toml, line 3: learning_rte = 1.0: unknown key: did you mean learning_rate?",
        "1.toml, line 4: epsilon = -1.0: epsilon = -1 is outside its domain [0, inf)",
        "1.toml, line 5: num_generations = 1: group size 1",
    ];
    for expected in expected {
        assert!(told.iter().any(|p| p.starts_with(expected)), "{told:#?}");
    }
    // What some method has is no mistake as long as the method is not known.
    assert!(!told.iter().any(|p| p.contains("alpha")), "{told:#?}");
    for method in ["3", "\"nothing\""] {
        let text = format!("[method]\nmethod = {method}\nepsilon = -1.0\n");
        let told = problems(&[GOOD, &text], &[]);
        assert!(
            told.len() == 2 && told.iter().any(|p| p.contains("line 3: epsilon = -1.0")),
            "{told:#?}"
        );
    }
}

#[test]
fn sections_of_the_method_are_merged_and_kinds_replaced() {
    let first = "[method]\nmethod = \"g2rpo-a\"\n[method.loss]\nbeta = 0.04\n[method.selector]\nkind = \"fixed_fraction\"\nalpha = 0.5\n";
    let second = "[method.loss]\nepsilon_high = 0.3\n";
    let recipe = read(
        &[GOOD, first, second],
        &["loss.epsilon=0.1", "max_completion_length=4096"],
    )
    .unwrap();
    let method = recipe.method.build(10).unwrap();
    let loss = method.loss;
    assert_eq!(
        (loss.beta, loss.epsilon, loss.epsilon_high),
        (0.04, 0.1, Some(0.3))
    );
    let all = "[method.selector]\nkind = \"zero_reward_retry\"\n";
    read(&[GOOD, first, all], &["max_completion_length=4096"]).unwrap();
    // What is written out is the same method.
    let text = to_toml(&recipe, true);
    let again = merge(parse_toml(&text, "written").unwrap(), Vec::new()).unwrap();
    assert_eq!(
        again.method.build(10).unwrap(),
        recipe.method.build(10).unwrap()
    );
}

#[test]
fn what_is_said_later_wins_over_what_was_said_for_one_preset() {
    let tables = "[method.g2rpo-a]\ncontroller.initial = 64\ncontroller.max = 256\nmax_completion_length = 512\n\
                  [method.grpo]\nbeta = 0.5\n";
    let controller = |texts: &[&str], sets: &[&str]| {
        let recipe = read(texts, &[&["method=g2rpo-a"], sets].concat()).unwrap();
        let method = recipe.method.build(10).unwrap();
        let printed = serde_json::to_value(&method.controller).unwrap();
        (printed["initial"].as_f64(), printed["max"].as_f64())
    };
    assert_eq!(controller(&[GOOD, tables], &[]), (Some(64.0), Some(256.0)));
    let set = controller(&[GOOD, tables], &["controller.initial=32", "beta=0.1"]);
    assert_eq!(set, (Some(32.0), Some(256.0)));
    let file = "[method.controller]\ninitial = 8\nmax = 128\n";
    assert_eq!(
        controller(&[GOOD, tables, file], &[]),
        (Some(8.0), Some(128.0))
    );
    assert_eq!(
        controller(&[GOOD, file, tables], &[]),
        (Some(64.0), Some(256.0))
    );
}

#[test]
fn a_missing_file_is_named() {
    let none: [&str; 0] = [];
    let told = read_recipe(&["no/such.toml"], &none)
        .unwrap_err()
        .to_string();
    assert!(told.starts_with("no/such.toml: "), "{told}");
}

#[test]
fn the_table_of_trls_keys_is_the_documented_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/trl_keys.md");
    let text = fs::read_to_string(path).unwrap();
    let table = text
        .split_once("\n| key")
        .map(|(_, table)| format!("| key{table}"));
    assert_eq!(
        table.as_deref(),
        Some(trl_keys::MARKDOWN),
        "paste the table into {path}"
    );
}
