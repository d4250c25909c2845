//! The page: charts with seeds overlaid, warnings, completions, and in what the recipes differ.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

use super::chart::{Bundle, COLOURS, Chart, escape, number, timeline};
use super::checks::check_run;
use super::record::RunRecord;
use crate::SampleRow;
use crate::recipe::settings::Recipe;
use crate::recipe::write::differences;

/// The report of runs as one self-contained page: it loads nothing and runs no script, follows the
/// light or dark of the reader's system, and is as wide as a telephone or a screen.
///
/// Runs whose recipes differ in seed, folder and name alone are drawn as one arm: thin lines, their
/// mean, and the band that they span.
///
/// ```
/// use g2rpo_train::run::report::page::render_report;
/// use g2rpo_train::run::report::record::RunRecord;
/// let html = render_report(&[RunRecord::default()]);
/// assert!(html.starts_with("<!doctype html>") && !html.contains("<script"));
/// ```
pub fn render_report(runs: &[RunRecord]) -> String {
    let arms = arms(runs);
    let mut html = String::from(HEAD);
    let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
    let _ = write!(
        html,
        "<title>{}</title></head><body>",
        escape(&names.join(", "))
    );
    let _ = write!(html, "<h1>{}</h1>", escape(&names.join(" · ")));
    summary(&mut html, &arms);
    html.push_str("<div class=\"charts\">");
    for chart in charts(&arms) {
        html.push_str(&chart.html());
    }
    html.push_str("</div>");
    warnings(&mut html, runs);
    completions(&mut html, runs);
    recipes(&mut html, &arms);
    html.push_str("</body></html>\n");
    html
}

/// Runs that differ in their seed alone.
struct Arm<'a> {
    name: String,
    runs: Vec<&'a RunRecord>,
}

fn arms(runs: &[RunRecord]) -> Vec<Arm<'_>> {
    let mut arms: Vec<(Option<Recipe>, Arm<'_>)> = Vec::new();
    for run in runs {
        let recipe = run.recipe.clone().map(|mut recipe| {
            let plain = Recipe::default();
            recipe.train.seed = plain.train.seed;
            recipe.save.output_dir = plain.save.output_dir;
            recipe.log.run_name = plain.log.run_name;
            recipe
        });
        match arms.iter_mut().find(|(r, _)| r.is_some() && *r == recipe) {
            Some((_, arm)) => arm.runs.push(run),
            None => arms.push((
                recipe,
                Arm {
                    name: run.name.clone(),
                    runs: vec![run],
                },
            )),
        }
    }
    arms.into_iter()
        .map(|(_, mut arm)| {
            if arm.runs.len() > 1 {
                let _ = write!(arm.name, " and {} other seeds", arm.runs.len() - 1);
            }
            arm
        })
        .collect()
}

