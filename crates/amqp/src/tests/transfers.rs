//! Messages in several frames, in both directions; sizes; turns.

use bytes::Bytes;

use super::support::*;
use crate::{
    AttachReply, Event, OutgoingDelivery, SendRefused,
    codec::Frame,
    types::{Open, Performative, Role, Transfer},
};

fn more(handle: u32, id: u32) -> Transfer {
    Transfer { more: true, ..transfer(handle, id) }
}

fn next(handle: u32, more: bool) -> Transfer {
    Transfer { handle, more, ..Transfer::default() }
}

fn parts(frames: Vec<Frame>) -> Vec<(Transfer, Bytes)> {
    frames
        .into_iter()
        .filter_map(|frame| match frame {
            Frame::Amqp { performative: Performative::Transfer(transfer), payload, .. } => {
                Some((transfer, payload))
            }
            _ => None,
        })
        .collect()
}

/// A server whose peer takes frames of `max_frame_size` and granted `credit` on handle 0.
fn sending(max_frame_size: u32, credit: u32) -> (Server, crate::LinkId) {
    let mut server = Server::new(config());
    let open = Open { max_frame_size, ..open() };
    server.receive(Script::default().header(AMQP).frame(0, Performative::Open(Box::new(open))));
    server.engine.open(None);
    server.receive(Script::default().begin(0));
    server.events();
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.engine.accept(link, reply());
    server.receive(Script::default().flow(0, link_flow(0, 0, credit)));
    server.frames();
    server.events();
    (server, link)
}

#[test]
fn frames_of_one_delivery_are_joined() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    server.receive(
        Script::default().transfer(0, more(0, 0), b"one ").transfer(0, next(0, true), b"two ").transfer(
            0,
            next(0, false),
            b"three",
        ),
    );
    let events = server.events();
    let [Event::Delivery { tag, payload, settled: false, message_format: 0, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((&tag[..], &payload[..]), (&[0, 0, 0, 0][..], &b"one two three"[..]));
}

#[test]
fn settled_on_any_frame_counts() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let last = Transfer { settled: Some(true), ..next(0, false) };
    server.receive(Script::default().transfer(0, more(0, 0), b"a").transfer(0, last, b"b"));
    let events = server.events();
    let [Event::Delivery { delivery, settled: true, .. }] = &events[..] else { panic!("{events:?}") };
    server.engine.settle(&[*delivery], &accepted(), true);
    assert!(server.performatives().is_empty());
}

#[test]
fn deliveries_of_two_links_may_interleave() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let second = server.attach(attach(Role::Sender, "second", 1));
    server.engine.accept(second, reply());
    server.receive(
        Script::default()
            .transfer(0, more(0, 0), b"a")
            .transfer(0, more(1, 1), b"x")
            .transfer(0, next(0, false), b"b")
            .transfer(0, next(1, false), b"y"),
    );
    let payloads: Vec<_> = deliveries(&server.events()).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, ["ab", "xy"]);
}

#[test]
fn aborted_delivery_is_dropped_and_its_credit_given_back() {
    let (mut server, link) = Server::linked(config(), Role::Sender);
    server.engine.set_credit(link, 5);
    server.frames();
    let abort = Transfer { aborted: true, ..next(0, false) };
    server.receive(Script::default().transfer(0, more(0, 0), b"a").transfer(0, abort, b""));
    assert!(server.events().is_empty());
    assert!(matches!(&server.performatives()[..], [Performative::Flow(flow)]
        if (flow.delivery_count, flow.link_credit) == (Some(1), Some(5))));
    server.receive(Script::default().transfer(0, transfer(0, 1), b"whole"));
    assert_eq!(deliveries(&server.events()).len(), 1);
}

#[test]
fn settled_deliveries_may_all_have_the_same_empty_tag() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    for id in 0..3 {
        let request = Transfer { delivery_tag: Some(Bytes::new()), settled: Some(true), ..transfer(0, id) };
        server.receive(Script::default().transfer(0, request, b"x"));
    }
    assert_eq!(deliveries(&server.events()).len(), 3);
    assert!(server.performatives().is_empty());
}

#[test]
fn a_first_delivery_id_needs_nothing_to_do_with_begin() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    server.receive(Script::default().transfer(0, transfer(0, 0), b"begin said 1"));
    assert_eq!(deliveries(&server.events())[0].0.id, 0);
}

