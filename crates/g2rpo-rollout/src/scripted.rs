//! An engine that answers what a closure says: the test double of engines.

use std::convert::Infallible;
use std::fmt;

use g2rpo_core::TokenId;

use crate::{Completion, Request, RolloutEngine, SamplingParams, Stop};

/// An engine that answers what a closure says: the test double of [`RolloutEngine`].
///
/// Every token has log-probability −ln 2. An answer longer than the request allows is cut and
/// reported as [`Stop::Length`].
///
/// ```
/// use g2rpo_rollout::{Request, RolloutEngine, RolloutKey, SamplingParams, ScriptedEngine};
/// let mut engine = ScriptedEngine::new(|request: &Request| vec![request.prompt[0], 0]);
/// let request = Request {
///     prompt: vec![7],
///     guidance: vec![],
///     key: RolloutKey::default(),
///     max_new_tokens: 10,
/// };
/// let completions = engine.generate(&[request], &SamplingParams::default())?;
/// assert_eq!(completions[0].tokens, [7, 0]);
/// # Ok::<(), std::convert::Infallible>(())
/// ```
pub struct ScriptedEngine<F> {
    answer: F,
}

impl<F: FnMut(&Request) -> Vec<TokenId>> ScriptedEngine<F> {
    /// Answers every request with the tokens that `answer` returns for it.
    pub fn new(answer: F) -> Self {
        Self { answer }
    }
}

impl<F> fmt::Debug for ScriptedEngine<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedEngine")
    }
}

impl<F: FnMut(&Request) -> Vec<TokenId>> RolloutEngine for ScriptedEngine<F> {
    type Error = Infallible;

    fn generate(
        &mut self,
        requests: &[Request],
        _: &SamplingParams,
    ) -> Result<Vec<Completion>, Infallible> {
        let complete = |request: &Request| {
            let mut tokens = (self.answer)(request);
            let stop = if tokens.len() > request.max_new_tokens {
                Stop::Length
            } else {
                Stop::Eos
            };
            tokens.truncate(request.max_new_tokens);
            Completion {
                logps: vec![-std::f32::consts::LN_2; tokens.len()],
                log_kept: vec![0.0; tokens.len()],
                weight_versions: None,
                tokens,
                stop,
            }
        };
        Ok(requests.iter().map(complete).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RolloutKey;

    #[test]
    fn long_answers_are_truncated() {
        let mut engine = ScriptedEngine::new(|_: &Request| vec![1, 2, 3]);
        let request = Request {
            prompt: vec![0],
            guidance: vec![],
            key: RolloutKey::default(),
            max_new_tokens: 2,
        };
        let out = engine.generate(&[request], &SamplingParams::default());
        let cut = &out.unwrap()[0];
        assert_eq!((cut.logps.len(), cut.stop), (2, Stop::Length));
        assert_eq!(cut.tokens, [1, 2]);
    }
}
