//! What must hold for any bytes that come out of the sandbox.

use g2rpo_verify::code::{Frame, Int, Value};

/// Reads the bytes as a frame, as a value and as the content of a frame of each kind.
pub(crate) fn frame(bytes: &[u8]) {
    let _ = Frame::decode(bytes);
    if let Ok(value) = Value::decode(bytes) {
        value_is_sound(&value, bytes);
    }
    let Some((&kind, content)) = bytes.split_first() else {
        return;
    };
    let mut framed = b"G2F1".to_vec();
    framed.push(kind);
    framed.extend_from_slice(&(content.len() as u32).to_le_bytes());
    framed.extend_from_slice(content);
    if let Ok(Frame::Value(value) | Frame::Table(value)) = Frame::decode(&framed) {
        value_is_sound(&value, content);
    }
    // Two values in one input: the comparison.
    let (head, tail) = content.split_at(content.len() / 2);
    if let (Ok(a), Ok(b)) = (Value::decode(head), Value::decode(tail)) {
        assert_eq!(a.python_eq(&b), b.python_eq(&a));
        assert_eq!(a.approx_eq(&b, 1e-9), b.approx_eq(&a, 1e-9));
        assert!(!a.python_eq(&b) || a.approx_eq(&b, 1e-9));
        assert!(
            !a.python_eq(&b)
                || a.is_truthy() == b.is_truthy()
                || holds_repeats(&a)
                || holds_repeats(&b)
        );
    }
}

fn value_is_sound(value: &Value, bytes: &[u8]) {
    // One value has one spelling, so nothing can be hidden in another.
    assert_eq!(value.encode(), bytes);
    let again = Value::decode(bytes).expect("it was read before");
    assert!(value.python_eq(&again) || has_nan(value));
    if let Value::Int(int) = value {
        assert_eq!(Int::parse(int.as_str()).as_ref(), Some(int));
        assert_eq!(int.to_f64() < 0.0, int.is_negative());
    }
    if let Value::Float(x) = value
        && let Some(int) = Int::from_float(*x)
    {
        assert_eq!(int.to_f64(), *x);
    }
    let _ = value.clone().tuples_as_lists();
}

/// A forged set or dictionary may hold equal members.
fn holds_repeats(value: &Value) -> bool {
    matches!(value, Value::Set(_) | Value::FrozenSet(_) | Value::Dict(_))
}

fn has_nan(value: &Value) -> bool {
    match value {
        Value::Float(x) => x.is_nan(),
        Value::Complex(re, im) => re.is_nan() || im.is_nan(),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            items.iter().any(has_nan)
        }
        Value::Dict(pairs) => pairs.iter().any(|(k, v)| has_nan(k) || has_nan(v)),
        _ => false,
    }
}
