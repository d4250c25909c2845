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

/// A block of code in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeBlock {
    /// Its bytes in the response.
    pub span: Range<usize>,
    /// Its text, without the indentation or the quotation marks that its fence has.
    pub code: String,
}

impl Default for CodeExtraction {
    /// Complete blocks tagged `python`, `py` or `python3`, or without a tag; a response without
    /// fences as a whole.
    fn default() -> Self {
        Self {
            languages: ["python", "py", "python3", ""].map(str::to_owned).to_vec(),
            bare: true,
        }
    }
}

impl CodeExtraction {
    /// The code of the response, for tests that call the functions or classes `names`; without names the response
    /// is a program.
    ///
    /// Only what follows the last `</think>` is looked at. A block that is not closed, such as of a completion that
    /// was cut, counts up to the end of the text where no complete one does. Control tokens such as `<|im_end|>` at
    /// the end of the text or behind a fence are no part of it. Where the response starts with code and its first fence only closes, the prompt opened the block. Of several
    /// blocks the last counts that defines one of the names, then the last that starts indented, as a completion of
    /// a function does, then the last with a tag, then the last: so the output or a usage behind a solution is not
    /// taken for it.
    ///
    /// # Errors
    /// [`Incorrect::UnclosedReasoning`] when `<think>` is opened and not closed,
    /// [`Incorrect::NoAnswer`] when there is no code.
    pub fn find(&self, response: &str, names: &[&str]) -> Result<CodeBlock, Incorrect> {
        let start = match response.rfind("</think>") {
            Some(at) => at + "</think>".len(),
            None if response.contains("<think>") => return Err(Incorrect::UnclosedReasoning),
            None => 0,
        };
        let response = without_tokens(response);
        let start = start.min(response.len());
        let (blocks, has_fences) = self.blocks(response, start);
        let chosen = if has_fences || !self.bare {
            best(blocks, names)
        } else {
            Some(CodeBlock {
                span: start..response.len(),
                code: response[start..].to_owned(),
            })
        };
        chosen
            .filter(|block| !block.code.trim().is_empty())
            .ok_or(Incorrect::NoAnswer)
    }

    fn counts(&self, tag: &str) -> bool {
        let mut languages = self.languages.iter();
        languages.any(|language| language.eq_ignore_ascii_case(tag))
    }

    /// The blocks that count, each with whether it has a tag, and whether there is any fence.
    fn blocks(&self, response: &str, start: usize) -> (Vec<(CodeBlock, bool)>, bool) {
        let mut found = Vec::new();
        let mut open: Option<(Fence<'_>, usize)> = None;
        let mut has_fences = false;
        let mut at = start;
        for line in response[start..].split_inclusive('\n') {
            let end = at + line.len();
            match (Fence::read(line), &open) {
                (Some(fence), None) => {
                    if !has_fences && fence.tag.is_empty() && starts_as_code(&response[start..at]) {
                        let code = response[start..at].to_owned();
                        let span = start..at;
                        found.push((CodeBlock { span, code }, true));
                    } else {
                        open = Some((fence, end));
                    }
                    has_fences = true;
                }
                (Some(fence), Some((opened, from))) if fence.closes(opened) => {
                    if self.counts(opened.tag) {
                        let code = opened.strip(&response[*from..at]);
                        let span = *from..at;
                        found.push((CodeBlock { span, code }, !opened.tag.is_empty()));
                    }
                    open = None;
                }
                _ => {}
            }
            at = end;
        }
        if let (true, Some((opened, from))) = (found.is_empty(), open)
            && (!opened.tag.is_empty() || starts_as_code(&response[from..]))
            && self.counts(opened.tag)
        {
            let code = opened.strip(&response[from..]);
            let span = from..response.len();
            found.push((CodeBlock { span, code }, true));
        }
        (found, has_fences)
    }
}

fn best(blocks: Vec<(CodeBlock, bool)>, names: &[&str]) -> Option<CodeBlock> {
    let rank = |(block, has_tag): &(CodeBlock, bool)| {
        let defines = names.iter().any(|name| defines(&block.code, name));
        let first = block.code.lines().find(|line| !line.trim().is_empty());
        let is_indented = first.is_some_and(|line| line.starts_with([' ', '\t']));
        (defines, is_indented && !names.is_empty(), *has_tag)
    };
    // Of equals, the last.
    blocks.into_iter().max_by_key(rank).map(|(block, _)| block)
}

/// Whether the code defines the name at its top level.
pub(super) fn defines(code: &str, name: &str) -> bool {
    let is_definition = |line: &str, keyword: &str| {
        let rest = line.strip_prefix(keyword).map(str::trim_start);
        let rest = rest
            .and_then(|rest| rest.strip_prefix(name))
            .map(str::trim_start);
        rest.is_some_and(|rest| {
            if keyword.is_empty() {
                rest.starts_with('=') && !rest.starts_with("==")
            } else {
                rest.starts_with(['(', ':', '['])
            }
        })
    };
    let is_method =
        |line: &str| line.starts_with([' ', '\t']) && is_definition(line.trim_start(), "def ");
    let keywords = ["def ", "async def ", "class ", ""];
    code.lines()
        .any(|line| keywords.iter().any(|keyword| is_definition(line, keyword)))
        // As on LeetCode.
        || code.contains("class Solution") && code.lines().any(is_method)
}

/// The text without control tokens of chat templates at its end, which a tokenizer decodes where it keeps them.
fn without_tokens(text: &str) -> &str {
    const NAMED: [&str; 5] = ["</s>", "<s>", "<eos>", "<end_of_turn>", "<pad>"];
    let trimmed = text.trim_end();
    let named = NAMED.iter().find_map(|token| trimmed.strip_suffix(token));
    let bars = || {
        ["|>", "｜>"].iter().find_map(|end| {
            let body = trimmed.strip_suffix(end)?;
            let at = body.rfind('<')?;
            let name = body[at + 1..].strip_prefix(['|', '｜'])?;
            let is_name = |c: char| c.is_alphanumeric() || " _-▁".contains(c);
            (!name.is_empty() && name.chars().all(is_name)).then(|| &body[..at])
        })
    };
    named.or_else(bars).map_or(text, without_tokens)
}

/// Whether a text begins as Python does, and not as prose.
fn starts_as_code(text: &str) -> bool {
    let Some(line) = text.lines().find(|line| !line.trim().is_empty()) else {
        return false;
    };
    let word_end = line
        .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.')
        .unwrap_or(line.len());
    let (word, rest) = line.split_at(word_end);
    let rest = rest.trim();
    line.starts_with("    ")
        || line.starts_with(['\t', '@'])
        || match word {
            "def" | "class" | "async" => rest.contains(['(', ':']),
            "import" => !rest.ends_with(['.', ':']) && rest.split(' ').all(is_module),
            "from" => rest.contains(" import "),
            "for" | "while" | "if" | "try" | "with" => rest.ends_with(':') && !rest.contains(". "),
            _ => {
                !word.is_empty() && rest.starts_with('=')
                    || rest.starts_with('(') && rest.ends_with(')')
            }
        }
}

fn is_module(word: &str) -> bool {
    let word = word.trim_end_matches(',');
    !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_alphanumeric() || "._".contains(c))
}

