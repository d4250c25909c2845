//! Which rollout goes to which server next: the bookkeeping of one call, without threads or clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use g2rpo_rollout::Completion;

use crate::config::RemoteConfig;
use crate::error::{Error, Fault};

/// A rollout that waits for a server.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Its place among the requests.
    pub(crate) index: usize,
    /// Ids of prompt and guidance.
    pub(crate) tokens: usize,
    /// Tries that failed.
    pub(crate) tries: u32,
    /// When a server first turned it away as too busy.
    pub(crate) busy_since: Option<Instant>,
    /// Not to be sent before.
    pub(crate) not_before: Instant,
}

/// What a worker does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send the job to the server.
    Send(Job, usize),
    /// Find out whether the server is there, and bring it back.
    Revive(usize),
    /// Nothing to do before this time or before something changes.
    Wait(Duration),
    /// Nothing to do any more.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Up,
    Down,
    Reviving,
    Gone,
}

#[derive(Debug)]
struct Lane {
    requests: usize,
    tokens: usize,
    health: Health,
}

/// The state of one call for rollouts.
#[derive(Debug)]
pub(crate) struct Board<'c> {
    config: &'c RemoteConfig,
    waiting: VecDeque<Job>,
    lanes: Vec<Lane>,
    done: Vec<Option<Completion>>,
    open: usize,
    failed: Option<Error>,
}

impl<'c> Board<'c> {
    /// A board of requests, told by their lengths, for the servers of a configuration.
    pub(crate) fn new(lengths: &[usize], config: &'c RemoteConfig, now: Instant) -> Self {
        let job = |(index, tokens): (usize, &usize)| Job {
            index,
            tokens: *tokens,
            tries: 0,
            busy_since: None,
            not_before: now,
        };
        let lane = |_: &String| Lane {
            requests: 0,
            tokens: 0,
            health: Health::Up,
        };
        Self {
            config,
            waiting: lengths.iter().enumerate().map(job).collect(),
            lanes: config.vllm_server_base_url.iter().map(lane).collect(),
            done: vec![None; lengths.len()],
            open: lengths.len(),
            failed: None,
        }
    }

    pub(crate) fn over(&self) -> bool {
        self.open == 0 || self.failed.is_some()
    }

    pub(crate) fn next(&mut self, now: Instant) -> Next {
        if self.over() {
            return Next::Over;
        }
        // The canary goes to a server that has nothing else to do: a vLLM with adapters on a CPU dies of both at once.
        let quiet = |l: &Lane| l.health == Health::Down && l.requests == 0;
        if let Some(server) = self.lanes.iter().position(quiet) {
            self.lanes[server].health = Health::Reviving;
            return Next::Revive(server);
        }
        let ready = self.waiting.iter().position(|job| job.not_before <= now);
        let Some(ready) = ready else {
            let waits = (self.waiting.iter()).map(|job| job.not_before.duration_since(now));
            let wait = waits.min().unwrap_or(Duration::from_secs(1));
            return Next::Wait(wait.max(Duration::from_millis(1)));
        };
        let tokens = self.waiting[ready].tokens;
        let most_tokens = self.config.max_prompt_tokens_in_flight;
        let fits = |lane: &Lane| {
            let room = |most| lane.tokens + tokens <= most;
            lane.health == Health::Up
                && lane.requests < self.config.max_in_flight
                // A prompt that exceeds the bound by itself is sent alone.
                && (lane.requests == 0 || most_tokens.is_none_or(room))
        };
        let least = (self.lanes.iter_mut().enumerate())
            .filter(|(_, lane)| fits(lane))
            .min_by_key(|(_, lane)| (lane.requests, lane.tokens));
        match least.and_then(|(server, lane)| Some((server, lane, self.waiting.remove(ready)?))) {
            Some((server, lane, job)) => {
                lane.requests += 1;
                lane.tokens += tokens;
                Next::Send(job, server)
            }
            None => Next::Wait(Duration::from_secs(1)),
        }
    }

    /// A job left a server.
    pub(crate) fn left(&mut self, job: &Job, server: usize) {
        let lane = &mut self.lanes[server];
        lane.requests -= 1;
        lane.tokens -= job.tokens;
    }

    pub(crate) fn finish(&mut self, job: &Job, completion: Completion) {
        self.done[job.index] = Some(completion);
        self.open -= 1;
    }

    /// Puts a job back, before all that were not tried yet.
    pub(crate) fn again(&mut self, job: Job) {
        self.waiting.push_front(job);
    }

    /// The first failure counts; what follows is its echo.
    pub(crate) fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    pub(crate) fn down(&mut self, server: usize) {
        let health = &mut self.lanes[server].health;
        if *health == Health::Up {
            *health = Health::Down;
        }
    }

