//! What becomes of messages that are sent.

use super::*;
use crate::names::MESSAGE_FORMAT_BATCH;

#[test]
fn a_message_with_an_id_is_stored_byte_by_byte() {
    let message = Parts { properties: Some(with_id()), rest: data(b"body"), ..Parts::default() }.encode();
    let received = receive(message.clone()).expect("good");
    assert_eq!(received, IncomingMessage { encoded: message, ..IncomingMessage::default() });
}

#[test]
fn a_missing_message_id_is_generated_and_all_else_stays() {
    let rest = [data(b"one"), data(b"two")].concat();
    let others = Properties {
        to: Some(Value::string("t")),
        subject: Some("a".repeat(300).into()),
        group_id: Some("g".into()),
        ..Properties::default()
    };
    let application_properties = Some(strings(&[("a", Value::Null)]));
    for properties in [None, Some(Properties::default()), Some(others)] {
        let sent = Parts {
            header: Some(Header { durable: Some(true), ..Header::default() }),
            properties: properties.clone(),
            application_properties: application_properties.clone(),
            rest: rest.clone(),
            ..Parts::default()
        };
        let stored = Parts::decode(&receive(sent.encode()).expect("good").encoded);
        let expected =
            Properties { message_id: Some(Value::string(GENERATED)), ..properties.unwrap_or_default() };
        assert_eq!(stored.properties, Some(expected));
        assert_eq!(stored.header, sent.header);
        assert_eq!(stored.application_properties, application_properties);
        assert_eq!(stored.rest, rest);
    }
}

#[test]
fn a_message_of_nothing_is_given_an_id() {
    let stored = Parts::decode(&receive(Bytes::new()).expect("good").encoded);
    assert_eq!(stored.properties.expect("properties").message_id, Some(Value::string(GENERATED)));
    assert!(stored.rest.is_empty());
}

/// rhea writes the footer before the body, Java's SDK gives it keys that are strings.
#[test]
fn a_footer_is_put_behind_the_body_and_its_keys_become_symbols() {
    let footer = |map: &Map| {
        let mut out = BytesMut::new();
        put_map(&mut out, section::FOOTER, Some(map));
        out.to_vec()
    };
    let long = "k".repeat(300);
    let values = [("one", Value::string("first")), (&*long, Value::Ulong(7)), ("", Value::string("third"))];
    let (as_strings, as_symbols) = (footer(&strings(&values)), footer(&symbols(&values)));
    let body = [data(b"one"), data(b"two")].concat();
    let with = |parts: &[&[u8]]| {
        Parts { properties: Some(with_id()), rest: parts.concat(), ..Parts::default() }.encode()
    };
    let expected = with(&[&body, &as_symbols]);
    for sent in [&as_strings, &as_symbols] {
        for parts in [[&body, sent], [sent, &body]] {
            let stored = receive(with(&[parts[0], parts[1]])).expect("good");
            assert_eq!(stored, IncomingMessage { encoded: expected.clone(), ..IncomingMessage::default() });
        }
    }
    let batch = encode_batch(&[with(&[&as_strings, &body])]);
    let stored = incoming(batch, MESSAGE_FORMAT_BATCH, CONTEXT, &mut || [0; 16]).expect("good");
    assert_eq!(stored[0].encoded, expected);

    // Without a body, with other keys, or no map at all: as it came.
    let others = vec![(Value::Ulong(1), Value::Null), (Value::string("ü"), Value::Null)];
    let no_map_inside = [0x00, 0x53, section::FOOTER, 0xc1, 2, 1, 0xa1];
    for kept in [with(&[&as_symbols]), with(&[&body, &footer(&others)]), with(&[&body, &no_map_inside])] {
        assert_eq!(receive(kept.clone()).expect("good").encoded, kept);
    }
    for refused in [with(&[&as_symbols, &body, &as_symbols]), with(&[&as_symbols, &as_symbols])] {
        assert!(matches!(receive(refused), Err(Refusal::Malformed(_))));
    }
}

#[test]
fn message_ids_keep_their_type() {
    for id in [Value::Ulong(0), Value::Ulong(7), Value::Uuid([1; 16]), Value::Binary(Bytes::new())] {
        let properties = Properties { message_id: Some(id), ..Properties::default() };
        let message = Parts { properties: Some(properties), ..Parts::default() }.encode();
        assert_eq!(receive(message.clone()).expect("good").encoded, message);
    }
}

