//! A verifier of one's own, and a policy that learns to please it; no libtorch.
//!
//! The policy is a table. It is paid for words of five letters that read the same from both ends,
//! of which nobody shows it one: the verifier is all it learns from.

use anyhow::Result;
use g2rpo::guidance::Method;
use g2rpo::rollout::{Shared, TabularPolicy, Task};
use g2rpo::train::{Dataset, LrSchedule, Trainer, TrainerConfig};
use g2rpo::verify::{Verdict, Verifier};
use g2rpo_examples::Letters;

/// Pays for a palindrome; the reference is its length.
struct Palindrome;

impl Verifier for Palindrome {
    fn verify(&self, response: &str, reference: &str) -> Verdict {
        let right_length = reference.parse() == Ok(response.len());
        Verdict::from(right_length && response.bytes().eq(response.bytes().rev()))
    }
}

fn main() -> Result<()> {
    let task = Task {
        question: "a".into(),
        reference: "5".into(),
        ..Task::default()
    };
    let data = Dataset::with_template(vec![task], &Letters, "{question}")?;
    let method = Method::preset("grpo", 100)?
        .set("num_generations", 64)?
        .set("max_completion_length", 5)?
        .set("beta", 0.0)?;
    let policy = Shared::new(TabularPolicy::new(5, 6));
    let config = TrainerConfig {
        seed: 1,
        prompts_per_step: 1,
        schedule: LrSchedule::constant(5.0),
        ..TrainerConfig::default()
    };
    let mut trainer = Trainer::new(method, &data, policy.clone(), policy, Palindrome, config)?;
    for report in trainer.steps(100) {
        let report = report?;
        if report.step % 20 == 19 {
            let group = &report.groups[0];
            let paid = (group.grades.iter()).filter(|g| g.reward == Some(1.0));
            let (paid, step) = (paid.count(), report.step + 1);
            let sample: Vec<&str> = group.grades[..4].iter().map(|g| &*g.answer).collect();
            println!("step {step:3}: {paid:2} of 64 paid; {}", sample.join(" "));
        }
    }
    Ok(())
}
