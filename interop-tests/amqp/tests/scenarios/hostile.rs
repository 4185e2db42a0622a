//! Peers that mean harm, in every layer: HTTP, TLS, WebSocket, SASL, AMQP, requests. Whoever is
//! sent away is told why in the form of the layer, and everybody else is served.
//! docs/hostile-input.md lists all cases.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::{
    codec,
    types::{
        Array, Attach, Begin, Disposition, Fields, Flow, Map, Performative, Role, SaslFrame, SaslInit,
        Transfer, Value,
    },
};
use lockstep_interop_amqp::{
    AMQP_HEADER, Failed, Outcome, RawConnection, SASL_HEADER, sender, text_message, wait_for_time_to_pass,
    wait_until,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    hostile_http_gets_an_http_answer,
    hostile_tls_gets_an_alert,
    hostile_websocket_frames_are_refused_with_a_code,
    websocket_fragments_and_pings_are_understood,
    hostile_sasl_gets_an_outcome,
    a_conversation_byte_by_byte_is_understood,
    connections_dropped_anywhere_leave_nothing_behind,
    dripping_bytes_do_not_stretch_the_deadline,
    floods_of_links_tokens_and_ranges_hurt_nobody_else,
    management_arguments_of_any_type_are_answered,
    messages_with_odd_values_are_stored_whole_or_refused,
];

fn expect_alive(s: &Scenario) -> Outcome {
    assert!(s.broker().healthy());
    s.connect()?.close()
}

/// What the broker says until it closes.
fn answer_to(s: &Scenario, what: &str, bytes: &[u8]) -> Outcome<Bytes> {
    let mut raw = s.broker().connect_raw()?;
    raw.write(bytes)?;
    raw.read_to_end().map_err(|failed| Failed::new(format!("{what}: {failed}")))
}

fn hostile_http_gets_an_http_answer(s: &Scenario) -> Outcome {
    let head =
        |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    let upgrade = |more: &str| {
        head("GET /$servicebus/websocket/", "")
            .replace("Connection: close\r\n", "Connection: Upgrade, close\r\n")
            .replace("\r\n\r\n", &format!("\r\nUpgrade: websocket\r\n{more}\r\n"))
    };
    let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let cases: [(&str, String, &[&str]); 15] = [
        ("a bare word", "GARBAGE\r\n\r\n".into(), &["400"]),
        ("another version", "GET / HTTP/9.9\r\n\r\n".into(), &["400", "505"]),
        ("a control character", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["400"]),
        ("a head of 64 KiB", head("GET /", &format!("X: {}\r\n", "a".repeat(64 << 10))), &["431"]),
        ("a path of 64 KiB", head(&format!("GET /{}", "a".repeat(64 << 10)), ""), &["414", "431"]),
        ("200 header lines", head("GET /", &"X: a\r\n".repeat(200)), &["431", "400"]),
        ("two lengths", head("POST /", "Content-Length: 1\r\nContent-Length: 2\r\n"), &["400"]),
        ("a length that is none", head("POST /", "Content-Length: -1\r\n"), &["400"]),
        ("another method", head("DELETE /health", ""), &["405"]),
        ("nothing there", head("GET /", ""), &["404"]),
        ("an entity without a token", head("GET /etc/passwd", ""), &["401"]),
        ("a creation without a token", head("PUT /q", "Content-Length: 0\r\n"), &["401"]),
        ("a method that is none of administration", head("POST /q", ""), &["405"]),
        ("WebSocket without a key", upgrade("Sec-WebSocket-Version: 13\r\n"), &["400"]),
        ("WebSocket of another version", upgrade(&format!("Sec-WebSocket-Version: 8\r\n{key}")), &["426"]),
    ];
    for (what, request, statuses) in cases {
        let answer = answer_to(s, what, request.as_bytes())?;
        let line = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or_default();
        assert!(statuses.contains(&status), "{what}: {line:?}");
    }
    expect_alive(s)
}

