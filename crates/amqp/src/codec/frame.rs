//! Frame headers and the choice of decoder (2.3, 5.3.1).

use bytes::Bytes;

use super::{Cursor, FRAME_HEADER_BYTES, Frame, FrameKind, cold, hot, read_descriptor};
use crate::{Violation, types::Performative};

const TYPE_AMQP: u8 = 0x00;
const TYPE_SASL: u8 = 0x01;

/// Data offset of a frame without an extended header, in words of four bytes.
const LEAST_DATA_OFFSET: u8 = 2;

/// How many bytes the frame at the start of `buffer` has, its header included; `None` while its
/// size field is not there yet. `max_frame_size` is in bytes.
///
/// # Errors
/// [`Violation::FrameTooShort`] below 8 bytes, [`Violation::FrameTooLarge`] above the maximum.
pub fn frame_size(buffer: &[u8], max_frame_size: u32) -> Result<Option<usize>, Violation> {
    let Some(size) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes(*size);
    if (size as usize) < FRAME_HEADER_BYTES {
        Err(Violation::FrameTooShort)
    } else if size > max_frame_size {
        Err(Violation::FrameTooLarge)
    } else {
        Ok(Some(size as usize))
    }
}

/// Decodes one whole frame, whose length [`frame_size`] said. An extended header is skipped.
/// Tags, payload and other binaries share the frame's memory.
///
/// # Errors
/// Any of [`Violation::FrameTooShort`] (also when `frame` and its size field differ),
/// [`Violation::DataOffset`], [`Violation::FrameType`], [`Violation::Decode`],
/// [`Violation::NestingTooDeep`], [`Violation::UnknownPerformative`], [`Violation::InvalidField`].
pub fn decode_frame(frame: Bytes, kind: FrameKind) -> Result<Frame, Violation> {
    let mut header = Cursor::new(&frame, 0);
    let (Ok(size), Ok(data_offset), Ok(frame_type), Ok(channel)) =
        (header.u32(), header.u8(), header.u8(), header.u16())
    else {
        return Err(Violation::FrameTooShort);
    };
    if size as usize != frame.len() {
        return Err(Violation::FrameTooShort);
    }
    let body = usize::from(data_offset) * 4;
    if data_offset < LEAST_DATA_OFFSET || body > frame.len() {
        return Err(Violation::DataOffset);
    }
    match (kind, frame_type) {
        (FrameKind::Amqp, TYPE_AMQP) if body == frame.len() => Ok(Frame::Heartbeat),
        (FrameKind::Amqp, TYPE_AMQP) => {
            let (performative, end) = decode_performative(&frame, body)?;
            let payload = if end == frame.len() { Bytes::new() } else { frame.slice(end..) };
            Ok(Frame::Amqp { channel, performative, payload })
        }
        (FrameKind::Sasl, TYPE_SASL) => {
            let code = read_code(&mut Cursor::new(&frame, body))?;
            cold::decode_sasl(&frame, body, code).map(Frame::Sasl)
        }
        _ => Err(Violation::FrameType),
    }
}

fn read_code(cursor: &mut Cursor<'_>) -> Result<u64, Violation> {
    read_descriptor(cursor)?.ok_or(Violation::UnknownPerformative)
}

/// The performative at `body`, and where it ends. Inlined, since it would otherwise move the
/// performative once more, which takes as long as reading it.
#[inline(always)]
fn decode_performative(frame: &Bytes, body: usize) -> Result<(Performative, usize), Violation> {
    let mut cursor = Cursor::new(frame, body);
    let performative = match read_code(&mut cursor)? {
        0x13 => Performative::Flow(hot::flow(&mut cursor)?),
        0x14 => Performative::Transfer(hot::transfer(frame, &mut cursor)?),
        0x15 => Performative::Disposition(hot::disposition(frame, &mut cursor)?),
        code => return cold::decode_performative(frame, body, code),
    };
    Ok((performative, cursor.position()))
}
