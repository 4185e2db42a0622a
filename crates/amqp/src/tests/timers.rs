//! Heartbeats, silence, handshake deadlines.

use super::support::*;
use crate::{
    CLOSE_DEADLINE_US, CloseReason, Config, Event, OPEN_DEADLINE_US, Time,
    codec::Frame,
    types::{Flow, Open, Performative, Role},
};

const SECOND: u64 = 1_000_000;

fn opened(peer_idle_ms: Option<u32>, own_idle_ms: Option<u32>) -> Server {
    let mut server = Server::new(Config { idle_time_out_ms: own_idle_ms, ..config() });
    let open = Open { idle_time_out: peer_idle_ms, ..open() };
    server.receive(Script::default().header(AMQP).frame(0, Performative::Open(Box::new(open))));
    server.engine.open(None);
    server.frames();
    server.events();
    server
}

#[test]
fn heartbeat_at_half_of_the_peers_idle_time_out() {
    let mut server = opened(Some(60_000), None);
    assert_eq!(server.engine.next_timeout(), Some(Time(30 * SECOND)));
    server.engine.on_timeout(Time(30 * SECOND));
    assert_eq!(server.frames(), [Frame::Heartbeat]);
    assert_eq!(server.engine.next_timeout(), Some(Time(60 * SECOND)));
}

#[test]
fn no_heartbeat_while_other_bytes_go_out() {
    let mut server = opened(Some(60_000), None);
    server.now = Time(20 * SECOND);
    server.receive(Script::default().begin(0));
    assert_eq!(names(&server.performatives()), ["begin"]);
    assert_eq!(server.engine.next_timeout(), Some(Time(50 * SECOND)));
    server.engine.on_timeout(Time(30 * SECOND));
    assert!(server.frames().is_empty());
}

#[test]
fn heartbeats_do_not_pile_up_behind_a_stuck_transport() {
    let mut server = opened(Some(1_000), None);
    for half_second in 1..100 {
        server.engine.on_timeout(Time(half_second * SECOND / 2));
    }
    assert_eq!(server.frames(), [Frame::Heartbeat]);
}

#[test]
fn heartbeats_go_on_while_deliveries_wait_for_the_peers_window() {
    let mut server = opened(Some(1_000), None);
    server.receive(Script::default().begin(0));
    server.events();
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.engine.accept(link, reply());
    server.receive(Script::default().flow(0, Flow { incoming_window: 0, ..link_flow(0, 0, 5) }));
    server.engine.send(link, message(b"x")).unwrap();
    server.frames();
    server.engine.on_timeout(Time(SECOND));
    assert_eq!(server.frames(), [Frame::Heartbeat]);
}

#[test]
fn a_peer_that_asks_for_nothing_gets_none() {
    for idle in [None, Some(0)] {
        assert_eq!(opened(idle, None).engine.next_timeout(), None);
    }
}

#[test]
fn a_silent_peer_is_closed() {
    let mut server = opened(None, Some(10_000));
    server.now = Time(9 * SECOND);
    server.receive_bytes(&[0, 0, 0, 8, 2, 0, 0, 0]);
    assert_eq!(server.engine.next_timeout(), Some(Time(19 * SECOND)));
    server.engine.on_timeout(Time(18 * SECOND));
    assert!(server.events().is_empty());
    server.engine.on_timeout(Time(19 * SECOND));
    let performatives = server.performatives();
    assert_eq!(names(&performatives), ["close"]);
    assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:resource-limit-exceeded"));
    assert!(matches!(&server.events()[..], [Event::Closed(CloseReason::Local(Some(_)))]));
    assert_eq!(server.engine.next_timeout(), None);
}

#[test]
fn a_connection_must_open_in_time() {
    let mut server = Server::new(config());
    assert_eq!(server.engine.next_timeout(), Some(Time(OPEN_DEADLINE_US)));
    server.engine.on_timeout(Time(OPEN_DEADLINE_US));
    assert!(matches!(&server.events()[..], [Event::Closed(CloseReason::Local(Some(_)))]));
    assert_eq!(server.written(), SASL[..], "the header that is served");

    let mut server = Server::new(config());
    server.receive(Script::default().header(AMQP));
    server.engine.on_timeout(Time(OPEN_DEADLINE_US));
    assert_eq!(names(&server.performatives()), ["open", "close"]);
}

#[test]
fn an_unanswered_close_ends_in_time() {
    let mut server = Server::begun(Config { idle_time_out_ms: None, ..config() });
    server.engine.close(None);
    // The engine does not know the time of the command, so it asks to be called at once.
    let now = Time(1_000 * SECOND);
    assert!(server.engine.next_timeout() <= Some(now));
    server.engine.on_timeout(now);
    assert!(server.events().is_empty());
    let deadline = now.plus_micros(CLOSE_DEADLINE_US);
    assert_eq!(server.engine.next_timeout(), Some(deadline));
    server.engine.on_timeout(deadline);
    assert_eq!(server.events(), [Event::Closed(CloseReason::Local(None))]);
}
