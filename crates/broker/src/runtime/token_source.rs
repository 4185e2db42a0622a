//! Random lock tokens.

use std::hash::{BuildHasher, RandomState};

use lockstep_model::LockToken;

use crate::core::IdSource;

/// Version-4 uuids from a generator that the operating system's randomness seeds. Tokens need to
/// be unique and not guessable from outside by chance; the right to settle is checked besides.
#[derive(Debug)]
pub(crate) struct RandomTokens {
    state: [u64; 2],
}

impl RandomTokens {
    pub(crate) fn new() -> Self {
        // RandomState is the standard library's only door to the system's randomness.
        let seed = |salt: u64| RandomState::new().hash_one(salt) | 1;
        Self { state: [seed(1), seed(2)] }
    }

    /// xoroshiro128++.
    fn next(&mut self) -> u64 {
        let [s0, mut s1] = self.state;
        let result = s0.wrapping_add(s1).rotate_left(17).wrapping_add(s0);
        s1 ^= s0;
        self.state = [s0.rotate_left(49) ^ s1 ^ (s1 << 21), s1.rotate_left(28)];
        result
    }
}

impl IdSource for RandomTokens {
    fn lock_token(&mut self) -> LockToken {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        LockToken::from_uuid_bytes(bytes)
    }
}
