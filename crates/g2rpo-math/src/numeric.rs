//! Values of expressions at points, with error bounds.

use dashu::base::Abs;
use dashu::rational::RBig;

use crate::complex::{Arithmetic, Complex};
use crate::exact::{exact, small};
use crate::expr::{Expr, Func};
use crate::fuel::{Halt, Maybe, Stop};
use crate::modular::hash;
use crate::sample::Space;

use Halt::NoValue;

/// Values of variables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<'a> {
    names: &'a [String],
    natural: &'a [bool],
    values: &'a [f64],
}

impl<'a> Point<'a> {
    /// For expressions without variables.
    pub(crate) const NONE: Self = Self {
        names: &[],
        natural: &[],
        values: &[],
    };

    pub(crate) fn of(space: &'a Space, values: &'a [f64]) -> Self {
        Self {
            names: &space.names,
            natural: &space.natural,
            values,
        }
    }

    fn value(self, name: &str) -> Option<f64> {
        let at = self.names.iter().position(|n| n == name)?;
        self.values.get(at).copied()
    }

    /// The value of any variable: floats are rational numbers.
    pub(crate) fn rational(self, name: &str) -> Option<RBig> {
        self.natural(name)
            .or_else(|| RBig::try_from(self.value(name)?).ok())
    }

    /// The value of a variable that stands for natural numbers.
    pub(crate) fn natural(self, name: &str) -> Option<RBig> {
        let at = self.names.iter().position(|n| n == name)?;
        let is_natural = self.natural.get(at).copied().unwrap_or(false);
        is_natural.then(|| RBig::from(self.values[at] as i64))
    }
}

/// The value of `e` at a point; nothing where it is undefined or out of range.
pub(crate) fn evaluate(
    e: &Expr,
    point: Point<'_>,
    arithmetic: &mut Arithmetic<'_>,
) -> Maybe<Complex> {
    Evaluator {
        point,
        a: arithmetic,
    }
    .value(e)
}

struct Evaluator<'a, 'f> {
    point: Point<'a>,
    a: &'a mut Arithmetic<'f>,
}

impl Evaluator<'_, '_> {
    fn rational(&mut self, e: &Expr) -> Result<Option<RBig>, Stop> {
        let point = self.point;
        exact(e, &|name| point.natural(name), self.a.fuel())
    }

