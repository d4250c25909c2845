use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Files of a model repository that this crate reads.
#[cfg(feature = "hub")]
const FILES: [&str; 4] = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"];

/// The folder of a model: `model` itself if it is a folder, else the copy of the Hugging Face
/// repository `owner/name` in the cache that huggingface_hub uses too (`HF_HUB_CACHE`, `HF_HOME`),
/// fetched if it is not there and `HF_HUB_OFFLINE` is not set. `revision` is a branch, tag or
/// commit, `main` if `None`.
///
/// # Errors
/// [`Error::Invalid`] if `model` is neither, if the repository cannot be had, or if this crate was
/// built without its feature `hub`.
pub fn model_folder(model: &str, revision: Option<&str>) -> Result<PathBuf> {
    let path = Path::new(model);
    if path.is_dir() {
        return Ok(path.into());
    }
    match model.split_once('/') {
        Some((owner, name))
            if !owner.is_empty()
                && !name.is_empty()
                && !name.contains('/')
                && owner != "."
                && owner != ".." =>
        {
            fetch(owner, name, revision)
        }
        _ => Err(Error::invalid(
            "model",
            format!("`{model}` is neither a folder nor a repository `owner/name`"),
        )),
    }
}

#[cfg(feature = "hub")]
fn fetch(owner: &str, name: &str, revision: Option<&str>) -> Result<PathBuf> {
    let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|v| !matches!(v.as_str(), "" | "0"));
    let failed = |e: hf_hub::HFError| {
        Error::invalid(
            "model",
            format!("cannot fetch `{owner}/{name}` from the hub: {e}"),
        )
    };
    (hf_hub::HFClientSync::new().map_err(failed)?)
        .model(owner, name)
        .snapshot_download()
        .maybe_revision(revision)
        .allow_patterns(FILES.map(str::to_owned).to_vec())
        .local_files_only(offline)
        .send()
        .map_err(failed)
}

#[cfg(not(feature = "hub"))]
fn fetch(owner: &str, name: &str, _revision: Option<&str>) -> Result<PathBuf> {
    Err(Error::invalid(
        "model",
        format!(
            "there is no folder `{owner}/{name}`, and g2rpo-libtorch was built without its feature \
             `hub`, which fetches repositories"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_themselves_and_nonsense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(model_folder(path, None).unwrap(), dir.path());
        for wrong in ["", "gpt", "a/b/c", "x/", "../x"] {
            let err = model_folder(wrong, None).unwrap_err().to_string();
            assert_eq!(
                err,
                format!("model: `{wrong}` is neither a folder nor a repository `owner/name`")
            );
        }
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_a_repository_is_refused() {
        let err = model_folder("Qwen/Qwen3-0.6B", None)
            .unwrap_err()
            .to_string();
        assert!(err.contains("without its feature `hub`"), "{err}");
    }
}
