//! Messages that arrive in parts.

use lockstep_model::{SizeLimit, UploadId, limits::BODY_PART_SIZE_BYTES};

use super::*;

const SENDER: u64 = 99;

fn broker(requires_session: bool) -> (Broker, EntityId) {
    let mut broker = Broker::new(CoreConfig::default());
    let mut description = Broker::description("q", requires_session);
    description.max_message_size_bytes = 3 * BODY_PART_SIZE_BYTES as u64;
    let queue = broker.define_as(description).expect("valid");
    (broker, queue)
}

fn row(number: u16) -> Bytes {
    Bytes::from(vec![number as u8 + 1; BODY_PART_SIZE_BYTES])
}

fn store(broker: &mut Broker, entity: EntityId, upload: u64, part: u16) -> Reply {
    let (request, connection) = (broker.request(), connection(SENDER));
    let upload = UploadId(upload);
    reply(&broker.run(Command::StorePart { entity, upload, part, row: row(part), connection, request }))
}

fn end(broker: &mut Broker, entity: EntityId, upload: u64, size: usize, session: Option<&str>) -> Reply {
    let request = broker.request();
    reply(&broker.run(Command::EnqueueParts(EnqueueParts {
        entity,
        upload: UploadId(upload),
        message: IncomingMessage {
            encoded: Bytes::from(vec![0xff; size]),
            message_session: session.map(id),
            ..IncomingMessage::default()
        },
        connection: connection(SENDER),
        request,
    })))
}

fn drop_parts(broker: &mut Broker, upload: u64) {
    broker.run(Command::DropParts { connection: connection(SENDER), upload: UploadId(upload) });
}

/// Numbers of the rows that are stored of a body.
fn rows(broker: &Broker, body: u64) -> Vec<u16> {
    let there = |part: &u16| {
        broker.store.read_body_part(NamespaceId(1), BodyId(body), *part).expect("memory").is_some()
    };
    (0..8).filter(there).collect()
}

#[test]
fn a_message_in_parts_is_delivered_when_its_last_part_is_durable() {
    let (mut broker, queue) = broker(true);
    broker.accept(queue, 1, "s");
    broker.credit(1, 5);
    assert_eq!(store(&mut broker, queue, 1, 0), Reply::Done);
    assert_eq!(store(&mut broker, queue, 1, 1), Reply::Done);
    assert_eq!((broker.contents(queue), rows(&broker, 1)), (vec![], vec![0, 1]));
    broker.hold_commits();
    let request = broker.request();
    let seen = broker.run(Command::EnqueueParts(EnqueueParts {
        entity: queue,
        upload: UploadId(1),
        message: IncomingMessage {
            encoded: Bytes::from_static(b"end"),
            message_session: Some(id("s")),
            ..IncomingMessage::default()
        },
        connection: connection(SENDER),
        request,
    }));
    assert!(seen.is_empty());
    let seen = broker.commit();
    let delivery = deliveries(&seen)[0].clone();
    assert_eq!(delivery.body.size_bytes as usize, 2 * BODY_PART_SIZE_BYTES + 3);
    let body = body_of(&broker.store, delivery.body.id).expect("stored");
    assert!(body == [&row(0)[..], &row(1)[..], b"end"].concat());
    broker.settle_all(1, &[delivery.token], Settlement::Complete);
    broker.commit();
    assert_eq!(rows(&broker, 1), [0; 0]);
}

#[test]
fn a_move_to_the_dead_letter_queue_copies_nothing() {
    let (mut broker, queue) = broker(false);
    store(&mut broker, queue, 1, 0);
    end(&mut broker, queue, 1, 5, None);
    let token = tokens(&broker.receiver(queue, 1, 1))[0];
    broker.settle(1, token, Settlement::DeadLetter(PropertyOverlay::new()));
    let dead_letters = queue.with_sub_queue(SubQueue::DeadLetter);
    let delivery = deliveries(&broker.receiver(dead_letters, 2, 1))[0].clone();
    assert_eq!((delivery.body.id, rows(&broker, 1)), (BodyId(1), vec![0, 1]));
    broker.complete(2, delivery.token);
    assert_eq!(rows(&broker, 1), [0; 0]);
}

