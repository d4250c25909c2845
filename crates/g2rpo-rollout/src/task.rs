//! A problem with its answer, and with what guidance can be made of.

/// One problem.
///
/// ```
/// use g2rpo_rollout::Task;
/// let task = Task { question: "2 + 2?".into(), reference: "4".into(), ..Task::default() };
/// assert!(task.solution.is_none() && task.hints.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Task {
    /// Names the task within its data set; guidance state and feedback are kept under it.
    pub id: u64,
    /// What is asked.
    pub question: String,
    /// What the verifier compares with.
    pub reference: String,
    /// The worked solution that guidance is cut from, answer line included, where there is one.
    pub solution: Option<String>,
    /// Hints for the prompt, from the weakest to the strongest.
    pub hints: Vec<String>,
    /// Larger is harder; the number of solution steps where nothing better is known.
    pub difficulty: Option<f64>,
    /// Share of attempts that succeeded before training, in [0, 1], where it was measured.
    pub pass_rate: Option<f64>,
}
