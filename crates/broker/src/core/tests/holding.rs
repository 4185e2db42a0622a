//! What a holder of a message session gets, and what becomes of it when the hold ends.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A queue with `count` messages in message session `s`, held by link 1.
fn held(count: usize) -> (Broker, EntityId) {
    let (mut broker, queue) = Broker::with_session_queue();
    for _ in 0..count {
        broker.send(queue, Some("s"));
    }
    broker.accept(queue, 1, "s");
    (broker, queue)
}

fn identity(receiver: Option<&str>, link_name: &str) -> LinkIdentity {
    LinkIdentity {
        receiver_name: receiver.map(Into::into),
        container_id: "container".into(),
        link_name: link_name.into(),
    }
}

fn accept_as(
    broker: &mut Broker,
    queue: EntityId,
    number: u64,
    session: Option<&str>,
    identity: LinkIdentity,
) -> Vec<Routed> {
    let intent = match session {
        Some(session) => ReceiveIntent::AcceptMessageSession(id(session)),
        None => ReceiveIntent::AcceptNextMessageSession { wait: SECOND },
    };
    broker.attach_as(queue, number, intent, ReceiveMode::PeekLock, identity)
}

/// Semantics.
#[test]
fn interleaved_sessions_are_told_apart_and_each_is_in_order() {
    let (mut broker, queue) = Broker::with_session_queue();
    for session in ["a", "b", "b", "a", "c", "a"] {
        broker.send(queue, Some(session));
    }
    broker.accept(queue, 1, "a");
    broker.accept(queue, 2, "b");
    assert_eq!(delivered(&broker.credit(1, 10)), [(1, 1, 0), (1, 4, 0), (1, 6, 0)]);
    assert_eq!(delivered(&broker.credit(2, 1)), [(2, 2, 0)], "as much as the credit");
    assert_eq!(delivered(&broker.credit(2, 5)), [(2, 3, 0)]);
}

/// Semantics: the abandon counts before the flow behind it.
#[test]
fn abandon_and_flow_in_one_write_redeliver_the_same_message() {
    let (mut broker, _) = held(2);
    broker.hold_commits();
    let token = tokens(&broker.credit(1, 1))[0];
    let seen = broker.settle_all(1, &[token], Settlement::Abandon(PropertyOverlay::new()));
    assert_eq!(seen, []);
    assert_eq!(delivered(&broker.credit(1, 2)), [(1, 1, 1)]);
}

/// Semantics.
#[test]
fn an_abandoned_message_is_next_and_the_others_stay_in_flight() {
    let (mut broker, _) = held(4);
    let tokens = tokens(&broker.credit(1, 3));
    broker.abandon(1, tokens[0]);
    assert_eq!(delivered(&broker.credit(1, 5)), [(1, 1, 1), (1, 4, 0)]);
    assert_eq!(broker.complete(1, tokens[2]), None);
    assert_eq!(broker.complete(1, tokens[1]), None);
}

/// Semantics.
#[test]
fn a_dead_lettered_message_does_not_block_its_session() {
    let (mut broker, queue) = held(2);
    let token = tokens(&broker.credit(1, 1))[0];
    broker.settle(1, token, Settlement::DeadLetter(PropertyOverlay::new()));
    assert_eq!(delivered(&broker.credit(1, 2)), [(1, 2, 0)]);
    assert_eq!(delivered(&broker.receiver(dead_letter(queue), 7, 1)), [(7, 1, 0)], "a plain queue");
    let record = broker.peek(dead_letter(queue), 0, 9, Some("s"));
    assert_eq!(record.len(), 1, "it keeps its session id");
}

/// Semantics A-48.
#[test]
fn messages_of_a_session_show_the_end_of_the_session_lock() {
    let (mut broker, queue) = held(1);
    let until = broker.now.utc.plus(LOCK);
    broker.advance(SECOND);
    assert_eq!(deliveries(&broker.credit(1, 1))[0].locked_until, Some(until));
    let token = LockToken::from_uuid_bytes(1_u128.to_be_bytes());
    assert_eq!(broker.renew(queue, 1, &[token]), Reply::Renewed(vec![until]), "A-49: unchanged");
    let other = broker.renew(queue, 2, &[token]);
    assert_eq!(other, Reply::Refused(Refusal::MessageSessionLockLost), "not the holder");
}

