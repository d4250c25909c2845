//! Compares two forms that were read: numbers, quantities, sets, tuples, relations, words.

use dashu::rational::RBig;

use crate::comparer::Comparer;
use crate::comparison::Mismatch;
use crate::equal::{equal, rounds_to};
use crate::equality::Equality;
use crate::expr::Expr;
use crate::form::{Form, Join, Sign};
use crate::fuel::known;
use crate::realset::real_set;
use crate::relation;
use crate::units::Unit;

type Same = Result<(), Mismatch>;

fn when(same: bool) -> Same {
    if same {
        Ok(())
    } else {
        Err(Mismatch::Different)
    }
}

/// Larger unordered collections are matched greedily.
const MAX_MATCHING: usize = 32;

impl Comparer<'_> {
    /// Whether `answer` is the same as `gold`, as whole answers: a set with one element says which
    /// number it is.
    pub(crate) fn answers(&mut self, gold: &Form, answer: &Form) -> Same {
        match (gold, answer) {
            (Form::Set(a), Form::Scalar(_) | Form::Quantity(..)) if a.len() == 1 => {
                self.same(&a[0], answer)
            }
            (Form::Scalar(_) | Form::Quantity(..), Form::Set(b)) if b.len() == 1 => {
                self.same(gold, &b[0])
            }
            _ => self.same(gold, answer),
        }
    }

    /// Whether two forms, or parts of forms, are the same.
    pub(crate) fn same(&mut self, gold: &Form, answer: &Form) -> Same {
        self.fuel.spend(1)?;
        match (gold, answer) {
            (Form::Scalar(a), Form::Scalar(b)) => self.scalars(a, b),
            (Form::Quantity(..), Form::Quantity(..)) => self.quantities(gold, answer),
            (Form::Quantity(value, unit, parts), Form::Scalar(bare)) => {
                self.bare_quantity(value, unit, *parts, bare, false)
            }
            (Form::Scalar(bare), Form::Quantity(value, unit, parts)) => {
                self.bare_quantity(value, unit, *parts, bare, true)
            }
            (Form::Relation(..), _) | (_, Form::Relation(..)) => self.relations(gold, answer),
            (Form::Text(_) | Form::Letters(_), _) | (_, Form::Text(_) | Form::Letters(_)) => {
                self.words(gold, answer)
            }
            (Form::Matrix(a), Form::Matrix(b)) => {
                when(a.len() == b.len() && a[0].len() == b[0].len())?;
                let cells = a.iter().flatten().zip(b.iter().flatten());
                cells.into_iter().try_for_each(|(a, b)| self.scalars(a, b))
            }
            (Form::Matrix(rows), Form::Tuple(_, items, _)) => self.vector(rows, items, false),
            (Form::Tuple(_, items, _), Form::Matrix(rows)) => self.vector(rows, items, true),
            (Form::Ratio(a), Form::Ratio(b)) => self.ratios(a, b),
            (Form::Ratio(ratio), Form::Time(minutes, None))
            | (Form::Time(minutes, None), Form::Ratio(ratio))
                if !looks_like_time(ratio) =>
            {
                self.ratios(ratio, &as_ratio(*minutes)?)
            }
            (Form::Ratio(parts), Form::Scalar(x)) | (Form::Scalar(x), Form::Ratio(parts)) => {
                let [a, b] = parts.as_slice() else {
                    return Err(Mismatch::Different);
                };
                self.values(&a.clone().div(b.clone()), x)
            }
            (Form::Time(minutes, afternoon), Form::Time(other, half)) => {
                when(same_time((*minutes, *afternoon), (*other, *half)))
            }
            (Form::NamedSet(a), Form::NamedSet(b)) => when(a == b),
            _ => self.collections(gold, answer),
        }
    }

    fn collections(&mut self, gold: &Form, answer: &Form) -> Same {
        match (gold, answer) {
            (Form::Tuple(open, items, close), Form::Tuple(open_b, items_b, close_b)) => {
                let brackets_matter = items.len() == 2;
                when(!brackets_matter || (open, close) == (open_b, close_b))?;
                self.ordered(items, items_b)
            }
            (Form::Tuple('(', items, ')'), Form::List(list, _)) => {
                self.ordered(items, &relation::point(list))
            }
            (Form::List(list, _), Form::Tuple('(', items, ')')) => {
                self.ordered(&relation::point(list), items)
            }
            // Values without names stand in the order of the reference's names.
            (Form::List(named, _), Form::List(values, _))
                if relation::as_tuple(named).is_some()
                    && !values.iter().any(|v| matches!(v, Form::Relation(..))) =>
            {
                let by_name = relation::as_tuple(named).unwrap_or_default();
                let as_written: Vec<Form> = named.iter().filter_map(relation::right_side).collect();
                self.ordered(&by_name, values)
                    .or_else(|_| self.ordered(&as_written, values))
            }
            (Form::List(a, join), Form::List(b, other))
                if a.iter().chain(b).any(is_bound)
                    && *join != Join::Comma
                    && *other != Join::Comma =>
            {
                match self.sets(gold, answer) {
                    Err(Mismatch::Different) if join == other => self.unordered(a, b),
                    found => found,
                }
            }
            (Form::Set(a) | Form::List(a, _), Form::Set(b) | Form::List(b, _)) => {
                match self.unordered(a, b) {
                    Err(Mismatch::Different) => self.sets(gold, answer),
                    other => other,
                }
            }

            (
                Form::Scalar(_) | Form::Quantity(..) | Form::Time(..),
                Form::List(..) | Form::Set(_),
            ) => Err(Mismatch::SeveralAnswers),
            _ => match self.sets(gold, answer) {
                Err(Mismatch::Different) => match (gold, answer) {
                    (Form::SetChain(first, rest), Form::SetChain(first_b, rest_b))
                        if rest.len() == rest_b.len() =>
                    {
                        self.same(first, first_b)?;
                        for ((op, a), (op_b, b)) in rest.iter().zip(rest_b) {
                            when(op == op_b)?;
                            self.same(a, b)?;
                        }
                        Ok(())
                    }
                    (Form::Builder(_, a), Form::Builder(_, b)) => self.same(a, b),
                    _ => Err(Mismatch::Different),
                },
                other => other,
            },
        }
    }

    /// Compares two forms as sets of real numbers.
    pub(crate) fn sets(&mut self, gold: &Form, answer: &Form) -> Same {
        let (a, b) = (real_set(gold, self.fuel), real_set(answer, self.fuel));
        let (Some(a), Some(b)) = (known(a)?, known(b)?) else {
            return Err(Mismatch::Different);
        };
        when(known(a.same(&b, self.fuel))? == Some(true))
    }

    pub(crate) fn ordered(&mut self, a: &[Form], b: &[Form]) -> Same {
        when(a.len() == b.len())?;
        a.iter().zip(b).try_for_each(|(a, b)| self.same(a, b))
    }

    /// A perfect matching between two collections (Kuhn's augmenting paths).
    pub(crate) fn unordered(&mut self, a: &[Form], b: &[Form]) -> Same {
        when(a.len() == b.len())?;
        if a == b {
            return Ok(());
        }
        let n = a.len();
        if n > MAX_MATCHING {
            let mut free: Vec<&Form> = b.iter().collect();
            for item in a {
                let mut found = None;
                for (i, other) in free.iter().enumerate() {
                    if self.matches(item, other)? {
                        found = Some(i);
                        break;
                    }
                }
                free.swap_remove(found.ok_or(Mismatch::Different)?);
            }
            return Ok(());
        }
        let mut edges = vec![Vec::new(); n];
        for (i, item) in a.iter().enumerate() {
            for (j, other) in b.iter().enumerate() {
                if self.matches(item, other)? {
                    edges[i].push(j);
                }
            }
            when(!edges[i].is_empty())?;
        }
        let mut partner = vec![None; n];
        for i in 0..n {
            when(augment(i, &edges, &mut partner, &mut vec![false; n]))?;
        }
        Ok(())
    }

    fn matches(&mut self, a: &Form, b: &Form) -> Result<bool, Mismatch> {
        match self.same(a, b) {
            Ok(()) => Ok(true),
            Err(Mismatch::TooComplex) => Err(Mismatch::TooComplex),
            Err(_) => Ok(false),
        }
    }

    fn vector(&mut self, rows: &[Vec<Expr>], items: &[Form], tuple_is_gold: bool) -> Same {
        let is_vector = rows.len() == 1 || rows[0].len() == 1;
        when(is_vector && rows.len() * rows[0].len() == items.len())?;
        for (cell, item) in rows.iter().flatten().zip(items) {
            let item = item.scalar().ok_or(Mismatch::Different)?;
            if tuple_is_gold {
                self.scalars(item, cell)?;
            } else {
                self.scalars(cell, item)?;
            }
        }
        Ok(())
    }

    /// Scalars, where a decimal may stand for what it rounds.
    pub(crate) fn scalars(&mut self, gold: &Expr, answer: &Expr) -> Same {
        match self.values(gold, answer) {
            Err(Mismatch::Different) => {}
            other => return other,
        }
        let (decimal, exact, is_reference) = match (gold, answer) {
            (Expr::Decimal(_), Expr::Decimal(_)) => return Err(Mismatch::Different),
            (Expr::Decimal(decimal), exact) => (decimal, exact, true),
            (exact, Expr::Decimal(decimal)) => (decimal, exact, false),
            _ => return Err(Mismatch::Different),
        };
        let enough = self.policy.rounded_digits;
        let may_round = is_reference && self.policy.rounded_reference
            || enough.is_some_and(|n| decimal.significant >= n as usize);
        when(may_round && rounds_to(exact, decimal, self.fuel)?)
    }

    /// Values, exactly.
    fn values(&mut self, a: &Expr, b: &Expr) -> Same {
        match equal(a, b, self.fuel)? {
            Equality::Equal => Ok(()),
            Equality::Different => Err(Mismatch::Different),
            Equality::Undecided => Err(Mismatch::Undecided),
        }
    }

    fn quantities(&mut self, gold: &Form, answer: &Form) -> Same {
        let (Form::Quantity(a, unit_a, _), Form::Quantity(b, unit_b, _)) = (gold, answer) else {
            return Err(Mismatch::Different);
        };
        if !unit_a.converts_to(unit_b) {
            let (turn, radian) = ("°", "rad");
            if unit_a.is_mark(turn) && unit_b.is_mark(radian) {
                return self.values(&Expr::Degree(Box::new(a.clone())), b);
            }
            if unit_a.is_mark(radian) && unit_b.is_mark(turn) {
                return self.values(a, &Expr::Degree(Box::new(b.clone())));
            }
            return Err(Mismatch::Unit);
        }
        if unit_a.factor == unit_b.factor {
            return self.scalars(a, b);
        }
        let ratio: RBig = unit_b.factor.clone() / unit_a.factor.clone();
        self.values(a, &Expr::Mul(vec![b.clone(), Expr::Num(ratio)]))
    }

    /// A quantity and a number without a unit.
    fn bare_quantity(
        &mut self,
        value: &Expr,
        unit: &Unit,
        parts: usize,
        bare: &Expr,
        bare_is_gold: bool,
    ) -> Same {
        let (plain, converted) = (Box::new(value.clone()), bare);
        let marked = if unit.is_mark("%") {
            Some(Expr::Percent(plain))
        } else if unit.is_mark("°") {
            Some(Expr::Degree(plain))
        } else {
            None
        };
        if let Some(marked) = marked
            && self.values(&marked, converted).is_ok()
        {
            return Ok(());
        }
        if !self.policy.missing_unit || parts > 1 {
            return Err(Mismatch::Unit);
        }
        if bare_is_gold {
            self.scalars(bare, value)
        } else {
            self.scalars(value, bare)
        }
    }

    fn ratios(&mut self, a: &[Expr], b: &[Expr]) -> Same {
        when(a.len() == b.len())?;
        // A zero goes with a zero only: cross products alone would make 0:0 every ratio.
        for (x, y) in a.iter().zip(b) {
            when(x == y || self.is_zero(x)? == self.is_zero(y)?)?;
        }
        for i in 0..a.len() {
            for j in i + 1..a.len() {
                let left = Expr::Mul(vec![a[i].clone(), b[j].clone()]);
                let right = Expr::Mul(vec![b[i].clone(), a[j].clone()]);
                self.values(&left, &right)?;
            }
        }
        Ok(())
    }

    fn is_zero(&mut self, part: &Expr) -> Result<bool, Mismatch> {
        match self.values(part, &Expr::int(0)) {
            Ok(()) => Ok(true),
            Err(Mismatch::TooComplex) => Err(Mismatch::TooComplex),
            Err(_) => Ok(false),
        }
    }

    fn words(&mut self, gold: &Form, answer: &Form) -> Same {
        let text = |form: &Form| match form {
            Form::Text(key) => Some(key.clone()),
            Form::Letters(word) => Some(word.to_lowercase()),
            Form::Scalar(Expr::Sym(name)) => Some(name.to_lowercase()),
            Form::Scalar(Expr::E) => Some("e".to_owned()),
            Form::Scalar(Expr::I) => Some("i".to_owned()),
            _ => None,
        };
        // `AB` and `ab` are words to nobody: the case of a product's letters tells them apart.
        let may_ignore_case = match (gold, answer) {
            (Form::Letters(a), Form::Letters(b)) => {
                let is_capitalised =
                    a.chars().count() > 2 && a.chars().skip(1).eq(b.chars().skip(1));
                is_capitalised || relation::term(gold).is_none() || relation::term(answer).is_none()
            }
            _ => true,
        };
        if let (Some(a), Some(b)) = (text(gold), text(answer))
            && may_ignore_case
            && a == b
        {
            return Ok(());
        }
        // `xy` may be a product; a word that is prose to a reader is not an anagram of another.
        match (relation::term(gold), relation::term(answer)) {
            (Some(a), Some(b)) => self.values(&a, &b),
            _ => match answer {
                Form::List(..) | Form::Set(_) => Err(Mismatch::SeveralAnswers),
                _ => Err(Mismatch::Different),
            },
        }
    }

    fn relations(&mut self, gold: &Form, answer: &Form) -> Same {
        if let (Form::Relation(sides, signs), Form::Relation(sides_b, signs_b)) = (gold, answer) {
            return relation::same(self, (sides, signs), (sides_b, signs_b));
        }
        // One side is a relation: if it says what something equals, that is what counts.
        let value =
            |comparer: &mut Self, form: &Form| -> Result<Option<(Form, Option<Form>)>, Mismatch> {
                let Form::Relation(sides, signs) = form else {
                    return Ok(Some((form.clone(), None)));
                };
                if let [_, Sign::In] | [Sign::In] = signs.as_slice() {
                    return Ok(sides.last().map(|side| (side.clone(), None)));
                }
                let assigned = relation::assignment(comparer, sides, signs)?;
                Ok(assigned.map(|a| (a.value, a.rounded)))
            };
        let (a, mut b) = (value(self, gold)?, value(self, answer)?);
        if b.is_none() && !matches!(gold, Form::Relation(..)) {
            b = relation::named_value(self, answer)?;
        }
        if let (Some((a, rounded_a)), Some((b, rounded_b))) = (&a, &b) {
            let readings = [
                Some((a, b)),
                rounded_b.as_ref().map(|b| (a, b)),
                rounded_a.as_ref().map(|a| (a, b)),
            ];
            for (a, b) in readings.into_iter().flatten() {
                match self.answers(a, b) {
                    Err(Mismatch::Different) => {}
                    other => return other,
                }
            }
        }
        self.sets(gold, answer)
    }
}

