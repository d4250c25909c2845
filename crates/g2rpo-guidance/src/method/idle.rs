//! Settings that nothing reads, as the others stand.

use g2rpo_core::{
    AdvantageEstimator, Aggregation, Baseline, CispoClip, LossConfig, LossType, Scale,
};
use serde_json::{Value, json};

use crate::controller::amount::Amount;
use crate::controller::controllers::ControllerConfig;
use crate::error::{Error, Result};
use crate::method::settings::Method;
use crate::selector::member::{Level, Selector};
use crate::selector::selectors::SelectorConfig;
use crate::source::placement::{HintTemplate, Placement};
use crate::source::sources::SourceConfig;
use crate::trace::cut::CutLimits;
use crate::trace::cutter::UnitCutter;

/// Settings, whether a method reads them, and what they need.
type Rule = (&'static [&'static str], fn(&Method) -> bool, &'static str);

/// A rule a row: its settings are read if the method is as it says.
macro_rules! rules {
    ($([$($key:literal),+] if $is_read:expr, $needs:literal;)+) => {
        &[$((&[$($key),+], $is_read, $needs)),+]
    };
}

const RULES: &[Rule] = rules! {
    ["loss.delta"]
        if |m| clips(m) || is_one_of(m, &[LossType::Dppo]),
        "a loss type that clips (grpo, bnpo, dr_grpo, dapo, luspo) or dppo";
    ["loss.epsilon"]
        if |m| !is_one_of(m, &UNCLIPPED) && !caps_only(m),
        "a loss type with a trust region on both sides";
    ["loss.epsilon_high"]
        if |m| !is_one_of(m, &UNCLIPPED),
        "a loss type with a trust region";
    ["loss.importance_sampling_level"]
        if |m| !is_one_of(m, &[LossType::Reinforce, LossType::Vespo, LossType::Gmpo]),
        "a loss type of ratios that are not those of sequences already";
    ["loss.log_ratio_clamp"]
        if |m| !is_one_of(m, &[LossType::Reinforce]),
        "a loss type of ratios";
    ["loss.sapo_temperature_pos", "loss.sapo_temperature_neg"]
        if |m| is_one_of(m, &[LossType::Sapo]),
        "loss_type = sapo";
    ["loss.vespo_k_pos", "loss.vespo_k_neg", "loss.vespo_lambda_pos", "loss.vespo_lambda_neg"]
        if |m| is_one_of(m, &[LossType::Vespo]),
        "loss_type = vespo";
    ["loss.cispo_clip"]
        if |m| is_one_of(m, &[LossType::Cispo]),
        "loss_type = cispo";
    ["loss.dppo_divergence"]
        if |m| is_one_of(m, &[LossType::Dppo]),
        "loss_type = dppo";
    ["loss.kl_estimator", "loss.kl_gradient", "loss.kl_placement", "loss.kl_clamp", "loss.kl_log_ratio_clamp"]
        if |m| m.loss.beta != 0.0,
        "beta above 0";
    ["loss.length_normalizer"]
        if |m| is_mean(m) && m.placement == Placement::AssistantPrefix,
        "a mean over tokens (aggregation) and guidance among them (placement = assistant_prefix)";
    ["advantages.eps"]
        if |m| m.advantages.scale != Scale::None || matches!(m.advantages.baseline, Baseline::PassAtK { .. }),
        "a scale";
    ["advantages.strata"]
        if has_both_behind_one_baseline,
        "guided and unguided members behind one baseline";
    ["controller"]
        if |m| gives(m, |level| *level == Level::Controlled),
        "a selector with the level controlled";
    ["cutter", "limits"]
        if |m| gives(m, is_cut),
        "a selector with levels that are cut from traces";
    ["limits.budget.min_own_tokens", "limits.budget.counts_guidance"]
        if |m| m.placement == Placement::AssistantPrefix,
        "placement = assistant_prefix, as what stands in the prompt takes no room of own tokens";
    ["limits.budget.min_own_tokens"]
        if |m| m.limits.budget.counts_guidance,
        "counts_guidance, without which guidance takes no room of own tokens";
    ["source.capacity"]
        if |m| m.source.learns(),
        "own in source.order";
    ["hint_template"]
        if gives_hints,
        "hints in prompts";
};

/// Settings that nothing reads where nobody is guided.
const OF_GUIDANCE: [&str; 9] = [
    "controller",
    "cutter",
    "limits",
    "source",
    "placement",
    "score_context",
    "loss.guidance_token_loss",
    "loss.length_normalizer",
    "advantages.strata",
];

fn is_mean(method: &Method) -> bool {
    use Aggregation::{SequenceMean, TokenMean};
    matches!(method.loss.aggregation(), SequenceMean | TokenMean)
}

fn has_both_behind_one_baseline(method: &Method) -> bool {
    let n = method.num_generations;
    let all = method.selector.chosen_of(n) == Some(n);
    !all && !matches!(method.selector, SelectorConfig::Mixed(_))
}

fn gives_hints(method: &Method) -> bool {
    let hints = |level: &Level| matches!(level, Level::Hint(_));
    method.placement == Placement::PromptHint
        || method.token_advantages.is_some()
        || method.selector.levels().iter().any(hints)
}

