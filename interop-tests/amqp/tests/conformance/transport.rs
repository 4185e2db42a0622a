//! Protocol header, frames, open and close (2.2 to 2.4, 2.7.1, 2.7.9).

use lockstep_amqp::{
    codec::{self, Frame},
    types::{Begin, Close, End, Open, Performative},
};
use lockstep_interop_amqp::{AMQP_HEADER, ANSWER, Failed, Outcome, Outgoing, RawConnection, SASL_HEADER};

use crate::suite::Scenario;
use crate::{authenticated, begun, checks, close_condition, complete, open, receiving, send, sending};

checks![conformance_transport_frames:
    the_header_that_is_served_comes_back,
    other_versions_and_protocols_are_answered_with_a_served_header_and_the_end,
    open_tells_the_brokers_limits_on_channel_0,
    open_on_another_channel_ends_the_connection,
    a_whole_conversation_in_one_write_is_answered_in_order,
    nothing_follows_close,
    an_extended_header_is_passed_over,
    an_empty_frame_says_nothing,
    a_frame_over_the_maximum_ends_the_connection,
    channels_go_up_to_channel_max,
    frames_stay_within_what_the_client_takes,
];

/// The smallest max-frame-size, in bytes (2.8.19).
const MIN_MAX_FRAME_SIZE: usize = 512;
/// The broker's max-frame-size and channel-max.
const MAX_FRAME_SIZE: u32 = 262_144;
const CHANNEL_MAX: u16 = 4_999;

fn begin() -> Performative {
    Performative::Begin(Box::new(Begin {
        remote_channel: None,
        next_outgoing_id: 1,
        incoming_window: 5_000,
        outgoing_window: 5_000,
        handle_max: 262_143,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }))
}

/// 2.2
fn the_header_that_is_served_comes_back(s: &Scenario) -> Outcome {
    for header in [AMQP_HEADER, SASL_HEADER] {
        let mut raw = s.broker().connect_raw()?;
        raw.write(&header)?;
        raw.expect_header(header)?;
    }
    Ok(())
}

/// 2.2, 5.2: also the header of TLS, which is told by its own first byte here.
fn other_versions_and_protocols_are_answered_with_a_served_header_and_the_end(s: &Scenario) -> Outcome {
    for header in [
        *b"AMQP\x02\x01\x00\x00",
        *b"AMQP\x01\x01\x00\x00",
        *b"AMQP\x00\x00\x09\x01",
        *b"AMQP\x00\x01\x01\x00",
        *b"AMQP\x00\x01\x00\x01",
        *b"AMQP\x03\x01\x00\x01",
    ] {
        let mut raw = s.broker().connect_raw()?;
        raw.write(&header)?;
        assert_eq!(raw.read_to_end()?[..], SASL_HEADER, "{header:?}");
    }
    Ok(())
}

/// 2.4.1, 2.7.1: the broker's open, which fits in the smallest frame.
fn open_tells_the_brokers_limits_on_channel_0(s: &Scenario) -> Outcome {
    let mut raw = authenticated(s)?;
    raw.write(&AMQP_HEADER)?;
    raw.expect_header(AMQP_HEADER)?;
    raw.frame(0, Performative::Open(Box::new(open())))?;
    let frame = raw.next_frame(ANSWER)?;
    let Some(Frame::Amqp { channel: 0, performative: Performative::Open(open), .. }) = frame else {
        return Err(Failed::new(format!("{frame:?} instead of open")));
    };
    assert!(!open.container_id.is_empty());
    assert_eq!((open.max_frame_size, open.channel_max), (MAX_FRAME_SIZE, CHANNEL_MAX));
    let mut encoded = bytes::BytesMut::new();
    codec::encode_frame(&mut encoded, 0, &Performative::Open(open));
    assert!(encoded.len() <= MIN_MAX_FRAME_SIZE);
    Ok(())
}

/// 2.4.1, 2.7.1 channel-max: until then there is channel 0 only.
fn open_on_another_channel_ends_the_connection(s: &Scenario) -> Outcome {
    let mut raw = authenticated(s)?;
    raw.write(&AMQP_HEADER)?;
    raw.frame(1, Performative::Open(Box::new(open())))?;
    assert_eq!(close_condition(&mut raw)?, "amqp:connection:framing-error");
    Ok(())
}

fn remaining(raw: &mut RawConnection) -> Outcome<Vec<(u16, Performative)>> {
    let mut frames = Vec::new();
    while let Some(frame) = raw.next_frame(ANSWER)? {
        if let Frame::Amqp { channel, performative, .. } = frame {
            frames.push((channel, performative));
        }
    }
    Ok(frames)
}

