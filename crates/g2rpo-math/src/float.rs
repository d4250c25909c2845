//! Values over the reals alone, in floats with bounds on their error: fast enough to look at many points.

use std::f64::consts::{E, PI};

use dashu::base::Abs;
use dashu::rational::RBig;

use crate::exact::{constant, small};
use crate::expr::{Expr, Func};
use crate::fuel::{Fuel, Stop};
use crate::modular::hash;

/// What an expression is worth at a real point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Worth {
    /// A value and a bound on its error.
    Value(f64, f64),
    /// A part has no real value.
    Undefined,
    /// Out of range, or hidden by rounding.
    Unknown,
}

use Worth::{Undefined, Unknown, Value};

/// An expression in postfix order.
#[derive(Debug)]
pub(crate) struct Program(Vec<Op>);

#[derive(Debug)]
enum Op {
    Constant(Worth),
    Variable(usize),
    Negate,
    Add(usize),
    Mul(usize),
    Div,
    Integer(i32),
    /// A power with a constant exponent that is no integer.
    Fraction {
        exponent: f64,
        odd_root: bool,
        odd_power: bool,
    },
    Power,
    Call(Func, usize),
    /// The polynomial that stands for an unknown function.
    Apply(String, usize),
}

/// Operations that cost one unit of fuel.
const OPERATIONS: usize = 32;

impl Program {
    /// `names` gives the order of the variables. Nothing when `e` speaks of complex numbers.
    pub(crate) fn of(e: &Expr, names: &[String], fuel: &mut Fuel) -> Result<Option<Self>, Stop> {
        let is_complex = |e: &Expr| {
            matches!(
                e,
                Expr::I | Expr::Infinity(_) | Expr::Call(Func::Re | Func::Im | Func::Arg, _)
            )
        };
        if e.any(is_complex) {
            return Ok(None);
        }
        let mut ops = Vec::new();
        compile(e, names, &mut ops, fuel)?;
        Ok(Some(Self(ops)))
    }

    /// Fuel for so many evaluations.
    pub(crate) const fn cost(&self, evaluations: usize) -> u64 {
        (1 + self.0.len() * evaluations / OPERATIONS) as u64
    }

    pub(crate) fn at(&self, point: &[f64]) -> Worth {
        let mut stack: Vec<Worth> = Vec::with_capacity(8);
        for op in &self.0 {
            let worth = match op {
                Op::Constant(worth) => *worth,
                Op::Variable(i) => Value(point[*i], 0.0),
                _ => {
                    let from = stack.len() - op.arguments();
                    let worth = op.apply(&stack[from..]);
                    stack.truncate(from);
                    worth
                }
            };
            stack.push(worth);
        }
        stack.pop().unwrap_or(Unknown)
    }
}

fn compile(e: &Expr, names: &[String], ops: &mut Vec<Op>, fuel: &mut Fuel) -> Result<(), Stop> {
    fuel.spend(1)?;
    let mut all = |parts: &[Expr], ops: &mut Vec<Op>, op: Op| -> Result<(), Stop> {
        for part in parts {
            compile(part, names, ops, fuel)?;
        }
        ops.push(op);
        Ok(())
    };
    match e {
        Expr::Num(value) => ops.push(Op::Constant(number(value))),
        Expr::Decimal(d) => ops.push(Op::Constant(number(&d.value))),
        Expr::Sym(name) => ops.push(match names.iter().position(|n| n == name) {
            Some(i) => Op::Variable(i),
            None => Op::Constant(Unknown),
        }),
        Expr::Pi => ops.push(Op::Constant(checked(PI, 0.0))),
        Expr::E => ops.push(Op::Constant(checked(E, 0.0))),
        Expr::I | Expr::Infinity(_) => ops.push(Op::Constant(Unknown)),
        Expr::Neg(x) => all(std::slice::from_ref(x), ops, Op::Negate)?,
        Expr::Add(terms) => all(terms, ops, Op::Add(terms.len()))?,
        Expr::Mul(factors) => all(factors, ops, Op::Mul(factors.len()))?,
        Expr::Div(a, b) => {
            compile(a, names, ops, fuel)?;
            compile(b, names, ops, fuel)?;
            ops.push(Op::Div);
        }
        Expr::Degree(x) | Expr::Percent(x) => {
            compile(x, names, ops, fuel)?;
            let is_degree = matches!(e, Expr::Degree(_));
            ops.push(Op::Constant(checked(
                if is_degree { PI / 180.0 } else { 0.01 },
                0.0,
            )));
            ops.push(Op::Mul(2));
        }
        Expr::Pow(base, exponent) if **base == Expr::E => {
            all(std::slice::from_ref(exponent), ops, Op::Call(Func::Exp, 1))?;
        }
        Expr::Pow(base, exponent) => {
            let value = constant(exponent, fuel)?;
            compile(base, names, ops, fuel)?;
            match value.as_ref().map(power) {
                Some(op) => ops.push(op),
                None => {
                    compile(exponent, names, ops, fuel)?;
                    ops.push(Op::Power);
                }
            }
        }
        Expr::Root(x, degree) => {
            let degree = constant(degree, fuel)?.filter(|d| !d.is_zero());
            compile(x, names, ops, fuel)?;
            match degree {
                Some(degree) => ops.push(power(&(RBig::ONE / degree))),
                None => ops.extend([Op::Constant(Unknown), Op::Mul(2)]),
            }
        }
        Expr::Call(func, arguments) => all(arguments, ops, Op::Call(*func, arguments.len()))?,
        Expr::Apply(name, arguments) => {
            all(arguments, ops, Op::Apply(name.clone(), arguments.len()))?;
        }
    }
    Ok(())
}

