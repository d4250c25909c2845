//! A model opened whole from its folder, for an engine and a learner that share its numbers.

use std::path::Path;
use std::sync::Arc;

use g2rpo_rollout::{SamplingParams, TokenId};
use serde_json::{Map, Value};
use tch::Device;

use crate::error::{Error, Result, ensure};
use crate::generate::engine::TorchEngine;
use crate::hf::chat::{ChatOptions, Message};
use crate::hf::checkpoint::{generation_settings, load_checkpoint, save_with_settings};
use crate::hf::tokenizer::HfTokenizer;
use crate::learner::config::LearnerConfig;
use crate::learner::torch_learner::TorchLearner;
use crate::model::config::DecoderConfig;
use crate::model::decoder::Decoder;
use crate::model::dtype::DType;
use crate::model::init::init_parameters;
use crate::model::lora::{Adapter, LoraConfig};
use crate::model::params::Parameters;

/// A model in Hugging Face layout: numbers, tokenizer with chat template, and low-rank adapters if
/// they are what is to be trained.
///
/// [`TorchEngine::of`] and [`TorchLearner::of`] work on these numbers where they are. There is one
/// copy of them in memory, and what the learner learns the engine samples from.
#[derive(Debug)]
pub struct Model {
    /// Shape, constants, and the ids that end a text.
    pub config: DecoderConfig,
    /// The numbers.
    pub parameters: Parameters,
    /// Text to ids and back; it holds the chat template.
    pub tokenizer: Arc<HfTokenizer>,
    /// What is trained instead of [`parameters`](Self::parameters), if anything is.
    pub adapter: Option<Adapter>,
    /// What `generation_config.json` held; written back as it was.
    generation: Option<Map<String, Value>>,
}

impl Model {
    /// Opens a folder with `config.json`, safetensors files and `tokenizer.json`. `dtype` is the
    /// number format wanted, the checkpoint's own if `None`.
    ///
    /// # Errors
    /// As [`load_checkpoint`] and [`HfTokenizer::from_dir`].
    pub fn load(dir: impl AsRef<Path>, device: Device, dtype: Option<DType>) -> Result<Self> {
        let dir = dir.as_ref();
        let tokenizer = HfTokenizer::from_dir(dir)?;
        let checkpoint = load_checkpoint(dir, dtype.map(DType::kind), device)?;
        Ok(Self {
            config: checkpoint.config,
            parameters: checkpoint.parameters,
            tokenizer: Arc::new(tokenizer),
            adapter: None,
            generation: generation_settings(dir)?.and_then(|file| file.as_object().cloned()),
        })
    }

    /// A model with random numbers, to be trained from nothing.
    ///
    /// # Errors
    /// As [`init_parameters`].
    pub fn init(
        config: DecoderConfig,
        tokenizer: HfTokenizer,
        seed: u64,
        device: Device,
        dtype: DType,
    ) -> Result<Self> {
        Ok(Self {
            parameters: init_parameters(&config, seed, dtype.kind(), device)?,
            config,
            tokenizer: Arc::new(tokenizer),
            adapter: None,
            generation: None,
        })
    }

    /// The id that ends a completion: the first that the configuration names, or else the
    /// tokenizer's.
    ///
    /// # Errors
    /// [`Error::Invalid`] if neither names one.
    pub fn eos(&self) -> Result<TokenId> {
        let named = self.config.eos_token_id.first().copied();
        (named.or_else(|| self.tokenizer.eos_token_id())).ok_or_else(|| {
            Error::invalid(
                "eos_token_id",
                "neither config.json nor the tokenizer says what ends a completion",
            )
        })
    }

    /// Plain sampling at temperature 1 that ends where the model's files say so.
    pub fn sampling(&self) -> SamplingParams {
        let mut ends = self.config.eos_token_id.clone();
        ends.extend(self.tokenizer.eos_token_id());
        ends.sort_unstable();
        ends.dedup();
        SamplingParams {
            stop_token_ids: ends,
            ..SamplingParams::default()
        }
    }

    /// The chat template as a prompt template: a question becomes the text of a conversation in
    /// which it is the user's turn, behind `system` if there is any, up to where the assistant
    /// begins.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the tokenizer has no chat template. The prompt template gives the
    /// errors of [`ChatTemplate::render`](crate::ChatTemplate::render).
    pub fn chat(
        &self,
        system: Option<&str>,
    ) -> Result<impl Fn(&str) -> Result<String> + Send + Sync + use<>> {
        let has_template = self.tokenizer.chat_template().is_some();
        let why = "the tokenizer has none; give the data set a template of text";
        ensure(has_template, "chat_template", || why)?;
        let tokenizer = Arc::clone(&self.tokenizer);
        let system = system.map(|text| Message::new("system", text));
        Ok(move |question: &str| {
            let mut messages: Vec<Message> = system.iter().cloned().collect();
            messages.push(Message::new("user", question));
            let options = ChatOptions {
                add_generation_prompt: true,
                ..ChatOptions::default()
            };
            match tokenizer.chat_template() {
                Some(template) => template.render(&messages, &options),
                None => Ok(question.to_owned()),
            }
        })
    }

