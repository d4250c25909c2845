//! The properties of the fuzz targets, on random inputs and on what fuzzing found.

#[path = "common/texts.rs"]
mod texts;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parser(bytes in vec(128u8..224, 0..14)) {
        texts::parser(&bytes);
    }

    #[test]
    fn comparison(bytes in vec(128u8..224, 0..16)) {
        texts::comparison(&bytes);
    }
}

#[test]
fn findings_stay_fixed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/verify/fuzz");
    for entry in std::fs::read_dir(folder).expect("testdata/verify/fuzz") {
        let path = entry.expect("a readable folder").path();
        let bytes = std::fs::read(&path).expect("a readable file");
        texts::parser(&bytes);
        texts::comparison(&bytes);
    }
}
