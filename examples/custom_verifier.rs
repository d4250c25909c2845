//! A verifier of one's own, and a policy that learns to please it; no libtorch.
//!
//! The policy is a table. It is paid for words of five letters that read the same from both ends,
//! of which nobody shows it one: the verifier is all it learns from.

use anyhow::Result;
use g2rpo::core::AdvantageEstimator;
use g2rpo::rollout::{
    self, Encoding, GroupPlan, SamplingParams, TabularPolicy, Task, TokenId, Tokenizer, collect,
    pack,
};
use g2rpo::train::{UpdateConfig, score, update};
use g2rpo::verify::{Verdict, Verifier};

/// Pays for a palindrome; the reference is its length.
struct Palindrome;

impl Verifier for Palindrome {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        let right_length = reference.parse() == Ok(response.len());
        Verdict::from(right_length && response.bytes().eq(response.bytes().rev()))
    }
}

/// The ids 0 to 4 are the letters a to e.
struct Letters;

impl Tokenizer for Letters {
    fn encode(&self, text: &str) -> rollout::Result<Encoding> {
        Ok(Encoding {
            ids: text.bytes().map(|b| u32::from(b - b'a')).collect(),
            offsets: (0..text.len()).map(|i| i..i + 1).collect(),
        })
    }

    fn decode(&self, ids: &[TokenId]) -> rollout::Result<String> {
        Ok(ids.iter().map(|&id| char::from(b'a' + id as u8)).collect())
    }
}

fn main() -> Result<()> {
    let task = Task {
        id: 0,
        question: "a".into(),
        solution: String::new(),
        reference: "5".into(),
        difficulty: 1.0,
    };
    let mut policy = TabularPolicy::new(5, 6);
    for step in 0..100 {
        let plan = GroupPlan {
            task: 0,
            prompt: Letters.encode(&task.question)?.ids,
            guidance: vec![Vec::new(); 64],
        };
        let params = SamplingParams::default();
        let groups = collect(&mut policy, vec![plan], &params, 1, step, 5)?;
        let scores = score(&groups, std::slice::from_ref(&task), &Letters, &Palindrome)?;
        let batch = pack(&groups)?;
        let advantages = AdvantageEstimator::default()
            .advantages(&scores.rewards, &batch.groups, &batch.guided, None)?
            .advantages;
        update(
            &mut policy,
            &batch,
            &advantages,
            &UpdateConfig::default(),
            &params.scoring(false),
            5.0,
        )?;
        if step % 20 == 19 {
            let paid = scores.rewards.iter().filter(|r| **r == Some(1.0)).count();
            let sample = &scores.answers[..4].join(" ");
            println!("step {:3}: {paid:2} of 64 paid; {sample}", step + 1);
        }
    }
    Ok(())
}
