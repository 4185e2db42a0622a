//! The properties section (3.2.4).

use bytes::{Bytes, BytesMut};

use super::{MessageError, Result, property, scan::section_at, section};
use crate::{
    codec::{
        Cursor, ListReader, decode_value, encode_value, write_binary, write_described_list, write_optional,
        write_string, write_symbol, write_timestamp, write_uint,
    },
    types::{Symbol, Value},
};

/// properties; `None` where a field was null or left out
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Properties {
    /// ulong, uuid, binary or string, as it came.
    pub message_id: Option<Value>,
    /// Who sent it.
    pub user_id: Option<Bytes>,
    /// Usually a string; kept as it came.
    pub to: Option<Value>,
    /// The subject (the label).
    pub subject: Option<Box<str>>,
    /// Usually a string; kept as it came.
    pub reply_to: Option<Value>,
    /// ulong, uuid, binary or string, as it came.
    pub correlation_id: Option<Value>,
    /// A MIME type. Taken from a string too.
    pub content_type: Option<Symbol>,
    /// Taken from a string too.
    pub content_encoding: Option<Symbol>,
    /// Milliseconds since the Unix epoch.
    pub absolute_expiry_time: Option<i64>,
    /// Milliseconds since the Unix epoch.
    pub creation_time: Option<i64>,
    /// The message session's id.
    pub group_id: Option<Box<str>>,
    /// Position in the group.
    pub group_sequence: Option<u32>,
    /// Group for replies.
    pub reply_to_group_id: Option<Box<str>>,
}

/// Number of fields of the properties section.
const FIELDS: usize = 13;

fn fields(section: &[u8]) -> Result<ListReader<'_>> {
    let raw = section_at(section, 0)?;
    if raw.code != section::PROPERTIES {
        return Err(MessageError::InvalidField);
    }
    Ok(Cursor::new(raw.value, 0).list()?)
}

/// Decodes a properties section, descriptor included.
///
/// # Errors
/// [`MessageError::InvalidField`] for another section or a field of the wrong type (a group-id
/// that is no string, for one), [`MessageError::Decode`] for values that do not decode.
pub fn decode_properties(section: &[u8]) -> Result<Properties> {
    let mut list = fields(section)?;
    Ok(Properties {
        message_id: value(&mut list)?,
        user_id: list.field(Cursor::binary)?.map(Bytes::copy_from_slice),
        to: value(&mut list)?,
        subject: text(&mut list)?,
        reply_to: value(&mut list)?,
        correlation_id: value(&mut list)?,
        content_type: symbol(&mut list)?,
        content_encoding: symbol(&mut list)?,
        absolute_expiry_time: timestamp(&mut list)?,
        creation_time: timestamp(&mut list)?,
        group_id: text(&mut list)?,
        group_sequence: list.field(Cursor::uint)?,
        reply_to_group_id: text(&mut list)?,
    })
}

/// The encoded value of one field of a properties section (positions: [`property`]), without
/// decoding the others; `None` when it is null or left out.
///
/// # Errors
/// [`MessageError::InvalidField`] for another section, [`MessageError::Decode`] when a value up
/// to the field is cut off.
pub fn property_field(section: &[u8], index: usize) -> Result<Option<&[u8]>> {
    let mut list = fields(section)?;
    for _ in 0..index.min(FIELDS) {
        list.field(|cursor| cursor.skip())?;
    }
    Ok(list.raw()?)
}

/// Appends a properties section; fields behind the last present one are left out.
pub fn encode_properties(out: &mut BytesMut, properties: &Properties) {
    let count = present_fields(properties);
    write_described_list(out, section::PROPERTIES, count, |out| {
        for index in 0..count {
            write_field(out, properties, index);
        }
    });
}

/// How many fields have to be written: up to the last present one.
fn present_fields(properties: &Properties) -> usize {
    let present: [bool; FIELDS] = [
        properties.message_id.is_some(),
        properties.user_id.is_some(),
        properties.to.is_some(),
        properties.subject.is_some(),
        properties.reply_to.is_some(),
        properties.correlation_id.is_some(),
        properties.content_type.is_some(),
        properties.content_encoding.is_some(),
        properties.absolute_expiry_time.is_some(),
        properties.creation_time.is_some(),
        properties.group_id.is_some(),
        properties.group_sequence.is_some(),
        properties.reply_to_group_id.is_some(),
    ];
    present.iter().rposition(|present| *present).map_or(0, |last| last + 1)
}

fn write_field(out: &mut BytesMut, properties: &Properties, index: usize) {
    match index {
        property::MESSAGE_ID => write_optional(out, properties.message_id.as_ref(), encode_value),
        property::USER_ID => write_optional(out, properties.user_id.as_ref(), write_binary),
        property::TO => write_optional(out, properties.to.as_ref(), encode_value),
        property::SUBJECT => write_optional(out, properties.subject.as_deref(), write_string),
        property::REPLY_TO => write_optional(out, properties.reply_to.as_ref(), encode_value),
        property::CORRELATION_ID => write_optional(out, properties.correlation_id.as_ref(), encode_value),
        property::CONTENT_TYPE => write_optional(out, properties.content_type.as_ref(), write_symbol),
        property::CONTENT_ENCODING => write_optional(out, properties.content_encoding.as_ref(), write_symbol),
        property::ABSOLUTE_EXPIRY_TIME => {
            write_optional(out, properties.absolute_expiry_time, write_timestamp);
        }
        property::CREATION_TIME => write_optional(out, properties.creation_time, write_timestamp),
        property::GROUP_ID => write_optional(out, properties.group_id.as_deref(), write_string),
        property::GROUP_SEQUENCE => write_optional(out, properties.group_sequence, write_uint),
        _ => write_optional(out, properties.reply_to_group_id.as_deref(), write_string),
    }
}

fn value(list: &mut ListReader<'_>) -> Result<Option<Value>> {
    let Some(encoded) = list.raw()? else {
        return Ok(None);
    };
    Ok(Some(decode_value(&mut Bytes::copy_from_slice(encoded))?))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| MessageError::Decode)
}

fn text(list: &mut ListReader<'_>) -> Result<Option<Box<str>>> {
    let bytes = list.field(|cursor| cursor.variable(0xa1, 0xb1))?;
    bytes.map(|bytes| utf8(bytes).map(Into::into)).transpose()
}

fn symbol(list: &mut ListReader<'_>) -> Result<Option<Symbol>> {
    let bytes = list.field(|cursor| match cursor.peek() {
        Some(0xa1 | 0xb1) => cursor.variable(0xa1, 0xb1),
        _ => cursor.variable(0xa3, 0xb3),
    })?;
    bytes.map(|bytes| utf8(bytes).map(Symbol::new)).transpose()
}

fn timestamp(list: &mut ListReader<'_>) -> Result<Option<i64>> {
    Ok(list.field(Cursor::timestamp)?)
}
