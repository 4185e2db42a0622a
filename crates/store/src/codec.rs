//! The byte forms of records. Each begins with a version byte; integers are big-endian. Decoding
//! is strict: an unknown version, an unknown flag or a byte too many is a damaged row, because a
//! row that is half understood would be written back half.

use std::ops::RangeInclusive;

use bytes::Bytes;
use lockstep_model::{
    BodyId, MessageSessionId, MessageState, PropertyOverlay, PropertyValue, SequenceNumber, Timestamp,
};

use crate::records::{
    CounterRecord, MessageOverlayRecord, MessageRecord, MessageSessionRecord, NamespaceRecord,
};

/// Why a value does not decode.
pub(crate) type Problem = &'static str;

/// The version of kinds of records that never changed. A kind that changes gets a constant of its
/// own and goes on reading the old ones.
const VERSION: u8 = 1;
/// Version 2: expiry, and whether it was scheduled.
const MESSAGE_VERSION: u8 = 2;

const HAS_MESSAGE_SESSION: u8 = 0b1;
const HAS_EXPIRY: u8 = 0b10;
const WAS_SCHEDULED: u8 = 0b100;
const VALUE_ENCODED: u8 = 0;
const VALUE_TEXT: u8 = 1;

pub(crate) fn encode_namespace(to: &mut Vec<u8>, record: &NamespaceRecord) {
    to.push(VERSION);
    to.extend_from_slice(&record.last_entity_number.to_be_bytes());
    to.extend_from_slice(record.name.as_bytes());
}

pub(crate) fn decode_namespace(value: &[u8]) -> Result<NamespaceRecord, Problem> {
    let mut from = Reader::versioned(value)?;
    Ok(NamespaceRecord { last_entity_number: from.u32()?, name: from.remaining_text()?.into() })
}

pub(crate) fn encode_counter(to: &mut Vec<u8>, record: CounterRecord) {
    to.push(VERSION);
    to.extend_from_slice(&record.last_sequence_number.0.to_be_bytes());
}

pub(crate) fn decode_counter(value: &[u8]) -> Result<CounterRecord, Problem> {
    let mut from = Reader::versioned(value)?;
    let record = CounterRecord { last_sequence_number: SequenceNumber(from.u64()?) };
    from.end()?;
    Ok(record)
}

pub(crate) fn encode_message(to: &mut Vec<u8>, record: &MessageRecord) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    to.push(MESSAGE_VERSION);
    to.push(record.state as u8);
    to.push(
        flag(record.message_session.is_some(), HAS_MESSAGE_SESSION)
            | flag(record.expires_at.is_some(), HAS_EXPIRY)
            | flag(record.was_scheduled, WAS_SCHEDULED),
    );
    to.extend_from_slice(&record.enqueued_at.unix_millis().to_be_bytes());
    if let Some(time) = record.expires_at {
        to.extend_from_slice(&time.unix_millis().to_be_bytes());
    }
    to.extend_from_slice(&record.body.0.to_be_bytes());
    to.extend_from_slice(&record.size_bytes.to_be_bytes());
    to.extend_from_slice(record.message_session.as_ref().map_or("", |id| id.as_str()).as_bytes());
}

pub(crate) fn decode_message(value: &[u8]) -> Result<MessageRecord, Problem> {
    let (version, mut from) = Reader::of_versions(value, VERSION..=MESSAGE_VERSION)?;
    let state = match from.u8()? {
        0 => MessageState::Active,
        1 => MessageState::Deferred,
        2 => MessageState::Scheduled,
        _ => return Err("the message state is unknown"),
    };
    let flags = from.flags(match version {
        VERSION => HAS_MESSAGE_SESSION,
        _ => HAS_MESSAGE_SESSION | HAS_EXPIRY | WAS_SCHEDULED,
    })?;
    let mut time = || Ok(Timestamp::from_unix_millis(from.i64()?));
    let enqueued_at = time()?;
    let expires_at = (flags & HAS_EXPIRY != 0).then(&mut time).transpose()?;
    let (body, size_bytes) = (BodyId(from.u64()?), from.u32()?);
    let message_session = if flags & HAS_MESSAGE_SESSION == 0 {
        from.end()?;
        None
    } else {
        let id = from.remaining_text()?;
        Some(MessageSessionId::new(id).map_err(|_| "the session id is longer than 128 characters")?)
    };
    Ok(MessageRecord {
        state,
        enqueued_at,
        expires_at,
        was_scheduled: flags & WAS_SCHEDULED != 0,
        body,
        size_bytes,
        message_session,
    })
}

pub(crate) fn encode_duplicate(to: &mut Vec<u8>, accepted_at: Timestamp) {
    to.push(VERSION);
    to.extend_from_slice(&accepted_at.unix_millis().to_be_bytes());
}

