//! Which checkpoint of a run is the best, found out again where the note of it is damaged.

use g2rpo::train::evaluate::graded::read_graded;
use g2rpo::train::evaluate::summary::summarize;
use g2rpo::train::run::checkpoint::{Best, Checkpoints, verify};
use g2rpo::train::run::folder::RunFolder;

use super::console::Console;
use super::failure::Failure;

/// The best checkpoint as it was noted. A note that cannot be read, or names a checkpoint that is not there whole, is told
/// and replaced by what the evaluations on record say; `set` is the one that decides.
pub(crate) fn known(
    folder: &RunFolder,
    checkpoints: &Checkpoints,
    set: Option<&str>,
    console: &Console,
) -> Result<Option<Best>, Failure> {
    let is_whole = |step| verify(&Checkpoints::at(&folder.checkpoints(), step).path, false);
    let problem = match checkpoints.best() {
        Ok(None) => return Ok(None),
        Ok(Some(best)) => match is_whole(best.step) {
            Ok(()) => return Ok(Some(best)),
            Err(problem) => {
                let path = folder.checkpoints().join("best.json");
                format!("{}: of step {}: {problem}", path.display(), best.step)
            }
        },
        Err(error) => error.to_string(),
    };
    let mut found: Option<Best> = None;
    for checkpoint in checkpoints.list()? {
        let step = checkpoint.step;
        let Some(set) = set.filter(|_| is_whole(step).is_ok()) else {
            continue;
        };
        let samples = read_graded(&folder.evaluation(set, step)?).unwrap_or_default();
        if let Some(summary) = summarize(&samples, 0)
            && found.is_none_or(|best| summary.accuracy > best.value)
        {
            let value = summary.accuracy;
            found = Some(Best { step, value });
        }
    }
    let now = match found {
        Some(best) => {
            checkpoints.set_best(best)?;
            let step = best.step;
            format!("by the evaluations on record it is that after {step} steps")
        }
        None => {
            checkpoints.clear_best()?;
            "none is until the next evaluation".into()
        }
    };
    console.warn(format_args!(
        "{problem}; which checkpoint is the best cannot be read from it, and {now}"
    ));
    Ok(found)
}
