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
    let names: Vec<String> = arms.iter().map(|arm| escape(&arm.name)).collect();
    let _ = write!(html, "<title>{}</title></head><body>", names.join(", "));
    let _ = write!(html, "<h1>{}</h1>", names.join(" · "));
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
            None => {
                let (name, runs) = (run.name.clone(), vec![run]);
                arms.push((recipe, Arm { name, runs }));
            }
        }
    }
    let mut arms: Vec<Arm<'_>> = arms.into_iter().map(|(_, arm)| arm).collect();
    for arm in arms.iter_mut().filter(|arm| arm.runs.len() > 1) {
        let _ = write!(arm.name, " and {} other seeds", arm.runs.len() - 1);
    }
    arms
}

fn summary(html: &mut String, arms: &[Arm<'_>]) {
    html.push_str("<div class=\"wide\"><table><tr><th>run</th><th>steps</th><th>reward, first and last tenth</th><th>evaluation, first and last</th><th>what went wrong</th></tr>");
    for (i, arm) in arms.iter().enumerate() {
        for run in &arm.runs {
            let reward = run.series("reward");
            let tenth = reward.len().div_ceil(10);
            let mean = |part: &[(f64, f64)]| {
                let sum: f64 = part.iter().map(|p| p.1).sum();
                match part.len() {
                    0 => "–".into(),
                    n => number(sum / n as f64),
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
                let names = Vec::from_iter(warned).join(", ");
                faults.push(format!("warned of {}, see below", escape(&names)));
            }
            if faults.is_empty() {
                faults.push("nothing".into());
            }
            let (colour, name, steps) = (i % COLOURS, escape(&run.name), run.steps());
            let (first, last) = (
                mean(&reward[..tenth]),
                mean(&reward[reward.len() - tenth..]),
            );
            let (evaluations, faults) = (escape(&evaluations.join("; ")), faults.join("<br>"));
            let _ = write!(
                html,
                "<tr><td><i class=\"k{colour}\"></i>{name}</td><td>{steps}</td><td>{first} → {last}</td><td>{evaluations}</td><td>{faults}</td></tr>"
            );
        }
    }
    html.push_str("</table></div>");
}

/// Evaluation sets of a run and the metric of each.
fn accuracies(run: &RunRecord) -> Vec<(String, String)> {
    let set = |metric: &str| {
        let set = metric["eval/".len()..].strip_suffix("/accuracy")?;
        Some((set.to_owned(), metric.to_owned()))
    };
    run.metrics("eval/").into_iter().filter_map(set).collect()
}

fn charts(arms: &[Arm<'_>]) -> Vec<Chart> {
    let mut charts = Vec::new();
    let mut known = HashSet::new();
    let runs = arms.iter().flat_map(|arm| &arm.runs);
    for (set, metric) in runs.flat_map(|run| accuracies(run)) {
        if known.insert(metric.clone()) {
            let title = format!("accuracy on {set}, without guidance");
            let mut chart = chart(arms, &title, "", &[(&metric, "")]);
            chart.bundles.iter_mut().for_each(|b| b.marks = true);
            charts.push(chart);
        }
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
            let steps = kinds.entry(&warning.name).or_default();
            steps.push(warning.step as f64);
        }
        let name = escape(&run.name);
        let _ = write!(html, "<h2>Warnings: {name}</h2><div class=\"wide\">");
        html.push_str(&timeline(&kinds, run.steps() as f64));
        html.push_str("</div><details><summary>What they say</summary><dl>");
        let mut told = HashSet::new();
        for warning in run.warnings.iter().filter(|w| told.insert(&w.name)) {
            let (name, step, text) = (escape(&warning.name), warning.step, escape(&warning.text));
            let _ = write!(html, "<dt>{name}, first at step {step}</dt><dd>{text}</dd>");
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
        let reward = |s: &SampleRow| s.reward.unwrap_or(0.0);
        late.sort_by(|a, b| reward(b).total_cmp(&reward(a)));
        let worst = late.len().saturating_sub(SHOWN).max(SHOWN.min(late.len()));
        let _ = write!(html, "<h2>Completions: {}</h2>", escape(&run.name));
        let best = &late[..SHOWN.min(late.len())];
        for (title, part) in [("Best", best), ("Worst", &late[worst..])] {
            if !part.is_empty() {
                let _ = write!(html, "<h3>{title}</h3>");
            }
            part.iter().for_each(|sample| completion(html, sample));
        }
    }
    if runs.iter().any(|run| !run.samples.is_empty()) {
        html.push_str("<p class=\"note\"><mark>Marked</mark> is guidance; the rest is what the policy wrote.</p>");
    }
}

fn completion(html: &mut String, sample: &SampleRow) {
    let reward = sample.reward.map_or("masked".into(), number);
    let (step, task, verdict) = (sample.step, sample.task, escape(&sample.verdict));
    let (reference, question) = (escape(&short(&sample.reference)), escape(&sample.question));
    let _ = write!(
        html,
        "<article><header>step {step}, task {task} · reward {reward} · {verdict} · reference {reference}</header><pre class=\"question\">{question}"
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
            let (value, default) = (escape(&value), escape(&default));
            let _ = write!(
                html,
                "<tr><td>{key}</td><td>{value}</td><td class=\"note\">default {default}</td></tr>"
            );
        }
        html.push_str("</table></div>");
        return;
    }
    let against = recipes.iter().map(|(_, recipe)| differences(first, recipe));
    let against: Vec<Vec<(String, String, String)>> = against.collect();
    html.push_str("<h2>In what the recipes differ</h2><div class=\"wide\"><table><tr><th></th>");
    for (name, _) in &recipes {
        let _ = write!(html, "<th>{}</th>", escape(name));
    }
    html.push_str("</tr>");
    let mut told = HashSet::new();
    for (key, of_first, _) in (against.iter().flatten()).filter(|d| told.insert(&d.0)) {
        let _ = write!(html, "<tr><td>{key}</td>");
        for different in &against {
            let value = different.iter().find(|d| d.0 == *key);
            let value = value.map_or(of_first, |d| &d.2);
            let _ = write!(html, "<td>{}</td>", escape(value));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
}

/// The colours are Okabe and Ito's, which people of all eyesights tell apart.
const HEAD: &str = include_str!("head.html");
