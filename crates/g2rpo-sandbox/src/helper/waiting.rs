//! How long processes were ready to run and had to wait for a core, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// For each thread of a process and of all that descend from it, the time that it waited for a core so far.
///
/// Nothing where the kernel does not tell: without `/proc`, or without scheduler statistics.
#[derive(Debug, Default)]
pub(super) struct Waiting(BTreeMap<libc::pid_t, Duration>);

impl Waiting {
    pub(super) fn of(root: libc::pid_t) -> Option<Self> {
        let mut found = BTreeMap::new();
        let mut left = vec![root];
        while let Some(pid) = left.pop() {
            // A process may end while it is looked at.
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
                continue;
            };
            for task in tasks.flatten() {
                let folder = task.path();
                let text = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
                left.extend(text("children").split_whitespace().filter_map(number));
                let waited = text("schedstat")
                    .split_whitespace()
                    .nth(1)
                    .and_then(|field| field.parse().ok());
                if let (Some(id), Some(waited)) =
                    (task.file_name().to_str().and_then(number), waited)
                {
                    found.insert(id, Duration::from_nanos(waited));
                }
            }
        }
        (!found.is_empty()).then_some(Self(found))
    }

    /// The longest that one thread waited since `before`. With many threads on few cores they wait at the same
    /// time, so no more than one is counted.
    pub(super) fn since(&self, before: &Self) -> Duration {
        self.0
            .iter()
            .map(|(id, waited)| waited.saturating_sub(*before.0.get(id).unwrap_or(&Duration::ZERO)))
            .max()
            .unwrap_or(Duration::ZERO)
    }
}

fn number(text: &str) -> Option<libc::pid_t> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_since_counts_once() {
        let at = |waits: &[(i32, u64)]| {
            Waiting(
                waits
                    .iter()
                    .map(|&(id, ms)| (id, Duration::from_millis(ms)))
                    .collect(),
            )
        };
        let before = at(&[(1, 10), (2, 50)]);
        // Thread 2 ended, and 3 is new.
        let after = at(&[(1, 40), (3, 20)]);
        assert_eq!(after.since(&before), Duration::from_millis(30));
        assert_eq!(before.since(&before), Duration::ZERO);
    }

    #[test]
    fn this_process_is_found_with_its_threads() {
        let own = std::process::id() as libc::pid_t;
        assert!(Waiting::of(own).is_some_and(|found| !found.0.is_empty()));
        assert!(Waiting::of(-1).is_none());
    }
}
