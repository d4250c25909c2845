//! Words that explain, doubt or lead to a stated answer.

use crate::list::{among, holds, words};
use crate::numeral::{SMALL, TENS};

/// What an answer in prose begins with, which decides what may be cut off behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// A number, a formula, a letter, yes or no.
    Value,
    /// A number with a currency sign before it.
    Price,
    /// Words, in which a comma may belong to the answer: "red, blue".
    Words,
}

impl Head {
    /// `text` begins with the answer.
    pub(super) fn of(text: &str) -> Self {
        if text.starts_with(['$', '€', '£', '¥', '₹']) || text.starts_with("\\$") {
            return Self::Price;
        }
        let word = word_at(text);
        let is_closed = among!(word, "yes no true false");
        if word.chars().count() < 2 || is_value_word(word) || is_closed {
            Self::Value
        } else {
            Self::Words
        }
    }
}

/// The letters that `text` begins with.
pub(crate) fn word_at(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphabetic());
    &text[..end.unwrap_or(text.len())]
}

/// Words that lead to an answer and are no part of it. `next` is the word behind.
pub(super) fn is_lead_in(word: &str, next: &str) -> bool {
    match second_lead_in(word) {
        Some(second) => next.eq_ignore_ascii_case(second),
        None => among!(
            word,
            "therefore thus hence then so simply just exactly approximately about roughly around \
             now also clearly indeed again actually still precisely obviously finally be option \
             choice letter follows equals to",
        ),
    }
}

/// The word without which a lead-in of two words is none: "equal to", "given by".
pub(super) fn second_lead_in(word: &str) -> Option<&'static str> {
    let pairs = "equal to, given by, found to, calculated to, as follows, in fact, of course, \
                 determined to, computed to, rounded to";
    let mut pairs = pairs.split(", ").filter_map(|pair| pair.split_once(' '));
    let found = pairs.find(|(first, _)| first.eq_ignore_ascii_case(word));
    found.map(|(_, second)| second)
}

/// Words that say something about an answer instead of stating it: "the answer is correct".
pub(super) fn is_participle(word: &str) -> bool {
    is_affirmation(word)
        || among!(
            word,
            "obtained found calculated computed derived given helpful clear verified confirmed \
             reasonable consistent valid based expressed rounded written determined",
        )
}

pub(super) fn is_affirmation(word: &str) -> bool {
    among!(word, "right correct")
}

/// Words that begin a clause which explains, without a comma before it.
pub(super) fn is_explaining(word: &str) -> bool {
    among!(
        word,
        "because since as which where who so hence thus therefore while whereas that given making \
         giving meaning implying due",
    )
}

/// "in total", "altogether".
pub(super) fn is_adverbial(word: &str, next: &str) -> bool {
    among!(word, "altogether overall total combined")
        || among!(word, "in") && among!(next, "total all fact")
}

/// Words that tie a circumstance to an answer: "for the whole day".
pub(super) fn is_preposition(word: &str) -> bool {
    among!(word, "for on at from by during before after with")
}

/// Words that say for what a price is paid.
pub(super) fn is_rate(word: &str) -> bool {
    among!(word, "per each every a an")
}

/// Words that begin a reason.
pub(super) fn is_reason(word: &str) -> bool {
    among!(word, "because since as so hence thus therefore")
}

pub(super) fn is_pronoun(word: &str) -> bool {
    among!(word, "it this these they he she we there")
}

/// Words that may offer another answer.
pub(super) fn is_doubt(word: &str) -> bool {
    is_strong_doubt(word)
        || among!(word, "maybe perhaps possibly probably instead")
        || matches!(word, "may" | "might" | "could")
}

/// Words that hardly do anything else, if an explanation begins with them.
pub(super) fn is_strong_doubt(word: &str) -> bool {
    among!(
        word,
        "or either otherwise alternatively but however scratch oops sorry correction nope",
    ) || matches!(word, "may" | "might" | "could")
}

pub(super) fn is_condition(word: &str) -> bool {
    among!(word, "if unless when provided assuming except depending")
}

pub(super) fn is_denial(word: &str) -> bool {
    among!(word, "wrong incorrect mistaken mistake")
}

/// "5, plus 4" is no 5.
pub(super) fn is_arithmetic(word: &str) -> bool {
    among!(
        word,
        "plus minus times divided multiplied over less more percent mod modulo to",
    ) || is_part(word)
        || is_condition(word)
}

/// Words that change the value before them: "5 hundredths", "5 squared", "5 (base 7)", "5, negated".
pub(crate) fn is_modifier(word: &str) -> bool {
    let stems = words!(
        "hundred thousand million billion trillion dozen half third fourth quarter fifth sixth \
         seventh eighth ninth tenth eleventh twelfth hundredth thousandth millionth billionth"
    );
    let folded = word.to_ascii_lowercase();
    let stem = folded.strip_suffix('s').unwrap_or(&folded);
    stems.contains(&stem)
        || stem.ends_with("teenth")
        || stem.ends_with("tieth")
        || is_base(word)
        || is_operation(word)
}

/// Words behind which a number belongs to the value before them: "5 (base 7)".
pub(super) fn is_base(word: &str) -> bool {
    among!(word, "base mod modulo")
}

fn is_operation(word: &str) -> bool {
    among!(
        word,
        "halves squared cubed halved doubled tripled quadrupled negated negative inverted \
         reciprocal factorial below twice thrice minus",
    )
}

/// Words by which a second answer is let stand: "6 is also possible".
pub(super) fn is_permission(word: &str) -> bool {
    among!(
        word,
        "possible possibly plausible acceptable works work valid also too another mean alternative",
    )
}

/// Words that take back what stands before them.
pub(super) fn is_retraction(word: &str) -> bool {
    among!(
        word,
        "scratch wait oops sorry correction hmm nope no actually rather",
    )
}

/// Words that grant something against what was said.
pub(super) fn is_concession(word: &str) -> bool {
    among!(word, "although though albeit yet")
}

/// Words behind which a number belongs to an explanation: "72, adding 48 and 24".
pub(super) fn leads_to_detail(word: &str) -> bool {
    word.ends_with("ing")
        || is_participle(word)
        || is_preposition(word) && !among!(word, "with")
        || among!(
            word,
            "namely exactly precisely simply per of in not only check the i e",
        )
}

/// Parts that are added to a number: "5 and a half".
pub(super) fn is_part(word: &str) -> bool {
    among!(
        word,
        "a an half third thirds quarter quarters fourth fifths tenths halves",
    )
}

/// Words that are values, or parts of formulas, themselves.
pub(super) fn is_value_word(word: &str) -> bool {
    holds(SMALL, word)
        || holds(TENS, word)
        || among!(
            word,
            "hundred thousand million none both pi infinity inf oo sqrt sin cos tan log ln exp abs \
             USD EUR US",
        )
}

/// "Dr." never ends a sentence.
pub(super) fn is_title(word: &str) -> bool {
    among!(word, "dr mr mrs ms prof approx")
}

/// Abbreviations that end in a period.
pub(super) fn is_abbreviation(word: &str) -> bool {
    among!(word, "ft sq in yd lb oz hr min sec cu no vs st")
}
