//! What is there after a crash.

use super::*;

/// Semantics C-2, C-12, C-13.
#[test]
fn after_a_crash_everything_is_there_unlocked_with_the_count_as_written() {
    let (mut broker, queue) = Broker::with_session_queue();
    for session in ["a", "b", "a"] {
        broker.send(queue, Some(session));
    }
    broker.accept(queue, 1, "a");
    let tokens = tokens(&broker.credit(1, 2));
    broker.abandon(1, tokens[0]);
    let mut broker = broker.crash();
    assert_eq!(broker.contents(queue), [(1, 1), (2, 0), (3, 0)]);
    assert_eq!(granted(&broker.accept(queue, 1, "a")), [(1, "a".into())]);
    assert_eq!(delivered(&broker.credit(1, 9)), [(1, 1, 1), (1, 3, 0)]);
    assert_eq!(broker.complete(1, tokens[1]), Some(Refusal::MessageLockLost));
}

/// Semantics B-5, C-9: also when the messages are gone.
#[test]
fn sequence_numbers_and_entity_numbers_go_on_after_a_crash() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.complete(1, token);
    let mut broker = broker.crash();
    assert_eq!(broker.send_all(queue, vec![message(None, "a")]), enqueued(2));
    assert_eq!(broker.define("q", false), queue);
    assert_ne!(broker.define("other", false), queue);
}

#[test]
fn what_was_not_durable_is_gone_after_a_crash_and_numbers_are_given_again() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.hold_commits();
    broker.send(queue, None);
    let mut broker = broker.crash();
    assert_eq!(broker.contents(queue), [(1, 0)]);
    assert_eq!(broker.send_all(queue, vec![message(None, "a")]), enqueued(2));
}

#[test]
fn bodies_that_no_row_names_are_not_live() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.send(queue, None);
    let body = deliveries(&broker.deleting_receiver(queue, 1, 1))[0].body.id;
    assert!(body_of(&broker.store, body).is_some(), "it may have to come back");
    let broker = broker.crash();
    assert!(!broker.namespace.is_live_body(body));
    assert!(broker.namespace.is_live_body(BodyId(body.0 + 1)));
    assert_eq!(body_of(&broker.store, body), None);
}

/// Semantics A-38 after a restart: by the lowest first message.
#[test]
fn sessions_are_eligible_after_a_crash() {
    let (mut broker, queue) = Broker::with_session_queue();
    for session in ["z", "a"] {
        broker.send(queue, Some(session));
    }
    let mut broker = broker.crash();
    assert_eq!(granted(&broker.accept_next(queue, 1)), [(1, "z".into())]);
    assert_eq!(granted(&broker.accept_next(queue, 2)), [(2, "a".into())]);
}
