//! Attach, its answers, detach, and names and handles.

use super::support::*;
use crate::{
    Config, Event, LinkId,
    types::{Detach, End, Error, Performative, Role, Transfer},
};

fn error() -> Error {
    Error::new("amqp:not-found", "no such queue")
}

#[test]
fn accept_echoes_name_and_inverts_role() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "a;b:(c,d)", 7));
    assert_eq!(server.engine.link_attach(link).map(|attach| attach.handle), Some(7));
    server.engine.accept(link, reply());
    let performatives = server.performatives();
    let [Performative::Attach(answer)] = &performatives[..] else { panic!("{performatives:?}") };
    assert_eq!((&*answer.name, answer.role, answer.handle), ("a;b:(c,d)", Role::Sender, 0));
    assert_eq!(answer.initial_delivery_count, Some(0));
    assert_eq!(answer.max_message_size, Some(262_144));
    assert!(answer.source.is_some() && answer.target.is_some());
    assert!(server.engine.link_attach(link).is_none(), "kept until it is answered");
}

#[test]
fn refusal_is_attach_and_detach_in_one_write() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.engine.refuse(link, error());
    let one_write = server.engine.transmit().to_vec();
    let frames = decode(&one_write);
    let [
        crate::codec::Frame::Amqp { performative: Performative::Attach(attach), .. },
        crate::codec::Frame::Amqp { performative: Performative::Detach(detach), .. },
    ] = &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert!(attach.source.is_none() && attach.target.is_none());
    assert_eq!(attach.initial_delivery_count, Some(0));
    assert_eq!((detach.handle, detach.closed, &detach.error), (attach.handle, true, &Some(error())));
}

#[test]
fn a_refused_link_ends_when_the_peer_detaches() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.engine.refuse(link, error());
    server.frames();
    server.receive(Script::default().flow(0, link_flow(0, 0, 5)).frame(0, detach(0)));
    assert!(matches!(&server.events()[..], [Event::Detached { link: l, answered: true, .. }] if *l == link));
    assert!(server.performatives().is_empty());
    assert_eq!(server.engine.amqp_session_of(link), None);
}

#[test]
fn an_accept_cancelled_while_pending_is_answered_and_later_grants_write_nothing() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.receive(Script::default().frame(0, detach(0)));
    assert_eq!(server.events(), [Event::AttachCancelled(link)]);
    let performatives = server.performatives();
    let [Performative::Attach(attach), Performative::Detach(detach)] = &performatives[..] else {
        panic!("{performatives:?}")
    };
    assert!(attach.source.is_none() && attach.target.is_none() && detach.closed && detach.error.is_none());
    server.engine.accept(link, reply());
    server.engine.refuse(link, error());
    assert!(server.engine.send(link, message(b"x")).is_err());
    assert!(server.written().is_empty());
}

#[test]
fn a_grant_for_a_channel_that_ended_writes_nothing() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.receive(Script::default().frame(0, end()));
    assert!(
        matches!(&server.events()[..], [Event::AmqpSessionEnded { links, error: None, .. }] if links[..] == [link])
    );
    assert_eq!(names(&server.performatives()), ["end"]);
    server.engine.accept(link, reply());
    server.engine.refuse(link, error());
    server.engine.detach(link, None);
    server.engine.set_credit(link, 5);
    server.engine.drained(link);
    assert!(server.written().is_empty());
}

#[test]
fn a_grant_after_close_writes_nothing() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.engine.close(None);
    server.frames();
    server.engine.accept(link, reply());
    assert!(server.written().is_empty());
}

#[test]
fn the_last_flow_before_the_answer_counts() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.receive(Script::default().flow(0, link_flow(0, 0, 1)).flow(0, link_flow(0, 0, 9)));
    assert!(server.events().is_empty());
    assert_eq!(server.engine.sendable(link), 0);
    server.engine.accept(link, reply());
    assert_eq!(server.events(), [Event::Credit { link, credit: 9, drain: false }]);
    assert_eq!(server.engine.sendable(link), 9);
}

#[test]
fn transfers_before_the_answer_come_after_it() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "s", 0));
    let first = Transfer { more: true, ..transfer(0, 0) };
    let rest = Transfer { handle: 0, ..Transfer::default() };
    server.receive(Script::default().transfer(0, first, b"one ").transfer(0, rest, b"two").transfer(
        0,
        transfer(0, 1),
        b"three",
    ));
    assert!(server.events().is_empty());
    server.engine.accept(link, reply());
    let payloads: Vec<_> = deliveries(&server.events()).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, ["one two", "three"]);
}