fn hostile_tls_gets_an_alert(s: &Scenario) -> Outcome {
    const ALERT: u8 = 0x15;
    // A record of 512 bytes, as a client hello that is none.
    let mut noise = vec![0x16, 3, 1, 2, 0];
    noise.extend((0..512_u32).map(|number| (number * 7 % 251) as u8));
    let cases: [(&str, &[u8]); 4] = [
        ("not a hello", b"\x16\x03\x01\x00\x05hello"),
        ("noise", &noise),
        ("a record of 64 KiB", b"\x16\x03\x01\xff\xff\x01\x00\x00"),
        ("a version that is none", b"\x16\x09\x09\x00\x05\x01\x00\x00\x01\x00"),
    ];
    for (what, bytes) in cases {
        let answer = answer_to(s, what, bytes)?;
        assert_eq!(answer.first(), Some(&ALERT), "{what}: {answer:?}");
    }
    expect_alive(s)
}

/// Opcodes (RFC 6455, 5.2), without and with the bit of the last fragment.
const CONTINUATION: u8 = 0x00;
const BINARY: u8 = 0x02;
const FINAL: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A masked frame of at most 125 bytes.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first, 0x80 | payload.len() as u8];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A WebSocket whose upgrade is answered.
fn websocket(s: &Scenario) -> Outcome<RawConnection> {
    let mut raw = s.broker().connect_raw()?;
    raw.write(
        b"GET /$servicebus/websocket/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
          Sec-WebSocket-Protocol: AMQPWSB10\r\n\r\n",
    )?;
    let head = raw.read_until(b"\r\n\r\n")?;
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
    Ok(raw)
}

/// The next frame of the broker: its first byte and its payload of at most 64 KiB.
fn websocket_frame(raw: &mut RawConnection) -> Outcome<(u8, Bytes)> {
    let head = raw.read_exact(2)?;
    let size = match head[1] {
        126 => u16::from_be_bytes([raw.read_exact(1)?[0], raw.read_exact(1)?[0]]).into(),
        size => usize::from(size),
    };
    Ok((head[0], raw.read_exact(size)?))
}

fn hostile_websocket_frames_are_refused_with_a_code(s: &Scenario) -> Outcome {
    const PROTOCOL_ERROR: u16 = 1002;
    const UNSUPPORTED: u16 = 1003;
    const TOO_LARGE: u16 = 1009;
    let huge = b"\x82\xff\x00\x00\x00\x7f\xff\xff\xff\xff\0\0\0\0A".to_vec();
    let cases: [(&str, Vec<u8>, u16); 6] = [
        ("text", masked(FINAL | 0x01, b"AMQP"), UNSUPPORTED),
        ("not masked", b"\x82\x08AMQP\x03\x01\x00\x00".to_vec(), PROTOCOL_ERROR),
        ("reserved bits", masked(FINAL | 0x70 | BINARY, b"A"), PROTOCOL_ERROR),
        ("an unknown opcode", masked(FINAL | 0x0b, b"A"), PROTOCOL_ERROR),
        ("a continuation of nothing", masked(FINAL | CONTINUATION, b"A"), PROTOCOL_ERROR),
        ("half a terabyte", huge, TOO_LARGE),
    ];
    for (what, bytes, code) in cases {
        let mut raw = websocket(s)?;
        raw.write(&bytes)?;
        let (first, payload) = websocket_frame(&mut raw)?;
        assert_eq!((first, payload.get(..2)), (CLOSE, Some(&code.to_be_bytes()[..])), "{what}: {payload:?}");
        raw.finish()?;
        assert!(raw.read_to_end()?.is_empty(), "{what}");
    }
    expect_alive(s)
}

