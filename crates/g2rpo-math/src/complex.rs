//! Complex numbers of a given precision, each with a bound on its error.

use dashu::base::{Approximation, Sign};
use dashu::float::round::mode::HalfEven;
use dashu::float::{Context, FBig, FpError};
use dashu::rational::RBig;

use crate::fuel::{Fuel, Halt, Maybe, Stop};

use Halt::NoValue;

type Real = FBig<HalfEven, 2>;
type Rounded = dashu::float::round::Rounded<Real>;

/// A complex number that knows how wrong it may be.
#[derive(Debug, Clone)]
pub(crate) struct Complex {
    pub(crate) re: Real,
    pub(crate) im: Real,
    /// Base-2 logarithm of a bound on the absolute error; −∞ for exact values.
    pub(crate) error: f64,
    /// Base-2 logarithm of the smallest part that the value was added from, as it counts in the value: an
    /// error above it hides that part. ∞ for an exact 0.
    pub(crate) least: f64,
}

/// Complex arithmetic of a given precision with error bounds that grow as errors do.
///
/// An operation answers `NoValue` where its value is undefined, out of range, or hidden by the
/// error. Bounds are first-order with slack; what follows compares values only when the bound is
/// far below the value.
#[derive(Debug)]
pub(crate) struct Arithmetic<'a> {
    context: Context<HalfEven>,
    bits: f64,
    cost: u64,
    fuel: &'a mut Fuel,
}

/// Exponents of two beyond this make a result out of range.
const MAX_EXPONENT: f64 = 65_536.0;

/// The base-2 logarithm of a bound on |x|; −∞ for 0.
fn magnitude(x: &Real) -> f64 {
    if x.repr().significand().is_zero() {
        f64::NEG_INFINITY
    } else {
        x.repr().exponent() as f64 + x.repr().digits() as f64
    }
}

/// The base-2 logarithm of 2^a + 2^b.
fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2
    }
}

fn is_zero(x: &Real) -> bool {
    x.repr().significand().is_zero()
}

fn is_negative(x: &Real) -> bool {
    x.repr().sign() == Sign::Negative && !is_zero(x)
}

/// The smallest part of a product. What multiplies a factor that may be 0 cannot be seen in it.
fn product_least(a: &Complex, b: &Complex) -> f64 {
    let part = |of: &Complex, by: &Complex| {
        if by.may_be_zero() {
            f64::INFINITY
        } else {
            of.least + by.magnitude()
        }
    };
    match (a.may_be_zero(), b.may_be_zero()) {
        (true, true) => a.least + b.least,
        (true, false) => part(a, b),
        (false, true) => part(b, a),
        (false, false) => part(a, b).min(part(b, a)),
    }
}

impl Complex {
    /// The base-2 logarithm of a bound on the absolute value.
    pub(crate) fn magnitude(&self) -> f64 {
        magnitude(&self.re).max(magnitude(&self.im)) + 0.5
    }

    /// Whether the value cannot be told from 0.
    pub(crate) fn may_be_zero(&self) -> bool {
        self.magnitude() <= self.error + 2.0
    }

    /// Its size, or that of its error where rounding left nothing.
    fn size(&self) -> f64 {
        self.magnitude().max(self.error)
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.error == f64::NEG_INFINITY
    }

    pub(crate) fn is_exactly_real(&self) -> bool {
        is_zero(&self.im)
    }

    pub(crate) fn is_real(&self) -> bool {
        is_zero(&self.im) || magnitude(&self.im) <= self.error + 1.0
    }

    pub(crate) fn is_negative_real(&self) -> bool {
        self.is_real() && is_negative(&self.re)
    }

    /// −1 or 1 for a real number that can be told from 0.
    pub(crate) fn sign(&self) -> Option<i32> {
        let is_told = self.is_real() && !self.may_be_zero();
        is_told.then(|| if self.is_negative_real() { -1 } else { 1 })
    }

    pub(crate) fn real_part(self) -> Self {
        let im = Real::ZERO;
        Self { im, ..self }
    }

    pub(crate) fn imaginary_part(self) -> Self {
        let (re, im) = (self.im, Real::ZERO);
        Self { re, im, ..self }
    }

    fn is_exact_zero(&self) -> bool {
        self.is_exact() && is_zero(&self.re) && is_zero(&self.im)
    }

