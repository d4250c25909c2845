//! What a preset scores and teaches: prompts, advantages, gradients of own and guidance tokens.

use std::sync::Arc;

use g2rpo_core::{GuidanceTokenLoss, Role, Scale, WhichPolicy};
use g2rpo_guidance::{Method, ScoreContext};
use g2rpo_train::{Group, StepReport};

use crate::methods::{Placed, Row, script};
use crate::probe::{MAX_LEN, Probe, Run, Taught, dataset, is_right, tasks};

pub(crate) fn what_is_scored(row: &Row, method: &Method, run: &Run) {
    let expected = match row.name {
        "guide" => ScoreContext::OffPolicy,
        "scaf" => ScoreContext::HintFree,
        _ => ScoreContext::AsSampled,
    };
    assert_eq!(method.score_context, expected, "{}", row.name);
    for (report, log) in run.reports.iter().zip(&run.logs) {
        let prompts = |sequences: &g2rpo_core::Sequences| -> Vec<Vec<u32>> {
            (sequences.tokens().rows().zip(sequences.prompt_lens()))
                .map(|(ids, &n)| ids[..n].to_vec())
                .collect()
        };
        let members = || report.rows.iter(&report.groups);
        let sampled: Vec<Vec<u32>> = members().map(|m| m.rollout.prompt.clone()).collect();
        let bare: Vec<Vec<u32>> = (report.rows.members.iter())
            .map(|(g, _)| report.groups[*g].item.prompt.clone())
            .collect();
        let wanted = if expected == ScoreContext::AsSampled {
            &sampled
        } else {
            &bare
        };
        assert_eq!(
            &prompts(&report.rows.batch.sequences),
            wanted,
            "{}",
            row.name
        );
        let old = log.scored.iter().find(|pass| {
            // A pass over some of the rows is about their hints.
            pass.policy == WhichPolicy::Current && pass.sequences.n_rows() == report.rows.len()
        });
        match expected {
            ScoreContext::OffPolicy => assert_eq!(prompts(&old.unwrap().sequences), sampled),
            _ if method.token_advantages.is_some() => {}
            _ => assert_eq!(old.is_some(), row.name == "r3", "{}", row.name),
        }
        let reference = log
            .scored
            .iter()
            .any(|s| s.policy == WhichPolicy::Reference);
        assert_eq!(reference, method.loss.beta != 0.0, "{}", row.name);
    }
    if expected != ScoreContext::AsSampled {
        let hinted = |m: g2rpo_train::Member<'_>| m.rollout.prompt.len() > 2;
        let any = (run.reports.iter()).any(|r| r.rows.iter(&r.groups).any(hinted));
        assert!(any, "{}: a hinted member is trained on", row.name);
    }
}

/// Distance of each advantage from the formula on verdict and penalty alone.
pub(crate) fn advantage_errors(method: &Method, report: &StepReport) -> Vec<f64> {
    let rows = &report.rows;
    let of = |row: usize| {
        let same = |other: &usize| rows.baselines[*other] == rows.baselines[row];
        let rewards: Vec<f64> = ((0..rows.len()).filter(same))
            .map(|i| rows.rewards[i].unwrap())
            .collect();
        let n = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        let square = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>();
        let std = (square / (n - 1.0)).sqrt();
        let scale = match method.advantages.scale {
            Scale::None => 1.0,
            _ => std + method.advantages.eps,
        };
        let expected = (rows.rewards[row].unwrap() - mean) / scale;
        (report.advantages.advantages[row] - expected).abs()
    };
    (0..rows.len()).map(of).collect()
}

pub(crate) fn how_rewards_become_advantages(row: &Row, method: &Method, report: &StepReport) {
    let centred = ["dr-grpo", "luffy", "prefix-rft", "trapo"].contains(&row.name);
    assert_eq!(
        method.advantages.scale == Scale::None,
        centred,
        "{}",
        row.name
    );
    let errors = advantage_errors(method, report);
    assert!(errors.iter().all(|e| *e < 1e-9), "{}: {errors:?}", row.name);
    let rows = &report.rows;
    for i in 0..rows.len() {
        for j in 0..i {
            let one_group = rows.members[i].0 == rows.members[j].0;
            let one_kind = row.name != "pope" || rows.guided[i] == rows.guided[j];
            let shared = rows.baselines[i] == rows.baselines[j];
            assert_eq!(shared, one_group && one_kind, "{}", row.name);
        }
    }
}

/// A row that was taught: its advantage, and gradient and log-probability by role.
struct Lesson {
    advantage: f64,
    own: Vec<f64>,
    guidance: Vec<(f64, f64)>,
}

fn lessons(report: &StepReport, taught: &Taught) -> Vec<Lesson> {
    let all = &report.rows.batch.sequences;
    let lesson = |i: usize| {
        let same = |row: &usize| {
            all.tokens().row(*row) == taught.sequences.tokens().row(i)
                && all.prompt_lens()[*row] == taught.sequences.prompt_lens()[i]
        };
        let row = (0..report.rows.len()).find(same).unwrap();
        let roles = report.rows.batch.roles.row(row);
        let (grads, logp) = (taught.grads.row(i), taught.logp.row(i));
        let of = |role| (0..roles.len()).filter(move |&t| roles[t] == role);
        Lesson {
            advantage: report.advantages.advantages[row],
            own: of(Role::Own).map(|t| grads[t]).collect(),
            guidance: of(Role::Guidance).map(|t| (grads[t], logp[t])).collect(),
        }
    };
    (0..taught.sequences.n_rows()).map(lesson).collect()
}

