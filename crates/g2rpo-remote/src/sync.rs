//! New weights for all servers, and the proof that they serve them.

use std::path::Path;
use std::time::{Duration, Instant};

use g2rpo_core::TokenId;

use crate::board::{Remedy, backoff};
use crate::canary::CanaryReport;
use crate::config::{RemoteConfig, WeightSync};
use crate::error::{Error, Fault, Result, Scorer};
use crate::fleet::{Applied, Fleet, wait_for};
use crate::folder::{At, check_adapter, check_model};
use crate::protocol::Ask;
use crate::push::{Line, Weights};
use crate::server::{Server, Serving, lock};
use crate::settings::Settings;

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
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect()
    });
    let canaries: Result<Vec<_>> = outcomes.into_iter().collect();
    let canaries = canaries.inspect_err(|error| {
        for server in &fleet.servers {
            let problem = format!("the sync of weights {version} failed, sync again: {error}");
            lock(&server.serving).unknown = Some(problem);
        }
    })?;
    let serving = serving(&next);
    for server in &fleet.servers {
        *lock(&server.serving) = serving.clone().unwrap_or_else(|| Serving {
            model: server.info.model.clone(),
            adapter: false,
            version: Some(version),
            unknown: None,
        });
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
    let path = match config.weight_sync {
        WeightSync::None => {
            return Err(Error::Config {
                name: "weight_sync",
                problem:
                    "is none, so no weights can be brought to the servers; set it to adapter or \
                          folder"
                        .into(),
            });
        }
        WeightSync::Adapter => check_adapter(folder),
        WeightSync::Folder => check_model(folder),
    }
    .and_then(|()| std::path::absolute(folder).at(folder))?;
    let path = match (&config.weights_dir_on_server, path.file_name()) {
        (Some(dir), Some(name)) => dir.join(name),
        _ => path,
    };
    Ok(if config.weight_sync == WeightSync::Adapter {
        Weights::Adapter(
            path,
            format!("{}-{}", config.adapter_name, config.label(version)),
        )
    } else {
        Weights::Folder(path)
    })
}

