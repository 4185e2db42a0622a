//! Credit, drain, echo, windows.

use super::support::*;
use crate::{
    Config, Event,
    types::{Flow, Performative, Role},
};

fn flows(performatives: Vec<Performative>) -> Vec<Flow> {
    performatives
        .into_iter()
        .filter_map(|p| if let Performative::Flow(flow) = p { Some(flow) } else { None })
        .collect()
}

#[test]
fn granted_credit_names_everything_that_clients_read() {
    let (mut server, link) = Server::linked(config(), Role::Sender);
    server.engine.set_credit(link, 1_000);
    let flows = flows(server.performatives());
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!(flow.handle, Some(0));
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(0), Some(1_000)));
    assert_eq!(flow.next_incoming_id, Some(1));
    assert!(!flow.drain && !flow.echo && flow.incoming_window > 0);
}

#[test]
fn automatic_credit_is_topped_up_at_half() {
    let (mut server, link) = Server::linked(config(), Role::Sender);
    server.engine.set_credit_auto(link, 10);
    server.frames();
    for id in 0..4 {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    assert!(server.performatives().is_empty());
    server.receive(Script::default().transfer(0, transfer(0, 4), b"x"));
    let flows = flows(server.performatives());
    assert_eq!((flows[0].delivery_count, flows[0].link_credit), (Some(5), Some(10)));
}

#[test]
fn automatic_credit_stops_at_the_bound_of_unsettled_deliveries() {
    let (mut server, link) = Server::linked(limits(|l| l.unsettled_per_link_max = 4), Role::Sender);
    server.engine.set_credit_auto(link, 4);
    server.frames();
    for id in 0..4 {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    assert!(
        flows(server.performatives()).iter().all(|flow| flow.link_credit == Some(2)),
        "2 are unsettled then"
    );
    let all: Vec<_> = deliveries(&server.events()).into_iter().map(|(delivery, _)| delivery).collect();
    server.engine.settle(&all, &accepted(), true);
    let flows = flows(server.performatives());
    assert!(flows.last().is_some_and(|flow| flow.link_credit >= Some(2)));
}

#[test]
fn transfers_beyond_credit_are_taken_within_a_slack() {
    let (mut server, link) = Server::linked(config(), Role::Sender);
    for id in 0..10_000 {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    assert_eq!(deliveries(&server.events()).len(), 10_000);
    server.engine.set_credit(link, 100);
    assert_eq!(flows(server.performatives()).last().unwrap().delivery_count, Some(10_000));
}

#[test]
fn drain_with_nothing_to_send_uses_credit_up() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, Flow { drain: true, ..link_flow(0, 0, 10) }));
    assert_eq!(server.events(), [Event::Credit { link, credit: 10, drain: true }]);
    server.engine.send(link, message(b"last")).unwrap();
    server.engine.drained(link);
    let performatives = server.performatives();
    assert_eq!(names(&performatives), ["transfer", "flow"]);
    let flow = flows(performatives)[0];
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(10), Some(0)));
    assert!(flow.drain && !flow.echo);
    assert_eq!(server.engine.sendable(link), 0);
}

#[test]
fn drain_is_answered_even_without_credit() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, Flow { drain: true, ..link_flow(0, 0, 0) }));
    assert_eq!(server.events(), [Event::Credit { link, credit: 0, drain: true }]);
    server.engine.drained(link);
    let flow = flows(server.performatives())[0];
    assert_eq!((flow.delivery_count, flow.link_credit, flow.drain), (Some(0), Some(0), true));
}

#[test]
fn drained_waits_for_what_is_queued() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, Flow { drain: true, incoming_window: 0, ..link_flow(0, 0, 3) }));
    server.engine.send(link, message(b"x")).unwrap();
    server.engine.drained(link);
    assert!(server.performatives().is_empty());
    server
        .receive(Script::default().flow(0, Flow { incoming_window: 5, handle: None, ..link_flow(0, 0, 3) }));
    let performatives = server.performatives();
    assert_eq!(names(&performatives), ["transfer", "flow"]);
    assert_eq!(flows(performatives)[0].delivery_count, Some(3));
}

#[test]
fn echo_is_answered_for_link_and_amqp_session() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.engine.set_available(link, 42);
    server.receive(Script::default().flow(0, Flow { echo: true, ..link_flow(0, 0, 7) }));
    let answer = flows(server.performatives())[0];
    assert_eq!((answer.handle, answer.link_credit, answer.available), (Some(0), Some(7), Some(42)));
    assert!(!answer.echo && !answer.drain);
    let session_echo =
        Flow { echo: true, handle: None, delivery_count: None, link_credit: None, ..link_flow(0, 0, 0) };
    server.receive(Script::default().flow(0, session_echo));
    let answer = flows(server.performatives())[0];
    assert_eq!((answer.handle, answer.echo), (None, false));
}

#[test]
fn echo_for_a_link_whose_peer_sends() {
    let (mut server, link) = Server::linked(config(), Role::Sender);
    server.engine.set_credit(link, 5);
    server.frames();
    server.receive(Script::default().flow(0, Flow { echo: true, link_credit: None, ..link_flow(0, 0, 0) }));
    let answer = flows(server.performatives())[0];
    assert_eq!((answer.handle, answer.link_credit), (Some(0), Some(5)));
}

