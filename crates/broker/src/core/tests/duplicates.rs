//! Duplicate detection (semantics B-61 to B-67, A-134, A-135, G-25).

use lockstep_model::DuplicateKey;

use super::*;

const WINDOW: Duration = Duration::from_secs(20);

fn detecting(requires_session: bool) -> (Broker, EntityId) {
    let mut broker = Broker::new(CoreConfig::default());
    let mut description = Broker::description("q", requires_session);
    description.requires_duplicate_detection = true;
    description.duplicate_detection_history_time_window = WINDOW;
    let queue = broker.define_as(description).expect("valid");
    (broker, queue)
}

fn with_id(session: Option<&str>, id: u8) -> IncomingMessage {
    IncomingMessage { duplicate_key: Some(DuplicateKey([id; 16])), ..message(session, "body") }
}

fn dropped(first: u64, duplicates: &[u32]) -> Reply {
    Reply::Enqueued { first: SequenceNumber(first), duplicates: duplicates.to_vec() }
}

/// B-61, B-62, C-9, G-25.
#[test]
fn a_duplicate_within_the_window_is_accepted_and_dropped() {
    let (mut broker, queue) = detecting(false);
    assert_eq!(broker.send_all(queue, vec![with_id(None, 1)]), enqueued(1));
    broker.pass(WINDOW / 2);
    for _ in 0..4 {
        assert_eq!(broker.send_all(queue, vec![with_id(None, 1)]), dropped(2, &[0]));
    }
    assert_eq!(broker.send_all(queue, vec![with_id(None, 2)]), enqueued(2), "no number was used up");
    broker.pass(WINDOW / 2);
    assert_eq!(broker.send_all(queue, vec![with_id(None, 1)]), enqueued(3), "not extended by duplicates");
}

/// B-64, B-65.
#[test]
fn an_id_is_remembered_after_its_message_is_gone_and_no_id_is_no_duplicate() {
    let (mut broker, queue) = detecting(false);
    broker.send_all(queue, vec![with_id(None, 1)]);
    broker.deleting_receiver(queue, 1, 1);
    assert_eq!(broker.contents(queue), []);
    assert_eq!(broker.send_all(queue, vec![with_id(None, 1)]), dropped(2, &[0]));
    assert_eq!(broker.send_all(queue, vec![message(None, "x"), message(None, "x")]), enqueued(2));
}

/// B-67.
#[test]
fn the_rest_of_a_batch_is_stored() {
    let (mut broker, queue) = detecting(false);
    broker.send_all(queue, vec![with_id(None, 1)]);
    let batch = [5, 1, 6, 5].map(|id| with_id(None, id)).to_vec();
    assert_eq!(broker.send_all(queue, batch), dropped(2, &[1, 3]));
    assert_eq!(broker.contents(queue), [(1, 0), (2, 0), (3, 0)]);
}

/// B-64: scheduled messages count when they are sent, in both directions.
#[test]
fn scheduled_messages_are_looked_at_too() {
    let (mut broker, queue) = detecting(false);
    let scheduled_at = Some(broker.now.utc.plus(Duration::from_secs(5)));
    broker.send_all(queue, vec![IncomingMessage { scheduled_at, ..with_id(None, 1) }]);
    assert_eq!(broker.send_all(queue, vec![with_id(None, 1)]), dropped(2, &[0]));
    broker.pass(Duration::from_secs(5));
    assert_eq!(broker.contents(queue), [(2, 0)]);
}

/// C-12, C-16.
#[test]
fn ids_survive_a_restart_and_are_forgotten_in_time() {
    let (mut broker, queue) = detecting(false);
    broker.send_all(queue, vec![with_id(None, 1)]);
    broker.advance(WINDOW / 2);
    let mut after = broker.crash();
    assert_eq!(after.send_all(queue, vec![with_id(None, 1)]), dropped(2, &[0]));
    after.pass(WINDOW);
    assert_eq!(after.namespace.queues[&queue].duplicates.len(), 0);
    assert_eq!(after.namespace.next_due(), None);
    assert_eq!(after.send_all(queue, vec![with_id(None, 1)]), enqueued(2));
}

/// House rule 1: a duplicate says that its original is safe, so it waits for it.
#[test]
fn a_duplicate_of_a_send_that_is_not_durable_is_not_answered_before_it() {
    let (mut broker, queue) = detecting(false);
    broker.hold_commits();
    let send = |broker: &mut Broker, number: u64| {
        let (messages, request) = (vec![with_id(None, 1)], Some(RequestId(number)));
        broker.run(Command::Enqueue(Enqueue {
            entity: queue,
            messages: messages.into(),
            connection: connection(1),
            request,
        }))
    };
    assert_eq!(send(&mut broker, 1), []);
    assert_eq!(send(&mut broker, 2), []);
    assert_eq!(broker.commit().len(), 2);
}

///
#[test]
fn message_sessions_do_not_divide_the_ids_and_a_duplicate_makes_none() {
    let (mut broker, queue) = detecting(true);
    broker.send_all(queue, vec![with_id(Some("a"), 1)]);
    assert_eq!(broker.send_all(queue, vec![with_id(Some("b"), 1)]), dropped(2, &[0]));
    assert_eq!(broker.list(queue, None, 0, 5), ["a"]);
    assert_eq!(broker.namespace.queues[&queue].message_sessions.len(), 1);
}