fn number(value: &RBig) -> Worth {
    let v = value.to_f64().value();
    let is_exact = value.is_int() && v.abs() < EXACT;
    if is_exact {
        Value(v, 0.0)
    } else {
        checked(v, 0.0)
    }
}

fn power(exponent: &RBig) -> Op {
    if let Some(n) = small(exponent).and_then(|n| i32::try_from(n).ok()) {
        return Op::Integer(n);
    }
    Op::Fraction {
        exponent: exponent.to_f64().value(),
        odd_root: i64::try_from(exponent.denominator()).is_ok_and(|d| d % 2 == 1),
        odd_power: dashu::base::BitTest::bit(&exponent.numerator().clone().abs(), 0),
    }
}

/// Smaller values than this lose digits, or become 0.
const TINY: f64 = 1e-290;

/// With the rounding of the last operation.
fn checked(v: f64, error: f64) -> Worth {
    let error = error * 1.001 + v.abs() * 4.0 * f64::EPSILON;
    if v.is_finite() && error.is_finite() && v.abs() < 1e280 && (v == 0.0 || v.abs() > TINY) {
        Value(v, error)
    } else {
        Unknown
    }
}

/// Integers below this are floats without rounding.
const EXACT: f64 = 9e15;

fn are_integers(all: &[Worth]) -> bool {
    let is_integer = |worth: &Worth| matches!(worth, Value(v, _) if v.fract() == 0.0);
    all.iter().all(is_integer)
}

fn quotient((a, ea): (f64, f64), (b, eb): (f64, f64)) -> Worth {
    if b == 0.0 && eb == 0.0 {
        return Undefined;
    }
    if b.abs() <= 2.0 * eb {
        return Unknown;
    }
    let v = a / b;
    if v == 0.0 && a != 0.0 {
        return Unknown;
    }
    checked(v, (ea + v.abs() * eb) / (b.abs() - eb))
}

fn integer_power((a, ea): (f64, f64), n: i32) -> Worth {
    if n == 0 {
        return Value(1.0, 0.0);
    }
    if a == 0.0 && ea == 0.0 {
        return if n > 0 { Value(0.0, 0.0) } else { Undefined };
    }
    if a.abs() <= 2.0 * ea {
        return if n > 0 {
            checked(a.powi(n), (a.abs() + ea).powi(n))
        } else {
            Unknown
        };
    }
    let (v, steps) = (a.powi(n), f64::from(n).abs());
    let relative = steps * (ea / (a.abs() - ea) + 2.0 * f64::EPSILON);
    if relative > 0.1 || v == 0.0 {
        return Unknown;
    }
    checked(v, v.abs() * 1.2 * relative)
}

/// A power of what is not 0, with the logarithm's error in the exponent.
fn real_power((a, ea): (f64, f64), (b, eb): (f64, f64)) -> Worth {
    let ln = a.ln();
    let v = (b * ln).exp();
    let relative = b.abs() * ea / (a - ea) + ln.abs() * eb + (b * ln).abs() * 2.0 * f64::EPSILON;
    if relative > 0.1 || v == 0.0 {
        return Unknown;
    }
    checked(v, v * 1.2 * relative)
}

/// The integer that a value can only be, if its error leaves no other.
fn integer((a, ea): (f64, f64)) -> Option<f64> {
    let near = a.round();
    ((a - near).abs() <= ea && ea < 1e-6 && near.abs() < EXACT).then_some(near)
}

