//! Messages that arrive in parts. Their rows are written as they come, under a body that no message
//! names yet; the last part brings the message. What is not completed is removed: when its sender
//! gives up or goes away, or at the next start.

use bytes::Bytes;
use lockstep_model::{
    BodyId, ConnectionId, EntityId, Refusal, SizeLimit, UploadId, limits::BODY_PART_SIZE_BYTES,
};
use rustc_hash::FxHashMap;

use super::{
    EnqueueParts, Reply,
    enqueue::{Appended, append, check_entity, check_partition, is_duplicate},
    namespace::{Namespace, Step},
};

/// What was stored of the messages under way, by connection and its name for the message.
pub(super) type Uploads = FxHashMap<ConnectionId, FxHashMap<UploadId, Upload>>;

/// Rows of a message that is not whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upload {
    body: BodyId,
    parts: u16,
}

impl Namespace {
    /// Writes one full row. A refusal forgets the message.
    pub(super) fn store_part(
        &mut self,
        step: &mut Step<'_>,
        entity: EntityId,
        (connection, upload): (ConnectionId, UploadId),
        part: u16,
        row: Bytes,
    ) -> Reply {
        // What the broker generated is in the first row; how much is told at the end only, so one
        // row more than the limit allows may pass here.
        let bytes = u64::from(part) * BODY_PART_SIZE_BYTES as u64;
        if let Err(refusal) = self.takes(entity, bytes) {
            self.drop_parts(step, connection, upload);
            return Reply::Refused(refusal);
        }
        self.note_use(step.now.utc, entity);
        let uploads = self.uploads.entry(connection).or_default();
        if part == 0 {
            uploads.insert(upload, Upload { body: self.next_body, parts: 0 });
            self.next_body.0 += 1;
        }
        let Some(stored) = uploads.get_mut(&upload).filter(|stored| stored.parts == part) else {
            // An earlier part was refused.
            return Reply::Refused(Refusal::ServerBusy);
        };
        stored.parts += 1;
        step.out.batch.put_body_part(self.id, stored.body, part, row);
        Reply::Done
    }

    /// Writes the last row and the message. A refusal forgets it; so does a duplicate.
    pub(super) fn enqueue_parts(&mut self, step: &mut Step<'_>, end: EnqueueParts) -> Reply {
        let stored = self.uploads.get(&end.connection).and_then(|uploads| uploads.get(&end.upload)).copied();
        // An earlier part was refused.
        let Some(stored) = stored else { return Reply::Refused(Refusal::ServerBusy) };
        let last_row_bytes = end.message.encoded.len() as u64;
        let bytes = u64::from(stored.parts) * BODY_PART_SIZE_BYTES as u64 + last_row_bytes;
        let sent_bytes = bytes.saturating_sub(u64::from(end.message.generated_bytes));
        let taken = self.takes(end.entity, sent_bytes).and_then(|()| self.takes_message(&end));
        let queue = self.queues.get_mut(&end.entity);
        let queue = match (taken, queue) {
            (Ok(()), Some(queue)) => queue,
            (refused, _) => {
                self.drop_parts(step, end.connection, end.upload);
                return Reply::Refused(refused.err().unwrap_or(Refusal::EntityNotFound));
            }
        };
        let first = queue.last_sequence_number.next();
        if is_duplicate(queue, step, end.message.duplicate_key) {
            self.drop_parts(step, end.connection, end.upload);
            return Reply::Enqueued { first, duplicates: vec![0] };
        }
        queue.note_access(step.now.utc);
        step.out.batch.put_body_part(self.id, stored.body, stored.parts, end.message.encoded.clone());
        let size_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut noted = Appended::default();
        let body = (stored.body, size_bytes);
        append(step, queue, &end.message, body, &mut self.stale_counters, &mut noted);
        self.forget_parts(end.connection, end.upload);
        self.enqueued(step, end.entity, noted);
        Reply::Enqueued { first, duplicates: Vec::new() }
    }

    /// What only the whole message tells.
    fn takes_message(&self, end: &EnqueueParts) -> Result<(), Refusal> {
        let settings = self.queue_of(end.entity)?.settings;
        if settings.requires_session && end.message.message_session.is_none() {
            return Err(Refusal::MessageSessionIdMissing);
        }
        check_partition(std::slice::from_ref(&end.message), &settings)
    }

    /// Whether the entity takes messages, and one that was sent with that many bytes.
    fn takes(&self, entity: EntityId, sent_bytes: u64) -> Result<(), Refusal> {
        let queue = self.queue_of(entity)?;
        check_entity(queue, self.entity_bytes(entity))?;
        let max_bytes = queue.settings.max_message_size_bytes;
        if sent_bytes > max_bytes {
            return Err(Refusal::TooLarge { limit: SizeLimit::Message, max_bytes });
        }
        Ok(())
    }

    fn forget_parts(&mut self, connection: ConnectionId, upload: UploadId) -> Option<Upload> {
        let uploads = self.uploads.get_mut(&connection)?;
        let stored = uploads.remove(&upload);
        if uploads.is_empty() {
            self.uploads.remove(&connection);
        }
        stored
    }

    /// The message will not be completed: its rows go.
    pub(super) fn drop_parts(&mut self, step: &mut Step<'_>, connection: ConnectionId, upload: UploadId) {
        if let Some(stored) = self.forget_parts(connection, upload) {
            step.out.batch.delete_body_parts(self.id, stored.body, stored.parts);
        }
    }

    /// So do those of every message of a connection that is gone.
    pub(super) fn drop_all_parts(&mut self, step: &mut Step<'_>, connection: ConnectionId) {
        for stored in self.uploads.remove(&connection).unwrap_or_default().into_values() {
            step.out.batch.delete_body_parts(self.id, stored.body, stored.parts);
        }
    }
}
