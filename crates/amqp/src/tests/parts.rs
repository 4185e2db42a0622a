//! Messages that are too large for one piece, in both directions.

use bytes::Bytes;

use super::support::*;
use crate::{
    AttachReply, Event, LinkId, OutgoingDelivery, Parts,
    codec::Frame,
    types::{Flow, Performative, Role, Transfer},
};

const PARTS: Parts = Parts { over_bytes: 10, part_bytes: 8 };

fn parted() -> AttachReply {
    AttachReply { parts: Some(PARTS), max_message_size: Some(40), ..reply() }
}

fn receiving() -> (Server, LinkId) {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "link", 0));
    server.engine.accept(link, parted());
    server.engine.set_credit(link, 5);
    server.frames();
    (server, link)
}

fn more(id: u32) -> Transfer {
    Transfer { more: true, ..transfer(0, id) }
}

fn next(more: bool) -> Transfer {
    Transfer { handle: 0, more, ..Transfer::default() }
}

/// first, last, payload.
fn parts(events: &[Event]) -> Vec<(bool, bool, &[u8])> {
    events
        .iter()
        .map(|event| match event {
            Event::DeliveryPart { first, last, payload, .. } => (*first, *last, &payload[..]),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_delivery_over_the_mark_is_reported_while_it_arrives() {
    let (mut server, _) = receiving();
    server.receive(Script::default().transfer(0, more(0), b"0123").transfer(0, next(true), b"456789"));
    assert!(server.events().is_empty(), "it may still be a small one");
    server.receive(Script::default().transfer(0, next(true), b"a"));
    assert_eq!(parts(&server.events()), [(true, false, &b"01234567"[..])]);
    server.receive(Script::default().transfer(0, next(true), b"bcdefghijklmno"));
    assert_eq!(parts(&server.events()), [(false, false, &b"89abcdef"[..]), (false, false, b"ghijklmn")]);
    assert_eq!(server.engine.reassembly_bytes, 1);
    server.receive(Script::default().transfer(0, next(false), b"p"));
    let events = server.events();
    assert_eq!(parts(&events), [(false, true, &b"op"[..])]);
    let [Event::DeliveryPart { delivery, settled: false, .. }] = events[..] else { panic!("{events:?}") };
    server.engine.settle(&[delivery], &accepted(), true);
    assert_eq!(names(&server.performatives()), ["disposition"]);
    assert_eq!(server.engine.reassembly_bytes, 0);
}

#[test]
fn a_delivery_up_to_the_mark_stays_in_one_piece() {
    let (mut server, _) = receiving();
    server.receive(Script::default().transfer(0, more(0), b"01234").transfer(0, next(false), b"56789"));
    assert_eq!(deliveries(&server.events())[0].1, Bytes::from_static(b"0123456789"));
}

#[test]
fn a_delivery_over_the_mark_in_one_frame_is_parted() {
    let (mut server, _) = receiving();
    server.receive(Script::default().transfer(0, transfer(0, 0), b"0123456789a"));
    assert_eq!(parts(&server.events()), [(true, false, &b"01234567"[..]), (false, true, b"89a")]);
}

#[test]
fn a_last_part_may_be_empty() {
    let (mut server, _) = receiving();
    server.receive(Script::default().transfer(0, more(0), b"0123456789abcdef").transfer(0, next(false), b""));
    assert_eq!(
        parts(&server.events()),
        [(true, false, &b"01234567"[..]), (false, false, b"89abcdef"), (false, true, b"")]
    );
}

#[test]
fn a_delivery_that_passes_the_limit_is_reported_before_it_ends() {
    let (mut server, _) = receiving();
    server.receive(Script::default().transfer(0, more(0), &[1; 30]));
    assert_eq!(server.events().len(), 3);
    server.receive(Script::default().transfer(0, next(true), &[1; 11]));
    assert!(matches!(server.events()[..], [Event::DeliveryTooLarge { complete: false, .. }]));
    server.receive(Script::default().transfer(0, next(true), &[1; 30]).transfer(0, next(false), b"x"));
    assert!(server.events().is_empty());
    server.receive(Script::default().transfer(0, transfer(0, 1), b"small"));
    assert_eq!(deliveries(&server.events()).len(), 1);
}

#[test]
fn a_delivery_that_passes_the_limit_with_its_last_frame_is_complete() {
    let (mut server, _) = receiving();
    server.receive(Script::default().transfer(0, more(0), &[1; 30]).transfer(0, next(false), &[1; 11]));
    let events = server.events();
    assert_eq!(events.len(), 4);
    assert!(matches!(events[3], Event::DeliveryTooLarge { complete: true, .. }));
}

#[test]
fn an_aborted_delivery_is_reported_if_parts_of_it_were() {
    let (mut server, _) = receiving();
    let abort = Transfer { aborted: true, ..next(false) };
    server.receive(Script::default().transfer(0, more(0), b"0123").transfer(0, abort.clone(), b""));
    assert!(server.events().is_empty());
    server.receive(Script::default().transfer(0, more(1), &[1; 20]).transfer(0, abort, b""));
    let events = server.events();
    assert!(matches!(events[..], [_, _, Event::DeliveryAborted(delivery)] if delivery.id == 1));
    assert_eq!(server.engine.reassembly_bytes, 0);
}

#[test]
fn what_came_before_the_attach_was_answered_is_parted_too() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "link", 0));
    server.receive(Script::default().transfer(0, transfer(0, 0), &[1; 20]).transfer(0, more(1), &[2; 20]));
    assert!(server.events().is_empty());
    server.engine.accept(link, parted());
    assert_eq!(parts(&server.events()).len(), 3);
    server.receive(Script::default().transfer(0, next(false), &[2; 4]));
    let events = server.events();
    assert_eq!(parts(&events).iter().map(|part| part.2.len()).collect::<Vec<_>>(), [8, 8, 8, 0]);
}

