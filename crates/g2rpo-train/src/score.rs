use g2rpo_rollout::{Group, Task, Tokenizer};
use g2rpo_verify::{Sample, Verdict, Verifier, WeightedReward};

use crate::{Error, Result};

/// What the verifier said about every rollout of a step, in the row order of
/// [`g2rpo_rollout::pack`].
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Answer texts, guidance included: what was graded.
    pub answers: Vec<String>,
    /// The verdicts: what counts as success, whatever else is paid.
    pub verdicts: Vec<Verdict>,
    /// What is paid: 1 for correct, 0 for incorrect, and what [`Scores::add`] added. `None` where
    /// nothing could be decided; such rows get no advantage instead of a false one.
    pub rewards: Vec<Option<f64>>,
    /// Mean of each added reward function over the rows to which it applies, unweighted, by TRL's
    /// name: `rewards/{name}/mean`.
    pub means: Vec<(String, f64)>,
}

/// Decodes and grades every rollout, in one batch, so that a verifier with workers uses them. Ids
/// are decoded for the verifier's eyes only; the ids that were sampled stay the ids that are
/// trained on.
///
/// # Errors
/// [`Error::Rollout`] if ids cannot be decoded, [`Error::Verdicts`] if the verifier does not return
/// one verdict per rollout.
///
/// # Panics
/// If a group's task is not an index into `tasks`, as indexing does.
pub fn score(
    groups: &[Group],
    tasks: &[Task],
    tokenizer: &dyn Tokenizer,
    verifier: &dyn Verifier,
) -> Result<Scores> {
    let mut answers = Vec::new();
    let mut references = Vec::new();
    for group in groups {
        for rollout in &group.rollouts {
            answers.push(tokenizer.decode(&rollout.answer())?);
            references.push(tasks[group.task].reference.as_str());
        }
    }
    let pairs: Vec<_> = (answers.iter().map(String::as_str))
        .zip(references)
        .collect();
    let verdicts = verifier.verify_batch(&pairs);
    if verdicts.len() != pairs.len() {
        return Err(Error::Verdicts {
            expected: pairs.len(),
            got: verdicts.len(),
        });
    }
    Ok(Scores {
        rewards: verdicts.iter().map(Verdict::reward).collect(),
        answers,
        verdicts,
        means: Vec::new(),
    })
}

