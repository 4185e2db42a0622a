//! Locks of single messages: what a lock token stands for, renewal, and expiry.

use lockstep_model::{
    ConnectionId, EntityId, LockToken, MonoTime, Now, OutgoingLinkId, SequenceNumber, Timestamp,
};
use rustc_hash::FxHashMap;
use slab::Slab;

use super::{
    Reply,
    deadlines::Deadline,
    defects::{Defect, is_present},
    links::LinkKind,
    namespace::{Namespace, Step},
};

/// Place of a lock in the [`LockTable`]; reused once the lock is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct LockSlot(u32);

/// A delivery that was made and not settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lock {
    pub(super) token: LockToken,
    pub(super) queue: EntityId,
    pub(super) sequence_number: SequenceNumber,
    /// The link it was made on; may be gone.
    pub(super) link: OutgoingLinkId,
    pub(super) kind: LockKind,
    /// A settlement on the link was refused: the receiver has forgotten the delivery, so the broker
    /// does not renew the lock for it.
    pub(super) settlement_refused: bool,
}

/// What ends a lock.
#[derive(Clone, Copy, Debug)]
pub(super) enum LockKind {
    /// Its own deadline; it outlives link and connection (semantics B-26).
    Message { deadline: MonoTime, locked_until: Timestamp },
    /// The lock on its message session (semantics A-47). `position` is its place in the link's
    /// list of deliveries in flight.
    MessageSession { position: u32 },
    /// Receive-and-delete: the rows are deleted, the message is not known to be on the wire.
    Reserved { position: u32 },
    /// Nobody's: an abandoned message waits for its next delivery (semantics F-7).
    HeldBack { deadline: MonoTime },
}

/// All locks of a namespace.
#[derive(Debug, Default)]
pub(super) struct LockTable {
    slots: Slab<Lock>,
    by_token: FxHashMap<LockToken, LockSlot>,
}

impl LockTable {
    pub(super) fn insert(&mut self, lock: Lock) -> LockSlot {
        let slot = LockSlot(u32::try_from(self.slots.vacant_key()).unwrap_or(u32::MAX));
        self.by_token.insert(lock.token, slot);
        self.slots.insert(lock);
        slot
    }

    pub(super) fn find(&self, token: LockToken) -> Option<(LockSlot, Lock)> {
        let slot = *self.by_token.get(&token)?;
        Some((slot, *self.slots.get(slot.0 as usize)?))
    }

    pub(super) fn get(&self, slot: LockSlot) -> Option<&Lock> {
        self.slots.get(slot.0 as usize)
    }

    pub(super) fn get_mut(&mut self, slot: LockSlot) -> Option<&mut Lock> {
        self.slots.get_mut(slot.0 as usize)
    }

    pub(super) fn remove(&mut self, slot: LockSlot) -> Option<Lock> {
        let lock = self.slots.try_remove(slot.0 as usize)?;
        self.by_token.remove(&lock.token);
        Some(lock)
    }

    /// Makes the token unknown; the slot stays until it is removed.
    pub(super) fn forget_token(&mut self, slot: LockSlot) -> Option<LockToken> {
        let token = self.get(slot)?.token;
        self.by_token.remove(&token);
        Some(token)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.slots.len(), self.by_token.len())
    }
}

impl Namespace {
    /// Takes a lock out of every table that knows it. The message is left as it is.
    pub(super) fn unlock(&mut self, slot: LockSlot) -> Option<Lock> {
        let lock = self.locks.remove(slot)?;
        match lock.kind {
            LockKind::Message { deadline, .. } | LockKind::HeldBack { deadline } => {
                self.deadlines.remove(deadline, Deadline::MessageLock(slot));
            }
            LockKind::MessageSession { position } | LockKind::Reserved { position } => {
                self.forget_in_flight(lock.link, position as usize);
            }
        }
        Some(lock)
    }

    fn forget_in_flight(&mut self, link: OutgoingLinkId, position: usize) {
        let Some(link) = self.links.get_mut(&link) else { return };
        if position < link.in_flight.len() {
            link.in_flight.swap_remove(position);
        }
        let moved = link.in_flight.get(position).and_then(|&slot| self.locks.get_mut(slot));
        if let Some(Lock {
            kind: LockKind::MessageSession { position: p } | LockKind::Reserved { position: p },
            ..
        }) = moved
        {
            *p = u32::try_from(position).unwrap_or(u32::MAX);
        }
    }

    /// Renews message locks, all or none (semantics B-27, A-49).
    pub(super) fn renew_message_locks(
        &mut self,
        step: &mut Step<'_>,
        entity: EntityId,
        tokens: &[LockToken],
        connection: ConnectionId,
    ) -> Reply {
        for &token in tokens {
            if let Err(refusal) = self.judge_by_management(step.now, entity, token, connection) {
                return Reply::Refused(refusal);
            }
        }
        self.note_use(step.now.utc, entity);
        let mut ends = Vec::with_capacity(tokens.len());
        for &token in tokens {
            let Some((slot, lock)) = self.locks.find(token) else { continue };
            match lock.kind {
                LockKind::Message { .. } => ends.extend(self.extend_message_lock(step.now, slot)),
                LockKind::MessageSession { .. } | LockKind::Reserved { .. } | LockKind::HeldBack { .. } => {
                    if let Some(LinkKind::Holder(hold)) = self.links.get(&lock.link).map(|link| &link.kind) {
                        ends.push(hold.locked_until);
                    }
                }
            }
        }
        Reply::Renewed(ends)
    }

    /// Gives a message lock one lock duration from now, never less than it had; its new end.
    pub(super) fn extend_message_lock(&mut self, now: Now, slot: LockSlot) -> Option<Timestamp> {
        let lock = self.locks.get_mut(slot)?;
        let lock_duration = self.queues.get(&lock.queue)?.settings.lock_duration;
        let LockKind::Message { deadline, locked_until } = &mut lock.kind else { return None };
        self.deadlines.remove(*deadline, Deadline::MessageLock(slot));
        *deadline = (*deadline).max(now.mono.plus(lock_duration));
        *locked_until = (*locked_until).max(now.utc.plus(lock_duration));
        self.deadlines.insert(*deadline, Deadline::MessageLock(slot));
        Some(*locked_until)
    }

    /// A message lock has run out: the delivery failed (semantics B-28).
    pub(super) fn expire_message_lock(&mut self, step: &mut Step<'_>, slot: LockSlot) {
        if let Some(lock) = self.unlock(slot) {
            self.note_use(step.now.utc, lock.queue);
            if is_present(Defect::ExpiryIsNotCounted) {
                self.give_back(lock.queue, lock.sequence_number);
                return;
            }
            self.fail_delivery(step, lock.queue, lock.sequence_number, None);
        }
    }
}
