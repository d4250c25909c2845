//! What a recipe says about servers that make the completions.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::section::section;

section! {
    /// Section `[server]`.
    pub struct ServerSettings {
        /// Let servers make the completions instead of this process. TRL's name.
        pub use_vllm: bool = false,
        /// Where vLLM runs: `server`, beside this process. TRL's default, `colocate`, is not done.
        pub vllm_mode: VllmMode = VllmMode::Server,
        /// What kind of server it is: `vllm` or `sglang`.
        pub server_backend: ServerBackend = ServerBackend::Vllm,
        /// Address of the server, or several that share the work, as a list or with commas. TRL's name;
        /// by default that of `vllm_server_host` and `vllm_server_port`.
        #[serde(deserialize_with = "addresses")]
        pub vllm_server_base_url: Vec<String> = Vec::new(),
        /// Host of the server, where no address is given. TRL's default.
        pub vllm_server_host: String = "0.0.0.0".into(),
        /// Port of the server, where no address is given. TRL's default.
        pub vllm_server_port: u16 = 8000,
        /// Seconds to wait for a server that does not answer, at the start and after it was lost. TRL's default.
        pub vllm_server_timeout: f64 = 240.0,
        /// Name of the model at the server; by default the only one that it lists.
        pub server_model: Option<String> = None,
        /// Environment variable that holds the servers' API key; by default none is sent.
        pub api_key_env: Option<String> = None,
        /// Most requests in flight at one server.
        pub max_in_flight: usize = 256,
        /// Most tokens of prompts in flight at one server; no bound by default.
        pub max_prompt_tokens_in_flight: Option<usize> = None,
        /// Seconds that one completion may take at the server.
        pub request_timeout: f64 = 600.0,
        /// Tries after the first one, for what may be tried again.
        pub max_retries: u32 = 3,
        /// How new weights reach the servers: `adapter` or `folder`; by default an adapter with
        /// `use_peft`, else a folder.
        pub weight_sync: Option<WeightSyncName> = None,
        /// Seconds that one sync of weights may take at one server.
        pub weight_sync_timeout: f64 = 600.0,
        /// Folder that weights are written to for the servers; by default `weights` in `output_dir`.
        pub weights_dir: Option<PathBuf> = None,
        /// The same folder as the servers see it, where they see it elsewhere.
        pub weights_dir_on_server: Option<PathBuf> = None,
        /// Mean distance in nats that the servers' log-probabilities may have from the learner's after a
        /// sync. 0.05 suits bfloat16, 0.001 float32 on both sides.
        pub canary_tolerance: f64 = 0.05,
    }
}

impl ServerSettings {
    /// The addresses, by `vllm_server_base_url` or else by host and port.
    pub fn urls(&self) -> Vec<String> {
        match self.vllm_server_base_url.as_slice() {
            [] => vec![format!(
                "http://{}:{}",
                self.vllm_server_host, self.vllm_server_port
            )],
            urls => urls.to_vec(),
        }
    }

    /// How weights travel, with or without low-rank adapters.
    pub fn weight_sync(&self, use_peft: bool) -> WeightSyncName {
        self.weight_sync.unwrap_or(if use_peft {
            WeightSyncName::Adapter
        } else {
            WeightSyncName::Folder
        })
    }
}

/// Where vLLM runs, by TRL's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VllmMode {
    /// Beside this process, reached by HTTP.
    Server,
    /// Inside this process, which has no Python for it.
    Colocate,
}

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerBackend {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
}

impl ServerBackend {
    /// As its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vLLM",
            Self::Sglang => "SGLang",
        }
    }
}

/// How new weights reach the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightSyncName {
    /// As a LoRA adapter, beside the model that they were started with.
    Adapter,
    /// As a folder with all weights, which they load again.
    Folder,
}

/// A list of addresses, or a text with commas between them.
fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address or a list of addresses")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let texts = match OneOrMany::deserialize(from)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    let parts = texts.iter().flat_map(|text| text.split(','));
    let parts = parts.map(|part| part.trim().to_owned());
    Ok(parts.filter(|part| !part.is_empty()).collect())
}
