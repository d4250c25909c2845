//! The properties of the fuzz targets, on random inputs and on what fuzzing found.

#[path = "common/maths.rs"]
mod maths;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn extraction(bytes in vec(any::<u8>(), 0..60)) {
        maths::extraction(&bytes);
    }

    #[test]
    fn parser(bytes in vec(128u8..224, 0..14)) {
        maths::parser(&bytes);
    }

    #[test]
    fn comparison(bytes in vec(128u8..224, 0..16)) {
        maths::comparison(&bytes);
    }
}

#[test]
fn findings_stay_fixed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/verify/fuzz");
    for entry in std::fs::read_dir(folder).expect("testdata/verify/fuzz") {
        let path = entry.expect("a readable folder").path();
        let bytes = std::fs::read(&path).expect("a readable file");
        maths::extraction(&bytes);
        maths::parser(&bytes);
        maths::comparison(&bytes);
    }
}
