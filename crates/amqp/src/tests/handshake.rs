//! Headers, SASL, open, close.

use std::sync::Arc;

use bytes::Bytes;

use super::support::*;
use crate::{
    ClientSasl, CloseReason, Config, Connection, Event, SaslCode, Time,
    codec::{self, Frame},
    types::{Error, Performative, Role, SaslFrame, SaslInit, Symbol},
};

fn init(mechanism: &str) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    let frame = SaslFrame::Init(SaslInit {
        mechanism: Symbol::new(mechanism),
        initial_response: Some(Bytes::from_static(b"anonymous")),
        hostname: Some("ns.example".into()),
    });
    codec::encode_sasl(&mut out, &frame);
    out.to_vec()
}

#[test]
fn sasl_then_open() {
    let mut server = Server::new(config());
    server.receive_bytes(&SASL);
    let written = server.written();
    assert_eq!(written[..8], SASL);
    assert!(matches!(&decode(&written)[..], [Frame::Sasl(SaslFrame::Mechanisms(offer))]
        if offer.sasl_server_mechanisms.len() == 3));
    server.receive_bytes(&init("MSSBCBS"));
    assert!(
        matches!(&server.events()[..], [Event::SaslInit { mechanism, .. }] if mechanism.as_str() == "MSSBCBS")
    );
    server.engine.sasl_outcome(SaslCode::Ok);
    let mut outcome = bytes::BytesMut::from(&SASL[..]);
    outcome.extend_from_slice(&server.written());
    assert!(matches!(&decode(&outcome)[..], [Frame::Sasl(SaslFrame::Outcome(outcome))] if outcome.code == 0));
    server.receive(Script::default().header(AMQP).open());
    assert!(matches!(&server.events()[..], [Event::Opened(open)] if &*open.container_id == "peer"));
    server.engine.open(None);
    let written = server.written();
    assert_eq!(written[..8], AMQP);
    assert!(matches!(&decode(&written)[..], [Frame::Amqp { performative: Performative::Open(_), .. }]));
}

#[test]
fn everything_in_one_write_before_any_answer() {
    let mut server = Server::new(config());
    let mut script = Script::default().header(SASL);
    script.0.extend_from_slice(&init("ANONYMOUS"));
    let script = script.header(AMQP).open().begin(1).attach(1, attach(Role::Sender, "s", 1)).transfer(
        1,
        transfer(1, 0),
        b"hello",
    );
    server.receive(script);
    assert!(matches!(&server.events()[..], [Event::SaslInit { .. }]));
    server.engine.sasl_outcome(SaslCode::Ok);
    assert!(matches!(&server.events()[..], [Event::Opened(_)]));
    server.engine.open(None);
    let events = server.events();
    let [Event::AmqpSessionBegun(_), Event::Attach { link, .. }] = &events[..] else { panic!("{events:?}") };
    server.engine.accept(*link, reply());
    assert_eq!(deliveries(&server.events()).len(), 1);
    assert_eq!(names(&server.performatives()), ["open", "begin", "attach"]);
}

#[test]
fn fed_byte_by_byte_it_says_the_same() {
    let script = Script::default()
        .header(AMQP)
        .open()
        .begin(1)
        .attach(1, attach(Role::Sender, "s", 1))
        .transfer(1, transfer(1, 0), b"hello")
        .frame(0, close());
    let mut server = Server::new(config());
    let mut events = Vec::new();
    for byte in &script.0 {
        server.receive_bytes(&[*byte]);
        for event in server.events() {
            match &event {
                Event::Opened(_) => server.engine.open(None),
                Event::Attach { link, .. } => server.engine.accept(*link, reply()),
                _ => {}
            }
            events.push(event);
        }
    }
    assert!(matches!(
        &events[..],
        [
            Event::Opened(_),
            Event::AmqpSessionBegun(_),
            Event::Attach { .. },
            Event::Delivery { .. },
            Event::Closed(CloseReason::Remote(None))
        ]
    ));
    assert_eq!(names(&server.performatives()), ["open", "begin", "attach", "close"]);
}

#[test]
fn without_sasl_layer_opened_comes_first() {
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP).open());
    assert!(matches!(&server.events()[..], [Event::Opened(_)]));
}

#[test]
fn missing_sasl_layer_is_refused_if_required() {
    let mut with_required = config();
    with_required.sasl.required = true;
    let mut server = Server::new(with_required);
    server.receive(Script::default().header(AMQP).open());
    assert!(matches!(&server.events()[..], [Event::Closed(CloseReason::Local(Some(_)))]));
    assert_eq!(server.written()[..], SASL);
}

