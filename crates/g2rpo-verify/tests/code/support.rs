//! Pools and verifiers that the tests share.

use std::path::PathBuf;
use std::sync::OnceLock;

use g2rpo_verify::code::{
    CodeVerifier, Helper, Isolation, IsolationLevel, PoolConfig, SandboxPool, SandboxUnavailable,
};

/// The helper that cargo built beside the tests.
pub(crate) fn config(isolation: Isolation) -> PoolConfig {
    PoolConfig {
        isolation,
        helper: Helper::Path(PathBuf::from(env!("CARGO_BIN_EXE_g2rpo-sandbox"))),
        workers: 2,
        ..PoolConfig::default()
    }
}

/// A pool at each level that works here, started once.
pub(crate) fn pools() -> &'static [SandboxPool] {
    static POOLS: OnceLock<Vec<SandboxPool>> = OnceLock::new();
    POOLS.get_or_init(|| {
        let found: Vec<_> = IsolationLevel::STRONGEST_FIRST
            .into_iter()
            .filter_map(
                |level| match SandboxPool::new(&config(Isolation::Require(level))) {
                    Ok(pool) => Some(pool),
                    Err(why) => {
                        may_skip(&why);
                        None
                    }
                },
            )
            .collect();
        assert!(
            !found.is_empty(),
            "no level of isolation works on this machine"
        );
        found
    })
}

/// A verifier at the strongest level.
pub(crate) fn verifier() -> CodeVerifier {
    CodeVerifier::new(pools()[0].clone())
}

/// A level may be missing because the machine lacks it, and for no other reason.
pub(crate) fn may_skip(why: &SandboxUnavailable) {
    let why = why.to_string();
    let by_the_host = ["at namespaces", "at user map", "at landlock"];
    assert!(by_the_host.iter().any(|stage| why.contains(stage)), "{why}");
    println!("skipped: {why}");
}
