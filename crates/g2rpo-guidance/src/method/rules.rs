//! Which settings of a method cannot be executed together.

use g2rpo_core::{GuidanceTokenLoss, KlPlacement};

use crate::controller::amount::Amount;
use crate::controller::controllers::ControllerConfig;
use crate::curriculum::difficulty::Difficulty;
use crate::curriculum::order::Curriculum;
use crate::error::{AT_LEAST_1, Domain, Error, NON_NEGATIVE, Result, SHARE};
use crate::method::settings::{Method, ScoreContext};
use crate::selector::member::{Level, Selector};
use crate::source::placement::Placement;
use crate::trace::cutter::Snap;

impl Method {
    /// Checks every setting's domain and that the settings agree with each other, so that nothing
    /// fails, or is read and dropped, once training runs.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Core`] name a setting, its value and its domain;
    /// [`Error::Conflict`] names two settings that exclude each other; [`Error::GroupSize`] and
    /// [`Error::LadderSize`] for a `num_generations` that the selector cannot divide.
    ///
    /// ```
    /// use g2rpo_guidance::Method;
    /// let method = Method::preset("ghpo", 100)?.set("guidance_token_loss", "same_advantage")?;
    /// assert_eq!(
    ///     method.check().unwrap_err().to_string(),
    ///     "placement = prompt_hint does not go with loss.guidance_token_loss = same_advantage: \
    ///      only a prefix has tokens in the loss; use assistant_prefix or masked"
    /// );
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    pub fn check(&self) -> Result<()> {
        self.selector.check(self.num_generations)?;
        self.controller.build()?;
        if let Snap::Forward { max_overrun } = self.cutter.snap {
            SHARE.check("max_overrun", max_overrun)?;
        }
        self.loss.check()?;
        self.advantages.check()?;
        if let Some(spread) = &self.token_advantages {
            spread.check(&self.loss)?;
        }
        self.check_lengths()?;
        self.check_tasks()?;
        self.check_levels()?;
        self.check_placement()?;
        self.check_score_context()?;
        self.check_idle()
    }

    fn check_lengths(&self) -> Result<()> {
        let max = self.loss.max_completion_length;
        if self.placement == Placement::AssistantPrefix {
            self.limits.budget.check(max)?;
        }
        if let Some(dynamic) = self.dynamic_sampling {
            let batches = dynamic.max_num_gen_batches as f64;
            AT_LEAST_1.check("max_num_gen_batches", batches)?;
        }
        if let Some(overlong) = self.overlong {
            let (cache, max) = (overlong.cache as f64, max as f64);
            Domain(1.0, max, "[1, max_completion_length]").check("cache", cache)?;
            let penalty = overlong.penalty_factor;
            NON_NEGATIVE.check("penalty_factor", penalty)?;
        }
        Ok(())
    }

    fn check_tasks(&self) -> Result<()> {
        let capacity = self.source.capacity as f64;
        AT_LEAST_1.check("capacity", capacity)?;
        let authors = self.source.order.len() as f64;
        AT_LEAST_1.check("length of source.order", authors)?;
        if let Curriculum::Tiers { tiers, .. } = self.curriculum {
            AT_LEAST_1.check("tiers", tiers as f64)?;
        }
        let Some(difficulty) = self.difficulty else {
            return Ok(());
        };
        Difficulty::new(difficulty)?;
        if self.curriculum != Curriculum::default() {
            return conflict(
                "difficulty",
                "a curriculum",
                "it chooses the tasks itself; leave curriculum at shuffled",
            );
        }
        Ok(())
    }

    fn check_levels(&self) -> Result<()> {
        let mut levels = self.selector.levels();
        levels.retain(|level| level.is_chosen());
        let is_hint = |level: &Level| matches!(level, Level::Hint(_));
        let only_hints = !levels.is_empty() && levels.iter().all(is_hint);
        if only_hints && self.placement == Placement::AssistantPrefix {
            return conflict(
                "placement = assistant_prefix",
                "levels that are hints",
                "a hint stands in the prompt; use prompt_hint",
            );
        }
        let controller = match &self.controller {
            ControllerConfig::Bisection(_) => "controller = bisection",
            ControllerConfig::Irt(_) => "controller = irt",
            _ => return Ok(()),
        };
        let is_fraction = |level: &Level| {
            matches!(
                level,
                Level::Controlled | Level::Exactly(Amount::Fraction(_))
            )
        };
        if !levels.iter().all(is_fraction) {
            return conflict(
                controller,
                "levels that are hints, or exact amounts in other units",
                "it learns from every guided member at which fraction of the trace it was; give exact amounts as fractions",
            );
        }
        Ok(())
    }

    fn check_placement(&self) -> Result<()> {
        let treatment = self.loss.guidance_token_loss;
        if self.placement == Placement::PromptHint && treatment != GuidanceTokenLoss::Masked {
            let json = serde_json::to_value(treatment).unwrap_or_default();
            let variant = json.as_object().and_then(|map| map.keys().next());
            let name = variant.map(String::as_str).or(json.as_str());
            let name = name.unwrap_or_default();
            return conflict(
                "placement = prompt_hint",
                format!("loss.guidance_token_loss = {name}"),
                "only a prefix has tokens in the loss; use assistant_prefix or masked",
            );
        }
        Ok(())
    }

