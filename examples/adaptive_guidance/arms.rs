//! The methods that are compared.

use g2rpo_core::{GuidanceTokenLoss, Strata};
use g2rpo_guidance::{
    Amount, AmountUnit, BinomialCosine, Bisection, BisectionConfig, ExampleId, Fixed,
    FixedFraction, Irt, IrtConfig, LengthController, PerBucket, Random, Ratio, RatioConfig, Result,
    Rounding, Schedule, Selector, Shape, Target, TargetConfig, ZeroReward,
};

use crate::lock::LENGTH;
use crate::train::Arm;

type Controller = Result<Box<dyn LengthController>>;

/// Steps over which the schedules end.
const STEPS: u64 = 400;

pub(crate) fn all() -> Vec<Arm> {
    let arm = |name, selector: Box<dyn Selector + Sync>, controller: fn() -> Controller| Arm {
        name,
        selector,
        controller,
        strata: Strata::Joint,
        guidance_token_loss: GuidanceTokenLoss::Masked,
        imitate: false,
    };
    let share = |alpha| -> Box<dyn Selector + Sync> {
        Box::new(FixedFraction {
            alpha,
            rounding: Rounding::Ceil,
        })
    };
    let quarter = || share(0.25);
    vec![
        arm("none (GRPO)", share(0.0), || fixed(0.0)),
        arm("fixed 1/4", quarter(), || fixed(0.25)),
        arm("fixed 1/2", quarter(), || fixed(0.5)),
        arm("fixed 3/4", quarter(), || fixed(0.75)),
        arm("fixed 0.9", quarter(), || fixed(0.9)),
        arm("fixed 0.9, α=1", share(1.0), || fixed(0.9)),
        arm("random", quarter(), || Ok(Box::new(Random::default()))),
        arm("linear 1 → 0", quarter(), || schedule(Shape::Linear)),
        arm("cosine 1 → 0", quarter(), || schedule(Shape::Cosine)),
        arm("power 2 (concave) 1 → 0", quarter(), || {
            schedule(Shape::Power { exponent: 2.0 })
        }),
        arm("power 1/2 (convex) 1 → 0", quarter(), || {
            schedule(Shape::Power { exponent: 0.5 })
        }),
        arm("binomial-cosine (UFT), α=1", share(1.0), || {
            Ok(Box::new(BinomialCosine {
                steps: STEPS * 3 / 5,
                ..BinomialCosine::default()
            }))
        }),
        arm("ratio, paper", quarter(), || {
            ratio(RatioConfig::paper(), 1.0)
        }),
        arm("ratio, paper, ℓ₀ = 1/2", quarter(), || {
            ratio(RatioConfig::paper(), 0.5)
        }),
        arm("ratio, paper, α=1/2", share(0.5), || {
            ratio(RatioConfig::paper(), 1.0)
        }),
        arm("ratio, released", quarter(), || {
            ratio(RatioConfig::released(), 1.0)
        }),
        arm("ratio, released, ℓ₀ = 1/2", quarter(), || {
            ratio(RatioConfig::released(), 0.5)
        }),
        arm("ratio, released, α=1/2", share(0.5), || {
            ratio(RatioConfig::released(), 1.0)
        }),
        arm("ratio, reproduction (ε)", quarter(), || {
            ratio(RatioConfig::reproduction(), 0.5)
        }),
        arm("ratio, damped (exponent 1/4)", quarter(), || {
            ratio(
                RatioConfig {
                    gain: 0.25,
                    ..RatioConfig::paper()
                },
                0.9,
            )
        }),
        arm("ratio, zero reward → maximum", quarter(), || {
            ratio(
                RatioConfig {
                    zero_reward: ZeroReward::Maximum,
                    ..RatioConfig::paper()
                },
                1.0,
            )
        }),
        arm("target 1/2", quarter(), || target(0.5)),
        arm("target 1/2, α=1/8", share(0.125), || target(0.5)),
        arm("target 1/2, α=1/2", share(0.5), || target(0.5)),
        arm("target 1/2, α=1", share(1.0), || target(0.5)),
        arm("target 1/4", quarter(), || target(0.25)),
        arm("target 3/4", quarter(), || target(0.75)),
        arm("target 1/2 per lock", quarter(), || {
            let target = Target::new(TargetConfig {
                initial: 0.9,
                ..TargetConfig::default()
            })?;
            Ok(Box::new(PerBucket::new(target, |id: ExampleId| id.0)))
        }),
        Arm {
            strata: Strata::Split,
            ..arm("target 1/2, split baseline", quarter(), || target(0.5))
        },
        Arm {
            strata: Strata::Split,
            ..arm("target 1/2, split baseline, α=1/2", share(0.5), || {
                target(0.5)
            })
        },
        Arm {
            guidance_token_loss: GuidanceTokenLoss::SameAdvantage,
            ..arm("target 1/2, guidance in the loss", quarter(), || {
                target(0.5)
            })
        },
        Arm {
            guidance_token_loss: GuidanceTokenLoss::SameAdvantage,
            ..arm("ratio, paper, guidance in the loss", quarter(), || {
                ratio(RatioConfig::paper(), 1.0)
            })
        },
        arm("bisection (AdaBack), α=1", share(1.0), || {
            Ok(Box::new(Bisection::new(BisectionConfig::default())?))
        }),
        arm("response curve (IRT), α=1/2", share(0.5), || {
            Ok(Box::new(Irt::new(IrtConfig::default())?))
        }),
        arm("response curve (IRT), α=1", share(1.0), || {
            Ok(Box::new(Irt::new(IrtConfig::default())?))
        }),
        Arm {
            imitate: true,
            ..arm("imitation only (SFT)", share(0.0), || fixed(0.0))
        },
    ]
}

fn fixed(fraction: f64) -> Controller {
    Ok(Box::new(Fixed(Amount::Fraction(fraction))))
}

fn schedule(shape: Shape) -> Controller {
    Ok(Box::new(Schedule {
        shape,
        steps: STEPS,
        ..Schedule::default()
    }))
}

/// A ratio rule in tokens of a lock, from a part of its length.
fn ratio(config: RatioConfig, initial: f64) -> Controller {
    let max = LENGTH as f64;
    Ok(Box::new(Ratio::new(RatioConfig {
        unit: AmountUnit::Tokens,
        initial: (initial * max).round(),
        max,
        ..config
    })?))
}

fn target(target: f64) -> Controller {
    Ok(Box::new(Target::new(TargetConfig {
        target,
        initial: 0.9,
        ..TargetConfig::default()
    })?))
}
