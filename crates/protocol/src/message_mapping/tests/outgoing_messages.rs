//! How stored messages are delivered.

use super::*;

#[test]
fn an_ordinary_delivery_has_the_three_annotations_and_the_lock_token_and_nothing_else() {
    let sent = Parts { properties: Some(with_id()), rest: data(b"body"), ..Parts::default() };
    let got = deliver(&sent.encode(), &facts());
    assert_eq!(got.message_annotations, Some(symbols(&own_annotations())));
    assert_eq!(got.delivery_annotations, Some(symbols(&[("x-opt-lock-token", Value::Uuid([5; 16]))])));
    assert_eq!(
        got.header,
        Some(Header {
            durable: Some(false),
            priority: Some(4),
            ttl: None,
            first_acquirer: None,
            delivery_count: Some(0)
        })
    );
    assert_eq!(got.properties, sent.properties);
    assert_eq!(got.application_properties, None);
    assert_eq!(got.rest, sent.rest);
}

/// Semantics B-57, G-13, G-14, G-46.
#[test]
fn a_time_to_live_is_told_in_header_and_properties_and_none_in_neither() {
    let day = std::time::Duration::from_secs(86_400);
    let told = |creation_time, time_to_live| {
        let properties = Some(Properties { creation_time, reply_to: Some(Value::string("r")), ..with_id() });
        let sent = Parts { properties, rest: data(b"x"), ..Parts::default() }.encode();
        let got = deliver(&sent, &DeliveryFacts { time_to_live, ..facts() });
        let (header, properties) = (got.header.expect("always"), got.properties.expect("sent"));
        assert_eq!(properties.reply_to, Some(Value::string("r")));
        assert_eq!(properties.message_id, with_id().message_id);
        (header.ttl, properties.creation_time, properties.absolute_expiry_time)
    };
    assert_eq!(told(Some(5), None), (None, Some(5), None));
    assert_eq!(told(None, Some(day)), (Some(86_400_000), Some(1_000), Some(86_401_000)));
    assert_eq!(told(Some(5), Some(day)), (Some(86_400_000), Some(5), Some(86_400_005)));
    let long = 100 * day;
    assert_eq!(told(None, Some(long)), (Some(u32::MAX), Some(1_000), Some(1_000 + 8_640_000_000)));
    let without_properties =
        deliver(&data(b"x").into(), &DeliveryFacts { time_to_live: Some(day), ..facts() });
    assert_eq!(without_properties.properties.expect("made").absolute_expiry_time, Some(86_401_000));
    assert_eq!(without_properties.rest, data(b"x"));
}

#[test]
fn receive_and_delete_has_neither_lock_nor_token() {
    let sent = Parts { properties: Some(with_id()), ..Parts::default() };
    let got = deliver(&sent.encode(), &DeliveryFacts { locked_until: None, lock_token: None, ..facts() });
    assert_eq!(got.message_annotations, Some(symbols(&own_annotations()[..2])));
    assert_eq!(got.delivery_annotations, None);
}

#[test]
fn header_values_come_back_as_sent_but_the_delivery_count_is_the_brokers() {
    let header = Header {
        durable: Some(true),
        priority: Some(255),
        ttl: None,
        first_acquirer: Some(true),
        delivery_count: Some(9),
    };
    let sent = Parts { header: Some(header), ..Parts::default() }.encode();
    for delivery_count in [0, 3, 255, 256, u32::MAX] {
        let got = deliver(&sent, &DeliveryFacts { delivery_count, ..facts() });
        assert_eq!(got.header, Some(Header { delivery_count: Some(delivery_count), ..header }));
    }
}

#[test]
fn the_senders_annotations_come_back_and_its_values_for_the_brokers_own_do_not() {
    let own = symbols(&[("x-opt-partition-key", Value::Null), ("mine", Value::Ushort(1))]);
    let mut sent_message = own.clone();
    for key in [
        "x-opt-sequence-number",
        "x-opt-enqueued-time",
        "x-opt-locked-until",
        "x-opt-lock-token",
        "x-opt-enqueue-sequence-number",
        "x-opt-message-state",
    ] {
        sent_message.push((Value::symbol(key), Value::Int(1)));
    }
    let delivery = symbols(&[("x-opt-lock-token", Value::Uuid([9; 16])), ("theirs", Value::List(vec![]))]);
    let sent = Parts {
        delivery_annotations: Some(delivery),
        message_annotations: Some(sent_message),
        ..Parts::default()
    };
    let got = deliver(&sent.encode(), &facts());
    assert_eq!(got.message_annotations, Some([own, symbols(&own_annotations())].concat()));
    assert_eq!(
        got.delivery_annotations,
        Some(symbols(&[("theirs", Value::List(vec![])), ("x-opt-lock-token", Value::Uuid([5; 16]))]))
    );
}