#[test]
fn transfers_before_a_refusal_are_dropped() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "s", 0));
    server.receive(Script::default().transfer(0, transfer(0, 0), b"one"));
    server.engine.refuse(link, error());
    server.receive(Script::default().transfer(0, transfer(0, 1), b"two"));
    assert!(server.events().is_empty());
    assert_eq!(names(&server.performatives()), ["attach", "detach"]);
}

#[test]
fn a_sender_without_initial_delivery_count_and_a_receiver_without_target_are_accepted() {
    let mut server = Server::begun(config());
    let mut without_count = attach(Role::Sender, "s", 0);
    without_count.initial_delivery_count = None;
    let sender = server.attach(without_count);
    server.engine.accept(sender, reply());
    server.engine.set_credit(sender, 3);
    let performatives = server.performatives();
    assert!(matches!(&performatives[1], Performative::Flow(flow) if flow.delivery_count == Some(0)));
    let receiver = server.attach(attach(Role::Receiver, "r", 1));
    server.engine.accept(receiver, reply());
    assert_eq!(names(&server.performatives()), ["attach"]);
}

#[test]
fn detach_is_answered_when_the_driver_is_done() {
    let (mut server, link) = Server::linked(config(), Role::Sender);
    server.receive(
        Script::default()
            .transfer(0, transfer(0, 0), b"x")
            .frame(0, Performative::Detach(Detach { handle: 0, closed: false, error: None })),
    );
    let events = server.events();
    let [Event::Delivery { delivery, .. }, Event::Detached { closed: false, answered: false, .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(server.performatives().is_empty());
    server.engine.settle(&[*delivery], &accepted(), true);
    server.engine.detach(link, None);
    let performatives = server.performatives();
    assert_eq!(names(&performatives), ["disposition", "detach"]);
    assert!(matches!(&performatives[1], Performative::Detach(detach) if !detach.closed));
    server.engine.detach(link, None);
    assert!(server.performatives().is_empty());
}

#[test]
fn nothing_is_sent_after_own_detach() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 5)));
    let delivery = server.engine.send(link, message(b"x")).unwrap();
    server.engine.detach(link, Some(error()));
    assert_eq!(names(&server.performatives()), ["transfer", "detach"]);
    assert!(server.engine.send(link, message(b"y")).is_err());
    server.engine.settle(&[delivery], &accepted(), true);
    server.engine.drained(link);
    server.receive(Script::default().flow(0, crate::types::Flow { echo: true, ..link_flow(0, 1, 5) }));
    assert!(server.performatives().is_empty());
    server.events();
    server.receive(Script::default().frame(0, detach(0)));
    assert!(matches!(&server.events()[..], [Event::Detached { answered: true, .. }]));
}

#[test]
fn handles_are_free_again_only_after_both_detaches() {
    let mut server = Server::begun(config());
    let first = server.attach(attach(Role::Receiver, "a", 0));
    server.engine.accept(first, reply());
    server.engine.detach(first, None);
    // The peer may not use handle 0 before its detach; ours is not given out either.
    let second = server.attach(attach(Role::Receiver, "b", 1));
    server.engine.accept(second, reply());
    let handles: Vec<u32> = server
        .performatives()
        .iter()
        .filter_map(|p| if let Performative::Attach(attach) = p { Some(attach.handle) } else { None })
        .collect();
    assert_eq!(handles, [0, 1]);
    server.receive(Script::default().frame(0, detach(0)));
    server.events();
    let third = server.attach(attach(Role::Receiver, "a", 0));
    server.engine.accept(third, reply());
    assert!(matches!(&server.performatives()[..], [Performative::Attach(attach)] if attach.handle == 0));
    assert_ne!(first, third);
}

