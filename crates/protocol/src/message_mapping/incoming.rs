//! What a sender's bytes say.

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::message::{Sections, decode_header, map_section_entries, scan, split_batch, text_key};
use lockstep_model::{Feature, IncomingMessage, IncomingMessages, Refusal, limits};

use super::{malformed, raw_properties::RawProperties};
use crate::{
    message_session_id,
    names::{MESSAGE_FORMAT_BATCH, annotation},
};

/// message-format of a single message.
pub(super) const MESSAGE_FORMAT_SINGLE: u32 = 0;
pub(super) const UNKNOWN_FORMAT: Refusal =
    Refusal::InvalidArgument("the message-format is 0 or, for a batch, 0x80013700");
const NULL: [u8; 1] = [0x40];

/// The messages of one delivery from a sender: one, or those of a batch in their order. What an
/// envelope of a batch holds beside them is left out.
///
/// A message without message-id is given one, 32 hexadecimal digits of `new_message_id`; all
/// else stays byte by byte as it was sent. Sizes are not checked here.
///
/// # Errors
/// `Malformed` for bytes that are no message, `InvalidArgument` for another message-format and
/// for annotations of the broker's that may not be null, `IdTooLong`, `TooManyMessages`, and
/// `NotSupported` for scheduling and time to live. One bad message refuses a whole batch.
pub fn incoming(
    payload: Bytes,
    message_format: u32,
    new_message_id: &mut dyn FnMut() -> [u8; 16],
) -> Result<IncomingMessages, Refusal> {
    match message_format {
        MESSAGE_FORMAT_SINGLE => Ok(IncomingMessages::from([single(payload, new_message_id)?])),
        MESSAGE_FORMAT_BATCH => {
            let messages = split_batch(&payload).map_err(malformed)?;
            if messages.len() > limits::BATCH_MESSAGES_MAX {
                return Err(Refusal::TooManyMessages);
            }
            messages.into_iter().map(|message| single(message, new_message_id)).collect()
        }
        _ => Err(UNKNOWN_FORMAT),
    }
}

fn single(encoded: Bytes, new_message_id: &mut dyn FnMut() -> [u8; 16]) -> Result<IncomingMessage, Refusal> {
    let sections = scan(&encoded).map_err(malformed)?;
    examine(encoded, &sections, new_message_id)
}

/// Looks at what stands before the body. `encoded` may end anywhere in the body.
pub(super) fn examine(
    encoded: Bytes,
    sections: &Sections,
    new_message_id: &mut dyn FnMut() -> [u8; 16],
) -> Result<IncomingMessage, Refusal> {
    let section =
        |range: &Option<std::ops::Range<usize>>| range.as_ref().and_then(|range| encoded.get(range.clone()));
    let ttl = match section(&sections.header) {
        Some(header) => decode_header(header).map_err(malformed)?.ttl,
        None => None,
    };
    // Walked through now, so that deliveries never meet a broken entry.
    for map in [&sections.delivery_annotations, &sections.application_properties] {
        if let Some(map) = section(map) {
            map_section_entries(map).map_err(malformed)?;
        }
    }
    if let Some(annotations) = section(&sections.message_annotations) {
        check_annotations(annotations)?;
    }
    let properties = match section(&sections.properties) {
        Some(properties) => RawProperties::read(properties).map_err(malformed)?,
        None => RawProperties::default(),
    };
    refuse_time_to_live(ttl.is_some(), properties.absolute_expiry_time.is_some())?;
    let message_session = message_session_id::from_group_id(properties.group_id)?;
    match properties.message_id {
        Some(message_id) => {
            check_message_id(message_id)?;
            Ok(IncomingMessage { encoded, generated_bytes: 0, message_session })
        }
        None => {
            let sent_bytes = encoded.len();
            let encoded = with_message_id(&encoded, sections, &properties, new_message_id());
            let generated_bytes = u32::try_from(encoded.len() - sent_bytes).unwrap_or(u32::MAX);
            Ok(IncomingMessage { encoded, generated_bytes, message_session })
        }
    }
}

/// The rule for a message's time to live: it is a later feature, and a message that has one is
/// refused by name rather than kept for ever. `header.ttl` counts whatever its value, and
/// `absolute-expiry-time` also without it, since both promise that the message goes away.
const fn refuse_time_to_live(has_ttl: bool, has_absolute_expiry_time: bool) -> Result<(), Refusal> {
    if has_ttl || has_absolute_expiry_time {
        return Err(Refusal::NotSupported(Feature::TimeToLive));
    }
    Ok(())
}

/// Looks at the annotations that have a meaning (wire.md 4.6). Others are the sender's own.
fn check_annotations(section: &[u8]) -> Result<(), Refusal> {
    for (key, value) in map_section_entries(section).map_err(malformed)? {
        let Some(key) = text_key(key).filter(|key| key.starts_with(annotation::PREFIX)) else { continue };
        let is_null = value == NULL;
        match key {
            annotation::SCHEDULED_ENQUEUE_TIME if !is_null => {
                return Err(Refusal::NotSupported(Feature::Scheduling));
            }
            annotation::SCHEDULED_ENQUEUE_TIME => {
                return Err(Refusal::InvalidArgument("x-opt-scheduled-enqueue-time may not be null"));
            }
            annotation::MESSAGE_STATE if is_null => {
                return Err(Refusal::InvalidArgument("x-opt-message-state may not be null"));
            }
            annotation::ENQUEUE_SEQUENCE_NUMBER if is_null => {
                return Err(Refusal::InvalidArgument("x-opt-enqueue-sequence-number may not be null"));
            }
            annotation::PARTITION_KEY | annotation::VIA_PARTITION_KEY if !is_null => {
                let text = text_key(value)
                    .ok_or(Refusal::InvalidArgument("a partition key (x-opt-partition-key) is a string"))?;
                check_length(text, "PartitionKey", limits::MESSAGE_SESSION_ID_CHARS_MAX)?;
            }
            _ => {}
        }
    }
    Ok(())
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
