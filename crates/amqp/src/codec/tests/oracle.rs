//! Our codec against `serde_amqp` and `fe2o3-amqp-types`.

use serde_amqp::{descriptor::Descriptor, from_slice, primitives, to_vec};

use super::{recorded::client_frames, round_trip::performatives, *};
use crate::{
    codec::{Cursor, cold, composite, decode_value, encode_value, read_descriptor, value::decode_value_at},
    types::{Array, DeliveryState, Described, Disposition, Symbol, Transfer, Value},
};

/// Seed and number of random values compared.
const SEED: u64 = 0x5eed_0001;
const VALUES: usize = 20_000;

fn text(random: &mut XorShift) -> String {
    let length = if random.below(50) == 0 { 300 } else { random.below(8) };
    (0..length).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect()
}

fn scalar(random: &mut XorShift) -> Value {
    let wide = random.next();
    // Small numbers have forms of their own.
    let n = if wide & 1 == 0 { wide % 300 } else { wide };
    let bytes = n.to_be_bytes();
    match random.below(18) {
        0 => Value::Null,
        1 => Value::Bool(wide & 2 == 0),
        2 => Value::Ubyte(bytes[7]),
        3 => Value::Ushort(u16::from_be_bytes([bytes[6], bytes[7]])),
        4 => Value::Uint(u32::from_be_bytes(bytes[4..].try_into().unwrap())),
        5 => Value::Ulong(n),
        6 => Value::Byte(bytes[7].cast_signed()),
        7 => Value::Short(i16::from_be_bytes([bytes[6], bytes[7]])),
        8 => Value::Int(i32::from_be_bytes(bytes[4..].try_into().unwrap())),
        9 => Value::Long(n.cast_signed()),
        10 => Value::Double(1.5f64.to_bits()),
        11 => Value::Float(2.5f32.to_bits()),
        12 => Value::Char('ä'),
        13 => Value::Timestamp(n.cast_signed()),
        14 => Value::Uuid([bytes[7]; 16]),
        15 => Value::Binary(text(random).into_bytes().into()),
        16 => Value::String(text(random).into()),
        _ => Value::symbol(&text(random)),
    }
}

fn random_value(random: &mut XorShift, depth: usize) -> Value {
    if depth == 0 {
        return scalar(random);
    }
    let count = random.below(5);
    match random.below(8) {
        0 => Value::List((0..count).map(|_| random_value(random, depth - 1)).collect()),
        1 => {
            let keys = (0..count).map(|n| Value::string(&format!("key{n}")));
            Value::Map(keys.map(|key| (key, random_value(random, depth - 1))).collect())
        }
        2 => {
            let strings = (0..=count).map(|_| Value::String(text(random).into())).collect();
            let longs = (0..=count).map(|_| Value::Long(random.next().cast_signed())).collect();
            let (constructor, elements) = if count & 1 == 0 { (0xa1, strings) } else { (0x81, longs) };
            Value::Array(Box::new(Array { constructor, elements }))
        }
        3 => {
            let descriptor = if count & 1 == 0 {
                Value::Ulong(random.next() >> 20)
            } else {
                Value::symbol("own:descriptor")
            };
            Value::Described(Box::new(Described { descriptor, value: random_value(random, depth - 1) }))
        }
        _ => scalar(random),
    }
}

/// The same value in the library's type.
fn to_library(value: &Value) -> serde_amqp::Value {
    use serde_amqp::Value as Library;
    match value {
        Value::Null => Library::Null,
        Value::Bool(flag) => Library::Bool(*flag),
        Value::Ubyte(n) => Library::Ubyte(*n),
        Value::Ushort(n) => Library::Ushort(*n),
        Value::Uint(n) => Library::Uint(*n),
        Value::Ulong(n) => Library::Ulong(*n),
        Value::Byte(n) => Library::Byte(*n),
        Value::Short(n) => Library::Short(*n),
        Value::Int(n) => Library::Int(*n),
        Value::Long(n) => Library::Long(*n),
        Value::Float(bits) => Library::Float(f32::from_bits(*bits).into()),
        Value::Double(bits) => Library::Double(f64::from_bits(*bits).into()),
        Value::Decimal32(bits) => Library::Decimal32((*bits).into()),
        Value::Decimal64(bits) => Library::Decimal64((*bits).into()),
        Value::Decimal128(bits) => Library::Decimal128((*bits).into()),
        Value::Char(c) => Library::Char(*c),
        Value::Timestamp(millis) => Library::Timestamp((*millis).into()),
        Value::Uuid(bytes) => Library::Uuid((*bytes).into()),
        Value::Binary(bytes) => Library::Binary(bytes.to_vec().into()),
        Value::String(text) => Library::String(text.to_string()),
        Value::Symbol(name) => Library::Symbol(library_symbol(name)),
        Value::List(elements) => Library::List(elements.iter().map(to_library).collect()),
        Value::Map(entries) => {
            let mut map = primitives::OrderedMap::new();
            for (key, value) in entries {
                map.insert(to_library(key), to_library(value));
            }
            Library::Map(map)
        }
        Value::Array(array) => {
            Library::Array(array.elements.iter().map(to_library).collect::<Vec<_>>().into())
        }
        Value::Described(described) => Library::Described(Box::new(serde_amqp::described::Described {
            descriptor: match &described.descriptor {
                Value::Ulong(code) => Descriptor::Code(*code),
                Value::Symbol(name) => Descriptor::Name(library_symbol(name)),
                other => panic!("no descriptor of the library: {other:?}"),
            },
            value: to_library(&described.value),
        })),
    }
}

