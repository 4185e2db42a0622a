//! Bytes to frames and back (parts 1, 2.3 and 5.3).
//!
//! Decoding trusts nothing: every length is checked against the bytes that are there, nesting is
//! limited to [`MAX_NESTING_LEVELS`] and whatever breaks a rule is a [`crate::Violation`], never a
//! panic. Encoding is by hand for every frame, in the forms that the strictest clients accept:
//! descriptors as `00 53 <code>`, performatives padded with nulls to their full field count,
//! errors always of three elements.

mod cold;
mod composite;
mod cursor;
mod descriptor;
mod encode;
mod frame;
mod guard;
mod hot;
mod performative;
#[cfg(test)]
pub(crate) mod tests;
mod value;

use bytes::Bytes;

use crate::types::{Performative, SaslFrame};

pub use cursor::{Cursor, skip_value};
pub(crate) use cursor::{Layout, ListReader, layout};
pub use descriptor::read_descriptor;
pub use encode::encode_value;
pub(crate) use encode::{
    write_binary, write_bool, write_described_list, write_map, write_optional, write_string, write_symbol,
    write_timestamp, write_ubyte, write_uint,
};
pub use frame::{decode_frame, frame_size};
pub use guard::check_value;
pub use performative::{encode_frame, encode_heartbeat, encode_sasl, encode_transfer};
pub use value::decode_value;

/// Size of a frame's fixed header, in bytes (2.3.1).
pub const FRAME_HEADER_BYTES: usize = 8;

/// Smallest max-frame-size that a peer may ask for, in bytes (2.4.1, MIN-MAX-FRAME-SIZE).
pub const MIN_MAX_FRAME_SIZE: u32 = 512;

/// Deepest nesting of lists, maps, arrays and described values that is decoded, in levels.
pub const MAX_NESTING_LEVELS: usize = 32;

/// Most elements of an array whose elements take no bytes (null, true, false, uint0, ulong0,
/// list0). Without it a few bytes could ask for 2^32 elements.
pub const MAX_ZERO_WIDTH_ELEMENTS: usize = 4096;

/// Most bytes that a transfer frame takes besides its payload, when the transfer has a tag of at
/// most 32 bytes and no state: frame header, descriptor, list header and all eleven fields.
pub const TRANSFER_OVERHEAD_BYTES: usize = 72;

/// One decoded frame.
#[derive(Clone, PartialEq, Debug)]
pub enum Frame {
    /// An AMQP frame with a performative.
    Amqp {
        /// The sender's channel.
        channel: u16,
        /// What it says.
        performative: Performative,
        /// What stands behind the performative; only transfers have a payload, in other frames
        /// it has no meaning.
        payload: Bytes,
    },
    /// An AMQP frame without a body; it only shows that the peer is alive (2.4.5).
    Heartbeat,
    /// A SASL frame.
    Sasl(SaslFrame),
}

/// Which type of frame can come now: SASL before its outcome, AMQP afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// Frame type 0x00.
    Amqp,
    /// Frame type 0x01.
    Sasl,
}
