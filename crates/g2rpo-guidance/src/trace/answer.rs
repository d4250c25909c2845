//! How the final answer of a solution is announced: the one list of announcements in this workspace.

use crate::defaults::settings;

settings! {
    /// How the final answer is announced in the text of a trace.
    ///
    /// Everything from the first announcement on is kept back, with the emphasis, quotes and
    /// indentation before it. A trace that announces an answer twice (and doubts it in between) is cut
    /// before the first: too little guidance is a slower lesson, too much is no lesson. So a mark is
    /// taken for an announcement wherever a verifier might: `tests/leaks.rs` holds this list against
    /// those of g2rpo-verify.
    #[derive(Eq)]
    pub struct AnswerMarkers {
        /// `####` anywhere, as in GSM8K. Switch it off for traces with headings of four signs.
        pub hashes: bool = true,
        /// `\boxed` or `\fbox`, as in MATH.
        pub boxed: bool = true,
        /// The end of the thinking (`</think>`) or the start of an `<answer>`.
        pub tags: bool = true,
        /// The word "answer" where its line presents it or ends: `answer is`, `answers (in cm) are`,
        /// `**Answer:**`, `answer =`, a heading `Final answer` and the like, in any case; `Option C is`. What stands in
        /// brackets is no distance.
        pub sentence: bool = true,
        /// Phrases, compared without regard to ASCII case.
        pub phrases: Vec<String> = PHRASES.map(str::to_owned).to_vec(),
    }
}

const PHRASES: [&str; 7] = [
    "final answer",
    "correct option",
    "correct choice",
    "right option",
    "right choice",
    "best option",
    "best choice",
];
/// What presents an answer if it stands on the same line, not far behind the word.
const SIGNS: [&str; 6] = [":", "：", "=", "→", "->", "⇒"];
const VERBS: [&str; 14] = [
    "is", "are", "was", "were", "be", "becomes", "equals", "reads", "comes", "amounts", "works",
    "turns", "gives", "remains",
];
/// Words that belong to an announcement which follows them.
const LEAD: [&str; 2] = ["the", "final"];
/// Words between "answer" and its verb, at most.
const MAX_WORDS: usize = 12;

impl AnswerMarkers {
    /// No marker: the answer is not looked for.
    pub fn none() -> Self {
        Self {
            hashes: false,
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
    /// assert_eq!(markers.find("3 * 4 = 12\n> #### 12"), Some(11));
    /// assert_eq!(markers.find("so x is $\\boxed{12}$"), Some(9));
    /// assert_eq!(markers.find("so the answer (in cm) is 12"), Some(3));
    /// assert_eq!(markers.find("3 * 4 = 12"), None);
    /// ```
    pub fn find(&self, text: &str) -> Option<usize> {
        let marks = [
            (self.hashes, "####"),
            (self.boxed, "\\boxed"),
            (self.boxed, "\\fbox"),
            (self.tags, "</think>"),
            (self.tags, "<answer>"),
        ];
        let marks = marks.into_iter().filter(|(is_on, _)| *is_on);
        let mark = marks.filter_map(|(_, mark)| text.find(mark));
        // The folding of ASCII letters keeps every byte offset.
        let folded = text.to_ascii_lowercase();
        let phrases = self.phrases.iter().filter(|p| !p.is_empty());
        let phrase = phrases.filter_map(|p| folded.find(&p.to_ascii_lowercase()));
        let sentence = self.sentence.then(|| sentence(&folded)).flatten();
        let option = self.sentence.then(|| named_option(&folded)).flatten();
        let start = mark.chain(phrase).chain(sentence).chain(option).min()?;
        Some(lead_in(&folded, start))
    }
}

/// The first word "answer" that its line presents, or that ends its line.
fn sentence(folded: &str) -> Option<usize> {
    let is_word = |at: usize, word: &str| {
        !folded[..at].ends_with(char::is_alphanumeric) && {
            let behind = &folded[at + word.len()..];
            let behind = behind.strip_prefix('s').unwrap_or(behind);
            !behind.starts_with(char::is_alphanumeric)
        }
    };
    (folded.match_indices("answer"))
        .find(|&(at, word)| is_word(at, word) && presents(&folded[at + word.len()..]))
        .map(|(at, _)| at)
}

/// Whether what follows the word on its line presents an answer or is nothing.
fn presents(behind: &str) -> bool {
    let line = behind.split(['\n', '\r']).next().unwrap_or_default();
    let line = line.strip_prefix('s').unwrap_or(line);
    let is_empty = !line.contains(char::is_alphanumeric);
    let is_near = |line: &str| {
        (line.split_whitespace().take(MAX_WORDS)).any(|word| {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            VERBS.contains(&bare) || SIGNS.iter().any(|sign| word.contains(sign))
        })
    };
    is_empty || is_near(line) || is_near(&without_brackets(line))
}

/// A line without what stands in brackets, which is no distance between a noun and its verb.
fn without_brackets(line: &str) -> String {
    let mut parts = line.split('(');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push(' ');
        out.push_str(part.split_once(')').map_or(part, |(_, behind)| behind));
    }
    out
}

/// The first "option" or "choice" with a letter that its sentence calls right.
fn named_option(folded: &str) -> Option<usize> {
    let nouns = ["option ", "choice "].into_iter();
    nouns
        .filter_map(|noun| {
            (folded.match_indices(noun)).find_map(|(at, _)| {
                let rest = folded[at + noun.len()..].trim_start_matches(['(', '*', ' ']);
                let rest = rest.strip_prefix(|c: char| c.is_ascii_lowercase())?;
                (rest.trim_start_matches([')', '*']).starts_with(" is ")).then_some(at)
            })
        })
        .min()
}

/// Where the marks and words begin that belong to an announcement at `start`: emphasis, quotes and
/// indentation, and what [`LEAD`] has.
fn lead_in(folded: &str, start: usize) -> usize {
    let mut end = start;
    loop {
        let before = folded[..end].trim_end_matches([' ', '\t', '>', '#', '*', '_', '`']);
        let shorter = (LEAD.iter())
            .filter_map(|word| before.strip_suffix(word))
            .find(|rest| !rest.ends_with(char::is_alphanumeric));
        match shorter {
            Some(rest) => end = rest.len(),
            // Blanks within a line stay with what is given.
            None if before.is_empty() || before.ends_with(['\n', '\r']) => return before.len(),
            None => return end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_announcement_counts() {
        let find = |text| AnswerMarkers::default().find(text);
        assert_eq!(find("#### 1"), Some(0));
        assert_eq!(find("a #### b"), Some(2));
        assert_eq!(find("a\n  > #### b"), Some(2));
        assert_eq!(find("The Answer is 3. So \\boxed{3}"), Some(0));
        assert_eq!(find("hm</think>The answer is 3"), Some(2));
        assert_eq!(find("x, and we see the answer is 3"), Some(14));
        assert_eq!(find("x\n**Answer:** 3"), Some(2));
        assert_eq!(find("both answers are 3"), Some(5));
        assert_eq!(find("answer issues, answered and wash"), None);
        assert_eq!(find("an answer\nof 3"), Some(3));
        assert_eq!(find("So option C is correct."), Some(3));
        assert_eq!(find("the correct option is C"), Some(0));
        assert_eq!(find("an option\nis C"), None);
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