/// Semantics.
#[test]
fn renewal_sets_the_lock_to_one_duration_from_now_for_all_its_messages() {
    let (mut broker, queue) = held(1);
    let token = tokens(&broker.credit(1, 1))[0];
    for _ in 0..5 {
        broker.pass(LOCK - SECOND);
        let until = broker.now.utc.plus(LOCK);
        assert_eq!(broker.renew_session(queue, 1, "s"), Reply::Renewed(vec![until]));
        assert_eq!(broker.renew_session(queue, 1, "s"), Reply::Renewed(vec![until]), "never accumulates");
    }
    assert_eq!(broker.complete(1, token), None);
    assert_eq!(detached(&broker.pass(LOCK)), [(1, Some(Refusal::MessageSessionLockLost))]);
}

/// Semantics.
#[test]
fn only_the_holder_renews() {
    let (mut broker, queue) = held(1);
    broker.accept(queue, 2, "other");
    let lost = Reply::Refused(Refusal::MessageSessionLockLost);
    assert_eq!(broker.renew_session(queue, 2, "s"), lost);
    assert_eq!(broker.renew_session(queue, 1, "unknown"), lost);
    let request = broker.request();
    let holder = HolderClaim { connection: connection(1), link: Some(link(2)) };
    let named_wrongly = Command::RenewMessageSessionLock { entity: queue, session: id("s"), holder, request };
    assert_eq!(reply(&broker.run(named_wrongly)), lost);
}

/// Semantics A-52.
#[test]
fn traffic_does_not_extend_the_lock() {
    let (mut broker, queue) = held(3);
    let mut seen = broker.credit(1, 1);
    for limit in 2..=3 {
        broker.pass(Duration::from_secs(20));
        broker.complete(1, tokens(&seen)[0]);
        broker.set_state(queue, 1, "s", Some(b"x"));
        seen = broker.credit(1, limit);
    }
    assert_eq!(detached(&broker.pass(Duration::from_secs(20))).len(), 1);
}

/// Semantics.
#[test]
fn expiry_detaches_without_client_traffic() {
    let (mut broker, queue) = held(0);
    assert_eq!(broker.namespace.next_deadline(), Some(broker.now.mono.plus(LOCK)));
    let seen = broker.pass(LOCK);
    let cause = Some(Refusal::MessageSessionLockLost);
    assert_eq!(
        seen,
        [Routed { connection: connection(1), effect: Effect::Detached { link: link(1), cause } }]
    );
    assert_eq!(granted(&broker.accept(queue, 2, "s")), [(2, "s".into())]);
}

/// Semantics.
#[test]
fn expiry_counts_what_was_delivered_and_nothing_else() {
    let (mut broker, queue) = held(3);
    let tokens = tokens(&broker.credit(1, 2));
    broker.complete(1, tokens[0]);
    broker.pass(LOCK);
    assert_eq!(broker.contents(queue), [(2, 1), (3, 0)]);
    broker.accept(queue, 2, "s");
    assert_eq!(delivered(&broker.credit(2, 9)), [(2, 2, 1), (2, 3, 0)]);
    broker.pass(LOCK);
    broker.accept(queue, 3, "s");
    broker.credit(3, 1);
    broker.pass(LOCK);
    assert_eq!(broker.contents(queue), [(3, 1)]);
    assert_eq!(broker.contents(dead_letter(queue)), [(2, MAX_DELIVERY_COUNT)]);
}

/// Deliveries that never reached the wire do not count at expiry.
#[test]
fn returned_session_deliveries_are_not_counted() {
    let (mut broker, queue) = held(2);
    let tokens = tokens(&broker.credit(1, 2));
    broker.credit(1, 1);
    broker.run(Command::Return { link: link(1), tokens: tokens[1..].to_vec() });
    broker.pass(LOCK);
    assert_eq!(broker.contents(queue), [(1, 1), (2, 0)]);
}