    /// A part that cannot be told from 0 is 0: whoever asks stands on a branch cut.
    fn snapped(mut self) -> Self {
        if magnitude(&self.im) <= self.error + 1.0 {
            self.im = Real::ZERO;
        }
        self
    }
}

impl<'a> Arithmetic<'a> {
    pub(crate) fn new(bits: usize, fuel: &'a mut Fuel) -> Self {
        Self {
            context: Context::new(bits),
            bits: bits as f64,
            cost: 1 + bits as u64 / 128,
            fuel,
        }
    }

    pub(crate) const fn fuel(&mut self) -> &mut Fuel {
        self.fuel
    }

    const fn spend(&mut self, operations: u64) -> Result<(), Stop> {
        self.fuel.spend(operations * self.cost)
    }

    fn done(&self, re: Real, im: Real, error: f64, least: f64) -> Maybe<Complex> {
        let finite = re.repr().is_finite() && im.repr().is_finite();
        let value = Complex {
            re,
            im,
            error,
            least,
        };
        if finite && value.magnitude() < MAX_EXPONENT && !error.is_nan() {
            Ok(value)
        } else {
            Err(NoValue)
        }
    }

    pub(crate) fn rational(&mut self, value: &RBig) -> Maybe<Complex> {
        self.spend(1)?;
        let float: Approximation<Real, _> = value.to_float(self.bits as usize);
        let bits = if matches!(float, Approximation::Exact(_)) {
            f64::INFINITY
        } else {
            self.bits
        };
        self.leaf(float.value(), bits)
    }

    /// A float is exact.
    pub(crate) fn float(&mut self, value: f64) -> Maybe<Complex> {
        self.spend(1)?;
        let re = Real::try_from(value).map_err(|_| NoValue)?;
        self.leaf(re, f64::INFINITY)
    }

    /// A real result of exact operands, with the rounding that was done.
    fn exactly(&self, result: Rounded, least: f64) -> Maybe<Complex> {
        let is_exact = matches!(result, Approximation::Exact(_));
        let re = result.value();
        let error = if is_exact {
            f64::NEG_INFINITY
        } else {
            magnitude(&re) - self.bits + 1.0
        };
        let least = if is_zero(&re) && least.is_nan() {
            f64::INFINITY
        } else {
            least
        };
        self.done(re, Real::ZERO, error, least)
    }

    /// A number that was added from nothing else, right to so many bits.
    fn leaf(&self, re: Real, bits: f64) -> Maybe<Complex> {
        let size = magnitude(&re);
        let least = if is_zero(&re) { f64::INFINITY } else { size };
        self.done(re, Real::ZERO, size - bits, least)
    }

    pub(crate) fn int(&mut self, value: i64) -> Maybe<Complex> {
        self.rational(&RBig::from(value))
    }

    pub(crate) fn i(&mut self) -> Maybe<Complex> {
        Ok(Complex {
            re: Real::ZERO,
            im: Real::ONE.with_precision(self.bits as usize).value(),
            error: f64::NEG_INFINITY,
            least: 0.0,
        })
    }

    pub(crate) fn pi(&mut self) -> Maybe<Complex> {
        self.spend(5)?;
        let pi: Real = self.context.pi(None).value();
        self.done(pi, Real::ZERO, 2.0 - self.bits, 1.0)
    }

    pub(crate) fn neg(&self, a: Complex) -> Complex {
        Complex {
            re: -a.re,
            im: -a.im,
            error: a.error,
            least: a.least,
        }
    }

    pub(crate) fn add(&mut self, a: &Complex, b: &Complex) -> Maybe<Complex> {
        self.spend(1)?;
        if a.is_exact() && b.is_exact() && is_zero(&a.im) && is_zero(&b.im) {
            let sum = self.context.add(a.re.repr(), b.re.repr())?;
            return self.exactly(sum, a.least.min(b.least));
        }
        let re = self.plus(&a.re, &b.re)?;
        let im = self.plus(&a.im, &b.im)?;
        let rounding = magnitude(&re).max(magnitude(&im)) - self.bits + 1.0;
        let error = log_add(log_add(a.error, b.error), rounding);
        self.done(re, im, error, a.least.min(b.least))
    }

    pub(crate) fn sub(&mut self, a: &Complex, b: &Complex) -> Maybe<Complex> {
        let b = self.neg(b.clone());
        self.add(a, &b)
    }

