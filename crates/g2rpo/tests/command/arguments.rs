//! Wrong arguments: one sentence that says what was meant, and the exit code for them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{place, run};

fn warm_up() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gsm8k_tiny/warm_up")
}

/// Copies a folder of files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_wrong_recipe_or_argument_ends_with_its_code() {
    let place = place();
    let at = place.path();
    let dry = |set: &'static str| vec!["train", "recipe.toml", "--dry-run", "--set", set];
    let mut servers = dry("use_vllm=true");
    servers.extend([
        "--set",
        "api_key_env=G2RPO_NO_SUCH_KEY",
        "--set",
        "vllm_server_timeout=1",
    ]);
    let mut modules = dry("use_peft=true");
    modules.extend(["--set", "lora_target_modules=[\"nonsense\"]"]);
    let generate = |args: &[&'static str]| {
        let model: &'static str = warm_up().to_str().unwrap().to_owned().leak();
        [&["generate", model, "2 and 3?"], args].concat()
    };
    for (args, message) in [
        (dry("model_name_or_path=none/such"), "none/such"),
        (
            dry("model_name_or_path=none"),
            "model: `none`: there is no such folder",
        ),
        (
            dry("model_name_or_path=."),
            ".: it is no model: there is no config.json in it",
        ),
        (dry("device=cuda:99"), "device: `cuda:99` asked for"),
        (
            dry("stop=[\"\"]"),
            "stop = [\"\"]: an empty text would end everything",
        ),
        (
            dry("max_steps="),
            "--set max_steps=: nothing is behind the sign",
        ),
        (
            servers,
            match cfg!(feature = "remote") {
                true => "the environment variable G2RPO_NO_SUCH_KEY holds no key",
                false => "this program was built without servers",
            },
        ),
        (modules, "nonsense"),
        (
            vec!["train", "--config", "none.yaml"],
            match cfg!(feature = "yaml") {
                true => "none.yaml: No such file",
                false => "none.yaml: this program was built without YAML",
            },
        ),
        (
            vec!["eval", "recipe.toml", "--model", "none"],
            "`none`: there is no such folder",
        ),
        (
            generate(&["--device", "cuda:99"]),
            "device: `cuda:99` asked for",
        ),
        (
            generate(&["--top-p", "7", "--temperature", "1"]),
            "--top-p: must be in (0, 1]",
        ),
        (
            generate(&["--repetition-penalty", "0"]),
            "--repetition-penalty: must be above 0",
        ),
        (
            generate(&["--stop", ""]),
            "--stop: an empty text would end everything",
        ),
        (
            generate(&["--min-p", "0.1"]),
            "--min-p: greedy answers are all the same",
        ),
        (
            generate(&["-n", "0"]),
            "-n and --max-completion-length: must be at least 1",
        ),
        (
            generate(&["--raw", "--system", "x"]),
            "--system: with --raw",
        ),
        (
            vec!["generate", "none", "x"],
            "`none`: there is no such folder",
        ),
    ] {
        let (code, _, err) = run(at, &args);
        assert!(
            code == 2 && err.contains(message),
            "{args:?}: {code}: {err}"
        );
        assert!(!err.contains("panicked"), "{err}");
    }
    let (code, _, err) = run(at, &dry("curriculum={continuous=\"pass_rate\"}"));
    assert!(
        code == 3 && err.contains("task 0 has no pass_rate"),
        "{code}: {err}"
    );
    let (code, _, err) = run(at, &["eval", "recipe.toml", "--out", "recipe.toml"]);
    assert!(
        code == 4
            && err.starts_with(
                "--out recipe.toml: it is a file, and a folder is needed: choose another name"
            ),
        "{code}: {err}"
    );
    // A model that is damaged is a file that cannot be used.
    copy(&warm_up(), &at.join("damaged"));
    fs::write(at.join("damaged/config.json"), "{").unwrap();
    let (code, _, err) = run(at, &dry("model_name_or_path=damaged"));
    assert!(
        code == 4 && err.contains("damaged/config.json: not JSON"),
        "{code}: {err}"
    );
}