#[test]
fn messages_in_parts_do_not_mix_and_take_their_numbers_when_they_are_whole() {
    let (mut broker, queue) = broker(false);
    for (upload, part) in [(1, 0), (2, 0), (1, 1)] {
        assert_eq!(store(&mut broker, queue, upload, part), Reply::Done);
    }
    broker.send(queue, None);
    assert_eq!(end(&mut broker, queue, 2, 0, None), enqueued(2));
    assert_eq!(end(&mut broker, queue, 1, 7, None), enqueued(3));
    assert_eq!((rows(&broker, 1), rows(&broker, 2)), (vec![0, 1, 2], vec![0, 1]));
}

#[test]
fn what_is_given_up_leaves_no_rows() {
    let (mut broker, queue) = broker(false);
    for upload in [1, 2] {
        store(&mut broker, queue, upload, 0);
        store(&mut broker, queue, upload, 1);
    }
    drop_parts(&mut broker, 1);
    drop_parts(&mut broker, 1);
    assert_eq!((rows(&broker, 1), rows(&broker, 2)), (vec![], vec![0, 1]));
    assert_eq!(store(&mut broker, queue, 1, 2), Reply::Refused(Refusal::ServerBusy), "a late part");
    assert_eq!(end(&mut broker, queue, 1, 3, None), Reply::Refused(Refusal::ServerBusy), "a late end");
    broker.break_connection(SENDER);
    assert_eq!(rows(&broker, 2), [0; 0]);
    assert_eq!(broker.contents(queue), []);
    assert!(broker.namespace.uploads.is_empty());
}

#[test]
fn a_refused_end_leaves_no_rows_and_takes_no_number() {
    let (mut broker, queue) = broker(true);
    store(&mut broker, queue, 1, 0);
    assert_eq!(end(&mut broker, queue, 1, 3, None), Reply::Refused(Refusal::MessageSessionIdMissing));
    let max_bytes = 3 * BODY_PART_SIZE_BYTES as u64;
    let too_large = Reply::Refused(Refusal::TooLarge { limit: SizeLimit::Message, max_bytes });
    for part in 0..3 {
        store(&mut broker, queue, 2, part);
    }
    assert_eq!(end(&mut broker, queue, 2, 1, Some("s")), too_large);
    for part in 0..4 {
        store(&mut broker, queue, 3, part);
    }
    assert_eq!(store(&mut broker, queue, 3, 4), too_large);
    let dead_letters = queue.with_sub_queue(SubQueue::DeadLetter);
    assert_eq!(store(&mut broker, dead_letters, 4, 0), Reply::Refused(Refusal::SendToSubQueue));
    for body in 1..=4 {
        assert_eq!(rows(&broker, body), [0; 0]);
    }
    store(&mut broker, queue, 5, 0);
    assert_eq!(end(&mut broker, queue, 5, 1, Some("s")), enqueued(1));
}

#[test]
fn a_crash_keeps_what_was_accepted_and_removes_what_was_not() {
    let (mut broker, queue) = broker(false);
    for upload in [1, 2] {
        store(&mut broker, queue, upload, 0);
    }
    end(&mut broker, queue, 1, 5, None);
    let mut broker = broker.crash();
    assert_eq!((rows(&broker, 1), rows(&broker, 2)), (vec![0, 1], vec![]));
    assert_eq!(
        deliveries(&broker.receiver(queue, 1, 1))[0].body.size_bytes as usize,
        BODY_PART_SIZE_BYTES + 5
    );
    assert_eq!(store(&mut broker, queue, 1, 0), Reply::Done);
    assert_eq!(rows(&broker, 2), [0], "the number of the lost body is given again");
}

/// Receive-and-delete: the row goes before the delivery, the body when it is on the wire.
#[test]
fn the_body_of_a_received_and_deleted_message_stays_until_it_is_sent() {
    let (mut broker, queue) = broker(false);
    store(&mut broker, queue, 1, 0);
    end(&mut broker, queue, 1, 5, None);
    let token = deliveries(&broker.deleting_receiver(queue, 1, 1))[0].token;
    assert_eq!(rows(&broker, 1), [0, 1]);
    broker.run(Command::Sent { link: link(1), tokens: vec![token] });
    assert_eq!(rows(&broker, 1), [0; 0]);
}
