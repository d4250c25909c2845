//! Weight folders, looked at before a server is asked to load one: a folder that it cannot load
//! takes the whole server down.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// What the header of a safetensors file says.
pub(crate) struct Header {
    pub(crate) metadata: Option<Value>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    /// Where the numbers begin in the file.
    pub(crate) data_start: u64,
}

impl Header {
    /// Bytes behind the header.
    pub(crate) fn data_len(&self) -> u64 {
        let ends = self.tensors.values().map(|t| t.data_offsets.1);
        ends.max().unwrap_or(0)
    }
}

/// One tensor of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TensorInfo {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    /// Begin and end of its bytes behind the header.
    pub(crate) data_offsets: (u64, u64),
}

impl TensorInfo {
    /// Its bytes.
    pub(crate) fn len(&self) -> u64 {
        self.data_offsets.1 - self.data_offsets.0
    }
}

/// Larger headers are no headers: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

pub(crate) fn refuse<T>(path: &Path, problem: impl std::fmt::Display) -> Result<T> {
    Err(Error::Folder {
        path: path.into(),
        problem: problem.to_string(),
    })
}

/// An error of the system with its path.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T, E: std::fmt::Display> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T> {
        self.or_else(|e| refuse(path, e))
    }
}

/// Reads a header, and checks that the file holds all that it promises.
pub(crate) fn read_header(path: &Path) -> Result<Header> {
    let mut file = File::open(path).at(path)?;
    let len = file.metadata().at(path)?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size).at(path)?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER || size + 8 > len {
        return refuse(path, "is no safetensors file, or is not whole");
    }
    let mut text = vec![0; size as usize];
    file.read_exact(&mut text).at(path)?;
    let mut entries: BTreeMap<String, Value> = serde_json::from_slice(&text).at(path)?;
    let metadata = entries.remove("__metadata__");
    let header = Header {
        metadata,
        tensors: (entries.into_iter())
            .map(|(name, entry)| Ok((name, serde_json::from_value(entry).at(path)?)))
            .collect::<Result<_>>()?,
        data_start: size + 8,
    };
    if header.data_start.checked_add(header.data_len()) != Some(len) {
        return refuse(
            path,
            "is not whole: it has fewer or more bytes than its header says",
        );
    }
    if (header.tensors.values()).any(|t| t.data_offsets.0 > t.data_offsets.1) {
        return refuse(path, "a tensor ends before it begins");
    }
    Ok(header)
}

pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).at(path)?;
    serde_json::from_str(&text).at(path)
}

/// The weight files of a model folder with their headers; the index must agree with them.
pub(crate) fn weight_files(folder: &Path) -> Result<Vec<(PathBuf, Header)>> {
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        let path = folder.join("model.safetensors");
        let header = read_header(&path)?;
        return Ok(vec![(path, header)]);
    }
    let json = read_json(&index)?;
    let Some(map) = json.get("weight_map").and_then(Value::as_object) else {
        return refuse(&index, "has no weight_map");
    };
    let mut files: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str().filter(|f| !f.contains(['/', '\\'])) else {
            return refuse(&index, format!("names no file of the folder for {tensor}"));
        };
        files.entry(file).or_default().push(tensor);
    }
    let mut all = Vec::new();
    for (file, tensors) in files {
        let path = folder.join(file);
        let header = read_header(&path)?;
        if let Some(tensor) = (tensors.into_iter()).find(|t| !header.tensors.contains_key(*t)) {
            let problem = format!("lacks {tensor}, which the index says it has");
            return refuse(&path, problem);
        }
        all.push((path, header));
    }
    Ok(all)
}

/// A Hugging Face folder that a running server may load over the weights it has.
pub(crate) fn check_model(folder: &Path) -> Result<()> {
    let config = read_json(&folder.join("config.json"))?;
    if !has_head(&weight_files(folder)?)
        || config.get("tie_word_embeddings") != Some(&Value::Bool(false))
    {
        return refuse(
            folder,
            "the head is tied to the embeddings (no lm_head.weight, or tie_word_embeddings is not \
             false), and a server would keep its old head without a word; write the folder with \
             g2rpo_remote::write_untied",
        );
    }
    Ok(())
}

pub(crate) fn has_head(files: &[(PathBuf, Header)]) -> bool {
    let is_head = |t: &String| t == "lm_head.weight" || t.ends_with(".lm_head.weight");
    (files.iter()).any(|(_, header)| header.tensors.keys().any(is_head))
}

