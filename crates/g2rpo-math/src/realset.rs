//! Sets of real numbers as unions of intervals.

use std::cmp::Ordering;

use crate::complex::Arithmetic;
use crate::equal::{equal, sign};
use crate::equality::Equality;
use crate::exact::constant;
use crate::expr::Expr;
use crate::form::{Form, Join, SetOperation, Sign};
use crate::fuel::{Fuel, Stop, known};
use crate::numeric::{Point, evaluate};

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

type Maybe<T> = Result<Option<T>, Stop>;

/// The set of real numbers that a form describes, if it describes one: an interval, a union, an
/// inequality that is linear in its one variable, a list of those. Ends must be constant reals.
pub(crate) fn real_set(form: &Form, fuel: &mut Fuel) -> Maybe<RealSet> {
    fuel.spend(1)?;
    Ok(Some(match form {
        Form::Tuple { open, close, items } => {
            let [low, high] = items.as_slice() else {
                return Ok(None);
            };
            let (low, high) = (known!(low.scalar()), known!(high.scalar()));
            let interval = Interval {
                low: Bound::new(low, *open == '['),
                high: Bound::new(high, *close == ']'),
            };
            if known!(compare(low, high, fuel)?) != Ordering::Less {
                return Ok(None);
            }
            RealSet::of(vec![interval])
        }
        Form::NamedSet("Reals") => RealSet::all(),
        Form::NamedSet("Empty") => RealSet::of(Vec::new()),
        Form::Set(items) => {
            let mut set = RealSet::of(Vec::new());
            for item in items {
                let value = known!(item.scalar()).clone();
                set = known!(set.union(RealSet::point(value), fuel)?);
            }
            set
        }
        Form::Builder { condition, .. } => RealSet {
            variable: None,
            ..known!(real_set(condition, fuel)?)
        },
        Form::SetChain { first, rest } => {
            let mut set = known!(real_set(first, fuel)?);
            for (operation, other) in rest {
                let other = known!(real_set(other, fuel)?);
                set = known!(match operation {
                    SetOperation::Union => set.union(other, fuel)?,
                    SetOperation::Intersection => set.intersection(&other, fuel)?,
                    SetOperation::Difference => {
                        let rest = other.complement();
                        set.intersection(&rest, fuel)?
                    }
                });
            }
            set
        }
        Form::List { items, join } => {
            let mut sets = Vec::with_capacity(items.len());
            for item in items {
                if !matches!(item, Form::Relation { .. }) {
                    return Ok(None);
                }
                sets.push(known!(real_set(item, fuel)?));
            }
            let (mut union, mut meet) = (RealSet::of(Vec::new()), RealSet::all());
            for set in sets {
                meet = known!(meet.intersection(&set, fuel)?);
                union = known!(union.union(set, fuel)?);
            }
            match join {
                Join::And => meet,
                Join::Or => union,
                // Without a word between them, conditions that exclude each other are alternatives.
                Join::Comma if meet.parts.is_empty() => union,
                Join::Comma => meet,
            }
        }
        Form::Relation { sides, signs } => return relation_set(sides, signs, fuel),
        _ => return Ok(None),
    }))
}

fn relation_set(sides: &[Form], signs: &[Sign], fuel: &mut Fuel) -> Maybe<RealSet> {
    if let ([Form::Scalar(Expr::Sym(name)), set], [Sign::In]) = (sides, signs) {
        let set = known!(real_set(set, fuel)?);
        return Ok(Some(set.about(name)));
    }
    let mut variable: Option<&str> = None;
    for side in sides {
        for name in known!(side.scalar()).symbols() {
            if variable.is_some_and(|v| v != name) {
                return Ok(None);
            }
            variable = Some(name);
        }
    }
    let variable = known!(variable);
    let mut set = RealSet::all();
    for (pair, sign) in sides.windows(2).zip(signs) {
        let (left, right) = (known!(pair[0].scalar()), known!(pair[1].scalar()));
        let part = known!(solve(left, *sign, right, variable, fuel)?);
        set = known!(set.intersection(&part, fuel)?);
    }
    Ok(Some(set.about(variable)))
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
            return Ok((holds && is_variable).then(RealSet::all));
        }
    }
    let f = left.minus(right);
    let at = |value: i64| f.substituted(x, &Expr::int(value));
    let b = at(0);
    let a = at(1).minus(&b);
    let line = Expr::Add(vec![
        Expr::Mul(vec![a.clone(), Expr::Sym(x.to_owned())]),
        b.clone(),
    ]);
    if equal(&f, &line, fuel)? != Equality::Equal {
        return Ok(None);
    }
    let slope = known!(sign(&a, fuel)?);
    if slope == 0 {
        return Ok(None);
    }
    let root = match (constant(&a, fuel)?, constant(&b, fuel)?) {
        (Some(a), Some(b)) => Expr::Num(-b / a),
        _ => b.negated().div(a),
    };
    let direction = if slope < 0 { sign_.flipped() } else { sign_ };
    let below = |closed| Interval {
        low: Bound::new(&Expr::Infinity(true), false),
        high: Bound::new(&root, closed),
    };
    let above = |closed| Interval {
        low: Bound::new(&root, closed),
        high: Bound::new(&Expr::Infinity(false), false),
    };
    Ok(Some(RealSet::of(match direction {
        Sign::Less => vec![below(false)],
        Sign::LessEqual => vec![below(true)],
        Sign::Greater => vec![above(false)],
        Sign::GreaterEqual => vec![above(true)],
        Sign::NotEqual => vec![below(false), above(false)],
        Sign::Equal => return Ok(Some(RealSet::point(root))),
        Sign::In | Sign::Approx => return Ok(None),
    })))
}

