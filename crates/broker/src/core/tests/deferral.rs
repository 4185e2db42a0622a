//! Deferred messages (semantics, B-44 to B-46, G-48 to G-51).

use super::*;

/// A queue with `count` messages, the numbers in `aside` put aside by link 1.
fn with_deferred(count: u64, aside: &[u64]) -> (Broker, EntityId) {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..count {
        broker.send(queue, None);
    }
    let seen = broker.receiver(queue, 1, count);
    for delivery in deliveries(&seen) {
        let settlement = match aside.contains(&delivery.sequence_number.0) {
            true => Settlement::Defer(PropertyOverlay::new()),
            false => Settlement::Release,
        };
        assert_eq!(broker.settle(1, delivery.token, settlement), None);
    }
    broker.detach(1);
    (broker, queue)
}

fn numbers(deliveries: &[Delivery]) -> Vec<(u64, u32)> {
    deliveries.iter().map(|d| (d.sequence_number.0, d.delivery_count)).collect()
}

/// G-51, B-19.
#[test]
fn a_deferred_message_is_found_by_peek_and_by_its_number_only() {
    let (mut broker, queue) = with_deferred(3, &[2]);
    assert_eq!(delivered(&broker.receiver(queue, 2, 5)), [(2, 1, 0), (2, 3, 0)]);
    let states = [(1, MessageState::Active), (2, MessageState::Deferred), (3, MessageState::Active)];
    assert_eq!(broker.states(queue), states);
    assert_eq!((broker.namespace.counts(queue).active, broker.namespace.counts(queue).deferred), (3, 1));
    let received = broker.deferred(queue, 3, &[2], None);
    assert_eq!(numbers(&received), [(2, 1)]);
    assert_eq!(received[0].state, MessageState::Deferred);
    assert_eq!(received[0].locked_until, Some(broker.now.utc.plus(LOCK)));
}

/// A-125, B-49, G-49.
#[test]
fn numbers_are_answered_in_the_order_asked_all_or_none() {
    let (mut broker, queue) = with_deferred(4, &[1, 2, 3]);
    for wrong in [&[3, 4][..], &[9], &[1, 1], &[0]] {
        let refused = broker.receive_deferred(queue, 3, wrong, None, ReceiveMode::PeekLock);
        assert_eq!(refused, Reply::Refused(Refusal::MessageNotFound), "{wrong:?}");
    }
    assert_eq!(numbers(&broker.deferred(queue, 3, &[3, 1], None)), [(3, 1), (1, 1)]);
    let locked = broker.receive_deferred(queue, 3, &[1, 2], None, ReceiveMode::PeekLock);
    assert_eq!(locked, Reply::Refused(Refusal::MessageNotFound), "one of them is locked");
    assert_eq!(numbers(&broker.deferred(queue, 3, &[2], None)), [(2, 1)]);
}

/// A-126, D-36: abandoned and deferred again it stays aside, counted each time, and never goes to
/// the dead-letter queue by its count.
#[test]
fn what_was_put_aside_stays_there_until_it_is_completed_or_dead_lettered() {
    let (mut broker, queue) = with_deferred(1, &[1]);
    let abandon = || Settlement::Abandon(PropertyOverlay::new());
    let defer = || Settlement::Defer(PropertyOverlay::new());
    for (count, settlement) in [(1, abandon()), (2, defer()), (3, abandon()), (4, defer())] {
        let received = broker.deferred(queue, 3, &[1], None);
        assert_eq!(numbers(&received), [(1, count)]);
        assert_eq!(broker.manage(queue, 4, &[received[0].token], settlement), Reply::Settled(vec![]));
        assert_eq!(broker.states(queue), [(1, MessageState::Deferred)]);
    }
    let token = broker.deferred(queue, 3, &[1], None)[0].token;
    let dead = Settlement::DeadLetter(PropertyOverlay::new());
    assert_eq!(broker.manage(queue, 3, &[token], dead), Reply::Settled(vec![]));
    assert_eq!(broker.contents(dead_letter(queue)), [(1, 5)]);
    assert_eq!(broker.states(dead_letter(queue)), [(1, MessageState::Active)]);
    assert_eq!(broker.namespace.counts(queue).deferred, 0);
}

/// B-27: its lock is renewed and runs out like any other; then it is aside again.
#[test]
fn the_lock_of_a_deferred_message_is_renewed_and_runs_out() {
    let (mut broker, queue) = with_deferred(1, &[1]);
    let token = broker.deferred(queue, 3, &[1], None)[0].token;
    broker.pass(LOCK / 2);
    assert!(matches!(broker.renew(queue, 5, &[token]), Reply::Renewed(_)));
    broker.pass(LOCK * 3 / 4);
    assert_eq!(broker.namespace.counts(queue).locked, 1);
    broker.receiver(queue, 6, 1);
    assert_eq!(delivered(&broker.pass(LOCK)), []);
    assert_eq!(broker.states(queue), [(1, MessageState::Deferred)]);
    assert_eq!(broker.contents(queue), [(1, 2)]);
    let lost = Reply::Refused(Refusal::MessageLockLost);
    assert_eq!(broker.manage(queue, 3, &[token], Settlement::Complete), lost);
}

