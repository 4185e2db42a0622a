//! The properties section, looked at without decoding it.

use bytes::{BufMut, BytesMut};
use lockstep_amqp::{
    codec::{Cursor, read_descriptor},
    message::{MessageError, property, section},
};

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

    /// Appends the section with an encoded message-id in the place of its own, all other fields
    /// byte by byte as they are.
    pub(super) fn put_with_message_id(&self, out: &mut BytesMut, message_id: &[u8]) {
        let (behind, behind_count) = self.behind_message_id;
        let fields_bytes = message_id.len() + behind.len();
        let count = behind_count + 1;
        out.put_slice(&[0x00, 0x53, section::PROPERTIES]);
        // The size covers the count, which is one byte or four.
        match u8::try_from(fields_bytes + 1) {
            Ok(size) => out.put_slice(&[0xc0, size, count]),
            Err(_) => {
                out.put_u8(0xd0);
                out.put_u32(u32::try_from(fields_bytes + 4).unwrap_or(u32::MAX));
                out.put_u32(u32::from(count));
            }
        }
        out.put_slice(message_id);
        out.put_slice(behind);
    }
}
