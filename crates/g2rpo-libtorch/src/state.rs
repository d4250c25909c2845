use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, View};
use tch::{Kind, TchError, Tensor};

use crate::error::Doing;
use crate::files::replace_atomically;
use crate::params::Layout;
use crate::{Error, Parameters, Result, TorchLearner};

/// Version of the layout of the file.
const FORMAT: &str = "g2rpo-learner-1";

impl TorchLearner {
    /// Saves everything that later steps depend on into one safetensors file: what is trained, in
    /// the precision that it is updated in, AdamW's moments, the number of steps, and the
    /// reference if it is a copy. The learner draws no random numbers, so there is no generator to
    /// save. `extra` are the caller's own strings, returned by [`load_state`](Self::load_state).
    ///
    /// The file appears under its name only when it is whole. The frozen base model of a LoRA run
    /// is not in it.
    ///
    /// # Errors
    /// [`Error::Invalid`] between `accumulate` and `apply`, as the gradient is not saved;
    /// [`Error::Io`].
    pub fn save_state(
        &self,
        path: impl AsRef<Path>,
        extra: &HashMap<String, String>,
    ) -> Result<()> {
        if self.has_gradient() {
            return Err(Error::invalid(
                "learner",
                "there is a gradient that was not applied; save behind `apply`",
            ));
        }
        let path = path.as_ref();
        let mut metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("steps".to_owned(), self.steps().to_string()),
        ]);
        metadata.extend(extra.iter().map(|(k, v)| (format!("extra.{k}"), v.clone())));
        let failure = Failure::default();
        let mut tensors = Vec::new();
        for (prefix, flat, layout) in self.saved() {
            for (spec, view) in layout.specs.iter().zip(layout.views(flat)?) {
                let view = TensorView::new(view, &failure)?;
                tensors.push((format!("{prefix}.{}", spec.name), view));
            }
        }
        write_safetensors(path, tensors, metadata, &failure)
    }

    /// Restores what [`save_state`](Self::save_state) saved into a learner made with the same
    /// model and settings, bit for bit, and returns the caller's strings.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] if the file is truncated or not such a file;
    /// [`Error::MissingTensor`], [`Error::ExtraTensor`] or [`Error::TensorShape`] if it belongs to
    /// another model or other settings. Everything is checked before anything is overwritten.
    pub fn load_state(&mut self, path: impl AsRef<Path>) -> Result<HashMap<String, String>> {
        let path = path.as_ref();
        let mut file = StateFile::open(path)?;
        let names = self.check(&file)?;
        for ((_, flat, layout), names) in self.saved().into_iter().zip(names) {
            for (mut view, name) in layout.views(flat)?.into_iter().zip(names) {
                let values = file.read(&name)?;
                tch::no_grad(|| view.f_copy_(&values)).doing(|| format!("restoring {name}"))?;
            }
        }
        let steps = file.steps()?;
        self.restored(steps)?;
        let metadata = file.header.metadata().clone().unwrap_or_default();
        Ok(metadata
            .into_iter()
            .filter_map(|(k, v)| Some((k.strip_prefix("extra.")?.to_owned(), v)))
            .collect())
    }

    /// Flat buffers to be saved, with the prefix of their tensors' names.
    fn saved(&self) -> Vec<(&'static str, &Tensor, &Layout)> {
        let (updated, optimizer, reference) = self.state_parts();
        let mut saved: Vec<_> = (optimizer.buffers(updated).into_iter())
            .map(|(prefix, flat)| (prefix, flat, updated.layout()))
            .collect();
        saved.extend(reference.map(|copy: &Parameters| ("reference", copy.flat(), copy.layout())));
        saved
    }

    /// The names to be read for each of [`saved`](Self::saved), once all are known to be right.
    fn check(&self, file: &StateFile<'_>) -> Result<Vec<Vec<String>>> {
        file.steps()?;
        let mut all = Vec::new();
        for (prefix, flat, layout) in self.saved() {
            let mut names = Vec::new();
            for spec in &layout.specs {
                let name = format!("{prefix}.{}", spec.name);
                let Some(info) = file.header.info(&name) else {
                    return Err(Error::MissingTensor {
                        path: file.path.into(),
                        name,
                    });
                };
                let got: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
                if got != spec.shape {
                    return Err(Error::TensorShape {
                        path: file.path.into(),
                        name,
                        expected: spec.shape.clone(),
                        got,
                    });
                }
                if info.dtype != dtype(flat.kind())? {
                    return Err(Error::File {
                        path: file.path.into(),
                        what: format!(
                            "tensor `{name}` is {:?}, this learner keeps it as {:?}",
                            info.dtype,
                            flat.kind()
                        ),
                    });
                }
                names.push(name);
            }
            all.push(names);
        }
        let known: std::collections::HashSet<&String> = all.iter().flatten().collect();
        match file
            .header
            .tensors()
            .keys()
            .find(|name| !known.contains(name))
        {
            Some(name) => Err(Error::ExtraTensor {
                path: file.path.into(),
                name: name.clone(),
            }),
            None => Ok(all),
        }
    }
}

