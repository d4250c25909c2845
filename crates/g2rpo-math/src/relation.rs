//! Equations and inequalities: what they assign, and whether two say the same.

use crate::comparer::Comparer;
use crate::comparison::Mismatch;
use crate::equal::proportional;
use crate::equality::Equality;
use crate::expr::{Expr, Func};
use crate::form::{Form, Sign};
use crate::rounding;

/// What a chain of equations says: `name = value`.
pub(crate) struct Assignment {
    /// Absent when all sides are values.
    name: Option<String>,
    pub(crate) value: Form,
    /// What `≈` says that the value rounds to.
    pub(crate) rounded: Option<Form>,
}

type Chain<'a> = (&'a [Form], &'a [Sign]);

/// Reads `x = 2 + 3 = 5` as x being 5, and `x = \sqrt2 \approx 1.41` as x being √2, which rounds to 1.41.
///
/// # Errors
/// [`Mismatch::Contradiction`] when two values of the chain differ: `x = 4 = 5`, `1 + 1 = 5`,
/// `\sqrt2 \approx 1.5`.
pub(crate) fn assignment(
    comparer: &mut Comparer<'_>,
    sides: &[Form],
    signs: &[Sign],
) -> Result<Option<Assignment>, Mismatch> {
    if signs
        .iter()
        .any(|s| !matches!(s, Sign::Equal | Sign::Approx))
    {
        return Ok(None);
    }
    let (mut names, mut values) = (Vec::new(), Vec::new());
    // Each value with whether it is only close to the one before.
    let mut is_close = false;
    for (i, side) in sides.iter().enumerate() {
        is_close |= i > 0 && signs[i - 1] == Sign::Approx;
        match name_of(side) {
            Some(name) => names.push(name),
            None => {
                values.push((side, is_close && !values.is_empty()));
                is_close = false;
            }
        }
    }
    let name = match (names.len(), values.len()) {
        (0, _) => None,
        (1, 1..) => names.pop(),
        // `x = y`: the first is defined by the second.
        (2, 0) => {
            let (name, value) = (Some(names.swap_remove(0)), sides[1].clone());
            let rounded = None;
            return Ok(Some(Assignment {
                name,
                value,
                rounded,
            }));
        }
        // `\angle A = \angle B = 40^\circ` names one value twice.
        (2.., 1..) if values.iter().all(|(v, _)| is_constant(v)) => names.pop(),
        _ => return Ok(None),
    };
    if name.is_none() && values.iter().any(|(v, _)| !is_constant(v)) {
        return Ok(None);
    }
    let mentions_itself = values.iter().any(|(v, _)| {
        v.scalar()
            .is_some_and(|e| e.symbols().iter().any(|s| Some(*s) == name.as_deref()))
    });
    if mentions_itself {
        return Ok(None);
    }
    let agreed = agreed(comparer, &values)?;
    Ok(agreed.map(|(value, rounded)| Assignment {
        name,
        value,
        rounded,
    }))
}

/// The value on which all of a chain agree, and what it is rounded to, where that is said.
fn agreed(
    comparer: &mut Comparer<'_>,
    values: &[(&Form, bool)],
) -> Result<Option<(Form, Option<Form>)>, Mismatch> {
    for pair in values.windows(2) {
        let [(before, _), (value, is_close)] = pair else {
            continue;
        };
        let agrees = match comparer.same(before, value) {
            Err(Mismatch::TooComplex) => return Err(Mismatch::TooComplex),
            Err(_) if *is_close => rounding::are_close(comparer, before, value)?,
            same => same.is_ok(),
        };
        if !agrees {
            return Err(Mismatch::Contradiction);
        }
    }
    // Of values that are only close the one is meant that is no rounded literal.
    let ends: Vec<&Form> = (0..values.len())
        .filter(|&i| values.get(i + 1).is_none_or(|(_, is_close)| *is_close))
        .map(|i| values[i].0)
        .collect();
    let exact = ends.iter().find(|v| !rounding::is_literal(v));
    let Some(value) = exact.or(ends.first()) else {
        return Ok(None);
    };
    let rounded = ends.iter().rfind(|v| rounding::is_literal(v));
    let rounded = rounded.filter(|r| **r != *value).map(|r| (*r).clone());
    Ok(Some(((*value).clone(), rounded)))
}