/// A PEFT folder that a server may load beside the model it has.
pub(crate) fn check_adapter(folder: &Path) -> Result<()> {
    let path = folder.join("adapter_config.json");
    let config = read_json(&path)?;
    if config.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        let problem = "peft_type is not LORA, and servers load nothing else";
        return refuse(&path, problem);
    }
    let path = folder.join("adapter_model.safetensors");
    let header = read_header(&path)?;
    for tensor in header.tensors.keys() {
        let pair = [("lora_A", "lora_B"), ("lora_B", "lora_A")];
        let Some((this, other)) = pair.into_iter().find(|(this, _)| tensor.contains(this)) else {
            return refuse(&path, format!("{tensor} is neither lora_A nor lora_B"));
        };
        if !header.tensors.contains_key(&tensor.replace(this, other)) {
            return refuse(&path, format!("{tensor} has no {other} beside it"));
        }
    }
    if header.tensors.is_empty() {
        return refuse(&path, "holds no tensors");
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A safetensors file of F32 tensors of one dimension.
    pub(crate) fn write_file(path: &Path, tensors: &[(&str, &[f32])]) {
        let mut at = 0;
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, values) in tensors {
            let end = at + 4 * values.len() as u64;
            let info = TensorInfo {
                dtype: "F32".into(),
                shape: vec![values.len() as u64],
                data_offsets: (at, end),
            };
            header.insert((*name).into(), serde_json::to_value(info).unwrap());
            data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            at = end;
        }
        let header = Value::Object(header).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend(data);
        std::fs::write(path, bytes).unwrap();
    }

    const UNTIED: &str = r#"{"tie_word_embeddings": false}"#;

    fn folder(config: &str, tensors: &[(&str, &[f32])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        write_file(&dir.path().join("model.safetensors"), tensors);
        dir
    }

    /// That a check fails with these words.
    fn fails(check: Result<()>, words: &str) {
        let error = check.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_tied_folder_is_refused_and_an_untied_one_is_not() {
        let head: &[(&str, &[f32])] = &[("lm_head.weight", &[1.0, 2.0])];
        let embeddings: &[(&str, &[f32])] = &[("model.embed_tokens.weight", &[1.0])];
        check_model(folder(UNTIED, head).path()).unwrap();
        for dir in [folder("{}", head), folder(UNTIED, embeddings)] {
            fails(check_model(dir.path()), "write_untied");
        }
    }

    #[test]
    fn half_written_folders_are_refused() {
        let dir = folder(UNTIED, &[("lm_head.weight", &[1.0, 2.0])]);
        let path = dir.path().join("model.safetensors");
        let whole = std::fs::read(&path).unwrap();
        let endless = b"\xff\xff\xff\xff\xff\xff\xff\xff{}";
        for (bytes, words) in [
            (&whole[..whole.len() - 1], "is not whole"),
            (&whole[..20], "is no safetensors file"),
            (&whole[..3], "fill whole buffer"),
            (&endless[..], "is no safetensors file"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            fails(check_model(dir.path()), words);
        }
        std::fs::remove_file(&path).unwrap();
        fails(check_model(dir.path()), "model.safetensors");
        fails(check_model(Path::new("/nowhere/at/all")), "/nowhere/at/all");
    }

    #[test]
    fn an_index_must_agree_with_its_files() {
        let dir = folder(UNTIED, &[]);
        let file = dir.path().join("a.safetensors");
        write_file(&file, &[("lm_head.weight", &[1.0])]);
        let index = dir.path().join("model.safetensors.index.json");
        let check = |text: &str| {
            std::fs::write(&index, text).unwrap();
            check_model(dir.path())
        };
        check(r#"{"weight_map": {"lm_head.weight": "a.safetensors"}}"#).unwrap();
        for (text, words) in [
            (r#"{"weight_map": {"b": "a.safetensors"}}"#, "lacks b"),
            (
                r#"{"weight_map": {"b": "../a.safetensors"}}"#,
                "names no file",
            ),
            ("{}", "no weight_map"),
        ] {
            fails(check(text), words);
        }
    }

    #[test]
    fn adapters_come_in_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("adapter_config.json");
        std::fs::write(&config, r#"{"peft_type": "LORA"}"#).unwrap();
        let check = |tensors: &[&str]| {
            let tensors: Vec<_> = tensors.iter().map(|name| (*name, &[1.0][..])).collect();
            write_file(&dir.path().join("adapter_model.safetensors"), &tensors);
            check_adapter(dir.path())
        };
        let pair = ["q.lora_A.weight", "q.lora_B.weight"];
        check(&pair).unwrap();
        fails(check(&pair[..1]), "no lora_B beside it");
        fails(check(&["q.weight"]), "neither lora_A nor");
        fails(check(&[]), "holds no tensors");
        std::fs::write(&config, r#"{"peft_type": "IA3"}"#).unwrap();
        fails(check(&pair), "peft_type is not LORA");
    }
}