#[test]
fn properties_application_properties_body_and_footer_come_back_byte_by_byte() {
    let timespan = Value::Described(Box::new(Described {
        descriptor: Value::symbol("com.microsoft:timespan"),
        value: Value::Long(5),
    }));
    let footer = {
        let mut out = BytesMut::new();
        put_map(&mut out, section::FOOTER, Some(&symbols(&[("f", Value::Int(1))])));
        out.to_vec()
    };
    let sequence =
        [vec![0x00, 0x53, section::AMQP_SEQUENCE], encoded(&Value::List(vec![Value::List(vec![])]))].concat();
    for body in [
        vec![],
        data(b""),
        [data(b"a"), data(b"b")].concat(),
        [sequence.clone(), sequence].concat(),
        vec![0x00, 0x53, section::AMQP_VALUE, 0x40],
    ] {
        let sent = Parts {
            properties: Some(Properties {
                content_encoding: Some(Symbol::new("gzip")),
                user_id: Some(Bytes::from_static(b"u")),
                correlation_id: Some(Value::Uuid([1; 16])),
                ..with_id()
            }),
            application_properties: Some(strings(&[
                ("n", Value::Null),
                ("i", Value::Byte(-1)),
                ("c", Value::Char('ü')),
                ("t", timespan.clone()),
            ])),
            rest: [body, footer.clone()].concat(),
            ..Parts::default()
        }
        .encode();
        let Outgoing { rest, .. } = outgoing(&sent, &facts(), &mut BytesMut::new()).expect("readable");
        assert_eq!(rest, sent);
    }
}

#[test]
fn an_overlay_replaces_and_adds_application_properties() {
    let mut overlay = PropertyOverlay::new();
    overlay.set("b", PropertyValue::Encoded(encoded(&Value::Null).into()));
    overlay.set("DeadLetterReason", PropertyValue::Text("MaxDeliveryCountExceeded".into()));
    let sent = Parts {
        properties: Some(with_id()),
        application_properties: Some(strings(&[("a", Value::Short(1)), ("b", Value::Int(2))])),
        rest: data(b"body"),
        ..Parts::default()
    };
    let got = deliver(&sent.encode(), &DeliveryFacts { properties: Some(&overlay), ..facts() });
    assert_eq!(
        got.application_properties,
        Some(strings(&[
            ("a", Value::Short(1)),
            ("DeadLetterReason", Value::string("MaxDeliveryCountExceeded")),
            ("b", Value::Null),
        ]))
    );
    assert_eq!(got.properties, sent.properties);
    assert_eq!(got.rest, sent.rest);
}

#[test]
fn an_empty_overlay_makes_no_application_properties() {
    let overlay = PropertyOverlay::new();
    let sent = Parts { properties: Some(with_id()), ..Parts::default() };
    let got = deliver(&sent.encode(), &DeliveryFacts { properties: Some(&overlay), ..facts() });
    assert_eq!(got.application_properties, None);
}

#[test]
fn an_overlay_on_a_message_without_application_properties_makes_them() {
    let mut overlay = PropertyOverlay::new();
    overlay.set("k".repeat(300), PropertyValue::Text("v".into()));
    let sent = Parts { rest: data(b"body"), ..Parts::default() };
    let got = deliver(&sent.encode(), &DeliveryFacts { properties: Some(&overlay), ..facts() });
    assert_eq!(got.application_properties, Some(strings(&[("k".repeat(300).as_str(), Value::string("v"))])));
}

#[test]
fn a_peeked_message_is_whole_and_says_its_state() {
    let sent = Parts { properties: Some(with_id()), rest: data(b"body"), ..Parts::default() };
    for (state, number) in [(MessageState::Active, 0), (MessageState::Scheduled, 2)] {
        let facts = DeliveryFacts {
            locked_until: None,
            lock_token: None,
            state: Some(state),
            delivery_count: 2,
            ..facts()
        };
        let got = Parts::decode(&outgoing_whole(&sent.encode(), &facts, false).expect("readable"));
        let annotations = [&own_annotations()[..2], &[("x-opt-message-state", Value::Int(number))]].concat();
        assert_eq!(got.message_annotations, Some(symbols(&annotations)));
        assert_eq!(got.header.expect("a header").delivery_count, Some(2));
        assert_eq!(got.properties, sent.properties);
        assert_eq!(got.rest, sent.rest);
    }
}

#[test]
fn a_body_left_out_is_counted() {
    let body = [data(b"body"), data(b"more")].concat();
    let sent = Parts {
        properties: Some(with_id()),
        application_properties: Some(strings(&[("a", Value::Int(2))])),
        rest: body.clone(),
        ..Parts::default()
    };
    let facts = DeliveryFacts { lock_token: None, ..facts() };
    let got = Parts::decode(&outgoing_whole(&sent.encode(), &facts, true).expect("readable"));
    assert!(got.rest.is_empty());
    assert_eq!(got.application_properties, sent.application_properties);
    assert_eq!(
        got.delivery_annotations,
        Some(symbols(&[("omitted-message-body-size", Value::Long(body.len() as i64))]))
    );
}

#[test]
fn large_sequence_numbers_are_longs() {
    let sent = Parts::default().encode();
    let facts = DeliveryFacts { sequence_number: SequenceNumber(1 << 48), ..facts() };
    let got = deliver(&sent, &facts);
    let annotations = got.message_annotations.expect("annotations");
    assert_eq!(annotations[0], (Value::symbol("x-opt-sequence-number"), Value::Long(1 << 48)));
}

#[test]
fn stored_bytes_that_are_no_message_are_unreadable() {
    let bytes = Bytes::from_static(b"nonsense");
    assert_eq!(outgoing(&bytes, &facts(), &mut BytesMut::new()), Err(Refusal::Unreadable));
}
