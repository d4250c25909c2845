//! Safetensors files, read and written tensor by tensor.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use g2rpo_rollout::replace_atomically;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::hf::files::read_json;
use crate::hf::mapped::MappedFile;
use crate::model::dtype::DType;
use crate::model::params::Parameters;

/// Number formats by their names in the two libraries.
const KINDS: [(Kind, Dtype); 4] = [
    (Kind::Float, Dtype::F32),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Half, Dtype::F16),
    (Kind::Double, Dtype::F64),
];

/// Writes tensors as one safetensors file, atomically, one tensor in memory at a time.
///
/// # Errors
/// [`Error::Io`] with the path; libtorch's, if a tensor cannot be brought to the CPU.
pub fn save_safetensors(path: &Path, tensors: &[(&str, &Tensor)], dtype: DType) -> Result<()> {
    // transformers asks for this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let tensors = tensors
        .iter()
        .map(|&(name, tensor)| (name, tensor, dtype.kind()));
    write_tensors(path, tensors, metadata)
}

/// Writes tensors in the given number formats as one file, which appears under its name only when
/// it is whole and on the disk.
///
/// # Errors
/// [`Error::Invalid`] for a kind that is no float of 16, 32 or 64 bits; [`Error::Io`] with the
/// path; libtorch's, if a tensor cannot be brought to the CPU.
pub(crate) fn write_tensors<'a, N: AsRef<str> + Ord + std::fmt::Display>(
    path: &Path,
    tensors: impl IntoIterator<Item = (N, &'a Tensor, Kind)>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let failure = RefCell::new(None);
    let views = (tensors.into_iter())
        .map(|(name, tensor, kind)| {
            let known = KINDS.iter().find(|(known, _)| *known == kind);
            let (_, dtype) = known.ok_or_else(|| {
                Error::invalid("tensor", format!("expected a float, got {kind:?}"))
            })?;
            let view = TensorView {
                tensor,
                shape: tensor.size().iter().map(|&n| n as usize).collect(),
                kind,
                dtype: *dtype,
                failure: &failure,
            };
            Ok((name, view))
        })
        .collect::<Result<Vec<_>>>()?;
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
    .map_err(Error::io(path))?
}

/// A tensor that is converted when its turn to be written comes.
struct TensorView<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
    kind: Kind,
    dtype: Dtype,
    /// The writer cannot be told of a failed conversion, so it is left here.
    failure: &'a RefCell<Option<Error>>,
}

impl View for TensorView<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = || -> Result<Vec<u8>> {
            let host = (self.tensor.f_detach()?)
                .f_to_device(Device::Cpu)?
                .f_to_kind(self.kind)?
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
        self.shape.iter().product::<usize>() * self.kind.elt_size_in_bytes()
    }
}

/// The safetensors files of a folder, mapped into memory.
pub(crate) struct TensorFiles {
    dir: PathBuf,
    files: Vec<TensorFile>,
    /// Which file each tensor is in.
    index: BTreeMap<String, usize>,
    /// The names in the files, of those that have others here.
    renamed: BTreeMap<String, String>,
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
            renamed: BTreeMap::new(),
            index,
        })
    }

    /// Of a model that also sees images, the tensors of the half that reads and writes text, by the names that
    /// they have in a model of text alone. Others are left as they are.
    pub(crate) fn text_half(mut self) -> Self {
        let plain = |name: &str| -> Option<String> {
            let in_model = name.strip_prefix("model.language_model.");
            in_model.map_or_else(
                || name.strip_prefix("language_model.").map(str::to_owned),
                |rest| Some(format!("model.{rest}")),
            )
        };
        if !self.index.keys().any(|name| plain(name).is_some()) {
            return self;
        }
        for (name, file) in std::mem::take(&mut self.index) {
            if let Some(plain) = plain(&name) {
                self.index.insert(plain.clone(), file);
                self.renamed.insert(plain, name);
            } else if name == "lm_head.weight" {
                self.index.insert(name, file);
            }
        }
        self
    }

    /// Names of all tensors, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// A string that the writer of the first file put into its header.
    pub(crate) fn metadata(&self) -> HashMap<String, String> {
        let first = self
            .files
            .first()
            .and_then(|file| file.metadata.metadata().clone());
        first.unwrap_or_default()
    }

    /// Refuses a tensor that is missing or of another shape; its number format.
    pub(crate) fn check(&self, name: &str, shape: &[i64]) -> Result<Kind> {
        let (_, info, kind) = self.find(name)?;
        let got: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        if got == shape {
            return Ok(kind);
        }
        Err(Error::TensorShape {
            path: self.dir.clone(),
            name: name.to_owned(),
            expected: shape.to_vec(),
            got,
        })
    }

    /// Refuses tensors of other names than `known` ones.
    pub(crate) fn refuse_others(&self, known: impl Fn(&str) -> bool) -> Result<()> {
        match self.names().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(Error::ExtraTensor {
                path: self.dir.clone(),
                name: name.to_owned(),
            }),
        }
    }

    /// Fills all parameters from the tensors of their names behind `prefix`; `ignored` says which others may be in the
    /// files.
    pub(crate) fn read_into(
        &self,
        parameters: &mut Parameters,
        prefix: &str,
        ignored: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let specs = parameters.specs().to_vec();
        let names: HashSet<String> = (specs.iter())
            .map(|spec| format!("{prefix}{}", spec.name))
            .collect();
        self.refuse_others(|name| names.contains(name) || ignored(name))?;
        for spec in &specs {
            let name = format!("{prefix}{}", spec.name);
            self.check(&name, &spec.shape)?;
            parameters.copy_from(&spec.name, &self.read(&name)?)?;
        }
        match parameters.first_not_finite()? {
            None => Ok(()),
            Some(name) => Err(Error::File {
                path: self.dir.clone(),
                what: format!("tensor `{name}` holds a value that is not finite"),
            }),
        }
    }

    fn entry(&self, name: &str) -> Option<(&TensorFile, &TensorInfo)> {
        let file = &self.files[*self.index.get(name)?];
        let stored = self.renamed.get(name).map_or(name, String::as_str);
        Some((file, file.metadata.info(stored)?))
    }

    fn find(&self, name: &str) -> Result<(&TensorFile, &TensorInfo, Kind)> {
        let missing = || Error::MissingTensor {
            path: self.dir.clone(),
            name: name.to_owned(),
        };
        let (file, info) = self.entry(name).ok_or_else(missing)?;
        let kind = KINDS.iter().find(|(_, dtype)| *dtype == info.dtype);
        let (kind, _) = kind.ok_or_else(|| Error::File {
            path: file.path.clone(),
            what: format!(
                "tensor `{name}` is {:?}; supported are F64, F32, BF16 and F16",
                info.dtype
            ),
        })?;
        Ok((file, info, *kind))
    }

    /// Number format of the largest tensor, which is that of the model.
    pub(crate) fn kind(&self) -> Result<Kind> {
        let size = |name: &&String| {
            (self.entry(name)).map_or(0, |(_, i)| i.shape.iter().product::<usize>())
        };
        match self.index.keys().max_by_key(size) {
            Some(name) => Ok(self.find(name)?.2),
            None => Err(Error::File {
                path: self.dir.clone(),
                what: "holds no tensor".into(),
            }),
        }
    }

    /// One tensor, copied out of its file.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor> {
        let (file, info, kind) = self.find(name)?;
        let shape: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        let (from, to) = info.data_offsets;
        let bytes = &file.map.bytes()[file.start + from..file.start + to];
        Ok(Tensor::f_from_data_size(bytes, &shape, kind)?)
    }
}