#[test]
fn the_group_id_names_the_message_session() {
    for (group_id, expected) in [(None, None), (Some(""), Some("")), (Some("g"), Some("g"))] {
        let properties = Properties { group_id: group_id.map(Into::into), ..with_id() };
        let message = Parts { properties: Some(properties), ..Parts::default() }.encode();
        let expected = expected.map(|id| MessageSessionId::new(id).expect("short"));
        assert_eq!(receive(message).expect("good").message_session, expected);
    }
}

#[test]
fn ids_over_128_characters_are_refused_by_name() {
    let long = "ü".repeat(129);
    let too_long = |field| Err(Refusal::IdTooLong { field, chars: 129 });
    let of = |properties| receive(Parts { properties: Some(properties), ..Parts::default() }.encode());
    let message_id = Some(Value::string(&long));
    assert_eq!(of(Properties { message_id, ..Properties::default() }), too_long("MessageId"));
    assert_eq!(of(Properties { group_id: Some(long.as_str().into()), ..with_id() }), too_long("SessionId"));
    let message_annotations = Some(symbols(&[("x-opt-partition-key", Value::string(&long))]));
    let message = Parts { message_annotations, ..Parts::default() }.encode();
    assert_eq!(receive(message), too_long("PartitionKey"));
}

#[test]
fn a_group_id_of_another_type_is_malformed() {
    let mut fields = vec![Value::Null; 10];
    fields.push(Value::Int(1));
    let message = [vec![0x00, 0x53, section::PROPERTIES], encoded(&Value::List(fields))].concat();
    assert_eq!(
        receive(message.into()),
        Err(Refusal::Malformed("the group-id (SessionId) has to be a string"))
    );
}

#[test]
fn annotations_that_may_not_be_null_are_refused_and_the_others_pass() {
    let of = |key: &str, value| {
        let message_annotations = Some(symbols(&[(key, value)]));
        receive(Parts { message_annotations, ..Parts::default() }.encode())
    };
    for key in ["x-opt-scheduled-enqueue-time", "x-opt-message-state", "x-opt-enqueue-sequence-number"] {
        assert!(matches!(of(key, Value::Null), Err(Refusal::InvalidArgument(_))), "{key}");
    }
    for key in [
        "x-opt-partition-key",
        "x-opt-deadletter-source",
        "x-opt-locked-until",
        "x-opt-sequence-number",
        "x-opt-enqueued-time",
        "x-opt-lock-token",
    ] {
        assert!(of(key, Value::Null).is_ok(), "{key}");
    }
    assert!(matches!(of("x-opt-partition-key", Value::Int(1)), Err(Refusal::InvalidArgument(_))));
}

#[test]
fn a_scheduled_time_is_a_timestamp() {
    let of = |value| {
        let message_annotations = Some(symbols(&[("x-opt-scheduled-enqueue-time", value)]));
        receive(Parts { message_annotations, ..Parts::default() }.encode())
    };
    let scheduled_at = of(Value::Timestamp(1_234)).expect("a time").scheduled_at;
    assert_eq!(scheduled_at, Some(Timestamp::from_unix_millis(1_234)));
    assert!(matches!(of(Value::Long(1_234)), Err(Refusal::InvalidArgument(_))));
}

/// wire.md 4.6
#[test]
fn time_to_live_comes_from_the_header_or_from_times_beyond_it() {
    const DAY_MILLIS: i64 = 86_400_000;
    let lives = |ttl, creation_time, absolute_expiry_time| {
        let header = Some(Header { ttl, ..Header::default() });
        let properties = Some(Properties { creation_time, absolute_expiry_time, ..with_id() });
        let message = receive(Parts { header, properties, ..Parts::default() }.encode());
        message.expect("good").time_to_live.map(|time| time.as_millis() as i64)
    };
    assert_eq!(lives(None, None, None), None);
    assert_eq!(lives(None, Some(5), None), None);
    assert_eq!(lives(Some(60_000), None, None), Some(60_000));
    assert_eq!(lives(Some(60_000), Some(1_000), Some(62_000)), Some(60_000), "within a uint ttl counts");
    let long = 100 * DAY_MILLIS;
    assert_eq!(lives(Some(u32::MAX), Some(1_000), Some(1_000 + long)), Some(long));
    assert_eq!(lives(None, Some(1_000), Some(4_000)), Some(3_000));
    assert_eq!(lives(None, None, Some(5_000)), Some(5_000), "from the time at which it came");
    assert_eq!(lives(None, Some(9_000), Some(5_000)), Some(0), "it has expired");
}

