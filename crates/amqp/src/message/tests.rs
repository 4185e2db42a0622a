//! Tests of message sections, the builders and batches.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{
    codec::tests::{XorShift, hex},
    types::{Array, Symbol, Value},
};

/// header, delivery-annotations, message-annotations, properties, application-properties, two
/// data sections and a footer.
const WHOLE: &str = "005370 c00402 41 5004\
    005371 c10702 a30161 a10162\
    005372 c10602 a30163 5301\
    005373 c00702 a1026964 a000\
    005374 c10602 a10170 5402\
    005375 a00161\
    005375 a00162\
    005378 c10100";

/// One section each, for messages that are put together in tests.
const HEADER: &str = "00537045";
const DELIVERY_ANNOTATIONS: &str = "005371c10100";
const MESSAGE_ANNOTATIONS: &str = "005372c10100";
const PROPERTIES: &str = "00537345";
const APPLICATION_PROPERTIES: &str = "005374c10100";
const DATA: &str = "005375a000";
const SEQUENCE: &str = "00537645";
const VALUE: &str = "00537740";
const FOOTER: &str = "005378c10100";

fn scan_all(sections: &[&str]) -> Result<Sections> {
    scan(&hex(&sections.concat()))
}

fn whole() -> Bytes {
    hex(WHOLE)
}

#[test]
fn ranges_cover_whole_sections() {
    let message = whole();
    let sections = scan(&message).unwrap();
    assert_eq!(sections.header, Some(0..9));
    assert_eq!(sections.delivery_annotations, Some(9..21));
    assert_eq!(sections.message_annotations, Some(21..32));
    assert_eq!(sections.properties, Some(32..44));
    assert_eq!(sections.application_properties, Some(44..55));
    assert_eq!(sections.body, 55..message.len());
    assert_eq!(sections.footer, Some(67..message.len()));
    assert_eq!(
        &message[sections.body.start..sections.footer.unwrap().start],
        &hex("005375a00161005375a00162")
    );
}

#[test]
fn message_without_a_body_is_allowed() {
    let sections = scan_all(&[HEADER, PROPERTIES]).unwrap();
    assert_eq!(sections.body, 8..8);
    assert_eq!(scan(&[]), Ok(Sections::default()));
    let sections = scan_all(&[PROPERTIES, FOOTER]).unwrap();
    assert_eq!((sections.body, sections.footer), (4..10, Some(4..10)));
}

#[test]
fn several_data_or_several_sequences_are_one_body() {
    assert_eq!(scan_all(&[PROPERTIES, DATA, DATA, DATA]).unwrap().body, 4..19);
    assert_eq!(scan_all(&[SEQUENCE, SEQUENCE]).unwrap().body, 0..8);
    assert_eq!(scan_all(&[VALUE]).unwrap().body, 0..4);
}

#[test]
fn kinds_of_body_are_not_mixed() {
    for body in [[DATA, VALUE], [VALUE, DATA], [SEQUENCE, DATA], [DATA, SEQUENCE], [VALUE, VALUE]] {
        assert_eq!(scan_all(&body), Err(MessageError::MixedBody), "{body:?}");
    }
}

#[test]
fn sections_have_an_order_and_stand_once() {
    let order =
        [HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES, DATA, FOOTER];
    assert!(scan_all(&order).is_ok());
    for (earlier, first) in order.iter().enumerate() {
        for second in order[earlier + 1..].iter().filter(|_| *first != DELIVERY_ANNOTATIONS) {
            assert_eq!(scan_all(&[second, first]), Err(MessageError::SectionOrder), "{second} {first}");
        }
        if *first != DATA {
            assert_eq!(scan_all(&[first, first]), Err(MessageError::DuplicateSection), "{first}");
        }
    }
}

