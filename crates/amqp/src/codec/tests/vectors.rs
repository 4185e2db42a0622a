//! Byte vectors: of the specification, and of clients' libraries.

use super::*;
use crate::{
    codec::{decode_value, encode_heartbeat, encode_sasl, encode_transfer, encode_value, skip_value},
    types::{
        Array, Attach, Begin, Close, DeliveryState, Described, Detach, Disposition, End, Error, Fields, Flow,
        Outcome, Role, SaslFrame, SaslMechanisms, SaslOutcome, SenderSettleMode, Symbol, Transfer, Value,
    },
};

fn value(digits: &str) -> Value {
    let mut bytes = hex(digits);
    let value = decode_value(&mut bytes).unwrap_or_else(|e| panic!("{digits}: {e}"));
    assert!(bytes.is_empty(), "{digits}: {bytes:?} left");
    value
}

/// A list8 of `count` fields around their digits.
fn list8(count: u8, fields: &str) -> String {
    format!("c0{:02x}{count:02x}{fields}", hex(fields).len() + 1)
}

/// A disposition with this encoded state.
fn disposition_state(state: &str) -> Option<DeliveryState> {
    let body = format!("005315{}", list8(5, &format!("41434041{state}")));
    match decode_body(&body).unwrap() {
        Performative::Disposition(disposition) => disposition.state,
        other => panic!("{other:?}"),
    }
}

fn array(constructor: u8, elements: Vec<Value>) -> Value {
    Value::Array(Box::new(Array { constructor, elements }))
}

fn described(descriptor: Value, value: Value) -> Value {
    Value::Described(Box::new(Described { descriptor, value }))
}

#[test]
fn every_constructor_decodes_to_its_type() {
    let uuid: [u8; 16] = hex("00112233445566778899aabbccddeeff")[..].try_into().unwrap();
    let vectors = [
        ("40", Value::Null),
        ("41", Value::Bool(true)),
        ("42", Value::Bool(false)),
        ("5601", Value::Bool(true)),
        ("5600", Value::Bool(false)),
        ("50ff", Value::Ubyte(255)),
        ("60ffff", Value::Ushort(65535)),
        ("43", Value::Uint(0)),
        ("5207", Value::Uint(7)),
        ("70ffffffff", Value::Uint(u32::MAX)),
        ("44", Value::Ulong(0)),
        ("5307", Value::Ulong(7)),
        ("80000000137000000c", Value::Ulong(83_483_426_828)),
        ("51ff", Value::Byte(-1)),
        ("61fffe", Value::Short(-2)),
        ("54ff", Value::Int(-1)),
        ("7180000000", Value::Int(i32::MIN)),
        ("55fe", Value::Long(-2)),
        ("8108e2bc9c38298000", Value::Long(0x08e2_bc9c_3829_8000)),
        ("723f800000", Value::Float(1.0f32.to_bits())),
        ("823ff0000000000000", Value::Double(1.0f64.to_bits())),
        ("7401020304", Value::Decimal32([1, 2, 3, 4])),
        ("840102030405060708", Value::Decimal64([1, 2, 3, 4, 5, 6, 7, 8])),
        ("9400112233445566778899aabbccddeeff", Value::Decimal128(uuid)),
        ("730001f600", Value::Char('😀')),
        ("83000001b8d3c76800", Value::Timestamp(0x01b8_d3c7_6800)),
        ("9800112233445566778899aabbccddeeff", Value::Uuid(uuid)),
        ("a0020102", Value::Binary(hex("0102"))),
        ("b0000000020102", Value::Binary(hex("0102"))),
        ("a103616263", Value::string("abc")),
        ("b100000003616263", Value::string("abc")),
        ("a303616263", Value::symbol("abc")),
        ("b300000003616263", Value::symbol("abc")),
        ("45", Value::List(vec![])),
        ("c003024041", Value::List(vec![Value::Null, Value::Bool(true)])),
        ("d000000006000000024041", Value::List(vec![Value::Null, Value::Bool(true)])),
        ("c10502a1016143", Value::Map(vec![(Value::string("a"), Value::Uint(0))])),
        ("d10000000800000002a1016143", Value::Map(vec![(Value::string("a"), Value::Uint(0))])),
        ("e00602a301610162", array(0xa3, vec![Value::symbol("a"), Value::symbol("b")])),
    ];
    for (digits, expected) in &vectors {
        assert_eq!(&value(digits), expected, "{digits}");
        assert_eq!(skip_value(&hex(digits), 0), Ok(hex(digits).len()), "{digits}");
    }
}

