//! A data set: tasks with their prompts as ids and their worked solutions as traces.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;

use g2rpo_guidance::{ExampleId, TaskFacts, ThinkTag, Trace, Traces};
use g2rpo_rollout::{Task, TokenId, Tokenizer, read_gsm8k};

use crate::error::{Error, Result};

/// How a question becomes the text that a completion follows.
type Template<'a> =
    dyn Fn(&str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'a;

/// The prompt of a task and the trace of its solution.
type Encoded = (Vec<TokenId>, Option<Arc<Trace>>);

/// Tasks, each with its prompt as ids and, where it has a worked solution, the trace that guidance
/// is cut from.
///
/// Everything is encoded once, before training. A trace is encoded by itself, so a guided prefix is
/// always a prefix of the ids that a supervised example would have.
///
/// ```
/// use g2rpo_rollout::{ByteTokenizer, Task};
/// use g2rpo_train::Dataset;
/// let task = Task { question: "2+2?".into(), reference: "4".into(), ..Task::default() };
/// let data = Dataset::with_template(vec![task], &ByteTokenizer, "Q: {question}\n")?;
/// assert_eq!(data.prompt(0), b"Q: 2+2?\n".map(u32::from));
/// assert!(data.trace(0).is_none());
/// # Ok::<(), g2rpo_train::Error>(())
/// ```
pub struct Dataset<'a> {
    tasks: Vec<Task>,
    prompts: Vec<Vec<TokenId>>,
    traces: Vec<Option<Arc<Trace>>>,
    others: Vec<Traces>,
    think: Option<ThinkTag>,
    tokenizer: &'a (dyn Tokenizer + Sync),
    template: Box<Template<'a>>,
}

impl fmt::Debug for Dataset<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traces = self.traces.iter().flatten().count();
        f.debug_struct("Dataset")
            .field("tasks", &self.tasks.len())
            .field("traces", &traces)
            .finish_non_exhaustive()
    }
}

