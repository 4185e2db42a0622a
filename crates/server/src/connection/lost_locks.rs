//! Receivers whose message-session lock ran out: their links end a moment later.
//!
//! The lock is lost at its end: requests and settlements are refused from then on, and another
//! receiver may have the message session. Only the detach that says so waits a little (it comes
//! within a second, semantics A-54). Clients stop when nothing has come for a time, which people
//! like to make as long as the lock: Python's time begins with the first message, a few hundredths
//! of a second behind the lock, and its own tests expect an ordinary end, not a lost lock.

use std::{collections::VecDeque, time::Duration};

use lockstep_amqp::LinkId;
use lockstep_model::{MonoTime, OutgoingLinkId, Refusal};

use super::{Connection, LinkBinding};

/// From the end of a lock to its link's detach.
const LOST_LOCK_DETACH_DELAY: Duration = Duration::from_millis(400);

/// Links that are to be detached, the first one first.
#[derive(Debug, Default)]
pub(super) struct LostLocks(VecDeque<LostLock>);

#[derive(Debug)]
struct LostLock {
    due: MonoTime,
    link: LinkId,
    /// Tells whether the link is still the same.
    outgoing: OutgoingLinkId,
}

impl LostLocks {
    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<MonoTime> {
        self.0.front().map(|lost| lost.due)
    }
}

impl Connection {
    /// The link's lock ran out: the client will be told.
    pub(super) fn lock_was_lost(&mut self, link: LinkId, outgoing: OutgoingLinkId) {
        let due = self.now.mono.plus(LOST_LOCK_DETACH_DELAY);
        self.lost_locks.0.push_back(LostLock { due, link, outgoing });
    }

    /// A deadline passed.
    pub(super) fn detach_lost(&mut self) {
        while self.lost_locks.next_due().is_some_and(|due| due <= self.now.mono) {
            let Some(lost) = self.lost_locks.0.pop_front() else { return };
            let still = matches!(
                self.links.get(&lost.link),
                Some(LinkBinding::Receiver(receiver)) if receiver.outgoing == lost.outgoing
            );
            if still {
                self.end_detached(lost.link, Some(Refusal::MessageSessionLockLost));
            }
        }
    }
}
