//! What can be wrong with the numbers handed to this crate.

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
    /// A name that is none of those a setting has.
    #[error("{what}: `{given}` is none of {}", known.join(", "))]
    Name {
        /// The setting.
        what: &'static str,
        /// The name given.
        given: String,
        /// The names there are.
        known: &'static [&'static str],
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
    /// Two settings exclude each other.
    #[error("{first} and {second} exclude each other: {why}")]
    Conflict {
        /// The first setting.
        first: &'static str,
        /// The second setting.
        second: &'static str,
        /// Why, and what to change.
        why: &'static str,
    },
    /// A stream or total that the configuration asks for was not given.
    #[error("{what} is missing: {why}")]
    Missing {
        /// The stream or total.
        what: &'static str,
        /// Which setting needs it.
        why: &'static str,
    },
    /// A value that must be a logarithm of a probability is above 0.
    #[error(
        "{what}: row {row}, token {position} is {value}, expected a log-probability, at most 0"
    )]
    NotLogProbability {
        /// The stream.
        what: &'static str,
        /// Index of the row.
        row: usize,
        /// Index of the token within the row.
        position: usize,
        /// The value found.
        value: f64,
    },
    /// A weight that must not be negative is.
    #[error("{what}: row {row}, token {position} is {value}, expected a number of at least 0")]
    Negative {
        /// The stream.
        what: &'static str,
        /// Index of the row.
        row: usize,
        /// Index of the token within the row.
        position: usize,
        /// The value found.
        value: f64,
    },
    /// An exponential would be infinite.
    #[error(
        "{what}: row {row}, token {position} is {value}, whose exponential overflows (limit 709); \
             the streams disagree wildly or a clamp is missing"
    )]
    Overflow {
        /// The exponent.
        what: &'static str,
        /// Index of the row.
        row: usize,
        /// Index of the token within the row, the first of it for a whole sequence.
        position: usize,
        /// The exponent's value.
        value: f64,
    },
    /// No token of the whole batch takes part in the loss.
    #[error("no token takes part in the loss: all tokens of {rows} rows are masked; skip the step")]
    NoTokens {
        /// Rows of the batch that the totals describe.
        rows: f64,
    },
    /// An index points outside.
    #[error("{what}: index {index} is out of range for length {len}")]
    Index {
        /// What was indexed.
        what: &'static str,
        /// The index.
        index: usize,
        /// The length.
        len: usize,
    },
    /// A reward is not usable by the estimator.
    #[error("reward of row {row} is {value}, expected {expected}")]
    Reward {
        /// Index of the row.
        row: usize,
        /// The reward.
        value: f64,
        /// What the estimator accepts.
        expected: &'static str,
    },
}

/// [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Refuses NaN and infinities in a stream.
pub(crate) fn check_finite(
    what: &'static str,
    row: usize,
    position: usize,
    value: f64,
) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::NotFinite {
        what,
        row,
        position,
        value,
    })
}

/// Refuses a length other than the expected one.
pub(crate) fn check_len(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Length {
        what,
        expected,
        got,
    })
}
