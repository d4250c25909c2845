//! Model folders by their names on the Hugging Face hub.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The folder of a model given by a path or, with the feature `hf-hub`, by its id on the Hugging
/// Face hub: `organisation/name`, or `organisation/name@revision` for a branch, tag or commit.
///
/// A folder of that path wins. Then comes the hub's cache (`HF_HUB_CACHE`, `HF_HOME/hub` or
/// `~/.cache/huggingface/hub`, shared with Python's tools): a model that is whole there is used
/// without asking the network whether there is a newer one. What is missing is downloaded, unless
/// `HF_HUB_OFFLINE` is set to something else than 0. `HF_ENDPOINT` names another hub, and the token
/// that `hf auth login` saved opens gated models.
///
/// # Errors
/// [`Error::Invalid`], saying what to do, if the name is no folder and cannot be had from the hub.
pub fn model_folder(name: &str) -> Result<PathBuf> {
    if Path::new(name).is_dir() {
        return Ok(name.into());
    }
    match HubId::parse(name) {
        Some(id) => from_hub(&id),
        None => Err(refused(
            name,
            "there is no such folder, and it is not an id of the hub either (organisation/name)",
        )),
    }
}

#[cfg(not(feature = "hf-hub"))]
fn from_hub(id: &HubId<'_>) -> Result<PathBuf> {
    Err(refused(
        id.name,
        "there is no such folder. To fetch a model from the hub by its id, build with the feature `hf-hub`, or download it \
         with `hf download` and name its folder",
    ))
}

#[cfg(feature = "hf-hub")]
fn from_hub(id: &HubId<'_>) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let cache = match variable("HF_HUB_CACHE") {
        Some(path) => hf_hub::Cache::new(path.into()),
        None => hf_hub::Cache::from_env(),
    };
    let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    let reach = match offline {
        true => cached::Reach::Cache,
        false => cached::Reach::Hub(variable("HF_ENDPOINT")),
    };
    cached::resolve(id, &cache, &reach)
}

fn refused(name: &str, why: &str) -> Error {
    Error::invalid("model", format!("`{name}`: {why}"))
}

/// An id as it was given, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "hf-hub"),
    allow(dead_code, reason = "only the hub reads the parts")
)]
struct HubId<'a> {
    name: &'a str,
    repo: &'a str,
    revision: &'a str,
}

impl<'a> HubId<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (repo, revision) = name.split_once('@').unwrap_or((name, "main"));
        let part = |part: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
        };
        let (organisation, model) = repo.split_once('/')?;
        (part(organisation) && part(model) && !revision.is_empty()).then_some(Self {
            name,
            repo,
            revision,
        })
    }
}

#[cfg(feature = "hf-hub")]
mod cached {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use hf_hub::api::sync::{ApiBuilder, ApiRepo};
    use hf_hub::{Cache, Repo, RepoType};

    use super::{HubId, refused};
    use crate::error::{Error, Result};
    use crate::hf::files::read_json;

    const CONFIG: &str = "config.json";
    const WEIGHTS: &str = "model.safetensors";
    const INDEX: &str = "model.safetensors.index.json";
    /// Read if the repository has them.
    const OPTIONAL: [&str; 4] = [
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];

    /// How far a search goes.
    #[derive(Debug)]
    pub(super) enum Reach {
        Cache,
        /// The hub at an address, the usual one if `None`.
        Hub(Option<String>),
    }

    pub(super) fn resolve(id: &HubId<'_>, cache: &Cache, reach: &Reach) -> Result<PathBuf> {
        let folder = snapshot(id, cache);
        let missing = folder.as_deref().map_or(Ok(Some(CONFIG.into())), missing)?;
        let place = folder.unwrap_or_else(|| cache.path().clone());
        let Some(missing) = missing else {
            return Ok(place);
        };
        if let Reach::Hub(endpoint) = reach {
            return download(id, cache, endpoint.as_deref());
        }
        Err(refused(
            id.name,
            &format!(
                "there is no such folder, {} does not hold `{missing}` of it, and HF_HUB_OFFLINE forbids to fetch it: unset \
                 HF_HUB_OFFLINE, or run `hf download {}` where there is a network, or name a folder",
                place.display(),
                id.repo
            ),
        ))
    }