fn summary(html: &mut String, arms: &[Arm<'_>]) {
    html.push_str("<div class=\"wide\"><table><tr><th>run</th><th>steps</th><th>reward, first and last tenth</th><th>evaluation, first and last</th><th>what went wrong</th></tr>");
    for (i, arm) in arms.iter().enumerate() {
        for run in &arm.runs {
            let reward = run.series("reward");
            let tenth = reward.len().div_ceil(10);
            let mean = |part: &[(f64, f64)]| {
                let sum: f64 = part.iter().map(|p| p.1).sum();
                if part.is_empty() {
                    "–".into()
                } else {
                    number(sum / part.len() as f64)
                }
            };
            let evaluations: Vec<String> = (accuracies(run).into_iter())
                .filter_map(|(set, metric)| {
                    let series = run.series(&metric);
                    let (first, last) = (series.first()?.1, series.last()?.1);
                    Some(format!("{set}: {} → {}", number(first), number(last)))
                })
                .collect();
            let mut faults: Vec<String> = (check_run(run).into_iter())
                .map(|fault| format!("<b>{}</b>: {}", fault.name, escape(&fault.text)))
                .collect();
            let warned: BTreeSet<&str> = run.warnings.iter().map(|w| w.name.as_str()).collect();
            if !warned.is_empty() {
                let names: Vec<&str> = warned.into_iter().collect();
                faults.push(format!(
                    "warned of {}, see below",
                    escape(&names.join(", "))
                ));
            }
            let _ = write!(
                html,
                "<tr><td><i class=\"k{}\"></i>{}</td><td>{}</td><td>{} → {}</td><td>{}</td><td>{}</td></tr>",
                i % COLOURS,
                escape(&run.name),
                run.steps(),
                mean(&reward[..tenth]),
                mean(&reward[reward.len() - tenth..]),
                escape(&evaluations.join("; ")),
                if faults.is_empty() {
                    "nothing".into()
                } else {
                    faults.join("<br>")
                },
            );
        }
    }
    html.push_str("</table></div>");
}

/// Evaluation sets of a run and the metric of each.
fn accuracies(run: &RunRecord) -> Vec<(String, String)> {
    let accuracy = |metric: &&str| metric.ends_with("/accuracy");
    let set = |metric: &str| {
        let inner = metric
            .trim_start_matches("eval/")
            .trim_end_matches("/accuracy");
        (inner.to_owned(), metric.to_owned())
    };
    run.metrics("eval/")
        .into_iter()
        .filter(accuracy)
        .map(set)
        .collect()
}

fn charts(arms: &[Arm<'_>]) -> Vec<Chart> {
    let mut charts = Vec::new();
    let mut sets = Vec::new();
    for set in arms
        .iter()
        .flat_map(|arm| &arm.runs)
        .flat_map(|run| accuracies(run))
    {
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    for (set, metric) in sets {
        let mut chart = chart(
            arms,
            &format!("accuracy on {set}, without guidance"),
            "",
            &[(&metric, "")],
        );
        chart
            .bundles
            .iter_mut()
            .for_each(|bundle| bundle.marks = true);
        charts.push(chart);
    }
    charts.push(chart(
        arms,
        "reward",
        "Mean over all completions of a step, guided ones among them.",
        &[("reward", "")],
    ));
    charts.push(chart(
        arms,
        "reward of guided and unguided members",
        "The gap is what guidance gives; what counts in the end is the unguided line.",
        &[
            ("guidance/reward_guided", "guided"),
            ("guidance/reward_unguided", "unguided"),
        ],
    ));
    for (title, note, metric) in [
        (
            "guidance length",
            "In the controller's unit.",
            "guidance/length",
        ),
        (
            "guidance tokens of a guided member",
            "After all cuts.",
            "guidance/tokens",
        ),
        (
            "completions in groups of equal rewards",
            "They teach nothing: 1 is a step without a gradient.",
            "frac_reward_zero_std",
        ),
        (
            "length of what the policy writes",
            "In tokens, guidance not counted.",
            "completions/own_length",
        ),
        (
            "completions cut off by the limit",
            "",
            "completions/clipped_ratio",
        ),
        ("entropy", "In nats a token.", "entropy"),
        ("KL to the reference", "", "kl"),
        (
            "loss",
            "Near 0 by construction where advantages are centred and each batch is used once.",
            "loss",
        ),
        ("norm of the gradient", "", "grad_norm"),
        ("learning rate", "", "learning_rate"),
        ("seconds a step", "", "step_time"),
    ] {
        charts.push(chart(arms, title, note, &[(metric, "")]));
    }
    charts
}

/// A chart of one metric or of two that belong together.
fn chart(arms: &[Arm<'_>], title: &str, note: &str, metrics: &[(&str, &str)]) -> Chart {
    let mut bundles = Vec::new();
    for (colour, arm) in arms.iter().enumerate() {
        for (i, (metric, suffix)) in metrics.iter().enumerate() {
            let lines = arm.runs.iter().map(|run| run.series(metric));
            let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
            if lines.is_empty() {
                continue;
            }
            let name = match (arms.len(), *suffix) {
                (_, "") => arm.name.clone(),
                (1, suffix) => suffix.to_owned(),
                (_, suffix) => format!("{}, {suffix}", arm.name),
            };
            bundles.push(Bundle {
                name,
                colour: if arms.len() == 1 { i } else { colour },
                dashed: arms.len() > 1 && i > 0,
                marks: false,
                lines,
            });
        }
    }
    Chart {
        legend: arms.len() > 1 || bundles.len() > 1,
        title: title.into(),
        note: note.into(),
        bundles,
    }
}

fn warnings(html: &mut String, runs: &[RunRecord]) {
    for run in runs.iter().filter(|run| !run.warnings.is_empty()) {
        let mut kinds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for warning in &run.warnings {
            kinds
                .entry(&warning.name)
                .or_default()
                .push(warning.step as f64);
        }
        let _ = write!(
            html,
            "<h2>Warnings: {}</h2><div class=\"wide\">",
            escape(&run.name)
        );
        let rows: Vec<(String, Vec<f64>)> = kinds
            .into_iter()
            .map(|(name, steps)| (name.to_owned(), steps))
            .collect();
        html.push_str(&timeline(&rows, run.steps() as f64));
        html.push_str("</div><details><summary>What they say</summary><dl>");
        let mut told = HashSet::new();
        for warning in run.warnings.iter().filter(|w| told.insert(&w.name)) {
            let _ = write!(
                html,
                "<dt>{}, first at step {}</dt><dd>{}</dd>",
                escape(&warning.name),
                warning.step,
                escape(&warning.text)
            );
        }
        html.push_str("</dl></details>");
    }
}

fn completions(html: &mut String, runs: &[RunRecord]) {
    const SHOWN: usize = 3;
    for run in runs {
        // The last steps that samples were kept of.
        let mut steps: Vec<u64> = run.samples.iter().map(|s| s.step).collect();
        steps.dedup();
        let first = steps.len().saturating_sub(3);
        let Some(from) = steps.get(first) else {
            continue;
        };
        let mut late: Vec<&SampleRow> = run.samples.iter().filter(|s| s.step >= *from).collect();
        late.sort_by(|a, b| {
            let reward = |s: &SampleRow| s.reward.unwrap_or(0.0);
            reward(b).total_cmp(&reward(a))
        });
        let worst = late.len().saturating_sub(SHOWN).max(SHOWN.min(late.len()));
        let _ = write!(html, "<h2>Completions: {}</h2>", escape(&run.name));
        for (title, part) in [
            ("Best", &late[..SHOWN.min(late.len())]),
            ("Worst", &late[worst..]),
        ] {
            if part.is_empty() {
                continue;
            }
            let _ = write!(html, "<h3>{title}</h3>");
            for sample in part {
                completion(html, sample);
            }
        }
    }
    if runs.iter().any(|run| !run.samples.is_empty()) {
        html.push_str("<p class=\"note\"><mark>Marked</mark> is guidance; the rest is what the policy wrote.</p>");
    }
}

fn completion(html: &mut String, sample: &SampleRow) {
    let reward = sample.reward.map_or("masked".into(), number);
    let _ = write!(
        html,
        "<article><header>step {}, task {} · reward {reward} · {} · reference {}</header><pre class=\"question\">{}",
        sample.step,
        sample.task,
        escape(&sample.verdict),
        escape(&short(&sample.reference)),
        escape(&sample.question)
    );
    if !sample.hint.is_empty() {
        let _ = write!(html, "\n<mark>{}</mark>", escape(&sample.hint));
    }
    let _ = write!(html, "</pre><pre>");
    if !sample.guidance.is_empty() {
        let _ = write!(html, "<mark>{}</mark>", escape(&sample.guidance));
    }
    let _ = write!(html, "{}</pre></article>", escape(&sample.completion));
}

/// The start of a text; references of code are whole test suites.
fn short(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn recipes(html: &mut String, arms: &[Arm<'_>]) {
    let recipes: Vec<(&str, &Recipe)> = (arms.iter())
        .filter_map(|arm| Some((arm.name.as_str(), arm.runs[0].recipe.as_ref()?)))
        .collect();
    let Some((_, first)) = recipes.first() else {
        return;
    };
    if recipes.len() < 2 {
        html.push_str("<h2>Settings that are not the defaults</h2><div class=\"wide\"><table>");
        for (key, default, value) in differences(&Recipe::default(), first) {
            let _ = write!(
                html,
                "<tr><td>{key}</td><td>{}</td><td class=\"note\">default {}</td></tr>",
                escape(&value),
                escape(&default)
            );
        }
        html.push_str("</table></div>");
        return;
    }
    let mut keys = Vec::new();
    let against: Vec<Vec<(String, String, String)>> = recipes
        .iter()
        .map(|(_, recipe)| differences(first, recipe))
        .collect();
    for (key, value, _) in against.iter().flatten() {
        let name = (key.clone(), value.clone());
        if !keys.contains(&name) {
            keys.push(name);
        }
    }
    html.push_str("<h2>In what the recipes differ</h2><div class=\"wide\"><table><tr><th></th>");
    for (name, _) in &recipes {
        let _ = write!(html, "<th>{}</th>", escape(name));
    }
    html.push_str("</tr>");
    for (key, of_first) in keys {
        let _ = write!(html, "<tr><td>{key}</td>");
        for different in &against {
            let value = different
                .iter()
                .find(|d| d.0 == key)
                .map_or(&of_first, |d| &d.2);
            let _ = write!(html, "<td>{}</td>", escape(value));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
}

/// The colours are Okabe and Ito's, which people of all eyesights tell apart.
const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1f; --soft: #61616b; --rule: #e3e3e8; --mark: #fff0b8;
  --k0: #0072b2; --k1: #d55e00; --k2: #009e73; --k3: #b3528c; --k4: #8a6d00; --k5: #3f8fbf; }
@media (prefers-color-scheme: dark) { :root { --paper: #16171b; --ink: #e8e8ec; --soft: #9c9ca8; --rule: #303138; --mark: #5a4b12;
  --k0: #56b4e9; --k1: #f0883e; --k2: #2dc796; --k3: #e28abf; --k4: #e0c53a; --k5: #9ecbe6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 16px; max-width: 1240px; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 28px 0 8px; overflow-wrap: anywhere; } h3 { font-size: .95rem; margin: 16px 0 4px; color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { text-align: left; vertical-align: top; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--rule); overflow-wrap: break-word; max-width: 34em; } td:first-child { white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } @media (max-width: 480px) { th, td { padding-right: 8px; font-size: 12px; } }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); gap: 20px 28px; margin-top: 24px; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; } svg { display: block; width: 100%; height: auto; } svg.timeline { min-width: 560px; max-width: 780px; }
svg text { font-size: 12px; fill: var(--soft); } text.y { text-anchor: end; } text.x { text-anchor: middle; }
.grid { stroke: var(--rule); } .event { stroke: var(--k1); stroke-width: 2; }
.note { color: var(--soft); font-size: .85rem; margin: 2px 0; } .legend { margin: 2px 0; font-size: .85rem; } .legend span { margin-right: 14px; }
i { display: inline-block; width: 14px; height: 0; margin-right: 6px; vertical-align: middle; border-top: 3px solid var(--k0); } i.dashed { border-top-style: dashed; }
path { fill: none; } .line { stroke-width: 2; } .thin { stroke-width: 1; opacity: .35; } .band { opacity: .15; stroke: none; } path.dashed { stroke-dasharray: 6 4; }
path.k0 { stroke: var(--k0); } path.k1 { stroke: var(--k1); } path.k2 { stroke: var(--k2); } path.k3 { stroke: var(--k3); } path.k4 { stroke: var(--k4); } path.k5 { stroke: var(--k5); }
.band.k0, .mark.k0 { fill: var(--k0); } .band.k1, .mark.k1 { fill: var(--k1); } .band.k2, .mark.k2 { fill: var(--k2); } .band.k3, .mark.k3 { fill: var(--k3); } .band.k4, .mark.k4 { fill: var(--k4); } .band.k5, .mark.k5 { fill: var(--k5); }
i.k1 { border-color: var(--k1); } i.k2 { border-color: var(--k2); } i.k3 { border-color: var(--k3); } i.k4 { border-color: var(--k4); } i.k5 { border-color: var(--k5); }
article { border: 1px solid var(--rule); border-radius: 6px; margin: 8px 0; padding: 8px 12px; } article header { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
pre { margin: 6px 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.4 ui-monospace, monospace; max-height: 22em; overflow-y: auto; } pre.question { color: var(--soft); }
mark { background: var(--mark); color: inherit; } dt { font-weight: 600; } dd { margin: 0 0 8px 16px; }
</style>
"#;
