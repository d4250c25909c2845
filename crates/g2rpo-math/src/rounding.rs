//! Whether two values are close in the sense of `≈`: one is a literal to which the other rounds.

use dashu::integer::UBig;
use dashu::rational::RBig;

use crate::comparer::Comparer;
use crate::comparison::Mismatch;
use crate::equal::rounds_to;
use crate::expr::{Decimal, Expr};
use crate::form::Form;

/// Whether a form is a number written in digits.
pub(crate) fn is_literal(form: &Form) -> bool {
    value(form).is_some_and(|e| literal(e).is_some())
}

/// Whether one of two constants is a literal that the other rounds to, or is cut off to.
pub(crate) fn are_close(comparer: &mut Comparer<'_>, a: &Form, b: &Form) -> Result<bool, Mismatch> {
    if let (Form::Quantity(_, first, _), Form::Quantity(_, second, _)) = (a, b)
        && first != second
    {
        return Ok(false);
    }
    let (Some(a), Some(b)) = (value(a), value(b)) else {
        return Ok(false);
    };
    Ok(is_rounded(comparer, a, b)? || is_rounded(comparer, b, a)?)
}

fn value(form: &Form) -> Option<&Expr> {
    match form {
        Form::Scalar(value) | Form::Quantity(value, _, _) => Some(value),
        _ => None,
    }
}

/// A decimal, or an integer, whose zeros at the end may stand for digits that were rounded away: the number
/// of those zeros, and the literal without them.
fn literal(e: &Expr) -> Option<(usize, Decimal)> {
    match e {
        Expr::Decimal(decimal) => Some((0, decimal.clone())),
        Expr::Neg(inner) => {
            let (zeros, decimal) = literal(inner)?;
            let value = -decimal.value;
            Some((zeros, Decimal { value, ..decimal }))
        }
        Expr::Num(number) if number.is_int() => {
            let digits = number.to_string();
            let digits = digits.trim_start_matches('-');
            let short = digits.trim_end_matches('0');
            let zeros = if short.is_empty() {
                0
            } else {
                digits.len() - short.len()
            };
            let value = number.clone() / RBig::from(power_of_ten(zeros));
            Some((
                zeros,
                Decimal {
                    value,
                    places: 0,
                    significant: short.len(),
                },
            ))
        }
        _ => None,
    }
}

fn power_of_ten(exponent: usize) -> UBig {
    UBig::from(10u8).pow(exponent)
}

fn is_rounded(comparer: &mut Comparer<'_>, exact: &Expr, rounded: &Expr) -> Result<bool, Mismatch> {
    let Some((zeros, decimal)) = literal(rounded) else {
        return Ok(false);
    };
    let exact = if zeros == 0 {
        exact.clone()
    } else {
        exact
            .clone()
            .div(Expr::Num(RBig::from(power_of_ten(zeros))))
    };
    if rounds_to(&exact, &decimal, comparer.fuel)? {
        return Ok(true);
    }
    if decimal.places == 0 {
        return Ok(false);
    }
    // 0.66 for 2/3: cut off, so the value lies within one unit of the last place beyond it.
    let half = RBig::from_parts(1.into(), power_of_ten(decimal.places) * 2u8);
    let value = if decimal.value < RBig::ZERO {
        decimal.value.clone() - half
    } else {
        decimal.value.clone() + half
    };
    Ok(rounds_to(
        &exact,
        &Decimal { value, ..decimal },
        comparer.fuel,
    )?)
}
