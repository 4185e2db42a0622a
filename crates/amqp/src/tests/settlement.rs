//! Dispositions in both directions.

use super::support::*;
use crate::{
    DeliveryRef, Event,
    types::{DeliveryState, Disposition, Outcome, Performative, Role},
};

fn dispositions(performatives: Vec<Performative>) -> Vec<Disposition> {
    performatives
        .into_iter()
        .filter_map(|p| if let Performative::Disposition(d) = p { Some(d) } else { None })
        .collect()
}

/// A server that received `count` deliveries on the peer's link.
fn received(count: u32) -> (Server, Vec<DeliveryRef>) {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    for id in 0..count {
        server.receive(Script::default().transfer(0, transfer(0, id), b"x"));
    }
    let all = deliveries(&server.events()).into_iter().map(|(delivery, _)| delivery).collect();
    server.frames();
    (server, all)
}

/// A server that sent `count` deliveries on the peer's link.
fn sent(count: u32) -> (Server, Vec<DeliveryRef>) {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, count)));
    let all = (0..count).map(|_| server.engine.send(link, message(b"x")).unwrap()).collect();
    server.frames();
    server.events();
    (server, all)
}

#[test]
fn neighbours_with_one_state_become_one_disposition() {
    let (mut server, all) = received(6);
    let released = DeliveryState::Outcome(Outcome::Released);
    server.engine.settle(&all[..2], &accepted(), true);
    server.engine.settle(&all[2..3], &accepted(), true);
    server.engine.settle(&all[3..4], &released, true);
    server.engine.settle(&all[5..], &accepted(), true);
    let ranges: Vec<_> =
        dispositions(server.performatives()).into_iter().map(|d| (d.first, d.last, d.state)).collect();
    assert_eq!(
        ranges,
        [(0, Some(2), Some(accepted())), (3, Some(3), Some(released)), (5, Some(5), Some(accepted()))]
    );
}

#[test]
fn settling_twice_writes_once() {
    let (mut server, all) = received(1);
    server.engine.settle(&all, &accepted(), true);
    server.engine.settle(&all, &accepted(), true);
    assert_eq!(dispositions(server.performatives()).len(), 1);
    server.engine.settle(&all, &accepted(), true);
    assert!(server.written().is_empty());
}

#[test]
fn an_unwritten_disposition_counts_as_output() {
    let (mut server, all) = received(1);
    assert_eq!(server.engine.outbox_bytes(), 0);
    server.engine.settle(&all, &accepted(), true);
    assert!(server.engine.outbox_bytes() > 0);
}

#[test]
fn an_outcome_comes_before_the_message_that_it_frees() {
    let (mut server, all) = sent(1);
    let link = all[0].link;
    server.receive(
        Script::default().flow(0, crate::types::Flow { next_incoming_id: Some(1), ..link_flow(0, 1, 1) }),
    );
    server.engine.settle(&all, &accepted(), true);
    server.engine.send(link, message(b"again")).unwrap();
    assert_eq!(names(&server.performatives()), ["disposition", "transfer"]);
}

#[test]
fn unsettled_disposition_is_reported_and_kept_until_the_answer() {
    let (mut server, all) = sent(3);
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, 2, false)));
    assert_eq!(
        server.events(),
        [Event::Disposed { deliveries: all.clone().into(), settled: false, state: Some(accepted()) }]
    );
    assert_eq!(server.engine.delivery_tag(all[1]).map(|tag| tag.len()), Some(16));
    server.engine.settle(&all, &accepted(), true);
    let answers = dispositions(server.performatives());
    assert!(
        matches!(&answers[..], [d] if d.role == Role::Sender && d.settled && (d.first, d.last) == (0, Some(2)))
    );
    assert_eq!(server.engine.delivery_tag(all[1]), None);
}

#[test]
fn settled_disposition_forgets() {
    let (mut server, all) = sent(2);
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, 0, true)));
    assert_eq!(
        server.events(),
        [Event::Disposed { deliveries: [all[0]][..].into(), settled: true, state: Some(accepted()) }]
    );
    server.engine.settle(&all[..1], &accepted(), true);
    assert!(server.performatives().is_empty());
    // Again: unknown by now.
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, 0, true)));
    assert!(server.events().is_empty());
}

#[test]
fn unknown_ids_are_passed_over() {
    let (mut server, all) = sent(2);
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 100, 200, true)));
    server.receive(Script::default().frame(0, disposition(Role::Sender, 0, 1, true)));
    assert!(server.events().is_empty());
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 1, 1_000, true)));
    assert!(
        matches!(&server.events()[..], [Event::Disposed { deliveries, .. }] if deliveries[..] == all[1..])
    );
}

#[test]
fn a_range_over_the_whole_circle_costs_nothing() {
    let (mut server, all) = sent(10);
    for _ in 0..10_000 {
        server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, u32::MAX - 1, true)));
    }
    assert!(server.events().is_empty(), "it ends before it begins");
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, i32::MAX as u32, true)));
    assert!(
        matches!(&server.events()[..], [Event::Disposed { deliveries, .. }] if deliveries[..] == all[..])
    );
}

#[test]
fn a_range_over_links_is_reported_link_by_link() {
    let (mut server, first) = Server::linked(config(), Role::Receiver);
    let second = server.attach(attach(Role::Receiver, "second", 1));
    server.engine.accept(second, reply());
    server.receive(Script::default().flow(0, link_flow(0, 0, 5)).flow(0, link_flow(1, 0, 5)));
    server.events();
    for link in [first, first, second, first] {
        server.engine.send(link, message(b"x")).unwrap();
    }
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, 3, true)));
    let links: Vec<_> = server
        .events()
        .into_iter()
        .map(|event| match event {
            Event::Disposed { deliveries, .. } => {
                deliveries.iter().map(|d| (d.link, d.id)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(links, [vec![(first, 0), (first, 1)], vec![(second, 2)], vec![(first, 3)]]);
}

#[test]
fn disposition_without_last_names_one() {
    let (mut server, all) = sent(2);
    server.receive(Script::default().frame(
        0,
        Performative::Disposition(Disposition {
            role: Role::Receiver,
            first: 1,
            last: None,
            settled: false,
            state: None,
            batchable: false,
        }),
    ));
    assert_eq!(
        server.events(),
        [Event::Disposed { deliveries: [all[1]][..].into(), settled: false, state: None }]
    );
}

#[test]
fn outstanding_outcomes_go_out_before_the_answer_to_detach() {
    let (mut server, all) = sent(1);
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, 0, false)).frame(0, detach(0)));
    server.events();
    server.engine.settle(&all, &accepted(), true);
    server.engine.detach(all[0].link, None);
    assert_eq!(names(&server.performatives()), ["disposition", "detach"]);
}
