//! The checkpoints, what transformers computed of them, and how far it may be away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Kind, Tensor};

/// Two implementations of the same f32 arithmetic in different orders of summation.
pub(crate) const TOLERANCE: f64 = 1e-5;

/// The repository's checkpoints, and those that `make_product.py` wrote to `$G2RPO_MODELS/tiny`.
pub(crate) fn models() -> Vec<PathBuf> {
    // Threads that wait for one another cost more than tiny matrices gain from them.
    tch::set_num_threads(1);
    let folders = |dir: &Path| {
        let mut folders: Vec<PathBuf> = (std::fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        folders.sort();
        folders
    };
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/libtorch/models");
    let mut models = folders(&own);
    assert_eq!(models.len(), 25);
    let product = std::env::var_os("G2RPO_MODELS").map(|root| Path::new(&root).join("tiny"));
    match product.filter(|dir| dir.exists()) {
        Some(dir) => models.extend(folders(&dir)),
        None => println!(
            "skipped: G2RPO_MODELS does not name a folder with tiny/, only the repository's checkpoints are read"
        ),
    }
    models
}

/// Those whose gradients are known.
pub(crate) fn newer() -> Vec<PathBuf> {
    let mut models = models();
    models.retain(|path| path.join("gradient.safetensors").exists());
    assert!(models.len() >= 17);
    models
}

/// Those with an adapter.
pub(crate) fn adapted() -> Vec<PathBuf> {
    let mut models = models();
    models.retain(|path| path.join("adapter").exists());
    models
}

pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Differences, none of which may reach the tolerance; says when it goes how large they were.
pub(crate) struct Differences {
    of: &'static str,
    tolerance: f64,
    count: usize,
    largest: f64,
    at: String,
}

impl Differences {
    pub(crate) fn new(of: &'static str, tolerance: f64) -> Self {
        Self {
            of,
            tolerance,
            count: 0,
            largest: 0.0,
            at: String::new(),
        }
    }

    pub(crate) fn add(&mut self, at: &str, got: f64, expected: f64) {
        let off = (got - expected).abs();
        assert!(off < self.tolerance, "{}, {at}: off by {off}", self.of);
        self.count += 1;
        if off > self.largest {
            (self.largest, self.at) = (off, at.to_owned());
        }
    }

    /// Element by element.
    pub(crate) fn add_all(&mut self, at: &str, got: &Tensor, expected: &[f64]) {
        let got = Vec::<f64>::try_from(got.to_kind(Kind::Double)).unwrap();
        assert_eq!(got.len(), expected.len(), "{at}");
        for (&got, &expected) in got.iter().zip(expected) {
            self.add(at, got, expected);
        }
    }

    /// Relative to the largest element if that is above 1.
    pub(crate) fn add_relative(&mut self, at: &str, got: &Tensor, expected: &Tensor) {
        let scale = f64::try_from(expected.abs().max()).unwrap().max(1.0);
        let off = f64::try_from((got - expected).abs().max()).unwrap();
        self.add(at, off / scale, 0.0);
    }
}

impl Drop for Differences {
    fn drop(&mut self) {
        let (of, count, largest, at) = (self.of, self.count, self.largest, &self.at);
        println!("{of}: {count} compared, largest difference {largest:.1e} ({at})");
    }
}

pub(crate) struct Expected {
    pub(crate) ids: Vec<Vec<i64>>,
    pub(crate) lengths: Vec<usize>,
    pub(crate) logits: Vec<Vec<f64>>,
    pub(crate) logps: Vec<Vec<f64>>,
    pub(crate) greedy: Vec<Vec<u32>>,
    pub(crate) loads: Vec<Vec<u64>>,
}

pub(crate) fn expected(model: &Path) -> Expected {
    let text = std::fs::read_to_string(model.join("expected.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> T {
        serde_json::from_value(value[name].clone()).unwrap()
    }
    Expected {
        ids: field(&value, "ids"),
        lengths: field(&value, "lengths"),
        logits: field(&value, "logits"),
        logps: field(&value, "logps"),
        greedy: field(&value, "greedy"),
        loads: match value.get("loads") {
            Some(_) => field(&value, "loads"),
            None => Vec::new(),
        },
    }
}

/// By the tensors' names in the file that the gradient is of.
pub(crate) fn gradient(folder: &Path) -> BTreeMap<String, Tensor> {
    let path = folder.join("gradient.safetensors");
    (Tensor::read_safetensors(path).unwrap().into_iter())
        .map(|(name, gradient)| (name, gradient.to_kind(Kind::Double)))
        .collect()
}
