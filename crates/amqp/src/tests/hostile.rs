//! Peers that break the rules.

use std::{sync::Arc, time::Instant};

use super::support::*;
use crate::{
    AttachReply, CloseReason, Connection, Event, OPEN_DEADLINE_US, SaslCode, Time,
    codec::{self, Frame, FrameKind},
    types::{Performative, Role, SaslFrame, SaslInit, Transfer},
};

fn closed_with(server: &mut Server) -> Option<String> {
    let closed = matches!(server.events().last(), Some(Event::Closed(CloseReason::Local(Some(_)))));
    let performatives = server.performatives();
    assert_eq!(names(&performatives).last(), Some(&"close"));
    assert!(closed);
    last_condition(&performatives)
}

fn ended_with(server: &mut Server) -> Option<String> {
    let ended = matches!(server.events().last(), Some(Event::AmqpSessionEnded { error: Some(_), .. }));
    let performatives = server.performatives();
    assert_eq!(names(&performatives).last(), Some(&"end"));
    assert!(ended);
    last_condition(&performatives)
}

/// Found by fuzzing: open went out ahead, close did not follow.
#[test]
fn a_server_that_never_answers_is_told_that_the_client_gives_up() {
    let mut client = Connection::client(Arc::new(config()), None, Time(0));
    client.on_timeout(Time(OPEN_DEADLINE_US));
    let frames = decode(&written(&mut client));
    let [Frame::Amqp { .. }, Frame::Amqp { performative: Performative::Close(close), .. }] = &frames[..]
    else {
        panic!("open and close: {frames:?}");
    };
    let condition = close.error.as_ref().map(|error| error.condition.as_str());
    assert_eq!(condition, Some("amqp:connection:forced"));
}

/// The code of the sasl-outcome written since.
fn sasl_outcome(server: &mut Server) -> Option<u8> {
    // Behind the header, which has been read before.
    let written = server.written().freeze();
    match codec::decode_frame(written, FrameKind::Sasl) {
        Ok(Frame::Sasl(SaslFrame::Outcome(outcome))) => Some(outcome.code),
        _ => None,
    }
}

/// Header and sasl-init of a client.
fn sasl_conversation() -> bytes::BytesMut {
    let mut bytes = bytes::BytesMut::from(&SASL[..]);
    let init = SaslInit { mechanism: "ANONYMOUS".into(), initial_response: None, hostname: None };
    codec::encode_sasl(&mut bytes, &SaslFrame::Init(init));
    bytes
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend_from_slice(&[2, 0, 0, 0]);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn short_frames_get_a_framing_error() {
    for size in [0, 4, 6, 7] {
        let mut server = Server::begun(config());
        server.receive_bytes(&[0, 0, 0, size, 2, 0, 0, 0]);
        assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"));
    }
}

#[test]
fn short_frames_before_authentication_end_it_with_an_outcome() {
    for size in [0, 4, 6, 7] {
        let mut server = Server::new(config());
        server.receive_bytes(&SASL);
        server.frames();
        server.receive_bytes(&[0, 0, 0, size, 2, 1, 0, 0]);
        assert_eq!(server.events(), [Event::Closed(CloseReason::SaslFailed)]);
        assert_eq!(sasl_outcome(&mut server), Some(SaslCode::Auth as u8));
    }
}

/// Found by fuzzing: these ended without a byte.
#[test]
fn a_peer_that_is_too_slow_is_told_so_in_each_layer() {
    let mut silent = Server::new(config());
    silent.engine.on_timeout(Time(OPEN_DEADLINE_US));
    assert_eq!(silent.written(), SASL[..]);

    let mut in_sasl = Server::new(config());
    in_sasl.receive_bytes(&SASL);
    in_sasl.frames();
    in_sasl.engine.on_timeout(Time(OPEN_DEADLINE_US));
    assert_eq!(in_sasl.events(), [Event::Closed(CloseReason::SaslFailed)]);
    assert_eq!(sasl_outcome(&mut in_sasl), Some(SaslCode::SysTemp as u8));

    let mut authenticated = Server::new(config());
    authenticated.receive_bytes(&sasl_conversation());
    authenticated.engine.sasl_outcome(SaslCode::Ok);
    authenticated.frames();
    authenticated.engine.on_timeout(Time(OPEN_DEADLINE_US));
    let performatives = authenticated.performatives();
    assert_eq!(names(&performatives), ["open", "close"]);
    assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:connection:forced"));

    let mut headers = Server::new(config());
    headers.receive(Script::default().header(AMQP));
    headers.engine.on_timeout(Time(OPEN_DEADLINE_US));
    let performatives = headers.performatives();
    assert_eq!(names(&performatives), ["open", "close"]);
    assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:connection:forced"));
}

#[test]
fn a_bad_frame_instead_of_open_gets_open_and_close() {
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP));
    server.receive_bytes(&[0, 0, 0, 4]);
    assert_eq!(names(&server.performatives()), ["open", "close"]);
}

