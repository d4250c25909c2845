//! Equality of values as the tests of a data set mean it, decided outside of the sandbox.

use super::value::{Int, Value};

impl Value {
    /// Python's `==` between values of exact built-in types.
    ///
    /// Numbers compare by exact value across `bool`, `int`, `float` and `complex`; a list never
    /// equals a tuple; sets and dictionaries ignore order, and a set may equal a frozen set. A NaN
    /// equals nothing. Takes `n log n` steps in the size of the values, whatever is in them.
    ///
    /// ```
    /// use g2rpo_verify::code::Value;
    ///
    /// assert!(Value::from(1).python_eq(&Value::Bool(true)));
    /// assert!(Value::from(2).python_eq(&Value::Float(2.0)));
    /// assert!(!Value::List(vec![]).python_eq(&Value::Tuple(vec![])));
    /// ```
    #[must_use]
    pub fn python_eq(&self, other: &Self) -> bool {
        !self.has_nan() && !other.has_nan() && self.canonical() == other.canonical()
    }

    /// As [`python_eq`](Self::python_eq), where numbers of which one is a float may also differ by
    /// `tolerance` times the larger magnitude. Inside sets and among dictionary keys, numbers
    /// compare exactly.
    #[must_use]
    pub fn approx_eq(&self, other: &Self, tolerance: f64) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.approx_eq(b, tolerance))
            }
            (Self::Dict(a), Self::Dict(b)) => {
                let (a, b) = (sorted_pairs(a), sorted_pairs(b));
                a.len() == b.len()
                    && a.iter()
                        .zip(&b)
                        .all(|((ka, va), (kb, vb))| ka == kb && va.approx_eq(vb, tolerance))
            }
            (Self::Float(_), _) | (_, Self::Float(_)) => {
                let near = |a: f64, b: f64| (a - b).abs() <= tolerance * a.abs().max(b.abs());
                let finite = self.as_f64().zip(other.as_f64());
                self.python_eq(other) || finite.is_some_and(|(a, b)| near(a, b))
            }
            _ => self.python_eq(other),
        }
    }

    /// The value with every tuple turned into a list, as it would be after a trip through JSON.
    #[must_use]
    pub fn tuples_as_lists(self) -> Self {
        match self {
            Self::List(items) | Self::Tuple(items) => {
                Self::List(items.into_iter().map(Self::tuples_as_lists).collect())
            }
            Self::Dict(pairs) => Self::Dict(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key, value.tuples_as_lists()))
                    .collect(),
            ),
            other => other,
        }
    }

    /// Python's `bool(value)`.
    #[must_use]
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(truth) => *truth,
            Self::Int(int) => !int.is_zero(),
            Self::Float(x) => *x != 0.0,
            Self::Complex(re, im) => *re != 0.0 || *im != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::List(items) | Self::Tuple(items) | Self::Set(items) | Self::FrozenSet(items) => {
                !items.is_empty()
            }
            Self::Dict(pairs) => !pairs.is_empty(),
            Self::Typed(..) => true,
        }
    }

    /// Python's `is`, for `None`, `True` and `False`, of which there is one each.
    #[must_use]
    pub fn is_same_singleton(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            _ => false,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Bool(truth) => Some(f64::from(u8::from(*truth))),
            Self::Int(int) => Some(int.to_f64()),
            Self::Float(x) => Some(*x),
            _ => None,
        }
        .filter(|x| x.is_finite())
    }

    fn has_nan(&self) -> bool {
        match self {
            Self::Float(x) => x.is_nan(),
            Self::Complex(re, im) => re.is_nan() || im.is_nan(),
            Self::List(items) | Self::Tuple(items) | Self::Set(items) | Self::FrozenSet(items) => {
                items.iter().any(Self::has_nan)
            }
            Self::Typed(_, parts) => parts.iter().any(Self::has_nan),
            Self::Dict(pairs) => pairs.iter().any(|(k, v)| k.has_nan() || v.has_nan()),
            _ => false,
        }
    }

    /// Bytes that are equal exactly for values that Python calls equal.
    fn canonical(&self) -> Vec<u8> {
        let collection = |tag: u8, items: Vec<Vec<u8>>| {
            let mut out = vec![tag];
            out.extend_from_slice(&(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| out.extend_from_slice(item));
            out
        };
        match self {
            Self::Bool(truth) => number(&Int::from(i64::from(*truth))),
            Self::Int(int) => number(int),
            Self::Float(x) => float(*x),
            Self::Complex(re, im) if *im == 0.0 => float(*re),
            // Negative zero equals zero.
            Self::Complex(re, im) => Self::Complex(re + 0.0, im + 0.0).encode(),
            Self::List(items) => collection(b'l', items.iter().map(Self::canonical).collect()),
            Self::Tuple(items) => collection(b'u', items.iter().map(Self::canonical).collect()),
            Self::Set(items) | Self::FrozenSet(items) => {
                let mut items: Vec<_> = items.iter().map(Self::canonical).collect();
                items.sort_unstable();
                // An honest set has no equal members; a forged one counts them once, as Python would.
                items.dedup();
                collection(b'S', items)
            }
            Self::Dict(pairs) => {
                let pairs = sorted_pairs(pairs).into_iter();
                let joined = pairs.map(|(key, value)| [key, value.canonical()].concat());
                collection(b'm', joined.collect())
            }
            Self::None | Self::Str(_) | Self::Bytes(_) | Self::Typed(..) => self.encode(),
        }
    }
}

