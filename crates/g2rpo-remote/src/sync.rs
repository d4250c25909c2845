//! New weights for all servers, and the proof that they serve them.

use std::path::Path;
use std::time::{Duration, Instant};

use g2rpo_core::TokenId;
use g2rpo_rollout::SamplingParams;

use crate::answer::Ask;
use crate::board::{Remedy, backoff};
use crate::canary::CanaryReport;
use crate::config::{RemoteConfig, WeightSync};
use crate::error::{Error, Fault, Result, Scorer};
use crate::fleet::{Applied, Fleet};
use crate::folder::{At, check_adapter, check_model};
use crate::line::Line;
use crate::push::Weights;
use crate::server::{Server, Serving, lock};

/// What a sync came to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SyncReport {
    /// Version that the servers serve.
    pub version: u64,
    /// Time from the call to the last proof.
    pub time: Duration,
    /// One report for each server.
    pub canaries: Vec<CanaryReport>,
}

pub(crate) fn sync(
    fleet: &Fleet,
    folder: Option<&Path>,
    version: u64,
    learner: &mut Scorer<'_>,
) -> Result<SyncReport> {
    let start = Instant::now();
    let before = lock(&fleet.applied).clone();
    if let Some(before) = before.as_ref().filter(|before| before.version >= version) {
        return Err(Error::Config {
            name: "version",
            problem: format!("{version} does not follow {}", before.version),
        });
    }
    let weights = weights(&fleet.config, folder, version)?;
    let mut scores = Vec::new();
    for sequence in &fleet.canary {
        let logps = learner(sequence).map_err(Error::Scorer)?;
        if logps.len() + 1 != sequence.len() || logps.iter().any(|logp| !logp.is_finite()) {
            let problem = format!(
                "expected {} finite numbers, one for each id from the second on, got {logps:?}",
                sequence.len() - 1
            );
            return Err(Error::Scorer(problem.into()));
        }
        scores.extend(logps);
    }
    let next = Applied {
        version,
        weights,
        learner: scores,
    };
    let outcomes: Vec<Result<CanaryReport>> = std::thread::scope(|scope| {
        let bring = |server| {
            let (next, before) = (&next, before.as_ref());
            scope.spawn(move || bring(fleet, server, next, before))
        };
        let threads: Vec<_> = fleet.servers.iter().map(bring).collect();
        let join = |panic| std::panic::resume_unwind(panic);
        (threads.into_iter())
            .map(|thread| thread.join().unwrap_or_else(join))
            .collect()
    });
    let canaries = (outcomes.into_iter().collect::<Result<Vec<_>>>()).inspect_err(|error| {
        for server in &fleet.servers {
            let problem = format!("the sync of weights {version} failed, sync again: {error}");
            lock(&server.serving).unknown = Some(problem);
        }
    })?;
    for server in &fleet.servers {
        *lock(&server.serving) = serving(&next, server);
    }
    *lock(&fleet.applied) = Some(next);
    if let Some(Weights::Adapter(_, name)) = before.map(|before| before.weights) {
        for server in &fleet.servers {
            try_again(fleet, server, "unloading the previous adapter", |line| {
                line.unload(&name)
            })?;
        }
    }
    Ok(SyncReport {
        version,
        time: start.elapsed(),
        canaries,
    })
}

fn weights(config: &RemoteConfig, folder: Option<&Path>, version: u64) -> Result<Weights> {
    let Some(folder) = folder else {
        return Ok(Weights::AsStarted);
    };
    let path = || {
        let path = std::path::absolute(folder).at(folder)?;
        Ok(match (&config.weights_dir_on_server, path.file_name()) {
            (Some(dir), Some(name)) => dir.join(name),
            _ => path,
        })
    };
    match config.weight_sync {
        WeightSync::None => Err(Error::Config {
            name: "weight_sync",
            problem: "is none, so no weights can be brought to the servers; set it to adapter or \
                      folder"
                .into(),
        }),
        WeightSync::Adapter => {
            check_adapter(folder)?;
            let name = format!("{}-{}", config.adapter_name, config.label(version));
            Ok(Weights::Adapter(path()?, name))
        }
        WeightSync::Folder => {
            check_model(folder)?;
            Ok(Weights::Folder(path()?))
        }
    }
}

/// How weights are asked for at a server.
fn serving(applied: &Applied, server: &Server) -> Serving {
    let (model, adapter) = match &applied.weights {
        Weights::Adapter(_, name) => (name, true),
        Weights::AsStarted | Weights::Folder(_) => (&server.info.model, false),
    };
    Serving {
        model: model.clone(),
        adapter,
        version: Some(applied.version),
        unknown: None,
    }
}

