//! How the final answer of a solution is announced.

use serde::{Deserialize, Serialize};

/// How the final answer is announced in the text of a trace.
///
/// Everything from the first announcement on is kept back. A trace that announces an answer twice
/// (and doubts it in between) is cut before the first: too little guidance is a slower lesson, too
/// much is no lesson.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerMarkers {
    /// A line that begins with `####`, as in GSM8K.
    pub hash_line: bool,
    /// `\boxed` or `\fbox`, as in MATH.
    pub boxed: bool,
    /// The end of the thinking (`</think>`) or the start of an `<answer>`.
    pub tags: bool,
    /// The word "answer" where it presents one: `answer is`, `answers are`, `**Answer:**`,
    /// `answer =` and the like, in any case. What verifiers take for an announcement.
    pub sentence: bool,
    /// Phrases, compared without regard to ASCII case.
    pub phrases: Vec<String>,
}

impl Default for AnswerMarkers {
    fn default() -> Self {
        let phrases = ["the final answer", "**final answer", "the answer is"];
        Self {
            hash_line: true,
            boxed: true,
            tags: true,
            sentence: true,
            phrases: phrases.map(str::to_owned).to_vec(),
        }
    }
}

impl AnswerMarkers {
    /// No marker: the answer is not looked for.
    pub fn none() -> Self {
        Self {
            hash_line: false,
            boxed: false,
            tags: false,
            sentence: false,
            phrases: Vec::new(),
        }
    }

    /// Byte offset where the first announcement of an answer begins.
    ///
    /// ```
    /// use g2rpo_guidance::AnswerMarkers;
    /// let markers = AnswerMarkers::default();
    /// assert_eq!(markers.find("3 * 4 = 12\n#### 12"), Some(11));
    /// assert_eq!(markers.find("so x is $\\boxed{12}$"), Some(9));
    /// assert_eq!(markers.find("3 * 4 = 12"), None);
    /// ```
    pub fn find(&self, text: &str) -> Option<usize> {
        let hash = self.hash_line.then(|| hash_line(text)).flatten();
        let boxed = ["\\boxed", "\\fbox"];
        let tags = ["</think>", "<answer>"];
        let literal =
            (boxed.iter().filter(|_| self.boxed)).chain(tags.iter().filter(|_| self.tags));
        let literal = literal.filter_map(|marker| text.find(marker)).min();
        // The folding of ASCII letters keeps every byte offset.
        let folded = text.to_ascii_lowercase();
        let phrase = (self.phrases.iter())
            .filter(|p| !p.is_empty())
            .filter_map(|p| folded.find(&p.to_ascii_lowercase()))
            .min();
        let sentence = self.sentence.then(|| sentence(&folded)).flatten();
        [hash, literal, phrase, sentence]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The first "answer" that is followed by a verb or sign which presents it.
fn sentence(folded: &str) -> Option<usize> {
    let presents = |rest: &str| {
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        let rest = rest.trim_start_matches([' ', '*', '_']);
        rest.starts_with([':', '='])
            || ["is", "are", "was", "would be", "will be", "should be"]
                .iter()
                .filter_map(|verb| rest.strip_prefix(verb))
                .any(|behind| !behind.starts_with(char::is_alphanumeric))
    };
    (folded.match_indices("answer"))
        .find(|(start, word)| presents(&folded[start + word.len()..]))
        .map(|(start, _)| start)
}

fn hash_line(text: &str) -> Option<usize> {
    if text.starts_with("####") {
        return Some(0);
    }
    text.find("\n####").map(|newline| newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_announcement_counts() {
        let find = |text| AnswerMarkers::default().find(text);
        assert_eq!(find("#### 1"), Some(0));
        assert_eq!(find("a #### b"), None);
        assert_eq!(find("The Answer is 3. So \\boxed{3}"), Some(0));
        assert_eq!(find("hm</think>The answer is 3"), Some(2));
        assert_eq!(find("so our answer is 3"), Some(7));
        assert_eq!(find("**Answer:** 3"), Some(2));
        assert_eq!(find("both answers are 3"), Some(5));
        assert_eq!(find("answer issues, answered and wash"), None);
        assert_eq!(find(""), None);
        // A character whose lower case has another length must not move offsets.
        assert_eq!(find("İİ the answer is"), Some(5));
    }

    #[test]
    fn switched_off_markers_find_nothing() {
        let text = "x\n#### \\boxed{the answer is}</think>";
        assert_eq!(AnswerMarkers::none().find(text), None);
        let only_tags = AnswerMarkers {
            tags: true,
            ..AnswerMarkers::none()
        };
        assert_eq!(only_tags.find(text), Some(text.len() - 8));
    }
}
