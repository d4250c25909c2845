#![no_main]

// The harness lives with the crate's tests, which replay every finding.
#[path = "../../crates/g2rpo-math/tests/common/texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| texts::parser(bytes));
