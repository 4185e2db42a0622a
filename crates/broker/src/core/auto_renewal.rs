//! Locks that the broker renews itself, where an entity has `auto_renew_while_link_open`: for
//! clients that cannot renew, and as long as their link is attached.
//!
//! Such a lock is not over when its time is, only when its link is gone as well. It is renewed
//! when its deadline passes; what is asked of it between the two moments finds it held.

use lockstep_model::{EntityId, Now, OutgoingLinkId};

use super::{
    links::{Link, LinkKind},
    message_locks::{Lock, LockKind, LockSlot},
    message_session::lock_manager::Hold,
    namespace::{Namespace, Step},
};

impl Namespace {
    fn auto_renews(&self, queue: EntityId) -> bool {
        self.queues.get(&queue).is_some_and(|queue| queue.settings.auto_renew)
    }

    /// Whether a hold has ended by time. One whose connection broke has no link that could keep
    /// it.
    pub(super) fn is_over(&self, now: Now, link: &Link, hold: &Hold) -> bool {
        hold.deadline <= now.mono && (hold.is_lost || !self.auto_renews(link.queue))
    }

    /// Whether a message lock is kept by its link, whatever the time. Not after a settlement that
    /// was refused: nothing would end it as long as the link is there.
    pub(super) fn is_renewed(&self, lock: &Lock) -> bool {
        !lock.settlement_refused && self.auto_renews(lock.queue) && self.links.contains_key(&lock.link)
    }

    /// The deadline of a message lock passed.
    pub(super) fn message_lock_is_due(&mut self, step: &mut Step<'_>, slot: LockSlot) {
        let Some(lock) = self.locks.get(slot) else { return };
        if let LockKind::HeldBack { .. } = lock.kind {
            self.end_hold_back(slot);
        } else if self.is_renewed(lock) {
            self.extend_message_lock(step.now, slot);
        } else {
            self.expire_message_lock(step, slot);
        }
    }

    /// The deadline of a hold passed.
    pub(super) fn message_session_lock_is_due(&mut self, step: &mut Step<'_>, id: OutgoingLinkId) {
        let is_kept = self.links.get(&id).is_some_and(|link| match &link.kind {
            LinkKind::Holder(hold) => !self.is_over(step.now, link, hold),
            _ => false,
        });
        if is_kept {
            self.extend_hold(step.now, id);
        } else {
            self.expire_session_lock(step, id);
        }
    }
}
