//! Storing messages.

use lockstep_model::{
    BodyId, DuplicateKey, EntityId, IncomingMessage, MessageState, Refusal, SequenceNumber, SizeLimit,
    SubQueue,
    limits::{BATCH_MESSAGES_MAX, BATCH_SIZE_BYTES_MAX},
};

use super::{
    Enqueue, Reply,
    defects::{Defect, is_present},
    message_state::{Expiry, MessageEntry, Place},
    namespace::{Changed, Namespace, SUB_QUEUES, Step, Uncommitted},
    queue::{Queue, Settings},
    wall_clock::Due,
};

impl Namespace {
    /// Stores messages, all or none (semantics B-95); refused ones take no sequence numbers, and
    /// neither do duplicates, which are accepted and dropped (B-61, C-9).
    pub(super) fn enqueue(&mut self, step: &mut Step<'_>, enqueue: Enqueue) -> Reply {
        let held_bytes = self.entity_bytes(enqueue.entity);
        let Some(queue) = self.queues.get_mut(&enqueue.entity) else {
            return Reply::Refused(Refusal::EntityNotFound);
        };
        if let Err(refusal) = check(queue, &enqueue, held_bytes) {
            return Reply::Refused(refusal);
        }
        queue.note_access(step.now.utc);
        let first = queue.last_sequence_number.next();
        let mut duplicates = Vec::new();
        let mut noted = Appended::default();
        for (position, message) in enqueue.messages.into_iter().enumerate() {
            if is_duplicate(queue, step, message.duplicate_key) {
                // A batch has at most BATCH_MESSAGES_MAX messages.
                duplicates.push(u32::try_from(position).unwrap_or(u32::MAX));
                continue;
            }
            let body = self.next_body;
            self.next_body.0 += 1;
            let size_bytes = u32::try_from(message.encoded.len()).unwrap_or(u32::MAX);
            step.out.new_bodies.push((body, message.encoded.clone()));
            step.out.batch.put_body(self.id, body, message.encoded.clone());
            append(step, queue, &message, (body, size_bytes), &mut self.stale_counters, &mut noted);
        }
        self.enqueued(step, enqueue.entity, noted);
        Reply::Enqueued { first, duplicates }
    }

    /// Messages were appended to a queue in this step.
    pub(super) fn enqueued(&mut self, step: &Step<'_>, queue_id: EntityId, noted: Appended) {
        let Some(queue) = self.queues.get(&queue_id) else { return };
        let (through, window) = (queue.last_sequence_number, queue.settings.duplicate_detection_window);
        if noted.any {
            self.await_commit(step, Uncommitted::Enqueued { queue: queue_id, through });
            if is_present(Defect::DeliveredBeforeItsCommit) {
                self.enqueued_is_durable(queue_id, through);
            }
        }
        if noted.scheduled {
            self.plan_activation(queue_id);
        }
        if noted.expires {
            self.plan_sweep(queue_id);
        }
        if let Some(window) = window {
            self.wall_clock.set_no_later(Due::ForgetDuplicates(queue_id), step.now.utc.plus(window));
        }
    }

    /// Bytes that an entity holds: messages, those in its sub-queues, and message-session states
    /// (semantics B-8).
    pub(super) fn entity_bytes(&self, entity: EntityId) -> u64 {
        let of = |sub_queue| {
            let queue = self.queues.get(&entity.with_sub_queue(sub_queue));
            queue.map_or(0, |queue| queue.size_bytes + queue.message_sessions.state_bytes())
        };
        let counts =
            |sub_queue: &SubQueue| *sub_queue == SubQueue::Main || !is_present(Defect::DeadLettersTakeNoRoom);
        SUB_QUEUES.into_iter().filter(counts).map(of).sum()
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
        let active = new.filter(|(_, entry)| entry.place != Place::Scheduled);
        for slot in active.filter_map(|(_, entry)| entry.message_session) {
            let changed = Changed::MessageSession(queue_id, slot);
            if self.changed.last() != Some(&changed) {
                self.changed.push(changed);
            }
        }
    }
}

/// What was appended in a step.
#[derive(Clone, Copy, Default)]
pub(super) struct Appended {
    any: bool,
    scheduled: bool,
    expires: bool,
}

/// Writes the row of a message at the end of a queue, and puts it into the index.
pub(super) fn append(
    step: &mut Step<'_>,
    queue: &mut Queue,
    message: &IncomingMessage,
    (body, size_bytes): (BodyId, u32),
    stale_counters: &mut Vec<EntityId>,
    noted: &mut Appended,
) -> SequenceNumber {
    let entry = entry(queue, step, message, body, size_bytes);
    noted.any = true;
    noted.scheduled |= entry.place == Place::Scheduled;
    noted.expires |= entry.expiry != Expiry::NEVER;
    if queue.settings.message_session_state_time_to_live.is_some()
        && let Some(slot) = entry.message_session
    {
        queue.message_sessions.note_use(slot, step.now.utc);
    }
    let mut record = entry.record(message.message_session.clone());
    if entry.place == Place::Scheduled {
        record.state = MessageState::Scheduled;
    }
    let sequence_number = queue.next_sequence_number(stale_counters);
    step.out.batch.put_message(queue.id, sequence_number, &record);
    queue.insert(sequence_number, entry);
    sequence_number
}