#[test]
fn delivery_annotations_may_stand_last_where_python_puts_them() {
    let sections = scan_all(&[HEADER, DATA, FOOTER, DELIVERY_ANNOTATIONS]).unwrap();
    let annotations = sections.delivery_annotations.unwrap();
    assert_eq!((sections.body.end, sections.footer.unwrap().end), (annotations.start, annotations.start));
    let without_body = scan_all(&[PROPERTIES, DELIVERY_ANNOTATIONS]).unwrap();
    assert!(without_body.body.is_empty());
    assert_eq!(
        scan_all(&[DELIVERY_ANNOTATIONS, DATA, DELIVERY_ANNOTATIONS]),
        Err(MessageError::DuplicateSection)
    );
    assert_eq!(scan_all(&[DATA, DELIVERY_ANNOTATIONS, FOOTER]), Err(MessageError::SectionOrder));
}

#[test]
fn what_is_no_section_is_named() {
    assert_eq!(scan(&hex("00537945")), Err(MessageError::UnknownSection));
    assert_eq!(scan(&hex("00532445")), Err(MessageError::UnknownSection));
    assert_eq!(scan(&hex("00a3016145")), Err(MessageError::UnknownSection));
    assert_eq!(scan(&hex("00800000000000000170 45")), Err(MessageError::UnknownSection));
    assert_eq!(scan(&hex("45")), Err(MessageError::Decode));
    assert_eq!(scan(&hex("00537545")), Err(MessageError::InvalidField));
    assert_eq!(scan(&hex("005372 45")), Err(MessageError::InvalidField));
}

#[test]
fn long_and_symbolic_descriptors_are_taken() {
    let message = hex("00800000000000000070 45 00a310616d71703a646174613a62696e617279 a00161");
    let sections = scan(&message).unwrap();
    assert_eq!(sections.header, Some(0..11));
    assert_eq!(sections.body, 11..message.len());
    assert_eq!(split_batch(&message).unwrap(), [hex("61")]);
}

#[test]
fn every_cut_of_a_message_is_an_error_or_a_shorter_message() {
    let message = whole();
    let ends = [0, 9, 21, 32, 44, 55, 61, 67, message.len()];
    for length in 0..=message.len() {
        let result = scan(&message[..length]);
        assert_eq!(result.is_ok(), ends.contains(&length), "{length}: {result:?}");
    }
}

#[test]
fn header_has_all_five_fields_and_reads_back() {
    let header = Header {
        durable: Some(true),
        priority: Some(4),
        ttl: Some(u32::MAX),
        first_acquirer: None,
        delivery_count: Some(0),
    };
    let mut out = BytesMut::new();
    encode_header(&mut out, &header);
    assert_eq!(&out[..], &hex("005370 c00b05 41 5004 70ffffffff 40 43"));
    assert_eq!(decode_header(&out), Ok(header));
    assert_eq!(decode_header(&hex(HEADER)), Ok(Header::default()));
    assert_eq!(decode_header(&hex(PROPERTIES)), Err(MessageError::InvalidField));
    assert_eq!(decode_header(&hex("005370 c00201 43")), Err(MessageError::InvalidField));
}

fn full_properties() -> Properties {
    Properties {
        message_id: Some(Value::Uuid([1; 16])),
        user_id: Some(Bytes::from_static(b"me")),
        to: Some(Value::string("to")),
        subject: Some("subject".into()),
        reply_to: Some(Value::string("back")),
        correlation_id: Some(Value::Ulong(7)),
        content_type: Some(Symbol::new("text/plain")),
        content_encoding: Some(Symbol::new("gzip")),
        absolute_expiry_time: Some(i64::MAX),
        creation_time: Some(-1),
        group_id: Some("orders-17".into()),
        group_sequence: Some(3),
        reply_to_group_id: Some("".into()),
    }
}

#[test]
fn properties_read_back_with_exact_types() {
    let samples = [
        full_properties(),
        Properties::default(),
        Properties { message_id: Some(Value::string("id")), ..Properties::default() },
        Properties { group_id: Some("g".into()), ..Properties::default() },
        Properties { message_id: Some(Value::Binary(Bytes::from_static(b"b"))), ..Properties::default() },
    ];
    for properties in samples {
        let mut out = BytesMut::new();
        encode_properties(&mut out, &properties);
        assert_eq!(decode_properties(&out), Ok(properties));
    }
}

