//! A group of processes over Gloo, PyTorch's collectives for CPUs.
#![allow(
    unsafe_code,
    reason = "functions of the shim are called with pointers to slices that outlive the call"
)]

use std::ffi::{CString, c_int};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use g2rpo_rollout::ranks::{Collective, RankError, Values};

use super::launch::Launch;
use super::shim::{Raw, Shim, shim};
use crate::shim::call;

/// This process in a group of processes that [`Launch`] describes: c10d's `TCPStore` and `ProcessGroupGloo`.
///
/// A rank that ends closes its connections, which the others notice at their next sum; one that hangs is noticed
/// when `limit` is over. Every rank shows in the store that it lives, so the one that is to blame is named; that
/// takes some four seconds. The interface for connections is chosen by `GLOO_SOCKET_IFNAME`, as in PyTorch.
#[derive(Debug)]
pub struct Gloo {
    rank: usize,
    size: usize,
    limit: Duration,
    shim: &'static Shim,
    /// The group of the shim, and what ended it.
    group: Mutex<Group>,
}

#[derive(Debug)]
struct Group {
    raw: Raw,
    lost: Option<RankError>,
}

// SAFETY: the group is used by one thread at a time, behind a mutex; c10d does not tie it to a thread.
unsafe impl Send for Group {}

impl Gloo {
    /// Waits for all ranks and connects them. `limit` is the longest wait, here and in every later call, so it
    /// must be more than the slowest rank's part of a step takes longer than the fastest's.
    ///
    /// # Errors
    /// [`RankError::Transport`] if this program was built without the shim or the store cannot be reached,
    /// [`RankError::Lost`] with the ranks that did not come.
    pub fn join(launch: &Launch, limit: Duration) -> Result<Self, RankError> {
        let shim = shim().map_err(RankError::Transport)?;
        let host = CString::new(launch.host.as_str())
            .map_err(|_| RankError::Transport("MASTER_ADDR holds a zero byte".into()))?;
        // A group that is started again must not read what the former one left in the launcher's store.
        let prefix = format!("g2rpo/{}", launch.restart);
        let prefix = CString::new(prefix).unwrap_or_default();
        let serve = launch.rank == 0 && !launch.agent_store;
        let mut raw = ptr::null_mut();
        // SAFETY: the texts and the place of the result outlive the call.
        let connected = call(|(text, room)| unsafe {
            (shim.connect)(
                host.as_ptr(),
                c_int::from(launch.port),
                c_int::from(serve),
                prefix.as_ptr(),
                launch.rank as c_int,
                launch.size as c_int,
                limit.as_millis() as i64,
                &raw mut raw,
                text,
                room,
            )
        });
        connected.map_err(|error| {
            let (host, port) = (&launch.host, launch.port);
            RankError::Transport(format!("the store at {host}:{port}: {error}"))
        })?;
        let gloo = Self {
            rank: launch.rank,
            size: launch.size,
            limit,
            shim,
            group: Mutex::new(Group { raw, lost: None }),
        };
        gloo.make("the start of the run", |raw, (text, room)| {
            // SAFETY: the group was made above.
            unsafe { (shim.join)(raw, text, room) }
        })?;
        Ok(gloo)
    }

    /// Makes a call; when it fails, finds out who is to blame, for this and all later calls.
    fn make(
        &self,
        what: &'static str,
        f: impl FnOnce(Raw, (*mut std::ffi::c_char, usize)) -> c_int,
    ) -> Result<(), RankError> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = &group.lost {
            return Err(lost.clone());
        }
        let Err(error) = call(|text| f(group.raw, text)) else {
            return Ok(());
        };
        let mut missing = vec![0u8; self.size];
        // SAFETY: the group lives, and there is a byte for every rank.
        let found = call(|(text, room)| unsafe {
            (self.shim.lost)(group.raw, missing.as_mut_ptr(), text, room)
        });
        let ranks: Vec<usize> = (0..self.size).filter(|rank| missing[*rank] != 0).collect();
        let lost = if found.is_ok() && !ranks.is_empty() {
            RankError::Lost {
                ranks,
                what: what.into(),
                seconds: self.limit.as_secs_f64(),
            }
        } else {
            RankError::Transport(format!("{what}: {error}"))
        };
        group.lost = Some(lost.clone());
        Err(lost)
    }
}

impl Collective for Gloo {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, what: &'static str, values: Values<'_>) -> Result<(), RankError> {
        let (place, n, wide) = match values {
            Values::F32(values) => (values.as_mut_ptr().cast(), values.len(), false),
            Values::F64(values) => (values.as_mut_ptr().cast(), values.len(), true),
        };
        self.make(what, |raw, (text, room)| {
            // SAFETY: the slice is borrowed for writing until the call returns; the shim waits for all that uses it.
            unsafe { (self.shim.sum)(raw, place, n as i64, c_int::from(wide), text, room) }
        })
    }
}

impl Drop for Gloo {
    fn drop(&mut self) {
        let group = self.group.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: nothing uses the group after this.
        unsafe { (self.shim.leave)(group.raw) }
    }
}
