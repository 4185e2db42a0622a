//! Rule 12, rule 18: steps are bounded, nothing is left behind.

use super::*;

fn is_empty(broker: &Broker, queue: EntityId) -> bool {
    let namespace = &broker.namespace;
    let queue = namespace.queues.get(&queue).expect("defined");
    namespace.links.is_empty()
        && namespace.connections.is_empty()
        && namespace.locks.len() == (0, 0)
        && namespace.deadlines.len() == 0
        && namespace.lost_holds.len() == 0
        && namespace.returning.is_empty()
        && namespace.unfinished.is_empty()
        && namespace.drains.is_empty()
        && queue.message_sessions.len() == 0
        && queue.message_sessions.listed() == 0
        && queue.message_sessions.held() == 0
        && queue.messages.len() == 0
        && queue.turns.is_empty()
        && queue.pending_accepts.is_empty()
        && (queue.locked, queue.reserved) == (0, 0)
}

/// Semantics A-149.
#[test]
fn ten_thousand_accepts_and_closes_leave_nothing_behind() {
    let (mut broker, queue) = Broker::with_session_queue();
    for number in 1..=10_000 {
        match number % 4 {
            0 => drop(broker.accept_next(queue, number)),
            1 => drop(broker.accept(queue, number, &format!("s{number}"))),
            2 => {
                broker.send(queue, Some("s"));
                broker.accept_next(queue, number);
                let token = tokens(&broker.drain(number, 1))[0];
                broker.complete(number, token);
            }
            _ => {
                let browse = ReceiveIntent::BrowseMessageSession(id("s"));
                broker.attach(queue, number, browse, ReceiveMode::PeekLock);
            }
        }
        broker.detach(number);
    }
    assert!(is_empty(&broker, queue));
}

#[test]
fn broken_connections_leave_nothing_behind_either() {
    let (mut broker, queue) = Broker::with_session_queue();
    for number in 1..=100 {
        broker.send(queue, Some("s"));
        let identity = LinkIdentity { receiver_name: Some("me".into()), ..LinkIdentity::default() };
        let intent = ReceiveIntent::AcceptMessageSession(id("s"));
        broker.attach_as(queue, number, intent, ReceiveMode::ReceiveAndDelete, identity);
        let tokens = tokens(&broker.credit(number, 1));
        broker.run(Command::Sent { link: link(number), tokens });
        broker.break_connection(number);
    }
    broker.pass(LOCK);
    assert!(is_empty(&broker, queue));
}

/// Rule 12: mass expiry goes on in later steps, which are due at once.
#[test]
fn mass_expiry_of_message_locks_is_done_in_bounded_steps() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send_all(queue, vec![message(None, ""); 3000]);
    broker.receiver(queue, 1, 3000);
    while broker.namespace.next_deadline() == Some(MonoTime::default()) {
        broker.tick();
    }
    assert_eq!(broker.namespace.counts(queue).locked, 3000);
    broker.advance(LOCK);
    broker.hold_commits();
    let mut steps = 0;
    while broker.namespace.next_deadline().is_some_and(|at| at <= broker.now.mono) {
        let before = broker.namespace.counts(queue).locked;
        broker.tick();
        assert!(before - broker.namespace.counts(queue).locked <= u64::from(namespace::ROWS_PER_STEP));
        steps += 1;
    }
    assert!(steps >= 3, "{steps}");
    broker.commits_held = false;
    let counted = broker.contents(queue).iter().filter(|&&(_, count)| count == 1).count();
    assert_eq!(counted, 1000, "a page of them");
}

/// Rule 12: a hold with very many deliveries ends logically at once, and nobody gets the session
/// before all are counted.
#[test]
fn a_large_hold_expires_in_bounded_steps_and_stays_in_order() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.send_all(queue, vec![message(Some("s"), ""); 3000]);
    broker.accept(queue, 1, "s");
    let mut tokens = tokens(&broker.credit(1, 3000));
    while broker.namespace.next_deadline() == Some(MonoTime::default()) {
        tokens.extend(self::tokens(&broker.tick()));
    }
    assert_eq!(tokens.len(), 3000);
    broker.accept_next(queue, 2);
    broker.credit(2, 1);
    broker.advance(LOCK);
    let mut seen = broker.settle_all(1, &tokens[..1], Settlement::Complete);
    let lost = vec![(0, Refusal::MessageSessionLockLost)];
    assert_eq!(reply(&seen), Reply::Settled(lost), "at once");
    assert_eq!(refused(&seen), [(2, Refusal::AcceptTimedOut)], "meanwhile; another takes its place");
    seen.extend(broker.accept_next(queue, 3));
    seen.extend(broker.credit(3, 3000));
    while broker.namespace.next_deadline().is_some_and(|at| at <= broker.now.mono) {
        seen.extend(broker.tick());
    }
    assert_eq!(granted(&seen).len(), 1);
    let order: Vec<_> = delivered(&seen).into_iter().map(|(_, number, count)| (number, count)).collect();
    assert!(order.iter().enumerate().all(|(at, &(number, count))| (number, count) == (at as u64 + 1, 1)));
    assert!(!order.is_empty());
}

/// A large credit is served in bounded steps, and a drain is answered after the last of them.
#[test]
fn a_large_drain_is_answered_after_its_last_delivery() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send_all(queue, vec![message(None, ""); 2000]);
    broker.receiver(queue, 1, 0);
    let mut seen = broker.drain(1, 5000);
    while broker.namespace.next_deadline() == Some(MonoTime::default()) {
        seen.extend(broker.tick());
    }
    assert_eq!(deliveries(&seen).len(), 2000);
    let drained = Effect::Drained { link: link(1) };
    assert_eq!(seen.last().map(|last| &last.effect), Some(&drained));
    assert_eq!(seen.iter().filter(|routed| routed.effect == drained).count(), 1);
}
