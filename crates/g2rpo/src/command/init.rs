//! `g2rpo init`: a recipe to begin from.

use std::path::Path;

use g2rpo::train::recipe::read::{Setting, merge, parse_toml};
use g2rpo::train::recipe::settings::Recipe;
use g2rpo::train::recipe::write::to_toml;
use g2rpo::train::write_atomically;

use super::cli::InitArgs;
use super::console::Console;
use super::failure::{Failure, because};
use super::setup;

/// Files by their names, as they are in this folder of the source.
macro_rules! files {
    ($folder:literal, $end:literal, [$($name:literal),+ $(,)?]) => {
        [$(($name, include_bytes!(concat!("../../recipes/", $folder, $name, $end)).as_slice())),+]
    };
}

type File = (&'static str, &'static [u8]);

/// Recipes that come with the program.
const SHIPPED: [File; 8] = files!(
    "",
    ".toml",
    [
        "tiny-math",
        "tiny-code",
        "smollm2-135m-gsm8k",
        "qwen3-0.6b-gsm8k",
        "qwen3-0.6b-math",
        "qwen3-1.7b-gsm8k",
        "qwen3-1.7b-math",
        "code-humaneval"
    ]
);

/// What the tiny recipes need, so that they run as they are.
const TINY: [(&str, [File; 2]); 2] = [
    (
        "tiny-math",
        files!("tiny/", "", ["tiny-train.jsonl", "tiny-test.jsonl"]),
    ),
    (
        "tiny-code",
        files!("tiny/", "", ["tiny-code.jsonl", "tiny-code-test.jsonl"]),
    ),
];
const TINY_MODEL: [File; 5] = files!(
    "tiny/",
    "",
    [
        "tiny-model/config.json",
        "tiny-model/generation_config.json",
        "tiny-model/model.safetensors",
        "tiny-model/tokenizer.json",
        "tiny-model/tokenizer_config.json"
    ]
);

/// A shipped recipe as settings.
fn settings(name: &str, text: &[u8]) -> Result<Vec<Setting>, Failure> {
    let read = parse_toml(&String::from_utf8_lossy(text), name);
    read.map_err(|problems| Failure::new(Failure::SETTINGS, problems.join("\n")))
}

/// Writes what a tiny recipe needs beside it; what is there already stays.
fn write_tiny(name: &str, recipe: &Path) -> Result<(), Failure> {
    let Some((_, files)) = TINY.iter().find(|(tiny, _)| *tiny == name) else {
        return Ok(());
    };
    let place = recipe.parent().unwrap_or(Path::new(""));
    let model = place.join("tiny-model");
    std::fs::create_dir_all(&model).map_err(because(Failure::OTHER, model.display()))?;
    for (file, bytes) in files.iter().chain(&TINY_MODEL) {
        let path = place.join(file);
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
            merge(settings(name, text)?, Vec::new())?
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
