//! Bytes that no client sends. The broker says what is wrong where there is a frame to say it in,
//! ends what has to end, and goes on with everybody else.

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::{
    codec,
    types::{Flow, Performative, Transfer},
};
use lockstep_interop_amqp::{AMQP_HEADER, Failed, Outcome, RawConnection, SASL_HEADER, sender, text_message};

use crate::suite::{Scenario, scenarios};

scenarios![
    a_wrong_first_bytes_connection_leaves_the_broker_alive,
    bad_frames_before_open_end_the_connection_and_nothing_else,
    bad_frames_after_open_are_answered_with_close,
    mistakes_on_an_amqp_session_or_link_end_only_that,
    a_connection_that_says_nothing_is_let_go,
];

/// A begin: null and three small numbers.
const BEGIN: [u8; 13] = [0x00, 0x53, 0x11, 0xc0, 8, 4, 0x40, 0x52, 1, 0x52, 1, 0x52, 1];

/// Everybody else is served.
fn expect_alive(s: &Scenario) -> Outcome {
    assert!(s.broker().healthy());
    s.connect()?.close()
}

fn in_case<T>(what: &str, outcome: Outcome<T>) -> Outcome<T> {
    outcome.map_err(|failed| Failed::new(format!("{what}: {failed}")))
}

fn a_wrong_first_bytes_connection_leaves_the_broker_alive(s: &Scenario) -> Outcome {
    let long = vec![b'x'; 1 << 20];
    // Protocols of AMQP's family are told what is served instead (2.2).
    for header in [
        *b"AMQP\x00\x00\x09\x01",
        *b"AMQP\x01\x01\x00\x09",
        *b"AMQP\x00\x02\x00\x00",
        *b"AMQP\x09\x01\x00\x00",
    ] {
        let mut raw = s.broker().connect_raw()?;
        raw.write(&header)?;
        let answer = in_case(&format!("{header:?}"), raw.read_to_end())?;
        assert!(answer[..] == SASL_HEADER || answer[..] == AMQP_HEADER, "{header:?}: {answer:?}");
    }
    let garbage: [(&str, &[u8]); 6] = [
        ("text", b"hello, world\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("zeros", &[0; 64]),
        ("no TLS", b"\x16\x03\x01\x00\x05hello"),
        ("a megabyte of nothing", &long),
        ("half a header", b"AMQP\x00"),
    ];
    for (what, bytes) in garbage {
        let mut raw = s.broker().connect_raw()?;
        raw.write(bytes)?;
        // It may already have been thrown out.
        let _ = raw.finish();
        let answer = in_case(what, raw.read_to_end())?;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{what}: {answer:?}");
    }
    expect_alive(s)
}

/// A frame with a body, and a header to be spoilt.
fn frame(data_offset: u8, kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u32(u32::try_from(body.len() + 8).unwrap_or(u32::MAX));
    out.put_u8(data_offset);
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_slice(body);
    out.to_vec()
}

/// Lists in lists.
fn nested(levels: usize) -> Vec<u8> {
    let mut value = vec![0x45];
    for _ in 0..levels {
        let mut outer = BytesMut::new();
        outer.put_u8(0xd0);
        outer.put_u32(u32::try_from(value.len() + 4).unwrap_or(u32::MAX));
        outer.put_u32(1);
        outer.put_slice(&value);
        value = outer.to_vec();
    }
    value
}

/// A performative whose only field is nested beyond all reason.
fn nested_performative(code: u8) -> Vec<u8> {
    let fields = nested(3_000);
    let mut body = BytesMut::new();
    body.put_slice(&[0x00, 0x53, code, 0xd0]);
    body.put_u32(u32::try_from(fields.len() + 4).unwrap_or(u32::MAX));
    body.put_u32(1);
    body.put_slice(&fields);
    body.to_vec()
}

/// Frames that are none, in either layer.
fn spoilt_headers(kind: u8) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("size 0", vec![0; 8]),
        ("size 4", vec![0, 0, 0, 4, 2, kind, 0, 0]),
        ("size 6", vec![0, 0, 0, 6, 2, kind, 0, 0]),
        ("size 2 GiB", vec![0x7f, 0xff, 0xff, 0xff, 2, kind, 0, 0]),
        ("data offset 1", frame(1, kind, 0, &[0x00, 0x53, 0x10, 0x45])),
        ("data offset behind the end", frame(9, kind, 0, &[0x00, 0x53, 0x10, 0x45])),
        ("type 7", frame(2, 7, 0, &[0x00, 0x53, 0x10, 0x45])),
        ("the other layer's type", frame(2, 1 - kind, 0, &[0x00, 0x53, 0x41, 0x45])),
    ]
}

