//! `g2rpo generate`: what a model answers.

use std::path::Path;

use g2rpo::libtorch::{Model, TorchEngine, device};
use g2rpo::rollout::{Request, RolloutKey, SamplingParams, TokenId, Tokenizer, collect};
use g2rpo::train::recipe::check::check;
use g2rpo::train::recipe::settings::{DataSettings, Recipe};
use serde_json::Value;

use super::cli::{GenerateArgs, SamplingArgs};
use super::console::Console;
use super::failure::{Failure, because};
use super::{model_folder, setup};

/// `g2rpo generate`.
pub(crate) fn generate(args: &GenerateArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    check_arguments(args)?;
    let folder = model_folder::open(&args.model)?;
    let model = Model::load(&folder, device(&args.device)?, None)?;
    let prompt = prompt(args, &model, &folder)?;
    if prompt.is_empty() {
        let message = "the prompt is empty: there is nothing to go on from";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    let requests = (0..args.n).map(|member| Request {
        prompt: prompt.clone(),
        guidance: Vec::new(),
        key: RolloutKey {
            run: args.seed.unwrap_or(0),
            member,
            ..RolloutKey::default()
        },
        max_new_tokens: args.max_completion_length,
    });
    let drawn = &args.sampling;
    let sampling = SamplingParams {
        temperature: drawn.temperature,
        top_p: drawn.top_p.unwrap_or(1.0),
        top_k: drawn.top_k.unwrap_or(0),
        min_p: drawn.min_p.unwrap_or(0.0),
        repetition_penalty: drawn.repetition_penalty,
        stop: drawn.stop.clone(),
        ..model.sampling()
    };
    let mut engine = TorchEngine::of(&model)?;
    let rollouts =
        collect(&mut engine, requests.collect(), &sampling).map_err(g2rpo::train::Error::from)?;
    for rollout in rollouts {
        let text = Tokenizer::decode(&*model.tokenizer, &rollout.completion.tokens)
            .map_err(g2rpo::train::Error::from)?;
        console.say(text);
    }
    Ok(())
}

/// What is asked, as ids.
fn prompt(args: &GenerateArgs, model: &Model, folder: &Path) -> Result<Vec<TokenId>, Failure> {
    let encode = |text: &str| {
        let encoded = Tokenizer::encode(&*model.tokenizer, text);
        encoded
            .map(|encoding| encoding.ids)
            .map_err(|e| because(Failure::SETTINGS, "the prompt")(&e))
    };
    if args.raw {
        let (before, after) = around(folder)?;
        return Ok([before, encode(&args.prompt)?, after].concat());
    }
    let data = DataSettings {
        system_prompt: args.system.clone(),
        ..DataSettings::default()
    };
    encode(&setup::prompt(model, &data)?(&args.prompt)?)
}

/// Refuses what cannot be sampled by, as in a recipe, and what would have no effect.
fn check_arguments(args: &GenerateArgs) -> Result<(), Failure> {
    let drawn = &args.sampling;
    let refuse = |message: String| Err(Failure::new(Failure::SETTINGS, message));
    if args.n == 0 || args.max_completion_length == 0 {
        return refuse("-n and --max-completion-length: must be at least 1".into());
    }
    if args.raw && args.system.is_some() {
        return refuse(
            "--system: with --raw the text is given as it is, without a system message".into(),
        );
    }
    let mut recipe = Recipe::default();
    recipe.evaluate.eval_temperature = drawn.temperature;
    recipe.generate.top_p = drawn.top_p.unwrap_or(1.0);
    recipe.generate.min_p = drawn.min_p;
    recipe.generate.repetition_penalty = drawn.repetition_penalty;
    recipe.generate.stop.clone_from(&drawn.stop);
    for (key, problem) in check(&recipe, &|_| false) {
        let option = match key.as_str() {
            "eval_temperature" => "--temperature",
            "top_p" => "--top-p",
            "min_p" => "--min-p",
            "repetition_penalty" => "--repetition-penalty",
            "stop" => "--stop",
            _ => continue,
        };
        return refuse(format!("{option}: {problem}"));
    }
    if let (0.0, Some(option)) = (drawn.temperature, random(args)) {
        return refuse(format!(
            "{option}: greedy answers are all the same: give a --temperature above 0"
        ));
    }
    Ok(())
}

/// An option that matters to draws alone.
fn random(args: &GenerateArgs) -> Option<&'static str> {
    let SamplingArgs {
        top_p,
        top_k,
        min_p,
        ..
    } = args.sampling;
    [
        ("-n", args.n > 1),
        ("--top-p", top_p.is_some()),
        ("--top-k", top_k.is_some()),
        ("--min-p", min_p.is_some()),
        ("--seed", args.seed.is_some()),
    ]
    .into_iter()
    .find_map(|(option, given)| given.then_some(option))
}

