//! Time to live (semantics, B-46, B-56 to B-60, D-4, D-12).

use lockstep_model::{MessageSessionExpiration, PropertyValue};

use super::*;

fn living(session: Option<&str>, seconds: u64) -> IncomingMessage {
    IncomingMessage { time_to_live: Some(Duration::from_secs(seconds)), ..message(session, "body") }
}

fn queue_with(change: impl FnOnce(&mut QueueDescription)) -> (Broker, EntityId) {
    let mut broker = Broker::new(CoreConfig::default());
    let mut description = Broker::description("q", false);
    change(&mut description);
    let queue = broker.define_as(description).expect("valid");
    (broker, queue)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// B-58, B-60.
#[test]
fn an_expired_message_is_never_delivered_and_dropped() {
    let (mut broker, queue) = queue_with(|_| {});
    broker.send_all(queue, vec![living(None, 10), message(None, "b"), living(None, 30)]);
    broker.advance(seconds(10));
    assert_eq!(delivered(&broker.receiver(queue, 1, 1)), [(1, 2, 0)]);
    assert_eq!(broker.contents(queue), [(2, 0), (3, 0)]);
    assert_eq!(broker.crash().contents(queue), [(2, 0), (3, 0)]);
}

/// B-60: also when nobody asks, soon.
#[test]
fn expired_messages_of_a_plain_queue_go_by_themselves() {
    let (mut broker, queue) = queue_with(|_| {});
    broker.send_all(queue, vec![living(None, 10), living(None, 20)]);
    broker.pass(seconds(11));
    assert_eq!(broker.contents(queue), [(2, 0)]);
    broker.pass(seconds(10));
    assert_eq!(broker.contents(queue), []);
    assert_eq!(broker.namespace.next_due(), None);
}

/// B-16: what is there is sent before the drain is answered, however much has expired before it.
#[test]
fn a_drain_is_answered_behind_a_live_message_that_many_expired_ones_stand_before() {
    let (mut broker, queue) = queue_with(|queue| {
        queue.requires_session = true;
        queue.message_session_expiration = MessageSessionExpiration::Message;
    });
    for _ in 0..700 {
        broker.send_all(queue, vec![living(Some("s"), 10)]);
    }
    broker.send(queue, Some("s"));
    broker.accept(queue, 1, "s");
    broker.advance(seconds(11));
    let mut seen = broker.drain(1, 1);
    while broker.namespace.next_deadline() == Some(MonoTime::default()) {
        seen.extend(broker.tick());
    }
    assert_eq!(delivered(&seen), [(1, 701, 0)]);
    let is_drained = |routed: &Routed| matches!(routed.effect, Effect::Drained { .. });
    assert_eq!(seen.iter().filter(|routed| is_drained(routed)).count(), 1);
}

/// G-45, B-35.
#[test]
fn expired_messages_are_dead_lettered_where_asked() {
    let (mut broker, queue) = queue_with(|queue| queue.dead_lettering_on_message_expiration = true);
    broker.send_all(queue, vec![living(None, 10)]);
    broker.pass(seconds(11));
    let dead = broker.peek(dead_letter(queue), 0, 5, None);
    let reason = dead[0].properties.as_ref().and_then(|p| p.get("DeadLetterReason").cloned());
    assert_eq!(reason, Some(PropertyValue::Text("TTLExpiredException".into())));
    assert_eq!((dead[0].delivery_count, dead[0].time_to_live), (0, Some(seconds(10))), "G-46");
    broker.pass(seconds(1_000));
    assert_eq!(broker.contents(dead_letter(queue)).len(), 1, "B-37");
}

/// B-56.
#[test]
fn the_value_of_the_entity_lowers_that_of_a_message() {
    let (mut broker, queue) = queue_with(|queue| queue.default_message_time_to_live = Some(seconds(20)));
    broker.send_all(queue, vec![message(None, "a"), living(None, 60), living(None, 5)]);
    let lives: Vec<_> = broker.peek(queue, 0, 5, None).iter().map(|m| m.time_to_live).collect();
    assert_eq!(lives, [Some(seconds(20)), Some(seconds(20)), Some(seconds(5))]);
    broker.pass(seconds(21));
    assert_eq!(broker.contents(queue), []);
}

/// B-59, A-105.
#[test]
fn a_locked_message_does_not_expire_until_it_comes_back() {
    let (mut broker, queue) = queue_with(|_| {});
    broker.send_all(queue, vec![living(None, 10), living(None, 10), living(None, 10)]);
    let tokens = tokens(&broker.receiver(queue, 1, 3));
    broker.pass(seconds(20));
    assert_eq!(broker.complete(1, tokens[0]), None);
    assert_eq!(broker.contents(queue).len(), 2);
    broker.abandon(1, tokens[1]);
    broker.pass(seconds(1));
    assert_eq!(broker.contents(queue), [(3, 0)]);
    broker.pass(LOCK);
    assert_eq!(broker.contents(queue), []);
}

/// B-52.
#[test]
fn the_life_of_a_scheduled_message_begins_when_it_is_due() {
    let (mut broker, queue) = queue_with(|_| {});
    let scheduled_at = Some(broker.now.utc.plus(seconds(100)));
    broker.send_all(queue, vec![IncomingMessage { scheduled_at, ..living(None, 10) }]);
    broker.pass(seconds(100));
    assert_eq!(broker.contents(queue), [(2, 0)]);
    assert_eq!(broker.peek(queue, 0, 1, None)[0].time_to_live, Some(seconds(10)));
    broker.pass(seconds(11));
    assert_eq!(broker.contents(queue), []);
}

/// B-46, D-12.
#[test]
fn a_deferred_message_expires_when_it_is_asked_for() {
    let (mut broker, queue) = queue_with(|queue| queue.dead_lettering_on_message_expiration = true);
    broker.send_all(queue, vec![living(None, 10)]);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.defer(1, token);
    broker.pass(seconds(50));
    assert_eq!(broker.states(queue), [(1, MessageState::Deferred)]);
    let reply = broker.receive_deferred(queue, 2, &[1], None, ReceiveMode::PeekLock);
    assert_eq!(reply, Reply::Refused(Refusal::MessageNotFound));
    assert_eq!(broker.contents(dead_letter(queue)), [(1, 1)]);
}

/// C-16.
#[test]
fn time_to_live_goes_on_while_the_broker_is_down() {
    let (mut broker, queue) = queue_with(|_| {});
    broker.send_all(queue, vec![living(None, 10), living(None, 100)]);
    broker.advance(seconds(50));
    let mut after = broker.crash();
    assert_eq!(delivered(&after.receiver(queue, 1, 5)), [(1, 2, 0)]);
}

/// with one message all of its message session go, when somebody
/// looks.
#[test]
fn one_expired_message_takes_its_message_session_with_it() {
    let (mut broker, queue) = queue_with(|queue| {
        queue.requires_session = true;
        queue.dead_lettering_on_message_expiration = true;
    });
    let messages = [Some("a"), Some("a"), Some("b"), Some("a")].map(|session| message(session, "x"));
    broker.send_all(queue, messages.to_vec());
    broker.send_all(queue, vec![living(Some("a"), 10)]);
    broker.accept(queue, 1, "a");
    broker.set_state(queue, 1, "a", Some(b"state"));
    broker.detach(1);
    broker.pass(seconds(30));
    assert_eq!(broker.contents(queue).len(), 5, "nobody looked");
    assert_eq!(granted(&broker.accept_next(queue, 2))[0].1, "b", "it was not held yet");
    assert_eq!(granted(&broker.accept_next(queue, 9)), []);
    let dead: Vec<_> = broker.contents(dead_letter(queue)).iter().map(|m| m.0).collect();
    assert_eq!(dead, [1, 2, 4, 5]);
    assert_eq!(broker.list(queue, None, 0, 5), ["a", "b"], "its state is left");
    assert_eq!(granted(&broker.send(queue, Some("a")))[0].1, "a");
    assert_eq!(delivered(&broker.credit(9, 5)), [(9, 6, 0)], "a new message is not of the expired ones");
}

///
#[test]
fn what_its_holder_has_in_hand_expires_when_it_comes_back() {
    let (mut broker, queue) = queue_with(|queue| queue.requires_session = true);
    broker.send_all(queue, vec![message(Some("a"), "1"), message(Some("a"), "2"), living(Some("a"), 10)]);
    broker.accept(queue, 1, "a");
    let tokens = tokens(&broker.credit(1, 2));
    broker.pass(seconds(20));
    broker.credit(1, 5);
    assert_eq!(broker.contents(queue), [(1, 0), (2, 0)]);
    assert_eq!(broker.complete(1, tokens[0]), None);
    assert_eq!(delivered(&broker.settle_all(1, &tokens[1..], Settlement::Release)), []);
    assert_eq!(broker.contents(queue), []);
    assert_eq!(broker.renew_session(queue, 1, "a"), Reply::Renewed(vec![broker.now.utc.plus(LOCK)]), "A-106");
}

///
#[test]
fn with_the_scope_of_one_message_only_that_one_expires() {
    let (mut broker, queue) = queue_with(|queue| {
        queue.requires_session = true;
        queue.message_session_expiration = MessageSessionExpiration::Message;
    });
    broker.send_all(queue, vec![message(Some("a"), "1"), living(Some("a"), 10), message(Some("a"), "3")]);
    broker.advance(seconds(20));
    broker.accept(queue, 1, "a");
    assert_eq!(delivered(&broker.credit(1, 5)), [(1, 1, 0), (1, 3, 0)]);
}

/// docs/architecture.md, rule 12.
#[test]
fn a_large_message_session_expires_in_bounded_steps() {
    let (mut broker, queue) = queue_with(|queue| queue.requires_session = true);
    for _ in 0..20 {
        broker.send_all(queue, vec![living(Some("a"), 10); 200]);
    }
    broker.send(queue, Some("b"));
    broker.advance(seconds(10));
    broker.hold_commits();
    broker.accept_next(queue, 1);
    assert!(broker.namespace.counts(queue).active > 2_000);
    let mut seen = Vec::new();
    while broker.namespace.next_deadline().is_some_and(|at| at <= broker.now.mono) {
        seen.extend(broker.tick());
    }
    assert_eq!(granted(&seen)[0].1, "b");
    assert_eq!(broker.namespace.counts(queue).active, 1);
}

fn send_and_forget(broker: &mut Broker, queue: EntityId, sent: IncomingMessage) {
    let messages = [sent].into();
    broker.run(Command::Enqueue(Enqueue {
        entity: queue,
        messages,
        connection: connection(99),
        request: None,
    }));
}

/// B-58: the message that expired first is not durable and cannot go yet; the other one can.
#[test]
fn an_expired_message_is_not_delivered_while_another_one_waits_to_expire() {
    let (mut broker, queue) = queue_with(|queue| {
        queue.requires_session = true;
        queue.message_session_expiration = MessageSessionExpiration::Message;
    });
    broker.send_all(queue, vec![living(Some("a"), 10)]);
    broker.accept(queue, 1, "a");
    broker.hold_commits();
    send_and_forget(&mut broker, queue, living(Some("a"), 5));
    broker.advance(seconds(10));
    assert_eq!(delivered(&broker.credit(1, 5)), []);
    broker.commit();
    assert_eq!(broker.namespace.counts(queue).active, 0);
}

/// what a crash could still undo takes nothing with it.
#[test]
fn a_message_that_is_not_durable_expires_no_others() {
    let (mut broker, queue) = queue_with(|queue| queue.requires_session = true);
    broker.send(queue, Some("a"));
    broker.accept(queue, 1, "a");
    broker.hold_commits();
    send_and_forget(&mut broker, queue, living(Some("a"), 5));
    broker.advance(seconds(10));
    assert_eq!(delivered(&broker.credit(1, 5)), [(1, 1, 0)]);
    assert_eq!(deliveries(&broker.commit()), []);
}