/// The text of a side that only names something: `x`, `f(x)`, `AB`, `\text{Area}`, `(x, y)`.
fn name_of(side: &Form) -> Option<String> {
    match side {
        Form::Scalar(Expr::Sym(name)) => Some(name.clone()),
        Form::Scalar(Expr::Apply(name, arguments)) => {
            let all_names = arguments.iter().all(|a| matches!(a, Expr::Sym(_)));
            all_names.then(|| format!("{name}({arguments:?})"))
        }
        Form::Scalar(product @ (Expr::Mul(_) | Expr::Div(..))) => {
            let mut letters = Vec::new();
            product_of_names(product, &mut letters).then(|| letters.join("·"))
        }
        Form::Letters(name) => Some(name.clone()),
        Form::Text(name) => {
            let denies = |word: &str| {
                matches!(
                    word,
                    "not" | "or" | "either" | "if" | "unless" | "maybe" | "never"
                )
            };
            (!name.split(' ').any(denies)).then(|| name.clone())
        }
        Form::Tuple(_, items, _) => {
            let names: Option<Vec<_>> = items.iter().map(name_of).collect();
            names.map(|n| format!("({})", n.join(",")))
        }
        _ => None,
    }
}

/// Collects the symbols of a product; false when something else is among them. A derivative is a name: `dy/dx`.
fn product_of_names<'e>(e: &'e Expr, into: &mut Vec<&'e str>) -> bool {
    match e {
        Expr::Sym(name) => {
            into.push(name);
            true
        }
        Expr::Mul(factors) => {
            let is_operator =
                |e: &Expr| matches!(e, Expr::Div(above, _) if **above == Expr::Sym("d".to_owned()));
            match factors.as_slice() {
                [operator, _] if is_operator(operator) => product_of_names(operator, into),
                all => all.iter().all(|factor| product_of_names(factor, into)),
            }
        }
        Expr::Div(above, below) => {
            let start = into.len();
            let is_derivative = product_of_names(above, into)
                && into.get(start) == Some(&"d")
                && {
                    into.push("/");
                    true
                }
                && product_of_names(below, into);
            is_derivative && into.iter().filter(|name| **name == "d").count() == 2
        }
        _ => false,
    }
}

/// The value in `m + n = 11` or `\sin A = 0.6`, which answers a question for m + n, and what it is rounded
/// to. Only an answer is read so: as a reference, `x + y = 1` is a line. An equation that is still to be
/// solved, such as `2x = 10` or `x^2 = 4`, gives no value.
///
/// # Errors
/// As [`assignment`].
pub(crate) fn named_value(
    comparer: &mut Comparer<'_>,
    answer: &Form,
) -> Result<Option<(Form, Option<Form>)>, Mismatch> {
    let Form::Relation(sides, signs) = answer else {
        return Ok(None);
    };
    let names = sides.iter().take_while(|side| names_quantity(side)).count();
    let is_value = |form: &Form| is_constant(form);
    if names == 0
        || names == sides.len()
        || !sides[names..].iter().all(is_value)
        || signs
            .iter()
            .any(|s| !matches!(s, Sign::Equal | Sign::Approx))
    {
        return Ok(None);
    }
    let values: Vec<(&Form, bool)> = (names..sides.len())
        .map(|i| (&sides[i], i > names && signs[i - 1] == Sign::Approx))
        .collect();
    agreed(comparer, &values)
}

