//! Frames that an unmodified client sent.

use super::*;
use crate::{
    codec::FRAME_HEADER_BYTES,
    types::{Attach, DeliveryState, Outcome, SaslFrame, TargetTerminus, Value},
};

/// Name and bytes of each recorded frame.
pub(super) fn client_frames() -> impl Iterator<Item = (&'static str, Bytes)> {
    include_str!("client_frames.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, digits)| (name, hex(digits)))
}

fn client_frame(wanted: &str) -> Bytes {
    client_frames().find(|(name, _)| *name == wanted).unwrap().1
}

pub(super) fn kind_of(frame: &[u8]) -> FrameKind {
    if frame.get(5) == Some(&1) { FrameKind::Sasl } else { FrameKind::Amqp }
}

fn client_attach(wanted: &str) -> Attach {
    let frame = decode_frame(client_frame(wanted), FrameKind::Amqp).unwrap();
    match performative_of(frame).unwrap() {
        Performative::Attach(attach) => *attach,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_recorded_frame_decodes_and_encodes_to_the_same_again() {
    for (name, bytes) in client_frames() {
        let decoded = decode_frame(bytes.clone(), kind_of(&bytes)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let Frame::Amqp { channel, performative, .. } = decoded else { continue };
        let mut out = BytesMut::new();
        encode_frame(&mut out, channel, &performative);
        let again = performative_of(decode_frame(out.freeze(), FrameKind::Amqp).unwrap()).unwrap();
        assert_eq!(again, performative, "{name}");
    }
}

#[test]
fn every_cut_of_a_recorded_frame_is_a_violation() {
    for (name, bytes) in client_frames() {
        let whole = decode_frame(bytes.clone(), kind_of(&bytes)).unwrap();
        let body_end = match whole {
            Frame::Amqp { payload, .. } => bytes.len() - payload.len(),
            _ => bytes.len(),
        };
        for length in FRAME_HEADER_BYTES + 1..body_end {
            let mut cut = bytes[..length].to_vec();
            cut[..4].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            let result = decode_frame(cut.into(), kind_of(&bytes));
            assert!(result.is_err(), "{name} cut to {length}: {result:?}");
        }
    }
}

#[test]
fn sasl_init_without_hostname_is_read() {
    let frame = decode_frame(client_frame("sasl-init without hostname"), FrameKind::Sasl).unwrap();
    let Frame::Sasl(SaslFrame::Init(init)) = frame else { panic!("{frame:?}") };
    assert_eq!(init.mechanism.as_str(), "MSSBCBS");
    assert_eq!(init.hostname, None);
}

#[test]
fn null_connection_property_is_kept() {
    let frame = decode_frame(client_frame("open with a null property"), FrameKind::Amqp).unwrap();
    let Performative::Open(open) = performative_of(frame).unwrap() else { panic!("no open") };
    assert_eq!(open.properties.unwrap().get("version"), Some(&Value::Null));
}

#[test]
fn null_session_filter_is_present_and_null() {
    let attach = client_attach("attach with a null session filter");
    let filter = attach.source.unwrap().filter.unwrap();
    assert_eq!(filter.get("com.microsoft:session-filter"), Some(&Value::Null));
}

#[test]
fn named_session_filter_is_a_plain_string() {
    let attach = client_attach("attach with a named session filter");
    let filter = attach.source.unwrap().filter.unwrap();
    assert!(matches!(filter.get("com.microsoft:session-filter"), Some(Value::String(_))));
}

#[test]
fn coordinator_target_is_told_from_a_plain_one() {
    let attach = client_attach("attach to a transaction coordinator");
    assert_eq!(attach.target, Some(TargetTerminus::Coordinator(vec![])));
    assert_eq!(attach.initial_delivery_count, None);
}

#[test]
fn dead_letter_reason_arrives_in_the_error_info() {
    let frame = decode_frame(client_frame("disposition that dead-letters"), FrameKind::Amqp).unwrap();
    let Performative::Disposition(disposition) = performative_of(frame).unwrap() else {
        panic!("no disposition")
    };
    let Some(DeliveryState::Outcome(Outcome::Rejected(Some(error)))) = disposition.state else {
        panic!("no error")
    };
    assert_eq!(error.condition.as_str(), "com.microsoft:dead-letter");
    assert!(error.info.unwrap().get("DeadLetterReason").is_some());
}

#[test]
fn recorded_batch_splits_into_its_ten_messages() {
    let frame = decode_frame(client_frame("transfer of a batch of ten"), FrameKind::Amqp).unwrap();
    let Frame::Amqp { payload, .. } = frame else { panic!("{frame:?}") };
    let messages = crate::message::split_batch(&payload).unwrap();
    assert_eq!(messages.len(), 10);
    for message in messages {
        assert!(crate::message::scan(&message).unwrap().properties.is_some());
    }
}
