//! Rules of the type system (part 1) that no byte vector shows.

use super::*;
use crate::{
    codec::decode_value,
    types::{DeliveryState, Value},
};

fn decode(digits: &str) -> Result<Value, Violation> {
    decode_value(&mut hex(digits))
}

/// 1.6.23: a map has pairs, wherever it stands.
#[test]
fn a_map_with_a_key_without_value_does_not_decode() {
    assert_eq!(decode("c10401a10161"), Err(Violation::Decode));
    assert_eq!(decode("d10000000701a10161"), Err(Violation::Decode));
    // properties of an open
    let open = "005310 c0120a a10178 4040404040404040 c10401a10161";
    assert_eq!(decode_body(open), Err(Violation::Decode));
}

/// 1.6.23: order is kept. A key must not stand twice; of one that does the last value counts, in
/// the place of the first, at any depth.
#[test]
fn entries_of_a_map_keep_their_order_and_a_key_stands_once() {
    let key = Value::string("a");
    let map = Value::Map(vec![(key, Value::Bool(true)), (Value::Null, Value::Uint(0))]);
    assert_eq!(decode("c10b06a1016143 4043 a1016141").unwrap(), map);
    assert_eq!(decode("c00e01 c10b06a1016143 4043 a1016141").unwrap(), Value::List(vec![map]));
}

/// 1.6.2, 1.6.16: bytes that stand for no value of the type.
#[test]
fn impossible_booleans_and_characters_do_not_decode() {
    for digits in ["5602", "56ff", "730000d800", "7300110000"] {
        assert_eq!(decode(digits), Err(Violation::Decode), "{digits}");
    }
}

/// 1.2.4: the size of an array counts all its bytes; what is inside is its reader's.
#[test]
fn an_array_is_passed_by_its_size() {
    let described = hex("e009 02 005324 c0 0100 0100");
    assert_eq!(crate::codec::skip_value(&hex("e00302540102"), 0), Ok(5));
    assert_eq!(crate::codec::skip_value(&described, 0), Ok(described.len()));
}

/// 1.4: a list with more fields than the type has, which a later version may add.
#[test]
fn fields_beyond_the_known_ones_are_passed_over() {
    assert!(matches!(decode_body("005318 c00502 40a10178"), Ok(Performative::Close(_))));
    let flow = "005313 c00e0c 404343434040404042 42 40 a10178";
    assert!(matches!(decode_body(flow), Ok(Performative::Flow(_))));
}

/// 1.5: a descriptor that nobody knows is kept with its value.
#[test]
fn an_unknown_described_type_is_kept_where_a_value_may_be_anything() {
    let body = "005315 c00e05 41434041 00a303782d79 a1017a";
    let Performative::Disposition(disposition) = decode_body(body).unwrap() else { panic!() };
    assert!(matches!(disposition.state, Some(DeliveryState::Other(_))));
}
