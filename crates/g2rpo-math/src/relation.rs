//! Equations and inequalities: what they assign, and whether two say the same.

use crate::compare::Comparer;
use crate::comparison::Mismatch;
use crate::equal::{Equality, proportional};
use crate::expr::Expr;
use crate::form::{Form, Sign};

/// What a chain of equations says.
pub(crate) enum Assignment {
    /// `name = value`; without a name when all sides are values.
    Value { name: Option<String>, value: Form },
    /// It is an equation between expressions.
    None,
}

type Chain<'a> = (&'a [Form], &'a [Sign]);

/// Reads `x = 2 + 3 = 5` as x being 5.
///
/// # Errors
/// [`Mismatch::Contradiction`] when two values of the chain differ: `x = 4 = 5`, `1 + 1 = 5`.
pub(crate) fn assignment(
    comparer: &mut Comparer<'_>,
    sides: &[Form],
    signs: &[Sign],
) -> Result<Assignment, Mismatch> {
    if signs.iter().any(|s| *s != Sign::Equal) {
        return Ok(Assignment::None);
    }
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for side in sides {
        match name_of(side) {
            Some(name) => names.push(name),
            None => values.push(side),
        }
    }
    let (name, rest) = match (names.len(), values.as_slice()) {
        (0, all) => (None, all),
        (1, all @ [_, ..]) => (names.pop(), all),
        // `x = y`: the first is defined by the second.
        (2, []) => {
            let value = sides[1].clone();
            let name = names.swap_remove(0);
            return Ok(Assignment::Value {
                name: Some(name),
                value,
            });
        }
        _ => return Ok(Assignment::None),
    };
    if name.is_none() && rest.iter().any(|v| !is_constant(v)) {
        return Ok(Assignment::None);
    }
    let mentions_itself = rest.iter().any(|v| {
        v.scalar()
            .is_some_and(|e| e.symbols().iter().any(|s| Some(*s) == name.as_deref()))
    });
    let Some((last, before)) = rest.split_last() else {
        return Ok(Assignment::None);
    };
    if mentions_itself {
        return Ok(Assignment::None);
    }
    for value in before {
        match comparer.same(value, last) {
            Ok(()) => {}
            Err(Mismatch::TooComplex) => return Err(Mismatch::TooComplex),
            Err(_) => return Err(Mismatch::Contradiction),
        }
    }
    Ok(Assignment::Value {
        name,
        value: (*last).clone(),
    })
}

/// The text of a side that only names something: `x`, `f(x)`, `AB`, `\text{Area}`, `(x, y)`.
fn name_of(side: &Form) -> Option<String> {
    match side {
        Form::Scalar(Expr::Sym(name)) => Some(name.clone()),
        Form::Scalar(Expr::Apply(name, arguments)) => {
            let all_names = arguments.iter().all(|a| matches!(a, Expr::Sym(_)));
            all_names.then(|| format!("{name}({arguments:?})"))
        }
        Form::Scalar(Expr::Mul(factors)) => {
            let letters = factors.iter().map(|f| match f {
                Expr::Sym(name) => Some(name.as_str()),
                _ => None,
            });
            letters.collect::<Option<Vec<_>>>().map(|l| l.join("·"))
        }
        Form::Letters(name) | Form::Text(name) => Some(name.clone()),
        Form::Tuple { items, .. } => {
            let names: Option<Vec<_>> = items.iter().map(name_of).collect();
            names.map(|n| format!("({})", n.join(",")))
        }
        _ => None,
    }
}

/// The value in `m + n = 11`, which answers a question for m + n. Only an answer is read so: as a
/// reference, `x + y = 1` is a line.
pub(crate) fn named_sum(answer: &Form) -> Option<Form> {
    let Form::Relation { sides, signs } = answer else {
        return None;
    };
    let ([Form::Scalar(Expr::Add(terms)), value], [Sign::Equal]) =
        (sides.as_slice(), signs.as_slice())
    else {
        return None;
    };
    let is_sum = terms.iter().all(|t| matches!(t, Expr::Sym(_)));
    (is_sum && is_constant(value)).then(|| value.clone())
}

