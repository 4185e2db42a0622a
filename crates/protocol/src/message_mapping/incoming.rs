//! What a sender's bytes say.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::message::{Sections, decode_header, map_section_entries, split_batch, text_key};
use lockstep_model::{
    DuplicateKey, IncomingMessage, IncomingMessages, QueueDescription, Refusal, Timestamp, limits,
};
use sha2::{Digest, Sha256};

use super::{footer::with_proper_footer, malformed, raw_properties::RawProperties};
use crate::{
    message_session_id,
    names::{MESSAGE_FORMAT_BATCH, annotation},
};

/// message-format of a single message.
pub(super) const MESSAGE_FORMAT_SINGLE: u32 = 0;
pub(super) const UNKNOWN_FORMAT: Refusal =
    Refusal::InvalidArgument("the message-format is 0 or, for a batch, 0x80013700");
const NULL: [u8; 1] = [0x40];
const TIMESTAMP: u8 = 0x83;

/// What the broker wants to know of messages besides what is in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IncomingContext {
    /// Whether the entity looks for duplicates: then message-ids are hashed.
    pub duplicates: DuplicateDetection,
    /// The time at which the messages came.
    pub now: Timestamp,
}

/// What makes a message the duplicate of another (semantics B-63).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DuplicateDetection {
    /// Nothing: the entity does not look for them.
    Off,
    /// The same message-id.
    ByMessageId,
    /// The same message-id and the same partition: on a partitioned entity, the same session id,
    /// or partition key where there is none.
    ByPartitionAndMessageId,
}

impl From<&QueueDescription> for DuplicateDetection {
    fn from(description: &QueueDescription) -> Self {
        match (description.requires_duplicate_detection, description.enable_partitioning) {
            (false, _) => Self::Off,
            (true, false) => Self::ByMessageId,
            (true, true) => Self::ByPartitionAndMessageId,
        }
    }
}

/// The messages of one delivery from a sender: one, or those of a batch in their order. What an
/// envelope of a batch holds beside them is left out.
///
/// A message without message-id is given one, 32 hexadecimal digits of `new_message_id`; a footer
/// before the body goes behind it, and its keys become symbols. All else stays byte by byte as it
/// was sent. Sizes are not checked here.
///
/// # Errors
/// `Malformed` for bytes that are no message, `InvalidArgument` for another message-format, for
/// annotations of the broker's that may not be null and for times that are none, `IdTooLong`,
/// `TooManyMessages`. One bad message refuses a whole batch.
pub fn incoming(
    payload: Bytes,
    message_format: u32,
    context: IncomingContext,
    new_message_id: &mut dyn FnMut() -> [u8; 16],
) -> Result<IncomingMessages, Refusal> {
    match message_format {
        MESSAGE_FORMAT_SINGLE => {
            Ok(IncomingMessages::from([incoming_single(payload, context, new_message_id)?]))
        }
        MESSAGE_FORMAT_BATCH => {
            let messages = split_batch(&payload).map_err(malformed)?;
            if messages.len() > limits::BATCH_MESSAGES_MAX {
                return Err(Refusal::TooManyMessages);
            }
            messages.into_iter().map(|message| incoming_single(message, context, new_message_id)).collect()
        }
        _ => Err(UNKNOWN_FORMAT),
    }
}

/// One message, as [`incoming`](fn@incoming) reads it.
///
/// # Errors
/// Likewise.
pub fn incoming_single(
    encoded: Bytes,
    context: IncomingContext,
    new_message_id: &mut dyn FnMut() -> [u8; 16],
) -> Result<IncomingMessage, Refusal> {
    let (encoded, sections) = with_proper_footer(encoded).map_err(malformed)?;
    examine(encoded, &sections, context, new_message_id)
}

