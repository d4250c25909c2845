//! Expressions of the soundness test: how they are written, and what they are worth. Nothing here
//! uses the crate under test.

use std::rc::Rc;

/// An expression over at most three variables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Num(i64),
    Var(usize),
    Add(Rc<Self>, Rc<Self>),
    Sub(Rc<Self>, Rc<Self>),
    Mul(Rc<Self>, Rc<Self>),
    Div(Rc<Self>, Rc<Self>),
    /// An integer power.
    Pow(Rc<Self>, i64),
    /// A constant to the power of an expression.
    Raise(i64, Rc<Self>),
    Root(Rc<Self>, i64),
    Abs(Rc<Self>),
    Floor(Rc<Self>),
    Ceil(Rc<Self>),
    Min(Rc<Self>, Rc<Self>),
    Max(Rc<Self>, Rc<Self>),
    Ln(Rc<Self>),
    Log(i64, Rc<Self>),
    Sin(Rc<Self>),
    Cos(Rc<Self>),
    Atan(Rc<Self>),
    /// The factorial of a variable, which then stands for natural numbers.
    Factorial(usize),
}

use Expr::*;

pub(crate) const NAMES: [&str; 3] = ["x", "y", "n"];

impl Expr {
    pub(crate) fn latex(&self) -> String {
        let group = |e: &Self| match e {
            Num(n) if *n >= 0 => e.latex(),
            Var(_) | Abs(_) | Floor(_) | Ceil(_) | Root(..) => e.latex(),
            _ => format!("\\left({}\\right)", e.latex()),
        };
        match self {
            Num(n) => n.to_string(),
            Var(v) => NAMES[*v].to_owned(),
            Add(a, b) => format!("{}+{}", group(a), group(b)),
            Sub(a, b) => format!("{}-{}", group(a), group(b)),
            Mul(a, b) => format!("{} \\cdot {}", group(a), group(b)),
            Div(a, b) => format!("\\frac{{{}}}{{{}}}", a.latex(), b.latex()),
            Pow(a, n) => format!("{}^{{{n}}}", group(a)),
            Raise(c, a) => format!("{c}^{{{}}}", a.latex()),
            Root(a, 2) => format!("\\sqrt{{{}}}", a.latex()),
            Root(a, n) => format!("\\sqrt[{n}]{{{}}}", a.latex()),
            Abs(a) => format!("\\left|{}\\right|", a.latex()),
            Floor(a) => format!("\\lfloor {} \\rfloor", a.latex()),
            Ceil(a) => format!("\\lceil {} \\rceil", a.latex()),
            Min(a, b) => format!("\\min({}, {})", a.latex(), b.latex()),
            Max(a, b) => format!("\\max({}, {})", a.latex(), b.latex()),
            Ln(a) => format!("\\ln\\left({}\\right)", a.latex()),
            Log(c, a) => format!("\\log_{{{c}}}\\left({}\\right)", a.latex()),
            Sin(a) => format!("\\sin\\left({}\\right)", a.latex()),
            Cos(a) => format!("\\cos\\left({}\\right)", a.latex()),
            Atan(a) => format!("\\arctan\\left({}\\right)", a.latex()),
            Factorial(v) => format!("{}!", NAMES[*v]),
        }
    }

    /// Direct parts.
    pub(crate) fn parts(&self) -> Vec<&Rc<Self>> {
        match self {
            Num(_) | Var(_) | Factorial(_) => Vec::new(),
            Add(a, b) | Sub(a, b) | Mul(a, b) | Div(a, b) | Min(a, b) | Max(a, b) => vec![a, b],
            Pow(a, _)
            | Raise(_, a)
            | Root(a, _)
            | Abs(a)
            | Floor(a)
            | Ceil(a)
            | Ln(a)
            | Log(_, a)
            | Sin(a)
            | Cos(a)
            | Atan(a) => vec![a],
        }
    }

    pub(crate) fn walk(&self, visit: &mut dyn FnMut(&Self)) {
        visit(self);
        self.parts().into_iter().for_each(|p| p.walk(visit));
    }

    pub(crate) fn size(&self) -> usize {
        1 + self.parts().into_iter().map(|p| p.size()).sum::<usize>()
    }

    /// The expression with the `at`-th node (parents first) replaced by `change` of it.
    pub(crate) fn replaced(&self, at: usize, change: &dyn Fn(&Self) -> Self) -> Self {
        if at == 0 {
            return change(self);
        }
        let mut left = at - 1;
        let mut parts: Vec<Rc<Self>> = Vec::new();
        for part in self.parts() {
            let size = part.size();
            parts.push(if left < size {
                Rc::new(part.replaced(left, change))
            } else {
                part.clone()
            });
            // Below 0 no later part is meant.
            left = left.wrapping_sub(size);
        }
        let one = parts[0].clone();
        let two = || (parts[0].clone(), parts[1].clone());
        match self {
            Add(..) => Add(two().0, two().1),
            Sub(..) => Sub(two().0, two().1),
            Mul(..) => Mul(two().0, two().1),
            Div(..) => Div(two().0, two().1),
            Min(..) => Min(two().0, two().1),
            Max(..) => Max(two().0, two().1),
            Pow(_, n) => Pow(one, *n),
            Raise(c, _) => Raise(*c, one),
            Root(_, n) => Root(one, *n),
            Abs(_) => Abs(one),
            Floor(_) => Floor(one),
            Ceil(_) => Ceil(one),
            Ln(_) => Ln(one),
            Log(c, _) => Log(*c, one),
            Sin(_) => Sin(one),
            Cos(_) => Cos(one),
            Atan(_) => Atan(one),
            Num(_) | Var(_) | Factorial(_) => self.clone(),
        }
    }
}

