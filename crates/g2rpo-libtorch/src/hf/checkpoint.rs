//! Checkpoints: `config.json` and safetensors files in Hugging Face layout.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::hf::files::{read_json, write_json};
use crate::hf::safetensors::{TensorFiles, save_safetensors};
use crate::hf::tokenizer::HfTokenizer;
use crate::model::config::{Architecture, DecoderConfig};
use crate::model::dtype::DType;
use crate::model::params::{ParamSpec, Parameters};

/// A model folder in Hugging Face layout.
#[derive(Debug)]
pub struct Checkpoint {
    /// `config.json`, with the ends of text that `generation_config.json` adds.
    pub config: DecoderConfig,
    /// The numbers.
    pub parameters: Parameters,
}

/// Reads `config.json` and the safetensors files of a folder.
///
/// Of a model that also sees images (Qwen3.5, Gemma 3, Mistral 3) the half that reads and writes text is read;
/// [`save_checkpoint`] writes that alone.
///
/// Settings of generation are looked for in `config.json` where there is no `generation_config.json`, and refused
/// there for the same fields.
///
/// The files are memory-mapped, so reading needs little more memory than the parameters. `kind` is
/// the number format wanted, that of the checkpoint if `None`.
///
/// # Errors
/// As [`DecoderConfig::from_file`] and [`load_parameters`].
pub fn load_checkpoint(
    dir: impl AsRef<Path>,
    kind: Option<Kind>,
    device: Device,
) -> Result<Checkpoint> {
    let dir = dir.as_ref();
    let path = dir.join("config.json");
    let json = read_json(&path)?;
    let mut config = DecoderConfig::from_json(&json, &path)?;
    match generation_settings(dir)? {
        Some(settings) => config.add_generation_config(&settings, &dir.join(GENERATION))?,
        None => DecoderConfig::refuse_generation_in(&json, &path)?,
    }
    let files = TensorFiles::open(dir)?.text_half();
    let stored = files.kind()?;
    config.dtype = Some(DType::from_kind(stored)?);
    if has_own_head(&files, &config)? {
        // As in transformers 5: what the file holds goes before what the configuration says.
        config.tie_word_embeddings = false;
    }
    let specs = config.param_specs();
    let mut parameters = Parameters::zeros(&specs, kind.unwrap_or(stored), device)?;
    read_into(&files, &mut parameters, |name| may_be_extra(name, &config))?;
    Ok(Checkpoint { config, parameters })
}

/// Reads tensors of the given parameters from the safetensors files of a folder:
/// `model.safetensors`, or those that `model.safetensors.index.json` lists.
///
/// # Errors
/// [`Error::Io`] if the files are not there, [`Error::File`] for a file that is truncated or
/// malformed, [`Error::MissingTensor`], [`Error::ExtraTensor`] and [`Error::TensorShape`] with the
/// tensor's name, [`Error::File`] for a tensor that holds NaN or infinity.
pub fn load_parameters(
    dir: impl AsRef<Path>,
    config: &DecoderConfig,
    kind: Kind,
    device: Device,
) -> Result<Parameters> {
    let mut parameters = Parameters::zeros(&config.param_specs(), kind, device)?;
    let files = TensorFiles::open(dir.as_ref())?.text_half();
    if has_own_head(&files, config)? {
        return Err(Error::ExtraTensor {
            path: dir.as_ref().into(),
            name: HEAD.into(),
        });
    }
    read_into(&files, &mut parameters, |name| may_be_extra(name, config))?;
    Ok(parameters)
}

/// What `generation_config.json` of a folder holds, if there is one.
pub(crate) fn generation_settings(dir: &Path) -> Result<Option<Value>> {
    let path = dir.join(GENERATION);
    match path.exists() {
        true => read_json(&path).map(Some),
        false => Ok(None),
    }
}

/// Writes `config.json`, `generation_config.json`, `model.safetensors` and, if given, the tokenizer
/// into a folder, which transformers then opens.
///
/// Every file is written beside its place and put there when it is on the disk. A disk that fills
/// up leaves the checkpoint that was there before.
///
/// # Errors
/// [`Error::Io`] with the file; [`Error::UnknownParameter`] if the parameters are not those of the
/// configuration; [`Error::Invalid`] for a `dtype` that is no 16- or 32-bit float.
pub fn save_checkpoint(
    dir: impl AsRef<Path>,
    config: &DecoderConfig,
    parameters: &Parameters,
    dtype: DType,
    tokenizer: Option<&HfTokenizer>,
) -> Result<()> {
    save_with_settings(dir.as_ref(), config, parameters, dtype, tokenizer, None)
}

