//! What the broker says around a message when it delivers or shows it.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::message::{
    MapEntries, MessageError, Sections, decode_header, map_section_entries, scan, scan_head, section,
    text_key,
};
use lockstep_model::{
    LockToken, MessageState, PropertyOverlay, PropertyValue, Refusal, SequenceNumber, Timestamp,
};

use super::{incoming::read_timestamp, raw_properties::RawProperties};
use crate::names::annotation;

/// Bytes of the broker's header and annotations together, at most.
const OWN_BYTES_MAX: usize = 256;
/// Default of header.priority (3.2.1).
const PRIORITY_DEFAULT: u8 = 4;
const NULL: u8 = 0x40;

/// What the broker knows about a message that goes out.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryFacts<'a> {
    /// Position in its entity.
    pub sequence_number: SequenceNumber,
    /// When it was accepted.
    pub enqueued_at: Timestamp,
    /// Until when it is locked; `None` if it is not locked for this reader.
    pub locked_until: Option<Timestamp>,
    /// Failed deliveries before this one.
    pub delivery_count: u32,
    /// Its lock, in peek-lock mode only.
    pub lock_token: Option<LockToken>,
    /// Where it stands; not given for an ordinary delivery (semantics B-54).
    pub state: Option<MessageState>,
    /// How long it lives, from `enqueued_at` on; `None` is for ever.
    pub time_to_live: Option<Duration>,
    /// Application properties to lay over the sender's.
    pub properties: Option<&'a PropertyOverlay>,
}

/// An encoded message in two parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Sections written anew: header, annotations, and application-properties with an overlay
    /// together with the properties before them.
    pub prefix: Bytes,
    /// The rest of the stored message, untouched and not copied.
    pub rest: Bytes,
}

/// The message as it is delivered: header as sent with the delivery count, delivery-annotations
/// as sent with the lock token, message-annotations as sent with sequence number, enqueued time
/// and, if locked, the lock's end; values that the sender gave to the broker's own annotations
/// are left out. With a time to live, header and properties tell it; without one, neither does
/// (semantics B-57). Other properties, body and footer are as sent; application properties too,
/// except for the overlay. Nothing else is added (semantics G-13 to G-19, G-27).
///
/// The prefix is a piece of `memory`, which is empty before and after; it grows by itself, best in
/// pieces for many messages.
///
/// # Errors
/// `Unreadable` if the stored bytes are no message; [`incoming`](fn@super::incoming) lets no such
/// message pass.
pub fn outgoing(
    encoded: &Bytes,
    facts: &DeliveryFacts<'_>,
    memory: &mut BytesMut,
) -> Result<Outgoing, Refusal> {
    let sections = scan(encoded).map_err(unreadable)?;
    around(encoded, &sections, facts, memory)
}

/// The beginning of a large message as it is delivered; what is stored behind `first_part`
/// follows untouched. Otherwise as [`outgoing`].
///
/// # Errors
/// As [`outgoing`].
pub fn outgoing_first_part(first_part: &Bytes, facts: &DeliveryFacts<'_>) -> Result<Outgoing, Refusal> {
    let sections = scan_head(first_part).map_err(unreadable)?;
    around(first_part, &sections, facts, &mut BytesMut::new())
}

/// The sections before the body of a message of which only the first part is at hand, copied.
///
/// # Errors
/// As [`outgoing`].
pub fn head(first_part: &Bytes) -> Result<Bytes, Refusal> {
    let sections = scan_head(first_part).map_err(unreadable)?;
    Ok(Bytes::copy_from_slice(&first_part[..sections.body.start]))
}

