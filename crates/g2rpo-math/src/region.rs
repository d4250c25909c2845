//! Where expressions change their formula: the borders between the regions of absolute values, bounds,
//! floors, roots and logarithms, and points in the regions between them.

use crate::expr::{Expr, Func};
use crate::float::{Program, Worth};
use crate::fuel::{Fuel, Stop};
use crate::sample::Space;

/// An expression whose sign, or whose integer part, decides which formula holds.
#[derive(Debug)]
struct Switch {
    program: Program,
    by_steps: bool,
}

/// All that two expressions switch on.
#[derive(Debug)]
pub(crate) struct Switches(Vec<Switch>);

/// More are not looked at one by one; the grid still crosses them.
const MAX_SWITCHES: usize = 16;

/// Points on a line that is searched for borders.
const ON_A_LINE: usize = 40;

/// Lines for each variable, when there are several.
const LINES: usize = 8;

/// Borders on one line that are looked at.
const MAX_BORDERS: usize = 16;

/// How far beside a border, in its size or in units: near a pole much happens in little space.
const BESIDE: [f64; 8] = [
    -0.37, -0.061, -0.0037, -0.00007, 0.00007, 0.0037, 0.061, 0.37,
];

/// Borders of one variable that are crossed with those of others.
const MAX_KINKS: usize = 12;

/// Crossings that are looked at.
const MAX_CROSSINGS: usize = 512;

/// Places on one line where a switch comes near 0 and may pass it twice.
const MAX_DIPS: usize = 8;

/// Halvings of an interval that holds a border.
const HALVINGS: usize = 40;

impl Switch {
    /// The number of the region; nothing where it cannot be told.
    fn cell(&self, point: &[f64]) -> Option<i64> {
        match self.program.at(point) {
            Worth::Value(v, _) if self.by_steps => Some(v.floor().clamp(-1e15, 1e15) as i64),
            Worth::Value(v, e) if v.abs() > e => Some(v.signum() as i64),
            Worth::Value(..) | Worth::Unknown => None,
            Worth::Undefined => Some(i64::MIN),
        }
    }
}

impl Switches {
    pub(crate) fn of(exprs: [&Expr; 2], names: &[String], fuel: &mut Fuel) -> Result<Self, Stop> {
        let mut on: Vec<(Expr, bool)> = Vec::new();
        for e in exprs {
            e.walk(&mut |e| {
                for found in switches_of(e) {
                    if on.len() < MAX_SWITCHES && !found.0.is_constant() && !on.contains(&found) {
                        on.push(found);
                    }
                }
            });
        }
        let mut switches = Vec::with_capacity(on.len());
        for (e, by_steps) in on {
            if let Some(program) = Program::of(&e, names, fuel)? {
                switches.push(Switch { program, by_steps });
            }
        }
        Ok(Self(switches))
    }