#[test]
fn folders_with_a_model_in_them_or_a_part_of_one_are_told_from_models() {
    let place = place();
    let at = place.path();
    let short = [
        "train",
        "recipe.toml",
        "--quiet",
        "--set",
        "max_steps=2",
        "--set",
        "use_peft=true",
    ];
    let (code, _, err) = run(at, &short);
    assert_eq!(code, 0, "{err}");
    let told = |args: &[&str], expected: &str| {
        let (code, out, err) = run(at, args);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert_eq!(err.trim_end(), expected);
    };
    let run_folder = "run: it is the folder of a run and not of a model: its model is run/model";
    told(&["generate", "run", "x"], run_folder);
    told(&["eval", "recipe.toml", "--model", "run"], run_folder);
    let set = "model_name_or_path=run";
    told(
        &["train", "recipe.toml", "--quiet", "--dry-run", "--set", set],
        run_folder,
    );
    told(
        &["generate", "run/checkpoints/step_000002", "x"],
        "run/checkpoints/step_000002: it is no model, there is no config.json in it: is run/checkpoints/step_000002/model meant?",
    );
    let base = warm_up();
    let base = base.display();
    told(
        &["generate", "run/adapter", "x"],
        &format!(
            "run/adapter: it is an adapter to {base} (base_model_name_or_path) and not a model: run/model has it merged"
        ),
    );
    fs::rename(at.join("run/adapter"), at.join("lone")).unwrap();
    told(
        &["eval", "recipe.toml", "--model", "lone"],
        &format!(
            "lone: it is an adapter to {base} (base_model_name_or_path) and not a model: merge it, in PEFT by \
             merge_and_unload() and save_pretrained(), and name the folder that comes of it"
        ),
    );
    fs::remove_dir_all(at.join("run/model")).unwrap();
    told(
        &["generate", "run", "x"],
        "run: it is the folder of a run and not of a model; the run did not come to its end, and the model of its last \
         checkpoint is run/checkpoints/step_000002/model",
    );
}

#[test]
fn answers_are_drawn_by_every_setting_that_a_recipe_has() {
    let place = place();
    let at = place.path();
    let model = warm_up();
    let answer = |args: &[&str]| {
        let base = [
            "generate",
            model.to_str().unwrap(),
            "2 and 3?",
            "--max-completion-length",
            "24",
        ];
        let (code, out, err) = run(at, &[&base, args].concat());
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    };
    let greedy = answer(&[]);
    // Of one token, or of next to no mass, every draw is the best.
    let hot = ["--temperature", "1.5", "--seed", "3"];
    let drawn = answer(&hot);
    assert_ne!(drawn, greedy);
    for narrow in [["--top-k", "1"], ["--top-p", "1e-9"], ["--min-p", "1"]] {
        assert_eq!(
            answer(&[&hot[..], &narrow[..]].concat()),
            greedy,
            "{narrow:?}"
        );
    }
    assert_ne!(answer(&["--repetition-penalty", "100"]), greedy);
    let mark = &greedy.trim()[..3];
    let stopped = answer(&["--stop", mark]);
    assert!(
        stopped.len() < greedy.len() && stopped.contains(mark),
        "{stopped:?} {greedy:?}"
    );
}