/// [`save_checkpoint`] with the settings of generation that the model came with, apart from the ids of
/// special tokens: these are the configuration's.
pub(crate) fn save_with_settings(
    dir: &Path,
    config: &DecoderConfig,
    parameters: &Parameters,
    dtype: DType,
    tokenizer: Option<&HfTokenizer>,
    settings: Option<&Map<String, Value>>,
) -> Result<()> {
    let specs = config.param_specs();
    let tensors = (specs.iter())
        .map(|spec| Ok((spec.name.as_str(), parameters.get(&spec.name)?)))
        .collect::<Result<Vec<_>>>()?;
    // The largest file first: if the disk is too small, it fails here and nothing was replaced.
    save_safetensors(&dir.join("model.safetensors"), &tensors, dtype)?;
    let config = DecoderConfig {
        dtype: Some(dtype),
        ..config.clone()
    };
    let json = config.to_json();
    let mut generation = match settings {
        Some(settings) => Value::Object(settings.clone()),
        None => json!({ "do_sample": true }),
    };
    for field in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if !json[field].is_null() {
            generation[field] = json[field].clone();
        }
    }
    for (file, value) in [("config.json", json), (GENERATION, generation)] {
        write_json(&dir.join(file), &value)?;
    }
    match tokenizer {
        Some(tokenizer) => tokenizer.save(dir),
        None => Ok(()),
    }
}

const GENERATION: &str = "generation_config.json";

const HEAD: &str = "lm_head.weight";

/// Whether the files of a tied model hold a head that is not the embedding.
fn has_own_head(files: &TensorFiles, config: &DecoderConfig) -> Result<bool> {
    if !config.tie_word_embeddings || !files.names().any(|name| name == HEAD) {
        return Ok(false);
    }
    let embedding = files.read("model.embed_tokens.weight")?;
    Ok(!files.read(HEAD)?.f_equal(&embedding)?)
}

/// Buffers of older Llama checkpoints, and the head of a tied model, say nothing new; Qwen3.5's layers that
/// guess further tokens, and what sees images, are no part of the model of text.
fn may_be_extra(name: &str, config: &DecoderConfig) -> bool {
    let unused = config.architecture == Architecture::Qwen35
        && (name.starts_with("mtp") || name.starts_with("model.visual"));
    unused || name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == HEAD)
}

