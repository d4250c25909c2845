//! Random expressions, and second ones made from them by a near miss or an identity.

use std::rc::Rc;

use crate::expr::Expr::{self, *};

/// SplitMix64 (Steele et al., OOPSLA 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut h = self.0;
        h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        h ^ (h >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// From 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Small numbers often, large ones too.
    fn constant(&mut self) -> i64 {
        match self.below(3) {
            0 => 1 + self.below(4) as i64,
            1 => 1 + self.below(12) as i64,
            _ => 1 + self.below(100) as i64,
        }
    }
}

fn rc(e: Expr) -> Rc<Expr> {
    Rc::new(e)
}

pub(crate) fn random(r: &mut Random, depth: usize, variables: usize) -> Expr {
    if depth == 0 || r.below(8) == 0 {
        return if r.below(5) < 3 {
            Var(r.below(variables))
        } else {
            Num(r.constant())
        };
    }
    let one = |r: &mut Random| rc(random(r, depth - 1, variables));
    match r.below(28) {
        0..5 => Add(one(r), one(r)),
        5..9 => Sub(one(r), one(r)),
        9..13 => Mul(one(r), one(r)),
        13..15 => Div(one(r), one(r)),
        15 | 16 => Pow(one(r), [2, 3, 2, -1][r.below(4)]),
        17 => Raise([2, 3, 10][r.below(3)], one(r)),
        18 | 19 => Root(one(r), [2, 2, 3, 4][r.below(4)]),
        20 | 21 => Abs(one(r)),
        22 => Floor(one(r)),
        23 => Ceil(one(r)),
        24 => match r.below(2) {
            0 => Min(one(r), one(r)),
            _ => Max(one(r), one(r)),
        },
        25 => match r.below(2) {
            0 => Ln(one(r)),
            _ => Log([2, 10][r.below(2)], one(r)),
        },
        26 => match r.below(2) {
            0 => Sin(one(r)),
            _ => Cos(one(r)),
        },
        _ => Atan(one(r)),
    }
}