fn bad_frames_before_open_end_the_connection_and_nothing_else(s: &Scenario) -> Outcome {
    let mut sasl = spoilt_headers(1);
    sasl.push(("an unknown SASL frame", frame(2, 1, 0, &[0x00, 0x53, 0x4f, 0x45])));
    sasl.push(("no described value", frame(2, 1, 0, &[0x40])));
    sasl.push(("an empty sasl-init", frame(2, 1, 0, &[0x00, 0x53, 0x41, 0x45])));
    sasl.push(("a nested sasl-init", frame(2, 1, 0, &nested_performative(0x41))));
    sasl.push(("a cut-off list", frame(2, 1, 0, &[0x00, 0x53, 0x41, 0xc0, 0xff, 3, 0xa3])));
    for (what, bytes) in sasl {
        let mut raw = s.broker().connect_raw()?;
        raw.write(&SASL_HEADER)?;
        raw.write(&bytes)?;
        in_case(what, raw.read_to_end())?;
    }
    let mut amqp = spoilt_headers(0);
    amqp.push(("a performative before open", frame(2, 0, 0, &[0x00, 0x53, 0x17, 0x45])));
    amqp.push(("an empty open", frame(2, 0, 0, &[0x00, 0x53, 0x10, 0x45])));
    amqp.push(("a nested open", frame(2, 0, 0, &nested_performative(0x10))));
    for (what, bytes) in amqp {
        let mut raw = s.broker().connect_raw()?;
        raw.write(&AMQP_HEADER)?;
        raw.write(&bytes)?;
        let error = in_case(what, raw.expect_end())?;
        assert!(error.is_some(), "{what}: no close with an error");
    }
    expect_alive(s)
}

fn bad_frames_after_open_are_answered_with_close(s: &Scenario) -> Outcome {
    const FRAMING: &[&str] = &["amqp:connection:framing-error"];
    const DECODING: &[&str] = &["amqp:decode-error", "amqp:invalid-field"];
    const UNKNOWN: &[&str] = &["amqp:decode-error", "amqp:not-implemented"];
    const ORDER: &[&str] = &["amqp:not-allowed", "amqp:illegal-state", "amqp:connection:framing-error"];
    let mut cases: Vec<(&str, Vec<u8>, &[&str])> =
        spoilt_headers(0).into_iter().map(|(what, bytes)| (what, bytes, FRAMING)).collect();
    let end = [0x00, 0x53, 0x17, 0x45];
    cases.extend([
        ("an unknown performative", frame(2, 0, 0, &[0x00, 0x53, 0x60, 0x45]), UNKNOWN),
        (
            "no described value",
            frame(2, 0, 0, &[0xa1, 1, b'x']),
            &["amqp:decode-error", "amqp:not-implemented", "amqp:invalid-field"][..],
        ),
        ("a nested attach", frame(2, 0, 0, &nested_performative(0x12)), DECODING),
        ("an empty attach", frame(2, 0, 0, &[0x00, 0x53, 0x12, 0x45]), DECODING),
        ("a cut-off list", frame(2, 0, 0, &[0x00, 0x53, 0x12, 0xc0, 0xff, 14, 0xa1]), DECODING),
        ("an unknown constructor", frame(2, 0, 0, &[0x00, 0x53, 0x13, 0xc0, 3, 2, 0x40, 0x3f]), DECODING),
        ("a channel without begin", frame(2, 0, 77, &end), ORDER),
        ("a channel beyond all", frame(2, 0, u16::MAX, &BEGIN), ORDER),
        ("begin twice", frame(2, 0, 0, &BEGIN), ORDER),
        ("open twice", frame(2, 0, 0, &[0x00, 0x53, 0x10, 0xc0, 4, 1, 0xa1, 1, b'x']), ORDER),
    ]);
    for (what, bytes, conditions) in cases {
        let mut raw = s.broker().connect_raw()?;
        raw.handshake(s.broker().home())?;
        raw.write(&bytes)?;
        let error = in_case(what, raw.expect_end())?
            .ok_or_else(|| Failed::new(format!("{what}: no close with an error")))?;
        assert!(conditions.contains(&error.condition.as_str()), "{what}: {error:?}");
        assert!(error.description.is_some_and(|text| !text.is_empty()), "{what}");
    }
    expect_alive(s)
}

