//! The format of messages (3.2).

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::{
    codec::encode_value,
    message::scan,
    types::{Array, DeliveryState, Described, Value},
};
use lockstep_interop_amqp::{Failed, Message, Outcome, RawConnection};

use crate::suite::Scenario;
use crate::{
    begun, checks, complete, first_frame, next_disposition, next_transfer, receiving, send, sending,
};

checks![conformance_message_format:
    the_bare_message_comes_as_it_was_sent,
    a_body_of_every_kind_comes_as_it_was_sent,
    a_header_that_was_left_out_has_its_defaults,
    annotations_are_carried_whatever_their_keys,
    application_properties_are_carried_whatever_they_hold,
    a_message_id_of_every_type_is_carried,
    long_forms_of_sections_mean_the_same,
    sections_out_of_order_are_rejected,
    a_footer_goes_behind_the_body_and_gets_symbols_for_keys,
];

fn section(out: &mut BytesMut, code: u8, value: &Value) {
    out.put_slice(&[0x00, 0x53, code]);
    encode_value(out, value);
}

fn sections(sections: &[(u8, Value)]) -> Bytes {
    let mut out = BytesMut::new();
    for (code, value) in sections {
        section(&mut out, *code, value);
    }
    out.freeze()
}

/// A properties section with no more than a message-id.
fn properties() -> (u8, Value) {
    (0x73, Value::List(vec![Value::string("id")]))
}

fn data(text: &'static str) -> (u8, Value) {
    (0x75, Value::Binary(Bytes::from_static(text.as_bytes())))
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::Map(entries.iter().map(|(key, value)| (Value::string(key), value.clone())).collect())
}

fn annotations(entries: &[(Value, Value)]) -> Value {
    Value::Map(entries.to_vec())
}

/// From properties on: what no intermediary changes.
fn bare(message: &Bytes) -> Outcome<Bytes> {
    let found = scan(message)?;
    let start = [&found.properties, &found.application_properties]
        .into_iter()
        .flatten()
        .map(|range| range.start)
        .min()
        .unwrap_or(found.body.start);
    Ok(message.slice(start..found.body.end))
}

/// What comes back of a message.
fn round_trip(raw: &mut RawConnection, s: &Scenario, message: &Bytes) -> Outcome<Bytes> {
    sending(raw, 0, "s", s.queue())?;
    send(raw, 0, 0, message)?;
    receiving(raw, 1, "r", s.queue(), 1)?;
    let (transfer, payload) = next_transfer(raw)?;
    assert!(!transfer.more);
    complete(raw, 0, 0)?;
    Ok(payload)
}

fn comes_unchanged(s: &Scenario, message: &Bytes) -> Outcome {
    let back = round_trip(&mut begun(s)?, s, message)?;
    assert_eq!(bare(&back)?, bare(message)?);
    Ok(())
}

/// 3.2, 3.2.4: byte by byte, in an encoding that nobody would choose.
fn the_bare_message_comes_as_it_was_sent(s: &Scenario) -> Outcome {
    let mut message = BytesMut::from(&sections(&[(0x70, Value::List(vec![Value::Bool(true)]))])[..]);
    // properties as list32 with trailing nulls, strings and symbols in their wide form
    let fields: &[u8] = &[
        0xb1, 0, 0, 0, 2, b'i', b'd', 0xb0, 0, 0, 0, 1, 0xff, 0x40, 0xb1, 0, 0, 0, 0, 0x40, 0x40, 0xb3, 0, 0,
        0, 1, b't', 0x40, 0x40, 0x40, 0x40, 0x70, 0, 0, 0, 1, 0x40,
    ];
    message.put_slice(&[0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x73, 0xd0]);
    message.put_u32(u32::try_from(fields.len() + 4).map_err(|e| Failed::new(e.to_string()))?);
    message.put_u32(13);
    message.put_slice(fields);
    message.put_slice(&sections(&[
        (0x74, map(&[("b", Value::Uint(300)), ("a", Value::Bool(true))])),
        data("one"),
        data("two"),
        (0x78, annotations(&[(Value::symbol("x-sum"), Value::Ulong(7))])),
    ]));
    comes_unchanged(s, &message.freeze())
}

/// 3.2.6, 3.2.7, 3.2.8
fn a_body_of_every_kind_comes_as_it_was_sent(s: &Scenario) -> Outcome {
    let described = Value::Described(Box::new(Described {
        descriptor: Value::symbol("example:point"),
        value: Value::List(vec![Value::Int(1), Value::Double(2.5_f64.to_bits())]),
    }));
    let array =
        Value::Array(Box::new(Array { constructor: 0x54, elements: vec![Value::Int(1), Value::Int(2)] }));
    let bodies: [Vec<(u8, Value)>; 6] = [
        vec![data(""), data("x")],
        vec![(0x76, Value::List(vec![Value::Null])), (0x76, Value::List(vec![]))],
        vec![(0x77, Value::Null)],
        vec![(0x77, described)],
        vec![(0x77, array)],
        vec![],
    ];
    for body in bodies {
        let message = sections(&[&[properties()][..], &body].concat());
        comes_unchanged(s, &message)?;
    }
    Ok(())
}

