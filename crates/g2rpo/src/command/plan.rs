//! What a run will do, said before it does it.

use std::time::Duration;

use g2rpo::core::Learner;
use g2rpo::guidance::Method;
use g2rpo::libtorch::{HfTokenizer, Model};
use g2rpo::rollout::RolloutEngine;
use g2rpo::train::recipe::settings::Recipe;
use g2rpo::train::recipe::write::differences;
use g2rpo::train::{Dataset, Planner, StepKey, Trainer};

use super::console::{Console, short, time};
use super::data::Data;
use super::failure::Failure;
use super::memory::Memory;

/// Says what follows from a recipe: counts, tokens, memory, and what differs from the defaults.
/// Returns the estimate of memory.
pub(crate) fn say(
    recipe: &Recipe,
    method: &Method,
    model: &Model,
    data: &Data<'_>,
    steps: u64,
    resumed: bool,
    console: &Console,
) -> Memory {
    let train = &recipe.train;
    let (prompts, per_pass) = (train.prompts_per_step, train.steps_per_generation);
    let completions = prompts.saturating_mul(method.num_generations);
    let updates = train.num_iterations.saturating_mul(per_pass);
    let most = method.loss.max_completion_length;
    let prompt = data.train.checked().longest_prompt;
    let per_row = prompt + most;
    let rows = (recipe.model.max_tokens_per_micro_batch / per_row.max(1)).max(1);
    let micro = completions.div_ceil(per_pass).div_ceil(rows);
    let (name, n) = (&recipe.method.method, data.train.len());
    let passes = steps as f64 * prompts as f64 / n.max(1) as f64;
    console.say(format_args!(
        "method {name} on {n} problems, {steps} steps ({passes:.2} passes)"
    ));
    console.say(format_args!(
        "a step: {} prompts × {} completions = {completions} of at most {most} tokens; {updates} updates of {} completions, \
         at least {micro} micro-batches each",
        train.prompts_per_step,
        method.num_generations,
        completions / train.steps_per_generation,
    ));
    let tokens = (completions as u64).saturating_mul(most as u64);
    console.say(format_args!(
        "at most {} sampled tokens a step, {} in all; the longest prompt has {prompt}",
        count(tokens),
        count(tokens.saturating_mul(steps))
    ));
    let saves = steps.div_ceil(recipe.save.save_steps);
    let kept = recipe.save.save_total_limit;
    let kept = kept.map_or("all".to_owned(), |n| format!("{n} and the best"));
    console.say(format_args!(
        "{saves} checkpoints, of which {kept} are kept"
    ));
    for set in &data.evals {
        let (name, n, each) = (
            &set.name,
            set.data.len(),
            recipe.evaluate.num_generations_eval,
        );
        console.say(format_args!("evaluation on {name}: {n} problems × {each}"));
    }
    let memory = Memory::estimate(recipe, method, model, completions, per_row, resumed);
    console.say(memory);
    let different = differences(&Recipe::default(), recipe).into_iter();
    let different = different.map(|(key, _, value)| format!("{key} = {value}"));
    let different = Vec::from_iter(different).join(", ");
    console.say(format_args!("not as by default: {different}"));
    if let Ok(preset) = Method::preset(&recipe.method.method, steps) {
        let changed = preset.diff(method).into_iter();
        let changed = changed.map(|(key, was, is)| format!("{key} = {is} (preset {was})"));
        let changed = Vec::from_iter(changed).join(", ");
        if !changed.is_empty() {
            console.say(format_args!("not as in the preset: {changed}"));
        }
    }
    if let Some(remark) = method.remark() {
        console.say(remark);
    }
    memory
}

/// Takes a step to warm up and another, and says how long that one took, how long the run will, and
/// what memory was needed. Nothing is written.
pub(crate) fn rehearse<E: RolloutEngine + Send, L: Learner>(
    trainer: &mut Trainer<'_, E, L>,
    steps: u64,
    memory: &Memory,
    console: &Console,
) -> Result<(), Failure> {
    console.say("a step to warm up and one to time follow; Ctrl-C leaves them out");
    trainer.step()?;
    let seconds = trainer.step()?.seconds;
    console.say(format_args!(
        "a step takes {:.1} s (generating {:.1}, verdicts {:.1}, learning {:.1}), {steps} steps {} without evaluations",
        seconds.step,
        seconds.generate,
        seconds.grade,
        seconds.learn,
        time(Duration::from_secs_f64(seconds.step * steps as f64))
    ));
    if let Some(told) = memory.told() {
        console.say(told);
    }
    Ok(())
}

fn count(n: u64) -> String {
    match n {
        n if n >= 10_000_000 => format!("{:.0} M", n as f64 / 1e6),
        n if n >= 10_000 => format!("{:.0} k", n as f64 / 1e3),
        n => n.to_string(),
    }
}

/// The first problems as the model will see them: guidance between ⟦ and ⟧, then what is expected.
pub(crate) fn samples(
    recipe: &Recipe,
    method: &Method,
    tokenizer: &HfTokenizer,
    data: &Dataset<'_>,
    console: &Console,
) -> Result<(), Failure> {
    const SHOWN: usize = 3;
    let controller = (method.controller.build()).map_err(g2rpo::train::Error::from)?;
    let parts = method.parts(&*controller, None);
    let source = data.source(&method.source);
    let planner = Planner {
        data,
        source: &*source,
        parts: parts.map_err(g2rpo::train::Error::from)?,
        num_generations: method.num_generations,
        verifier: None,
        key: StepKey {
            run: recipe.train.seed,
            step: 0,
        },
    };
    let tasks: Vec<usize> = (0..data.len().min(SHOWN)).collect();
    for (group, place) in planner.plan(&tasks, 0)?.iter().zip(&tasks) {
        // With the special tokens: they are what a mistake in a template is seen by.
        let decode = |ids: &[u32]| tokenizer.decode(ids);
        let chosen = group.plan.members.iter().find(|m| m.is_chosen());
        let prefix = chosen.map_or(0, |m| m.cut.len);
        let trace = group.guidance.as_ref().and_then(|g| g.trace.as_ref());
        let given = match trace {
            Some(trace) if prefix > 0 => format!("⟦{}⟧", decode(&trace.tokens()[..prefix])?),
            _ => String::new(),
        };
        let guided = group.plan.members.iter().filter(|m| m.is_chosen()).count();
        let task = &group.item.task;
        console.say(format_args!(
            "--- problem of {}, {guided} of {} guided",
            data.tasks().spot(*place),
            group.plan.members.len()
        ));
        console.say(format_args!("{}{given}", decode(&group.item.prompt)?));
        let reference = short(&task.reference, 200);
        console.say(format_args!("--- reference: {reference}"));
    }
    Ok(())
}
