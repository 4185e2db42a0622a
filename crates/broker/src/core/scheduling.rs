//! Messages that are enqueued at a time of the sender's choice (semantics B-47 to B-52, A-131 to
//! Until then they have a number of their own, by which they can be peeked and cancelled;
//! then they are enqueued as if they were sent at that moment, under another number.

use lockstep_model::{EntityId, Refusal, SequenceNumber};

use super::{
    Reply,
    message_state::{Expiry, Place},
    namespace::{Namespace, Step, Uncommitted},
    wall_clock::Due,
};

impl Namespace {
    /// Takes scheduled messages back, all or none.
    pub(super) fn cancel_scheduled(
        &mut self,
        step: &mut Step<'_>,
        entity: EntityId,
        sequence_numbers: &[SequenceNumber],
    ) -> Reply {
        let Some(queue) = self.queues.get(&entity) else { return Reply::Refused(Refusal::EntityNotFound) };
        if !queue.settings.status.allows_send() {
            return Reply::Refused(Refusal::EntityDisabled);
        }
        let mut numbers = sequence_numbers.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        let is_scheduled = |number: &SequenceNumber| {
            queue.messages.get(*number).is_some_and(|entry| entry.place == Place::Scheduled)
        };
        // A number that is named twice is gone when it is looked for again.
        if numbers.len() != sequence_numbers.len() || !numbers.iter().all(is_scheduled) {
            return Reply::Refused(Refusal::MessageNotFound);
        }
        for number in numbers {
            self.remove_message(step, entity, number);
        }
        self.plan_activation(entity);
        Reply::Done
    }

    /// Enqueues what is due, in the order of the times, then of the numbers.
    pub(super) fn activate_due(&mut self, step: &mut Step<'_>, queue_id: EntityId) {
        while let Some(queue) = self.queues.get_mut(&queue_id)
            && let Some(&(due, scheduled)) = queue.scheduled.first()
            && due <= step.now.utc
            && step.may_go_on()
        {
            let Some(entry) = queue.messages.get(scheduled) else {
                queue.scheduled.pop_first();
                continue;
            };
            let mut active = entry.clone();
            active.expiry = Expiry::after(step.now.utc, entry.time_to_live());
            active.enqueued_at = step.now.utc;
            active.place = Place::Available;
            active.was_scheduled = true;
            // It is enqueued now, which is use of the queue and of its message session's state.
            queue.last_used = step.now.utc;
            if let Some(slot) = active.message_session {
                queue.message_sessions.note_use(slot, step.now.utc);
            }
            let number = queue.next_sequence_number(&mut self.stale_counters);
            let record = active.record(queue.message_sessions.id(active.message_session));
            step.out.batch.put_message(queue_id, number, &record);
            step.out.batch.delete_message(queue_id, scheduled);
            // The new one first: its message session must not be forgotten in between, nor its turn
            // among those that wait to be accepted.
            queue.insert(number, active);
            queue.remove(scheduled);
            self.await_commit(step, Uncommitted::Enqueued { queue: queue_id, through: number });
        }
        self.plan_activation(queue_id);
        self.plan_sweep(queue_id);
    }

    /// Sets when the next scheduled message of a queue is due.
    pub(super) fn plan_activation(&mut self, queue_id: EntityId) {
        let first = self.queues.get(&queue_id).and_then(|queue| queue.scheduled.first());
        self.wall_clock.set(Due::Activate(queue_id), first.map(|&(due, _)| due));
    }
}
