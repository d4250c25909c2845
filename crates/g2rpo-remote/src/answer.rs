//! What a server is asked and answers, and whether one fits the other: the border that nothing
//! crosses unchecked.

use std::ops::RangeInclusive;

use g2rpo_core::TokenId;
use g2rpo_rollout::{Completion, SamplingParams, Stop};
use serde::Deserialize;

/// One completion to ask for.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) id: &'a str,
    /// Name of the base model or of an adapter.
    pub(crate) model: &'a str,
    pub(crate) adapter: bool,
    /// Prompt and guidance.
    pub(crate) tokens: &'a [TokenId],
    pub(crate) seed: i64,
    pub(crate) max_new_tokens: usize,
    /// Temperature and stops; the rest has been refused where it is set.
    pub(crate) params: &'a SamplingParams,
    /// Most probable ids to report at each position, beside the sampled one.
    pub(crate) candidates: usize,
}

/// A completion as a server told it. `None` is what this kind of server does not tell.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) prompt: Option<Vec<TokenId>>,
    pub(crate) prompt_len: Option<usize>,
    pub(crate) tokens: Vec<TokenId>,
    /// The ids that the log-probabilities say they belong to.
    pub(crate) scored: Option<Vec<TokenId>>,
    pub(crate) logps: Vec<Option<f64>>,
    /// Log-probabilities of the most probable ids at each position, in no order.
    pub(crate) candidates: Vec<Vec<f64>>,
    pub(crate) end: End,
    pub(crate) versions: Option<Vec<Span>>,
}

/// Why the server ended a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At a stop id.
    Id,
    /// At a text.
    Text,
    /// At the limit.
    Length,
}

/// Weights that made the sampled ids `start..end`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Span {
    pub(crate) version: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Versions that an answer may have been made under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected<'p> {
    /// Nothing was synced yet.
    Unknown,
    /// The server labels its weights, and behind this prefix the label must be in this range.
    Labelled(&'p str, RangeInclusive<u64>),
    /// The name of the adapter says it, whatever the label of the base model.
    Named(u64),
}

/// What vLLM reports for an id that a filter cut off, as JSON has no −∞.
const CUT_OFF: f64 = -9999.0;

/// The completion, if it can be trained on; otherwise what is wrong with the answer.
pub(crate) fn settle(
    answer: Answer,
    ask: &Ask<'_>,
    expected: &Expected<'_>,
    vocab_size: Option<usize>,
) -> Result<Completion, String> {
    if let Some(id) = answer.id.filter(|id| id != ask.id) {
        return Err(format!("it answers the request `{id}`, not `{}`", ask.id));
    }
    if let Some(model) = answer.model.filter(|model| model != ask.model) {
        return Err(format!("the model `{model}` made it, not `{}`", ask.model));
    }
    if answer.prompt.is_some_and(|prompt| prompt != ask.tokens) {
        return Err("it continues another prompt than the one that was sent".into());
    }
    let sent = ask.tokens.len();
    if let Some(len) = answer.prompt_len.filter(|len| *len != sent) {
        return Err(format!(
            "it continues a prompt of {len} ids, and {sent} were sent"
        ));
    }
    let tokens = answer.tokens;
    if let Some(id) = (tokens.iter()).find(|id| vocab_size.is_some_and(|v| **id as usize >= v)) {
        return Err(format!("id {id} is not in the vocabulary"));
    }
    let logps = logps(&tokens, answer.scored.as_deref(), &answer.logps)?;
    let stop = ended(&tokens, answer.end, ask)?;
    let weight_versions = versions(tokens.len(), answer.versions, expected)?;
    Ok(Completion {
        // A greedy choice takes an id with certainty, so the filter kept its own mass.
        log_kept: if ask.params.temperature == 0.0 {
            logps.clone()
        } else {
            vec![0.0; logps.len()]
        },
        tokens,
        logps,
        weight_versions,
        stop,
    })
}

fn logps(
    tokens: &[TokenId],
    scored: Option<&[TokenId]>,
    logps: &[Option<f64>],
) -> Result<Vec<f32>, String> {
    let (n, scores) = (tokens.len(), logps.len());
    if n != scores {
        return Err(format!("{n} ids came with {scores} log-probabilities"));
    }
    if let Some(scored) = scored
        && let Some(i) = (scored.iter().zip(tokens)).position(|(a, b)| a != b)
    {
        return Err(format!(
            "the log-probability at position {i} belongs to id {}, and the id there is {}",
            scored[i], tokens[i]
        ));
    }
    (logps.iter().zip(tokens).enumerate())
        .map(|(i, (logp, id))| match *logp {
            None => Err(format!(
                "the log-probability of id {id} at position {i} is missing or NaN"
            )),
            // Rounding may leave a certain id a little above 0.
            Some(logp) if logp > CUT_OFF && logp <= 1e-3 => Ok(logp.min(0.0) as f32),
            Some(logp) => Err(format!(
                "the log-probability of id {id} at position {i} is {logp}"
            )),
        })
        .collect()
}

fn ended(tokens: &[TokenId], end: End, ask: &Ask<'_>) -> Result<Stop, String> {
    let stops = |id: &TokenId| ask.params.stop_token_ids.contains(id);
    let (last, before) = tokens.split_last().ok_or("it is empty")?;
    let (n, asked) = (tokens.len(), ask.max_new_tokens);
    if n > asked {
        return Err(format!("{n} ids came, and {asked} were asked for"));
    }
    if let Some(i) = before.iter().position(stops) {
        return Err(format!("it goes on behind the stop id at position {i}"));
    }
    match end {
        End::Id if stops(last) => Ok(Stop::Eos),
        End::Id => Err(format!("it ends at id {last}, which is no stop id")),
        End::Text if ask.params.stop.is_empty() => {
            Err("it ends at a text, and none was to end it".into())
        }
        End::Text => Ok(Stop::Eos),
        End::Length if n < asked => Err(format!(
            "it was cut after {n} of {asked} ids: the server's context has no more room"
        )),
        End::Length if stops(last) => Ok(Stop::Eos),
        End::Length => Ok(Stop::Length),
    }
}