#[test]
fn a_raw_text_has_around_it_what_the_tokenizer_says() {
    let place = place();
    let at = place.path();
    let model = at.join("begun");
    copy(&warm_up(), &model);
    let path = model.join("tokenizer.json");
    let begin = |raw: &[&str]| {
        run(
            at,
            &[
                &["generate", "begun", "", "--max-completion-length", "2"],
                raw,
            ]
            .concat(),
        )
    };
    let (code, _, err) = begin(&["--raw"]);
    assert!(
        code == 2 && err.starts_with("the prompt is empty"),
        "{code}: {err}"
    );
    let text = fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let [token, id] = ["content", "id"].map(|name| json["added_tokens"][0][name].clone());
    json["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {(token.as_str().unwrap()): {"id": token, "ids": [id], "tokens": [token]}},
    });
    fs::write(&path, json.to_string()).unwrap();
    let (code, _, err) = run(
        at,
        &["generate", "begun", "x", "--max-completion-length", "9999"],
    );
    assert!(
        code == 2 && err.contains("go beyond the 2048 positions that the model was made for"),
        "{code}: {err}"
    );
    // It begins with that token, as transformers has it; so do prompts of training, once.
    assert_eq!((begin(&["--raw"]).0, begin(&[]).0), (0, 0));
    let token = token.as_str().unwrap();
    for template in ["{question}\n", &format!("{token}{{question}}\n")] {
        let (code, out, err) = run(
            at,
            &[
                "train",
                "recipe.toml",
                "--dry-run",
                "--set=model_name_or_path=begun",
                &format!("--set=prompt_template={template:?}"),
            ],
        );
        assert_eq!(code, 0, "{err}");
        let shown: Vec<&str> = out.lines().filter(|line| line.contains(token)).collect();
        let prompts = (shown.iter())
            .filter(|line| line.starts_with(token) && line.matches(token).count() == 1);
        assert!(prompts.count() >= 3, "{out}");
    }
}

#[test]
fn prompts_beyond_the_context_are_told_and_refused_where_all_are() {
    let place = place();
    let at = place.path();
    let model = at.join("short");
    copy(&warm_up(), &model);
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let positions = |n: usize| {
        let text = config.replace(
            "\"max_position_embeddings\": 2048",
            &format!("\"max_position_embeddings\": {n}"),
        );
        assert_ne!(text, config);
        fs::write(model.join("config.json"), text).unwrap();
    };
    let text = fs::read_to_string(at.join("train.jsonl")).unwrap();
    let lines: Vec<String> = (text.lines().enumerate())
        .map(|(i, line)| match i {
            2 => line.replace(
                "{\"question\":\"",
                &format!("{{\"question\":\"{}", "so ".repeat(100)),
            ),
            _ => line.to_owned(),
        })
        .collect();
    assert_ne!(lines[2], text.lines().nth(2).unwrap());
    // A blank line, so that the third row is the fourth line.
    fs::write(at.join("train.jsonl"), format!("\n{}", lines.join("\n"))).unwrap();
    let dry = [
        "train",
        "recipe.toml",
        "--dry-run",
        "--set",
        "model_name_or_path=short",
    ];
    positions(230);
    let (code, out, err) = run(at, &dry);
    assert_eq!(code, 0, "{err}");
    let told = "data: 1 of 60 (1.7 %) go with max_completion_length beyond max_position_embeddings of the model (max_prompt_length leaves such out): line 4: ";
    assert!(
        out.contains(told) && out.contains(" + 48 of 230\n"),
        "{out}"
    );
    positions(60);
    for args in [
        &dry[..],
        &["train", "recipe.toml", "--set", "model_name_or_path=short"],
    ] {
        let (code, _, err) = run(at, args);
        assert!(
            code == 2
                && err.starts_with("max_completion_length = 48: with the shortest prompt of ")
                && err.contains("the model's config.json says max_position_embeddings = 60: lower max_completion_length"),
            "{code}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    assert!(!at.join("run/metrics.jsonl").exists());
    // No problem left is refused as well.
    let (code, out, err) = run(
        at,
        &[
            "train",
            "recipe.toml",
            "--dry-run",
            "--set",
            "max_prompt_length=2",
        ],
    );
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(
        err.starts_with(
            "max_prompt_length = 2: every prompt of train.jsonl has more tokens, the shortest "
        ) && err.ends_with(", so no problem is left\n"),
        "{err}"
    );
}
