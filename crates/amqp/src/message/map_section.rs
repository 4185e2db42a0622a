//! Annotations, application-properties and footer: sections that are maps. Entries are handled in
//! their encoded form, so that values keep their exact bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{MessageError, Result, scan::section_at, section};
use crate::{
    codec::{Cursor, ListReader, decode_value, write_map},
    types::{Map, Value},
};

/// Entries of a map section: encoded key, encoded value.
#[derive(Clone, Debug)]
pub struct MapEntries<'a> {
    list: ListReader<'a>,
}

impl<'a> Iterator for MapEntries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.list.remaining() == 0 {
            return None;
        }
        // Every entry was passed once before the iterator was handed out, so none fails here.
        let key = self.list.field(Cursor::value).ok()?;
        let value = self.list.field(Cursor::value).ok()?;
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let entries = self.list.remaining() as usize / 2;
        (entries, Some(entries))
    }
}

/// The entries of an annotations, application-properties or footer section, descriptor included.
/// Keys and values are checked to be whole, not looked into.
///
/// # Errors
/// [`MessageError::InvalidField`] for a section that is no map, [`MessageError::Decode`] when the
/// map's size, count and entries do not agree.
pub fn map_section_entries(section: &[u8]) -> Result<MapEntries<'_>> {
    let raw = section_at(section, 0)?;
    // An amqp-value may hold a map too, but is no map section.
    if raw.code == section::AMQP_VALUE {
        return Err(MessageError::InvalidField);
    }
    let list = Cursor::new(raw.value, 0).map()?;
    let mut check = list;
    while check.remaining() > 0 {
        check.field(|cursor| cursor.skip())?;
    }
    if !check.at_end() {
        return Err(MessageError::Decode);
    }
    Ok(MapEntries { list })
}

/// Decodes a map section with all its values.
///
/// # Errors
/// As [`map_section_entries`], and what values can have wrong.
pub fn decode_map_section(section: &[u8]) -> Result<Map> {
    let entries = map_section_entries(section)?;
    let decode = |encoded: &[u8]| -> Result<Value> {
        let mut bytes = Bytes::copy_from_slice(encoded);
        let value = decode_value(&mut bytes)?;
        if bytes.has_remaining() { Err(MessageError::Decode) } else { Ok(value) }
    };
    entries.map(|(key, value)| Ok((decode(key)?, decode(value)?))).collect()
}

/// Appends a map section with these encoded keys and values, in this order.
pub fn encode_map_section<'a>(
    out: &mut BytesMut,
    descriptor_code: u8,
    entries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) {
    out.put_slice(&[0x00, 0x53, descriptor_code]);
    write_map(out, |out| {
        let mut count = 0;
        for (key, value) in entries {
            out.put_slice(key);
            out.put_slice(value);
            count += 1;
        }
        count
    });
}

/// The text of an encoded string or symbol; `None` for another type or text that is no UTF-8.
#[must_use]
pub fn text_key(encoded_key: &[u8]) -> Option<&str> {
    let mut cursor = Cursor::new(encoded_key, 0);
    let bytes = match cursor.peek()? {
        0xa1 | 0xb1 => cursor.variable(0xa1, 0xb1),
        0xa3 | 0xb3 => cursor.variable(0xa3, 0xb3),
        _ => return None,
    };
    std::str::from_utf8(bytes.ok()??).ok()
}
