//! What samples in a run, by its recipe, and whether it can.

use g2rpo::guidance::Method;
use g2rpo::libtorch::Model;
use g2rpo::rollout::ranks::Collective;
use g2rpo::rollout::{Request, RolloutEngine, RolloutKey, collect};
use g2rpo::train::recipe::settings::Recipe;
use g2rpo::train::{Dataset, EvalConfig};

use super::console::Console;
use super::data::Data;
use super::engine::Engine;
use super::failure::Failure;
use super::setup;

/// What is sampled from: the learner's own numbers, or a copy while it learns.
pub(crate) fn sampled_model(recipe: &Recipe, model: &Model) -> Result<Option<Model>, Failure> {
    let ahead = recipe.train.max_staleness > 0 && !recipe.server.use_vllm;
    Ok(ahead.then(|| model.twin()).transpose()?)
}

/// What samples on this rank.
#[cfg_attr(
    not(feature = "remote"),
    allow(unused_variables, reason = "servers alone need them")
)]
pub(crate) fn engine(
    recipe: &Recipe,
    model: &Model,
    method: &Method,
    data: &Data<'_>,
    ranks: &dyn Collective,
    console: &Console,
) -> Result<Engine, Failure> {
    #[cfg(feature = "remote")]
    if recipe.server.use_vllm {
        if ranks.rank() > 0 {
            return Ok(Engine::AtRank0);
        }
        let engine = super::server::connect(recipe, model, &data.train)?;
        let sets = std::iter::once(&data.train).chain(data.evals.iter().map(|set| &set.data));
        let longest = sets.map(|set| set.checked().longest_prompt).max();
        let longest = longest.unwrap_or(0);
        super::server::check_room(&engine, longest, method.loss.max_completion_length)?;
        let name = recipe.server.server_backend.name();
        for server in engine.servers() {
            let (version, url, model) = (&server.version, &server.url, &server.model);
            console.say(format_args!("{name} {version} at {url} serves {model}"));
        }
        return Ok(Engine::Remote(engine));
    }
    let engine = setup::own_engine(recipe, model)?;
    for fallback in engine.fallbacks() {
        console.warn(fallback);
    }
    Ok(Engine::Local(Box::new(engine)))
}

/// Asks for one id as evaluations will, so that what cannot be done is said before the first step.
pub(crate) fn check_evaluation(
    engine: &mut impl RolloutEngine,
    data: &Dataset<'_>,
    config: &EvalConfig,
) -> Result<(), Failure> {
    let request = Request {
        prompt: data.item(0)?.prompt.clone(),
        guidance: Vec::new(),
        key: RolloutKey::default(),
        max_new_tokens: 1,
    };
    collect(engine, vec![request], &config.sampling).map_err(g2rpo::train::Error::from)?;
    Ok(())
}
