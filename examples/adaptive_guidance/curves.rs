//! Draws mean guidance length and mean accuracy over the steps.

use std::path::Path;

use anyhow::Result;
use g2rpo::train::{Panel, Series, draw_svg};

use crate::train::{Arm, Run};

/// The arms that are drawn, the others would only hide them.
const DRAWN: [&str; 7] = [
    "fixed 1/2",
    "linear 1 → 0",
    "ratio, paper",
    "ratio, released",
    "target 1/2",
    "target 1/2, α=1/2",
    "bisection (AdaBack), α=1",
];

/// Two panels for each start: guidance length and accuracy.
pub(crate) fn draw(path: &Path, arms: &[Arm], starts: &[(&str, Vec<Vec<Run>>)]) -> Result<()> {
    let mut panels = Vec::new();
    for (title, runs) in starts {
        let panel = |what: &str, curve: fn(&Run) -> &Vec<f64>| Panel {
            title: format!("{title}: {what}"),
            x_label: "step".into(),
            series: (arms.iter().zip(runs))
                .filter(|(arm, _)| DRAWN.contains(&arm.name))
                .map(|(arm, runs)| Series {
                    name: arm.name.into(),
                    lines: vec![mean(runs.iter().map(curve))],
                })
                .collect(),
        };
        panels.push(panel("guidance tokens", |run| &run.length));
        panels.push(panel("unguided accuracy", |run| &run.accuracy));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(draw_svg(path, &panels)?)
}

/// Mean of curves of equal length; a point every other step is all that can be seen.
fn mean<'r>(curves: impl ExactSizeIterator<Item = &'r Vec<f64>> + Clone) -> Vec<(f64, f64)> {
    let n = curves.len() as f64;
    let steps = curves.clone().map(Vec::len).min().unwrap_or(0);
    let at = |step: usize| curves.clone().map(|curve| curve[step]).sum::<f64>() / n;
    (0..steps)
        .step_by(2)
        .map(|step| (step as f64, at(step)))
        .collect()
}
