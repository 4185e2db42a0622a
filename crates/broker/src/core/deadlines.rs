//! Everything that happens because time passes, as data.

use std::collections::BTreeSet;

use lockstep_model::{MonoTime, OutgoingLinkId};

use super::message_locks::LockSlot;

/// What is due at some time. Of what is due at the same time, locks come before accepts: a
/// message session that just became free still goes to an accept whose wait ends now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Deadline {
    /// The lock of one message ends.
    MessageLock(LockSlot),
    /// The lock on a message session, held by this link, ends.
    MessageSessionLock(OutgoingLinkId),
    /// A pending accept has waited long enough.
    Accept(OutgoingLinkId),
}

/// All deadlines of a namespace, soonest first. Exact: what is over is removed, so the soonest
/// one is always real.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(MonoTime, Deadline)>);

impl Deadlines {
    pub(super) fn insert(&mut self, at: MonoTime, what: Deadline) {
        self.0.insert((at, what));
    }

    pub(super) fn remove(&mut self, at: MonoTime, what: Deadline) {
        self.0.remove(&(at, what));
    }

    /// The soonest deadline.
    pub(super) fn first(&self) -> Option<(MonoTime, Deadline)> {
        self.0.first().copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
