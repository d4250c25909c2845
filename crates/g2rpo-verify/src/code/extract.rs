//! Where in a response the code is.

use std::ops::Range;

use crate::verdict::Incorrect;

/// Where in a response the code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeExtraction {
    /// Tags of fenced blocks that count as code, in lower case; the empty one stands for a fence
    /// without a tag.
    pub languages: Vec<String>,
    /// Whether a response without any fence is code as a whole, as base models complete it.
    pub bare: bool,
}

impl Default for CodeExtraction {
    /// The last complete block tagged `python`, `py` or `python3`, or without a tag; a response
    /// without fences as a whole.
    fn default() -> Self {
        Self {
            languages: ["python", "py", "python3", ""].map(str::to_owned).to_vec(),
            bare: true,
        }
    }
}

impl CodeExtraction {
    /// The bytes of the response that are code.
    ///
    /// Only what follows the last `</think>` is looked at. Of several blocks the last one counts,
    /// and a block that is not closed does not.
    ///
    /// # Errors
    /// [`Incorrect::UnclosedReasoning`] when `<think>` is opened and not closed,
    /// [`Incorrect::NoAnswer`] when there is no code.
    pub fn find(&self, response: &str) -> Result<Range<usize>, Incorrect> {
        let start = match response.rfind("</think>") {
            Some(at) => at + "</think>".len(),
            None if response.contains("<think>") => return Err(Incorrect::UnclosedReasoning),
            None => 0,
        };
        let region = &response[start..];
        let mut found = None;
        // The fence that opened a block: how many ticks, and whether the block counts.
        let mut open: Option<(usize, bool, usize)> = None;
        let mut fences = false;
        let mut at = start;
        for line in region.split_inclusive('\n') {
            let ticks = fence_length(line);
            match (ticks, open) {
                (Some((length, tag)), None) => {
                    fences = true;
                    let counts = self.languages.iter().any(|l| l.eq_ignore_ascii_case(tag));
                    open = Some((length, counts, at + line.len()));
                }
                (Some((length, "")), Some((opened, counts, from))) if length >= opened => {
                    if counts {
                        found = Some(from..at);
                    }
                    open = None;
                }
                _ => {}
            }
            at += line.len();
        }
        let code = match found {
            Some(range) => range,
            None if !fences && self.bare => start..response.len(),
            None => return Err(Incorrect::NoAnswer),
        };
        if response[code.clone()].trim().is_empty() {
            Err(Incorrect::NoAnswer)
        } else {
            Ok(code)
        }
    }
}

/// The number of ticks and the tag of a line that is a fence.
fn fence_length(line: &str) -> Option<(usize, &str)> {
    let line = line.trim();
    let ticks = line.bytes().take_while(|&b| b == b'`').count();
    let tag = line[ticks..].split_whitespace().next().unwrap_or("");
    (ticks >= 3 && !line[ticks..].contains('`')).then_some((ticks, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(response: &str) -> Result<&str, Incorrect> {
        CodeExtraction::default()
            .find(response)
            .map(|range| &response[range])
    }

    #[test]
    fn the_last_complete_block_counts() {
        let text =
            "First:\n```python\nx = 1\n```\nBetter:\n```Python\nx = 2\n```\nand ```inline```.";
        assert_eq!(code(text), Ok("x = 2\n"));
        assert_eq!(code("```py\nx = 1\n```\n```python\nx = 2"), Ok("x = 1\n"));
        assert_eq!(code("```\nx = 3\n```"), Ok("x = 3\n"));
    }

    #[test]
    fn other_languages_do_not_count() {
        assert_eq!(code("```bash\nls\n```"), Err(Incorrect::NoAnswer));
        assert_eq!(
            code("```python\nx = 1\n```\n```text\n1\n```"),
            Ok("x = 1\n")
        );
    }

    #[test]
    fn code_in_the_reasoning_is_not_an_answer() {
        let text = "<think>\n```python\nx = 1\n```\n</think>\n```python\nx = 2\n```";
        assert_eq!(code(text), Ok("x = 2\n"));
        let unclosed = "<think>\n```python\nx = 1\n```";
        assert_eq!(code(unclosed), Err(Incorrect::UnclosedReasoning));
        assert_eq!(code("<think>a</think>  \n"), Err(Incorrect::NoAnswer));
    }

    #[test]
    fn a_longer_fence_may_hold_a_shorter_one() {
        let text = "````python\ns = '''\n```\n'''\n````";
        assert_eq!(code(text), Ok("s = '''\n```\n'''\n"));
    }

    #[test]
    fn a_bare_completion_keeps_its_indentation() {
        assert_eq!(code("    return 1\n"), Ok("    return 1\n"));
        let strict = CodeExtraction {
            bare: false,
            ..CodeExtraction::default()
        };
        assert_eq!(strict.find("x = 1"), Err(Incorrect::NoAnswer));
    }
}
