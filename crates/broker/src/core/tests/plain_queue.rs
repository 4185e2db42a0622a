//! Receivers of queues without message sessions.

use super::*;

/// Semantics B-31.
#[test]
fn the_lowest_available_number_goes_first() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..3 {
        broker.send(queue, None);
    }
    let first = broker.receiver(queue, 1, 1);
    assert_eq!(delivered(&first), [(1, 1, 0)]);
    assert_eq!(delivered(&broker.credit(1, 2)), [(1, 2, 0)]);
    broker.abandon(1, tokens(&first)[0]);
    assert_eq!(delivered(&broker.credit(1, 4)), [(1, 1, 1), (1, 3, 0)]);
}

/// Semantics B-15: credit without a message stays, and is served in the order of arrival; a link
/// that was served goes behind the others.
#[test]
fn receivers_are_served_in_the_order_in_which_their_credit_came() {
    let (mut broker, queue) = Broker::with_queue();
    broker.receiver(queue, 1, 0);
    broker.receiver(queue, 2, 2);
    broker.credit(1, 2);
    let mut links = Vec::new();
    for _ in 0..5 {
        links.extend(delivered(&broker.send(queue, None)).iter().map(|&(link, ..)| link));
    }
    assert_eq!(links, [2, 1, 2, 1]);
}

/// Semantics G-33.
#[test]
fn a_receiver_without_credit_locks_nothing() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    assert_eq!(delivered(&broker.receiver(queue, 1, 0)), []);
    assert_eq!(broker.namespace.counts(queue).locked, 0);
}

/// Semantics B-11, B-14.
#[test]
fn a_delivery_is_locked_for_one_lock_duration() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let until = broker.now.utc.plus(LOCK);
    let seen = broker.receiver(queue, 1, 1);
    assert_eq!(deliveries(&seen)[0].locked_until, Some(until));
}

/// Semantics B-28, G-38.
#[test]
fn an_expired_message_goes_to_a_waiting_receiver_without_further_trigger() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.receiver(queue, 2, 1);
    assert_eq!(broker.namespace.next_deadline(), Some(broker.now.mono.plus(LOCK)));
    assert_eq!(delivered(&broker.pass(LOCK)), [(2, 1, 1)]);
    assert_eq!(broker.complete(1, token), Some(Refusal::MessageLockLost));
}

/// Semantics A-53: time alone ends a lock, not the tick that notices it.
#[test]
fn a_lock_is_lost_at_its_end_even_before_any_tick() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.advance(LOCK);
    assert_eq!(broker.complete(1, token), Some(Refusal::MessageLockLost));
    assert_eq!(broker.contents(queue), [(1, 1)]);
}

/// Rule 16.
#[test]
fn a_renewal_in_time_is_not_beaten_by_the_deadline() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.advance(LOCK - Duration::from_millis(1));
    let until = broker.now.utc.plus(LOCK);
    assert_eq!(broker.renew(queue, 7, &[token]), Reply::Renewed(vec![until]));
    broker.pass(LOCK - Duration::from_millis(1));
    assert_eq!(broker.complete(1, token), None);
}

/// Semantics B-27.
#[test]
fn renewal_is_all_or_none() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.advance(Duration::from_secs(1));
    let unknown = LockToken::from_uuid_bytes([0; 16]);
    assert_eq!(broker.renew(queue, 1, &[token, unknown]), Reply::Refused(Refusal::MessageLockLost));
    broker.pass(LOCK - Duration::from_secs(1));
    assert_eq!(broker.complete(1, token), Some(Refusal::MessageLockLost), "was not renewed");
}

/// Semantics B-25, B-26, B-27, G-34.
#[test]
fn locks_outlive_link_and_connection_and_serve_anyone_with_the_token() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..3 {
        broker.send(queue, None);
    }
    let tokens = tokens(&broker.receiver(queue, 1, 3));
    broker.break_connection(1);
    assert!(matches!(broker.renew(queue, 5, &tokens), Reply::Renewed(_)));
    assert_eq!(broker.manage(queue, 5, &tokens[..1], Settlement::Complete), Reply::Settled(vec![]));
    assert_eq!(broker.complete(1, tokens[1]), None, "by a disposition on a link that is gone");
    assert_eq!(broker.contents(queue), [(3, 0)]);
    assert_eq!(delivered(&broker.receiver(queue, 2, 1)), [], "still locked");
    assert_eq!(delivered(&broker.pass(LOCK)), [(2, 3, 1)]);
}

/// Semantics B-33: nothing is lost or counted that did not reach the wire.
#[test]
fn returned_deliveries_go_back_uncounted() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..3 {
        broker.send(queue, None);
    }
    let tokens = tokens(&broker.receiver(queue, 1, 3));
    broker.detach(1);
    broker.run(Command::Return { link: link(1), tokens: tokens[1..].to_vec() });
    assert_eq!(delivered(&broker.receiver(queue, 2, 3)), [(2, 2, 0), (2, 3, 0)]);
}

