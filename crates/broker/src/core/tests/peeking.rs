//! Peek.

use super::*;

fn numbers(messages: &[PeekedMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.sequence_number.0).collect()
}

/// Semantics A-120, B-53, G-57.
#[test]
fn peek_walks_from_a_number_and_shows_locked_messages_too() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..5 {
        broker.send(queue, None);
    }
    broker.receiver(queue, 1, 2);
    assert_eq!(numbers(&broker.peek(queue, 0, 2, None)), [1, 2]);
    assert_eq!(numbers(&broker.peek(queue, 1, 1, None)), [1]);
    assert_eq!(numbers(&broker.peek(queue, 3, 10, None)), [3, 4, 5]);
    assert_eq!(numbers(&broker.peek(queue, 6, 10, None)), [0; 0]);
    assert_eq!(delivered(&broker.credit(1, 3)), [(1, 3, 0)], "the next receive is the same");
}

/// Semantics.
#[test]
fn peek_of_one_session_shows_only_its_messages_whoever_holds_it() {
    let (mut broker, queue) = Broker::with_session_queue();
    for session in ["a", "b", "a", "b", "a"] {
        broker.send(queue, Some(session));
    }
    broker.accept(queue, 1, "a");
    broker.credit(1, 2);
    assert_eq!(numbers(&broker.peek(queue, 0, 10, Some("a"))), [1, 3, 5]);
    assert_eq!(numbers(&broker.peek(queue, 2, 1, Some("a"))), [3]);
    assert_eq!(numbers(&broker.peek(queue, 0, 10, Some("c"))), [0; 0]);
    assert_eq!(numbers(&broker.peek(queue, 0, 10, None)), [1, 2, 3, 4, 5]);
}

/// Rule 1: it shows what was just sent, and leaves only when a crash can no longer take it back.
#[test]
fn a_peek_never_shows_what_a_crash_could_take_back() {
    let (mut broker, queue) = Broker::with_queue();
    broker.hold_commits();
    broker.send(queue, None);
    let (from, session, request) = (SequenceNumber(0), None, RequestId(1));
    let connection = connection(1);
    let peek = Command::Peek { entity: queue, from, count: 10, session, connection, request };
    assert_eq!(broker.run(peek), []);
    assert_eq!(broker.crash().contents(queue), []);
    let Reply::Peeked(messages) = reply(&broker.commit()) else { panic!("a peek") };
    assert_eq!(numbers(&messages), [1]);
    assert_eq!(broker.crash().contents(queue), [(1, 0)]);
}

#[test]
fn a_page_is_bounded_by_bytes_and_never_empty_for_it() {
    let (mut broker, queue) = Broker::with_queue();
    let mut description = Broker::description("q", false);
    description.max_message_size_bytes = 2 * 1024 * 1024;
    broker.define_as(description).expect("valid");
    for size in [1_500_000, 400_000, 400_000, 400_000] {
        broker.send_all(queue, vec![message(None, &"x".repeat(size))]);
    }
    assert_eq!(numbers(&broker.peek(queue, 1, 10, None)), [1]);
    assert_eq!(numbers(&broker.peek(queue, 2, 10, None)), [2, 3]);
}

/// A session whose middle was worked off is still cheap and right to walk.
#[test]
fn removed_messages_leave_no_trace_in_a_session() {
    let (mut broker, queue) = Broker::with_session_queue();
    for _ in 0..300 {
        broker.send(queue, Some("s"));
    }
    broker.accept(queue, 1, "s");
    let tokens = tokens(&broker.credit(1, 300));
    broker.settle_all(1, &tokens[1..299], Settlement::Complete);
    assert_eq!(numbers(&broker.peek(queue, 0, 100, Some("s"))), [1, 300]);
    broker.settle_all(1, &tokens[..1], Settlement::Complete);
    assert_eq!(numbers(&broker.peek(queue, 2, 100, Some("s"))), [300]);
}

#[test]
fn peek_of_no_entity_is_refused() {
    let (mut broker, _) = Broker::with_queue();
    let entity = EntityId::new(NamespaceId(1), 50);
    let (from, session, request) = (SequenceNumber(0), None, RequestId(1));
    let connection = connection(1);
    let peek = Command::Peek { entity, from, count: 1, session, connection, request };
    assert_eq!(reply(&broker.run(peek)), Reply::Refused(Refusal::EntityNotFound));
}
