//! Published methods by name.

use g2rpo_core::{
    AdvantageEstimator, GuidanceTokenLoss, ImportanceSamplingLevel, KlPlacement, LossConfig,
    LossType, Preset, Rlcsd, Rlsd, Scale, TokenAdvantage,
};

use crate::controller::amount::{Amount, AmountUnit, Rounding};
use crate::controller::bisection::BisectionConfig;
use crate::controller::controllers::ControllerConfig;
use crate::controller::ratio::RatioConfig;
use crate::controller::schedule::{BinomialCosine, Random, Schedule, Shape, Staged};
use crate::controller::target::TargetConfig;
use crate::curriculum::order::Curriculum;
use crate::error::{Error, Result};
use crate::method::settings::{DynamicSampling, Method, Overlong, ScoreContext};
use crate::selector::fraction::FixedFraction;
use crate::selector::member::Level;
use crate::selector::probe::{Ladder, ProbeThenDecide};
use crate::selector::retry::{Retry, ZeroRewardRetry};
use crate::selector::rounds::CurveRounds;
use crate::selector::selectors::SelectorConfig;
use crate::source::guidance::Provenance;
use crate::source::placement::{HintTemplate, Placement};
use crate::source::sources::SourceConfig;
use crate::trace::cut::CutLimits;
use crate::trace::cutter::{Snap, Unit, UnitCutter};

impl Default for Method {
    /// The preset `grpo`: nobody is guided.
    fn default() -> Self {
        grpo()
    }
}

impl Method {
    /// A published method by name; `steps` is the number of training steps, over which schedules
    /// run. docs/algorithm.md lists what each preset is, what is left to the user, and what could
    /// not be expressed.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`], with the names there are.
    pub fn preset(name: &str, steps: u64) -> Result<Self> {
        preset(name, steps).ok_or_else(|| Error::UnknownPreset {
            name: name.to_owned(),
            known: Self::NAMES.join(", "),
        })
    }
}

/// The presets: a name, and the method for so many steps.
macro_rules! presets {
    ($steps:ident: $($name:literal => $method:expr,)+) => {
        impl Method {
            /// Names of all presets.
            pub const NAMES: &'static [&'static str] = &[$($name),+];
        }

        fn preset(name: &str, $steps: u64) -> Option<Method> {
            Some(match name {
                $($name => $method,)+
                _ => return None,
            })
        }
    };
}

