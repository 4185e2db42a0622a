//! The seam between the broker and a storage engine.

use bytes::Bytes;
use lockstep_model::{
    BodyId, CommitNumber, EntityDescription, EntityId, MessageSessionId, NamespaceId, SequenceNumber,
};

use crate::{
    batch::Batch,
    records::{
        CounterRecord, DuplicateRecord, MessageOverlayRecord, MessageRecord, MessageSessionRecord,
        NamespaceRecord,
    },
};

/// Why the store cannot do its work. After the first failure of a write or sync every further
/// write and sync fails too (latched): the process must end, the disk is the truth at the next
/// start.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the directory.
    #[error("the data directory {path} is in use by another process (lock file {lock_file})")]
    InUse {
        /// The directory.
        path: String,
        /// The file that is locked.
        lock_file: String,
    },
    /// Written by another version.
    #[error("the data directory has format {found}, this version reads format {supported}: {advice}")]
    Format {
        /// Found on disk.
        found: u32,
        /// Understood by this version.
        supported: u32,
        /// What the operator can do.
        advice: &'static str,
    },
    /// Acknowledged writes are missing from the log: it was damaged.
    #[error(
        "acknowledged writes are missing: the log ends at commit {recovered}, but commit {acknowledged} was \
         acknowledged. The disk or the files were damaged. Restore a backup, or start once with --accept-loss \
         to go on without them"
    )]
    AcknowledgedWritesMissing {
        /// The last commit found.
        recovered: u64,
        /// The last commit known to have been acknowledged.
        acknowledged: u64,
    },
    /// The file that tells which commits were acknowledged is missing beside a store with data.
    #[error(
        "{file} is missing beside a store that holds data, so it cannot be checked whether acknowledged writes \
         are there. Restore the file, or start once with --accept-loss"
    )]
    WatermarkMissing {
        /// The file.
        file: String,
    },
    /// A row that does not decode.
    #[error("damaged row in {table}: {problem}")]
    Corrupt {
        /// Column family.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The engine or the disk failed.
    #[error("storage failed: {0}")]
    Io(String),
    /// An earlier write or sync failed; nothing is written any more.
    #[error("storage failed earlier; restart the broker")]
    Latched,
}

/// Receives every row of a store at start, tables in this order, rows in key order.
pub trait LoadVisitor {
    /// A namespace.
    fn namespace(&mut self, id: NamespaceId, record: NamespaceRecord);
    /// An entity definition (main store's id).
    fn entity(&mut self, id: EntityId, description: EntityDescription);
    /// A message store's counters.
    fn counter(&mut self, id: EntityId, record: CounterRecord);
    /// A message-session state; `state` is only measured here, read it with
    /// [`Store::read_message_session`].
    fn message_session(&mut self, id: EntityId, session: MessageSessionId, record: MessageSessionRecord);
    /// A message.
    fn message(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageRecord);
    /// What settlements changed about a message that was visited before.
    fn overlay(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageOverlayRecord);
    /// A remembered message-id.
    fn duplicate(&mut self, id: EntityId, record: DuplicateRecord);
}

/// A durable map. One thread writes and one thread syncs; any thread reads.
pub trait Store: Send + Sync + 'static {
    /// Applies a batch to what readers see and appends it to the log; **not durable** until a
    /// later [`Store::sync`] returns. The batch carries `commit` into the log. Commits are given
    /// in increasing order.
    ///
    /// # Errors
    /// Any failure latches.
    fn write(&self, commit: CommitNumber, batch: &Batch) -> Result<(), StoreError>;

    /// Makes every batch durable whose `write` returned before this call began, then notes
    /// `acknowledged` (the highest of them) in the watermark.
    ///
    /// # Errors
    /// Any failure latches; a failed sync is never retried.
    fn sync(&self, acknowledged: CommitNumber) -> Result<(), StoreError>;

    /// The highest commit number found at opening; 0 in a new store.
    fn recovered_commit(&self) -> CommitNumber;

    /// Visits every row.
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    fn load(&self, visitor: &mut dyn LoadVisitor) -> Result<(), StoreError>;

    /// The encoded messages of `bodies`, in that order; `None` where there is no such row.
    ///
    /// # Errors
    /// Unreadable rows.
    fn read_bodies(
        &self,
        namespace: NamespaceId,
        bodies: &[BodyId],
    ) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// One row of an encoded message, by its number from 0: exactly
    /// [`BODY_PART_SIZE_BYTES`](lockstep_model::limits::BODY_PART_SIZE_BYTES), or less in the last
    /// one. `None` where there is no such row.
    ///
    /// # Errors
    /// Unreadable rows.
    fn read_body_part(
        &self,
        namespace: NamespaceId,
        body: BodyId,
        part: u16,
    ) -> Result<Option<Bytes>, StoreError>;

    /// The state of a message session as last written (perhaps not yet durable).
    ///
    /// # Errors
    /// Unreadable or damaged rows.
    fn read_message_session(
        &self,
        entity: EntityId,
        session: &MessageSessionId,
    ) -> Result<Option<MessageSessionRecord>, StoreError>;

    /// Deletes body rows that no message names. Called once, after [`Store::load`]; `is_live`
    /// tells which are named. Returns how many were removed.
    ///
    /// # Errors
    /// As [`Store::write`].
    fn remove_orphan_bodies(&self, is_live: &dyn Fn(NamespaceId, BodyId) -> bool) -> Result<u64, StoreError>;

    /// Bytes free on the device that holds the data; `None` if it cannot be told.
    fn free_bytes(&self) -> Option<u64>;
}
