//! Grades answers: verdict, graded span and reason, one line each.
//!
//! `cargo run --example verify_answers` grades a handful of built-in strings;
//! `cargo run --example verify_answers -- answers.jsonl` grades a file with one object per line:
//! `{"response": "… \\boxed{5}", "reference": "5"}`, and `"verifier"`: `math` (the default), `gsm8k`,
//! `choice` or `code`. For `code` the response is Python, bare or in a fenced block, and the reference is the
//! row of the data set that holds its tests, as JSON or as JSON text: `HumanEval`, MBPP, APPS and others.
//! `--show` adds what each test of such a row returned, printed or raised.

use std::cell::OnceCell;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use g2rpo::verify::code::{CodeVerifier, PoolConfig, SandboxPool, main_if_requested};
use g2rpo::verify::{Gsm8k, MathVerifier, MultipleChoice, Verifier};
use serde_json::Value;

/// Grades answers: verdict, graded span and reason, one line each.
#[derive(Parser)]
struct Options {
    /// A file with one JSON object per line; without it, built-in examples are graded.
    ///
    /// Columns: "response", "reference", and "verifier": math (the default), gsm8k, choice or code.
    file: Option<PathBuf>,
    /// Show what each test of a row with code returned, printed or raised.
    #[arg(long)]
    show: bool,
}

/// A problem as `HumanEval` has them.
const SMALLEST: &str = r#"{
    "prompt": "def smallest(items):\n    \"\"\"The smallest item, or None without items.\"\"\"\n",
    "entry_point": "smallest",
    "test": "def check(candidate):\n    assert candidate([3, 1, 2]) == 1\n    assert candidate([]) is None\n"
}"#;

const BUILT_IN: [(&str, &str, &str); 20] = [
    ("math", "So the answer is $\\boxed{\\frac{1}{2}}$.", "0.5"),
    ("math", "\\boxed{(x+1)^2}", "x^2 + 2x + 1"),
    ("math", "First \\boxed{4}. No, it is \\boxed{5}.", "5"),
    ("math", "<think>\\boxed{5}", "5"),
    ("math", "\\boxed{5 \\text{ or } 6}", "5"),
    ("math", "\\boxed{1=2}", "\\log_2 8 = 3"),
    ("math", "\\boxed{5 \\text{ m}}", "5 \\text{ cm}"),
    (
        "math",
        "\\boxed{x < 1 \\text{ or } x > 3}",
        "(-\\infty,1) \\cup (3,\\infty)",
    ),
    ("math", "\\boxed{7^{7^{7^7}}}", "5"),
    ("math", "\\boxed{5}", ""),
    ("gsm8k", "48/2 = <<48/2=24>>24\n#### $1,024.00", "#### 1024"),
    ("gsm8k", "#### 5/6", "5"),
    ("choice", "The answer is (B) 12.", "B"),
    ("choice", "The answer is (A) or (B).", "B"),
    ("code", "    return min(items, default=None)", SMALLEST),
    ("code", "    return min(items)", SMALLEST),
    ("code", "    while True: pass", SMALLEST),
    (
        "code",
        "class Yes:\n    def __eq__(self, other): return True\ndef smallest(items): return Yes()",
        SMALLEST,
    ),
    ("code", "    import os\n    os._exit(0)", SMALLEST),
    (
        "code",
        "```python\ndef add(a, b):\n    return a + b\n```",
        r#"["assert add(2, 3) == 5", "assert add('a', 'b') == 'ab'"]"#,
    ),
];

