//! Whether two expressions with variables agree: a search for a point where they differ, then numbers with
//! error bounds at points in every region that was found.

use crate::complex::{Arithmetic, Complex};
use crate::equality::{Equality, PRECISIONS, told_apart};
use crate::exact::exact;
use crate::expr::Expr;
use crate::float::{Program, Worth};
use crate::fuel::{Fuel, Maybe, Stop, known};
use crate::numeric::{Point, evaluate};
use crate::region::{Switches, has_pieces};
use crate::sample::Space;

use Worth::{Undefined, Unknown, Value};

/// Points of the grid where formulas do not change from region to region, and where they do.
const GRID: [usize; 2] = [40, 320];

/// Points that are compared with error bounds: at least, and at most.
const CLOSE: [usize; 2] = [8, 14];

/// Of those, so many must agree.
const MUST_AGREE: usize = 4;

/// Points at which floats say nothing and exact values are tried, in each search.
const BLIND: usize = 48;

/// Whole numbers at which steps are compared.
const WHOLE: usize = 24;

/// Differences seen in floats that may turn out to be none before the search is given up.
const FALSE_ALARMS: usize = 6;

/// What two expressions are compared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The same value.
    Same,
    /// a = k·b for one number k that is not 0.
    Multiple,
}

/// Compares `a`, the reference, with `b` at real points. Where k is real, its sign is returned too.
///
/// Two expressions are equal when they are equal as complex numbers, by principal values and real odd
/// roots, wherever they were looked at; or when, over the reals alone, they have one domain and
/// agree on it; or when both are a single formula, no piece of which could hide, and agree wherever
/// both are real: then they are branches of one analytic function.
pub(crate) fn agree(
    a: &Expr,
    b: &Expr,
    relation: Relation,
    fuel: &mut Fuel,
) -> Result<(Equality, Option<i32>), Stop> {
    let space = Space::of(a, b);
    let mut search = Search::new(a, b, &space, fuel)?;
    let equality = search.decide(relation, fuel)?;
    let sign = search.base.as_ref().and_then(|base| base.sign);
    Ok((equality, sign.filter(|_| equality == Equality::Equal)))
}

/// The sign of k, where a = k·b is known and k is real.
pub(crate) fn ratio_sign(a: &Expr, b: &Expr, fuel: &mut Fuel) -> Result<Option<i32>, Stop> {
    let space = Space::of(a, b);
    let mut search = Search::new(a, b, &space, fuel)?;
    search.find_base(fuel)?;
    Ok(search.base.and_then(|base| base.sign))
}

/// Values of both at the first point, whose ratio every other point must have.
struct Base {
    floats: [(f64, f64); 2],
    values: [Complex; 2],
    sign: Option<i32>,
}

struct Search<'a> {
    exprs: [&'a Expr; 2],
    programs: Option<[Program; 2]>,
    space: &'a Space,
    base: Option<Base>,
    false_alarms: usize,
    /// Floats saw a difference that could be neither confirmed nor refuted.
    is_doubtful: bool,
    points: Vec<Vec<f64>>,
    worths: Vec<[Worth; 2]>,
}

impl<'a> Search<'a> {
    fn new(a: &'a Expr, b: &'a Expr, space: &'a Space, fuel: &mut Fuel) -> Result<Self, Stop> {
        let f = Program::of(a, &space.names, fuel)?;
        let g = Program::of(b, &space.names, fuel)?;
        Ok(Self {
            exprs: [a, b],
            programs: f.zip(g).map(|(f, g)| [f, g]),
            space,
            base: None,
            false_alarms: 0,
            is_doubtful: false,
            points: Vec::new(),
            worths: Vec::new(),
        })
    }

    fn decide(&mut self, relation: Relation, fuel: &mut Fuel) -> Result<Equality, Stop> {
        let names = &self.space.names;
        let switches = Switches::of(self.exprs, names, fuel)?;
        let grid = GRID[usize::from(!switches.is_empty())];
        if relation == Relation::Multiple && !self.find_base(fuel)? {
            return Ok(Equality::Undecided);
        }
        self.points = (0..grid).map(|k| self.space.point(k)).collect();
        if self.differs_from(0, fuel)? {
            return Ok(Equality::Different);
        }
        if self.programs.is_some() && !switches.is_empty() {
            self.points.extend(self.space.orders());
            let more = switches.between_borders(self.space, fuel)?;
            self.points.extend(more);
            if self.differs_from(grid, fuel)? {
                return Ok(Equality::Different);
            }
        }
        if self.base.is_none() && switches.has_steps() {
            // Steps meet at whole numbers, where a formula that rounds is used.
            for k in 0..WHOLE {
                let point = self.space.whole(k);
                if self.exactly(&point, fuel)? == Some(Equality::Different) {
                    return Ok(Equality::Different);
                }
            }
        }
        if self.is_doubtful || self.space.is_out_of_reach() {
            return Ok(Equality::Undecided);
        }
        self.compare_closely(&switches, fuel)
    }

