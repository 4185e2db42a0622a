//! Scheduled messages (semantics, B-47 to B-52, G-52 to G-55).

use super::*;

fn scheduled(broker: &Broker, session: Option<&str>, seconds: u64) -> IncomingMessage {
    let scheduled_at = Some(broker.now.utc.plus(Duration::from_secs(seconds)));
    IncomingMessage { scheduled_at, ..message(session, "body") }
}

fn schedule(broker: &mut Broker, queue: EntityId, seconds: &[u64]) -> Reply {
    let messages = seconds.iter().map(|&seconds| scheduled(broker, None, seconds)).collect();
    broker.send_all(queue, messages)
}

/// B-48, B-54, G-53.
#[test]
fn a_scheduled_message_is_enqueued_under_another_number_when_it_is_due() {
    let (mut broker, queue) = Broker::with_queue();
    broker.receiver(queue, 1, 5);
    assert_eq!(schedule(&mut broker, queue, &[10]), enqueued(1));
    broker.send(queue, None);
    let due = broker.now.utc.plus(Duration::from_secs(10));
    assert_eq!(broker.states(queue), [(1, MessageState::Scheduled), (2, MessageState::Active)]);
    assert_eq!((broker.namespace.counts(queue).active, broker.namespace.counts(queue).scheduled), (1, 1));
    assert_eq!(broker.namespace.next_due(), Some(due));
    assert_eq!(broker.pass(Duration::from_millis(9_999)), []);
    let seen = deliveries(&broker.pass(Duration::from_millis(1)));
    assert_eq!((seen[0].sequence_number.0, seen[0].delivery_count), (3, 0));
    assert_eq!((seen[0].enqueued_at, seen[0].state), (due, MessageState::Scheduled));
    assert_eq!((broker.namespace.counts(queue).active, broker.namespace.counts(queue).scheduled), (2, 0));
}

/// B-50, A-133: by time, then by number; behind what was sent before.
#[test]
fn several_are_enqueued_in_the_order_of_their_times() {
    let (mut broker, queue) = Broker::with_queue();
    assert_eq!(schedule(&mut broker, queue, &[20, 10, 20, 10]), enqueued(1));
    broker.send(queue, None);
    let body = |broker: &mut Broker, at: u64| broker.peek(queue, at, 1, None)[0].body.id;
    let bodies: Vec<_> = (1..=4).map(|at| body(&mut broker, at)).collect();
    broker.pass(Duration::from_secs(30));
    let after: Vec<_> = broker.peek(queue, 6, 9, None).iter().map(|m| m.body.id).collect();
    assert_eq!(after, [bodies[1], bodies[3], bodies[0], bodies[2]]);
    assert_eq!(delivered(&broker.receiver(queue, 1, 9)).len(), 5);
}

/// B-47, G-54.
#[test]
fn a_time_that_has_come_means_now() {
    let (mut broker, queue) = Broker::with_queue();
    assert_eq!(schedule(&mut broker, queue, &[0]), enqueued(1));
    assert_eq!(broker.states(queue), [(1, MessageState::Active)]);
    assert_eq!(delivered(&broker.receiver(queue, 1, 1)), [(1, 1, 0)]);
}

/// B-49, G-55.
#[test]
fn cancelling_is_all_or_none() {
    let (mut broker, queue) = Broker::with_queue();
    schedule(&mut broker, queue, &[10, 10, 10]);
    broker.send(queue, None);
    for wrong in [&[1, 4][..], &[1, 9], &[1, 1]] {
        assert_eq!(broker.cancel(queue, wrong), Reply::Refused(Refusal::MessageNotFound), "{wrong:?}");
    }
    assert_eq!(broker.cancel(queue, &[]), Reply::Done);
    assert_eq!(broker.cancel(queue, &[3, 1]), Reply::Done);
    assert_eq!(broker.contents(queue), [(2, 0), (4, 0)]);
    assert_eq!(broker.cancel(queue, &[1]), Reply::Refused(Refusal::MessageNotFound));
    broker.pass(Duration::from_secs(10));
    assert_eq!(broker.cancel(queue, &[2]), Reply::Refused(Refusal::MessageNotFound), "it is active");
    assert_eq!(broker.contents(queue), [(4, 0), (5, 0)]);
}

