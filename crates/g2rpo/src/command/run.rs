//! The loop of a run: steps, evaluations, checkpoints, and everything written about them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use g2rpo::libtorch::{Model, TorchLearner};
use g2rpo::rollout::ranks::{Collective, RankedEngine, RankedLearner};
use g2rpo::train::evaluate::graded::write_graded;
use g2rpo::train::recipe::settings::{Recipe, ReportTo};
use g2rpo::train::recipe::write::to_toml;
use g2rpo::train::run::checkpoint::{Best, Checkpoints};
use g2rpo::train::run::events::EventWriter;
use g2rpo::train::run::files::if_there;
use g2rpo::train::run::folder::RunFolder;
use g2rpo::train::run::report::record::WarningRow;
use g2rpo::train::run::step_log::read_rows;
use g2rpo::train::{EvalConfig, MetricsRow, RunState, SampleRow, StepLog, StepReport, Trainer};
use g2rpo::verify::Verifier;

use super::best;
use super::console::{Console, time};
use super::data::EvalSet;
use super::engine::Engine;
use super::evaluation::{evaluate_set, tell};
use super::failure::{Failure, because};
use super::memory::Memory;
use super::ranks;
use super::stop::Stop;

const LEARNER: &str = "learner.safetensors";
const STATE: &str = "state.json";
const MODEL: &str = "model";
/// What is trained beside a model that stays as it was, in PEFT's layout.
const ADAPTER: &str = "adapter";

/// Everything that a run is made of.
pub(crate) struct Run<'r, 'd> {
    pub(crate) recipe: &'r Recipe,
    pub(crate) folder: &'r RunFolder,
    pub(crate) model: &'r Model,
    pub(crate) trainer: Trainer<'d, RankedEngine<Engine>, RankedLearner<TorchLearner>>,
    pub(crate) evals: &'r [EvalSet<'d>],
    pub(crate) eval_config: EvalConfig,
    pub(crate) verifier: &'r dyn Verifier,
    pub(crate) steps: u64,
    pub(crate) memory: Memory,
    pub(crate) console: Console,
    pub(crate) stop: Stop,
    pub(crate) ranks: Arc<dyn Collective>,
}

/// Files that are written while it runs, by rank 0.
struct Logs {
    metrics: StepLog,
    samples: StepLog,
    warnings: StepLog,
    events: Option<EventWriter>,
}

/// Which evaluation is the best so far, and how many came after it.
#[derive(Default)]
struct Progress {
    best: Option<f64>,
    since: u64,
}

impl Progress {
    fn note(&mut self, value: f64) -> bool {
        let better = self.best.is_none_or(|best| value > best);
        if better {
            self.best = Some(value);
            self.since = 0;
        } else {
            self.since += 1;
        }
        better
    }
}

/// Where a run begins.
pub(crate) enum Begin {
    Anew,
    /// With the recipe that it had, or one that was changed since.
    FromCheckpoint {
        changed: bool,
    },
}

/// Where the time of a run goes.
struct Times {
    start: Instant,
    /// Sampling, verdicts, learning, evaluations, checkpoints.
    work: Duration,
    steps: u64,
}

impl Times {
    fn start() -> Self {
        Self {
            start: Instant::now(),
            work: Duration::ZERO,
            steps: 0,
        }
    }

    /// Does a part of the work.
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let clock = Instant::now();
        let done = work();
        self.work += clock.elapsed();
        done
    }

    fn step(&mut self, report: &StepReport) {
        let seconds = report.seconds;
        // With rollouts ahead of the learner the parts go on at the same time.
        let parts = seconds.generate + seconds.grade + seconds.learn;
        self.work += Duration::from_secs_f64(parts.min(seconds.step));
        self.steps += 1;
    }

    fn told(&self) -> String {
        let all = self.start.elapsed().as_secs_f64();
        let rest = 100.0 * (1.0 - self.work.as_secs_f64() / all);
        format!(
            "{} steps in {}, {rest:.2} % of it outside sampling, verdicts, learning, evaluation and checkpoints",
            self.steps,
            time(self.start.elapsed())
        )
    }
}

