//! What must hold whatever the rewards, traces and amounts are.

use g2rpo_guidance::*;
use proptest::prelude::*;
use rand::SeedableRng;

fn rng(seed: u64) -> rand_chacha::ChaCha8Rng {
    rand_chacha::ChaCha8Rng::seed_from_u64(seed)
}

/// Rewards as they come, and as they should not come.
fn rewards() -> impl Strategy<Value = Vec<f64>> {
    let wild = prop_oneof![
        4 => 0.0..=1.0,
        2 => Just(0.0),
        1 => Just(1.0),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0)],
        1 => -5.0..5.0,
        1 => prop_oneof![Just(f64::MIN_POSITIVE), Just(f64::MAX), Just(1e-300)],
    ];
    prop_oneof![
        3 => prop::collection::vec(wild.clone(), 0..60),
        1 => (wild.clone(), 1..60usize).prop_map(|(r, n)| vec![r; n]),
        1 => (wild.clone(), wild, 1..30usize).prop_map(|(a, b, n)| [a, b].repeat(n)),
    ]
}

/// Every kind of controller with bounds [min, max] that its amounts must keep.
fn controllers() -> impl Strategy<Value = (ControllerConfig, f64, f64)> {
    let zero = prop_oneof![
        Just(ZeroReward::Skip),
        Just(ZeroReward::Drop),
        Just(ZeroReward::Maximum),
        (1e-12..1.0).prop_map(ZeroReward::Epsilon),
    ];
    let smoothing = prop_oneof![
        Just(Smoothing::None),
        Just(Smoothing::Beta { a: 1.0, b: 1.0 }),
        (0.0..0.99).prop_map(|decay| Smoothing::Ema { decay }),
    ];
    let rounding = prop::option::of(prop_oneof![
        Just(Rounding::Floor),
        Just(Rounding::Ceil),
        Just(Rounding::Nearest),
    ]);
    let signal = (
        prop_oneof![Just(Which::All), Just(Which::Guided), Just(Which::Unguided)],
        prop_oneof![
            Just(Statistic::Reward),
            Just(Statistic::Success),
            Just(Statistic::MixedGroups),
            Just(Statistic::RewardStd)
        ],
    )
        .prop_map(|(which, statistic)| Signal { which, statistic });
    let bounds = (0.0..50.0f64, 0.0..4000.0f64, 0.0..=1.0f64);
    let ratio = (
        bounds.clone(),
        1..9usize,
        1..5u64,
        zero,
        rounding,
        0.1..2.0,
        signal.clone(),
        smoothing.clone(),
    )
        .prop_map(
            |((min, span, at), window, every, zero_reward, rounding, gain, signal, smoothing)| {
                let max = min + span;
                let initial = (min + at * span).clamp(min, max);
                let config = RatioConfig {
                    unit: AmountUnit::Tokens,
                    initial,
                    min,
                    max,
                    window,
                    every,
                    zero_reward,
                    rounding,
                    gain,
                    signal,
                    smoothing,
                };
                (ControllerConfig::Ratio(config), min, max)
            },
        );
    let target = (
        bounds,
        0.0..=1.0,
        0.0..=1.0,
        0.0..10.0,
        signal,
        smoothing,
        any::<bool>(),
    )
        .prop_map(
            |((min, span, at), target, rate, sharpness, signal, smoothing, per_task)| {
                let max = min + span;
                let initial = (min + at * span).clamp(min, max);
                let config = TargetConfig {
                    unit: AmountUnit::Tokens,
                    initial,
                    min,
                    max,
                    target,
                    rate,
                    sharpness,
                    signal,
                    smoothing,
                };
                let config = if per_task {
                    ControllerConfig::TargetPerTask(config)
                } else {
                    ControllerConfig::Target(config)
                };
                (config, min, max)
            },
        );
    let bisection = (0.01..1.0, 0.0..=1.0, 0.0..=1.0, 0.0..=0.5).prop_map(
        |(threshold, unguided, decay, reopen_below)| {
            let config = BisectionConfig {
                threshold,
                unguided,
                decay,
                reopen_below,
                ..BisectionConfig::default()
            };
            (ControllerConfig::Bisection(config), 0.0, 1.0)
        },
    );
    let shapes = prop_oneof![
        Just(Shape::Linear),
        Just(Shape::Cosine),
        (0.1..5.0).prop_map(|exponent| Shape::Power { exponent })
    ];
    let schedule =
        (shapes, 0.0..100.0, 0.0..100.0, 0..80u64).prop_map(|(shape, start, end, steps)| {
            let config = Schedule {
                shape,
                start,
                end,
                steps,
                after: None,
                unit: AmountUnit::Units,
            };
            // One rounding of start + (end - start) · t may pass the end by a last digit.
            (
                ControllerConfig::Schedule(config),
                f64::min(start, end) - 1e-9,
                f64::max(start, end) + 1e-9,
            )
        });
    let others = prop_oneof![
        Just((
            ControllerConfig::BinomialCosine(BinomialCosine {
                steps: 30,
                ..BinomialCosine::default()
            }),
            0.0,
            1.0
        )),
        Just((ControllerConfig::Random(Random::default()), 0.0, 1.0)),
        (0.0..=1.0, 0.0..=1.0, 0.0..20.0).prop_map(|(target, decay, population)| {
            let config = IrtConfig {
                target,
                decay,
                population,
            };
            (ControllerConfig::Irt(config), 0.0, 1.0)
        }),
        Just((
            ControllerConfig::Fixed {
                amount: Amount::Tokens(7.5)
            },
            7.5,
            7.5
        )),
    ];
    prop_oneof![4 => ratio, 3 => target, 2 => bisection, 2 => schedule, 1 => others]
}

