//! Accepting message sessions: by name, and the next one.

use super::*;

fn accept_next_for(broker: &mut Broker, queue: EntityId, number: u64, wait: Duration) -> Vec<Routed> {
    let intent = ReceiveIntent::AcceptNextMessageSession { wait };
    broker.attach(queue, number, intent, ReceiveMode::PeekLock)
}

/// Semantics.
#[test]
fn an_accept_grants_the_lock_for_one_lock_duration() {
    let (mut broker, queue) = Broker::with_session_queue();
    let grant =
        AttachGrant { link: link(1), message_session: Some((id("s"), Some(broker.now.utc.plus(LOCK)))) };
    let routed = Routed { connection: connection(1), effect: Effect::Attached(grant) };
    assert_eq!(broker.accept(queue, 1, "s"), [routed]);
}

/// Semantics A-24, G-62.
#[test]
fn a_message_session_without_messages_can_be_accepted_and_gets_later_ones() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.accept(queue, 1, "s");
    broker.credit(1, 5);
    assert_eq!(delivered(&broker.send(queue, Some("other"))), []);
    assert_eq!(delivered(&broker.send(queue, Some("s"))), [(1, 2, 0)]);
}

/// Semantics, G-61.
#[test]
fn a_held_message_session_is_refused_at_once_and_its_holder_undisturbed() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.accept(queue, 1, "s");
    let seen = broker.accept(queue, 2, "s");
    assert_eq!(refused(&seen), [(2, Refusal::MessageSessionCannotBeLocked)]);
    broker.credit(1, 1);
    assert_eq!(delivered(&broker.send(queue, Some("s"))), [(1, 1, 0)]);
    assert_eq!(broker.namespace.links.len(), 1);
}

/// Semantics A-40.
#[test]
fn fifty_racing_accepts_have_one_winner() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("x"));
    let winners: usize = (1..=50).map(|number| granted(&broker.accept(queue, number, "x")).len()).sum();
    assert_eq!(winners, 1);
}

/// Semantics A-8, G-60.
#[test]
fn the_empty_id_is_a_message_session_like_any_other() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some(""));
    assert_eq!(granted(&broker.accept_next(queue, 1)), [(1, String::new())]);
    assert_eq!(refused(&broker.accept(queue, 2, "")), [(2, Refusal::MessageSessionCannotBeLocked)]);
    assert_eq!(broker.list(queue, None, 0, 9), [""]);
}

/// Semantics A-2.
#[test]
fn one_id_in_two_queues_is_two_message_sessions() {
    let mut broker = Broker::new(CoreConfig::default());
    let (a, b) = (broker.define("a", true), broker.define("b", true));
    assert_eq!(granted(&broker.accept(a, 1, "s")).len(), 1);
    assert_eq!(granted(&broker.accept(b, 2, "s")).len(), 1);
}

/// Semantics A-32, rule 2.
#[test]
fn a_pending_accept_gets_the_first_message_session_that_has_a_durable_message() {
    let (mut broker, queue) = Broker::with_session_queue();
    assert_eq!(broker.accept_next(queue, 1), []);
    broker.credit(1, 1);
    broker.hold_commits();
    assert_eq!(broker.send(queue, Some("s")), []);
    let seen = broker.commit();
    assert_eq!(granted(&seen), [(1, "s".into())]);
    assert_eq!(delivered(&seen), [(1, 1, 0)], "its credit was kept");
}

/// Semantics A-31.
#[test]
fn a_message_session_with_state_only_or_all_in_flight_is_not_the_next() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.accept(queue, 1, "s");
    broker.set_state(queue, 1, "s", Some(b"state"));
    broker.detach(1);
    assert_eq!(granted(&broker.accept_next(queue, 2)), []);
}

/// Semantics, G-64.
#[test]
fn a_pending_accept_times_out_after_its_own_wait() {
    let (mut broker, queue) = Broker::with_session_queue();
    accept_next_for(&mut broker, queue, 1, Duration::from_secs(70));
    accept_next_for(&mut broker, queue, 2, Duration::from_secs(1));
    assert_eq!(refused(&broker.pass(Duration::from_millis(999))), []);
    assert_eq!(refused(&broker.pass(Duration::from_millis(1))), [(2, Refusal::AcceptTimedOut)]);
    assert_eq!(refused(&broker.pass(Duration::from_secs(68))), []);
    assert_eq!(refused(&broker.pass(Duration::from_secs(1))), [(1, Refusal::AcceptTimedOut)]);
    broker.send(queue, Some("s"));
    assert_eq!(broker.namespace.counts(queue).message_sessions_locked, 0, "A-28");
}

/// Semantics A-35, G-63.
#[test]
fn an_accept_cancelled_while_pending_leaves_no_lock() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.accept_next(queue, 1);
    broker.credit(1, 10);
    assert_eq!(detached(&broker.detach(1)), [(1, None)]);
    assert_eq!(broker.send(queue, Some("s")), []);
    assert_eq!(broker.namespace.counts(queue).message_sessions_locked, 0);
    assert_eq!(granted(&broker.accept(queue, 2, "s")), [(2, "s".into())]);
    assert_eq!(broker.namespace.deadlines.len(), 1, "only the new lock's");
}

/// A peer loses such a message for a whole lock duration.
#[test]
fn a_receiver_that_ends_while_it_waits_takes_no_message_with_it() {
    let mut broker = Broker::new(CoreConfig::default());
    let (plain, sessions) = (broker.define("plain", false), broker.define("sessions", true));
    broker.receiver(plain, 1, 10);
    broker.accept_next(sessions, 2);
    broker.credit(2, 10);
    broker.hold_commits();
    broker.send(plain, None);
    broker.send(sessions, Some("s"));
    broker.break_connection(1);
    broker.break_connection(2);
    let seen = broker.commit();
    assert_eq!((delivered(&seen), granted(&seen)), (vec![], vec![]));
    assert_eq!(delivered(&broker.receiver(plain, 3, 1)), [(3, 1, 0)]);
    assert_eq!(granted(&broker.accept(sessions, 4, "s")), [(4, "s".into())]);
}

