//! The three frames of which there is one or more for each message.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    codec::{self, FrameKind},
    types::{DeliveryState, Disposition, Flow, Outcome, Performative, Role, Transfer},
};

use crate::{Work, messages};

const CHANNEL: u16 = 1;
/// What an encoder's buffer is emptied at, in bytes, as writing to a socket would.
const BUFFER_BYTES: usize = 64 << 10;

/// The first and only transfer of a message, as clients send it.
fn transfer() -> Transfer {
    Transfer {
        handle: 3,
        delivery_id: Some(70_000),
        delivery_tag: Some(Bytes::from_static(&[7; 16])),
        message_format: Some(0),
        settled: Some(false),
        ..Transfer::default()
    }
}

fn disposition() -> Performative {
    Performative::Disposition(Disposition {
        role: Role::Receiver,
        first: 70_000,
        last: Some(70_000),
        settled: true,
        state: Some(DeliveryState::Outcome(Outcome::Accepted)),
        batchable: false,
    })
}

fn flow() -> Performative {
    Performative::Flow(Flow {
        next_incoming_id: Some(70_000),
        incoming_window: 5_000,
        next_outgoing_id: 1,
        outgoing_window: 5_000,
        handle: Some(3),
        delivery_count: Some(70_000),
        link_credit: Some(1_000),
        available: Some(0),
        drain: false,
        echo: false,
    })
}

fn decode(frame: BytesMut) -> Work {
    let frame = frame.freeze();
    Box::new(move || {
        black_box(codec::decode_frame(black_box(&frame).clone(), FrameKind::Amqp).is_ok());
    })
}

fn encode(performative: Performative) -> Work {
    let mut out = BytesMut::with_capacity(2 * BUFFER_BYTES);
    Box::new(move || {
        codec::encode_frame(&mut out, CHANNEL, black_box(&performative));
        if out.len() > BUFFER_BYTES {
            black_box(&out);
            out.clear();
        }
    })
}

pub(crate) fn decode_transfer() -> Work {
    let mut frame = BytesMut::new();
    codec::encode_transfer(&mut frame, CHANNEL, &transfer(), &[&messages::message(true)]);
    decode(frame)
}

pub(crate) fn decode_disposition() -> Work {
    let mut frame = BytesMut::new();
    codec::encode_frame(&mut frame, CHANNEL, &disposition());
    decode(frame)
}

pub(crate) fn decode_flow() -> Work {
    let mut frame = BytesMut::new();
    codec::encode_frame(&mut frame, CHANNEL, &flow());
    decode(frame)
}

pub(crate) fn encode_transfer() -> Work {
    let (transfer, message) = (transfer(), messages::message(true));
    let mut out = BytesMut::with_capacity(2 * BUFFER_BYTES);
    Box::new(move || {
        codec::encode_transfer(&mut out, CHANNEL, black_box(&transfer), &[black_box(&message)]);
        if out.len() > BUFFER_BYTES {
            black_box(&out);
            out.clear();
        }
    })
}

pub(crate) fn encode_disposition() -> Work {
    encode(disposition())
}

pub(crate) fn encode_flow() -> Work {
    encode(flow())
}
