//! Recorded .NET clients (`../../../dotnet`): our codec understands every frame as it was meant and
//! says the same again, and the engine serves each of their connections to its end. No broker is
//! needed.

#![expect(clippy::unwrap_used, reason = "a test program")]

mod meaning;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    AttachReply, Config, Connection, Event, OutgoingDelivery, SaslCode, SaslPolicy, Time,
    codec::{self, Frame, FrameKind},
    message::{decode_map_section, decode_properties, encode_properties, scan, split_batch},
    types::{DeliveryState, Outcome, Performative, Source, Symbol, Target, TargetTerminus, Value},
};
use serde_json::Value as Json;

/// A frame, or a protocol header.
struct Recorded {
    /// File and line.
    at: String,
    line: Json,
    bytes: Bytes,
}

impl Recorded {
    fn is_header(&self) -> bool {
        self.line.get("header").is_some()
    }

    fn kind(&self) -> FrameKind {
        if self.bytes[5] == 1 { FrameKind::Sasl } else { FrameKind::Amqp }
    }

    fn decode(&self) -> Frame {
        codec::decode_frame(self.bytes.clone(), self.kind()).unwrap_or_else(|e| panic!("{}: {e}", self.at))
    }
}

/// The connections: file name, and all that the client sent.
fn recordings() -> Vec<(String, Vec<Recorded>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dotnet");
    let entries = |directory: &Path| {
        let mut paths: Vec<_> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let mut connections = Vec::new();
    for program in entries(&root).into_iter().filter(|path| path.is_dir()) {
        for path in entries(&program) {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().enumerate().map(|(number, line)| {
                let line: Json = serde_json::from_str(line).unwrap();
                let digits = line["hex"].as_str().unwrap();
                let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
                let bytes = (0..digits.len()).step_by(2).map(byte).collect();
                Recorded { at: format!("{name}:{}", number + 1), line, bytes }
            });
            let lines = lines.collect();
            connections.push((name, lines));
        }
    }
    connections
}

fn frames() -> impl Iterator<Item = Recorded> {
    recordings().into_iter().flat_map(|(_, lines)| lines).filter(|line| !line.is_header())
}

fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    match frame {
        Frame::Amqp { channel, performative: Performative::Transfer(transfer), payload } => {
            codec::encode_transfer(&mut out, *channel, transfer, &[payload]);
        }
        Frame::Amqp { channel, performative, .. } => codec::encode_frame(&mut out, *channel, performative),
        Frame::Heartbeat => codec::encode_heartbeat(&mut out),
        Frame::Sasl(sasl) => codec::encode_sasl(&mut out, sasl),
    }
    out.freeze()
}