/// Ids that the tokenizer's own post-processor puts before and behind a text, as transformers has it do.
fn around(folder: &Path) -> Result<(Vec<TokenId>, Vec<TokenId>), Failure> {
    let path = folder.join("tokenizer.json");
    let fault = because(Failure::RUN, path.display().to_string());
    let text = std::fs::read_to_string(&path).map_err(|e| fault(&e))?;
    let tokenizer: Value = serde_json::from_str(&text).map_err(|e| fault(&e))?;
    frame(&tokenizer["post_processor"]).map_err(|e| fault(&e))
}

fn frame(processor: &Value) -> Result<(Vec<TokenId>, Vec<TokenId>), String> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| TokenId::try_from(id).ok());
        id.ok_or_else(|| format!("post_processor: {value} is no id"))
    };
    let (mut before, mut after) = (Vec::new(), Vec::new());
    match processor["type"].as_str() {
        None | Some("ByteLevel") => {}
        Some("Sequence") => {
            for inner in processor["processors"].as_array().into_iter().flatten() {
                let (outer, behind) = frame(inner)?;
                before = [outer, before].concat();
                after.extend(behind);
            }
        }
        Some("TemplateProcessing") => {
            let mut seen = false;
            for piece in processor["single"].as_array().into_iter().flatten() {
                let Some(token) = piece["SpecialToken"]["id"].as_str() else {
                    seen = true;
                    continue;
                };
                let ids = processor["special_tokens"][token]["ids"].as_array();
                let ids = ids.ok_or_else(|| format!("post_processor: {token} has no ids"))?;
                let ids = ids.iter().map(id).collect::<Result<Vec<_>, _>>()?;
                if seen { &mut after } else { &mut before }.extend(ids);
            }
        }
        Some("BertProcessing" | "RobertaProcessing") => {
            before.push(id(&processor["cls"][1])?);
            after.push(id(&processor["sep"][1])?);
        }
        Some(other) => return Err(format!("post_processor: {other} is not known")),
    }
    Ok((before, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_around_a_text_are_those_of_the_post_processor() {
        let template = |pieces: Value| {
            json!({"type": "TemplateProcessing", "single": pieces, "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                    "</s>": {"id": "</s>", "ids": [2, 3], "tokens": ["</", "s>"]}}})
        };
        let (text, bos) = (
            json!({"Sequence": {"id": "A", "type_id": 0}}),
            json!({"SpecialToken": {"id": "<s>", "type_id": 0}}),
        );
        let eos = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
        let framed = |processor: &Value| frame(processor).unwrap();
        let both = template(json!([bos, text, eos]));
        assert_eq!(framed(&both), (vec![1], vec![2, 3]));
        assert_eq!(framed(&template(json!([text]))), (vec![], vec![]));
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": true});
        for none in [&Value::Null, &bytes] {
            assert_eq!(framed(none), (vec![], vec![]));
        }
        // As Llama 3 has it.
        let several =
            json!({"type": "Sequence", "processors": [bytes, template(json!([bos, text]))]});
        assert_eq!(framed(&several), (vec![1], vec![]));
        let bert = json!({"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]});
        assert_eq!(framed(&bert), (vec![101], vec![102]));
        let unknown = json!({"type": "Template", "single": []});
        assert_eq!(
            frame(&unknown).unwrap_err(),
            "post_processor: Template is not known"
        );
    }
}
