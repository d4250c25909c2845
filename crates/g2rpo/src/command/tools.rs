//! Small commands: what a model says, verdicts without a model, reports.

use std::io::{BufRead, BufReader};

use g2rpo::libtorch::{Model, TorchEngine, device, model_folder};
use g2rpo::rollout::{Request, RolloutKey, SamplingParams, Tokenizer, collect};
use g2rpo::train::evaluate::graded::{GradedSample, write_graded};
use g2rpo::train::evaluate::summary::summarize;
use g2rpo::train::recipe::settings::{DataFormat, DataSettings, VerifierName};
use g2rpo::train::run::report::checks::check_run;
use g2rpo::train::run::report::page::render_report;
use g2rpo::train::run::report::record::RunRecord;
use g2rpo::train::write_atomically;
use g2rpo::verify::Verifier;
use serde_json::Value;

use super::cli::{GenerateArgs, ReportArgs, VerifyArgs};
use super::console::{Console, short};
use super::failure::{Failure, because};
use super::{evaluation, setup};

/// `g2rpo generate`.
pub(crate) fn generate(args: &GenerateArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    if args.n > 1 && args.temperature == 0.0 {
        let message = "-n: greedy answers are all the same: give a --temperature above 0";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    let model = Model::load(model_folder(&args.model)?, device(&args.device)?, None)?;
    let data = DataSettings {
        system_prompt: args.system.clone(),
        use_chat_template: args.raw.then_some(false),
        ..DataSettings::default()
    };
    let text = setup::prompt(&model, &data)?(&args.prompt)?;
    let tokenizer: &dyn Tokenizer = &*model.tokenizer;
    let prompt = tokenizer
        .encode(&text)
        .map_err(|e| because(Failure::INPUT, "the prompt")(&e))?
        .ids;
    let requests = (0..args.n).map(|member| Request {
        prompt: prompt.clone(),
        guidance: Vec::new(),
        key: RolloutKey {
            run: args.seed,
            member,
            ..RolloutKey::default()
        },
        max_new_tokens: args.max_completion_length,
    });
    let sampling = SamplingParams {
        temperature: args.temperature,
        ..model.sampling()
    };
    let mut engine = TorchEngine::of(&model)?;
    let rollouts =
        collect(&mut engine, requests.collect(), &sampling).map_err(g2rpo::train::Error::from)?;
    for rollout in rollouts {
        let text = tokenizer
            .decode(&rollout.completion.tokens)
            .map_err(g2rpo::train::Error::from)?;
        console.say(text);
    }
    Ok(())
}

/// `g2rpo verify`.
pub(crate) fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let console = Console::new(args.show.quiet);
    let path = args.file.display().to_string();
    let file = std::fs::File::open(&args.file).map_err(|e| because(Failure::INPUT, &path)(&e))?;
    let mut verifiers: Vec<(String, std::sync::Arc<dyn Verifier>)> = Vec::new();
    let mut samples = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|e| because(Failure::INPUT, &path)(&e))?;
        let line = line.trim_start_matches('\u{feff}');
        if line.trim().is_empty() {
            continue;
        }
        let fault = |problem: String| {
            Failure::new(
                Failure::INPUT,
                format!("{path}, line {}: {problem}", index + 1),
            )
        };
        let row: Value = serde_json::from_str(line).map_err(|e| fault(e.to_string()))?;
        let text = |column: &str| {
            let text = row[column].as_str();
            text.ok_or_else(|| fault(format!("column {column:?} is missing or no text")))
        };
        let name = match &row["verifier"] {
            Value::Null => args.verifier.as_str(),
            value => value
                .as_str()
                .ok_or_else(|| fault(format!("verifier {value} is no name")))?,
        };
        if !verifiers.iter().any(|(known, _)| known == name) {
            let kind = match name {
                "gsm8k" => VerifierName::Gsm8k,
                "math" => VerifierName::Math,
                "choice" => VerifierName::Choice,
                "code" => VerifierName::Code,
                _ => {
                    return Err(fault(format!(
                        "verifier {name:?} is none of gsm8k, math, choice, code"
                    )));
                }
            };
            verifiers.push((
                name.to_owned(),
                setup::verifier(kind, DataFormat::Auto, None)?,
            ));
        }
        let (response, reference) = (text("response")?, text("reference")?);
        let verdict = verifiers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, v)| v.verify(response, reference));
        let Some(verdict) = verdict else { continue };
        console.say(format_args!(
            "{}: {verdict}  │  {}",
            index + 1,
            short(response, 80)
        ));
        samples.push(GradedSample::new(index as u64, 0, response, &verdict));
    }
    if let Some(out) = &args.out {
        write_graded(out, &samples)?;
    }
    match summarize(&samples, 0) {
        Some(summary) => console.say(evaluation::tell("right", &summary)),
        None => return Err(Failure::new(Failure::INPUT, format!("{path} holds no row"))),
    }
    Ok(())
}

/// `g2rpo report`.
pub(crate) fn report(args: &ReportArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    let runs: Vec<RunRecord> = (args.runs.iter())
        .map(|path| RunRecord::read(path))
        .collect::<Result<_, _>>()?;
    if args.check {
        let faults = runs.iter().flat_map(|run| {
            let faults = check_run(run).into_iter();
            faults.map(|fault| format!("{}: {}: {}", run.name, fault.name, fault.text))
        });
        let faults: Vec<String> = faults.collect();
        if faults.is_empty() {
            console.say("nothing went wrong");
            return Ok(());
        }
        return Err(Failure::new(Failure::CHECK, faults.join("\n")));
    }
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| args.runs[0].join("report.html"));
    write_atomically(&out, render_report(&runs).as_bytes())?;
    console.say(out.display());
    Ok(())
}
