//! Charts as inline SVG whose colours follow the page: lines, bands of seeds, marks of events.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::plot::{extent, mean_line};

/// A bundle of lines of one name and colour: the seeds of an arm.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Bundle {
    pub(crate) name: String,
    /// Index of the colour.
    pub(crate) colour: usize,
    /// Drawn with gaps, to tell two quantities of one arm apart.
    pub(crate) dashed: bool,
    /// Drawn with a mark at every point, for quantities that are measured now and then.
    pub(crate) marks: bool,
    /// One line for each seed; points are (x, y), all finite, in the order of x.
    pub(crate) lines: Vec<Vec<(f64, f64)>>,
}

/// One chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What it shows and how to read it, in a sentence.
    pub(crate) note: String,
    pub(crate) legend: bool,
    pub(crate) bundles: Vec<Bundle>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;
/// More points than a screen has columns are joined.
const MAX_POINTS: usize = 240;

impl Chart {
    /// The chart as a figure of HTML; nothing when there is nothing to draw.
    pub(crate) fn html(&self) -> String {
        let points = || self.bundles.iter().flat_map(|b| &b.lines).flatten();
        let x = Axis::of(points().map(|p| p.0), LEFT, WIDTH - RIGHT, false);
        let y = Axis::of(points().map(|p| p.1), HEIGHT - BOTTOM, TOP, true);
        let (Some(x), Some(y)) = (x, y) else {
            return String::new();
        };
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        grid(&mut svg, &x, &y);
        for bundle in &self.bundles {
            draw(&mut svg, bundle, &x, &y);
        }
        svg.push_str("</svg>");
        let mut html = format!("<figure><figcaption>{}</figcaption>", escape(&self.title));
        if self.legend {
            html.push_str("<p class=\"legend\">");
            for bundle in &self.bundles {
                let (class, name) = (bundle.class(), escape(&bundle.name));
                let _ = write!(html, "<span><i class=\"{class}\"></i>{name}</span>");
            }
            html.push_str("</p>");
        }
        html.push_str(&svg);
        if !self.note.is_empty() {
            let _ = write!(html, "<p class=\"note\">{}</p>", escape(&self.note));
        }
        html.push_str("</figure>");
        html
    }
}

/// Colours that the style sheet has.
pub(crate) const COLOURS: usize = 6;

impl Bundle {
    /// Classes of its lines in the style sheet.
    fn class(&self) -> String {
        let dashed = if self.dashed { " dashed" } else { "" };
        format!("k{}{dashed}", self.colour % COLOURS)
    }
}

fn draw(svg: &mut String, bundle: &Bundle, x: &Axis, y: &Axis) {
    let (colour, class) = (bundle.colour % COLOURS, bundle.class());
    let mut path = |class: &str, points: &[(f64, f64)], end: &str| {
        let mut path = String::new();
        for (i, &(px, py)) in points.iter().enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", x.place(px), y.place(py));
        }
        let _ = write!(svg, "<path class=\"{class}\" d=\"{path}{end}\"/>");
    };
    let lines: Vec<Vec<(f64, f64)>> = bundle.lines.iter().map(|line| thin(line)).collect();
    let thin_class = format!("thin {class}");
    let main = if lines.len() > 1 {
        let band = band(&lines);
        if band.len() > 1 {
            let upper = band.iter().map(|&(px, _, high)| (px, high));
            let lower = band.iter().rev().map(|&(px, low, _)| (px, low));
            let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
            path(&format!("band k{colour}"), &outline, "Z");
        }
        lines.iter().for_each(|line| path(&thin_class, line, ""));
        smooth(&mean_line(&lines))
    } else {
        let line = lines.into_iter().next().unwrap_or_default();
        let smooth = smooth(&line);
        if smooth != line {
            path(&thin_class, &line, "");
        }
        smooth
    };
    path(&format!("line {class}"), &main, "");
    let name = escape(&bundle.name);
    for &(px, py) in main.iter().filter(|_| bundle.marks || main.len() == 1) {
        let (cx, cy, value, step) = (x.place(px), y.place(py), number(py), number(px));
        let _ = write!(
            svg,
            "<circle class=\"mark k{colour}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"><title>{name}: {value} at {step}</title></circle>"
        );
    }
}

fn grid(svg: &mut String, x: &Axis, y: &Axis) {
    let (end, name) = (WIDTH - RIGHT, LEFT - 6.0);
    for tick in y.ticks() {
        let (at, below, tick) = (y.place(tick), y.place(tick) + 4.0, number(tick));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{name}\" y=\"{below:.1}\" class=\"y\">{tick}</text>"
        );
    }
    x_ticks(svg, x, HEIGHT);
}

fn x_ticks(svg: &mut String, x: &Axis, height: f64) {
    for tick in x.ticks() {
        let (at, y, tick) = (x.place(tick), height - 6.0, number(tick));
        let _ = write!(
            svg,
            "<text x=\"{at:.1}\" y=\"{y}\" class=\"x\">{tick}</text>"
        );
    }
}

