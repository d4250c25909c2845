//! Who may depend on what: proves that libtorch stays where it belongs.

use crate::error::{Error, Result};
use crate::repo::{self, cargo};
use std::collections::BTreeSet;

/// A crate, the crates of ours that it may use, and whether libtorch may be below it.
struct Rule {
    package: &'static str,
    ours: &'static [&'static str],
    libtorch: bool,
}

const RULES: &[Rule] = &[
    Rule {
        package: "g2rpo-core",
        ours: &[],
        libtorch: false,
    },
    Rule {
        package: "g2rpo-guidance",
        ours: &["g2rpo-core"],
        libtorch: false,
    },
    Rule {
        package: "g2rpo-sandbox",
        ours: &[],
        libtorch: false,
    },
    Rule {
        package: "g2rpo-math",
        ours: &[],
        libtorch: false,
    },
    Rule {
        package: "g2rpo-verify",
        ours: &["g2rpo-math", "g2rpo-sandbox"],
        libtorch: false,
    },
    Rule {
        package: "g2rpo-rollout",
        ours: &["g2rpo-core"],
        libtorch: false,
    },
    Rule {
        package: "g2rpo-remote",
        ours: &["g2rpo-core", "g2rpo-rollout"],
        libtorch: false,
    },
    Rule {
        package: "g2rpo-train",
        ours: &[
            "g2rpo-core",
            "g2rpo-guidance",
            "g2rpo-rollout",
            "g2rpo-verify",
        ],
        libtorch: false,
    },
    Rule {
        package: "g2rpo-libtorch",
        ours: &["g2rpo-core", "g2rpo-rollout"],
        libtorch: true,
    },
    Rule {
        package: "xtask",
        ours: &[],
        libtorch: false,
    },
];

/// The facade joins everything, so there is nothing to check.
const ABOVE_ALL: &[&str] = &["g2rpo"];

/// The core computes: nothing that draws, opens, connects or tells the time comes in from outside.
const CORE_MAY_USE: &[&str] = &["ndarray", "serde", "thiserror"];

/// Checks the dependency tree of every crate with all its features; tells the first breach.
pub(crate) fn check() -> Result<u8> {
    let folder = repo::root().join("crates");
    let entries =
        std::fs::read_dir(&folder).map_err(Error::io(format_args!("read {}", folder.display())))?;
    for entry in entries
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").exists())
    {
        has_rule(&entry.file_name().to_string_lossy())?;
    }
    for rule in RULES {
        let all = tree(rule.package, &["--edges", "normal,build,dev"])?;
        let direct = tree(rule.package, &["--edges", "normal,build", "--depth", "1"])?;
        judge(rule, &all, &direct)?;
    }
    println!("dependencies: {} crates keep the rules", RULES.len());
    Ok(0)
}

/// A new crate must say where it stands.
fn has_rule(package: &str) -> Result<()> {
    if ABOVE_ALL.contains(&package) || RULES.iter().any(|rule| rule.package == package) {
        return Ok(());
    }
    Err(Error::new(format!(
        "{package} has no rule about its dependencies: add it to xtask/src/deps.rs"
    )))
}

fn judge(rule: &Rule, all: &BTreeSet<String>, direct: &BTreeSet<String>) -> Result<()> {
    let package = rule.package;
    let has_libtorch = ["tch", "torch-sys"].iter().any(|name| all.contains(*name));
    if has_libtorch && !rule.libtorch {
        return Err(Error::new(format!(
            "{package} reaches torch-sys, and only g2rpo-libtorch and what sits above it may: see `cargo tree -p {package} --all-features -i torch-sys`"
        )));
    }
    if !has_libtorch && rule.libtorch {
        return Err(Error::new(format!(
            "{package} no longer reaches torch-sys: this check looks for the wrong names"
        )));
    }
    for name in direct.iter().filter(|name| name.as_str() != package) {
        if name.starts_with("g2rpo") && !rule.ours.contains(&name.as_str()) {
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
    let mut command = cargo([
        "tree",
        "--package",
        package,
        "--all-features",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    command.args(options);
    let output = command.output().map_err(Error::io("start cargo"))?;
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
        let rule = |package| RULES.iter().find(|rule| rule.package == package).unwrap();
        let core = rule("g2rpo-core");
        judge(
            core,
            &set("g2rpo-core serde thiserror proptest"),
            &set("g2rpo-core serde thiserror"),
        )
        .unwrap();
        let message = judge(core, &set("g2rpo-core rand"), &set("g2rpo-core rand"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("g2rpo-core depends on rand"), "{message}");
        let train = rule("g2rpo-train");
        let message = judge(
            train,
            &set("g2rpo-train tch torch-sys"),
            &set("g2rpo-train"),
        )
        .unwrap_err()
        .to_string();
        assert!(
            message.contains("g2rpo-train reaches torch-sys"),
            "{message}"
        );
        let verify = rule("g2rpo-verify");
        let message = judge(verify, &set(""), &set("g2rpo-verify g2rpo-core"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("not below it"), "{message}");
        let libtorch = rule("g2rpo-libtorch");
        assert!(judge(libtorch, &set("g2rpo-libtorch"), &set("")).is_err());
        judge(
            libtorch,
            &set("tch torch-sys"),
            &set("g2rpo-libtorch tch g2rpo-core"),
        )
        .unwrap();
    }

    #[test]
    fn a_crate_without_a_rule_is_named() {
        has_rule("g2rpo").unwrap();
        has_rule("g2rpo-core").unwrap();
        assert!(
            has_rule("g2rpo-new")
                .unwrap_err()
                .to_string()
                .contains("g2rpo-new")
        );
    }

    #[test]
    fn names_of_a_tree() {
        assert_eq!(
            names("tch v0.24.0\nserde v1.0.0 (proc-macro)\n\nserde v1.0.0 (*)\n"),
            set("serde tch")
        );
    }
}
