/// What can be wrong with the numbers handed to this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two things that must be equally long are not.
    #[error("{what}: expected length {expected}, got {got}")]
    Length {
        /// What was measured.
        what: &'static str,
        /// The length that the other inputs imply.
        expected: usize,
        /// The length found.
        got: usize,
    },
    /// A row is not as long as the same row of the stream it must align with.
    #[error("{what}: row {row} has {got} tokens, expected {expected}")]
    Row {
        /// The stream that does not align.
        what: &'static str,
        /// Index of the row.
        row: usize,
        /// The length that the other streams have.
        expected: usize,
        /// The length found.
        got: usize,
    },
    /// A setting is outside its domain.
    #[error("{name} = {value} is outside its domain {domain}")]
    Config {
        /// Name of the field.
        name: &'static str,
        /// The value given.
        value: f64,
        /// The accepted range, as mathematicians write it.
        domain: &'static str,
    },
    /// A stream holds NaN or an infinity where a number is needed.
    #[error("{what}: row {row}, token {position} is {value}, expected a finite number")]
    NotFinite {
        /// The stream.
        what: &'static str,
        /// Index of the row.
        row: usize,
        /// Index of the token within the row.
        position: usize,
        /// The value found.
        value: f64,
    },
}

/// [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