    fn check_score_context(&self) -> Result<()> {
        if self.score_context == ScoreContext::AsSampled {
            return Ok(());
        }
        let (loss, context) = (&self.loss, "score_context");
        if self.placement == Placement::AssistantPrefix {
            return conflict(
                context,
                "placement = assistant_prefix",
                "only a hint in the prompt can be left out when own tokens are scored; use prompt_hint or as_sampled",
            );
        }
        if loss.importance_sampling_correction.is_some() {
            return conflict(
                context,
                "importance_sampling_correction",
                "the sampler saw another prompt than the one that is scored; use as_sampled, or leave it out",
            );
        }
        if loss.off_policy_mask_threshold.is_some() {
            return conflict(
                context,
                "off_policy_mask_threshold",
                "the sampler saw another prompt than the one that is scored; use as_sampled, or leave it out",
            );
        }
        let kl_in_reward = loss.needs_reference() && loss.kl_placement == KlPlacement::Reward;
        if kl_in_reward && self.score_context == ScoreContext::OffPolicy {
            return conflict(
                "score_context = off_policy",
                "loss.kl_placement = reward",
                "the policy that sampled is scored under another prompt than the reference; use hint_free, or KL in the loss",
            );
        }
        Ok(())
    }
}

fn conflict(first: &str, second: impl Into<String>, why: &'static str) -> Result<()> {
    Err(Error::Conflict {
        first: first.to_owned(),
        second: second.into(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_preset_can_be_executed() {
        for name in Method::NAMES {
            for steps in [0, 1, 500] {
                let method = Method::preset(name, steps).unwrap();
                method.check().unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }

    /// Preset, key, value as JSON, and what the error says.
    const REFUSED: &str = r#"
        grpo | num_generations | 1 | group size 1
        grpo | alpha | 1.5 | alpha = 1.5
        trapo | num_generations | 6 | the rungs of the ladder have 8
        pope | num_generations | 3 | a group of 3: 2 guided and 1 unguided members
        pope | alpha | 1.0 | 8 guided and 0 unguided
        ghpo | threshold | 0.0 | threshold = 0
        luffy | length_normalizer | "own" | loss.length_normalizer would be read by nothing
        ghpo | controller | {"kind": "irt"} | controller would be read by nothing
        scaf | cutter.unit | "line" | cutter would be read by nothing
        scaf | max_guidance | 9 | limits would be read by nothing
        ghpo | min_own_tokens | 9 | min_own_tokens would be read by nothing
        adaback | min_own_tokens | 0 | min_own_tokens = 0
        adaback | strata | "unguided_mean" | advantages.strata would be read by nothing
        pope | strata | "split" | advantages.strata would be read by nothing
        scaf | loss.importance_sampling_correction | {} | score_context does not go with importance_sampling_correction
        guide | loss | {"beta": 0.1, "kl_placement": "reward"} | score_context = off_policy does not go with loss.kl_placement = reward
        sage | placement | "assistant_prefix" | levels that are hints
        adaback | selector | {"kind": "zero_reward_retry", "levels": ["controlled", {"exactly": {"tokens": 9.0}}]} | controller = bisection does not go with
        adaback | selector | {"kind": "zero_reward_retry", "levels": ["controlled", {"hint": 0}]} | controller = bisection does not go with
        nurl | probes | 8 | probes = 8
        seele | rounds | 0 | rounds = 0
        ghpo | levels | [{"exactly": {"fraction": -0.5}}] | level = -0.5
        target | rate | 2.0 | rate = 2
        trapo | max_overrun | 1.5 | max_overrun = 1.5
        grpo | epsilon | -0.1 | epsilon = -0.1
        grpo | eps | -1.0 | eps = -1
        g2rpo-a | min_own_tokens | 999 | min_own_tokens = 999
        dapo | max_num_gen_batches | 0 | max_num_gen_batches = 0
        dapo | cache | 0 | cache = 0
        dapo | max_completion_length | 20 | cache = 51
        dapo | penalty_factor | -1.0 | penalty_factor = -1
        rlcsd | aggregation | "sequence_mean" | rlcsd
        rlsd | lambda | 1.5 | lambda = 1.5
        grpo | capacity | 0 | capacity = 0
        grpo | order | [] | length of source.order = 0
        grpo | curriculum | {"tiers": {"by": "difficulty", "tiers": 0}} | tiers = 0
        uft | placement | "prompt_hint" | guidance_token_loss = supervised
        guide | placement | "assistant_prefix" | levels that are hints
    "#;

    #[test]
    fn what_cannot_be_executed_is_refused_in_one_sentence() {
        for line in REFUSED.trim().lines() {
            let [name, key, value, problem] = Vec::from_iter(line.split(" | "))[..] else {
                panic!("{line}");
            };
            let value: Value = serde_json::from_str(value).unwrap();
            let method = Method::preset(name.trim(), 500).unwrap().set(key, value);
            let error = method.and_then(|m| m.check()).unwrap_err().to_string();
            assert!(error.contains(problem), "{line}: {error}");
        }
        let both = Method::preset("grpo", 500)
            .unwrap()
            .set("difficulty.target", 0.5);
        let both = both.unwrap().set("curriculum", "given").unwrap();
        let error = both.check().unwrap_err().to_string();
        assert!(
            error.starts_with("difficulty does not go with a curriculum"),
            "{error}"
        );
    }
}
