//! The end of a confined process and of all that descends from it.

use std::time::{Duration, Instant};

use super::sys;

/// Kills the confined process and whatever descends from it, and waits until all are gone.
pub(super) fn everything(pid: libc::pid_t) {
    // The group first: its members cannot leave it, and with a process namespace the death of its
    // first process takes all others along.
    sys::kill(-pid);
    sys::kill(pid);
    let patience = Instant::now() + Duration::from_secs(10);
    while Instant::now() < patience {
        match sys::reap() {
            Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => {
                // Orphans become our children; without isolation they may have left the group.
                for child in children() {
                    sys::kill(child);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

pub(super) fn children() -> Vec<libc::pid_t> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    std::fs::read_to_string(path)
        .map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect()
        })
        .unwrap_or_default()
}