/// Whether a form says that something is less or more than something else.
fn is_bound(form: &Form) -> bool {
    matches!(form, Form::Relation(_, signs) if signs.iter().any(|s| s.is_order()))
}

/// Whether a ratio could be a time of day that does not exist: `24:60`.
fn looks_like_time(parts: &[Expr]) -> bool {
    let among = |part: &Expr, low: u8, high: u8| {
        part.literal()
            .is_some_and(|x| (RBig::from(low)..=RBig::from(high)).contains(x))
    };
    matches!(parts, [first, second] if among(first, 0, 24) && among(second, 10, 99))
}

/// `6:10` beside what can only be a ratio, such as `3:5`. Nobody writes `3:05` for that.
fn as_ratio(minutes: u32) -> Result<Vec<Expr>, Mismatch> {
    let (first, second) = (minutes / 60, minutes % 60);
    when(second >= 10)?;
    Ok(vec![Expr::int(first.into()), Expr::int(second.into())])
}

fn same_time(a: (u32, Option<bool>), b: (u32, Option<bool>)) -> bool {
    let absolute = |(minutes, afternoon): (u32, Option<bool>)| {
        let half_day = 12 * 60;
        afternoon.map(|pm| minutes % half_day + if pm { half_day } else { 0 })
    };
    match (absolute(a), absolute(b)) {
        (Some(x), Some(y)) => x == y,
        (Some(x), None) => a.0 == b.0 || x == b.0,
        (None, Some(y)) => a.0 == b.0 || a.0 == y,
        (None, None) => a.0 == b.0,
    }
}

fn augment(
    i: usize,
    edges: &[Vec<usize>],
    partner: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for &j in &edges[i] {
        if seen[j] {
            continue;
        }
        seen[j] = true;
        if partner[j].is_none_or(|k| augment(k, edges, partner, seen)) {
            partner[j] = Some(i);
            return true;
        }
    }
    false
}
