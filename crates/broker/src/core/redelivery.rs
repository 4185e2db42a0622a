//! Abandoned messages that wait before they are delivered again (semantics F-7): so that what
//! fails now is not tried over and over at once.
//!
//! The delay is the receiver's own, or the entity's back-off: `redelivery_delay`, doubled with each
//! failed delivery, up to `redelivery_delay_max`. Until it is over the message is locked by nobody.
//! In a message session no later message overtakes it; other message sessions go on. A restart ends
//! every delay.

use std::time::Duration;

use lockstep_model::{PropertyOverlay, QueueDescription};

use super::{
    deadlines::Deadline,
    message_locks::{Lock, LockKind, LockSlot},
    message_state::Place,
    namespace::{Namespace, Step},
};

/// How an entity puts off what was abandoned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BackOff {
    first: Duration,
    max: Duration,
}

impl BackOff {
    pub(super) fn of(description: &QueueDescription) -> Self {
        Self {
            first: description.redelivery_delay,
            max: description.redelivery_delay_max.max(description.redelivery_delay),
        }
    }

    /// The delay after so many failed deliveries.
    fn after(self, delivery_count: u32) -> Duration {
        let doubled = 1_u32.checked_shl(delivery_count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.max)
    }
}

impl Namespace {
    /// A receiver gave a message up. `delay` is its own; without one the entity's holds.
    pub(super) fn abandon(
        &mut self,
        step: &mut Step<'_>,
        lock: &Lock,
        properties: &PropertyOverlay,
        delay: Option<Duration>,
    ) {
        let (queue_id, number) = (lock.queue, lock.sequence_number);
        if !self.count_failure(step, queue_id, number, Some(properties)) {
            return;
        }
        let Some(queue) = self.queues.get(&queue_id) else { return };
        let Some(entry) = queue.messages.get(number) else { return };
        let delay = delay.unwrap_or_else(|| queue.settings.back_off.after(entry.delivery_count));
        // What has expired has nothing to wait for (semantics A-105).
        let left = entry.expiry.left(step.now.utc).filter(|_| !queue.is_sub_queue());
        let delay = left.map_or(delay, |left| delay.min(left));
        // What was put aside is asked for by number, whenever its receiver likes.
        if delay.is_zero() || entry.is_deferred {
            self.give_back(queue_id, number);
        } else {
            self.hold_back(step, lock, delay);
        }
    }

    fn hold_back(&mut self, step: &mut Step<'_>, abandoned: &Lock, delay: Duration) {
        let Some(queue) = self.queues.get_mut(&abandoned.queue) else { return };
        let Some(entry) = queue.messages.get_mut(abandoned.sequence_number) else { return };
        let deadline = step.now.mono.plus(delay);
        let kind = LockKind::HeldBack { deadline };
        // A token that nobody knows.
        let slot = self.locks.insert(Lock { token: step.ids.lock_token(), kind, ..*abandoned });
        entry.place = Place::Locked(slot);
        self.deadlines.insert(deadline, Deadline::MessageLock(slot));
        queue.locked -= 1;
        queue.hold_back(abandoned.sequence_number);
    }

    /// The delay of a message is over.
    pub(super) fn end_hold_back(&mut self, slot: LockSlot) {
        if let Some(lock) = self.unlock(slot) {
            self.put_in_line(lock.queue, lock.sequence_number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_with_each_failure_up_to_its_bound() {
        let seconds = Duration::from_secs;
        let back_off = BackOff { first: seconds(2), max: seconds(15) };
        let delays: Vec<_> = [1, 2, 3, 4, 5, 40].map(|count| back_off.after(count).as_secs()).into();
        assert_eq!(delays, [2, 4, 8, 15, 15, 15]);
        let none = BackOff { first: Duration::ZERO, max: Duration::ZERO };
        assert_eq!(none.after(3), Duration::ZERO);
    }
}
