//! Whether two expressions have the same value, or are proportional.

use dashu::base::Signed;
use dashu::integer::UBig;
use dashu::rational::RBig;

use crate::complex::Arithmetic;
use crate::exact::{constant, exact};
use crate::expr::{Decimal, Expr, Func};
use crate::fuel::{Fuel, Stop};
use crate::modular::residues;
use crate::numeric::{Point, evaluate};

/// What is known about two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equality {
    Equal,
    Different,
    /// Neither could be shown.
    Undecided,
}

impl Equality {
    const fn of(equal: bool) -> Self {
        if equal { Self::Equal } else { Self::Different }
    }
}

/// Bits of the numerical rungs: the second is for what the first leaves open.
const PRECISIONS: [usize; 2] = [192, 768];

/// Points at which expressions with variables are compared.
const POINTS: usize = 8;

/// Compares values: structure, exact rationals, residues modulo primes, then numbers with error
/// bounds. Equal means equal everywhere that was looked at; a small difference is a difference.
pub(crate) fn equal(a: &Expr, b: &Expr, fuel: &mut Fuel) -> Result<Equality, Stop> {
    fuel.spend(1)?;
    if a == b {
        return Ok(Equality::Equal);
    }
    let is_infinite = |e: &Expr| e.any(|e| matches!(e, Expr::Infinity(_)));
    if is_infinite(a) || is_infinite(b) {
        return Ok(Equality::Different);
    }
    if let (Some(x), Some(y)) = (constant(a, fuel)?, constant(b, fuel)?) {
        return Ok(Equality::of(x == y));
    }
    if let (Some(x), Some(y)) = (residues(a, 0, fuel)?, residues(b, 0, fuel)?) {
        return Ok(Equality::of(x == y));
    }
    let names = |e: &Expr| {
        e.symbols()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    if names(a).is_empty() && names(b).is_empty() {
        return at_point(a, b, Point::Generic(0), fuel);
    }
    let is_discrete = needs_naturals(a) || needs_naturals(b);
    let mut agreed = 0;
    for k in 0..POINTS {
        let point = if is_discrete {
            Point::Natural(k)
        } else {
            Point::Generic(k)
        };
        match at_point(a, b, point, fuel)? {
            Equality::Different => return Ok(Equality::Different),
            Equality::Equal => agreed += 1,
            Equality::Undecided => {}
        }
    }
    Ok(if agreed * 2 >= POINTS {
        Equality::Equal
    } else {
        Equality::Undecided
    })
}

/// Whether a variable stands where only natural numbers make sense.
fn needs_naturals(e: &Expr) -> bool {
    e.any(|e| match e {
        Expr::Call(
            Func::Factorial | Func::Binomial | Func::Gcd | Func::Lcm | Func::Floor | Func::Ceil,
            arguments,
        ) => arguments.iter().any(|a| !a.is_constant()),
        Expr::Pow(base, exponent) => {
            let negative = base.literal().is_some_and(RBig::is_negative);
            negative && !exponent.is_constant()
        }
        _ => false,
    })
}

fn at_point(a: &Expr, b: &Expr, point: Point, fuel: &mut Fuel) -> Result<Equality, Stop> {
    if let Point::Natural(_) = point {
        let value_of = |name: &str| point.natural(name);
        if let (Some(x), Some(y)) = (exact(a, &value_of, fuel)?, exact(b, &value_of, fuel)?) {
            return Ok(Equality::of(x == y));
        }
    }
    for bits in PRECISIONS {
        let mut arithmetic = Arithmetic::new(bits, fuel);
        let (x, y) = (
            evaluate(a, point, &mut arithmetic)?,
            evaluate(b, point, &mut arithmetic)?,
        );
        let (Some(x), Some(y)) = (x, y) else {
            continue;
        };
        let Some(difference) = arithmetic.sub(&x, &y)? else {
            continue;
        };
        if difference.magnitude() > difference.error + 3.0 {
            return Ok(Equality::Different);
        }
        // Twenty digits in common, relative to the values themselves.
        let scale = x.magnitude().max(y.magnitude());
        let relative = difference.error - scale;
        if relative < -66.0 && scale < 4096.0 {
            return Ok(Equality::Equal);
        }
        // Both are 0 as far as 768 bits can see.
        if bits == PRECISIONS[1] && x.may_be_zero() && y.may_be_zero() && difference.error < -300.0
        {
            return Ok(Equality::Equal);
        }
    }
    Ok(Equality::Undecided)
}

/// Whether `decimal` is what `value` rounds to at the printed number of places.
pub(crate) fn rounds_to(value: &Expr, decimal: &Decimal, fuel: &mut Fuel) -> Result<bool, Stop> {
    if !value.is_constant() {
        return Ok(false);
    }
    fuel.spend(1 + decimal.places as u64 / 64)?;
    let half_unit = RBig::from_parts(1.into(), UBig::from(10u8).pow(decimal.places) * 2u8);
    if let Some(value) = constant(value, fuel)? {
        let difference = value - &decimal.value;
        return Ok(-&half_unit <= difference && difference <= half_unit);
    }
    let mut arithmetic = Arithmetic::new(PRECISIONS[0], fuel);
    let Some(value) = evaluate(value, Point::Generic(0), &mut arithmetic)? else {
        return Ok(false);
    };
    let (Some(printed), Some(half_unit)) = (
        arithmetic.rational(&decimal.value)?,
        arithmetic.rational(&half_unit)?,
    ) else {
        return Ok(false);
    };
    let Some(difference) = arithmetic.sub(&value, &printed)? else {
        return Ok(false);
    };
    if !difference.is_real() {
        return Ok(false);
    }
    let Some(size) = arithmetic.abs(&difference)? else {
        return Ok(false);
    };
    let room = arithmetic.sub(&half_unit, &size)?;
    Ok(room.is_some_and(|room| !room.is_negative_real() && !room.may_be_zero()))
}

/// The sign of a constant real expression: −1, 0 or 1; nothing when it cannot be told.
pub(crate) fn sign(e: &Expr, fuel: &mut Fuel) -> Result<Option<i32>, Stop> {
    if let Some(value) = constant(e, fuel)? {
        return Ok(Some(match value {
            v if v.is_zero() => 0,
            v if v.is_negative() => -1,
            _ => 1,
        }));
    }
    if !e.is_constant() {
        return Ok(None);
    }
    if equal(e, &Expr::int(0), fuel)? == Equality::Equal {
        return Ok(Some(0));
    }
    let mut arithmetic = Arithmetic::new(PRECISIONS[0], fuel);
    let value = evaluate(e, Point::Generic(0), &mut arithmetic)?;
    Ok(value
        .filter(|v| v.is_real() && !v.may_be_zero())
        .map(|v| if v.is_negative_real() { -1 } else { 1 }))
}

/// Whether `a = k·b` for a number k that is not 0, as two forms of one equation are.
///
/// When it is, the sign of k is returned too where k is real and that can be told.
pub(crate) fn proportional(
    a: &Expr,
    b: &Expr,
    fuel: &mut Fuel,
) -> Result<(Equality, Option<i32>), Stop> {
    let equality = if let Some(known) = proportional_residues(a, b, fuel)? {
        Equality::of(known)
    } else {
        proportional_numbers(a, b, fuel)?
    };
    if equality != Equality::Equal {
        return Ok((equality, None));
    }
    let mut arithmetic = Arithmetic::new(PRECISIONS[0], fuel);
    let (x, y) = (
        evaluate(a, Point::Generic(0), &mut arithmetic)?,
        evaluate(b, Point::Generic(0), &mut arithmetic)?,
    );
    let (Some(x), Some(y)) = (x, y) else {
        return Ok((equality, None));
    };
    let ratio = arithmetic.div(&x, &y)?;
    let sign = ratio
        .filter(|r| r.is_real() && !r.may_be_zero())
        .map(|r| if r.is_negative_real() { -1 } else { 1 });
    Ok((equality, sign))
}

fn proportional_residues(a: &Expr, b: &Expr, fuel: &mut Fuel) -> Result<Option<bool>, Stop> {
    let (Some(a0), Some(b0)) = (residues(a, 0, fuel)?, residues(b, 0, fuel)?) else {
        return Ok(None);
    };
    if a0.is_zero() || b0.is_zero() {
        return Ok(Some(false));
    }
    for point in 1..=3 {
        let (Some(ak), Some(bk)) = (residues(a, point, fuel)?, residues(b, point, fuel)?) else {
            return Ok(None);
        };
        if ak.times(&b0) != bk.times(&a0) {
            return Ok(Some(false));
        }
    }
    Ok(Some(true))
}

fn proportional_numbers(a: &Expr, b: &Expr, fuel: &mut Fuel) -> Result<Equality, Stop> {
    let mut arithmetic = Arithmetic::new(PRECISIONS[0], fuel);
    let mut first = None;
    let mut agreed = 0;
    for k in 0..6 {
        let point = Point::Generic(k);
        let (Some(x), Some(y)) = (
            evaluate(a, point, &mut arithmetic)?,
            evaluate(b, point, &mut arithmetic)?,
        ) else {
            continue;
        };
        if x.may_be_zero() || y.may_be_zero() {
            return Ok(Equality::Different);
        }
        let Some((x0, y0)) = &first else {
            first = Some((x, y));
            continue;
        };
        let (Some(left), Some(right)) = (arithmetic.mul(&x, y0)?, arithmetic.mul(&y, x0)?) else {
            continue;
        };
        let Some(difference) = arithmetic.sub(&left, &right)? else {
            continue;
        };
        if difference.magnitude() > difference.error + 3.0 {
            return Ok(Equality::Different);
        }
        if difference.error - left.magnitude() < -66.0 {
            agreed += 1;
        }
    }
    Ok(if agreed >= 3 {
        Equality::Equal
    } else {
        Equality::Undecided
    })
}
