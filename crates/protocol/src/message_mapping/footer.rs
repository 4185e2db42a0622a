//! Footers as clients write them, made what AMQP wants (3.2, 3.2.10) before they are stored.
//!
//! rhea, and so the JavaScript SDK, writes a footer before the body. Java's SDK gives it keys that
//! are strings, and reads none but symbols. Service Bus takes both, and both read back what they
//! sent.

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::message::{MessageError, Sections, map_section_entries, misplaced_footer, scan};

/// Constructors of strings and symbols, of up to 255 bytes and of more; the rest of their
/// encodings is the same.
const STRINGS: [u8; 2] = [0xa1, 0xb1];
const SYMBOLS: [u8; 2] = [0xa3, 0xb3];

/// The message with its footer last and no strings for the footer's keys, and its sections.
/// Without a footer it is not copied.
///
/// # Errors
/// As [`scan`] for everything else.
pub(super) fn with_proper_footer(encoded: Bytes) -> Result<(Bytes, Sections), MessageError> {
    let (encoded, sections) = match scan(&encoded) {
        Err(MessageError::SectionOrder) => {
            let footer = misplaced_footer(&encoded).ok_or(MessageError::SectionOrder)?;
            let mut message = BytesMut::with_capacity(encoded.len());
            for part in [&encoded[..footer.start], &encoded[footer.end..], &encoded[footer.clone()]] {
                message.put_slice(part);
            }
            let sections = scan(&message)?;
            (message.freeze(), sections)
        }
        scanned => (encoded, scanned?),
    };
    let Some(footer) = sections.footer.clone() else { return Ok((encoded, sections)) };
    Ok((with_symbols(encoded, footer), sections))
}

/// The message with symbols for those keys of the footer that are strings. One that is no map is
/// left as it is: nobody here reads it.
fn with_symbols(encoded: Bytes, footer: std::ops::Range<usize>) -> Bytes {
    let Ok(entries) = map_section_entries(&encoded[footer.clone()]) else { return encoded };
    // The entries stand one behind the other up to the footer's end.
    let bytes: usize = entries.clone().map(|(key, value)| key.len() + value.len()).sum();
    let mut at = footer.end - bytes;
    let mut changes = Vec::new();
    for (key, value) in entries {
        let form = STRINGS.iter().position(|constructor| key.first() == Some(constructor));
        if let Some(form) = form.filter(|form| is_ascii(key, *form)) {
            changes.push((at, SYMBOLS[form]));
        }
        at += key.len() + value.len();
    }
    if changes.is_empty() {
        return encoded;
    }
    let mut message = BytesMut::from(&encoded[..]);
    for (at, constructor) in changes {
        message[at] = constructor;
    }
    message.freeze()
}

/// Whether a text in the first or second of these forms may be a symbol.
fn is_ascii(key: &[u8], form: usize) -> bool {
    key.get([2, 5][form]..).is_some_and(<[u8]>::is_ascii)
}