pub(crate) fn what_guidance_tokens_teach(row: &Row, method: &Method, run: &Run) {
    let treatment = method.loss.guidance_token_loss;
    let lessons = lessons(&run.reports[0], &run.logs[0].taught[0]);
    let with_prefix: Vec<&Lesson> = lessons.iter().filter(|l| !l.guidance.is_empty()).collect();
    let first_has_prefixes = row.placed == Placed::Prefix;
    assert_eq!(!with_prefix.is_empty(), first_has_prefixes, "{}", row.name);
    let mut taught = 0;
    for lesson in with_prefix {
        let own = lesson.own[0];
        for &(grad, logp) in &lesson.guidance {
            taught += usize::from(grad != 0.0);
            let fits = match treatment {
                GuidanceTokenLoss::Masked => grad == 0.0,
                GuidanceTokenLoss::SameAdvantage => (grad - own).abs() < 1e-15,
                GuidanceTokenLoss::TopEntropy { .. } => grad == 0.0 || (grad - own).abs() < 1e-15,
                GuidanceTokenLoss::Shaped { gamma } => {
                    let p = logp.exp();
                    (grad - own * p * gamma / (p + gamma).powi(2)).abs() < 1e-15
                }
                // Supervision, whatever the advantage.
                GuidanceTokenLoss::Supervised { .. } | GuidanceTokenLoss::Trust { .. } => {
                    grad < 0.0
                }
                GuidanceTokenLoss::PositiveOnly => false,
            };
            assert!(fits, "{}: {grad} where own tokens have {own}", row.name);
        }
        assert_eq!(own > 0.0, lesson.advantage < 0.0, "{}", row.name);
    }
    let tokens: usize = lessons.iter().map(|l| l.guidance.len()).sum();
    if let GuidanceTokenLoss::TopEntropy { fraction } = treatment {
        assert!(
            (1..tokens / 2).contains(&taught),
            "{fraction} of {tokens}: {taught}"
        );
    }
    let expected = match row.name {
        "g2rpo-a" | "g2rpo-a-released" => GuidanceTokenLoss::SameAdvantage,
        "luffy" => GuidanceTokenLoss::Shaped { gamma: 0.1 },
        "prefix-rft" => GuidanceTokenLoss::TopEntropy { fraction: 0.2 },
        "uft" => GuidanceTokenLoss::Supervised { coef: 0.001 },
        "trapo" => GuidanceTokenLoss::Trust {
            alpha: 0.1,
            coef: 1.0,
        },
        _ => GuidanceTokenLoss::Masked,
    };
    assert_eq!(treatment, expected, "{}", row.name);
}

pub(crate) fn groups_are_replaced_and_length_is_paid_for(method: &Method, run: &Run) {
    for report in &run.reports {
        assert_eq!(report.groups.len(), 4);
        let has = |g: &Group| g.has_advantages(&method.advantages).unwrap();
        assert!(report.groups.iter().all(has));
        // Nobody succeeds at the stubborn and the hard task.
        assert!(report.replaced.iter().all(|g| g.task < 2));
        assert_eq!(report.gen_batches > 1, !report.replaced.is_empty());
        let overlong = method.overlong.unwrap();
        assert!(run.reports[0].gen_batches > 1);
        for grade in report.all_groups().flat_map(|g| &g.grades) {
            // Four tokens, of which two may be written for nothing.
            assert_eq!(overlong.penalty(MAX_LEN, 4), -2.0 / 22.0);
            assert_eq!(grade.reward, grade.verdict.reward().map(|r| r - 2.0 / 22.0));
        }
    }
}

/// Two passes over a batch: in the second one a sequence's tokens share a ratio, or do not.
pub(crate) fn ratios_are_of_sequences(gspo: &Method) {
    let shares_ratio = |method: &Method| {
        let mut config = crate::probe::config();
        config.update.num_iterations = 2;
        config.schedule = g2rpo_train::LrSchedule::constant(1e-2);
        let data = dataset(tasks());
        let probe = Probe::new(Some(Arc::new(script))).warmed();
        let run =
            crate::probe::run_with(method, &data, &probe, is_right, config, 1, |t| t).unwrap();
        let spread = |lesson: &Lesson| {
            lesson
                .own
                .iter()
                .map(|g| (g - lesson.own[0]).abs())
                .fold(0.0, f64::max)
        };
        let second = lessons(&run.reports[0], &run.logs[0].taught[1]);
        second.iter().all(|lesson| spread(lesson) < 1e-15)
    };
    assert!(shares_ratio(gspo));
    assert!(!shares_ratio(
        &Method::preset("grpo", 3).unwrap().set("beta", 0.0).unwrap()
    ));
}
