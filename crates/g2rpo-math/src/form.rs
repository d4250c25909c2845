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
    /// A number with a unit. `parts` above 1 is a sum such as `3 h 20 min`.
    Quantity {
        value: Expr,
        unit: Unit,
        parts: usize,
    },
    /// Words; the key ignores case and markup.
    Text(String),
    /// A lone run of letters that may be a word or a product: `xy`, `east`.
    Letters(String),
    /// `(a, b)`, `[a, b)`, …: a tuple, or an interval when there are two.
    Tuple {
        open: char,
        close: char,
        items: Vec<Self>,
    },
    /// `{a, b}`.
    Set(Vec<Self>),
    /// `a, b` or `a or b` without brackets.
    List {
        items: Vec<Self>,
        join: Join,
    },
    Matrix(Vec<Vec<Expr>>),
    /// `a < b <= c`: one more side than there are relations.
    Relation {
        sides: Vec<Self>,
        signs: Vec<Sign>,
    },
    /// Unions, intersections and differences, applied from the left.
    SetChain {
        first: Box<Self>,
        rest: Vec<(SetOperation, Self)>,
    },
    /// `\mathbb{R}` and its relatives, by the names the lexer gives them, and the empty set.
    NamedSet(&'static str),
    /// `{x : condition}`.
    Builder {
        variable: String,
        condition: Box<Self>,
    },
    /// `3 : 4`.
    Ratio(Vec<Expr>),
    /// A time of day in minutes, with the half of the day when it was given: 12:30 pm.
    Time {
        minutes: u32,
        afternoon: Option<bool>,
    },
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
