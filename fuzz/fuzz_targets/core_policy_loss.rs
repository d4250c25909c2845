#![no_main]

// The harness lives with the crate's tests, which replay every finding.
#[path = "../../crates/g2rpo-core/tests/common/harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::policy_loss(bytes));
