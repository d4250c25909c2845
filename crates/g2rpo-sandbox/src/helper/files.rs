//! The file system as Landlock restricts it.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::sys;
use crate::spec::Spec;

/// Devices that programs expect, and what may be done with them.
pub(super) const READABLE_DEVICES: [&str; 3] = ["/dev/zero", "/dev/urandom", "/dev/random"];
pub(super) const NULL: &str = "/dev/null";

/// Restricts this process, for good, to reading what the specification lists.
///
/// All rights of the first Landlock version are required. Truncation, TCP ports, device controls and
/// scoped signals are added where the kernel knows them; seccomp refuses the same things elsewhere.
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` when the kernel has no Landlock or does not enable it.
pub(super) fn restrict(spec: &Spec) -> io::Result<()> {
    let read = AccessFs::from_read(ABI::V1);
    let status = (|| -> Result<_, RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V6))?
            .handle_access(AccessNet::from_all(ABI::V6))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .add_rules(path_beneath_rules(&spec.read_paths, read))?
            .add_rules(path_beneath_rules([&spec.program], read))?
            .add_rules(path_beneath_rules(READABLE_DEVICES, AccessFs::ReadFile))?
            .add_rules(path_beneath_rules(
                [NULL],
                AccessFs::ReadFile | AccessFs::WriteFile,
            ))?
            .restrict_self()
    })();
    match status {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => Ok(()),
        Ok(_) => Err(unavailable("nothing was enforced")),
        Err(error) => Err(unavailable(&error.to_string())),
    }
}

/// The kernel's own reason where it has one, which the crate's error does not carry.
fn unavailable(why: &str) -> io::Error {
    match sys::landlock_version() {
        Ok(_) => io::Error::other(why.to_owned()),
        Err(error) => error,
    }
}
