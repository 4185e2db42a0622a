//! Random ids for what need not be secret: generated message-ids, tracking ids.

use std::hash::{BuildHasher, RandomState};

/// A small generator, seeded from the system's randomness.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        // RandomState is the standard library's only door to the system's randomness.
        Self(RandomState::new().hash_one(0_u8))
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 16 random bytes marked as a version-4 uuid.
    pub(crate) fn next_uuid(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        bytes
    }

    /// A random GUID in its usual spelling.
    pub(crate) fn next_guid_text(&mut self) -> String {
        lockstep_model::LockToken::from_uuid_bytes(self.next_uuid()).to_string()
    }
}
