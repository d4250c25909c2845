use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::files::{read_json, replace_atomically, write_atomically};
use crate::mapped::MappedFile;
use crate::{DType, DecoderConfig, Error, ParamSpec, Parameters, Result, Tokenizer};

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
    let mut config = DecoderConfig::from_file(dir.join("config.json"))?;
    let generation = dir.join("generation_config.json");
    if generation.exists() {
        config.add_generation_config(&read_json(&generation)?, &generation)?;
    }
    let files = TensorFiles::open(dir)?;
    let stored = files.kind()?;
    config.dtype = Some(DType::from_kind(stored)?);
    let specs = config.param_specs();
    let mut parameters = Parameters::zeros(&specs, kind.unwrap_or(stored), device)?;
    files.read_into(&mut parameters, |name| may_be_extra(name, &config))?;
    Ok(Checkpoint { config, parameters })
}

/// Reads tensors of the given parameters from the safetensors files of a folder:
/// `model.safetensors`, or those that `model.safetensors.index.json` lists.
///
/// # Errors
/// [`Error::Io`] if the files are not there, [`Error::File`] for a file that is truncated or
/// malformed, [`Error::MissingTensor`], [`Error::ExtraTensor`] and [`Error::TensorShape`] with the
/// tensor's name, [`Error::NotFinite`] for a tensor that holds NaN or infinity.
pub fn load_parameters(
    dir: impl AsRef<Path>,
    config: &DecoderConfig,
    kind: Kind,
    device: Device,
) -> Result<Parameters> {
    let mut parameters = Parameters::zeros(&config.param_specs(), kind, device)?;
    TensorFiles::open(dir.as_ref())?
        .read_into(&mut parameters, |name| may_be_extra(name, config))?;
    Ok(parameters)
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
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    let dir = dir.as_ref();
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
    let mut generation = serde_json::json!({ "do_sample": true });
    for field in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if !json[field].is_null() {
            generation[field] = json[field].clone();
        }
    }
    for (file, value) in [
        ("config.json", json),
        ("generation_config.json", generation),
    ] {
        let text = format!("{value:#}\n");
        write_atomically(&dir.join(file), text.as_bytes())?;
    }
    match tokenizer {
        Some(tokenizer) => tokenizer.save(dir),
        None => Ok(()),
    }
}

/// Writes tensors as one safetensors file, atomically, one tensor in memory at a time.
///
/// # Errors
/// [`Error::Io`] with the path; libtorch's, if a tensor cannot be brought to the CPU.
pub fn save_safetensors(path: &Path, tensors: &[(&str, &Tensor)], dtype: DType) -> Result<()> {
    let failure = RefCell::new(None);
    let views = tensors.iter().map(|&(name, tensor)| {
        let view = TensorView {
            tensor,
            shape: tensor.size().iter().map(|&n| n as usize).collect(),
            dtype,
            failure: &failure,
        };
        (name, view)
    });
    // transformers asks for this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    replace_atomically(path, |beside| {
        let written = safetensors::serialize_to_file(views, Some(metadata), beside);
        if let Some(error) = failure.take() {
            return Err(error);
        }
        written.map_err(|e| match e {
            SafeTensorError::IoError(source) => Error::io(path)(source),
            other => Error::File {
                path: path.into(),
                what: other.to_string(),
            },
        })
    })
}

/// A tensor that is converted when its turn to be written comes.
struct TensorView<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
    dtype: DType,
    /// The writer cannot be told of a failed conversion, so it is left here.
    failure: &'a RefCell<Option<Error>>,
}

impl View for TensorView<'_> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            DType::F32 => Dtype::F32,
            DType::Bf16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = || -> Result<Vec<u8>> {
            let host = (self.tensor.f_detach()?)
                .f_to_device(Device::Cpu)?
                .f_to_kind(self.dtype.kind())?
                .f_contiguous()?;
            let mut bytes = vec![0; self.data_len()];
            host.f_copy_data_u8(&mut bytes, host.numel())?;
            Ok(bytes)
        };
        bytes().map_or_else(
            |error| {
                *self.failure.borrow_mut() = Some(error);
                Cow::Borrowed(&[][..])
            },
            Cow::Owned,
        )
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.kind().elt_size_in_bytes()
    }
}

/// Buffers of older Llama checkpoints, and the head of a tied model, say nothing new.
fn may_be_extra(name: &str, config: &DecoderConfig) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
        || (config.tie_word_embeddings && name == "lm_head.weight")
}

/// The safetensors files of a folder, mapped into memory.
pub(crate) struct TensorFiles {
    dir: PathBuf,
    files: Vec<TensorFile>,
    /// Which file each tensor is in.
    index: BTreeMap<String, usize>,
}

struct TensorFile {
    path: PathBuf,
    map: MappedFile,
    metadata: Metadata,
    /// Where the numbers start.
    start: usize,
}

