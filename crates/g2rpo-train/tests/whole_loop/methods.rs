//! Every preset through the loop: what makes it that method, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use g2rpo_core::{KlPlacement, Scale, WhichPolicy};
use g2rpo_guidance::{ExampleId, Method, Placement, Provenance, Trace, Traces};
use g2rpo_rollout::{ByteTokenizer, Tokenizer};
use g2rpo_train::{Dataset, Group};
use serde_json::{Value, json};

use crate::contrast::{a_right_hint_moves_weights, right_and_wrong_hints_move_advantages};
use crate::lessons::{
    advantage_errors, groups_are_replaced_and_length_is_paid_for, how_rewards_become_advantages,
    ratios_are_of_sequences, what_guidance_tokens_teach, what_is_scored,
};
use crate::probe::{
    Asked, GIVEABLE, MAX_LEN, Probe, Run, SOLUTION, dataset, is_right, run, tasks, writes,
};

/// Where help stands.
#[derive(PartialEq, Clone, Copy)]
pub(crate) enum Placed {
    Nowhere,
    Prefix,
    Prompt,
}

/// Settings under which the method is plain GRPO with its loss and its advantages.
type Off = &'static [&'static [(&'static str, &'static str)]];

/// What makes a preset that method.
///
/// `plans` are the members of a stubborn, a hard and an easy task in the second step: `c` was
/// chosen to be guided. Behind a `|` stand those that are trained on, as `first..end` or one by
/// one; all of them where it is missing.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Settings that three steps on small tasks need.
    set: &'static [(&'static str, &'static str)],
    plans: [&'static str; 3],
    /// Calls of the engine in the second step; 0 for as many as dynamic sampling needs.
    calls: usize,
    pub(crate) placed: Placed,
    /// Tokens given to guided members in each of the three steps.
    lens: [&'static [usize]; 3],
    off: Off,
    /// What no other column says.
    also: fn(&Method, &Run),
}

const ALPHA_OR_LENGTH: Off = &[
    &[("selector.alpha", "0.0")],
    &[(
        "controller",
        r#"{"kind": "fixed", "amount": {"tokens": 0.0}}"#,
    )],
];
const NONE: [&[usize]; 3] = [&[], &[], &[]];
const ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
const PLAIN: [&str; 3] = ["--------"; 3];
const WHOLE: [&str; 3] = ["cccccccc"; 3];

const fn row(
    name: &'static str,
    placed: Placed,
    plans: [&'static str; 3],
    calls: usize,
    lens: [&'static [usize]; 3],
) -> Row {
    Row {
        name,
        set: &[],
        plans,
        calls,
        placed,
        lens,
        off: &[],
        also: |_, _| {},
    }
}

const fn plain(name: &'static str, also: fn(&Method, &Run)) -> Row {
    Row {
        off: &[&[]],
        also,
        ..row(name, Placed::Nowhere, PLAIN, 1, NONE)
    }
}

/// Nobody is guided, and advantages of tokens come from passes under other prompts.
const fn contrasted(name: &'static str, also: fn(&Method, &Run)) -> Row {
    Row {
        off: &[&[("token_advantages", "null")]],
        also,
        ..row(name, Placed::Nowhere, PLAIN, 1, NONE)
    }
}

/// Half of a group's guided members succeed, fewer in the first step: members 0, 2, 4, … do where
/// their task is easy, where it is hard and they have help, and where it is stubborn and they have
/// ten tokens of it.
pub(crate) fn script(asked: &Asked) -> Vec<u32> {
    let needed = [10, 1, 0, 0][asked.task];
    let every = if asked.step == 0 { 4 } else { 2 };
    writes(
        asked.member,
        asked.help >= needed && asked.member.is_multiple_of(every),
    )
}

fn table() -> Vec<Row> {
    use Placed::{Prefix, Prompt};
    vec![
        plain("grpo", |_, run| {
            assert!(
                run.logs[0]
                    .scored
                    .iter()
                    .any(|s| s.policy == WhichPolicy::Reference)
            );
        }),
        plain("dr-grpo", |method, _| {
            assert_eq!(method.advantages.scale, Scale::None);
        }),
        Row {
            set: &[("cache", "22")],
            plans: ["----------------|", "----------------|", "----------------"],
            off: &[&[("dynamic_sampling", "null"), ("overlong", "null")]],
            also: groups_are_replaced_and_length_is_paid_for,
            ..row("dapo", Placed::Nowhere, PLAIN, 0, NONE)
        },
        plain("gspo", |method, _| ratios_are_of_sequences(method)),
        contrasted("rlsd", a_right_hint_moves_weights),
        contrasted("rlcsd", right_and_wrong_hints_move_advantages),
        Row {
            off: ALPHA_OR_LENGTH,
            also: |_, run| {
                let [r0, r1, r2] = rewards(run);
                let length = (3072.0 * r0 / r1).clamp(1.0, 3072.0);
                assert_close(
                    length_of(run),
                    (length * (r0 + r1) / 2.0 / r2).clamp(1.0, 3072.0),
                );
            },
            ..row("g2rpo-a", Prefix, ["ccc-------"; 3], 1, [&[GIVEABLE]; 3])
        },
        Row {
            off: ALPHA_OR_LENGTH,
            also: |_, run| {
                let [r0, r1, r2] = rewards(run);
                assert_close(length_of(run), (3072.0 * ((r0 + r1) / 2.0 / r2)).floor());
            },
            ..row(
                "g2rpo-a-released",
                Prefix,
                ["cc--------"; 3],
                1,
                [&[GIVEABLE]; 3],
            )
        },
        Row {
            off: ALPHA_OR_LENGTH,
            also: |_, run| {
                let [r0, r1, r2] = rewards(run).map(|r| r + 1e-8);
                let round = |length: f64| (length + 0.5).floor().clamp(1.0, 768.0);
                let length = round(384.0 * r0 / r1);
                assert_close(length_of(run), round(length * (r0 + r1) / 2.0 / r2));
            },
            ..row(
                "g2rpo-a-reproduction",
                Prefix,
                ["c---"; 3],
                1,
                [&[GIVEABLE]; 3],
            )
        },
        Row {
            off: ALPHA_OR_LENGTH,
            also: |_, run| {
                // Beta(1, 1) over the guided members: 4 of 16 in the first step, then 8 of 16.
                let step = |successes: f64| 0.1 * (2.0 * (0.5 - (successes + 1.0) / 18.0)).tanh();
                assert_close(length_of(run), 0.5 + step(4.0) + 2.0 * step(8.0));
            },
            ..row("target", Prefix, ["cccc----"; 3], 1, [&[10]; 3])
        },
        Row {
            off: ALPHA_OR_LENGTH,
            also: |_, run| {
                let tasks = run.state.controller["tasks"].as_object().unwrap();
                assert!(!tasks.is_empty() && tasks.values().any(|t| *t != json!([0.0, 1.0])));
            },
            ..row("adaback", Prefix, WHOLE, 1, [ALL; 3])
        },
        Row {
            off: ALPHA_OR_LENGTH,
            also: |_, run| assert_eq!(author(run, 0), Provenance::Teacher),
            ..row("luffy", Prefix, ["c-------"; 3], 1, [&[GIVEABLE]; 3])
        },
        Row {
            off: ALPHA_OR_LENGTH,
            also: |_, run| assert!(run.logs[0].taught[0].entropy),
            // 95 %, 72.5 % and 27.5 % of 20 tokens, the answer kept back.
            ..row(
                "prefix-rft",
                Prefix,
                ["c-------"; 3],
                1,
                [&[14], &[14], &[5, 6]],
            )
        },
        Row {
            off: ALPHA_OR_LENGTH,
            // Fifths of 20 tokens for three fifths of the run.
            ..row(
                "uft",
                Prefix,
                ["cccc"; 3],
                1,
                [&[0, 4, 8, 12, 14], &[0], &[0]],
            )
        },
        Row {
            off: &[&[(
                "selector.rungs",
                r#"[{"members": 8, "level": "unguided", "below": 0.0}]"#,
            )]],
            // A quarter and a half of the trace are moved on to the ends of steps.
            ..row(
                "trapo",
                Prefix,
                ["----cccc", "----cccc", "------cc"],
                4,
                [&[7, 14]; 3],
            )
        },
        Row {
            off: &[&[("levels", "[]")]],
            ..row(
                "ghpo",
                Prompt,
                [
                    "--------cccccccccccccccc|16..24",
                    "--------cccccccc|8..16",
                    "--------",
                ],
                3,
                [&[5, 10, 14]; 3],
            )
        },
        Row {
            off: &[&[("levels", "[]"), ("discard_constant", "false")]],
            ..row(
                "guide",
                Prompt,
                ["--------cccccccc|", "--------cccccccc|8..16", "--------"],
                2,
                NONE,
            )
        },
        Row {
            set: &[("warmup_steps", "1")],
            off: &[&[("levels", "[]")], &[("warmup_steps", "3")]],
            also: |_, run| assert_eq!(run.logs[0].calls.len(), 1, "no retry in the warm-up"),
            ..row(
                "scaf",
                Prompt,
                [
                    "--------ccc|0 1 2 3 4 5 6 10",
                    "--------c|0 1 2 3 4 5 6 8",
                    "--------",
                ],
                4,
                NONE,
            )
        },
        Row {
            off: &[&[("levels", "[]")]],
            // 5, 10 and 15 tokens, back to the ends of steps.
            ..row(
                "hint-grpo",
                Prefix,
                [
                    "--------cccccccccccccccccccccccc|24..32",
                    "--------cccccccccccccccc|16..24",
                    "--------",
                ],
                4,
                [&[0, 7, 14]; 3],
            )
        },
        Row {
            off: ALPHA_OR_LENGTH,
            ..row("questa", Prompt, WHOLE, 1, [&[10], &[5], &[5]])
        },
        Row {
            also: |_, run| {
                for report in &run.reports {
                    let kinds: BTreeSet<usize> = report.rows.baselines.iter().copied().collect();
                    assert_eq!(kinds.len(), 8, "each kind of member of each task by itself");
                }
            },
            ..row("pope", Prompt, ["cccc----"; 3], 1, [&[5]; 3])
        },
        Row {
            off: ALPHA_OR_LENGTH,
            also: |method, run| {
                assert_eq!(method.loss.kl_placement, KlPlacement::Reward);
                let differs = |report| advantage_errors(method, report).iter().any(|e| *e > 1e-6);
                assert!(
                    differs(&run.reports[2]),
                    "the reward of the third step has a KL term"
                );
            },
            ..row("r3", Prefix, WHOLE, 1, [&[0, 3, 6, 7, 10, 13, 14]; 3])
        },
        Row {
            off: &[&[("levels", "[]")]],
            also: |_, run| {
                assert!(
                    run.state.source.to_string().contains("tokens"),
                    "{}",
                    run.state.source
                );
            },
            ..row(
                "sage",
                Prompt,
                [
                    "--------cccccccccccccccc|16..24",
                    "--------cccccccc|8..16",
                    "--------",
                ],
                3,
                NONE,
            )
        },
        Row {
            also: |_, run| {
                let parts = |group: &Group| -> Vec<f64> {
                    group
                        .plan
                        .members
                        .chunks(2)
                        .map(|part| part[0].amount.value())
                        .collect()
                };
                let groups = &run.reports[0].groups;
                assert!(groups.iter().all(|g| parts(g)[0] == parts(&groups[0])[0]));
                assert!(
                    groups.iter().all(|g| parts(g)[1] != parts(g)[0]),
                    "the curve moved on"
                );
            },
            ..row("seele", Prompt, WHOLE, 4, [ALL; 3])
        },
        Row {
            off: &[&[("selector.level", r#""unguided""#)]],
            ..row(
                "nurl",
                Prompt,
                ["-ccccccc", "-ccccccc", "--------"],
                2,
                NONE,
            )
        },
        Row {
            off: ALPHA_OR_LENGTH,
            // All, two thirds and one third of 20 tokens.
            ..row("rtpo", Prefix, WHOLE, 1, [&[14], &[13, 14], &[6, 7]])
        },
        Row {
            off: ALPHA_OR_LENGTH,
            also: |_, run| {
                // Each group has an amount of its own; the report tells their mean.
                for report in &run.reports {
                    let amounts: Vec<f64> = report
                        .groups
                        .iter()
                        .map(|g| g.plan.amount.value())
                        .collect();
                    assert!(amounts.iter().any(|a| *a != amounts[0]));
                    assert_close(
                        report.length,
                        amounts.iter().sum::<f64>() / amounts.len() as f64,
                    );
                }
            },
            ..row("random", Prefix, ["cc------"; 3], 1, [ALL; 3])
        },
    ]
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn with(method: Method, settings: &[(&str, &str)]) -> Method {
    settings
        .iter()
        .fold(method, |m, (key, json)| m.set(key, value(json)).unwrap())
}

fn preset(row: &Row) -> Method {
    let method = Method::preset(row.name, 3).unwrap();
    with(
        method.set("max_completion_length", MAX_LEN).unwrap(),
        row.set,
    )
}

/// The tasks, and a teacher who solved the last.
pub(crate) fn data() -> Dataset<'static> {
    let text = SOLUTION.to_uppercase();
    let encoded = ByteTokenizer.encode(&text).unwrap();
    let offsets: Vec<_> = encoded.offsets.iter().map(|r| (r.start, r.end)).collect();
    let trace = Trace::from_offsets(encoded.ids, text, &offsets).unwrap();
    dataset(tasks())
        .with_traces(Traces {
            traces: [(ExampleId(3), vec![Arc::new(trace)])].into(),
            provenance: Provenance::Teacher,
            ..Traces::default()
        })
        .unwrap()
}

fn rewards(run: &Run) -> [f64; 3] {
    [0, 1, 2].map(|step| run.reports[step].row().get("reward").unwrap())
}

/// The controller's length behind the third step.
fn length_of(run: &Run) -> f64 {
    run.state.controller["length"].as_f64().unwrap()
}

/// Who wrote the last task's trace in a step.
fn author(run: &Run, step: usize) -> Provenance {
    let group = run.reports[step]
        .groups
        .iter()
        .find(|g| g.task == 3)
        .unwrap();
    group.guidance.as_ref().unwrap().provenance
}

fn assert_close(got: f64, expected: f64) {
    approx::assert_relative_eq!(got, expected, max_relative = 1e-12);
}

#[test]
fn every_preset_does_what_makes_it_that_method() {
    let table = table();
    let names: Vec<&str> = table.iter().map(|row| row.name).collect();
    assert_eq!(names, Method::NAMES, "each preset has its row");
    let data = data();
    for row in &table {
        let method = preset(row);
        let mut probe = Probe::new(Some(Arc::new(script)));
        if method.loss.beta == 0.0 {
            // Where nothing is measured from the reference, tokens may differ from the start.
            probe = probe.warmed();
        }
        let run = run(&method, &data, &probe, is_right, 3)
            .unwrap_or_else(|e| panic!("{}: {e}", row.name));
        who_is_guided(row, &run);
        what_is_given(row, &method, &data, &run);
        what_is_scored(row, &method, &run);
        how_rewards_become_advantages(row, &method, &run.reports[0]);
        what_guidance_tokens_teach(row, &method, &run);
        (row.also)(&method, &run);
    }
}

fn who_is_guided(row: &Row, run: &Run) {
    let report = &run.reports[1];
    let calls = if row.calls == 0 {
        report.gen_batches
    } else {
        row.calls
    };
    assert_eq!(run.logs[1].calls.len(), calls, "{}: rounds", row.name);
    for group in report.all_groups() {
        let (members, trained) = match row.plans[group.task.min(2)].split_once('|') {
            None => (
                row.plans[group.task.min(2)],
                (0..group.plan.members.len()).collect(),
            ),
            Some((members, trained)) => (members, indices(trained)),
        };
        let chosen = |m: &g2rpo_guidance::MemberPlan| if m.is_chosen() { 'c' } else { '-' };
        let got: String = group.plan.members.iter().map(chosen).collect();
        assert_eq!(got, members, "{}: task {}", row.name, group.task);
        if row.name != "dapo" {
            assert_eq!(
                group.trained,
                Some(trained),
                "{}: task {}",
                row.name,
                group.task
            );
        }
        assert_eq!(group.rollouts.len(), members.len());
    }
}

fn indices(text: &str) -> Vec<usize> {
    match text.split_once("..") {
        Some((first, end)) => (first.parse().unwrap()..end.parse().unwrap()).collect(),
        None => text
            .split_whitespace()
            .map(|i| i.parse().unwrap())
            .collect(),
    }
}

fn what_is_given(row: &Row, method: &Method, data: &Dataset<'_>, run: &Run) {
    assert_eq!(
        method.placement == Placement::PromptHint,
        row.placed == Placed::Prompt
    );
    for (step, report) in run.reports.iter().enumerate() {
        for group in report.all_groups() {
            for (m, member) in group.members().enumerate() {
                let place = format!("{}, step {step}, task {}, member {m}", row.name, group.task);
                let (plan, rollout) = (member.plan, member.rollout);
                let hint = match plan.member.level {
                    g2rpo_guidance::Level::Hint(i) => format!("hint {i}"),
                    _ if plan.cut.len > 0 => {
                        let trace = group.guidance.as_ref().unwrap().trace.as_ref().unwrap();
                        trace.prefix_text(plan.cut.len).unwrap().to_owned()
                    }
                    _ => String::new(),
                };
                let mut prompt = format!("Q{}", group.task);
                let mut guidance = String::new();
                match row.placed {
                    Placed::Nowhere => assert!(hint.is_empty(), "{place}"),
                    Placed::Prefix => guidance = hint,
                    Placed::Prompt if hint.is_empty() => {}
                    Placed::Prompt => {
                        prompt += "\n\nA correct solution begins like this:\n";
                        prompt += &hint;
                    }
                }
                let ids = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
                assert_eq!(rollout.prompt, ids(&prompt), "{place}");
                assert_eq!(rollout.guidance, ids(&guidance), "{place}");
                assert!(plan.is_chosen() || !plan.is_guided(), "{place}");
                let hints = matches!(plan.member.level, g2rpo_guidance::Level::Hint(_));
                if plan.is_chosen() && !hints {
                    let len = plan.cut.len;
                    assert!(row.lens[step].contains(&len), "{place}: {len} tokens");
                }
            }
        }
    }
    assert_eq!(data.len(), 4);
}

#[test]
fn without_guidance_presets_are_plain_grpo_to_the_bit() {
    let data = data();
    let even = |answer: &str, _: &str| answer.bytes().map(u32::from).sum::<u32>().is_multiple_of(2);
    let outcome = |method: &Method| {
        let run = run(method, &data, &Probe::new(None), even, 2).unwrap();
        let rows: Vec<_> = run.reports.into_iter().map(|r| r.rows).collect();
        (rows, run.table)
    };
    for row in table() {
        let method = preset(&row).set("max_completion_length", 15).unwrap();
        let plain = Method {
            num_generations: method.num_generations,
            loss: method.loss.clone(),
            advantages: method.advantages,
            ..Method::default()
        };
        let expected = outcome(&plain);
        for off in row.off {
            assert_eq!(
                outcome(&with(method.clone(), off)),
                expected,
                "{}: {off:?}",
                row.name
            );
        }
        // Copies with baselines of their own, and a curve that always aims at a half, have no such
        // limit.
        assert_eq!(
            row.off.is_empty(),
            ["pope", "seele"].contains(&row.name),
            "{}",
            row.name
        );
    }
}
