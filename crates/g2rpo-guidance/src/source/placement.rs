//! Where guidance is put: behind the prompt as ids, or into it as text.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where guidance is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// At the start of the completion, spliced as ids; the policy continues it (G²RPO-A).
    #[default]
    AssistantPrefix,
    /// In the prompt, as text; the policy answers from the beginning (GHPO, `QuestA`).
    PromptHint,
}

/// How a hint is put into a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HintTemplate(String);

impl TryFrom<String> for HintTemplate {
    type Error = Error;

    fn try_from(template: String) -> Result<Self> {
        Self::new(template)
    }
}

impl From<HintTemplate> for String {
    fn from(template: HintTemplate) -> Self {
        template.0
    }
}

impl Default for HintTemplate {
    fn default() -> Self {
        Self("{question}\n\nA correct solution begins like this:\n{hint}".to_owned())
    }
}

impl HintTemplate {
    /// A text with one `{question}` and one `{hint}`.
    ///
    /// # Errors
    /// [`Error::Length`] if either is missing or doubled.
    pub fn new(template: impl Into<String>) -> Result<Self> {
        let template = template.into();
        for (what, name) in [
            ("hint template: number of `{question}`", "{question}"),
            ("hint template: number of `{hint}`", "{hint}"),
        ] {
            let got = template.matches(name).count();
            if got != 1 {
                return Err(Error::Length {
                    what,
                    expected: 1,
                    got,
                });
            }
        }
        Ok(Self(template))
    }

    /// The question with the hint, or the bare question when the hint is empty, so that no
    /// guidance means exactly the prompt of an unguided member.
    ///
    /// ```
    /// use g2rpo_guidance::HintTemplate;
    /// let template = HintTemplate::new("{question} (hint: {hint})")?;
    /// assert_eq!(template.render("2+2?", "count {question}"), "2+2? (hint: count {question})");
    /// assert_eq!(template.render("2+2?", ""), "2+2?");
    /// # Ok::<(), g2rpo_guidance::Error>(())
    /// ```
    pub fn render(&self, question: &str, hint: &str) -> String {
        if hint.is_empty() {
            return question.to_owned();
        }
        // Piece by piece: question and hint may hold the placeholders' text themselves.
        let mut out = String::new();
        let mut rest = self.0.as_str();
        while let Some(open) = rest.find('{') {
            out.push_str(&rest[..open]);
            rest = &rest[open..];
            let (value, len) = if rest.starts_with("{question}") {
                (question, "{question}".len())
            } else if rest.starts_with("{hint}") {
                (hint, "{hint}".len())
            } else {
                ("{", 1)
            };
            out.push_str(value);
            rest = &rest[len..];
        }
        out + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_without_their_placeholders_are_refused() {
        assert!(HintTemplate::new("{question}").is_err());
        assert!(serde_json::from_str::<HintTemplate>("\"{hint}\"").is_err());
        assert!(HintTemplate::new("{hint}{hint}{question}").is_err());
        let braces = HintTemplate::new("{x} {question} {{hint}}").unwrap();
        assert_eq!(braces.render("Q", "H"), "{x} Q {H}");
    }
}
