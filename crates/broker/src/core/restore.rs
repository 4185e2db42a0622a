//! Bringing back what the store holds, in the order of
//! [`LoadVisitor`](lockstep_store::LoadVisitor). Rows of entities that are not defined are
//! ignored. No lock survives (semantics C-13): every message is available, with its count as it
//! was last written.

use lockstep_model::{
    BodyId, EntityDescription, EntityId, MessageSessionId, MessageState, SequenceNumber, Timestamp,
};
use lockstep_store::{CounterRecord, DuplicateRecord, MessageOverlayRecord, MessageRecord, NamespaceRecord};

use super::{
    defects::{Defect, is_present},
    message_session::state_blob::StateBlob,
    message_state::{Expiry, MessageEntry, Place},
    namespace::Namespace,
    wall_clock::Due,
};

impl Namespace {
    /// The namespace's own row.
    pub fn restore_record(&mut self, record: NamespaceRecord) {
        self.note_entity_number(record.last_entity_number);
    }

    /// An entity definition.
    pub fn restore_entity(&mut self, id: EntityId, description: EntityDescription) {
        let EntityDescription::Queue(description) = description;
        self.note_entity_number(id.number());
        self.set_description(id, description);
    }

    /// The counters of a queue.
    pub fn restore_counter(&mut self, id: EntityId, record: CounterRecord) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.last_sequence_number = queue.last_sequence_number.max(record.last_sequence_number);
        }
    }

    /// A message session that has state.
    pub fn restore_message_session(
        &mut self,
        id: EntityId,
        session: MessageSessionId,
        updated_at: Timestamp,
        size_bytes: u64,
    ) {
        if let Some(queue) = self.queues.get_mut(&id) {
            let slot = queue.message_sessions.find_or_create(&session);
            queue
                .message_sessions
                .set_state(slot, Some(StateBlob { size_bytes, ..StateBlob::new(updated_at) }));
        }
    }

    /// A message.
    pub fn restore_message(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageRecord) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if record.state == MessageState::Scheduled && is_present(Defect::ScheduledIsLostAtStart) {
            return;
        }
        self.next_body = self.next_body.max(BodyId(record.body.0 + 1));
        self.restored_bodies.get_or_insert_default().insert(record.body);
        let slot = record.message_session.as_ref().map(|id| queue.message_sessions.find_or_create(id));
        let entry = MessageEntry {
            enqueued_at: record.enqueued_at,
            expiry: Expiry::at(record.expires_at),
            body: record.body,
            overlay: None,
            size_bytes: record.size_bytes,
            delivery_count: 0,
            place: match record.state {
                MessageState::Active => Place::Available,
                MessageState::Deferred => Place::Deferred,
                MessageState::Scheduled if is_present(Defect::ScheduledIsActiveAfterStart) => {
                    Place::Available
                }
                MessageState::Scheduled => Place::Scheduled,
            },
            message_session: slot,
            is_deferred: record.state == MessageState::Deferred,
            was_scheduled: record.was_scheduled,
        };
        queue.insert(sequence_number, entry);
        queue.last_sequence_number = queue.last_sequence_number.max(sequence_number);
    }

    /// What settlements changed about a message; ignored if there is no such message.
    pub fn restore_overlay(
        &mut self,
        id: EntityId,
        sequence_number: SequenceNumber,
        record: MessageOverlayRecord,
    ) {
        let queue = self.queues.get_mut(&id);
        let Some(entry) = queue.and_then(|queue| queue.messages.get_mut(sequence_number)) else { return };
        entry.delivery_count = record.delivery_count;
        entry.overlay = (!record.properties.is_empty()).then(|| record.properties.into());
    }

    /// A message-id that an entity remembers.
    pub fn restore_duplicate(&mut self, id: EntityId, record: DuplicateRecord) {
        if let Some(queue) = self.queues.get_mut(&id)
            && !is_present(Defect::DuplicatesForgottenAtStart)
        {
            queue.duplicates.restore(record);
        }
    }

    /// Every row was restored: makes messages available, and notes what is due.
    pub fn finish_restore(&mut self, now: Timestamp) {
        self.restored_bodies.get_or_insert_default();
        for queue in self.queues.values_mut() {
            queue.finish_restore();
        }
        self.plan_all(now);
    }

    /// Notes what is due in every entity, as it is defined now. `now` counts as their last use. To
    /// be called once more when definitions have changed without a command.
    pub fn plan_all(&mut self, now: Timestamp) {
        let ids: Vec<EntityId> = self.queues.keys().copied().collect();
        for id in ids {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.last_used = now;
                let remembers = !queue.duplicates.is_empty();
                self.wall_clock.set(Due::ForgetDuplicates(id), remembers.then_some(now));
            }
            self.plan_activation(id);
            self.plan_sweep(id);
            self.plan_idle(id);
            self.plan_states(now, id);
        }
    }

    /// Whether a restored message has this body. To be asked between
    /// [`Namespace::finish_restore`] and the first command; afterwards the answer is always yes.
    #[must_use]
    pub fn is_live_body(&self, body: BodyId) -> bool {
        self.restored_bodies.as_ref().is_none_or(|bodies| bodies.contains(&body))
    }
}