#[test]
fn data_offset_and_frame_type_are_checked() {
    for header in [[0, 0, 0, 8, 1, 0, 0, 0], [0, 0, 0, 8, 3, 0, 0, 0], [0, 0, 0, 8, 2, 9, 0, 0]] {
        let mut server = Server::begun(config());
        server.receive_bytes(&header);
        assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"), "{header:?}");
    }
}

#[test]
fn a_frame_over_the_maximum_is_refused_by_its_size_field_alone() {
    let mut server = Server::begun(config());
    server.receive_bytes(&[0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0]);
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"));
}

#[test]
fn unknown_performatives_and_garbage_are_decode_errors() {
    for body in
        [&b"\x00\x53\x7f\x45"[..], b"\x00\x53", b"\x43", b"\x00\x53\x12\xc0\xff\xff", b"garbage garbage"]
    {
        let mut server = Server::begun(config());
        server.receive_bytes(&frame(body));
        assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:decode-error"), "{body:?}");
    }
}

#[test]
fn deep_nesting_ends_the_connection_and_nothing_else() {
    let mut server = Server::begun(config());
    let mut body = vec![0, 0x53, 0x12, 0xd0, 0, 0, 0x2a, 0, 0, 0, 0, 14];
    for _ in 0..3_000 {
        body.extend_from_slice(&[0, 0x53, 0x01]);
    }
    body.push(0x40);
    server.receive_bytes(&frame(&body));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:decode-error"));
}

#[test]
fn sasl_frames_after_sasl_are_framing_errors() {
    let mut server = Server::begun(config());
    let mut out = bytes::BytesMut::new();
    crate::codec::encode_sasl(&mut out, &crate::types::SaslFrame::Response(bytes::Bytes::new()));
    server.receive_bytes(&out);
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"));
}

#[test]
fn open_must_come_first_and_once() {
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP).begin(0));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:illegal-state"));
    let mut server = Server::begun(config());
    server.receive(Script::default().open());
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:illegal-state"));
}

#[test]
fn channel_rules() {
    let mut server = Server::begun(config());
    server.receive(Script::default().begin(5_000));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"));
    let mut server = Server::begun(config());
    server.receive(Script::default().attach(3, attach(Role::Sender, "s", 0)));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:not-allowed"));
    let mut server = Server::begun(config());
    server.receive(Script::default().begin(0));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:not-allowed"));
    let mut server = Server::begun(config());
    server.receive(Script::default().frame(9, end()));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:not-allowed"));
    let mut server = Server::begun(config());
    let answer = crate::types::Begin { remote_channel: Some(40), ..begin() };
    server.receive(Script::default().frame(7, Performative::Begin(Box::new(answer))));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:not-allowed"));
}

#[test]
fn handle_rules() {
    let unattached = [
        Script::default().flow(0, link_flow(4, 0, 1)),
        Script::default().transfer(0, transfer(4, 0), b"x"),
        Script::default().frame(0, detach(4)),
    ];
    for script in unattached {
        let mut server = Server::begun(config());
        server.receive(script);
        assert_eq!(ended_with(&mut server).as_deref(), Some("amqp:session:unattached-handle"));
    }
    let (mut server, _) = Server::linked(config(), Role::Sender);
    server.receive(Script::default().attach(0, attach(Role::Sender, "other", 0)));
    assert_eq!(ended_with(&mut server).as_deref(), Some("amqp:session:handle-in-use"));
    let mut server = Server::begun(config());
    server.receive(Script::default().attach(0, attach(Role::Sender, "s", 262_144)));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:connection:framing-error"));
}

#[test]
fn a_transfer_from_a_receiver_ends_the_amqp_session() {
    let (mut server, _) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().transfer(0, transfer(0, 0), b"x"));
    assert_eq!(ended_with(&mut server).as_deref(), Some("amqp:not-allowed"));
}