impl Scores {
    /// Adds weighted reward functions to what the verdicts pay. A function that does not apply to a
    /// row adds nothing there, as in TRL; if it is a required one, the row is masked. Rows that were
    /// masked stay so, and what counts as success does not change.
    ///
    /// # Errors
    /// [`Error::Reward`] if a function returns the wrong number of rewards, or one that is not finite.
    ///
    /// # Panics
    /// If `groups` or `tasks` are not those that were scored.
    pub fn add(
        &mut self,
        groups: &[Group],
        tasks: &[Task],
        functions: &WeightedReward,
    ) -> Result<()> {
        let mut columns = vec![(0.0, 0_usize); functions.names().count()];
        let mut first = 0;
        for group in groups {
            let task = &tasks[group.task];
            let rows = first..first + group.rollouts.len();
            let tokens: Vec<_> = group.rollouts.iter().map(|r| r.answer()).collect();
            let graded = self.answers[rows.clone()]
                .iter()
                .zip(&self.verdicts[rows.clone()]);
            let samples: Vec<_> = (graded.zip(&tokens))
                .map(|((response, verdict), tokens)| Sample {
                    prompt: &task.question,
                    response,
                    reference: &task.reference,
                    tokens,
                    verdict: Some(verdict),
                })
                .collect();
            for (row, added) in rows.zip(functions.rewards(&samples)?) {
                self.rewards[row] = self.rewards[row]
                    .filter(|_| !added.lacks_required)
                    .map(|paid| paid + added.value.unwrap_or(0.0));
                for (column, part) in columns.iter_mut().zip(&added.parts) {
                    if let Some(part) = part {
                        *column = (column.0 + part, column.1 + 1);
                    }
                }
            }
            first += group.rollouts.len();
        }
        let named = functions.names().zip(columns).filter(|(_, (_, n))| *n > 0);
        self.means
            .extend(named.map(|(name, (sum, n))| (format!("rewards/{name}/mean"), sum / n as f64)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_rollout::{
        ByteTokenizer, GroupPlan, Request, SamplingParams, ScriptedEngine, collect,
    };
    use g2rpo_verify::{RewardFn, Unverifiable};

    /// "5" unguided, "=5" behind "2+3", and nothing at all.
    fn rollouts() -> (Vec<Group>, [Task; 1]) {
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
        (groups, [task])
    }

    fn same_text(answer: &str, gold: &str) -> Verdict {
        match answer {
            "" => Verdict::from(Unverifiable::EmptyReference),
            _ => Verdict::from(answer == gold),
        }
    }

    #[test]
    fn guidance_is_graded_with_the_answer_and_undecided_rows_are_masked() {
        let (groups, tasks) = rollouts();
        let scores = score(&groups, &tasks, &ByteTokenizer, &same_text).unwrap();
        assert_eq!(scores.rewards, [Some(0.0), Some(1.0), None]);
        assert_eq!(scores.answers, ["5", "2+3=5", ""]);
    }

    #[test]
    fn reward_functions_are_paid_on_top_of_the_verdict() {
        let (groups, tasks) = rollouts();
        let mut scores = score(&groups, &tasks, &ByteTokenizer, &same_text).unwrap();
        let length = |s: &Sample<'_>| Some(s.tokens.len() as f64);
        let asked = |s: &Sample<'_>| (s.prompt == "!").then_some(100.0);
        let functions = WeightedReward::default()
            .with_fn("length", 0.5, length)
            .with_fn("asked", 1.0, asked);
        scores.add(&groups, &tasks, &functions).unwrap();
        // "5" has one id, "2+3=5" five, the stop id alone one; the last row stays masked.
        assert_eq!(scores.rewards, [Some(0.5), Some(3.5), None]);
        let mean = ("rewards/length/mean".to_owned(), 7.0 / 3.0);
        assert_eq!(
            scores.means,
            [mean],
            "a function that never applies has no mean"
        );
        assert!(!scores.verdicts[0].is_correct(), "paid, but no success");

        let required = WeightedReward::default().with_required(Short, 1.0);
        scores.add(&groups, &tasks, &required).unwrap();
        assert_eq!(scores.rewards, [Some(1.5), None, None]);
        let wrong = WeightedReward::default().with_fn("nan", 1.0, |_: &Sample<'_>| Some(f64::NAN));
        let error = scores.add(&groups, &tasks, &wrong).unwrap_err().to_string();
        assert!(
            error.starts_with("reward function nan returned NaN"),
            "{error}"
        );
    }

    /// Applies to answers of one byte.
    struct Short;

    impl RewardFn for Short {
        fn name(&self) -> &str {
            "short"
        }

        fn rewards(&self, group: &[Sample<'_>]) -> Vec<Option<f64>> {
            let one = |s: &Sample<'_>| (s.response.len() == 1).then_some(1.0);
            group.iter().map(one).collect()
        }
    }

    struct Silent;

    impl Verifier for Silent {
        fn verify(&self, _: &str, _: &str) -> Verdict {
            Verdict::correct()
        }

        fn verify_batch(&self, _: &[(&str, &str)]) -> Vec<Verdict> {
            Vec::new()
        }
    }

    #[test]
    fn a_verifier_that_miscounts_is_caught() {
        let (groups, tasks) = rollouts();
        let error = score(&groups, &tasks, &ByteTokenizer, &Silent).unwrap_err();
        assert_eq!(error.to_string(), "verifier: expected 3 verdicts, got 0");
    }
}
