//! Storing messages.

use lockstep_model::{
    BodyId, EntityId, MessageSessionId, Refusal, SequenceNumber, SizeLimit,
    limits::{BATCH_MESSAGES_MAX, BATCH_SIZE_BYTES_MAX},
};
use lockstep_store::MessageRecord;

use super::{
    Enqueue, Reply,
    message_state::{MessageEntry, Place},
    namespace::{Changed, Namespace, Step, Uncommitted},
    queue::Queue,
};

impl Namespace {
    /// Stores messages, all or none (semantics B-95); refused ones take no sequence numbers.
    pub(super) fn enqueue(&mut self, step: &mut Step<'_>, enqueue: Enqueue) -> Reply {
        let Some(queue) = self.queues.get_mut(&enqueue.entity) else {
            return Reply::Refused(Refusal::EntityNotFound);
        };
        if let Err(refusal) = check(queue, &enqueue) {
            return Reply::Refused(refusal);
        }
        let first = queue.last_sequence_number.next();
        for message in enqueue.messages {
            let body = self.next_body;
            self.next_body.0 += 1;
            let size_bytes = u32::try_from(message.encoded.len()).unwrap_or(u32::MAX);
            step.out.new_bodies.push((body, message.encoded.clone()));
            step.out.batch.put_body(self.id, body, message.encoded);
            append(step, queue, body, size_bytes, message.message_session);
        }
        self.enqueued(step, enqueue.entity);
        Reply::Enqueued(first)
    }

    /// Messages were appended to a queue in this step.
    pub(super) fn enqueued(&mut self, step: &Step<'_>, queue_id: EntityId) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        if !queue.counter_is_stale {
            queue.counter_is_stale = true;
            self.stale_counters.push(queue.id);
        }
        let (queue, through) = (queue.id, queue.last_sequence_number);
        self.await_commit(step, Uncommitted::Enqueued { queue, through });
    }

    /// Messages up to `through` can be delivered.
    pub(super) fn enqueued_is_durable(&mut self, queue_id: EntityId, through: SequenceNumber) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        let from = queue.durable_through.next();
        queue.durable_through = queue.durable_through.max(through);
        if !queue.settings.requires_session {
            self.mark(Changed::Queue(queue_id));
            return;
        }
        let new = queue.messages.iter_from(from).take_while(|&(number, _)| number <= through);
        for slot in new.filter_map(|(_, entry)| entry.message_session) {
            let changed = Changed::MessageSession(queue_id, slot);
            if self.changed.last() != Some(&changed) {
                self.changed.push(changed);
            }
        }
    }
}

/// Writes the row of a message at the end of a queue, and puts it into the index.
pub(super) fn append(
    step: &mut Step<'_>,
    queue: &mut Queue,
    body: BodyId,
    size_bytes: u32,
    message_session: Option<MessageSessionId>,
) -> SequenceNumber {
    let sequence_number = queue.last_sequence_number.next();
    let slot = message_session.as_ref().map(|id| queue.message_sessions.find_or_create(id));
    let record = MessageRecord {
        state: lockstep_model::MessageState::Active,
        enqueued_at: step.now.utc,
        body,
        size_bytes,
        message_session,
    };
    step.out.batch.put_message(queue.id, sequence_number, &record);
    let entry = MessageEntry {
        enqueued_at: step.now.utc,
        body,
        overlay: None,
        size_bytes,
        delivery_count: 0,
        place: Place::Available,
        message_session: slot,
    };
    queue.insert(sequence_number, entry);
    queue.last_sequence_number = sequence_number;
    sequence_number
}

/// Refuses what the queue does not take, before anything is stored.
fn check(queue: &Queue, enqueue: &Enqueue) -> Result<(), Refusal> {
    if queue.is_sub_queue() {
        return Err(Refusal::SendToSubQueue);
    }
    if enqueue.messages.is_empty() {
        return Err(Refusal::InvalidArgument("messages"));
    }
    if enqueue.messages.len() > BATCH_MESSAGES_MAX {
        return Err(Refusal::TooManyMessages);
    }
    let max_bytes = queue.settings.max_message_size_bytes;
    let mut total_bytes = 0_u64;
    for message in &enqueue.messages {
        if queue.settings.requires_session && message.message_session.is_none() {
            return Err(Refusal::MessageSessionIdMissing);
        }
        let size_bytes = message.sent_bytes();
        if size_bytes > max_bytes {
            return Err(Refusal::TooLarge { limit: SizeLimit::Message, max_bytes });
        }
        total_bytes += size_bytes;
    }
    // A batch is one transfer: the limit of a single message holds for it too (semantics G-21).
    let max_bytes = max_bytes.min(BATCH_SIZE_BYTES_MAX);
    if enqueue.messages.len() > 1 && total_bytes > max_bytes {
        return Err(Refusal::TooLarge { limit: SizeLimit::Batch, max_bytes });
    }
    Ok(())
}