    pub(crate) fn mul(&mut self, a: &Complex, b: &Complex) -> Maybe<Complex> {
        self.spend(1)?;
        if a.is_exact() && b.is_exact() && is_zero(&a.im) && is_zero(&b.im) {
            let least = (a.least + b.magnitude()).min(b.least + a.magnitude());
            return self.exactly(self.context.mul(a.re.repr(), b.re.repr())?, least);
        }
        let (re, im) = if is_zero(&a.im) && is_zero(&b.im) {
            (self.times(&a.re, &b.re)?, Real::ZERO)
        } else {
            let (ac, bd) = (self.times(&a.re, &b.re)?, self.times(&a.im, &b.im)?);
            let (ad, bc) = (self.times(&a.re, &b.im)?, self.times(&a.im, &b.re)?);
            (self.plus(&ac, &-bd)?, self.plus(&ad, &bc)?)
        };
        let (ma, mb) = (a.magnitude(), b.magnitude());
        let inherited = log_add(log_add(ma + b.error, mb + a.error), a.error + b.error);
        let error = log_add(inherited, ma + mb - self.bits + 2.0);
        self.done(re, im, error, product_least(a, b))
    }

    pub(crate) fn invert(&mut self, a: &Complex) -> Maybe<Complex> {
        self.spend(2)?;
        if a.may_be_zero() {
            return Err(NoValue);
        }
        let (re, im) = if is_zero(&a.im) {
            (self.over(&Real::ONE, &a.re)?, Real::ZERO)
        } else {
            let norm = self.norm(a)?;
            (self.over(&a.re, &norm)?, self.over(&-a.im.clone(), &norm)?)
        };
        let m = a.magnitude();
        let error = log_add(a.error - 2.0 * m + 5.0, -m - self.bits + 5.0);
        self.done(re, im, error, a.least - 2.0 * m)
    }

    pub(crate) fn div(&mut self, a: &Complex, b: &Complex) -> Maybe<Complex> {
        let inverse = self.invert(b)?;
        self.mul(a, &inverse)
    }

    /// Integer power by repeated squaring.
    pub(crate) fn powi(&mut self, a: &Complex, n: i64) -> Maybe<Complex> {
        let mut base = if n < 0 { self.invert(a)? } else { a.clone() };
        let mut result = self.int(1)?;
        let mut n = n.unsigned_abs();
        while n > 0 {
            if n & 1 == 1 {
                result = self.mul(&result, &base)?;
            }
            n >>= 1;
            if n > 0 {
                base = self.mul(&base, &base)?;
            }
        }
        Ok(result)
    }

    pub(crate) fn sqrt(&mut self, a: &Complex) -> Maybe<Complex> {
        self.spend(4)?;
        if a.may_be_zero() {
            return if a.is_exact_zero() {
                Ok(a.clone())
            } else {
                Err(NoValue)
            };
        }
        let a = a.clone().snapped();
        let m = a.magnitude();
        let error = log_add(a.error - m / 2.0 + 2.0, m / 2.0 - self.bits + 3.0);
        let least = a.least - m / 2.0;
        if is_zero(&a.im) {
            let negative = is_negative(&a.re);
            let size = if negative { -a.re } else { a.re };
            let root = self.context.sqrt(size.repr())?.value();
            return if negative {
                self.done(Real::ZERO, root, error, least)
            } else {
                self.done(root, Real::ZERO, error, least)
            };
        }
        // sqrt(z) = exp(ln z / 2) keeps one branch rule for all roots.
        let ln = self.ln(&a)?;
        let half = self.rational(&RBig::from_parts(1.into(), 2u8.into()))?;
        let exponent = self.mul(&ln, &half)?;
        self.exp(&exponent)
    }

    /// The principal logarithm, with its cut along the negative reals.
    pub(crate) fn ln(&mut self, a: &Complex) -> Maybe<Complex> {
        self.spend(40)?;
        if a.is_exact() && a.is_exactly_real() && a.re == Real::ONE {
            return self.int(0);
        }
        if a.may_be_zero() {
            return Err(NoValue);
        }
        let a = a.clone().snapped();
        let inherited = a.error - a.magnitude() + 3.0;
        let (re, im) = if is_zero(&a.im) && !is_negative(&a.re) {
            (self.context.ln(a.re.repr(), None)?.value(), Real::ZERO)
        } else {
            self.spend(240)?;
            let norm = self.norm(&a)?;
            let ln = self.context.ln(norm.repr(), None)?.value();
            let angle = self.context.atan2(a.im.repr(), a.re.repr(), None)?;
            (ln >> 1, angle.value())
        };
        let rounding = magnitude(&re).max(2.0) - self.bits + 3.0;
        let least = a.least - a.magnitude();
        self.done(re, im, log_add(inherited, rounding), least)
    }