    /// With fresh low-rank adapters, which add nothing at first; unchanged for `None`. Before the
    /// engine and the learner are made, because both read them.
    ///
    /// # Errors
    /// As [`Adapter::new`].
    pub fn with_lora(mut self, lora: Option<&LoraConfig>) -> Result<Self> {
        if let Some(lora) = lora {
            let (kind, device) = (self.parameters.kind(), self.parameters.device());
            self.adapter = Some(Adapter::new(&self.config, lora, kind, device)?);
        }
        Ok(self)
    }

    /// The same model with numbers of its own, for an engine that samples while the learner learns;
    /// [`take`](Self::take) brings them up to date.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; libtorch's.
    pub fn twin(&self) -> Result<Self> {
        let (kind, device) = (self.parameters.kind(), self.parameters.device());
        let mut parameters = self.parameters.to(kind, device)?;
        parameters.set_trainable(false)?;
        let adapter = self
            .adapter
            .as_ref()
            .map(Adapter::frozen_copy)
            .transpose()?;
        Ok(Self {
            config: self.config.clone(),
            parameters,
            tokenizer: Arc::clone(&self.tokenizer),
            adapter,
            generation: self.generation.clone(),
        })
    }

    /// Copies what `learner` has learned into these numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] if one of the two has adapters and the other has not; libtorch's.
    pub fn take(&mut self, learner: &TorchLearner) -> Result<()> {
        match (&mut self.adapter, learner.adapter()) {
            (Some(own), Some(theirs)) => own.parameters_mut().copy_all(theirs.parameters()),
            (None, None) => self.parameters.copy_all(learner.base()),
            _ => Err(Error::invalid(
                "learner",
                "it trains low-rank adapters and the model has none, or the other way round",
            )),
        }
    }

    /// The decoder on these numbers, adapters included.
    ///
    /// # Errors
    /// As [`Decoder::new`].
    pub fn decoder(&self) -> Result<Decoder> {
        Adapter::decoder(&self.config, &self.parameters, self.adapter.as_ref())
    }

    /// Writes the model as `learner` left it into a folder that transformers opens, in the number
    /// format that it has in memory. Adapters are merged into the weights; [`Adapter::save`] writes
    /// them alone. Of the `generation_config.json` that the model came with, all is kept but the ids of
    /// special tokens, which are those of [`config`](Self::config).
    ///
    /// # Errors
    /// As [`save_checkpoint`](crate::save_checkpoint).
    pub fn save(&self, dir: impl AsRef<Path>, learner: &TorchLearner) -> Result<()> {
        let merged = learner.adapter().map(|_| learner.merged()).transpose()?;
        let parameters = merged.as_ref().unwrap_or(learner.base());
        let dtype = DType::from_kind(parameters.kind())?;
        let (tokenizer, settings) = (Some(&*self.tokenizer), self.generation.as_ref());
        save_with_settings(
            dir.as_ref(),
            &self.config,
            parameters,
            dtype,
            tokenizer,
            settings,
        )
    }
}

impl TorchEngine {
    /// An engine on a model's numbers and tokenizer, as [`new`](Self::new).
    ///
    /// # Errors
    /// As [`Model::decoder`].
    pub fn of(model: &Model) -> Result<Self> {
        Ok(Self::new(&model.decoder()?).with_tokenizer(Arc::clone(&model.tokenizer)))
    }
}

impl TorchLearner {
    /// A learner of a model's numbers, or of its adapters if it has any.
    ///
    /// # Errors
    /// [`Error::Invalid`] if [`LearnerConfig::lora`] asks for other adapters than the model has: an
    /// engine on the model would not sample from them. Else as
    /// [`with_adapter`](Self::with_adapter).
    pub fn of(model: &Model, config: LearnerConfig) -> Result<Self> {
        let had = model.adapter.as_ref().map(Adapter::config);
        let fits = config.lora.is_none() || config.lora.as_ref() == had;
        ensure(fits, "lora", || {
            "the model has no such adapters; give it them with `Model::with_lora`, so that the \
             engine samples from what is trained"
        })?;
        let adapter = model.adapter.as_ref().map(Adapter::shallow_clone);
        Self::with_adapter(
            &model.config,
            model.parameters.shallow_clone(),
            adapter,
            config,
        )
    }
}
