//! `g2rpo generate`: what a model answers.

use g2rpo::libtorch::{DType, Model, TorchEngine, device};
use g2rpo::rollout::{Request, RolloutKey, SamplingParams, TokenId, Tokenizer, collect};
use g2rpo::train::recipe::check::check;
use g2rpo::train::recipe::settings::{DataSettings, Recipe};

use super::cli::{GenerateArgs, SamplingArgs};
use super::console::Console;
use super::failure::{Failure, because};
use super::{model_folder, setup};

/// `g2rpo generate`.
pub(crate) fn generate(args: &GenerateArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    check_arguments(args)?;
    let folder = model_folder::open(&args.model)?;
    let dtype = match &*args.dtype {
        "bfloat16" => DType::Bf16,
        _ => DType::F32,
    };
    let model = Model::load(&folder, device(&args.device)?, Some(dtype))?;
    let prompt = prompt(args, &model)?;
    if prompt.is_empty() {
        let message = "the prompt is empty: there is nothing to go on from";
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    let room = model.config.max_position_embeddings;
    if prompt.len() + args.max_completion_length > room {
        let message = format!(
            "--max-completion-length: {} behind a prompt of {} go beyond the {room} positions that the model was made for \
             (max_position_embeddings)",
            args.max_completion_length,
            prompt.len()
        );
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
fn prompt(args: &GenerateArgs, model: &Model) -> Result<Vec<TokenId>, Failure> {
    let encoded = if args.raw {
        model.tokenizer.encode_with_special(&args.prompt)
    } else {
        let data = DataSettings {
            system_prompt: args.system.clone(),
            ..DataSettings::default()
        };
        model
            .tokenizer
            .encode(&setup::prompt(model, &data)?(&args.prompt)?)
    };
    encoded.map_err(because(Failure::SETTINGS, "the prompt"))
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
