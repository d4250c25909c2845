use g2rpo_rollout::{Group, Task, Tokenizer};
use g2rpo_verify::{Verdict, Verifier};

use crate::Result;

/// What the verifier said about every rollout of a step, in the row order of
/// [`g2rpo_rollout::pack`].
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Answer texts, guidance included: what was graded.
    pub answers: Vec<String>,
    /// The verdicts.
    pub verdicts: Vec<Verdict>,
    /// 1 for correct, 0 for incorrect, `None` where nothing could be decided; such rows get no
    /// advantage instead of a false one.
    pub rewards: Vec<Option<f64>>,
}

/// Decodes and grades every rollout. Ids are decoded for the verifier's eyes only; the ids that
/// were sampled stay the ids that are trained on.
///
/// # Errors
/// A [`crate::Error::Rollout`] if ids cannot be decoded.
///
/// # Panics
/// If a group's task is not an index into `tasks`, as indexing does.
pub fn score(
    groups: &[Group],
    tasks: &[Task],
    tokenizer: &dyn Tokenizer,
    verifier: &dyn Verifier,
) -> Result<Scores> {
    let mut scores = Scores {
        answers: Vec::new(),
        verdicts: Vec::new(),
        rewards: Vec::new(),
    };
    for group in groups {
        let reference = &tasks[group.task].reference;
        for rollout in &group.rollouts {
            let answer = tokenizer.decode(&rollout.answer())?;
            let verdict = verifier.verify(&answer, reference);
            scores.rewards.push(verdict.reward());
            scores.verdicts.push(verdict);
            scores.answers.push(answer);
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_rollout::{
        ByteTokenizer, GroupPlan, Request, SamplingParams, ScriptedEngine, collect,
    };
    use g2rpo_verify::Unverifiable;

    #[test]
    fn guidance_is_graded_with_the_answer_and_undecided_rows_are_masked() {
        let mut engine = ScriptedEngine::new(|r: &Request| match r.key.member {
            0 => b"5".map(u32::from).to_vec(),
            1 => b"=5".map(u32::from).to_vec(),
            _ => vec![ByteTokenizer::EOS],
        });
        let plan = GroupPlan {
            task: 0,
            prompt: vec![63],
            guidance: vec![vec![], b"2+3".map(u32::from).to_vec(), vec![]],
        };
        let params = SamplingParams::default();
        let groups = collect(&mut engine, vec![plan], &params, 0, 0, 8).unwrap();
        let task = Task {
            id: 0,
            question: "?".into(),
            solution: "2+3=5".into(),
            reference: "2+3=5".into(),
            difficulty: 1.0,
        };
        let verifier = |answer: &str, gold: &str| match answer {
            "" => Verdict::from(Unverifiable::EmptyReference),
            _ => Verdict::from(answer == gold),
        };
        let scores = score(&groups, &[task], &ByteTokenizer, &verifier).unwrap();
        assert_eq!(scores.rewards, [Some(0.0), Some(1.0), None]);
        assert_eq!(scores.answers, ["5", "2+3=5", ""]);
    }
}