fn end_condition(raw: &mut RawConnection) -> Outcome<String> {
    raw.expect("end", |_, performative, _| match performative {
        Performative::End(end) => end.error.as_ref().map(|error| error.condition.as_str().to_owned()),
        _ => None,
    })
}

fn mistakes_on_an_amqp_session_or_link_end_only_that(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let transfer = |handle, id, more| Transfer {
        handle,
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::from_static(b"t")),
        message_format: Some(0),
        more,
        ..Transfer::default()
    };
    let message = text_message("m", None);
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    // A handle that no link has, in a transfer, a flow and a detach.
    let handle_9 = Flow { handle: Some(9), delivery_count: Some(0), link_credit: Some(1), ..Flow::default() };
    for channel in 1..4_u16 {
        raw.begin(channel)?;
        match channel {
            1 => raw.transfer(channel, &transfer(9, 0, false), &message)?,
            2 => raw.frame(channel, Performative::Flow(handle_9))?,
            _ => raw.frame(
                channel,
                Performative::Detach(lockstep_amqp::types::Detach { handle: 9, closed: true, error: None }),
            )?,
        }
        assert_eq!(end_condition(&mut raw)?, "amqp:session:unattached-handle", "channel {channel}");
        raw.frame(channel, Performative::End(lockstep_amqp::types::End::default()))?;
    }
    // A delivery within another one ends the link.
    raw.begin(5)?;
    let attach = lockstep_amqp::types::Attach { initial_delivery_count: Some(0), ..sender("s", queue) };
    raw.attach(5, 0, attach.clone())?;
    raw.expect("credit", |_, performative, _| {
        matches!(performative, Performative::Flow(flow) if flow.handle.is_some()).then_some(())
    })?;
    raw.transfer(5, &transfer(0, 0, true), &message[..4])?;
    raw.transfer(5, &transfer(0, 1, false), &message)?;
    let error = raw.expect("detach", |_, performative, _| match performative {
        Performative::Detach(detach) => detach.error.clone(),
        _ => None,
    })?;
    assert!(error.condition.as_str().starts_with("amqp:"), "{error:?}");
    raw.frame(
        5,
        Performative::Detach(lockstep_amqp::types::Detach { handle: 0, closed: true, error: None }),
    )?;
    // The AMQP session goes on, with the same name and handle.
    raw.attach(5, 0, attach)?;
    raw.expect("credit", |_, performative, _| {
        matches!(performative, Performative::Flow(flow) if flow.handle.is_some()).then_some(())
    })?;
    // One write that says open to nothing: a heartbeat is no mistake.
    let mut heartbeat = BytesMut::new();
    codec::encode_heartbeat(&mut heartbeat);
    raw.write(&heartbeat)?;
    raw.transfer(5, &transfer(0, 2, false), &message)?;
    raw.expect("accepted", |_, performative, _| {
        matches!(performative, Performative::Disposition(disposition) if disposition.first == 2).then_some(())
    })?;
    let mut client = s.connect()?;
    let link = client.receiver(queue, 5)?;
    assert_eq!(client.receive(link)?.text(), "m");
    client.nothing_comes(std::time::Duration::from_millis(200))?;
    client.close()
}

fn a_connection_that_says_nothing_is_let_go(s: &Scenario) -> Outcome {
    let beginnings: [(&str, &[u8]); 4] = [
        ("nothing", b""),
        ("half a header", b"AMQ"),
        ("SASL header", &SASL_HEADER),
        ("AMQP header", &AMQP_HEADER),
    ];
    let mut silent = Vec::new();
    for (what, bytes) in beginnings {
        let mut raw = s.broker().connect_raw()?;
        raw.write(bytes)?;
        silent.push((what, raw));
    }
    for (what, mut raw) in silent {
        in_case(what, raw.read_to_end())?;
    }
    Ok(())
}