/// Semantics.
#[test]
fn a_thousand_pending_accepts_and_one_message_wake_exactly_one() {
    let (mut broker, queue) = Broker::with_session_queue();
    for number in 1..=1000 {
        broker.accept_next(queue, number);
    }
    assert_eq!(granted(&broker.send(queue, Some("s"))), [(1, "s".into())]);
    assert_eq!(broker.namespace.counts(queue).pending_accepts, 999);
}

/// Semantics A-37.
#[test]
fn pending_accepts_are_served_first_come_first_served() {
    let (mut broker, queue) = Broker::with_session_queue();
    for number in [3, 1, 2] {
        broker.accept_next(queue, number);
    }
    broker.detach(1);
    let batch = vec![message(Some("a"), ""), message(Some("b"), "")].into();
    let request = None;
    let enqueue = Enqueue { entity: queue, messages: batch, connection: connection(9), request };
    let seen = broker.run(Command::Enqueue(enqueue));
    assert_eq!(granted(&seen), [(3, "a".into()), (2, "b".into())]);
}

/// Semantics A-38.
#[test]
fn ten_sessions_are_visited_before_any_twice() {
    let (mut broker, queue) = Broker::with_session_queue();
    let sessions: Vec<_> = (0..10).map(|n| format!("s{n}")).collect();
    for _ in 0..5 {
        for session in &sessions {
            broker.send(queue, Some(session));
        }
    }
    for round in 0..5 {
        let mut visited = Vec::new();
        for at in 0..10 {
            let number = round * 10 + at + 1;
            visited.extend(granted(&broker.accept_next(queue, number)).into_iter().map(|(_, id)| id));
            let token = tokens(&broker.credit(number, 1))[0];
            assert_eq!(broker.complete(number, token), None);
            broker.detach(number);
        }
        assert_eq!(visited, sessions, "round {round}");
    }
}

/// Semantics A-38: ties by the lowest first message, and A-39.
#[test]
fn a_just_released_message_session_is_eligible_again_behind_the_others() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("b"));
    broker.send(queue, Some("a"));
    let mut order = Vec::new();
    for number in 1..=4 {
        order.extend(granted(&broker.accept_next(queue, number)).into_iter().map(|(_, id)| id));
        broker.detach(number);
    }
    assert_eq!(order, ["b", "a", "b", "a"]);
}

/// Semantics.
#[test]
fn a_pending_accept_gets_what_a_holder_releases() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("s"));
    broker.accept_next(queue, 1);
    broker.accept_next(queue, 2);
    assert_eq!(granted(&broker.detach(1)), [(2, "s".into())]);
}

/// Semantics.
#[test]
fn a_pending_accept_gets_what_expires() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    broker.credit(1, 1);
    accept_next_for(&mut broker, queue, 2, Duration::from_secs(100));
    broker.credit(2, 1);
    let seen = broker.pass(LOCK);
    assert_eq!(granted(&seen), [(2, "s".into())]);
    assert_eq!(delivered(&seen), [(2, 1, 1)]);
    assert_eq!(detached(&seen), [(1, Some(Refusal::MessageSessionLockLost))]);
}

/// A late tick does not let an accept time out that an expiry in the same tick can serve.
#[test]
fn expiry_and_timeout_noticed_together_serve_the_accept() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    accept_next_for(&mut broker, queue, 2, LOCK + Duration::from_secs(1));
    let seen = broker.pass(LOCK + Duration::from_secs(2));
    assert_eq!((granted(&seen), refused(&seen)), (vec![(2, "s".into())], vec![]));
}

/// Semantics A-82.
#[test]
fn accepts_by_name_and_of_the_next_live_side_by_side() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("a"));
    broker.send(queue, Some("b"));
    assert_eq!(granted(&broker.accept(queue, 1, "a")), [(1, "a".into())]);
    assert_eq!(granted(&broker.accept_next(queue, 2)), [(2, "b".into())]);
    assert_eq!(granted(&broker.accept_next(queue, 3)), []);
}

#[test]
fn a_drain_on_a_pending_accept_is_answered_after_the_grant() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.accept_next(queue, 1);
    assert_eq!(broker.drain(1, 10), []);
    let seen = broker.send(queue, Some("s"));
    assert_eq!(delivered(&seen), [(1, 1, 0)]);
    assert_eq!(seen.last().map(|last| &last.effect), Some(&Effect::Drained { link: link(1) }));
}

/// Semantics A-6.
#[test]
fn a_hundred_thousand_sessions_of_one_message_are_all_served() {
    let (mut broker, queue) = Broker::with_session_queue();
    let batch = |at: u32| (0..100).map(|n| message(Some(&format!("s{}", at * 100 + n)), "")).collect();
    for at in 0..1000 {
        broker.send_all(queue, batch(at));
    }
    assert_eq!(broker.namespace.counts(queue).message_sessions, 100_000);
    for number in 0..100_000 {
        assert_eq!(granted(&broker.accept_next(queue, number))[0].1, format!("s{number}"));
        let token = tokens(&broker.credit(number, 1))[0];
        broker.complete(number, token);
        broker.detach(number);
    }
    let last_used = broker.now.utc;
    assert_eq!(
        broker.namespace.counts(queue),
        EntityCounts { last_used, accessed_at: Some(last_used), ..EntityCounts::default() }
    );
}
