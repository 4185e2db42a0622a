//! Messages with an amqp-value body: requests to nodes of the broker, and its answers.

use bytes::{BufMut, Bytes, BytesMut};

use super::{MessageError, Properties, Result, Sections, encode_properties, scan::section_at, section};
use crate::{
    codec::{decode_value, encode_value, write_map, write_string},
    types::Value,
};

/// The value of an amqp-value body; `None` when the body is of another kind or absent.
///
/// # Errors
/// What the value can have wrong; [`MessageError::Decode`] when `sections` is not of `message`.
pub fn decode_body_value(message: &[u8], sections: &Sections) -> Result<Option<Value>> {
    if sections.body.is_empty() {
        return Ok(None);
    }
    let raw = section_at(message, sections.body.start)?;
    if raw.code != section::AMQP_VALUE {
        return Ok(None);
    }
    let mut bytes = Bytes::copy_from_slice(raw.value);
    let value = decode_value(&mut bytes)?;
    if bytes.is_empty() { Ok(Some(value)) } else { Err(MessageError::Decode) }
}

/// A whole message: properties if given, application-properties (string keys) if any, and `body`
/// as amqp-value.
#[must_use]
pub fn encode_value_message(
    properties: Option<&Properties>,
    application_properties: &[(Box<str>, Value)],
    body: &Value,
) -> Bytes {
    let mut out = BytesMut::new();
    if let Some(properties) = properties {
        encode_properties(&mut out, properties);
    }
    if !application_properties.is_empty() {
        out.put_slice(&[0x00, 0x53, section::APPLICATION_PROPERTIES]);
        write_map(&mut out, |out| {
            for (key, value) in application_properties {
                write_string(out, key);
                encode_value(out, value);
            }
            application_properties.len()
        });
    }
    out.put_slice(&[0x00, 0x53, section::AMQP_VALUE]);
    encode_value(&mut out, body);
    out.freeze()
}