/// A saved state, read tensor by tensor: no second copy of it is in memory.
struct StateFile<'a> {
    path: &'a Path,
    file: File,
    header: Metadata,
    /// Where the tensors' bytes start.
    start: u64,
}

impl<'a> StateFile<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let malformed = |what: String| Error::File {
            path: path.into(),
            what,
        };
        let mut file = File::open(path).map_err(Error::io(path))?;
        let total = file.metadata().map_err(Error::io(path))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|_| malformed("shorter than the header of a safetensors file".into()))?;
        let length = u64::from_le_bytes(length);
        if length > total.saturating_sub(8) {
            return Err(malformed(format!(
                "the header has {length} bytes, the file {total}"
            )));
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes).map_err(Error::io(path))?;
        let header: Metadata = serde_json::from_slice(&bytes)
            .map_err(|e| malformed(format!("not a safetensors file: {e}")))?;
        let state = Self {
            path,
            file,
            start: 8 + length,
            header,
        };
        let end = state.start + state.header.data_len() as u64;
        if end != total {
            return Err(malformed(format!(
                "expected {end} bytes, got {total}; the file is truncated or damaged"
            )));
        }
        let format = state.metadata("format");
        if format != Some(FORMAT) {
            return Err(malformed(format!(
                "format is {format:?}, expected {FORMAT:?}; not a saved learner"
            )));
        }
        Ok(state)
    }

    fn metadata(&self, key: &str) -> Option<&str> {
        self.header
            .metadata()
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    fn steps(&self) -> Result<u64> {
        (self.metadata("steps").and_then(|s| s.parse().ok())).ok_or_else(|| Error::File {
            path: self.path.into(),
            what: "the number of steps is missing".into(),
        })
    }

    fn read(&mut self, name: &str) -> Result<Tensor> {
        let missing = || Error::MissingTensor {
            path: self.path.into(),
            name: name.into(),
        };
        let info = self.header.info(name).ok_or_else(missing)?;
        let (from, to) = info.data_offsets;
        let shape: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        let kind = kind(info.dtype)?;
        let mut bytes = vec![0; to - from];
        (self.file.seek(SeekFrom::Start(self.start + from as u64)))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(Error::io(self.path))?;
        Tensor::f_from_data_size(&bytes, &shape, kind).doing(|| format!("reading {name}"))
    }
}

