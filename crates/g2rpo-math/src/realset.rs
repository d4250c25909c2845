//! Sets of real numbers as unions of intervals.

use std::cmp::Ordering;

use crate::complex::Arithmetic;
use crate::equal::{equal, sign};
use crate::equality::Equality;
use crate::exact::constant;
use crate::expr::Expr;
use crate::form::{Form, Join, SetOperation, Sign};
use crate::fuel::{Fuel, Halt, Maybe};
use crate::numeric::{Point, evaluate};

use Halt::NoValue;

/// A finite union of intervals, sorted, disjoint and not touching.
///
/// Conditions name the variable they are about; conditions about different variables do not mix.
#[derive(Debug, Clone)]
pub(crate) struct RealSet {
    parts: Vec<Interval>,
    variable: Option<String>,
}

#[derive(Debug, Clone)]
struct Interval {
    low: Bound,
    high: Bound,
}

#[derive(Debug, Clone)]
struct Bound {
    value: Expr,
    closed: bool,
}

/// The set of real numbers that a form describes, if it describes one: an interval, a union, an
/// inequality that is linear in its one variable, a list of those. Ends must be constant reals.
pub(crate) fn real_set(form: &Form, fuel: &mut Fuel) -> Maybe<RealSet> {
    fuel.spend(1)?;
    Ok(match form {
        Form::Tuple(open, items, close) => {
            let [low, high] = items.as_slice() else {
                return Err(NoValue);
            };
            let (low, high) = (scalar(low)?, scalar(high)?);
            if compare(low, high, fuel)? != Ordering::Less {
                return Err(NoValue);
            }
            let (low, high) = (
                Bound::new(low, *open == '['),
                Bound::new(high, *close == ']'),
            );
            RealSet::of(vec![Interval { low, high }])
        }
        Form::NamedSet("Reals") => RealSet::all(),
        Form::NamedSet("Empty") => RealSet::of(Vec::new()),
        Form::Set(items) => {
            let mut set = RealSet::of(Vec::new());
            for item in items {
                set = set.union(RealSet::point(scalar(item)?.clone()), fuel)?;
            }
            set
        }
        Form::Builder(_, condition) => RealSet {
            variable: None,
            ..real_set(condition, fuel)?
        },
        Form::SetChain(first, rest) => {
            let mut set = real_set(first, fuel)?;
            for (operation, other) in rest {
                let other = real_set(other, fuel)?;
                set = match operation {
                    SetOperation::Union => set.union(other, fuel)?,
                    SetOperation::Intersection => set.intersection(&other, fuel)?,
                    SetOperation::Difference => set.intersection(&other.complement(), fuel)?,
                };
            }
            set
        }
        Form::List(items, join) => {
            let mut sets = Vec::with_capacity(items.len());
            for item in items {
                if !matches!(item, Form::Relation(..)) {
                    return Err(NoValue);
                }
                sets.push(real_set(item, fuel)?);
            }
            let (mut union, mut meet) = (RealSet::of(Vec::new()), RealSet::all());
            for set in sets {
                meet = meet.intersection(&set, fuel)?;
                union = union.union(set, fuel)?;
            }
            match join {
                Join::And => meet,
                Join::Or => union,
                // Without a word between them, conditions that exclude each other are alternatives.
                Join::Comma if meet.parts.is_empty() => union,
                Join::Comma => meet,
            }
        }
        Form::Relation(sides, signs) => return relation_set(sides, signs, fuel),
        _ => return Err(NoValue),
    })
}

fn scalar(form: &Form) -> Maybe<&Expr> {
    form.scalar().ok_or(NoValue)
}

fn relation_set(sides: &[Form], signs: &[Sign], fuel: &mut Fuel) -> Maybe<RealSet> {
    if let ([Form::Scalar(Expr::Sym(name)), set], [Sign::In]) = (sides, signs) {
        return Ok(real_set(set, fuel)?.about(name));
    }
    let mut variable: Option<&str> = None;
    for side in sides {
        for name in scalar(side)?.symbols() {
            if variable.is_some_and(|v| v != name) {
                return Err(NoValue);
            }
            variable = Some(name);
        }
    }
    let variable = variable.ok_or(NoValue)?;
    let mut set = RealSet::all();
    for (pair, sign) in sides.windows(2).zip(signs) {
        let part = solve(scalar(&pair[0])?, *sign, scalar(&pair[1])?, variable, fuel)?;
        set = set.intersection(&part, fuel)?;
    }
    Ok(set.about(variable))
}

