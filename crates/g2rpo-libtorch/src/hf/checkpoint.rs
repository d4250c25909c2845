//! Checkpoints: `config.json` and safetensors files in Hugging Face layout.

use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Device, Kind};

use crate::error::Result;
use crate::hf::files::{read_json, write_json};
use crate::hf::safetensors::{TensorFiles, save_safetensors};
use crate::hf::tokenizer::HfTokenizer;
use crate::model::config::{Architecture, DecoderConfig};
use crate::model::dtype::DType;
use crate::model::params::Parameters;

/// A model folder in Hugging Face layout.
#[derive(Debug)]
pub struct Checkpoint {
    /// `config.json`, with the ends of text that `generation_config.json` adds.
    pub config: DecoderConfig,
    /// The numbers.
    pub parameters: Parameters,
}

/// Reads `config.json` and the safetensors files of a folder: `model.safetensors`, or those that
/// `model.safetensors.index.json` lists.
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
/// As [`DecoderConfig::from_file`]; [`Error::Io`](crate::Error::Io) if the files are not there, [`Error::File`](crate::Error::File)
/// for a file that is truncated or malformed and for a tensor that holds NaN or infinity,
/// [`Error::MissingTensor`](crate::Error::MissingTensor), [`Error::ExtraTensor`](crate::Error::ExtraTensor) and
/// [`Error::TensorShape`](crate::Error::TensorShape) with the tensor's name.
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
    files.read_into(&mut parameters, "", |name| may_be_extra(name, &config))?;
    Ok(Checkpoint { config, parameters })
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
/// [`Error::Io`](crate::Error::Io) with the file; [`Error::UnknownParameter`](crate::Error::UnknownParameter) if the
/// parameters are not those of the configuration; [`Error::Invalid`](crate::Error::Invalid) for a `dtype` that is no 16- or
/// 32-bit float.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;
    use crate::model::init::init_parameters;
    use tch::Tensor;

    fn saved(dir: &Path) -> (DecoderConfig, Parameters) {
        let config = DecoderConfig {
            eos_token_id: vec![1, 2],
            ..DecoderConfig::tiny_qwen3(32, 16, 2, 2, 1)
        };
        let parameters = init_parameters(&config, 3, Kind::Float, Device::Cpu).unwrap();
        save_checkpoint(dir, &config, &parameters, DType::F32, None).unwrap();
        (config, parameters)
    }

    fn refused(dir: &Path, expected: &str) {
        let read = load_checkpoint(dir, None, Device::Cpu);
        let name = dir.display().to_string();
        says(
            read.map_err(|error| error.to_string().replace(&name, "DIR")),
            expected,
        );
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
        for dtype in [DType::Bf16, DType::F16] {
            let expected = parameters.flat().to_kind(dtype.kind());
            let read = |kind| load_checkpoint(dir.path(), kind, Device::Cpu).unwrap();
            save_checkpoint(dir.path(), &config, &parameters, DType::F32, None).unwrap();
            assert_eq!(*read(Some(dtype.kind())).parameters.flat(), expected);
            // Files in half precision keep their format.
            save_checkpoint(dir.path(), &config, &parameters, dtype, None).unwrap();
            let back = read(None);
            assert_eq!(back.config.dtype, Some(dtype));
            assert_eq!(*back.parameters.flat(), expected);
        }
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
        refused(dir.path(), message);
        json["forced_eos_token_id"] = Value::Null;
        write_json(&path, &json).unwrap();
        let read = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert_eq!(read.config.eos_token_id, [1, 2]);
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
        refused(dir.path(), "DIR/a.safetensors: tensor `x` is missing");
        std::fs::write(&path, "{}").unwrap();
        let message = "DIR/model.safetensors.index.json: no `weight_map` from tensors to files";
        refused(dir.path(), message);
    }

    #[test]
    fn tensors_that_do_not_fit_are_named() {
        let dir = tempfile::tempdir().unwrap();
        type Change = fn(&mut Vec<(String, Tensor)>);
        let changes: [(Change, &str); 4] = [
            (
                |t| t.retain(|(name, _)| name != "model.norm.weight"),
                "DIR: tensor `model.norm.weight` is missing",
            ),
            (
                |t| t.push(("extra".into(), Tensor::from(1f32))),
                "DIR: tensor `extra` does not belong to a model with this config.json",
            ),
            (
                |t| t[0].1 = t[0].1.narrow(0, 0, 31),
                "DIR: tensor `model.embed_tokens.weight` has shape [31, 16], config.json asks for [32, 16]",
            ),
            (
                |t| t[0].1 = &t[0].1 / 0.0,
                "DIR: tensor `model.embed_tokens.weight` holds a value that is not finite",
            ),
        ];
        for (change, message) in changes {
            saved(dir.path());
            rewrite(dir.path(), change);
            refused(dir.path(), message);
        }
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
        refused(dir.path(), &message);
        for junk in [
            &b""[..],
            b"1234567",
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            b"\x02\0\0\0\0\0\0\0no",
        ] {
            std::fs::write(&path, junk).unwrap();
            let message = "DIR/model.safetensors: not a safetensors file: …";
            refused(dir.path(), message);
        }
        std::fs::remove_file(&path).unwrap();
        refused(dir.path(), "DIR/model.safetensors: …");
    }

    #[test]
    fn a_failed_save_leaves_the_old_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let (mut config, parameters) = saved(dir.path());
        config.num_hidden_layers = 3;
        let expected = "no parameter is named `model.layers.2.input_layernorm.weight`";
        let saved = save_checkpoint(dir.path(), &config, &parameters, DType::F32, None);
        says(saved, expected);
        let back = load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
        assert_eq!(back.parameters.flat(), parameters.flat());
    }
}
