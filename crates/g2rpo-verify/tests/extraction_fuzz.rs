//! The properties of the fuzz target, on random inputs and on what fuzzing found.

#[path = "common/responses.rs"]
mod responses;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn extraction(bytes in vec(any::<u8>(), 0..60)) {
        responses::extraction(&bytes);
    }
}

#[test]
fn findings_stay_fixed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/verify/fuzz");
    for entry in std::fs::read_dir(folder).expect("testdata/verify/fuzz") {
        let path = entry.expect("a readable folder").path();
        let bytes = std::fs::read(&path).expect("a readable file");
        responses::extraction(&bytes);
    }
}