impl Run<'_, '_> {
    /// Runs to the end, or until somebody wants it to stop.
    pub(crate) fn go(mut self, begin: Begin) -> Result<(), Failure> {
        let limit = self.recipe.save.save_total_limit;
        let checkpoints =
            self.by_first(|| Ok(Checkpoints::open(self.folder.checkpoints(), limit)?))?;
        if let Begin::FromCheckpoint { changed } = begin {
            self.restore(checkpoints.as_ref())?;
            if changed {
                // Not before the run could go on with it.
                self.by_first(|| Ok(self.folder.write_recipe(&to_toml(self.recipe, false))?))?;
            }
        }
        let best = self.best(checkpoints.as_ref())?;
        self.trainer.sync()?;
        let first = self.trainer.next_step();
        let mut logs = self.by_first(|| self.open_logs(first))?;
        let lost = (logs.as_ref()).is_some_and(|logs| logs.metrics.kept_steps() < first);
        let best = best.filter(|best| lost && best.step <= first);
        let mut progress = self.progress_so_far(best)?;
        if first == 0 && self.recipe.evaluate.eval_on_start && !self.evals.is_empty() {
            let mut row = MetricsRow::new(0);
            let value = self.evaluate(0, &mut row)?;
            progress.note(value);
            write(&mut logs, &row)?;
        }
        self.console.start(first, self.steps);
        let patience = self.recipe.train.early_stopping_patience;
        let eval_steps = self.recipe.evaluate.eval_steps;
        let mut times = Times::start();
        while self.trainer.next_step() < self.steps {
            let _span = tracing::info_span!("step", step = self.trainer.next_step()).entered();
            tracing::debug!("generating");
            let report = self.trainer.step()?;
            times.step(&report);
            let done = self.trainer.next_step();
            let mut row = report.row();
            row.put("num_tokens", self.trainer.sampled_tokens() as f64);
            if let Some(logs) = &mut logs {
                self.warn(&report, logs)?;
                self.sample(&report, logs)?;
            }
            let finite = ["loss", "grad_norm"]
                .into_iter()
                .find(|name| row.get(name).is_some_and(|v| !v.is_finite()));
            if let Some(name) = finite {
                write(&mut logs, &row)?;
                let message = format!(
                    "step {}: {name} is not a number, so the run ends here; the last checkpoint is sound. \
                     A lower learning_rate or max_grad_norm may help",
                    report.step
                );
                return Err(Failure::new(Failure::OTHER, message));
            }
            let last = done == self.steps;
            let due = eval_steps.is_some_and(|n| done.is_multiple_of(n));
            let evaluates = !self.evals.is_empty() && (last || due);
            let better = evaluates && {
                let value = times.of(|| self.evaluate(done, &mut row))?;
                progress.note(value)
            };
            write(&mut logs, &row)?;
            let tired = evaluates && patience.is_some_and(|patience| progress.since >= patience);
            let stop = ranks::any(&*self.ranks, "whether to stop", self.stop.wanted())?;
            let line =
                (done.is_multiple_of(self.recipe.log.logging_steps) || last).then(|| report.line());
            self.console.step(done, line);
            if last || tired || stop || better || done.is_multiple_of(self.recipe.save.save_steps) {
                let best = progress.best.filter(|_| better);
                let saved = times.of(|| match (&checkpoints, &logs) {
                    (Some(checkpoints), Some(logs)) => self.save(checkpoints, logs, done, best),
                    _ => Ok(()),
                });
                ranks::together(&*self.ranks, "saving a checkpoint", saved)?;
            }
            if tired {
                let since = progress.since;
                self.console.say(format_args!(
                    "the last {since} evaluations were no better, so the run ends early"
                ));
                break;
            }
            if stop && !last {
                self.console.finish();
                if checkpoints.is_some() {
                    self.write_samples()?;
                }
                let path = self.folder.path().display();
                let message = format!(
                    "stopped by a signal after step {done}, saved; `g2rpo resume {path}` goes on"
                );
                return Err(Failure::new(Failure::INTERRUPTED, message));
            }
        }
        self.console.finish();
        if times.steps > 0 {
            self.console.say(times.told());
            if let Some(told) = self.memory.told() {
                self.console.say(told);
            }
        }
        let mut written = Ok(());
        if let Some(checkpoints) = &checkpoints {
            written = self
                .write_samples()
                .and_then(|()| self.write_model(checkpoints));
        }
        ranks::together(&*self.ranks, "writing the model", written)
    }

