//! RLSD and RLCSD: what each token is paid, from the published formulas and what the policy said
//! under the hints.

use std::sync::Arc;

use g2rpo_core::WhichPolicy;
use g2rpo_guidance::Method;
use g2rpo_rollout::{Shared, TabularPolicy};
use g2rpo_train::StepReport;

use crate::methods::script;
use crate::probe::{Log, Probe, Run, SOLUTION, VOCAB, dataset, is_right, run, tasks};

/// Log-probabilities of a step's rows under prompts that end with the hint that `hint` gives a row;
/// `None` where the row has no such hint.
fn under(
    log: &Log,
    n_rows: usize,
    hint: &dyn Fn(usize) -> Option<String>,
) -> Option<Vec<Option<Vec<f64>>>> {
    let fits = |row: usize, prompt: &[u32]| {
        let prompt: String = prompt.iter().map(|&id| char::from(id as u8)).collect();
        let given = prompt.split_once("begins like this:\n").map(|(_, h)| h);
        given == hint(row).as_deref()
    };
    let pass = log.scored.iter().find(|pass| {
        let prompts = (pass.sequences.tokens().rows()).zip(pass.sequences.prompt_lens());
        pass.policy == WhichPolicy::Current
            && pass.sequences.n_rows() == n_rows
            && (prompts.enumerate()).all(|(row, (ids, &n))| fits(row, &ids[..n]))
    })?;
    let rows = pass.logp.rows().enumerate();
    Some(
        rows.map(|(row, logp)| hint(row).map(|_| logp.to_vec()))
            .collect(),
    )
}

/// The k-th sibling's answer that was right or wrong.
fn sibling(report: &StepReport, row: usize, right: bool, k: usize) -> Option<String> {
    let (group, member) = report.rows.members[row];
    let grades = report.groups[group].grades.iter().enumerate();
    let of_kind = grades.filter(|(m, g)| *m != member && g.verdict.is_correct() == right);
    of_kind.map(|(_, g)| g.answer.clone()).nth(k)
}

/// Log-probabilities and gradients of the rows that something is learned from, with their numbers.
/// Ratios are 1, so the gradient of a token is what it is paid over the number of tokens, with the
/// other sign.
fn taught<'a>(
    report: &StepReport,
    log: &'a Log,
) -> impl Iterator<Item = (usize, &'a [f64], &'a [f64])> {
    let [taught] = &log.taught[..] else {
        panic!("one pass with gradient")
    };
    let advantages = report.advantages.advantages.iter().enumerate();
    let rows: Vec<usize> = advantages.filter(|a| *a.1 != 0.0).map(|a| a.0).collect();
    assert_eq!(rows.len(), taught.logp.n_rows());
    (rows
        .into_iter()
        .zip(taught.logp.rows())
        .zip(taught.grads.rows()))
    .map(|((row, logp), grads)| (row, logp, grads))
}

pub(crate) fn a_right_hint_moves_weights(_: &Method, run: &Run) {
    let mut moved = 0;
    for (report, log) in run.reports.iter().zip(&run.logs) {
        let n = report.rows.batch.roles.values().len() as f64;
        let hinted = under(log, report.rows.len(), &|_| Some(SOLUTION.into())).unwrap();
        for (row, plain, grads) in taught(report, log) {
            let advantage = report.advantages.advantages[row];
            let hinted = hinted[row].as_ref().unwrap();
            for (t, grad) in grads.iter().enumerate() {
                let evidence = advantage.signum() * (hinted[t] - plain[t]);
                let weight = evidence.exp().clamp(0.8, 1.2);
                let paid = advantage * (0.5 + 0.5 * weight);
                let place =
                    format!("row {row}, token {t}: {grad} for {paid} of {n}, weight {weight}");
                assert!((grad + paid / n).abs() < 1e-12, "{place}");
                moved += usize::from(weight != 1.0);
            }
        }
    }
    assert!(moved > 100, "{moved} tokens have a weight of their own");
}

/// Under a policy that takes the first letter of an answer from the last of the prompt, so that the
/// solution (`7`) and the answers of those who were wrong (`.`) make other letters likelier.
pub(crate) fn right_and_wrong_hints_move_advantages(method: &Method, _: &Run) {
    let mut table = TabularPolicy::new(VOCAB, 1);
    for (last, slope) in [(b'7', 0.1), (b'.', -0.05)] {
        let mut logits = vec![0.0; VOCAB];
        (0..26).for_each(|i| logits[usize::from(b'A') + i] = slope * i as f64);
        table.start_at(&[u32::from(last)], logits);
    }
    let mut probe = Probe::new(Some(Arc::new(script)));
    probe.policy = Shared::new(table);
    let run = run(method, &dataset(tasks()), &probe, is_right, 3).unwrap();
    let mut moved = 0;
    for (report, log) in run.reports.iter().zip(&run.logs) {
        let n_rows = report.rows.len();
        let right = under(log, n_rows, &|_| Some(SOLUTION.into())).unwrap();
        let wrong: Vec<_> = (0..4)
            .map_while(|k| under(log, n_rows, &|row| sibling(report, row, false, k)))
            .collect();
        assert_eq!(wrong.len(), 4, "k_max passes under wrong hints");
        let paid = |row: usize, t: usize| {
            let advantage = report.advantages.advantages[row];
            let probabilities: Vec<f64> = (wrong.iter())
                .filter_map(|pass| pass[row].as_ref().map(|logp| logp[t].exp()))
                .collect();
            if probabilities.is_empty() {
                return (advantage, false);
            }
            let mean = probabilities.iter().sum::<f64>() / probabilities.len() as f64;
            let contrast = right[row].as_ref().unwrap()[t] - mean.ln();
            let residual = 0.5 * (contrast / 0.02).tanh();
            if residual.abs() <= 0.02 {
                return (advantage, false);
            }
            let paid = advantage + residual;
            let kept = advantage != 0.0 && paid.signum() == advantage.signum();
            (if kept { paid } else { 0.0 }, true)
        };
        let all: Vec<Vec<(f64, bool)>> = (0..n_rows)
            .map(|row| {
                let tokens = 0..report.rows.batch.roles.row(row).len();
                tokens.map(|t| paid(row, t)).collect()
            })
            .collect();
        let selected = all.iter().flatten().filter(|(_, s)| *s).count();
        let unselected = all.iter().flatten().count() - selected;
        moved += selected;
        for (row, _, grads) in taught(report, log) {
            for (t, (paid, is_selected)) in all[row].iter().enumerate() {
                let n = if *is_selected { selected } else { unselected };
                let (expected, got) = (-paid / n as f64, grads[t]);
                assert!(
                    (got - expected).abs() < 1e-12,
                    "row {row}, token {t}: {got} {expected}"
                );
            }
        }
    }
    assert!(moved > 20, "{moved} tokens are selected");
}