pub(crate) fn decode_duplicate(value: &[u8]) -> Result<Timestamp, Problem> {
    let mut from = Reader::versioned(value)?;
    let accepted_at = Timestamp::from_unix_millis(from.i64()?);
    from.end()?;
    Ok(accepted_at)
}

pub(crate) fn encode_overlay(to: &mut Vec<u8>, record: &MessageOverlayRecord) {
    to.push(VERSION);
    to.extend_from_slice(&record.delivery_count.to_be_bytes());
    for (name, value) in record.properties.iter() {
        put_sized(to, name.as_bytes());
        match value {
            PropertyValue::Encoded(bytes) => {
                to.push(VALUE_ENCODED);
                put_sized(to, bytes);
            }
            PropertyValue::Text(text) => {
                to.push(VALUE_TEXT);
                put_sized(to, text.as_bytes());
            }
        }
    }
}

pub(crate) fn decode_overlay(value: &[u8]) -> Result<MessageOverlayRecord, Problem> {
    let mut from = Reader::versioned(value)?;
    let delivery_count = from.u32()?;
    let mut properties = PropertyOverlay::new();
    while !from.rest.is_empty() {
        let name = text(from.sized()?)?;
        let value = match from.u8()? {
            VALUE_ENCODED => PropertyValue::Encoded(Bytes::copy_from_slice(from.sized()?)),
            VALUE_TEXT => PropertyValue::Text(text(from.sized()?)?.into()),
            _ => return Err("the kind of a property's value is unknown"),
        };
        properties.set(name, value);
    }
    Ok(MessageOverlayRecord { delivery_count, properties })
}

/// Bytes before the state in a [`MessageSessionRecord`].
const MESSAGE_SESSION_HEADER_SIZE_BYTES: usize = 9;

pub(crate) fn encode_message_session(to: &mut Vec<u8>, record: &MessageSessionRecord) {
    to.reserve(MESSAGE_SESSION_HEADER_SIZE_BYTES + record.state.len());
    to.push(VERSION);
    to.extend_from_slice(&record.updated_at.unix_millis().to_be_bytes());
    to.extend_from_slice(&record.state);
}

pub(crate) fn decode_message_session(value: &[u8]) -> Result<MessageSessionRecord, Problem> {
    let mut from = Reader::versioned(value)?;
    let updated_at = Timestamp::from_unix_millis(from.i64()?);
    Ok(MessageSessionRecord { updated_at, state: Bytes::copy_from_slice(from.rest) })
}

#[cfg(any(test, feature = "rocksdb"))]
pub(crate) fn decode_u64(value: &[u8]) -> Result<u64, Problem> {
    Ok(u64::from_be_bytes(value.try_into().map_err(|_| "the value is not a number of 8 bytes")?))
}

#[cfg(any(test, feature = "rocksdb"))]
pub(crate) fn decode_u32(value: &[u8]) -> Result<u32, Problem> {
    Ok(u32::from_be_bytes(value.try_into().map_err(|_| "the value is not a number of 4 bytes")?))
}

/// A length as `u32`, then the bytes. A property comes from one AMQP frame or management request,
/// which the broker bounds far below 4 GiB.
pub(crate) fn put_sized(to: &mut Vec<u8>, bytes: &[u8]) {
    let size = u32::try_from(bytes.len()).expect("a property is smaller than 4 GiB");
    to.extend_from_slice(&size.to_be_bytes());
    to.extend_from_slice(bytes);
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
}