/// 3.2.1
fn a_header_that_was_left_out_has_its_defaults(s: &Scenario) -> Outcome {
    let back = round_trip(&mut begun(s)?, s, &sections(&[properties(), data("x")]))?;
    let header = Message::parse(&back)?.header;
    assert_eq!((header.durable, header.priority), (Some(false), Some(4)));
    assert_eq!((header.ttl, header.delivery_count), (None, Some(0)));
    let asked =
        Value::List(vec![Value::Bool(true), Value::Ubyte(9), Value::Null, Value::Bool(true), Value::Uint(5)]);
    let back = round_trip(&mut begun(s)?, s, &sections(&[(0x70, asked), properties(), data("x")]))?;
    let header = Message::parse(&back)?.header;
    assert_eq!((header.durable, header.priority, header.first_acquirer), (Some(true), Some(9), Some(true)));
    assert_eq!(header.delivery_count, Some(0));
    Ok(())
}

/// 3.2.2, 3.2.3, 3.2.10: also those that no sender may use.
fn annotations_are_carried_whatever_their_keys(s: &Scenario) -> Outcome {
    let kept = [
        (Value::symbol("x-opt-mine"), Value::string("1")),
        (Value::symbol("mine"), Value::string("2")),
        (Value::Ulong(77), Value::string("3")),
    ];
    let message =
        sections(&[(0x71, annotations(&kept)), (0x72, annotations(&kept)), properties(), data("x")]);
    let back = Message::parse(&round_trip(&mut begun(s)?, s, &message)?)?;
    for entry in &kept {
        assert!(back.annotations.contains(entry), "{entry:?} in {:?}", back.annotations);
        assert!(back.delivery_annotations.contains(entry), "{entry:?} in {:?}", back.delivery_annotations);
    }
    Ok(())
}

/// 3.2.5: the standard allows simple values only.
fn application_properties_are_carried_whatever_they_hold(s: &Scenario) -> Outcome {
    let held = map(&[
        ("null", Value::Null),
        ("text", Value::string("x")),
        ("list", Value::List(vec![Value::Int(1)])),
        ("map", map(&[("k", Value::Uint(1))])),
    ]);
    comes_unchanged(s, &sections(&[properties(), (0x74, held), data("x")]))
}

/// 3.2.4 message-id, 3.2.11 to 3.2.14
fn a_message_id_of_every_type_is_carried(s: &Scenario) -> Outcome {
    for id in [
        Value::Ulong(0),
        Value::Ulong(u64::MAX),
        Value::Uuid([7; 16]),
        Value::Binary(Bytes::from_static(&[0, 1])),
        Value::string("ü"),
    ] {
        comes_unchanged(s, &sections(&[(0x73, Value::List(vec![id])), data("x")]))?;
    }
    Ok(())
}

/// 1.5, 3.2: descriptors as an eight byte ulong or as a symbol.
fn long_forms_of_sections_mean_the_same(s: &Scenario) -> Outcome {
    let mut message = BytesMut::new();
    for (descriptor, value) in [
        (Value::symbol("amqp:header:list"), Value::List(vec![Value::Bool(true)])),
        (Value::symbol("amqp:properties:list"), properties().1),
        (Value::symbol("amqp:data:binary"), Value::Binary(Bytes::from_static(b"text"))),
    ] {
        encode_value(&mut message, &Value::Described(Box::new(Described { descriptor, value })));
    }
    let back = round_trip(&mut begun(s)?, s, &message.freeze())?;
    let message = Message::parse(&back)?;
    assert_eq!(message.header.durable, Some(true));
    assert_eq!(message.properties.message_id, Some(Value::string("id")));
    assert!(back.ends_with(b"text"));
    Ok(())
}

/// 3.2: order, number, kind of body, and the type of each section's value.
fn sections_out_of_order_are_rejected(s: &Scenario) -> Outcome {
    let empty = Value::Map(Vec::new());
    let wrong: [Vec<(u8, Value)>; 8] = [
        vec![properties(), (0x70, Value::List(vec![])), data("x")],
        vec![properties(), (0x72, empty.clone()), data("x")],
        vec![(0x74, empty.clone()), properties(), data("x")],
        vec![properties(), data("x"), (0x74, empty.clone())],
        vec![properties(), (0x78, empty.clone()), data("x"), (0x78, empty.clone())],
        vec![properties(), (0x77, Value::Null), (0x77, Value::Null)],
        vec![properties(), data("x"), (0x76, Value::List(vec![]))],
        vec![(0x73, empty), data("x")],
    ];
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    for (id, message) in (0..).zip(wrong) {
        raw.transfer(0, &first_frame(0, id), &sections(&message))?;
        let told = next_disposition(&mut raw)?;
        let Some(DeliveryState::Outcome(lockstep_amqp::types::Outcome::Rejected(Some(error)))) = told.state
        else {
            return Err(Failed::new(format!("case {id}: {told:?}")));
        };
        assert_eq!((told.first, told.settled), (id, true));
        assert_eq!(error.condition.as_str(), "amqp:decode-error", "case {id}");
    }
    Ok(())
}

/// 3.2, 3.2.10: as rhea and Java's SDK write it, and as it has to be.
fn a_footer_goes_behind_the_body_and_gets_symbols_for_keys(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let values = [("checksum", Value::string("12ab")), ("parts", Value::Int(3))];
    let symbols = annotations(&values.clone().map(|(key, value)| (Value::symbol(key), value)));
    let sent = sections(&[properties(), (0x78, map(&values)), data("x")]);
    let came = round_trip(&mut raw, s, &sent)?;
    assert_eq!(bare(&came)?, sections(&[properties(), data("x"), (0x78, symbols)]));
    Ok(())
}
