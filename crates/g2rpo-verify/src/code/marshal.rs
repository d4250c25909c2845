//! Values in the format of Python's `marshal`, which the interpreter reads itself and quickly.
//!
//! Only what goes into the sandbox is written so. What comes out is written by untrusted code, in the format
//! of [`Value::decode`], of which every byte is checked.

use super::value::{Format, Int, Value, write_count, write_sized};

/// The bytes that `marshal.loads` reads as `value`, in any version of Python 3.
pub(super) fn marshal(value: &Value) -> Vec<u8> {
    value.written(&Format {
        tags: b"NFTgyus[><({",
        int: write_int,
        // An Ellipsis, which no value holds, says that the tuple stands for something else.
        typed: |name, parts, out| {
            out.push(b'(');
            write_count(out, parts + 2);
            out.push(b'.');
            write_sized(out, b'u', name.as_bytes());
        },
        dict_end: Some(b'0'),
    })
}

/// `i` and 32 bits, or `l`, the number of 15-bit digits with the sign, and the digits, lowest first.
fn write_int(int: &Int, out: &mut Vec<u8>) {
    if let Ok(small) = i32::from_str_radix(int.as_str(), 16) {
        out.push(b'i');
        out.extend_from_slice(&small.to_le_bytes());
        return;
    }
    let mut digits: Vec<u16> = Vec::with_capacity(int.digits().len() * 4 / 15 + 1);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in int.digits().chars().rev().filter_map(|c| c.to_digit(16)) {
        bits |= digit << held;
        held += 4;
        if held >= 15 {
            digits.push((bits & 0x7fff) as u16);
            bits >>= 15;
            held -= 15;
        }
    }
    if bits != 0 {
        digits.push(bits as u16);
    }
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let count = if int.is_negative() { -count } else { count };
    out.push(b'l');
    out.extend_from_slice(&count.to_le_bytes());
    for digit in digits {
        out.extend_from_slice(&digit.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: impl Into<Value>) -> Vec<u8> {
        marshal(&value.into())
    }

    // What `marshal.dumps(x, 2)` writes.
    #[test]
    fn small_values_are_as_python_writes_them() {
        assert_eq!(of(-2), b"i\xfe\xff\xff\xff");
        assert_eq!(of("\u{e9}"), b"u\x02\0\0\0\xc3\xa9");
        assert_eq!(marshal(&Value::None), b"N");
        assert_eq!(marshal(&Value::Float(-0.5)), b"g\0\0\0\0\0\0\xe0\xbf");
        let nested = Value::Tuple(vec![
            Value::List(vec![Value::Bool(true)]),
            Value::Dict(vec![(Value::Bytes(vec![7]), Value::Set(vec![]))]),
        ]);
        assert_eq!(
            marshal(&nested),
            b"(\x02\0\0\0[\x01\0\0\0T{s\x01\0\0\0\x07<\0\0\0\0\x30"
        );
    }

    #[test]
    fn long_integers_are_digits_of_fifteen_bits() {
        let int = |text: &str| marshal(&Value::Int(Int::parse(text).unwrap()));
        assert_eq!(int("7fffffff"), b"i\xff\xff\xff\x7f");
        assert_eq!(int("-80000000"), b"i\0\0\0\x80");
        // 2^31 = 2 * 2^30
        assert_eq!(int("80000000"), b"l\x03\0\0\0\0\0\0\0\x02\0");
        // -(2^45 - 1)
        assert_eq!(
            int("-1fffffffffff"),
            b"l\xfd\xff\xff\xff\xff\x7f\xff\x7f\xff\x7f"
        );
    }
}
