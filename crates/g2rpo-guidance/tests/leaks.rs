//! No guided prefix gives the answer away: every training solution of GSM8K and every solution of
//! MATH-500, as ids of two byte-level tokenizers, judged by the verifiers of g2rpo-verify; the same
//! solutions on one line, quoted, indented and with other line breaks; and cases labelled by hand in
//! `testdata/guidance/announcements.jsonl`.
//!
//! `G2RPO_DATA` names the folder with `gsm8k/train.jsonl` and `math500/test.jsonl`; without it the
//! tests say so and pass. `--nocapture` prints what the caps did; docs/results has the table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use g2rpo_guidance::{
    Amount, AnswerMarkers, Caps, Cut, CutLimits, CutReason, Cutter, Trace, Unit, UnitCutter, cut,
    inspect_prefix,
};
use g2rpo_verify::{
    Extraction, Gsm8k, Gsm8kExtraction, MathVerifier, Verifier, first_announcement,
};
use tokenizers::Tokenizer;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

struct Solution {
    text: String,
    answer: String,
}

/// The rows of a JSON Lines file, each as the solution and the answer that `read` finds in it.
fn solutions(
    file: &str,
    count: usize,
    read: fn(&serde_json::Value) -> Option<(&str, &str)>,
) -> Option<Vec<Solution>> {
    let Some(folder) = std::env::var_os("G2RPO_DATA") else {
        println!("skipped: G2RPO_DATA does not name the folder with the data sets");
        return None;
    };
    let path = PathBuf::from(folder).join(file);
    let lines =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let solution = |line: &str| {
        let row = serde_json::from_str(line).expect("a line of JSON");
        let (text, answer) = read(&row).expect("a solution and its answer");
        Solution {
            text: text.to_owned(),
            answer: answer.to_owned(),
        }
    };
    let all: Vec<Solution> = lines.lines().map(solution).collect();
    assert_eq!(all.len(), count, "{file}");
    Some(all)
}

fn gsm8k() -> Option<Vec<Solution>> {
    solutions("gsm8k/train.jsonl", 7473, |row| {
        let text = row["answer"].as_str()?;
        Some((text, text.rsplit_once("#### ")?.1))
    })
}

fn math500() -> Option<Vec<Solution>> {
    solutions("math500/test.jsonl", 500, |row| {
        Some((row["solution"].as_str()?, row["answer"].as_str()?))
    })
}

/// The tokenizer of the example `gsm8k_tiny`: 512 ids, every digit an id of its own.
fn of_the_example() -> Option<Tokenizer> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/gsm8k_tiny/warm_up/tokenizer.json"
    );
    if !std::path::Path::new(path).exists() {
        println!("skipped: {path} is not there");
        return None;
    }
    Some(Tokenizer::from_file(path).expect("a tokenizer"))
}

/// Byte-level BPE as GPT-2 has it, with 2,000 ids learnt from the first thousand solutions: whole
/// numbers, words with punctuation and several line breaks become single ids.
fn trained(solutions: &[Solution]) -> Tokenizer {
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer
        .with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)))
        .with_decoder(Some(ByteLevel::default()))
        .with_post_processor(Some(ByteLevel::default().trim_offsets(false)));
    let trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(2000)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let texts = solutions.iter().take(1000).map(|s| s.text.as_str());
    (*tokenizer)
        .train(&mut TrainerWrapper::BpeTrainer(trainer), texts)
        .expect("a trained tokenizer")
        .clone()
        .into()
}

/// What a set of solutions is judged by: what a run is rewarded with, and the most lenient reading.
struct Judges {
    strict: Vec<Box<dyn Verifier>>,
    lenient: Box<dyn Verifier>,
}

fn gsm8k_judges() -> Judges {
    Judges {
        strict: vec![
            Box::new(Gsm8k::default()),
            Box::new(MathVerifier::default()),
        ],
        lenient: Box::new(Gsm8k {
            extraction: Gsm8kExtraction::Flexible,
            ..Gsm8k::default()
        }),
    }
}