/// Whether a side stands for a quantity that a question may ask for.
fn names_quantity(side: &Form) -> bool {
    if name_of(side).is_some() {
        return true;
    }
    let mut letters = Vec::new();
    match side {
        Form::Scalar(Expr::Add(terms)) => {
            let plain = |term: &Expr| match term {
                Expr::Neg(inner) => (**inner).clone(),
                other => other.clone(),
            };
            let terms: Vec<Expr> = terms.iter().map(plain).collect();
            let are_names = terms.iter().all(|term| {
                let mut letters = Vec::new();
                product_of_names(term, &mut letters)
            });
            let mut symbols: Vec<&str> = terms.iter().flat_map(Expr::symbols).collect();
            symbols.sort_unstable();
            symbols.dedup();
            are_names && symbols.len() > 1
        }
        Form::Scalar(Expr::Div(above, below)) => {
            product_of_names(above, &mut letters) && product_of_names(below, &mut letters)
        }
        Form::Scalar(Expr::Call(func, arguments)) => {
            !matches!(func, Func::Exp | Func::Ln | Func::Log | Func::Factorial)
                && arguments.iter().any(|a| !a.is_constant())
        }
        Form::Scalar(Expr::Apply(..)) => true,
        _ => false,
    }
}

fn is_constant(form: &Form) -> bool {
    match form {
        Form::Scalar(e) | Form::Quantity(e, _, _) => e.is_constant(),
        Form::Ratio(parts) => parts.iter().all(Expr::is_constant),
        Form::Time(..) => true,
        _ => false,
    }
}

/// The last side of a relation.
pub(crate) fn right_side(form: &Form) -> Option<Form> {
    match form {
        Form::Relation(sides, _) => sides.last().cloned(),
        _ => None,
    }
}

/// `x = 1, y = 2` as the tuple `(1, 2)`: the values in the order of the names.
pub(crate) fn as_tuple(items: &[Form]) -> Option<Vec<Form>> {
    let mut named = Vec::with_capacity(items.len());
    for item in items {
        let Form::Relation(sides, signs) = item else {
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

/// The coordinates that a list without brackets gives: `1, 2` or `x = 1, y = 2`.
pub(crate) fn point(items: &[Form]) -> Vec<Form> {
    as_tuple(items).unwrap_or_else(|| items.to_vec())
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
        let turned = gold.0.iter().rev().eq(answer.0);
        let backwards = gold.1.iter().rev().map(|s| s.flipped());
        return if turned && backwards.eq(answer.1.iter().copied()) {
            Ok(())
        } else {
            Err(Mismatch::Different)
        };
    }
    let first = assignment(comparer, gold.0, gold.1)?;
    let second = assignment(comparer, answer.0, answer.1)?;
    if let (Some(a), Some(b)) = (first, second)
        && a.name.is_some()
        && a.name == b.name
    {
        return comparer.same(&a.value, &b.value);
    }
    if let (([a, b], [sign]), ([c, d], [other])) = (gold, answer)
        && let (Some(a), Some(b), Some(c), Some(d)) = (term(a), term(b), term(c), term(d))
    {
        let (f, g) = (a.minus(&b), c.minus(&d));
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
            let relation =
                |(sides, signs): Chain<'_>| Form::Relation(sides.to_vec(), signs.to_vec());
            comparer.sets(&relation(gold), &relation(answer))
        }
        other => other,
    }
}

/// A run of letters as a product, if nobody would read it as a word.
fn as_product(word: &str) -> Option<Expr> {
    let is_algebra = word.chars().count() <= 4
        && !word.contains(['e', 'i', 'o', 'u', 'E', 'I', 'O', 'U'])
        && word.is_ascii();
    is_algebra.then(|| Expr::Mul(word.chars().map(|c| Expr::Sym(c.to_string())).collect()))
}

/// What may stand in a sum: an expression, or letters that may be a product.
pub(crate) fn term(form: &Form) -> Option<Expr> {
    match form {
        Form::Scalar(e) => Some(e.clone()),
        Form::Letters(word) => as_product(word),
        _ => None,
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
    let turned: Vec<Form> = sides.iter().rev().cloned().collect();
    if backwards && comparer.ordered(&turned, sides_b).is_ok() {
        return Ok(());
    }
    Err(Mismatch::Different)
}