/// Semantics, G-67.
#[test]
fn after_expiry_everything_on_the_old_hold_fails() {
    let (mut broker, queue) = held(1);
    let token = tokens(&broker.credit(1, 1))[0];
    broker.advance(LOCK);
    let lost = Refusal::MessageSessionLockLost;
    assert_eq!(broker.renew_session(queue, 1, "s"), Reply::Refused(lost.clone()));
    assert_eq!(broker.set_state(queue, 1, "s", None), Reply::Refused(lost.clone()));
    assert_eq!(broker.state(queue, 1, "s"), Reply::Refused(lost.clone()));
    assert_eq!(broker.complete(1, token), Some(lost));
}

/// Semantics A-53: even the first command after the end, before any tick.
#[test]
fn a_session_lock_is_lost_at_its_end_even_before_any_tick() {
    let (mut broker, queue) = held(1);
    let token = tokens(&broker.credit(1, 1))[0];
    broker.advance(LOCK);
    assert_eq!(broker.complete(1, token), Some(Refusal::MessageSessionLockLost));
    let (mut broker, _) = held(1);
    broker.advance(LOCK);
    assert_eq!(delivered(&broker.credit(1, 1)), []);
    let (mut broker, queue2) = held(1);
    broker.advance(LOCK);
    let seen = broker.accept(queue2, 2, "s");
    assert_eq!(granted(&seen), [(2, "s".into())]);
    assert_eq!(detached(&seen), [(1, Some(Refusal::MessageSessionLockLost))]);
    assert_eq!(broker.contents(queue), [(1, 0)]);
}

/// Semantics A-58: by the new link and by management.
#[test]
fn an_old_token_after_re_accept_gets_session_lock_lost() {
    let (mut broker, queue) = held(2);
    let old = tokens(&broker.credit(1, 1))[0];
    broker.pass(LOCK);
    broker.run(Command::Attach(Attach {
        link: link(2),
        connection: connection(1),
        entity: queue,
        mode: ReceiveMode::PeekLock,
        intent: ReceiveIntent::AcceptMessageSession(id("s")),
        identity: LinkIdentity::default(),
    }));
    let request = Some(broker.request());
    let via = SettleVia::Link(link(2));
    let (tokens, settlement) = ([old].into(), Settlement::Complete);
    let settle = Command::Settle { via, tokens, settlement, connection: connection(1), request };
    let lost = Refusal::MessageSessionLockLost;
    assert_eq!(reply(&broker.run(settle)), Reply::Settled(vec![(0, lost.clone())]));
    assert_eq!(broker.complete(1, old), Some(lost.clone()));
    assert_eq!(broker.manage(queue, 1, &[old], Settlement::Complete), Reply::Refused(lost));
    let new = self::tokens(&broker.run(Command::Credit { link: link(2), limit: 1, drain: false }))[0];
    assert_eq!(broker.manage(queue, 1, &[new], Settlement::Complete), Reply::Settled(vec![]));
}

/// Semantics B-24, D-29: by cause.
#[test]
fn a_used_up_token_under_a_live_hold_gets_message_lock_lost() {
    let (mut broker, queue) = held(1);
    let token = tokens(&broker.credit(1, 1))[0];
    broker.complete(1, token);
    assert_eq!(broker.complete(1, token), Some(Refusal::MessageLockLost));
    let lost = Reply::Refused(Refusal::MessageLockLost);
    assert_eq!(broker.manage(queue, 1, &[token], Settlement::Complete), lost);
}

/// Semantics B-24: without the hold it is the session lock that is missing.
#[test]
fn settling_session_messages_takes_the_hold() {
    let (mut broker, queue) = held(1);
    let token = tokens(&broker.credit(1, 1))[0];
    let lost = Reply::Refused(Refusal::MessageSessionLockLost);
    assert_eq!(broker.manage(queue, 2, &[token], Settlement::Complete), lost);
    assert_eq!(broker.manage(queue, 1, &[token], Settlement::Complete), Reply::Settled(vec![]));
}

