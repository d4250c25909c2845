//! Whether two expressions have the same value, or are proportional.

use dashu::base::Signed;
use dashu::integer::UBig;
use dashu::rational::RBig;

use crate::agree::{Relation, agree, ratio_sign};
use crate::complex::Arithmetic;
use crate::equality::{Equality, PRECISIONS, told_apart};
use crate::exact::constant;
use crate::expr::{Decimal, Expr};
use crate::fuel::{Fuel, Maybe, Stop, known};
use crate::modular::residues;
use crate::numeric::{Point, evaluate};

/// Compares values: structure, exact rationals, residues modulo primes, then numbers with error
/// bounds. `a` is the reference. A small difference is a difference.
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
    if a.is_constant() && b.is_constant() {
        return constants(a, b, fuel);
    }
    Ok(agree(a, b, Relation::Same, fuel)?.0)
}

fn constants(a: &Expr, b: &Expr, fuel: &mut Fuel) -> Result<Equality, Stop> {
    for bits in PRECISIONS {
        let mut arithmetic = Arithmetic::new(bits, fuel);
        let x = known(evaluate(a, Point::NONE, &mut arithmetic))?;
        let y = known(evaluate(b, Point::NONE, &mut arithmetic))?;
        if let (Some(x), Some(y)) = (x, y)
            && let Some(equality) = told_apart(&x, &y, &mut arithmetic)?
        {
            return Ok(equality);
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
    let mut within = || -> Maybe<bool> {
        let mut arithmetic = Arithmetic::new(PRECISIONS[0], fuel);
        let value = evaluate(value, Point::NONE, &mut arithmetic)?;
        let printed = arithmetic.rational(&decimal.value)?;
        let half_unit = arithmetic.rational(&half_unit)?;
        let difference = arithmetic.sub(&value, &printed)?;
        if !difference.is_real() {
            return Ok(false);
        }
        let size = arithmetic.abs(&difference)?;
        let room = arithmetic.sub(&half_unit, &size)?;
        Ok(!room.is_negative_real() && !room.may_be_zero())
    };
    Ok(known(within())?.unwrap_or(false))
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
    let value = evaluate(e, Point::NONE, &mut Arithmetic::new(PRECISIONS[0], fuel));
    Ok(known(value)?.and_then(|value| value.sign()))
}

/// Whether `a = k·b` for a number k that is not 0, as two forms of one equation are.
///
/// When it is, the sign of k is returned too where k is real and that can be told.
pub(crate) fn proportional(
    a: &Expr,
    b: &Expr,
    fuel: &mut Fuel,
) -> Result<(Equality, Option<i32>), Stop> {
    match proportional_residues(a, b, fuel)? {
        Some(false) => Ok((Equality::Different, None)),
        // Only the sign is left to find.
        Some(true) => Ok((Equality::Equal, ratio_sign(a, b, fuel)?)),
        None => agree(a, b, Relation::Multiple, fuel),
    }
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
