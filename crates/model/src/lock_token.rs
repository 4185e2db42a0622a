//! The lock token of one message.

use std::fmt;

use smallvec::SmallVec;

/// Locks that are settled together. Clients of Service Bus settle one at a time, which takes no
/// memory of its own.
pub type LockTokens = SmallVec<[LockToken; 1]>;

/// A GUID that names the peek-lock of one message. Held in RFC 4122 byte order (the AMQP `uuid`
/// order of `$management` bodies); the delivery-tag carries it in .NET order, a translation that
/// belongs to `protocol::delivery_tag`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockToken([u8; 16]);

impl LockToken {
    /// From the 16 bytes of a uuid in RFC order.
    #[must_use]
    pub const fn from_uuid_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes of the uuid in RFC order.
    #[must_use]
    pub const fn uuid_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockToken({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_as_a_guid() {
        let token = LockToken::from_uuid_bytes(0x00112233_4455_6677_8899_aabbccddeeff_u128.to_be_bytes());
        assert_eq!(token.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