/// A large message without its body and footer, of which only the first part is at hand; its
/// delivery-annotation `omitted-message-body-size` (long) says how many bytes they have.
///
/// # Errors
/// As [`outgoing`].
pub fn outgoing_without_body(
    first_part: &Bytes,
    size_bytes: u32,
    facts: &DeliveryFacts<'_>,
) -> Result<Bytes, Refusal> {
    let sections = scan_head(first_part).map_err(unreadable)?;
    let omitted_bytes = (size_bytes as usize).saturating_sub(sections.body.start);
    let mut message = BytesMut::new();
    let rest_from =
        prefix(&mut message, first_part, &sections, facts, Some(omitted_bytes)).map_err(unreadable)?;
    message.put_slice(&first_part[rest_from..sections.body.start]);
    Ok(message.freeze())
}

const fn unreadable(_: MessageError) -> Refusal {
    Refusal::Unreadable
}

fn around(
    encoded: &Bytes,
    sections: &Sections,
    facts: &DeliveryFacts<'_>,
    memory: &mut BytesMut,
) -> Result<Outgoing, Refusal> {
    let rest_from = prefix(memory, encoded, sections, facts, None);
    // Also what was written before an error.
    let prefix = memory.split().freeze();
    let rest_from = rest_from.map_err(unreadable)?;
    Ok(Outgoing { prefix, rest: encoded.slice(rest_from..sections.body.end) })
}

/// The message in one piece, as `$management` responses carry it. With `omit_body` it has no
/// body, and its delivery-annotation `omitted-message-body-size` (long) says how many bytes that
/// was (semantics G-58).
///
/// # Errors
/// As [`outgoing`].
pub fn outgoing_whole(encoded: &Bytes, facts: &DeliveryFacts<'_>, omit_body: bool) -> Result<Bytes, Refusal> {
    let sections = scan(encoded).map_err(unreadable)?;
    let omitted_bytes = omit_body.then(|| {
        let body_end = sections.footer.as_ref().map_or(sections.body.end, |footer| footer.start);
        body_end - sections.body.start
    });
    let mut message = BytesMut::new();
    let rest_from = prefix(&mut message, encoded, &sections, facts, omitted_bytes).map_err(unreadable)?;
    if omit_body {
        message.put_slice(&encoded[rest_from..sections.body.start]);
        if let Some(footer) = sections.footer {
            message.put_slice(&encoded[footer]);
        }
    } else {
        message.put_slice(&encoded[rest_from..sections.body.end]);
    }
    Ok(message.freeze())
}

/// Writes the sections that are written anew; where the sections begin that follow untouched.
fn prefix(
    out: &mut BytesMut,
    encoded: &Bytes,
    sections: &Sections,
    facts: &DeliveryFacts<'_>,
    omitted_bytes: Option<usize>,
) -> Result<usize, MessageError> {
    let part = |range: &Option<std::ops::Range<usize>>| range.clone().map(|range| &encoded[range]);
    let behind_annotations = [&sections.properties, &sections.application_properties]
        .into_iter()
        .flatten()
        .next()
        .map_or(sections.body.start, |range| range.start);
    let overlay = facts.properties.filter(|overlay| !overlay.is_empty());
    let capacity = match overlay {
        None => OWN_BYTES_MAX + behind_annotations,
        Some(overlay) => OWN_BYTES_MAX + sections.body.start + 2 * overlay.size_bytes(),
    };
    out.reserve(capacity);
    put_header(out, part(&sections.header), facts)?;
    put_delivery_annotations(out, part(&sections.delivery_annotations), facts.lock_token, omitted_bytes)?;
    put_message_annotations(out, part(&sections.message_annotations), facts)?;
    let properties_end = sections.properties.as_ref().map_or(behind_annotations, |range| range.end);
    let rest_from = match (overlay, facts.time_to_live) {
        (None, None) => behind_annotations,
        (overlay, Some(time_to_live)) => {
            put_properties(out, part(&sections.properties), facts.enqueued_at, time_to_live)?;
            match overlay {
                None => properties_end,
                Some(overlay) => {
                    put_application_properties(out, part(&sections.application_properties), overlay)?;
                    sections.body.start
                }
            }
        }
        (Some(overlay), None) => {
            out.put_slice(part(&sections.properties).unwrap_or_default());
            put_application_properties(out, part(&sections.application_properties), overlay)?;
            sections.body.start
        }
    };
    Ok(rest_from)
}