fn bring(
    fleet: &Fleet,
    server: &Server,
    next: &Applied,
    before: Option<&Applied>,
) -> Result<CanaryReport> {
    try_again(fleet, server, "bringing weights", |line| {
        line.push(&next.weights, &fleet.config.label(next.version))
    })?;
    prove(fleet, server, next, before)
}

/// Restores a server that was started again between two calls. Faults are left to the rollouts.
pub(crate) fn check(fleet: &Fleet, server: &Server) -> Result<()> {
    let Some(applied) = lock(&fleet.applied).clone() else {
        return Ok(());
    };
    let label = fleet.config.label(applied.version);
    match fleet.line(server).has(&applied.weights, &label) {
        Ok(Some(false)) => restore(fleet, server),
        _ => Ok(()),
    }
}

/// Waits for a server that was lost, and gives it the last weights again if it was started anew.
pub(crate) fn revive(fleet: &Fleet, server: usize, given_up: &dyn Fn() -> bool) -> Result<()> {
    let server = &fleet.servers[server];
    let (start, line) = (Instant::now(), fleet.line(server));
    loop {
        line.wait(given_up)?;
        match restore(fleet, server) {
            // It may die of the first request after a failure: health alone does not tell.
            Err(Error::Call { fault, .. })
                if fault.remedy() != Remedy::GiveUp && start.elapsed() < line.patience() => {}
            outcome => return outcome,
        }
        std::thread::sleep(backoff(1, 0.5));
    }
}

/// Gives a server that was lost the last weights again if it lacks them, and proves them.
fn restore(fleet: &Fleet, server: &Server) -> Result<()> {
    let Some(applied) = lock(&fleet.applied).clone() else {
        return Ok(());
    };
    let (line, label) = (fleet.line(server), fleet.config.label(applied.version));
    // Loading once more does no harm.
    let pushed = match line.has(&applied.weights, &label) {
        Ok(Some(true)) => Ok(()),
        Ok(_) => line.push(&applied.weights, &label),
        Err(fault) => Err(fault),
    };
    pushed.map_err(|fault| fault.when("bringing weights again", server.url()))?;
    prove(fleet, server, &applied, None).map(drop)
}

/// Compares the server with the learner on the canary.
fn prove(
    fleet: &Fleet,
    server: &Server,
    now: &Applied,
    before: Option<&Applied>,
) -> Result<CanaryReport> {
    let serving = serving(now, server);
    let mut served = Vec::new();
    for sequence in &fleet.canary {
        served.extend(score(fleet, server, &serving, sequence)?);
    }
    let report = CanaryReport::new(
        server.url(),
        &served,
        &now.learner,
        before.map(|before| &before.learner[..]),
        fleet.config.canary_tolerance,
    );
    if report.holds() {
        return Ok(report);
    }
    Err(Error::Canary {
        version: now.version,
        report,
    })
}

/// The server's log-probabilities of a sequence, from its second id on, at temperature 1.
pub(crate) fn score(
    fleet: &Fleet,
    server: &Server,
    serving: &Serving,
    tokens: &[TokenId],
) -> Result<Vec<f32>> {
    let params = SamplingParams::greedy();
    let ask = Ask {
        id: "g2rpo-score",
        model: &serving.model,
        adapter: serving.adapter,
        tokens,
        seed: 0,
        // The least that servers accept.
        max_new_tokens: 1,
        params: &params,
        candidates: 0,
    };
    let route = server.info.route;
    let body = route.score_body(&ask);
    try_again(fleet, server, "scoring", |line| {
        route.read_scores(&line.post(route.path(), Some(&body))?, tokens)
    })
}

/// Calls until it succeeds, as often as `max_retries` allows; a server that is lost is waited for, and one that has too
/// much to do for as long as a request may take.
fn try_again<T>(
    fleet: &Fleet,
    server: &Server,
    doing: &str,
    call: impl Fn(&Line<'_>) -> Result<T, Fault>,
) -> Result<T> {
    let line = fleet.line(server);
    let (mut tries, mut busy) = (0, 0);
    let mut busy_since = None;
    loop {
        let fault = match call(&line) {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        let remedy = fault.remedy();
        if remedy == Remedy::Later {
            let since = *busy_since.get_or_insert_with(Instant::now);
            let wait = fault.retry_after().unwrap_or_else(|| backoff(busy, 0.5));
            if since.elapsed() + wait < fleet.config.request_limit() && !fleet.cancelled() {
                std::thread::sleep(wait);
                busy += 1;
                continue;
            }
        }
        if matches!(remedy, Remedy::GiveUp | Remedy::Later) || tries >= fleet.config.max_retries {
            return Err(fault.when(doing, server.url()));
        }
        std::thread::sleep(backoff(tries, 0.5));
        line.wait(&|| fleet.cancelled())?;
        tries += 1;
    }
}