/// The solutions of `left ? right` where both are linear in the variable.
fn solve(left: &Expr, sign_: Sign, right: &Expr, x: &str, fuel: &mut Fuel) -> Maybe<RealSet> {
    // `x < ∞` says nothing; other infinities have no place in arithmetic.
    for (side, other, flip) in [(left, right, false), (right, left, true)] {
        if let Expr::Infinity(negative) = other {
            let holds = match if flip { sign_.flipped() } else { sign_ } {
                Sign::Less | Sign::LessEqual => !negative,
                Sign::Greater | Sign::GreaterEqual => *negative,
                _ => false,
            };
            let is_variable = matches!(side, Expr::Sym(name) if name == x);
            return (holds && is_variable).then(RealSet::all).ok_or(NoValue);
        }
    }
    let f = left.minus(right);
    let at = |value: i64| f.substituted(x, &Expr::int(value));
    let b = at(0);
    let a = at(1).minus(&b);
    let slope = Expr::Mul(vec![a.clone(), Expr::Sym(x.to_owned())]);
    let line = Expr::Add(vec![slope, b.clone()]);
    if equal(&f, &line, fuel)? != Equality::Equal {
        return Err(NoValue);
    }
    let slope = sign(&a, fuel)?.filter(|slope| *slope != 0).ok_or(NoValue)?;
    let root = match (constant(&a, fuel)?, constant(&b, fuel)?) {
        (Some(a), Some(b)) => Expr::Num(-b / a),
        _ => b.negated().div(a),
    };
    let direction = if slope < 0 { sign_.flipped() } else { sign_ };
    let below = |closed| Interval {
        high: Bound::new(&root, closed),
        ..Interval::all()
    };
    let above = |closed| Interval {
        low: Bound::new(&root, closed),
        ..Interval::all()
    };
    Ok(RealSet::of(match direction {
        Sign::Less => vec![below(false)],
        Sign::LessEqual => vec![below(true)],
        Sign::Greater => vec![above(false)],
        Sign::GreaterEqual => vec![above(true)],
        Sign::NotEqual => vec![below(false), above(false)],
        Sign::Equal => return Ok(RealSet::point(root)),
        Sign::In | Sign::Approx => return Err(NoValue),
    }))
}

impl Bound {
    fn new(value: &Expr, closed: bool) -> Self {
        Self {
            closed: closed && !matches!(value, Expr::Infinity(_)),
            value: value.clone(),
        }
    }
}

impl Interval {
    fn all() -> Self {
        Self {
            low: Bound::new(&Expr::Infinity(true), false),
            high: Bound::new(&Expr::Infinity(false), false),
        }
    }
}

impl RealSet {
    const fn of(parts: Vec<Interval>) -> Self {
        Self {
            parts,
            variable: None,
        }
    }

    fn about(self, variable: &str) -> Self {
        Self {
            variable: Some(variable.to_owned()),
            ..self
        }
    }

    /// The variable of two sets together; nothing when they are about different ones.
    fn joint_variable(&self, other: &Self) -> Option<Option<String>> {
        match (&self.variable, &other.variable) {
            (Some(a), Some(b)) if a != b => None,
            (a, b) => Some(a.clone().or_else(|| b.clone())),
        }
    }

    fn all() -> Self {
        Self::of(vec![Interval::all()])
    }

    fn point(value: Expr) -> Self {
        let bound = Bound::new(&value, true);
        Self::of(vec![Interval {
            low: bound.clone(),
            high: bound,
        }])
    }