    /// Looks for a difference at the points from `first` on, in floats, and confirms it.
    fn differs_from(&mut self, first: usize, fuel: &mut Fuel) -> Result<bool, Stop> {
        let Some([f, g]) = &self.programs else {
            self.worths.resize(self.points.len(), [Unknown; 2]);
            return Ok(false);
        };
        let mut blind = 0;
        for point in &self.points[first..] {
            fuel.spend(f.cost(1) + g.cost(1) - 1)?;
            let worths = [f.at(point), g.at(point)];
            self.worths.push(worths);
            let floats = self.base.as_ref().map(|base| base.floats);
            // What floats cannot tell, such as a floor at a whole number, exact values may.
            if worths.contains(&Unknown)
                && !worths.contains(&Undefined)
                && self.base.is_none()
                && blind < BLIND
            {
                blind += 1;
                if self.exactly(point, fuel)? == Some(Equality::Different) {
                    return Ok(true);
                }
            }
            if self.false_alarms < FALSE_ALARMS && are_apart(worths, floats) {
                match self.at(point, fuel)? {
                    Equality::Different => return Ok(true),
                    Equality::Equal => self.false_alarms += 1,
                    Equality::Undecided => {
                        self.false_alarms += 1;
                        self.is_doubtful = true;
                    }
                }
            }
        }
        Ok(false)
    }