fn is_constant(form: &Form) -> bool {
    match form {
        Form::Scalar(e) | Form::Quantity { value: e, .. } => e.is_constant(),
        Form::Ratio(parts) => parts.iter().all(Expr::is_constant),
        Form::Time { .. } => true,
        _ => false,
    }
}

/// `x = 1, y = 2` as the tuple `(1, 2)`: the values in the order of the names.
pub(crate) fn as_tuple(items: &[Form]) -> Option<Vec<Form>> {
    let mut named = Vec::with_capacity(items.len());
    for item in items {
        let Form::Relation { sides, signs } = item else {
            return None;
        };
        let ([name, value], [Sign::Equal]) = (sides.as_slice(), signs.as_slice()) else {
            return None;
        };
        named.push((name_of(name)?, value.clone()));
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let distinct = named.windows(2).all(|pair| pair[0].0 != pair[1].0);
    distinct.then(|| named.into_iter().map(|(_, value)| value).collect())
}

/// Whether two relations say the same.
pub(crate) fn same(
    comparer: &mut Comparer<'_>,
    gold: Chain<'_>,
    answer: Chain<'_>,
) -> Result<(), Mismatch> {
    if gold == answer {
        return Ok(());
    }
    // A relation without a variable has no solutions to compare: it must be the same statement,
    // as written, or turned round. Equal values are not enough, or `3 = 3` would say everything.
    let constant = |(sides, _): Chain<'_>| sides.iter().all(is_constant);
    if constant(gold) || constant(answer) {
        let mut turned = gold.0.to_vec();
        turned.reverse();
        let backwards = gold.1.iter().rev().map(|s| s.flipped());
        return if turned == answer.0 && backwards.eq(answer.1.iter().copied()) {
            Ok(())
        } else {
            Err(Mismatch::Different)
        };
    }
    if let (
        Assignment::Value {
            name: Some(a),
            value: x,
        },
        Assignment::Value {
            name: Some(b),
            value: y,
        },
    ) = (
        assignment(comparer, gold.0, gold.1)?,
        assignment(comparer, answer.0, answer.1)?,
    ) && a == b
    {
        return comparer.same(&x, &y);
    }
    if let (
        ([Form::Scalar(a), Form::Scalar(b)], [sign]),
        ([Form::Scalar(c), Form::Scalar(d)], [other]),
    ) = (gold, answer)
    {
        let (f, g) = (a.minus(b), c.minus(d));
        let both_equations = *sign == *other && !sign.is_order() && *sign != Sign::In;
        if both_equations || (sign.is_order() && other.is_order()) {
            let (equality, ratio) = proportional(&f, &g, comparer.fuel)?;
            let signs_agree = match ratio {
                _ if both_equations => true,
                Some(1) => sign == other,
                Some(-1) => *sign == other.flipped(),
                _ => false,
            };
            if equality == Equality::Equal && signs_agree {
                return Ok(());
            }
            if equality == Equality::Undecided {
                return Err(Mismatch::Undecided);
            }
        }
        if both_equations {
            return Err(Mismatch::Different);
        }
    }
    match literally(comparer, gold, answer) {
        Err(Mismatch::Different) => {
            let relation = |(sides, signs): Chain<'_>| Form::Relation {
                sides: sides.to_vec(),
                signs: signs.to_vec(),
            };
            comparer.sets(&relation(gold), &relation(answer))
        }
        other => other,
    }
}

/// Side by side, forwards or backwards, each with the same value.
fn literally(
    comparer: &mut Comparer<'_>,
    (sides, signs): Chain<'_>,
    (sides_b, signs_b): Chain<'_>,
) -> Result<(), Mismatch> {
    if sides.len() != sides_b.len() {
        return Err(Mismatch::Different);
    }
    let forwards = signs == signs_b;
    let backwards = signs
        .iter()
        .rev()
        .map(|s| s.flipped())
        .eq(signs_b.iter().copied());
    if forwards && comparer.ordered(sides, sides_b).is_ok() {
        return Ok(());
    }
    let mut turned = sides.to_vec();
    turned.reverse();
    if backwards && comparer.ordered(&turned, sides_b).is_ok() {
        return Ok(());
    }
    Err(Mismatch::Different)
}
