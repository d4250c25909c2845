//! Low-rank adapters: settings, matrices, merging, and PEFT's files.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Doing, Error, Result, ensure};
use crate::model::config::DecoderConfig;
use crate::model::decoder::Decoder;
use crate::model::linear::Lora;
use crate::model::params::{ParamSpec, Parameters, float_kind};

/// Settings of low-rank adapters (Hu et al., arXiv 2106.09685), by PEFT's names and defaults.
/// There is no dropout: it would make the policy that is trained differ from the one that samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the adapters.
    pub r: usize,
    /// What an adapter adds is multiplied by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Multiply by `lora_alpha / √r` instead (rank-stabilised LoRA, arXiv 2312.03732).
    pub use_rslora: bool,
    /// Names of the linear layers that get an adapter, such as `q_proj`, or dotted ends of full
    /// names, such as `self_attn.q_proj`; `all-linear` alone means every linear layer inside the
    /// blocks, or in a model with experts, those of attention: its feed-forward layers have no adapters.
    pub target_modules: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            use_rslora: false,
            target_modules: vec!["q_proj".into(), "v_proj".into()],
        }
    }
}

/// Low-rank adapters beside the linear layers of a decoder, `scaling · B·A·x`, with `A` of shape
/// `[r, in]` and `B` of shape `[out, r]`.
#[derive(Debug)]
pub struct Adapter {
    pub(crate) config: LoraConfig,
    /// `….lora_A.weight` and `….lora_B.weight` of every adapted layer, by the layer's name.
    pub(crate) parameters: Parameters,
    modules: Vec<String>,
}

impl Adapter {
    /// Adapters that add nothing yet: `A` uniform in `±1/√in`, as PEFT draws it, `B` zero. The
    /// draws are the same on every machine and device.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings out of range or a target module that the model does not
    /// have.
    pub fn new(
        model: &DecoderConfig,
        config: &LoraConfig,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        use rand::{RngExt, SeedableRng};
        let mut adapter = Self::zeros(model, config, kind, device)?;
        for (i, module) in adapter.modules.clone().iter().enumerate() {
            let name = format!("{module}.lora_A.weight");
            let shape = adapter.parameters.get(&name)?.size();
            let bound = 1.0 / (shape[1] as f32).sqrt();
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
            rng.set_stream(i as u64);
            let values: Vec<f32> = (0..shape[0] * shape[1])
                .map(|_| rng.random_range(-bound..bound))
                .collect();
            let values = Tensor::f_from_slice(&values)?.f_view(&shape[..])?;
            adapter.parameters.copy_from(&name, &values)?;
        }
        Ok(adapter)
    }

    /// Adapters that are zero altogether.
    pub(crate) fn zeros(
        model: &DecoderConfig,
        config: &LoraConfig,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        let mut modules = Vec::new();
        let mut specs = Vec::new();
        for spec in model.param_specs() {
            let Some(module) = spec.adaptable().filter(|module| config.targets(module)) else {
                continue;
            };
            // PEFT takes these names for parts of experts wherever a layer of the model has some.
            if model.experts.is_some() && module.contains(".mlp.") {
                continue;
            }
            let r = config.r as i64;
            for (part, shape) in [
                ("lora_A", [r, spec.shape[1]]),
                ("lora_B", [spec.shape[0], r]),
            ] {
                specs.push(ParamSpec::new(format!("{module}.{part}.weight"), &shape));
            }
            modules.push(module.to_owned());
        }
        for target in &config.target_modules {
            let single = LoraConfig {
                target_modules: vec![target.clone()],
                ..config.clone()
            };
            if !modules.iter().any(|module| single.targets(module)) {
                let beside_experts = |spec: &ParamSpec| {
                    let module = spec.name.strip_suffix(".weight");
                    model.experts.is_some()
                        && module.is_some_and(|m| m.contains(".mlp.") && single.targets(m))
                };
                let what = match model.param_specs().iter().any(beside_experts) {
                    true => format!(
                        "`{target}` names feed-forward layers; in a model with experts adapters stand \
                         beside attention alone"
                    ),
                    false => format!("the model has no linear layer named `{target}`"),
                };
                return Err(Error::invalid("target_modules", what));
            }
        }
        Ok(Self {
            config: config.clone(),
            parameters: Parameters::zeros(&specs, kind, device)?,
            modules,
        })
    }

    /// The settings.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The matrices, `….lora_A.weight` and `….lora_B.weight`.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(crate) fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Names of the adapted layers, such as `model.layers.0.self_attn.q_proj`.
    pub fn modules(&self) -> &[String] {
        &self.modules
    }

