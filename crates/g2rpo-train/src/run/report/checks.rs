//! What a run's own telemetry says went wrong.

use serde::Serialize;

use super::record::RunRecord;
use crate::MetricsRow;

/// Something that went wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Its name, for scripts.
    pub name: &'static str,
    /// What was seen, with numbers.
    pub text: String,
}

/// Everything that the telemetry of a run says went wrong; empty for a sound run.
///
/// | name | what |
/// |---|---|
/// | `missing_rows` | steps without a row, or no row at all |
/// | `unfinished` | fewer steps than the recipe wants |
/// | `not_finite` | a loss or a gradient that is not a number |
/// | `no_gradient` | more than half of the steps taught nothing |
/// | `reward_collapse` | the reward ends below half of its best |
/// | `entropy_collapse` | the entropy ends below a tenth of its start |
/// | `evaluation_below_start` | an evaluation ends more than a standard error below its start |
/// | `truncated` | more than half of the completions at the end are cut off |
/// | `masked` | more than a fifth of the completions at the end have no verdict |
pub fn check_run(run: &RunRecord) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |name, text: Option<String>| {
        faults.extend(text.map(|text| Fault { name, text }));
    };
    add("missing_rows", missing_rows(run));
    add("unfinished", unfinished(run));
    add("not_finite", not_finite(run));
    add("no_gradient", no_gradient(run));
    add("reward_collapse", reward_collapse(run));
    add("entropy_collapse", entropy_collapse(run));
    for metric in run.metrics("eval/") {
        if let Some(set) = metric["eval/".len()..].strip_suffix("/accuracy") {
            add("evaluation_below_start", below_start(run, set));
        }
    }
    for (name, metric, most) in [
        ("truncated", "completions/clipped_ratio", 0.5),
        ("masked", "masked", 0.2),
    ] {
        let end = end(&run.series(metric));
        let text = end.filter(|share| *share > most).map(|share| {
            let (share, most) = (100.0 * share, 100.0 * most);
            format!("{metric} is {share:.0} % at the end, more than {most:.0} %")
        });
        add(name, text);
    }
    faults
}

fn missing_rows(run: &RunRecord) -> Option<String> {
    let steps: Vec<u64> = run.rows.iter().map(|row| row.step()).collect();
    let Some(first) = steps.first() else {
        return Some("metrics.jsonl holds no row".into());
    };
    let gaps = steps.windows(2).filter(|w| w[1] > w[0] + 1 || w[1] < w[0]);
    let mut gaps: Vec<String> = gaps
        .map(|w| format!("{} is followed by {}", w[0], w[1]))
        .collect();
    if *first > 0 {
        gaps.insert(0, format!("the first row is that of step {first}"));
    }
    (!gaps.is_empty()).then(|| gaps.join("; "))
}

fn unfinished(run: &RunRecord) -> Option<String> {
    let wanted = run.recipe.as_ref()?.train.max_steps?;
    let stopped = run.recipe.as_ref()?.train.early_stopping_patience.is_some();
    let steps = run.steps();
    (steps < wanted && !stopped).then(|| format!("{steps} of {wanted} steps are on record"))
}

fn not_finite(run: &RunRecord) -> Option<String> {
    run.rows.iter().find_map(|row| {
        let bad = |name: &&str| row.get(name).is_some_and(|v| !v.is_finite());
        let name = ["loss", "grad_norm"].into_iter().find(bad)?;
        Some(format!("{name} is not a number at step {}", row.step()))
    })
}

fn no_gradient(run: &RunRecord) -> Option<String> {
    let trained = || run.rows.iter().filter(|row| row.get("reward").is_some());
    let learns = |row: &&MetricsRow| row.get("grad_norm").is_some_and(|norm| norm > 0.0);
    let n = trained().count();
    let idle = n - trained().filter(learns).count();
    (2 * idle > n).then(|| {
        format!("{idle} of {n} steps had no gradient: in their groups all rewards were the same")
    })
}

fn reward_collapse(run: &RunRecord) -> Option<String> {
    let rewards = run.series("reward");
    let window = (rewards.len() / 10).max(1);
    let best = (rewards.windows(window))
        .map(|w| w.iter().map(|p| p.1).sum::<f64>() / window as f64)
        .fold(f64::NEG_INFINITY, f64::max);
    let end = end(&rewards)?;
    // Below that the best is noise.
    (rewards.len() >= 10 && best >= 0.1 && end < 0.5 * best)
        .then(|| format!("the reward ends at {end:.3}, after {best:.3} at its best"))
}