#[test]
fn a_whole_message_that_is_too_large_leaves_the_link() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "s", 0));
    server.engine.accept(link, AttachReply { max_message_size: Some(4), ..reply() });
    server.receive(Script::default().transfer(0, transfer(0, 0), b"12345").transfer(
        0,
        transfer(0, 1),
        b"1234",
    ));
    let events = server.events();
    let [Event::DeliveryTooLarge { delivery, settled: false, complete: true }, Event::Delivery { .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    server.frames();
    server.engine.settle(&[*delivery], &accepted(), true);
    assert_eq!(names(&server.performatives()), ["disposition"]);
}

#[test]
fn a_growing_message_that_is_too_large_is_reported_once_and_thrown_away() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "s", 0));
    server.engine.accept(link, AttachReply { max_message_size: Some(4), ..reply() });
    server.receive(
        Script::default()
            .transfer(0, more(0, 0), b"123")
            .transfer(0, next(0, true), b"456")
            .transfer(0, next(0, true), b"789")
            .transfer(0, next(0, false), b"0")
            .transfer(0, transfer(0, 1), b"ok"),
    );
    let events = server.events();
    assert!(matches!(
        &events[..],
        [Event::DeliveryTooLarge { settled: false, complete: false, .. }, Event::Delivery { .. }]
    ));
}

#[test]
fn a_message_held_for_an_answer_is_judged_by_it() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "s", 0));
    server.receive(Script::default().transfer(0, transfer(0, 0), b"12345"));
    server.engine.accept(link, AttachReply { max_message_size: Some(4), ..reply() });
    assert!(matches!(&server.events()[..], [Event::DeliveryTooLarge { complete: true, .. }]));
}

#[test]
fn the_first_frame_names_everything_and_the_others_nothing() {
    let (mut server, link) = sending(512, 10);
    let prefix = Bytes::from(vec![1; 700]);
    let rest = Bytes::from(vec![2; 900]);
    let delivery = OutgoingDelivery { prefix: prefix.clone(), rest: rest.clone(), ..message(b"") };
    server.engine.send(link, delivery).unwrap();
    let written = server.written();
    assert!(crate::codec::frame_size(&written, u32::MAX).unwrap() <= Some(512));
    let parts = parts(decode(&written));
    assert!(parts.len() >= 4);
    let (first, others) = parts.split_first().unwrap();
    assert_eq!((first.0.delivery_id, first.0.message_format, first.0.more), (Some(0), Some(0), true));
    assert_eq!(first.0.delivery_tag.as_deref(), Some(&b"0123456789abcdef"[..]));
    for (index, (other, _)) in others.iter().enumerate() {
        assert_eq!((other.delivery_id, &other.delivery_tag, other.message_format), (None, &None, None));
        assert_eq!(other.more, index + 1 < others.len());
    }
    let joined: Vec<u8> = parts.iter().flat_map(|(_, payload)| payload.to_vec()).collect();
    assert_eq!(joined, [&prefix[..], &rest[..]].concat());
}

#[test]
fn no_frame_is_larger_than_the_peer_takes() {
    for length in (300..1_200).chain([4_000, 5_000]) {
        let (mut server, link) = sending(512, 1);
        server.engine.send(link, message(&vec![9; length])).unwrap();
        let mut rest = server.written();
        let mut bytes = 0;
        while !rest.is_empty() {
            let size = crate::codec::frame_size(&rest, u32::MAX).unwrap().unwrap();
            assert!(size <= 512, "{size} at {length}");
            bytes += parts(decode(&rest.split_to(size)))[0].1.len();
        }
        assert_eq!(bytes, length);
    }
}

#[test]
fn large_payloads_are_chained_and_whole() {
    let (mut server, link) = sending(65_536, 10);
    let payload: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    server.engine.send(link, message(&payload)).unwrap();
    let mut slices = [std::io::IoSlice::new(&[]); 16];
    let count = server.engine.transmit_slices(&mut slices);
    assert!(count > 4, "header and payload of each frame stand apart");
    let parts = parts(server.frames());
    let joined: Vec<u8> = parts.iter().flat_map(|(_, part)| part.to_vec()).collect();
    assert_eq!(joined, payload);
}

#[test]
fn written_byte_by_byte_it_is_the_same() {
    let (mut server, link) = sending(65_536, 10);
    server.engine.send(link, message(&[5; 70_000])).unwrap();
    server.engine.send(link, message(b"small")).unwrap();
    let mut all = Vec::new();
    while let Some(&byte) = server.engine.transmit().first() {
        all.push(byte);
        server.engine.transmitted(1);
    }
    let parts = parts(decode(&all));
    assert_eq!(parts.iter().map(|(_, part)| part.len()).sum::<usize>(), 70_005);
}