    /// Does on rank 0 what one process does for all.
    fn by_first<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<Option<T>, Failure> {
        let done = (self.ranks.rank() == 0).then(work).transpose();
        ranks::together(&*self.ranks, "opening the files of the run", done)
    }

    /// The best checkpoint so far, on rank 0.
    fn best(&self, checkpoints: Option<&Checkpoints>) -> Result<Option<Best>, Failure> {
        let Some(checkpoints) = checkpoints else {
            return Ok(None);
        };
        best::known(self.folder, checkpoints, self.metric_set(), &self.console)
    }

    fn open_logs(&self, step: u64) -> Result<Logs, Failure> {
        let files = [
            self.folder.metrics(),
            self.folder.samples(),
            self.folder.warnings(),
        ];
        for file in files.iter().filter(|file| step > 0 && !file.exists()) {
            self.console.warn(format_args!(
                "{} is gone, and with it what it held of the {step} steps so far; the run goes on without",
                file.display()
            ));
        }
        let was_there = files[0].exists();
        let events = match self.recipe.log.report_to {
            ReportTo::Tensorboard => Some(EventWriter::open(&self.folder.tensorboard(), step)?),
            ReportTo::None => None,
        };
        let metrics = StepLog::resume(self.folder.metrics(), step)?;
        let kept = metrics.kept_steps();
        if was_there && kept < step {
            self.console.warn(format_args!(
                "{} holds rows of {kept} of the {step} steps so far, the others are lost; the run goes on without",
                files[0].display()
            ));
        }
        Ok(Logs {
            metrics,
            samples: StepLog::resume(self.folder.samples(), step)?,
            warnings: StepLog::resume(self.folder.warnings(), step)?,
            events,
        })
    }

    /// The evaluations of the rows that are on record, and the best where rows are lost.
    fn progress_so_far(&self, best: Option<Best>) -> Result<Progress, Failure> {
        let values = self.by_first(|| {
            let Some(metric) = self.metric() else {
                return Ok(Vec::new());
            };
            let rows: Vec<MetricsRow> = read_rows(&self.folder.metrics())?;
            let best = best.map(|best| best.value);
            let values = rows.iter().filter_map(|row| row.get(&metric));
            Ok(best.into_iter().chain(values).collect())
        })?;
        let mut progress = Progress::default();
        for value in ranks::from_first(&*self.ranks, "the evaluations so far", values)? {
            progress.note(value);
        }
        Ok(progress)
    }

    /// What the best checkpoint is best in.
    fn metric(&self) -> Option<String> {
        let set = self.metric_set()?;
        Some(format!("eval/{set}/accuracy"))
    }

    /// The evaluation set that it is best in.
    fn metric_set(&self) -> Option<&str> {
        let named = self.recipe.evaluate.metric_for_best_model.as_deref();
        named.or_else(|| self.evals.first().map(|set| set.name.as_str()))
    }

    /// Evaluates all sets after `done` steps; returns what the best checkpoint is best in.
    fn evaluate(&mut self, done: u64, row: &mut MetricsRow) -> Result<f64, Failure> {
        for set in self.evals {
            let _span = tracing::info_span!("evaluation", set = set.name).entered();
            tracing::debug!("generating");
            let engine = self.trainer.engine();
            let (samples, summary) =
                evaluate_set(engine, set, self.verifier, &self.eval_config, row)?;
            if self.ranks.rank() == 0 {
                write_graded(&self.folder.evaluation(&set.name, done)?, &samples)?;
            }
            if let Some(summary) = summary {
                let told = tell(&set.name, &summary);
                self.console.say(format_args!("after {done} steps, {told}"));
            }
        }
        let metric = self.metric().unwrap_or_default();
        Ok(row.get(&metric).unwrap_or(0.0))
    }