/// 2.4.2, 2.4.3, 2.5.1, 2.5.2
fn a_whole_conversation_in_one_write_is_answered_in_order(s: &Scenario) -> Outcome {
    let mut raw = s.broker().connect_raw()?;
    let mut out = bytes::BytesMut::from(&AMQP_HEADER[..]);
    codec::encode_frame(&mut out, 0, &Performative::Open(Box::new(open())));
    codec::encode_frame(&mut out, 7, &begin());
    codec::encode_frame(&mut out, 7, &Performative::End(End::default()));
    codec::encode_frame(&mut out, 0, &Performative::Close(Close::default()));
    raw.write(&out)?;
    raw.expect_header(AMQP_HEADER)?;
    let frames = remaining(&mut raw)?;
    assert!(
        matches!(
            &frames[..],
            [
                (0, Performative::Open(_)),
                (_, Performative::Begin(begin)),
                (_, Performative::End(End { error: None })),
                (0, Performative::Close(Close { error: None })),
            ] if begin.remote_channel == Some(7)
        ),
        "{frames:?}"
    );
    Ok(())
}

/// 2.4.3, 2.7.9
fn nothing_follows_close(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let mut out = bytes::BytesMut::new();
    codec::encode_frame(&mut out, 0, &Performative::Close(Close::default()));
    codec::encode_frame(&mut out, 3, &begin());
    raw.write(&out)?;
    let frames = remaining(&mut raw)?;
    assert!(matches!(&frames[..], [(0, Performative::Close(Close { error: None }))]), "{frames:?}");
    Ok(())
}

fn begun_on(raw: &mut RawConnection, channel: u16) -> Outcome {
    raw.expect("begin", |_, performative, _| {
        matches!(performative, Performative::Begin(begin) if begin.remote_channel == Some(channel))
            .then_some(())
    })
}

/// 2.3.1
fn an_extended_header_is_passed_over(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let mut plain = bytes::BytesMut::new();
    codec::encode_frame(&mut plain, 5, &begin());
    let mut frame =
        u32::try_from(plain.len() + 8).map_err(|e| Failed::new(e.to_string()))?.to_be_bytes().to_vec();
    frame.extend_from_slice(&[4, 0, 0, 5, 0xff, 0x00, 0x53, 0x10, 1, 2, 3, 4]);
    frame.extend_from_slice(&plain[8..]);
    raw.write(&frame)?;
    begun_on(&mut raw, 5)
}

/// 2.4.5: on any channel, with an extended header or without.
fn an_empty_frame_says_nothing(s: &Scenario) -> Outcome {
    let mut raw = authenticated(s)?;
    raw.write(&AMQP_HEADER)?;
    raw.write(&[0, 0, 0, 8, 2, 0, 0, 0])?;
    raw.frame(0, Performative::Open(Box::new(open())))?;
    raw.expect_header(AMQP_HEADER)?;
    raw.write(&[0, 0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 12, 3, 0, 0, 9, 1, 2, 3, 4])?;
    raw.frame(2, begin())?;
    begun_on(&mut raw, 2)
}

/// 2.7.1 max-frame-size
fn a_frame_over_the_maximum_ends_the_connection(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let mut header = (MAX_FRAME_SIZE + 1).to_be_bytes().to_vec();
    header.extend_from_slice(&[2, 0, 0, 0]);
    raw.write(&header)?;
    assert_eq!(close_condition(&mut raw)?, "amqp:connection:framing-error");
    Ok(())
}

/// 2.7.1 channel-max
fn channels_go_up_to_channel_max(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    raw.frame(CHANNEL_MAX, begin())?;
    begun_on(&mut raw, CHANNEL_MAX)?;
    raw.frame(CHANNEL_MAX + 1, begin())?;
    assert_eq!(close_condition(&mut raw)?, "amqp:connection:framing-error");
    Ok(())
}

/// 2.7.1 max-frame-size, channel-max: less than 512 bytes cannot be asked for.
fn frames_stay_within_what_the_client_takes(s: &Scenario) -> Outcome {
    let mut raw = authenticated(s)?;
    raw.write(&AMQP_HEADER)?;
    let narrow = Open { max_frame_size: 64, channel_max: 0, ..open() };
    raw.frame(0, Performative::Open(Box::new(narrow)))?;
    raw.expect_header(AMQP_HEADER)?;
    raw.frame(9, begin())?;
    let channel = raw.expect("begin", |channel, performative, _| {
        matches!(performative, Performative::Begin(_)).then_some(channel)
    })?;
    assert_eq!(channel, 0);
    raw.frame(9, Performative::End(End::default()))?;
    raw.expect("end", |_, performative, _| matches!(performative, Performative::End(_)).then_some(()))?;
    raw.frame(0, begin())?;
    begun_on(&mut raw, 0)?;
    sending(&mut raw, 0, "s", s.queue())?;
    send(&mut raw, 0, 0, &Outgoing::text("x".repeat(2_000)).encode())?;
    receiving(&mut raw, 1, "r", s.queue(), 1)?;
    let mut frames = 0;
    loop {
        let (more, size) = raw.expect("transfer", |_, performative, payload| match performative {
            Performative::Transfer(transfer) => Some((transfer.more, payload.len())),
            _ => None,
        })?;
        assert!(size < MIN_MAX_FRAME_SIZE);
        frames += 1;
        if !more {
            break;
        }
    }
    assert!(frames > 4, "{frames} frames");
    complete(&mut raw, 0, 0)
}
