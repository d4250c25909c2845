//! A data set: tasks with their prompts as ids and their worked solutions as traces.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use g2rpo_guidance::{
    Curriculum, ExampleId, OrderBy, Provenance, TaskFacts, ThinkTag, Trace, Traces,
};
use g2rpo_rollout::{Task, TokenId, Tokenizer, read_gsm8k};

use crate::data::parallel::on_threads;
use crate::data::recent::Recent;
use crate::data::tasks::{Listed, TaskStore, fingerprint, spread};
use crate::error::{Error, Result};

/// How a question becomes the text that a completion follows.
type Template<'a> =
    dyn Fn(&str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'a;

/// A task as a policy sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The task.
    pub task: Task,
    /// Its prompt, without a hint.
    pub prompt: Vec<TokenId>,
    /// Its worked solution, where it has one.
    pub trace: Option<Arc<Trace>>,
}

/// Tasks, each with its prompt as ids and, where it has a worked solution, the trace that guidance
/// is cut from.
///
/// A task is encoded when it is drawn, and the 1,024 drawn last are kept, so that a data set may be larger than memory. Before
/// training up to 10,000 of them, evenly spread, are encoded to see that they can be; the longest questions are among them.
/// A trace is encoded by itself, so a guided prefix is always a prefix of the ids that a supervised example would have.
///
/// ```
/// use g2rpo_rollout::{ByteTokenizer, Task};
/// use g2rpo_train::Dataset;
/// let task = Task { question: "2+2?".into(), reference: "4".into(), ..Task::default() };
/// let data = Dataset::with_template(vec![task], &ByteTokenizer, "Q: {question}\n")?;
/// let item = data.item(0)?;
/// assert_eq!(item.prompt, b"Q: 2+2?\n".map(u32::from));
/// assert!(item.trace.is_none());
/// # Ok::<(), g2rpo_train::Error>(())
/// ```
pub struct Dataset<'a> {
    tasks: Box<dyn TaskStore + 'a>,
    checked: Checked,
    recent: Recent<Arc<Item>>,
    fingerprint: OnceLock<u64>,
    pub(super) others: Vec<Traces>,
    think: Option<ThinkTag>,
    tokenizer: &'a (dyn Tokenizer + Sync),
    template: Box<Template<'a>>,
}

/// What was seen of the tasks that were encoded beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Checked {
    /// How many.
    pub tasks: usize,
    /// Ids of the longest prompt among them.
    pub longest_prompt: usize,
}

/// Tasks that are encoded before training.
const CHECKED: usize = 10_000;
/// Fewer than these are not worth a thread.
const PART: usize = 1000;
/// The longest questions among them.
const LONGEST: usize = 64;
/// Tasks that are kept as they were encoded: a few MiB.
const KEPT: usize = 1024;

impl fmt::Debug for Dataset<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("tasks", &self.tasks.len())
            .field("checked", &self.checked)
            .finish_non_exhaustive()
    }
}