#[test]
fn the_recordings_are_all_there() {
    let recordings = recordings();
    assert_eq!(recordings.len(), 40);
    let mut kinds = BTreeMap::new();
    for line in recordings.iter().flat_map(|(_, lines)| lines) {
        let kind = line.line.get("frame").map_or("header", |frame| frame.as_str().unwrap());
        *kinds.entry(kind).or_insert(0) += 1;
    }
    let expected = [
        ("attach", 161),
        ("begin", 111),
        ("close", 37),
        ("detach", 149),
        ("disposition", 110),
        ("empty", 2),
        ("end", 102),
        ("flow", 122),
        ("header", 80),
        ("open", 40),
        ("sasl-init", 40),
        ("transfer", 127),
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_frame_means_what_its_recorder_understood() {
    for frame in frames() {
        let (name, fields, payload) = meaning::of_frame(&frame.bytes);
        assert_eq!(name, frame.line["frame"], "{}", frame.at);
        let recorded = frame.line.get("fields").unwrap_or(&Json::Null);
        assert_eq!(fields, meaning::as_recorded(recorded), "{}", frame.at);
        let recorded = frame.line.get("payload").map(meaning::as_recorded);
        assert_eq!(Json::Array(payload), recorded.unwrap_or_else(|| Json::Array(Vec::new())), "{}", frame.at);
    }
}

#[test]
fn every_frame_decodes_and_encodes_to_the_same_meaning() {
    for frame in frames() {
        let decoded = frame.decode();
        if let Frame::Amqp { channel, .. } = &decoded {
            assert_eq!(frame.line["channel"], *channel, "{}", frame.at);
        }
        let encoded = encode(&decoded);
        assert_eq!(meaning::of_frame(&encoded), meaning::of_frame(&frame.bytes), "{}", frame.at);
        assert_eq!(codec::decode_frame(encoded, frame.kind()).unwrap(), decoded, "{}", frame.at);
    }
}

/// Both encoders pad lists with nulls and take the shortest forms of values. Other frames have
/// fields of which one encoder says the default and the other nothing, which means the same.
#[test]
fn frames_of_one_form_encode_to_the_same_bytes() {
    const OF_ONE_FORM: [&str; 7] = ["begin", "close", "detach", "empty", "end", "open", "sasl-init"];
    for frame in frames() {
        if OF_ONE_FORM.contains(&frame.line["frame"].as_str().unwrap()) {
            assert_eq!(encode(&frame.decode()), frame.bytes, "{}", frame.at);
        }
    }
}

/// The message of a transfer, taken apart and put together again.
#[test]
fn every_message_is_read_and_written_to_the_same_meaning() {
    let mut messages = 0;
    for frame in frames() {
        let Frame::Amqp { performative: Performative::Transfer(transfer), payload, .. } = frame.decode()
        else {
            continue;
        };
        let members = if transfer.message_format == Some(lockstep_amqp::message::BATCH_MESSAGE_FORMAT) {
            split_batch(&payload).unwrap()
        } else {
            vec![payload]
        };
        for message in members {
            assert_eq!(
                meaning::of_message(written_again(&message)),
                meaning::of_message(message),
                "{}",
                frame.at
            );
            messages += 1;
        }
    }
    assert!(messages > 127, "{messages}");
}

fn written_again(message: &Bytes) -> Bytes {
    let sections = scan(message).unwrap();
    assert!(
        sections.header.is_none() && sections.delivery_annotations.is_none() && sections.footer.is_none()
    );
    let mut out = BytesMut::new();
    let map_section = |out: &mut BytesMut, code: u8, range: &Option<std::ops::Range<usize>>| {
        if let Some(range) = range {
            let map = decode_map_section(&message[range.clone()]).unwrap();
            out.extend_from_slice(&[0x00, 0x53, code]);
            codec::encode_value(out, &Value::Map(map));
        }
    };
    map_section(&mut out, 0x72, &sections.message_annotations);
    if let Some(range) = &sections.properties {
        encode_properties(&mut out, &decode_properties(&message[range.clone()]).unwrap());
    }
    map_section(&mut out, 0x74, &sections.application_properties);
    let mut body = message.slice(sections.body.clone());
    while !body.is_empty() {
        codec::encode_value(&mut out, &codec::decode_value(&mut body).unwrap());
    }
    out.freeze()
}

fn accepted() -> DeliveryState {
    DeliveryState::Outcome(Outcome::Accepted)
}

/// Answers as a broker would that has one message for each receiver; counts attaches and
/// deliveries.
fn answer(engine: &mut Connection, counts: &mut [usize; 2]) {
    while let Some(event) = engine.poll_event() {
        match event {
            Event::SaslInit { .. } => engine.sasl_outcome(SaslCode::Ok),
            Event::Opened(_) => engine.open(None),
            Event::Attach { link, .. } => {
                counts[0] += 1;
                let reply = AttachReply {
                    source: Some(Source::default()),
                    target: Some(TargetTerminus::Target(Target::default())),
                    ..AttachReply::default()
                };
                engine.accept(link, reply);
                engine.set_credit_auto(link, 100);
            }
            Event::Delivery { delivery, .. } => {
                counts[1] += 1;
                engine.settle(&[delivery], &accepted(), true);
            }
            Event::Credit { link, drain, .. } => {
                let _ = engine.send(
                    link,
                    OutgoingDelivery {
                        tag: Bytes::from_static(b"0123456789abcdef"),
                        message_format: 0,
                        settled: false,
                        prefix: Bytes::new(),
                        rest: Bytes::from_static(b"\x00\x53\x75\xa0\x01x"),
                    },
                );
                if drain {
                    engine.drained(link);
                }
            }
            Event::Disposed { deliveries, state, .. } => {
                engine.settle(&deliveries, &state.unwrap(), true);
            }
            Event::Detached { link, answered, error, .. } => {
                assert!(!answered && error.is_none(), "the client ends its links itself: {error:?}");
                engine.detach(link, None);
            }
            _ => {}
        }
    }
}

#[test]
fn every_connection_is_served_to_its_end() {
    let mut counts = [0; 2];
    for (name, lines) in recordings() {
        let sasl = SaslPolicy {
            mechanisms: ["MSSBCBS", "PLAIN", "ANONYMOUS"].map(Symbol::from).to_vec(),
            required: true,
        };
        let config = Config { container_id: "server".into(), sasl, ..Config::default() };
        let mut engine = Connection::server(Arc::new(config), Time(0));
        for line in &lines {
            engine.receive_buffer().extend_from_slice(&line.bytes);
            engine.process(Time(0));
            answer(&mut engine, &mut counts);
        }
        let mut out = BytesMut::new();
        loop {
            let piece = engine.transmit();
            let count = piece.len();
            if count == 0 {
                break;
            }
            out.extend_from_slice(piece);
            engine.transmitted(count);
        }
        let mut out = out.freeze();
        while !out.is_empty() {
            if out.starts_with(b"AMQP") {
                let _ = out.split_to(8);
                continue;
            }
            let size = codec::frame_size(&out, u32::MAX).unwrap().unwrap();
            let frame = out.split_to(size);
            let kind = if frame[5] == 1 { FrameKind::Sasl } else { FrameKind::Amqp };
            let error = match codec::decode_frame(frame, kind).unwrap() {
                Frame::Amqp { performative: Performative::Close(close), .. } => close.error,
                Frame::Amqp { performative: Performative::End(end), .. } => end.error,
                Frame::Amqp { performative: Performative::Detach(detach), .. } => detach.error,
                _ => None,
            };
            assert_eq!(error, None, "{name}");
        }
    }
    assert_eq!(counts, [161, 127]);
}
