//! Levels of isolation, which of them are accepted, and what to do where one fails.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which kernel mechanisms hold a confined process.
///
/// Every level also has resource limits, an empty environment, no inherited descriptors, no
/// privileges (`no_new_privs`, no capabilities, another user id when started by root) and the
/// seccomp filters that refuse new processes, sockets, signals and tracing to untrusted code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IsolationLevel {
    /// L1: Landlock restricts the file system to what the interpreter needs, read-only. Needs
    /// Linux 5.13 with Landlock enabled, and neither root nor namespaces.
    Landlock,
    /// L2: own user (or real root), process, mount, network, IPC and host-name namespaces over a
    /// private root that holds read-only views of what the interpreter needs. For kernels without
    /// Landlock; needs Linux 5.12.
    Namespaces,
    /// L3: both of the above.
    Full,
}

impl IsolationLevel {
    /// All levels, the strongest first.
    pub const STRONGEST_FIRST: [Self; 3] = [Self::Full, Self::Namespaces, Self::Landlock];

    /// `landlock`, `namespaces` or `full`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Namespaces => "namespaces",
            Self::Full => "full",
        }
    }

    /// Whether Landlock is part of the level.
    #[must_use]
    pub const fn has_landlock(self) -> bool {
        matches!(self, Self::Landlock | Self::Full)
    }

    /// Whether namespaces are part of the level.
    #[must_use]
    pub const fn has_namespaces(self) -> bool {
        matches!(self, Self::Namespaces | Self::Full)
    }
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which isolation is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Isolation {
    /// The strongest level that works here; refuse to run when none does.
    #[default]
    Auto,
    /// Exactly this level; refuse to run when it does not work here.
    Require(IsolationLevel),
    /// No isolation by the kernel: untrusted code can read and delete every file of the user who
    /// runs it, use the network and start processes. Verdicts stay sound, the machine does not.
    /// Only for a machine that is itself thrown away.
    UnsafeNone,
}

impl Isolation {
    /// The levels to try, in order; `None` stands for no isolation.
    #[must_use]
    pub fn candidates(self) -> Vec<Option<IsolationLevel>> {
        match self {
            Self::Auto => IsolationLevel::STRONGEST_FIRST.map(Some).to_vec(),
            Self::Require(level) => vec![Some(level)],
            Self::UnsafeNone => vec![None],
        }
    }
}

/// What to do about a step that failed with the system's error number.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "only the helper sets up levels")
)]
pub(crate) fn remedy(stage: &str, errno: i32) -> &'static str {
    const EPERM: i32 = 1;
    const ENOENT: i32 = 2;
    const EACCES: i32 = 13;
    const EINVAL: i32 = 22;
    const ENOSPC: i32 = 28;
    const ENOSYS: i32 = 38;
    const EOPNOTSUPP: i32 = 95;
    match (stage, errno) {
        ("namespaces", EPERM) => {
            "A container's seccomp profile or AppArmor forbids namespaces: use level landlock, or \
             start the container with a profile that allows unshare"
        }
        ("namespaces", ENOSPC) => {
            "User namespaces are switched off: raise user.max_user_namespaces, or use level landlock"
        }
        ("namespaces", EINVAL | ENOSYS) => {
            "The kernel was built without one of the namespaces: use level landlock"
        }
        ("user map" | "mounts", EACCES | EPERM) => {
            "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns): allow \
             them for this program, or use level landlock"
        }
        ("mounts", ENOSYS) => "mount_setattr needs Linux 5.12: use level landlock",
        ("landlock", ENOSYS) => {
            "Landlock needs Linux 5.13 and must not be filtered by the container: use level \
             namespaces, or a newer kernel"
        }
        ("landlock", EOPNOTSUPP) => {
            "Landlock is built in but not enabled: add it to the kernel's lsm= parameter, or use \
             level namespaces"
        }
        ("seccomp", _) => "The kernel must allow seccomp filters (CONFIG_SECCOMP_FILTER)",
        ("exec", EACCES) => {
            "The interpreter is not readable for the user that the sandbox runs as: choose one \
             outside of private home directories, such as /usr/bin/python3"
        }
        ("exec", ENOENT) => {
            "The interpreter or its loader does not exist inside: name it, or add its folders to the read paths"
        }
        _ => "See docs/sandbox.md for what each step needs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_never_runs_without_isolation() {
        assert!(Isolation::Auto.candidates().iter().all(Option::is_some));
        assert_eq!(Isolation::UnsafeNone.candidates(), [None]);
        assert_eq!(
            Isolation::Require(IsolationLevel::Landlock).candidates(),
            [Some(IsolationLevel::Landlock)]
        );
    }

    #[test]
    fn remedies_name_a_way_out() {
        assert!(remedy("namespaces", 28).contains("max_user_namespaces"));
        assert!(remedy("landlock", 95).contains("lsm="));
        assert!(remedy("exec", 13).contains("/usr/bin/python3"));
    }
}
