//! Named numbers of one step.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};

/// Named numbers of one step, in the order in which they were put in.
///
/// ```
/// use g2rpo_train::MetricsRow;
/// let mut row = MetricsRow::new(3);
/// row.put("reward", 0.25);
/// assert_eq!(row.get("reward"), Some(0.25));
/// assert_eq!(serde_json::to_string(&row).unwrap(), r#"{"step":3,"reward":0.25}"#);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsRow {
    step: u64,
    values: Vec<(String, f64)>,
}

impl MetricsRow {
    /// An empty row of a step.
    pub fn new(step: u64) -> Self {
        Self {
            step,
            values: Vec::new(),
        }
    }

    /// The step.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Sets a number, where there is one; an earlier one of the same name is replaced. A number that is not finite is
    /// written as `null`, which JSON readers take for a missing value.
    pub fn put(&mut self, name: &str, value: impl Into<Option<f64>>) {
        let Some(value) = value.into() else { return };
        match self.values.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
    }

    /// The number of that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(n, _)| n == name).map(|&(_, v)| v)
    }

    /// All names and numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.values.iter().map(|(n, v)| (n.as_str(), *v))
    }
}

impl<'a> Extend<(&'a str, f64)> for MetricsRow {
    fn extend<I: IntoIterator<Item = (&'a str, f64)>>(&mut self, items: I) {
        for (name, value) in items {
            self.put(name, value);
        }
    }
}

impl Serialize for MetricsRow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len() + 1))?;
        map.serialize_entry("step", &self.step)?;
        for (name, value) in &self.values {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for MetricsRow {
    /// Reads what was written: `null` is a number that was not finite. Fields that are no numbers are
    /// passed over.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Row;

        impl<'de> Visitor<'de> for Row {
            type Value = MetricsRow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers with a step")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<MetricsRow, M::Error> {
                let mut row = MetricsRow::new(0);
                let mut step = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "step" {
                        step = Some(map.next_value()?);
                        continue;
                    }
                    match map.next_value::<serde_json::Value>()? {
                        serde_json::Value::Null => row.values.push((name, f64::NAN)),
                        value => row.values.extend(value.as_f64().map(|v| (name, v))),
                    }
                }
                row.step = step.ok_or_else(|| M::Error::missing_field("step"))?;
                Ok(row)
            }
        }

        deserializer.deserialize_map(Row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_order_and_what_is_written_is_read() {
        let mut row = MetricsRow::new(7);
        row.extend([("b", 1.0), ("a", f64::NAN), ("b", 2.5)]);
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(text, r#"{"step":7,"b":2.5,"a":null}"#);
        let read: MetricsRow = serde_json::from_str(&text).unwrap();
        assert!(read.get("a").unwrap().is_nan());
        let other = r#"{"a": 1.5, "note": "x", "step": 1}"#;
        let read: MetricsRow = serde_json::from_str(other).unwrap();
        assert!(read.iter().eq([("a", 1.5)]) && read.step() == 1);
        let error = serde_json::from_str::<MetricsRow>("{}").unwrap_err();
        assert!(error.to_string().starts_with("missing field `step`"));
    }
}
