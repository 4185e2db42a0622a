//! Types and their encodings (part 1), in frames.

use lockstep_amqp::types::{Attach, Described, Fields, Open, Performative, Symbol, Value};
use lockstep_interop_amqp::{AMQP_HEADER, Outcome, RawConnection, receiver};

use crate::suite::Scenario;
use crate::{attached, authenticated, begun, checks, close_condition, open};

checks![conformance_encodings:
    every_form_of_a_begin_means_the_same,
    trailing_fields_are_left_out_or_null_or_unknown,
    a_missing_mandatory_field_ends_the_connection,
    a_value_of_every_type_is_taken_where_any_may_stand,
    one_symbol_stands_for_an_array_of_one,
    what_does_not_decode_ends_the_connection,
];

/// Writes a frame on a channel around a body.
fn frame(raw: &mut RawConnection, channel: u8, body: &[u8]) -> Outcome {
    let size = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
    raw.write(&[&size.to_be_bytes()[..], &[2, 0, 0, channel], body].concat())
}

fn begun_on(raw: &mut RawConnection, channel: u8) -> Outcome {
    raw.expect("begin", |_, performative, _| {
        matches!(performative, Performative::Begin(begin) if begin.remote_channel == Some(channel.into()))
            .then_some(())
    })
}

/// 1.2, 1.5, 1.6: compact and wide, numeric and symbolic.
fn every_form_of_a_begin_means_the_same(s: &Scenario) -> Outcome {
    const DESCRIPTORS: [&[u8]; 4] = [
        &[0x53, 0x11],
        &[0x80, 0, 0, 0, 0, 0, 0, 0, 0x11],
        b"\xa3\x0famqp:begin:list",
        b"\xb3\x00\x00\x00\x0famqp:begin:list",
    ];
    // null, 0, 7 and 7, each in a form of its own
    const FIELDS: [&[u8]; 3] = [
        &[0x40, 0x43, 0x52, 7, 0x52, 7],
        &[0x40, 0x52, 0, 0x70, 0, 0, 0, 7, 0x52, 7],
        &[0x40, 0x70, 0, 0, 0, 0, 0x70, 0, 0, 0, 7, 0x70, 0, 0, 0, 7],
    ];
    let mut raw = begun(s)?;
    let mut channel = 1;
    for descriptor in DESCRIPTORS {
        for fields in FIELDS {
            let length = u8::try_from(fields.len()).unwrap_or(0);
            let small = [&[0xc0, length + 1, 4][..], fields].concat();
            let large = [&[0xd0, 0, 0, 0, length + 4, 0, 0, 0, 4][..], fields].concat();
            for list in [small, large] {
                frame(&mut raw, channel, &[&[0x00][..], descriptor, &list].concat())?;
                begun_on(&mut raw, channel)?;
                channel += 1;
            }
        }
    }
    Ok(())
}

/// 1.4
fn trailing_fields_are_left_out_or_null_or_unknown(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let known: [u8; 4] = [0x40, 0x43, 0x43, 0x43];
    let nulls = [0x40; 4];
    let beyond = [&nulls[..], &[0xa1, 3, b'n', b'e', b'w', 0x45]].concat();
    for (channel, more, count) in [(1, &[][..], 4), (2, &nulls[..], 8), (3, &beyond[..], 10)] {
        let fields = [&known[..], more].concat();
        let size = u8::try_from(fields.len() + 1).unwrap_or(0);
        frame(&mut raw, channel, &[&[0x00, 0x53, 0x11, 0xc0, size, count][..], &fields].concat())?;
        begun_on(&mut raw, channel)?;
    }
    Ok(())
}

/// 1.4, 2.7
fn a_missing_mandatory_field_ends_the_connection(s: &Scenario) -> Outcome {
    for (what, body) in [
        ("begin without windows", &[0x00, 0x53, 0x11, 0xc0, 3, 2, 0x40, 0x43][..]),
        ("begin with a null", &[0x00, 0x53, 0x11, 0xc0, 5, 4, 0x40, 0x43, 0x40, 0x43]),
        ("attach without role", &[0x00, 0x53, 0x12, 0xc0, 5, 2, 0xa1, 1, b'x', 0x43]),
        ("flow without windows", &[0x00, 0x53, 0x13, 0x45]),
        ("transfer without handle", &[0x00, 0x53, 0x14, 0x45]),
        ("disposition without first", &[0x00, 0x53, 0x15, 0xc0, 2, 1, 0x41]),
        ("detach without handle", &[0x00, 0x53, 0x16, 0x45]),
        ("an error without condition", &[0x00, 0x53, 0x17, 0xc0, 5, 1, 0x00, 0x53, 0x1d, 0x45]),
        ("begin with a string as window", &[0x00, 0x53, 0x11, 0xc0, 6, 4, 0x40, 0x43, 0xa1, 0, 0x43]),
    ] {
        let mut raw = begun(s)?;
        frame(&mut raw, 0, body)?;
        assert_eq!(close_condition(&mut raw)?, "amqp:invalid-field", "{what}");
    }
    Ok(())
}

