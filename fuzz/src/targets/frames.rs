//! Frames of every kind. Promise: no panic; what decodes encodes, and decodes to the same again.

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    codec::{
        Frame, FrameKind, MIN_MAX_FRAME_SIZE, decode_frame, encode_frame, encode_heartbeat, encode_sasl,
        encode_transfer, frame_size,
    },
    types::Performative,
};

use crate::input::Input;

/// A whole frame with this body; its size field is right.
pub(super) fn framed(frame_type: u8, channel: u16, body: &[&[u8]]) -> Bytes {
    let size = 8 + body.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = BytesMut::with_capacity(size);
    frame.extend_from_slice(&(size as u32).to_be_bytes());
    frame.extend_from_slice(&[2, frame_type]);
    frame.extend_from_slice(&channel.to_be_bytes());
    for part in body {
        frame.extend_from_slice(part);
    }
    frame.freeze()
}

fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    match frame {
        Frame::Heartbeat => encode_heartbeat(&mut out),
        Frame::Sasl(sasl) => encode_sasl(&mut out, sasl),
        Frame::Amqp { channel, performative: Performative::Transfer(transfer), payload } => {
            encode_transfer(&mut out, *channel, transfer, &[payload]);
        }
        Frame::Amqp { channel, performative, .. } => encode_frame(&mut out, *channel, performative),
    }
    out.freeze()
}

/// Decodes; if that works, encodes and decodes once more.
fn same_again(frame: Bytes, kind: FrameKind) {
    let Ok(mut decoded) = decode_frame(frame, kind) else { return };
    if let Frame::Amqp { performative: Performative::Attach(attach), .. } = &mut decoded {
        // Links are not resumed, so this is never written.
        attach.unsettled = None;
    }
    let encoded = encode(&decoded);
    assert_eq!(frame_size(&encoded, u32::MAX), Ok(Some(encoded.len())), "the size field is right");
    let kind = if matches!(decoded, Frame::Sasl(_)) { FrameKind::Sasl } else { FrameKind::Amqp };
    match (decode_frame(encoded, kind), decoded) {
        (
            Ok(Frame::Amqp { channel, performative, payload }),
            Frame::Amqp { channel: old_channel, performative: old, payload: old_payload },
        ) => {
            assert_eq!((channel, &performative), (old_channel, &old));
            if matches!(old, Performative::Transfer(_)) {
                assert_eq!(payload, old_payload);
            }
        }
        (again, decoded) => assert_eq!(again, Ok(decoded)),
    }
}

/// A stream of frames, cut as the engine cuts it.
pub(super) fn framer(data: &[u8]) {
    let Some((&choice, stream)) = data.split_first() else { return };
    let kind = if choice & 1 == 0 { FrameKind::Amqp } else { FrameKind::Sasl };
    let size_max = if choice & 2 == 0 { MIN_MAX_FRAME_SIZE } else { u32::MAX };
    let mut rest = Bytes::copy_from_slice(stream);
    while let Ok(Some(size)) = frame_size(&rest, size_max) {
        assert!((8..=size_max as usize).contains(&size));
        if size > rest.len() {
            break;
        }
        same_again(rest.split_to(size), kind);
    }
    // Whatever the size field says.
    let _ = decode_frame(rest, kind);
}

/// Flow, transfer and disposition.
pub(super) fn hot(data: &[u8]) {
    let mut input = Input::new(data);
    let code = 0x13 + input.u8() % 3;
    same_again(framed(0, u16::from(code), &[&[0x00, 0x53, code], input.rest()]), FrameKind::Amqp);
}

/// Open, begin, attach, detach, end, close.
pub(super) fn cold(data: &[u8]) {
    const CODES: [u8; 6] = [0x10, 0x11, 0x12, 0x16, 0x17, 0x18];
    let mut input = Input::new(data);
    let code = CODES[input.below(CODES.len())];
    same_again(framed(0, u16::from(code), &[&[0x00, 0x53, code], input.rest()]), FrameKind::Amqp);
}

/// The five SASL frames.
pub(super) fn sasl(data: &[u8]) {
    let mut input = Input::new(data);
    let code = 0x40 + input.u8() % 5;
    same_again(framed(1, 0, &[&[0x00, 0x53, code], input.rest()]), FrameKind::Sasl);
}