#[test]
fn arrays_keep_their_constructor_and_may_be_empty() {
    let ints = array(0x54, vec![Value::Int(1), Value::Int(-1)]);
    assert_eq!(value("f0 00000007 00000002 54 01ff"), ints);
    assert_eq!(value("e0 02 00 98"), array(0x98, vec![]));
    assert_eq!(value("f0 00000005 00000000 83"), array(0x83, vec![]));
    assert_eq!(value("e0 02 03 41"), array(0x41, vec![Value::Bool(true); 3]));
    let lists = array(0xc0, vec![Value::List(vec![Value::Null]), Value::List(vec![])]);
    assert_eq!(value("e0 07 02 c0 020140 0100"), lists);
}

#[test]
fn values_take_their_shortest_form() {
    let vectors = [
        (Value::Uint(0), "43"),
        (Value::Uint(255), "52ff"),
        (Value::Uint(256), "7000000100"),
        (Value::Ulong(0), "44"),
        (Value::Int(200), "71000000c8"),
        (Value::Int(-5), "54fb"),
        (Value::Long(127), "557f"),
        (Value::Long(128), "810000000000000080"),
        (Value::Bool(true), "41"),
        (Value::Short(1), "610001"),
        (Value::List(vec![]), "45"),
        (Value::Map(vec![]), "c10100"),
        (array(0xa3, vec![Value::symbol("a")]), "e00401a30161"),
        (array(0x98, vec![]), "e0020098"),
        (array(0x55, vec![Value::Long(300)]), "e00a0181000000000000012c"),
        (array(0x81, vec![Value::string("odd")]), "c00601a1036f6464"),
        (described(Value::Ulong(0x24), Value::List(vec![])), "00532445"),
    ];
    for (value, digits) in vectors {
        let mut out = BytesMut::new();
        encode_value(&mut out, &value);
        assert_eq!(out.freeze(), hex(digits), "{value:?}");
    }
}

#[test]
fn long_compounds_take_the_wide_form() {
    for length in [0, 1, 251, 252, 253, 254, 255, 256, 300, 70_000] {
        let text = "x".repeat(length);
        let value =
            Value::List(vec![Value::string(&text), Value::Map(vec![(Value::Uint(1), Value::string(&text))])]);
        let mut out = BytesMut::new();
        encode_value(&mut out, &value);
        assert_eq!(decode_value(&mut out.freeze()), Ok(value), "{length}");
    }
    let many = Value::List(vec![Value::Null; 300]);
    let mut out = BytesMut::new();
    encode_value(&mut out, &many);
    assert_eq!(decode_value(&mut out.freeze()), Ok(many));
}

/// An attach with this encoded filter map in its source.
fn attach_with_filter(filter: &str) -> Attach {
    let source = list8(8, &format!("a10171 404040404040 {filter}"));
    let body = format!("005312{}", list8(6, &format!("a1016c 43 41 40 40 005328{source}")));
    match decode_body(&body).unwrap() {
        Performative::Attach(attach) => *attach,
        other => panic!("{other:?}"),
    }
}

#[test]
fn session_filters_keep_their_form() {
    let name = "636f6d2e6d6963726f736f66743a73657373696f6e2d66696c746572";
    let forms = [
        ("40", Value::Null),
        ("a103616263", Value::string("abc")),
        ("a303616263", Value::symbol("abc")),
        ("a100", Value::string("")),
        ("00 80000000137000000c a103616263", described(Value::Ulong(0x13_7000_000c), Value::string("abc"))),
        ("00 80000000137000000c 40", described(Value::Ulong(0x13_7000_000c), Value::Null)),
    ];
    for (form, expected) in &forms {
        for key in ["a31c", "b30000001c", "a11c", "b10000001c"] {
            let entry = format!("{key}{name}{form}");
            let length = hex(&entry).len();
            let attach = attach_with_filter(&format!("c1{:02x}02{entry}", length + 1));
            let filter = attach.source.unwrap().filter.unwrap();
            assert_eq!(filter.get("com.microsoft:session-filter"), Some(expected), "{entry}");
        }
    }
    let symbolic = format!("a31c{name} 00 a31c{name} a103616263");
    let attach = attach_with_filter(&format!("c1{:02x}02{symbolic}", hex(&symbolic).len() + 1));
    let descriptor = Value::symbol("com.microsoft:session-filter");
    assert_eq!(attach.source.unwrap().filter.unwrap().0[0].1, described(descriptor, Value::string("abc")));
}

