//! Tests of the codec as a whole.

mod hostile;
mod mutation;
mod oracle;
mod recorded;
mod round_trip;
mod types;
mod vectors;

use bytes::{Bytes, BytesMut};

use super::{Frame, FrameKind, decode_frame, encode_frame};
use crate::{Violation, types::Performative};

/// Bytes from hexadecimal digits; spaces are for reading.
pub(crate) fn hex(digits: &str) -> Bytes {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    assert!(digits.len().is_multiple_of(2), "whole bytes");
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A frame of this type on channel 0 around a body.
fn frame(frame_type: u8, body: &[u8]) -> Bytes {
    let mut frame = Vec::from(u32::try_from(body.len() + 8).unwrap().to_be_bytes());
    frame.extend([2, frame_type, 0, 0]);
    frame.extend(body);
    frame.into()
}

/// Decodes an AMQP frame whose body is given in hexadecimal digits.
fn decode_body(body: &str) -> Result<Performative, Violation> {
    performative_of(decode_frame(frame(0, &hex(body)), FrameKind::Amqp)?)
}

fn performative_of(frame: Frame) -> Result<Performative, Violation> {
    match frame {
        Frame::Amqp { performative, .. } => Ok(performative),
        other => panic!("no performative: {other:?}"),
    }
}

/// The body of the frame that a performative is encoded as.
fn encode_body(performative: &Performative) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(&mut out, 0, performative);
    out.freeze().slice(8..)
}

/// A small generator of pseudo-random numbers; the same seed gives the same test.
pub(crate) struct XorShift(pub(crate) u64);

impl XorShift {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number under `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    /// Changes, cuts, repeats or removes a few bytes.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(7) {
                0 | 1 => bytes[at] = self.next().to_be_bytes()[0],
                2 => bytes[at] ^= 1 << self.below(8),
                3 => bytes[at] = [0x00, 0x40, 0x45, 0xc0, 0xd0, 0xe0, 0xf0, 0xff][self.below(8)],
                4 => bytes.truncate(at),
                5 => {
                    let end = at + self.below(bytes.len() - at + 1);
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => {
                    bytes.remove(at);
                }
            }
        }
    }
}
