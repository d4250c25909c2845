//! How servers are reached and kept in step, as a recipe writes it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// Which servers make the rollouts, and how. Names that TRL has are TRL's.
///
/// ```
/// use g2rpo_remote::{RemoteConfig, WeightSync};
/// let config: RemoteConfig = toml::from_str(
///     r#"
///     vllm_server_base_url = "http://localhost:8000"
///     weight_sync = "adapter"
///     "#,
/// )
/// .unwrap();
/// assert_eq!(config.weight_sync, WeightSync::Adapter);
/// assert_eq!(config.vllm_server_timeout, 240.0);
/// assert!(toml::from_str::<RemoteConfig>("vllm_server_url = 'x'").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteConfig {
    /// What kind of server it is. Default vLLM.
    pub backend: Backend,
    /// Address of the server, or a list of addresses that share the rollouts. Default
    /// `http://localhost:8000`.
    #[serde(deserialize_with = "one_or_many")]
    pub vllm_server_base_url: Vec<String>,
    /// Seconds to wait for a server that does not answer, at the start and after it was lost.
    /// Default 240, as in TRL.
    pub vllm_server_timeout: f64,
    /// Name of the model at the server. Default: the only base model that it lists.
    pub model: Option<String>,
    /// Environment variable that holds the servers' API key. Default: none is sent.
    pub api_key_env: Option<String>,
    /// Size of the learner's vocabulary; the servers are asked whether theirs is the same. Default:
    /// not asked.
    pub vocab_size: Option<usize>,
    /// Most requests in flight at one server. Default 256, vLLM's `max_num_seqs` on most GPUs.
    pub max_in_flight: usize,
    /// Most tokens of prompts and guidance in flight at one server. Default: no bound. A vLLM on a
    /// CPU dies when the prompts of one step exceed its `--max-num-batched-tokens`.
    pub max_prompt_tokens_in_flight: Option<usize>,
    /// Seconds that one rollout may take at the server, waiting for its turn included. Default 600.
    pub request_timeout: f64,
    /// Seconds that a question to the server may take. Default 60.
    pub control_timeout: f64,
    /// Tries after the first one, for what may be tried again. Default 3.
    pub max_retries: u32,
    /// How new weights reach the servers. Default [`WeightSync::None`].
    pub weight_sync: WeightSync,
    /// Seconds that one sync may take at one server. Default 600.
    pub weight_sync_timeout: f64,
    /// Folder under which the servers see the folders that are synced. Default: the same path as here.
    pub weights_dir_on_server: Option<PathBuf>,
    /// Adapters are called by this name and the version: `g2rpo-7`. Default `g2rpo`.
    pub adapter_name: String,
    /// Stands before the version in labels of weights and names of adapters. Runs that share a server must differ in it,
    /// or one may take the other's weights for its own. Default none.
    pub label_prefix: String,
    /// Mean distance in nats that the server's log-probabilities of the canary may have from the
    /// learner's. Default 0.05, which bf16 on either side stays below; 0.001 suits f32 on both.
    pub canary_tolerance: f64,
}

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// vLLM, by `/inference/v1/generate` where it is open, else by `/v1/completions`.
    #[default]
    Vllm,
    /// SGLang, by `/generate`.
    Sglang,
}

/// How new weights reach the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightSync {
    /// Not at all: the servers keep the weights that they started with.
    #[default]
    None,
    /// As a LoRA adapter in PEFT's format, under a new name at each sync.
    Adapter,
    /// As a Hugging Face folder with all weights, which the servers load again.
    Folder,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            backend: Backend::Vllm,
            vllm_server_base_url: vec!["http://localhost:8000".into()],
            vllm_server_timeout: 240.0,
            model: None,
            api_key_env: None,
            vocab_size: None,
            max_in_flight: 256,
            max_prompt_tokens_in_flight: None,
            request_timeout: 600.0,
            control_timeout: 60.0,
            max_retries: 3,
            weight_sync: WeightSync::None,
            weight_sync_timeout: 600.0,
            weights_dir_on_server: None,
            adapter_name: "g2rpo".into(),
            label_prefix: String::new(),
            canary_tolerance: 0.05,
        }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address or a list of addresses")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(url) => vec![url],
        OneOrMany::Many(urls) => urls,
    })
}

