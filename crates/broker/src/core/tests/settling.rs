//! Settlement and the dead-letter queue.

use lockstep_model::PropertyValue;

use super::*;

fn properties(value: &str) -> PropertyOverlay {
    let mut overlay = PropertyOverlay::new();
    overlay.set("key", PropertyValue::Text(value.into()));
    overlay
}

/// A queue with `count` messages, all locked by link 1.
fn locked(count: u64) -> (Broker, EntityId, Vec<LockToken>) {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..count {
        broker.send(queue, None);
    }
    let tokens = tokens(&broker.receiver(queue, 1, count));
    (broker, queue, tokens)
}

/// Semantics B-17.
#[test]
fn a_completed_message_is_gone_with_its_body() {
    let (mut broker, queue, tokens) = locked(2);
    let body = broker.peek(queue, 1, 1, None)[0].body.id;
    assert_eq!(broker.complete(1, tokens[0]), None);
    assert_eq!(broker.contents(queue), [(2, 0)]);
    assert_eq!(body_of(&broker.store, body), None);
    assert_eq!(broker.complete(1, tokens[0]), Some(Refusal::MessageLockLost), "B-24");
}

/// Semantics B-23, C-4.
#[test]
fn a_settlement_is_confirmed_only_when_durable() {
    let (mut broker, queue, tokens) = locked(1);
    broker.hold_commits();
    assert_eq!(broker.settle_all(1, &tokens, Settlement::Complete), []);
    assert_eq!(broker.crash().contents(queue), [(1, 0)]);
    assert_eq!(reply(&broker.commit()), Reply::Settled(vec![]));
}

/// Semantics B-18, G-40.
#[test]
fn an_abandoned_message_is_counted_and_delivered_at_once() {
    let (mut broker, _, tokens) = locked(1);
    broker.credit(1, 2);
    broker.hold_commits();
    let seen = broker.settle_all(1, &tokens, Settlement::Abandon(PropertyOverlay::new()));
    assert_eq!(delivered(&seen), [(1, 1, 1)], "it is durable; only its count is not yet");
}

/// Semantics B-20, D-9.
#[test]
fn a_released_message_is_not_counted() {
    let (mut broker, queue, tokens) = locked(2);
    assert_eq!(broker.settle(1, tokens[0], Settlement::Release), None);
    assert_eq!(delivered(&broker.receiver(queue, 2, 1)), [(2, 1, 0)]);
}

/// Semantics B-22, G-44.
#[test]
fn properties_of_an_abandon_are_laid_over_the_message_and_last() {
    let (mut broker, queue, tokens) = locked(1);
    broker.settle(1, tokens[0], Settlement::Abandon(properties("old")));
    let second = broker.credit(1, 2);
    broker.settle(1, self::tokens(&second)[0], Settlement::Abandon(properties("new")));
    let mut broker = broker.crash();
    let peeked = broker.peek(queue, 0, 1, None).remove(0);
    assert_eq!(peeked.properties.as_deref(), Some(&properties("new")));
    assert_eq!(peeked.delivery_count, 2);
    let delivery = deliveries(&broker.receiver(queue, 9, 1)).remove(0);
    assert_eq!(delivery.properties.as_deref(), Some(&properties("new")));
}

/// Semantics B-29, B-30, G-41.
#[test]
fn the_last_allowed_failure_moves_a_message_to_the_dead_letter_queue() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.receiver(queue, 1, 0);
    for count in 0..MAX_DELIVERY_COUNT {
        let seen = broker.credit(1, u64::from(count) + 1);
        assert_eq!(delivered(&seen), [(1, 1, count)]);
        broker.abandon(1, tokens(&seen)[0]);
    }
    assert_eq!(broker.contents(queue), []);
    let dead = broker.peek(dead_letter(queue), 0, 9, None).remove(0);
    assert_eq!((dead.sequence_number, dead.delivery_count), (SequenceNumber(1), MAX_DELIVERY_COUNT));
    let properties = dead.properties.expect("a reason");
    let text = |name| match properties.get(name) {
        Some(PropertyValue::Text(text)) => text.to_string(),
        other => panic!("no text: {other:?}"),
    };
    assert_eq!(text("DeadLetterReason"), "MaxDeliveryCountExceeded");
    assert_eq!(
        text("DeadLetterErrorDescription"),
        "Message could not be consumed after 3 delivery attempts."
    );
}

/// Semantics B-29: expiry counts like an abandon.
#[test]
fn expiry_moves_a_message_to_the_dead_letter_queue_too() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.receiver(queue, 1, 9);
    for _ in 0..MAX_DELIVERY_COUNT {
        broker.pass(LOCK);
    }
    assert_eq!(broker.contents(queue), []);
    assert_eq!(broker.contents(dead_letter(queue)), [(1, MAX_DELIVERY_COUNT)]);
    assert_eq!(broker.namespace.counts(queue).locked, 0);
}

/// Semantics B-21, B-38, B-41, G-42.
#[test]
fn a_dead_lettered_message_keeps_number_time_count_and_body() {
    let (mut broker, queue, tokens) = locked(2);
    let before = broker.peek(queue, 2, 1, None).remove(0);
    assert_eq!(broker.settle(1, tokens[1], Settlement::DeadLetter(properties("why"))), None);
    for mut broker in [broker.crash(), broker] {
        let after = broker.peek(dead_letter(queue), 0, 9, None).remove(0);
        assert_eq!(after.properties.as_deref(), Some(&properties("why")));
        assert_eq!(PeekedMessage { properties: None, ..after.clone() }, before);
        assert!(body_of(&broker.store, after.body.id).is_some());
        assert_eq!(broker.contents(queue), [(1, 0)]);
    }
}