    /// Whether there are floors or ceilings.
    pub(crate) fn has_steps(&self) -> bool {
        self.0.iter().any(|switch| switch.by_steps)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number that is the same for points of one region; steps far from 0 count as one.
    pub(crate) fn region(&self, point: &[f64]) -> u64 {
        self.0.iter().fold(7, |region: u64, switch| {
            let cell = switch.cell(point).map_or(9, |c| c.clamp(-3, 3)) + 4;
            region.wrapping_mul(31).wrapping_add(cell as u64)
        })
    }

    /// Points between the borders that lie on lines through the space, one variable at a time.
    pub(crate) fn between_borders(
        &self,
        space: &Space,
        fuel: &mut Fuel,
    ) -> Result<Vec<Vec<f64>>, Stop> {
        let mut found = Vec::new();
        let mut kinks: Vec<Vec<f64>> = Vec::new();
        let lines = if space.names.len() == 1 { 1 } else { LINES };
        for (i, &is_natural) in space.natural.iter().enumerate() {
            let mut kinks_here = Vec::new();
            for line in 0..if is_natural { 0 } else { lines } {
                let mut point = space.point(if line < LINES / 2 { line } else { line * 3 });
                // Among the lines are all signs of two other variables.
                for (j, value) in point
                    .iter_mut()
                    .enumerate()
                    .filter(|(j, _)| !space.natural[*j])
                {
                    let is_negative = line >> (j % 2) & 1 == 1;
                    *value = if is_negative {
                        -value.abs()
                    } else {
                        value.abs()
                    };
                }
                let mut on_line: Vec<f64> = (0..ON_A_LINE).map(|k| space.value(i, k + 6)).collect();
                on_line.extend(space.far());
                on_line.sort_unstable_by(f64::total_cmp);
                let (mut borders, mut steps) = (Vec::new(), Vec::new());
                for switch in &self.0 {
                    fuel.spend(switch.program.cost(ON_A_LINE))?;
                    let into = if switch.by_steps {
                        &mut steps
                    } else {
                        &mut borders
                    };
                    switch.borders(&mut point, i, &on_line, into, fuel)?;
                }
                let most = MAX_BORDERS / space.names.len().min(2);
                thin_out(&mut borders, most);
                thin_out(&mut steps, most);
                borders.append(&mut steps);
                borders.sort_unstable_by(f64::total_cmp);
                kinks_here.extend_from_slice(&borders);
                let mut add = |x: f64| {
                    point[i] = x;
                    found.push(point.clone());
                };
                for pair in borders.windows(2) {
                    add(pair[0] + (pair[1] - pair[0]) * 0.5123);
                }
                for &border in &borders {
                    for step in BESIDE {
                        add(border + step * border.abs().clamp(0.1, 4.0));
                    }
                }
            }
            thin_out(&mut kinks_here, MAX_KINKS);
            kinks.push(kinks_here);
        }
        found.extend(crossings(space, &kinks));
        Ok(found)
    }
}

/// Points where borders of different variables meet: what hides there is seen on no line.
fn crossings(space: &Space, kinks: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut points = vec![space.point(0)];
    if kinks.iter().filter(|k| !k.is_empty()).count() < 2 {
        return Vec::new();
    }
    for (i, kinks) in kinks.iter().enumerate().filter(|(_, k)| !k.is_empty()) {
        if points.len() * kinks.len() > MAX_CROSSINGS {
            break;
        }
        points = (points.iter())
            .flat_map(|point| {
                kinks.iter().map(move |kink| {
                    let mut point = point.clone();
                    point[i] = kink + 0.0037 * kink.abs().clamp(0.1, 4.0);
                    point
                })
            })
            .collect();
    }
    points
}

/// Leaves each border once, and of many those nearest to 0 and farthest from it.
fn thin_out(borders: &mut Vec<f64>, most: usize) {
    borders.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()).then(a.total_cmp(b)));
    borders.dedup_by(|b, a| (*b - *a).abs() <= 1e-9 * a.abs().max(b.abs()));
    if borders.len() > most {
        borders.drain(most * 3 / 4..borders.len() - most / 4);
    }
}

impl Switch {
    fn borders(
        &self,
        point: &mut [f64],
        i: usize,
        on_line: &[f64],
        into: &mut Vec<f64>,
        fuel: &mut Fuel,
    ) -> Result<(), Stop> {
        let mut before: Option<(f64, i64)> = None;
        // Sizes at the last two points of one sign.
        let mut sizes: Vec<(f64, f64)> = Vec::new();
        let mut dips = 0;
        for &x in on_line {
            point[i] = x;
            let Some(cell) = self.cell(point) else {
                continue;
            };
            if let Some((low, first)) = before
                && first != cell
            {
                into.push(self.border(point, i, (low, x), first, fuel)?);
                sizes.clear();
            }
            before = Some((x, cell));
            if self.by_steps || cell == i64::MIN {
                continue;
            }
            point[i] = x;
            sizes.push((x, self.size(point)));
            if let [.., (low, a), (_, b), (_, c)] = sizes[..]
                && b <= a
                && b <= c
                && dips < MAX_DIPS
            {
                dips += 1;
                self.dip(point, i, (low, x), cell, into, fuel)?;
            }
        }
        Ok(())
    }

    /// How far the switch is from changing.
    fn size(&self, point: &[f64]) -> f64 {
        match self.program.at(point) {
            Worth::Value(v, _) => v.abs(),
            _ => f64::INFINITY,
        }
    }

    /// Where the region `first` ends between two points, of which only the lower one lies in it.
    fn border(
        &self,
        point: &mut [f64],
        i: usize,
        (mut low, mut high): (f64, f64),
        first: i64,
        fuel: &mut Fuel,
    ) -> Result<f64, Stop> {
        fuel.spend(self.program.cost(HALVINGS))?;
        for _ in 0..HALVINGS {
            point[i] = low + (high - low) / 2.0;
            if self.cell(point) == Some(first) {
                low = point[i];
            } else {
                high = point[i];
            }
        }
        Ok(high)
    }