#[test]
fn delivery_rules() {
    let missing_id = Transfer { delivery_id: None, ..transfer(0, 0) };
    let (mut server, link) = Server::linked(config(), Role::Sender);
    server.receive(Script::default().transfer(0, missing_id, b"x"));
    assert!(matches!(&server.events()[..], [Event::Detached { link: l, .. }] if *l == link));
    assert_eq!(last_condition(&server.performatives()).as_deref(), Some("amqp:invalid-field"));
    let long_tag = Transfer { delivery_tag: Some(bytes::Bytes::from(vec![0; 33])), ..transfer(0, 0) };
    let (mut server, _) = Server::linked(config(), Role::Sender);
    server.receive(Script::default().transfer(0, long_tag, b"x"));
    assert_eq!(closed_with(&mut server).as_deref(), Some("amqp:invalid-field"));
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let first = Transfer { more: true, ..transfer(0, 0) };
    server.receive(Script::default().transfer(0, first, b"x").transfer(0, transfer(0, 1), b"y"));
    assert_eq!(last_condition(&server.performatives()).as_deref(), Some("amqp:invalid-field"));
    let (mut server, _) = Server::linked(config(), Role::Sender);
    server.receive(Script::default().transfer(0, transfer(0, 5), b"x").transfer(0, transfer(0, 5), b"y"));
    assert_eq!(ended_with(&mut server).as_deref(), Some("amqp:invalid-field"));
}

fn linked_with_repeated_ids() -> Server {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "requests", 0));
    server.engine.accept(link, AttachReply { takes_repeated_ids: true, ..reply() });
    server.performatives();
    server
}

/// Each has an outcome of its own; one that repeats an unsettled one of another link has none.
#[test]
fn delivery_ids_need_not_ascend_but_another_links_are_taken_nowhere() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    for id in [5, 4, 9, 7] {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    assert_eq!(deliveries(&server.events()).len(), 4);
    assert!(server.performatives().is_empty());
    let mut server = linked_with_repeated_ids();
    let other = server.attach(attach(Role::Sender, "messages", 1));
    server.engine.accept(other, reply());
    server.receive(Script::default().transfer(0, transfer(1, 5), b"x").transfer(0, transfer(0, 5), b"y"));
    assert_eq!(ended_with(&mut server).as_deref(), Some("amqp:invalid-field"));
}

/// Some clients' threads share a link for requests without a lock.
#[test]
fn delivery_ids_that_do_not_ascend_are_taken_and_settled_once_each() {
    let mut server = linked_with_repeated_ids();
    let ids = [5, 5, 4, 9, 5, 7];
    for id in ids {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    let arrived: Vec<_> = deliveries(&server.events()).into_iter().map(|(delivery, _)| delivery).collect();
    assert_eq!(arrived.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), ids);
    server.engine.settle(&arrived, &accepted(), true);
    let mut settled = Vec::new();
    for performative in server.performatives() {
        let Performative::Disposition(told) = performative else { panic!("{performative:?}") };
        settled.extend(told.first..=told.last.unwrap_or(told.first));
    }
    settled.sort_unstable();
    assert_eq!(settled, [4, 5, 7, 9]);
}

#[test]
fn errors_say_something_helpful() {
    let mut server = Server::begun(config());
    server.receive(Script::default().frame(0, detach(4)));
    let performatives = server.performatives();
    let [Performative::End(end)] = &performatives[..] else { panic!("{performatives:?}") };
    let description = end.error.as_ref().and_then(|error| error.description.as_deref());
    assert_eq!(description, Some("no link is attached with this handle"));
}

/// 61 seconds in another engine.
#[test]
#[expect(clippy::disallowed_methods, reason = "judges cost, not behaviour")]
fn wide_dispositions_cost_no_more_than_what_is_unsettled() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 1_000)));
    for _ in 0..1_000 {
        server.engine.send(link, message(b"x")).unwrap();
    }
    let start = Instant::now();
    for first in [0, 1, 1 << 30, u32::MAX] {
        for last in [0, i32::MAX as u32, u32::MAX - 1] {
            server.receive(Script::default().frame(0, disposition(Role::Receiver, first, last, false)));
        }
    }
    assert!(start.elapsed().as_secs() < 5);
}
