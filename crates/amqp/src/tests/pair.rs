//! Client role against server role.

use bytes::Bytes;

use super::support::*;
use crate::{
    CloseReason, Config, Event,
    types::{DeliveryState, Error, Outcome, Role},
};

#[test]
fn a_message_is_sent_accepted_and_settled() {
    let mut pair = Pair::opened(Config::default(), config());
    let (client, server) = pair.link(Role::Sender, "s");
    pair.server.set_credit_auto(server, 100);
    pair.drive();
    assert_eq!(pair.client_events(), [Event::Credit { link: client, credit: 100, drain: false }]);
    let sent = pair.client.send(client, message(b"hello")).unwrap();
    pair.drive();
    let received = deliveries(&pair.server_events());
    assert_eq!(received[0].1, Bytes::from_static(b"hello"));
    pair.server.settle(&[received[0].0], &accepted(), true);
    pair.drive();
    assert_eq!(
        pair.client_events(),
        [Event::Disposed { deliveries: [sent][..].into(), settled: true, state: Some(accepted()) }]
    );
}

#[test]
fn a_message_is_received_and_its_outcome_answered() {
    let mut pair = Pair::opened(Config::default(), config());
    let (client, server) = pair.link(Role::Receiver, "r");
    pair.client.flow(client, 5, false);
    pair.drive();
    assert_eq!(pair.server_events(), [Event::Credit { link: server, credit: 5, drain: false }]);
    let sent = pair.server.send(server, message(b"hello")).unwrap();
    pair.drive();
    let received = deliveries(&pair.client_events());
    pair.client.settle(&[received[0].0], &accepted(), false);
    pair.drive();
    assert_eq!(
        pair.server_events(),
        [Event::Disposed { deliveries: [sent][..].into(), settled: false, state: Some(accepted()) }]
    );
    let rejected = DeliveryState::Outcome(Outcome::Rejected(Some(Error::new("amqp:not-found", "gone"))));
    pair.server.settle(&[sent], &rejected, true);
    pair.drive();
    assert!(
        matches!(&pair.client_events()[..], [Event::Disposed { settled: true, state: Some(s), .. }] if *s == rejected)
    );
}

#[test]
fn the_client_drains() {
    let mut pair = Pair::opened(Config::default(), config());
    let (client, server) = pair.link(Role::Receiver, "r");
    pair.client.flow(client, 5, true);
    pair.drive();
    assert_eq!(pair.server_events(), [Event::Credit { link: server, credit: 5, drain: true }]);
    pair.server.send(server, message(b"one")).unwrap();
    pair.server.drained(server);
    pair.drive();
    let events = pair.client_events();
    assert!(matches!(
        &events[..],
        [Event::Delivery { .. }, Event::Credit { link, credit: 0, drain: true }] if *link == client
    ));
}

