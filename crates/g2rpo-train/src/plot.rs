//! Curves as a picture.

use std::path::Path;

use plotters::prelude::*;

use crate::{Error, Result};

/// One curve, or a bundle of curves that share a colour and a name, such as the seeds of an arm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// One line per member; points are (x, y). Points that are not finite are left out.
    pub lines: Vec<Vec<(f64, f64)>>,
}

/// A panel of a picture: curves over the same axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    /// What the panel shows.
    pub title: String,
    /// What the horizontal axis counts.
    pub x_label: String,
    /// The curves.
    pub series: Vec<Series>,
}

/// Draws panels side by side as an SVG. Lines of a bundle are drawn thin, their mean thick. A panel
/// has a legend unless it has a single curve, or the same curves as the panel to its left.
///
/// # Errors
/// [`Error::Plot`] if the file cannot be drawn or written.
pub fn draw_svg(path: &Path, panels: &[Panel]) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg, panels).map_err(|problem| Error::Plot {
        path: path.into(),
        problem: problem.to_string(),
    })?;
    crate::run::files::write_atomically(path, svg.as_bytes())
}

const PANEL: (u32, u32) = (460, 330);
const COLOURS: [RGBColor; 8] = [
    RGBColor(90, 90, 90),
    RGBColor(214, 120, 20),
    RGBColor(150, 60, 150),
    RGBColor(40, 140, 70),
    RGBColor(30, 90, 190),
    RGBColor(190, 40, 40),
    RGBColor(0, 150, 170),
    RGBColor(150, 130, 0),
];

fn draw(svg: &mut String, panels: &[Panel]) -> Result<(), Box<dyn std::error::Error>> {
    let size = (PANEL.0 * panels.len().max(1) as u32, PANEL.1);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((1, panels.len().max(1)));
    for (i, (area, panel)) in areas.iter().zip(panels).enumerate() {
        let points = || {
            let lines = panel.series.iter().flat_map(|s| &s.lines);
            lines.flat_map(|line| finite(line))
        };
        let (x, y) = (span(points().map(|p| p.0)), span(points().map(|p| p.1)));
        let mut chart = ChartBuilder::on(area)
            .caption(&panel.title, ("sans-serif", 17))
            .margin(10)
            .x_label_area_size(34)
            .y_label_area_size(48)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        chart
            .configure_mesh()
            .x_desc(&panel.x_label)
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|x| tick(*x))
            .y_label_formatter(&|y| tick(*y))
            .draw()?;
        for (series, colour) in panel.series.iter().zip(COLOURS.iter().cycle()) {
            for line in series.lines.iter().filter(|_| series.lines.len() > 1) {
                chart.draw_series(LineSeries::new(finite(line), colour.mix(0.25)))?;
            }
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(finite(&mean_line(&series.lines)), style))?
                .label(&series.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], style));
        }
        if panel.series.len() < 2 || (i > 0 && names(panel).eq(names(&panels[i - 1]))) {
            continue;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }
    Ok(root.present()?)
}

fn finite(line: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    (line.iter().copied()).filter(|(x, y)| x.is_finite() && y.is_finite())
}

fn names(panel: &Panel) -> impl Iterator<Item = &str> {
    panel.series.iter().map(|s| s.name.as_str())
}

/// Pointwise mean of the lines as far as all of them reach; x is taken from the first.
pub(crate) fn mean_line(lines: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let n = lines.iter().map(Vec::len).min().unwrap_or(0);
    let mean = |i: usize| lines.iter().map(|l| l[i].1).sum::<f64>() / lines.len() as f64;
    (0..n).map(|i| (lines[0][i].0, mean(i))).collect()
}

/// A number at an axis: large ones in thousands or millions, none with more digits than it needs.
fn tick(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    // Six decimals hide what adding up a step of 0.1 leaves behind.
    let rounded = (scaled * 1e6).round() / 1e6;
    format!("{}{unit}", if rounded == 0.0 { 0.0 } else { rounded })
}

/// Smallest and largest value, if there is one and both are finite.
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    let found = values.fold(none, |(low, high), v| (low.min(v), high.max(v)));
    (found.0.is_finite() && found.1.is_finite()).then_some(found)
}

/// Smallest and largest value, widened where they coincide so that an axis exists.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let Some((low, high)) = extent(values) else {
        return (0.0, 1.0);
    };
    let pad = ((high - low) * 0.05).max(low.abs().max(1.0) * 1e-6);
    (low - pad, high + pad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_every_named_series() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("curves.svg");
        let series = |name: &str, lines| Series {
            name: name.into(),
            lines,
        };
        let panel = Panel {
            title: "accuracy".into(),
            x_label: "step".into(),
            series: vec![
                series("ratio", vec![vec![(0.0, 0.1), (1.0, f64::NAN)], vec![]]),
                series("target", vec![vec![(0.0, 0.1), (1.0, 0.4)]]),
                series("empty", vec![]),
            ],
        };
        draw_svg(&path, &[panel.clone(), panel]).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        for name in ["ratio", "target", "empty"] {
            assert_eq!(svg.matches(&format!("\n{name}\n")).count(), 1, "{svg}");
        }
        assert!(svg.contains("polyline"));
    }

    #[test]
    fn degenerate_axes_exist() {
        assert_eq!(span([].into_iter()), (0.0, 1.0));
        let (low, high) = span([3.0, 3.0].into_iter());
        assert!(low < 3.0 && high > 3.0);
    }

    #[test]
    fn ticks_are_short() {
        for (value, label) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.1 + 0.2, "0.3"),
            (2.5, "2.5"),
            (9000.0, "9000"),
            (150_000.0, "150 k"),
            (-2e6, "-2 M"),
        ] {
            assert_eq!(tick(value), label);
        }
    }

    #[test]
    fn mean_stops_where_a_line_stops() {
        let lines = [vec![(0.0, 1.0), (1.0, 2.0)], vec![(0.0, 3.0)]];
        assert_eq!(mean_line(&lines), [(0.0, 2.0)]);
    }
}