/// Semantics G-19.
#[test]
fn equal_message_ids_have_equal_keys_whatever_their_width() {
    let context = IncomingContext { duplicates: DuplicateDetection::ByMessageId, ..CONTEXT };
    let key = |properties: &[u8]| {
        let message = [&[0x00, 0x53, section::PROPERTIES][..], properties].concat();
        incoming(message.into(), 0, context, &mut || [0; 16]).expect("good")[0].duplicate_key
    };
    let list = |id: &[u8]| [&[0xc0, id.len() as u8 + 1, 1][..], id].concat();
    let text = key(&list(&[0xa1, 1, b'1']));
    assert_eq!(text, key(&list(&[0xb1, 0, 0, 0, 1, b'1'])));
    let number = key(&list(&[0x53, 0x31]));
    assert_eq!(number, key(&list(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0x31])));
    let keys = [text, number, key(&list(&[0xa0, 1, b'1'])), key(&list(&[0x44]))];
    assert!(keys.iter().all(Option::is_some));
    assert!((1..keys.len()).all(|at| !keys[..at].contains(&keys[at])), "{keys:?}");
    assert_eq!(key(&list(&[0x40])), None, "a generated id is no duplicate of anything");
    assert_eq!(
        receive(Parts { properties: Some(with_id()), ..Parts::default() }.encode())
            .expect("good")
            .duplicate_key,
        None
    );
}

/// Semantics B-63, A-134.
#[test]
fn on_a_partitioned_entity_a_duplicate_has_the_same_key_too() {
    let key_in = |duplicates, session: Option<&str>, partition: Option<&str>| {
        let parts = Parts {
            message_annotations: partition.map(|key| symbols(&[("x-opt-partition-key", Value::string(key))])),
            properties: Some(Properties { group_id: session.map(Into::into), ..with_id() }),
            ..Parts::default()
        };
        let context = IncomingContext { duplicates, ..CONTEXT };
        incoming(parts.encode(), 0, context, &mut || [0; 16]).expect("good")[0].duplicate_key
    };
    let (one, many) = (DuplicateDetection::ByMessageId, DuplicateDetection::ByPartitionAndMessageId);
    let plain = key_in(one, None, None);
    assert_eq!([key_in(one, Some("a"), None), key_in(one, None, Some("b"))], [plain, plain]);
    assert_eq!(key_in(many, None, None), plain);
    assert_eq!(key_in(many, Some("a"), None), key_in(many, None, Some("a")));
    assert_eq!(key_in(many, Some("a"), Some("a")), key_in(many, Some("a"), None));
    let keys = [plain, key_in(many, Some("a"), None), key_in(many, Some("b"), None)];
    assert!((1..keys.len()).all(|at| !keys[..at].contains(&keys[at])), "{keys:?}");
}

/// Semantics B-7.
#[test]
fn properties_over_their_limits_are_refused() {
    let send = |application: &[usize], annotation: usize| {
        let text = |bytes: usize| Value::string(&"v".repeat(bytes));
        let keys: Vec<String> = (0..application.len()).map(|n| format!("k{n}")).collect();
        let application = application.iter().zip(&keys).map(|(&bytes, key)| (&**key, text(bytes)));
        let parts = Parts {
            message_annotations: (annotation > 0).then(|| symbols(&[("own", text(annotation))])),
            properties: Some(with_id()),
            application_properties: Some(strings(&application.collect::<Vec<_>>())),
            ..Parts::default()
        };
        incoming(parts.encode(), 0, CONTEXT, &mut || [0; 16]).map(drop)
    };
    const PROPERTY: usize = limits::MESSAGE_PROPERTY_SIZE_BYTES_MAX;
    // A key of two characters takes four bytes, the value five more than its text.
    assert_eq!(send(&[PROPERTY - 9], 0), Ok(()));
    assert!(matches!(send(&[PROPERTY - 8], 0), Err(Refusal::InvalidArgument(_))));
    assert_eq!(send(&[30_000, 30_000], 4_000), Ok(()));
    assert!(matches!(send(&[30_000, 30_000, 6_000], 0), Err(Refusal::InvalidArgument(_))));
    assert!(matches!(send(&[30_000], 36_000), Err(Refusal::InvalidArgument(_))));
}