impl<'a> Dataset<'a> {
    /// Encodes tasks. `template` turns a question into the text that the completion follows: a chat
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
        let mut data = Self {
            prompts: Vec::with_capacity(tasks.len()),
            traces: Vec::with_capacity(tasks.len()),
            others: Vec::new(),
            think: None,
            tasks: Vec::new(),
            tokenizer,
            template: Box::new(move |question| template(question).map_err(Into::into)),
        };
        let mut index = BTreeMap::new();
        for (i, task) in tasks.iter().enumerate() {
            let fault = |problem: String| Error::Task { task: i, problem };
            if let Some(other) = index.insert(task.id, i) {
                let problem = format!("has the id {} of task {other}", task.id);
                return Err(fault(problem));
            }
        }
        for (prompt, trace) in data.encode_all(&tasks)? {
            data.prompts.push(prompt);
            data.traces.push(trace);
        }
        data.tasks = tasks;
        Ok(data)
    }

    /// Prompts and traces of tasks, of many by as many threads as there are processors.
    fn encode_all(&self, tasks: &[Task]) -> Result<Vec<Encoded>> {
        const PART: usize = 1000;
        let encode = |(i, task): (usize, &Task)| {
            let fault = |problem: String| Error::Task { task: i, problem };
            let prompt = self.encode_prompt(&task.question).map_err(fault)?;
            let trace = match &task.solution {
                None => None,
                Some(text) => Some(Arc::new(self.encode_trace(text).map_err(fault)?)),
            };
            Ok((prompt, trace))
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let part = tasks.len().div_ceil(threads).max(PART);
        let parts = tasks.chunks(part).enumerate();
        let done: Vec<Result<Vec<Encoded>>> = std::thread::scope(|scope| {
            let work = parts.map(|(n, tasks)| {
                let tasks = tasks.iter().enumerate();
                scope.spawn(move || {
                    tasks
                        .map(|(i, task)| encode((n * part + i, task)))
                        .collect()
                })
            });
            let work: Vec<_> = work.collect();
            let joined = work.into_iter().map(|thread| thread.join());
            joined
                .map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        let mut all = Vec::with_capacity(tasks.len());
        for part in done {
            all.extend(part?);
        }
        Ok(all)
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
            return Err(Error::Config {
                name: "prompt template",
                value: format!("{template:?}"),
                problem: "must contain {question}".into(),
            });
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
        let mut traces = std::mem::take(&mut self.traces);
        for (task, trace) in traces.iter_mut().enumerate() {
            if let Some(trace) = trace {
                self.open(task, trace, tag)?;
            }
        }
        let mut others = std::mem::take(&mut self.others);
        others
            .iter_mut()
            .try_for_each(|added| self.open_all(added, tag))?;
        (self.traces, self.others) = (traces, others);
        self.think = Some(tag.clone());
        Ok(self)
    }

    /// Opens the thinking in traces of tasks that are here.
    fn open_all(&self, added: &mut Traces, tag: &ThinkTag) -> Result<()> {
        for (task, named) in self.tasks.iter().enumerate() {
            for trace in added
                .traces
                .get_mut(&ExampleId(named.id))
                .into_iter()
                .flatten()
            {
                self.open(task, trace, tag)?;
            }
        }
        Ok(())
    }

    fn open(&self, task: usize, trace: &mut Arc<Trace>, tag: &ThinkTag) -> Result<()> {
        let fault = |problem: String| Error::Task { task, problem };
        let prompt =
            (self.template)(&self.tasks[task].question).map_err(|e| fault(e.to_string()))?;
        let wrapped = tag.wrap((**trace).clone(), &prompt);
        *trace = Arc::new(wrapped.map_err(|e| fault(e.to_string()))?);
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

    /// All tasks.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Prompt ids of a task, without a hint.
    ///
    /// # Panics
    /// If there is no such task, as indexing does.
    pub fn prompt(&self, task: usize) -> &[TokenId] {
        &self.prompts[task]
    }

    /// The worked solution of a task.
    ///
    /// # Panics
    /// If there is no such task, as indexing does.
    pub fn trace(&self, task: usize) -> Option<&Arc<Trace>> {
        self.traces[task].as_ref()
    }

    /// What prompts and answers are encoded and decoded with.
    pub fn tokenizer(&self) -> &'a (dyn Tokenizer + Sync) {
        self.tokenizer
    }

    /// What a curriculum orders tasks by.
    pub fn facts(&self) -> Vec<TaskFacts> {
        (self.tasks.iter().zip(&self.traces))
            .map(|(task, trace)| TaskFacts {
                example: ExampleId(task.id),
                difficulty: task.difficulty,
                trace_len: trace.as_ref().map(|t| t.len()),
                pass_rate: task.pass_rate,
            })
            .collect()
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

    /// Solutions and hints of all tasks, and what was added to them, as sources of guidance.
    pub fn written(&self) -> Vec<Traces> {
        let mut own = Traces::default();
        for (task, trace) in self.tasks.iter().zip(&self.traces) {
            let id = ExampleId(task.id);
            if let Some(trace) = trace {
                own.traces.insert(id, vec![Arc::clone(trace)]);
            }
            if !task.hints.is_empty() {
                let hints = task.hints.iter().map(|h| Arc::from(h.as_str()));
                own.hints.insert(id, hints.collect());
            }
        }
        let mut all = vec![own];
        all.extend(self.others.iter().cloned());
        all
    }

    /// Ids of the prompt that asks `question`, which may hold a hint.
    ///
    /// # Errors
    /// In words, if the template or the tokenizer refuses it, or nothing is left as ids.
    pub fn encode_prompt(&self, question: &str) -> Result<Vec<TokenId>, String> {
        let text = (self.template)(question).map_err(|e| format!("its prompt: {e}"))?;
        let ids = (self.tokenizer.encode(&text).map_err(|e| e.to_string())?).ids;
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
    use g2rpo_guidance::Provenance;
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
        Dataset::with_template(tasks, &ByteTokenizer, template)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let good = task(0, "a", Some("b"));
        assert_eq!(
            error(vec![good.clone(), task(1, "", None)], "{question}"),
            "task 1: its prompt has no token"
        );
        assert_eq!(
            error(vec![good.clone(), task(1, "c", Some(""))], "{question}"),
            "task 1: its solution has no token"
        );
        assert_eq!(
            error(vec![good.clone(), task(0, "c", None)], "{question}"),
            "task 1: has the id 0 of task 0"
        );
        assert!(error(vec![good], "ask").contains("must contain {question}"));
    }

    #[test]
    fn a_prompt_that_thinks_already_opens_no_second_thought() {
        let tag = ThinkTag {
            tokens: b"<think>".map(u32::from).to_vec(),
            text: "<think>".into(),
        };
        let tasks = vec![task(0, "a", Some("so"))];
        let thinking = |template| {
            let data = Dataset::with_template(tasks.clone(), &ByteTokenizer, template).unwrap();
            let data = data.with_think_tag(&tag).unwrap();
            ByteTokenizer
                .decode(data.trace(0).unwrap().tokens())
                .unwrap()
        };
        assert_eq!(thinking("{question}"), "<think>so");
        assert_eq!(thinking("{question}<think>"), "so");
    }

    #[test]
    fn a_teacher_opens_the_thinking_whenever_it_comes() {
        let tag = ThinkTag {
            tokens: b"<think>".map(u32::from).to_vec(),
            text: "<think>".into(),
        };
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
            let traces = &data.written()[1].traces;
            assert_eq!(
                traces[&ExampleId(3)][0].tokens(),
                b"<think>A".map(u32::from)
            );
            assert_eq!(traces[&ExampleId(9)][0].tokens(), [65], "of no task here");
        }
    }
}
