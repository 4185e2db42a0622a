//! Moving messages to the dead-letter queue (semantics B-29, B-34 to B-42).

use lockstep_model::{EntityId, PropertyOverlay, PropertyValue, SequenceNumber, SubQueue};

use super::{
    defects::{Defect, is_present},
    message_state::Place,
    namespace::{Namespace, Step, Uncommitted},
};

/// Application property that says why a message is in a dead-letter queue (semantics B-36).
pub(super) const REASON: &str = "DeadLetterReason";
/// Application property that says more about it.
pub(super) const DESCRIPTION: &str = "DeadLetterErrorDescription";

impl Namespace {
    /// Moves a message that failed too often.
    pub(super) fn dead_letter_exhausted(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
        max_delivery_count: u32,
    ) {
        let description =
            format!("Message could not be consumed after {max_delivery_count} delivery attempts.");
        let mut reason = PropertyOverlay::new();
        reason.set(REASON, PropertyValue::Text("MaxDeliveryCountExceeded".into()));
        reason.set(DESCRIPTION, PropertyValue::Text(description.into()));
        self.move_to_dead_letter(step, queue_id, sequence_number, &reason);
    }

    /// Moves a message that has no room for the properties it was given; those are left out
    /// (semantics B-35).
    pub(super) fn dead_letter_oversize_header(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
    ) {
        let mut reason = PropertyOverlay::new();
        reason.set(REASON, PropertyValue::Text("HeaderSizeExceeded".into()));
        reason.set(
            DESCRIPTION,
            PropertyValue::Text("The properties given by settlements exceed 64 KiB together.".into()),
        );
        self.move_to_dead_letter(step, queue_id, sequence_number, &reason);
    }

    /// Moves a message that is in no receiver's hands any more: one row goes, another comes, the
    /// body stays. It keeps its sequence number, time, count and message-session id (semantics
    /// B-38, B-41), and is available there when the move is durable.
    pub(super) fn move_to_dead_letter(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
        properties: &PropertyOverlay,
    ) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        let slot = queue.messages.get(sequence_number).and_then(|entry| entry.message_session);
        let message_session = queue.message_sessions.id(slot);
        let Some(mut entry) = queue.remove(sequence_number) else { return };
        if !is_present(Defect::DeadLetteredIsInTwoPlaces) {
            step.out.batch.delete_message(queue_id, sequence_number);
        }
        // The count may have risen just now, before its row was written: deleting no row is harmless.
        if entry.has_overlay_row() {
            step.out.batch.delete_overlay(queue_id, sequence_number);
        }

        let target_id = queue_id.with_sub_queue(SubQueue::DeadLetter);
        let Some(target) = self.queues.get_mut(&target_id) else { return };
        entry.lay_over(properties);
        entry.is_deferred = false;
        step.out.batch.put_message(target_id, sequence_number, &entry.record(message_session.clone()));
        if entry.has_overlay_row() {
            step.out.batch.put_overlay(target_id, sequence_number, &entry.overlay_record());
        }
        entry.place = Place::Awaiting;
        entry.message_session = message_session.map(|id| target.message_sessions.find_or_create(&id));
        target.insert(sequence_number, entry);
        self.await_commit(step, Uncommitted::Row { queue: target_id, sequence_number });
    }
}
