//! Attaches: what they ask for, and the answer, through the engine.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    Config, Connection, Event, Time,
    codec::{Frame, FrameKind, check_value, decode_frame, encode_frame},
    types::{Attach, Begin, Open, Performative, Role, Source, Target, TargetTerminus},
};
use lockstep_model::Timestamp;
use lockstep_protocol::{
    attach_intent::{AttachIntent, ReceiveKind, attach_intent, receiver_name, spelled_address},
    attach_reply::{Grant, accept_reply},
    conditions::{self, RefusalContext},
};

use super::{frames::framed, model::Wire};
use crate::input::Input;

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

pub(super) fn open() -> Open {
    Open {
        container_id: "peer".into(),
        hostname: Some("ns.example".into()),
        max_frame_size: 65_536,
        channel_max: 65_535,
        idle_time_out: None,
        outgoing_locales: Vec::new(),
        incoming_locales: Vec::new(),
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

pub(super) fn begin() -> Begin {
    Begin {
        remote_channel: None,
        next_outgoing_id: 1,
        incoming_window: 5_000,
        outgoing_window: 5_000,
        handle_max: 262_143,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

pub(super) fn plain_attach(role: Role, name: &str, handle: u32) -> Attach {
    Attach {
        name: name.into(),
        handle,
        role,
        snd_settle_mode: None,
        rcv_settle_mode: None,
        source: Some(Source::default()),
        target: Some(TargetTerminus::Target(Target::default())),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: (role == Role::Sender).then_some(0),
        max_message_size: None,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

/// The attach of the input: a frame as it is, or one whose source, target and properties are
/// encoded values of the input's.
fn attach_frame(input: &mut Input<'_>) -> Bytes {
    if input.bool() {
        return framed(0, 0, &[&[0x00, 0x53, 0x12], input.rest()]);
    }
    let role = if input.bool() { Role::Receiver } else { Role::Sender };
    let settled = input.u8();
    let rest = input.rest();
    // name, handle, role, snd-settle-mode, rcv-settle-mode, then source and target of the
    // input's, unsettled, incomplete-unsettled, initial-delivery-count, max-message-size, two
    // capabilities, and the properties of the input's.
    let mut fields: Vec<&[u8]> = vec![b"\xa1\x01n", b"\x43"];
    fields.push(if role == Role::Receiver { b"\x41" } else { b"\x42" });
    let mode = [0x50, settled % 3];
    fields.push(&mode);
    fields.push(b"\x40");
    let mut at = 0;
    let mut next = || {
        let end = check_value(rest, at).ok()?;
        let value = rest.get(at..end);
        at = end;
        value
    };
    fields.push(next().unwrap_or(b"\x40"));
    fields.push(next().unwrap_or(b"\x40"));
    fields.extend_from_slice(&[b"\x40", b"\x42", b"\x43", b"\x40", b"\x40", b"\x40"]);
    fields.push(next().unwrap_or(b"\x40"));
    let size = 4 + fields.iter().map(|field| field.len()).sum::<usize>();
    let head = [&[0x00, 0x53, 0x12, 0xd0][..], &(size as u32).to_be_bytes(), &14_u32.to_be_bytes()].concat();
    let mut parts: Vec<&[u8]> = vec![&head];
    parts.extend(fields);
    framed(0, 0, &parts)
}

/// Promise: no panic; whatever is asked for is granted or refused by an answer that can be read,
/// in the same form; the broker's own names stay the broker's.
pub(super) fn attach(data: &[u8]) {
    let frame = attach_frame(&mut Input::new(data));
    if !matches!(
        decode_frame(frame.clone(), FrameKind::Amqp),
        Ok(Frame::Amqp { performative: Performative::Attach(_), .. })
    ) {
        return;
    }
    let mut engine = Connection::server(Arc::new(Config::default()), Time(0));
    let mut script = BytesMut::from(&b"AMQP\x00\x01\x00\x00"[..]);
    encode_frame(&mut script, 0, &Performative::Open(Box::new(open())));
    encode_frame(&mut script, 0, &Performative::Begin(Box::new(begin())));
    script.extend_from_slice(&frame);
    engine.receive_buffer().extend_from_slice(&script);
    engine.process(Time(0));
    engine.open(None);
    let mut wire = Wire::default();
    while let Some(event) = engine.poll_event() {
        let Event::Attach { link, attach, .. } = event else { continue };
        let _ = receiver_name(&attach);
        let context = RefusalContext::new("ns", spelled_address(&attach), "id", NOW);
        match attach_intent(&attach) {
            Err(refusal) => engine.refuse(link, conditions::error(&refusal, &context)),
            Ok(intent) => {
                let grant = grant(&intent);
                engine.accept(link, accept_reply(&attach, grant));
            }
        }
        wire.transmit_all(&mut engine);
    }
    wire.transmit_all(&mut engine);
}

fn grant(intent: &AttachIntent) -> Grant<'_> {
    match intent {
        AttachIntent::Send { .. } => Grant::Sender { max_message_size_bytes: 1 << 20 },
        AttachIntent::Receive { kind, filter_echo, .. } => Grant::Receiver {
            filter_echo: filter_echo.as_ref(),
            message_session: match kind {
                ReceiveKind::MessageSession(id) => Some((id, Some(NOW))),
                ReceiveKind::Browse(id) => Some((id, None)),
                _ => None,
            },
        },
        AttachIntent::ManagementRequests { .. } | AttachIntent::CbsRequests => {
            Grant::Requests { max_message_size_bytes: 1 << 20 }
        }
        AttachIntent::ManagementResponses { .. } | AttachIntent::CbsResponses { .. } => Grant::Responses,
    }
}