impl<'a> Dataset<'a> {
    /// A data set of tasks in memory. `template` turns a question into the text that the completion follows: a chat
    /// template, for example.
    ///
    /// # Errors
    /// [`Error::Task`] with the index of a task whose prompt or solution is empty as ids or cannot
    /// be rendered or encoded, or that has the id of another.
    pub fn new<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        tasks: Vec<Task>,
        tokenizer: &'a (dyn Tokenizer + Sync),
        template: impl Fn(&str) -> Result<String, E> + Send + Sync + 'a,
    ) -> Result<Self> {
        Self::over(Box::new(Listed::new(tasks)?), tokenizer, template)
    }

    /// A data set of tasks wherever they are; as [`Self::new`].
    ///
    /// # Errors
    /// As [`Self::new`], and the store's.
    pub fn over<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        tasks: Box<dyn TaskStore + 'a>,
        tokenizer: &'a (dyn Tokenizer + Sync),
        template: impl Fn(&str) -> Result<String, E> + Send + Sync + 'a,
    ) -> Result<Self> {
        let mut data = Self {
            tasks,
            checked: Checked::default(),
            recent: Recent::new(KEPT),
            fingerprint: OnceLock::new(),
            others: Vec::new(),
            think: None,
            tokenizer,
            template: Box::new(move |question| template(question).map_err(Into::into)),
        };
        data.check()?;
        Ok(data)
    }

    /// Encodes some tasks, to see that they can be.
    fn check(&mut self) -> Result<()> {
        let mut longest: Vec<(usize, usize)> = (0..self.len())
            .map(|place| (self.tasks.sketch(place).question_len, place))
            .collect();
        let n = longest.len().saturating_sub(LONGEST);
        if n > 0 {
            longest.select_nth_unstable(n);
        }
        let longest = longest[n..].iter().map(|(_, place)| *place);
        let places: BTreeSet<usize> = spread(self.len(), CHECKED).chain(longest).collect();
        let places: Vec<usize> = places.into_iter().collect();
        let length = |place: &usize| Ok::<_, Error>(self.encoded(*place)?.prompt.len());
        let lengths = on_threads(&places, PART, length)?;
        self.checked = Checked {
            tasks: places.len(),
            longest_prompt: lengths.into_iter().max().unwrap_or(0),
        };
        Ok(())
    }

    /// Encodes tasks under a text that holds `{question}`.
    ///
    /// # Errors
    /// [`Error::Config`] if it does not; as [`Self::new`].
    pub fn with_template(
        tasks: Vec<Task>,
        tokenizer: &'a (dyn Tokenizer + Sync),
        template: &str,
    ) -> Result<Self> {
        if !template.contains("{question}") {
            let value = format!("{template:?}");
            return Err(Error::config(
                "prompt template",
                value,
                "must contain {question}",
            ));
        }
        let template = template.to_owned();
        Self::new(tasks, tokenizer, move |question| {
            Ok::<_, Error>(template.replace("{question}", question))
        })
    }

    /// Reads a file in GSM8K's JSONL format; as [`Self::new`].
    ///
    /// # Errors
    /// As [`read_gsm8k`] and [`Self::new`].
    pub fn gsm8k<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        path: impl AsRef<Path>,
        tokenizer: &'a (dyn Tokenizer + Sync),
        template: impl Fn(&str) -> Result<String, E> + Send + Sync + 'a,
    ) -> Result<Self> {
        Self::new(read_gsm8k(path)?, tokenizer, template)
    }

    /// Opens the thinking in every trace, whoever wrote it, exactly once: chat templates of some
    /// models end with the tag, and then traces do not begin with it.
    ///
    /// # Errors
    /// [`Error::Task`] for a trace whose own tag cannot be taken off between two tokens, and as
    /// [`Self::new`].
    pub fn with_think_tag(mut self, tag: &ThinkTag) -> Result<Self> {
        let mut others = std::mem::take(&mut self.others);
        (others.iter_mut()).try_for_each(|added| self.open_all(added, tag))?;
        self.others = others;
        self.think = Some(tag.clone());
        self.recent.clear();
        self.check()?;
        Ok(self)
    }

    /// Opens the thinking in traces of tasks that are here.
    fn open_all(&self, added: &mut Traces, tag: &ThinkTag) -> Result<()> {
        for (id, traces) in &mut added.traces {
            let Some(task) = self.tasks.place_of(id.0) else {
                continue;
            };
            let fault = |problem: String| Error::Task { task, problem };
            let question = self.tasks.task(task)?.question;
            let prompt = self.prompt_text(&question).map_err(fault)?;
            for trace in traces {
                let wrapped = tag.wrap((**trace).clone(), &prompt);
                *trace = Arc::new(wrapped.map_err(|e| fault(e.to_string()))?);
            }
        }
        Ok(())
    }

    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Equal for data sets of the same questions in the same order.
    pub(crate) fn fingerprint(&self) -> u64 {
        *(self.fingerprint).get_or_init(|| fingerprint(&*self.tasks))
    }

    /// What was seen of the tasks that were encoded beforehand.
    pub fn checked(&self) -> Checked {
        self.checked
    }

    /// The tasks as they are stored.
    pub fn tasks(&self) -> &(dyn TaskStore + 'a) {
        &*self.tasks
    }

    /// A task with its prompt and its worked solution, encoded now unless it is one of those drawn last.
    ///
    /// # Errors
    /// As [`Self::over`].
    ///
    /// # Panics
    /// If there is no such task, as indexing does.
    pub fn item(&self, place: usize) -> Result<Arc<Item>> {
        self.recent.get(place, || self.encoded(place).map(Arc::new))
    }

    fn encoded(&self, place: usize) -> Result<Item> {
        let task = self.tasks.task(place)?;
        let fault = |problem: String| Error::Task {
            task: place,
            problem,
        };
        let text = self.prompt_text(&task.question).map_err(fault)?;
        let prompt = self.prompt_ids(&text).map_err(fault)?;
        let trace = match &task.solution {
            None => None,
            Some(solution) => {
                let trace = self.encode_trace(solution).map_err(fault)?;
                Some(Arc::new(match &self.think {
                    None => trace,
                    Some(tag) => tag.wrap(trace, &text).map_err(|e| fault(e.to_string()))?,
                }))
            }
        };
        Ok(Item {
            task,
            prompt,
            trace,
        })
    }

    /// What prompts and answers are encoded and decoded with.
    pub fn tokenizer(&self) -> &'a (dyn Tokenizer + Sync) {
        self.tokenizer
    }

    /// What this curriculum orders tasks by. All solutions are encoded for one that orders them by their length, and none
    /// for another.
    ///
    /// # Errors
    /// As [`Self::item`].
    pub fn facts(&self, curriculum: Curriculum) -> Result<Vec<TaskFacts>> {
        let by_length = match curriculum {
            Curriculum::Continuous(by) | Curriculum::Tiers { by, .. } => by == OrderBy::TraceLength,
            Curriculum::Given | Curriculum::Shuffled => false,
        };
        let mut facts: Vec<TaskFacts> = (0..self.len())
            .map(|place| {
                let sketch = self.tasks.sketch(place);
                TaskFacts {
                    example: ExampleId(sketch.id),
                    difficulty: sketch.difficulty,
                    pass_rate: sketch.pass_rate,
                    ..TaskFacts::default()
                }
            })
            .collect();
        if by_length {
            let places: Vec<usize> = (0..self.len()).collect();
            let length =
                |place: &usize| Ok::<_, Error>(self.encoded(*place)?.trace.map(|t| t.len()));
            let lengths = on_threads(&places, PART, length)?;
            for (facts, length) in facts.iter_mut().zip(lengths) {
                facts.trace_len = length;
            }
        }
        Ok(facts)
    }

    /// Adds traces and hints by somebody else, such as a teacher. Which are used is the method's
    /// `source.order`; where thinking [is opened](Self::with_think_tag), it is in these as well.
    ///
    /// # Errors
    /// As [`Self::with_think_tag`].
    pub fn with_traces(mut self, mut traces: Traces) -> Result<Self> {
        if let Some(tag) = &self.think {
            self.open_all(&mut traces, tag)?;
        }
        self.others.push(traces);
        Ok(self)
    }

    /// Whether one of these authors has written a solution, and the most hints that one has for a task.
    pub(crate) fn known(&self, authors: &[Provenance]) -> (bool, usize) {
        let (mut solved, mut hints) = (false, 0);
        if authors.contains(&Provenance::Gold) {
            for place in 0..self.len() {
                let sketch = self.tasks.sketch(place);
                solved |= sketch.has_solution;
                hints = hints.max(sketch.hints);
            }
        }
        for traces in (self.others.iter()).filter(|t| authors.contains(&t.provenance)) {
            solved |= !traces.traces.is_empty();
            let most = traces.hints.values().map(Vec::len).max();
            hints = hints.max(most.unwrap_or(0));
        }
        (solved, hints)
    }

    /// Ids of the prompt that asks `question`, which may hold a hint.
    ///
    /// # Errors
    /// In words, if the template or the tokenizer refuses it, or nothing is left as ids.
    pub fn encode_prompt(&self, question: &str) -> Result<Vec<TokenId>, String> {
        self.prompt_ids(&self.prompt_text(question)?)
    }

    fn prompt_text(&self, question: &str) -> Result<String, String> {
        (self.template)(question).map_err(|e| format!("its prompt: {e}"))
    }

    fn prompt_ids(&self, text: &str) -> Result<Vec<TokenId>, String> {
        let ids = (self.tokenizer.encode(text).map_err(|e| e.to_string())?).ids;
        if ids.is_empty() {
            return Err("its prompt has no token".into());
        }
        Ok(ids)
    }

    fn encode_trace(&self, text: &str) -> Result<Trace, String> {
        let encoded = self.tokenizer.encode(text).map_err(|e| e.to_string())?;
        if encoded.ids.is_empty() {
            return Err("its solution has no token".into());
        }
        let offsets: Vec<_> = encoded.offsets.iter().map(|r| (r.start, r.end)).collect();
        Trace::from_offsets(encoded.ids, text, &offsets).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use g2rpo_rollout::ByteTokenizer;

    fn task(id: u64, question: &str, solution: Option<&str>) -> Task {
        Task {
            id,
            question: question.into(),
            reference: "4".into(),
            solution: solution.map(str::to_owned),
            ..Task::default()
        }
    }

    fn error(tasks: Vec<Task>, template: &str) -> String {
        let refused = Dataset::with_template(tasks, &ByteTokenizer, template);
        refused.unwrap_err().to_string()
    }

    fn think_tag() -> ThinkTag {
        ThinkTag {
            tokens: b"<think>".map(u32::from).to_vec(),
            text: "<think>".into(),
        }
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let good = task(0, "a", Some("b"));
        for (bad, told) in [
            (task(1, "", None), "its prompt has no token"),
            (task(1, "c", Some("")), "its solution has no token"),
            (task(0, "c", None), "has the id 0 of task 0"),
        ] {
            let error = error(vec![good.clone(), bad], "{question}");
            assert_eq!(error, format!("task 1: {told}"));
        }
        assert!(error(vec![good], "ask").contains("must contain {question}"));
    }

    #[test]
    fn a_prompt_that_thinks_already_opens_no_second_thought() {
        let tag = think_tag();
        let tasks = vec![task(0, "a", Some("so"))];
        let thinking = |template| {
            let data = Dataset::with_template(tasks.clone(), &ByteTokenizer, template).unwrap();
            let data = data.with_think_tag(&tag).unwrap();
            let item = data.item(0).unwrap();
            let trace = item.trace.as_ref().unwrap();
            ByteTokenizer.decode(trace.tokens()).unwrap()
        };
        assert_eq!(thinking("{question}"), "<think>so");
        assert_eq!(thinking("{question}<think>"), "so");
    }

    #[test]
    fn a_teacher_opens_the_thinking_whenever_it_comes() {
        let tag = think_tag();
        let data =
            || Dataset::with_template(vec![task(3, "a", None)], &ByteTokenizer, "{question}");
        let teacher = || Traces {
            traces: [3, 9]
                .map(|id| (ExampleId(id), vec![Arc::new(Trace::from_tokens(vec![65]))]))
                .into(),
            provenance: Provenance::Teacher,
            ..Traces::default()
        };
        let before = data().unwrap().with_traces(teacher()).unwrap();
        let before = before.with_think_tag(&tag).unwrap();
        let after = data().unwrap().with_think_tag(&tag).unwrap();
        let after = after.with_traces(teacher()).unwrap();
        for data in [before, after] {
            let traces = &data.others[0].traces;
            assert_eq!(
                traces[&ExampleId(3)][0].tokens(),
                b"<think>A".map(u32::from)
            );
            assert_eq!(traces[&ExampleId(9)][0].tokens(), [65], "of no task here");
        }
    }
}