fn websocket_fragments_and_pings_are_understood(s: &Scenario) -> Outcome {
    let mut raw = websocket(s)?;
    // The header in eight fragments, with a ping between each.
    let mut flood = Vec::new();
    for (index, byte) in SASL_HEADER.iter().enumerate() {
        let opcode = if index == 0 { BINARY } else { CONTINUATION };
        let last = if index == 7 { FINAL } else { 0 };
        flood.extend(masked(opcode | last, &[*byte]));
        flood.extend(masked(PING, b"?"));
    }
    raw.write(&flood)?;
    let mut pongs = 0;
    let mut amqp = BytesMut::new();
    // Pongs to pings that follow each other closely may be left out but for the last.
    while pongs == 0 || amqp.len() < 8 {
        match websocket_frame(&mut raw)? {
            (PONG, payload) => {
                assert_eq!(payload, b"?"[..]);
                pongs += 1;
            }
            (_, payload) => amqp.extend_from_slice(&payload),
        }
    }
    assert_eq!(amqp[..8], SASL_HEADER);
    // Pings without end are answered or not, but everybody else is served.
    let pings = masked(PING, &[b'p'; 125]).repeat(5_000);
    raw.write(&pings)?;
    expect_alive(s)?;
    // An empty frame is no mistake; bytes that are no SASL frame end it with an outcome.
    raw.write(&masked(FINAL | BINARY, b""))?;
    raw.write(&masked(FINAL | BINARY, &[0; 8]))?;
    loop {
        if websocket_frame(&mut raw)?.0 == CLOSE {
            break;
        }
    }
    expect_alive(s)
}

/// Header, init, and what comes of it: the code of the outcome.
fn outcome_of(raw: &mut RawConnection, what: &str) -> Outcome<u8> {
    raw.expect_header(SASL_HEADER)?;
    loop {
        match raw.next_frame(lockstep_interop_amqp::ANSWER)? {
            Some(codec::Frame::Sasl(SaslFrame::Outcome(outcome))) => return Ok(outcome.code),
            Some(_) => {}
            None => return Err(Failed::new(format!("{what}: no outcome"))),
        }
    }
}

fn sasl_frame(frame: &SaslFrame) -> BytesMut {
    let mut out = BytesMut::new();
    codec::encode_sasl(&mut out, frame);
    out
}

fn hostile_sasl_gets_an_outcome(s: &Scenario) -> Outcome {
    const AUTH: u8 = 1;
    let init = |mechanism: &str, response: &[u8]| {
        sasl_frame(&SaslFrame::Init(SaslInit {
            mechanism: mechanism.into(),
            initial_response: Some(Bytes::copy_from_slice(response)),
            hostname: None,
        }))
    };
    let mut huge = BytesMut::new();
    huge.put_slice(&[0, 0x10, 0, 0, 2, 1, 0, 0]);
    let mut open = BytesMut::new();
    codec::encode_heartbeat(&mut open);
    let cases = [
        ("garbage", BytesMut::from(&b"garbage garbage"[..])),
        ("a frame of a megabyte", huge),
        ("an AMQP frame", open),
        ("a response to nothing", sasl_frame(&SaslFrame::Response(Bytes::from_static(b"x")))),
        ("a challenge by the client", sasl_frame(&SaslFrame::Challenge(Bytes::from_static(b"x")))),
        ("an unknown mechanism", init("SCRAM-SHA-1", b"")),
        ("PLAIN without NUL", init("PLAIN", b"root")),
        ("PLAIN that is no UTF-8", init("PLAIN", b"\0root\0\xff\xfe")),
        ("PLAIN with four parts", init("PLAIN", b"\0root\0a\0b")),
        ("PLAIN of 6 KB", init("PLAIN", &[b"\0root\0".as_slice(), &[b'k'; 6_000]].concat())),
        ("PLAIN with a wrong key", init("PLAIN", b"\0root\0wrong")),
    ];
    for (what, bytes) in cases {
        let mut raw = s.broker().connect_raw()?;
        raw.write(&SASL_HEADER)?;
        raw.write(&bytes)?;
        assert_eq!(outcome_of(&mut raw, what)?, AUTH, "{what}");
        raw.read_to_end()?;
    }
    expect_alive(s)
}

