//! A store that fails on demand, for the tests of this crate and of those above it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use lockstep_model::{BodyId, CommitNumber, EntityId, MessageSessionId, NamespaceId};

use crate::{
    api::{LoadVisitor, Store, StoreError},
    batch::Batch,
    records::MessageSessionRecord,
};

/// Which calls fail; calls are counted from 1 for each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// The write that fails; its batch is not applied.
    pub write: Option<u64>,
    /// The sync that fails; nothing becomes durable by it.
    pub sync: Option<u64>,
    /// The reading call (bodies or a message-session state) that fails; reading does not latch.
    pub read: Option<u64>,
}

/// Wraps a store and lets chosen calls fail, as a failing disk would: after a failed write or sync
/// every further one answers [`StoreError::Latched`].
#[derive(Debug)]
pub struct FaultStore<S> {
    inner: S,
    faults: Faults,
    writes: AtomicU64,
    syncs: AtomicU64,
    reads: AtomicU64,
    latched: AtomicBool,
}

impl<S: Store> FaultStore<S> {
    /// `inner`, failing as `faults` says.
    #[must_use]
    pub const fn new(inner: S, faults: Faults) -> Self {
        Self {
            inner,
            faults,
            writes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            latched: AtomicBool::new(false),
        }
    }

    /// The store that does the work.
    #[must_use]
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// The store that does the work, without the faults.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn latching(&self, count: &AtomicU64, fails_at: Option<u64>, what: &str) -> Result<(), StoreError> {
        if self.latched.load(Ordering::Acquire) {
            return Err(StoreError::Latched);
        }
        check(count, fails_at, what).inspect_err(|_| self.latched.store(true, Ordering::Release))
    }
}

fn check(count: &AtomicU64, fails_at: Option<u64>, what: &str) -> Result<(), StoreError> {
    let call = count.fetch_add(1, Ordering::AcqRel) + 1;
    if fails_at == Some(call) {
        return Err(StoreError::Io(format!("{what} number {call} fails because a test asked for it")));
    }
    Ok(())
}

impl<S: Store> Store for FaultStore<S> {
    fn write(&self, commit: CommitNumber, batch: &Batch) -> Result<(), StoreError> {
        self.latching(&self.writes, self.faults.write, "write")?;
        self.inner.write(commit, batch)
    }

    fn sync(&self, acknowledged: CommitNumber) -> Result<(), StoreError> {
        self.latching(&self.syncs, self.faults.sync, "sync")?;
        self.inner.sync(acknowledged)
    }

    fn recovered_commit(&self) -> CommitNumber {
        self.inner.recovered_commit()
    }

    fn load(&self, visitor: &mut dyn LoadVisitor) -> Result<(), StoreError> {
        self.inner.load(visitor)
    }

    fn read_bodies(
        &self,
        namespace: NamespaceId,
        bodies: &[BodyId],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        check(&self.reads, self.faults.read, "read")?;
        self.inner.read_bodies(namespace, bodies)
    }

    fn read_body_part(
        &self,
        namespace: NamespaceId,
        body: BodyId,
        part: u16,
    ) -> Result<Option<Bytes>, StoreError> {
        check(&self.reads, self.faults.read, "read")?;
        self.inner.read_body_part(namespace, body, part)
    }

    fn read_message_session(
        &self,
        entity: EntityId,
        session: &MessageSessionId,
    ) -> Result<Option<MessageSessionRecord>, StoreError> {
        check(&self.reads, self.faults.read, "read")?;
        self.inner.read_message_session(entity, session)
    }

    fn remove_orphan_bodies(&self, is_live: &dyn Fn(NamespaceId, BodyId) -> bool) -> Result<u64, StoreError> {
        if self.latched.load(Ordering::Acquire) {
            return Err(StoreError::Latched);
        }
        self.inner.remove_orphan_bodies(is_live)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }
}