fn math_judges() -> Judges {
    Judges {
        strict: vec![
            Box::new(MathVerifier::math()),
            Box::new(MathVerifier::default()),
        ],
        lenient: Box::new(MathVerifier {
            extraction: Extraction::flexible(),
            ..MathVerifier::default()
        }),
    }
}

fn cutters() -> [(&'static str, Box<dyn Cutter>); 4] {
    let unit = |unit| -> Box<dyn Cutter> {
        Box::new(UnitCutter {
            unit,
            ..UnitCutter::default()
        })
    };
    [
        ("tokens", unit(Unit::Token)),
        ("lines", unit(Unit::Line)),
        ("steps", unit(Unit::Step)),
        ("sentences", unit(Unit::Sentence)),
    ]
}

/// What the caps made of one kind of request.
#[derive(Default)]
struct Tally {
    reasons: BTreeMap<CutReason, usize>,
    cuts: usize,
    given: usize,
    of: usize,
    contains_answer: usize,
}

impl Tally {
    fn add(&mut self, made: &Cut, trace: &Trace, answer: &str) {
        *self.reasons.entry(made.reason).or_default() += 1;
        self.cuts += 1;
        self.given += made.len;
        self.of += trace.len();
        let prefix = trace.prefix_text(made.len).unwrap_or_default();
        self.contains_answer += usize::from(stands_in(prefix, answer.trim()));
    }

    fn print(&self, request: &str) {
        let percent = |n: usize, of: usize| 100.0 * n as f64 / of.max(1) as f64;
        let of_reason =
            |reason| percent(self.reasons.get(&reason).copied().unwrap_or(0), self.cuts);
        println!(
            "| {request} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            of_reason(CutReason::Exact) + of_reason(CutReason::SnappedBack),
            of_reason(CutReason::CappedByTrace),
            of_reason(CutReason::CappedByAnswer),
            of_reason(CutReason::CappedByVerifier),
            of_reason(CutReason::CappedByMark),
            percent(self.given, self.of),
            percent(self.contains_answer, self.cuts),
        );
    }
}

/// Whether the answer stands between characters that are neither letters nor digits: common and often
/// harmless where answers are small numbers.
fn stands_in(text: &str, answer: &str) -> bool {
    !answer.is_empty()
        && text.match_indices(answer).any(|(start, _)| {
            let before = text[..start].chars().next_back();
            let after = text[start + answer.len()..].chars().next();
            ![before, after]
                .into_iter()
                .flatten()
                .any(char::is_alphanumeric)
        })
}

fn passes(judge: &dyn Verifier, prefix: &str, solution: &Solution) -> bool {
    judge.verify(prefix, &solution.answer).is_correct()
}

/// Cuts every solution and checks that no prefix passes; prints what the caps did.
fn check(name: &str, solutions: &[Solution], tokenizer: &Tokenizer, judges: &Judges) {
    let cutters = cutters();
    let (mut announced, mut verified) = (BTreeMap::new(), BTreeMap::new());
    let mut judged = 0;
    for (number, solution) in solutions.iter().enumerate() {
        let at = format!("{name}, solution {number}");
        let encoding = (tokenizer.encode(solution.text.as_str(), false)).expect("an encoding");
        let ids = encoding.get_ids();
        let trace =
            Trace::from_offsets(ids.to_vec(), solution.text.as_str(), encoding.get_offsets())
                .expect("offsets that fit");
        for judge in judges.strict.iter().chain([&judges.lenient]) {
            assert!(
                passes(&**judge, &solution.text, solution),
                "{at} fails whole"
            );
        }

        // Announcements alone: no prefix up to the longest cut passes what a run is rewarded with.
        let limits = CutLimits::default();
        let by_text = Caps::new(&limits);
        let all = Amount::Fraction(1.0);
        let longest = cut(&trace, all, &UnitCutter::default(), &by_text, 0.5).len;
        assert!(longest < ids.len(), "{at}: all of it");
        for prefix in (1..=longest).filter_map(|n| trace.prefix_text(n)) {
            for judge in &judges.strict {
                assert!(
                    !passes(&**judge, prefix, solution),
                    "{at}: {prefix:?} passes"
                );
            }
            judged += judges.strict.len();
        }

        // With the lenient verifier as a cap no cut passes that.
        let lenient = |trace: &Trace, n: usize| {
            trace
                .prefix_text(n)
                .is_some_and(|prefix| passes(&*judges.lenient, prefix, solution))
        };
        let by_verifier = Caps {
            passes: Some(&lenient),
            ..by_text
        };
        for (unit, cutter) in &cutters {
            let parts = (1..8).map(|eighths| Amount::Fraction(f64::from(eighths) / 8.0));
            for amount in parts.chain([Amount::Fraction(1.0), Amount::Units(3.0)]) {
                let request = match amount {
                    Amount::Fraction(1.0) => "whole",
                    Amount::Fraction(_) => "1/8 … 7/8",
                    _ => "3 units",
                };
                for (caps, tallies) in [(&by_text, &mut announced), (&by_verifier, &mut verified)] {
                    let made = cut(&trace, amount, &**cutter, caps, 0.5);
                    let tally: &mut Tally = tallies.entry((*unit, request)).or_default();
                    tally.add(&made, &trace, &solution.answer);
                    let at = format!("{at}, {unit}, {amount:?}: {made:?}");
                    assert!(made.len <= longest, "{at} is beyond {longest}");
                    let problems = inspect_prefix(&trace, made.len);
                    assert!(!problems.announces_answer && !problems.broken_tags, "{at}");
                    if made.len > 0 && caps.passes.is_some() {
                        assert!(!lenient(&trace, made.len), "{at} passes");
                        judged += 1;
                    }
                    // The ids spell the text that was judged, and are those of the whole solution.
                    assert_eq!(trace.prefix(made.len), &ids[..made.len], "{at}");
                    if request == "whole" {
                        let spelt = tokenizer.decode(&ids[..made.len], false);
                        let spelt = spelt.expect("ids of the vocabulary");
                        assert_eq!(trace.prefix_text(made.len), Some(&*spelt), "{at}");
                    }
                }
            }
        }
    }
    println!(
        "{name}: {} solutions, {judged} verdicts on prefixes, none passes",
        solutions.len()
    );
    println!(
        "| cutter, asked for | as asked | trace | answer | verifier | mark | given | contain |"
    );
    for (caps, tallies) in [("announced", &announced), ("verifier", &verified)] {
        for ((unit, request), tally) in tallies {
            tally.print(&format!("{unit}, {request} ({caps})"));
        }
    }
}

#[test]
fn gsm8k_with_the_ids_of_the_example() {
    if let (Some(solutions), Some(tokenizer)) = (gsm8k(), of_the_example()) {
        check("GSM8K, example", &solutions, &tokenizer, &gsm8k_judges());
    }
}

#[test]
fn gsm8k_with_byte_level_bpe() {
    if let Some(solutions) = gsm8k() {
        let tokenizer = trained(&solutions);
        check("GSM8K, BPE", &solutions, &tokenizer, &gsm8k_judges());
    }
}

#[test]
fn math500_with_the_ids_of_the_example() {
    if let (Some(solutions), Some(tokenizer)) = (math500(), of_the_example()) {
        check("MATH-500, example", &solutions, &tokenizer, &math_judges());
    }
}

#[test]
fn math500_with_byte_level_bpe() {
    if let Some(solutions) = math500() {
        let tokenizer = trained(&solutions);
        check("MATH-500, BPE", &solutions, &tokenizer, &math_judges());
    }
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    /// What stands before the announcement; nothing if there is none.
    given: Option<String>,
}

#[test]
fn announcements_end_where_a_reader_says() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/guidance/announcements.jsonl"
    );
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let cases: Vec<Case> = (text.lines())
        .map(|line| serde_json::from_str(line).expect("a case"))
        .collect();
    assert_eq!(cases.len(), 30);
    let wrong: Vec<String> = (cases.iter())
        .filter_map(|case| {
            let found = AnswerMarkers::default().find(&case.text);
            let given = found.map(|end| case.text[..end].trim_end());
            (given != case.given.as_deref()).then(|| format!("{:?}: {given:?}", case.text))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Whatever g2rpo-verify takes for an announcement is kept back: nouns, what may stand between, verbs.
#[test]
fn every_announcement_of_the_verifiers_is_known() {
    let betweens = [
        "",
        "s",
        " (which counts all of the clips that she sold in both of the two months)",
        "(a b c d e f g h i j k l m)",
        " (in cm) (rounded to the nearest of all the whole numbers that there are)",
        ", as we have seen in the first part of all,",
        " to the second part, in dollars and cents,",
        " we get for all of the x (a and b and c and d and e and f)",
        "**",
        " therefore",
    ];
    let verbs = [
        " is ",
        " are ",
        " was ",
        " would be ",
        " must therefore be ",
        " has to be ",
        " turns out to be ",
        " comes out as ",
        " works out to ",
        " amounts to ",
        " becomes ",
        " equals ",
        " reads ",
        ": ",
        " = ",
        " => ",
        " → ",
        " -> ",
        " ⇒ ",
        "：",
        "\n",
    ];
    let mut known = 0;
    for between in betweens {
        for verb in verbs {
            for noun in ["The answer", "**Final Answer", "so my ANSWER", "# Answer"] {
                let text = format!("48 + 24. {noun}{between}{verb}72.");
                let Some(first) = first_announcement(&text) else {
                    continue;
                };
                known += 1;
                let kept = AnswerMarkers::default().find(&text);
                assert!(kept.is_some_and(|kept| kept <= first), "{text:?}");
            }
        }
    }
    assert!(known > 500, "{known} are announcements");
}

/// The same solution as other writers would set it.
fn settings(text: &str) -> [(&'static str, String); 5] {
    let quoted: Vec<String> = text.lines().map(|line| format!("> {line}")).collect();
    let indented: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    [
        ("one line", text.replace('\n', " ")),
        ("quoted", quoted.join("\n")),
        ("indented", indented.join("\n")),
        ("\\r", text.replace('\n', "\r")),
        ("\\r\\n", text.replace('\n', "\r\n")),
    ]
}

/// No prefix of any setting of any solution passes a verifier that wants an announced answer, and
/// none reaches behind the first announcement that the verifiers know.
fn check_settings(name: &str, solutions: &[Solution], judges: &Judges) {
    let mut leaks: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for solution in solutions {
        for (setting, text) in settings(&solution.text) {
            let found = AnswerMarkers::default().find(&text);
            let end = found.unwrap_or(text.len());
            let tally = leaks.entry(setting).or_default();
            // Every place near the announcement, and some before.
            let prefixes = (text.char_indices().map(|(i, c)| i + c.len_utf8()))
                .filter(|i| *i <= end && (*i + 12 > end || i % 37 == 0));
            let passes = prefixes
                .map(|i| &text[..i])
                .any(|prefix| (judges.strict.iter()).any(|j| passes(&**j, prefix, solution)));
            tally.0 += usize::from(passes);
            let known = first_announcement(&text);
            tally.1 += usize::from(known.is_some_and(|known| end > known));
        }
    }
    println!(
        "{name}, solutions of which a prefix passes, and of which more is given than verifiers know: {leaks:?}"
    );
    assert!(leaks.values().all(|tally| *tally == (0, 0)), "{leaks:?}");
}

#[test]
fn other_settings_of_gsm8k() {
    if let Some(solutions) = gsm8k() {
        check_settings("GSM8K", &solutions, &gsm8k_judges());
    }
}

#[test]
fn other_settings_of_math500() {
    if let Some(solutions) = math500() {
        check_settings("MATH-500", &solutions, &math_judges());
    }
}
