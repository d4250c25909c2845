//! Numbers of scipy's that the tests of the statistics compare with.

use serde::de::DeserializeOwned;

/// Those that a test asks for.
pub(super) fn fixture<T: DeserializeOwned>() -> T {
    serde_json::from_str(include_str!("../../../../testdata/train/statistics.json")).unwrap()
}