/// Looks at what stands before the body. `encoded` may end anywhere in the body.
pub(super) fn examine(
    encoded: Bytes,
    sections: &Sections,
    context: IncomingContext,
    new_message_id: &mut dyn FnMut() -> [u8; 16],
) -> Result<IncomingMessage, Refusal> {
    let section =
        |range: &Option<std::ops::Range<usize>>| range.as_ref().and_then(|range| encoded.get(range.clone()));
    let ttl_millis = match section(&sections.header) {
        Some(header) => decode_header(header).map_err(malformed)?.ttl,
        None => None,
    };
    // Walked through now, so that deliveries never meet a broken entry.
    if let Some(map) = section(&sections.delivery_annotations) {
        map_section_entries(map).map_err(malformed)?;
    }
    if let Some(map) = section(&sections.application_properties) {
        check_application_properties(map)?;
    }
    let of_the_message =
        [&sections.message_annotations, &sections.properties, &sections.application_properties];
    let bytes: usize = of_the_message.into_iter().filter_map(section).map(<[u8]>::len).sum();
    if bytes > limits::MESSAGE_PROPERTIES_SIZE_BYTES_MAX {
        return Err(Refusal::InvalidArgument("properties and annotations of a message are at most 64 KiB"));
    }
    let annotations = match section(&sections.message_annotations) {
        Some(annotations) => read_annotations(annotations)?,
        None => Annotations::default(),
    };
    let properties = match section(&sections.properties) {
        Some(properties) => RawProperties::read(properties).map_err(malformed)?,
        None => RawProperties::default(),
    };
    let mut message = IncomingMessage {
        message_session: message_session_id::from_group_id(properties.group_id)?,
        time_to_live: time_to_live(ttl_millis, &properties, context.now)?,
        scheduled_at: annotations.scheduled_at,
        partition_key: annotations.partition_key.map(Into::into),
        ..IncomingMessage::default()
    };
    match properties.message_id {
        Some(message_id) => {
            check_message_id(message_id)?;
            message.duplicate_key = match context.duplicates {
                DuplicateDetection::Off => None,
                DuplicateDetection::ByMessageId => Some(duplicate_key(message_id, None)),
                DuplicateDetection::ByPartitionAndMessageId => {
                    let session = message.message_session.as_ref().map(|id| id.as_str());
                    Some(duplicate_key(message_id, session.or(message.partition_key.as_deref())))
                }
            };
            message.encoded = encoded;
        }
        None => {
            let sent_bytes = encoded.len();
            message.encoded = with_message_id(&encoded, sections, &properties, new_message_id());
            message.generated_bytes = u32::try_from(message.encoded.len() - sent_bytes).unwrap_or(u32::MAX);
        }
    }
    Ok(message)
}

/// How long a message lives (wire.md 4.6): `header.ttl`, unless it is at its maximum or absent and
/// `absolute-expiry-time` says more. That counts from `creation-time`, or from now.
fn time_to_live(
    ttl_millis: Option<u32>,
    properties: &RawProperties<'_>,
    now: Timestamp,
) -> Result<Option<Duration>, Refusal> {
    let ttl = ttl_millis.map(|millis| Duration::from_millis(u64::from(millis)));
    let time = |field: Option<&[u8]>, name: &'static str| {
        field.map(|encoded| read_timestamp(encoded).ok_or(Refusal::InvalidArgument(name))).transpose()
    };
    let expiry = time(properties.absolute_expiry_time, "absolute-expiry-time has to be a timestamp")?;
    let creation = time(properties.creation_time, "creation-time has to be a timestamp")?;
    let Some(expiry) = expiry else { return Ok(ttl) };
    match (ttl, creation) {
        (None, creation) => Ok(Some(creation.unwrap_or(now).until(expiry))),
        (Some(ttl), Some(creation)) if creation.until(expiry) > Duration::from_millis(u32::MAX.into()) => {
            Ok(Some(creation.until(expiry).max(ttl)))
        }
        (ttl, _) => Ok(ttl),
    }
}

/// Whether they can be read, and none is too large (semantics B-7).
fn check_application_properties(section: &[u8]) -> Result<(), Refusal> {
    for (key, value) in map_section_entries(section).map_err(malformed)? {
        if key.len() + value.len() > limits::MESSAGE_PROPERTY_SIZE_BYTES_MAX {
            return Err(Refusal::InvalidArgument("an application property has at most 32 KiB"));
        }
    }
    Ok(())
}

pub(super) fn read_timestamp(encoded: &[u8]) -> Option<Timestamp> {
    let (&constructor, value) = encoded.split_first()?;
    let millis = i64::from_be_bytes(value.try_into().ok()?);
    (constructor == TIMESTAMP).then(|| Timestamp::from_unix_millis(millis))
}

/// The annotations that have a meaning.
#[derive(Default)]
struct Annotations<'a> {
    scheduled_at: Option<Timestamp>,
    partition_key: Option<&'a str>,
}

