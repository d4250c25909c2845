//! Files that import each other in a circle, and files that do not say what they are.
//!
//! A circle makes two files one concept: neither can be read, tested or moved without the other.

use crate::error::{Error, Result};
use crate::repo;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Refuses circles among the files of a crate, and source files without a first line `//!`.
pub(crate) fn check() -> Result<u8> {
    let crates = repo::root().join("crates");
    let mut faults = Vec::new();
    let mut n_files = 0;
    for package in repo::sorted(&crates)? {
        let source = package.join("src");
        if !source.is_dir() {
            continue;
        }
        let files = Files::read(&source)?;
        n_files += files.modules.len();
        for file in files.modules.values() {
            if !file.text.starts_with("//!") {
                let shown = file.path.strip_prefix(repo::root()).unwrap_or(&file.path);
                faults.push(format!(
                    "{}: the first line must be a `//!` sentence that says what the file is",
                    shown.display()
                ));
            }
        }
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        for circle in circles(&files.imports()) {
            let all = circle.join(", ");
            faults.push(format!("{name}: {all} import each other in a circle"));
        }
    }
    if faults.is_empty() {
        println!("{n_files} files: no circle, and each says what it is");
        return Ok(0);
    }
    Err(Error::new(faults.join("\n       ")))
}

/// A module's file, without its tests.
struct File {
    path: PathBuf,
    text: String,
}

/// The files of one crate by module path; the root is `""`.
struct Files {
    modules: BTreeMap<String, File>,
}

impl Files {
    fn read(source: &Path) -> Result<Self> {
        let mut modules = BTreeMap::new();
        let mut folders = vec![source.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for path in repo::sorted(&folder)? {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let Some(module) = module_of(source, &path) else {
                    continue;
                };
                let text = fs::read_to_string(&path).map_err(Error::io("read", path.display()))?;
                let text = without_tests(&text).to_owned();
                modules.insert(module, File { path, text });
            }
        }
        Ok(Self { modules })
    }

    /// Who imports from whom.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let homes = self.exports();
        let mut graph = BTreeMap::new();
        for (module, file) in &self.modules {
            let mut targets = BTreeSet::new();
            for path in uses(&file.text).into_iter().chain(named(&file.text)) {
                let Some(path) = absolute(&path, module) else {
                    continue;
                };
                // What the root re-exports belongs to the module that holds it.
                let path = match path.split_once("::") {
                    None => homes.get(path.as_str()).cloned().unwrap_or(path),
                    Some(_) => path,
                };
                if let Some(target) = self.holder(&path)
                    && target != module
                    && !target.is_empty()
                {
                    targets.insert(target);
                }
            }
            // A parent declares its children; that it re-exports them is no import.
            if is_declaring(&file.path) {
                targets.retain(|target| !target.starts_with(&format!("{module}::")));
            }
            if !module.is_empty() {
                graph.insert(module.as_str(), targets);
            }
        }
        graph
    }

    /// Names that the root exports, with their full paths.
    fn exports(&self) -> BTreeMap<String, String> {
        let mut homes = BTreeMap::new();
        let Some(root) = self.modules.get("") else {
            return homes;
        };
        for path in uses(&root.text) {
            let name = path.rsplit("::").next().unwrap_or_default().to_owned();
            homes.insert(name, path.trim_start_matches("crate::").to_owned());
        }
        homes
    }

    /// The longest prefix of `path` that is a file.
    fn holder(&self, path: &str) -> Option<&str> {
        let mut path = path;
        loop {
            if let Some((module, _)) = self.modules.get_key_value(path) {
                return Some(module);
            }
            path = path.rsplit_once("::")?.0;
        }
    }
}

/// What stands before the module of tests.
fn without_tests(text: &str) -> &str {
    let is_module = |(at, _): &(usize, &str)| {
        let next = text[*at..].lines().nth(1);
        next.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    };
    let tests = text.match_indices("#[cfg(test)]").find(is_module);
    tests.map_or(text, |(at, _)| &text[..at])
}