    /// Whether both hold the same numbers; nothing when two ends cannot be compared.
    pub(crate) fn same(&self, other: &Self, fuel: &mut Fuel) -> Maybe<bool> {
        if self.parts.len() != other.parts.len() || self.joint_variable(other).is_none() {
            return Ok(false);
        }
        for (a, b) in self.parts.iter().zip(&other.parts) {
            for (a, b) in [(&a.low, &b.low), (&a.high, &b.high)] {
                if a.closed != b.closed || compare(&a.value, &b.value, fuel)? != Ordering::Equal {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn union(mut self, other: Self, fuel: &mut Fuel) -> Maybe<Self> {
        let variable = self.joint_variable(&other).ok_or(NoValue)?;
        self.parts.extend(other.parts);
        // Insertion sort: comparisons can fail, and the lists are short.
        for i in 1..self.parts.len() {
            for j in (1..=i).rev() {
                let (a, b) = (&self.parts[j - 1].low, &self.parts[j].low);
                let order = compare(&a.value, &b.value, fuel)?;
                if order.then(b.closed.cmp(&a.closed)) != Ordering::Greater {
                    break;
                }
                self.parts.swap(j - 1, j);
            }
        }
        let mut merged: Vec<Interval> = Vec::with_capacity(self.parts.len());
        for next in self.parts {
            let Some(last) = merged.last_mut() else {
                merged.push(next);
                continue;
            };
            let gap = compare(&last.high.value, &next.low.value, fuel)?;
            let touches = gap == Ordering::Greater
                || (gap == Ordering::Equal && (last.high.closed || next.low.closed));
            if !touches {
                merged.push(next);
                continue;
            }
            match compare(&last.high.value, &next.high.value, fuel)? {
                Ordering::Less => last.high = next.high,
                Ordering::Equal => last.high.closed |= next.high.closed,
                Ordering::Greater => {}
            }
        }
        Ok(Self {
            parts: merged,
            variable,
        })
    }

    fn intersection(&self, other: &Self, fuel: &mut Fuel) -> Maybe<Self> {
        let variable = self.joint_variable(other).ok_or(NoValue)?;
        let mut parts = Vec::new();
        for a in &self.parts {
            for b in &other.parts {
                fuel.spend(1)?;
                let low = tighter(&a.low, &b.low, Ordering::Greater, fuel)?;
                let high = tighter(&a.high, &b.high, Ordering::Less, fuel)?;
                let order = compare(&low.value, &high.value, fuel)?;
                if order == Ordering::Less || order == Ordering::Equal && low.closed && high.closed
                {
                    parts.push(Interval { low, high });
                }
            }
        }
        Ok(Self { parts, variable })
    }

    fn complement(&self) -> Self {
        let Interval {
            mut low,
            high: last,
        } = Interval::all();
        let mut parts = Vec::new();
        for interval in &self.parts {
            let high = Bound::new(&interval.low.value, !interval.low.closed);
            if high.value != Expr::Infinity(true) {
                parts.push(Interval { low, high });
            }
            low = Bound::new(&interval.high.value, !interval.high.closed);
        }
        if low.value != last.value {
            parts.push(Interval { low, high: last });
        }
        let variable = self.variable.clone();
        Self { parts, variable }
    }
}

/// Of two bounds the one that is `tighter` than the other; of equal ones both.
fn tighter(a: &Bound, b: &Bound, tighter: Ordering, fuel: &mut Fuel) -> Maybe<Bound> {
    let order = compare(&a.value, &b.value, fuel)?;
    let mut bound = if order == tighter.reverse() {
        b.clone()
    } else {
        a.clone()
    };
    if order == Ordering::Equal {
        bound.closed &= b.closed;
    }
    Ok(bound)
}

/// Order of two constant reals or infinities; nothing when it cannot be told.
fn compare(a: &Expr, b: &Expr, fuel: &mut Fuel) -> Maybe<Ordering> {
    let rank = |e: &Expr| match e {
        Expr::Infinity(true) => -1,
        Expr::Infinity(false) => 1,
        _ => 0,
    };
    let (x, y) = (rank(a), rank(b));
    if x != 0 || y != 0 {
        return Ok(x.cmp(&y));
    }
    if let (Some(a), Some(b)) = (constant(a, fuel)?, constant(b, fuel)?) {
        return Ok(a.cmp(&b));
    }
    match equal(a, b, fuel)? {
        Equality::Equal => return Ok(Ordering::Equal),
        Equality::Undecided => return Err(NoValue),
        Equality::Different => {}
    }
    let difference = a.minus(b);
    if !difference.is_constant() {
        return Err(NoValue);
    }
    let value = evaluate(&difference, Point::NONE, &mut Arithmetic::new(192, fuel))?;
    Ok(value.sign().ok_or(NoValue)?.cmp(&0))
}
