//! Residues of expressions modulo large primes, which decide identities of rational functions.

use dashu::base::Signed;
use dashu::integer::UBig;
use dashu::rational::RBig;

use crate::exact::{constant, magnitude, small};
use crate::expr::{Expr, Func};
use crate::fuel::{Fuel, Halt, Maybe, Stop, known};

use Halt::NoValue;

/// Primes below 2^61 that are 1 modulo 4, so that −1 has a square root in each field.
const PRIMES: [u64; 3] = [
    2_305_843_009_213_693_921,
    2_305_843_009_213_693_693,
    2_305_843_009_213_693_669,
];

/// How the values of an expression in the fields above compare with another's.
///
/// A polynomial identity over ℚ(i) survives every evaluation; by Schwartz and Zippel (J. ACM 27,
/// 1980) two different rational functions of degree d agree at a random point of a field with p
/// elements with a chance of at most d/p, here below 10⁻⁵⁰ over the three. π and e stand for
/// variables: no algebraic relation between them is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Residues([u64; 3]);

/// The residues of `e` at one of many points; nothing when it is not a rational function with integer exponents, or has
/// a pole at the point.
pub(crate) fn residues(e: &Expr, point: u64, fuel: &mut Fuel) -> Result<Option<Residues>, Stop> {
    let mut out = [0; 3];
    for (value, p) in out.iter_mut().zip(PRIMES) {
        let mut field = Field {
            p,
            point,
            fuel: &mut *fuel,
        };
        match known(field.value(e))? {
            Some(v) => *value = v,
            None => return Ok(None),
        }
    }
    Ok(Some(Residues(out)))
}

impl Residues {
    pub(crate) const fn is_zero(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0
    }

    /// Element-wise product.
    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut out = [0; 3];
        for (i, value) in out.iter_mut().enumerate() {
            *value = mul(self.0[i], other.0[i], PRIMES[i]);
        }
        Self(out)
    }
}

const fn mul(a: u64, b: u64, p: u64) -> u64 {
    (a as u128 * b as u128 % p as u128) as u64
}

fn pow(mut base: u64, mut exponent: u64, p: u64) -> u64 {
    let mut result = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = mul(result, base, p);
        }
        base = mul(base, base, p);
        exponent >>= 1;
    }
    result
}

struct Field<'a> {
    p: u64,
    point: u64,
    fuel: &'a mut Fuel,
}

