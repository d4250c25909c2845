//! Values of expressions at points, with error bounds.

use dashu::base::Abs;
use dashu::rational::RBig;

use crate::complex::{Arithmetic, Complex, Maybe};
use crate::exact::{exact, small};
use crate::expr::{Expr, Func};
use crate::fuel::{Stop, known};
use crate::modular::hash;
use crate::sample::Space;

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
            Expr::Sym(name) => match self.point.value(name) {
                Some(value) => self.a.float(value),
                None => Ok(None),
            },
            Expr::Pi => self.a.pi(),
            Expr::E => {
                let one = known!(self.a.int(1)?);
                self.a.exp(&one)
            }
            Expr::I => self.a.i(),
            Expr::Infinity(_) => Ok(None),
            Expr::Neg(x) => {
                let x = known!(self.value(x)?);
                Ok(Some(self.a.neg(x)))
            }
            Expr::Add(terms) => {
                let mut sum = known!(self.value(&terms[0])?);
                for term in &terms[1..] {
                    let term = known!(self.value(term)?);
                    sum = known!(self.a.add(&sum, &term)?);
                }
                Ok(Some(sum))
            }
            Expr::Mul(factors) => {
                let mut product = known!(self.value(&factors[0])?);
                for factor in &factors[1..] {
                    let factor = known!(self.value(factor)?);
                    product = known!(self.a.mul(&product, &factor)?);
                }
                Ok(Some(product))
            }
            Expr::Div(a, b) => {
                let (a, b) = (known!(self.value(a)?), known!(self.value(b)?));
                self.a.div(&a, &b)
            }
            Expr::Degree(x) => {
                let x = known!(self.value(x)?);
                let pi = known!(self.a.pi()?);
                let half_turn = known!(self.a.int(180)?);
                let turned = known!(self.a.mul(&x, &pi)?);
                self.a.div(&turned, &half_turn)
            }
            Expr::Percent(x) => {
                let x = known!(self.value(x)?);
                let hundred = known!(self.a.int(100)?);
                self.a.div(&x, &hundred)
            }
            Expr::Pow(base, exponent) => self.power(base, exponent),
            Expr::Root(x, degree) => {
                let degree = known!(self.rational(degree)?);
                if degree.is_zero() {
                    return Ok(None);
                }
                let x = known!(self.value(x)?);
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
                let exponent = known!(self.a.rational(&exponent)?);
                return self.a.exp(&exponent);
            }
            let base = known!(self.value(base)?);
            return self.rational_power(&base, &exponent);
        }
        let exponent = known!(self.value(exponent)?);
        if *base == Expr::E {
            return self.a.exp(&exponent);
        }
        let base = known!(self.value(base)?);
        let ln = known!(self.a.ln(&base)?);
        let product = known!(self.a.mul(&ln, &exponent)?);
        self.a.exp(&product)
    }

    /// Integer powers by multiplication, real odd roots of negative reals, else the principal one.
    fn rational_power(&mut self, base: &Complex, exponent: &RBig) -> Maybe<Complex> {
        if let Some(n) = small(exponent) {
            return if n.abs() <= 100_000 {
                self.a.powi(base, n)
            } else {
                Ok(None)
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
        let ln = known!(self.a.ln(&size)?);
        let exponent_value = known!(self.a.rational(exponent)?);
        let product = known!(self.a.mul(&ln, &exponent_value)?);
        let power = known!(self.a.exp(&product)?);
        let odd_power = dashu::base::BitTest::bit(&exponent.numerator().clone().abs(), 0);
        Ok(Some(if odd_root && odd_power {
            self.a.neg(power)
        } else {
            power
        }))
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
                _ => Ok(None),
            };
        }
        let x = known!(self.value(&arguments[0])?);
        match func {
            Sin => Ok(self.a.sin_cos(&x)?.map(|(sin, _)| sin)),
            Cos => Ok(self.a.sin_cos(&x)?.map(|(_, cos)| cos)),
            Tan | Cot => {
                let (sin, cos) = known!(self.a.sin_cos(&x)?);
                if func == Tan {
                    self.a.div(&sin, &cos)
                } else {
                    self.a.div(&cos, &sin)
                }
            }
            Sec | Csc => {
                let (sin, cos) = known!(self.a.sin_cos(&x)?);
                self.a.invert(if func == Sec { &cos } else { &sin })
            }
            Exp => self.a.exp(&x),
            Ln => self.a.ln(&x),
            Log => {
                let y = known!(self.value(&arguments[1])?);
                let (base, value) = (known!(self.a.ln(&x)?), known!(self.a.ln(&y)?));
                self.a.div(&value, &base)
            }
            Abs => self.a.abs(&x),
            Re => Ok(Some(Complex {
                im: dashu::float::FBig::ZERO,
                ..x
            })),
            Im => Ok(Some(Complex {
                re: x.im,
                im: dashu::float::FBig::ZERO,
                ..x
            })),
            Arg => {
                let ln = known!(self.a.ln(&x)?);
                Ok(Some(Complex {
                    re: ln.im,
                    im: dashu::float::FBig::ZERO,
                    error: ln.error,
                    least: ln.least,
                }))
            }
            Sinh | Cosh | Tanh => self.hyperbolic(func, &x),
            Asin | Acos | Atan | Acot | Asinh | Acosh | Atanh => self.inverse(func, &x),
            Factorial | Binomial | Gcd | Lcm | Floor | Ceil | Max | Min | Sign => Ok(None),
        }
    }

    fn hyperbolic(&mut self, func: Func, x: &Complex) -> Maybe<Complex> {
        let up = known!(self.a.exp(x)?);
        let down = known!(self.a.invert(&up)?);
        let two = known!(self.a.int(2)?);
        let sum = known!(self.a.add(&up, &down)?);
        let difference = known!(self.a.sub(&up, &down)?);
        match func {
            Func::Sinh => self.a.div(&difference, &two),
            Func::Cosh => self.a.div(&sum, &two),
            _ => self.a.div(&difference, &sum),
        }
    }

    /// Inverse functions by their logarithms (Abramowitz and Stegun, 4.4.26 to 4.6.22).
    fn inverse(&mut self, func: Func, x: &Complex) -> Maybe<Complex> {
        let one = known!(self.a.int(1)?);
        let i = known!(self.a.i()?);
        match func {
            Func::Asin | Func::Acos => {
                let square = known!(self.a.mul(x, x)?);
                let rest = known!(self.a.sub(&one, &square)?);
                // At ±1 the root is 0 and its error bound is not.
                let root = match self.a.sqrt(&rest)? {
                    Some(root) => root,
                    None => known!(self.a.int(0)?),
                };
                let ix = known!(self.a.mul(&i, x)?);
                let sum = known!(self.a.add(&ix, &root)?);
                let ln = known!(self.a.ln(&sum)?);
                let turned = known!(self.a.mul(&i, &ln)?);
                let asin = self.a.neg(turned);
                if func == Func::Asin {
                    return Ok(Some(asin));
                }
                let pi = known!(self.a.pi()?);
                let two = known!(self.a.int(2)?);
                let right = known!(self.a.div(&pi, &two)?);
                self.a.sub(&right, &asin)
            }
            Func::Atan | Func::Acot => {
                let x = if func == Func::Acot {
                    known!(self.a.invert(x)?)
                } else {
                    x.clone()
                };
                if x.is_exactly_real() {
                    return self.a.atan(&x);
                }
                let ix = known!(self.a.mul(&i, &x)?);
                let (minus, plus) = (
                    known!(self.a.sub(&one, &ix)?),
                    known!(self.a.add(&one, &ix)?),
                );
                let (minus, plus) = (known!(self.a.ln(&minus)?), known!(self.a.ln(&plus)?));
                let difference = known!(self.a.sub(&minus, &plus)?);
                let two = known!(self.a.int(2)?);
                let half_i = known!(self.a.div(&i, &two)?);
                self.a.mul(&half_i, &difference)
            }
            Func::Asinh | Func::Acosh => {
                let square = known!(self.a.mul(x, x)?);
                let inner = if func == Func::Asinh {
                    known!(self.a.add(&square, &one)?)
                } else {
                    known!(self.a.sub(&square, &one)?)
                };
                let root = known!(self.a.sqrt(&inner)?);
                let sum = known!(self.a.add(x, &root)?);
                self.a.ln(&sum)
            }
            _ => {
                let (plus, minus) = (known!(self.a.add(&one, x)?), known!(self.a.sub(&one, x)?));
                let quotient = known!(self.a.div(&plus, &minus)?);
                let ln = known!(self.a.ln(&quotient)?);
                let two = known!(self.a.int(2)?);
                self.a.div(&ln, &two)
            }
        }
    }

    fn extreme(&mut self, func: Func, arguments: &[Expr]) -> Maybe<Complex> {
        let mut best = known!(self.value(&arguments[0])?);
        for argument in &arguments[1..] {
            let value = known!(self.value(argument)?);
            let difference = known!(self.a.sub(&value, &best)?);
            if !difference.is_real() {
                return Ok(None);
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
        Ok(Some(best))
    }

    fn rounded(&mut self, func: Func, argument: &Expr) -> Maybe<Complex> {
        let x = known!(self.value(argument)?);
        if !x.is_real() || x.magnitude() > 100.0 {
            return Ok(None);
        }
        let floor = RBig::from(x.re.floor().to_int().value());
        if x.is_exact() {
            let is_step_up = func == Func::Ceil && x.re.floor() != x.re;
            return self
                .a
                .rational(&if is_step_up { floor + RBig::ONE } else { floor });
        }
        let (low, high) = (
            known!(self.a.rational(&floor)?),
            known!(self.a.rational(&(floor.clone() + RBig::ONE))?),
        );
        for side in [&low, &high] {
            if known!(self.a.sub(&x, side)?).may_be_zero() {
                return Ok(None);
            }
        }
        Ok(Some(if func == Func::Floor { low } else { high }))
    }

    /// A polynomial in each argument stands for a function without a definition, so that `f(x)`
    /// equals `f(y)` where x equals y, and nothing else by accident.
    fn apply(&mut self, name: &str, arguments: &[Expr]) -> Maybe<Complex> {
        let mut sum = known!(self.a.int((hash(name, 99) % 1000) as i64 + 7)?);
        for (k, argument) in arguments.iter().enumerate() {
            let x = known!(self.value(argument)?);
            let mut power = x.clone();
            for degree in 1..=3 {
                let salt = 100 + 10 * k as u64 + degree;
                let coefficient = known!(self.a.int((hash(name, salt) % 1000) as i64 + 3)?);
                let term = known!(self.a.mul(&coefficient, &power)?);
                sum = known!(self.a.add(&sum, &term)?);
                power = known!(self.a.mul(&power, &x)?);
            }
        }
        Ok(Some(sum))
    }
}
