//! A copy of a model folder in which the head has numbers of its own.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Result;
use crate::folder::{At, Header, TensorInfo, has_head, read_json, refuse, weight_files};

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
    // The file with the embeddings, the table in it, and the bytes of that, where the head is to be written out.
    let source = if has_head(&files) {
        None
    } else {
        let table = |header: &'_ Header| {
            let tables = header.tensors.iter();
            let mut tables = tables.filter(|(name, _)| name.ends_with("embed_tokens.weight"));
            tables.next().map(|(_, table)| table.clone())
        };
        let mut sources = files.iter();
        let Some(source) = sources.find_map(|(path, h)| Some((path, h, table(h)?))) else {
            return refuse(from, "has neither lm_head.weight nor embed_tokens.weight");
        };
        Some(source)
    };
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
            Some((file, header, table)) if **file == path => {
                append_head(&path, header, table, &copy)?;
            }
            Some((file, _, table)) if name == "model.safetensors.index.json" => {
                let mut index = read_json(&path)?;
                let file = file.file_name().and_then(|n| n.to_str());
                index["weight_map"]["lm_head.weight"] = json!(file.unwrap_or_default());
                if let Some(total) = index.pointer_mut("/metadata/total_size") {
                    *total = json!(total.as_u64().unwrap_or(0) + table.len());
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

/// Copies a safetensors file, with the numbers of `table` once more at its end.
fn append_head(from: &Path, header: &Header, table: &TensorInfo, to: &Path) -> Result<()> {
    let whole = header.data_len();
    let head = TensorInfo {
        data_offsets: (whole, whole + table.len()),
        ..table.clone()
    };
    let mut entries = serde_json::Map::new();
    entries.extend((header.metadata.clone()).map(|all| ("__metadata__".to_owned(), all)));
    let tensors = header.tensors.iter().map(|(name, info)| (&**name, info));
    for (name, info) in tensors.chain([("lm_head.weight", &head)]) {
        entries.insert(name.into(), serde_json::to_value(info).at(from)?);
    }
    let mut text = Value::Object(entries).to_string();
    // Numbers begin at a multiple of eight, as the format's own writer has it.
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut input = File::open(from).at(from)?;
    let mut output = File::create(to).at(to)?;
    let size = (text.len() as u64).to_le_bytes();
    (output
        .write_all(&size)
        .and_then(|()| output.write_all(text.as_bytes())))
    .at(to)?;
    for (start, len) in [(0, whole), (table.data_offsets.0, table.len())] {
        let start = SeekFrom::Start(header.data_start + start);
        input.seek(start).at(from)?;
        io::copy(&mut (&input).take(len), &mut output).at(to)?;
    }
    output.sync_all().at(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::tests::write_file;
    use crate::folder::{check_model, read_header};

    type Tensors<'a> = &'a [(&'a str, &'a [f32])];

    fn folder(config: &str, files: &[(&str, Tensors<'_>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        for (name, tensors) in files {
            write_file(&dir.path().join(name), tensors);
        }
        dir
    }

    #[test]
    fn the_head_gets_the_numbers_of_the_embeddings() {
        let tensors: Tensors<'_> = &[
            ("model.embed_tokens.weight", &[1.0, 2.0]),
            ("model.norm.weight", &[3.0]),
        ];
        let config = r#"{"tie_word_embeddings": true, "x": 1}"#;
        let dir = folder(config, &[("model.safetensors", tensors)]);
        let (from, to) = (dir.path(), dir.path().join("untied"));
        fs::write(from.join("tokenizer.json"), "{}").unwrap();
        assert!(check_model(from).is_err());
        write_untied(from, &to).unwrap();
        check_model(&to).unwrap();
        assert!(to.join("tokenizer.json").exists());
        assert_eq!(read_json(&to.join("config.json")).unwrap()["x"], 1);

        let path = to.join("model.safetensors");
        let header = read_header(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for (name, expected) in tensors.iter().chain(&[("lm_head.weight", tensors[0].1)]) {
            let info = &header.tensors[*name];
            let start = (header.data_start + info.data_offsets.0) as usize;
            let numbers = bytes[start..start + info.len() as usize].chunks(4);
            let numbers = numbers.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            assert_eq!(numbers.collect::<Vec<_>>(), *expected);
        }

        let error = write_untied(from, &to).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        // A folder that is untied already comes out with the same numbers.
        let third = from.join("again");
        write_untied(&to, &third).unwrap();
        assert_eq!(fs::read(third.join("model.safetensors")).unwrap(), bytes);
    }

    #[test]
    fn a_sharded_folder_keeps_its_index_true() {
        let embeddings: Tensors<'_> = &[("model.embed_tokens.weight", &[1.0, 2.0])];
        let norm: Tensors<'_> = &[("model.norm.weight", &[3.0])];
        let files = [("1.safetensors", embeddings), ("2.safetensors", norm)];
        let dir = folder("{}", &files);
        let (name, to) = ("model.safetensors.index.json", dir.path().join("to"));
        let index = r#"{"metadata": {"total_size": 12}, "weight_map":
            {"model.embed_tokens.weight": "1.safetensors", "model.norm.weight": "2.safetensors"}}"#;
        fs::write(dir.path().join(name), index).unwrap();
        write_untied(dir.path(), &to).unwrap();
        check_model(&to).unwrap();
        let index = read_json(&to.join(name)).unwrap();
        assert_eq!(index["weight_map"]["lm_head.weight"], "1.safetensors");
        assert_eq!(index["metadata"]["total_size"], 20);
    }

    #[test]
    fn a_folder_without_embeddings_is_refused() {
        let dir = folder("{}", &[("model.safetensors", &[("x", &[1.0])])]);
        let error = write_untied(dir.path(), dir.path().join("to")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("neither lm_head.weight"), "{error}");
        assert!(!dir.path().join("to.partial").exists());
    }
}
