//! `g2rpo init`: a recipe to begin from.

use std::path::Path;

use g2rpo::train::recipe::read::{merge, parse_toml};
use g2rpo::train::recipe::settings::Recipe;
use g2rpo::train::recipe::write::to_toml;
use g2rpo::train::write_atomically;

use super::cli::InitArgs;
use super::console::Console;
use super::failure::Failure;
use super::setup;

/// Recipes that come with the program.
pub(crate) const SHIPPED: [(&str, &str); 8] = [
    ("tiny-math", include_str!("../../recipes/tiny-math.toml")),
    ("tiny-code", include_str!("../../recipes/tiny-code.toml")),
    (
        "smollm2-135m-gsm8k",
        include_str!("../../recipes/smollm2-135m-gsm8k.toml"),
    ),
    (
        "qwen3-0.6b-gsm8k",
        include_str!("../../recipes/qwen3-0.6b-gsm8k.toml"),
    ),
    (
        "qwen3-0.6b-math",
        include_str!("../../recipes/qwen3-0.6b-math.toml"),
    ),
    (
        "qwen3-1.7b-gsm8k",
        include_str!("../../recipes/qwen3-1.7b-gsm8k.toml"),
    ),
    (
        "qwen3-1.7b-math",
        include_str!("../../recipes/qwen3-1.7b-math.toml"),
    ),
    (
        "code-humaneval",
        include_str!("../../recipes/code-humaneval.toml"),
    ),
];

/// A file by its name.
type File = (&'static str, &'static [u8]);

/// What the tiny recipes need, so that they run as they are.
const TINY: [(&str, &[File]); 2] = [
    (
        "tiny-math",
        &[
            (
                "tiny-train.jsonl",
                include_bytes!("../../recipes/tiny/tiny-train.jsonl"),
            ),
            (
                "tiny-test.jsonl",
                include_bytes!("../../recipes/tiny/tiny-test.jsonl"),
            ),
        ],
    ),
    (
        "tiny-code",
        &[
            (
                "tiny-code.jsonl",
                include_bytes!("../../recipes/tiny/tiny-code.jsonl"),
            ),
            (
                "tiny-code-test.jsonl",
                include_bytes!("../../recipes/tiny/tiny-code-test.jsonl"),
            ),
        ],
    ),
];
const TINY_MODEL: [File; 5] = [
    (
        "config.json",
        include_bytes!("../../recipes/tiny/tiny-model/config.json"),
    ),
    (
        "generation_config.json",
        include_bytes!("../../recipes/tiny/tiny-model/generation_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../recipes/tiny/tiny-model/model.safetensors"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../recipes/tiny/tiny-model/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../recipes/tiny/tiny-model/tokenizer_config.json"),
    ),
];

/// Writes what a tiny recipe needs beside it; what is there already stays.
fn write_tiny(name: &str, recipe: &Path) -> Result<(), Failure> {
    let Some((_, files)) = TINY.iter().find(|(tiny, _)| *tiny == name) else {
        return Ok(());
    };
    let place = recipe.parent().unwrap_or(Path::new(""));
    let model = place.join("tiny-model");
    std::fs::create_dir_all(&model)
        .map_err(|e| Failure::new(Failure::OTHER, format!("{}: {e}", model.display())))?;
    let files = files.iter().map(|(file, bytes)| (place.join(file), bytes));
    let of_model = TINY_MODEL
        .iter()
        .map(|(file, bytes)| (model.join(file), bytes));
    for (path, bytes) in files.chain(of_model) {
        if !path.exists() {
            write_atomically(&path, bytes)?;
        }
    }
    Ok(())
}

/// `g2rpo init`.
pub(crate) fn init(args: &InitArgs) -> Result<(), Failure> {
    let console = Console::new(false);
    let names = || SHIPPED.map(|(name, _)| name).join(", ");
    let recipe = match (&args.from, &args.config) {
        (Some(name), _) if name == "list" => {
            console.say(names());
            return Ok(());
        }
        (Some(name), _) => {
            let shipped = SHIPPED.iter().find(|(known, _)| known == name);
            let (_, text) = shipped.ok_or_else(|| {
                let message = format!("--from {name}: there are {}", names());
                Failure::new(Failure::SETTINGS, message)
            })?;
            let settings = parse_toml(text, name)
                .map_err(|p| Failure::new(Failure::SETTINGS, p.join("\n")))?;
            merge(settings, Vec::new())?
        }
        (None, Some(path)) => {
            let config = setup::read_config(path)?;
            config.notes.iter().for_each(|note| console.warn(note));
            merge(config.settings, Vec::new())?
        }
        (None, None) => example(),
    };
    if args.file.exists() {
        let message = format!(
            "{}: it is there already; give another name",
            args.file.display()
        );
        return Err(Failure::new(Failure::SETTINGS, message));
    }
    write_atomically(&args.file, to_toml(&recipe, true).as_bytes())?;
    write_tiny(args.from.as_deref().unwrap_or_default(), &args.file)?;
    console.say(format_args!(
        "{}: fill it in, then `g2rpo train {0} --dry-run`",
        args.file.display()
    ));
    Ok(())
}

/// Where a recipe of one's own begins.
fn example() -> Recipe {
    let mut recipe = Recipe::default();
    recipe.model.model_name_or_path = "path/to/model".into();
    recipe.data.dataset_name = "train.jsonl".into();
    recipe
        .data
        .eval_datasets
        .insert("test".into(), "test.jsonl".into());
    recipe.save.output_dir = "runs/first".into();
    recipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_recipe_is_right_as_grpo_and_as_guided() {
        for (name, text) in SHIPPED {
            for method in ["grpo", "g2rpo-a"] {
                let mut settings = parse_toml(text, name).unwrap();
                settings.push(
                    g2rpo::train::recipe::read::parse_set(&format!("method={method}")).unwrap(),
                );
                let recipe = merge(settings, Vec::new())
                    .unwrap_or_else(|e| panic!("{name} as {method}: {e}"));
                recipe
                    .method
                    .build(100)
                    .unwrap_or_else(|e| panic!("{name} as {method}: {e}"));
            }
        }
    }
}