/// Writes tensors into a file that appears under its name only when it is whole and on the disk.
fn write_safetensors(
    path: &Path,
    tensors: Vec<(String, TensorView)>,
    metadata: HashMap<String, String>,
    failure: &Failure,
) -> Result<()> {
    replace_atomically(path, |beside| {
        let written = safetensors::serialize_to_file(tensors, Some(metadata), beside);
        if let Some(error) = failure.take() {
            return Err(error).doing(|| format!("copying tensors to {}", path.display()));
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

/// Where a [`TensorView`] leaves libtorch's error, as [`View::data`] cannot return one.
type Failure = Rc<Cell<Option<TchError>>>;

/// A tensor that is copied to the host when its turn to be written comes, so that no second copy
/// of all tensors is in memory.
struct TensorView {
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
    failure: Failure,
}

impl TensorView {
    fn new(tensor: Tensor, failure: &Failure) -> Result<Self> {
        Ok(Self {
            dtype: dtype(tensor.kind())?,
            shape: tensor.size().iter().map(|&n| n as usize).collect(),
            tensor,
            failure: failure.clone(),
        })
    }
}

impl View for TensorView {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        if let Err(error) = self.tensor.f_copy_data_u8(&mut bytes, self.tensor.numel()) {
            self.failure.set(Some(error));
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

fn dtype(kind: Kind) -> Result<Dtype> {
    match kind {
        Kind::Float => Ok(Dtype::F32),
        Kind::Double => Ok(Dtype::F64),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Half => Ok(Dtype::F16),
        other => Err(Error::invalid(
            "tensor",
            format!("expected a floating-point tensor, got {other:?}"),
        )),
    }
}

fn kind(dtype: Dtype) -> Result<Kind> {
    [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half]
        .into_iter()
        .find(|&kind| self::dtype(kind).is_ok_and(|d| d == dtype))
        .ok_or_else(|| {
            Error::invalid(
                "tensor",
                format!("expected a floating-point tensor, got {dtype:?}"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecoderConfig, LearnerConfig, Reference, init_parameters};
    use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, WhichPolicy};
    use tch::Device;

    fn learner(kind: Kind, seed: u64) -> TorchLearner {
        let model = DecoderConfig::tiny_qwen3(13, 16, 2, 2, 1);
        let config = LearnerConfig {
            reference: Reference::FrozenCopy,
            weight_decay: 0.01,
            ..LearnerConfig::default()
        };
        let parameters = init_parameters(&model, seed, kind, Device::Cpu).unwrap();
        TorchLearner::new(&model, parameters, config).unwrap()
    }

    fn step(learner: &mut TorchLearner, i: u32) {
        let tokens =
            Ragged::from_rows((0..4u32).map(|r| (0..6 + r).map(move |t| (t * r + i) % 13)));
        let sequences = Sequences::new(tokens, vec![2; 4]).unwrap();
        learner
            .accumulate(&sequences, &Scoring::default(), &mut |o| {
                Ok(TokenGrads {
                    logp: o.logp.map(|l| -0.1 * l.exp()),
                    entropy: None,
                })
            })
            .unwrap();
        learner.apply(1e-3).unwrap();
    }

    #[test]
    fn a_resumed_run_repeats_the_uninterrupted_one_bit_for_bit() {
        tch::set_num_threads(1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learner.safetensors");
        for kind in [Kind::Float, Kind::BFloat16] {
            let mut whole = learner(kind, 1);
            (0..3).for_each(|i| step(&mut whole, i));
            whole.sync_reference(0.5).unwrap();
            let extra = HashMap::from([("rng".to_owned(), "7 of 9".to_owned())]);
            whole.save_state(&path, &extra).unwrap();
            let mut resumed = learner(kind, 2);
            step(&mut resumed, 9);
            assert_eq!(resumed.load_state(&path).unwrap(), extra);
            assert_eq!(resumed.steps(), 3);
            (3..6).for_each(|i| {
                step(&mut whole, i);
                step(&mut resumed, i);
            });
            for ((prefix, a, _), (_, b, _)) in whole.saved().iter().zip(resumed.saved()) {
                assert!(a.equal(b), "{prefix} of {kind:?}");
            }
            assert!(whole.base().flat().equal(resumed.base().flat()));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_do_not_fit_are_refused_before_anything_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learner.safetensors");
        let saved = learner(Kind::Float, 1);
        saved.save_state(&path, &HashMap::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();

        let mut other = learner(Kind::Float, 2);
        let before = other.base().flat().copy();
        let mut check = |bytes: &[u8], message: &str| {
            std::fs::write(&path, bytes).unwrap();
            let err = other.load_state(&path).unwrap_err().to_string();
            assert!(err.contains(message), "{err}");
            assert!(other.base().flat().equal(&before));
        };
        check(&whole[..whole.len() - 1], "truncated or damaged");
        check(&whole[..5], "shorter than the header");
        check(&[255; 64], "the header has");
        check(&[&whole[..], b"x"].concat(), "truncated or damaged");
        std::fs::write(&path, &whole).unwrap();

        let mut bf16 = learner(Kind::BFloat16, 1);
        let err = bf16.load_state(&path).unwrap_err().to_string();
        assert!(
            err.contains("tensor `reference.model.embed_tokens.weight` is F32"),
            "{err}"
        );
        let model = DecoderConfig::tiny_qwen3(13, 16, 3, 2, 1);
        let parameters = init_parameters(&model, 1, Kind::Float, Device::Cpu).unwrap();
        let mut deeper = TorchLearner::new(&model, parameters, LearnerConfig::default()).unwrap();
        let err = deeper.load_state(&path).unwrap_err().to_string();
        assert!(
            err.contains("`param.model.layers.2.input_layernorm.weight` is missing"),
            "{err}"
        );
        let model = DecoderConfig::tiny_qwen3(13, 16, 2, 2, 1);
        let parameters = init_parameters(&model, 1, Kind::Float, Device::Cpu).unwrap();
        let mut plain = TorchLearner::new(&model, parameters, LearnerConfig::default()).unwrap();
        let err = plain.load_state(&path).unwrap_err().to_string();
        assert!(err.contains("`reference."), "{err}");
    }

    #[test]
    fn a_pending_gradient_is_not_lost_silently() {
        let folder = tempfile::tempdir().unwrap();
        let mut learner = learner(Kind::Float, 1);
        let sequences = Sequences::new(Ragged::from_rows([[1, 2]]), vec![1]).unwrap();
        let mut loss = |o: &g2rpo_core::TokenOutputs| {
            Ok(TokenGrads {
                logp: o.logp.map(|_| 1.0),
                entropy: None,
            })
        };
        learner
            .accumulate(&sequences, &Scoring::default(), &mut loss)
            .unwrap();
        let path = folder.path().join("learner.safetensors");
        assert!(learner.save_state(&path, &HashMap::new()).is_err());
        learner.clear_gradient().unwrap();
        learner.save_state(&path, &HashMap::new()).unwrap();
        let nowhere = path.join("a file is no folder");
        assert!(learner.save_state(nowhere, &HashMap::new()).is_err());
        let scored = learner.token_logps(&sequences, WhichPolicy::Reference, &Scoring::default());
        assert!(scored.is_ok());
    }
}
