//! Rollouts: requests to an engine joined with what it sampled.

use g2rpo_core::TokenId;

use crate::engine::{Completion, Finished, Request, RolloutEngine, SamplingParams};
use crate::error::{Error, Result};

/// What one member of a group was asked, was given and sampled.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The prompt it was sampled under, with the hint where it had one.
    pub prompt: Vec<TokenId>,
    /// Guidance ids at the start of the completion; empty where there were none.
    pub guidance: Vec<TokenId>,
    /// What the engine sampled behind them.
    pub completion: Completion,
}

impl Rollout {
    /// Guidance and sampled ids: the whole answer, which is what a verifier reads.
    pub fn answer(&self) -> Vec<TokenId> {
        [&self.guidance[..], &self.completion.tokens].concat()
    }
}

/// Generates all requests in one call of the engine, in their order.
///
/// ```
/// use g2rpo_rollout::{Request, RolloutKey, SamplingParams, ScriptedEngine, collect};
/// let mut engine = ScriptedEngine::new(|request: &Request| vec![request.prompt[0] + 1]);
/// let request = Request { prompt: vec![4], guidance: vec![9], key: RolloutKey::default(), max_new_tokens: 1 };
/// let rollouts = collect(&mut engine, vec![request], &SamplingParams::default())?;
/// assert_eq!(rollouts[0].answer(), [9, 5]);
/// # Ok::<(), g2rpo_rollout::Error>(())
/// ```
///
/// # Errors
/// [`Error::Generate`] with what the engine said, and [`Error::Engine`] if it did not return one
/// completion per request with one log-probability per token.
pub fn collect<E: RolloutEngine + ?Sized>(
    engine: &mut E,
    requests: Vec<Request>,
    params: &SamplingParams,
) -> Result<Vec<Rollout>> {
    collect_each(engine, requests, params, &mut |_, _| {})
}

/// As [`collect`]; completions also go to `finished` as they end, see [`RolloutEngine::generate_each`]. What was handed
/// over counts once this returns: an engine may still fail.
///
/// # Errors
/// As [`collect`].
pub fn collect_each<E: RolloutEngine + ?Sized>(
    engine: &mut E,
    requests: Vec<Request>,
    params: &SamplingParams,
    finished: &mut Finished<'_>,
) -> Result<Vec<Rollout>> {
    let completions = engine
        .generate_each(&requests, params, finished)
        .map_err(|e| Error::Generate(Box::new(e)))?;
    expect("completions", requests.len(), completions.len())?;
    for c in &completions {
        let n = c.tokens.len();
        expect("log-probabilities of a completion", n, c.logps.len())?;
        expect("kept masses of a completion", n, c.log_kept.len())?;
        if let Some(versions) = &c.weight_versions {
            expect("weight versions of a completion", n, versions.len())?;
        }
    }
    Ok((requests.into_iter().zip(completions))
        .map(|(request, completion)| Rollout {
            prompt: request.prompt,
            guidance: request.guidance,
            completion,
        })
        .collect())
}

fn expect(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Engine {
        what,
        expected,
        got,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Stop;
    use crate::key::RolloutKey;

    fn requests() -> Vec<Request> {
        let request = Request {
            prompt: vec![1, 2],
            guidance: vec![9, 8],
            key: RolloutKey::default(),
            max_new_tokens: 2,
        };
        vec![request; 3]
    }

    struct Broken(usize);
    impl RolloutEngine for Broken {
        type Error = std::convert::Infallible;
        fn generate(
            &mut self,
            _: &[Request],
            _: &SamplingParams,
        ) -> Result<Vec<Completion>, Self::Error> {
            let completion = Completion {
                tokens: vec![1, 2],
                logps: vec![0.0],
                log_kept: vec![0.0; 2],
                weight_versions: None,
                stop: Stop::Eos,
            };
            Ok(vec![completion; self.0])
        }
    }

    #[test]
    fn an_engine_that_miscounts_is_caught() {
        for (n, problem) in [
            (2, "completions: expected 3, got 2"),
            (3, "log-probabilities of a completion: expected 2, got 1"),
        ] {
            let error = collect(&mut Broken(n), requests(), &SamplingParams::default());
            let expected = format!("rollout engine: {problem}");
            assert_eq!(error.unwrap_err().to_string(), expected);
        }
    }
}
