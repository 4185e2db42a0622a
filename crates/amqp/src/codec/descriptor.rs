//! Descriptors: numeric in any form, or symbolic.

use super::Cursor;
use crate::{Violation, types::Value};

/// Symbolic descriptors of parts 2 to 5 and their codes.
const NAMES: [(&str, u64); 41] = [
    ("amqp:open:list", 0x10),
    ("amqp:begin:list", 0x11),
    ("amqp:attach:list", 0x12),
    ("amqp:flow:list", 0x13),
    ("amqp:transfer:list", 0x14),
    ("amqp:disposition:list", 0x15),
    ("amqp:detach:list", 0x16),
    ("amqp:end:list", 0x17),
    ("amqp:close:list", 0x18),
    ("amqp:error:list", 0x1d),
    ("amqp:received:list", 0x23),
    ("amqp:accepted:list", 0x24),
    ("amqp:rejected:list", 0x25),
    ("amqp:released:list", 0x26),
    ("amqp:modified:list", 0x27),
    ("amqp:source:list", 0x28),
    ("amqp:target:list", 0x29),
    ("amqp:delete-on-close:list", 0x2b),
    ("amqp:delete-on-no-links:list", 0x2c),
    ("amqp:delete-on-no-messages:list", 0x2d),
    ("amqp:delete-on-no-links-or-messages:list", 0x2e),
    ("amqp:coordinator:list", 0x30),
    ("amqp:declare:list", 0x31),
    ("amqp:discharge:list", 0x32),
    ("amqp:declared:list", 0x33),
    ("amqp:transactional-state:list", 0x34),
    ("amqp:sasl-mechanisms:list", 0x40),
    ("amqp:sasl-init:list", 0x41),
    ("amqp:sasl-challenge:list", 0x42),
    ("amqp:sasl-response:list", 0x43),
    ("amqp:sasl-outcome:list", 0x44),
    ("amqp:header:list", 0x70),
    ("amqp:delivery-annotations:map", 0x71),
    ("amqp:message-annotations:map", 0x72),
    ("amqp:properties:list", 0x73),
    ("amqp:application-properties:map", 0x74),
    ("amqp:data:binary", 0x75),
    ("amqp:amqp-sequence:list", 0x76),
    ("amqp:amqp-value:*", 0x77),
    ("amqp:footer:map", 0x78),
    // Written like this by some peers, after the heading of 3.2.8.
    ("amqp:value:*", 0x77),
];

/// The code of a symbolic descriptor of the specification.
pub(crate) fn known_code(name: &[u8]) -> Option<u64> {
    NAMES.iter().find(|(known, _)| known.as_bytes() == name).map(|&(_, code)| code)
}

/// The code of a descriptor that was decoded already; `None` if it is none of the specification's
/// symbols and no ulong.
pub(crate) fn descriptor_code(descriptor: &Value) -> Option<u64> {
    match descriptor {
        Value::Ulong(code) => Some(*code),
        Value::Symbol(name) => known_code(name.as_str().as_bytes()),
        _ => None,
    }
}

/// Reads the mark 0x00 and a descriptor, and leaves the cursor before the described value.
/// `None` for a descriptor that is neither a ulong nor one of the specification's symbols.
///
/// # Errors
/// [`Violation::Decode`] when there is no described value or the descriptor is cut off.
#[inline]
pub fn read_descriptor(cursor: &mut Cursor<'_>) -> Result<Option<u64>, Violation> {
    if cursor.u8()? != 0x00 {
        return Err(Violation::Decode);
    }
    match cursor.peek() {
        Some(0x53 | 0x80 | 0x44) => cursor.ulong(),
        Some(0xa3 | 0xb3) => Ok(cursor.variable(0xa3, 0xb3)?.and_then(known_code)),
        _ => {
            cursor.skip()?;
            Ok(None)
        }
    }
}