/// Everything that a client says from its first byte to a message and close.
fn conversation(s: &Scenario, queue: &str) -> BytesMut {
    let mut out = BytesMut::from(&SASL_HEADER[..]);
    let key = s.broker().home().key("root");
    let init = SaslInit {
        mechanism: "PLAIN".into(),
        initial_response: Some(Bytes::from(format!("\0root\0{key}"))),
        hostname: None,
    };
    codec::encode_sasl(&mut out, &SaslFrame::Init(init));
    out.extend_from_slice(&AMQP_HEADER);
    let open = lockstep_amqp::types::Open {
        container_id: "hostile".into(),
        hostname: Some(lockstep_interop_amqp::HOST.into()),
        max_frame_size: 65_536,
        channel_max: 10,
        idle_time_out: None,
        outgoing_locales: Vec::new(),
        incoming_locales: Vec::new(),
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    };
    codec::encode_frame(&mut out, 0, &Performative::Open(Box::new(open)));
    let begin = Begin {
        remote_channel: None,
        next_outgoing_id: 0,
        incoming_window: 100,
        outgoing_window: 100,
        handle_max: 10,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    };
    codec::encode_frame(&mut out, 0, &Performative::Begin(Box::new(begin)));
    let attach = Attach { initial_delivery_count: Some(0), ..sender("s", queue) };
    codec::encode_frame(&mut out, 0, &Performative::Attach(Box::new(attach)));
    let transfer = Transfer {
        handle: 0,
        delivery_id: Some(0),
        delivery_tag: Some(Bytes::from_static(b"t")),
        message_format: Some(0),
        ..Transfer::default()
    };
    codec::encode_transfer(&mut out, 0, &transfer, &[&text_message("byte by byte", None)]);
    out
}

fn a_conversation_byte_by_byte_is_understood(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut raw = s.broker().connect_raw()?;
    for byte in conversation(s, queue) {
        raw.write(&[byte])?;
    }
    assert_eq!(outcome_of(&mut raw, "byte by byte")?, 0);
    raw.expect_header(AMQP_HEADER)?;
    raw.expect("accepted", |_, performative, _| {
        matches!(performative, Performative::Disposition(disposition) if disposition.first == 0).then_some(())
    })?;
    let mut client = s.connect()?;
    let link = client.receiver(queue, 1)?;
    assert_eq!(client.receive(link)?.text(), "byte by byte");
    client.close()
}

fn connections_dropped_anywhere_leave_nothing_behind(s: &Scenario) -> Outcome {
    let broker = s.own_broker()?;
    broker.connect()?.close()?;
    let before = broker.open_files()?;
    let conversation = conversation(s, s.queue());
    // Half-closed and closed behind every seventh byte of it.
    for end in (0..conversation.len()).step_by(7) {
        let mut raw = broker.connect_raw()?;
        raw.write(&conversation[..end])?;
        if end % 2 == 0 {
            raw.finish()?;
            raw.read_to_end()?;
        }
    }
    wait_until("all of them to be let go", Duration::from_secs(15), || {
        broker.open_files().ok().filter(|&now| now <= before)
    })?;
    assert!(broker.healthy());
    broker.connect()?.close()
}

fn dripping_bytes_do_not_stretch_the_deadline(s: &Scenario) -> Outcome {
    // In each phase, then a byte now and then of something that takes for ever.
    let sasl = SASL_HEADER;
    let amqp = AMQP_HEADER;
    let mut open = amqp.to_vec();
    open.extend_from_slice(&[0, 1, 0, 0, 2, 0, 0, 0]);
    let mut init = sasl.to_vec();
    init.extend_from_slice(&[0, 0, 0x10, 0, 2, 1, 0, 0]);
    let phases: [(&str, &[u8]); 4] =
        [("header", b"A"), ("SASL", &init), ("open", &open), ("TLS", b"\x16\x03\x01\x02\x00\x01")];
    let mut connections = Vec::new();
    for (what, beginning) in phases {
        let mut raw = s.broker().connect_raw()?;
        raw.write(beginning)?;
        connections.push((what, raw));
    }
    // The deadline is ten seconds; the last byte comes long behind it.
    let drip = b"MQP\x03\x01\x00\x00\x00\x00";
    for index in 0..24 {
        wait_for_time_to_pass(Duration::from_millis(500));
        for (what, raw) in &mut connections {
            let byte = if *what == "header" { drip.get(index / 8).copied() } else { Some(1) };
            if let Some(byte) = byte {
                raw.write(&[byte])?;
            }
        }
    }
    for (what, mut raw) in connections {
        let said = raw.read_to_end().map_err(|failed| Failed::new(format!("{what}: {failed}")))?;
        assert!(what == "TLS" || !said.is_empty(), "{what} was let go without a word");
    }
    expect_alive(s)
}

