//! Enqueueing.

use lockstep_model::SizeLimit;

use super::*;

/// Semantics B-5, G-24.
#[test]
fn sequence_numbers_start_at_one_and_have_no_gaps() {
    let (mut broker, queue) = Broker::with_queue();
    let send = |broker: &mut Broker| broker.send_all(queue, vec![message(None, "a")]);
    assert_eq!(send(&mut broker), enqueued(1));
    assert_eq!(send(&mut broker), enqueued(2));
}

/// Semantics A-13, C-9.
#[test]
fn a_message_without_session_id_is_refused_and_takes_no_number() {
    let (mut broker, queue) = Broker::with_session_queue();
    let refused = broker.send_all(queue, vec![message(None, "a")]);
    assert_eq!(refused, Reply::Refused(Refusal::MessageSessionIdMissing));
    assert_eq!(broker.send_all(queue, vec![message(Some(""), "a")]), enqueued(1));
}

/// Semantics A-14, B-95.
#[test]
fn one_bad_message_fails_its_whole_batch() {
    let (mut broker, queue) = Broker::with_session_queue();
    let batch = vec![message(Some("s"), "a"), message(None, "b"), message(Some("s"), "c")];
    assert_eq!(broker.send_all(queue, batch), Reply::Refused(Refusal::MessageSessionIdMissing));
    assert_eq!(broker.contents(queue), []);
    assert_eq!(broker.list(queue, None, 0, 10), [""; 0]);
}

/// Semantics B-95, C-8.
#[test]
fn a_batch_gets_consecutive_numbers_in_its_order() {
    let (mut broker, queue) = Broker::with_queue();
    let batch = vec![message(None, "a"), message(None, "b"), message(None, "c")];
    assert_eq!(broker.send_all(queue, batch), enqueued(1));
    let peeked = broker.peek(queue, 0, 10, None);
    let bodies: Vec<_> =
        peeked.iter().map(|m| body_of(&broker.store, m.body.id).expect("is stored")).collect();
    assert_eq!(bodies, ["a", "b", "c"]);
}

/// Semantics A-18.
#[test]
fn a_session_id_on_a_plain_queue_changes_nothing() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, Some("s"));
    broker.send(queue, None);
    assert_eq!(delivered(&broker.receiver(queue, 1, 2)), [(1, 1, 0), (1, 2, 0)]);
}

/// Semantics B-6.
#[test]
fn a_message_above_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let (mut broker, queue) = Broker::with_queue();
    let too_large = Refusal::TooLarge { limit: SizeLimit::Message, max_bytes: 1024 };
    let send = |broker: &mut Broker, size| broker.send_all(queue, vec![message(None, &"x".repeat(size))]);
    assert_eq!(send(&mut broker, 1025), Reply::Refused(too_large));
    assert_eq!(send(&mut broker, 1024), enqueued(1));
}

/// Semantics G-21.
#[test]
fn a_batch_above_the_limit_of_one_message_is_refused() {
    let (mut broker, queue) = Broker::with_queue();
    let half = "x".repeat(513);
    let reply = broker.send_all(queue, vec![message(None, &half), message(None, &half)]);
    assert_eq!(reply, Reply::Refused(Refusal::TooLarge { limit: SizeLimit::Batch, max_bytes: 1024 }));
}

/// Semantics B-6.
#[test]
fn a_batch_of_too_many_messages_is_refused() {
    let (mut broker, queue) = Broker::with_queue();
    let reply = broker.send_all(queue, vec![message(None, ""); 4501]);
    assert_eq!(reply, Reply::Refused(Refusal::TooManyMessages));
}

/// Semantics B-9, B-10.
#[test]
fn sends_to_nowhere_and_to_sub_queues_are_refused() {
    let (mut broker, queue) = Broker::with_queue();
    let send = |broker: &mut Broker, entity| broker.send_all(entity, vec![message(None, "a")]);
    assert_eq!(send(&mut broker, dead_letter(queue)), Reply::Refused(Refusal::SendToSubQueue));
    let nowhere = EntityId::new(NamespaceId(1), 77);
    assert_eq!(send(&mut broker, nowhere), Reply::Refused(Refusal::EntityNotFound));
}

/// Rule 2: a row goes to no receiver before it is durable; B-1: nor is it acknowledged.
#[test]
fn nothing_is_delivered_or_acknowledged_before_it_is_durable() {
    let (mut broker, queue) = Broker::with_queue();
    broker.receiver(queue, 1, 10);
    broker.hold_commits();
    let request = Some(RequestId(5));
    let messages = [message(None, "a")].into();
    let enqueue = Enqueue { entity: queue, messages, connection: connection(9), request };
    assert_eq!(broker.run(Command::Enqueue(enqueue)), []);
    let seen = broker.commit();
    assert_eq!(reply(&seen), enqueued(1));
    assert_eq!(delivered(&seen), [(1, 1, 0)]);
}

/// Semantics A-10.
#[test]
fn requires_session_cannot_be_changed_and_other_properties_can() {
    let (mut broker, queue) = Broker::with_queue();
    let error = broker.define_as(Broker::description("Q", true)).expect_err("immutable");
    assert!(matches!(error, DefineError::Immutable { property: "requires_session", .. }));
    let mut description = Broker::description("q", false);
    description.max_message_size_bytes = 2048;
    assert_eq!(broker.define_as(description), Ok(queue));
    let reply = broker.send_all(queue, vec![message(None, &"x".repeat(2048))]);
    assert_eq!(reply, enqueued(1));
}