/// A line that opens or closes a block.
#[derive(Debug, Clone, Copy)]
struct Fence<'a> {
    /// What stands in front of it: blanks, and `>` in a quotation.
    prefix: &'a str,
    mark: char,
    length: usize,
    tag: &'a str,
}

impl<'a> Fence<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let text = line.trim_start_matches([' ', '\t', '>']);
        let prefix = &line[..line.len() - text.len()];
        let mark = text.chars().next().filter(|c| ['`', '~'].contains(c))?;
        let length = text.chars().take_while(|&c| c == mark).count();
        let rest = without_tokens(&text[length..]).trim();
        let tag = rest.split(|c: char| c.is_whitespace() || c == ',').next()?;
        (length >= 3 && !rest.contains('`')).then_some(Self {
            prefix,
            mark,
            length,
            tag: tag.trim_matches(['{', '}', '.']),
        })
    }

    /// A fence that is indented further by four or more is part of the code, such as of a docstring.
    fn closes(&self, opened: &Self) -> bool {
        self.mark == opened.mark
            && self.length >= opened.length
            && self.tag.is_empty()
            && self.prefix.len() < opened.prefix.len() + 4
    }

    /// The lines of a block without what stands in front of its fence.
    fn strip(&self, text: &str) -> String {
        let strip = |line: &'_ str| -> String {
            let line = line.strip_prefix(self.prefix).unwrap_or_else(|| {
                let shared = line.bytes().zip(self.prefix.bytes());
                &line[shared.take_while(|(a, b)| a == b).count()..]
            });
            line.to_owned()
        };
        text.split_inclusive('\n').map(strip).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_for(response: &str, names: &[&str]) -> Result<String, Incorrect> {
        let found = CodeExtraction::default().find(response, names)?;
        assert!(response.is_char_boundary(found.span.start));
        Ok(found.code)
    }

    fn code(response: &str) -> Result<String, Incorrect> {
        code_for(response, &[])
    }

    fn is(code: &str) -> Result<String, Incorrect> {
        Ok(code.to_owned())
    }

    #[test]
    fn the_last_complete_block_counts() {
        let text =
            "First:\n```python\nx = 1\n```\nBetter:\n```Python\nx = 2\n```\nand ```inline```.";
        assert_eq!(code(text), is("x = 2\n"));
        assert_eq!(code("```py\nx = 1\n```\n```python\nx = 2"), is("x = 1\n"));
        assert_eq!(code("```\nx = 3\n```"), is("x = 3\n"));
        // Cut at the longest length, with nothing else to judge.
        assert_eq!(code("So:\n```python\nx = 2"), is("x = 2"));
        assert_eq!(code("So:\n```text\nx = 2"), Err(Incorrect::NoAnswer));
        assert_eq!(code("```python\nx = 1\n```\n```"), is("x = 1\n"));
    }

    #[test]
    fn control_tokens_are_no_code() {
        for token in [
            "<|im_end|>",
            "</s>",
            "<|eot_id|>",
            "<|endoftext|>",
            "<end_of_turn>",
            "<｜end▁of▁sentence｜>",
            "<|im_end|>\n<|endoftext|>\n",
        ] {
            for (text, expected) in [
                ("```python\nx = 1\n```", "x = 1\n"),
                ("```python\nx = 1\n```\n", "x = 1\n"),
                ("x = 1\n```", "x = 1\n"),
                ("x = 1", "x = 1"),
            ] {
                assert_eq!(code(&format!("{text}{token}")), is(expected), "{token}");
            }
        }
        let more = "```python\nx = 1\n```<|im_end|>\n<|im_start|>user\nMore.";
        assert_eq!(code(more), is("x = 1\n"));
        assert_eq!(code("x = '<|a|>'"), is("x = '<|a|>'"));
    }

    #[test]
    fn other_languages_do_not_count() {
        assert_eq!(code("```bash\nls\n```"), Err(Incorrect::NoAnswer));
        let text = "```python\nx = 1\n```\n```text\n1\n```";
        assert_eq!(code(text), is("x = 1\n"));
    }

    #[test]
    fn code_in_the_reasoning_is_not_an_answer() {
        let text = "<think>\n```python\nx = 1\n```\n</think>\n```python\nx = 2\n```";
        assert_eq!(code(text), is("x = 2\n"));
        let unclosed = "<think>\n```python\nx = 1\n```";
        assert_eq!(code(unclosed), Err(Incorrect::UnclosedReasoning));
        assert_eq!(code("<think>a</think>  \n"), Err(Incorrect::NoAnswer));
    }

    #[test]
    fn a_longer_or_less_indented_fence_may_hold_another() {
        let text = "````python\ns = '''\n```\n'''\n````";
        assert_eq!(code(text), is("s = '''\n```\n'''\n"));
        let text = "```python\ndef f():\n    '''\n    ```\n    f()\n    ```\n    '''\n```";
        assert_eq!(
            code(text),
            is("def f():\n    '''\n    ```\n    f()\n    ```\n    '''\n")
        );
    }

    #[test]
    fn a_bare_completion_keeps_its_indentation() {
        assert_eq!(code("    return 1\n"), is("    return 1\n"));
        let strict = CodeExtraction {
            bare: false,
            ..CodeExtraction::default()
        };
        assert_eq!(strict.find("x = 1", &[]), Err(Incorrect::NoAnswer));
    }

    #[test]
    fn a_fence_that_only_closes_ends_what_the_prompt_opened() {
        assert_eq!(code("    return 1\n```\nDone."), is("    return 1\n"));
        assert_eq!(
            code("import math\nx = 1\n```\n\n```\n1\n```"),
            is("import math\nx = 1\n")
        );
        // Prose in front of a fence is no code.
        for prose in ["From here:", "import this idea.", "x is 1.", "# Solution"] {
            let text = format!("{prose}\n```\nx = 2\n```\n");
            assert_eq!(code(&text), is("x = 2\n"), "{prose}");
        }
    }

    #[test]
    fn a_usage_or_an_output_behind_the_solution_is_none() {
        let solution = "```python\ndef f(x):\n    return x\n```\n";
        for tail in [
            "```python\nprint(f(1))\n```",
            "```\n1\n```",
            "```\n>>> f(1)\n1\n```",
        ] {
            let text = format!("{solution}{tail}");
            assert_eq!(
                code_for(&text, &["f"]),
                is("def f(x):\n    return x\n"),
                "{tail}"
            );
        }
        let corrected = format!("{solution}```python\ndef f(x):\n    return 2\n```");
        assert_eq!(
            code_for(&corrected, &["f"]),
            is("def f(x):\n    return 2\n")
        );
    }

    #[test]
    fn what_stands_in_front_of_the_fence_is_no_code() {
        let listed = "1. So:\n   ```python\n   def f():\n       return 1\n\n   ```\n";
        assert_eq!(code(listed), is("def f():\n    return 1\n\n"));
        let quoted = "> ```python\n> x = 1\n>\n> y = 2\n> ```\n";
        assert_eq!(code(quoted), is("x = 1\n\ny = 2\n"));
    }

    #[test]
    fn definitions_are_found_at_the_top_level() {
        assert!(defines("f = lambda x: 2", "f"));
        assert!(defines("class Solution:\n    def f(self): pass", "f"));
        assert!(!defines(
            "f == 2\nff = 1\n    def f(): pass\ndef f2(): pass",
            "f"
        ));
    }
}