presets! { steps:
    "grpo" => grpo(),
    "dr-grpo" => Method {
        loss: Preset::DrGrpo.loss(),
        advantages: Preset::DrGrpo.advantages(),
        ..grpo()
    },
    "dapo" => Method {
        num_generations: 16,
        loss: LossConfig {
            loss_type: LossType::Dapo,
            epsilon_high: Some(0.28),
            ..LossConfig::default()
        },
        dynamic_sampling: Some(DynamicSampling::default()),
        overlong: Some(Overlong::default()),
        ..grpo()
    },
    // The paper's clip range, of sequence-level ratios.
    "gspo" => Method {
        loss: LossConfig {
            importance_sampling_level: ImportanceSamplingLevel::Sequence,
            epsilon: 3e-4,
            epsilon_high: Some(4e-4),
            ..without_kl()
        },
        ..grpo()
    },
    "rlsd" => Method {
        loss: Preset::Trl.loss(),
        token_advantages: Some(TokenAdvantage::Rlsd(Rlsd::default())),
        ..grpo()
    },
    "rlcsd" => Method {
        loss: Preset::Trl.loss(),
        token_advantages: Some(TokenAdvantage::Rlcsd(Rlcsd::default())),
        ..grpo()
    },
    // The rule as published; table 9's α for Qwen3-1.7B.
    "g2rpo-a" => Method {
        num_generations: 10,
        selector: fraction(0.25),
        controller: ControllerConfig::Ratio(RatioConfig::paper()),
        loss: Preset::G2rpoA.loss(),
        ..grpo()
    },
    // 2 members of 12 in the released pattern, without its misalignment.
    "g2rpo-a-released" => Method {
        num_generations: 10,
        selector: fraction(1.0 / 6.0),
        controller: ControllerConfig::Ratio(RatioConfig::released()),
        loss: Preset::G2rpoA.loss(),
        ..grpo()
    },
    "g2rpo-a-reproduction" => Method {
        num_generations: 4,
        selector: fraction(0.25),
        controller: ControllerConfig::Ratio(RatioConfig::reproduction()),
        loss: Preset::Trl.loss(),
        ..grpo()
    },
    // This project's own: half of the group, held at the set-point, cut at line breaks.
    "target" => Method {
        selector: fraction(0.5),
        controller: ControllerConfig::Target(TargetConfig::default()),
        cutter: units(Unit::Line, Snap::Nearest),
        loss: Preset::Trl.loss(),
        ..grpo()
    },
    "adaback" => Method {
        selector: fraction(1.0),
        controller: ControllerConfig::Bisection(BisectionConfig::default()),
        loss: without_kl(),
        ..grpo()
    },
    "luffy" => Method {
        selector: fraction(0.125),
        controller: fixed(1.0),
        source: by(&[Provenance::Teacher, Provenance::Gold]),
        loss: LossConfig {
            loss_type: LossType::DrGrpo,
            guidance_token_loss: GuidanceTokenLoss::Shaped { gamma: 0.1 },
            ..without_clip()
        },
        advantages: centred(),
        ..grpo()
    },
    "prefix-rft" => Method {
        selector: fraction(0.125),
        controller: falling(Shape::Cosine, 0.95, 0.05, steps),
        loss: LossConfig {
            guidance_token_loss: GuidanceTokenLoss::TopEntropy { fraction: 0.2 },
            ..Preset::DrGrpo.loss()
        },
        advantages: centred(),
        ..grpo()
    },
    // The hint begins the answer, so that the policy's likelihood of it is known.
    "uft" => Method {
        num_generations: 4,
        selector: fraction(1.0),
        controller: ControllerConfig::BinomialCosine(BinomialCosine {
            steps: steps * 3 / 5,
            ..BinomialCosine::default()
        }),
        loss: LossConfig {
            guidance_token_loss: GuidanceTokenLoss::Supervised { coef: 0.001 },
            ..without_kl()
        },
        ..grpo()
    },
    "trapo" => Method {
        selector: SelectorConfig::Ladder(Ladder::default()),
        cutter: units(Unit::Step, Snap::Forward { max_overrun: 0.3 }),
        loss: LossConfig {
            guidance_token_loss: GuidanceTokenLoss::Trust {
                alpha: 0.1,
                coef: 1.0,
            },
            ..without_clip()
        },
        advantages: centred(),
        ..grpo()
    },
    "ghpo" => Method {
        selector: retry(fractions(&[0.25, 0.5, 0.75])),
        ..hinted()
    },
    "guide" => Method {
        selector: SelectorConfig::ZeroRewardRetry(ZeroRewardRetry {
            levels: vec![Level::Hint(0)],
            discard_constant: true,
            ..ZeroRewardRetry::default()
        }),
        source: by(&[Provenance::Teacher, Provenance::Gold]),
        score_context: ScoreContext::OffPolicy,
        ..hinted()
    },
    // Three tiers of four hints each.
    "scaf" => Method {
        selector: SelectorConfig::ZeroRewardRetry(ZeroRewardRetry {
            retry: Retry::One,
            levels: (0..12).map(Level::Hint).collect(),
            warmup_steps: 50,
            ..ZeroRewardRetry::default()
        }),
        source: by(&[Provenance::Teacher, Provenance::Gold]),
        score_context: ScoreContext::HintFree,
        ..hinted()
    },
    "hint-grpo" => Method {
        selector: retry(fractions(&[0.25, 0.5, 0.75])),
        cutter: units(Unit::Step, Snap::Back),
        ..grpo()
    },
    "questa" => Method {
        selector: fraction(1.0),
        controller: ControllerConfig::Staged(Staged {
            stages: if steps < 2 {
                vec![(0, 0.5)]
            } else {
                vec![(0, 0.5), (steps / 2, 0.25)]
            },
            unit: AmountUnit::Fraction,
        }),
        ..hinted()
    },
    // The length of the prefix is not published in what we could read; a quarter is ours.
    "pope" => Method {
        selector: SelectorConfig::Mixed(FixedFraction {
            alpha: 0.5,
            rounding: Rounding::Ceil,
        }),
        controller: fixed(0.25),
        ..hinted()
    },
    // PPO's penalty in the reward, with GRPO's baseline in place of the critic.
    "r3" => Method {
        selector: fraction(1.0),
        controller: ControllerConfig::Random(Random::default()),
        cutter: units(Unit::Line, Snap::Nearest),
        loss: LossConfig {
            beta: 0.05,
            kl_placement: KlPlacement::Reward,
            ..without_kl()
        },
        ..grpo()
    },
    "sage" => Method {
        selector: retry((0..3).map(Level::Hint).collect()),
        source: by(&[Provenance::Own, Provenance::Teacher, Provenance::Gold]),
        ..hinted()
    },
    "seele" => Method {
        selector: SelectorConfig::CurveRounds(CurveRounds::default()),
        ..hinted()
    },
    // All but one get the abstract hint if the one without it fails.
    "nurl" => Method {
        selector: SelectorConfig::ProbeThenDecide(ProbeThenDecide {
            probes: 1,
            at_most: 0.0,
            level: Level::Hint(0),
        }),
        source: by(&[Provenance::Own, Provenance::Teacher, Provenance::Gold]),
        ..hinted()
    },
    "rtpo" => Method {
        selector: fraction(1.0),
        controller: falling(Shape::Linear, 1.0, 0.0, steps),
        loss: Preset::Trl.loss(),
        ..grpo()
    },
    // Rules out that variety of lengths alone does it.
    "random" => Method {
        selector: fraction(0.25),
        controller: ControllerConfig::Random(Random::default()),
        loss: Preset::Trl.loss(),
        ..grpo()
    },
}