fn one_of_each() -> Fields {
    let described = Described { descriptor: Value::symbol("example:unknown"), value: Value::string("x") };
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::Ubyte(1),
        Value::Ushort(2),
        Value::Uint(3),
        Value::Ulong(4),
        Value::Byte(-1),
        Value::Short(-2),
        Value::Int(-3),
        Value::Long(-4),
        Value::Float(1.5_f32.to_bits()),
        Value::Double(2.5_f64.to_bits()),
        Value::Decimal32([1; 4]),
        Value::Decimal64([2; 8]),
        Value::Decimal128([3; 16]),
        Value::Char('ü'),
        Value::Timestamp(-1),
        Value::Uuid([4; 16]),
        Value::Binary(bytes::Bytes::from_static(&[0, 255])),
        Value::string("ü"),
        Value::symbol("symbol"),
        Value::List(vec![Value::Null]),
        Value::Map(vec![(Value::Null, Value::Null)]),
        Value::Described(Box::new(described)),
    ];
    let mut fields = Fields::default();
    for (number, value) in values.into_iter().enumerate() {
        fields.insert(&format!("x-{number}"), value);
    }
    fields
}

/// 1.6, 2.8.13
fn a_value_of_every_type_is_taken_where_any_may_stand(s: &Scenario) -> Outcome {
    let mut raw = authenticated(s)?;
    raw.write(&AMQP_HEADER)?;
    raw.frame(0, Performative::Open(Box::new(Open { properties: Some(one_of_each()), ..open() })))?;
    raw.expect_header(AMQP_HEADER)?;
    raw.begin(0)?;
    let attach = Attach { properties: Some(one_of_each()), ..receiver("r", s.queue()) };
    assert!(attached(&mut raw, 0, attach)?.source.is_some());
    Ok(())
}

/// 1.4 multiple
fn one_symbol_stands_for_an_array_of_one(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let known = [0x40, 0x43, 0x43, 0x43, 0x40];
    for (channel, symbols) in [
        (1, &[0xa3, 1, b'a'][..]),
        (2, &[0xe0, 6, 2, 0xa3, 1, b'a', 1, b'b']),
        (3, &[0xf0, 0, 0, 0, 7, 0, 0, 0, 1, 0xa3, 1, b'a']),
        (4, &[0x40]),
    ] {
        let fields = [&known[..], symbols].concat();
        let size = u8::try_from(fields.len() + 1).unwrap_or(0);
        frame(&mut raw, channel, &[&[0x00, 0x53, 0x11, 0xc0, size, 6][..], &fields].concat())?;
        begun_on(&mut raw, channel)?;
    }
    let asked = Attach { desired_capabilities: vec![Symbol::new("one")], ..receiver("r", s.queue()) };
    assert!(attached(&mut raw, 0, asked)?.source.is_some());
    Ok(())
}

/// 1.2, 1.6, 2.3.2
fn what_does_not_decode_ends_the_connection(s: &Scenario) -> Outcome {
    for (what, body) in [
        ("no described value", &[0x40][..]),
        ("an unknown constructor", &[0x00, 0x53, 0x11, 0xc0, 2, 1, 0x3f]),
        ("a list that ends early", &[0x00, 0x53, 0x11, 0xc0, 9, 4, 0x40]),
        ("more elements than bytes", &[0x00, 0x53, 0x11, 0xc0, 2, 9, 0x40]),
        ("an unknown performative", &[0x00, 0x53, 0x7f, 0x45]),
        (
            "a map of three",
            &[
                0x00, 0x53, 0x11, 0xc0, 15, 8, 0x40, 0x43, 0x43, 0x43, 0x40, 0x40, 0x40, 0xc1, 5, 3, 0x40,
                0x40, 0x40, 0x40,
            ],
        ),
        ("a symbol that is no text", &[0x00, 0x53, 0x12, 0xc0, 5, 3, 0xa1, 1, 0xff, 0x43, 0x41]),
    ] {
        let mut raw = begun(s)?;
        frame(&mut raw, 0, body)?;
        assert_eq!(close_condition(&mut raw)?, "amqp:decode-error", "{what}");
    }
    Ok(())
}
