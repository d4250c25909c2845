//! Exact values over the rationals.

use dashu::base::{Abs, BitTest, Gcd, Signed};
use dashu::integer::{IBig, UBig};
use dashu::rational::RBig;

use crate::expr::{Expr, Func};
use crate::fuel::{Fuel, Halt, Maybe, Stop, known};

use Halt::NoValue;

/// Numerators and denominators may have this many bits; longer values stay symbolic.
const MAX_BITS: usize = 1 << 16;

/// The exact value of an expression over the rationals.
///
/// `Ok(None)` when it has none: it holds a variable that `value_of` does not know, is irrational,
/// undefined, or too long to write down. No number longer than 64 Ki bits is ever built, so an
/// exponent costs nothing by being large.
pub(crate) fn exact(
    e: &Expr,
    value_of: &dyn Fn(&str) -> Option<RBig>,
    fuel: &mut Fuel,
) -> Result<Option<RBig>, Stop> {
    known(Evaluator { value_of, fuel }.value(e))
}

/// [`exact`] without variables.
pub(crate) fn constant(e: &Expr, fuel: &mut Fuel) -> Result<Option<RBig>, Stop> {
    match e.literal() {
        Some(value) => Ok(Some(value.clone())),
        None => exact(e, &|_| None, fuel),
    }
}

pub(crate) fn bits(value: &RBig) -> usize {
    value.numerator().bit_len() + value.denominator().bit_len()
}

/// The value as a small integer, if it is one.
pub(crate) fn small(value: &RBig) -> Option<i64> {
    if value.is_int() {
        i64::try_from(value.numerator()).ok()
    } else {
        None
    }
}

struct Evaluator<'a> {
    value_of: &'a dyn Fn(&str) -> Option<RBig>,
    fuel: &'a mut Fuel,
}

