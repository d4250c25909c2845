//! Inputs of the fuzz target `code_frame`: seeds for it, and whatever it has found.
#![cfg(feature = "code")]

mod harness;

use g2rpo_verify::code::Value;

#[test]
fn seeds() {
    let value = Value::Dict(vec![(
        Value::Tuple(vec![Value::from(-255), Value::Float(0.5), Value::None]),
        Value::Set(vec![
            Value::from("é"),
            Value::Bytes(vec![0]),
            Value::Complex(1.0, -0.0),
        ]),
    )]);
    let encoded = value.encode();
    let twice = [encoded.clone(), encoded.clone()].concat();
    for kind in 0..=255 {
        harness::frame(&[&[kind], encoded.as_slice()].concat());
        harness::frame(&[&[kind], twice.as_slice()].concat());
        harness::frame(&[kind]);
    }
    for cut in 0..encoded.len() {
        harness::frame(&encoded[..cut]);
    }
}
