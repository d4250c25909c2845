//! One call for rollouts: threads that send requests, meet what goes wrong, and come back together.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use g2rpo_rollout::{Completion, Finished, Request, SamplingParams};
use ureq::Agent;

use crate::answer::{Ask, Expected, settle};
use crate::board::{Board, Job, Next, Remedy, backoff};
use crate::error::{Error, Fault, Result};
use crate::fleet::Fleet;
use crate::http::agent;
use crate::server::{Serving, lock};
use crate::sync;

/// TLS needs more than the smallest stack; hundreds of threads should not need gigabytes.
const STACK: usize = 512 << 10;

struct Call<'a> {
    fleet: &'a Fleet,
    requests: &'a [Request],
    params: &'a SamplingParams,
    agent: Agent,
    board: Mutex<Board<'a>>,
    changed: Condvar,
    finished: Mutex<&'a mut Finished<'a>>,
}

/// What one try came to.
enum Outcome {
    Done(Completion),
    /// Weights changed while the server worked, which ended the request; not the rollout's fault.
    Overtaken,
    Fault(Fault),
    /// An answer that cannot be trained on.
    Refused(String),
}

/// Makes `requests`, which have been checked, at the servers of `fleet`, and hands each over to `finished`.
pub(crate) fn run<'a>(
    fleet: &'a Fleet,
    requests: &'a [Request],
    params: &'a SamplingParams,
    finished: &'a mut Finished<'a>,
) -> Result<Vec<Completion>> {
    let config = &fleet.config;
    let lengths: Vec<usize> = (requests.iter())
        .map(|r| r.prompt.len() + r.guidance.len())
        .collect();
    let servers = fleet.servers.len();
    let board = Board::new(&lengths, config, Instant::now());
    let most = servers.saturating_mul(config.max_in_flight);
    let senders = requests.len().min(most);
    let call = Call {
        fleet,
        requests,
        params,
        agent: agent(senders),
        board: Mutex::new(board),
        changed: Condvar::new(),
        finished: Mutex::new(finished),
    };
    let session = fleet.open(call.agent.clone());
    std::thread::scope(|scope| {
        // One more for each server, so that a revival keeps no rollout from the other servers.
        for _ in 0..senders + servers {
            let builder = std::thread::Builder::new().stack_size(STACK);
            if let Err(e) = builder.spawn_scoped(scope, || call.work()) {
                let mut board = lock(&call.board);
                board.fail(Error::Config {
                    name: "max_in_flight",
                    problem: format!("no thread for another request: {e}"),
                });
                drop(call.told(board));
                break;
            }
        }
    });
    fleet.close(session);
    let board = call.board.into_inner();
    (board.unwrap_or_else(PoisonError::into_inner)).into_result()
}

impl<'a> Call<'a> {
    fn work(&self) {
        let mut board = lock(&self.board);
        loop {
            if self.fleet.cancelled() {
                board.fail(Error::Cancelled);
            }
            match board.next(Instant::now()) {
                Next::Over => return,
                Next::Wait(time) => {
                    // Short enough to see a cancellation that came between the check and the wait.
                    let time = time.min(Duration::from_millis(200));
                    let waited = self.changed.wait_timeout(board, time);
                    board = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Revive(server) => {
                    drop(board);
                    let given_up = || self.fleet.cancelled() || lock(&self.board).over();
                    let outcome = sync::revive(self.fleet, server, &given_up);
                    board = lock(&self.board);
                    if !board.over() {
                        board.revived(server, outcome);
                    }
                    board = self.told(board);
                }
                Next::Send(job, server) => {
                    drop(board);
                    let before = self.fleet.servers[server].serving();
                    let outcome = self.send(&job, server, &before);
                    board = lock(&self.board);
                    board.left(&job, server);
                    if !board.over() {
                        self.meet(&mut board, job, server, outcome);
                    }
                    board = self.told(board);
                }
            }
        }
    }

    /// Wakes the others; when it is over, what they wait for at the servers is dropped as well.
    fn told<'b>(&self, board: MutexGuard<'b, Board<'a>>) -> MutexGuard<'b, Board<'a>> {
        if board.over() {
            self.agent.clone().shutdown();
        }
        self.changed.notify_all();
        board
    }

