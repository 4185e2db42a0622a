//! A store without a disk: what is written is kept in memory, and a crash can be had on demand.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use lockstep_model::{BodyId, CommitNumber, EntityId, MessageSessionId, NamespaceId};

use crate::{
    api::{LoadVisitor, Store, StoreError},
    batch::{Batch, Change, Table},
    codec,
    keys::{self, damaged},
    load::{self, LOAD_ORDER},
    records::MessageSessionRecord,
};

/// A [`Store`] in memory with the same contract as the RocksDB store: written batches are seen at
/// once and survive [`MemoryStore::crash`] only if they were synced. Its content dies with it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    recovered: CommitNumber,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What readers see.
    visible: Rows,
    /// What a crash leaves.
    durable: Rows,
    durable_commit: CommitNumber,
    /// Written and not yet synced, oldest first.
    unsynced: VecDeque<(CommitNumber, Batch)>,
    free_bytes: Option<u64>,
}

/// The rows of every table.
#[derive(Clone, Debug, Default)]
struct Rows([BTreeMap<Bytes, Bytes>; Table::ALL.len()]);

impl Rows {
    fn table(&self, table: Table) -> &BTreeMap<Bytes, Bytes> {
        &self.0[table as usize]
    }

    fn apply(&mut self, batch: &Batch) {
        for (table, key, change) in batch.rows() {
            let rows = &mut self.0[table as usize];
            match change {
                Change::Delete => {
                    rows.remove(key);
                }
                Change::DeleteRange(end) => rows.retain(|row, _| &row[..] < key || &row[..] >= end),
                Change::Put(value) => {
                    rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                }
                Change::PutShared(value) => {
                    rows.insert(Bytes::copy_from_slice(key), value.clone());
                }
            }
        }
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a crash of the machine leaves at the least: everything synced and nothing else. This
    /// store goes on unchanged.
    #[must_use]
    pub fn crash(&self) -> Self {
        self.crash_keeping(0)
    }

    /// As [`MemoryStore::crash`], but the first `unsynced_batches` batches that were written and
    /// not yet synced happened to reach the disk. A log loses its end only, so what survives is
    /// always a prefix.
    #[must_use]
    pub fn crash_keeping(&self, unsynced_batches: usize) -> Self {
        let inner = self.inner();
        let mut rows = inner.durable.clone();
        let mut commit = inner.durable_commit;
        for (number, batch) in inner.unsynced.iter().take(unsynced_batches) {
            rows.apply(batch);
            commit = commit.max(*number);
        }
        let survived = Inner {
            visible: rows.clone(),
            durable: rows,
            durable_commit: commit,
            unsynced: VecDeque::new(),
            free_bytes: inner.free_bytes,
        };
        Self { recovered: commit, inner: Mutex::new(survived) }
    }

    /// How many batches were written and not yet synced.
    #[must_use]
    pub fn unsynced_batches(&self) -> usize {
        self.inner().unsynced.len()
    }

    /// Sets what [`Store::free_bytes`] answers.
    pub fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.inner().free_bytes = free_bytes;
    }

    /// A panic of another thread while it held the guard cannot leave rows half changed that
    /// anyone relies on: every test that panics is over.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn write(&self, commit: CommitNumber, batch: &Batch) -> Result<(), StoreError> {
        let mut inner = self.inner();
        inner.visible.apply(batch);
        inner.unsynced.push_back((commit, batch.clone()));
        Ok(())
    }

    fn sync(&self, _acknowledged: CommitNumber) -> Result<(), StoreError> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        for (commit, batch) in inner.unsynced.drain(..) {
            inner.durable.apply(&batch);
            inner.durable_commit = inner.durable_commit.max(commit);
        }
        Ok(())
    }

    fn recovered_commit(&self) -> CommitNumber {
        self.recovered
    }

    fn load(&self, visitor: &mut dyn LoadVisitor) -> Result<(), StoreError> {
        let inner = self.inner();
        for table in LOAD_ORDER {
            for (key, value) in inner.visible.table(table) {
                load::visit_row(table, key, value, visitor)?;
            }
        }
        Ok(())
    }

    fn read_bodies(
        &self,
        namespace: NamespaceId,
        bodies: &[BodyId],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let inner = self.inner();
        let rows = inner.visible.table(Table::Bodies);
        let row = |body, chunk| rows.get(&keys::body(namespace, body, chunk)[..]).cloned();
        let read = |&body: &BodyId| {
            load::assemble_body(row(body, 0), |chunk| Ok(row(body, chunk)), || format!("body {body}"))
        };
        bodies.iter().map(read).collect()
    }

    fn read_body_part(
        &self,
        namespace: NamespaceId,
        body: BodyId,
        part: u16,
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(self.inner().visible.table(Table::Bodies).get(&keys::body(namespace, body, part)[..]).cloned())
    }

    fn read_message_session(
        &self,
        entity: EntityId,
        session: &MessageSessionId,
    ) -> Result<Option<MessageSessionRecord>, StoreError> {
        let mut key = Vec::new();
        keys::put_message_session(&mut key, entity, session);
        let inner = self.inner();
        let value = inner.visible.table(Table::MessageSessions).get(&key[..]);
        value
            .map(|value| codec::decode_message_session(value))
            .transpose()
            .map_err(|problem| damaged(Table::MessageSessions, &key, problem))
    }

    fn remove_orphan_bodies(&self, is_live: &dyn Fn(NamespaceId, BodyId) -> bool) -> Result<u64, StoreError> {
        let mut inner = self.inner();
        let mut batch = Batch::new();
        let mut removed = 0;
        for key in inner.visible.table(Table::Bodies).keys() {
            let (namespace, body, chunk) = keys::parse_body(key)?;
            if !is_live(namespace, body) {
                batch.delete_raw(Table::Bodies, key);
                removed += u64::from(chunk == 0);
            }
        }
        inner.visible.apply(&batch);
        inner.unsynced.push_back((CommitNumber(0), batch));
        Ok(removed)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner().free_bytes
    }
}