    fn warn(&self, report: &StepReport, logs: &mut Logs) -> Result<(), Failure> {
        for warning in &report.warnings {
            self.console
                .warn(format_args!("step {}: {warning}", report.step));
            logs.warnings.write(&WarningRow {
                step: report.step,
                name: warning.detector.to_string(),
                text: warning.to_string(),
            })?;
        }
        Ok(())
    }

    /// Keeps and shows the best and the worst completions of some steps.
    fn sample(&self, report: &StepReport, logs: &mut Logs) -> Result<(), Failure> {
        let log = &self.recipe.log;
        let every = log.log_completions_steps;
        if every == 0 || !report.step.is_multiple_of(every) {
            return Ok(());
        }
        let mut samples: Vec<SampleRow> =
            report.samples(self.trainer.data(), self.trainer.method().placement)?;
        samples.sort_by(|a, b| b.reward.unwrap_or(0.0).total_cmp(&a.reward.unwrap_or(0.0)));
        let n = log.num_completions_to_print.min(samples.len());
        let best = n.div_ceil(2);
        let worst = &samples[samples.len() - (n - best)..];
        let chosen: Vec<&SampleRow> = samples[..best].iter().chain(worst).collect();
        for sample in &chosen {
            logs.samples.write(sample)?;
        }
        self.console.samples(&chosen);
        Ok(())
    }

    /// Leaves the samples as Parquet as well.
    fn write_samples(&self) -> Result<(), Failure> {
        #[cfg(feature = "parquet")]
        {
            let samples: Vec<SampleRow> = read_rows(&self.folder.samples())?;
            let path = self.folder.samples_parquet();
            g2rpo::train::data::parquet::write_samples(&path, &samples)?;
        }
        Ok(())
    }

    fn save(
        &mut self,
        checkpoints: &Checkpoints,
        logs: &Logs,
        done: u64,
        best: Option<f64>,
    ) -> Result<(), Failure> {
        let _span = tracing::info_span!("checkpoint").entered();
        tracing::debug!("writing");
        logs.sync()?;
        let state = self.trainer.state();
        let (model, learner) = (self.model, self.trainer.learner().get());
        let base = &self.recipe.model.model_name_or_path;
        checkpoints.save(done, |folder| {
            learner.save_state(folder.join(LEARNER), &HashMap::new())?;
            state.save(&folder.join(STATE))?;
            model.save(folder.join(MODEL), learner)?;
            if let Some(adapter) = learner.adapter() {
                adapter.save(folder.join(ADAPTER), Some(base))?;
            }
            Ok(())
        })?;
        if let Some(value) = best {
            checkpoints.set_best(Best { step: done, value })?;
        }
        Ok(())
    }

    /// All ranks load the checkpoint that rank 0 finds whole.
    fn restore(&mut self, checkpoints: Option<&Checkpoints>) -> Result<(), Failure> {
        let found = checkpoints.map(|checkpoints| {
            let (latest, damaged) = checkpoints.latest()?;
            for bad in &damaged {
                self.console.warn(format_args!(
                    "{} is damaged and not used: {}",
                    bad.checkpoint.path.display(),
                    bad.problem
                ));
            }
            if latest.is_none() {
                self.check_unsaved(!damaged.is_empty())?;
            }
            Ok::<_, Failure>(latest.map_or(Vec::new(), |found| vec![found.step as f64]))
        });
        const WHAT: &str = "finding the last checkpoint";
        let found = ranks::together(&*self.ranks, WHAT, found.transpose())?;
        let step = ranks::from_first(&*self.ranks, WHAT, found)?;
        let Some(step) = step.first() else {
            self.console
                .say("no checkpoint was written yet: the run begins again");
            return Ok(());
        };
        let checkpoint = Checkpoints::at(&self.folder.checkpoints(), *step as u64);
        let learner = self.trainer.learner();
        (learner.get_mut()).load_state(checkpoint.path.join(LEARNER))?;
        (learner.compare()).map_err(|e| Failure::new(Failure::OTHER, e.to_string()))?;
        let state = RunState::load(&checkpoint.path.join(STATE))?;
        self.trainer.restore(state)?;
        let step = checkpoint.step;
        self.console
            .say(format_args!("going on after {step} steps"));
        Ok(())
    }

