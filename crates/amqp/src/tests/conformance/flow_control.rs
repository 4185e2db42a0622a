//! Flow, credit and drain (2.6.7, 2.7.4).

use crate::{
    Event,
    tests::support::*,
    types::{Flow, Performative, Role},
};

fn flows(server: &mut Server) -> Vec<Flow> {
    server
        .performatives()
        .into_iter()
        .filter_map(
            |performative| if let Performative::Flow(flow) = performative { Some(flow) } else { None },
        )
        .collect()
}

/// 2.7.4: without a handle there is nothing of a link in a flow.
#[test]
fn flows_of_an_amqp_session_name_no_field_of_a_link() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let echo =
        Flow { handle: None, delivery_count: None, link_credit: None, echo: true, ..link_flow(0, 0, 0) };
    server.receive(Script::default().flow(0, echo));
    let flows = flows(&mut server);
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!((flow.handle, flow.delivery_count, flow.link_credit), (None, None, None));
    assert_eq!((flow.available, flow.drain, flow.echo), (None, false, false));
    assert!(flow.next_incoming_id.is_some());
}

/// 2.7.4: fields of a link without a handle belong to no link.
#[test]
fn link_fields_without_a_handle_are_not_looked_at() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, Flow { handle: None, drain: true, ..link_flow(0, 0, 10) }));
    assert!(server.events().is_empty());
    assert_eq!(server.engine.sendable(link), 0);
    assert!(server.performatives().is_empty());
}

/// 2.7.4 delivery-count: a receiver repeats what it knows of the sender's.
#[test]
fn a_receivers_flow_repeats_the_senders_delivery_count() {
    let (mut server, link) = Server::linked(config(), Role::Sender);
    server.engine.set_credit(link, 10);
    server.receive(Script::default().transfer(0, transfer(0, 0), b"a").transfer(0, transfer(0, 1), b"b"));
    server.engine.set_credit(link, 10);
    let counts: Vec<_> = flows(&mut server).iter().map(|flow| flow.delivery_count).collect();
    assert_eq!(counts, [Some(0), Some(2)]);
}

/// 2.6.7: whenever delivery-count goes up, link-credit goes down by as much.
#[test]
fn delivery_count_and_link_credit_of_a_sender_move_together() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 5)));
    for sent in 1..=3 {
        server.engine.send(link, message(b"x")).unwrap();
        // An echo of the AMQP session's half only, so that credit is not stated anew.
        assert_eq!(server.engine.sendable(link), 5 - sent);
    }
    server.performatives();
    server.receive(Script::default().flow(0, Flow { echo: true, link_credit: None, ..link_flow(0, 3, 0) }));
    let flows = flows(&mut server);
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(3), Some(2)));
}

/// 2.6.7: the limit is the receiver's delivery-count and credit together.
#[test]
fn credit_counts_from_the_receivers_delivery_count() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 5)));
    for _ in 0..3 {
        server.engine.send(link, message(b"x")).unwrap();
    }
    // The peer had seen one of three when it granted ten.
    server.receive(Script::default().flow(0, link_flow(0, 1, 10)));
    assert_eq!(server.engine.sendable(link), 8);
}

/// 2.6.7: a sender that drains ends with no credit, and its flow says how far it has come.
#[test]
fn the_answer_to_drain_moves_delivery_count_to_the_limit() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, Flow { drain: true, ..link_flow(0, 0, 7) }));
    assert!(server.events().contains(&Event::Credit { link, credit: 7, drain: true }));
    server.engine.send(link, message(b"x")).unwrap();
    server.engine.drained(link);
    let flows = flows(&mut server);
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!((flow.delivery_count, flow.link_credit, flow.drain), (Some(7), Some(0), true));
}