/// Always a whole header: readers expect durable, priority and delivery-count (wire.md 5.3).
fn put_header(
    out: &mut BytesMut,
    sent: Option<&[u8]>,
    facts: &DeliveryFacts<'_>,
) -> Result<(), MessageError> {
    let sent = match sent {
        Some(section) => decode_header(section)?,
        None => Default::default(),
    };
    out.put_slice(&[0x00, 0x53, section::HEADER, 0xc0]);
    let size_at = out.len();
    out.put_slice(&[0, 5]);
    out.put_u8(boolean(sent.durable.unwrap_or(false)));
    out.put_slice(&[0x50, sent.priority.unwrap_or(PRIORITY_DEFAULT)]);
    let ttl = facts.time_to_live.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    put_optional_uint(out, ttl);
    out.put_u8(sent.first_acquirer.map_or(NULL, boolean));
    put_optional_uint(out, Some(facts.delivery_count));
    // At most 15 bytes.
    out[size_at] = (out.len() - size_at - 1) as u8;
    Ok(())
}

/// Properties with `absolute-expiry-time` a time to live after `creation-time`, which is the
/// sender's or else the time of enqueueing.
fn put_properties(
    out: &mut BytesMut,
    sent: Option<&[u8]>,
    enqueued_at: Timestamp,
    time_to_live: Duration,
) -> Result<(), MessageError> {
    let properties = sent.map(RawProperties::read).transpose()?.unwrap_or_default();
    let creation = properties.creation_time.and_then(read_timestamp).unwrap_or(enqueued_at);
    properties.put_with_times(out, creation.plus(time_to_live), creation)
}

const fn boolean(flag: bool) -> u8 {
    if flag { 0x41 } else { 0x42 }
}

fn put_optional_uint(out: &mut BytesMut, number: Option<u32>) {
    match number {
        None => out.put_u8(NULL),
        Some(0) => out.put_u8(0x43),
        Some(number) => match u8::try_from(number) {
            Ok(number) => out.put_slice(&[0x52, number]),
            Err(_) => {
                out.put_u8(0x70);
                out.put_u32(number);
            }
        },
    }
}

