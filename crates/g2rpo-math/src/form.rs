//! What an answer is as a whole: a number, a set, a relation, a word.

use crate::expr::Expr;
use crate::units::Unit;

/// The word between the items of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// None.
    Comma,
    And,
    Or,
}

/// What an answer is, as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    Scalar(Expr),
    /// A number with a unit; parts above 1 are a sum such as `3 h 20 min`.
    Quantity(Expr, Unit, usize),
    /// Words; the key ignores case and markup.
    Text(String),
    /// A lone run of letters that may be a word or a product: `xy`, `east`.
    Letters(String),
    /// `(a, b)`, `[a, b)`, …, between its brackets: a tuple, or an interval when there are two.
    Tuple(char, Vec<Self>, char),
    /// `{a, b}`.
    Set(Vec<Self>),
    /// `a, b` or `a or b` without brackets.
    List(Vec<Self>, Join),
    Matrix(Vec<Vec<Expr>>),
    /// `a < b <= c`: one more side than there are relations.
    Relation(Vec<Self>, Vec<Sign>),
    /// Unions, intersections and differences, applied from the left.
    SetChain(Box<Self>, Vec<(SetOperation, Self)>),
    /// `\mathbb{R}` and its relatives, by the names the lexer gives them, and the empty set.
    NamedSet(&'static str),
    /// `{x : condition}`.
    Builder(String, Box<Self>),
    /// `3 : 4`.
    Ratio(Vec<Expr>),
    /// A time of day in minutes, and whether it is in the afternoon where that is said: 12:30 pm.
    Time(u32, Option<bool>),
}

/// A relation sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Equal,
    /// `≈`: one side rounds the other.
    Approx,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

impl Sign {
    /// The sign that holds when both sides are exchanged.
    pub(crate) const fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            other => other,
        }
    }

    pub(crate) const fn is_order(self) -> bool {
        matches!(
            self,
            Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual
        )
    }
}

/// How two sets are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOperation {
    Union,
    Intersection,
    Difference,
}

impl Form {
    /// The expression of a plain scalar.
    pub(crate) const fn scalar(&self) -> Option<&Expr> {
        match self {
            Self::Scalar(e) => Some(e),
            _ => None,
        }
    }
}
