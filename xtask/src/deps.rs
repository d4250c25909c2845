//! Who may depend on what: proves that libtorch stays where it belongs.

use crate::error::{Error, Result};
use crate::repo::{self, cargo};
use std::collections::BTreeSet;

/// The crates of ours that a crate may use.
const RULES: &[(&str, &[&str])] = &[
    ("g2rpo-core", &[]),
    ("g2rpo-guidance", &["g2rpo-core"]),
    ("g2rpo-sandbox", &[]),
    ("g2rpo-math", &[]),
    ("g2rpo-verify", &["g2rpo-math", "g2rpo-sandbox"]),
    ("g2rpo-rollout", &["g2rpo-core"]),
    ("g2rpo-remote", &["g2rpo-core", "g2rpo-rollout"]),
    (
        "g2rpo-train",
        &[
            "g2rpo-core",
            "g2rpo-guidance",
            "g2rpo-rollout",
            "g2rpo-verify",
        ],
    ),
    (LIBTORCH, &["g2rpo-core", "g2rpo-rollout"]),
    ("xtask", &[]),
];

/// The only one of them with libtorch below it.
const LIBTORCH: &str = "g2rpo-libtorch";

/// The facade joins everything, so there is nothing to check.
const ABOVE_ALL: &[&str] = &["g2rpo"];

/// The core computes: nothing that draws, opens, connects or tells the time comes in from outside.
const CORE_MAY_USE: &[&str] = &["ndarray", "serde", "thiserror"];

/// Checks the dependency tree of every crate with all its features; tells the first breach.
pub(crate) fn check() -> Result<u8> {
    for folder in repo::sorted(&repo::root().join("crates"))? {
        let name = folder.file_name().unwrap_or_default();
        if folder.join("Cargo.toml").exists() {
            rule(&name.to_string_lossy())?;
        }
    }
    for (package, _) in RULES {
        let all = tree(package, &["--edges", "normal,build,dev"])?;
        let direct = tree(package, &["--edges", "normal,build", "--depth", "1"])?;
        judge(package, &all, &direct)?;
    }
    println!("dependencies: {} crates keep the rules", RULES.len());
    Ok(0)
}

/// What a crate may use; `None` for all. A new crate must say where it stands.
fn rule(package: &str) -> Result<Option<&'static [&'static str]>> {
    if ABOVE_ALL.contains(&package) {
        return Ok(None);
    }
    match RULES.iter().find(|(name, _)| *name == package) {
        Some((_, ours)) => Ok(Some(ours)),
        None => Err(Error::new(format!(
            "{package} has no rule about its dependencies: add it to xtask/src/deps.rs"
        ))),
    }
}

fn judge(package: &str, all: &BTreeSet<String>, direct: &BTreeSet<String>) -> Result<()> {
    let Some(ours) = rule(package)? else {
        return Ok(());
    };
    let has_libtorch = ["tch", "torch-sys"].iter().any(|name| all.contains(*name));
    if has_libtorch && package != LIBTORCH {
        return Err(Error::new(format!(
            "{package} reaches torch-sys, and only g2rpo-libtorch and what sits above it may: see `cargo tree -p {package} --all-features -i torch-sys`"
        )));
    }
    if !has_libtorch && package == LIBTORCH {
        return Err(Error::new(format!(
            "{package} no longer reaches torch-sys: this check looks for the wrong names"
        )));
    }
    for name in direct.iter().filter(|name| name.as_str() != package) {
        if name.starts_with("g2rpo") && !ours.contains(&name.as_str()) {
            return Err(Error::new(format!(
                "{package} depends on {name}, which is not below it"
            )));
        }
        if package == "g2rpo-core" && !CORE_MAY_USE.contains(&name.as_str()) {
            return Err(Error::new(format!(
                "g2rpo-core depends on {name}: it may use only {CORE_MAY_USE:?}"
            )));
        }
    }
    Ok(())
}

/// The names in `cargo tree` of a package.
fn tree(package: &str, options: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = cargo(["tree", "--package", package, "--all-features"]);
    command.args(["--prefix", "none", "--format", "{p}"]);
    command.args(options);
    let output = command.output().map_err(Error::io("start", "cargo"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!(
            "`cargo tree --package {package}` failed: {}",
            text.trim()
        )));
    }
    Ok(names(&String::from_utf8_lossy(&output.stdout)))
}

fn names(tree: &str) -> BTreeSet<String> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn breaches_are_named() {
        let torch = "g2rpo-libtorch tch torch-sys";
        for (package, all, direct, words) in [
            ("g2rpo-core", "serde proptest", "g2rpo-core serde", ""),
            ("g2rpo-core", "rand", "rand", "g2rpo-core depends on rand"),
            ("g2rpo-train", torch, "", "g2rpo-train reaches torch-sys"),
            ("g2rpo-verify", "", "g2rpo-core", "not below it"),
            ("g2rpo-libtorch", "serde", "", "no longer reaches torch-sys"),
            ("g2rpo-libtorch", torch, "tch g2rpo-core", ""),
            ("g2rpo", torch, torch, ""),
            ("g2rpo-new", "", "", "g2rpo-new has no rule"),
        ] {
            match judge(package, &set(all), &set(direct)) {
                Ok(()) => assert_eq!(words, "", "{package}"),
                Err(e) => assert!(!words.is_empty() && e.to_string().contains(words), "{e}"),
            }
        }
    }

    #[test]
    fn names_of_a_tree() {
        assert_eq!(
            names("tch v0.24.0\nserde v1.0.0 (proc-macro)\n\nserde v1.0.0 (*)\n"),
            set("serde tch")
        );
    }
}