/// Fills all parameters; `ignored` says which other tensors may be in the files.
fn read_into(
    files: &TensorFiles,
    parameters: &mut Parameters,
    ignored: impl Fn(&str) -> bool,
) -> Result<()> {
    let specs: Vec<ParamSpec> = parameters.specs().to_vec();
    let known: HashSet<&str> = specs.iter().map(|s| s.name.as_str()).collect();
    if let Some(name) = files.names().find(|n| !known.contains(n) && !ignored(n)) {
        return Err(Error::ExtraTensor {
            path: files.dir.clone(),
            name: name.to_owned(),
        });
    }
    for ParamSpec { name, shape } in &specs {
        let tensor = files.read(name)?;
        if tensor.size() != *shape {
            return Err(Error::TensorShape {
                path: files.dir.clone(),
                name: name.clone(),
                expected: shape.clone(),
                got: tensor.size(),
            });
        }
        parameters.copy_from(name, &tensor)?;
    }
    match parameters.first_not_finite()? {
        None => Ok(()),
        Some(name) => Err(Error::File {
            path: files.dir.clone(),
            what: format!("tensor `{name}` holds a value that is not finite"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::init::init_parameters;
    use tch::Tensor;

    fn tiny() -> DecoderConfig {
        DecoderConfig {
            eos_token_id: vec![1, 2],
            ..DecoderConfig::tiny_qwen3(32, 16, 2, 2, 1)
        }
    }

    fn saved(dir: &Path) -> (DecoderConfig, Parameters) {
        let config = tiny();
        let parameters = init_parameters(&config, 3, Kind::Float, Device::Cpu).unwrap();
        save_checkpoint(dir, &config, &parameters, DType::F32, None).unwrap();
        (config, parameters)
    }

    fn error(dir: &Path) -> String {
        let message = load_checkpoint(dir, None, Device::Cpu)
            .unwrap_err()
            .to_string();
        message.replace(&dir.display().to_string(), "DIR")
    }

    /// Rewrites the tensors of a checkpoint.
    fn rewrite(dir: &Path, change: impl Fn(&mut Vec<(String, Tensor)>)) {
        let files = TensorFiles::open(dir).unwrap();
        let mut tensors: Vec<(String, Tensor)> = (files.names())
            .map(|n| (n.to_owned(), files.read(n).unwrap()))
            .collect();
        drop(files);
        change(&mut tensors);
        let tensors: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        save_safetensors(&dir.join("model.safetensors"), &tensors, DType::F32).unwrap();
    }

    #[test]
    fn what_is_saved_reads_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let (config, parameters) = saved(dir.path());
        let back = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert_eq!(back.config, config);
        assert_eq!(back.parameters.flat(), parameters.flat());
        let half = load_checkpoint(dir.path(), Some(Kind::BFloat16), Device::Cpu).unwrap();
        assert_eq!(
            *half.parameters.flat(),
            parameters.flat().to_kind(Kind::BFloat16)
        );
    }

    #[test]
    fn settings_of_generation_are_written_as_they_were_read() {
        let dir = tempfile::tempdir().unwrap();
        let (config, parameters) = saved(dir.path());
        let settings =
            json!({ "temperature": 0.6, "top_k": 20, "do_sample": false, "eos_token_id": 9 });
        let save = |settings| {
            save_with_settings(dir.path(), &config, &parameters, DType::F32, None, settings)
                .unwrap();
            generation_settings(dir.path()).unwrap().unwrap()
        };
        let mut expected = settings.clone();
        expected["eos_token_id"] = json!([1, 2]);
        assert_eq!(save(settings.as_object()), expected);
        let plain = json!({ "do_sample": true, "eos_token_id": [1, 2] });
        assert_eq!(save(None), plain);
    }

    #[test]
    fn settings_of_generation_in_config_json_count_where_there_are_no_others() {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path());
        let path = dir.path().join("config.json");
        let mut json = read_json(&path).unwrap();
        (json["forced_eos_token_id"], json["temperature"]) = (json!(3), json!(0.5));
        write_json(&path, &json).unwrap();
        assert!(load_checkpoint(dir.path(), None, Device::Cpu).is_ok());
        std::fs::remove_file(dir.path().join(GENERATION)).unwrap();
        let message = "DIR/config.json: field `forced_eos_token_id`: 3 is not supported; take it out of the file to sample without it";
        assert_eq!(error(dir.path()), message);
        json["forced_eos_token_id"] = Value::Null;
        write_json(&path, &json).unwrap();
        let config = load_checkpoint(dir.path(), None, Device::Cpu)
            .unwrap()
            .config;
        assert_eq!(config.eos_token_id, [1, 2]);
    }

    #[test]
    fn half_precision_files_keep_their_format() {
        let dir = tempfile::tempdir().unwrap();
        let (config, parameters) = saved(dir.path());
        for dtype in [DType::Bf16, DType::F16] {
            save_checkpoint(dir.path(), &config, &parameters, dtype, None).unwrap();
            let back = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
            assert_eq!(back.config.dtype, Some(dtype));
            assert_eq!(
                *back.parameters.flat(),
                parameters.flat().to_kind(dtype.kind())
            );
        }
    }

    #[test]
    fn shards_are_read_through_their_index() {
        let dir = tempfile::tempdir().unwrap();
        let (_, parameters) = saved(dir.path());
        let files = TensorFiles::open(dir.path()).unwrap();
        let mut weight_map = Map::new();
        for (i, shard) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
            let names: Vec<&str> = files.names().skip(i).step_by(2).collect();
            let tensors: Vec<Tensor> = names.iter().map(|n| files.read(n).unwrap()).collect();
            let pairs: Vec<(&str, &Tensor)> = names.iter().copied().zip(&tensors).collect();
            save_safetensors(&dir.path().join(shard), &pairs, DType::F32).unwrap();
            weight_map.extend(names.iter().map(|&n| (n.to_owned(), Value::from(shard))));
        }
        drop(files);
        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let index = serde_json::json!({ "metadata": {}, "weight_map": weight_map });
        let path = dir.path().join("model.safetensors.index.json");
        std::fs::write(&path, index.to_string()).unwrap();
        let back = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert_eq!(back.parameters.flat(), parameters.flat());

        std::fs::write(&path, r#"{"weight_map": {"x": "a.safetensors"}}"#).unwrap();
        assert_eq!(
            error(dir.path()),
            "DIR/a.safetensors: tensor `x` is missing"
        );
        std::fs::write(&path, "{}").unwrap();
        let message = "DIR/model.safetensors.index.json: no `weight_map` from tensors to files";
        assert_eq!(error(dir.path()), message);
    }

    #[test]
    fn tensors_that_do_not_fit_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (_, _) = saved(dir.path());
        rewrite(dir.path(), |t| t.retain(|(n, _)| n != "model.norm.weight"));
        assert_eq!(
            error(dir.path()),
            "DIR: tensor `model.norm.weight` is missing"
        );

        saved(dir.path());
        rewrite(dir.path(), |t| t.push(("extra".into(), Tensor::from(1f32))));
        let message = "DIR: tensor `extra` does not belong to a model with this config.json";
        assert_eq!(error(dir.path()), message);

        saved(dir.path());
        rewrite(dir.path(), |t| t[0].1 = t[0].1.narrow(0, 0, 31));
        let message = "DIR: tensor `model.embed_tokens.weight` has shape [31, 16], config.json asks for [32, 16]";
        assert_eq!(error(dir.path()), message);

        saved(dir.path());
        rewrite(dir.path(), |t| t[0].1 = &t[0].1 / 0.0);
        let message = "DIR: tensor `model.embed_tokens.weight` holds a value that is not finite";
        assert_eq!(error(dir.path()), message);
    }

    #[test]
    fn the_head_of_a_tied_model_may_be_there() {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path());
        rewrite(dir.path(), |t| {
            let head = t[0].1.shallow_clone();
            t.push(("lm_head.weight".into(), head));
        });
        let tied = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert!(tied.config.tie_word_embeddings);
        // Another head is a head of its own.
        rewrite(dir.path(), |t| {
            let head = t.iter_mut().find(|(name, _)| name == HEAD).unwrap();
            head.1 = &head.1 * 2.0;
        });
        let untied = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert!(!untied.config.tie_word_embeddings);
        let get = |name: &str| untied.parameters.get(name).unwrap().detach();
        assert_eq!(get(HEAD), get("model.embed_tokens.weight") * 2.0);
        let err = load_parameters(dir.path(), &tied.config, Kind::Float, Device::Cpu).unwrap_err();
        assert!(
            err.to_string().contains("`lm_head.weight` does not belong"),
            "{err}"
        );
    }

    #[test]
    fn truncated_and_foreign_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path());
        let path = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
        let message = format!(
            "DIR/model.safetensors: its {} bytes are not what its header promises: truncated, or \
             not fetched to the end",
            bytes.len() - 10
        );
        assert_eq!(error(dir.path()), message);
        for junk in [
            &b""[..],
            b"1234567",
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            b"\x02\0\0\0\0\0\0\0no",
        ] {
            std::fs::write(&path, junk).unwrap();
            let message = error(dir.path());
            assert!(
                message.starts_with("DIR/model.safetensors: not a safetensors file: "),
                "{message}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(error(dir.path()).starts_with("DIR/model.safetensors: "));
    }

    #[test]
    fn a_failed_save_leaves_the_old_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let (mut config, parameters) = saved(dir.path());
        config.num_hidden_layers = 3;
        let err = save_checkpoint(dir.path(), &config, &parameters, DType::F32, None).unwrap_err();
        assert_eq!(
            err.to_string(),
            "no parameter is named `model.layers.2.input_layernorm.weight`"
        );
        let back = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert_eq!(back.parameters.flat(), parameters.flat());
    }
}