#[test]
fn one_property_is_found_without_decoding_the_others() {
    let mut out = BytesMut::new();
    encode_properties(&mut out, &full_properties());
    assert_eq!(property_field(&out, property::GROUP_ID), Ok(Some(&hex("a1096f72646572732d3137")[..])));
    assert_eq!(property_field(&out, property::CORRELATION_ID), Ok(Some(&hex("5307")[..])));
    assert_eq!(property_field(&hex("005373 c00501 a1026964"), property::GROUP_ID), Ok(None));
    assert_eq!(property_field(&hex("005373 c00201 40"), property::MESSAGE_ID), Ok(None));
    assert_eq!(property_field(&hex(PROPERTIES), usize::MAX), Ok(None));
    assert_eq!(property_field(&hex(HEADER), 0), Err(MessageError::InvalidField));
}

#[test]
fn group_id_of_a_wrong_type_is_an_error() {
    for group_id in ["43", "a30161", "a00161", "41"] {
        let nulls = "40".repeat(10);
        let length = 11 + hex(group_id).len();
        let section = hex(&format!("005373 c0{length:02x}0b {nulls} {group_id}"));
        assert_eq!(decode_properties(&section), Err(MessageError::InvalidField), "{group_id}");
    }
}

#[test]
fn content_type_may_come_as_a_string() {
    let section = hex(&format!("005373 c00a07 {} a10161", "40".repeat(6)));
    assert_eq!(decode_properties(&section).unwrap().content_type, Some(Symbol::new("a")));
}

#[test]
fn map_sections_are_read_and_written_entry_by_entry() {
    let message = whole();
    let sections = scan(&message).unwrap();
    let annotations = &message[sections.message_annotations.unwrap()];
    let entries: Vec<_> = map_section_entries(annotations).unwrap().collect();
    assert_eq!(entries, [(&hex("a30163")[..], &hex("5301")[..])]);
    assert_eq!(text_key(entries[0].0), Some("c"));
    let mut out = BytesMut::new();
    encode_map_section(&mut out, section::MESSAGE_ANNOTATIONS, entries.into_iter());
    assert_eq!(&out[..], annotations);
    let decoded = decode_map_section(annotations).unwrap();
    assert_eq!(decoded, [(Value::symbol("c"), Value::Ulong(1))]);
}

#[test]
fn large_map_sections_take_the_wide_form() {
    let value = hex("9800112233445566778899aabbccddeeff");
    let key = hex("a30161");
    for count in [14, 15, 127, 128, 1_000] {
        let mut out = BytesMut::new();
        encode_map_section(&mut out, section::FOOTER, (0..count).map(|_| (&key[..], &value[..])));
        let entries: Vec<_> = map_section_entries(&out).unwrap().collect();
        assert_eq!(entries, vec![(&key[..], &value[..]); count]);
    }
}

#[test]
fn map_whose_entries_do_not_fill_it_is_an_error() {
    for section in
        ["005374 c10402 a10161", "005374 c10602 a10161 40 40", "005374 c10301 a101", "005374 c10301 4040"]
    {
        assert_eq!(map_section_entries(&hex(section)).err(), Some(MessageError::Decode), "{section}");
    }
    assert_eq!(map_section_entries(&hex("005377 c10100")).err(), Some(MessageError::InvalidField));
    assert_eq!(map_section_entries(&hex(HEADER)).err(), Some(MessageError::InvalidField));
}

#[test]
fn keys_that_are_no_text_have_none() {
    assert_eq!(text_key(&hex("b10000000161")), Some("a"));
    assert_eq!(text_key(&hex("b30000000161")), Some("a"));
    assert_eq!(text_key(&hex("5301")), None);
    assert_eq!(text_key(&hex("a101ff")), None);
    assert_eq!(text_key(&hex("a105")), None);
    assert_eq!(text_key(&[]), None);
}

