//! The trait of everything that continues token prefixes, and what goes in and out of it.

use g2rpo_core::{Scoring, TokenId};

use crate::error::{Error, Result};
use crate::key::RolloutKey;

/// Anything that continues token prefixes: a local model, a server, a script in a test.
///
/// Text never crosses this border. The ids a request holds are the ids that the engine conditions
/// on, and the ids it returns are the ids that will be trained on.
pub trait RolloutEngine {
    /// What can go wrong in the engine.
    type Error: std::error::Error + Send + Sync + 'static;

    /// One completion per request, in the order of the requests.
    ///
    /// # Errors
    /// The engine's. A request with an empty prompt is refused.
    fn generate(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
    ) -> Result<Vec<Completion>, Self::Error>;

    /// As [`generate`](Self::generate), and hands over what is finished while the rest is still being sampled: to
    /// `finished` goes the place of a request with its completion, the one that is returned, at most once.
    ///
    /// An engine that knows a completion before the others overrides this. Here all are handed over at the end.
    /// What `finished` does holds the engine up, so it should pass the completion on and return.
    ///
    /// ```
    /// use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams, ScriptedEngine};
    /// let mut engine = ScriptedEngine::new(|request: &Request| vec![request.prompt[0]]);
    /// let request = |id| Request { prompt: vec![id], guidance: vec![], key: RolloutKey::default(), max_new_tokens: 1 };
    /// let mut seen = Vec::new();
    /// let mut note = |place: usize, completion: &g2rpo_rollout::Completion| seen.push((place, completion.tokens[0]));
    /// engine.generate_each(&[request(7), request(8)], &SamplingParams::default(), &mut note)?;
    /// assert_eq!(seen, [(0, 7), (1, 8)]);
    /// # Ok::<(), std::convert::Infallible>(())
    /// ```
    ///
    /// # Errors
    /// As [`generate`](Self::generate). Some completions may have been handed over before.
    fn generate_each(
        &mut self,
        requests: &[Request],
        params: &SamplingParams,
        finished: &mut Finished<'_>,
    ) -> Result<Vec<Completion>, Self::Error> {
        let completions = self.generate(requests, params)?;
        for (place, completion) in completions.iter().enumerate() {
            finished(place, completion);
        }
        Ok(completions)
    }
}

/// Takes what [`RolloutEngine::generate_each`] hands over: the place of a request and its completion.
pub type Finished<'f> = dyn FnMut(usize, &Completion) + Send + 'f;

/// One rollout to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Prompt ids, at least one.
    pub prompt: Vec<TokenId>,
    /// Ids that the completion starts with, taken from a ground-truth solution; empty when the
    /// rollout is unguided.
    pub guidance: Vec<TokenId>,
    /// Names every random draw of this rollout.
    pub key: RolloutKey,
    /// Most tokens to sample behind the guidance.
    pub max_new_tokens: usize,
}

/// What an engine sampled behind prompt and guidance.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The sampled ids, without prompt and guidance. A stop id that was sampled is included.
    pub tokens: Vec<TokenId>,
    /// Log-probability of each sampled id under the plain distribution at the sampling
    /// temperature (before top-k, top-p and other filters). Same length as `tokens`.
    pub logps: Vec<f32>,
    /// Log of the probability mass that the filters kept at each position: 0 where nothing was
    /// filtered. `logps - log_kept` is the log-probability under the sampling distribution. Same
    /// length as `tokens`.
    pub log_kept: Vec<f32>,
    /// Version of the weights that each sampled id was drawn under, counted in syncs from the
    /// learner; same length as `tokens`. `None` from an engine that reads the learner's own weights,
    /// and from one that cannot tell.
    pub weight_versions: Option<Vec<u64>>,
    /// Why sampling ended.
    pub stop: Stop,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// A stop id was sampled, or a stop string completed.
    Eos,
    /// The token limit was reached; the completion is truncated.
    Length,
}