/// Semantics B-16.
#[test]
fn a_drain_delivers_what_is_there_and_says_so_after_it() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.receiver(queue, 1, 0);
    let seen = broker.drain(1, 10);
    assert_eq!(delivered(&seen), [(1, 1, 0)]);
    assert_eq!(seen.last().map(|last| &last.effect), Some(&Effect::Drained { link: link(1) }));
    assert_eq!(delivered(&broker.send(queue, None)), [], "the credit is used up");
    assert_eq!(delivered(&broker.credit(1, 2)), [(1, 2, 0)]);
}

#[test]
fn a_drain_of_an_empty_queue_is_answered_at_once() {
    let (mut broker, queue) = Broker::with_queue();
    broker.receiver(queue, 1, 5);
    assert_eq!(broker.drain(1, 5).len(), 1);
    assert_eq!(delivered(&broker.send(queue, None)), []);
}

#[test]
fn a_smaller_limit_stops_further_deliveries() {
    let (mut broker, queue) = Broker::with_queue();
    broker.receiver(queue, 1, 5);
    broker.send(queue, None);
    broker.credit(1, 1);
    assert_eq!(delivered(&broker.send(queue, None)), []);
    assert_eq!(delivered(&broker.credit(1, 2)), [(1, 2, 0)]);
}

/// Semantics, B-9.
#[test]
fn receivers_that_do_not_fit_the_entity_are_refused() {
    let mut broker = Broker::new(CoreConfig::default());
    let plain = broker.define("plain", false);
    let sessions = broker.define("sessions", true);
    let nowhere = EntityId::new(NamespaceId(1), 77);
    let next = ReceiveIntent::AcceptNextMessageSession { wait: Duration::from_secs(1) };
    let named = ReceiveIntent::AcceptMessageSession(id("s"));
    let cases = [
        (sessions, ReceiveIntent::Plain, Refusal::MessageSessionReceiverRequired),
        (plain, next.clone(), Refusal::MessageSessionsNotSupported),
        (plain, named, Refusal::MessageSessionsNotSupported),
        (dead_letter(sessions), next, Refusal::MessageSessionOnSubQueue),
        (nowhere, ReceiveIntent::Plain, Refusal::EntityNotFound),
    ];
    for (entity, intent, refusal) in cases {
        let seen = broker.attach(entity, 1, intent, ReceiveMode::PeekLock);
        assert_eq!(refused(&seen), [(1, refusal)]);
    }
    assert!(broker.namespace.links.is_empty() && broker.namespace.connections.is_empty());
}

/// Semantics B-12, rule 4: the deletion is durable before the message leaves.
#[test]
fn a_receive_and_delete_delivery_leaves_after_the_deletion_is_durable() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.attach(queue, 1, ReceiveIntent::Plain, ReceiveMode::ReceiveAndDelete);
    broker.hold_commits();
    assert_eq!(broker.credit(1, 1), []);
    let seen = broker.commit();
    assert_eq!(delivered(&seen), [(1, 1, 0)]);
    assert_eq!(deliveries(&seen)[0].locked_until, None);
    assert_eq!(broker.crash().contents(queue), []);
}

/// Semantics G-32.
#[test]
fn receive_and_delete_loses_exactly_what_was_sent() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..4 {
        broker.send(queue, None);
    }
    let seen = broker.deleting_receiver(queue, 1, 3);
    assert_eq!(broker.contents(queue), [(4, 0)]);
    let (tokens, body) = (tokens(&seen), deliveries(&seen)[0].body.id);
    broker.run(Command::Sent { link: link(1), tokens: tokens[..1].to_vec() });
    assert_eq!(body_of(&broker.store, body), None);
    broker.run(Command::Return { link: link(1), tokens: tokens[1..2].to_vec() });
    broker.detach(1);
    assert_eq!(broker.contents(queue), [(2, 0), (3, 0), (4, 0)]);
    assert_eq!(delivered(&broker.receiver(queue, 2, 9)), [(2, 2, 0), (2, 3, 0), (2, 4, 0)]);
    assert_eq!(broker.crash().contents(queue), [(2, 0), (3, 0), (4, 0)]);
}

#[test]
fn a_receive_and_delete_that_was_taken_back_keeps_count_and_properties() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.abandon(1, token);
    broker.deleting_receiver(queue, 2, 1);
    broker.hold_commits();
    broker.break_connection(2);
    assert_eq!(delivered(&broker.receiver(queue, 3, 1)), [], "its rows are not durable again");
    assert_eq!(delivered(&broker.commit()), [(3, 1, 1)]);
    assert_eq!(broker.crash().contents(queue), [(1, 1)]);
}

#[test]
fn a_drain_of_receive_and_delete_is_answered_after_its_deliveries() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.deleting_receiver(queue, 1, 0);
    let seen = broker.drain(1, 5);
    assert_eq!(delivered(&seen), [(1, 1, 0)]);
    assert_eq!(seen.last().map(|last| &last.effect), Some(&Effect::Drained { link: link(1) }));
}
