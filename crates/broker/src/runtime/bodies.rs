//! Recent messages, kept so that prompt receivers and peeks need no read. Owned by the owner
//! thread. A body that is not yet durable is never dropped: until its batch is written the store
//! could not serve it.

use std::collections::VecDeque;

use bytes::Bytes;
use lockstep_model::{BodyId, CommitNumber, NamespaceId};
use rustc_hash::FxHashMap;

type Key = (NamespaceId, BodyId);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct BodyCache {
    bytes_max: usize,
    bytes: usize,
    bodies: FxHashMap<Key, Bytes>,
    /// In order of arrival, hence of commit; may name bodies that were removed since.
    order: VecDeque<(CommitNumber, Key)>,
}

impl BodyCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, bodies: FxHashMap::default(), order: VecDeque::new() }
    }

    /// What is kept, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn insert(
        &mut self,
        commit: CommitNumber,
        namespace: NamespaceId,
        body: BodyId,
        bytes: Bytes,
    ) {
        self.bytes += bytes.len();
        self.bodies.insert((namespace, body), bytes);
        self.order.push_back((commit, (namespace, body)));
    }

    pub(crate) fn get(&self, namespace: NamespaceId, body: BodyId) -> Option<Bytes> {
        self.bodies.get(&(namespace, body)).cloned()
    }

    pub(crate) fn remove(&mut self, namespace: NamespaceId, body: BodyId) {
        if let Some(bytes) = self.bodies.remove(&(namespace, body)) {
            self.bytes -= bytes.len();
        }
    }

    /// Drops the oldest durable bodies until the limit is kept, and forgets removed ones.
    pub(crate) fn trim(&mut self, durable: CommitNumber) {
        while let Some(&(commit, (namespace, body))) = self.order.front() {
            let present = self.bodies.contains_key(&(namespace, body));
            if present && (self.bytes <= self.bytes_max || commit > durable) {
                // A long-lived body at the front must not make the order list grow without end.
                if self.order.len() > 1024 && self.order.len() > 2 * self.bodies.len() {
                    let bodies = &self.bodies;
                    self.order.retain(|(_, key)| bodies.contains_key(key));
                }
                return;
            }
            self.order.pop_front();
            self.remove(namespace, body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: NamespaceId = NamespaceId(1);

    fn cache() -> BodyCache {
        let mut cache = BodyCache::new(10);
        for n in 1..=4 {
            cache.insert(CommitNumber(n), NS, BodyId(n), Bytes::from_static(b"12345"));
        }
        cache
    }

    #[test]
    fn the_oldest_durable_bodies_go_first() {
        let mut cache = cache();
        cache.trim(CommitNumber(4));
        assert_eq!((cache.get(NS, BodyId(2)), cache.bytes), (None, 10));
        assert!(cache.get(NS, BodyId(3)).is_some());
    }

    #[test]
    fn a_body_that_is_not_durable_stays_whatever_the_limit() {
        let mut cache = cache();
        cache.trim(CommitNumber(1));
        assert_eq!((cache.get(NS, BodyId(1)), cache.bytes), (None, 15));
    }

    #[test]
    fn removed_bodies_leave_no_trace() {
        let mut cache = cache();
        for n in 1..=4 {
            cache.remove(NS, BodyId(n));
        }
        cache.trim(CommitNumber(0));
        assert_eq!((cache.bytes, cache.order.len()), (0, 0));
    }
}
