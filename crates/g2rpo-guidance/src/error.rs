//! What can be wrong with a configuration, a trace or a saved state handed to this crate.

use crate::feedback::ExampleId;

/// What can be wrong with a configuration, a trace or a saved state handed to this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// Two settings of a method exclude each other.
    #[error("{first} does not go with {second}: {why}")]
    Conflict {
        /// One setting.
        first: String,
        /// The other.
        second: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// A setting that nothing would read, as the others stand.
    #[error("{key} would be read by nothing: it needs {needs}")]
    Idle {
        /// The path of the setting.
        key: &'static str,
        /// What would read it.
        needs: &'static str,
    },
    /// No setting has this name.
    #[error("no setting is called `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// The name given.
        key: String,
        /// The known name that is spelt most like it.
        nearest: String,
    },
    /// Several settings have this name.
    #[error("`{key}` could be {}: give the whole path", paths.join(" or "))]
    AmbiguousKey {
        /// The name given.
        key: String,
        /// The paths that end in it.
        paths: Vec<String>,
    },
    /// A setting cannot have this value.
    #[error("{key} = {value}: {problem}")]
    Value {
        /// The path of the setting.
        key: String,
        /// The value given, as JSON.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The loss or the advantages of a method cannot be computed.
    #[error(transparent)]
    Core(#[from] g2rpo_core::Error),
    /// A group is too small to be compared with itself.
    #[error(
        "group size {got}: a group needs at least 2 members, because an advantage is a difference from the others"
    )]
    GroupSize {
        /// The number of members asked for.
        got: usize,
    },
    /// A group with two baselines is too small, or divided too unevenly.
    #[error(
        "a group of {}: {guided} guided and {unguided} unguided members, and each part has a baseline of its own, for which it needs at least 2: raise num_generations, or choose an alpha between both",
        guided + unguided
    )]
    Parts {
        /// Members with guidance.
        guided: usize,
        /// Members without.
        unguided: usize,
    },
    /// A selector planned no member at all.
    #[error("the selector planned no member for a group of {group_size}")]
    NoMembers {
        /// The size of the group.
        group_size: usize,
    },
    /// The rungs of a ladder do not make up the group.
    #[error("the rungs of the ladder have {got} members, the group {expected}")]
    LadderSize {
        /// The size of the group.
        expected: usize,
        /// The sum over rungs.
        got: usize,
    },
    /// A selector wants to train on a member that was not generated.
    #[error("member {member} cannot be trained on: the group has {generated}")]
    Member {
        /// Index of the member.
        member: usize,
        /// Number of members that were generated.
        generated: usize,
    },
    /// A trace cannot be put into a prompt.
    #[error(
        "the trace of a task holds ids without text, and placement = prompt_hint puts text into the prompt: make the trace with its text, or use placement = assistant_prefix"
    )]
    TraceWithoutText,
    /// Two things that belong together do not fit.
    #[error("{what}: expected {expected}, got {got}")]
    Length {
        /// What does not fit.
        what: &'static str,
        /// The number that the other parts imply.
        expected: usize,
        /// The number found.
        got: usize,
    },
    /// A saved state belongs to something else, or holds what cannot be right.
    #[error("saved state of a {what}: {problem}")]
    State {
        /// What should be restored.
        what: &'static str,
        /// What is wrong with the state.
        problem: String,
    },
    /// No method preset has this name.
    #[error("no method preset is called `{name}`; known: {known}")]
    UnknownPreset {
        /// The name asked for.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A task lacks what it should be ordered or chosen by.
    #[error("task {example} has no {by} to be ordered by")]
    NoDifficulty {
        /// The task.
        example: ExampleId,
        /// The key of the order.
        by: &'static str,
    },
    /// A tag that must be taken off a trace does not end between two tokens.
    #[error("trace: its own {tag} ends within a token (byte {byte}) and cannot be taken off")]
    TagBoundary {
        /// The tag.
        tag: String,
        /// Where it ends in the text.
        byte: usize,
    },
}

/// [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where a number may lie: its least and its largest value, and both as mathematicians write them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Domain(pub(crate) f64, pub(crate) f64, pub(crate) &'static str);

pub(crate) const ANY: Domain = Domain(f64::MIN, f64::MAX, "(-∞, ∞)");
pub(crate) const NON_NEGATIVE: Domain = Domain(0.0, f64::MAX, "[0, ∞)");
pub(crate) const POSITIVE: Domain = Domain(f64::MIN_POSITIVE, f64::MAX, "(0, ∞)");
pub(crate) const AT_LEAST_1: Domain = Domain(1.0, f64::MAX, "[1, ∞)");
pub(crate) const SHARE: Domain = Domain(0.0, 1.0, "[0, 1]");

impl Domain {
    /// Refuses a setting that lies elsewhere, or is NaN.
    pub(crate) fn check(self, name: &'static str, value: f64) -> Result<()> {
        let Self(least, largest, domain) = self;
        if (least..=largest).contains(&value) {
            return Ok(());
        }
        Err(Error::Config {
            name,
            value,
            domain,
        })
    }
}

/// The error of a saved state that is not right.
pub(crate) fn bad_state<T>(what: &'static str, problem: impl ToString) -> Result<T> {
    let problem = problem.to_string();
    Err(Error::State { what, problem })
}
