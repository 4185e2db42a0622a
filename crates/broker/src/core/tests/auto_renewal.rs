//! Locks that are renewed while their link is attached.

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

/// A queue that renews locks.
fn renewing(requires_session: bool) -> (Broker, EntityId) {
    let mut broker = Broker::new(CoreConfig::default());
    let mut description = Broker::description("q", requires_session);
    description.auto_renew_while_link_open = true;
    let queue = broker.define_as(description).expect("valid");
    (broker, queue)
}

/// The end of the lock that a delivery tells.
fn until(seen: &[Routed]) -> Vec<Option<Timestamp>> {
    deliveries(seen).iter().map(|delivery| delivery.locked_until).collect()
}

#[test]
fn a_message_session_stays_held_as_long_as_its_link_is_attached() {
    let (mut broker, queue) = renewing(true);
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    let token = tokens(&broker.credit(1, 1))[0];
    for _ in 0..5 {
        assert_eq!(broker.pass(LOCK), [], "nobody is told, nothing is delivered again");
        assert_eq!(refused(&broker.accept(queue, 2, "s")), [(2, Refusal::MessageSessionCannotBeLocked)]);
    }
    assert_eq!(broker.complete(1, token), None);
    broker.send(queue, Some("s"));
    assert_eq!(delivered(&broker.credit(1, 2)), [(1, 2, 0)]);
}

#[test]
fn messages_tell_the_end_of_the_renewed_lock() {
    let (mut broker, queue) = renewing(true);
    broker.accept(queue, 1, "s");
    broker.credit(1, 10);
    broker.pass(LOCK + MOMENT);
    let end = broker.now.utc.plus(LOCK);
    assert_eq!(until(&broker.send(queue, Some("s"))), [Some(end)]);
    // Also when its time has passed and nobody has noticed yet.
    broker.advance(LOCK + MOMENT);
    let end = broker.now.utc.plus(LOCK);
    assert_eq!(until(&broker.send(queue, Some("s"))), [Some(end)]);
}

#[test]
fn a_renewed_lock_is_never_over_between_its_end_and_the_next_tick() {
    let (mut broker, queue) = renewing(true);
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    let token = tokens(&broker.credit(1, 1))[0];
    broker.advance(LOCK + MOMENT);
    assert_eq!(refused(&broker.accept(queue, 2, "s")), [(2, Refusal::MessageSessionCannotBeLocked)]);
    broker.advance(LOCK + MOMENT);
    assert_eq!(broker.complete(1, token), None);

    let (mut broker, queue) = renewing(false);
    broker.send(queue, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.advance(LOCK + MOMENT);
    assert_eq!(broker.complete(1, token), None);
}

#[test]
fn a_clean_detach_frees_the_message_session_at_once_and_counts_nothing() {
    let (mut broker, queue) = renewing(true);
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    broker.credit(1, 1);
    broker.pass(2 * LOCK);
    broker.detach(1);
    broker.accept(queue, 2, "s");
    assert_eq!(delivered(&broker.credit(2, 1)), [(2, 1, 0)]);
}

#[test]
fn a_broken_connection_ends_the_renewals_and_the_lock_runs_out() {
    let (mut broker, queue) = renewing(true);
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    broker.credit(1, 1);
    broker.pass(LOCK);
    broker.pass(LOCK / 2);
    broker.break_connection(1);
    // It was renewed at LOCK: half of that time is over.
    broker.pass(LOCK / 2 - MOMENT);
    assert_eq!(refused(&broker.accept(queue, 2, "s")), [(2, Refusal::MessageSessionCannotBeLocked)]);
    broker.pass(MOMENT);
    broker.accept(queue, 3, "s");
    assert_eq!(delivered(&broker.credit(3, 1)), [(3, 1, 1)], "counted as at every expiry");
}

#[test]
fn message_locks_of_a_plain_queue_are_renewed_until_their_link_is_gone() {
    let (mut broker, queue) = renewing(false);
    broker.send(queue, None);
    broker.send(queue, None);
    let held = tokens(&broker.receiver(queue, 1, 2));
    for _ in 0..5 {
        assert_eq!(broker.pass(LOCK), []);
    }
    assert_eq!(broker.complete(1, held[0]), None);
    broker.receiver(queue, 2, 10);
    broker.detach(1);
    assert_eq!(broker.pass(LOCK - MOMENT), []);
    assert_eq!(delivered(&broker.pass(MOMENT)), [(2, 2, 1)]);
    assert_eq!(broker.complete(1, held[1]), Some(Refusal::MessageLockLost));
}

#[test]
fn a_dead_letter_queue_renews_as_its_entity_does() {
    let (mut broker, queue) = renewing(true);
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    let token = tokens(&broker.credit(1, 1))[0];
    broker.settle(1, token, Settlement::DeadLetter(PropertyOverlay::new()));
    let token = tokens(&broker.receiver(dead_letter(queue), 2, 1))[0];
    broker.pass(3 * LOCK);
    assert_eq!(broker.complete(2, token), None);
}

#[test]
fn a_message_whose_settlement_was_refused_comes_back_when_its_lock_runs_out() {
    let (mut broker, queue) = renewing(false);
    broker.send(queue, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.settle(1, token, Settlement::DeadLetter(PropertyOverlay::new()));
    let token = tokens(&broker.receiver(dead_letter(queue), 2, 1))[0];
    broker.pass(3 * LOCK);
    broker.settle(2, token, Settlement::DeadLetter(PropertyOverlay::new()));
    broker.receiver(dead_letter(queue), 3, 1);
    assert_eq!(deliveries(&broker.pass(LOCK)).len(), 1);
}

#[test]
fn nor_is_one_kept_whose_settlement_was_refused_before_it_came_here() {
    let (mut broker, queue) = renewing(false);
    broker.send(queue, None);
    broker.send(queue, None);
    let held = tokens(&broker.receiver(queue, 1, 2));
    let refused = |token: LockToken, link| Command::SettlementRefused {
        link: OutgoingLinkId(link),
        tokens: [token].into_iter().collect(),
    };
    broker.run(refused(held[0], 1));
    // Another link's word does not count.
    broker.run(refused(held[1], 7));
    broker.receiver(queue, 3, 10);
    assert_eq!(delivered(&broker.pass(LOCK)), [(3, 1, 1)]);
    assert_eq!(broker.complete(1, held[1]), None);
}

#[test]
fn a_queue_that_does_not_renew_is_as_before() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.accept(queue, 1, "s");
    broker.pass(LOCK);
    assert_eq!(refused(&broker.accept(queue, 2, "s")), []);
}

#[test]
fn the_property_can_be_changed_and_survives_a_restart() {
    let (mut broker, queue) = renewing(true);
    let broker_after = broker.crash();
    let described = |broker: &Broker| {
        broker.namespace.entities().map(|(_, queue)| queue.auto_renew_while_link_open).collect::<Vec<_>>()
    };
    assert_eq!(described(&broker_after), [true]);
    broker.accept(queue, 1, "s");
    broker.define_as(Broker::description("q", true)).expect("it may change");
    broker.pass(LOCK);
    assert_eq!(refused(&broker.accept(queue, 2, "s")), [], "renewed no more");
    assert_eq!(described(&broker.crash()), [false]);
}