/// Whether some level is such. Where nobody is guided, which is the limit of every method, the others
/// may stand as they are.
fn gives(method: &Method, such: fn(&Level) -> bool) -> bool {
    let mut levels = method.selector.levels();
    levels.retain(|level| level.is_chosen());
    levels.is_empty() || levels.iter().any(such)
}

fn is_cut(level: &Level) -> bool {
    matches!(level, Level::Controlled | Level::Exactly(_))
}

const UNCLIPPED: [LossType; 3] = [LossType::Sapo, LossType::Reinforce, LossType::Vespo];

fn is_one_of(method: &Method, types: &[LossType]) -> bool {
    types.contains(&method.loss.loss_type)
}

fn clips(method: &Method) -> bool {
    use LossType::{Bnpo, Dapo, DrGrpo, Grpo, Luspo};
    is_one_of(method, &[Grpo, Bnpo, DrGrpo, Dapo, Luspo])
}

/// CISPO as published has a cap and no floor.
fn caps_only(method: &Method) -> bool {
    method.loss.loss_type == LossType::Cispo && method.loss.cispo_clip == CispoClip::Absolute
}

impl Method {
    /// Settings that nothing would read, because another says so, and what they need. Values as by
    /// default count as not set.
    ///
    /// ```
    /// use g2rpo_guidance::Method;
    /// let grpo = Method::preset("grpo", 10)?;
    /// assert!(grpo.idle().is_empty());
    /// let sapo = grpo.set("loss_type", "sapo")?.set("epsilon", 0.3)?;
    /// assert_eq!(sapo.idle()[0].0, "loss.epsilon");
    /// assert_eq!(
    ///     sapo.check().unwrap_err().to_string(),
    ///     "loss.epsilon would be read by nothing: it needs a loss type with a trust region on both sides"
    /// );
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    pub fn idle(&self) -> Vec<(&'static str, &'static str)> {
        let set = json!(self);
        let default = json!({
            "loss": LossConfig::default(),
            "advantages": AdvantageEstimator::default(),
            "controller": ControllerConfig::Fixed { amount: Amount::NONE },
            "cutter": UnitCutter::default(),
            "limits": CutLimits::default(),
            "source": SourceConfig::default(),
            "hint_template": HintTemplate::default(),
        });
        let mut idle = Vec::new();
        for &(keys, is_read, needs) in RULES {
            let changed = keys.iter().filter(|key| at(&set, key) != at(&default, key));
            if !is_read(self) {
                idle.extend(changed.map(|key| (*key, needs)));
            }
        }
        idle
    }

    /// Says so if the settings come to a method without guidance, which somebody may want or not know
    /// of: members are chosen to be guided and given nothing in whatever step, or nobody is chosen and
    /// settings of guidance are others than those of plain GRPO.
    ///
    /// ```
    /// use g2rpo_guidance::Method;
    /// let grpo = Method::preset("grpo", 10)?;
    /// assert_eq!(grpo.remark(), None);
    /// let idle = grpo.clone().set("alpha", 0.5)?;
    /// idle.check()?;
    /// assert!(idle.remark().unwrap().starts_with("members are chosen to be guided and given nothing"));
    /// assert_eq!(idle.set("controller.amount", serde_json::json!({"tokens": 9.0}))?.remark(), None);
    /// let unguided = grpo.set("guidance_token_loss", "same_advantage")?;
    /// assert_eq!(
    ///     unguided.remark().unwrap(),
    ///     "nobody is guided, so loss.guidance_token_loss changes nothing; the run is plain GRPO"
    /// );
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    pub fn remark(&self) -> Option<String> {
        let mut levels = self.selector.levels();
        levels.retain(|level| level.is_chosen());
        let no_room = self.limits.budget.max_guidance == Some(0);
        let gives = |level: &Level| match level {
            Level::Unguided => false,
            Level::Controlled => !no_room && !self.controller.gives_nothing(),
            Level::Exactly(amount) => !no_room && amount.value() > 0.0,
            Level::Hint(_) => true,
        };
        if levels.is_empty() {
            return self.remark_on_nobody();
        }
        if levels.iter().any(gives) {
            return None;
        }
        let why = if no_room {
            "limits.budget.max_guidance is 0"
        } else {
            "the amount is 0 in every step: set the controller"
        };
        Some(format!(
            "members are chosen to be guided and given nothing, as {why}; the run is plain GRPO"
        ))
    }

    fn remark_on_nobody(&self) -> Option<String> {
        if self.token_advantages.is_some() {
            return None;
        }
        let (set, plain) = (json!(self), json!(Self::preset("grpo", 1).ok()?));
        let differ = |key: &&&str| at(&set, key) != at(&plain, key);
        let keys: Vec<&str> = OF_GUIDANCE.iter().filter(differ).copied().collect();
        let verb = if keys.len() == 1 { "changes" } else { "change" };
        let keys = keys.join(", ");
        (!keys.is_empty())
            .then(|| format!("nobody is guided, so {keys} {verb} nothing; the run is plain GRPO"))
    }

    pub(crate) fn check_idle(&self) -> Result<()> {
        match self.idle().first() {
            None => Ok(()),
            Some(&(key, needs)) => Err(Error::Idle { key, needs }),
        }
    }
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}
