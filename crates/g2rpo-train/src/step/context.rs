//! Advantages of single tokens, from what the policy says of a completion under other prompts.

use g2rpo_core::{Learner, Ragged, TokenAdvantage, TokenStreams, WhichPolicy};
use g2rpo_guidance::{Method, ScoreContext};
use g2rpo_rollout::{TokenId, pack};

use crate::data::dataset::Dataset;
use crate::error::Result;
use crate::step::generate::hinted_prompt;
use crate::step::group::Group;
use crate::step::rescore::logps;
use crate::step::rows::Rows;
use crate::step::update::UpdateConfig;

/// Sets the advantages (and weights) of single tokens in `streams`, whose rows' advantages are
/// known: those of RLSD or RLCSD, if the method asks for either; else nothing is done.
///
/// The right hint of a row is the solution that the method's source found for its task, or else the
/// answer of a sibling that was right. Wrong hints are the answers of siblings that were wrong. A row without a hint that its
/// method needs keeps its advantage.
///
/// # Errors
/// [`Error::Learner`](crate::Error::Learner), [`Error::Task`](crate::Error::Task) for a hint that
/// cannot be encoded.
pub fn token_advantages<L: Learner + ?Sized>(
    learner: &mut L,
    groups: &[Group],
    rows: &Rows,
    streams: TokenStreams,
    data: &Dataset<'_>,
    method: &Method,
    config: &UpdateConfig,
) -> Result<TokenStreams> {
    let Some(choice) = &method.token_advantages else {
        return Ok(streams);
    };
    if rows.is_empty() {
        return Ok(streams);
    }
    let siblings = |row: usize, right: bool| {
        let (group, member) = rows.members[row];
        let grades = groups[group].grades.iter().enumerate();
        grades.filter_map(move |(other, grade)| {
            let decided = grade.reward.is_some() && grade.verdict.is_correct() == right;
            (other != member && decided).then_some(grade.answer.as_str())
        })
    };
    let right = |row: usize| {
        let written = solution(&groups[rows.members[row].0], data)?;
        Ok(written.or_else(|| siblings(row, true).next().map(str::to_owned)))
    };
    let mut under = |hint: &dyn Fn(usize) -> Result<Option<String>>| {
        let mut prompts: Vec<Option<Vec<TokenId>>> = Vec::with_capacity(rows.len());
        for (row, &(group, _)) in rows.members.iter().enumerate() {
            let group = &groups[group];
            let prompt = hint(row)?
                .map(|hint| hinted_prompt(data, group, &method.hint_template, &hint))
                .transpose()?;
            prompts.push(prompt);
        }
        let behind = (rows.iter(groups).zip(&prompts))
            .map(|(member, prompt)| (prompt.as_ref().unwrap_or(&member.rollout.prompt), member));
        let batch = pack(behind.map(|(prompt, member)| (&prompt[..], member.rollout)))?;
        let scoring = config.scoring(false);
        let scored = logps(learner, &batch.sequences, WhichPolicy::Current, &scoring)?;
        // No hint: the row keeps its advantage, which core reads from a NaN.
        let row = |(row, prompt): (&[f64], &Option<Vec<TokenId>>)| match prompt {
            Some(_) => row.to_vec(),
            None => vec![f64::NAN; row.len()],
        };
        Ok::<_, crate::error::Error>(Ragged::from_rows(scored.rows().zip(&prompts).map(row)))
    };
    let logp_right = under(&right)?;
    match choice {
        TokenAdvantage::Rlsd(rlsd) => {
            let plain = &rows.batch.sequences;
            let scoring = config.scoring(false);
            let logp = match &streams.logp_old {
                // Off policy, those are under the prompt with the hint.
                Some(old) if method.score_context != ScoreContext::OffPolicy => old.clone(),
                _ => logps(learner, plain, WhichPolicy::Current, &scoring)?,
            };
            let (roles, rewarded) = (&streams.roles, &streams.advantages);
            let of_tokens = rlsd.token_advantages(roles, rewarded, &logp, &logp_right)?;
            Ok(streams.with_token_advantages(of_tokens)?)
        }
        TokenAdvantage::Rlcsd(rlcsd) => {
            let most = (0..rows.len())
                .map(|row| siblings(row, false).count())
                .max();
            let passes = most.unwrap_or(0).min(rlcsd.k_max);
            let wrong = (0..passes)
                .map(|k| under(&|row| Ok(siblings(row, false).nth(k).map(str::to_owned))))
                .collect::<Result<Vec<_>>>()?;
            let truncated = (method.loss.mask_truncated_completions)
                .then_some(streams.truncated.as_deref())
                .flatten();
            let (roles, rewarded) = (&streams.roles, &streams.advantages);
            let of_tokens =
                rlcsd.token_advantages(roles, rewarded, &logp_right, &wrong, truncated)?;
            Ok(streams
                .with_token_advantages(of_tokens.advantages)?
                .with_token_weights(of_tokens.weights)?)
        }
    }
}

/// The text of the solution that a group is guided by, or could be.
fn solution(group: &Group, data: &Dataset<'_>) -> Result<Option<String>> {
    let found = group.guidance.as_ref().and_then(|g| g.trace.as_ref());
    let Some(trace) = found else { return Ok(None) };
    // A thinking tag in front belongs to the completion.
    let lead = trace.lead();
    if let (Some(text), Some(tag)) = (trace.text(), trace.prefix_text(lead)) {
        return Ok(Some(text[tag.len()..].to_owned()));
    }
    Ok(Some(data.tokenizer().decode(trace.rest(lead))?))
}
