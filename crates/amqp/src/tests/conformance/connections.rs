//! Protocol header, frames, open and close (2.2 to 2.4, 2.7.1, 2.7.9).

use std::sync::Arc;

use crate::{
    ClientSasl, CloseReason, Config, Connection, Event, Time,
    codec::{self, FrameKind},
    tests::support::*,
    types::{Begin, Open, Performative, Role, Symbol},
};

/// The smallest max-frame-size, in bytes (2.8.19).
const MIN_MAX_FRAME_SIZE: usize = 512;

fn closed_with(server: &mut Server) -> Option<String> {
    let performatives = server.performatives();
    assert_eq!(names(&performatives).last(), Some(&"close"));
    last_condition(&performatives)
}

/// 2.2
#[test]
fn a_client_writes_its_header_at_once_and_before_any_frame() {
    let sasl = ClientSasl { mechanism: Symbol::new("ANONYMOUS"), initial_response: None };
    let mut client = Connection::client(Arc::new(Config::default()), Some(sasl), Time(0));
    assert_eq!(written(&mut client)[..], SASL);
    let mut client = Connection::client(Arc::new(Config::default()), None, Time(0));
    assert_eq!(written(&mut client)[..8], AMQP);
}

/// 2.2: minor version or revision unlike the served one is another version.
#[test]
fn every_other_version_is_answered_with_the_served_one_and_the_end() {
    for other in [*b"AMQP\x00\x01\x01\x00", *b"AMQP\x00\x01\x00\x01", *b"AMQP\x00\x02\x00\x00"] {
        let mut server = Server::new(config());
        server.receive(Script::default().header(other).open());
        assert_eq!(server.written()[..], SASL, "{other:?}");
        assert!(matches!(&server.events()[..], [Event::Closed(CloseReason::Local(Some(_)))]));
    }
}

/// 2.2: a client that meets another version ends too, and writes nothing more.
#[test]
fn a_client_leaves_a_server_of_another_version() {
    let mut client = Connection::client(Arc::new(Config::default()), None, Time(0));
    written(&mut client);
    client.receive_buffer().extend_from_slice(b"AMQP\x00\x02\x00\x00");
    client.process(Time(0));
    assert!(matches!(client.poll_event(), Some(Event::Closed(CloseReason::Local(Some(_))))));
    assert!(written(&mut client).is_empty());
}

/// 2.3.1, 2.3.2: size, data offset and type of all that is written.
#[test]
fn written_frames_state_their_size_and_have_no_extended_header() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 1)));
    server.engine.send(link, message(&[7; 2_000])).unwrap();
    server.engine.close(None);
    let mut rest = &server.written()[..];
    let mut frames = 0;
    while !rest.is_empty() {
        let size = codec::frame_size(rest, u32::MAX).unwrap().unwrap();
        assert_eq!(rest[4..6], [2, 0]);
        rest = &rest[size..];
        frames += 1;
    }
    assert_eq!(frames, 2);
}

/// 2.4.1: until open is exchanged there is channel 0 only, and frames have 512 bytes at most.
#[test]
fn open_comes_on_channel_0_and_fits_in_the_smallest_frame() {
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP).frame(3, Performative::Open(Box::new(open()))));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"));
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP).open());
    server.engine.open(None);
    let written = server.written();
    assert!(written.len() - 8 <= MIN_MAX_FRAME_SIZE);
    assert_eq!(written[14..16], [0, 0]);
}

/// 2.4.2, 2.4.3: open, close and everything between in one write.
#[test]
fn a_pipelined_open_and_close_are_answered_by_both() {
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP).open().frame(0, close()));
    server.engine.open(None);
    assert_eq!(names(&server.performatives()), ["open", "close"]);
}

/// 2.4.5: an empty frame says no more than that the peer is there, also before open.
#[test]
fn empty_frames_do_nothing() {
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP));
    server.receive_bytes(&[0, 0, 0, 8, 2, 0, 0, 0]);
    server.receive(Script::default().open());
    server.engine.open(None);
    // With an extended header too, and on a channel that means nothing.
    server.receive_bytes(&[0, 0, 0, 12, 3, 0, 0, 9, 1, 2, 3, 4]);
    assert!(matches!(&server.events()[..], [Event::Opened(_)]));
    assert_eq!(names(&server.performatives()), ["open"]);
}

