//! Lists of words that are written as text, and split when the program is compiled.

/// The words of a text as a constant list; blanks, or another sign, set them apart.
macro_rules! words {
    ($text:expr $(,)?) => {
        words!(b' ', $text)
    };
    ($apart:expr, $text:expr) => {{
        const WORDS: [&str; $crate::list::count($apart, $text)] =
            $crate::list::split($apart, $text);
        &WORDS
    }};
}

/// Whether a word is among those of a text, in any case.
macro_rules! among {
    ($word:expr, $text:expr $(,)?) => {
        $crate::list::holds($crate::list::words!($text), $word)
    };
}

pub(crate) use {among, words};

pub(crate) fn holds(list: &[&str], word: &str) -> bool {
    list.iter().any(|w| w.eq_ignore_ascii_case(word))
}

pub(crate) const fn count(apart: u8, text: &str) -> usize {
    let (mut count, mut i) = (1, 0);
    while i < text.len() {
        count += (text.as_bytes()[i] == apart) as usize;
        i += 1;
    }
    count
}

pub(crate) const fn split<const N: usize>(apart: u8, text: &str) -> [&str; N] {
    let (mut words, mut n, mut rest, mut i) = ([""; N], 0, text, 0);
    while i < rest.len() {
        if rest.as_bytes()[i] == apart {
            let (word, behind) = rest.split_at(i);
            words[n] = word;
            (n, rest, i) = (n + 1, behind.split_at(1).1, 0);
        } else {
            i += 1;
        }
    }
    words[n] = rest;
    words
}