/// Feeds rewards in groups of four over three tasks; half of the members are guided.
fn feedback(step: u64, amount: f64, rewards: &[f64]) -> StepFeedback {
    let mut feedback = StepFeedback::new(step);
    for (i, &reward) in rewards.iter().enumerate() {
        let chosen = i % 2 == 0;
        let record = Record {
            chosen,
            amount: if chosen { amount } else { 0.0 },
            reward,
            success: reward > 0.5,
        };
        feedback.record(ExampleId(i as u64 / 4 % 3), &record);
    }
    feedback
}

/// A trace whose tokens are pieces of a text full of borders, marks and half characters.
fn traces() -> impl Strategy<Value = Trace> {
    let piece = prop_oneof![
        Just("\n"),
        Just("\n\n"),
        Just("#### 7"),
        Just("<<1+1=2>>"),
        Just("<<"),
        Just(">>"),
        Just("```\n"),
        Just("<think>"),
        Just("</think>"),
        Just("\\boxed{7}"),
        Just("the answer is "),
        Just("é"),
        Just("ab. "),
        Just("7"),
        Just(" x"),
        Just("日本"),
        Just("~~~"),
    ];
    (
        prop::collection::vec(piece, 0..40),
        prop::collection::vec(1..6usize, 0..200),
        any::<bool>(),
    )
        .prop_map(|(pieces, sizes, with_text)| {
            let text = pieces.concat();
            let (mut at, mut tokens, mut parts) = (0, Vec::new(), Vec::new());
            for (i, size) in sizes.into_iter().chain(std::iter::repeat(3)).enumerate() {
                if at >= text.len() {
                    break;
                }
                let end = (at + size).min(text.len());
                parts.push((at, end));
                tokens.push(i as u32);
                at = end;
            }
            if with_text {
                Trace::from_offsets(tokens, text, &parts).expect("the pieces make up a text")
            } else {
                Trace::from_tokens(tokens)
            }
        })
}

fn cutters() -> impl Strategy<Value = UnitCutter> {
    let snap = prop_oneof![
        Just(Snap::Back),
        Just(Snap::Nearest),
        (0.0..=1.0).prop_map(|max_overrun| Snap::Forward { max_overrun })
    ];
    let unit = prop_oneof![
        Just(Unit::Line),
        Just(Unit::Step),
        Just(Unit::Sentence),
        Just(Unit::Marks)
    ];
    prop_oneof![
        Just(UnitCutter::default()),
        (unit, snap).prop_map(|(unit, snap)| {
            UnitCutter {
                unit,
                snap,
                rounding: Rounding::Stochastic,
            }
        }),
    ]
}

fn amounts() -> impl Strategy<Value = Amount> {
    prop_oneof![
        (0.0..60.0).prop_map(Amount::Tokens),
        (0.0..=1.2).prop_map(Amount::Fraction),
        (0.0..12.0).prop_map(Amount::Units),
        Just(Amount::Tokens(f64::NAN)),
        Just(Amount::Fraction(f64::INFINITY)),
        Just(Amount::Units(-3.0)),
        Just(Amount::Tokens(1e300)),
    ]
}

