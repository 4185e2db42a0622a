//! What is due by the wall clock: time to live, schedules, histories (docs/architecture.md,
//! invariant 10: locks go by the monotonic clock, these by the time that clients see).

use std::collections::BTreeSet;

use lockstep_model::{EntityId, Timestamp};
use rustc_hash::FxHashMap;

/// Work of one queue that is due at some time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Due {
    /// Scheduled messages are to be enqueued.
    Activate(EntityId),
    /// Messages of a plain queue have expired.
    Expire(EntityId),
    /// Message-ids are to be forgotten.
    ForgetDuplicates(EntityId),
    /// States of message sessions have outlived their time.
    ForgetStates(EntityId),
    /// The entity may have been idle for too long.
    Idle(EntityId),
}

/// At most one time for each kind of work of each queue.
#[derive(Debug, Default)]
pub(super) struct WallClock {
    by_time: BTreeSet<(Timestamp, Due)>,
    times: FxHashMap<Due, Timestamp>,
}

impl WallClock {
    /// Sets when `what` is due; `None` takes it back.
    pub(super) fn set(&mut self, what: Due, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.times.insert(what, at),
            None => self.times.remove(&what),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, what));
        }
        if let Some(at) = at {
            self.by_time.insert((at, what));
        }
    }

    /// Sets when `what` is due unless it is due earlier already.
    pub(super) fn set_no_later(&mut self, what: Due, at: Timestamp) {
        if self.times.get(&what).is_none_or(|&before| at < before) {
            self.set(what, Some(at));
        }
    }

    /// Takes back all work of a queue.
    pub(super) fn forget(&mut self, queue: EntityId) {
        for what in [Due::Activate, Due::Expire, Due::ForgetDuplicates, Due::ForgetStates, Due::Idle] {
            self.set(what(queue), None);
        }
    }

    /// What is due first.
    pub(super) fn first(&self) -> Option<(Timestamp, Due)> {
        self.by_time.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::NamespaceId;

    use super::*;

    #[test]
    fn each_work_has_one_time() {
        let at = Timestamp::from_unix_millis;
        let expire = Due::Expire(EntityId::new(NamespaceId(1), 1));
        let activate = Due::Activate(EntityId::new(NamespaceId(1), 1));
        let mut clock = WallClock::default();
        clock.set(expire, Some(at(10)));
        clock.set(activate, Some(at(20)));
        clock.set_no_later(expire, at(15));
        assert_eq!(clock.first(), Some((at(10), expire)));
        clock.set(expire, Some(at(30)));
        assert_eq!(clock.first(), Some((at(20), activate)));
        clock.set(activate, None);
        clock.set(expire, None);
        assert_eq!(clock.first(), None);
        assert!(clock.by_time.is_empty() && clock.times.is_empty());
    }
}
