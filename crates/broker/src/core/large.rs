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
    enqueue::append,
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

    /// Writes the last row and the message. A refusal forgets it.
    pub(super) fn enqueue_parts(&mut self, step: &mut Step<'_>, end: EnqueueParts) -> Reply {
        let stored = self.uploads.get(&end.connection).and_then(|uploads| uploads.get(&end.upload)).copied();
        // An earlier part was refused.
        let Some(stored) = stored else { return Reply::Refused(Refusal::ServerBusy) };
        let bytes = u64::from(stored.parts) * BODY_PART_SIZE_BYTES as u64 + end.row.len() as u64;
        let mut taken = self.takes(end.entity, bytes.saturating_sub(u64::from(end.generated_bytes)));
        let Some(queue) = self.queues.get_mut(&end.entity) else {
            self.drop_parts(step, end.connection, end.upload);
            return Reply::Refused(Refusal::EntityNotFound);
        };
        if queue.settings.requires_session && end.message_session.is_none() {
            taken = Err(Refusal::MessageSessionIdMissing);
        }
        if let Err(refusal) = taken {
            self.drop_parts(step, end.connection, end.upload);
            return Reply::Refused(refusal);
        }
        step.out.batch.put_body_part(self.id, stored.body, stored.parts, end.row);
        let size_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let number = append(step, queue, stored.body, size_bytes, end.message_session);
        self.forget_parts(end.connection, end.upload);
        self.enqueued(step, end.entity);
        Reply::Enqueued(number)
    }

    /// Whether the entity takes messages, and one that was sent with that many bytes.
    fn takes(&self, entity: EntityId, sent_bytes: u64) -> Result<(), Refusal> {
        let queue = self.queue_of(entity)?;
        if queue.is_sub_queue() {
            return Err(Refusal::SendToSubQueue);
        }
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