/// removed before it is handed out, with its bytes kept until they were read.
#[test]
fn receive_and_delete_takes_a_deferred_message_once() {
    let (mut broker, queue) = with_deferred(2, &[1, 2]);
    let seen = broker.receive_deferred(queue, 3, &[2, 1], None, ReceiveMode::ReceiveAndDelete);
    let Reply::Deferred(taken) = seen else { panic!("{seen:?}") };
    assert_eq!(numbers(&taken), [(2, 1), (1, 1)]);
    assert_eq!(taken[0].locked_until, None);
    let again = broker.receive_deferred(queue, 3, &[1], None, ReceiveMode::ReceiveAndDelete);
    assert_eq!(again, Reply::Refused(Refusal::MessageNotFound));
    assert!(broker.crash().contents(queue).is_empty());
    let body = taken[0].body.id;
    assert!(body_of(&broker.store, body).is_some());
    let request = RequestId(broker.request().0 - 2);
    broker.run(Command::BodiesRead { connection: connection(3), request });
    assert_eq!(body_of(&broker.store, body), None);
}

/// C-12, C-13: the state survives a crash, its lock does not.
#[test]
fn a_deferred_message_is_aside_after_a_restart() {
    let (mut broker, queue) = with_deferred(3, &[1, 3]);
    broker.deferred(queue, 3, &[1], None);
    let mut after = broker.crash();
    assert_eq!(delivered(&after.receiver(queue, 1, 5)), [(1, 2, 0)]);
    assert_eq!(numbers(&after.deferred(queue, 3, &[1, 3], None)), [(1, 1), (3, 1)]);
    let seen = after.send(queue, None);
    assert_eq!(delivered(&seen), [(1, 4, 0)], "what is aside blocks nothing");
}

///
#[test]
fn in_a_message_session_the_lock_on_it_is_needed_and_enough() {
    let (mut broker, queue) = Broker::with_session_queue();
    for session in ["a", "a", "b"] {
        broker.send(queue, Some(session));
    }
    broker.accept(queue, 1, "a");
    let seen = deliveries(&broker.credit(1, 1));
    assert_eq!(broker.defer(1, seen[0].token), None);
    assert_eq!(delivered(&broker.credit(1, 2)), [(1, 2, 0)], "the message session goes on");
    let lost = Reply::Refused(Refusal::MessageSessionLockLost);
    for (number, session) in [(2, Some("a")), (1, Some("b")), (1, None)] {
        let reply = broker.receive_deferred(queue, number, &[1], session, ReceiveMode::PeekLock);
        assert_eq!(reply, lost, "{number} {session:?}");
    }
    let received = broker.deferred(queue, 1, &[1], Some("a"));
    assert_eq!(numbers(&received), [(1, 1)]);
    broker.detach(1);
    assert_eq!(broker.states(queue)[0], (1, MessageState::Deferred), "uncounted and aside");
    broker.accept(queue, 3, "a");
    assert_eq!(numbers(&broker.deferred(queue, 3, &[1], Some("a"))), [(1, 1)]);
    broker.pass(LOCK);
    assert_eq!(broker.contents(queue)[0], (1, 2), "an expired hold counts");
    assert_eq!(broker.states(queue)[0], (1, MessageState::Deferred));
}

/// what is aside makes no message session eligible.
#[test]
fn a_message_session_of_deferred_messages_is_not_handed_out() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("a"));
    broker.accept(queue, 1, "a");
    let token = tokens(&broker.credit(1, 1))[0];
    broker.defer(1, token);
    broker.detach(1);
    assert_eq!(granted(&broker.accept_next(queue, 2)), []);
    assert_eq!(broker.list(queue, None, 0, 10), ["a"], "A-114");
    let mut after = broker.crash();
    assert_eq!(granted(&after.accept_next(queue, 2)), []);
    assert_eq!(granted(&after.send(queue, Some("a")))[0].1, "a");
    assert_eq!(delivered(&after.credit(2, 5)), [(2, 2, 0)]);
}

/// A-129, G-50, B-38.
#[test]
fn a_message_is_put_aside_in_a_dead_letter_queue_uncounted() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send(queue, Some("a"));
    broker.accept(queue, 1, "a");
    let token = tokens(&broker.credit(1, 1))[0];
    broker.settle(1, token, Settlement::DeadLetter(PropertyOverlay::new()));
    let dead = dead_letter(queue);
    let token = tokens(&broker.receiver(dead, 2, 1))[0];
    assert_eq!(broker.defer(2, token), None);
    let received = broker.deferred(dead, 3, &[1], None);
    assert_eq!(numbers(&received), [(1, 0)]);
    assert_eq!(broker.manage(dead, 3, &[received[0].token], Settlement::Complete), Reply::Settled(vec![]));
    assert!(broker.contents(dead).is_empty());
}
