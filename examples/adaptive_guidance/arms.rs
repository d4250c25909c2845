//! The methods that are compared.

use g2rpo::core::{AdvantageEstimator, GuidanceTokenLoss, LossConfig, LossType, Strata};
use g2rpo::guidance::{
    Amount, AmountUnit, BinomialCosine, BisectionConfig, ControllerConfig, CurveRounds, Dropout,
    FixedFraction, IrtConfig, Ladder, Level, Method, ProbeThenDecide, Random, RatioConfig, Result,
    Retry, Rounding, Schedule, SelectorConfig, Shape, Smoothing, Staged, TargetConfig, ZeroReward,
    ZeroRewardRetry,
};

use crate::lock::LENGTH;
use crate::train::Arm;

/// Steps over which the schedules end.
const STEPS: u64 = 400;

pub(crate) fn all() -> Result<Vec<Arm>> {
    // The weight of a sampled token does not depend on how many were given.
    let plain = Method {
        num_generations: 8,
        loss: LossConfig {
            loss_type: LossType::DrGrpo,
            max_completion_length: LENGTH,
            guidance_token_loss: GuidanceTokenLoss::Masked,
            ..LossConfig::default()
        },
        advantages: AdvantageEstimator::default(),
        ..Method::preset("grpo", STEPS)?
    };
    let arm = |name, selector, controller| Arm {
        name,
        method: Some(Method {
            selector,
            controller,
            ..plain.clone()
        }),
    };
    let quarter = |name, controller| arm(name, share(0.25), controller);
    let changed = |mut arm: Arm, change: fn(&mut Method)| {
        if let Some(method) = &mut arm.method {
            change(method);
        }
        arm
    };
    let learned = |name, controller| {
        changed(quarter(name, controller), |method| {
            method.loss.guidance_token_loss = GuidanceTokenLoss::SameAdvantage;
        })
    };
    let split = |name, alpha| {
        changed(arm(name, share(alpha), target(0.5)), |method| {
            method.advantages.strata = Strata::Split;
        })
    };
    let half = |retry| {
        SelectorConfig::ZeroRewardRetry(ZeroRewardRetry {
            retry,
            levels: vec![Level::Controlled],
            ..ZeroRewardRetry::default()
        })
    };
    // Selectors that choose amounts themselves ask no controller.
    let unread = || plain.controller.clone();
    let group = half(Retry::Group);
    let irt = || ControllerConfig::Irt(IrtConfig::default());
    let adaback = ControllerConfig::Bisection(BisectionConfig::default());
    let random = ControllerConfig::Random(Random::default());
    let probes = SelectorConfig::ProbeThenDecide(ProbeThenDecide::default());
    let rounds = SelectorConfig::CurveRounds(CurveRounds::default());
    let ladder = SelectorConfig::Ladder(Ladder::default());
    let paper = |initial| ratio(RatioConfig::paper(), initial);
    let released = |initial| ratio(RatioConfig::released(), initial);
    let power = |exponent| schedule(Shape::Power { exponent });
    let fading = ControllerConfig::BinomialCosine(BinomialCosine {
        steps: STEPS * 3 / 5,
        ..BinomialCosine::default()
    });
    let reproduction = ratio(RatioConfig::reproduction(), 0.5);
    let damped = RatioConfig {
        gain: 0.25,
        ..RatioConfig::paper()
    };
    let to_maximum = RatioConfig {
        zero_reward: ZeroReward::Maximum,
        ..RatioConfig::paper()
    };
    let from_most = TargetConfig {
        initial: 0.9,
        ..TargetConfig::default()
    };
    let smooth = ControllerConfig::Target(TargetConfig {
        smoothing: Smoothing::Ema { decay: 0.9 },
        ..from_most
    });
    let per_lock = ControllerConfig::TargetPerTask(from_most);
    let stages = ControllerConfig::Staged(Staged {
        stages: vec![(0, 1.0), (100, 0.5), (200, 0.25), (300, 0.0)],
        unit: AmountUnit::Fraction,
    });
    let forgetful = SelectorConfig::Dropout(Dropout {
        p: 0.1,
        whole_group: true,
        inner: Box::new(share(0.25)),
    });
    Ok(vec![
        arm("none (GRPO)", share(0.0), fixed(0.0)),
        quarter("fixed 1/4", fixed(0.25)),
        quarter("fixed 1/2", fixed(0.5)),
        quarter("fixed 3/4", fixed(0.75)),
        quarter("fixed 0.9", fixed(0.9)),
        arm("fixed 0.9, α=1", share(1.0), fixed(0.9)),
        quarter("stages 1, 1/2, 1/4, 0", stages),
        quarter("random", random),
        quarter("linear 1 → 0", schedule(Shape::Linear)),
        quarter("cosine 1 → 0", schedule(Shape::Cosine)),
        quarter("power 2 (concave) 1 → 0", power(2.0)),
        quarter("power 1/2 (convex) 1 → 0", power(0.5)),
        arm("binomial-cosine (UFT), α=1", share(1.0), fading),
        quarter("ratio, paper", paper(1.0)),
        quarter("ratio, paper, ℓ₀ = 1/2", paper(0.5)),
        arm("ratio, paper, α=1/2", share(0.5), paper(1.0)),
        quarter("ratio, released", released(1.0)),
        quarter("ratio, released, ℓ₀ = 1/2", released(0.5)),
        arm("ratio, released, α=1/2", share(0.5), released(1.0)),
        quarter("ratio, reproduction (ε)", reproduction),
        quarter("ratio, damped (exponent 1/4)", ratio(damped, 0.9)),
        quarter("ratio, zero reward → maximum", ratio(to_maximum, 1.0)),
        quarter("target 1/2", target(0.5)),
        arm("target 1/2, α=1/8", share(0.125), target(0.5)),
        arm("target 1/2, α=1/2", share(0.5), target(0.5)),
        arm("target 1/2, α=1", share(1.0), target(0.5)),
        quarter("target 1/4", target(0.25)),
        quarter("target 3/4", target(0.75)),
        quarter("target 1/2, smoothed", smooth),
        quarter("target 1/2 per lock", per_lock),
        split("target 1/2, split baseline", 0.25),
        split("target 1/2, split baseline, α=1/2", 0.5),
        learned("target 1/2, guidance in the loss", target(0.5)),
        learned("ratio, paper, guidance in the loss", paper(1.0)),
        arm("bisection (AdaBack), α=1", share(1.0), adaback),
        arm("response curve (IRT), α=1/2", share(0.5), irt()),
        arm("response curve (IRT), α=1", share(1.0), irt()),
        arm("target 1/2, retry of the group", group, target(0.5)),
        arm("target 1/2, retry of one", half(Retry::One), target(0.5)),
        arm("target 1/2, two probes", probes, target(0.5)),
        arm("target 1/2, left out in 1 of 10", forgetful, target(0.5)),
        arm("rounds by the curve (SEELE)", rounds, unread()),
        arm("ladder (TRAPO)", ladder, unread()),
        Arm {
            name: "imitation only (SFT)",
            method: None,
        },
    ])
}

fn share(alpha: f64) -> SelectorConfig {
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

fn schedule(shape: Shape) -> ControllerConfig {
    ControllerConfig::Schedule(Schedule {
        shape,
        steps: STEPS,
        ..Schedule::default()
    })
}

/// A ratio rule in tokens of a lock, from a part of its length.
fn ratio(config: RatioConfig, initial: f64) -> ControllerConfig {
    let max = LENGTH as f64;
    ControllerConfig::Ratio(RatioConfig {
        unit: AmountUnit::Tokens,
        initial: (initial * max).round(),
        max,
        ..config
    })
}

fn target(target: f64) -> ControllerConfig {
    ControllerConfig::Target(TargetConfig {
        target,
        initial: 0.9,
        ..TargetConfig::default()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_arm_can_be_executed() {
        for arm in super::all().unwrap() {
            let checked = arm.method.map_or(Ok(()), |method| method.check());
            assert!(checked.is_ok(), "{}: {checked:?}", arm.name);
        }
    }
}