proptest! {
    // A failing case belongs into a test of its own, not into a file beside this one.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lengths_stay_in_bounds_whatever_the_rewards(
        (config, min, max) in controllers(),
        rewards in rewards(),
        group in 1..9usize,
    ) {
        let mut controller = config.build().unwrap();
        let mut rng = rng(1);
        for (step, rewards) in rewards.chunks(group).enumerate() {
            let query = Query { step: step as u64, example: ExampleId(step as u64 % 3), trace_len: 20 };
            let amount = controller.amount(&query, &mut rng).value();
            prop_assert!(amount.is_finite() && amount >= min && amount <= max, "{amount} outside [{min}, {max}]");
            controller.observe(&feedback(step as u64, amount, rewards));
        }
    }

    #[test]
    fn a_restored_controller_goes_on_as_if_never_stopped(
        (config, _, _) in controllers(),
        rewards in rewards(),
        stop_at in 0..40usize,
    ) {
        let mut whole = config.build().unwrap();
        let mut resumed = config.build().unwrap();
        let mut rngs = (rng(2), rng(2));
        for (step, rewards) in rewards.chunks(2).enumerate() {
            if step == stop_at {
                let saved = serde_json::to_string(&whole.state()).unwrap();
                resumed = config.build().unwrap();
                resumed.restore(serde_json::from_str(&saved).unwrap()).unwrap();
            }
            let query = Query { step: step as u64, example: ExampleId(step as u64 % 3), trace_len: 20 };
            let amount = whole.amount(&query, &mut rngs.0);
            prop_assert_eq!(amount.value().to_bits(), resumed.amount(&query, &mut rngs.1).value().to_bits());
            let feedback = feedback(step as u64, amount.value(), rewards);
            whole.observe(&feedback);
            resumed.observe(&feedback);
        }
        prop_assert_eq!(whole.state(), resumed.state());
    }

    #[test]
    fn the_guided_count_is_exactly_what_was_asked(
        alpha in 0.0..=1.0f64,
        group_size in 2..65usize,
        seed in any::<u64>(),
    ) {
        let group = GroupContext { query: Query::default(), group_size, round: 0 };
        for rounding in [Rounding::Ceil, Rounding::Floor, Rounding::Nearest, Rounding::Stochastic] {
            let members = FixedFraction { alpha, rounding }.plan(&group, &mut rng(seed)).unwrap();
            let guided = members.iter().filter(|m| m.level.is_chosen()).count();
            let exact = alpha * group_size as f64;
            prop_assert_eq!(members.len(), group_size);
            let fits = match rounding {
                Rounding::Ceil => guided as f64 >= exact - 1e-9 && (guided as f64) < exact + 1.0,
                Rounding::Floor => guided as f64 <= exact + 1e-9 && guided as f64 > exact - 1.0,
                Rounding::Nearest => (guided as f64 - exact).abs() <= 0.5 + 1e-9,
                Rounding::Stochastic => (guided as f64 - exact).abs() < 1.0,
            };
            prop_assert!(fits, "{guided} of {group_size} at {alpha} with {rounding:?}");
        }
    }

    #[test]
    fn no_cut_breaks_a_cap(
        trace in traces(),
        cutter in cutters(),
        amount in amounts(),
        max_guidance in 0..50usize,
        draw in 0.0..1.0f64,
    ) {
        let markers = AnswerMarkers::default();
        let passes = |trace: &Trace, n: usize| trace.prefix_text(n).is_some_and(|t| t.ends_with('7'));
        let budget = Budget { max_guidance: Some(max_guidance), ..Budget::default() };
        let limits = CutLimits { budget, ..CutLimits::default() };
        let caps = Caps { passes: Some(&passes), ..Caps::new(&limits) };
        let made = cut(&trace, amount, &cutter, &caps, draw);
        prop_assert!(made.len <= max_guidance);
        prop_assert!(made.len == 0 || made.len < trace.len());
        prop_assert_eq!(trace.prefix(made.len), &trace.tokens()[..made.len]);
        if let Some(text) = trace.text() {
            let prefix = trace.prefix_text(made.len);
            prop_assert!(prefix.is_some(), "cut within a character");
            let end = prefix.unwrap().len();
            prop_assert!(markers.find(text).is_none_or(|start| end <= start), "the answer is given");
            for range in Protected::default().ranges(text) {
                prop_assert!(end <= range.start || end >= range.end, "{end} cuts {range:?} of {text:?}");
            }
            prop_assert!(made.len == 0 || !passes(&trace, made.len));
        }
        if made.reason == CutReason::Exact {
            let asked = match amount.unit().of(amount.value()) {
                Amount::Units(_) => made.requested,
                Amount::Tokens(n) => n,
                Amount::Fraction(part) => part * trace.len() as f64,
            };
            prop_assert!((made.len as f64 - asked).abs() < 1.0, "{made:?} for {amount:?}");
        }
    }

    #[test]
    fn wrapping_opens_the_thinking_exactly_once(trace in traces(), prompt_opens in any::<bool>()) {
        let text = trace.text().unwrap_or_default().trim_start().to_owned();
        let tag = ThinkTag { tokens: vec![900, 901], text: "<think>\n".to_owned() };
        let prompt = if prompt_opens { "Assistant: <think>\n" } else { "Assistant:" };
        if let Ok(wrapped) = tag.wrap(trace.clone(), prompt)
            && let Some(after) = wrapped.text()
        {
            let inner = text.matches("<think>").count() - usize::from(text.starts_with("<think>"));
            let opened = prompt.matches("<think>").count() + after.matches("<think>").count();
            prop_assert_eq!(opened, inner + 1, "{:?} behind {:?}", after, prompt);
        }
    }
}