#[test]
fn a_refusal_reaches_the_client_as_answer_and_detach() {
    let mut pair = Pair::opened(Config::default(), config());
    let session = pair.client.begin().unwrap();
    let link = pair.client.attach(session, attach(Role::Receiver, "r", 0)).unwrap();
    pair.drive();
    let events = pair.server_events();
    let [Event::AmqpSessionBegun(_), Event::Attach { link: server, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    pair.server.refuse(*server, Error::new("amqp:not-found", "no such queue"));
    pair.drive();
    let events = pair.client_events();
    let [
        Event::AmqpSessionBegun(_),
        Event::AttachAnswered { attach, .. },
        Event::Detached { error: Some(error), answered: false, .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(attach.source.is_none());
    assert_eq!(error.condition.as_str(), "amqp:not-found");
    pair.client.detach(link, None);
    pair.drive();
    assert!(matches!(&pair.server_events()[..], [Event::Detached { answered: true, .. }]));
}

#[test]
fn a_client_that_gives_up_crosses_the_answer() {
    let mut pair = Pair::opened(Config::default(), config());
    let session = pair.client.begin().unwrap();
    let link = pair.client.attach(session, attach(Role::Receiver, "r", 0)).unwrap();
    pair.drive();
    let server = pair
        .server_events()
        .iter()
        .find_map(|event| if let Event::Attach { link, .. } = event { Some(*link) } else { None })
        .unwrap();
    pair.client_events();
    // Detach and accept are under way at the same time.
    pair.client.detach(link, None);
    pair.server.accept(server, reply());
    pair.drive();
    assert!(matches!(&pair.server_events()[..], [Event::Detached { answered: false, .. }]));
    pair.server.detach(server, None);
    pair.drive();
    assert!(matches!(&pair.client_events()[..], [Event::Detached { answered: true, .. }]));
    assert!(pair.client.attach(session, attach(Role::Receiver, "r", 0)).is_some(), "the name is free");
}

#[test]
fn many_links_and_cycles_leave_nothing_behind() {
    let mut pair = Pair::opened(Config::default(), config());
    let session = pair.client.begin().unwrap();
    for n in 0..2_000 {
        let link = pair.client.attach(session, attach(Role::Receiver, &format!("r{n}"), 0)).unwrap();
        pair.drive();
        for event in pair.server_events() {
            if let Event::Attach { link, .. } = event {
                pair.server.accept(link, reply());
            }
        }
        pair.drive();
        pair.client.detach(link, None);
        pair.drive();
        for event in pair.server_events() {
            if let Event::Detached { link, .. } = event {
                pair.server.detach(link, None);
            }
        }
        pair.drive();
        pair.client_events();
    }
    assert_eq!((pair.client.links.len(), pair.server.links.len()), (0, 0));
    assert_eq!(pair.server.pending_attaches, 0);
}

#[test]
fn ten_thousand_messages_both_ways_with_small_windows_and_wrapping_counters() {
    let small = |config: Config| Config { incoming_window: 7, first_serial: u32::MAX - 500, ..config };
    let mut pair = Pair::opened(small(Config::default()), small(config()));
    let (client_out, server_in) = pair.link(Role::Sender, "s");
    let (client_in, server_out) = pair.link(Role::Receiver, "r");
    pair.server.set_credit_auto(server_in, 20);
    pair.client.set_credit_auto(client_in, 20);
    let (mut sent, mut received, mut settled) = (0, 0, 0);
    while settled < 10_000 {
        pair.drive();
        while sent < 10_000 && pair.client.sendable(client_out) > 0 {
            pair.client.send(client_out, message(&[1; 600])).unwrap();
            sent += 1;
        }
        for event in pair.server_events() {
            if let Event::Delivery { delivery, payload, .. } = event {
                pair.server.settle(&[delivery], &accepted(), true);
                let echo = crate::OutgoingDelivery { rest: payload, ..message(b"") };
                // What finds no credit is lost to this test's receiver, not to the sender.
                let _ = pair.server.send(server_out, echo);
            }
        }
        for event in pair.client_events() {
            match event {
                Event::Delivery { delivery, .. } => {
                    received += 1;
                    pair.client.settle(&[delivery], &accepted(), true);
                }
                Event::Disposed { deliveries, .. } => settled += deliveries.len(),
                _ => {}
            }
        }
    }
    pair.drive();
    assert_eq!((sent, settled), (10_000, 10_000));
    assert!(received > 9_000, "{received}");
}

#[test]
fn large_messages_cross_in_small_frames() {
    let small = |config: Config| Config { max_frame_size: 4_096, ..config };
    let mut pair = Pair::opened(small(Config::default()), small(config()));
    let (client, server) = pair.link(Role::Receiver, "r");
    pair.client.set_credit_auto(client, 10);
    pair.drive();
    let payload: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
    pair.server.send(server, message(&payload)).unwrap();
    pair.drive();
    let received = deliveries(&pair.client_events());
    assert_eq!(received[0].1, Bytes::from(payload));
}

#[test]
fn close_crosses_the_wire_once() {
    let mut pair = Pair::opened(Config::default(), config());
    pair.link(Role::Receiver, "r");
    pair.client.close(None);
    pair.drive();
    assert_eq!(pair.client_events(), [Event::Closed(CloseReason::Local(None))]);
    assert_eq!(pair.server_events(), [Event::Closed(CloseReason::Remote(None))]);
}

#[test]
fn both_ends_close_at_once() {
    let mut pair = Pair::opened(Config::default(), config());
    pair.client.close(None);
    pair.server.close(None);
    pair.drive();
    assert_eq!(pair.client_events(), [Event::Closed(CloseReason::Local(None))]);
    assert_eq!(pair.server_events(), [Event::Closed(CloseReason::Local(None))]);
}

#[test]
fn heartbeats_keep_an_idle_pair_alive_for_an_hour() {
    let idle = |config: Config| Config { idle_time_out_ms: Some(10_000), ..config };
    let mut pair = Pair::opened(idle(Config::default()), idle(config()));
    let hour = crate::Time(3_600_000_000);
    loop {
        let next = pair.client.next_timeout().min(pair.server.next_timeout()).unwrap();
        if next > hour {
            break;
        }
        pair.now = next;
        pair.client.on_timeout(next);
        pair.server.on_timeout(next);
        pair.drive();
    }
    assert!(pair.client_events().is_empty() && pair.server_events().is_empty());
}