#[test]
fn other_first_bytes_get_the_supported_header() {
    for first in
        [&b"AMQP\x02\x01\x00\x00"[..], b"AMQP\x00\x00\x09\x01", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"]
    {
        let mut server = Server::new(config());
        server.receive_bytes(first);
        assert_eq!(server.written()[..], SASL, "{first:?}");
        assert!(matches!(&server.events()[..], [Event::Closed(CloseReason::Local(Some(_)))]));
        server.receive_bytes(b"more");
        assert!(server.events().is_empty());
    }
}

#[test]
fn a_mechanism_that_was_not_offered_fails() {
    let mut server = Server::new(config());
    server.receive_bytes(&SASL);
    server.frames();
    server.receive_bytes(&init("EXTERNAL"));
    assert!(matches!(&server.events()[..], [Event::Closed(CloseReason::SaslFailed)]));
    let mut written = bytes::BytesMut::from(&SASL[..]);
    written.extend_from_slice(&server.written());
    assert!(matches!(&decode(&written)[..], [Frame::Sasl(SaslFrame::Outcome(outcome))] if outcome.code == 1));
}

#[test]
fn failed_outcome_ends_the_connection() {
    let mut server = Server::new(config());
    server.receive_bytes(&SASL);
    server.frames();
    server.receive_bytes(&init("PLAIN"));
    server.events();
    server.engine.sasl_outcome(SaslCode::Auth);
    assert!(matches!(&server.events()[..], [Event::Closed(CloseReason::SaslFailed)]));
    let mut written = bytes::BytesMut::from(&SASL[..]);
    written.extend_from_slice(&server.written());
    assert!(matches!(&decode(&written)[..], [Frame::Sasl(SaslFrame::Outcome(outcome))] if outcome.code == 1));
}

#[test]
fn challenge_and_response() {
    let mut server = Server::new(config());
    server.receive_bytes(&SASL);
    server.receive_bytes(&init("PLAIN"));
    server.events();
    server.engine.sasl_challenge(Bytes::from_static(b"who?"));
    let mut response = bytes::BytesMut::new();
    codec::encode_sasl(&mut response, &SaslFrame::Response(Bytes::from_static(b"me")));
    server.receive_bytes(&response);
    assert_eq!(server.events(), [Event::SaslResponse(Bytes::from_static(b"me"))]);
}

#[test]
fn close_is_answered_and_nothing_follows() {
    let mut server = Server::begun(config());
    server.receive(Script::default().frame(0, close()).frame(0, end()));
    assert_eq!(names(&server.performatives()), ["close"]);
    assert_eq!(server.events(), [Event::Closed(CloseReason::Remote(None))]);
    server.engine.transport_closed(server.now);
    assert!(server.events().is_empty());
}

#[test]
fn own_close_waits_for_the_peer() {
    let mut server = Server::begun(config());
    let error = Error::new("amqp:connection:forced", "shutting down");
    server.engine.close(Some(error.clone()));
    assert_eq!(names(&server.performatives()), ["close"]);
    server.receive(Script::default().begin(1));
    assert!(server.events().is_empty());
    assert!(server.performatives().is_empty());
    server.receive(Script::default().frame(0, close()));
    assert_eq!(server.events(), [Event::Closed(CloseReason::Local(Some(error)))]);
    assert!(server.performatives().is_empty());
}

#[test]
fn refusing_to_open_sends_open_and_close() {
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP).open());
    server.engine.close(Some(Error::new("amqp:not-found", "no such host")));
    let performatives = server.performatives();
    assert_eq!(names(&performatives), ["open", "close"]);
    assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:not-found"));
}

#[test]
fn a_lost_transport_is_reported_once_with_its_pending_links() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.engine.transport_closed(server.now);
    server.engine.transport_closed(server.now);
    assert_eq!(server.events(), [Event::AttachCancelled(link), Event::Closed(CloseReason::Lost)]);
}

#[test]
fn client_with_sasl_opens_by_itself() {
    let sasl = ClientSasl { mechanism: Symbol::new("ANONYMOUS"), initial_response: Some(Bytes::new()) };
    let mut client = Connection::client(Arc::new(Config::default()), Some(sasl), Time(0));
    let mut server = Server::new(config());
    // Begin is asked for before anything is open: it waits.
    client.begin().unwrap();
    let mut seen = Vec::new();
    for _ in 0..6 {
        let to_server = written(&mut client);
        server.receive_bytes(&to_server);
        for event in server.events() {
            match event {
                Event::SaslInit { .. } => server.engine.sasl_outcome(SaslCode::Ok),
                Event::Opened(_) => server.engine.open(None),
                other => seen.push(other),
            }
        }
        let to_client = server.written();
        client.receive_buffer().extend_from_slice(&to_client);
        client.process(Time(0));
    }
    assert!(matches!(&seen[..], [Event::AmqpSessionBegun(_)]));
    let events: Vec<Event> = std::iter::from_fn(|| client.poll_event()).collect();
    assert!(matches!(&events[..], [Event::SaslOutcome(0), Event::Opened(_), Event::AmqpSessionBegun(_)]));
}

#[test]
fn client_gives_up_if_its_mechanism_is_not_offered() {
    let sasl = ClientSasl { mechanism: Symbol::new("EXTERNAL"), initial_response: None };
    let mut client = Connection::client(Arc::new(Config::default()), Some(sasl), Time(0));
    let mut server = Server::new(config());
    server.receive_bytes(&written(&mut client));
    client.receive_buffer().extend_from_slice(&server.written());
    client.process(Time(0));
    assert_eq!(client.poll_event(), Some(Event::Closed(CloseReason::SaslFailed)));
}