fn is_declaring(path: &Path) -> bool {
    path.ends_with("mod.rs") || path.with_extension("").is_dir()
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; files that are not modules are nothing.
fn module_of(source: &Path, path: &Path) -> Option<String> {
    if path.extension()? != "rs" {
        return None;
    }
    let inside = path.strip_prefix(source).ok()?.with_extension("");
    let mut parts: Vec<_> = inside.iter().map(|p| p.to_string_lossy()).collect();
    match parts.last()?.as_ref() {
        "main" | "tests" => return None,
        "mod" | "lib" => drop(parts.pop()),
        _ if parts.first()? == "bin" => return None,
        _ => {}
    }
    Some(parts.join("::"))
}

/// A text without its comments.
fn code(text: &str) -> String {
    let lines = (text.lines()).map(|line| line.split("//").next().unwrap_or_default().trim());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path of this crate that stands written out in the code of a file, outside of groups.
fn named(text: &str) -> Vec<String> {
    let code = code(text);
    let of_a_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    (code.split(|c| !of_a_path(c)))
        .filter(|path| path.starts_with("crate::") || path.starts_with("super::"))
        .map(|path| path.trim_end_matches(':').to_owned())
        .collect()
}

/// Every path that the `use` statements of a file name, groups written out.
fn uses(text: &str) -> Vec<String> {
    let code = code(text);
    let tree = |line: &str| {
        let words = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        let rest = words.iter().find_map(|word| line.strip_prefix(word));
        rest.map(str::to_owned)
    };
    (code.split(';'))
        .filter_map(|statement| {
            let mut lines = statement.lines();
            let first = lines.find_map(tree)?;
            Some(lines.fold(first, |tree, line| tree + line))
        })
        .flat_map(|tree| spread(&tree))
        .collect()
}

/// `a::{b, c::d}` is `a::b` and `a::c::d`.
fn spread(tree: &str) -> Vec<String> {
    let tree = tree.trim().trim_end_matches(';').trim();
    let Some(open) = tree.find('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        return vec![name.trim_end_matches("::self").to_owned()];
    };
    let (prefix, rest) = tree.split_at(open);
    let inner = rest[1..].strip_suffix('}').unwrap_or(&rest[1..]);
    let mut depth = 0_u32;
    let is_comma = |c| {
        depth = match c {
            '{' => depth + 1,
            '}' => depth.saturating_sub(1),
            _ => depth,
        };
        c == ',' && depth == 0
    };
    (inner.split(is_comma).map(str::trim))
        .filter(|part| !part.is_empty())
        .flat_map(|part| spread(&format!("{prefix}{part}")))
        .collect()
}

/// A path from the root of the crate, if it is one of this crate.
fn absolute(path: &str, module: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let mut parts: Vec<&str> = module.split("::").collect();
    let mut rest = path;
    while let Some(up) = rest.strip_prefix("super::") {
        parts.pop();
        rest = up;
    }
    if rest == path {
        rest = path.strip_prefix("self::")?;
    }
    parts.push(rest);
    Some(parts.join("::"))
}

/// The groups of more than one node that reach each other.
fn circles(graph: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Vec<String>> {
    let reach = |from: &str| {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = graph.get(from).into_iter().flatten().copied().collect();
        while let Some(node) = open.pop() {
            if seen.insert(node) {
                open.extend(graph.get(node).into_iter().flatten());
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = graph.keys().map(|&n| (n, reach(n))).collect();
    let mut groups: BTreeSet<Vec<String>> = BTreeSet::new();
    for (&node, seen) in &reached {
        if seen.contains(node) {
            let group = seen
                .iter()
                .filter(|other| reached.get(**other).is_some_and(|back| back.contains(node)));
            groups.insert(group.map(|n| (*n).to_owned()).collect());
        }
    }
    groups.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_written_out() {
        assert_eq!(
            spread("crate::{a::{B, C as D}, e};"),
            ["crate::a::B", "crate::a::C", "crate::e"]
        );
        assert_eq!(spread("crate::a::{self, B}"), ["crate::a", "crate::a::B"]);
    }

    #[test]
    fn uses_are_found_over_several_lines() {
        let text = "//! x\nuse std::fmt;\npub use crate::a::{\n    B,\n    C,\n};\nfn f() {}\n";
        assert_eq!(uses(text), ["std::fmt", "crate::a::B", "crate::a::C"]);
    }

    #[test]
    fn paths_are_found_where_they_are_used() {
        let text = "//! crate::x\npub(crate) fn f() -> super::a::B {\n    crate::c::d(1)\n}\n";
        assert_eq!(named(text), ["super::a::B", "crate::c::d"]);
    }

    #[test]
    fn paths_are_taken_from_the_root() {
        assert_eq!(absolute("super::c::D", "a::b").unwrap(), "a::c::D");
        assert_eq!(absolute("crate::c::D", "a::b").unwrap(), "c::D");
        assert_eq!(absolute("std::fmt", "a::b"), None);
    }

    #[test]
    fn a_circle_is_found_and_a_chain_is_none() {
        let graph = |edges: &[(&'static str, &'static str)]| {
            let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (from, to) in edges {
                graph.entry(from).or_default().insert(to);
                graph.entry(to).or_default();
            }
            graph
        };
        assert!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
        let ring = circles(&graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]));
        assert_eq!(ring, [["a", "b", "c"]]);
    }
}