#[test]
fn links_of_different_amqp_sessions_take_turns() {
    let (mut server, big) = sending(65_536, 10);
    server.receive(Script::default().begin(1).attach(1, attach(Role::Receiver, "small", 0)));
    let small = server
        .events()
        .iter()
        .find_map(|event| if let Event::Attach { link, .. } = event { Some(*link) } else { None })
        .unwrap();
    server.engine.accept(small, reply());
    server.receive(Script::default().flow(1, link_flow(0, 0, 10)));
    server.frames();
    // More than is framed ahead, so that a part of it still waits.
    server.engine.send(big, message(&vec![1; 2 << 20])).unwrap();
    server.engine.send(small, message(b"small")).unwrap();
    let order: Vec<bool> = parts(server.frames()).iter().map(|(_, payload)| payload.len() < 10).collect();
    let position = order.iter().position(|&is_small| is_small).unwrap();
    assert!(position < order.len() / 2, "at {position} of {}", order.len());
}

#[test]
fn links_of_one_amqp_session_take_turns_and_ids_stay_in_order() {
    let (mut server, big) = sending(65_536, 10);
    let small = server.attach(attach(Role::Receiver, "small", 1));
    server.engine.accept(small, reply());
    server.receive(Script::default().flow(0, link_flow(1, 0, 10)));
    server.frames();
    server.engine.send(big, message(&vec![1; 2 << 20])).unwrap();
    server.engine.send(small, message(b"small")).unwrap();
    server.engine.send(big, message(b"after")).unwrap();
    let parts = parts(server.frames());
    let ids: Vec<u32> = parts.iter().filter_map(|(transfer, _)| transfer.delivery_id).collect();
    assert_eq!(ids, [0, 1, 2]);
    let position = parts.iter().position(|(transfer, _)| transfer.delivery_id == Some(1)).unwrap();
    assert!(position < parts.len() / 2, "at {position} of {}", parts.len());
    // Nothing of the link's next delivery before the last frame of the one before.
    let last_of_big = parts.iter().rposition(|(_, payload)| payload.len() > 10).unwrap();
    let after = parts.iter().position(|(transfer, _)| transfer.delivery_id == Some(2)).unwrap();
    assert!(last_of_big < after);
}

#[test]
fn a_delivery_waits_for_the_window_in_its_middle() {
    let (mut server, link) = sending(512, 5);
    server
        .receive(Script::default().flow(0, crate::types::Flow { incoming_window: 2, ..link_flow(0, 0, 5) }));
    server.engine.send(link, message(&[3; 1_800])).unwrap();
    let before = parts(server.frames());
    assert_eq!(before.len(), 2);
    server.receive(Script::default().flow(
        0,
        crate::types::Flow { next_incoming_id: Some(2), incoming_window: 50, ..link_flow(0, 0, 5) },
    ));
    let after = parts(server.frames());
    let bytes: usize = before.iter().chain(&after).map(|(_, part)| part.len()).sum();
    assert_eq!(bytes, 1_800);
    assert!(!after.last().unwrap().0.more);
}

#[test]
fn what_waits_on_a_link_ends_with_it() {
    let (mut server, link) = sending(512, 5);
    server
        .receive(Script::default().flow(0, crate::types::Flow { incoming_window: 1, ..link_flow(0, 0, 5) }));
    server.engine.send(link, message(&[3; 1_800])).unwrap();
    server.engine.send(link, message(&[3; 1_800])).unwrap();
    server.frames();
    server.receive(Script::default().frame(0, detach(0)));
    server.engine.detach(link, None);
    assert_eq!(names(&server.performatives()), ["detach"]);
    assert_eq!(server.engine.backlog_bytes(), 0);
}

#[test]
fn sends_are_refused_for_a_reason() {
    let (mut server, link) = sending(512, 1);
    let long_tag = OutgoingDelivery { tag: Bytes::from(vec![0; 33]), ..message(b"") };
    assert_eq!(server.engine.send(link, long_tag), Err(SendRefused::TagTooLong));
    server.engine.send(link, message(b"x")).unwrap();
    assert_eq!(server.engine.send(link, message(b"x")), Err(SendRefused::NoCredit));
    assert_eq!(server.engine.send(crate::LinkId(99), message(b"x")), Err(SendRefused::LinkGone));
}

/// 2.4.3; found by fuzzing: what waited behind a full outbox was written behind close.
#[test]
fn nothing_is_sent_behind_close() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 100)));
    for _ in 0..20 {
        server.engine.send(link, message(&[0; 50_000])).expect("credit");
    }
    server.engine.close(None);
    let names = names(&server.performatives());
    assert_eq!(names.last(), Some(&"close"), "{names:?}");
    assert!(names.len() < 20);
}