/// DeepSeekMath's GRPO (arXiv 2402.03300), eight members as in TRL.
fn grpo() -> Method {
    Method {
        num_generations: 8,
        selector: fraction(0.0),
        controller: ControllerConfig::Fixed {
            amount: Amount::NONE,
        },
        cutter: UnitCutter::default(),
        limits: CutLimits::default(),
        source: SourceConfig::default(),
        placement: Placement::AssistantPrefix,
        hint_template: HintTemplate::default(),
        score_context: ScoreContext::AsSampled,
        loss: Preset::DeepSeekMath.loss(),
        advantages: Preset::DeepSeekMath.advantages(),
        token_advantages: None,
        dynamic_sampling: None,
        overlong: None,
        curriculum: Curriculum::default(),
        difficulty: None,
    }
}

/// Guidance in the prompt, and no KL.
fn hinted() -> Method {
    Method {
        placement: Placement::PromptHint,
        loss: without_kl(),
        ..grpo()
    }
}

/// GRPO's loss with β = 0: GHPO's and `AdaBack`'s, and ours where none is published.
fn without_kl() -> LossConfig {
    LossConfig {
        beta: 0.0,
        ..Preset::DeepSeekMath.loss()
    }
}

/// A ratio that may go anywhere: no quotient of two probabilities reaches the upper end in practice.
fn without_clip() -> LossConfig {
    LossConfig {
        epsilon: 1.0,
        epsilon_high: Some(1e9),
        ..without_kl()
    }
}

/// Differences from the mean, not divided by the standard deviation.
fn centred() -> AdvantageEstimator {
    AdvantageEstimator {
        scale: Scale::None,
        ..AdvantageEstimator::default()
    }
}

fn by(order: &[Provenance]) -> SourceConfig {
    SourceConfig {
        order: order.to_vec(),
        ..SourceConfig::default()
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

fn falling(shape: Shape, start: f64, end: f64, steps: u64) -> ControllerConfig {
    ControllerConfig::Schedule(Schedule {
        shape,
        start,
        end,
        steps,
        after: None,
        unit: AmountUnit::Fraction,
    })
}

fn fractions(of_trace: &[f64]) -> Vec<Level> {
    (of_trace.iter())
        .map(|&f| Level::Exactly(Amount::Fraction(f)))
        .collect()
}

fn retry(levels: Vec<Level>) -> SelectorConfig {
    SelectorConfig::ZeroRewardRetry(ZeroRewardRetry {
        levels,
        ..ZeroRewardRetry::default()
    })
}

fn units(unit: Unit, snap: Snap) -> UnitCutter {
    UnitCutter {
        unit,
        snap,
        rounding: Rounding::Stochastic,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::controller::length::Query;
    use crate::plan::plan_group;
    use crate::source::guidance::Guidance;
    use crate::testing::rng;
    use crate::trace::solution::Trace;

    #[test]
    fn every_preset_plans_and_survives_json_and_toml() {
        let pieces = [(1, "a\n\n"), (2, "b\n\n"), (3, "c\n\n"), (4, "#### 1")];
        let gold = Guidance::trace(Arc::new(Trace::from_pieces(&pieces)), Provenance::Gold);
        for name in Method::NAMES {
            let method = Method::preset(name, 500).unwrap();
            let controller = method.controller.build().unwrap();
            let parts = method.parts(&*controller, None).unwrap();
            let (query, size) = (Query::default(), method.num_generations);
            let plan = plan_group(&parts, &query, Some(&gold), size, &mut rng());
            let plan = plan.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(plan.members.iter().all(|m| m.cut.len <= 3), "{name}");
            let json = serde_json::to_string(&method).unwrap();
            let back: Method = serde_json::from_str(&json).unwrap();
            assert_eq!(back, method, "{name}");
            let toml = toml::to_string(&method).unwrap_or_else(|e| panic!("{name}: {e}"));
            let back: Method = toml::from_str(&toml).unwrap();
            assert_eq!(back, method, "{name}\n{toml}");
        }
        assert_eq!(toml::from_str::<Method>("").unwrap(), grpo());
    }

    #[test]
    fn each_preset_is_a_method_of_its_own() {
        let methods: Vec<_> = (Method::NAMES.iter())
            .map(|name| Method::preset(name, 500).unwrap())
            .collect();
        for (i, method) in methods.iter().enumerate() {
            assert!(!methods[..i].contains(method), "{}", Method::NAMES[i]);
        }
    }

    #[test]
    fn without_guidance_there_is_none() {
        let gold = Guidance::trace(Arc::new(Trace::from_tokens(vec![1; 9])), Provenance::Gold);
        for name in ["grpo", "dr-grpo", "dapo", "gspo", "rlsd", "rlcsd"] {
            let method = Method::preset(name, 1).unwrap();
            let controller = method.controller.build().unwrap();
            let parts = method.parts(&*controller, None).unwrap();
            let plan = plan_group(&parts, &Query::default(), Some(&gold), 8, &mut rng()).unwrap();
            let mut members = plan.members.iter();
            assert!(members.all(|m| !m.is_chosen() && !m.is_guided()), "{name}");
        }
    }
}
