//! Data sets in their published shapes, broken rows, and what lint says about them.

use std::fs;
use std::path::{Path, PathBuf};

use g2rpo_rollout::Task;
use g2rpo_train::Error;
use g2rpo_train::data::formats::{Problem, Problems, read_problems, tell_broken};
use g2rpo_train::data::lint::{LintConfig, lint};
use g2rpo_train::data::read::open_data;
use g2rpo_train::data::tasks::{Listed, Sketch};
use g2rpo_train::recipe::settings::{BrokenRows, DataFormat, DataSettings};
use g2rpo_verify::code::TestSuite;
use g2rpo_verify::{Gsm8k, MathVerifier, Verifier};

fn read_with(text: &str, settings: &DataSettings) -> Result<Problems, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.jsonl");
    fs::write(&path, text).unwrap();
    read_problems(&path, settings, None)
}

fn one(text: &str) -> (DataFormat, Problem) {
    let mut read = read_with(text, &DataSettings::default()).unwrap();
    (read.format, read.problems.remove(0))
}

#[test]
fn published_shapes_are_told_apart_and_read() {
    let (format, p) = one(r#"{"question":"q","answer":"a\n\nb\n#### 1,000"}"#);
    assert_eq!(
        (format, p.reference.as_str(), p.difficulty),
        (DataFormat::Gsm8k, "1,000", Some(2.0))
    );
    assert_eq!(p.solution.as_deref(), Some("a\n\nb\n#### 1,000"));

    let (format, p) =
        one(r#"{"problem":"p","solution":"so \\boxed{\\frac{1}{2}}.","level":"Level 4"}"#);
    assert_eq!(
        (format, p.reference.as_str()),
        (DataFormat::Math, "\\frac{1}{2}")
    );
    assert_eq!((p.difficulty, p.level.as_deref()), (Some(4.0), Some("4")));
    let (_, p) = one(r#"{"problem":"p","solution":"\\boxed{1}","answer":"2","level":3}"#);
    assert_eq!((p.reference.as_str(), p.level.as_deref()), ("2", Some("3")));

    let (format, p) = one(
        r#"{"prompt":"def f():\n","entry_point":"f","canonical_solution":"    return 1\n","test":"def check(c):\n    assert c() == 1\n"}"#,
    );
    assert_eq!(format, DataFormat::Humaneval);
    assert_eq!(
        p.solution.as_deref(),
        Some("```python\ndef f():\n    return 1\n```")
    );
    TestSuite::from_json(&p.reference).unwrap();

    let (format, p) = one(
        r#"{"text":"Write f.","code":"def f(): return 1","test_list":["assert f() == 1"],"test_setup_code":""}"#,
    );
    assert_eq!(format, DataFormat::Mbpp);
    assert!(
        p.question.starts_with("Write f.\n\nThe code must pass")
            && p.question.contains("assert f() == 1")
    );
    TestSuite::from_json(&p.reference).unwrap();

    let (format, p) = one(
        r#"{"question":"Echo.","input_output":"{\"inputs\": [\"1\\n\"], \"outputs\": [\"1\\n\"]}","solutions":"[\"print(input())\"]","difficulty":"interview"}"#,
    );
    assert_eq!(
        (format, p.difficulty, p.level.as_deref()),
        (DataFormat::Apps, Some(2.0), Some("interview"))
    );
    assert_eq!(
        p.solution.as_deref(),
        Some("```python\nprint(input())\n```")
    );
    assert!(p.question.contains("reads standard input"));
    TestSuite::from_json(&p.reference).unwrap();

    let (format, p) = one(
        r#"{"question_content":"Add.","public_test_cases":"[{\"input\": \"1\\n2\", \"output\": \"3\", \"testtype\": \"functional\"}]","metadata":"{\"func_name\": \"add\"}","starter_code":"class Solution:","difficulty":"hard"}"#,
    );
    assert_eq!(
        (format, p.difficulty, p.solution),
        (DataFormat::Livecodebench, Some(3.0), None)
    );
    assert!(p.question.contains("class Solution:"));
    TestSuite::from_json(&p.reference).unwrap();

    let (format, p) = one(
        r#"{"prompt":[{"role":"user","content":"q"}],"answer":7,"hints":["h1","h2"],"pass_rate":0.25}"#,
    );
    assert_eq!(p.pass_rate, Some(0.25));
    assert_eq!(
        (format, p.question.as_str(), p.reference.as_str()),
        (DataFormat::Prompt, "q", "7")
    );
    assert_eq!(p.hints, ["h1", "h2"]);
}

#[test]
fn columns_are_mapped_over_the_format() {
    let mut settings = DataSettings::default();
    for (part, column) in [
        ("question", "Body"),
        ("reference", "Answer"),
        ("level", "Type"),
        ("difficulty", "n"),
        ("hints", "tip"),
    ] {
        settings.columns.insert(part.into(), column.into());
    }
    let row = r#"{"Body":"q","Answer":145.0,"Type":"Division","n":2,"tip":"divide"}"#;
    let p = read_with(row, &settings).unwrap().problems.remove(0);
    assert_eq!((p.question.as_str(), p.reference.as_str()), ("q", "145.0"));
    assert_eq!(
        (p.level.as_deref(), p.difficulty, p.hints.len()),
        (Some("Division"), Some(2.0), 1)
    );
}

#[test]
fn broken_rows_are_told_with_their_line_and_skipped_if_asked() {
    let good = r#"{"question":"q","answer":"x\n#### 1"}"#;
    let text = [
        good,
        "",
        "{\"question\": 3",
        "[1]",
        r#"{"question":"q"}"#,
        r#"{"question":"q","answer":"no mark"}"#,
        r#"{"question":" ","answer":"x #### 1"}"#,
        r#"{"question":null,"answer":"x #### 1"}"#,
        good,
    ]
    .join("\n");
    let error = read_with(&text, &DataSettings::default())
        .unwrap_err()
        .to_string();
    let expected = [
        "6 of 8 rows cannot be used",
        "line 3: EOF while parsing an object at column 14",
        "line 4: expected a JSON object",
        "line 5: there is no column \"answer\"",
        "line 6: the answer has no line \"#### number\"",
        "line 7: its question is empty",
        "…",
    ];
    for expected in expected {
        assert!(error.contains(expected), "{error}");
    }
    let settings = DataSettings {
        broken_rows: BrokenRows::Skip,
        ..DataSettings::default()
    };
    let read = read_with(&text, &settings).unwrap();
    let ids: Vec<u64> = read.problems.iter().map(|p| p.id).collect();
    assert_eq!((ids, read.broken.len()), (vec![0, 7], 6));
    assert!(read_with("[1]\n[2]", &settings).is_err());
}

#[test]
fn files_that_are_no_data_set_are_explained() {
    for (text, expected) in [
        ("", "the file holds no row"),
        ("\n \n", "the file holds no row"),
        (
            r#"{"a":1,"b":2}"#,
            "its columns (a, b) are those of no known format: set dataset_format",
        ),
        ("{\"question\":\"\u{0}", "control character"),
        (
            r#"[{"question":"q","answer":"none"}"#,
            "EOF while parsing a list",
        ),
    ] {
        let error = read_with(text, &DataSettings::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let missing = read_problems(Path::new("no/such.jsonl"), &DataSettings::default(), None);
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .starts_with("no/such.jsonl: ")
    );
}

#[test]
fn a_byte_order_mark_carriage_returns_and_arrays_do_not_matter() {
    let row = r#"{"question":"q","answer":"x\n#### 1"}"#;
    for text in [
        format!("\u{feff}{row}\r\n{row}\r\n"),
        format!("\u{feff} [{row},\n{row}]"),
    ] {
        assert_eq!(
            read_with(&text, &DataSettings::default())
                .unwrap()
                .problems
                .len(),
            2
        );
    }
}

#[test]
fn reading_ends_at_the_limit() {
    let row = "{\"question\":\"q\",\"answer\":\"x #### 1\"}\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.jsonl");
    fs::write(&path, format!("{row}{row}broken\n")).unwrap();
    let read = read_problems(&path, &DataSettings::default(), Some(2)).unwrap();
    assert_eq!((read.problems.len(), read.broken.len()), (2, 0));
}

fn published(file: &str) -> Option<PathBuf> {
    let Some(data) = std::env::var_os("G2RPO_DATA") else {
        eprintln!("skipped: G2RPO_DATA does not name the folder with {file}");
        return None;
    };
    Some(Path::new(&data).join(file))
}

#[test]
fn the_published_files_are_read_and_found_sound() {
    for (file, format, n) in [
        ("gsm8k/train.jsonl", DataFormat::Gsm8k, 7473),
        ("math500/test.jsonl", DataFormat::Math, 500),
        ("humaneval/HumanEval.jsonl", DataFormat::Humaneval, 164),
    ] {
        let Some(path) = published(file) else { return };
        let read = read_problems(&path, &DataSettings::default(), None).unwrap();
        assert_eq!(
            (read.format, read.problems.len(), read.broken.len()),
            (format, n, 0)
        );
        assert!(read.problems.iter().all(|p| p.solution.is_some()));
        let config = LintConfig {
            max_solutions: 100,
            ..LintConfig::default()
        };
        let verifier: &dyn Verifier = match format {
            DataFormat::Gsm8k => &Gsm8k::default(),
            DataFormat::Math => &MathVerifier::default(),
            _ => continue,
        };
        let found = lint(&listed(read.problems), &[], verifier, &config).unwrap();
        let of = |what: &str| {
            found
                .iter()
                .find(|f| f.what.starts_with(what))
                .map_or(0, |f| f.count)
        };
        assert_eq!(of("references"), 0, "{found:#?}");
        assert!(of("solutions") <= 2, "{found:#?}");
    }
}

fn listed(problems: Vec<Problem>) -> Listed {
    Listed::new(problems.into_iter().map(Task::from).collect()).unwrap()
}

#[test]
fn lint_says_how_much_it_looked_at() {
    let problem = |id: u64| Problem {
        id,
        question: format!("{id}?"),
        reference: if id.is_multiple_of(2) { "five" } else { "5" }.into(),
        ..Problem::default()
    };
    let config = LintConfig {
        max_references: 10,
        ..LintConfig::default()
    };
    let train = listed((0..1000).map(problem).collect());
    let found = lint(&train, &[], &Gsm8k::default(), &config).unwrap();
    assert_eq!((found[0].count, found[0].of), (10, 10), "every hundredth");
    assert_eq!((found[1].count, found[1].of), (1000, 1000));
}

#[test]
fn lint_counts_every_kind_of_fault() {
    let problem = |id: u64, question: &str, solution: Option<&str>, reference: &str| Problem {
        id,
        question: question.into(),
        solution: solution.map(str::to_owned),
        reference: reference.into(),
        ..Problem::default()
    };
    let train = [
        problem(0, "one two", Some("#### 1"), "1"),
        problem(1, "One  two", Some("#### 2"), "2"),
        problem(2, "three four five", Some("#### 3"), "4"),
        problem(3, "six", None, "five"),
    ];
    let eval = [problem(0, "SIX", None, "5")];
    let config = LintConfig {
        threads: 2,
        ..LintConfig::default()
    };
    let (train, eval) = (listed(train.to_vec()), listed(eval.to_vec()));
    let found = lint(&train, &[&eval], &Gsm8k::default(), &config).unwrap();
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "1 of 4 (25.0 %) references cannot be verified: row 4: the reference cannot be read",
            "1 of 3 (33.3 %) solutions do not reach their reference: row 3: another value",
            "1 of 4 (25.0 %) have no solution, so nothing guides them: row 4",
            "1 of 4 (25.0 %) are asked twice: row 2 repeats row 1",
            "1 of 4 (25.0 %) are asked in the evaluation as well: row 4",
        ]
    );
}

#[test]
fn faults_are_named_by_the_line_that_an_editor_shows_or_by_the_row() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        r#####"{"question": "1+1?", "answer": "#### 2"}"#####,
        r#"{"question": "no answer"}"#,
        r#####"{"question": "1 + 1?", "answer": "#### 2"}"#####,
        r#####"{"question": "1+2?", "answer": "#### three"}"#####,
    ];
    let lines = dir.path().join("lines.jsonl");
    fs::write(&lines, format!("\n{}\n\n", rows.join("\n\n"))).unwrap();
    let array = dir.path().join("array.json");
    fs::write(&array, format!("[{}]", rows.join(",\n\n"))).unwrap();
    for (path, names) in [
        (&lines, ["line 4", "line 6 repeats line 2", "line 8"]),
        (&array, ["row 2", "row 3 repeats row 1", "row 4"]),
    ] {
        let opened = open_data(path, &skipping(), None).unwrap();
        let told = tell_broken(&opened.broken, 4);
        assert!(
            told.contains(&format!("\n  {}: there is no", names[0])),
            "{told}"
        );
        let found = lint(
            &*opened.tasks,
            &[],
            &Gsm8k::default(),
            &LintConfig::default(),
        )
        .unwrap();
        let examples: Vec<&str> = found
            .iter()
            .flat_map(|f| &f.examples)
            .map(String::as_str)
            .collect();
        assert!(examples.contains(&names[1]), "{examples:?}");
        assert!(
            examples[0].starts_with(&format!("{}: ", names[2])),
            "{examples:?}"
        );
    }
}