/// Semantics, G-66.
#[test]
fn a_clean_detach_releases_at_once_and_counts_nothing() {
    let (mut broker, queue) = held(3);
    let tokens = tokens(&broker.credit(1, 2));
    broker.complete(1, tokens[0]);
    assert_eq!(detached(&broker.detach(1)), [(1, None)]);
    assert_eq!(granted(&broker.accept_next(queue, 2)), [(2, "s".into())]);
    assert_eq!(delivered(&broker.credit(2, 9)), [(2, 2, 0), (2, 3, 0)]);
}

/// Semantics A-62, G-10.
#[test]
fn a_clean_close_of_the_connection_releases_at_once() {
    let (mut broker, queue) = held(1);
    broker.credit(1, 1);
    let departure = Departure::Clean;
    broker.run(Command::ConnectionGone { connection: connection(1), departure });
    assert_eq!(granted(&broker.accept(queue, 2, "s")), [(2, "s".into())]);
    assert_eq!(broker.contents(queue), [(1, 0)]);
}

/// Semantics A-66.
#[test]
fn an_abandon_counts_whatever_becomes_of_the_session() {
    let (mut broker, queue) = held(1);
    let token = tokens(&broker.credit(1, 1))[0];
    broker.abandon(1, token);
    broker.detach(1);
    assert_eq!(broker.contents(queue), [(1, 1)]);
}

/// Semantics A-68, D-3.
#[test]
fn a_broken_connection_keeps_the_lock_to_its_end_and_counts_then() {
    let (mut broker, queue) = held(2);
    broker.credit(1, 1);
    broker.break_connection(1);
    assert_eq!(refused(&broker.accept(queue, 2, "s")), [(2, Refusal::MessageSessionCannotBeLocked)]);
    assert_eq!(broker.send(queue, Some("s")), [], "nothing is delivered to it");
    assert_eq!(broker.pass(LOCK), [], "nobody is there to be told");
    assert_eq!(broker.contents(queue), [(1, 1), (2, 0), (3, 0)]);
    assert_eq!(granted(&broker.accept(queue, 3, "s")), [(3, "s".into())]);
}

/// Semantics D-3, the other setting.
#[test]
fn a_broken_connection_releases_at_once_if_so_configured() {
    let mut broker = Broker::new(CoreConfig { release_message_sessions_on_connection_loss: true });
    let queue = broker.define("q", true);
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    broker.credit(1, 1);
    broker.break_connection(1);
    assert_eq!(granted(&broker.accept(queue, 2, "s")), [(2, "s".into())]);
    assert_eq!(broker.contents(queue), [(1, 0)]);
}

/// Semantics A-68.
#[test]
fn the_same_client_takes_over_its_lost_session_and_its_deliveries_count() {
    let cases = [
        (identity(Some("me"), "old"), identity(Some("me"), "new")),
        (identity(None, "same"), identity(None, "same")),
    ];
    for (old, new) in cases {
        let (mut broker, queue) = Broker::with_session_queue();
        broker.send(queue, Some("s"));
        accept_as(&mut broker, queue, 1, Some("s"), old);
        let token = tokens(&broker.credit(1, 1))[0];
        broker.break_connection(1);
        let stranger = accept_as(&mut broker, queue, 2, Some("s"), identity(Some("you"), "other"));
        assert_eq!(granted(&stranger), []);
        assert_eq!(granted(&accept_as(&mut broker, queue, 3, Some("s"), new)), [(3, "s".into())]);
        assert_eq!(delivered(&broker.credit(3, 1)), [(3, 1, 1)]);
        assert_eq!(broker.complete(3, token), Some(Refusal::MessageSessionLockLost));
        assert_eq!(broker.namespace.lost_holds.len(), 0);
    }
}

