//! A group of processes over c10d, PyTorch's collectives.
#![allow(
    unsafe_code,
    reason = "functions of the shim are called with pointers to slices that outlive the call"
)]

use std::any::Any;
use std::ffi::{CString, c_int};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use g2rpo_rollout::ranks::{Collective, RankError, Values};
use tch::{Device, Tensor};

use super::launch::Launch;
use super::nccl::Nccl;
use super::shim::Shim;
use crate::error::Result;
use crate::shim::{Raw, call};

/// This process in a group of processes that [`Launch`] describes: c10d's `TCPStore`, `ProcessGroupGloo` for numbers in
/// host memory and, for a learner on a GPU, `ProcessGroupNCCL` for its gradients.
///
/// A rank that ends closes its connections, which the others notice at their next sum; one that hangs is noticed
/// when `limit` is over. Every rank shows in the store that it lives, so the one that is to blame is named; that
/// takes some four seconds. The interface for connections is chosen by `GLOO_SOCKET_IFNAME`, as in PyTorch.
#[derive(Debug)]
pub struct ProcessGroup {
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
    /// What sums on the GPU; it goes first, as its store is that of `raw`.
    nccl: Option<Nccl>,
    lost: Option<RankError>,
}

// SAFETY: the group is used by one thread at a time, behind a mutex; c10d does not tie it to a thread.
unsafe impl Send for Group {}

impl ProcessGroup {
    /// Waits for all ranks and connects them. Gradients are summed on `device`, the learner's own: on a GPU by NCCL.
    /// With the CPU, gradients of a learner on a GPU go through host memory. `limit` is the longest wait, here and in
    /// every later call, so it must be more than the slowest rank's part of a step takes longer than the fastest's.
    ///
    /// # Errors
    /// [`RankError::Transport`] if this program was built without the shim, the store cannot be reached, or NCCL is
    /// asked for and not there; [`RankError::Lost`] with the ranks that did not come.
    pub fn join(
        launch: &Launch,
        device: Device,
        limit: Duration,
    ) -> std::result::Result<Self, RankError> {
        let shim = Shim::get().map_err(RankError::Transport)?;
        let gpu = match device {
            Device::Cuda(index) => Some((index, Nccl::shim().map_err(RankError::Transport)?)),
            _ => None,
        };
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
        let joined = Self {
            rank: launch.rank,
            size: launch.size,
            limit,
            shim,
            group: Mutex::new(Group {
                raw,
                nccl: None,
                lost: None,
            }),
        };
        const START: &str = "the start of the run";
        joined.make(START, |group| {
            // SAFETY: the group was made above.
            call(|(text, room)| unsafe { (shim.join)(group.raw, text, room) })
        })?;
        if let Some((index, nccl)) = gpu {
            joined.make(START, |group| {
                let mut store = ptr::null_mut();
                // SAFETY: the group lives, and the place of the result outlives the call.
                call(|(text, room)| unsafe {
                    (shim.store)(group.raw, &raw mut store, text, room)
                })?;
                group.nccl = Some(Nccl::join(nccl, store, launch, index, limit)?);
                Ok(())
            })?;
        }
        Ok(joined)
    }

    /// Whether tensors on this device are summed where they are.
    pub(super) fn sums_on(&self, device: Device) -> bool {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        group
            .nccl
            .as_ref()
            .is_some_and(|nccl| nccl.device() == device)
    }

    /// Replaces the numbers of a tensor, which is where [`sums_on`](Self::sums_on) says, by their sums over all ranks.
    pub(super) fn sum_there(
        &self,
        what: &'static str,
        tensor: &Tensor,
    ) -> std::result::Result<(), RankError> {
        self.make(what, |group| {
            let Some(nccl) = &group.nccl else {
                return Err(crate::Error::invalid("ranks", "there is no NCCL"));
            };
            let raw = group.raw;
            nccl.sum(tensor, self.limit, |begin| self.watch(raw, begin))
        })
    }

    /// Fails when a rank is known to be lost, or has shown no life for some seconds of this watch.
    fn watch(&self, raw: Raw, begin: bool) -> Result<()> {
        // SAFETY: the group lives, and its lock is held.
        call(|(text, room)| unsafe { (self.shim.watch)(raw, c_int::from(begin), text, room) })
    }