/// How tokens are drawn. Names and meaning as in transformers and vLLM.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 is greedy. Default 1, as in TRL.
    pub temperature: f64,
    /// Keep the `top_k` most probable ids; 0 keeps all. Default 0.
    pub top_k: usize,
    /// Keep the smallest set of ids whose mass reaches `top_p`, in (0, 1]. Default 1.
    pub top_p: f64,
    /// Keep ids at least `min_p` times as probable as the best, in [0, 1]. Default 0.
    pub min_p: f64,
    /// Above 1 makes ids already in the sequence less probable, as in CTRL. Default 1.
    pub repetition_penalty: f64,
    /// Ids that end a completion. Default none.
    pub stop_token_ids: Vec<TokenId>,
    /// Texts that end a completion when its decoded form contains one. Default none.
    pub stop: Vec<String>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop_token_ids: Vec::new(),
            stop: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// Most probable id at every position.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Whether every number lies in the range that its field documents.
    ///
    /// ```
    /// use g2rpo_rollout::SamplingParams;
    /// let params = SamplingParams { top_p: 1.5, ..Default::default() };
    /// assert_eq!(params.check().unwrap_err().to_string(), "top_p: expected a number in (0, 1], got 1.5");
    /// ```
    ///
    /// # Errors
    /// [`Error::Sampling`] for the first that does not; an empty text in `stop` as well.
    pub fn check(&self) -> Result<()> {
        let Self {
            temperature: t,
            top_p,
            min_p,
            repetition_penalty: penalty,
            ..
        } = *self;
        let (t_fits, penalty_fits) = (
            t >= 0.0 && t.is_finite(),
            penalty > 0.0 && penalty.is_finite(),
        );
        for (name, got, fits, range) in [
            ("temperature", t, t_fits, "of at least 0"),
            ("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "in (0, 1]"),
            ("min_p", min_p, (0.0..=1.0).contains(&min_p), "in [0, 1]"),
            ("repetition_penalty", penalty, penalty_fits, "above 0"),
        ] {
            if !fits {
                let problem = format!("expected a number {range}, got {got}");
                return Err(Error::Sampling { name, problem });
            }
        }
        if self.stop.iter().any(String::is_empty) {
            let problem = "an empty text would stop everything".into();
            return Err(Error::Sampling {
                name: "stop",
                problem,
            });
        }
        Ok(())
    }

    /// How a learner scores what was sampled so: at the same temperature, so that it can reproduce
    /// [`Completion::logps`]. Greedy completions are scored at temperature 1, as engines report
    /// them.
    ///
    /// ```
    /// use g2rpo_rollout::SamplingParams;
    /// let params = SamplingParams { temperature: 0.6, ..Default::default() };
    /// assert_eq!(params.scoring(false).temperature, 0.6);
    /// assert_eq!(SamplingParams::greedy().scoring(false).temperature, 1.0);
    /// ```
    pub fn scoring(&self, entropy: bool) -> Scoring {
        let is_greedy = self.temperature == 0.0;
        Scoring {
            temperature: if is_greedy { 1.0 } else { self.temperature },
            entropy,
        }
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<E: RolloutEngine + ?Sized> RolloutEngine for $pointer {
            type Error = E::Error;

            fn generate(
                &mut self,
                requests: &[Request],
                params: &SamplingParams,
            ) -> Result<Vec<Completion>, Self::Error> {
                (**self).generate(requests, params)
            }

            fn generate_each(
                &mut self,
                requests: &[Request],
                params: &SamplingParams,
                finished: &mut Finished<'_>,
            ) -> Result<Vec<Completion>, Self::Error> {
                (**self).generate_each(requests, params, finished)
            }
        }
    )*};
}

forward!(&mut E, Box<E>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_ranges_are_refused() {
        let refused = |change: fn(&mut SamplingParams)| {
            let mut params = SamplingParams::default();
            change(&mut params);
            params.check().unwrap_err().to_string()
        };
        for (message, expected) in [
            (
                refused(|p| p.temperature = -1.0),
                "temperature: expected a number of at least 0, got -1",
            ),
            (
                refused(|p| p.temperature = f64::NAN),
                "temperature: expected a number of at least 0, got NaN",
            ),
            (
                refused(|p| p.temperature = f64::INFINITY),
                "temperature: expected a number of at least 0, got inf",
            ),
            (
                refused(|p| p.top_p = 0.0),
                "top_p: expected a number in (0, 1], got 0",
            ),
            (
                refused(|p| p.min_p = 1.5),
                "min_p: expected a number in [0, 1], got 1.5",
            ),
            (
                refused(|p| p.repetition_penalty = 0.0),
                "repetition_penalty: expected a number above 0, got 0",
            ),
            (
                refused(|p| p.stop = vec![String::new()]),
                "stop: an empty text would stop everything",
            ),
        ] {
            assert_eq!(message, expected);
        }
        SamplingParams::greedy().check().unwrap();
    }
}
