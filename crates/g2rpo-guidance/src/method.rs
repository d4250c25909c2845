//! Whole methods by name.

mod parts;
mod presets;

use serde::{Deserialize, Serialize};

pub use parts::{ControllerConfig, CutterConfig, SelectorConfig};

use crate::{
    CutLimits, Cutter, Error, LengthController, Parts, Placement, Provenance, Result, Selector,
};

/// The rollout plan of a method and what it expects of the loss.
///
/// Selector, controller and cutter are configurations from which the parts are built; the rest
/// says what a loop has to do for the result to be the method. All of it can be changed, and
/// written to and read from a recipe.
///
/// ```
/// use g2rpo_guidance::{Method, ControllerConfig};
/// let mut method = Method::preset("g2rpo-a", 1000)?;
/// if let ControllerConfig::Ratio(ratio) = &mut method.controller {
///     (ratio.initial, ratio.max) = (128.0, 128.0);
/// }
/// assert!(Method::preset("no-such", 1000).unwrap_err().to_string().contains("g2rpo-a"));
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Who is guided.
    pub selector: SelectorConfig,
    /// How much.
    pub controller: ControllerConfig,
    /// Cut where.
    pub cutter: CutterConfig,
    /// Whose solutions or hints the method uses.
    pub provenance: Provenance,
    /// Where they are put.
    pub placement: Placement,
    /// What guidance tokens contribute to the loss.
    pub guidance_token_loss: TokenLoss,
    /// Whether advantages are divided by the group's standard deviation.
    pub scale_rewards: bool,
    /// Under which prompt own tokens are scored.
    pub score_context: ScoreContext,
}

/// What guidance tokens contribute to the loss; the variants are those of
/// `g2rpo_core::GuidanceTokenLoss`, in the same spelling.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLoss {
    /// Nothing.
    #[default]
    Masked,
    /// As own tokens, with the advantage of their rollout.
    SameAdvantage,
    /// As own tokens where the advantage is positive.
    PositiveOnly,
    /// `coef` times their mean negative log-likelihood.
    Supervised {
        /// Weight.
        coef: f64,
    },
    /// LUFFY's policy shaping.
    Shaped {
        /// Where the weight turns down.
        gamma: f64,
    },
    /// TRAPO's trust-region supervised loss.
    Trust {
        /// Probability below which the gradient is scaled down.
        alpha: f64,
        /// Weight.
        coef: f64,
    },
    /// As own tokens, but only the share of highest entropy.
    TopEntropy {
        /// The share.
        fraction: f64,
    },
}

/// Under which prompt own tokens of guided rollouts are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreContext {
    /// Under the one they were sampled with.
    #[default]
    AsSampled,
    /// Under the prompt without the hint (Guide-GRPO, Scaf-GRPO): off-policy.
    HintFree,
}

/// The built parts of a [`Method`].
pub struct BuiltMethod {
    /// Who is guided.
    pub selector: Box<dyn Selector + Send + Sync>,
    /// How much.
    pub controller: Box<dyn LengthController + Send>,
    /// Cut where.
    pub cutter: Box<dyn Cutter + Send + Sync>,
}

impl std::fmt::Debug for BuiltMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltMethod").finish_non_exhaustive()
    }
}

impl BuiltMethod {
    /// The parts with the given caps, for [`plan_group`](crate::plan_group).
    pub fn parts<'a>(&'a self, limits: CutLimits<'a>) -> Parts<'a> {
        Parts {
            selector: &self.selector,
            controller: &self.controller,
            cutter: &*self.cutter,
            limits,
        }
    }
}

impl Method {
    /// Names of all presets.
    pub const NAMES: [&'static str; 22] = presets::NAMES;

    /// A published method by name; `steps` is the number of training steps, over which schedules
    /// run. docs/algorithm.md lists what each preset leaves to the loop, and what could not be
    /// expressed.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`], with the names there are.
    pub fn preset(name: &str, steps: u64) -> Result<Self> {
        presets::preset(name, steps).ok_or_else(|| Error::UnknownPreset {
            name: name.to_owned(),
            known: Self::NAMES.join(", "),
        })
    }

    /// Builds the parts.
    ///
    /// # Errors
    /// [`Error::Config`] for numbers outside their domain.
    pub fn build(&self) -> Result<BuiltMethod> {
        Ok(BuiltMethod {
            selector: self.selector.build(),
            controller: self.controller.build()?,
            cutter: self.cutter.build(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::rng;
    use crate::{Query, Trace, plan_group};

    #[test]
    fn every_preset_builds_plans_and_survives_json_and_toml() {
        let trace = Trace::from_pieces(&[(1, "a\n\n"), (2, "b\n\n"), (3, "c\n\n"), (4, "#### 1")]);
        for name in Method::NAMES {
            let method = Method::preset(name, 500).unwrap();
            let built = method.build().unwrap();
            let parts = built.parts(CutLimits::default());
            let plan = plan_group(&parts, &Query::default(), Some(&trace), 8, &mut rng());
            let plan = plan.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(plan.members.iter().all(|m| m.cut.len <= 3), "{name}");
            let json = serde_json::to_string(&method).unwrap();
            assert_eq!(
                serde_json::from_str::<Method>(&json).unwrap(),
                method,
                "{name}"
            );
            let toml = toml::to_string(&method).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(
                toml::from_str::<Method>(&toml).unwrap(),
                method,
                "{name}\n{toml}"
            );
        }
    }

    #[test]
    fn the_published_methods_are_there_by_name() {
        let published = [
            "grpo",
            "g2rpo-a",
            "g2rpo-a-released",
            "g2rpo-a-reproduction",
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
        ];
        let own = ["target", "random"];
        let mut expected: Vec<&str> = published.into_iter().chain(own).collect();
        let mut names = Method::NAMES.to_vec();
        expected.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, expected);
        // Each is a method of its own: no name is another's alias.
        for (i, name) in names.iter().enumerate() {
            let method = Method::preset(name, 500).unwrap();
            for other in &names[..i] {
                assert_ne!(
                    Method::preset(other, 500).unwrap(),
                    method,
                    "{name} is {other}"
                );
            }
        }
    }

    #[test]
    fn without_guidance_there_is_none() {
        let built = Method::preset("grpo", 1).unwrap().build().unwrap();
        let parts = built.parts(CutLimits::default());
        let trace = Trace::from_tokens(vec![1; 9]);
        let plan = plan_group(&parts, &Query::default(), Some(&trace), 8, &mut rng()).unwrap();
        assert!(
            plan.members
                .iter()
                .all(|m| m.cut.len == 0 && !m.is_guided())
        );
    }
}
