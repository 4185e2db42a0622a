//! Every bound, and what the peer hears.

use super::support::*;
use crate::{
    Event,
    types::{Performative, Role, Transfer},
};

#[test]
fn too_many_amqp_sessions_are_begun_and_ended() {
    let mut server = Server::begun(limits(|l| l.amqp_sessions_max = 1));
    server.receive(Script::default().begin(1));
    let performatives = server.performatives();
    assert_eq!(names(&performatives), ["begin", "end"]);
    assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:resource-limit-exceeded"));
    server.receive(Script::default().frame(1, end()));
    assert!(server.events().is_empty());
    server.receive(Script::default().frame(0, end()).begin(5));
    assert_eq!(names(&server.performatives()), ["end", "begin"]);
}

#[test]
fn too_many_links_are_refused() {
    let (mut server, _) = Server::linked(limits(|l| l.links_per_amqp_session_max = 1), Role::Sender);
    server.receive(Script::default().attach(0, attach(Role::Sender, "two", 1)));
    assert!(server.events().is_empty());
    let performatives = server.performatives();
    assert_eq!(names(&performatives), ["attach", "detach"]);
    assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:resource-limit-exceeded"));
    server.receive(Script::default().frame(0, detach(1)));
    assert!(server.events().is_empty());
}

#[test]
fn a_peer_that_never_detaches_refused_links_loses_the_amqp_session() {
    let mut server = Server::begun(limits(|l| l.links_per_amqp_session_max = 0));
    for handle in 0..=1_024 {
        server.receive(Script::default().attach(0, attach(Role::Sender, &format!("s{handle}"), handle)));
    }
    assert!(matches!(&server.events()[..], [Event::AmqpSessionEnded { links, .. }] if links.is_empty()));
    assert_eq!(names(&server.performatives()).last(), Some(&"end"));
}

#[test]
fn too_many_pending_attaches_are_refused() {
    let mut server = Server::begun(limits(|l| l.pending_attaches_max = 1));
    let first = server.attach(attach(Role::Receiver, "a", 0));
    server.receive(Script::default().attach(0, attach(Role::Receiver, "b", 1)));
    assert!(server.events().is_empty());
    assert_eq!(last_condition(&server.performatives()).as_deref(), Some("amqp:resource-limit-exceeded"));
    server.engine.accept(first, reply());
    server.attach(attach(Role::Receiver, "c", 2));
}

#[test]
fn too_many_unsettled_deliveries_detach_the_link() {
    let (mut server, link) = Server::linked(limits(|l| l.unsettled_per_link_max = 2), Role::Sender);
    for id in 0..3 {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    assert!(matches!(&server.events()[2..], [Event::Detached { link: l, answered: true, .. }] if *l == link));
    assert_eq!(last_condition(&server.performatives()).as_deref(), Some("amqp:resource-limit-exceeded"));
}

#[test]
fn own_unsettled_deliveries_are_bounded_too() {
    let (mut server, link) = Server::linked(limits(|l| l.unsettled_per_link_max = 2), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 10)));
    assert_eq!(server.engine.sendable(link), 2);
    server.engine.send(link, message(b"x")).unwrap();
    server.engine.send(link, message(b"x")).unwrap();
    assert_eq!(server.engine.send(link, message(b"x")), Err(crate::SendRefused::UnsettledLimit));
}

#[test]
fn far_too_many_deliveries_beyond_credit_detach_the_link() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    for id in 0..20_001 {
        let settled = Transfer { settled: Some(true), ..transfer(0, id) };
        server.receive(Script::default().transfer(0, settled, b""));
    }
    assert!(matches!(server.events().last(), Some(Event::Detached { .. })));
    assert_eq!(last_condition(&server.performatives()).as_deref(), Some("amqp:link:transfer-limit-exceeded"));
}

#[test]
fn few_bytes_that_name_many_deliveries_are_worked_off_bit_by_bit() {
    const DELIVERIES: u32 = 100;
    const DISPOSITIONS: usize = 1_000;
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, DELIVERIES)));
    for _ in 0..DELIVERIES {
        server.engine.send(link, message(b"x")).unwrap();
    }
    server.events();
    let mut script = Script::default();
    for _ in 0..DISPOSITIONS {
        script = script.frame(0, disposition(Role::Receiver, 0, i32::MAX as u32, false));
    }
    server.receive(script);
    let mut seen = 0;
    loop {
        let waiting = server.engine.events.len();
        assert!(waiting * DELIVERIES as usize <= 2_000, "{waiting} events at once");
        let Some(event) = server.engine.poll_event() else { break };
        assert!(
            matches!(event, Event::Disposed { deliveries, .. } if deliveries.len() == DELIVERIES as usize)
        );
        seen += 1;
    }
    assert_eq!(seen, DISPOSITIONS);
}