impl RemoteConfig {
    /// Whether the settings can be used.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the first that cannot.
    pub fn validate(&self) -> Result<()> {
        let refuse = |name, problem: String| Err(Error::Config { name, problem });
        if self.vllm_server_base_url.is_empty() {
            return refuse("vllm_server_base_url", "give at least one address".into());
        }
        for (i, url) in self.vllm_server_base_url.iter().enumerate() {
            let host = (url.strip_prefix("http://")).or_else(|| url.strip_prefix("https://"));
            if host.is_none_or(|host| host.trim_matches('/').is_empty()) {
                return refuse(
                    "vllm_server_base_url",
                    format!("`{url}` is no address such as http://localhost:8000"),
                );
            }
            if self.vllm_server_base_url[..i].contains(url) {
                return refuse("vllm_server_base_url", format!("`{url}` is there twice"));
            }
        }
        for (name, seconds) in [
            ("vllm_server_timeout", self.vllm_server_timeout),
            ("request_timeout", self.request_timeout),
            ("control_timeout", self.control_timeout),
            ("weight_sync_timeout", self.weight_sync_timeout),
        ] {
            // The upper bound is a year, far inside what a Duration holds.
            if !(seconds > 0.0 && seconds < 3.2e7) {
                let problem = format!("{seconds} is no number of seconds above 0");
                return refuse(name, problem);
            }
        }
        for (name, number) in [
            ("max_in_flight", Some(self.max_in_flight)),
            (
                "max_prompt_tokens_in_flight",
                self.max_prompt_tokens_in_flight,
            ),
            ("vocab_size", self.vocab_size),
        ] {
            if number == Some(0) {
                return refuse(name, "must be at least 1".into());
            }
        }
        if !(self.canary_tolerance > 0.0 && self.canary_tolerance.is_finite()) {
            let problem = format!("{} is no distance above 0", self.canary_tolerance);
            return refuse("canary_tolerance", problem);
        }
        let plain = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            text.chars().all(plain)
        };
        for (name, text, holds) in [
            (
                "adapter_name",
                &self.adapter_name,
                !self.adapter_name.is_empty(),
            ),
            ("label_prefix", &self.label_prefix, true),
        ] {
            if !holds || !plain(text) {
                let rule = "must consist of letters, digits, `-`, `_` and `.`";
                return refuse(name, format!("`{text}` {rule}"));
            }
        }
        Ok(())
    }

    /// What weights of this version are called.
    pub(crate) fn label(&self, version: u64) -> String {
        format!("{}{version}", self.label_prefix)
    }

    /// The API key, if one is asked for.
    pub(crate) fn api_key(&self) -> Result<Option<String>> {
        let Some(variable) = &self.api_key_env else {
            return Ok(None);
        };
        let key = std::env::var(variable).unwrap_or_default();
        if key.is_empty() || key.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(Error::Config {
                name: "api_key_env",
                problem: format!("the environment variable {variable} holds no key"),
            });
        }
        Ok(Some(key))
    }

    /// The time that one rollout may take.
    pub(crate) fn request_limit(&self) -> Duration {
        Duration::from_secs_f64(self.request_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_out_of_range_is_refused_by_name() {
        type Change = fn(&mut RemoteConfig);
        let bare: Change = |c| c.vllm_server_base_url = vec!["localhost:8000".into()];
        let twice: Change = |c| c.vllm_server_base_url = vec!["http://a".into(); 2];
        let table: &[(&str, Change)] = &[
            ("vllm_server_base_url", |c| c.vllm_server_base_url.clear()),
            ("vllm_server_base_url", bare),
            ("vllm_server_base_url", twice),
            ("vllm_server_timeout", |c| c.vllm_server_timeout = -1.0),
            ("request_timeout", |c| c.request_timeout = f64::NAN),
            ("control_timeout", |c| c.control_timeout = 0.0),
            ("weight_sync_timeout", |c| c.weight_sync_timeout = 1e300),
            ("max_in_flight", |c| c.max_in_flight = 0),
            ("max_prompt_tokens_in_flight", |c| {
                c.max_prompt_tokens_in_flight = Some(0);
            }),
            ("vocab_size", |c| c.vocab_size = Some(0)),
            ("canary_tolerance", |c| c.canary_tolerance = f64::INFINITY),
            ("adapter_name", |c| c.adapter_name = "a/b".into()),
            ("label_prefix", |c| c.label_prefix = "a b".into()),
        ];
        RemoteConfig::default().validate().unwrap();
        for (name, change) in table {
            let mut config = RemoteConfig::default();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_recipe_survives_being_written_and_read() {
        let config = RemoteConfig {
            backend: Backend::Sglang,
            vllm_server_base_url: vec!["http://a:1".into(), "http://b:2".into()],
            weight_sync: WeightSync::Folder,
            ..RemoteConfig::default()
        };
        let text = toml::to_string(&config).unwrap();
        assert!(text.contains("backend = \"sglang\""), "{text}");
        assert_eq!(toml::from_str::<RemoteConfig>(&text).unwrap(), config);
        let error = toml::from_str::<RemoteConfig>("vllm_server_base_url = 3").unwrap_err();
        assert!(
            error.to_string().contains("an address or a list"),
            "{error}"
        );
    }

    #[test]
    fn a_key_that_is_not_there_is_said_so() {
        let config = RemoteConfig {
            api_key_env: Some("G2RPO_NO_SUCH_VARIABLE".into()),
            ..RemoteConfig::default()
        };
        let error = config.api_key().unwrap_err().to_string();
        assert!(
            error.contains("G2RPO_NO_SUCH_VARIABLE holds no key"),
            "{error}"
        );
    }
}
