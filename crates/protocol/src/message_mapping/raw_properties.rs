//! The properties section, looked at without decoding it.

use bytes::{BufMut, BytesMut};
use lockstep_amqp::{
    codec::{Cursor, read_descriptor},
    message::{MessageError, property, section},
};
use lockstep_model::Timestamp;

/// Number of fields of the properties section (3.2.4).
const FIELDS_MAX: u32 = 13;
const NULL: u8 = 0x40;

/// The fields that the broker looks at, encoded, and what it takes to write the section anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawProperties<'a> {
    /// message-id, unless null or left out.
    pub(super) message_id: Option<&'a [u8]>,
    /// absolute-expiry-time, likewise.
    pub(super) absolute_expiry_time: Option<&'a [u8]>,
    /// creation-time, likewise.
    pub(super) creation_time: Option<&'a [u8]>,
    /// group-id, likewise.
    pub(super) group_id: Option<&'a [u8]>,
    /// All fields behind the message-id, encoded, and how many they are.
    behind_message_id: (&'a [u8], u8),
}

impl<'a> RawProperties<'a> {
    /// Reads a whole section, descriptor included.
    pub(super) fn read(section: &'a [u8]) -> Result<Self, MessageError> {
        let mut cursor = Cursor::new(section, 0);
        read_descriptor(&mut cursor)?;
        let count = match cursor.u8()? {
            0x45 => 0,
            0xc0 => {
                cursor.u8()?;
                u32::from(cursor.u8()?)
            }
            0xd0 => {
                cursor.u32()?;
                cursor.u32()?
            }
            _ => return Err(MessageError::InvalidField),
        };
        if count > FIELDS_MAX {
            return Err(MessageError::InvalidField);
        }
        let mut properties = Self::default();
        let mut behind_from = cursor.position();
        for index in 0..count as usize {
            let field = cursor.value()?;
            let present = (field != [NULL]).then_some(field);
            match index {
                property::MESSAGE_ID => {
                    properties.message_id = present;
                    behind_from = cursor.position();
                }
                property::ABSOLUTE_EXPIRY_TIME => properties.absolute_expiry_time = present,
                property::CREATION_TIME => properties.creation_time = present,
                property::GROUP_ID => properties.group_id = present,
                _ => {}
            }
        }
        if cursor.remaining() > 0 {
            return Err(MessageError::Decode);
        }
        let behind = section.get(behind_from..).unwrap_or_default();
        properties.behind_message_id = (behind, count.saturating_sub(1) as u8);
        Ok(properties)
    }

    /// Appends the section with other times, all other fields byte by byte as they are.
    pub(super) fn put_with_times(
        &self,
        out: &mut BytesMut,
        absolute_expiry_time: Timestamp,
        creation_time: Timestamp,
    ) -> Result<(), MessageError> {
        let timestamp = |time: Timestamp| {
            let mut encoded = [0x83; 9];
            encoded[1..].copy_from_slice(&time.unix_millis().to_be_bytes());
            encoded
        };
        let (expiry, creation) = (timestamp(absolute_expiry_time), timestamp(creation_time));
        let mut fields = BytesMut::with_capacity(self.behind_message_id.0.len() + 64);
        fields.put_slice(self.message_id.unwrap_or(&[NULL]));
        let mut cursor = Cursor::new(self.behind_message_id.0, 0);
        let mut count = 1;
        while cursor.remaining() > 0 || count <= property::CREATION_TIME {
            let sent = if cursor.remaining() > 0 { cursor.value()? } else { &[NULL] };
            fields.put_slice(match count {
                property::ABSOLUTE_EXPIRY_TIME => &expiry,
                property::CREATION_TIME => &creation,
                _ => sent,
            });
            count += 1;
        }
        put_list(out, count, &fields);
        Ok(())
    }

    /// Appends the section with an encoded message-id in the place of its own, all other fields
    /// byte by byte as they are.
    pub(super) fn put_with_message_id(&self, out: &mut BytesMut, message_id: &[u8]) {
        let (behind, behind_count) = self.behind_message_id;
        put_list_head(out, usize::from(behind_count) + 1, message_id.len() + behind.len());
        out.put_slice(message_id);
        out.put_slice(behind);
    }
}

fn put_list(out: &mut BytesMut, count: usize, fields: &[u8]) {
    put_list_head(out, count, fields.len());
    out.put_slice(fields);
}

/// The descriptor, and the head of a list of at most [`FIELDS_MAX`] fields.
fn put_list_head(out: &mut BytesMut, count: usize, fields_bytes: usize) {
    out.put_slice(&[0x00, 0x53, section::PROPERTIES]);
    // The size covers the count, which is one byte or four.
    match u8::try_from(fields_bytes + 1) {
        Ok(size) => out.put_slice(&[0xc0, size, count as u8]),
        Err(_) => {
            out.put_u8(0xd0);
            out.put_u32(u32::try_from(fields_bytes + 4).unwrap_or(u32::MAX));
            out.put_u32(count as u32);
        }
    }
}