/// Semantics A-68 for accept-next: the old link is replaced, the session is up for everyone.
#[test]
fn accept_next_by_the_same_client_frees_its_lost_session() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("s"));
    accept_as(&mut broker, queue, 1, None, identity(None, "x"));
    broker.credit(1, 1);
    broker.break_connection(1);
    assert_eq!(granted(&accept_as(&mut broker, queue, 2, None, identity(None, "y"))), []);
    broker.detach(2);
    assert_eq!(granted(&accept_as(&mut broker, queue, 3, None, identity(None, "x"))), [(3, "s".into())]);
    assert_eq!(broker.contents(queue), [(1, 1)]);
}

/// Semantics G-61: never a live one.
#[test]
fn a_live_holder_is_never_displaced() {
    let (mut broker, queue) = Broker::with_session_queue();
    accept_as(&mut broker, queue, 1, Some("s"), identity(Some("me"), "x"));
    let seen = accept_as(&mut broker, queue, 2, Some("s"), identity(Some("me"), "x"));
    assert_eq!(refused(&seen), [(2, Refusal::MessageSessionCannotBeLocked)]);
}

/// Semantics A-83.
#[test]
fn receive_and_delete_needs_the_session_lock_and_leaves_nothing() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("s"));
    broker.send(queue, Some("s"));
    let intent = ReceiveIntent::AcceptMessageSession(id("s"));
    broker.attach(queue, 1, intent, ReceiveMode::ReceiveAndDelete);
    assert_eq!(refused(&broker.accept(queue, 2, "s")).len(), 1);
    let tokens = tokens(&broker.credit(1, 2));
    assert_eq!(broker.contents(queue), []);
    broker.run(Command::Sent { link: link(1), tokens: tokens[..1].to_vec() });
    broker.detach(1);
    assert_eq!(broker.contents(queue), [(2, 0)], "what was not sent is back");
    assert_eq!(granted(&broker.accept_next(queue, 3)), [(3, "s".into())]);
    assert_eq!(delivered(&broker.credit(3, 9)), [(3, 2, 0)]);
}

/// Semantics A-70, D-42.
#[test]
fn a_change_of_properties_leaves_a_hold_alone() {
    let (mut broker, queue) = held(1);
    let mut description = Broker::description("q", true);
    description.lock_duration = LOCK * 2;
    broker.define_as(description).expect("valid");
    assert_eq!(delivered(&broker.credit(1, 1)), [(1, 1, 0)]);
    let until = broker.now.utc.plus(LOCK * 2);
    assert_eq!(broker.renew_session(queue, 1, "s"), Reply::Renewed(vec![until]));
}

/// Semantics A-144: each requester has its own reply session.
#[test]
fn a_thousand_requesters_share_one_reply_queue() {
    let (mut broker, queue) = Broker::with_session_queue();
    for number in 1..=1000 {
        broker.accept(queue, number, &format!("r{number}"));
        broker.credit(number, 1);
    }
    for number in (1..=1000).rev() {
        let seen = broker.send(queue, Some(&format!("r{number}")));
        assert_eq!(deliveries(&seen)[0].link, link(number));
    }
}

/// Semantics A-45, G-37: a lock that a client was promised is never taken back.
#[test]
fn renewal_never_shortens_a_lock() {
    let mut broker = Broker::new(CoreConfig::default());
    let (plain, sessions) = (broker.define("plain", false), broker.define("sessions", true));
    broker.send(plain, None);
    let token = tokens(&broker.receiver(plain, 1, 1))[0];
    broker.accept(sessions, 2, "s");
    let until = broker.now.utc.plus(LOCK);
    for (name, requires_session) in [("plain", false), ("sessions", true)] {
        let mut description = Broker::description(name, requires_session);
        description.lock_duration = Duration::from_secs(5);
        broker.define_as(description).expect("valid");
    }
    assert_eq!(broker.renew(plain, 1, &[token]), Reply::Renewed(vec![until]));
    assert_eq!(broker.renew_session(sessions, 2, "s"), Reply::Renewed(vec![until]));
    assert_eq!(detached(&broker.pass(LOCK - SECOND)), []);
}