#[test]
fn malformed_messages_are_refused_with_a_text() {
    let properties = Parts { properties: Some(with_id()), ..Parts::default() }.encode();
    let out_of_order = [data(b"x"), properties.to_vec()].concat();
    let twice = [properties.clone(), properties.clone()].concat();
    let cut = properties[..properties.len() - 1].to_vec();
    let unknown = vec![0x00, 0x53, 0x79, 0x40];
    let mixed = [data(b"x"), vec![0x00, 0x53, section::AMQP_VALUE, 0x40]].concat();
    let bad_header = vec![0x00, 0x53, section::HEADER, 0xc0, 3, 1, 0xa1, 0];
    let bad_map = vec![0x00, 0x53, section::APPLICATION_PROPERTIES, 0xc1, 3, 2, 0xa1, 0];
    let many_fields =
        [vec![0x00, 0x53, section::PROPERTIES], encoded(&Value::List(vec![Value::Null; 14]))].concat();
    for (message, mentions) in [
        (out_of_order, "out of order"),
        (twice, "twice"),
        (cut, "cannot be decoded"),
        (unknown, "section that AMQP does not know"),
        (mixed, "several kinds"),
        (bad_header, "wrong type"),
        (bad_map, "cannot be decoded"),
        (many_fields, "wrong type"),
    ] {
        let Err(Refusal::Malformed(text)) = receive(message.into()) else { panic!("{mentions}") };
        assert!(text.contains(mentions), "{text}");
    }
}

#[test]
fn a_batch_is_its_messages_in_order_each_with_its_own_session() {
    let message = |id: &str| {
        let properties = Properties { group_id: Some(id.into()), ..with_id() };
        Parts { properties: Some(properties), rest: data(id.as_bytes()), ..Parts::default() }.encode()
    };
    let messages = vec![message("a"), message("b")];
    let envelope = Parts { properties: Some(with_id()), ..Parts::default() }.encode();
    let batch = Bytes::from([envelope, encode_batch(&messages)].concat());
    let received = incoming(batch, 0x8001_3700, CONTEXT, &mut || [0; 16]).expect("good");
    let encoded: Vec<_> = received.iter().map(|message| message.encoded.clone()).collect();
    assert_eq!(encoded, messages);
    let ids: Vec<_> =
        received.iter().map(|message| message.message_session.as_ref().expect("an id").as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn one_bad_message_refuses_its_batch() {
    let good = Parts { properties: Some(with_id()), ..Parts::default() }.encode();
    let batch = encode_batch(&[good, Bytes::from_static(&[0x00, 0x53, 0x79, 0x40])]);
    assert!(matches!(incoming(batch, 0x8001_3700, CONTEXT, &mut || [0; 16]), Err(Refusal::Malformed(_))));
}

#[test]
fn batches_of_nothing_of_another_kind_or_too_many_are_refused() {
    let batch = |payload| incoming(payload, 0x8001_3700, CONTEXT, &mut || [0; 16]);
    assert!(matches!(batch(Bytes::new()), Err(Refusal::Malformed(_))));
    let value = Bytes::from_static(&[0x00, 0x53, section::AMQP_VALUE, 0x40]);
    assert!(matches!(batch(value), Err(Refusal::Malformed(_))));
    let tiny = Parts { rest: data(b""), ..Parts::default() }.encode();
    let many = vec![tiny; limits::BATCH_MESSAGES_MAX + 1];
    assert_eq!(batch(encode_batch(&many)), Err(Refusal::TooManyMessages));
    assert_eq!(batch(encode_batch(&many[1..])).map(|all| all.len()), Ok(limits::BATCH_MESSAGES_MAX));
}

#[test]
fn other_message_formats_are_refused() {
    for format in [1, 0x8001_3701] {
        let refused = incoming(Bytes::new(), format, CONTEXT, &mut || [0; 16]);
        assert!(matches!(refused, Err(Refusal::InvalidArgument(_))));
    }
}

#[test]
fn a_partition_key_is_a_text_even_as_binary() {
    let with = |key: Value| {
        let annotations = Some(symbols(&[("x-opt-partition-key", key)]));
        receive(
            Parts { message_annotations: annotations, properties: Some(with_id()), ..Parts::default() }
                .encode(),
        )
    };
    let long = "ä".repeat(128);
    for text in ["", "key", &long] {
        for key in [Value::string(text), Value::Binary(Bytes::copy_from_slice(text.as_bytes()))] {
            assert_eq!(with(key).expect("good").partition_key.as_deref(), Some(text));
        }
    }
    assert_eq!(with(Value::Null).expect("none").partition_key, None);
    assert!(matches!(with(Value::Binary("k".repeat(129).into())), Err(Refusal::IdTooLong { .. })));
    for wrong in [Value::Binary(Bytes::from_static(&[0xff])), Value::Int(1)] {
        assert!(matches!(with(wrong), Err(Refusal::InvalidArgument(_))));
    }
}