/// Looks at the annotations that have a meaning (wire.md 4.6). Others are the sender's own.
fn read_annotations(section: &[u8]) -> Result<Annotations<'_>, Refusal> {
    let mut annotations = Annotations::default();
    for (key, value) in map_section_entries(section).map_err(malformed)? {
        let Some(key) = text_key(key).filter(|key| key.starts_with(annotation::PREFIX)) else { continue };
        let is_null = value == NULL;
        match key {
            annotation::SCHEDULED_ENQUEUE_TIME => {
                let time = read_timestamp(value)
                    .ok_or(Refusal::InvalidArgument("x-opt-scheduled-enqueue-time has to be a timestamp"))?;
                annotations.scheduled_at = Some(time);
            }
            annotation::MESSAGE_STATE if is_null => {
                return Err(Refusal::InvalidArgument("x-opt-message-state may not be null"));
            }
            annotation::ENQUEUE_SEQUENCE_NUMBER if is_null => {
                return Err(Refusal::InvalidArgument("x-opt-enqueue-sequence-number may not be null"));
            }
            annotation::PARTITION_KEY | annotation::VIA_PARTITION_KEY if !is_null => {
                let text = text_key(value)
                    .or_else(|| text_in_binary(value))
                    .ok_or(Refusal::InvalidArgument("a partition key (x-opt-partition-key) is a string"))?;
                check_length(text, "PartitionKey", limits::MESSAGE_SESSION_ID_CHARS_MAX)?;
                if key == annotation::PARTITION_KEY {
                    annotations.partition_key = Some(text);
                }
            }
            _ => {}
        }
    }
    Ok(annotations)
}

/// A text that was sent as binary: Python's SDK reads strings as bytes, and writes them so when a
/// received message is sent again (semantics G-13).
fn text_in_binary(encoded: &[u8]) -> Option<&str> {
    match encoded {
        [0xa0, _, bytes @ ..] | [0xb0, _, _, _, _, bytes @ ..] => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// Equal for equal message-ids, whatever the width in which they were sent; ids of different types
/// are different (semantics G-19). So are those of different partitions.
fn duplicate_key(message_id: &[u8], partition: Option<&str>) -> DuplicateKey {
    let mut hash = Sha256::new();
    if let Some(partition) = partition {
        // The length keeps the partition apart from the id.
        hash.update([b"p", &(partition.len() as u64).to_be_bytes()[..], partition.as_bytes()].concat());
    }
    match message_id {
        [0xa1, _, text @ ..] | [0xb1, _, _, _, _, text @ ..] => hash.update([b"s", text].concat()),
        [0xa0, _, bytes @ ..] | [0xb0, _, _, _, _, bytes @ ..] => hash.update([b"b", bytes].concat()),
        [0x98, uuid @ ..] => hash.update([b"u", uuid].concat()),
        [0x80, number @ ..] => hash.update([b"n", number].concat()),
        [0x53, number] => hash.update([b"n", &u64::from(*number).to_be_bytes()[..]].concat()),
        _ => hash.update([b"n", &0_u64.to_be_bytes()[..]].concat()),
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    DuplicateKey(key)
}

/// A message-id is a ulong, a uuid, binary or a string (3.2.4).
fn check_message_id(encoded: &[u8]) -> Result<(), Refusal> {
    match encoded.first() {
        Some(0xa1 | 0xb1) => {
            let text = text_key(encoded).ok_or(Refusal::Malformed("the message-id is not valid UTF-8"))?;
            check_length(text, "MessageId", limits::MESSAGE_ID_CHARS_MAX)
        }
        Some(0x80 | 0x53 | 0x44 | 0x98 | 0xa0 | 0xb0) => Ok(()),
        _ => Err(Refusal::Malformed("the message-id has to be a string, ulong, uuid or binary")),
    }
}

fn check_length(text: &str, field: &'static str, chars_max: usize) -> Result<(), Refusal> {
    // A text of n bytes has at most n characters, so most need no count.
    if text.len() > chars_max {
        let chars = text.chars().count();
        if chars > chars_max {
            return Err(Refusal::IdTooLong { field, chars });
        }
    }
    Ok(())
}

/// The message with a message-id of 32 hexadecimal digits in its properties section, which is
/// made if there is none.
fn with_message_id(
    encoded: &Bytes,
    sections: &Sections,
    properties: &RawProperties<'_>,
    id: [u8; 16],
) -> Bytes {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut message_id = [0; 34];
    message_id[0] = 0xa1;
    message_id[1] = 32;
    for (index, byte) in id.iter().enumerate() {
        message_id[2 + 2 * index] = DIGITS[usize::from(byte >> 4)];
        message_id[3 + 2 * index] = DIGITS[usize::from(byte & 0xf)];
    }
    let behind = sections.application_properties.as_ref().map_or(sections.body.start, |range| range.start);
    let replaced = sections.properties.clone().unwrap_or(behind..behind);
    let (before, behind) = (&encoded[..replaced.start], &encoded[replaced.end..]);
    let mut message = BytesMut::with_capacity(encoded.len() + limits::GENERATED_MESSAGE_ID_SIZE_BYTES_MAX);
    message.put_slice(before);
    properties.put_with_message_id(&mut message, &message_id);
    message.put_slice(behind);
    message.freeze()
}