fn floods_of_links_tokens_and_ranges_hurt_nobody_else(s: &Scenario) -> Outcome {
    const LINKS: u32 = 3_000;
    let queue = s.queue();
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    let mut flood = BytesMut::new();
    // Attaches that are refused, attaches that are granted, and all of them gone again.
    for handle in 0..LINKS {
        let address = if handle % 2 == 0 { queue } else { "no such queue" };
        let name = format!("l{handle}");
        let attach = Attach { handle, initial_delivery_count: Some(0), ..sender(&name, address) };
        codec::encode_frame(&mut flood, 0, &Performative::Attach(Box::new(attach)));
        // A range over everything, of deliveries that are not there, in both directions.
        let range = |role| Disposition {
            role,
            first: 0,
            last: Some(u32::MAX - 1),
            settled: true,
            state: None,
            batchable: false,
        };
        codec::encode_frame(&mut flood, 0, &Performative::Disposition(range(Role::Receiver)));
        codec::encode_frame(&mut flood, 0, &Performative::Disposition(range(Role::Sender)));
        // A flow with all the credit and windows that there are.
        let flow = Flow {
            next_incoming_id: Some(handle),
            incoming_window: u32::MAX,
            next_outgoing_id: u32::MAX - handle,
            outgoing_window: u32::MAX,
            echo: true,
            ..Flow::default()
        };
        codec::encode_frame(&mut flood, 0, &Performative::Flow(flow));
    }
    raw.write_slowly(&flood)?;
    let mut attached = 0;
    let mut refused = 0;
    while attached < LINKS || refused < LINKS / 2 {
        raw.expect("attach or detach", |_, performative, _| match performative {
            Performative::Attach(_) => {
                attached += 1;
                Some(())
            }
            Performative::Detach(detach) => {
                assert_eq!(
                    detach.error.as_ref().map(|error| error.condition.as_str()),
                    Some("amqp:not-found")
                );
                refused += 1;
                Some(())
            }
            _ => None,
        })?;
    }
    assert_eq!((attached, refused), (LINKS, LINKS / 2));
    // Tokens that are none, on a connection of their own.
    let mut client = s.connect()?;
    for index in 0..500 {
        let response = client.put_token(&format!("sb://x/{index}"), &"SharedAccessSignature ".repeat(300))?;
        assert_eq!(response.status, 401, "{response:?}");
    }
    client.close()?;
    expect_alive(s)
}

/// One value of every kind, and the extremes of those that have them.
fn odd_values() -> Vec<Value> {
    let mut deep = Value::Null;
    for _ in 0..20 {
        deep = Value::List(vec![deep]);
    }
    vec![
        Value::Null,
        Value::Bool(true),
        Value::Ubyte(u8::MAX),
        Value::Ushort(u16::MAX),
        Value::Uint(u32::MAX),
        Value::Ulong(u64::MAX),
        Value::Byte(i8::MIN),
        Value::Short(i16::MIN),
        Value::Int(i32::MIN),
        Value::Long(i64::MIN),
        Value::Long(i64::MAX),
        Value::Float(f32::NAN.to_bits()),
        Value::Double(f64::NAN.to_bits()),
        Value::Double(f64::INFINITY.to_bits()),
        Value::Decimal128([0xff; 16]),
        Value::Char(char::MAX),
        Value::Timestamp(i64::MIN),
        Value::Timestamp(i64::MAX),
        Value::Uuid([0xff; 16]),
        Value::Binary(Bytes::from_static(b"\xff\xfe")),
        Value::Binary(Bytes::new()),
        Value::string(""),
        Value::string("\u{0}\u{feff}\u{10ffff}"),
        Value::string(&"x".repeat(20_000)),
        Value::symbol("symbol"),
        Value::List(Vec::new()),
        Value::Map(vec![(Value::Null, Value::Null), (Value::Null, Value::Null)]),
        Value::Array(Box::new(Array { constructor: 0x98, elements: Vec::new() })),
        Value::Array(Box::new(Array { constructor: 0x40, elements: vec![Value::Null; 4_000] })),
        deep,
    ]
}