fn main() -> ExitCode {
    // Code runs in a process that a helper confines. With this line the program is its own helper.
    main_if_requested();
    match run(&Options::parse()) {
        // Whoever reads the output has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

fn run(options: &Options) -> anyhow::Result<()> {
    let verifiers = Verifiers {
        code: OnceCell::new(),
        show: options.show,
    };
    writeln!(
        io::stdout(),
        "{:<8} {:<52} {:<28} {:<30} verdict",
        "verifier",
        "response",
        "graded",
        "reference"
    )?;
    let Some(path) = &options.file else {
        for (kind, response, reference) in BUILT_IN {
            verifiers.grade(kind, response, reference)?;
        }
        return Ok(());
    };
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    if text.starts_with('\u{feff}') {
        bail!("{name} begins with a byte order mark; save it as UTF-8 without one");
    }
    let (mut right, mut paid) = (0, 0);
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{name}, line {}", i + 1);
        let row = Row::read(line, &place)?;
        let reward = match verifiers.grade(&row.verifier, &row.response, &row.reference) {
            Err(e) if !is_closed_pipe(&e) => return Err(e.context(place)),
            reward => reward?,
        };
        right += usize::from(reward == Some(1.0));
        paid += usize::from(reward.is_some());
    }
    writeln!(
        io::stdout(),
        "{right} of {paid} right; rows without a verdict are left out"
    )?;
    Ok(())
}

/// One line of the file.
struct Row {
    verifier: String,
    response: String,
    reference: String,
}

impl Row {
    fn read(line: &str, place: &str) -> anyhow::Result<Self> {
        let row: Value = serde_json::from_str(line).map_err(|e| {
            // The parser sees one line and counts lines within it.
            let problem = e.to_string().replace(" at line 1 column ", " at column ");
            anyhow::anyhow!("{place}: {problem}")
        })?;
        let text = |name: &str| match row.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => bail!("{place}: column {name:?} is {other}, expected a string"),
            None => bail!("{place}: column {name:?} is missing"),
        };
        let verifier = match row.get("verifier") {
            Some(_) => text("verifier")?,
            None => "math".to_owned(),
        };
        // Tests of code are JSON themselves, and may stand in the row as such.
        let reference = match row.get("reference") {
            Some(tests @ (Value::Array(_) | Value::Object(_))) if verifier == "code" => {
                tests.to_string()
            }
            _ => text("reference")?,
        };
        Ok(Self {
            response: text("response")?,
            verifier,
            reference,
        })
    }
}

/// The verifiers, of which the one for code starts its sandboxes when it is first needed.
struct Verifiers {
    code: OnceCell<CodeVerifier>,
    /// Whether to say what each test of a row with code saw.
    show: bool,
}

impl Verifiers {
    fn grade(&self, kind: &str, response: &str, reference: &str) -> anyhow::Result<Option<f64>> {
        let verifier: &dyn Verifier = match kind {
            "math" => &MathVerifier::default(),
            "gsm8k" => &Gsm8k::default(),
            "choice" => &MultipleChoice::default(),
            "code" => self.code()?,
            other => bail!("unknown verifier {other:?}; expected math, gsm8k, choice or code"),
        };
        let verdict = verifier.verify(response, reference);
        let graded = verdict.span.clone().map_or("", |span| &response[span]);
        writeln!(
            io::stdout(),
            "{kind:<8} {:<52} {:<28} {:<30} {verdict}",
            short(response, 52),
            short(graded, 28),
            short(reference, 30)
        )?;
        if self.show
            && kind == "code"
            && let Ok(report) = self.code()?.report(response, reference)
        {
            let tests = report.observations.iter().zip(&report.tests);
            for (i, (observation, failure)) in tests.enumerate() {
                let mark = if failure.is_some() { "✗" } else { "✓" };
                writeln!(io::stdout(), "         {mark} test {i}: {observation}")?;
            }
        }
        Ok(verdict.reward())
    }

    fn code(&self) -> anyhow::Result<&CodeVerifier> {
        if self.code.get().is_none() {
            let pool = SandboxPool::new(&PoolConfig::default())?;
            let level = pool.level().map_or("none", |level| level.name());
            writeln!(
                io::stdout(),
                "sandbox: isolation {level}, {}",
                pool.python().display()
            )?;
            let _ = self.code.set(CodeVerifier::new(pool));
        }
        self.code.get().context("it was set above")
    }
}

/// The end of a text, where answers are, on one line.
fn short(text: &str, width: usize) -> String {
    let line = text.replace('\n', "⏎");
    let length = line.chars().count();
    if length <= width {
        return line;
    }
    let tail = line.chars().skip(length - width + 1);
    std::iter::once('…').chain(tail).collect()
}
