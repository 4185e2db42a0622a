//! Batches: one delivery whose data sections are whole messages.

use bytes::{BufMut, Bytes, BytesMut};

use super::{MessageError, Result, scan, scan::section_at, section};
use crate::codec::{Cursor, write_binary};

/// message-format of a batch.
pub const BATCH_MESSAGE_FORMAT: u32 = 0x8001_3700;

/// The messages of a batch, in order; they share its memory. What else the envelope holds
/// (copies of the first message's properties and annotations) is dropped. The messages
/// themselves are not scanned.
///
/// # Errors
/// What [`fn@super::scan`] says of the envelope; [`MessageError::NotABatch`] for a body that is
/// not data sections, [`MessageError::Empty`] for no body or an empty data section.
pub fn split_batch(message: &Bytes) -> Result<Vec<Bytes>> {
    let sections = scan::scan(message)?;
    let end = sections.footer.map_or(sections.body.end, |footer| footer.start);
    let mut messages = Vec::new();
    let mut at = sections.body.start;
    while at < end {
        let raw = section_at(message, at)?;
        if raw.code != section::DATA {
            return Err(MessageError::NotABatch);
        }
        at = raw.range.end;
        let content = Cursor::new(raw.value, 0).binary()?.unwrap_or_default();
        if content.is_empty() {
            return Err(MessageError::Empty);
        }
        messages.push(message.slice(at - content.len()..at));
    }
    if messages.is_empty() { Err(MessageError::Empty) } else { Ok(messages) }
}

/// A batch of whole messages, without copies of the first one's sections in the envelope.
#[must_use]
pub fn encode_batch(messages: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    for message in messages {
        out.put_slice(&[0x00, 0x53, section::DATA]);
        write_binary(&mut out, message);
    }
    out.freeze()
}