/// Marks of events along the steps, a row for each kind.
pub(crate) fn timeline(kinds: &BTreeMap<&str, Vec<f64>>, last: f64) -> String {
    const ROW: f64 = 22.0;
    const NAME: f64 = 170.0;
    const WIDE: f64 = WIDTH * 1.6;
    const END: f64 = WIDE - RIGHT;
    let Some(x) = Axis::of([0.0, last.max(1.0)].into_iter(), NAME, END, false) else {
        return String::new();
    };
    let height = ROW * kinds.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDE} {height}\" role=\"img\" aria-label=\"warnings by step\">"
    );
    for (i, (name, steps)) in kinds.iter().enumerate() {
        let (y, name) = (ROW * (i as f64 + 0.5), escape(name));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{NAME}\" x2=\"{END}\" y1=\"{y}\" y2=\"{y}\"/><text class=\"y\" x=\"{}\" y=\"{}\">{name}</text>",
            NAME - 8.0,
            y + 4.0
        );
        for &step in steps {
            let (at, top, bottom) = (x.place(step), y - 7.0, y + 7.0);
            let _ = write!(
                svg,
                "<line class=\"event\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"><title>{name} at step {step}</title></line>"
            );
        }
    }
    x_ticks(&mut svg, &x, height);
    svg.push_str("</svg>");
    svg
}

/// A scale from values to places.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, from: f64, to: f64, pad: bool) -> Option<Self> {
        let (low, high) = extent(values)?;
        let width = high - low;
        // A constant gets a range around it, so that its line is in the middle.
        let margin = match (width == 0.0, pad) {
            (true, _) if low == 0.0 => 1.0,
            (true, _) => 0.5 * low.abs(),
            (false, true) => 0.06 * width,
            (false, false) => 0.0,
        };
        Some(Self {
            low: low - margin,
            high: high + margin,
            from,
            to,
        })
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values, four to eight of them.
    fn ticks(&self) -> Vec<f64> {
        let raw = (self.high - self.low) / 5.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power);
        let step = step.clone().find(|s| *s >= raw).unwrap_or(power * 10.0);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

/// Joins neighbouring points until a line has few enough.
fn thin(line: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = line.len().div_ceil(MAX_POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
        (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
    };
    line.chunks(size).map(mean).collect()
}

/// Mean over a window of a fifteenth of a long line; a short one is left alone.
fn smooth(line: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = line.len() / 30;
    let at = |i: usize| {
        let window = &line[i.saturating_sub(half)..(i + half + 1).min(line.len())];
        let sum: f64 = window.iter().map(|p| p.1).sum();
        (line[i].0, sum / window.len() as f64)
    };
    (0..line.len()).map(at).collect()
}

/// The lowest and the highest value of the lines, at the x of the first line.
fn band(lines: &[Vec<(f64, f64)>]) -> Vec<(f64, f64, f64)> {
    let n = lines.iter().map(Vec::len).min().unwrap_or(0);
    let at = |i: usize| {
        let (low, high) = extent(lines.iter().map(|line| line[i].1))?;
        Some((lines[0][i].0, low, high))
    };
    (0..n).filter_map(at).collect()
}

/// A number with as many digits as it needs, at most three that count behind zeros.
pub(crate) fn number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        v if v > 0.0 && v < 1e-3 => return format!("{value:.1e}").replace(".0e", "e"),
        _ => (value, ""),
    };
    // 0.0125 and 0.013 are neighbours on an axis.
    let zeros = if scaled == 0.0 {
        0.0
    } else {
        -scaled.abs().log10().floor() - 1.0
    };
    let text = format!("{scaled:.*}", 3 + zeros.clamp(0.0, 2.0) as usize);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text == "-0" { "0" } else { text })
}

/// Text that HTML shows as it is.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // HTML has no way to write most control characters.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(lines: Vec<Vec<(f64, f64)>>) -> String {
        let bundle = Bundle {
            name: "a<b".into(),
            lines,
            ..Bundle::default()
        };
        Chart {
            title: "reward".into(),
            legend: true,
            bundles: vec![bundle.clone(), bundle],
            ..Chart::default()
        }
        .html()
    }

    #[test]
    fn one_line_is_a_line_and_seeds_have_a_band() {
        let line = Vec::from_iter((0..10).map(f64::from).map(|x| (x, 0.1 * x)));
        let single = chart(vec![line.clone()]);
        assert_eq!(single.matches("class=\"line k0\"").count(), 2);
        assert!(single.contains("a&lt;b") && !single.contains("a<b"));
        assert_eq!(single.matches("band").count(), 0);
        let seeds = chart(vec![line.clone(), line]);
        assert_eq!(seeds.matches("class=\"band k0\"").count(), 2);
        assert_eq!(chart(vec![]), "");
        assert!(!chart(vec![vec![(0.0, 0.5)]]).contains("NaN"));
    }

    #[test]
    fn long_lines_are_thinned_without_moving_their_mean() {
        let line = Vec::from_iter((0..4800).map(|i| (f64::from(i), f64::from(i % 2))));
        let thinned = thin(&line);
        assert_eq!(thinned.len(), 240);
        assert!(thinned.iter().all(|p| (p.1 - 0.5).abs() < 1e-12));
    }

    #[test]
    fn ticks_are_round_and_numbers_short() {
        let axis = Axis::of([0.0, 1.0].into_iter(), 0.0, 1.0, false).unwrap();
        let ticks: Vec<String> = axis.ticks().into_iter().map(number).collect();
        assert_eq!(ticks, ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        // A learning rate that stays stands in the middle of its own range.
        let axis = Axis::of([3e-6, 3e-6].into_iter(), 0.0, 1.0, true).unwrap();
        assert_eq!(
            [axis.low, axis.high, axis.place(3e-6)],
            [1.5e-6, 4.5e-6, 0.5]
        );
        let texts = [1.5e6, 12_000.0, 3e-7, -0.0001, 0.25, 0.0125, 0.013].map(number);
        assert_eq!(
            texts,
            ["1.5 M", "12 k", "3e-7", "-1e-4", "0.25", "0.0125", "0.013"]
        );
    }
}
