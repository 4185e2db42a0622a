//! The header section (3.2.1).

use bytes::BytesMut;

use super::{MessageError, Result, scan::section_at, section};
use crate::codec::{Cursor, write_bool, write_described_list, write_optional, write_ubyte, write_uint};

/// header; `None` where a field was null or left out
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Whether it has to survive a crash; default false.
    pub durable: Option<bool>,
    /// Default 4.
    pub priority: Option<u8>,
    /// Milliseconds.
    pub ttl: Option<u32>,
    /// Whether nobody acquired it before; default false.
    pub first_acquirer: Option<bool>,
    /// Deliveries before this one that failed; default 0.
    pub delivery_count: Option<u32>,
}

/// Decodes a header section, descriptor included.
///
/// # Errors
/// [`MessageError::InvalidField`] for another section or a field of the wrong type.
pub fn decode_header(section: &[u8]) -> Result<Header> {
    let raw = section_at(section, 0)?;
    if raw.code != section::HEADER {
        return Err(MessageError::InvalidField);
    }
    let mut list = Cursor::new(raw.value, 0).list()?;
    Ok(Header {
        durable: list.field(Cursor::boolean)?,
        priority: list.field(Cursor::ubyte)?,
        ttl: list.field(Cursor::uint)?,
        first_acquirer: list.field(Cursor::boolean)?,
        delivery_count: list.field(Cursor::uint)?,
    })
}

/// Appends a header section with all five fields, absent ones as null.
pub fn encode_header(out: &mut BytesMut, header: &Header) {
    write_described_list(out, section::HEADER, 5, |out| {
        write_optional(out, header.durable, write_bool);
        write_optional(out, header.priority, write_ubyte);
        write_optional(out, header.ttl, write_uint);
        write_optional(out, header.first_acquirer, write_bool);
        write_optional(out, header.delivery_count, write_uint);
    });
}