const TOO_SHORT: Problem = "the value ends too early";

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts behind the version byte.
    pub(crate) fn versioned(value: &'a [u8]) -> Result<Self, Problem> {
        Ok(Self::of_versions(value, VERSION..=VERSION)?.1)
    }

    /// The version byte, and a reader that starts behind it.
    pub(crate) fn of_versions(value: &'a [u8], known: RangeInclusive<u8>) -> Result<(u8, Self), Problem> {
        let mut reader = Self { rest: value };
        let version = reader.u8()?;
        if known.contains(&version) {
            Ok((version, reader))
        } else {
            Err("the version of the record is unknown; a newer broker may have written it")
        }
    }

    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Problem> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Problem> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Problem> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, Problem> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn flags(&mut self, known: u8) -> Result<u8, Problem> {
        let flags = self.u8()?;
        if flags & !known == 0 { Ok(flags) } else { Err("a flag is unknown") }
    }

    pub(crate) fn sized(&mut self) -> Result<&'a [u8], Problem> {
        let size = self.u32()?;
        self.take(usize::try_from(size).map_err(|_| TOO_SHORT)?)
    }

    pub(crate) fn remaining_text(self) -> Result<&'a str, Problem> {
        text(self.rest)
    }

    pub(crate) fn end(self) -> Result<(), Problem> {
        if self.rest.is_empty() { Ok(()) } else { Err("the value has bytes behind its end") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut value = Vec::new();
        encode(&mut value);
        value
    }

    fn message(session: Option<&str>) -> MessageRecord {
        MessageRecord {
            state: MessageState::Deferred,
            enqueued_at: Timestamp::from_unix_millis(-5),
            body: BodyId(u64::MAX),
            size_bytes: 77,
            expires_at: session.map(|_| Timestamp::from_unix_millis(9)),
            was_scheduled: session.is_some(),
            message_session: session.map(|id| MessageSessionId::new(id).expect("short")),
        }
    }

    #[test]
    fn a_message_has_the_documented_bytes() {
        let value = encoded(|to| {
            encode_message(
                to,
                &MessageRecord {
                    state: MessageState::Active,
                    enqueued_at: Timestamp::from_unix_millis(0x0102),
                    expires_at: Some(Timestamp::from_unix_millis(0x0a0b)),
                    was_scheduled: true,
                    body: BodyId(0x0304),
                    size_bytes: 0x0506,
                    message_session: Some(MessageSessionId::new("ab").expect("short")),
                },
            );
        });
        let expected = [
            &[2, 0, 0b111, 0, 0, 0, 0, 0, 0, 1, 2][..],
            &[0, 0, 0, 0, 0, 0, 0xa, 0xb],
            &[0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 5, 6, b'a', b'b'],
        ];
        assert_eq!(value, expected.concat());
    }

    #[test]
    fn a_message_of_version_1_is_read() {
        let value = [1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 5, 6, b'a', b'b'];
        let expected = MessageRecord {
            state: MessageState::Active,
            enqueued_at: Timestamp::from_unix_millis(0x0102),
            expires_at: None,
            was_scheduled: false,
            body: BodyId(0x0304),
            size_bytes: 0x0506,
            message_session: Some(MessageSessionId::new("ab").expect("short")),
        };
        assert_eq!(decode_message(&value), Ok(expected));
    }

    #[test]
    fn messages_come_back_and_an_empty_session_id_is_not_none() {
        for record in [message(None), message(Some("")), message(Some("s\0ü"))] {
            let value = encoded(|to| encode_message(to, &record));
            assert_eq!(decode_message(&value), Ok(record));
        }
    }

    #[test]
    fn overlays_come_back() {
        let mut properties = PropertyOverlay::new();
        properties.set("DeadLetterReason", PropertyValue::Text("too old".into()));
        properties.set("n", PropertyValue::Encoded(Bytes::from_static(&[0x54, 7])));
        for record in
            [MessageOverlayRecord::default(), MessageOverlayRecord { delivery_count: 3, properties }]
        {
            let value = encoded(|to| encode_overlay(to, &record));
            assert_eq!(decode_overlay(&value), Ok(record));
        }
    }

    #[test]
    fn counters_states_and_remembered_ids_come_back() {
        let namespace = NamespaceRecord { name: "sbtest".into(), last_entity_number: 9 };
        assert_eq!(decode_namespace(&encoded(|to| encode_namespace(to, &namespace))), Ok(namespace));
        let counter = CounterRecord { last_sequence_number: SequenceNumber(1 << 40) };
        assert_eq!(decode_counter(&encoded(|to| encode_counter(to, counter))), Ok(counter));
        let state = MessageSessionRecord {
            updated_at: Timestamp::from_unix_millis(1),
            state: Bytes::from_static(b"\0opaque"),
        };
        assert_eq!(decode_message_session(&encoded(|to| encode_message_session(to, &state))), Ok(state));
        let at = Timestamp::from_unix_millis(7);
        assert_eq!(decode_duplicate(&encoded(|to| encode_duplicate(to, at))), Ok(at));
    }

    #[test]
    fn every_cut_of_a_record_is_refused() {
        let value = encoded(|to| encode_message(to, &message(None)));
        for end in 0..value.len() {
            assert!(decode_message(&value[..end]).is_err(), "{end} bytes");
        }
        let mut properties = PropertyOverlay::new();
        properties.set("name", PropertyValue::Text("value".into()));
        let value = encoded(|to| encode_overlay(to, &MessageOverlayRecord { delivery_count: 1, properties }));
        // Five bytes are a whole record without properties.
        for end in (0..5).chain(6..value.len()) {
            assert!(decode_overlay(&value[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = encoded(|to| encode_message(to, &message(None)));
        let changed = |at: usize, byte: u8| {
            let mut value = good.clone();
            value[at] = byte;
            decode_message(&value).expect_err("refused")
        };
        assert!(changed(0, 3).contains("version"));
        assert!(changed(1, 3).contains("state"));
        assert!(changed(2, 8).contains("flag"));
        assert_eq!(decode_message(&[&good[..], b"x"].concat()), Err("the value has bytes behind its end"));
        assert!(decode_counter(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(decode_u64(&[1; 7]).is_err());
        assert!(decode_u32(&[1; 8]).is_err());
    }
}