impl Evaluator<'_> {
    /// Charges for an operation on values of this length; refuses results that are too long.
    fn charge(&mut self, value_bits: usize) -> Maybe<()> {
        let words = value_bits as u64 / 64;
        self.fuel.spend(1 + words * words / 1024)?;
        is_short(value_bits)
    }

    /// Charges for the `step`-th multiplication by a small number: four take a unit.
    fn charge_linear(&mut self, step: i64, value_bits: usize) -> Maybe<()> {
        if step % 4 == 0 {
            self.fuel.spend(1 + value_bits as u64 / 8192)?;
        }
        is_short(value_bits)
    }

    fn value(&mut self, e: &Expr) -> Maybe<RBig> {
        self.fuel.spend(1)?;
        Ok(match e {
            Expr::Num(value) => value.clone(),
            Expr::Decimal(d) => d.value.clone(),
            Expr::Sym(name) => (self.value_of)(name).ok_or(NoValue)?,
            Expr::Neg(x) => -self.value(x)?,
            Expr::Percent(x) => self.value(x)? / RBig::from(100),
            Expr::Add(terms) => {
                let mut sum = RBig::ZERO;
                for term in terms {
                    let term = self.value(term)?;
                    self.charge(bits(&sum) + bits(&term))?;
                    sum += term;
                }
                sum
            }
            Expr::Mul(factors) => {
                let mut product = RBig::ONE;
                for factor in factors {
                    let factor = self.value(factor)?;
                    self.charge(bits(&product) + bits(&factor))?;
                    product *= factor;
                }
                product
            }
            Expr::Div(a, b) => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                if b.is_zero() {
                    return Err(NoValue);
                }
                self.charge(bits(&a) + bits(&b))?;
                a / b
            }
            Expr::Pow(base, exponent) => {
                let (base, exponent) = (self.value(base)?, self.value(exponent)?);
                return self.power(base, &exponent);
            }
            Expr::Root(radicand, degree) => {
                let (x, n) = (self.value(radicand)?, self.value(degree)?);
                return self.root(x, &n);
            }
            Expr::Call(func, arguments) => {
                let values = arguments.iter().map(|argument| self.value(argument));
                let values = values.collect::<Maybe<Vec<_>>>()?;
                return self.call(*func, &values);
            }
            Expr::Pi
            | Expr::E
            | Expr::I
            | Expr::Infinity(_)
            | Expr::Apply(..)
            | Expr::Degree(_) => return Err(NoValue),
        })
    }

    fn power(&mut self, base: RBig, exponent: &RBig) -> Maybe<RBig> {
        if base == RBig::ONE {
            return Ok(base);
        }
        if !exponent.is_int() {
            // a^(p/q) is the q-th root of a^p where that is rational; real for odd q.
            let degree = RBig::from(IBig::from(exponent.denominator().clone()));
            let root = self.root(base, &degree)?;
            let above = RBig::from(exponent.numerator().clone());
            return self.power(root, &above);
        }
        let is_negative = exponent.is_negative();
        if base.is_zero() {
            // 0^0 is 1, as in combinatorics; 0^-1 is undefined.
            let value = if exponent.is_zero() { RBig::ONE } else { base };
            return if is_negative { Err(NoValue) } else { Ok(value) };
        }
        if base == RBig::NEG_ONE {
            let odd = exponent.numerator().bit(0);
            return Ok(if odd { base } else { RBig::ONE });
        }
        let n = isize::try_from(magnitude(exponent)?).map_err(|_| NoValue)?;
        let length = bits(&base).saturating_mul(n.unsigned_abs());
        if length > 2 * MAX_BITS {
            return Err(NoValue);
        }
        self.charge(length)?;
        let power = base.pow(n);
        Ok(if is_negative {
            RBig::ONE / power
        } else {
            power
        })
    }

    /// The real root where it is rational.
    fn root(&mut self, x: RBig, degree: &RBig) -> Maybe<RBig> {
        let n = small(degree)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or(NoValue)?;
        if n == 0 || n > 1000 || (x.is_negative() && n % 2 == 0) {
            return Err(NoValue);
        }
        self.charge(bits(&x))?;
        let negative = x.is_negative();
        let (above, below) = (magnitude(&x)?, x.denominator().clone());
        let exact_root = |value: &UBig| {
            let root = value.nth_root(n);
            if root.pow(n) == *value {
                Ok(root)
            } else {
                Err(NoValue)
            }
        };
        let (a, b) = (exact_root(&above)?, exact_root(&below)?);
        let root = RBig::from_parts(IBig::from(a), b);
        Ok(if negative { -root } else { root })
    }

    fn call(&mut self, func: Func, v: &[RBig]) -> Maybe<RBig> {
        let first = v.first().ok_or(NoValue)?;
        Ok(match func {
            Func::Abs => first.clone().abs(),
            Func::Floor => RBig::from(first.floor()),
            Func::Ceil => RBig::from(first.ceil()),
            Func::Re => first.clone(),
            Func::Im => RBig::ZERO,
            Func::Sign => RBig::from(match first {
                x if x.is_zero() => 0,
                x if x.is_negative() => -1,
                _ => 1,
            }),
            Func::Max => v.iter().max().ok_or(NoValue)?.clone(),
            Func::Min => v.iter().min().ok_or(NoValue)?.clone(),
            Func::Factorial => return self.factorial(first),
            Func::Binomial => return self.binomial(first, &v[1]),
            Func::Gcd | Func::Lcm => {
                let mut all = UBig::ZERO;
                for value in v {
                    if !value.is_int() {
                        return Err(NoValue);
                    }
                    self.charge(bits(value) + all.bit_len())?;
                    let value = magnitude(value)?;
                    all = if all.is_zero() {
                        value
                    } else if value.is_zero() {
                        all
                    } else if func == Func::Gcd {
                        all.gcd(&value)
                    } else {
                        let gcd = (&all).gcd(&value);
                        all * value / gcd
                    };
                }
                RBig::from(IBig::from(all))
            }
            Func::Log => return self.log(first, &v[1]),
            Func::Exp | Func::Cos | Func::Cosh if first.is_zero() => RBig::ONE,
            Func::Sin | Func::Tan | Func::Sinh | Func::Asin | Func::Atan if first.is_zero() => {
                RBig::ZERO
            }
            Func::Ln if *first == RBig::ONE => RBig::ZERO,
            _ => return Err(NoValue),
        })
    }

    /// The exponent n with base^n = x where that is a small integer.
    fn log(&mut self, base: &RBig, x: &RBig) -> Maybe<RBig> {
        if *base <= RBig::ZERO || *base == RBig::ONE || *x <= RBig::ZERO {
            return Err(NoValue);
        }
        if *x == RBig::ONE {
            return Ok(RBig::ZERO);
        }
        let limit = bits(x) / bits(base).saturating_sub(1).max(1) + 1;
        let mut power = RBig::ONE;
        for n in 1..=limit.min(4096) {
            self.charge(bits(&power) + bits(base))?;
            power *= base;
            if power == *x {
                return Ok(RBig::from(n));
            }
            if (RBig::ONE / &power) == *x {
                return Ok(-RBig::from(n));
            }
        }
        Err(NoValue)
    }

    fn factorial(&mut self, n: &RBig) -> Maybe<RBig> {
        let n = small(n).filter(|n| (0..=6000).contains(n)).ok_or(NoValue)?;
        let mut product = IBig::ONE;
        for k in 2..=n {
            self.charge_linear(k, product.bit_len())?;
            product *= k;
        }
        Ok(RBig::from(product))
    }

    fn binomial(&mut self, n: &RBig, k: &RBig) -> Maybe<RBig> {
        let (n, k) = (small(n).ok_or(NoValue)?, small(k).ok_or(NoValue)?);
        if n < 0 {
            return Err(NoValue);
        }
        if k < 0 || k > n {
            return Ok(RBig::ZERO);
        }
        let k = k.min(n - k);
        if k > 6000 {
            return Err(NoValue);
        }
        let mut product = IBig::ONE;
        for j in 0..k {
            // Each step multiplies and divides.
            self.charge_linear(4 * j, product.bit_len())?;
            product = product * (n - j) / (j + 1);
        }
        Ok(RBig::from(product))
    }
}

