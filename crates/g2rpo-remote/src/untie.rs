//! A copy of a model folder in which the head has numbers of its own.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Result;
use crate::folder::{At, Header, TensorInfo, is_head, read_json, refuse, weight_files};

/// Copies a Hugging Face folder to `to`, with the embeddings written out as `lm_head.weight` too and
/// `tie_word_embeddings` false.
///
/// A server that reloads weights keeps its old head when a folder has none. A folder that is untied
/// already is copied as it is. Only files are copied, no folders inside. `to` appears when it is
/// whole.
///
/// # Errors
/// [`Error::Folder`](crate::Error::Folder) when `from` is no whole model folder, `to` exists, or a
/// file cannot be written.
pub fn write_untied(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let mut config = read_json(&from.join("config.json"))?;
    let files = weight_files(from)?;
    let tied = !files
        .iter()
        .any(|(_, h)| h.tensors.keys().any(|t| is_head(t)));
    let embedding = |header: &Header| {
        let ends = |t: &&String| t.ends_with("embed_tokens.weight");
        header.tensors.keys().find(ends).cloned()
    };
    let source = files
        .iter()
        .find_map(|(path, h)| Some((path, h, embedding(h)?)));
    if tied && source.is_none() {
        return refuse(from, "has neither lm_head.weight nor embed_tokens.weight");
    }
    if to.exists() {
        return refuse(to, "exists already; each sync wants a folder of its own");
    }
    let partial = partial(to)?;
    if partial.exists() {
        fs::remove_dir_all(&partial).at(&partial)?;
    }
    fs::create_dir_all(&partial).at(&partial)?;
    for entry in fs::read_dir(from).at(from)? {
        let path = entry.at(from)?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else {
            continue;
        };
        let copy = partial.join(name);
        match &source {
            Some((file, header, embedding)) if tied && **file == path => {
                append_head(&path, header, embedding, &copy)?;
            }
            _ if name == "model.safetensors.index.json" && tied => {
                let mut index = read_json(&path)?;
                if let Some((file, header, embedding)) = &source {
                    let file = file
                        .file_name()
                        .and_then(|n| n.to_str())
                        .unwrap_or_default();
                    index["weight_map"]["lm_head.weight"] = json!(file);
                    let (start, end) = header.tensors[embedding].data_offsets;
                    if let Some(total) = index.pointer_mut("/metadata/total_size") {
                        *total = json!(total.as_u64().unwrap_or(0) + (end - start));
                    }
                }
                write(&copy, index.to_string().as_bytes())?;
            }
            _ if name == "config.json" => {
                config["tie_word_embeddings"] = Value::Bool(false);
                write(&copy, format!("{config:#}\n").as_bytes())?;
            }
            _ => {
                fs::copy(&path, &copy).at(&copy)?;
            }
        }
    }
    fs::rename(&partial, to).at(to)
}

fn partial(to: &Path) -> Result<PathBuf> {
    let Some(name) = to.file_name() else {
        return refuse(to, "is no name for a new folder");
    };
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(to.with_file_name(name))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).at(path)?;
    file.write_all(bytes).at(path)?;
    file.sync_all().at(path)
}

/// Copies a safetensors file, with the embeddings once more at its end.
fn append_head(from: &Path, header: &Header, embedding: &str, to: &Path) -> Result<()> {
    let whole = header.tensors.values().map(|t| t.data_offsets.1).max();
    let whole = whole.unwrap_or(0);
    let table = &header.tensors[embedding];
    let (start, end) = table.data_offsets;
    let head = TensorInfo {
        data_offsets: (whole, whole + (end - start)),
        ..table.clone()
    };
    let mut entries = serde_json::Map::new();
    if let Some(metadata) = &header.metadata {
        entries.insert("__metadata__".into(), metadata.clone());
    }
    for (name, info) in &header.tensors {
        entries.insert(name.clone(), serde_json::to_value(info).at(from)?);
    }
    entries.insert(
        "lm_head.weight".into(),
        serde_json::to_value(head).at(from)?,
    );
    let mut text = Value::Object(entries).to_string();
    // Numbers begin at a multiple of eight, as the format's own writer has it.
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut input = File::open(from).at(from)?;
    let mut output = File::create(to).at(to)?;
    output
        .write_all(&(text.len() as u64).to_le_bytes())
        .at(to)?;
    output.write_all(text.as_bytes()).at(to)?;
    input.seek(SeekFrom::Start(header.data_start)).at(from)?;
    io::copy(&mut input, &mut output).at(to)?;
    input
        .seek(SeekFrom::Start(header.data_start + start))
        .at(from)?;
    io::copy(&mut input.take(end - start), &mut output).at(to)?;
    output.sync_all().at(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::tests::write_file;
    use crate::folder::{check_model, read_header};

    #[test]
    fn the_head_gets_the_numbers_of_the_embeddings() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&from).unwrap();
        fs::write(
            from.join("config.json"),
            r#"{"tie_word_embeddings": true, "x": 1}"#,
        )
        .unwrap();
        fs::write(from.join("tokenizer.json"), "{}").unwrap();
        let tensors: &[(&str, &[f32])] = &[
            ("model.embed_tokens.weight", &[1.0, 2.0]),
            ("model.norm.weight", &[3.0]),
        ];
        write_file(&from.join("model.safetensors"), tensors);
        assert!(check_model(&from).is_err());
        write_untied(&from, &to).unwrap();
        check_model(&to).unwrap();
        assert!(to.join("tokenizer.json").exists());
        assert_eq!(read_json(&to.join("config.json")).unwrap()["x"], 1);

        let path = to.join("model.safetensors");
        let header = read_header(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let numbers = |name: &str| {
            let (start, end) = header.tensors[name].data_offsets;
            let at = header.data_start;
            let bytes = &bytes[(at + start) as usize..(at + end) as usize];
            bytes
                .chunks(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers("lm_head.weight"), [1.0, 2.0]);
        assert_eq!(numbers("model.embed_tokens.weight"), [1.0, 2.0]);
        assert_eq!(numbers("model.norm.weight"), [3.0]);

        let error = write_untied(&from, &to).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        // A folder that is untied already comes out with the same numbers.
        let third = dir.path().join("c");
        write_untied(&to, &third).unwrap();
        assert_eq!(fs::read(third.join("model.safetensors")).unwrap(), bytes);
    }

    #[test]
    fn a_sharded_folder_keeps_its_index_true() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("config.json"), "{}").unwrap();
        write_file(
            &from.join("1.safetensors"),
            &[("model.embed_tokens.weight", &[1.0, 2.0])],
        );
        write_file(
            &from.join("2.safetensors"),
            &[("model.norm.weight", &[3.0])],
        );
        let index = r#"{"metadata": {"total_size": 12}, "weight_map":
            {"model.embed_tokens.weight": "1.safetensors", "model.norm.weight": "2.safetensors"}}"#;
        fs::write(from.join("model.safetensors.index.json"), index).unwrap();
        write_untied(&from, &to).unwrap();
        check_model(&to).unwrap();
        let index = read_json(&to.join("model.safetensors.index.json")).unwrap();
        assert_eq!(index["weight_map"]["lm_head.weight"], "1.safetensors");
        assert_eq!(index["metadata"]["total_size"], 20);
    }

    #[test]
    fn a_folder_without_embeddings_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        write_file(&dir.path().join("model.safetensors"), &[("x", &[1.0])]);
        let error = write_untied(dir.path(), dir.path().join("to")).unwrap_err();
        assert!(
            error.to_string().contains("neither lm_head.weight"),
            "{error}"
        );
        assert!(!dir.path().join("to.partial").exists());
    }
}