fn versions(
    len: usize,
    spans: Option<Vec<Span>>,
    expected: &Expected<'_>,
) -> Result<Option<Vec<u64>>, String> {
    let (prefix, range) = match expected {
        Expected::Unknown => return Ok(None),
        Expected::Named(version) => return Ok(Some(vec![*version; len])),
        Expected::Labelled(prefix, range) => (prefix, range),
    };
    let Some(spans) = spans else {
        // This route has no labels; the canary after the sync is what vouches for the weights.
        let same = range.start() == range.end();
        return Ok(same.then(|| vec![*range.end(); len]));
    };
    let mut versions = Vec::with_capacity(len);
    let uncovered = Err("its weight versions do not cover its ids".into());
    for span in spans {
        let number = span.version.strip_prefix(prefix);
        let number = number.and_then(|n| n.parse().ok());
        let known = number.filter(|v| range.contains(v));
        let Some(version) = known else {
            return Err(format!(
                "weights `{}` made it, and `{prefix}{}` were to; was the server started again, or does another \
                 run bring weights to it?",
                span.version,
                range.end()
            ));
        };
        if span.start != versions.len() || span.end < span.start || span.end > len {
            return uncovered;
        }
        versions.resize(span.end, version);
    }
    if versions.len() == len {
        Ok(Some(versions))
    } else {
        uncovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            id: Some("a".into()),
            model: Some("m".into()),
            prompt: Some(vec![1, 2]),
            prompt_len: Some(2),
            tokens: vec![3, 4, 9],
            scored: Some(vec![3, 4, 9]),
            logps: vec![Some(-0.5), Some(1e-7), Some(-2.0)],
            candidates: vec![],
            end: End::Id,
            versions: None,
        }
    }

    fn settled(
        answer: Answer,
        temperature: f64,
        expected: &Expected,
    ) -> Result<Completion, String> {
        let params = SamplingParams {
            temperature,
            stop_token_ids: vec![9],
            ..SamplingParams::default()
        };
        let ask = Ask {
            id: "a",
            model: "m",
            adapter: false,
            tokens: &[1, 2],
            seed: 0,
            max_new_tokens: 4,
            params: &params,
            candidates: 0,
        };
        settle(answer, &ask, expected, Some(10))
    }

    #[test]
    fn a_good_answer_becomes_a_completion() {
        let completion = settled(answer(), 1.0, &Expected::Named(5)).unwrap();
        assert_eq!(completion.tokens, [3, 4, 9]);
        assert_eq!(completion.logps, [-0.5, 0.0, -2.0]);
        assert_eq!(completion.log_kept, [0.0; 3]);
        assert_eq!(completion.weight_versions, Some(vec![5; 3]));
        assert_eq!(completion.stop, Stop::Eos);
        let greedy = settled(answer(), 0.0, &Expected::Unknown).unwrap();
        assert_eq!(
            (greedy.log_kept, greedy.weight_versions),
            (greedy.logps, None)
        );
    }

    #[test]
    fn rare_disagreements_are_named() {
        type Change = fn(&mut Answer);
        // What any server may do wrong is in `tests/faults.rs`.
        let none = |a: &mut Answer| (a.tokens, a.scored, a.logps) = (vec![], None, vec![]);
        let many = |a: &mut Answer| {
            (a.tokens, a.scored, a.logps) = (vec![3; 5], None, vec![Some(-1.0); 5]);
        };
        let twice = |a: &mut Answer| (a.tokens[0], a.scored) = (9, None);
        let table: &[(Change, &str)] = &[
            (|a| a.prompt = Some(vec![1]), "another prompt"),
            (|a| a.logps[1] = Some(f64::NAN), "at position 1 is NaN"),
            (|a| a.logps[1] = Some(0.5), "at position 1 is 0.5"),
            (none, "it is empty"),
            (many, "5 ids came, and 4"),
            (twice, "behind the stop id at position 0"),
            (|a| a.end = End::Text, "ends at a text"),
        ];
        for (change, words) in table {
            let mut answer = answer();
            change(&mut answer);
            let error = settled(answer, 1.0, &Expected::Unknown).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn versions_come_per_id_and_stale_ones_are_refused() {
        let span = |version: &str, start, end| Span {
            version: version.into(),
            start,
            end,
        };
        let with = |spans, range| {
            let answer = Answer {
                versions: Some(spans),
                ..answer()
            };
            settled(answer, 1.0, &Expected::Labelled("", range)).map(|c| c.weight_versions)
        };
        assert_eq!(
            with(vec![span("6", 0, 1), span("7", 1, 3)], 6..=7),
            Ok(Some(vec![6, 7, 7]))
        );
        let default = "weights `default` made it, and `7` were to";
        for (spans, words) in [
            (vec![span("default", 0, 3)], default),
            (vec![span("6", 0, 3)], "weights `6` made it"),
            (vec![span("7", 0, 2)], "do not cover"),
            (vec![span("7", 1, 3)], "do not cover"),
            (vec![span("7", 0, 4)], "do not cover"),
            (vec![], "do not cover"),
        ] {
            let error = with(spans, 7..=7).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let unlabelled = settled(answer(), 1.0, &Expected::Labelled("", 7..=7)).unwrap();
        assert_eq!(unlabelled.weight_versions, Some(vec![7; 3]));
    }
}
