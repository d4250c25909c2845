use super::{ControllerConfig, CutterConfig, Method, ScoreContext, SelectorConfig, TokenLoss};
use crate::{
    Amount, AmountUnit, BinomialCosine, BisectionConfig, CurveRounds, FixedFraction, Ladder, Level,
    Placement, ProbeThenDecide, Provenance, Random, RatioConfig, Retry, Rounding, Schedule, Shape,
    Snap, Staged, TargetConfig, Unit, UnitCutter, ZeroRewardRetry,
};

pub(super) const NAMES: [&str; 22] = [
    "grpo",
    "g2rpo-a",
    "g2rpo-a-released",
    "g2rpo-a-reproduction",
    "target",
    "adaback",
    "luffy",
    "prefix-rft",
    "uft",
    "trapo",
    "ghpo",
    "guide",
    "scaf",
    "hint-grpo",
    "questa",
    "pope",
    "r3",
    "sage",
    "seele",
    "nurl",
    "rtpo",
    "random",
];

pub(super) fn preset(name: &str, steps: u64) -> Option<Method> {
    let method = match name {
        "grpo" => plain(),
        // The rule as published; table 9's α for Qwen3-1.7B.
        "g2rpo-a" => Method {
            selector: fraction(0.25),
            controller: ControllerConfig::Ratio(RatioConfig::paper()),
            guidance_token_loss: TokenLoss::SameAdvantage,
            ..plain()
        },
        // 2 members of 12 in the released pattern, without its misalignment.
        "g2rpo-a-released" => Method {
            selector: fraction(1.0 / 6.0),
            controller: ControllerConfig::Ratio(RatioConfig::released()),
            guidance_token_loss: TokenLoss::SameAdvantage,
            ..plain()
        },
        "g2rpo-a-reproduction" => Method {
            selector: fraction(0.25),
            controller: ControllerConfig::Ratio(RatioConfig::reproduction()),
            ..plain()
        },
        // This project's own: half of the group, held at the set-point, cut at line breaks.
        "target" => Method {
            selector: fraction(0.5),
            controller: ControllerConfig::Target(TargetConfig::default()),
            cutter: units(Unit::Line, Snap::Nearest),
            ..plain()
        },
        "adaback" => Method {
            selector: SelectorConfig::All,
            controller: ControllerConfig::Bisection(BisectionConfig::default()),
            ..plain()
        },
        "luffy" => Method {
            selector: fraction(0.125),
            controller: fixed(1.0),
            provenance: Provenance::Teacher,
            guidance_token_loss: TokenLoss::Shaped { gamma: 0.1 },
            scale_rewards: false,
            ..plain()
        },
        "prefix-rft" => Method {
            selector: fraction(0.125),
            controller: ControllerConfig::Schedule(Schedule {
                shape: Shape::Cosine,
                start: 0.95,
                end: 0.05,
                steps,
                after: None,
                unit: AmountUnit::Fraction,
            }),
            guidance_token_loss: TokenLoss::TopEntropy { fraction: 0.2 },
            scale_rewards: false,
            ..plain()
        },
        "uft" => Method {
            selector: SelectorConfig::All,
            controller: ControllerConfig::BinomialCosine(BinomialCosine {
                steps: steps * 3 / 5,
                ..BinomialCosine::default()
            }),
            placement: Placement::PromptHint,
            guidance_token_loss: TokenLoss::Supervised { coef: 0.001 },
            ..plain()
        },
        "trapo" => Method {
            selector: SelectorConfig::Ladder {
                rungs: Ladder::default().0,
            },
            cutter: units(Unit::Step, Snap::Forward { max_overrun: 0.3 }),
            guidance_token_loss: TokenLoss::Trust {
                alpha: 0.1,
                coef: 1.0,
            },
            scale_rewards: false,
            ..plain()
        },
        "ghpo" => Method {
            selector: retry(Retry::Group, fractions(&[0.25, 0.5, 0.75])),
            placement: Placement::PromptHint,
            ..plain()
        },
        "guide" => Method {
            selector: SelectorConfig::ZeroRewardRetry(ZeroRewardRetry {
                levels: vec![Level::Hint(0)],
                discard_constant: true,
                ..ZeroRewardRetry::default()
            }),
            provenance: Provenance::Teacher,
            placement: Placement::PromptHint,
            score_context: ScoreContext::HintFree,
            ..plain()
        },
        // Three tiers of four hints each.
        "scaf" => Method {
            selector: SelectorConfig::ZeroRewardRetry(ZeroRewardRetry {
                retry: Retry::One,
                levels: (0..12).map(Level::Hint).collect(),
                warmup_steps: 50,
                ..ZeroRewardRetry::default()
            }),
            provenance: Provenance::Teacher,
            placement: Placement::PromptHint,
            score_context: ScoreContext::HintFree,
            ..plain()
        },
        "hint-grpo" => Method {
            selector: retry(Retry::Group, fractions(&[0.25, 0.5, 0.75])),
            cutter: units(Unit::Step, Snap::Back),
            ..plain()
        },
        "questa" => Method {
            selector: SelectorConfig::All,
            controller: ControllerConfig::Staged(Staged {
                stages: if steps < 2 {
                    vec![(0, 0.5)]
                } else {
                    vec![(0, 0.5), (steps / 2, 0.25)]
                },
                unit: AmountUnit::Fraction,
            }),
            placement: Placement::PromptHint,
            ..plain()
        },
        // The length of the prefix is not published in what we could read; a quarter is ours.
        "pope" => Method {
            selector: SelectorConfig::Mixed(FixedFraction {
                alpha: 0.5,
                rounding: Rounding::Ceil,
            }),
            controller: fixed(0.25),
            placement: Placement::PromptHint,
            ..plain()
        },
        "r3" => Method {
            selector: SelectorConfig::All,
            controller: ControllerConfig::Random(Random::default()),
            cutter: units(Unit::Line, Snap::Nearest),
            ..plain()
        },
        "sage" => Method {
            selector: retry(Retry::Group, (0..3).map(Level::Hint).collect()),
            provenance: Provenance::Own,
            placement: Placement::PromptHint,
            ..plain()
        },
        "seele" => Method {
            selector: SelectorConfig::CurveRounds(CurveRounds::default()),
            placement: Placement::PromptHint,
            ..plain()
        },
        // All but one get the abstract hint if the one without it fails.
        "nurl" => Method {
            selector: SelectorConfig::ProbeThenDecide(ProbeThenDecide {
                probes: 1,
                at_most: 0.0,
                level: Level::Hint(0),
            }),
            provenance: Provenance::Own,
            placement: Placement::PromptHint,
            ..plain()
        },
        "rtpo" => Method {
            selector: SelectorConfig::All,
            controller: ControllerConfig::Schedule(Schedule {
                shape: Shape::Linear,
                start: 1.0,
                end: 0.0,
                steps,
                after: None,
                unit: AmountUnit::Fraction,
            }),
            ..plain()
        },
        // Rules out that variety of lengths alone does it.
        "random" => Method {
            selector: fraction(0.25),
            controller: ControllerConfig::Random(Random::default()),
            ..plain()
        },
        _ => return None,
    };
    Some(method)
}