/// Whether a message-id is remembered; remembers it if not.
pub(super) fn is_duplicate(queue: &mut Queue, step: &mut Step<'_>, key: Option<DuplicateKey>) -> bool {
    let (Some(key), Some(window)) = (key, queue.settings.duplicate_detection_window) else { return false };
    let known = queue.duplicates.contains(key, step.now.utc, window);
    if !known || is_present(Defect::DuplicateProlongsTheWindow) {
        queue.duplicates.add(&mut step.out.batch, queue.id, key, step.now.utc, window);
    }
    known
}

/// The entry of a message that is stored now: available, or waiting for its time.
fn entry(
    queue: &mut Queue,
    step: &Step<'_>,
    message: &IncomingMessage,
    body: BodyId,
    size_bytes: u32,
) -> MessageEntry {
    let due = message.scheduled_at.filter(|&due| due > step.now.utc);
    let enqueued_at = due.unwrap_or(step.now.utc);
    let lives = [message.time_to_live, queue.settings.default_message_time_to_live];
    MessageEntry {
        enqueued_at,
        expiry: Expiry::after(enqueued_at, lives.into_iter().flatten().min()),
        body,
        overlay: None,
        size_bytes,
        delivery_count: 0,
        place: if due.is_some() { Place::Scheduled } else { Place::Available },
        message_session: message.message_session.as_ref().map(|id| queue.message_sessions.find_or_create(id)),
        is_deferred: false,
        // One for a time that has come is an ordinary one (semantics B-47).
        was_scheduled: due.is_some(),
    }
}

/// Refuses what the queue does not take, before anything is stored.
fn check(queue: &Queue, enqueue: &Enqueue, held_bytes: u64) -> Result<(), Refusal> {
    check_entity(queue, held_bytes)?;
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
    check_partition(&enqueue.messages, &queue.settings)?;
    // A batch is one transfer: the limit of a single message holds for it too (semantics G-21).
    let max_bytes = max_bytes.min(BATCH_SIZE_BYTES_MAX);
    if enqueue.messages.len() > 1 && total_bytes > max_bytes {
        return Err(Refusal::TooLarge { limit: SizeLimit::Batch, max_bytes });
    }
    Ok(())
}

/// Whether an entity takes messages at all.
pub(super) fn check_entity(queue: &Queue, held_bytes: u64) -> Result<(), Refusal> {
    if queue.is_sub_queue() {
        return Err(Refusal::SendToSubQueue);
    }
    if !queue.settings.status.allows_send() {
        return Err(Refusal::EntityDisabled);
    }
    if held_bytes >= queue.settings.max_size_bytes {
        return Err(Refusal::QuotaExceeded);
    }
    if queue.settings.duplicate_detection_window.is_some() && queue.duplicates.is_full() {
        return Err(Refusal::ServerBusy);
    }
    Ok(())
}

/// Keys of a partitioned entity: a partition key is the session id where there is one (semantics
/// D-20), and all messages of a batch go to one partition.
pub(super) fn check_partition(messages: &[IncomingMessage], settings: &Settings) -> Result<(), Refusal> {
    if !settings.enable_partitioning {
        return Ok(());
    }
    let detects_duplicates = settings.duplicate_detection_window.is_some();
    fn key(message: &IncomingMessage) -> Option<&str> {
        message.message_session.as_ref().map(|id| id.as_str()).or(message.partition_key.as_deref())
    }
    let differs = |message: &IncomingMessage| {
        let session = message.message_session.as_ref().map(|id| id.as_str());
        session.is_some_and(|id| message.partition_key.as_deref().is_some_and(|key| key != id))
    };
    if messages.iter().any(differs) {
        return Err(Refusal::PartitionKeyMismatch(
            "the partition key of a message with a session id must be the session id",
        ));
    }
    let first = messages.first().and_then(key);
    if messages.iter().any(|message| key(message) != first) {
        return Err(Refusal::PartitionKeyMismatch(
            "all messages of a batch must have the same session id or partition key",
        ));
    }
    let keyless = |message: &IncomingMessage| key(message).is_none() && message.duplicate_key.is_none();
    if detects_duplicates && messages.iter().any(keyless) {
        return Err(Refusal::PartitionKeyMismatch(
            "a message to a partitioned entity that detects duplicates needs a message-id or a key",
        ));
    }
    Ok(())
}