/// Longer values are not built.
fn is_short(value_bits: usize) -> Maybe<()> {
    if value_bits <= MAX_BITS {
        Ok(())
    } else {
        Err(NoValue)
    }
}

/// The size of the numerator.
pub(crate) fn magnitude(value: &RBig) -> Maybe<UBig> {
    UBig::try_from(value.numerator().clone().abs()).map_err(|_| NoValue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;
    use crate::parse::{Commas, parse};

    fn value(text: &str) -> Option<String> {
        let mut fuel = Fuel::new(100_000);
        let Ok(Form::Scalar(e)) = parse(text, Commas::Thousands, &mut fuel) else {
            return None;
        };
        constant(&e, &mut fuel).ok()?.map(|v| v.to_string())
    }

    #[test]
    fn rational_arithmetic_is_exact() {
        for (text, want) in [
            ("\\frac{1}{3}+\\frac16", "1/2"),
            ("1\\frac45", "9/5"),
            ("-1 1/2", "-3/2"),
            ("0.1\\overline{6}", "1/6"),
            ("2^{-3}", "1/8"),
            ("8^{2/3}", "4"),
            ("\\sqrt{\\frac94}", "3/2"),
            ("\\sqrt[3]{-8}", "-2"),
            ("\\binom{10}{3}", "120"),
            ("5!", "120"),
            ("\\log_2 8", "3"),
            ("204_5", "54"),
            ("\\gcd(12, 18)", "6"),
            ("\\lfloor -3.5 \\rfloor", "-4"),
            ("1.5e3", "1500"),
            ("1,234,567", "1234567"),
            ("-2^2", "-4"),
            ("2^{3^2}", "512"),
        ] {
            assert_eq!(value(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_too_long_or_undefined_has_no_value() {
        for text in [
            "2^{100000}",
            "9^{9^{9^9}}",
            "1/0",
            "0^{-1}",
            "\\sqrt{2}",
            "x",
            "10000!",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
    }
}