    /// The first point where neither is 0.
    fn find_base(&mut self, fuel: &mut Fuel) -> Result<bool, Stop> {
        for k in 0..24 {
            let point = self.space.point(k);
            let mut floats = [(1.0, 0.0); 2];
            if let Some([f, g]) = &self.programs {
                fuel.spend(f.cost(1) + g.cost(1))?;
                let (Value(x, ex), Value(y, ey)) = (f.at(&point), g.at(&point)) else {
                    continue;
                };
                floats = [(x, ex), (y, ey)];
            }
            let mut arithmetic = Arithmetic::new(PRECISIONS[0], fuel);
            let here = Point::of(self.space, &point);
            let x = known(evaluate(self.exprs[0], here, &mut arithmetic))?;
            let y = known(evaluate(self.exprs[1], here, &mut arithmetic))?;
            if let (Some(x), Some(y)) = (x, y)
                && !x.may_be_zero()
                && !y.may_be_zero()
            {
                let ratio = known(arithmetic.div(&x, &y))?;
                let (sign, values) = (ratio.and_then(|ratio| ratio.sign()), [x, y]);
                self.base = Some(Base {
                    floats,
                    values,
                    sign,
                });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Compares rational values at one point, where both are rational.
    fn exactly(&self, point: &[f64], fuel: &mut Fuel) -> Result<Option<Equality>, Stop> {
        let here = Point::of(self.space, point);
        let value_of = |name: &str| here.rational(name);
        let [a, b] = self.exprs;
        let Some(x) = exact(a, &value_of, fuel)? else {
            return Ok(None);
        };
        Ok(exact(b, &value_of, fuel)?.map(|y| Equality::of(x == y)))
    }

    /// Compares with error bounds at one point.
    fn at(&self, point: &[f64], fuel: &mut Fuel) -> Result<Equality, Stop> {
        let here = Point::of(self.space, point);
        let [a, b] = self.exprs;
        if self.base.is_none()
            && let Some(equality) = self.exactly(point, fuel)?
        {
            return Ok(equality);
        }
        for bits in PRECISIONS {
            let mut arithmetic = Arithmetic::new(bits, fuel);
            let x = known(evaluate(a, here, &mut arithmetic))?;
            let y = known(evaluate(b, here, &mut arithmetic))?;
            let (Some(x), Some(y)) = (x, y) else { continue };
            let x = known(self.scaled(x, 1, &mut arithmetic))?;
            let y = known(self.scaled(y, 0, &mut arithmetic))?;
            let (Some(x), Some(y)) = (x, y) else { continue };
            if let Some(equality) = told_apart(&x, &y, &mut arithmetic)? {
                return Ok(equality);
            }
            if self.base.is_some() {
                break;
            }
        }
        Ok(Equality::Undecided)
    }

    /// A value times the other expression's value at the base.
    fn scaled(&self, value: Complex, by: usize, arithmetic: &mut Arithmetic<'_>) -> Maybe<Complex> {
        match &self.base {
            None => Ok(value),
            Some(base) => arithmetic.mul(&value, &base.values[by]),
        }
    }

    /// Compares with error bounds in every region, at more points where there are few regions.
    fn compare_closely(&self, switches: &Switches, fuel: &mut Fuel) -> Result<Equality, Stop> {
        let [least, most] = CLOSE;
        let mut regions: Vec<(u64, bool)> = Vec::new();
        let (mut looked, mut agreed, mut agreed_real) = (0, 0, 0);
        let mut is_other_branch = false;
        let mut is_seen = vec![false; self.points.len()];
        for round in 0..2 {
            for (k, (point, worths)) in self.points.iter().zip(&self.worths).enumerate() {
                let shown = if self.programs.is_some() {
                    agreed_real
                } else {
                    agreed
                };
                let is_enough = match round {
                    0 => looked >= most,
                    _ => looked >= 2 * most || looked >= least && shown >= MUST_AGREE,
                };
                if is_enough {
                    break;
                }
                let both_real = matches!(worths, [Value(..), Value(..)]);
                let defined = match worths {
                    [Undefined, Undefined] => 0,
                    [Undefined, _] => 1,
                    [_, Undefined] => 2,
                    _ => 3,
                };
                let region = switches.region(point).wrapping_mul(4).wrapping_add(defined);
                let known = regions.iter().position(|(r, _)| *r == region);
                let is_settled = known.is_some_and(|i| regions[i].1);
                // A second round takes any point that tells something.
                let tells = both_real || self.programs.is_none();
                if is_seen[k] || round == 0 && is_settled || round == 1 && !tells {
                    continue;
                }
                is_seen[k] = true;
                looked += 1;
                let found = self.at(point, fuel)?;
                match (found, worths) {
                    (Equality::Equal, _) => {
                        agreed += 1;
                        agreed_real += usize::from(both_real);
                    }
                    (Equality::Different, [Undefined, _] | [_, Undefined])
                        if self.programs.is_some() =>
                    {
                        is_other_branch = true;
                    }
                    (Equality::Different, _) => return Ok(Equality::Different),
                    (Equality::Undecided, _) => {}
                }
                let floats = self.base.as_ref().map(|base| base.floats);
                let settled =
                    found != Equality::Undecided || defined < 3 || are_close(*worths, floats);
                match known {
                    Some(i) => regions[i].1 |= settled,
                    None => regions.push((region, settled)),
                }
            }
        }
        let all_settled = regions.iter().all(|(_, settled)| *settled);
        if !switches.is_empty() && self.programs.is_some() && !all_settled {
            return Ok(Equality::Undecided);
        }
        let enough = if is_other_branch { agreed_real } else { agreed } >= MUST_AGREE;
        if !enough {
            return Ok(Equality::Undecided);
        }
        if is_other_branch && !self.is_one_function(fuel)? {
            return Ok(Equality::Different);
        }
        Ok(Equality::Equal)
    }

    /// Whether agreement where both are real is enough: one domain, or one formula each.
    fn is_one_function(&self, fuel: &mut Fuel) -> Result<bool, Stop> {
        let same_domain = self
            .worths
            .iter()
            .all(|worths| !matches!(worths, [Value(..), Undefined] | [Undefined, Value(..)]));
        if same_domain {
            return Ok(true);
        }
        for e in self.exprs {
            if has_pieces(e, &self.space.names, &self.points, fuel)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Products of two values and the base's, crosswise.
fn crossed(worths: [Worth; 2], base: Option<[(f64, f64); 2]>) -> Option<(f64, f64, f64)> {
    let [Value(x, ex), Value(y, ey)] = worths else {
        return None;
    };
    let Some([(x0, ex0), (y0, ey0)]) = base else {
        return Some((x, y, ex + ey));
    };
    let error = ex * y0.abs() + x.abs() * ey0 + ey * x0.abs() + y.abs() * ex0;
    Some((x * y0, y * x0, error))
}

/// Whether floats see a difference.
fn are_apart(worths: [Worth; 2], base: Option<[(f64, f64); 2]>) -> bool {
    crossed(worths, base).is_some_and(|(x, y, error)| {
        let rounding = 8.0 * f64::EPSILON * (x.abs() + y.abs());
        (x - y).abs() > 4.0 * error + rounding
    })
}

/// Whether floats see agreement to six digits.
fn are_close(worths: [Worth; 2], base: Option<[(f64, f64); 2]>) -> bool {
    crossed(worths, base).is_some_and(|(x, y, error)| {
        (x - y).abs() + error <= 1e-6 * x.abs().max(y.abs()) || (x == 0.0 && y == 0.0)
    })
}
