//! Fields of a JSON object, asked for by type.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A JSON object whose fields are asked for by type, with errors that name the field.
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map<String, Value>,
    path: &'a Path,
    prefix: String,
}

impl<'a> Fields<'a> {
    pub(super) fn new(value: &'a Value, path: &'a Path, prefix: &str) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path,
                prefix: prefix.to_owned(),
            }),
            _ => Err(Error::Config {
                path: path.into(),
                field: prefix.trim_end_matches('.').to_owned(),
                what: "not a JSON object".into(),
            }),
        }
    }

    pub(super) fn error(&self, field: &str, what: impl Into<String>) -> Error {
        Error::Config {
            path: self.path.into(),
            field: format!("{}{field}", self.prefix),
            what: what.into(),
        }
    }

    pub(super) fn ensure(&self, fits: bool, field: &str, what: impl Into<String>) -> Result<()> {
        match fits {
            true => Ok(()),
            false => Err(self.error(field, what)),
        }
    }

    /// `None` for a field that is absent or null.
    fn get<T>(
        &self,
        field: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.error(field, format!("expected {expected}, got {value}"))),
        }
    }

    pub(super) fn usize(&self, field: &str) -> Result<Option<usize>> {
        self.get(field, "a whole number", |v| v.as_u64().map(|n| n as usize))
    }

    pub(super) fn required(&self, field: &str) -> Result<usize> {
        (self.usize(field)?).ok_or_else(|| self.error(field, "missing"))
    }

    /// A number above 0, which may be left out if there is a default.
    pub(super) fn size(&self, field: &str, default: Option<usize>) -> Result<usize> {
        match self.usize(field)?.or(default) {
            Some(0) => Err(self.error(field, "0 is not a size")),
            Some(size) => Ok(size),
            None => Err(self.error(field, "missing")),
        }
    }

    pub(super) fn f64(&self, field: &str) -> Result<Option<f64>> {
        self.get(field, "a number", Value::as_f64)
    }

    pub(super) fn bool(&self, field: &str) -> Result<Option<bool>> {
        self.get(field, "true or false", Value::as_bool)
    }

    pub(super) fn str(&self, field: &str) -> Result<Option<&'a str>> {
        self.get(field, "a string", Value::as_str)
    }

    pub(super) fn object(&self, field: &str) -> Result<Option<Self>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.in_place_of(field, value).map(Some),
        }
    }

    /// Whether the object is part of a file that says more.
    pub(super) fn is_nested(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// `value` read as if it stood in this object under `field`.
    pub(super) fn in_place_of<'b>(&self, field: &str, value: &'b Value) -> Result<Fields<'b>>
    where
        'a: 'b,
    {
        Fields::new(value, self.path, &format!("{}{field}.", self.prefix))
    }

    /// A list with an entry for each of `n` layers at least.
    pub(super) fn list(&self, field: &str, n: usize) -> Result<Option<Vec<&'a Value>>> {
        let expected = match n {
            0 => "a list".to_owned(),
            _ => format!("a list of at least {n} entries"),
        };
        self.get(field, &expected, |v| match v {
            Value::Array(items) if items.len() >= n => Some(items.iter().collect()),
            _ => None,
        })
    }

    pub(super) fn numbers(&self, field: &str) -> Result<Option<Vec<f64>>> {
        self.get(field, "a list of numbers", |v| match v {
            Value::Array(items) => items.iter().map(Value::as_f64).collect(),
            _ => None,
        })
    }

    /// The first, if there are several.
    pub(super) fn id(&self, field: &str) -> Result<Option<u32>> {
        Ok(self.ids(field)?.first().copied())
    }

    pub(super) fn ids(&self, field: &str) -> Result<Vec<u32>> {
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        Ok(self
            .get(field, "an id or a list of ids", |v| match v {
                Value::Array(ids) => ids.iter().map(id).collect::<Option<Vec<_>>>(),
                _ => id(v).map(|id| vec![id]),
            })?
            .unwrap_or_default())
    }
}

/// Whether a field says that what it names is not used.
pub(super) fn is_unused(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

/// The text of a special token, which is either a string or an object with the string as `content`.
pub(super) fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