    /// The outcome of a revival. The call fails when no server is left.
    pub(crate) fn revived(&mut self, server: usize, outcome: Result<(), Error>) {
        let Err(error) = outcome else {
            self.lanes[server].health = Health::Up;
            return;
        };
        self.lanes[server].health = Health::Gone;
        let fatal = !matches!(error, Error::Unreachable { .. });
        if fatal || self.lanes.iter().all(|l| l.health == Health::Gone) {
            self.fail(error);
        }
    }

    pub(crate) fn into_result(self) -> Result<Vec<Completion>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        // Without a failure every job was finished; a gap can only come of a call that was stopped.
        (self.done.into_iter().collect::<Option<_>>()).ok_or(Error::Cancelled)
    }
}

/// How a fault of a rollout is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// It would come again.
    GiveUp,
    /// Try again; as often as `max_retries` says.
    Again,
    /// The server has too much to do: try later, as long as a request may take.
    Later,
    /// See whether the server lives, then try again.
    Revive,
    /// Nothing reached the server: see whether it lives, then try again, not counted.
    Lost,
}

impl Fault {
    /// `Retry-After`, where the server named one.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Connect(_) => Remedy::Lost,
            Self::Broken(_) => Remedy::Revive,
            Self::Timeout(_) | Self::Body(_) | Self::Aborted => Remedy::Again,
            Self::Impossible(_) => Remedy::GiveUp,
            Self::Status { status, .. } => match status {
                500 | 502 => Remedy::Revive,
                429 | 503 => Remedy::Later,
                408 | 504 => Remedy::Again,
                _ => Remedy::GiveUp,
            },
        }
    }
}

/// Seconds before try `tries + 1`: 0.1, 0.2, 0.4 … to 10, each drawn down to its half by `u` in
/// `[0, 1)`, so that many requests that failed together do not come back together.
pub(crate) fn backoff(tries: u32, u: f64) -> Duration {
    let full = 0.1 * f64::from(2_u32.saturating_pow(tries.min(20)));
    Duration::from_secs_f64(full.min(10.0) * (0.5 + 0.5 * u))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers that take two requests each.
    fn config(servers: usize) -> RemoteConfig {
        RemoteConfig {
            vllm_server_base_url: vec![String::new(); servers],
            max_in_flight: 2,
            ..RemoteConfig::default()
        }
    }

    fn sent(board: &mut Board<'_>, now: Instant) -> (Job, usize) {
        match board.next(now) {
            Next::Send(job, server) => (job, server),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn load_is_balanced_and_bounded() {
        let now = Instant::now();
        let config = config(2);
        let mut board = Board::new(&[1; 5], &config, now);
        let sent: Vec<_> = (0..4).map(|_| sent(&mut board, now)).collect();
        assert_eq!(sent.iter().map(|s| s.1).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert!(matches!(board.next(now), Next::Wait(_)));
        board.left(&sent[1].0, 1);
        let next = board.next(now);
        assert!(matches!(next, Next::Send(Job { index: 4, .. }, 1)));
    }

    #[test]
    fn prompt_tokens_are_bounded_and_a_larger_prompt_goes_alone() {
        let now = Instant::now();
        let mut config = config(1);
        config.max_prompt_tokens_in_flight = Some(10);
        let mut board = Board::new(&[6, 6, 20], &config, now);
        for index in 0..3 {
            let (job, server) = sent(&mut board, now);
            assert_eq!(job.index, index);
            assert!(matches!(board.next(now), Next::Wait(_)));
            board.left(&job, server);
        }
    }

    #[test]
    fn a_server_that_is_down_gets_nothing_until_it_is_revived() {
        let now = Instant::now();
        let config = config(2);
        let mut board = Board::new(&[1; 3], &config, now);
        let (job, server) = sent(&mut board, now);
        board.left(&job, server);
        board.down(server);
        board.again(job);
        assert!(matches!(board.next(now), Next::Revive(0)));
        for _ in 0..2 {
            assert_eq!(sent(&mut board, now).1, 1);
        }
        assert!(matches!(board.next(now), Next::Wait(_)));
        board.revived(0, Ok(()));
        assert_eq!(sent(&mut board, now).1, 0);
    }

    #[test]
    fn the_call_fails_when_no_server_is_left() {
        let now = Instant::now();
        let config = config(2);
        let mut board = Board::new(&[1], &config, now);
        for server in 0..2 {
            assert!(!board.over());
            let gone = Error::Unreachable {
                server: "s".into(),
                waited: Duration::from_secs(1),
                fault: Fault::Aborted,
            };
            board.revived(server, Err(gone));
        }
        let outcome = board.into_result();
        assert!(matches!(outcome, Err(Error::Unreachable { .. })));
    }

    #[test]
    fn backoff_doubles_up_to_ten_seconds() {
        assert_eq!(backoff(0, 0.0), Duration::from_millis(50));
        assert_eq!(backoff(3, 0.0), Duration::from_millis(400));
        assert!(backoff(1000, 0.999) <= Duration::from_secs(10));
    }
}
