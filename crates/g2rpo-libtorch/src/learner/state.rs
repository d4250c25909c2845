//! Saving and restoring what training depends on.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tch::Tensor;

use super::torch_learner::TorchLearner;
use crate::error::{Doing, Error, Result, ensure};
use crate::hf::safetensors::{TensorFiles, write_tensors};
use crate::model::params::Layout;

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
        let why = "there is a gradient that was not applied; save behind `apply`";
        ensure(!self.has_gradient, "learner", || why)?;
        let path = path.as_ref();
        let mut metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("steps".to_owned(), self.steps().to_string()),
        ]);
        metadata.extend(extra.iter().map(|(k, v)| (format!("extra.{k}"), v.clone())));
        let mut names = Vec::new();
        let mut views = Vec::new();
        for (prefix, flat, layout) in self.saved() {
            names.extend(
                layout
                    .specs
                    .iter()
                    .map(|spec| format!("{prefix}.{}", spec.name)),
            );
            views.extend(layout.views(flat)?);
        }
        let tensors = (names.iter().zip(&views)).map(|(name, view)| (name, view, view.kind()));
        write_tensors(path, tensors, metadata)
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
        let file = TensorFiles::open_file(path)?;
        let metadata = file.metadata();
        let malformed = |what: String| Error::File {
            path: path.into(),
            what,
        };
        let format = metadata.get("format").map(String::as_str);
        if format != Some(FORMAT) {
            return Err(malformed(format!(
                "format is {format:?}, expected {FORMAT:?}; not a saved learner"
            )));
        }
        let steps = (metadata.get("steps").and_then(|s| s.parse().ok()))
            .ok_or_else(|| malformed("the number of steps is missing".into()))?;
        let names = self.check(path, &file)?;
        for ((_, flat, layout), names) in self.saved().into_iter().zip(names) {
            for (mut view, name) in layout.views(flat)?.into_iter().zip(names) {
                let values = file.read(&name)?;
                tch::no_grad(|| view.f_copy_(&values)).doing(|| format!("restoring {name}"))?;
            }
        }
        self.restored(steps)?;
        Ok(metadata
            .into_iter()
            .filter_map(|(k, v)| Some((k.strip_prefix("extra.")?.to_owned(), v)))
            .collect())
    }

    /// Flat buffers to be saved, with the prefix of their tensors' names.
    fn saved(&self) -> Vec<(&'static str, &Tensor, &Layout)> {
        let updated = self.updated();
        let mut saved: Vec<_> = (self.optimizer.buffers(updated).into_iter())
            .map(|(prefix, flat)| (prefix, flat, updated.layout()))
            .collect();
        let copy = self.reference_copy();
        saved.extend(copy.map(|copy| ("reference", copy.flat(), copy.layout())));
        saved
    }

    /// The names to be read for each of [`saved`](Self::saved), once all are known to be right.
    fn check(&self, path: &Path, file: &TensorFiles) -> Result<Vec<Vec<String>>> {
        let mut all = Vec::new();
        for (prefix, flat, layout) in self.saved() {
            let mut names = Vec::new();
            for spec in &layout.specs {
                let name = format!("{prefix}.{}", spec.name);
                let kind = file.check(&name, &spec.shape)?;
                if kind != flat.kind() {
                    return Err(Error::File {
                        path: path.into(),
                        what: format!(
                            "tensor `{name}` is {kind:?}, this learner keeps it as {:?}",
                            flat.kind()
                        ),
                    });
                }
                names.push(name);
            }
            all.push(names);
        }
        let known: HashSet<&str> = all.iter().flatten().map(String::as_str).collect();
        file.refuse_others(|name| known.contains(name))?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;
    use crate::learner::config::{LearnerConfig, Reference};
    use crate::model::config::DecoderConfig;
    use crate::model::init::init_parameters;
    use g2rpo_core::{Learner, Ragged, Scoring, Sequences, TokenGrads, WhichPolicy};
    use tch::{Device, Kind};

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
        for (bytes, expected) in [
            (&whole[..whole.len() - 1], "…truncated, or not fetched…"),
            (&whole[..5], "…not a safetensors file…"),
            (&[255; 64], "…not a safetensors file…"),
            (
                &[&whole[..], b"x"].concat(),
                "…are not what its header promises…",
            ),
        ] {
            std::fs::write(&path, bytes).unwrap();
            says(other.load_state(&path), expected);
            assert!(other.base().flat().equal(&before));
        }
        std::fs::write(&path, &whole).unwrap();

        let expected = "…tensor `reference.model.embed_tokens.weight` is Float…";
        says(learner(Kind::BFloat16, 1).load_state(&path), expected);
        for (layers, expected) in [
            (
                3,
                "…`param.model.layers.2.input_layernorm.weight` is missing",
            ),
            (2, "…`reference.…"),
        ] {
            let model = DecoderConfig::tiny_qwen3(13, 16, layers, 2, 1);
            let parameters = init_parameters(&model, 1, Kind::Float, Device::Cpu).unwrap();
            let learner = TorchLearner::new(&model, parameters, LearnerConfig::default());
            says(learner.unwrap().load_state(&path), expected);
        }
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
