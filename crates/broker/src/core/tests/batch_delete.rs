//! Deleting many messages (semantics B-55, G-59).

use lockstep_model::EntityStatus;

use super::*;

fn delete(
    broker: &mut Broker,
    entity: EntityId,
    count: u32,
    until: Timestamp,
    session: Option<&str>,
) -> Reply {
    let (request, connection, session) = (broker.request(), connection(97), session.map(id));
    let enqueued_until = until;
    reply(&broker.run(Command::DeleteMessages {
        entity,
        count,
        enqueued_until,
        session,
        connection,
        request,
    }))
}

#[test]
fn the_oldest_messages_that_nobody_holds_are_deleted() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..6 {
        broker.send(queue, None);
    }
    let token = tokens(&broker.receiver(queue, 1, 2))[0];
    broker.defer(1, token);
    let now = broker.now.utc;
    assert_eq!(delete(&mut broker, queue, 2, now, None), Reply::Deleted(2));
    assert_eq!(broker.contents(queue), [(1, 1), (2, 0), (5, 0), (6, 0)]);
    assert_eq!(delivered(&broker.credit(1, 9)), [(1, 5, 0), (1, 6, 0)]);
    assert_eq!(delete(&mut broker, queue, 9, now, None), Reply::Deleted(0));
    assert_eq!(broker.crash().contents(queue).len(), 4);
}

#[test]
fn only_what_was_enqueued_by_then_is_deleted() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let then = broker.now.utc;
    broker.advance(Duration::from_millis(1));
    broker.send(queue, None);
    assert_eq!(delete(&mut broker, queue, 9, then, None), Reply::Deleted(1));
    assert_eq!(broker.contents(queue), [(2, 0)]);
    for wrong in [0, 4_001] {
        assert!(matches!(delete(&mut broker, queue, wrong, then, None), Reply::Refused(_)));
    }
}

#[test]
fn one_message_session_is_emptied_and_no_longer_handed_out() {
    let (mut broker, queue) = Broker::with_session_queue();
    for session in ["a", "b", "a"] {
        broker.send(queue, Some(session));
    }
    let now = broker.now.utc;
    assert_eq!(delete(&mut broker, queue, 9, now, Some("a")), Reply::Deleted(2));
    assert_eq!(delete(&mut broker, queue, 9, now, Some("c")), Reply::Deleted(0));
    assert_eq!(broker.list(queue, None, 0, 5), ["b"]);
    assert_eq!(granted(&broker.accept_next(queue, 1))[0].1, "b");
    assert_eq!(granted(&broker.accept_next(queue, 2)), []);
}

/// B-97.
#[test]
fn a_disabled_queue_keeps_its_messages() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    let mut description = Broker::description("q", false);
    description.status = EntityStatus::Disabled;
    broker.redefine(description);
    let now = broker.now.utc;
    assert_eq!(delete(&mut broker, queue, 1, now, None), Reply::Refused(Refusal::EntityDisabled));
    assert_eq!(broker.cancel(queue, &[1]), Reply::Refused(Refusal::EntityDisabled));
}

#[test]
fn what_comes_back_can_be_deleted_although_it_was_passed_over() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..3 {
        broker.send(queue, None);
    }
    let seen = broker.receiver(queue, 1, 3);
    let now = broker.now.utc;
    assert_eq!(delete(&mut broker, queue, 9, now, None), Reply::Deleted(0));
    broker.credit(1, 3);
    broker.abandon(1, tokens(&seen)[1]);
    assert_eq!(delete(&mut broker, queue, 9, now, None), Reply::Deleted(1));
    broker.send(queue, None);
    assert_eq!(delete(&mut broker, queue, 9, now, None), Reply::Deleted(1));
    assert_eq!(broker.contents(queue), [(1, 0), (3, 0)]);
}