fn management_arguments_of_any_type_are_answered(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let good = |key: &str| match key {
        "lock-tokens" => {
            Value::Array(Box::new(Array { constructor: 0x98, elements: vec![Value::Uuid([1; 16])] }))
        }
        "last-updated-time" => Value::Timestamp(0),
        "session-state" => Value::Null,
        "session-id" | "disposition-status" => Value::string("completed"),
        _ => Value::Int(1),
    };
    let operations: [(&str, &[&str]); 7] = [
        ("renew-lock", &["lock-tokens"]),
        ("renew-session-lock", &["session-id"]),
        ("get-session-state", &["session-id"]),
        ("set-session-state", &["session-id", "session-state"]),
        ("get-message-sessions", &["last-updated-time", "skip", "top"]),
        ("peek-message", &["from-sequence-number", "message-count"]),
        ("update-disposition", &["disposition-status", "lock-tokens"]),
    ];
    for (operation, keys) in operations {
        for odd_key in keys {
            for odd in odd_values() {
                let body: Map = keys
                    .iter()
                    .map(|key| {
                        let value = if key == odd_key { odd.clone() } else { good(key) };
                        (Value::string(key), value)
                    })
                    .collect();
                let response = client.manage(queue, operation, body)?;
                let known = matches!(response.status, 200 | 204 | 400 | 404 | 410 | 501);
                assert!(known, "{operation} {odd_key}={odd:?}: {response:?}");
                assert!(!response.description.is_empty(), "{operation} {odd_key}={odd:?}");
            }
        }
    }
    client.close()?;
    expect_alive(s)
}

/// A message with this section before a data section.
fn with_section(section: &[u8]) -> Bytes {
    let mut message = BytesMut::from(section);
    message.extend_from_slice(&[0x00, 0x53, 0x75, 0xa0, 1, b'd']);
    message.freeze()
}

fn messages_with_odd_values_are_stored_whole_or_refused(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    // Invalid UTF-8 where the broker has to read a text.
    let refused: [(&str, &[u8]); 6] = [
        ("message-id", &[0x00, 0x53, 0x73, 0xc0, 5, 1, 0xa1, 2, 0xff, 0xfe]),
        ("a list in the message-id", &[0x00, 0x53, 0x73, 0xc0, 2, 1, 0x45]),
        ("a count that lies", &[0x00, 0x53, 0x74, 0xc1, 2, 200, 0x40]),
        ("an odd map", &[0x00, 0x53, 0x74, 0xc1, 2, 1, 0x40]),
        ("a size of 4 GiB", &[0x00, 0x53, 0x74, 0xd1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2]),
        ("an unknown section", &[0x00, 0x53, 0x7f, 0x45]),
    ];
    for (what, section) in refused {
        let state = client.try_send(link, with_section(section))?;
        let rejected = matches!(
            &state,
            lockstep_amqp::types::DeliveryState::Outcome(lockstep_amqp::types::Outcome::Rejected(Some(_)))
        );
        assert!(rejected, "{what}: {state:?}");
    }
    // Values that the broker has no business with come out as they went in.
    let mut section = BytesMut::from(&[0x00, 0x53, 0x74][..]);
    let properties: Map = odd_values()
        .into_iter()
        .enumerate()
        .map(|(index, value)| (Value::string(&index.to_string()), value))
        .collect();
    codec::encode_value(&mut section, &Value::Map(properties));
    client.send(link, with_section(&section))?;
    let receiver = client.receiver(queue, 1)?;
    let received = client.receive(receiver)?;
    // As this client reads them: of a key that stands twice it takes the last value.
    let Value::Map(properties) = codec::decode_value(&mut section.freeze().slice(3..))? else {
        panic!("a map was encoded")
    };
    for (key, value) in properties {
        let key = key.as_text().unwrap_or_default().to_owned();
        assert_eq!(received.message.property(&key), Some(&value), "{key}");
    }
    client.complete(&received)?;
    // An attach whose properties hold them all is granted, and the filter that is none refused.
    let properties = Fields(vec![("odd".into(), Value::List(odd_values()))]);
    let attach = Attach { properties: Some(properties), ..sender("odd", queue) };
    client.attach(attach)?;
    client.close()
}