#[test]
fn empty_filter_map_is_not_an_absent_one() {
    assert_eq!(attach_with_filter("c10100").source.unwrap().filter, Some(Fields::default()));
    assert_eq!(attach_with_filter("40").source.unwrap().filter, None);
}

#[test]
fn python_attach_decodes() {
    // Handle as 52 01, role as 56 01, settle modes as 50 00 and 50 01, a null session filter.
    let filter = "c12002 a31c 636f6d2e6d6963726f736f66743a73657373696f6e2d66696c746572 40";
    let source =
        list8(11, &format!("a1057175657565 43 a30b73657373696f6e2d656e64 43 42 40 40 {filter} 404040"));
    let target = list8(7, "a10174 43 a30b73657373696f6e2d656e64 43 42 40 40");
    let terminuses = format!("005328{source} 005329{target}");
    let fields = format!("a1016c 5201 5601 5000 5001 {terminuses} 40 42 40 8000000000000fffff 40 40 40");
    let Performative::Attach(attach) = decode_body(&format!("005312{}", list8(14, &fields))).unwrap() else {
        panic!("no attach")
    };
    assert_eq!((attach.handle, attach.role), (1, Role::Receiver));
    assert_eq!(attach.snd_settle_mode, Some(SenderSettleMode::Unsettled));
    assert_eq!(attach.max_message_size, Some(0xf_ffff));
    let filter = attach.source.unwrap().filter.unwrap();
    assert_eq!(filter.get("com.microsoft:session-filter"), Some(&Value::Null));
}

#[test]
fn performative_descriptors_are_taken_in_every_form() {
    for descriptor in [
        "5318",
        "800000000000000018",
        "a30f616d71703a636c6f73653a6c697374",
        "b30000000f616d71703a636c6f73653a6c697374",
    ] {
        let performative = decode_body(&format!("00{descriptor}45")).unwrap();
        assert_eq!(performative, Performative::Close(Close::default()), "{descriptor}");
    }
    for descriptor in ["5313", "800000000000000013", "a30e616d71703a666c6f773a6c697374"] {
        let performative = decode_body(&format!("00{descriptor}c00504 40 43 43 43")).unwrap();
        assert_eq!(performative, Performative::Flow(Flow::default()), "{descriptor}");
    }
}

#[test]
fn short_and_padded_lists_are_the_same() {
    let short = decode_body("005316 c0 02 01 43").unwrap();
    assert_eq!(short, decode_body("005316 c0 04 03 43 40 40").unwrap());
    assert_eq!(short, decode_body("005316 d0 00000007 00000003 43 40 40").unwrap());
    assert_eq!(decode_body("00531745").unwrap(), decode_body("005317 c0 02 01 40").unwrap());
}

#[test]
fn multiple_field_may_be_one_symbol_an_array_or_null() {
    let begin = |capabilities: &str| {
        let fields = list8(6, &format!("40 43 43 43 40 {capabilities}"));
        let Performative::Begin(begin) = decode_body(&format!("005311{fields}")).unwrap() else {
            panic!("no begin")
        };
        begin.offered_capabilities
    };
    let one = vec![Symbol::new("a")];
    assert_eq!(begin("a30161"), one);
    assert_eq!(begin("e00401a30161"), one);
    assert_eq!(begin("f00000000a00000001b30000000161"), one);
    assert_eq!(begin("e002 00 a3"), vec![]);
    assert_eq!(begin("40"), vec![]);
}

#[test]
fn unknown_delivery_state_is_kept_as_it_came() {
    let state = described(Value::Ulong(0x99), Value::List(vec![]));
    assert_eq!(disposition_state("0080000000000000009945"), Some(DeliveryState::Other(state)));
    let state = described(Value::symbol("own:state"), Value::Null);
    assert_eq!(disposition_state("00a3096f776e3a737461746540"), Some(DeliveryState::Other(state)));
}

#[test]
fn outcomes_are_taken_in_symbolic_and_long_forms() {
    let accepted = Some(DeliveryState::Outcome(Outcome::Accepted));
    for descriptor in ["005324", "00800000000000000024", "00a312616d71703a61636365707465643a6c697374"] {
        for list in ["45", "c00100", "d00000000400000000"] {
            assert_eq!(disposition_state(&format!("{descriptor}{list}")), accepted, "{descriptor}{list}");
        }
    }
}