    fn value(&mut self, e: &Expr) -> Maybe<Complex> {
        self.a.fuel().spend(1)?;
        match e {
            Expr::Num(value) => self.a.rational(value),
            Expr::Decimal(d) => self.a.rational(&d.value),
            Expr::Sym(name) => {
                let value = self.point.value(name).ok_or(NoValue)?;
                self.a.float(value)
            }
            Expr::Pi => self.a.pi(),
            Expr::E => {
                let one = self.a.int(1)?;
                self.a.exp(&one)
            }
            Expr::I => self.a.i(),
            Expr::Infinity(_) => Err(NoValue),
            Expr::Neg(x) => {
                let x = self.value(x)?;
                Ok(self.a.neg(x))
            }
            Expr::Add(terms) => {
                let mut sum = self.value(&terms[0])?;
                for term in &terms[1..] {
                    let term = self.value(term)?;
                    sum = self.a.add(&sum, &term)?;
                }
                Ok(sum)
            }
            Expr::Mul(factors) => {
                let mut product = self.value(&factors[0])?;
                for factor in &factors[1..] {
                    let factor = self.value(factor)?;
                    product = self.a.mul(&product, &factor)?;
                }
                Ok(product)
            }
            Expr::Div(a, b) => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                self.a.div(&a, &b)
            }
            Expr::Degree(x) => {
                let x = self.value(x)?;
                let pi = self.a.pi()?;
                let half_turn = self.a.int(180)?;
                let turned = self.a.mul(&x, &pi)?;
                self.a.div(&turned, &half_turn)
            }
            Expr::Percent(x) => {
                let x = self.value(x)?;
                let hundred = self.a.int(100)?;
                self.a.div(&x, &hundred)
            }
            Expr::Pow(base, exponent) => self.power(base, exponent),
            Expr::Root(x, degree) => {
                let degree = self.rational(degree)?.ok_or(NoValue)?;
                if degree.is_zero() {
                    return Err(NoValue);
                }
                let x = self.value(x)?;
                self.rational_power(&x, &(RBig::ONE / degree))
            }
            Expr::Call(func, arguments) => self.call(*func, arguments, e),
            Expr::Apply(name, arguments) => self.apply(name, arguments),
        }
    }

    fn power(&mut self, base: &Expr, exponent: &Expr) -> Maybe<Complex> {
        let rational = self.rational(exponent)?;
        if let Some(exponent) = rational {
            if *base == Expr::E {
                let exponent = self.a.rational(&exponent)?;
                return self.a.exp(&exponent);
            }
            let base = self.value(base)?;
            return self.rational_power(&base, &exponent);
        }
        let exponent = self.value(exponent)?;
        if *base == Expr::E {
            return self.a.exp(&exponent);
        }
        let base = self.value(base)?;
        let ln = self.a.ln(&base)?;
        let product = self.a.mul(&ln, &exponent)?;
        self.a.exp(&product)
    }

    /// Integer powers by multiplication, real odd roots of negative reals, else the principal one.
    fn rational_power(&mut self, base: &Complex, exponent: &RBig) -> Maybe<Complex> {
        if let Some(n) = small(exponent) {
            return match n {
                -100_000..=100_000 => self.a.powi(base, n),
                _ => Err(NoValue),
            };
        }
        if *exponent == RBig::from_parts(1.into(), 2u8.into()) {
            return self.a.sqrt(base);
        }
        let odd_root = base.is_negative_real()
            && i64::try_from(exponent.denominator()).is_ok_and(|d| d % 2 == 1);
        let size = if odd_root {
            self.a.neg(base.clone())
        } else {
            base.clone()
        };
        let ln = self.a.ln(&size)?;
        let exponent_value = self.a.rational(exponent)?;
        let product = self.a.mul(&ln, &exponent_value)?;
        let power = self.a.exp(&product)?;
        let odd_power = dashu::base::BitTest::bit(&exponent.numerator().clone().abs(), 0);
        Ok(if odd_root && odd_power {
            self.a.neg(power)
        } else {
            power
        })
    }

    fn call(&mut self, func: Func, arguments: &[Expr], whole: &Expr) -> Maybe<Complex> {
        use Func::*;
        if matches!(
            func,
            Factorial | Binomial | Gcd | Lcm | Floor | Ceil | Max | Min | Sign
        ) {
            // Discontinuous or discrete: only an exact argument says on which side it is.
            if let Some(value) = self.rational(whole)? {
                return self.a.rational(&value);
            }
            return match func {
                Max | Min => self.extreme(func, arguments),
                Floor | Ceil => self.rounded(func, &arguments[0]),
                _ => Err(NoValue),
            };
        }
        let x = self.value(&arguments[0])?;
        match func {
            Sin | Cos | Tan | Cot | Sec | Csc => {
                let (sin, cos) = self.a.sin_cos(&x)?;
                match func {
                    Sin => Ok(sin),
                    Cos => Ok(cos),
                    Tan => self.a.div(&sin, &cos),
                    Cot => self.a.div(&cos, &sin),
                    Sec => self.a.invert(&cos),
                    _ => self.a.invert(&sin),
                }
            }
            Exp => self.a.exp(&x),
            Ln => self.a.ln(&x),
            Log => {
                let y = self.value(&arguments[1])?;
                let (base, value) = (self.a.ln(&x)?, self.a.ln(&y)?);
                self.a.div(&value, &base)
            }
            Abs => self.a.abs(&x),
            Re => Ok(x.real_part()),
            Im => Ok(x.imaginary_part()),
            Arg => Ok(self.a.ln(&x)?.imaginary_part()),
            Sinh | Cosh | Tanh => self.hyperbolic(func, &x),
            Asin | Acos | Atan | Acot | Asinh | Acosh | Atanh => self.inverse(func, &x),
            Factorial | Binomial | Gcd | Lcm | Floor | Ceil | Max | Min | Sign => Err(NoValue),
        }
    }

    fn hyperbolic(&mut self, func: Func, x: &Complex) -> Maybe<Complex> {
        let up = self.a.exp(x)?;
        let down = self.a.invert(&up)?;
        let two = self.a.int(2)?;
        let sum = self.a.add(&up, &down)?;
        let difference = self.a.sub(&up, &down)?;
        match func {
            Func::Sinh => self.a.div(&difference, &two),
            Func::Cosh => self.a.div(&sum, &two),
            _ => self.a.div(&difference, &sum),
        }
    }

    /// Inverse functions by their logarithms (Abramowitz and Stegun, 4.4.26 to 4.6.22).
    fn inverse(&mut self, func: Func, x: &Complex) -> Maybe<Complex> {
        let one = self.a.int(1)?;
        let i = self.a.i()?;
        match func {
            Func::Asin | Func::Acos => {
                let square = self.a.mul(x, x)?;
                let rest = self.a.sub(&one, &square)?;
                // At ±1 the root is 0 and its error bound is not.
                let root = match self.a.sqrt(&rest) {
                    Err(NoValue) => self.a.int(0)?,
                    found => found?,
                };
                let ix = self.a.mul(&i, x)?;
                let sum = self.a.add(&ix, &root)?;
                let ln = self.a.ln(&sum)?;
                let turned = self.a.mul(&i, &ln)?;
                let asin = self.a.neg(turned);
                if func == Func::Asin {
                    return Ok(asin);
                }
                let pi = self.a.pi()?;
                let two = self.a.int(2)?;
                let right = self.a.div(&pi, &two)?;
                self.a.sub(&right, &asin)
            }
            Func::Atan | Func::Acot => {
                let x = if func == Func::Acot {
                    self.a.invert(x)?
                } else {
                    x.clone()
                };
                if x.is_exactly_real() {
                    return self.a.atan(&x);
                }
                let ix = self.a.mul(&i, &x)?;
                let (minus, plus) = (self.a.sub(&one, &ix)?, self.a.add(&one, &ix)?);
                let (minus, plus) = (self.a.ln(&minus)?, self.a.ln(&plus)?);
                let difference = self.a.sub(&minus, &plus)?;
                let two = self.a.int(2)?;
                let half_i = self.a.div(&i, &two)?;
                self.a.mul(&half_i, &difference)
            }
            Func::Asinh | Func::Acosh => {
                let square = self.a.mul(x, x)?;
                let inner = if func == Func::Asinh {
                    self.a.add(&square, &one)?
                } else {
                    self.a.sub(&square, &one)?
                };
                let root = self.a.sqrt(&inner)?;
                let sum = self.a.add(x, &root)?;
                self.a.ln(&sum)
            }
            _ => {
                let (plus, minus) = (self.a.add(&one, x)?, self.a.sub(&one, x)?);
                let quotient = self.a.div(&plus, &minus)?;
                let ln = self.a.ln(&quotient)?;
                let two = self.a.int(2)?;
                self.a.div(&ln, &two)
            }
        }
    }

    fn extreme(&mut self, func: Func, arguments: &[Expr]) -> Maybe<Complex> {
        let mut best = self.value(&arguments[0])?;
        for argument in &arguments[1..] {
            let value = self.value(argument)?;
            let difference = self.a.sub(&value, &best)?;
            if !difference.is_real() {
                return Err(NoValue);
            }
            // Of two that cannot be told apart, either is right but for what may lie between.
            if difference.may_be_zero() {
                best.error = best.error.max(value.error).max(difference.error) + 3.0;
                best.least = best.least.min(value.least);
                continue;
            }
            if difference.is_negative_real() == (func == Func::Min) {
                best = value;
            }
        }
        Ok(best)
    }

    fn rounded(&mut self, func: Func, argument: &Expr) -> Maybe<Complex> {
        let x = self.value(argument)?;
        if !x.is_real() || x.magnitude() > 100.0 {
            return Err(NoValue);
        }
        let floor = RBig::from(x.re.floor().to_int().value());
        if x.is_exact() {
            let is_step_up = func == Func::Ceil && x.re.floor() != x.re;
            return self.a.rational(&(floor + RBig::from(u8::from(is_step_up))));
        }
        let low = self.a.rational(&floor)?;
        let high = self.a.rational(&(floor + RBig::ONE))?;
        for side in [&low, &high] {
            if self.a.sub(&x, side)?.may_be_zero() {
                return Err(NoValue);
            }
        }
        Ok(if func == Func::Floor { low } else { high })
    }

    /// A polynomial in each argument stands for a function without a definition, so that `f(x)`
    /// equals `f(y)` where x equals y, and nothing else by accident.
    fn apply(&mut self, name: &str, arguments: &[Expr]) -> Maybe<Complex> {
        let mut sum = self.a.int((hash(name, 99) % 1000) as i64 + 7)?;
        for (k, argument) in arguments.iter().enumerate() {
            let x = self.value(argument)?;
            let mut power = x.clone();
            for degree in 1..=3 {
                let salt = 100 + 10 * k as u64 + degree;
                let coefficient = self.a.int((hash(name, salt) % 1000) as i64 + 3)?;
                let term = self.a.mul(&coefficient, &power)?;
                sum = self.a.add(&sum, &term)?;
                power = self.a.mul(&power, &x)?;
            }
        }
        Ok(sum)
    }
}
