//! Parquet files of pyarrow are read, and what is written is read back.
#![cfg(feature = "parquet")]

use std::path::{Path, PathBuf};

use g2rpo_rollout::Task;
use g2rpo_train::SampleRow;
use g2rpo_train::data::formats::Problem;
use g2rpo_train::data::parquet::write_samples;
use g2rpo_train::data::read::{open_data, read_data};
use g2rpo_train::recipe::settings::{BrokenRows, DataFormat, DataSettings};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/train")
        .join(name)
}

fn settings(columns: &[(&str, &str)]) -> DataSettings {
    DataSettings {
        columns: (columns.iter())
            .map(|(part, column)| ((*part).to_owned(), (*column).to_owned()))
            .collect(),
        ..DataSettings::default()
    }
}

#[test]
fn columns_of_any_name_and_type_are_mapped() {
    let mapped = settings(&[
        ("question", "task"),
        ("reference", "final"),
        ("solution", "worked"),
        ("difficulty", "hard"),
        ("level", "subject"),
    ]);
    let read = read_data(&file("problems.parquet"), &mapped, None).unwrap();
    assert_eq!((read.format, read.problems.len()), (DataFormat::Prompt, 7));
    let expected = Problem {
        id: 5,
        question: "What is 5 + 5?".into(),
        reference: "10".into(),
        solution: Some("It is 10.".into()),
        hints: vec!["Add.".into(), "Double 5.".into()],
        difficulty: Some(1.25),
        pass_rate: None,
        level: Some("doubles".into()),
    };
    assert_eq!(read.problems[5], expected);
    assert!(read.problems[3].solution.is_none() && read.problems[4].hints.is_empty());
    let first = read_data(&file("problems.parquet"), &mapped, Some(2)).unwrap();
    assert_eq!(first.problems, read.problems[..2]);
    // Read when they are wanted they are the same.
    let opened = open_data(&file("problems.parquet"), &mapped, None).unwrap();
    assert_eq!((opened.format, opened.tasks.len()), (read.format, 7));
    for (place, problem) in read.problems.into_iter().enumerate().rev() {
        assert_eq!(opened.tasks.task(place).unwrap(), Task::from(problem));
    }
}

#[test]
fn a_conversation_is_its_message() {
    let path = file("conversations.parquet");
    let read = read_data(&path, &DataSettings::default(), None).unwrap();
    assert_eq!(read.problems[2].question, "2 times 2?");
    assert_eq!(read.problems[2].reference, "4");
}

#[test]
fn every_codec_is_read_or_named_with_what_to_do() {
    let settings = DataSettings::default();
    let plain = read_data(&file("conversations.parquet"), &settings, None).unwrap();
    for codec in ["gzip", "lz4"] {
        let read = read_data(&file(&format!("{codec}.parquet")), &settings, None).unwrap();
        assert_eq!(read, plain, "{codec}");
    }
    let told = open_data(&file("brotli.parquet"), &settings, None).unwrap_err();
    assert!(
        told.to_string().ends_with(
            "brotli.parquet: it is compressed by Brotli, which is not read here: write it again with Zstandard, for example \
             by pyarrow.parquet.write_table(pyarrow.parquet.read_table(file), file, compression=\"zstd\")"
        ),
        "{told}"
    );
}

#[test]
fn what_cannot_be_used_is_told() {
    let missing = settings(&[("question", "task"), ("reference", "worked")]);
    let told = read_data(&file("problems.parquet"), &missing, None).unwrap_err();
    let told = told.to_string();
    assert!(
        told.contains("1 of 7 rows cannot be used\n  row 4: column \"worked\": expected a text"),
        "{told}"
    );
    let skip = DataSettings {
        broken_rows: BrokenRows::Skip,
        ..missing
    };
    let read = read_data(&file("problems.parquet"), &skip, None).unwrap();
    assert_eq!((read.problems.len(), read.broken.len()), (6, 1));

    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(file("problems.parquet")).unwrap();
    // Every beginning of the file, and every byte turned: an error or rows, no panic.
    for n in 0..whole.len() {
        let path = dir.path().join("cut.parquet");
        std::fs::write(&path, &whole[..n]).unwrap();
        assert!(read_data(&path, &skip, None).is_err(), "{n}");
    }
    for n in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[n] ^= 0x55;
        let path = dir.path().join("turned.parquet");
        std::fs::write(&path, &bytes).unwrap();
        let _ = read_data(&path, &skip, None);
    }
}

#[test]
fn samples_are_read_back() {
    let sample = |step, reward| SampleRow {
        step,
        task: 7,
        member: 1,
        question: "2 + 2?".into(),
        hint: String::new(),
        guidance: "It ".into(),
        completion: "is 4 – \u{1f600}.".into(),
        reference: "4".into(),
        verdict: "correct".into(),
        reward,
        advantage: Some(-0.5),
        tokens: 3,
        truncated: step == 1,
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples.parquet");
    write_samples(&path, &[sample(0, Some(1.0)), sample(1, None)]).unwrap();
    let columns = settings(&[
        ("question", "completion"),
        ("reference", "reference"),
        ("difficulty", "advantage"),
        ("hints", "guidance"),
    ]);
    let read = read_data(&path, &columns, None).unwrap();
    assert_eq!(read.problems.len(), 2);
    let last = &read.problems[1];
    assert_eq!(last.question, "is 4 – \u{1f600}.");
    assert_eq!(
        (last.difficulty, &last.hints[..]),
        (Some(-0.5), &["It ".to_owned()][..])
    );
    write_samples(&path, &[]).unwrap();
    assert!(read_data(&path, &columns, None).is_err());
}
