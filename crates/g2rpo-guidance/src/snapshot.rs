use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The state of a controller, to be stored with a checkpoint.
///
/// A tree of named numbers. Numbers are written as their shortest exact decimal string, so that
/// they survive any text format bit for bit, whatever its own reading of numbers.
///
/// ```
/// use g2rpo_guidance::Snapshot;
/// let mut saved = Snapshot::new("mine");
/// saved.set("length", 0.1);
/// assert_eq!(saved.check_kind("mine")?.get("length")?, 0.1);
/// assert!(saved.check_kind("another").is_err());
/// # Ok::<(), g2rpo_guidance::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    kind: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    numbers: BTreeMap<String, Number>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    series: BTreeMap<String, Vec<Number>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    children: BTreeMap<String, Self>,
}

impl Snapshot {
    /// An empty state of the named controller.
    pub fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            ..Self::default()
        }
    }

    /// Name of the controller that was saved.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether nothing is stored besides the name.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.series.is_empty() && self.children.is_empty()
    }

    /// `self` if it was saved by the named controller.
    ///
    /// # Errors
    /// [`Error::SnapshotKind`] if not.
    pub fn check_kind(&self, expected: &str) -> Result<&Self> {
        if self.kind == expected {
            Ok(self)
        } else {
            Err(Error::SnapshotKind {
                expected: expected.to_owned(),
                got: self.kind.clone(),
            })
        }
    }

    /// Stores a number.
    pub fn set(&mut self, name: &str, value: f64) {
        self.numbers.insert(name.to_owned(), Number(value));
    }

    /// A number.
    ///
    /// # Errors
    /// [`Error::SnapshotField`] if it is missing or not finite.
    pub fn get(&self, name: &str) -> Result<f64> {
        match self.numbers.get(name) {
            Some(Number(value)) if value.is_finite() => Ok(*value),
            Some(Number(value)) => Err(self.bad(name, &value.to_string())),
            None => Err(self.bad(name, "missing")),
        }
    }

    /// A number that may be absent.
    ///
    /// # Errors
    /// [`Error::SnapshotField`] if it is there and not finite.
    pub fn get_opt(&self, name: &str) -> Result<Option<f64>> {
        self.numbers.get(name).map(|_| self.get(name)).transpose()
    }

    /// A number that must lie in `[low, high]`.
    ///
    /// # Errors
    /// [`Error::SnapshotField`] if it is missing or does not.
    pub fn get_within(&self, name: &str, low: f64, high: f64) -> Result<f64> {
        let value = self.get(name)?;
        if value >= low && value <= high {
            Ok(value)
        } else {
            Err(self.bad(name, &format!("{value}, outside [{low}, {high}]")))
        }
    }

    /// Stores a list of numbers.
    pub fn set_series(&mut self, name: &str, values: impl IntoIterator<Item = f64>) {
        (self.series).insert(name.to_owned(), values.into_iter().map(Number).collect());
    }

    /// A list of numbers.
    ///
    /// # Errors
    /// [`Error::SnapshotField`] if it is missing or holds a number that is not finite.
    pub fn get_series(&self, name: &str) -> Result<Vec<f64>> {
        let series = (self.series.get(name)).ok_or_else(|| self.bad(name, "missing"))?;
        match series.iter().find(|n| !n.0.is_finite()) {
            Some(n) => Err(self.bad(name, &format!("a list with {}", n.0))),
            None => Ok(series.iter().map(|n| n.0).collect()),
        }
    }

    /// Names of all lists, in order.
    pub fn series_names(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }

    /// Stores the state of a part.
    pub fn set_child(&mut self, name: &str, child: Self) {
        self.children.insert(name.to_owned(), child);
    }

    /// The state of a part.
    ///
    /// # Errors
    /// [`Error::SnapshotField`] if it is missing.
    pub fn child(&self, name: &str) -> Result<&Self> {
        (self.children.get(name)).ok_or_else(|| self.bad(name, "missing"))
    }

    /// The states of all parts.
    pub fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.children
            .iter()
            .map(|(name, child)| (name.as_str(), child))
    }

    /// The error for a field that cannot be right.
    pub fn bad(&self, field: &str, found: &str) -> Error {
        Error::SnapshotField {
            kind: self.kind.clone(),
            field: field.to_owned(),
            found: found.to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Number(f64);

impl From<Number> for String {
    fn from(number: Number) -> Self {
        format!("{:?}", number.0)
    }
}

impl TryFrom<String> for Number {
    type Error = std::num::ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_survives_json() {
        let mut saved = Snapshot::new("test");
        let values = [0.1 + 0.2, f64::MIN_POSITIVE, 1e300, -0.0, 3072.0, 1.0 / 3.0];
        saved.set_series("values", values);
        let mut outer = Snapshot::new("outer");
        outer.set_child("inner", saved);
        let text = serde_json::to_string(&outer).unwrap();
        let back: Snapshot = serde_json::from_str(&text).unwrap();
        let series = back.child("inner").unwrap().get_series("values").unwrap();
        assert_eq!(series.map_bits(), values.map_bits());
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u64>;
    }

    impl<T: AsRef<[f64]>> Bits for T {
        fn map_bits(&self) -> Vec<u64> {
            self.as_ref().iter().map(|x| x.to_bits()).collect()
        }
    }

    #[test]
    fn what_is_missing_or_mad_is_named() {
        let mut saved = Snapshot::new("ratio");
        saved.set("length", f64::NAN);
        assert_eq!(
            saved.get("length").unwrap_err().to_string(),
            "saved state of `ratio`: length is NaN"
        );
        assert_eq!(
            saved.get("window").unwrap_err().to_string(),
            "saved state of `ratio`: window is missing"
        );
        saved.set("length", 9.0);
        assert!(saved.get_within("length", 0.0, 8.0).is_err());
    }
}