/// 2.4.6: in DISCARDING only close is looked at, even where something else is wrong.
#[test]
fn after_close_everything_but_close_is_discarded() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    server.engine.close(None);
    server.performatives();
    let script = Script::default()
        .transfer(0, transfer(0, 0), b"x")
        .transfer(0, transfer(9, 1), b"x")
        .begin(60_000)
        .flow(77, link_flow(3, 0, 1))
        .frame(0, detach(0))
        .open();
    server.receive(script);
    assert!(server.performatives().is_empty());
    server.events();
    server.receive(Script::default().frame(0, close()));
    assert_eq!(server.events(), [Event::Closed(CloseReason::Local(None))]);
    assert!(server.performatives().is_empty());
}

/// 2.7.1 max-frame-size: both ends take frames of 512 bytes, whatever was said.
#[test]
fn a_peer_that_claims_less_than_512_bytes_gets_frames_of_512() {
    let mut server = Server::new(config());
    let small = Open { max_frame_size: 100, ..open() };
    server.receive(Script::default().header(AMQP).frame(0, Performative::Open(Box::new(small))));
    server.engine.open(None);
    server.receive(Script::default().begin(0));
    server.events();
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.engine.accept(link, reply());
    server.receive(Script::default().flow(0, link_flow(0, 0, 1)));
    server.frames();
    server.engine.send(link, message(&[1; 2_000])).unwrap();
    let written = server.written();
    assert_eq!(codec::frame_size(&written, u32::MAX), Ok(Some(MIN_MAX_FRAME_SIZE)));
}

/// 2.7.1 max-frame-size
#[test]
fn a_frame_of_the_maximum_is_taken_and_one_byte_more_ends_the_connection() {
    let max_frame_size = MIN_MAX_FRAME_SIZE as u32;
    for (excess, taken) in [(0, true), (1, false)] {
        let (mut server, _) = Server::linked(Config { max_frame_size, ..config() }, Role::Sender);
        let mut frame = Script::default().transfer(0, transfer(0, 0), b"").0.to_vec();
        frame.resize(MIN_MAX_FRAME_SIZE + excess, 0);
        frame[..4].copy_from_slice(&(max_frame_size + excess as u32).to_be_bytes());
        server.receive_bytes(&frame);
        assert_eq!(deliveries(&server.events()).len(), usize::from(taken));
        if !taken {
            assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"));
        }
    }
}

/// 2.7.1 channel-max
#[test]
fn no_channel_beyond_the_peers_channel_max_is_used() {
    let mut server = Server::new(config());
    let narrow = Open { channel_max: 0, ..open() };
    server.receive(Script::default().header(AMQP).frame(0, Performative::Open(Box::new(narrow))));
    server.engine.open(None);
    server.receive(Script::default().begin(5));
    assert!(server.engine.begin().is_none());
    let frames = server.frames();
    assert!(frames.iter().all(|frame| matches!(frame, codec::Frame::Amqp { channel: 0, .. })), "{frames:?}");
    // There is no channel to answer a second one on.
    server.receive(Script::default().begin(6));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"));
}

/// 2.7.1, 2.7.2: what is left out has a default.
#[test]
fn absent_fields_of_open_and_begin_take_their_defaults() {
    let decode = |body: &[u8]| {
        let mut frame = (body.len() as u32 + 8).to_be_bytes().to_vec();
        frame.extend_from_slice(&[2, 0, 0, 0]);
        frame.extend_from_slice(body);
        match codec::decode_frame(frame.into(), FrameKind::Amqp).unwrap() {
            codec::Frame::Amqp { performative, .. } => performative,
            other => panic!("{other:?}"),
        }
    };
    let Performative::Open(open) = decode(&[0, 0x53, 0x10, 0xc0, 4, 1, 0xa1, 1, b'x']) else { panic!() };
    assert_eq!((open.max_frame_size, open.channel_max, open.idle_time_out), (u32::MAX, u16::MAX, None));
    let Performative::Begin(begin) = decode(&[0, 0x53, 0x11, 0xc0, 5, 4, 0x40, 0x43, 0x43, 0x43]) else {
        panic!()
    };
    let Begin { remote_channel, handle_max, .. } = *begin;
    assert_eq!((remote_channel, handle_max), (None, u32::MAX));
}
