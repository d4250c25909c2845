//! A method as one value: rollout plan, loss and advantages.

use g2rpo_core::{AdvantageEstimator, LossConfig, TokenAdvantage};
use serde::{Deserialize, Serialize};

use crate::controller::controllers::ControllerConfig;
use crate::controller::length::LengthController;
use crate::curriculum::difficulty::DifficultyConfig;
use crate::curriculum::order::Curriculum;
use crate::defaults::settings;
use crate::error::Result;
use crate::plan::Parts;
use crate::selector::selectors::SelectorConfig;
use crate::source::placement::{HintTemplate, Placement};
use crate::source::sources::SourceConfig;
use crate::trace::cut::{Caps, CutLimits, Passes};
use crate::trace::cutter::UnitCutter;

/// A method: who is guided by what, what the loss makes of it, and which tasks come when.
///
/// All of it can be changed, by field or by key, printed, compared, and written to and read from a
/// recipe; what a recipe leaves out is as in the preset `grpo`. Each number stands here once:
/// `loss.max_completion_length` also bounds what is generated and given.
///
/// ```
/// use g2rpo_guidance::Method;
/// let method = Method::preset("g2rpo-a", 1000)?.set("alpha", 0.75)?.set("max", 128)?;
/// assert!(method.check().unwrap_err().to_string().contains("initial = 3072"));
/// let method = method.set("initial", 128)?;
/// method.check()?;
/// let changed = method.diff(&Method::preset("g2rpo-a", 1000)?);
/// assert_eq!(changed[0].0, "controller.initial");
/// assert_eq!(changed.len(), 3);
/// assert!(Method::preset("no-such", 1000).unwrap_err().to_string().contains("g2rpo-a"));
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Method {
    /// G, members of a group.
    pub num_generations: usize,
    /// Who is guided.
    pub selector: SelectorConfig,
    /// How much.
    pub controller: ControllerConfig,
    /// Cut where.
    pub cutter: UnitCutter,
    /// What no cut exceeds.
    pub limits: CutLimits,
    /// Whose solutions or hints are used.
    pub source: SourceConfig,
    /// Where they are put.
    pub placement: Placement,
    /// How a hint is put into a prompt.
    pub hint_template: HintTemplate,
    /// Under which prompt own tokens are scored.
    pub score_context: ScoreContext,
    /// The loss, and what guidance tokens contribute to it.
    pub loss: LossConfig,
    /// How rewards become advantages.
    pub advantages: AdvantageEstimator,
    /// How a row's advantage is spread over its tokens, by what a hint (the task's trace, or a
    /// sibling) makes of them. `None` gives every token the row's.
    pub token_advantages: Option<TokenAdvantage>,
    /// Whether groups without advantages are replaced by others.
    pub dynamic_sampling: Option<DynamicSampling>,
    /// Whether long completions are paid less.
    pub overlong: Option<Overlong>,
    /// The order of the tasks.
    pub curriculum: Curriculum,
    /// Whether tasks are chosen by a difficulty that follows the reward instead.
    pub difficulty: Option<DifficultyConfig>,
}

/// Under which prompt own tokens are scored when the one they were sampled under held a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreContext {
    /// Under the one they were sampled with (GHPO, SAGE).
    #[default]
    AsSampled,
    /// Under the prompt without the hint, now and before the update: the ratio begins at 1
    /// (Scaf-GRPO).
    HintFree,
    /// Under the prompt without the hint now, and with it before the update: the ratio is the
    /// importance weight of having had the hint (Guide-GRPO).
    OffPolicy,
}

settings! {
    /// Groups that the method's estimator gives no advantage, by what was paid, are replaced by groups of
    /// other tasks (DAPO, arXiv 2503.14476; verl's `filter_groups`). A KL term in the reward comes after.
    ///
    /// ```
    /// use g2rpo_guidance::{DynamicSampling, Method};
    ///
    /// let mut method = Method::preset("g2rpo-a", 100).unwrap();
    /// method.dynamic_sampling = Some(DynamicSampling { max_num_gen_batches: 3 });
    /// // Two batches of new groups at most, after the first.
    /// assert!(serde_json::to_string(&method).unwrap().contains("\"max_num_gen_batches\":3"));
    /// ```
    #[derive(Copy, Eq)]
    pub struct DynamicSampling {
        /// Batches that are generated for one step at most, the first included. Default 10, as in
        /// verl's recipe.
        pub max_num_gen_batches: usize = 10,
    }
}

settings! {
    /// DAPO's soft punishment of overlong completions (arXiv 2503.14476).
    #[derive(Copy)]
    pub struct Overlong {
        /// Tokens before `max_completion_length` over which the punishment grows. Default 51, a fifth
        /// of the default length, as DAPO's 4096 of 20 480.
        pub cache: usize = 51,
        /// The punishment at `max_completion_length`. Default 1, as in DAPO.
        pub penalty_factor: f64 = 1.0,
    }
}

impl Overlong {
    /// What is added to the reward of a completion of `length` tokens: 0 up to
    /// `max_completion_length - cache`, then falling evenly to `-penalty_factor`, and no further.
    /// [`Budget::counted`](crate::Budget::counted) says whether guidance is among them.
    ///
    /// ```
    /// use g2rpo_guidance::Overlong;
    /// let dapo = Overlong { cache: 4096, penalty_factor: 1.0 };
    /// assert_eq!(dapo.penalty(20480, 16384), 0.0);
    /// assert_eq!(dapo.penalty(20480, 18432), -0.5);
    /// assert_eq!(dapo.penalty(20480, 20480), -1.0);
    /// assert_eq!(dapo.penalty(20480, 30000), -1.0);
    /// ```
    pub fn penalty(&self, max_completion_length: usize, length: usize) -> f64 {
        let free = max_completion_length.saturating_sub(self.cache);
        let over = length.saturating_sub(free).min(self.cache);
        if over == 0 {
            return 0.0;
        }
        -(over as f64) / self.cache.max(1) as f64 * self.penalty_factor
    }
}

impl Method {
    /// The parts that plan a group, with the caps of this method. `passes` is the verifier's word
    /// on a prefix; give it where a response passes without announcing its answer.
    ///
    /// # Errors
    /// As [`check`](Self::check): what cannot be executed is not planned either.
    pub fn parts<'a>(
        &'a self,
        controller: &'a dyn LengthController,
        passes: Option<&'a Passes<'a>>,
    ) -> Result<Parts<'a>> {
        self.check()?;
        Ok(Parts {
            selector: &self.selector,
            controller,
            cutter: &self.cutter,
            placement: self.placement,
            caps: Caps {
                limits: &self.limits,
                max_completion_length: self.loss.max_completion_length,
                passes,
            },
        })
    }
}
