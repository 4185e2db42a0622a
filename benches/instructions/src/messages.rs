//! A message as a client of Service Bus sends it: header, one annotation, properties, two
//! application properties and a body of 1 KiB.

use std::hint::black_box;

use bytes::{BufMut as _, Bytes, BytesMut};
use lockstep_amqp::{
    codec::encode_value,
    message::{self, Header, Properties, encode_header, encode_map_section, encode_properties, section},
    types::{Symbol, Value},
};
use lockstep_model::{LockToken, SequenceNumber, Timestamp};
use lockstep_protocol::message_mapping::{self, DeliveryFacts};

use crate::Work;

/// Bytes of a message's body.
const BODY_BYTES: u16 = 1_024;

pub(crate) fn message(with_id: bool) -> Bytes {
    let encoded = |value: Value| {
        let mut out = BytesMut::new();
        encode_value(&mut out, &value);
        out
    };
    let mut out = BytesMut::new();
    encode_header(&mut out, &Header { durable: Some(true), ..Header::default() });
    let key = encoded(Value::Symbol(Symbol::new("x-opt-partition-key")));
    let value = encoded(Value::string("customer-4711"));
    encode_map_section(&mut out, section::MESSAGE_ANNOTATIONS, [(&key[..], &value[..])].into_iter());
    let properties = Properties {
        message_id: with_id.then(|| Value::string("5b0c6f3ee1a84f7d9a51c0de12345678")),
        subject: Some("order-placed".into()),
        content_type: Some(Symbol::new("application/json")),
        group_id: Some("customer-4711".into()),
        ..Properties::default()
    };
    encode_properties(&mut out, &properties);
    let entries = [("attempt", "1"), ("origin", "web")];
    let entries = entries.map(|(key, value)| (encoded(Value::string(key)), encoded(Value::string(value))));
    let entries = entries.iter().map(|(key, value)| (&key[..], &value[..]));
    encode_map_section(&mut out, section::APPLICATION_PROPERTIES, entries);
    // One data section: binary with a length of four bytes.
    out.put_slice(&[0x00, 0x53, section::DATA, 0xb0]);
    out.put_u32(BODY_BYTES.into());
    out.put_bytes(0x5a, BODY_BYTES.into());
    out.freeze()
}

pub(crate) fn scan_message() -> Work {
    let message = message(true);
    Box::new(move || {
        black_box(message::scan(black_box(&message)).is_ok());
    })
}

const CONTEXT: message_mapping::IncomingContext = message_mapping::IncomingContext {
    duplicates: message_mapping::DuplicateDetection::Off,
    now: Timestamp::from_unix_millis(1_700_000_000_000),
};

fn incoming(with_id: bool) -> Work {
    let message = message(with_id);
    Box::new(move || {
        let messages = message_mapping::incoming(black_box(&message).clone(), 0, CONTEXT, &mut || [9; 16]);
        black_box(messages.is_ok());
    })
}

pub(crate) fn map_incoming() -> Work {
    incoming(true)
}

/// The properties section is written anew.
pub(crate) fn map_incoming_without_id() -> Work {
    incoming(false)
}

pub(crate) fn map_outgoing() -> Work {
    let message = message(true);
    let facts = DeliveryFacts {
        sequence_number: SequenceNumber(70_000),
        enqueued_at: Timestamp::from_unix_millis(1_700_000_000_000),
        locked_until: Some(Timestamp::from_unix_millis(1_700_000_060_000)),
        delivery_count: 0,
        lock_token: Some(LockToken::from_uuid_bytes([7; 16])),
        state: None,
        time_to_live: None,
        properties: None,
    };
    // As a thread of connections does it: one piece of memory for many messages.
    let mut memory = BytesMut::with_capacity(32 << 10);
    Box::new(move || {
        black_box(message_mapping::outgoing(black_box(&message), &facts, &mut memory).is_ok());
    })
}