impl TensorFiles {
    /// `model.safetensors` of the folder, or else the files that `model.safetensors.index.json`
    /// lists.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let single = dir.join("model.safetensors");
        let list = dir.join("model.safetensors.index.json");
        if single.exists() || !list.exists() {
            return Self::open_files(dir, vec![single]);
        }
        let json = read_json(&list)?;
        let weight_map = (json.get("weight_map").and_then(Value::as_object))
            .filter(|map| map.values().all(Value::is_string))
            .ok_or_else(|| Error::File {
                path: list.clone(),
                what: "no `weight_map` from tensors to files".into(),
            })?;
        let names: BTreeSet<&str> = weight_map.values().filter_map(Value::as_str).collect();
        let paths = names.iter().map(|name| dir.join(name)).collect();
        let this = Self::open_files(dir, paths)?;
        match weight_map
            .keys()
            .find(|name| !this.index.contains_key(*name))
        {
            None => Ok(this),
            Some(name) => Err(Error::MissingTensor {
                path: dir.join(weight_map[name].as_str().unwrap_or_default()),
                name: name.clone(),
            }),
        }
    }

    /// The one file at `path`.
    pub(crate) fn open_file(path: &Path) -> Result<Self> {
        Self::open_files(path, vec![path.into()])
    }

    fn open_files(dir: &Path, paths: Vec<PathBuf>) -> Result<Self> {
        let mut files = Vec::with_capacity(paths.len());
        let mut index = BTreeMap::new();
        for path in paths {
            let map = MappedFile::open(&path)?;
            let malformed = |what: String| Error::File {
                path: path.clone(),
                what,
            };
            let (header, metadata) =
                SafeTensors::read_metadata(map.bytes()).map_err(|e| match e {
                    SafeTensorError::MetadataIncompleteBuffer => malformed(format!(
                        "its {} bytes are not what its header promises: truncated, or not \
                         fetched to the end",
                        map.bytes().len()
                    )),
                    e => malformed(format!("not a safetensors file: {e}")),
                })?;
            let start = header + size_of::<u64>();
            for name in metadata.tensors().into_keys() {
                if index.insert(name.clone(), files.len()).is_some() {
                    return Err(malformed(format!("tensor `{name}` is in another file too")));
                }
            }
            files.push(TensorFile {
                path,
                map,
                metadata,
                start,
            });
        }
        Ok(Self {
            dir: dir.into(),
            files,
            index,
        })
    }

    /// Names of all tensors, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// Number format of the largest tensor, which is that of the model.
    fn kind(&self) -> Result<Kind> {
        let size = |name: &&String| {
            let file = &self.files[self.index[*name]];
            (file.metadata.info(name)).map_or(0, |i| i.shape.iter().product::<usize>())
        };
        match self.index.keys().max_by_key(size) {
            Some(name) => Ok(self.read(name)?.kind()),
            None => Err(Error::File {
                path: self.dir.clone(),
                what: "holds no tensor".into(),
            }),
        }
    }

    /// One tensor, copied out of its file.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::File`] for a number format other than bf16, f16 and f32.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor> {
        let missing = || Error::MissingTensor {
            path: self.dir.clone(),
            name: name.to_owned(),
        };
        let file = &self.files[*self.index.get(name).ok_or_else(missing)?];
        let info = file.metadata.info(name).ok_or_else(missing)?;
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F16 => Kind::Half,
            other => {
                return Err(Error::File {
                    path: file.path.clone(),
                    what: format!("tensor `{name}` is {other:?}; supported are F32, BF16 and F16"),
                });
            }
        };
        let shape: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        let (from, to) = info.data_offsets;
        let bytes = &file.map.bytes()[file.start + from..file.start + to];
        Ok(Tensor::f_from_data_size(bytes, &shape, kind)?)
    }

    /// Fills all parameters; `ignored` says which other tensors may be in the files.
    fn read_into(&self, parameters: &mut Parameters, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let specs: Vec<ParamSpec> = parameters.specs().to_vec();
        let known: HashSet<&str> = specs.iter().map(|s| s.name.as_str()).collect();
        if let Some(name) = self.names().find(|n| !known.contains(n) && !ignored(n)) {
            return Err(Error::ExtraTensor {
                path: self.dir.clone(),
                name: name.to_owned(),
            });
        }
        for ParamSpec { name, shape } in &specs {
            let tensor = self.read(name)?;
            if tensor.size() != *shape {
                return Err(Error::TensorShape {
                    path: self.dir.clone(),
                    name: name.clone(),
                    expected: shape.clone(),
                    got: tensor.size(),
                });
            }
            parameters.copy_from(name, &tensor)?;
        }
        match parameters.first_not_finite()? {
            None => Ok(()),
            Some(name) => Err(Error::NotFinite {
                what: format!("{}: tensor `{name}`", self.dir.display()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init_parameters;

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
        let mut weight_map = serde_json::Map::new();
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
        load_checkpoint(dir.path(), None, Device::Cpu).unwrap();
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