impl Op {
    const fn arguments(&self) -> usize {
        match self {
            Self::Constant(_) | Self::Variable(_) => 0,
            Self::Negate | Self::Integer(_) | Self::Fraction { .. } => 1,
            Self::Div | Self::Power => 2,
            Self::Add(n) | Self::Mul(n) | Self::Call(_, n) | Self::Apply(_, n) => *n,
        }
    }

    fn apply(&self, arguments: &[Worth]) -> Worth {
        if arguments.contains(&Undefined) {
            return Undefined;
        }
        let pair = |i: usize| match arguments[i] {
            Value(v, e) => (v, e),
            _ => (f64::NAN, f64::NAN),
        };
        if arguments.contains(&Unknown) {
            return Unknown;
        }
        let (a, ea) = pair(0);
        match self {
            Self::Constant(_) | Self::Variable(_) => Unknown,
            Self::Negate => Value(-a, ea),
            Self::Add(n) => {
                let (mut sum, mut error, mut size) = (a, ea, a.abs());
                for i in 1..*n {
                    let (v, e) = pair(i);
                    sum += v;
                    error += e;
                    size = size.max(sum.abs());
                }
                if error == 0.0 && are_integers(arguments) && size < EXACT {
                    return Value(sum, 0.0);
                }
                checked(sum, error + size * *n as f64 * f64::EPSILON)
            }
            Self::Mul(n) => {
                let (mut product, mut error) = (a, ea);
                for i in 1..*n {
                    let (v, e) = pair(i);
                    if product != 0.0 && v != 0.0 && (product * v).abs() < TINY {
                        return Unknown;
                    }
                    error = product.abs() * e + v.abs() * error + e * error;
                    product *= v;
                    error += product.abs() * f64::EPSILON;
                }
                let is_exact = arguments.iter().all(|w| matches!(w, Value(_, 0.0)));
                if is_exact && (product == 0.0 || are_integers(arguments) && product.abs() < EXACT)
                {
                    return Value(product, 0.0);
                }
                checked(product, error)
            }
            Self::Div => quotient((a, ea), pair(1)),
            Self::Integer(n) => integer_power((a, ea), *n),
            Self::Fraction {
                exponent,
                odd_root,
                odd_power,
            } => {
                if a.abs() <= ea {
                    let is_zero = a == 0.0 && ea == 0.0 && *exponent > 0.0;
                    return if is_zero { Value(0.0, 0.0) } else { Unknown };
                }
                if a < 0.0 && !odd_root {
                    return Undefined;
                }
                match real_power((a.abs(), ea), (*exponent, 0.0)) {
                    Value(v, e) => Value(if a < 0.0 && *odd_power { -v } else { v }, e),
                    other => other,
                }
            }
            Self::Power => {
                let exponent = pair(1);
                if a > ea {
                    return real_power((a, ea), exponent);
                }
                match integer(exponent) {
                    Some(n) if n.abs() < 1e6 => integer_power((a, ea), n as i32),
                    _ if a < -ea => Undefined,
                    _ => Unknown,
                }
            }
            Self::Call(func, n) => call(*func, (a, ea), (*n > 1).then(|| pair(1)), arguments),
            Self::Apply(name, n) => {
                let (mut sum, mut error) = ((hash(name, 99) % 1000) as f64 + 7.0, 0.0);
                for k in 0..*n {
                    let (x, e) = pair(k);
                    for degree in 1..=3 {
                        let salt = 100 + 10 * k as u64 + degree as u64;
                        let coefficient = (hash(name, salt) % 1000) as f64 + 3.0;
                        let Value(v, e) = integer_power((x, e), degree) else {
                            return Unknown;
                        };
                        sum += coefficient * v;
                        error += coefficient * (e + v.abs() * 8.0 * f64::EPSILON);
                    }
                }
                checked(sum, error)
            }
        }
    }
}