    pub(crate) fn exp(&mut self, a: &Complex) -> Maybe<Complex> {
        self.spend(if is_zero(&a.im) { 15 } else { 50 })?;
        if a.is_exact_zero() {
            return self.int(1);
        }
        if a.magnitude() > 15.0 {
            return Err(NoValue);
        }
        let size = self.context.exp(a.re.repr(), None)?.value();
        let (re, im) = if is_zero(&a.im) {
            (size, Real::ZERO)
        } else {
            let (sin, cos) = self.context.sin_cos(a.im.repr(), None);
            (
                self.times(&size, &cos?.value())?,
                self.times(&size, &sin?.value())?,
            )
        };
        let m = magnitude(&re).max(magnitude(&im));
        let error = m + log_add(a.error, a.magnitude().max(0.0) - self.bits) + 3.0;
        self.done(re, im, error, m + a.least.min(0.0))
    }

    /// The arc tangent of a real number.
    pub(crate) fn atan(&mut self, a: &Complex) -> Maybe<Complex> {
        self.spend(60)?;
        if a.is_exact_zero() {
            return Ok(a.clone());
        }
        let one = Real::ONE;
        let angle = self.context.atan2(a.re.repr(), one.repr(), None)?;
        let error = log_add(a.error, 2.0 - self.bits);
        let least = a.least - 2.0 * a.size().max(0.0);
        self.done(angle.value(), Real::ZERO, error, least)
    }

    /// Sine and cosine.
    pub(crate) fn sin_cos(&mut self, a: &Complex) -> Maybe<(Complex, Complex)> {
        self.spend(35)?;
        if a.is_exact_zero() {
            return Ok((a.clone(), self.int(1)?));
        }
        if a.magnitude() > 40.0 {
            return Err(NoValue);
        }
        if is_zero(&a.im) {
            let (sin, cos) = self.context.sin_cos(a.re.repr(), None);
            let (sin, cos) = (sin?.value(), cos?.value());
            let (error, least) = (log_add(a.error, 2.0 - self.bits), a.least.min(0.0));
            let sin = self.done(sin, Real::ZERO, error, least)?;
            return Ok((sin, self.done(cos, Real::ZERO, error, least)?));
        }
        let i = self.i()?;
        let ia = self.mul(&i, a)?;
        let up = self.exp(&ia)?;
        let down = self.invert(&up)?;
        let two = self.int(2)?;
        let sum = self.add(&up, &down)?;
        let difference = self.sub(&up, &down)?;
        let two_i = self.mul(&two, &i)?;
        Ok((self.div(&difference, &two_i)?, self.div(&sum, &two)?))
    }

    /// |a| as a real number.
    pub(crate) fn abs(&mut self, a: &Complex) -> Maybe<Complex> {
        self.spend(2)?;
        if a.is_exactly_real() {
            let is_below = is_negative(&a.re);
            let a = a.clone();
            return Ok(if is_below { self.neg(a) } else { a });
        }
        let norm = self.norm(a)?;
        let re = self.context.sqrt(norm.repr())?.value();
        let error = log_add(a.error + 1.0, a.magnitude() - self.bits + 3.0);
        self.done(re, Real::ZERO, error, a.least)
    }

    /// The square of the absolute value.
    fn norm(&self, a: &Complex) -> Maybe<Real> {
        self.plus(&self.times(&a.re, &a.re)?, &self.times(&a.im, &a.im)?)
    }

    fn plus(&self, a: &Real, b: &Real) -> Maybe<Real> {
        Ok(self.context.add(a.repr(), b.repr())?.value())
    }

    fn times(&self, a: &Real, b: &Real) -> Maybe<Real> {
        Ok(self.context.mul(a.repr(), b.repr())?.value())
    }

    fn over(&self, a: &Real, b: &Real) -> Maybe<Real> {
        if is_zero(b) {
            return Err(NoValue);
        }
        Ok(self.context.div(a.repr(), b.repr())?.value())
    }
}

impl From<FpError> for Halt {
    fn from(_: FpError) -> Self {
        NoValue
    }
}
