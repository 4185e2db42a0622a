//! Messages: the scanner, batches, and the way in and out of the broker.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lockstep_amqp::message::{
    BATCH_MESSAGE_FORMAT, Sections, decode_body_value, decode_header, decode_map_section, decode_properties,
    encode_batch, map_section_entries, scan, split_batch,
};
use lockstep_model::{LockToken, PropertyOverlay, PropertyValue, SequenceNumber, Timestamp};
use lockstep_protocol::message_mapping::{
    DeliveryFacts, DuplicateDetection, IncomingContext, incoming, outgoing, outgoing_whole,
};

use crate::input::Input;

/// Promise: no panic; sections lie in order, without gaps, inside the message; a message that the
/// broker takes can be delivered, and the receiver's message has the same body.
pub(super) fn message(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    let payload = Bytes::copy_from_slice(input.rest());
    if let Ok(sections) = scan(&payload) {
        check_sections(&payload, &sections);
    }
    if let Ok(messages) = split_batch(&payload) {
        assert!(messages.iter().all(|message| !message.is_empty()));
        assert_eq!(split_batch(&encode_batch(&messages)), Ok(messages));
    }
    let format = match choice & 3 {
        0 | 1 => 0,
        2 => BATCH_MESSAGE_FORMAT,
        _ => 1,
    };
    let context = IncomingContext {
        duplicates: match choice & 48 {
            0 => DuplicateDetection::Off,
            16 => DuplicateDetection::ByMessageId,
            _ => DuplicateDetection::ByPartitionAndMessageId,
        },
        now: Timestamp::from_unix_millis(1_700_000_000_000),
    };
    let Ok(messages) = incoming(payload, format, context, &mut || [7; 16]) else { return };
    for message in messages {
        deliver(&message.encoded, message.time_to_live, choice & 4 != 0, choice & 8 != 0);
    }
}

fn check_sections(message: &[u8], sections: &Sections) {
    let mut ranges: Vec<_> = [
        &sections.header,
        &sections.delivery_annotations,
        &sections.message_annotations,
        &sections.properties,
        &sections.application_properties,
    ]
    .into_iter()
    .flatten()
    .cloned()
    .collect();
    if !sections.body.is_empty() {
        ranges.push(sections.body.clone());
    }
    ranges.sort_by_key(|range| range.start);
    let mut end = 0;
    for range in ranges {
        assert_eq!(range.start, end, "no gaps: {sections:?}");
        end = range.end;
    }
    assert_eq!(end, message.len());
    if let Some(footer) = &sections.footer {
        assert!(sections.body.start <= footer.start && footer.end == sections.body.end);
    }
    let part = |range: &Option<std::ops::Range<usize>>| range.clone().map(|range| &message[range]);
    let _ = part(&sections.header).map(decode_header);
    let _ = part(&sections.properties).map(decode_properties);
    for map in [
        &sections.delivery_annotations,
        &sections.message_annotations,
        &sections.application_properties,
        &sections.footer,
    ] {
        let Some(map) = part(map) else { continue };
        let entries = map_section_entries(map).map(Iterator::count);
        if let Ok(decoded) = decode_map_section(map) {
            assert_eq!(entries, Ok(decoded.len()));
        }
    }
    let _ = decode_body_value(message, sections);
}

/// A time to live changes the two times that say it, and nothing else of the properties.
fn check_times(
    received: Option<Vec<u8>>,
    sent: Option<Vec<u8>>,
    time_to_live: Duration,
    facts: &DeliveryFacts<'_>,
) {
    let mut received = received.map(|section| decode_properties(&section)).expect("it holds the times");
    // What cannot be decoded as a whole is passed on field by field.
    let sent = match sent.map(|section| decode_properties(&section)).transpose() {
        Ok(sent) => sent.unwrap_or_default(),
        Err(_) => return,
    };
    let received = received.as_mut().expect("what was decodable before is decodable");
    let creation = sent.creation_time.map_or(facts.enqueued_at, Timestamp::from_unix_millis);
    assert_eq!(received.creation_time, Some(creation.unix_millis()));
    assert_eq!(received.absolute_expiry_time, Some(creation.plus(time_to_live).unix_millis()));
    received.creation_time = sent.creation_time;
    received.absolute_expiry_time = sent.absolute_expiry_time;
    assert_eq!(*received, sent);
}

fn deliver(stored: &Bytes, time_to_live: Option<Duration>, overlaid: bool, omit_body: bool) {
    let mut overlay = PropertyOverlay::new();
    if overlaid {
        overlay.set("mine", PropertyValue::Encoded(Bytes::from_static(&[0x41])));
    }
    let facts = DeliveryFacts {
        sequence_number: SequenceNumber(7),
        enqueued_at: Timestamp::from_unix_millis(1_700_000_000_000),
        locked_until: Some(Timestamp::from_unix_millis(1_700_000_060_000)),
        delivery_count: 3,
        lock_token: Some(LockToken::from_uuid_bytes([9; 16])),
        state: None,
        time_to_live,
        properties: Some(&overlay),
    };
    let sections = scan(stored).expect("what was taken is a message");
    let sent = outgoing(stored, &facts, &mut BytesMut::new()).expect("what was taken can be delivered");
    let whole = [&sent.prefix[..], &sent.rest[..]].concat();
    let received = scan(&whole).expect("what is delivered is a message");
    assert_eq!(whole[received.body.clone()], stored[sections.body.clone()], "the body is as sent");
    let properties = |message: &[u8], sections: &Sections| {
        sections.properties.clone().map(|range| message[range].to_vec())
    };
    let (sent_properties, received_properties) =
        (properties(stored, &sections), properties(&whole, &received));
    match time_to_live {
        None => assert_eq!(received_properties, sent_properties),
        Some(time_to_live) => check_times(received_properties, sent_properties, time_to_live, &facts),
    }
    for map in [received.message_annotations, received.delivery_annotations] {
        let map = map.expect("the broker's own annotations");
        map_section_entries(&whole[map]).expect("readable annotations");
    }
    let shown = outgoing_whole(stored, &facts, omit_body).expect("what was taken can be shown");
    let shown_sections = scan(&shown).expect("what is shown is a message");
    if !omit_body {
        assert_eq!(shown, whole);
    } else if sections.footer.is_none() {
        assert!(shown_sections.body.is_empty());
    }
}