/// Entries by canonical key; of equal keys the last counts, as in a Python literal.
fn sorted_pairs(pairs: &[(Value, Value)]) -> Vec<(Vec<u8>, &Value)> {
    let mut sorted: Vec<_> = pairs
        .iter()
        .map(|(key, value)| (key.canonical(), value))
        .collect();
    sorted.reverse();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    sorted.dedup_by(|later, earlier| later.0 == earlier.0);
    sorted
}

fn number(int: &Int) -> Vec<u8> {
    Value::Int(int.clone()).encode()
}

fn float(x: f64) -> Vec<u8> {
    Int::from_float(x).map_or_else(|| Value::Float(x).encode(), |int| number(&int))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(items: &[i64]) -> Value {
        Value::Set(items.iter().map(|&n| n.into()).collect())
    }

    #[test]
    fn numbers_compare_by_exact_value() {
        let big = Value::Int(Int::parse("20000000000001").unwrap());
        assert!(!big.python_eq(&Value::Float(2_f64.powi(53))));
        assert!(Value::Float(-0.0).python_eq(&0.into()));
        assert!(Value::Complex(3.0, 0.0).python_eq(&3.into()));
        assert!(!Value::Float(0.1 + 0.2).python_eq(&Value::Float(0.3)));
        assert!(!Value::Bool(true).python_eq(&"True".into()));
    }

    #[test]
    fn nan_equals_nothing() {
        let nan = Value::List(vec![f64::NAN.into()]);
        assert!(!nan.python_eq(&nan));
        assert!(!nan.approx_eq(&nan, 1.0));
    }

    #[test]
    fn order_matters_only_where_python_says_so() {
        assert!(set(&[1, 2, 3]).python_eq(&set(&[3, 1, 2])));
        assert!(!set(&[1, 2]).python_eq(&set(&[1, 2, 3])));
        assert!(set(&[1]).python_eq(&Value::FrozenSet(vec![Value::Float(1.0)])));
        let dict = |pairs: &[(i64, i64)]| {
            Value::Dict(pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect())
        };
        assert!(dict(&[(1, 2), (3, 4)]).python_eq(&dict(&[(3, 4), (1, 2)])));
        assert!(dict(&[(1, 2), (1, 5)]).python_eq(&dict(&[(1, 5)])));
        assert!(!dict(&[(1, 2)]).python_eq(&dict(&[(1, 3)])));
    }

    #[test]
    fn no_boundary_between_members_can_be_moved() {
        let list = |items: &[&str]| Value::List(items.iter().map(|&s| s.into()).collect());
        assert!(!list(&["ab", "c"]).python_eq(&list(&["a", "bc"])));
        let nested =
            |a: usize, b: usize| Value::List(vec![list(&vec!["x"; a]), list(&vec!["x"; b])]);
        assert!(!nested(1, 2).python_eq(&nested(2, 1)));
    }

    #[test]
    fn tolerance_is_relative_and_needs_a_float() {
        let third = Value::List(vec![Value::Float(1.0 / 3.0)]);
        let near = Value::List(vec![Value::Float(0.333_333_333_4)]);
        assert!(!third.python_eq(&near));
        assert!(third.approx_eq(&near, 1e-9));
        assert!(!Value::from(1_000_000_007).approx_eq(&Value::from(1_000_000_008), 1e-3));
        assert!(!Value::Float(f64::INFINITY).approx_eq(&Value::Float(1.0), 1e-9));
        assert!(Value::Float(f64::INFINITY).approx_eq(&Value::Float(f64::INFINITY), 1e-9));
    }

    #[test]
    fn a_large_set_takes_no_square_of_its_size() {
        let n = 200_000;
        let up = set(&(0..n).collect::<Vec<_>>());
        let down = set(&(0..n).rev().collect::<Vec<_>>());
        assert!(up.python_eq(&down));
    }
}