#[test]
fn a_held_window_is_told_and_let_go_again() {
    let (mut server, link) = receiving();
    let session = server.engine.amqp_session_of(link).expect("a link");
    server.engine.hold_incoming_window(session, true);
    server.engine.hold_incoming_window(session, true);
    let windows = |performatives: &[Performative]| -> Vec<u32> {
        let window = |p: &Performative| match p {
            Performative::Flow(flow) => Some(flow.incoming_window),
            _ => None,
        };
        performatives.iter().filter_map(window).collect()
    };
    assert_eq!(windows(&server.performatives()), [0]);
    server.receive(Script::default().transfer(0, transfer(0, 0), b"under way"));
    assert_eq!(deliveries(&server.events()).len(), 1);
    server.engine.hold_incoming_window(session, false);
    assert_eq!(windows(&server.performatives()), [config().incoming_window]);
}

/// A server that may send on two links of one AMQP session, with frames of 512 bytes.
fn sending() -> (Server, [LinkId; 2]) {
    let mut server = Server::new(config());
    let open = crate::types::Open { max_frame_size: 512, ..open() };
    server.receive(Script::default().header(AMQP).frame(0, Performative::Open(Box::new(open))));
    server.engine.open(None);
    server.receive(Script::default().begin(0));
    server.events();
    let links = [("a", 0), ("b", 1)].map(|(name, handle)| {
        let link = server.attach(attach(Role::Receiver, name, handle));
        server.engine.accept(link, reply());
        server.receive(Script::default().flow(0, link_flow(handle, 0, 5)));
        link
    });
    server.frames();
    server.events();
    (server, links)
}

fn transfers(server: &mut Server) -> Vec<(Transfer, Bytes)> {
    let transfer = |frame| match frame {
        Frame::Amqp { performative: Performative::Transfer(transfer), payload, .. } => {
            Some((transfer, payload))
        }
        _ => None,
    };
    server.frames().into_iter().filter_map(transfer).collect()
}

fn beginning(bytes: &'static [u8]) -> OutgoingDelivery {
    OutgoingDelivery { prefix: Bytes::from_static(b"head "), rest: Bytes::from_static(bytes), ..message(b"") }
}