    fn send(&self, job: &Job, server: usize, serving: &Serving) -> Outcome {
        let server = &self.fleet.servers[server];
        let request = &self.requests[job.index];
        let tokens = [&request.prompt[..], &request.guidance].concat();
        // The rollout and the try.
        let (key, tries) = (request.key, job.tries);
        let (step, group, member) = (key.step, key.group, key.member);
        let id = format!("g2rpo-{:x}-{step}-{group}-{member}-{tries}", key.run);
        let ask = Ask {
            id: &id,
            model: &serving.model,
            adapter: serving.adapter,
            tokens: &tokens,
            // One completion for each seed: of several, a server would give the next seed to the next.
            seed: key.to_seed(),
            max_new_tokens: request.max_new_tokens,
            params: self.params,
            candidates: 0,
        };
        let route = server.info.route;
        let (body, limit) = (route.body(&ask), self.fleet.config.request_limit());
        let answer = (server.endpoint)
            .post(&self.agent, route.path(), Some(&body), limit)
            .and_then(|text| route.read(&text));
        let after = server.serving();
        match answer {
            Ok(answer) => {
                let expected = expected(&self.fleet.config.label_prefix, serving, &after);
                match settle(answer, &ask, &expected, server.info.vocab_size) {
                    Ok(completion) => Outcome::Done(completion),
                    Err(problem) => Outcome::Refused(problem),
                }
            }
            // An adapter is unloaded only after its successor is in place.
            Err(Fault::Aborted | Fault::Status { status: 404, .. }) if after != *serving => {
                Outcome::Overtaken
            }
            Err(fault) => Outcome::Fault(fault),
        }
    }

    fn meet(&self, board: &mut Board<'_>, mut job: Job, server: usize, outcome: Outcome) {
        let key = self.requests[job.index].key;
        let url = self.fleet.servers[server].url();
        let refused = |problem| Error::Rollout {
            key,
            server: url.into(),
            problem,
        };
        let fault = match outcome {
            Outcome::Done(completion) => {
                lock(&self.finished)(job.index, &completion);
                return board.finish(&job, completion);
            }
            Outcome::Overtaken => return board.again(job),
            Outcome::Refused(problem) => return board.fail(refused(problem)),
            Outcome::Fault(fault) => fault,
        };
        let now = Instant::now();
        let adapter = self.fleet.servers[server].serving().adapter;
        let remedy = match fault {
            // Started again, it does not know the adapter.
            Fault::Status { status: 404, .. } if adapter => Remedy::Revive,
            _ => fault.remedy(),
        };
        let too_often = match remedy {
            Remedy::GiveUp => return board.fail(refused(fault.to_string())),
            Remedy::Lost => false,
            Remedy::Later => {
                let since = *job.busy_since.get_or_insert(now);
                now - since >= self.fleet.config.request_limit()
            }
            Remedy::Again | Remedy::Revive => job.tries >= self.fleet.config.max_retries,
        };
        if remedy != Remedy::Lost {
            job.tries = job.tries.saturating_add(1);
        }
        if too_often {
            return board.fail(Error::GaveUp {
                key,
                server: url.into(),
                tries: job.tries,
                fault,
            });
        }
        if matches!(remedy, Remedy::Revive | Remedy::Lost) {
            board.down(server);
        }
        let wait = match fault.retry_after() {
            Some(wait) => wait,
            None if remedy == Remedy::Lost => Duration::ZERO,
            None => backoff(job.tries - 1, key.uniform(job.tries as usize)),
        };
        job.not_before = now + wait;
        board.again(job);
    }
}

fn expected<'p>(prefix: &'p str, before: &Serving, after: &Serving) -> Expected<'p> {
    match (before.version, after.version) {
        (Some(version), _) if before.adapter => Expected::Named(version),
        (Some(from), Some(to)) => Expected::Labelled(prefix, from..=to.max(from)),
        // Before the first sync a label is not ours and says nothing.
        _ => Expected::Unknown,
    }
}
