//! The nesting guard, the decoder of values, and the skipper agree on where a value ends.

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    codec::{Cursor, check_value, decode_value, encode_value, read_descriptor, skip_value},
    types::Value,
};

/// Promise: no panic; what decodes passes the guard and is skipped to the same end; it encodes,
/// and decodes to the same again.
pub(super) fn guard(data: &[u8]) {
    let checked = check_value(data, 0);
    let skipped = skip_value(data, 0);
    let _ = read_descriptor(&mut Cursor::new(data, 0));
    let mut bytes = Bytes::copy_from_slice(data);
    let decoded = decode_value(&mut bytes);
    if let Ok(end) = checked {
        assert!(end <= data.len());
        assert_eq!(skipped, Ok(end), "the skipper stops where the guard does");
    }
    let Ok(value) = decoded else {
        assert_eq!(bytes.len(), data.len(), "what does not decode stays");
        return;
    };
    assert_eq!(checked, Ok(data.len() - bytes.len()), "the guard lets pass what decodes");
    let mut encoded = BytesMut::new();
    encode_value(&mut encoded, &value);
    let mut encoded = encoded.freeze();
    assert_eq!(check_value(&encoded, 0), Ok(encoded.len()));
    let again = decode_value(&mut encoded).expect("what is encoded decodes");
    assert!(encoded.is_empty());
    assert!(is_same(&value, &again), "{value:?} != {again:?}");
}

/// The same value; an array within an array is written with wider constructors.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => all_same(&one.elements, &other.elements),
        (Value::List(one), Value::List(other)) => all_same(one, other),
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(&one.0, &other.0) && is_same(&one.1, &other.1))
        }
        (Value::Described(one), Value::Described(other)) => {
            is_same(&one.descriptor, &other.descriptor) && is_same(&one.value, &other.value)
        }
        _ => one == other,
    }
}

fn all_same(one: &[Value], other: &[Value]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
}