/// Rule 2: the row in the dead-letter queue is new.
#[test]
fn a_dead_lettered_message_is_delivered_there_once_the_move_is_durable() {
    let (mut broker, queue, tokens) = locked(1);
    broker.receiver(dead_letter(queue), 2, 1);
    broker.hold_commits();
    let seen = broker.settle_all(1, &tokens, Settlement::DeadLetter(PropertyOverlay::new()));
    assert_eq!(seen, []);
    assert_eq!(delivered(&broker.commit()), [(2, 1, 0)]);
}

/// Semantics B-38, D-37, G-42, G-43.
#[test]
fn nothing_is_counted_or_moved_inside_a_dead_letter_queue() {
    let (mut broker, queue, tokens) = locked(1);
    broker.settle(1, tokens[0], Settlement::DeadLetter(PropertyOverlay::new()));
    let dead = dead_letter(queue);
    let mut seen = broker.receiver(dead, 2, 9);
    for _ in 0..5 {
        assert_eq!(delivered(&seen), [(2, 1, 0)]);
        let again = broker.settle(2, self::tokens(&seen)[0], Settlement::DeadLetter(properties("x")));
        assert_eq!(again, Some(Refusal::AlreadyDeadLettered));
        let tokens = self::tokens(&seen);
        seen = broker.settle_all(2, &tokens, Settlement::Abandon(PropertyOverlay::new()));
    }
    assert_eq!(delivered(&broker.pass(LOCK)), [(2, 1, 0)], "expiry");
    let token = broker.namespace.locks.len();
    assert_eq!(token, (1, 1), "still locked");
    assert_eq!(broker.contents(dead), [(1, 0)]);
}

/// Semantics B-21.
#[test]
fn settling_on_a_receive_and_delete_link_is_refused() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let token = tokens(&broker.deleting_receiver(queue, 1, 1))[0];
    assert_eq!(broker.complete(1, token), Some(Refusal::NotAllowedInMode));
}

/// Each token of a disposition stands for itself.
#[test]
fn a_disposition_settles_what_it_can() {
    let (mut broker, queue, mut tokens) = locked(3);
    tokens[1] = LockToken::from_uuid_bytes([9; 16]);
    let seen = broker.settle_all(1, &tokens, Settlement::Complete);
    assert_eq!(reply(&seen), Reply::Settled(vec![(1, Refusal::MessageLockLost)]));
    assert_eq!(broker.contents(queue), [(2, 0)]);
}

/// wire.md 7: all or none.
#[test]
fn settling_by_management_is_all_or_none() {
    let (mut broker, queue, tokens) = locked(3);
    let lost = Reply::Refused(Refusal::MessageLockLost);
    let unknown = LockToken::from_uuid_bytes([0; 16]);
    assert_eq!(broker.manage(queue, 7, &[tokens[0], unknown], Settlement::Complete), lost);
    assert_eq!(broker.manage(queue, 7, &[tokens[0], tokens[0]], Settlement::Complete), lost);
    assert_eq!(broker.contents(queue).len(), 3);
    assert_eq!(broker.manage(queue, 7, &tokens, Settlement::Complete), Reply::Settled(vec![]));
    assert_eq!(broker.contents(queue), []);
}

/// Abandoned together, messages come again in order.
#[test]
fn messages_abandoned_in_one_disposition_come_again_in_order() {
    let (mut broker, _, mut tokens) = locked(3);
    broker.credit(1, 6);
    tokens.reverse();
    let seen = broker.settle_all(1, &tokens, Settlement::Abandon(PropertyOverlay::new()));
    assert_eq!(delivered(&seen), [(1, 1, 1), (1, 2, 1), (1, 3, 1)]);
}

/// Rule 18: what a peer can make grow is bounded. Semantics B-35.
#[test]
fn properties_laid_over_a_message_are_bounded_all_together() {
    let overlay = |name: &str| {
        let mut overlay = PropertyOverlay::new();
        overlay.set(name, PropertyValue::Text("x".repeat(40 * 1024).into()));
        overlay
    };
    for second in [Settlement::Abandon(overlay("b")), Settlement::Defer(overlay("b"))] {
        let (mut broker, queue, tokens) = locked(1);
        assert_eq!(broker.settle(1, tokens[0], Settlement::Abandon(overlay("a"))), None);
        let again = self::tokens(&broker.credit(1, 2))[0];
        // What replaces something takes its room.
        assert_eq!(broker.settle(1, again, Settlement::Abandon(overlay("a"))), None);
        let again = self::tokens(&broker.credit(1, 3))[0];
        let dead_letter = Settlement::DeadLetter(overlay("b"));
        assert!(matches!(broker.settle(1, again, dead_letter), Some(Refusal::InvalidArgument(_))));
        broker.manage(queue, 1, &[again], Settlement::Release);
        let again = self::tokens(&broker.credit(1, 4))[0];
        assert_eq!(broker.settle(1, again, second), None);
        assert_eq!(broker.contents(queue), []);

        let dead_letters = queue.with_sub_queue(SubQueue::DeadLetter);
        assert_eq!(broker.contents(dead_letters), [(1, 2)]);
        let properties = broker.peek(dead_letters, 0, 1, None).remove(0).properties.expect("its reason");
        let text = |name: &str| properties.get(name).cloned();
        assert_eq!(text("DeadLetterReason"), Some(PropertyValue::Text("HeaderSizeExceeded".into())));
        assert!(text("a").is_some() && text("b").is_none());
        // There it can only be refused.
        let dead = self::tokens(&broker.receiver(dead_letters, 2, 1))[0];
        let abandon = Settlement::Abandon(overlay("c"));
        assert!(matches!(broker.settle(2, dead, abandon), Some(Refusal::InvalidArgument(_))));
    }
}