impl Field<'_> {
    fn value(&mut self, e: &Expr) -> Maybe<u64> {
        self.fuel.spend(1)?;
        let p = self.p;
        Ok(match e {
            Expr::Num(value) => self.rational(value)?,
            Expr::Decimal(d) => self.rational(&d.value)?,
            Expr::Sym(name) => hash(name, p ^ self.point) % p,
            Expr::Pi => hash("\u{0}pi", p ^ self.point) % p,
            Expr::E => hash("\u{0}e", p ^ self.point) % p,
            Expr::I => self.square_root_of_minus_one(),
            Expr::Neg(x) => (p - self.value(x)?) % p,
            Expr::Degree(x) => {
                let by = self.invert(180)?;
                mul(
                    mul(self.value(x)?, by, p),
                    hash("\u{0}pi", p ^ self.point) % p,
                    p,
                )
            }
            Expr::Percent(x) => mul(self.value(x)?, self.invert(100)?, p),
            Expr::Add(terms) => {
                return (terms.iter()).try_fold(0, |sum, term| Ok((sum + self.value(term)?) % p));
            }
            Expr::Mul(factors) => {
                let times = |product, factor| Ok(mul(product, self.value(factor)?, p));
                return factors.iter().try_fold(1, times);
            }
            Expr::Div(a, b) => {
                let b = self.value(b)?;
                mul(self.value(a)?, self.invert(b)?, p)
            }
            Expr::Pow(base, exponent) => {
                let exponent = constant(exponent, self.fuel)?.ok_or(NoValue)?;
                if !exponent.is_int() {
                    let value = constant(e, self.fuel)?.ok_or(NoValue)?;
                    return self.rational(&value);
                }
                let base = self.value(base)?;
                self.fuel.spend(1)?;
                return self.power(base, &exponent);
            }
            Expr::Call(Func::Factorial, n) => {
                let n = constant(&n[0], self.fuel)?.ok_or(NoValue)?;
                let n = small(&n)
                    .filter(|n| (0..=20_000).contains(n))
                    .ok_or(NoValue)?;
                self.fuel.spend(n as u64 / 50)?;
                (2..=n as u64).fold(1, |product, k| mul(product, k, p))
            }
            Expr::Root(..) | Expr::Call(..) => {
                let value = constant(e, self.fuel)?.ok_or(NoValue)?;
                self.rational(&value)?
            }
            Expr::Infinity(_) | Expr::Apply(..) => return Err(NoValue),
        })
    }

    fn rational(&self, value: &RBig) -> Maybe<u64> {
        let p = UBig::from(self.p);
        let reduce = |n: &UBig| u64::try_from(n % &p).map_err(|_| NoValue);
        let above = reduce(&magnitude(value)?)?;
        let below = reduce(value.denominator())?;
        let magnitude = mul(above, self.invert(below)?, self.p);
        Ok(if value.is_negative() {
            (self.p - magnitude) % self.p
        } else {
            magnitude
        })
    }

    fn invert(&self, value: u64) -> Maybe<u64> {
        if value == 0 {
            return Err(NoValue);
        }
        Ok(pow(value, self.p - 2, self.p))
    }

    /// By Fermat the exponent only matters modulo p − 1, so its length does not.
    fn power(&self, base: u64, exponent: &RBig) -> Maybe<u64> {
        if base == 0 {
            let power = u64::from(exponent.is_zero());
            return if exponent.is_negative() {
                Err(NoValue)
            } else {
                Ok(power)
            };
        }
        let order = UBig::from(self.p - 1);
        let reduced = u64::try_from(magnitude(exponent)? % order).map_err(|_| NoValue)?;
        let power = pow(base, reduced, self.p);
        if exponent.is_negative() {
            self.invert(power)
        } else {
            Ok(power)
        }
    }

    fn square_root_of_minus_one(&self) -> u64 {
        // For a non-residue n, n^((p-1)/4) squares to −1; one of two numbers is a non-residue.
        (2..)
            .map(|n| pow(n, (self.p - 1) / 4, self.p))
            .find(|&r| mul(r, r, self.p) == self.p - 1)
            .unwrap_or(1)
    }
}

/// FNV-1a, mixed: the same name has the same value in every run.
pub(crate) fn hash(name: &str, salt: u64) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64 ^ salt;
    for b in name.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    }
    // The finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;
    use crate::parse::{Commas, parse};

    fn of(text: &str) -> Option<Residues> {
        let mut fuel = Fuel::new(1_000_000);
        match parse(text, Commas::Thousands, &mut fuel) {
            Ok(Form::Scalar(e)) => residues(&e, 0, &mut fuel).ok()?,
            _ => None,
        }
    }

    #[test]
    fn the_moduli_are_prime_and_have_a_root_of_minus_one() {
        for p in PRIMES {
            assert_eq!(p % 4, 1);
            // Miller and Rabin with the bases that decide every number below 2^64.
            let (mut d, mut r) = (p - 1, 0);
            while d % 2 == 0 {
                (d, r) = (d / 2, r + 1);
            }
            for a in [2u64, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37] {
                let mut x = pow(a, d, p);
                let mut witness = x != 1 && x != p - 1;
                for _ in 1..r {
                    x = mul(x, x, p);
                    witness &= x != p - 1;
                }
                assert!(!witness, "{p} is composite");
            }
        }
    }

    #[test]
    fn identities_hold_and_others_do_not() {
        for (a, b) in [
            ("(x+1)^2", "x^2+2x+1"),
            ("\\frac{x^2-1}{x-1}", "x+1"),
            ("i^2", "-1"),
            ("\\frac{1}{1+i}", "\\frac{1-i}{2}"),
            ("5^{100000}\\cdot 5", "5^{100001}"),
            ("2\\pi r", "r\\cdot\\pi\\cdot2"),
        ] {
            assert!(of(a).is_some() && of(a) == of(b), "{a} {b}");
        }
        for (a, b) in [
            ("5^{100000}", "5^{100000}+1"),
            ("x^2", "x^3"),
            ("\\pi", "e"),
            ("x_1", "x_2"),
            ("i", "-i"),
        ] {
            assert!(of(a).is_some() && of(a) != of(b), "{a} {b}");
        }
        assert_eq!(of("\\sqrt{x}"), None);
        assert_eq!(of("\\frac{1}{x-x}"), None);
    }
}