fn put_delivery_annotations(
    out: &mut BytesMut,
    sent: Option<&[u8]>,
    lock_token: Option<LockToken>,
    omitted_body_bytes: Option<usize>,
) -> Result<(), MessageError> {
    if sent.is_none() && lock_token.is_none() && omitted_body_bytes.is_none() {
        return Ok(());
    }
    let mut map = MapSection::begin(out, section::DELIVERY_ANNOTATIONS);
    map.copy(sent, |key| key == annotation::LOCK_TOKEN || key == annotation::OMITTED_MESSAGE_BODY_SIZE)?;
    if let Some(token) = lock_token {
        map.key(annotation::LOCK_TOKEN);
        map.out.put_u8(0x98);
        map.out.put_slice(&token.uuid_bytes());
    }
    if let Some(bytes) = omitted_body_bytes {
        map.key(annotation::OMITTED_MESSAGE_BODY_SIZE);
        map.long(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    map.end();
    Ok(())
}

fn put_message_annotations(
    out: &mut BytesMut,
    sent: Option<&[u8]>,
    facts: &DeliveryFacts<'_>,
) -> Result<(), MessageError> {
    let mut map = MapSection::begin(out, section::MESSAGE_ANNOTATIONS);
    map.copy(sent, is_brokers)?;
    map.key(annotation::SEQUENCE_NUMBER);
    map.long(i64::try_from(facts.sequence_number.0).unwrap_or(i64::MAX));
    map.key(annotation::ENQUEUED_TIME);
    map.timestamp(facts.enqueued_at);
    if let Some(locked_until) = facts.locked_until {
        map.key(annotation::LOCKED_UNTIL);
        map.timestamp(locked_until);
    }
    if let Some(state) = facts.state {
        map.key(annotation::MESSAGE_STATE);
        map.out.put_slice(&[0x54, state as u8]);
    }
    map.end();
    Ok(())
}

/// Annotations that only the broker gives; a sender that returns a received message sends them
/// back too.
fn is_brokers(key: &str) -> bool {
    matches!(
        key,
        annotation::SEQUENCE_NUMBER
            | annotation::ENQUEUED_TIME
            | annotation::LOCKED_UNTIL
            | annotation::LOCK_TOKEN
            | annotation::ENQUEUE_SEQUENCE_NUMBER
            | annotation::MESSAGE_STATE
    )
}

/// The sender's entries that the overlay does not set, in their order, then the overlay's.
fn put_application_properties(
    out: &mut BytesMut,
    sent: Option<&[u8]>,
    overlay: &PropertyOverlay,
) -> Result<(), MessageError> {
    let mut map = MapSection::begin(out, section::APPLICATION_PROPERTIES);
    map.copy(sent, |key| overlay.get(key).is_some())?;
    for (name, value) in overlay.iter() {
        map.entries += 1;
        put_string(map.out, name);
        match value {
            PropertyValue::Encoded(encoded) => map.out.put_slice(encoded),
            PropertyValue::Text(text) => put_string(map.out, text),
        }
    }
    map.end();
    Ok(())
}

fn put_string(out: &mut BytesMut, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length) => out.put_slice(&[0xa1, length]),
        Err(_) => {
            out.put_u8(0xb1);
            out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
    }
    out.put_slice(text.as_bytes());
}

/// A map section under way: a map32 whose size and count are filled in at its end.
struct MapSection<'a> {
    out: &'a mut BytesMut,
    size_at: usize,
    entries: u32,
}

impl<'a> MapSection<'a> {
    fn begin(out: &'a mut BytesMut, code: u8) -> Self {
        out.put_slice(&[0x00, 0x53, code, 0xd1]);
        let size_at = out.len();
        out.put_slice(&[0; 8]);
        Self { out, size_at, entries: 0 }
    }

    /// Copies the entries of a sender's section, except those under keys of the broker.
    fn copy(&mut self, sent: Option<&[u8]>, leave_out: impl Fn(&str) -> bool) -> Result<(), MessageError> {
        let entries: Option<MapEntries<'_>> = sent.map(map_section_entries).transpose()?;
        for (key, value) in entries.into_iter().flatten() {
            if text_key(key).is_some_and(&leave_out) {
                continue;
            }
            self.entries += 1;
            self.out.put_slice(key);
            self.out.put_slice(value);
        }
        Ok(())
    }

    /// Begins an entry under a symbol of at most 255 bytes.
    fn key(&mut self, symbol: &'static str) {
        self.entries += 1;
        self.out.put_slice(&[0xa3, symbol.len() as u8]);
        self.out.put_slice(symbol.as_bytes());
    }

    fn long(&mut self, number: i64) {
        match i8::try_from(number) {
            Ok(number) => self.out.put_slice(&[0x55, number as u8]),
            Err(_) => {
                self.out.put_u8(0x81);
                self.out.put_i64(number);
            }
        }
    }

    fn timestamp(&mut self, time: Timestamp) {
        self.out.put_u8(0x83);
        self.out.put_i64(time.unix_millis());
    }

    fn end(self) {
        let size = u32::try_from(self.out.len() - self.size_at - 4).unwrap_or(u32::MAX);
        self.out[self.size_at..self.size_at + 4].copy_from_slice(&size.to_be_bytes());
        self.out[self.size_at + 4..self.size_at + 8].copy_from_slice(&(self.entries * 2).to_be_bytes());
    }
}
