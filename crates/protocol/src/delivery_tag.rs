//! Lock tokens as delivery-tags.
//!
//! A delivery-tag carries the GUID in .NET's byte order: the first three fields little-endian,
//! the last eight bytes as they are. In `$management` bodies and annotations the same GUID is an
//! AMQP `uuid` in RFC 4122 order, which is how the model holds it (wire.md 5.2).

use lockstep_model::LockToken;

/// Bytes of a delivery-tag made by the broker.
pub const DELIVERY_TAG_BYTES: usize = 16;

/// The delivery-tag of a lock token.
#[must_use]
pub const fn from_lock_token(token: LockToken) -> [u8; DELIVERY_TAG_BYTES] {
    swapped(token.uuid_bytes())
}

/// The lock token of a delivery-tag; `None` if it is not 16 bytes long and so none of ours.
#[must_use]
pub fn to_lock_token(tag: &[u8]) -> Option<LockToken> {
    tag.try_into().ok().map(|tag| LockToken::from_uuid_bytes(swapped(tag)))
}

/// Reverses the first three fields of a GUID; its own inverse.
const fn swapped(b: [u8; 16]) -> [u8; 16] {
    [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_is_the_guid_in_dotnet_byte_order() {
        let token = LockToken::from_uuid_bytes(0x00112233_4455_6677_8899_aabbccddeeff_u128.to_be_bytes());
        let tag = from_lock_token(token);
        assert_eq!(tag, 0x33221100_5544_7766_8899_aabbccddeeff_u128.to_be_bytes());
        assert_eq!(to_lock_token(&tag), Some(token));
    }

    #[test]
    fn tags_of_other_lengths_are_no_lock_tokens() {
        assert_eq!(to_lock_token(&[]), None);
        assert_eq!(to_lock_token(&[0; 15]), None);
        assert_eq!(to_lock_token(&[0; 17]), None);
    }
}
