//! Servers that make the completions: how they are reached, and how new weights come to them.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use g2rpo::core::{Learner, Ragged, Scoring, Sequences, TokenId, WhichPolicy};
use g2rpo::libtorch::{Model, TorchLearner};
use g2rpo::remote::{Backend, RemoteConfig, RemoteEngine, WeightSync, write_untied};
use g2rpo::rollout::ranks::{Collective, RankedEngine, RankedLearner, share};
use g2rpo::train::Dataset;
use g2rpo::train::recipe::server::{ServerBackend, WeightSyncName};
use g2rpo::train::recipe::settings::Recipe;
use g2rpo::train::run::files::if_there;

use super::engine::Engine;
use super::failure::Failure;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Sequences of the canary, and most ids of each.
const CANARIES: usize = 4;
const CANARY_LENGTH: usize = 128;

/// Waits for the servers of a recipe, and refuses what they cannot do.
pub(crate) fn connect(
    recipe: &Recipe,
    model: &Model,
    data: &Dataset<'_>,
) -> Result<RemoteEngine, Failure> {
    let server = &recipe.server;
    let config = RemoteConfig {
        backend: match server.server_backend {
            ServerBackend::Vllm => Backend::Vllm,
            ServerBackend::Sglang => Backend::Sglang,
        },
        vllm_server_base_url: server.urls(),
        vllm_server_timeout: server.vllm_server_timeout,
        model: server.server_model.clone(),
        api_key_env: server.api_key_env.clone(),
        vocab_size: Some(model.config.vocab_size),
        max_in_flight: server.max_in_flight,
        max_prompt_tokens_in_flight: server.max_prompt_tokens_in_flight,
        request_timeout: server.request_timeout,
        max_retries: server.max_retries,
        weight_sync: match server.weight_sync(recipe.model.use_peft) {
            WeightSyncName::Adapter => WeightSync::Adapter,
            WeightSyncName::Folder => WeightSync::Folder,
        },
        weight_sync_timeout: server.weight_sync_timeout,
        weights_dir_on_server: server.weights_dir_on_server.clone(),
        canary_tolerance: server.canary_tolerance,
        label_prefix: own_label(),
        ..RemoteConfig::default()
    };
    let mut canary = Vec::new();
    for task in 0..data.len().min(CANARIES) {
        let item = data.item(task)?;
        let solution = item.trace.as_ref().map_or(&[][..], |trace| trace.tokens());
        let mut ids = [&item.prompt[..], solution].concat();
        // A prompt of one id says nothing by itself.
        if ids.len() < 2 {
            ids.push(ids[0]);
        }
        ids.truncate(CANARY_LENGTH);
        canary.push(ids);
    }
    RemoteEngine::connect(config, canary).map_err(|error| {
        use g2rpo::remote::Error;
        let code = match &error {
            Error::Config { .. } | Error::Sampling { .. } => Failure::SETTINGS,
            _ => Failure::OTHER,
        };
        Failure::new(code, error.to_string())
    })
}

/// What no other run's weights are called at a server that both use: from the time and the number of this process.
fn own_label() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = time.map_or(0, |time| time.as_nanos() as u64);
    let mixed = (time ^ u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}-", mixed >> 32)
}

/// Refuses completions for which the servers have no room, before the first is asked for.
pub(crate) fn check_room(
    engine: &RemoteEngine,
    longest_prompt: usize,
    max_completion_length: usize,
) -> Result<(), Failure> {
    let needed = longest_prompt + max_completion_length;
    for server in engine.servers() {
        if let Some(most) = server.max_model_len.filter(|most| *most < needed) {
            let message = format!(
                "max_completion_length = {max_completion_length}: with the longest prompt of {longest_prompt} \
                 these are {needed} tokens, and {} has room for {most}: start it with a larger --max-model-len, \
                 or set max_prompt_length",
                server.url
            );
            return Err(Failure::new(Failure::SETTINGS, message));
        }
    }
    Ok(())
}

/// Writes weights where the servers find them. The newest two stay: a server that is started again
/// gets the last ones once more.
struct Weights<'m> {
    model: &'m Model,
    how: WeightSyncName,
    folder: PathBuf,
    written: VecDeque<PathBuf>,
}

impl Weights<'_> {
    fn bring(
        &mut self,
        engine: &mut RemoteEngine,
        learner: &mut TorchLearner,
    ) -> Result<(), Fault> {
        let version = learner.steps();
        let folder = self.folder.join(format!("version_{version:06}"));
        fs::create_dir_all(&self.folder)?;
        clear(&folder)?;
        match (self.how, learner.adapter()) {
            (WeightSyncName::Adapter, Some(adapter)) => adapter.save(&folder, None)?,
            (WeightSyncName::Adapter, None) => return Err("there is no adapter to send".into()),
            (WeightSyncName::Folder, _) if self.model.config.tie_word_embeddings => {
                let tied = self.folder.join("tied");
                clear(&tied)?;
                self.model.save(&tied, learner)?;
                write_untied(&tied, &folder)?;
                clear(&tied)?;
            }
            (WeightSyncName::Folder, _) => self.model.save(&folder, learner)?,
        }
        engine.sync(&folder, version, &mut |ids| scores(learner, ids))?;
        self.written.push_back(folder);
        while self.written.len() > 2 {
            if let Some(old) = self.written.pop_front() {
                clear(&old)?;
            }
        }
        Ok(())
    }
}

fn clear(folder: &PathBuf) -> std::io::Result<()> {
    if_there(fs::remove_dir_all(folder)).map(drop)
}

/// The learner's log-probabilities of `ids` from the second on.
fn scores(learner: &mut TorchLearner, ids: &[TokenId]) -> Result<Vec<f32>, Fault> {
    let sequences = Sequences::new(Ragged::from_rows([ids.to_vec()]), vec![1])?;
    let out = learner.token_logps(&sequences, WhichPolicy::Current, &Scoring::default())?;
    Ok(out.logp.row(0).iter().map(|logp| *logp as f32).collect())
}

/// What brings the learner's weights to the servers: rank 0 does, and all ranks wait for it.
pub(crate) fn sync<'m>(
    recipe: &Recipe,
    model: &'m Model,
    folder: PathBuf,
    ranks: Arc<dyn Collective>,
) -> impl FnMut(&mut RankedEngine<Engine>, &mut RankedLearner<TorchLearner>) -> Result<(), Fault> + use<'m>
{
    let server = &recipe.server;
    let mut weights = Weights {
        model,
        how: server.weight_sync(recipe.model.use_peft),
        folder: server.weights_dir.clone().unwrap_or(folder),
        written: VecDeque::new(),
    };
    move |engine, learner| {
        let brought = match engine.get_mut() {
            Engine::Remote(engine) => weights.bring(engine, learner.get_mut()),
            Engine::AtRank0 | Engine::Local(_) => Ok(()),
        };
        let said = (brought.as_ref()).map_or_else(|e| Err(e.to_string()), |()| Ok(Vec::new()));
        let steps = learner.get().steps();
        let others = share(&*ranks, "weights to the servers", steps, said);
        brought?;
        others?;
        Ok(())
    }
}