    /// Refuses to begin a run again that had checkpoints.
    fn check_unsaved(&self, damaged: bool) -> Result<(), Failure> {
        let rows: Vec<MetricsRow> = read_rows(&self.folder.metrics()).unwrap_or_default();
        let done = rows.last().map_or(0, |row| row.step() + 1);
        // A kill may come between a row and its checkpoint.
        let saved = done > self.recipe.save.save_steps || self.folder.path().join(MODEL).exists();
        if !damaged && !saved {
            return Ok(());
        }
        let path = self.folder.checkpoints();
        let what = match damaged {
            true => "all checkpoints there are damaged",
            false => "its checkpoints are gone",
        };
        let message = format!(
            "{}: {what}, and the run was {done} steps on; bring one back, or begin again by `g2rpo train … --overwrite`",
            path.display()
        );
        Err(Failure::new(Failure::RUN, message))
    }

    /// Leaves the model at the end, or the best one, where transformers opens it.
    fn write_model(&mut self, checkpoints: &Checkpoints) -> Result<(), Failure> {
        let best = match self.recipe.evaluate.load_best_model_at_end {
            true => self.best(Some(checkpoints))?,
            false => None,
        };
        let io = |path: &Path| because(Failure::RUN, path.display().to_string());
        let clear = |path: &Path| if_there(fs::remove_dir_all(path)).map_err(io(path));
        let best = match best {
            Some(best) => {
                let list = checkpoints.list()?;
                let from = list.into_iter().find(|c| c.step == best.step);
                let gone = || Failure::new(Failure::RUN, "the best checkpoint is gone");
                let step = best.step;
                self.console
                    .say(format_args!("the best model is that after {step} steps"));
                Some(from.ok_or_else(gone)?.path)
            }
            None => None,
        };
        let base = &self.recipe.model.model_name_or_path;
        let learner = self.trainer.learner().get();
        let adapter = learner.adapter();
        let names = [Some(MODEL), adapter.map(|_| ADAPTER)];
        for name in names.into_iter().flatten() {
            let target = self.folder.path().join(name);
            let partial = self.folder.path().join(format!("{name}.partial"));
            clear(&partial)?;
            match (&best, adapter) {
                (Some(best), _) => {
                    copy_folder(&best.join(name), &partial).map_err(io(&partial))?;
                }
                (None, Some(adapter)) if name == ADAPTER => {
                    adapter.save(&partial, Some(base))?;
                }
                (None, _) => self.model.save(&partial, learner)?,
            }
            clear(&target)?;
            fs::rename(&partial, &target).map_err(io(&target))?;
            let what = match name {
                ADAPTER => "the adapter, which is merged into it,",
                _ => "the model",
            };
            self.console
                .say(format_args!("{what} is in {}", target.display()));
        }
        Ok(())
    }
}

impl Logs {
    fn write(&mut self, row: &MetricsRow) -> Result<(), Failure> {
        self.metrics.write(row)?;
        if let Some(events) = &mut self.events {
            events.write_row(row)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Failure> {
        for log in [&self.metrics, &self.samples, &self.warnings] {
            log.sync()?;
        }
        Ok(())
    }
}

fn write(logs: &mut Option<Logs>, row: &MetricsRow) -> Result<(), Failure> {
    logs.as_mut().map_or(Ok(()), |logs| logs.write(row))
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if let Some(name) = path.file_name() {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