/// Rows with broken ones, blank lines, no last line end and a byte order mark among them.
fn mixed(rows: usize) -> String {
    let mut text = "\u{feff}".to_owned();
    for i in 0..rows {
        match i % 50 {
            7 => text.push_str("{\"question\": \"no answer\"}\r\n"),
            8 => text.push_str("\n  \n"),
            9 => text.push_str("not JSON\n"),
            _ => text.push_str(&format!(
                "{{\"question\": \"{i} + 1? \u{e9}\", \"answer\": \"So\\n#### {}\"}}\n",
                i + 1
            )),
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn skipping() -> DataSettings {
    DataSettings {
        broken_rows: BrokenRows::Skip,
        ..DataSettings::default()
    }
}

#[test]
fn rows_read_when_they_are_wanted_are_those_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    fs::write(&path, mixed(3000)).unwrap();
    for limit in [None, Some(1), Some(1234)] {
        let whole = read_problems(&path, &skipping(), limit).unwrap();
        let opened = open_data(&path, &skipping(), limit).unwrap();
        assert_eq!(
            (opened.format, &opened.broken),
            (whole.format, &whole.broken)
        );
        let expected: Vec<Task> = whole.problems.into_iter().map(Task::from).collect();
        assert_eq!(opened.tasks.len(), expected.len());
        // From the last to the first, so that the order of reading is no help.
        for (place, task) in expected.into_iter().enumerate().rev() {
            assert_eq!(opened.tasks.sketch(place), Sketch::of(&task));
            assert_eq!(opened.tasks.place_of(task.id), Some(place));
            assert_eq!(opened.tasks.task(place).unwrap(), task);
        }
        assert_eq!(opened.tasks.place_of(7), None, "a broken row");
    }
    let strict = open_data(&path, &DataSettings::default(), None).unwrap_err();
    let whole = read_problems(&path, &DataSettings::default(), None).unwrap_err();
    assert_eq!(strict.to_string(), whole.to_string());
    assert!(strict.to_string().contains("line 8: "), "{strict}");
}

#[test]
fn arrays_are_opened_as_well_and_empty_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.json");
    fs::write(&path, " [{\"question\": \"1?\", \"answer\": \"#### 1\"}]").unwrap();
    let opened = open_data(&path, &skipping(), None).unwrap();
    assert_eq!(opened.tasks.task(0).unwrap().reference, "1");
    // Whole or in part, what an array holds is what it holds when it is read at once.
    let rows = (0..300).map(|i| match i % 7 {
        3 => format!("{i}"),
        5 => format!("{{\"question\": \"{i}?\"}}"),
        _ => format!("{{\"answer\": \"#### {i}\",\n \"question\": \"{i}é?\"}}"),
    });
    let text = format!("\u{feff}[{}]\n", rows.collect::<Vec<_>>().join(", "));
    fs::write(&path, &text).unwrap();
    for limit in [None, Some(40)] {
        let whole = read_problems(&path, &skipping(), limit).unwrap();
        let opened = open_data(&path, &skipping(), limit).unwrap();
        assert_eq!(
            (opened.format, &opened.broken),
            (whole.format, &whole.broken)
        );
        assert_eq!(opened.tasks.len(), whole.problems.len());
        for (place, problem) in whole.problems.into_iter().enumerate() {
            assert_eq!(opened.tasks.task(place).unwrap(), Task::from(problem));
        }
    }
    for damaged in [&text[..text.len() - 3], &text.replace("é", "\\x"), "[1] 2"] {
        fs::write(&path, damaged).unwrap();
        let whole = read_problems(&path, &skipping(), None)
            .unwrap_err()
            .to_string();
        let opened = open_data(&path, &skipping(), None).unwrap_err().to_string();
        assert_eq!(opened, whole);
    }
    fs::write(&path, "\n\n").unwrap();
    let error = open_data(&path, &skipping(), None).unwrap_err().to_string();
    assert!(error.ends_with("the file holds no row"), "{error}");
}

#[test]
fn a_file_that_changes_while_it_is_in_use_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    let text = mixed(6);
    fs::write(&path, &text).unwrap();
    let opened = open_data(&path, &skipping(), None).unwrap();
    fs::write(&path, text.replace("3 + 1", "4 + 1")).unwrap();
    assert!(opened.tasks.task(2).is_ok());
    let error = opened.tasks.task(3).unwrap_err().to_string();
    let expected = format!(
        "{}, line 4: the file changed while it was in use",
        path.display()
    );
    assert_eq!(error, expected);
    fs::write(&path, "").unwrap();
    let error = opened.tasks.task(0).unwrap_err().to_string();
    assert!(
        error.contains("line 1: the file changed while it was in use, or is gone"),
        "{error}"
    );
}