#[test]
fn a_delivery_is_sent_as_its_parts_are_given() {
    let (mut server, [link, _]) = sending();
    let sent = server.engine.send_first_part(link, beginning(b"one ")).expect("credit");
    let first = transfers(&mut server);
    let [(transfer, payload)] = &first[..] else { panic!("{first:?}") };
    assert!(transfer.more && &payload[..] == b"head one ");
    assert_eq!(server.engine.unframed_bytes(sent), Some(0));
    assert!(server.engine.is_sending(link));
    server.engine.send_part(sent, Bytes::from(vec![7; 1_000]), false);
    let frames = transfers(&mut server);
    assert_eq!(frames.iter().map(|(_, payload)| payload.len()).sum::<usize>(), 1_000);
    assert!(frames.iter().all(|(transfer, _)| transfer.more && transfer.delivery_id.is_none()));
    server.engine.send_part(sent, Bytes::new(), true);
    let last = transfers(&mut server);
    assert!(matches!(&last[..], [(transfer, payload)] if !transfer.more && payload.is_empty()));
    assert_eq!(server.engine.unframed_bytes(sent), None);
    assert!(!server.engine.is_sending(link));
    assert_eq!(server.engine.queued_bytes, 0);
    server.receive(Script::default().frame(0, disposition(Role::Receiver, sent.id, sent.id, true)));
    assert!(matches!(&server.events()[..], [Event::Disposed { .. }]));
}

#[test]
fn another_link_sends_while_a_delivery_waits_for_its_next_part() {
    let (mut server, [large, small]) = sending();
    let sent = server.engine.send_first_part(large, beginning(b"")).expect("credit");
    server.engine.send(small, message(b"small")).expect("credit");
    assert_eq!(transfers(&mut server).len(), 2);
    server.engine.send_part(sent, Bytes::from_static(b"end"), true);
    server.engine.send(small, message(b"small")).expect("credit");
    assert_eq!(transfers(&mut server).len(), 2);
}

#[test]
fn a_delivery_that_waits_for_its_next_part_leaves_the_window_to_others() {
    let (mut server, [large, small]) = sending();
    server.receive(Script::default().flow(0, Flow { incoming_window: 2, ..link_flow(0, 0, 5) }));
    server.engine.send_first_part(large, beginning(b"")).expect("credit");
    assert_eq!(transfers(&mut server).len(), 1);
    assert_eq!(server.engine.sendable(small), 1);
    server.engine.send(small, message(b"small")).expect("credit");
    assert_eq!(transfers(&mut server).len(), 1);
    assert_eq!(server.engine.sendable(small), 0);
}

#[test]
fn a_delivery_that_is_given_up_is_aborted_and_forgotten() {
    let (mut server, [link, _]) = sending();
    let sent = server.engine.send_first_part(link, beginning(b"one ")).expect("credit");
    transfers(&mut server);
    server.engine.send_part(sent, Bytes::from(vec![7; 100_000]), false);
    server.engine.abort_send(sent);
    let frames = transfers(&mut server);
    let (last, _) = frames.last().expect("a frame");
    assert!(last.aborted && !last.more);
    assert_eq!(server.engine.queued_bytes, 0);
    server.receive(Script::default().frame(0, disposition(Role::Receiver, sent.id, sent.id, true)));
    assert!(server.events().is_empty(), "it is not unsettled any more");
    server.engine.send_part(sent, Bytes::from_static(b"late"), true);
    assert!(transfers(&mut server).is_empty());
}

#[test]
fn a_delivery_in_parts_is_cut_off_with_its_link() {
    let (mut server, [link, _]) = sending();
    let sent = server.engine.send_first_part(link, beginning(b"one ")).expect("credit");
    server.receive(Script::default().frame(0, detach(0)));
    let events = server.events();
    assert!(
        matches!(&events[..], [Event::CutOff { deliveries }, Event::Detached { .. }] if deliveries == &[sent])
    );
    server.engine.send_part(sent, Bytes::from_static(b"late"), true);
    assert_eq!(server.engine.unframed_bytes(sent), None);
    assert_eq!(server.engine.queued_bytes, 0);
}