    /// Another handle to the same tensors.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            parameters: self.parameters.shallow_clone(),
            modules: self.modules.clone(),
        }
    }

    /// The same numbers in memory of their own, which require no gradients.
    pub(crate) fn frozen_copy(&self) -> Result<Self> {
        let (kind, device) = (self.parameters.kind(), self.parameters.device());
        let mut parameters = self.parameters.to(kind, device)?;
        parameters.set_trainable(false)?;
        Ok(Self {
            parameters,
            ..self.shallow_clone()
        })
    }

    /// The decoder on a model's parameters, with adapters beside its layers if there are some.
    pub(crate) fn decoder(
        model: &DecoderConfig,
        base: &Parameters,
        adapter: Option<&Self>,
    ) -> Result<Decoder> {
        let decoder = Decoder::new(model, base)?;
        match adapter {
            Some(adapter) => adapter.attach(decoder, &adapter.parameters),
            None => Ok(decoder),
        }
    }

    /// Puts handles to `matrices` (these or a copy of these) beside the decoder's layers.
    pub(crate) fn attach(&self, mut decoder: Decoder, matrices: &Parameters) -> Result<Decoder> {
        for linear in decoder.linears_mut() {
            let name = &linear.name;
            let get = |part: &str| matrices.handle(&format!("{name}.{part}.weight"));
            if self.modules.contains(name) {
                linear.lora = Some(Lora {
                    a: get("lora_A")?,
                    b: get("lora_B")?,
                    scaling: self.config.scaling(),
                });
            }
        }
        Ok(decoder)
    }

    /// Adds `scaling · B·A` to the weights of the adapted layers. The product is computed and
    /// added in f32 at least, and rounded once.
    pub(crate) fn merge_into(&self, base: &mut Parameters) -> Result<()> {
        for module in &self.modules {
            let name = format!("{module}.weight");
            let kind = float_kind(base.kind());
            let merged = tch::no_grad(|| {
                let get = |part: &str| {
                    self.parameters
                        .get(&format!("{module}.{part}.weight"))?
                        .f_to_kind(kind)
                        .map_err(Error::from)
                };
                let product = get("lora_B")?.f_matmul(&get("lora_A")?)?;
                let weight = base.get(&name)?.f_to_kind(kind)?;
                Ok::<_, Error>(weight.f_add(&product.f_mul_scalar(self.config.scaling())?)?)
            })
            .doing(|| format!("merging the adapter of {module}"))?;
            base.copy_from(&name, &merged)?;
        }
        Ok(())
    }
}

impl LoraConfig {
    /// What an adapter's product is multiplied by.
    pub fn scaling(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        ensure(self.r > 0, "r", || "the rank of an adapter is at least 1")?;
        let alpha = self.lora_alpha;
        ensure(alpha > 0.0 && alpha.is_finite(), "lora_alpha", || {
            format!("expected a positive number, got {alpha}")
        })?;
        let named = !self.target_modules.is_empty();
        ensure(named, "target_modules", || "no layer is named")
    }

    fn targets(&self, module: &str) -> bool {
        self.target_modules.iter().any(|target| {
            target == "all-linear"
                || module
                    .strip_suffix(target.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    #[test]
    fn targets_are_names_or_ends_of_names() {
        let model = DecoderConfig::tiny_qwen3(13, 16, 2, 2, 1);
        let modules = |targets: &[&str]| {
            let config = LoraConfig {
                target_modules: targets.iter().map(|&t| t.into()).collect(),
                ..LoraConfig::default()
            };
            let adapter = Adapter::new(&model, &config, Kind::Float, Device::Cpu);
            adapter.map(|a| a.modules().to_vec())
        };
        assert_eq!(modules(&["all-linear"]).unwrap().len(), 14);
        assert_eq!(
            modules(&["self_attn.o_proj"]).unwrap(),
            [
                "model.layers.0.self_attn.o_proj",
                "model.layers.1.self_attn.o_proj"
            ]
        );
        assert_eq!(
            modules(&["model.layers.1.mlp.up_proj"]).unwrap(),
            ["model.layers.1.mlp.up_proj"]
        );
        let expected = "target_modules: the model has no linear layer named `proj`";
        says(modules(&["q_proj", "proj"]), expected);
        assert!(modules(&[]).is_err());
        assert!(modules(&["lm_head"]).is_err());
    }

    #[test]
    fn with_experts_adapters_stand_beside_attention_alone() {
        for name in ["qwen3_moe_tied", "qwen3_moe_sparse"] {
            let crates = env!("CARGO_MANIFEST_DIR");
            let path = format!("{crates}/../../testdata/libtorch/models/{name}/config.json");
            let model = DecoderConfig::from_file(path).unwrap();
            let config = LoraConfig {
                target_modules: vec!["q_proj".into(), "gate_proj".into()],
                ..LoraConfig::default()
            };
            says(
                Adapter::new(&model, &config, Kind::Float, Device::Cpu),
                "target_modules: `gate_proj` names feed-forward layers; in a model with experts adapters stand beside attention alone",
            );
        }
    }
}