    fn repo(id: &HubId<'_>) -> Repo {
        Repo::with_revision(id.repo.into(), RepoType::Model, id.revision.into())
    }

    /// The folder of the revision in the cache, if it has one. A revision is a name in `refs`, or
    /// a commit.
    fn snapshot(id: &HubId<'_>, cache: &Cache) -> Option<PathBuf> {
        let root = cache.path().join(repo(id).folder_name());
        let commit = std::fs::read_to_string(root.join("refs").join(id.revision));
        let commit = commit.unwrap_or_else(|_| id.revision.into());
        let folder = root.join("snapshots").join(commit.trim());
        folder.is_dir().then_some(folder)
    }

    /// The first file that a snapshot lacks.
    fn missing(folder: &Path) -> Result<Option<String>> {
        let has = |name: &str| folder.join(name).exists();
        if !has(CONFIG) {
            return Ok(Some(CONFIG.into()));
        }
        if has(WEIGHTS) {
            return Ok(None);
        }
        if !has(INDEX) {
            return Ok(Some(WEIGHTS.into()));
        }
        Ok(shards(&folder.join(INDEX))?
            .into_iter()
            .find(|shard| !has(shard)))
    }

    /// Names of the files that an index lists.
    fn shards(index: &Path) -> Result<BTreeSet<String>> {
        let json = read_json(index)?;
        let names = json["weight_map"].as_object().into_iter().flatten();
        Ok(names
            .filter_map(|(_, file)| file.as_str().map(str::to_owned))
            .collect())
    }

