//! Rows of unequal length in one flat buffer.

use std::ops::Range;

use crate::error::{Error, Result, check_len};

/// Rows of unequal length in one flat buffer: row `i` is `values[offsets[i]..offsets[i + 1]]`.
///
/// Per-token streams (log-probabilities, roles, gradients) travel in this form between crates, so
/// there is no padding to mask and no tensor type in any signature. Empty rows are allowed.
///
/// ```
/// use g2rpo_core::Ragged;
/// let logp = Ragged::from_rows([vec![-0.5, -1.0], vec![], vec![-2.0]]);
/// assert_eq!(logp.n_rows(), 3);
/// assert_eq!(logp.row(0), [-0.5, -1.0]);
/// assert_eq!(logp.values(), [-0.5, -1.0, -2.0]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Ragged<T> {
    values: Vec<T>,
    offsets: Vec<usize>,
}

impl<T> Ragged<T> {
    /// Builds from rows, in order.
    pub fn from_rows<R: IntoIterator<Item = T>>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut ragged = Self::default();
        for row in rows {
            ragged.push_row(row);
        }
        ragged
    }

    /// Builds from a flat buffer and the length of each row.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths do not sum to `values.len()`.
    pub fn from_parts(values: Vec<T>, lengths: &[usize]) -> Result<Self> {
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        let mut end = 0usize;
        offsets.push(0);
        for &length in lengths {
            end = end.saturating_add(length);
            offsets.push(end);
        }
        check_len("flat values of ragged rows", values.len(), end)?;
        Ok(Self { values, offsets })
    }

    /// Appends one row.
    pub fn push_row(&mut self, row: impl IntoIterator<Item = T>) {
        self.values.extend(row);
        self.offsets.push(self.values.len());
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// All values, row after row.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// All values, row after row, to be changed in place.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// Where each row starts, followed by the total length: `n_rows + 1` numbers.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Place of row `i` in [`Self::values`].
    ///
    /// # Panics
    /// If `i >= n_rows`, as indexing does.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.offsets[i]..self.offsets[i + 1]
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i >= n_rows`, as indexing does.
    pub fn row(&self, i: usize) -> &[T] {
        &self.values[self.range(i)]
    }

    /// Row `i`, to be changed in place.
    ///
    /// # Panics
    /// If `i >= n_rows`, as indexing does.
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        let range = self.range(i);
        &mut self.values[range]
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[T]> {
        self.offsets.windows(2).map(|w| &self.values[w[0]..w[1]])
    }

    /// The length of each row, in order.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = usize> {
        self.offsets.windows(2).map(|w| w[1] - w[0])
    }

    /// The same shape with every value mapped.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Ragged<U> {
        Ragged {
            values: self.values.iter().map(f).collect(),
            offsets: self.offsets.clone(),
        }
    }

    /// Zeros in the same shape, from pages that the system hands out zeroed.
    pub(crate) fn zeros_like(&self) -> Ragged<f64> {
        Ragged {
            values: vec![0.0; self.values.len()],
            offsets: self.offsets.clone(),
        }
    }

    /// The given rows, in the given order; an index may repeat.
    ///
    /// # Panics
    /// If an index is out of range, as indexing does.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self
    where
        T: Clone,
    {
        Self::from_rows(rows.iter().map(|&i| self.row(i).iter().cloned()))
    }

    /// Checks that `self` has the row lengths of `expected`.
    ///
    /// # Errors
    /// [`Error::Length`] if the number of rows differs, [`Error::Row`] for the first row whose
    /// length differs; `what` names `self` in the message.
    pub fn check_shape<U>(&self, what: &'static str, expected: &Ragged<U>) -> Result<()> {
        check_len(what, self.n_rows(), expected.n_rows())?;
        match (self.lengths().zip(expected.lengths())).position(|(got, want)| got != want) {
            None => Ok(()),
            Some(row) => Err(Error::Row {
                what,
                row,
                expected: expected.range(row).len(),
                got: self.range(row).len(),
            }),
        }
    }
}

impl<T> Default for Ragged<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            offsets: vec![0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_must_add_up() {
        let err = Ragged::from_parts(vec![1, 2, 3], &[1, 1]).unwrap_err();
        assert_eq!(
            err.to_string(),
            "flat values of ragged rows: expected length 2, got 3"
        );
        assert!(Ragged::<u8>::from_parts(vec![], &[usize::MAX, 2]).is_err());
    }

    #[test]
    fn select_repeats_and_reorders() {
        let r = Ragged::from_rows([vec![1, 2], vec![], vec![3]]);
        let expected = Ragged::from_rows([vec![3], vec![1, 2], vec![3]]);
        assert_eq!(r.select(&[2, 0, 2]), expected);
    }

    #[test]
    fn shape_mismatch_names_the_row() {
        let a = Ragged::from_rows([vec![1, 2], vec![3]]);
        let b = Ragged::from_rows([vec![1, 2], vec![3, 4]]);
        let message = a.check_shape("logp_old", &b).unwrap_err().to_string();
        assert_eq!(message, "logp_old: row 1 has 1 tokens, expected 2");
        assert!(a.check_shape("logp_old", &a.map(|_| 0.0)).is_ok());
    }
}