/// C-15: also what became due while the broker was down, in order.
#[test]
fn scheduled_messages_survive_a_restart() {
    let (mut broker, queue) = Broker::with_queue();
    schedule(&mut broker, queue, &[20, 10, 300]);
    broker.advance(Duration::from_secs(60));
    let mut after = broker.crash();
    assert_eq!(after.contents(queue), [(1, 0), (2, 0), (3, 0)]);
    let seen = deliveries(&after.receiver(queue, 1, 5));
    let numbers: Vec<_> = seen.iter().map(|d| d.sequence_number.0).collect();
    assert_eq!(numbers, [4, 5]);
    assert_eq!(after.states(queue).first(), Some(&(3, MessageState::Scheduled)));
    assert!(after.crash().contents(queue).iter().map(|c| c.0).eq([3, 4, 5]));
}

///
#[test]
fn a_message_session_is_there_when_its_message_is_due() {
    let (mut broker, queue) = Broker::with_session_queue();
    let message = scheduled(&broker, Some("s"), 10);
    broker.send_all(queue, vec![message]);
    assert!(broker.list(queue, None, 0, 10).is_empty());
    assert_eq!(broker.peek(queue, 0, 5, Some("s")).len(), 1, "A-118");
    broker.accept_next(queue, 1);
    let seen = broker.pass(Duration::from_secs(10));
    assert_eq!(granted(&seen)[0].1, "s");
    assert_eq!(delivered(&broker.credit(1, 5)), [(1, 2, 0)]);
    let message = scheduled(&broker, Some("s"), 5);
    broker.send_all(queue, vec![message]);
    assert_eq!(delivered(&broker.pass(Duration::from_secs(5))), [(1, 4, 0)], "to its holder");
}

///
#[test]
fn a_cancelled_message_leaves_no_message_session() {
    let (mut broker, queue) = Broker::with_session_queue();
    let message = scheduled(&broker, Some("s"), 10);
    broker.send_all(queue, vec![message]);
    assert_eq!(broker.cancel(queue, &[1]), Reply::Done);
    assert_eq!(broker.namespace.queues[&queue].message_sessions.len(), 0);
    broker.accept_next(queue, 1);
    assert_eq!(granted(&broker.pass(Duration::from_secs(20))), []);
}

/// docs/architecture.md, rule 12.
#[test]
fn a_storm_of_due_messages_is_enqueued_in_bounded_steps() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..20 {
        schedule(&mut broker, queue, &[10; 200]);
    }
    broker.advance(Duration::from_secs(10));
    broker.hold_commits();
    broker.tick();
    let left = broker.namespace.counts(queue).scheduled;
    assert!(left > 2_000 && left < 4_000, "{left}");
    while broker.namespace.next_due().is_some_and(|at| at <= broker.now.utc) {
        broker.tick();
    }
    broker.commit();
    assert_eq!(broker.namespace.counts(queue).active, 4_000);
}

/// a message session that was released waits behind one that was not, also when what it has
/// comes from a schedule.
#[test]
fn a_message_that_becomes_active_does_not_move_its_message_session_ahead() {
    let (mut broker, queue) = Broker::with_session_queue();
    let later = scheduled(&broker, Some("a"), 10);
    broker.send_all(queue, vec![later]);
    broker.accept(queue, 1, "a");
    broker.detach(1);
    broker.pass(Duration::from_secs(10));
    broker.send(queue, Some("b"));
    assert_eq!(granted(&broker.accept_next(queue, 2)), [(2, "b".to_owned())]);
}
