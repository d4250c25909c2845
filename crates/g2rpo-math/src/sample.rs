//! Points at which expressions are compared: every variable with a sign of its own, small, large,
//! between the constants of both expressions, and beyond all of them.

use dashu::base::Signed;
use dashu::rational::RBig;

use crate::expr::{Expr, Func};
use crate::modular::hash;

/// The variables of two expressions, and the sizes that matter for them.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) names: Vec<String>,
    /// Variables that stand for natural numbers.
    pub(crate) natural: Vec<bool>,
    /// Sizes of the constants, from 1 on, each once.
    sizes: Vec<f64>,
}

/// At most so many different constants are looked at.
const MAX_SIZES: usize = 40;

/// No factorial of more is ever computed.
const MAX_NATURAL: f64 = 5000.0;

impl Space {
    /// Only the reference may ask for natural numbers: an answer that does would choose the points
    /// at which it is right.
    pub(crate) fn of(reference: &Expr, answer: &Expr) -> Self {
        let mut names: Vec<String> = [reference.symbols(), answer.symbols()]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        let mut discrete = Vec::new();
        reference.walk(&mut |e| collect_naturals(e, &mut discrete));
        let natural = names.iter().map(|n| discrete.contains(n)).collect();
        let mut sizes = vec![1.0];
        for e in [reference, answer] {
            e.walk(&mut |e| {
                let value = size_of(e);
                if let Some(v) = value
                    && v.is_finite()
                    && v > 0.0
                    && sizes.len() < MAX_SIZES
                    && !sizes.contains(&v)
                {
                    sizes.push(v);
                }
            });
        }
        sizes.sort_unstable_by(f64::total_cmp);
        Self {
            names,
            natural,
            sizes,
        }
    }

    /// The `k`-th point of a fixed sequence, the same in every run.
    pub(crate) fn point(&self, k: usize) -> Vec<f64> {
        (0..self.names.len()).map(|i| self.value(i, k)).collect()
    }

    /// Points beyond all constants with up to three variables in every order of size and with every sign.
    pub(crate) fn orders(&self) -> Vec<Vec<f64>> {
        const ORDERS: [[usize; 3]; 6] = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        let n = self.names.len();
        if n > 3 {
            return Vec::new();
        }
        let largest = self.sizes.last().copied().unwrap_or(1.0).min(1e9);
        let sizes = [3.13, 17.31, 101.77].map(|k| k * largest);
        let mut points = Vec::new();
        for order in ORDERS {
            for signs in 0..1 << n {
                let of = |i: usize| {
                    let size = sizes[order[i]];
                    match (self.natural[i], signs >> i & 1 == 1) {
                        (true, _) => size.min(MAX_NATURAL).floor(),
                        (false, true) => -size,
                        (false, false) => size,
                    }
                };
                points.push((0..n).map(of).collect());
            }
        }
        points
    }

    /// Whether a constant lies where no natural number of a point does, so that what it changes is not seen.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.natural.contains(&true) && self.sizes.iter().any(|s| *s > 0.9 * MAX_NATURAL)
    }

    /// The `k`-th point of whole numbers, small ones of both signs first.
    pub(crate) fn whole(&self, k: usize) -> Vec<f64> {
        let of = |i: usize| {
            let n = ((k + i * 5) * (i + 1)) % 24;
            let size = (n / 2 + n % 2) as f64;
            if n % 2 == 1 && !self.natural[i] {
                -size
            } else {
                size.max(f64::from(self.natural[i]))
            }
        };
        (0..self.names.len()).map(of).collect()
    }

    /// Values far beyond all constants, and far below.
    pub(crate) fn far(&self) -> impl Iterator<Item = f64> {
        let largest = self.sizes.last().copied().unwrap_or(1.0).min(1e9);
        let sizes = (1..14).map(move |k| 1.37 * largest * f64::from(k * 2).exp2());
        let small = (1..8).map(|k| 1.37 / f64::from(k * 3).exp2());
        sizes.chain(small).flat_map(|size| [-size, size])
    }

    /// The `k`-th value of the `i`-th variable.
    pub(crate) fn value(&self, i: usize, k: usize) -> f64 {
        let mut state = hash("point", (k * 64 + i) as u64);
        let mut draw = || {
            state = hash("next", state);
            state
        };
        let mut unit = || (draw() >> 11) as f64 / (1u64 << 53) as f64;
        let any = |u: f64| self.sizes[(u * self.sizes.len() as f64) as usize];
        let largest = self.sizes.last().copied().unwrap_or(1.0);
        // The first points are near 1, where all functions are tame.
        let form = if k < 6 { 0 } else { (unit() * 9.0) as usize };
        let (u, v, w) = (unit(), unit(), unit());
        if self.natural[i] {
            let value = match form {
                0 => 3.0 + 30.0 * u,
                1 | 2 => 1.0 + 12.0 * u,
                3 | 4 => any(u) + 6.0 * v - 2.0,
                5 => any(u) * (1.0 + 2.0 * v),
                6 => (any(u) * (1.0 + 3.0 * v).floor()).round(),
                _ => largest * (1.0 + 2.0 * u) + 2.0,
            };
            return value.min(MAX_NATURAL * (0.9 + 0.1 * w)).max(1.0).floor();
        }
        let size = match form {
            0 | 1 => 0.25 + 4.25 * u,
            2 => (18.0 * u - 7.0).exp2(),
            3 => 3.0 * largest * u,
            4 => any(u) * (0.95 + 0.1 * v),
            5 => any(u) + 2.5 * v - 1.25,
            6 => any(u) * any(v) * (0.9 + 0.3 * w),
            7 => any(u) / any(v) * (0.9 + 0.2 * w),
            _ => largest * (1.0 + 20.0 * u),
        };
        if (k ^ (draw() >> 40) as usize) & 1 == 0 {
            size
        } else {
            -size
        }
    }
}

/// The size of a constant: of a number, or of a power or quotient of numbers.
fn size_of(e: &Expr) -> Option<f64> {
    match e {
        Expr::Pow(base, exponent) => {
            Some(size_of(base)?.powf(exponent.literal()?.to_f64().value()))
        }
        Expr::Div(above, below) => Some(size_of(above)? / size_of(below)?),
        _ => e.literal().map(|v| v.to_f64().value().abs()),
    }
}

/// Variables that stand where only natural numbers make sense.
fn collect_naturals(e: &Expr, into: &mut Vec<String>) {
    let mut all = |e: &Expr| into.extend(e.symbols().into_iter().map(str::to_owned));
    match e {
        Expr::Call(Func::Factorial | Func::Binomial | Func::Gcd | Func::Lcm, arguments) => {
            arguments.iter().for_each(&mut all);
        }
        Expr::Pow(base, exponent) if base.literal().is_some_and(RBig::is_negative) => all(exponent),
        _ => {}
    }
}