fn plain() -> Method {
    Method {
        selector: SelectorConfig::NoOne,
        controller: ControllerConfig::Fixed {
            amount: Amount::NONE,
        },
        cutter: CutterConfig::default(),
        provenance: Provenance::Gold,
        placement: Placement::AssistantPrefix,
        guidance_token_loss: TokenLoss::Masked,
        scale_rewards: true,
        score_context: ScoreContext::AsSampled,
    }
}

fn fraction(alpha: f64) -> SelectorConfig {
    SelectorConfig::FixedFraction(FixedFraction {
        alpha,
        rounding: Rounding::Ceil,
    })
}

fn fixed(fraction: f64) -> ControllerConfig {
    ControllerConfig::Fixed {
        amount: Amount::Fraction(fraction),
    }
}

fn fractions(of_trace: &[f64]) -> Vec<Level> {
    (of_trace.iter())
        .map(|&f| Level::Exactly(Amount::Fraction(f)))
        .collect()
}

fn retry(retry: Retry, levels: Vec<Level>) -> SelectorConfig {
    SelectorConfig::ZeroRewardRetry(ZeroRewardRetry {
        retry,
        levels,
        ..ZeroRewardRetry::default()
    })
}

fn units(unit: Unit, snap: Snap) -> CutterConfig {
    CutterConfig::Units(UnitCutter {
        unit,
        snap,
        rounding: Rounding::Stochastic,
    })
}