fn entropy_collapse(run: &RunRecord) -> Option<String> {
    let entropy = run.series("entropy");
    let start = end(&entropy.iter().rev().copied().collect::<Vec<_>>())?;
    let end = end(&entropy)?;
    (entropy.len() >= 10 && start > 0.0 && end < 0.1 * start).then(|| {
        format!("the entropy ends at {end:.4} nats a token, after {start:.4} at the start")
    })
}

fn below_start(run: &RunRecord, set: &str) -> Option<String> {
    let accuracy = run.series(&format!("eval/{set}/accuracy"));
    let (first, last) = (accuracy.first()?.1, accuracy.last()?.1);
    let problems = run.series(&format!("eval/{set}/problems"));
    let error = (problems.last()).map_or(0.0, |(_, n)| (first * (1.0 - first) / n.max(1.0)).sqrt());
    (last < first - error)
        .then(|| format!("accuracy on {set} ends at {last:.3}, after {first:.3} at the start"))
}

/// Mean of the last tenth.
fn end(series: &[(f64, f64)]) -> Option<f64> {
    let n = series.len().div_ceil(10);
    let last = &series[series.len() - n..];
    (n > 0).then(|| last.iter().map(|p| p.1).sum::<f64>() / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::settings::Recipe;

    /// A run of so many steps in which all is well but for one metric: `before`, and `after` from a step on.
    fn run(n: u64, metric: &str, before: f64, after: f64, from: u64) -> RunRecord {
        let row = |step| {
            let mut row = MetricsRow::new(step);
            row.extend([
                ("reward", 0.5),
                ("grad_norm", 1.0),
                ("loss", 0.1),
                ("entropy", 1.0),
                ("eval/test/problems", 100.0),
            ]);
            row.put(metric, if step < from { before } else { after });
            row
        };
        RunRecord {
            rows: (0..n).map(row).collect(),
            ..RunRecord::default()
        }
    }

    fn sound(n: u64) -> RunRecord {
        run(n, "eval/test/accuracy", 0.2, 0.9, 10)
    }

    fn names(run: &RunRecord) -> Vec<&'static str> {
        check_run(run).into_iter().map(|fault| fault.name).collect()
    }

    #[test]
    fn a_sound_run_has_no_fault_and_noise_of_an_evaluation_is_none() {
        assert!(names(&sound(20)).is_empty());
        assert!(names(&run(20, "eval/test/accuracy", 0.5, 0.47, 19)).is_empty());
    }

    #[test]
    fn every_fault_is_found_by_its_numbers() {
        assert_eq!(names(&sound(0)), ["missing_rows"]);
        for (name, metric, before, after, from) in [
            ("not_finite", "loss", 0.1, f64::NAN, 7),
            ("no_gradient", "grad_norm", 0.0, 1.0, 11),
            ("reward_collapse", "reward", 0.6, 0.1, 15),
            ("entropy_collapse", "entropy", 1.0, 0.01, 15),
            ("truncated", "completions/clipped_ratio", 0.1, 0.9, 15),
            ("masked", "masked", 0.0, 0.3, 15),
            ("evaluation_below_start", "eval/test/accuracy", 0.5, 0.3, 15),
        ] {
            assert_eq!(names(&run(20, metric, before, after, from)), [name]);
        }
        let mut gap = sound(20);
        gap.rows.remove(5);
        gap.rows.remove(0);
        let told = "the first row is that of step 1; 4 is followed by 6";
        assert_eq!(check_run(&gap)[0].text, told);
    }

    #[test]
    fn a_run_that_ended_early_is_unfinished_unless_it_was_to_stop() {
        let mut recipe = Recipe::default();
        recipe.train.max_steps = Some(30);
        let mut run = sound(20);
        run.recipe = Some(recipe);
        assert_eq!(names(&run), ["unfinished"]);
        run.recipe.as_mut().unwrap().train.early_stopping_patience = Some(2);
        assert!(names(&run).is_empty());
    }
}