fn library_symbol(symbol: &Symbol) -> primitives::Symbol {
    primitives::Symbol(symbol.as_str().to_owned())
}

#[test]
fn library_reads_what_we_write() {
    let mut random = XorShift(SEED);
    for _ in 0..VALUES {
        let value = random_value(&mut random, 4);
        let mut out = BytesMut::new();
        encode_value(&mut out, &value);
        let read: serde_amqp::Value = from_slice(&out).unwrap_or_else(|e| panic!("{value:?}: {e}"));
        assert_eq!(read, to_library(&value), "{out:?}");
    }
}

#[test]
fn we_read_what_the_library_writes() {
    let mut random = XorShift(SEED);
    for _ in 0..VALUES {
        let value = random_value(&mut random, 4);
        let written = to_vec(&to_library(&value)).unwrap();
        let mut bytes = Bytes::from(written);
        let read = decode_value(&mut bytes).unwrap_or_else(|e| panic!("{value:?}: {e}"));
        // The library chooses its own constructors for arrays, so compare in its types.
        assert_eq!(to_library(&read), to_library(&value));
        assert!(bytes.is_empty());
    }
}

#[test]
fn cold_frames_decode_alike_through_the_library_and_by_hand() {
    let bodies = client_frames().map(|(_, bytes)| bytes.slice(8..));
    let mut compared = 0;
    for body in bodies.chain(performatives().iter().map(encode_body)) {
        let Ok(Some(code @ (0x10..=0x12 | 0x16..=0x18))) = read_descriptor(&mut Cursor::new(&body, 0)) else {
            continue;
        };
        let (value, end) = decode_value_at(&body, 0).unwrap();
        if let Some(typed) = cold::typed_performative(code, &body[..end]) {
            assert_eq!(composite::performative(code, value), Ok(typed));
            compared += 1;
        }
    }
    assert!(compared >= 20, "only {compared} frames went through the library");
}

#[test]
fn library_reads_our_hot_frames() {
    use fe2o3_amqp_types::performatives::Performative as Library;
    for performative in performatives() {
        let body = encode_body(&performative);
        let read: Result<Library, _> = from_slice(&body);
        match (&performative, read) {
            (Performative::Flow(ours), Ok(Library::Flow(theirs))) => {
                assert_eq!(ours.next_incoming_id, theirs.next_incoming_id);
                assert_eq!(ours.link_credit, theirs.link_credit);
                assert_eq!((ours.drain, ours.echo), (theirs.drain, theirs.echo));
            }
            (Performative::Transfer(ours), Ok(Library::Transfer(theirs))) => {
                assert_eq!(ours.handle, theirs.handle.0);
                assert_eq!(ours.delivery_id, theirs.delivery_id);
                assert_eq!(ours.delivery_tag.as_deref(), theirs.delivery_tag.as_ref().map(|tag| &tag[..]));
                assert_eq!((ours.settled, ours.more), (theirs.settled, theirs.more));
                assert_eq!((ours.aborted, ours.batchable), (theirs.aborted, theirs.batchable));
            }
            (Performative::Disposition(ours), Ok(Library::Disposition(theirs))) => {
                assert_eq!((ours.first, ours.last), (theirs.first, theirs.last));
                assert_eq!((ours.settled, ours.state.is_some()), (theirs.settled, theirs.state.is_some()));
            }
            // States with descriptors that the library does not know.
            (
                Performative::Transfer(Transfer { state, .. })
                | Performative::Disposition(Disposition { state, .. }),
                Err(_),
            ) => {
                assert!(matches!(
                    state,
                    Some(
                        DeliveryState::Other(_)
                            | DeliveryState::Declared(_)
                            | DeliveryState::Transactional(_)
                    )
                ));
            }
            (Performative::Flow(_) | Performative::Transfer(_) | Performative::Disposition(_), other) => {
                panic!("{performative:?} became {other:?}");
            }
            _ => {}
        }
    }
}

/// Bytes are only overwritten here: repeated parts would give maps with duplicate keys, of which
/// the library keeps one.
#[test]
fn damaged_cold_frames_that_still_decode_decode_alike_both_ways() {
    let is_cold = |body: &Bytes| {
        matches!(read_descriptor(&mut Cursor::new(body, 0)), Ok(Some(0x10..=0x12 | 0x16..=0x18)))
    };
    let recorded = client_frames().map(|(_, bytes)| bytes.slice(8..));
    let bodies: Vec<Bytes> =
        recorded.chain(performatives().iter().map(encode_body)).filter(is_cold).collect();
    let mut random = XorShift(SEED);
    let mut compared = 0;
    for _ in 0..VALUES * 2 {
        let mut damaged = bodies[random.below(bodies.len())].to_vec();
        for _ in 0..=random.below(2) {
            let at = random.below(damaged.len());
            damaged[at] = random.next().to_be_bytes()[0];
        }
        let damaged = Bytes::from(damaged);
        let Ok(Some(code)) = read_descriptor(&mut Cursor::new(&damaged, 0)) else { continue };
        let Ok((value, end)) = decode_value_at(&damaged, 0) else { continue };
        let by_hand = composite::performative(code, value);
        if let (Some(typed), Ok(by_hand)) = (cold::typed_performative(code, &damaged[..end]), by_hand) {
            assert_eq!(typed, by_hand);
            compared += 1;
        }
    }
    assert!(compared > VALUES / 4, "only {compared} frames were compared");
}