#[test]
fn value_message_reads_back() {
    let numbers = Array { constructor: 0x81, elements: vec![Value::Long(1), Value::Long(i64::MAX)] };
    let body = Value::Map(vec![(Value::string("sequence-numbers"), Value::Array(Box::new(numbers)))]);
    let properties = Properties { correlation_id: Some(Value::Ulong(1)), ..Properties::default() };
    let status: Vec<(Box<str>, Value)> = vec![
        ("status-code".into(), Value::Int(202)),
        ("status-description".into(), Value::string("Accepted")),
    ];
    let message = encode_value_message(Some(&properties), &status, &body);
    let sections = scan(&message).unwrap();
    assert_eq!(decode_body_value(&message, &sections), Ok(Some(body)));
    let section = &message[sections.application_properties.unwrap()];
    assert_eq!(decode_map_section(section).unwrap()[0], (Value::string("status-code"), Value::Int(202)));
    assert_eq!(decode_properties(&message[sections.properties.unwrap()]), Ok(properties));
}

#[test]
fn bodies_that_are_no_value_have_none() {
    for message in [hex(PROPERTIES), hex(DATA), hex(SEQUENCE), hex(FOOTER)] {
        assert_eq!(decode_body_value(&message, &scan(&message).unwrap()), Ok(None));
    }
    let message = encode_value_message(None, &[], &Value::Null);
    assert_eq!(message, hex(VALUE));
    assert_eq!(decode_body_value(&message, &scan(&message).unwrap()), Ok(Some(Value::Null)));
}

#[test]
fn batch_splits_into_its_messages_in_order() {
    let messages = [hex(PROPERTIES), hex(VALUE), Bytes::from(vec![0x40; 300])];
    assert_eq!(split_batch(&encode_batch(&messages)).unwrap(), messages);
    let envelope = [hex(MESSAGE_ANNOTATIONS), hex(PROPERTIES), encode_batch(&messages), hex(FOOTER)].concat();
    assert_eq!(split_batch(&envelope.into()).unwrap(), messages);
}

#[test]
fn what_is_no_batch_is_refused() {
    assert_eq!(split_batch(&hex(PROPERTIES)), Err(MessageError::Empty));
    assert_eq!(split_batch(&Bytes::new()), Err(MessageError::Empty));
    assert_eq!(split_batch(&hex(FOOTER)), Err(MessageError::Empty));
    assert_eq!(split_batch(&hex(DATA)), Err(MessageError::Empty));
    assert_eq!(split_batch(&hex(VALUE)), Err(MessageError::NotABatch));
    assert_eq!(split_batch(&hex(SEQUENCE)), Err(MessageError::NotABatch));
    assert_eq!(split_batch(&hex("005375a0")), Err(MessageError::Decode));
}

#[test]
fn damaged_messages_never_panic() {
    let samples = [
        whole(),
        encode_batch(&[whole(), whole()]),
        encode_value_message(
            Some(&full_properties()),
            &[("a".into(), Value::Int(1))],
            &Value::string("body"),
        ),
    ];
    let mut random = XorShift(0x5eed_0003);
    for _ in 0..200_000 {
        let mut bytes = samples[random.below(samples.len())].to_vec();
        random.mutate(&mut bytes);
        let message = Bytes::from(bytes);
        let _ = split_batch(&message);
        let Ok(sections) = scan(&message) else { continue };
        let _ = decode_body_value(&message, &sections);
        if let Some(range) = sections.header {
            let _ = decode_header(&message[range]);
        }
        if let Some(range) = sections.properties {
            let _ = decode_properties(&message[range.clone()]);
            let _ = property_field(&message[range], property::GROUP_ID);
        }
        let maps =
            [sections.delivery_annotations, sections.message_annotations, sections.application_properties];
        for range in maps.into_iter().flatten() {
            let _ = decode_map_section(&message[range]);
        }
    }
}
