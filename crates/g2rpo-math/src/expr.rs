//! Scalar expressions as they were written.

use dashu::integer::IBig;
use dashu::rational::RBig;

/// A scalar expression, as written: nothing is simplified while parsing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    /// An integer, or an exact value that the parser knows, such as a repeating decimal.
    Num(RBig),
    /// A decimal literal. It is exact, but may also stand for a value that it rounds.
    Decimal(Decimal),
    /// A variable, with its subscript and primes: `x`, `a_{1}`, `\theta`.
    Sym(String),
    /// The circle constant.
    Pi,
    /// Euler's number.
    E,
    /// The imaginary unit.
    I,
    /// Infinity, negative when set.
    Infinity(bool),
    Neg(Box<Self>),
    Add(Vec<Self>),
    Mul(Vec<Self>),
    Div(Box<Self>, Box<Self>),
    Pow(Box<Self>, Box<Self>),
    /// The root of the given degree, real where the radicand is.
    Root(Box<Self>, Box<Self>),
    Call(Func, Vec<Self>),
    /// A function without a definition: `f(x)`.
    Apply(String, Vec<Self>),
    /// `x` degrees: the value is `x·π/180`.
    Degree(Box<Self>),
    /// `x` percent: the value is `x/100`.
    Percent(Box<Self>),
}

/// A decimal literal and how it was printed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decimal {
    pub(crate) value: RBig,
    /// Digits behind the point.
    pub(crate) places: usize,
    /// Digits from the first that is not zero.
    pub(crate) significant: usize,
}

/// Functions with a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Func {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Asin,
    Acos,
    Atan,
    Acot,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Exp,
    Ln,
    /// Arguments: base, value.
    Log,
    Abs,
    Floor,
    Ceil,
    Factorial,
    /// Arguments: n, k.
    Binomial,
    Max,
    Min,
    Gcd,
    Lcm,
    Re,
    Im,
    Arg,
    Sign,
}

impl Func {
    /// The function with the given name, as in TeX without the backslash or in plain text.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" | "tg" => Self::Tan,
            "cot" | "ctg" => Self::Cot,
            "sec" => Self::Sec,
            "csc" | "cosec" => Self::Csc,
            "arcsin" | "asin" => Self::Asin,
            "arccos" | "acos" => Self::Acos,
            "arctan" | "atan" => Self::Atan,
            "arccot" | "acot" => Self::Acot,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "arcsinh" | "asinh" | "arsinh" => Self::Asinh,
            "arccosh" | "acosh" | "arcosh" => Self::Acosh,
            "arctanh" | "atanh" | "artanh" => Self::Atanh,
            "exp" => Self::Exp,
            "ln" => Self::Ln,
            "log" | "lg" => Self::Log,
            "abs" => Self::Abs,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            "factorial" => Self::Factorial,
            "binomial" | "comb" => Self::Binomial,
            "max" => Self::Max,
            "min" => Self::Min,
            "gcd" => Self::Gcd,
            "lcm" => Self::Lcm,
            "Re" => Self::Re,
            "Im" => Self::Im,
            "arg" => Self::Arg,
            "sgn" | "sign" => Self::Sign,
            _ => return None,
        })
    }

    /// The inverse that `\sin^{-1}` means.
    pub(crate) const fn inverse(self) -> Option<Self> {
        Some(match self {
            Self::Sin => Self::Asin,
            Self::Cos => Self::Acos,
            Self::Tan => Self::Atan,
            Self::Cot => Self::Acot,
            Self::Sinh => Self::Asinh,
            Self::Cosh => Self::Acosh,
            Self::Tanh => Self::Atanh,
            _ => return None,
        })
    }

    /// How many arguments it takes.
    pub(crate) const fn takes(self, arguments: usize) -> bool {
        match self {
            Self::Log | Self::Binomial => arguments == 2,
            Self::Max | Self::Min | Self::Gcd | Self::Lcm => arguments >= 1,
            _ => arguments == 1,
        }
    }
}

impl Expr {
    pub(crate) fn int(value: i64) -> Self {
        Self::Num(RBig::from(IBig::from(value)))
    }

    /// `-self`, folded into literals and infinities.
    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Num(value) => Self::Num(-value),
            Self::Decimal(d) => Self::Decimal(Decimal {
                value: -d.value,
                ..d
            }),
            Self::Infinity(negative) => Self::Infinity(!negative),
            Self::Degree(x) => Self::Degree(Box::new(x.negated())),
            Self::Percent(x) => Self::Percent(Box::new(x.negated())),
            Self::Neg(x) => *x,
            other => Self::Neg(Box::new(other)),
        }
    }

    pub(crate) fn negated_if(self, negative: bool) -> Self {
        if negative { self.negated() } else { self }
    }

    pub(crate) fn pow(self, exponent: Self) -> Self {
        Self::Pow(Box::new(self), Box::new(exponent))
    }

    pub(crate) fn div(self, by: Self) -> Self {
        Self::Div(Box::new(self), Box::new(by))
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self::Add(vec![self.clone(), Self::Neg(Box::new(other.clone()))])
    }

    /// The literal value, if the expression is a number as written.
    pub(crate) const fn literal(&self) -> Option<&RBig> {
        match self {
            Self::Num(value) => Some(value),
            Self::Decimal(d) => Some(&d.value),
            _ => None,
        }
    }

    /// Calls `visit` on every node, parents first.
    pub(crate) fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Self)) {
        visit(self);
        match self {
            Self::Neg(x) | Self::Degree(x) | Self::Percent(x) => x.walk(visit),
            Self::Add(xs) | Self::Mul(xs) | Self::Call(_, xs) | Self::Apply(_, xs) => {
                for x in xs {
                    x.walk(visit);
                }
            }
            Self::Div(a, b) | Self::Pow(a, b) | Self::Root(a, b) => {
                a.walk(visit);
                b.walk(visit);
            }
            Self::Num(_)
            | Self::Decimal(_)
            | Self::Sym(_)
            | Self::Pi
            | Self::E
            | Self::I
            | Self::Infinity(_) => {}
        }
    }

    /// Names of the variables, sorted, each once.
    pub(crate) fn symbols(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.walk(&mut |e| {
            if let Self::Sym(name) | Self::Apply(name, _) = e {
                names.push(name.as_str());
            }
        });
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.symbols().is_empty()
    }

    pub(crate) fn any(&self, mut test: impl FnMut(&Self) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |e| found = found || test(e));
        found
    }
}

impl Expr {
    /// The expression with a variable replaced.
    pub(crate) fn substituted(&self, name: &str, by: &Self) -> Self {
        let all = |xs: &[Self]| xs.iter().map(|x| x.substituted(name, by)).collect();
        let one = |x: &Self| Box::new(x.substituted(name, by));
        match self {
            Self::Sym(symbol) if symbol == name => by.clone(),
            Self::Neg(x) => Self::Neg(one(x)),
            Self::Degree(x) => Self::Degree(one(x)),
            Self::Percent(x) => Self::Percent(one(x)),
            Self::Add(xs) => Self::Add(all(xs)),
            Self::Mul(xs) => Self::Mul(all(xs)),
            Self::Call(func, xs) => Self::Call(*func, all(xs)),
            Self::Apply(function, xs) => Self::Apply(function.clone(), all(xs)),
            Self::Div(a, b) => Self::Div(one(a), one(b)),
            Self::Pow(a, b) => Self::Pow(one(a), one(b)),
            Self::Root(a, b) => Self::Root(one(a), one(b)),
            other => other.clone(),
        }
    }
}