#[test]
fn a_part_of_a_frame_gets_room_in_proportion_to_what_came() {
    let mut server = Server::begun(config());
    server.receive_bytes(&[0, 4, 0, 0, 2, 0, 0, 0]);
    assert!(server.engine.receive_buffer().capacity() <= 4 << 10);
    server.receive_bytes(&[0; 100_000]);
    assert!(server.engine.receive_buffer().capacity() <= 400_032);
    assert_eq!(server.engine.held_bytes(), 100_008);
}

#[test]
fn reassembly_is_bounded_for_the_connection() {
    let mut server = Server::begun(limits(|l| l.reassembly_bytes_max = 1_000));
    for handle in 0..2 {
        let link = server.attach(attach(Role::Sender, &format!("s{handle}"), handle));
        server.engine.accept(link, reply());
        server.frames();
        let first = Transfer { more: true, ..transfer(handle, handle) };
        server.receive(Script::default().transfer(0, first, &[0; 600]));
    }
    let performatives = server.performatives();
    assert!(matches!(&performatives[..], [Performative::Detach(detach)] if detach.handle == 1));
    assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:resource-limit-exceeded"));
    // The first link's end gives its share back.
    server.receive(Script::default().frame(0, detach(0)));
    assert_eq!(server.engine.reassembly_bytes, 0);
}

#[test]
fn what_is_held_for_a_pending_attach_is_bounded() {
    let mut server = Server::begun(limits(|l| l.reassembly_bytes_max = 1_000));
    let link = server.attach(attach(Role::Sender, "s", 0));
    server.receive(Script::default().transfer(0, transfer(0, 0), &[0; 600]).transfer(
        0,
        transfer(0, 1),
        &[0; 600],
    ));
    assert_eq!(server.events(), [Event::AttachCancelled(link)]);
    assert_eq!(names(&server.performatives()), ["attach", "detach"]);
    assert_eq!(server.engine.reassembly_bytes, 0);
}

#[test]
fn reading_stops_while_the_driver_is_asked_and_much_waits() {
    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP).open());
    assert!(server.engine.wants_input());
    server.receive_bytes(&[0; 100_000]);
    assert!(!server.engine.wants_input());
}

#[test]
fn states_for_a_pending_attach_do_not_pile_up() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Sender, "s", 0));
    server.receive(Script::default().transfer(0, transfer(0, 0), b"x"));
    for _ in 0..1_000 {
        server.receive(Script::default().frame(0, disposition(Role::Sender, 0, 0, false)));
    }
    server.receive(Script::default().frame(0, disposition(Role::Sender, 0, 0, true)));
    assert!(server.events().is_empty());
    server.engine.accept(link, reply());
    let events = server.events();
    assert!(matches!(&events[..], [Event::Delivery { .. }, Event::Disposed { settled: true, .. }]));
}

/// Found by fuzzing: the end of the AMQP session named the link, which was never reported.
#[test]
fn a_refused_link_that_cannot_be_answered_is_not_reported_by_the_end_of_its_amqp_session() {
    // The peer has one handle, and the first refusal takes it.
    let mut server = Server::begun_with_one_handle(limits(|l| l.links_per_amqp_session_max = 0));
    server.receive(Script::default().attach(0, attach(Role::Receiver, "a", 0)));
    server.receive(Script::default().attach(0, attach(Role::Receiver, "b", 1)));
    let events = server.events();
    assert!(
        matches!(&events[..], [Event::AmqpSessionEnded { links, error: Some(_), .. }] if links.is_empty()),
        "{events:?}"
    );
}

/// Found by fuzzing: the theft ended the AMQP session, and the attach went on in it.
#[test]
fn an_attach_whose_theft_ends_the_amqp_session_is_not_looked_at() {
    // One handle, which the first link takes.
    let mut server = Server::begun_with_one_handle(config());
    let first = server.attach(attach(Role::Receiver, "a", 0));
    server.engine.accept(first, reply());
    let pending = server.attach(attach(Role::Receiver, "b", 1));
    server.performatives();
    server.receive(Script::default().attach(0, attach(Role::Receiver, "b", 2)));
    let events = server.events();
    assert!(
        matches!(&events[..], [Event::AmqpSessionEnded { links, .. }, Event::AttachCancelled(cancelled)]
            if *links == [first] && *cancelled == pending),
        "{events:?}"
    );
    assert_eq!(names(&server.performatives()), ["end"]);
}

/// Found by fuzzing: the transfer that ended the AMQP session had used half of its window, too.
#[test]
fn no_window_is_opened_anew_in_an_amqp_session_that_the_transfer_has_ended() {
    let mut config = limits(|limits| limits.reassembly_bytes_max = 10);
    config.incoming_window = 2;
    // No handle is left for the end of the second link.
    let mut server = Server::begun_with_one_handle(config);
    let first = server.attach(attach(Role::Sender, "s0", 0));
    server.engine.accept(first, reply());
    server.attach(attach(Role::Sender, "s1", 1));
    server.frames();
    server.receive(Script::default().transfer(0, transfer(1, 0), &[0; 100]));
    assert_eq!(names(&server.performatives()), ["end"]);
}
