//! Second and third of a step at the same time: members are graded while others are still sampled.

use std::sync::Arc;
use std::time::Instant;

use g2rpo_guidance::Method;
use g2rpo_rollout::{RolloutEngine, SamplingParams};

use crate::data::dataset::Dataset;
use crate::error::Result;
use crate::step::early::collect_judged;
use crate::step::generate::{requests, take_up};
use crate::step::grade::{Judge, grade_all};
use crate::step::group::{Group, StepKey};
use crate::step::report::Seconds;

/// [`generate`](crate::generate) and [`grade`](crate::grade) in one: the same groups come of it, sooner. Verdicts on
/// completions that end early are found while the engine samples the others, where the verifier
/// [allows it](g2rpo_verify::Verifier::parallelism) and the engine
/// [hands them over](RolloutEngine::generate_each); the rest follows in one batch.
///
/// Returns the seconds until the last completion ended, as `generate`, and those of what was then left to grade.
///
/// # Errors
/// As [`generate`](crate::generate) and [`grade`](crate::grade).
pub fn play<E: RolloutEngine + ?Sized>(
    engine: &mut E,
    groups: &mut [Group],
    data: &Dataset<'_>,
    judge: &Judge<'_>,
    method: &Method,
    sampling: &SamplingParams,
    key: StepKey,
) -> Result<Seconds> {
    let clock = Instant::now();
    let (requests, places) = requests(groups, data, method, key)?;
    let items: Vec<_> = (places.iter())
        .map(|(group, _)| Arc::clone(&groups[*group].item))
        .collect();
    let (rollouts, early) =
        collect_judged(engine, requests, sampling, data, judge.verifier, &items)?;
    take_up(groups, rollouts);
    let generate = clock.elapsed().as_secs_f64();
    let clock = Instant::now();
    let early = places.into_iter().zip(early);
    let early = early.filter_map(|(place, early)| Some((place, early?)));
    grade_all(groups, data, judge, method, early.collect())?;
    Ok(Seconds {
        generate,
        grade: clock.elapsed().as_secs_f64(),
        ..Seconds::default()
    })
}