    /// Makes a call; when it fails, finds out who is to blame, for this and all later calls.
    fn make(
        &self,
        what: &'static str,
        f: impl FnOnce(&mut Group) -> Result<()>,
    ) -> std::result::Result<(), RankError> {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = &group.lost {
            return Err(lost.clone());
        }
        let Err(error) = f(&mut group) else {
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

impl Collective for ProcessGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn sum(&self, what: &'static str, values: Values<'_>) -> std::result::Result<(), RankError> {
        let (place, n, wide) = match values {
            Values::F32(values) => (values.as_mut_ptr().cast(), values.len(), false),
            Values::F64(values) => (values.as_mut_ptr().cast(), values.len(), true),
        };
        self.make(what, |group| {
            let raw = group.raw;
            // SAFETY: the slice is borrowed for writing until the call returns; the shim waits for all that uses it.
            call(|(text, room)| unsafe {
                (self.shim.sum)(raw, place, n as i64, c_int::from(wide), text, room)
            })
        })
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let group = self.group.get_mut().unwrap_or_else(PoisonError::into_inner);
        group.nccl = None;
        // SAFETY: nothing uses the group after this.
        unsafe { (self.shim.leave)(group.raw) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    fn launch(rank: usize, size: usize, port: u16) -> Launch {
        Launch {
            rank,
            size,
            local_rank: rank,
            host: "127.0.0.1".into(),
            port,
            agent_store: false,
            restart: 0,
        }
    }

    fn free_port() -> u16 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        port.local_addr().unwrap().port()
    }

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_watch_sees_who_no_longer_lives() {
        let port = free_port();
        let join = |rank| ProcessGroup::join(&launch(rank, 2, port), Device::Cpu, LIMIT).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| join(1));
            let first = join(0);
            let other = other.join().unwrap();
            let raw = first.group.lock().unwrap().raw;
            first.watch(raw, true).unwrap();
            std::thread::sleep(Duration::from_secs(5));
            first.watch(raw, false).unwrap();
            drop(other);
            let clock = Instant::now();
            let error = loop {
                match first.watch(raw, false) {
                    Err(error) => break error.to_string(),
                    Ok(()) => std::thread::sleep(Duration::from_millis(50)),
                }
                assert!(clock.elapsed() < LIMIT, "nobody is missed");
            };
            assert!(error.contains("rank 1 shows no life"), "{error}");
            assert!(clock.elapsed() > Duration::from_secs(3));
        });
    }

    /// One rank: all that NCCL can be tried with on a machine with one GPU.
    #[test]
    fn tensors_on_a_gpu_are_summed_there() {
        if !crate::cuda_is_available() {
            eprintln!("skipped: there is no GPU");
            return;
        }
        let device = Device::Cuda(0);
        let group = ProcessGroup::join(&launch(0, 1, free_port()), device, LIMIT).unwrap();
        assert!(group.sums_on(device) && !group.sums_on(Device::Cpu));
        for kind in [tch::Kind::Float, tch::Kind::Double] {
            let tensor = Tensor::arange(1000, (kind, device));
            let before = tensor.copy();
            group.sum_there("a test", &tensor).unwrap();
            assert_eq!(tensor, before);
        }
        let mut host = [1.5];
        group.sum("a test", Values::F64(&mut host)).unwrap();
        assert_eq!(host, [1.5]);
    }

    #[test]
    fn without_a_gpu_nccl_is_refused_in_one_sentence() {
        if crate::cuda_is_available() {
            eprintln!("skipped: there is a GPU");
            return;
        }
        let launch = launch(0, 1, free_port());
        let error = ProcessGroup::join(&launch, Device::Cuda(0), LIMIT).unwrap_err();
        let expected = if cfg!(g2rpo_nccl_shim) {
            // Where libtorch's CUDA half is missing or finds no GPU.
            ["loading the shim: ", "no GPUs found"]
        } else {
            ["without NCCL's header", "through host memory"]
        };
        let text = error.to_string();
        assert!(expected.iter().any(|words| text.contains(words)), "{text}");
    }
}
