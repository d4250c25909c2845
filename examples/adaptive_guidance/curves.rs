//! Draws mean guidance length and mean accuracy over the steps.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::lock::LENGTH;
use crate::train::{Arm, Run};

/// The arms that are drawn, the others would only hide them.
const DRAWN: [(&str, RGBColor); 7] = [
    ("fixed 1/2", RGBColor(130, 130, 130)),
    ("linear 1 → 0", RGBColor(0, 114, 178)),
    ("ratio, paper", RGBColor(213, 94, 0)),
    ("ratio, released", RGBColor(230, 159, 0)),
    ("target 1/2", RGBColor(0, 158, 115)),
    ("target 1/2, α=1/2", RGBColor(86, 180, 233)),
    ("bisection (AdaBack), α=1", RGBColor(204, 121, 167)),
];

/// One column per panel: length above, accuracy below.
pub(crate) fn draw(path: &Path, arms: &[Arm], panels: &[(&str, Vec<Vec<Run>>)]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let size = (480 * panels.len() as u32, 640);
    let root = SVGBackend::new(path, size).into_drawing_area();
    let fail = |e: &dyn std::fmt::Display| anyhow!("drawing {}: {e}", path.display());
    root.fill(&WHITE).map_err(|e| fail(&e))?;
    let areas = root.split_evenly((2, panels.len()));
    for (column, (title, runs)) in panels.iter().enumerate() {
        let cells = [
            (
                &areas[column],
                format!("{title}: guidance tokens"),
                LENGTH as f64,
            ),
            (
                &areas[panels.len() + column],
                format!("{title}: unguided accuracy"),
                1.0,
            ),
        ];
        for (row, (area, caption, top)) in cells.into_iter().enumerate() {
            let series = |arm: usize| -> Vec<f64> {
                let curve = |run: &Run| {
                    if row == 0 {
                        run.length.clone()
                    } else {
                        run.accuracy.clone()
                    }
                };
                mean(runs[arm].iter().map(curve))
            };
            draw_cell(area, &caption, top, arms, &series, row == 1 && column == 0)
                .map_err(|e| fail(&e))?;
        }
    }
    root.present().map_err(|e| fail(&e))?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_cell(
    area: &Area<'_>,
    caption: &str,
    top: f64,
    arms: &[Arm],
    series: &dyn Fn(usize) -> Vec<f64>,
    legend: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let drawn: Vec<(&str, RGBColor, Vec<f64>)> = (DRAWN.iter())
        .filter_map(|(name, color)| {
            let arm = arms.iter().position(|arm| arm.name == *name)?;
            Some((*name, *color, series(arm)))
        })
        .collect();
    let steps = drawn.iter().map(|d| d.2.len()).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(36)
        .build_cartesian_2d(0..steps, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("step")
        .draw()?;
    for (name, color, values) in drawn {
        let style = color.stroke_width(2);
        // A point every other pixel is all that can be seen.
        let points = values.into_iter().enumerate().step_by(2);
        let line = chart.draw_series(LineSeries::new(points, style))?;
        line.label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    if legend {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK)
            .draw()?;
    }
    Ok(())
}

/// Mean of curves of equal length, step by step.
fn mean(curves: impl ExactSizeIterator<Item = Vec<f64>>) -> Vec<f64> {
    let n = curves.len() as f64;
    let mut sum: Vec<f64> = Vec::new();
    for curve in curves {
        sum.resize(curve.len(), 0.0);
        sum.iter_mut().zip(curve).for_each(|(s, x)| *s += x / n);
    }
    sum
}
