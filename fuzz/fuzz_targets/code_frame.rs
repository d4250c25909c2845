#![no_main]

// The harness lives with the crate's tests, which replay every finding.
#[path = "../../crates/g2rpo-verify/tests/code_frame/harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::frame(bytes));