impl Bound {
    fn new(value: &Expr, closed: bool) -> Self {
        Self {
            closed: closed && !matches!(value, Expr::Infinity(_)),
            value: value.clone(),
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
        Self::of(vec![Interval {
            low: Bound::new(&Expr::Infinity(true), false),
            high: Bound::new(&Expr::Infinity(false), false),
        }])
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
            return Ok(Some(false));
        }
        for (a, b) in self.parts.iter().zip(&other.parts) {
            for (a, b) in [(&a.low, &b.low), (&a.high, &b.high)] {
                if a.closed != b.closed
                    || known!(compare(&a.value, &b.value, fuel)?) != Ordering::Equal
                {
                    return Ok(Some(false));
                }
            }
        }
        Ok(Some(true))
    }

    fn union(mut self, other: Self, fuel: &mut Fuel) -> Maybe<Self> {
        let variable = known!(self.joint_variable(&other));
        self.parts.extend(other.parts);
        // Insertion sort: comparisons can fail, and the lists are short.
        for i in 1..self.parts.len() {
            for j in (1..=i).rev() {
                let (a, b) = (&self.parts[j - 1].low, &self.parts[j].low);
                let order = known!(compare(&a.value, &b.value, fuel)?);
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
            let gap = known!(compare(&last.high.value, &next.low.value, fuel)?);
            let touches = gap == Ordering::Greater
                || (gap == Ordering::Equal && (last.high.closed || next.low.closed));
            if !touches {
                merged.push(next);
                continue;
            }
            match known!(compare(&last.high.value, &next.high.value, fuel)?) {
                Ordering::Less => last.high = next.high,
                Ordering::Equal => last.high.closed |= next.high.closed,
                Ordering::Greater => {}
            }
        }
        Ok(Some(Self {
            parts: merged,
            variable,
        }))
    }

    fn intersection(&self, other: &Self, fuel: &mut Fuel) -> Maybe<Self> {
        let variable = known!(self.joint_variable(other));
        let mut parts = Vec::new();
        for a in &self.parts {
            for b in &other.parts {
                fuel.spend(1)?;
                let low = match known!(compare(&a.low.value, &b.low.value, fuel)?) {
                    Ordering::Greater => a.low.clone(),
                    Ordering::Less => b.low.clone(),
                    Ordering::Equal => Bound {
                        closed: a.low.closed && b.low.closed,
                        ..a.low.clone()
                    },
                };
                let high = match known!(compare(&a.high.value, &b.high.value, fuel)?) {
                    Ordering::Less => a.high.clone(),
                    Ordering::Greater => b.high.clone(),
                    Ordering::Equal => Bound {
                        closed: a.high.closed && b.high.closed,
                        ..a.high.clone()
                    },
                };
                match known!(compare(&low.value, &high.value, fuel)?) {
                    Ordering::Less => parts.push(Interval { low, high }),
                    Ordering::Equal if low.closed && high.closed => {
                        parts.push(Interval { low, high });
                    }
                    _ => {}
                }
            }
        }
        Ok(Some(Self { parts, variable }))
    }

    fn complement(&self) -> Self {
        let mut parts = Vec::new();
        let mut low = Bound::new(&Expr::Infinity(true), false);
        for interval in &self.parts {
            if interval.low.value != Expr::Infinity(true) {
                parts.push(Interval {
                    low: low.clone(),
                    high: Bound::new(&interval.low.value, !interval.low.closed),
                });
            }
            low = Bound::new(&interval.high.value, !interval.high.closed);
        }
        if low.value != Expr::Infinity(false) {
            parts.push(Interval {
                low,
                high: Bound::new(&Expr::Infinity(false), false),
            });
        }
        Self {
            parts,
            variable: self.variable.clone(),
        }
    }
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
        return Ok(Some(x.cmp(&y)));
    }
    if let (Some(a), Some(b)) = (constant(a, fuel)?, constant(b, fuel)?) {
        return Ok(Some(a.cmp(&b)));
    }
    match equal(a, b, fuel)? {
        Equality::Equal => return Ok(Some(Ordering::Equal)),
        Equality::Undecided => return Ok(None),
        Equality::Different => {}
    }
    let difference = a.minus(b);
    if !difference.is_constant() {
        return Ok(None);
    }
    let mut arithmetic = Arithmetic::new(192, fuel);
    let value = evaluate(&difference, Point::NONE, &mut arithmetic)?;
    Ok(value.filter(|v| v.is_real() && !v.may_be_zero()).map(|v| {
        if v.is_negative_real() {
            Ordering::Less
        } else {
            Ordering::Greater
        }
    }))
}
