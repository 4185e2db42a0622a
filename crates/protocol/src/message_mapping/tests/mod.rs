mod incoming_messages;
mod outgoing_messages;

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    codec::encode_value,
    message::{
        Header, Properties, decode_header, decode_map_section, decode_properties, encode_batch,
        encode_header, encode_map_section, encode_properties, scan, section,
    },
    types::{Described, Map, Symbol, Value},
};
use lockstep_model::{
    IncomingMessage, LockToken, MessageSessionId, MessageState, PropertyOverlay, PropertyValue, Refusal,
    SequenceNumber, Timestamp, limits,
};

use super::*;

const CONTEXT: IncomingContext =
    IncomingContext { duplicates: DuplicateDetection::Off, now: Timestamp::from_unix_millis(0) };
const GENERATED: &str = "abababababababababababababababab";

/// Sections of a message, in their order; body and footer as raw bytes.
#[derive(Default)]
struct Parts {
    header: Option<Header>,
    delivery_annotations: Option<Map>,
    message_annotations: Option<Map>,
    properties: Option<Properties>,
    application_properties: Option<Map>,
    rest: Vec<u8>,
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_value(&mut out, value);
    out.to_vec()
}

fn put_map(out: &mut BytesMut, code: u8, map: Option<&Map>) {
    let Some(map) = map else { return };
    let entries: Vec<_> = map.iter().map(|(key, value)| (encoded(key), encoded(value))).collect();
    encode_map_section(out, code, entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice())));
}

impl Parts {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(header) = &self.header {
            encode_header(&mut out, header);
        }
        put_map(&mut out, section::DELIVERY_ANNOTATIONS, self.delivery_annotations.as_ref());
        put_map(&mut out, section::MESSAGE_ANNOTATIONS, self.message_annotations.as_ref());
        if let Some(properties) = &self.properties {
            encode_properties(&mut out, properties);
        }
        put_map(&mut out, section::APPLICATION_PROPERTIES, self.application_properties.as_ref());
        out.extend_from_slice(&self.rest);
        out.freeze()
    }

    fn decode(message: &[u8]) -> Self {
        let sections = scan(message).expect("a message");
        let map = |range: Option<std::ops::Range<usize>>| {
            range.map(|range| decode_map_section(&message[range]).expect("a map"))
        };
        Self {
            header: sections.header.map(|range| decode_header(&message[range]).expect("a header")),
            delivery_annotations: map(sections.delivery_annotations),
            message_annotations: map(sections.message_annotations),
            properties: sections
                .properties
                .map(|range| decode_properties(&message[range]).expect("properties")),
            application_properties: map(sections.application_properties),
            rest: message[sections.body].to_vec(),
        }
    }
}

fn with_id() -> Properties {
    Properties { message_id: Some(Value::string("m1")), ..Properties::default() }
}

fn symbols(entries: &[(&str, Value)]) -> Map {
    entries.iter().map(|(key, value)| (Value::symbol(key), value.clone())).collect()
}

fn strings(entries: &[(&str, Value)]) -> Map {
    entries.iter().map(|(key, value)| (Value::string(key), value.clone())).collect()
}

fn data(content: &[u8]) -> Vec<u8> {
    let mut section = vec![0x00, 0x53, section::DATA];
    section.extend(encoded(&Value::Binary(Bytes::copy_from_slice(content))));
    section
}

fn receive(payload: Bytes) -> Result<IncomingMessage, Refusal> {
    let mut all = incoming(payload, 0, CONTEXT, &mut || [0xab; 16])?;
    assert_eq!(all.len(), 1);
    Ok(all.remove(0))
}

fn facts() -> DeliveryFacts<'static> {
    DeliveryFacts {
        sequence_number: SequenceNumber(7),
        enqueued_at: Timestamp::from_unix_millis(1_000),
        locked_until: Some(Timestamp::from_unix_millis(61_000)),
        delivery_count: 0,
        lock_token: Some(LockToken::from_uuid_bytes([5; 16])),
        state: None,
        time_to_live: None,
        properties: None,
    }
}

fn deliver(encoded: &Bytes, facts: &DeliveryFacts<'_>) -> Parts {
    let Outgoing { prefix, rest } = outgoing(encoded, facts, &mut BytesMut::new()).expect("readable");
    Parts::decode(&[prefix, rest].concat())
}

fn own_annotations() -> Vec<(&'static str, Value)> {
    vec![
        ("x-opt-sequence-number", Value::Long(7)),
        ("x-opt-enqueued-time", Value::Timestamp(1_000)),
        ("x-opt-locked-until", Value::Timestamp(61_000)),
    ]
}
