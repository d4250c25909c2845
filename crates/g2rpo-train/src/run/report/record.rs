//! What a run left behind, read back from its folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::recipe::read::{merge, parse_toml};
use crate::recipe::settings::Recipe;
use crate::run::files::if_there;
use crate::run::step_log::read_rows;
use crate::{Error, MetricsRow, Result, SampleRow};

/// A warning of a detector, a line of warnings.jsonl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningRow {
    /// The step.
    pub step: u64,
    /// Name of the detector.
    pub name: String,
    /// What it saw and what to do.
    pub text: String,
}

/// A run, read from its folder.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RunRecord {
    /// Its folder.
    pub path: PathBuf,
    /// The name that its recipe gives it, or that of its folder.
    pub name: String,
    /// What it was told, where a recipe is there.
    pub recipe: Option<Recipe>,
    /// Numbers by step.
    pub rows: Vec<MetricsRow>,
    /// What the detectors said.
    pub warnings: Vec<WarningRow>,
    /// Completions that were kept.
    pub samples: Vec<SampleRow>,
}

impl RunRecord {
    /// Reads the folder of a run; files that are not there are empty.
    ///
    /// # Errors
    /// [`Error::RunFolder`] without metrics; [`Error::Line`] for a file that is not what a run writes;
    /// [`Error::Recipe`].
    pub fn read(path: &Path) -> Result<Self> {
        let metrics = path.join("metrics.jsonl");
        if !metrics.is_file() {
            let problem = "it holds no metrics.jsonl, so no run was started in it";
            return Err(Error::run_folder(path, problem));
        }
        let file = path.join("recipe.toml");
        let text = if_there(std::fs::read_to_string(&file)).map_err(Error::io(&file))?;
        let read = |text: String| {
            let settings = parse_toml(&text, &file.display().to_string());
            merge(settings.map_err(Error::Recipe)?, Vec::new())
        };
        let recipe = text.map(read).transpose()?;
        let named = recipe.as_ref().and_then(|r| r.log.run_name.clone());
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            path: path.into(),
            name: named.unwrap_or_else(|| name.to_string_lossy().into_owned()),
            recipe,
            rows: read_rows(&metrics)?,
            warnings: read_rows(&path.join("warnings.jsonl"))?,
            samples: read_rows(&path.join("samples.jsonl"))?,
        })
    }

    /// The finite values of a metric: (steps done, value). An evaluation belongs to the policy after
    /// its step; one before training to step 0.
    pub fn series(&self, metric: &str) -> Vec<(f64, f64)> {
        let evaluated = metric.starts_with("eval/");
        (self.rows.iter())
            .filter_map(|row| {
                let value = row.get(metric).filter(|value| value.is_finite())?;
                let after = evaluated && row.get("reward").is_some();
                Some((row.step() as f64 + f64::from(u8::from(after)), value))
            })
            .collect()
    }

    /// Names of all metrics that begin so, each once, in the order of their first occurrence.
    pub fn metrics(&self, prefix: &str) -> Vec<&str> {
        let mut names = Vec::new();
        for (name, _) in self.rows.iter().flat_map(MetricsRow::iter) {
            if name.starts_with(prefix) && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Steps of training that are on record.
    pub fn steps(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.step() + 1)
    }
}