fn call(func: Func, (a, ea): (f64, f64), second: Option<(f64, f64)>, all: &[Worth]) -> Worth {
    let tiny = 2.0 * f64::EPSILON;
    let ln = |(a, ea): (f64, f64)| {
        if a.abs() <= ea {
            Unknown
        } else if a < 0.0 {
            Undefined
        } else {
            checked(a.ln(), ea / (a - ea) + tiny)
        }
    };
    let over = |above: Worth, below: Worth| match (above, below) {
        (Value(x, ex), Value(y, ey)) => quotient((x, ex), (y, ey)),
        (Undefined, _) | (_, Undefined) => Undefined,
        _ => Unknown,
    };
    let (sin, cos) = (checked(a.sin(), ea + tiny), checked(a.cos(), ea + tiny));
    let one = Value(1.0, 0.0);
    match func {
        Func::Sin => sin,
        Func::Cos => cos,
        Func::Tan => over(sin, cos),
        Func::Cot => over(cos, sin),
        Func::Sec => over(one, cos),
        Func::Csc => over(one, sin),
        Func::Asin | Func::Acos | Func::Atanh => {
            let room = 1.0 - a.abs();
            if room < -ea {
                return Undefined;
            }
            if room <= 2.0 * ea + tiny {
                return Unknown;
            }
            match func {
                Func::Asin => checked(a.asin(), ea / (room - ea).sqrt() + tiny),
                Func::Acos => checked(a.acos(), ea / (room - ea).sqrt() + tiny),
                _ => checked(a.atanh(), ea / (room - ea) + tiny),
            }
        }
        Func::Atan => checked(a.atan(), ea + tiny),
        Func::Acot => match quotient((1.0, 0.0), (a, ea)) {
            Value(v, e) => checked(v.atan(), e + tiny),
            other => other,
        },
        Func::Sinh | Func::Cosh | Func::Exp => {
            if ea > 0.1 || a < -660.0 {
                return Unknown;
            }
            let size = if func == Func::Exp { a.exp() } else { a.cosh() };
            let v = match func {
                Func::Sinh => a.sinh(),
                Func::Cosh => a.cosh(),
                _ => a.exp(),
            };
            checked(v, size * (1.2 * ea + (1.0 + a.abs()) * tiny))
        }
        Func::Tanh => checked(a.tanh(), ea + tiny),
        Func::Asinh => checked(a.asinh(), ea + a.abs() * tiny + tiny),
        Func::Acosh => {
            if a - 1.0 < -ea {
                Undefined
            } else if a - 1.0 <= 2.0 * ea + tiny {
                Unknown
            } else {
                checked(a.acosh(), ea / (a - 1.0 - ea).sqrt() + 8.0 * tiny)
            }
        }
        Func::Ln => ln((a, ea)),
        Func::Log => over(second.map_or(Unknown, ln), ln((a, ea))),
        Func::Abs => Value(a.abs(), ea),
        Func::Floor | Func::Ceil => {
            let is_exact = ea == 0.0;
            if a.abs() > 4e15 || (!is_exact && (a - a.round()).abs() <= ea) {
                Unknown
            } else {
                Value(
                    if func == Func::Floor {
                        a.floor()
                    } else {
                        a.ceil()
                    },
                    0.0,
                )
            }
        }
        Func::Sign => {
            if a.abs() > ea {
                Value(a.signum(), 0.0)
            } else if ea == 0.0 {
                Value(0.0, 0.0)
            } else {
                Unknown
            }
        }
        Func::Max | Func::Min => {
            let (mut best, mut error) = (a, ea);
            for worth in all {
                if let Value(v, e) = *worth {
                    best = if func == Func::Max {
                        best.max(v)
                    } else {
                        best.min(v)
                    };
                    error = error.max(e);
                }
            }
            Value(best, error)
        }
        Func::Factorial => match integer((a, ea)) {
            Some(n) if n >= 0.0 => {
                let product = (2..=n.min(200.0) as i64).map(|k| k as f64).product();
                checked(product, product * n * f64::EPSILON)
            }
            _ => Undefined,
        },
        Func::Binomial => match (integer((a, ea)), second.and_then(integer)) {
            (Some(n), Some(k)) if n >= 0.0 => {
                if k < 0.0 || k > n {
                    return Value(0.0, 0.0);
                }
                let k = k.min(n - k);
                if k > 200.0 {
                    return Unknown;
                }
                let steps = (0..k as i64).map(|j| (n - j as f64) / (j as f64 + 1.0));
                let product: f64 = steps.product();
                checked(product, product * 4.0 * k * f64::EPSILON)
            }
            _ => Undefined,
        },
        Func::Gcd | Func::Lcm => divisors(func, all),
        Func::Re | Func::Im | Func::Arg => Unknown,
    }
}

fn divisors(func: Func, all: &[Worth]) -> Worth {
    let mut result = 0u64;
    for worth in all {
        let value = match *worth {
            Value(v, e) => integer((v, e)),
            _ => None,
        };
        let Some(value) = value else {
            return Undefined;
        };
        let value = value.abs() as u64;
        let (mut a, mut b) = (result, value);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        result = if result == 0 || value == 0 || func == Func::Gcd {
            if func == Func::Gcd {
                a
            } else {
                result.max(value)
            }
        } else {
            (result / a).saturating_mul(value)
        };
    }
    if result < 1 << 53 {
        Value(result as f64, 0.0)
    } else {
        Unknown
    }
}