/// How the second expression came about, and it.
pub(crate) type Made = (&'static str, Expr);

/// Changes one node a little. The result is often worth something else, and sometimes not.
pub(crate) fn near_miss(r: &mut Random, e: &Expr, variables: usize) -> Option<Made> {
    let at = r.below(e.size());
    let (c, v) = (r.constant(), r.below(variables));
    let step = if r.below(2) == 0 { 1 } else { -1 };
    let around = |wrap: &dyn Fn(Rc<Expr>) -> Expr| e.replaced(at, &|x| wrap(rc(x.clone())));
    let made = match r.below(15) {
        0 | 1 => ("absolute value", around(&|x| Abs(x))),
        2 => ("absolute value", around(&|x| Root(rc(Pow(x, 2)), 2))),
        3 => ("absolute value", without(e, at, |x| matches!(x, Abs(_)))?),
        4 => ("floor", around(&|x| Floor(x))),
        5 => ("ceiling", around(&|x| Ceil(x))),
        6 => (
            "floor",
            without(e, at, |x| matches!(x, Floor(_) | Ceil(_)))?,
        ),
        7 => ("floor", e_plus(e, Floor(rc(Div(rc(Var(v)), rc(Num(c))))))),
        8 => ("bound", around(&|x| Max(x, rc(Num(c * step))))),
        9 => ("bound", around(&|x| Min(x, rc(Num(c * step))))),
        10 => ("bound", without(e, at, |x| matches!(x, Min(..) | Max(..)))?),
        11 => (
            "constant",
            changed(e, at, |x| match x {
                Num(n) => Some(Num(n + step)),
                Pow(a, n) => Some(Pow(a.clone(), n + 1)),
                _ => None,
            })?,
        ),
        12 => ("constant", around(&|x| Add(x, rc(Num(step))))),
        13 => ("sign", around(&|x| Sub(rc(Num(0)), x))),
        _ => (
            "operator",
            changed(e, at, |x| match x {
                Add(a, b) => Some(Sub(a.clone(), b.clone())),
                Sub(a, b) => Some(Add(a.clone(), b.clone())),
                Mul(a, b) => Some(Div(a.clone(), b.clone())),
                Div(a, b) => Some(Mul(a.clone(), b.clone())),
                Min(a, b) => Some(Max(a.clone(), b.clone())),
                Max(a, b) => Some(Min(a.clone(), b.clone())),
                Floor(a) => Some(Ceil(a.clone())),
                Ceil(a) => Some(Floor(a.clone())),
                Sin(a) => Some(Cos(a.clone())),
                Cos(a) => Some(Sin(a.clone())),
                Var(w) => Some(Var((w + 1) % variables)),
                _ => None,
            })?,
        ),
    };
    Some(made)
}

fn e_plus(e: &Expr, more: Expr) -> Expr {
    Add(rc(e.clone()), rc(more))
}

/// A node like `which`, the first from the `at`-th on, gives way to its first part.
fn without(e: &Expr, at: usize, which: fn(&Expr) -> bool) -> Option<Expr> {
    changed(e, at, |x| which(x).then(|| (**x.parts()[0]).clone()))
}

/// The first node from the `at`-th on for which there is a change.
fn changed(e: &Expr, at: usize, change: impl Fn(&Expr) -> Option<Expr>) -> Option<Expr> {
    let mut nodes = Vec::new();
    e.walk(&mut |x| nodes.push(change(x)));
    let found = (at..nodes.len())
        .chain(0..at)
        .find(|i| nodes[*i].is_some())?;
    let by = nodes.swap_remove(found)?;
    Some(e.replaced(found, &|_| by.clone()))
}

/// Writes one node in another way that is worth the same wherever both are real.
pub(crate) fn identity(r: &mut Random, e: &Expr) -> Option<Made> {
    let at = r.below(e.size());
    let c = r.constant();
    let pick = r.below(4);
    let half = |x: Expr| Div(rc(x), rc(Num(2)));
    let by = |x: &Expr| -> Option<Expr> {
        Some(match x {
            Add(a, b) if pick == 0 => Sub(a.clone(), rc(Sub(rc(Num(0)), b.clone()))),
            Add(a, b) => Add(b.clone(), a.clone()),
            Sub(a, b) if pick == 0 => Sub(rc(Num(0)), rc(Sub(b.clone(), a.clone()))),
            Sub(a, b) => Add(rc(Mul(rc(Num(-1)), b.clone())), a.clone()),
            Mul(a, b) => match (&**a, &**b) {
                (Add(p, q), _) => Add(rc(Mul(p.clone(), b.clone())), rc(Mul(q.clone(), b.clone()))),
                (Root(p, 2), Root(q, 2)) => Root(rc(Mul(p.clone(), q.clone())), 2),
                _ => Mul(b.clone(), a.clone()),
            },
            Div(a, b) => Mul(a.clone(), rc(Pow(b.clone(), -1))),
            Pow(a, 2) => Mul(a.clone(), a.clone()),
            Pow(a, 3) => Mul(rc(Pow(a.clone(), 2)), a.clone()),
            Root(a, 2) if pick == 0 => Pow(rc(Root(a.clone(), 4)), 2),
            Root(a, n) => match &**a {
                Mul(p, q) => Mul(rc(Root(p.clone(), *n)), rc(Root(q.clone(), *n))),
                Div(p, q) => Div(rc(Root(p.clone(), *n)), rc(Root(q.clone(), *n))),
                _ => return None,
            },
            Abs(a) if pick < 2 => Root(rc(Pow(a.clone(), 2)), 2),
            Abs(a) => Max(a.clone(), rc(Sub(rc(Num(0)), a.clone()))),
            Max(a, b) | Min(a, b) if pick < 2 => {
                let (sum, gap) = (
                    rc(Add(a.clone(), b.clone())),
                    rc(Abs(rc(Sub(a.clone(), b.clone())))),
                );
                half(if matches!(x, Max(..)) {
                    Add(sum, gap)
                } else {
                    Sub(sum, gap)
                })
            }
            Max(a, b) => Max(b.clone(), a.clone()),
            Min(a, b) => Min(b.clone(), a.clone()),
            Floor(a) if pick < 2 => Sub(rc(Floor(rc(Add(a.clone(), rc(Num(c)))))), rc(Num(c))),
            Floor(a) => Sub(rc(Num(0)), rc(Ceil(rc(Sub(rc(Num(0)), a.clone()))))),
            Ceil(a) => Sub(rc(Num(0)), rc(Floor(rc(Sub(rc(Num(0)), a.clone()))))),
            Ln(a) | Log(_, a) => {
                let again = |y: &Rc<Expr>| {
                    rc(match x {
                        Log(base, _) => Log(*base, y.clone()),
                        _ => Ln(y.clone()),
                    })
                };
                match &**a {
                    Mul(p, q) => Add(again(p), again(q)),
                    Div(p, q) => Sub(again(p), again(q)),
                    Pow(p, n) => Mul(rc(Num(*n)), again(p)),
                    _ => return None,
                }
            }
            Sin(a) => {
                let h = rc(half((**a).clone()));
                Mul(rc(Num(2)), rc(Mul(rc(Sin(h.clone())), rc(Cos(h)))))
            }
            Cos(a) => {
                let h = rc(half((**a).clone()));
                Sub(rc(Num(1)), rc(Mul(rc(Num(2)), rc(Pow(rc(Sin(h)), 2)))))
            }
            _ => return None,
        })
    };
    Some(("identity", changed(e, at, by)?))
}
