//! Receive-and-delete deliveries that are not known to be on the wire: their rows are deleted
//! already, so that they are delivered at most once (semantics C-1).

use lockstep_model::{ConnectionId, LockToken, OutgoingLinkId, ReceiveMode};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    message_locks::{Lock, LockKind, LockSlot},
    namespace::{Changed, Namespace, Step},
};

/// What links had reserved that the broker ended, by connection. Their clients are there, and only
/// the connection knows which of these deliveries are on the wire.
#[derive(Debug, Default)]
pub(super) struct LeftReserved(FxHashMap<ConnectionId, FxHashSet<LockToken>>);

impl LeftReserved {
    /// Whether a connection is still to say what became of a delivery; from now on it is not.
    fn answered(&mut self, token: LockToken) -> bool {
        let Some(connection) = self.0.iter().find_map(|(&id, tokens)| tokens.contains(&token).then_some(id))
        else {
            return false;
        };
        if let Some(tokens) = self.0.get_mut(&connection) {
            tokens.remove(&token);
            if tokens.is_empty() {
                self.0.remove(&connection);
            }
        }
        true
    }
}

impl Namespace {
    /// Puts back what a link reserved and did not send.
    pub(super) fn return_reserved(&mut self, step: &mut Step<'_>, in_flight: &[LockSlot]) {
        for &slot in in_flight {
            if let Some(lock) = self.locks.get(slot).copied()
                && matches!(lock.kind, LockKind::Reserved { .. })
            {
                self.unlock(slot);
                self.restore_rows(step, lock.queue, lock.sequence_number);
            }
        }
    }

    /// The broker is about to end a link whose client is there: what it reserved stays reserved
    /// until its connection says what of it was sent, or is gone. In a message session nothing
    /// overtakes these messages.
    pub(super) fn leave_reserved(&mut self, id: OutgoingLinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.mode != ReceiveMode::ReceiveAndDelete || link.in_flight.is_empty() {
            return;
        }
        let (connection, queue_id) = (link.connection, link.queue);
        for slot in std::mem::take(&mut link.in_flight) {
            match self.locks.get(slot) {
                Some(Lock { token, sequence_number, kind: LockKind::Reserved { .. }, .. }) => {
                    self.left_reserved.0.entry(connection).or_default().insert(*token);
                    if let Some(queue) = self.queues.get_mut(&queue_id) {
                        queue.hold_back(*sequence_number);
                    }
                }
                // Deferred messages that were locked under its message session.
                Some(_) => link.in_flight.push(slot),
                None => {}
            }
        }
    }

    /// A connection says of a delivery that it was sent, or puts it back.
    pub(super) fn reserved_is_answered(&mut self, lock: &Lock) {
        // Mostly there are none, or those of one connection.
        if self.left_reserved.0.is_empty() || !self.left_reserved.answered(lock.token) {
            return;
        }
        let slot = self.queues.get(&lock.queue).and_then(|queue| {
            let slot = queue.messages.get(lock.sequence_number)?.message_session;
            slot.filter(|_| queue.settings.requires_session)
        });
        if let Some(slot) = slot {
            self.mark(Changed::MessageSession(lock.queue, slot));
        }
    }

    /// A connection is gone and will not say any more what it had sent.
    pub(super) fn return_left_reserved(&mut self, step: &mut Step<'_>, connection: ConnectionId) {
        let mut tokens: Vec<_> =
            self.left_reserved.0.remove(&connection).unwrap_or_default().into_iter().collect();
        tokens.sort_unstable();
        let slots: Vec<LockSlot> =
            tokens.into_iter().filter_map(|token| self.locks.find(token)).map(|(slot, _)| slot).collect();
        self.return_reserved(step, &slots);
    }
}
