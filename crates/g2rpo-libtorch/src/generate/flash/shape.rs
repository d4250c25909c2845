//! What decides which operations a step consists of.

/// Everything about a step that is not in tensors: two steps of one shape are the same operations on
/// the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Rows, those at work and some that are there to fill up.
    pub(super) rows: i64,
    /// Bound of the number of own positions.
    pub(super) own: i64,
    /// How prompts are read, if any row has one.
    pub(super) prompts: Option<PartShape>,
    /// How guidance is read, if any row has some.
    pub(super) guidance: Option<PartShape>,
}

/// How a part of the contexts is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartShape {
    /// Bound of the number of contexts when all rows of a context read it together; `None` when every
    /// row reads for itself.
    pub(super) together: Option<i64>,
    /// Bound of the contexts' lengths.
    pub(super) width: i64,
}

/// Number of rows that a step of `n` rows is computed with, at most `most`.
///
/// Rows leave one by one, and a shape for every number would be recorded for a few steps each. To fill
/// up costs little: a step of few rows takes as long as it takes to read the weights.
pub(super) fn row_bucket(n: usize, most: usize) -> usize {
    let bucket = match n {
        0..=64 => n.next_power_of_two(),
        65..=512 => n.next_multiple_of(32),
        _ => n.next_multiple_of(128),
    };
    bucket.min(most)
}

/// Bound of a number of positions, which decides how flash attention splits its work. At least a
/// block of the kernel.
pub(super) fn width_bucket(n: usize) -> i64 {
    n.next_power_of_two().max(128) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_are_for_and_are_few() {
        let rows: std::collections::BTreeSet<usize> =
            (1..=300).map(|n| row_bucket(n, 300)).collect();
        assert_eq!(
            rows.into_iter().collect::<Vec<_>>(),
            [
                1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192, 224, 256, 288, 300
            ]
        );
        assert!((1..=2000).all(|n| (n..=2000).contains(&row_bucket(n, 2000))));
        assert_eq!([1, 128, 129, 1000].map(width_bucket), [128, 128, 256, 1024]);
    }
}
