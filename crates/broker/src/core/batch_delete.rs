//! Removing many messages at once (semantics B-55, G-59).

use lockstep_model::{
    EntityId, MessageSessionId, Refusal, SequenceNumber, Timestamp, limits::BATCH_DELETE_MESSAGES_MAX,
};

use super::{
    Reply,
    defects::{Defect, is_present},
    message_state::{MessageEntry, Place},
    namespace::{Changed, Namespace, Step},
};

impl Namespace {
    /// Removes up to `count` messages that were enqueued at or before a time, oldest first; what
    /// is locked, deferred or scheduled stays.
    pub(super) fn delete_messages(
        &mut self,
        step: &mut Step<'_>,
        entity: EntityId,
        count: u32,
        enqueued_until: Timestamp,
        session: Option<&MessageSessionId>,
    ) -> Reply {
        let Some(queue) = self.queues.get_mut(&entity) else {
            return Reply::Refused(Refusal::EntityNotFound);
        };
        if count == 0 || count > BATCH_DELETE_MESSAGES_MAX {
            return Reply::Refused(Refusal::InvalidArgument("message-count must be between 1 and 4000"));
        }
        let is_free = |entry: &MessageEntry| {
            entry.place == Place::Available
                || (entry.place == Place::Deferred && is_present(Defect::BatchDeletionTakesDeferred))
        };
        if !queue.settings.status.allows_receive() {
            return Reply::Refused(Refusal::EntityDisabled);
        }
        let qualifies = |entry: &MessageEntry| is_free(entry) && entry.enqueued_at <= enqueued_until;
        let count = count as usize;
        let numbers: Vec<SequenceNumber> = match session {
            None => {
                // What lies before the first free message is not looked at again.
                let first = queue.messages.iter_from(queue.deletable_from).find(|(_, entry)| is_free(entry));
                queue.deletable_from = first.map_or(queue.last_sequence_number, |(number, _)| number);
                let all = queue.messages.iter_from(queue.deletable_from);
                all.filter(|(_, entry)| qualifies(entry)).map(|(number, _)| number).take(count).collect()
            }
            Some(id) => {
                let slot = queue.message_sessions.find(id);
                let session = slot.and_then(|slot| queue.message_sessions.get_mut(slot));
                let Some(session) = session else { return Reply::Deleted(0) };
                let all = session.messages.iter_from(SequenceNumber(0), &queue.messages);
                all.filter(|&number| queue.messages.get(number).is_some_and(qualifies)).take(count).collect()
            }
        };
        for &number in &numbers {
            let Some(queue) = self.queues.get_mut(&entity) else { break };
            queue.withdraw(number);
            let slot = queue.messages.get(number).and_then(|entry| entry.message_session);
            let requires_session = queue.settings.requires_session;
            self.remove_message(step, entity, number);
            if let Some(slot) = slot.filter(|_| requires_session) {
                self.mark(Changed::MessageSession(entity, slot));
            }
        }
        self.plan_sweep(entity);
        Reply::Deleted(u32::try_from(numbers.len()).unwrap_or(u32::MAX))
    }
}