/// How an adapter is asked for; `None` where it is the base model.
fn serving(applied: &Applied) -> Option<Serving> {
    match &applied.weights {
        Weights::Adapter(_, name) => Some(Serving {
            model: name.clone(),
            adapter: true,
            version: Some(applied.version),
            unknown: None,
        }),
        Weights::AsStarted | Weights::Folder(_) => None,
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
    let report = compare(fleet, server, next, before)?;
    if report.holds() {
        Ok(report)
    } else {
        Err(Error::Canary {
            version: next.version,
            report,
        })
    }
}

/// Restores a server that was started again between two calls. Faults are left to the rollouts.
pub(crate) fn check(fleet: &Fleet, server: &Server) -> Result<()> {
    let Some(applied) = lock(&fleet.applied).clone() else {
        return Ok(());
    };
    match line(fleet, server).has(&applied.weights, &fleet.config.label(applied.version)) {
        Ok(Some(false)) => restore(fleet, server),
        _ => Ok(()),
    }
}

/// Waits for a server that was lost, and gives it the last weights again if it was started anew.
pub(crate) fn revive(fleet: &Fleet, server: usize, given_up: &dyn Fn() -> bool) -> Result<()> {
    let server = &fleet.servers[server];
    let start = Instant::now();
    loop {
        wait_for(&fleet.config, &fleet.control, &server.endpoint, given_up)?;
        match restore(fleet, server) {
            Ok(()) => return Ok(()),
            // It may die of the first request after a failure: health alone does not tell.
            Err(Error::Call { fault, .. })
                if fault.remedy() != Remedy::GiveUp
                    && start.elapsed() < fleet.config.server_timeout() => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(backoff(1, 0.5));
    }
}

/// Gives a server that was lost the last weights again if it lacks them, and proves them.
pub(crate) fn restore(fleet: &Fleet, server: &Server) -> Result<()> {
    let Some(applied) = lock(&fleet.applied).clone() else {
        return Ok(());
    };
    let line = line(fleet, server);
    let call = |fault| Error::Call {
        doing: "bringing weights again".into(),
        server: server.url().into(),
        fault,
    };
    let label = fleet.config.label(applied.version);
    // Loading once more does no harm.
    if line.has(&applied.weights, &label).map_err(call)? != Some(true) {
        line.push(&applied.weights, &label).map_err(call)?;
    }
    let report = compare(fleet, server, &applied, None)?;
    if report.holds() {
        Ok(())
    } else {
        Err(Error::Canary {
            version: applied.version,
            report,
        })
    }
}

fn compare(
    fleet: &Fleet,
    server: &Server,
    now: &Applied,
    before: Option<&Applied>,
) -> Result<CanaryReport> {
    let serving = serving(now).unwrap_or_else(|| Serving {
        model: server.info.model.clone(),
        adapter: false,
        version: None,
        unknown: None,
    });
    let mut served = Vec::new();
    for sequence in &fleet.canary {
        served.extend(score(fleet, server, &serving, sequence)?);
    }
    Ok(CanaryReport::new(
        server.url(),
        &served,
        &now.learner,
        before.map(|before| &before.learner[..]),
        fleet.config.canary_tolerance,
    ))
}

/// The server's log-probabilities of a sequence, from its second id on, at temperature 1.
pub(crate) fn score(
    fleet: &Fleet,
    server: &Server,
    serving: &Serving,
    tokens: &[TokenId],
) -> Result<Vec<f32>> {
    let settings = Settings {
        temperature: 0.0,
        stop_token_ids: Vec::new(),
        stop: Vec::new(),
    };
    let ask = Ask {
        id: "g2rpo-score",
        model: &serving.model,
        adapter: serving.adapter,
        tokens,
        seed: 0,
        // The least that servers accept.
        max_new_tokens: 1,
        settings: &settings,
        candidates: 0,
    };
    let route = server.info.route;
    let body = route.score_body(&ask);
    try_again(fleet, server, "scoring", |line| {
        let text = line
            .endpoint
            .post(line.agent, route.path(), Some(&body), line.quick)?;
        route.read_scores(&text, tokens)
    })
}

fn line<'a>(fleet: &'a Fleet, server: &'a Server) -> Line<'a> {
    Line {
        backend: fleet.config.backend,
        endpoint: &server.endpoint,
        agent: &fleet.control,
        slow: fleet.config.sync_limit(),
        quick: fleet.config.control_limit(),
    }
}

/// Calls until it succeeds, as often as `max_retries` allows; a server that is lost is waited for, and one that has too
/// much to do for as long as a request may take.
fn try_again<T>(
    fleet: &Fleet,
    server: &Server,
    doing: &str,
    call: impl Fn(&Line<'_>) -> Result<T, Fault>,
) -> Result<T> {
    let line = line(fleet, server);
    let (mut tries, mut busy) = (0, 0);
    let mut busy_since = None;
    loop {
        let fault = match call(&line) {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        if fault.remedy() == Remedy::Later {
            let since = *busy_since.get_or_insert_with(Instant::now);
            let wait = fault.retry_after().unwrap_or_else(|| backoff(busy, 0.5));
            if since.elapsed() + wait < fleet.config.request_limit() && !fleet.cancelled() {
                std::thread::sleep(wait);
                busy += 1;
                continue;
            }
        }
        if fault.remedy() == Remedy::GiveUp
            || fault.remedy() == Remedy::Later
            || tries >= fleet.config.max_retries
        {
            return Err(Error::Call {
                doing: doing.into(),
                server: server.url().into(),
                fault,
            });
        }
        std::thread::sleep(backoff(tries, 0.5));
        wait_for(&fleet.config, &fleet.control, &server.endpoint, &|| {
            fleet.cancelled()
        })?;
        tries += 1;
    }
}