    /// Looks for two borders, or one that is only touched, where the size is least in the middle.
    fn dip(
        &self,
        point: &mut [f64],
        i: usize,
        (low, high): (f64, f64),
        cell: i64,
        into: &mut Vec<f64>,
        fuel: &mut Fuel,
    ) -> Result<(), Stop> {
        fuel.spend(self.program.cost(2 * HALVINGS))?;
        let (mut left, mut right) = (low, high);
        let mut least = f64::INFINITY;
        for _ in 0..HALVINGS {
            let inner = [0.382, 0.618].map(|share| left + (right - left) * share);
            let mut sizes = [0.0; 2];
            for (size, x) in sizes.iter_mut().zip(inner) {
                point[i] = x;
                if self.cell(point).is_some_and(|c| c != cell) {
                    into.push(self.border(point, i, (low, x), cell, fuel)?);
                    into.push(self.border(point, i, (high, x), cell, fuel)?);
                    return Ok(());
                }
                *size = self.size(point);
                least = least.min(*size);
            }
            if sizes[0] < sizes[1] {
                right = inner[1];
            } else {
                left = inner[0];
            }
        }
        point[i] = low;
        if least < 1e-9 * self.size(point) {
            into.push(left);
        }
        Ok(())
    }
}

/// What a node switches on, and whether by integer steps.
fn switches_of(e: &Expr) -> Vec<(Expr, bool)> {
    let by_sign = |e: &Expr| (e.clone(), false);
    match e {
        Expr::Call(Func::Abs | Func::Sign | Func::Ln, x) => vec![by_sign(&x[0])],
        Expr::Call(Func::Floor | Func::Ceil, x) => vec![(x[0].clone(), true)],
        Expr::Call(Func::Log, x) => vec![by_sign(&x[0]), by_sign(&x[1])],
        Expr::Call(Func::Max | Func::Min, x) => {
            let pairs = (0..x.len()).flat_map(|i| (i + 1..x.len()).map(move |j| (i, j)));
            let gaps = pairs.take(MAX_SWITCHES);
            gaps.map(|(i, j)| (x[i].minus(&x[j]), false)).collect()
        }
        Expr::Call(Func::Asin | Func::Acos | Func::Acosh | Func::Atanh, x) => {
            let one = Expr::int(1);
            let below = Expr::Add(vec![x[0].clone(), one.clone()]);
            vec![(x[0].minus(&one), false), (below, false)]
        }
        Expr::Root(x, _) | Expr::Pow(x, _) if is_partial(e) || has_pole(e) => vec![by_sign(x)],
        Expr::Div(_, x) => vec![by_sign(x)],
        _ => Vec::new(),
    }
}

/// A root, or a power whose exponent is no integer literal.
fn is_partial(e: &Expr) -> bool {
    match e {
        Expr::Root(..) => true,
        Expr::Pow(_, exponent) => !exponent
            .literal()
            .is_some_and(dashu::rational::RBig::is_int),
        _ => false,
    }
}

fn has_pole(e: &Expr) -> bool {
    matches!(e, Expr::Pow(_, n) if n.literal().is_some_and(dashu::base::Signed::is_negative))
}

/// Whether an expression is pieced together: more than one formula, each valid in a region of its own.
/// Roots of what is never negative are, since they may be absolute values.
pub(crate) fn has_pieces(
    e: &Expr,
    names: &[String],
    points: &[Vec<f64>],
    fuel: &mut Fuel,
) -> Result<bool, Stop> {
    let mut radicands = Vec::new();
    let mut pieced = false;
    e.walk(&mut |e| match e {
        Expr::Call(
            Func::Abs
            | Func::Sign
            | Func::Max
            | Func::Min
            | Func::Floor
            | Func::Ceil
            | Func::Gcd
            | Func::Lcm,
            x,
        ) => pieced |= x.iter().any(|x| !x.is_constant()),
        Expr::Call(Func::Asin | Func::Acos | Func::Atan | Func::Acot, x) => {
            let is_inverted =
                |e: &Expr| matches!(e, Expr::Div(..) | Expr::Pow(..) | Expr::Call(..));
            pieced |= x[0].any(is_inverted) && !x[0].is_constant();
        }
        Expr::Root(x, _) | Expr::Pow(x, _) if is_partial(e) && !x.is_constant() => {
            radicands.push((**x).clone());
        }
        _ => {}
    });
    for radicand in radicands {
        let Some(program) = Program::of(&radicand, names, fuel)? else {
            return Ok(true);
        };
        fuel.spend(program.cost(points.len()))?;
        let is_negative = |p: &Vec<f64>| matches!(program.at(p), Worth::Value(v, e) if v < -e);
        pieced |= !points.iter().any(is_negative);
    }
    Ok(pieced)
}
