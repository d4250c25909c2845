//! Between ragged rows and the padded matrices of tensor libraries, as `ndarray` has them.

use ndarray::{Array2, ArrayView2};

use crate::error::{Error, Result, check_len};
use crate::ragged::Ragged;

impl<T: Clone> Ragged<T> {
    /// Rows from a right-padded matrix and the length of each row.
    ///
    /// Needs the feature `ndarray` (0.16, the version that `tch` 0.24 converts to).
    ///
    /// # Errors
    /// [`Error::Length`] if there is not one length per row of the matrix; [`Error::Row`] if a
    /// length exceeds its width.
    ///
    /// ```
    /// use g2rpo_core::Ragged;
    /// let padded = ndarray::array![[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]];
    /// let rows = Ragged::from_padded(padded.view(), &[2, 1])?;
    /// assert_eq!(rows, Ragged::from_rows([vec![1.0, 2.0], vec![3.0]]));
    /// assert_eq!(rows.to_padded(0.0).shape(), [2, 2]);
    /// # Ok::<(), g2rpo_core::Error>(())
    /// ```
    pub fn from_padded(padded: ArrayView2<'_, T>, lengths: &[usize]) -> Result<Self> {
        check_len("lengths of padded rows", lengths.len(), padded.nrows())?;
        let mut rows = Self::default();
        for (row, (values, &length)) in padded.rows().into_iter().zip(lengths).enumerate() {
            if length > padded.ncols() {
                return Err(Error::Row {
                    what: "padded matrix",
                    row,
                    expected: length,
                    got: padded.ncols(),
                });
            }
            rows.push_row(values.iter().take(length).cloned());
        }
        Ok(rows)
    }

    /// A matrix as wide as the longest row, filled up on the right with `pad`.
    ///
    /// Needs the feature `ndarray`.
    pub fn to_padded(&self, pad: T) -> Array2<T> {
        let width = self.lengths().max().unwrap_or(0);
        let mut padded = Array2::from_elem((self.n_rows(), width), pad);
        for (mut into, row) in padded.rows_mut().into_iter().zip(self.rows()) {
            for (into, value) in into.iter_mut().zip(row) {
                *into = value.clone();
            }
        }
        padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let rows = Ragged::from_rows([vec![1, 2], vec![], vec![3, 4, 5]]);
        let padded = rows.to_padded(-1);
        assert_eq!(padded, ndarray::array![[1, 2, -1], [-1, -1, -1], [3, 4, 5]]);
        assert_eq!(Ragged::from_padded(padded.view(), &[2, 0, 3]), Ok(rows));
        let none = Ragged::<u8>::default().to_padded(0);
        assert_eq!(none.shape(), [0, 0]);
    }

    #[test]
    fn lengths_must_fit() {
        let padded = ndarray::array![[1, 2]];
        let message = |lengths: &[usize]| {
            Ragged::from_padded(padded.view(), lengths)
                .unwrap_err()
                .to_string()
        };
        let (too_many, too_long) = (message(&[1, 1]), message(&[3]));
        assert_eq!(too_many, "lengths of padded rows: expected length 1, got 2");
        assert_eq!(too_long, "padded matrix: row 0 has 2 tokens, expected 3");
    }
}