#[test]
fn rejected_without_error_is_read_in_both_forms() {
    for state in ["00532545", "005325c0020140"] {
        assert_eq!(disposition_state(state), Some(DeliveryState::Outcome(Outcome::Rejected(None))));
    }
}

#[test]
fn settle_modes_that_were_absent_stay_absent() {
    let Performative::Attach(attach) = decode_body("005312 c0 06 03 a1016c 43 42").unwrap() else {
        panic!("no attach")
    };
    assert_eq!((attach.snd_settle_mode, attach.rcv_settle_mode), (None, None));
    let Performative::Attach(attach) = decode_body("005312 c0 08 04 a1016c 43 42 5002").unwrap() else {
        panic!("no attach")
    };
    assert_eq!((attach.snd_settle_mode, attach.rcv_settle_mode), (Some(SenderSettleMode::Mixed), None));
}

#[test]
fn extended_header_is_skipped() {
    let bytes = hex("00000010 03 00 0001 aabbccdd 00531845");
    let frame = decode_frame(bytes, FrameKind::Amqp).unwrap();
    assert!(matches!(frame, Frame::Amqp { channel: 1, performative: Performative::Close(_), .. }));
}

#[test]
fn payload_behind_a_transfer_is_the_rest_of_the_frame() {
    let transfer = Transfer { handle: 1, delivery_id: Some(7), ..Transfer::default() };
    let mut out = BytesMut::new();
    encode_transfer(&mut out, 3, &transfer, &[b"ab", b"", b"cde"]);
    let decoded = decode_frame(out.freeze(), FrameKind::Amqp).unwrap();
    let performative = Performative::Transfer(transfer);
    assert_eq!(decoded, Frame::Amqp { channel: 3, performative, payload: Bytes::from_static(b"abcde") });
}

#[test]
fn frames_are_padded_to_all_fields_with_numeric_descriptors() {
    let transfer = Transfer {
        handle: 0,
        delivery_id: Some(0),
        delivery_tag: Some(hex("01")),
        message_format: Some(0),
        settled: Some(false),
        ..Transfer::default()
    };
    let disposition = Disposition {
        role: Role::Sender,
        first: 1,
        last: Some(2),
        settled: true,
        state: Some(DeliveryState::Outcome(Outcome::Rejected(None))),
        batchable: false,
    };
    let error = Error { condition: Symbol::new("a"), description: None, info: None };
    let begin = Begin {
        remote_channel: Some(1),
        next_outgoing_id: 0,
        incoming_window: 5,
        outgoing_window: 5,
        handle_max: 255,
        offered_capabilities: vec![],
        desired_capabilities: vec![],
        properties: None,
    };
    let vectors = [
        (Performative::Begin(Box::new(begin)), "005311 c00e08 600001 43 5205 5205 52ff 40 40 40"),
        (Performative::Flow(Flow::default()), "005313 c00c0b 40 43 43 43 40 40 40 40 42 42 40"),
        (Performative::Transfer(transfer), "005314 c00e0b 43 43 a00101 43 42 42 40 40 42 42 42"),
        (Performative::Disposition(disposition), "005315 c00f06 42 5201 5202 41 005325c0020140 42"),
        (Performative::Detach(Detach { handle: 1, closed: true, error: None }), "005316 c00503 5201 41 40"),
        (Performative::End(End::default()), "005317 c00201 40"),
        (Performative::Close(Close { error: Some(error) }), "005318 c00c01 00531d c00603 a30161 40 40"),
    ];
    for (performative, digits) in vectors {
        assert_eq!(encode_body(&performative), hex(digits), "{performative:?}");
    }
}

#[test]
fn sasl_mechanisms_are_an_array_even_of_one() {
    let mut out = BytesMut::new();
    let sasl_server_mechanisms = vec![Symbol::new("PLAIN")];
    encode_sasl(&mut out, &SaslFrame::Mechanisms(SaslMechanisms { sasl_server_mechanisms }));
    assert_eq!(out.freeze(), hex("00000018 02 01 0000 005340 c00b01 e00801 a3 05504c41494e"));
}

#[test]
fn sasl_outcome_and_heartbeat_have_their_known_bytes() {
    let mut out = BytesMut::new();
    encode_sasl(&mut out, &SaslFrame::Outcome(SaslOutcome { code: 0, additional_data: None }));
    encode_heartbeat(&mut out);
    assert_eq!(out.freeze(), hex("00000011 02010000 005344 c00402 5000 40 00000008 02000000"));
}
