#![no_main]

// The harness lives with the crate's tests, which replay every finding.
#[path = "../../crates/g2rpo-verify/tests/common/responses.rs"]
mod responses;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| responses::extraction(bytes));