/// What an expression is worth at a real point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Worth {
    /// A value and a bound on its error.
    Value(f64, f64),
    /// No real value.
    Undefined,
    /// Rounding hides which.
    Unknown,
}

use Worth::{Undefined, Unknown, Value};

fn checked(v: f64, error: f64) -> Worth {
    let error = error * 1.001 + v.abs() * 4.0 * f64::EPSILON;
    // Products of smaller values lose digits, or become 0.
    if v.is_finite() && error.is_finite() && v.abs() < 1e120 && (v == 0.0 || v.abs() > 1e-120) {
        Value(v, error)
    } else {
        Unknown
    }
}

impl Expr {
    /// Over the reals alone: a part without a real value leaves the whole without one. Roots of
    /// odd degree are real.
    pub(crate) fn worth(&self, at: &[f64; 3]) -> Worth {
        let mut values = [(0.0, 0.0); 2];
        for (slot, part) in values.iter_mut().zip(self.parts()) {
            match part.worth(at) {
                Value(v, e) => *slot = (v, e),
                other => return other,
            }
        }
        let [(a, ea), (b, eb)] = values;
        // Errors of a tiny subnormal size would hide zeros.
        match self {
            Num(n) => Value(*n as f64, 0.0),
            Var(v) => Value(at[*v], 0.0),
            Add(..) => checked(a + b, ea + eb),
            Sub(..) => checked(a - b, ea + eb),
            Mul(..) => checked(a * b, a.abs() * eb + b.abs() * ea + ea * eb),
            Div(..) => quotient((a, ea), (b, eb)),
            Pow(_, n) => {
                let mut power = (1.0, 0.0);
                for _ in 0..n.abs() {
                    let (p, ep) = power;
                    match checked(p * a, p.abs() * ea + a.abs() * ep + ea * ep) {
                        Value(v, e) => power = (v, e),
                        other => return other,
                    }
                }
                if *n < 0 {
                    quotient((1.0, 0.0), power)
                } else {
                    Value(power.0, power.1)
                }
            }
            Raise(c, _) => {
                let v = (*c as f64).powf(a);
                if v == 0.0 {
                    return Unknown;
                }
                checked(
                    v,
                    v * ((ea * (*c as f64).ln()).exp() - 1.0 + a.abs() * 1e-15),
                )
            }
            Root(_, n) => {
                let odd = n % 2 == 1;
                if a.abs() <= ea {
                    Unknown
                } else if a < 0.0 && !odd {
                    Undefined
                } else {
                    let v = a.abs().powf(1.0 / *n as f64).copysign(a);
                    checked(v, v.abs() * (ea / (a.abs() - ea) + 1e-15))
                }
            }
            Abs(_) => Value(a.abs(), ea),
            Floor(_) | Ceil(_) => {
                let is_hidden = ea > 0.0 && (a - a.round()).abs() <= ea;
                if is_hidden || a.abs() > 1e15 {
                    Unknown
                } else if matches!(self, Floor(_)) {
                    Value(a.floor(), 0.0)
                } else {
                    Value(a.ceil(), 0.0)
                }
            }
            Min(..) => Value(a.min(b), ea.max(eb)),
            Max(..) => Value(a.max(b), ea.max(eb)),
            Ln(_) | Log(..) => {
                if a.abs() <= ea {
                    return Unknown;
                }
                if a < 0.0 {
                    return Undefined;
                }
                let scale = if let Log(c, _) = self {
                    (*c as f64).ln()
                } else {
                    1.0
                };
                let v = a.ln() / scale;
                checked(v, (ea / (a - ea)) / scale + 1e-16)
            }
            Sin(_) => checked(a.sin(), ea + 1e-16),
            Cos(_) => checked(a.cos(), ea + 1e-16),
            Atan(_) => checked(a.atan(), ea + 1e-16),
            Factorial(v) => {
                let n = at[*v];
                if n.fract() != 0.0 || n < 0.0 {
                    return Undefined;
                }
                checked((2..=n as i64).map(|k| k as f64).product(), 0.0)
            }
        }
    }
}

fn quotient((a, ea): (f64, f64), (b, eb): (f64, f64)) -> Worth {
    if b == 0.0 && eb == 0.0 {
        return Undefined;
    }
    if b.abs() <= 2.0 * eb {
        return Unknown;
    }
    let v = a / b;
    checked(v, (ea + v.abs() * eb) / (b.abs() - eb))
}