#[test]
fn the_peer_may_reuse_its_handle_behind_its_detach() {
    let mut server = Server::begun(config());
    let first = server.attach(attach(Role::Receiver, "a", 0));
    server.engine.accept(first, reply());
    server.receive(Script::default().frame(0, detach(0)).attach(0, attach(Role::Receiver, "a", 0)));
    let events = server.events();
    let [Event::Detached { link: gone, .. }, Event::Attach { link: new, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(*gone, first);
    server.frames();
    // Answers in the other order, too, concern their own link.
    server.engine.accept(*new, reply());
    server.engine.detach(first, None);
    let performatives = server.performatives();
    assert!(matches!(
        &performatives[..],
        [Performative::Attach(attach), Performative::Detach(detach)] if attach.handle == 1 && detach.handle == 0
    ));
}

#[test]
fn the_same_name_and_role_steals_the_link() {
    let (mut server, old) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().attach(0, attach(Role::Receiver, "link", 1)));
    let events = server.events();
    let [
        Event::Detached { link, closed: true, error: Some(error), answered: true },
        Event::Attach { link: new, .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*link, error.condition.as_str()), (old, "amqp:link:stolen"));
    assert_eq!(last_condition(&server.performatives()).as_deref(), Some("amqp:link:stolen"));
    server.engine.accept(*new, reply());
    // The peer's answer to the theft is no news.
    server.receive(Script::default().frame(0, detach(0)));
    assert!(server.events().is_empty());
    assert!(server.engine.amqp_session_of(*new).is_some());
}

#[test]
fn a_pending_link_can_be_stolen_from_another_amqp_session() {
    let mut server = Server::begun(config());
    let old = server.attach(attach(Role::Receiver, "r", 0));
    server.receive(Script::default().begin(1).attach(1, attach(Role::Receiver, "r", 0)));
    let events = server.events();
    assert!(matches!(
        &events[..],
        [Event::AmqpSessionBegun(_), Event::AttachCancelled(link), Event::Attach { .. }] if *link == old
    ));
    assert_eq!(names(&server.performatives()), ["begin", "attach", "detach"]);
}

#[test]
fn one_name_in_two_roles_is_two_links() {
    let (mut server, first) = Server::linked(config(), Role::Receiver);
    let second = server.attach(attach(Role::Sender, "link", 1));
    assert_ne!(first, second);
    assert!(server.performatives().is_empty());
    assert!(server.engine.amqp_session_of(first).is_some());
}

#[test]
fn answers_may_come_in_any_order() {
    let mut server = Server::begun(config());
    let links: Vec<LinkId> =
        (0..1_000).map(|n| server.attach(attach(Role::Receiver, &format!("r{n}"), n))).collect();
    for link in links.iter().rev() {
        server.engine.accept(*link, reply());
    }
    let answered: Vec<_> = server
        .performatives()
        .into_iter()
        .filter_map(|p| if let Performative::Attach(attach) = p { Some(attach.name) } else { None })
        .collect();
    assert_eq!(answered.len(), 1_000);
    assert_eq!(&*answered[0], "r999");
}

#[test]
fn own_end_reports_links_and_ignores_frames_until_the_peer_ends() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    let session = server.engine.amqp_session_of(link).unwrap();
    server.engine.end(session, Some(error()));
    assert!(matches!(&server.events()[..], [Event::AmqpSessionEnded { links, .. }] if links[..] == [link]));
    server.receive(
        Script::default().flow(0, link_flow(0, 0, 1)).attach(0, attach(Role::Sender, "s", 9)).frame(0, end()),
    );
    assert!(server.events().is_empty());
    assert_eq!(names(&server.performatives()), ["end"]);
    // The channel is free again.
    server.receive(Script::default().begin(0));
    assert!(matches!(&server.events()[..], [Event::AmqpSessionBegun(new)] if *new != session));
}

#[test]
fn channels_need_not_be_equal() {
    let mut server = Server::begun(config());
    server.receive(Script::default().begin(77));
    let frames = server.frames();
    let [crate::codec::Frame::Amqp { channel, performative: Performative::Begin(begin), .. }] = &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!((*channel, begin.remote_channel), (1, Some(77)));
    assert!(begin.incoming_window > 0);
}

/// Found by fuzzing: the theft was reported, and the end of the AMQP session reported it again.
#[test]
fn a_client_is_told_once_of_a_link_that_was_stolen_before_it_was_answered() {
    let mut pair = Pair::opened(Config::default(), Config::default());
    let first = pair.client.begin().expect("open");
    pair.client.begin().expect("open");
    pair.drive();
    pair.client_events();
    let link = pair.client.attach(first, attach(Role::Sender, "b", 0)).expect("begun");
    // The peer does not answer: it attaches a link of that name in its other AMQP session.
    let stolen = Script::default().attach(1, attach(Role::Receiver, "b", 0));
    pair.client.receive_buffer().extend_from_slice(&stolen.0);
    pair.client.process(pair.now);
    let events = pair.client_events();
    assert!(
        matches!(&events[0], Event::Detached { link: gone, answered: true, .. } if *gone == link),
        "{events:?}"
    );
    let ended = Script::default().frame(0, Performative::End(End { error: None }));
    pair.client.receive_buffer().extend_from_slice(&ended.0);
    pair.client.process(pair.now);
    let events = pair.client_events();
    assert!(
        matches!(&events[..], [Event::AmqpSessionEnded { session, links, .. }]
            if *session == first && links.is_empty()),
        "{events:?}"
    );
}
