//! Settings that nothing reads, as the others stand.

use g2rpo_core::{AdvantageEstimator, CispoClip, LossConfig, LossType, Scale};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::method::settings::Method;
use crate::selector::member::Level;
use crate::source::placement::{HintTemplate, Placement};
use crate::source::sources::SourceConfig;
use crate::trace::cut::CutLimits;

/// Settings, whether a method reads them, and what they need.
type Rule = (&'static [&'static str], fn(&Method) -> bool, &'static str);

const RULES: [Rule; 13] = [
    (
        &["loss.delta"],
        |m| clips(m) || m.loss.loss_type == LossType::Dppo,
        "a loss type that clips (grpo, bnpo, dr_grpo, dapo, luspo) or dppo",
    ),
    (
        &["loss.epsilon"],
        |m| !is_one_of(m, &UNCLIPPED) && !caps_only(m),
        "a loss type with a trust region on both sides",
    ),
    (
        &["loss.epsilon_high"],
        |m| !is_one_of(m, &UNCLIPPED),
        "a loss type with a trust region",
    ),
    (
        &["loss.importance_sampling_level"],
        |m| !is_one_of(m, &[LossType::Reinforce, LossType::Vespo, LossType::Gmpo]),
        "a loss type of ratios that are not those of sequences already",
    ),
    (
        &["loss.sapo_temperature_pos", "loss.sapo_temperature_neg"],
        |m| m.loss.loss_type == LossType::Sapo,
        "loss_type = sapo",
    ),
    (
        &[
            "loss.vespo_k_pos",
            "loss.vespo_k_neg",
            "loss.vespo_lambda_pos",
            "loss.vespo_lambda_neg",
        ],
        |m| m.loss.loss_type == LossType::Vespo,
        "loss_type = vespo",
    ),
    (
        &["loss.cispo_clip"],
        |m| m.loss.loss_type == LossType::Cispo,
        "loss_type = cispo",
    ),
    (
        &["loss.dppo_divergence"],
        |m| m.loss.loss_type == LossType::Dppo,
        "loss_type = dppo",
    ),
    (
        &[
            "loss.kl_estimator",
            "loss.kl_gradient",
            "loss.kl_placement",
            "loss.kl_clamp",
            "loss.kl_log_ratio_clamp",
        ],
        |m| m.loss.beta != 0.0,
        "beta above 0",
    ),
    (
        &["advantages.eps"],
        |m| m.advantages.scale != Scale::None,
        "a scale",
    ),
    (
        &["limits.budget.min_own_tokens"],
        |m| m.limits.budget.counts_guidance,
        "counts_guidance, without which guidance takes no room of own tokens",
    ),
    (
        &["source.capacity"],
        |m| m.source.learns(),
        "own in source.order",
    ),
    (
        &["hint_template"],
        |m| {
            let hints = |level: &Level| matches!(level, Level::Hint(_));
            m.placement == Placement::PromptHint
                || m.token_advantages.is_some()
                || m.selector.levels().iter().any(hints)
        },
        "hints in prompts",
    ),
];

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
            "limits": CutLimits::default(),
            "source": SourceConfig::default(),
            "hint_template": HintTemplate::default(),
        });
        let mut idle = Vec::new();
        for (keys, is_read, needs) in RULES {
            let changed = keys.iter().filter(|key| at(&set, key) != at(&default, key));
            if !is_read(self) {
                idle.extend(changed.map(|key| (*key, needs)));
            }
        }
        idle
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