    fn download(id: &HubId<'_>, cache: &Cache, endpoint: Option<&str>) -> Result<PathBuf> {
        let failed = |error: hf_hub::api::sync::ApiError| -> Error {
            refused(
                id.name,
                &format!(
                    "there is no such folder, and the hub gave: {error}. Without a network, download it elsewhere with \
                     `hf download {}` and name the folder; gated models want `hf auth login`",
                    id.repo
                ),
            )
        };
        let mut builder = ApiBuilder::from_cache(cache.clone());
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.into());
        }
        let api = builder.build().map_err(failed)?.repo(repo(id));
        let info = api.info().map_err(failed)?;
        let offered: BTreeSet<&str> = info
            .siblings
            .iter()
            .map(|file| file.rfilename.as_str())
            .collect();
        let get = |api: &ApiRepo, name: &str| api.get(name).map_err(failed);
        let config = get(&api, CONFIG)?;
        for name in OPTIONAL.iter().filter(|name| offered.contains(**name)) {
            get(&api, name)?;
        }
        if offered.contains(WEIGHTS) {
            get(&api, WEIGHTS)?;
        } else if offered.contains(INDEX) {
            for shard in shards(&get(&api, INDEX)?)? {
                get(&api, &shard)?;
            }
        } else {
            return Err(refused(
                id.name,
                "the hub has no safetensors files of it; convert its weights first",
            ));
        }
        match config.parent() {
            Some(folder) => Ok(folder.into()),
            None => Err(refused(
                id.name,
                "the hub's cache holds it outside of any folder",
            )),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::error::says;

        const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

        /// A cache laid out as the hub's tools lay it out, with the given files of
        /// `some-org/tiny`.
        fn cache(files: &[(&str, &str)]) -> (tempfile::TempDir, Cache, PathBuf) {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("models--some-org--tiny");
            let folder = root.join("snapshots").join(COMMIT);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::create_dir_all(root.join("refs/pr")).unwrap();
            std::fs::write(root.join("refs/main"), COMMIT).unwrap();
            std::fs::write(root.join("refs/pr/1"), COMMIT).unwrap();
            for (name, text) in files {
                std::fs::write(folder.join(name), text).unwrap();
            }
            let cache = Cache::new(dir.path().into());
            (dir, cache, folder)
        }

        fn offline(name: &str, cache: &Cache) -> Result<PathBuf> {
            resolve(&HubId::parse(name).unwrap(), cache, &Reach::Cache)
        }

        const SHARDED: &str =
            r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

        #[test]
        fn whole_snapshots_are_found_without_a_network() {
            let (_dir, whole, folder) = cache(&[(CONFIG, "{}"), (WEIGHTS, "")]);
            for name in ["some-org/tiny", "some-org/tiny@pr/1"] {
                assert_eq!(offline(name, &whole).unwrap(), folder, "{name}");
            }
            let by_commit = format!("some-org/tiny@{COMMIT}");
            assert_eq!(offline(&by_commit, &whole).unwrap(), folder);
            let (_dir, sharded, folder) = cache(&[
                (CONFIG, "{}"),
                (INDEX, SHARDED),
                ("model-1.safetensors", ""),
                ("model-2.safetensors", ""),
            ]);
            assert_eq!(offline("some-org/tiny", &sharded).unwrap(), folder);
        }

        #[test]
        fn what_is_missing_is_named_with_what_to_do() {
            let (_dir, partial, folder) = cache(&[
                (CONFIG, "{}"),
                (INDEX, SHARDED),
                ("model-1.safetensors", ""),
            ]);
            let expected = format!(
                "model: `some-org/tiny`: there is no such folder, {} does not hold `model-2.safetensors` of it, and \
                 HF_HUB_OFFLINE forbids to fetch it: unset HF_HUB_OFFLINE, or run `hf download some-org/tiny` where \
                 there is a network, or name a folder",
                folder.display()
            );
            says(offline("some-org/tiny", &partial), &expected);
            for name in ["some-org/tiny@v2", "other/tiny"] {
                says(offline(name, &partial), "…does not hold `config.json`…");
            }
            let (_dir, weightless, _) = cache(&[(CONFIG, "{}")]);
            let expected = "…does not hold `model.safetensors`…";
            says(offline("some-org/tiny", &weightless), expected);
        }

        #[test]
        fn a_hub_that_does_not_answer_is_named() {
            let (_dir, empty, _) = cache(&[]);
            // Nothing listens on port 1 of this machine, and nothing leaves it.
            let reach = Reach::Hub(Some("http://127.0.0.1:1".into()));
            let id = HubId::parse("some-org/tiny").unwrap();
            let expected = "model: `some-org/tiny`: there is no such folder, and the hub gave: request error: …`hf download some-org/tiny`…";
            says(resolve(&id, &empty, &reach), expected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::says;

    #[test]
    fn ids_are_organisation_name_and_revision() {
        let id = HubId::parse("Qwen/Qwen3-0.6B@refs/pr/2").unwrap();
        assert_eq!((id.repo, id.revision), ("Qwen/Qwen3-0.6B", "refs/pr/2"));
        assert_eq!(HubId::parse("Qwen/Qwen3-0.6B").unwrap().revision, "main");
        for wrong in [
            "Qwen3", "./a/b", "/a/b", "a/b/c", "a/", "../b", "a/..", "a b/c", "a/b@",
        ] {
            assert_eq!(HubId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_folder_wins_and_a_wrong_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(model_folder(path).unwrap(), dir.path());
        let expected = "model: `no such model`: there is no such folder, and it is not an id of the hub either (organisation/name)";
        says(model_folder("no such model"), expected);
    }

    #[cfg(not(feature = "hf-hub"))]
    #[test]
    fn without_the_feature_ids_are_refused_with_what_to_do() {
        let expected = "model: `some-org/tiny`: there is no such folder. To fetch a model from the hub by its id, build with \
                        the feature `hf-hub`, or download it with `hf download` and name its folder";
        says(model_folder("some-org/tiny"), expected);
    }
}
