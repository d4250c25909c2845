//! Whether two expressions are worth the same, on a dense grid of real points.

use crate::expr::Expr;
use crate::expr::Worth::{Undefined, Value};
use crate::generate::Random;

/// What the grid says of two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// They have the same domain and agree on it.
    Same,
    /// They agree wherever both are real, and one is real where the other is not.
    OtherDomain,
    /// They differ on an open set.
    Different,
    /// Too few points have a value.
    Unclear,
}

/// How the values of two expressions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Values,
    /// Of f = 0 and g = 0: whether f is a multiple of g.
    Equations,
}

/// Points whose coordinates have signs of their own, are small, large, between the constants and
/// beyond all of them.
pub(crate) fn points(r: &mut Random, a: &Expr, b: &Expr, count: usize) -> Vec<[f64; 3]> {
    let mut constants = vec![1.0];
    for e in [a, b] {
        e.walk(&mut |x| {
            if let Expr::Num(n) | Expr::Pow(_, n) | Expr::Raise(n, _) = x {
                constants.push(n.abs().max(1) as f64);
            }
        });
    }
    let largest = constants.iter().copied().fold(1.0, f64::max);
    (0..count)
        .map(|_| {
            std::array::from_fn(|_| {
                let size = match r.below(9) {
                    0 | 1 => 3.0 * largest * r.unit(),
                    2 => 12.0 * r.unit(),
                    3 => (2.0f64).powf(16.0 * r.unit() - 5.0),
                    4 => largest * (1.0 + 20.0 * r.unit()),
                    8 => largest.powf(1.0 + 2.0 * r.unit()),
                    5 => {
                        let product = constants[r.below(constants.len())]
                            * constants[r.below(constants.len())];
                        product * (0.9 + 0.3 * r.unit())
                    }
                    6 => {
                        let quotient = constants[r.below(constants.len())]
                            / constants[r.below(constants.len())];
                        quotient * (0.9 + 0.2 * r.unit())
                    }
                    _ => constants[r.below(constants.len())] + 1.5 * (r.unit() - 0.5),
                };
                if r.below(2) == 0 { size } else { -size }
            })
        })
        .collect()
}

pub(crate) fn label(a: &Expr, b: &Expr, how: As, grid: &[[f64; 3]]) -> Label {
    let (mut both, mut one) = (0, 0);
    let mut first: Option<((f64, f64), (f64, f64))> = None;
    for at in grid {
        match (a.worth(at), b.worth(at)) {
            (Value(x, ex), Value(y, ey)) => {
                both += 1;
                let (x0, y0) = match (how, first) {
                    (As::Values, _) => ((1.0, 0.0), (1.0, 0.0)),
                    (As::Equations, Some(first)) => first,
                    (As::Equations, None) => {
                        if x.abs() > 1e3 * ex && y.abs() > 1e3 * ey {
                            first = Some(((x, ex), (y, ey)));
                        }
                        continue;
                    }
                };
                if differ((x, ex), (y, ey), x0, y0) {
                    // On an open set: a little further on they still do.
                    let near = at.map(|v| v * (1.0 + 1e-9));
                    if let (Value(x, ex), Value(y, ey)) = (a.worth(&near), b.worth(&near))
                        && differ((x, ex), (y, ey), x0, y0)
                    {
                        return Label::Different;
                    }
                }
            }
            (Value(..), Undefined) | (Undefined, Value(..)) => one += 1,
            _ => {}
        }
    }
    let is_zero = how == As::Equations && first.is_none();
    match (both, one) {
        _ if is_zero => Label::Unclear,
        (0..12, _) => Label::Unclear,
        (_, 0) => Label::Same,
        _ => Label::OtherDomain,
    }
}

/// Whether x·y₀ and y·x₀ are apart by more than their errors, with room.
fn differ(x: (f64, f64), y: (f64, f64), x0: (f64, f64), y0: (f64, f64)) -> bool {
    let (left, right) = (x.0 * y0.0, y.0 * x0.0);
    let error = x.1 * y0.0.abs() + x.0.abs() * y0.1 + y.1 * x0.0.abs() + y.0.abs() * x0.1;
    let room = (left.abs() + right.abs()) * 1e-14;
    (left - right).abs() > 16.0 * error + room
}
