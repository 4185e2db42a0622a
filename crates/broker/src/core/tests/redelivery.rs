//! Delayed abandon (semantics F-7).

use super::*;

const DELAY: Duration = Duration::from_secs(10);
const A_MOMENT: Duration = Duration::from_millis(1);

fn abandon_for(broker: &mut Broker, number: u64, token: LockToken, delay: Duration) {
    assert_eq!(broker.settle(number, token, Settlement::AbandonFor(PropertyOverlay::new(), delay)), None);
}

#[test]
fn an_abandoned_message_waits_as_long_as_its_receiver_says_and_others_go_on() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.send(queue, None);
    let first = broker.receiver(queue, 1, 1);
    abandon_for(&mut broker, 1, tokens(&first)[0], DELAY);
    assert_eq!(delivered(&broker.credit(1, 9)), [(1, 2, 0)]);
    assert_eq!(broker.contents(queue), [(1, 1), (2, 0)]);
    assert_eq!(broker.pass(DELAY - A_MOMENT), []);
    assert_eq!(delivered(&broker.pass(A_MOMENT)), [(1, 1, 1)]);
}

#[test]
fn in_a_message_session_nothing_overtakes_a_message_that_waits() {
    let (mut broker, queue) = Broker::with_session_queue();
    for session in ["a", "a", "b"] {
        broker.send(queue, Some(session));
    }
    let first = broker.accept(queue, 1, "a");
    assert_eq!(granted(&first).len(), 1);
    let first = broker.credit(1, 1);
    abandon_for(&mut broker, 1, tokens(&first)[0], DELAY);
    assert_eq!(delivered(&broker.credit(1, 9)), []);
    // Whoever asks for any message session gets the other one, even when this one is free.
    broker.detach(1);
    assert_eq!(granted(&broker.accept_next(queue, 2)), [(2, "b".into())]);
    assert_eq!(granted(&broker.accept_next(queue, 3)), []);
    broker.credit(3, 9);
    let due = broker.pass(DELAY);
    assert_eq!(granted(&due), [(3, "a".into())]);
    assert_eq!(delivered(&due), [(3, 1, 1), (3, 2, 0)]);
}

#[test]
fn the_back_off_of_the_entity_doubles_and_the_receiver_may_overrule_it() {
    let mut broker = Broker::new(CoreConfig::default());
    let description = QueueDescription {
        redelivery_delay: DELAY,
        redelivery_delay_max: Duration::from_secs(15),
        max_delivery_count: 10,
        ..Broker::description("q", false)
    };
    let queue = broker.define_as(description).unwrap();
    broker.send(queue, None);
    let mut seen = broker.receiver(queue, 1, 9);
    for (count, delay) in [(0, DELAY), (1, Duration::from_secs(15)), (2, Duration::from_secs(15))] {
        assert_eq!(delivered(&seen), [(1, 1, count)]);
        broker.abandon(1, tokens(&seen)[0]);
        assert_eq!(broker.pass(delay - A_MOMENT), []);
        seen = broker.pass(A_MOMENT);
    }
    let token = tokens(&seen)[0];
    let at_once = Settlement::AbandonFor(PropertyOverlay::new(), Duration::ZERO);
    assert_eq!(delivered(&broker.settle_all(1, &[token], at_once)), [(1, 1, 4)]);
}

///
#[test]
fn a_message_that_expires_does_not_wait_any_longer() {
    let (mut broker, queue) = Broker::with_session_queue();
    let living = IncomingMessage { time_to_live: Some(DELAY), ..message(Some("a"), "x") };
    broker.send_all(queue, vec![living, message(Some("a"), "y")]);
    broker.accept(queue, 1, "a");
    let first = broker.credit(1, 1);
    abandon_for(&mut broker, 1, tokens(&first)[0], DELAY * 100);
    broker.credit(1, 9);
    broker.pass(DELAY + A_MOMENT);
    // With it, under the rule for message sessions, the other one.
    assert_eq!(broker.contents(queue), []);
}

#[test]
fn nobody_has_a_message_that_waits() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let first = broker.receiver(queue, 1, 1);
    abandon_for(&mut broker, 1, tokens(&first)[0], DELAY);
    assert_eq!(broker.namespace.counts(queue).locked, 0);
    broker.pass(DELAY);
    assert_eq!(broker.namespace.counts(queue).locked, 0);
    assert_eq!(delivered(&broker.credit(1, 2)), [(1, 1, 1)]);
    assert_eq!(broker.namespace.counts(queue).locked, 1);
}

#[test]
fn the_last_failure_and_a_deferred_message_do_not_wait() {
    let mut broker = Broker::new(CoreConfig::default());
    let description = QueueDescription {
        redelivery_delay: DELAY,
        max_delivery_count: 1,
        ..Broker::description("q", false)
    };
    let queue = broker.define_as(description).unwrap();
    broker.send(queue, None);
    broker.send(queue, None);
    let seen = broker.receiver(queue, 1, 2);
    broker.abandon(1, tokens(&seen)[0]);
    assert_eq!(broker.contents(dead_letter(queue)).len(), 1);
    broker.defer(1, tokens(&seen)[1]);
    let deferred = broker.deferred(queue, 2, &[2], None);
    broker.manage(queue, 2, &[deferred[0].token], Settlement::Abandon(PropertyOverlay::new()));
    assert_eq!(broker.deferred(queue, 2, &[2], None).len(), 1);
}

#[test]
fn a_restart_and_a_lost_holder_end_as_they_do_without_a_delay() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("a"));
    broker.accept(queue, 1, "a");
    let seen = broker.credit(1, 9);
    abandon_for(&mut broker, 1, tokens(&seen)[0], DELAY);
    let mut restarted = broker.crash();
    restarted.accept(queue, 2, "a");
    assert_eq!(delivered(&restarted.credit(2, 9)), [(2, 1, 1)]);
    // Without a restart: the holder goes, the delay stays.
    broker.break_connection(1);
    broker.pass(LOCK);
    broker.accept(queue, 3, "a");
    assert_eq!(delivered(&broker.credit(3, 9)), [(3, 1, 1)]);
}
