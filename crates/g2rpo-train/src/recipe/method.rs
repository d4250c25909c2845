//! The method of a recipe: a preset and what is changed in it.

use g2rpo_guidance::Method;

use super::keys::{keys, nearest};
use super::settings::Recipe;
use super::trl_keys::{Fate, TABLE};

/// Keys of the method's section and what is wrong with them.
pub(crate) fn check_method(recipe: &Recipe) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    if let Err(error) = Method::preset(&recipe.method.method, 1) {
        problems.push(("method".into(), error.to_string()));
    }
    let taken = TABLE.iter().filter(|(_, fate)| *fate == Fate::Taken);
    let known: Vec<&str> = (keys().iter().map(|key| key.name.as_str()))
        .chain(taken.map(|row| row.0))
        .chain(["curriculum"])
        .collect();
    for name in recipe.method.overrides.keys() {
        if !known.contains(&name.as_str()) {
            let meant = nearest(name, known.iter().copied());
            let meant = meant.map_or(String::new(), |m| format!(": did you mean {m}?"));
            problems.push((name.clone(), format!("unknown key{meant}")));
        }
    }
    problems
}