#[test]
fn credit_may_shrink_to_nothing() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 10)).flow(0, link_flow(0, 0, 0)));
    assert_eq!(
        server.events(),
        [Event::Credit { link, credit: 10, drain: false }, Event::Credit { link, credit: 0, drain: false }]
    );
    assert!(server.engine.send(link, message(b"x")).is_err());
}

#[test]
fn flow_without_delivery_count_counts_from_the_start() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, Flow { delivery_count: None, ..link_flow(0, 0, 4) }));
    assert_eq!(server.engine.sendable(link), 4);
}

#[test]
fn counters_wrap() {
    let first = u32::MAX - 1;
    let (mut server, link) = Server::linked(Config { first_serial: first, ..config() }, Role::Receiver);
    let grant = |count: u32, next: u32| Flow {
        next_incoming_id: Some(next),
        incoming_window: 3,
        ..link_flow(0, count, 3)
    };
    server.receive(Script::default().flow(0, grant(first, first)));
    for _ in 0..3 {
        server.engine.send(link, message(b"x")).unwrap();
    }
    assert_eq!(server.engine.sendable(link), 0);
    server.receive(Script::default().flow(0, grant(1, 1)));
    assert_eq!(server.engine.sendable(link), 3);
    server.engine.send(link, message(b"x")).unwrap();
    let ids: Vec<u32> = server
        .performatives()
        .into_iter()
        .filter_map(|p| if let Performative::Transfer(transfer) = p { transfer.delivery_id } else { None })
        .collect();
    assert_eq!(ids, [first, u32::MAX, 0, 1]);
    server.receive(Script::default().frame(0, disposition(Role::Receiver, first, 1, true)));
    let events = server.events();
    let [.., Event::Disposed { deliveries, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(deliveries.iter().map(|d| d.id).collect::<Vec<_>>(), [first, u32::MAX, 0, 1]);
}

#[test]
fn the_peers_counters_wrap_too() {
    let mut server = Server::begun(config());
    let mut late = attach(Role::Sender, "s", 0);
    late.initial_delivery_count = Some(u32::MAX);
    let link = server.attach(late);
    server.engine.accept(link, reply());
    for id in [u32::MAX - 1, u32::MAX, 0, 1] {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    let all: Vec<_> = deliveries(&server.events()).into_iter().map(|(delivery, _)| delivery).collect();
    assert_eq!(all.len(), 4);
    server.frames();
    server.engine.settle(&all, &accepted(), true);
    server.engine.set_credit(link, 1);
    let performatives = server.performatives();
    assert!(matches!(&performatives[0], Performative::Disposition(d)
        if (d.first, d.last) == (u32::MAX - 1, Some(1)) && d.settled && d.role == Role::Receiver));
    assert_eq!(flows(performatives)[0].delivery_count, Some(3));
}

#[test]
fn the_incoming_window_is_stated_again_at_half() {
    let (mut server, _) = Server::linked(Config { incoming_window: 8, ..config() }, Role::Sender);
    for id in 0..3 {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    assert!(server.performatives().is_empty());
    server.receive(Script::default().transfer(0, transfer(0, 3), b"x"));
    let flow = flows(server.performatives())[0];
    assert_eq!((flow.handle, flow.next_incoming_id, flow.incoming_window), (None, Some(5), 8));
}

#[test]
fn the_window_is_no_law_unless_strict() {
    for strict in [false, true] {
        let config = Config { incoming_window: 0, strict_windows: strict, ..config() };
        let (mut server, _) = Server::linked(config, Role::Sender);
        server.receive(Script::default().transfer(0, transfer(0, 0), b"x"));
        let ended = server.events().iter().any(|event| matches!(event, Event::AmqpSessionEnded { .. }));
        assert_eq!(ended, strict);
    }
}

#[test]
fn a_closed_peer_window_holds_deliveries_until_it_opens() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, Flow { incoming_window: 1, ..link_flow(0, 0, 10) }));
    server.events();
    assert_eq!(server.engine.sendable(link), 1);
    for _ in 0..3 {
        server.engine.send(link, message(b"x")).unwrap();
    }
    assert_eq!(server.engine.sendable(link), 0);
    assert_eq!(names(&server.performatives()), ["transfer"]);
    assert_eq!(server.engine.outbox_bytes(), 0, "nothing that could be written");
    assert!(server.engine.backlog_bytes() > 0);
    server.receive(
        Script::default().flow(
            0,
            Flow { next_incoming_id: Some(1), incoming_window: 5, handle: None, ..link_flow(0, 1, 9) },
        ),
    );
    assert_eq!(names(&server.performatives()), ["transfer", "transfer"]);
    assert_eq!(server.events(), [Event::Credit { link, credit: 7, drain: false }]);
    assert_eq!(server.engine.backlog_bytes(), 0);
}

#[test]
fn a_full_outbox_stops_sending_and_says_when_it_is_empty() {
    let (mut server, link) = Server::linked(limits(|l| l.outbox_bytes_high = 10_000), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 100)));
    server.events();
    while server.engine.sendable(link) > 0 {
        server.engine.send(link, message(&[7; 1_000])).unwrap();
    }
    let sent = server.performatives().len();
    assert!((10..13).contains(&sent), "{sent}");
    assert!(matches!(&server.events()[..], [Event::Credit { .. }]));
    assert!(server.engine.sendable(link) > 0);
}
