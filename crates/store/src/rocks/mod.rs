//! The RocksDB store.
//!
//! Writes go into RocksDB's memory and the buffer of its log ([`Store::write`]); the log is written
//! out and synced by [`Store::sync`], which may run on another thread at the same time. Opening
//! checks the lock, the format, and that no acknowledged commit is missing.

mod directory;
mod log_guard;
mod old_logs;
mod options;
mod watermark;

use std::{
    fmt,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use lockstep_model::{BodyId, CommitNumber, EntityId, MessageSessionId, NamespaceId};
use rocksdb::{ColumnFamily, DB, ErrorKind, WriteBatch, WriteOptions};

use crate::{
    api::{LoadVisitor, Store, StoreError},
    batch::{Batch, Operation, Table},
    codec,
    keys::{self, damaged},
    load::{self, LOAD_ORDER},
    records::MessageSessionRecord,
    rocks::{
        directory::{DataDirectory, io_error},
        old_logs::OldLogs,
        watermark::{Found, Watermark},
    },
};

/// The format of everything in the data directory. It is raised when an older version could not
/// read what a newer one writes (docs/storage.md, "Format versions").
const FORMAT: u32 = 2;
/// The oldest format that is read. A directory of an older format gets the newest one's number
/// when it is opened: what is written from then on is in the newest format.
const FORMAT_OLDEST: u32 = 1;
/// Deletes in one batch while orphan bodies are removed.
const ORPHAN_BATCH_ROWS: usize = 1024;
/// Bytes of a write batch beside its keys and values: a kind, a family and two lengths a row.
const ROW_OVERHEAD_BYTES: usize = 12;

/// How a [`RocksStore`] is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RocksOptions {
    /// Go on although acknowledged writes are missing or cannot be checked (`--accept-loss`).
    /// What is missing stays missing.
    pub accept_loss: bool,
    /// Threads that RocksDB uses to write and merge tables; the number of processors is good.
    pub background_jobs: i32,
    /// Bytes of read blocks that are kept in memory.
    pub block_cache_size_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self { accept_loss: false, background_jobs: 2, block_cache_size_bytes: 256 * 1024 * 1024 }
    }
}

/// A store in a directory, by RocksDB. Dropping it closes it cleanly: what was written is made
/// durable and the log is emptied into tables, so that the next start has nothing to replay.
pub struct RocksStore {
    db: DB,
    write_options: WriteOptions,
    watermark: Mutex<Watermark>,
    recovered: CommitNumber,
    latched: AtomicBool,
    old_logs: OldLogs,
    /// Declared last: the lock is released when the engine is closed.
    directory: DataDirectory,
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore")
            .field("directory", &self.directory)
            .field("recovered", &self.recovered)
            .field("latched", &self.latched)
            .finish_non_exhaustive()
    }
}

impl RocksStore {
    /// Opens the store in `data_directory`, creating it if need be.
    ///
    /// # Errors
    /// - [`StoreError::InUse`]: another process holds the directory.
    /// - [`StoreError::Format`]: another version wrote it.
    /// - [`StoreError::AcknowledgedWritesMissing`], [`StoreError::WatermarkMissing`]: the log was
    ///   damaged, or it cannot be told; not with [`RocksOptions::accept_loss`].
    /// - [`StoreError::Corrupt`]: the engine found damage by itself.
    /// - [`StoreError::Io`]: everything else.
    pub fn open(data_directory: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        let directory = DataDirectory::open(data_directory)?;
        let engine = directory.engine();
        old_logs::remove_at_once(&engine);
        let disk_full = directory.make_room()?;
        directory.set_ballast_aside();
        let db = open_engine(&directory, options, disk_full)?;

        let format = read_system(&db, &keys::FORMAT, codec::decode_u32)?;
        if let Some(found) = format.filter(|found| !(FORMAT_OLDEST..=FORMAT).contains(found)) {
            return Err(wrong_format(found));
        }
        let recovered = read_system(&db, &keys::COMMIT_NUMBER, codec::decode_u64)?.unwrap_or(0);
        check_watermark(&directory, recovered, options.accept_loss)?;
        match format {
            Some(FORMAT) => {}
            Some(_) => write_format(&db)?,
            None if recovered == 0 || options.accept_loss => write_format(&db)?,
            None => return Err(damaged(Table::System, &keys::FORMAT, "the format of the store is missing")),
        }
        let path = directory.watermark();
        let watermark = Watermark::create(&path, recovered)
            .map_err(|error| io_error("cannot write the watermark", &path, &error))?;
        let old_logs = OldLogs::start(&engine)
            .map_err(|error| io_error("cannot start a thread for", &engine, &error))?;
        Ok(Self {
            db,
            write_options: options::unsynced_write(),
            watermark: Mutex::new(watermark),
            recovered: CommitNumber(recovered),
            latched: AtomicBool::new(false),
            old_logs,
            directory,
        })
    }

    /// Has logs removed that are not needed any more. The store does so by itself after some
    /// megabytes and on closing; whoever holds a clock may call this about once a second, so that
    /// none takes up room while little is written.
    pub fn remove_old_logs(&self) {
        self.old_logs.look();
    }

    /// Makes the watermark file durable if it is not. The store does so by itself after some
    /// hundred syncs and on closing; whoever holds a clock may call this about once a second, so
    /// that after a loss of power damage to the log is noticed up to its last second.
    ///
    /// # Errors
    /// As [`Store::sync`]: a failure latches.
    pub fn sync_watermark(&self) -> Result<(), StoreError> {
        self.check_latch()?;
        match self.with_watermark(Watermark::begin_sync)? {
            // Outside the lock: commits note their numbers meanwhile.
            Some(file) => self.watermark_result(file.sync_data()),
            None => Ok(()),
        }
    }

    fn with_watermark<T>(
        &self,
        f: impl FnOnce(&mut Watermark) -> std::io::Result<T>,
    ) -> Result<T, StoreError> {
        let result = f(&mut self.watermark.lock().unwrap_or_else(PoisonError::into_inner));
        self.watermark_result(result)
    }

    fn watermark_result<T>(&self, result: std::io::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| {
            self.latched.store(true, Ordering::Release);
            io_error("cannot write the watermark", &self.directory.watermark(), &error)
        })
    }

    fn check_latch(&self) -> Result<(), StoreError> {
        if self.latched.load(Ordering::Acquire) { Err(StoreError::Latched) } else { Ok(()) }
    }

    fn latching<T>(&self, result: Result<T, rocksdb::Error>) -> Result<T, StoreError> {
        result.map_err(|error| {
            self.latched.store(true, Ordering::Release);
            engine_error(&error)
        })
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        family(&self.db, table)
    }

    fn apply(&self, batch: &Batch, commit: Option<CommitNumber>) -> Result<(), StoreError> {
        let families = Table::ALL.map(|table| self.family(table));
        let capacity = batch.size_bytes() + ROW_OVERHEAD_BYTES * (batch.len() + 2);
        let mut rows = WriteBatch::with_capacity_bytes(capacity);
        for operation in batch.operations() {
            match operation {
                Operation::Put { table, key, value } => rows.put_cf(families[table as usize], key, value),
                Operation::Delete { table, key } => rows.delete_cf(families[table as usize], key),
                Operation::DeleteRange { table, key, end } => {
                    rows.delete_range_cf(families[table as usize], key, end);
                }
            }
        }
        if let Some(commit) = commit {
            let number = commit.0.to_be_bytes();
            rows.put_cf(families[Table::System as usize], keys::COMMIT_NUMBER, number);
        }
        self.old_logs.written(capacity as u64);
        self.latching(self.db.write_opt(rows, &self.write_options))
    }

    /// Calls `f` with every row of a table, in key order.
    fn scan(
        &self,
        table: Table,
        mut f: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut rows = self.db.raw_iterator_cf_opt(self.family(table), options::scan());
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            f(key, value)?;
            rows.next();
        }
        rows.status().map_err(|error| engine_error(&error))
    }

    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.db.get_pinned_cf(self.family(table), key).map_err(|error| engine_error(&error))?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
    }
}

impl Store for RocksStore {
    fn write(&self, commit: CommitNumber, batch: &Batch) -> Result<(), StoreError> {
        self.check_latch()?;
        self.apply(batch, Some(commit))
    }

    fn sync(&self, acknowledged: CommitNumber) -> Result<(), StoreError> {
        self.check_latch()?;
        self.latching(self.db.flush_wal(true))?;
        self.with_watermark(|watermark| watermark.note(acknowledged.0))
    }

    fn recovered_commit(&self) -> CommitNumber {
        self.recovered
    }

    fn load(&self, visitor: &mut dyn LoadVisitor) -> Result<(), StoreError> {
        for table in LOAD_ORDER {
            self.scan(table, |key, value| load::visit_row(table, key, value, visitor))?;
        }
        Ok(())
    }

    fn read_bodies(
        &self,
        namespace: NamespaceId,
        bodies: &[BodyId],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let first_keys: Vec<_> = bodies.iter().map(|body| keys::body(namespace, *body, 0)).collect();
        let firsts = self.db.batched_multi_get_cf(self.family(Table::Bodies), &first_keys, false);
        let read =
            |(body, first): (&BodyId, Result<Option<rocksdb::DBPinnableSlice<'_>>, rocksdb::Error>)| {
                let first = first.map_err(|error| engine_error(&error))?;
                load::assemble_body(
                    first.map(|row| Bytes::copy_from_slice(&row)),
                    |chunk| self.read(Table::Bodies, &keys::body(namespace, *body, chunk)),
                    || format!("body {body} of namespace {namespace}"),
                )
            };
        bodies.iter().zip(firsts).map(read).collect()
    }

    fn read_body_part(
        &self,
        namespace: NamespaceId,
        body: BodyId,
        part: u16,
    ) -> Result<Option<Bytes>, StoreError> {
        self.read(Table::Bodies, &keys::body(namespace, body, part))
    }

    fn read_message_session(
        &self,
        entity: EntityId,
        session: &MessageSessionId,
    ) -> Result<Option<MessageSessionRecord>, StoreError> {
        let mut key = Vec::new();
        keys::put_message_session(&mut key, entity, session);
        let row = self.db.get_pinned_cf(self.family(Table::MessageSessions), &key);
        row.map_err(|error| engine_error(&error))?
            .map(|value| codec::decode_message_session(&value))
            .transpose()
            .map_err(|problem| damaged(Table::MessageSessions, &key, problem))
    }

    fn remove_orphan_bodies(&self, is_live: &dyn Fn(NamespaceId, BodyId) -> bool) -> Result<u64, StoreError> {
        self.check_latch()?;
        let mut batch = Batch::new();
        let mut removed = 0;
        let mut last = None;
        self.scan(Table::Bodies, |key, _| {
            let (namespace, body, _) = keys::parse_body(key)?;
            // The rows of one body follow each other: ask once for all of them.
            let (_, live) = match last {
                Some((known, live)) if known == (namespace, body) => (known, live),
                _ => ((namespace, body), is_live(namespace, body)),
            };
            removed += u64::from(!live && last.is_none_or(|(known, _)| known != (namespace, body)));
            last = Some(((namespace, body), live));
            if !live {
                batch.delete_raw(Table::Bodies, key);
                if batch.len() >= ORPHAN_BATCH_ROWS {
                    self.apply(&std::mem::take(&mut batch), None)?;
                }
            }
            Ok(())
        })?;
        if !batch.is_empty() {
            self.apply(&batch, None)?;
        }
        Ok(removed)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.directory.free_bytes()
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        self.old_logs.stop();
        if self.check_latch().is_ok() {
            let families = Table::ALL.map(|table| self.family(table));
            let closed = self
                .latching(self.db.flush_wal(true))
                .and_then(|()| self.with_watermark(Watermark::sync))
                .and_then(|()| {
                    self.latching(self.db.flush_cfs_opt(&families, &rocksdb::FlushOptions::default()))
                });
            if let Err(error) = closed {
                // Nothing acknowledged is lost: the log is read again at the next start.
                tracing::error!(%error, "the store was not closed cleanly");
            }
        }
        self.db.cancel_all_background_work(true);
        old_logs::remove_at_once(&self.directory.engine());
    }
}

fn open_engine(directory: &DataDirectory, options: &RocksOptions, disk_full: bool) -> Result<DB, StoreError> {
    let path = directory.engine();
    let db_options = options::database(options, disk_full)?;
    if path.join("CURRENT").exists() {
        let families = DB::list_cf(&db_options, &path).map_err(|error| engine_error(&error))?;
        let changed =
            log_guard::disarm(&path).map_err(|error| io_error("cannot check the logs in", &path, &error))?;
        if changed > 0 {
            tracing::warn!(records = changed, "damaged records in the engine's logs");
        }
        directory.sync_logs()?;
        let known = |name: &String| Table::ALL.iter().any(|table| table.name() == name);
        if !families.iter().all(known) {
            // A later version's: the format stands in the one family that never changes its name.
            let db = DB::open_cf_for_read_only(&db_options, &path, [Table::System.name()], false)
                .map_err(|error| engine_error(&error))?;
            let found = read_system(&db, &keys::FORMAT, codec::decode_u32)?;
            return Err(wrong_format(found.unwrap_or(0)));
        }
    }
    DB::open_cf_descriptors(&db_options, &path, options::column_families(options, disk_full))
        .map_err(|error| engine_error(&error))
}

fn family(db: &DB, table: Table) -> &ColumnFamily {
    db.cf_handle(table.name()).expect("every family is opened with the database")
}

fn read_system<T>(
    db: &DB,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, codec::Problem>,
) -> Result<Option<T>, StoreError> {
    let row = db.get_pinned_cf(family(db, Table::System), key).map_err(|error| engine_error(&error))?;
    row.map(|value| decode(&value).map_err(|problem| damaged(Table::System, key, problem))).transpose()
}

fn write_format(db: &DB) -> Result<(), StoreError> {
    db.put_cf(family(db, Table::System), keys::FORMAT, FORMAT.to_be_bytes())
        .and_then(|()| db.flush_wal(true))
        .map_err(|error| engine_error(&error))
}

const fn wrong_format(found: u32) -> StoreError {
    StoreError::Format {
        found,
        supported: FORMAT,
        advice: if found > FORMAT {
            "start the newer version that wrote it, or use another data directory"
        } else {
            "start a version that still reads it, or use another data directory"
        },
    }
}

/// Checks that no acknowledged commit is missing.
fn check_watermark(directory: &DataDirectory, recovered: u64, accept_loss: bool) -> Result<(), StoreError> {
    let path = directory.watermark();
    let found =
        watermark::read(&path).map_err(|error| io_error("cannot read the watermark", &path, &error))?;
    let problem = match found {
        Found::Commit(acknowledged) if acknowledged > recovered => {
            StoreError::AcknowledgedWritesMissing { recovered, acknowledged }
        }
        Found::Commit(_) => return Ok(()),
        // A start that died before it wrote the file.
        Found::Missing | Found::Damaged if recovered == 0 => return Ok(()),
        Found::Missing => StoreError::WatermarkMissing { file: path.display().to_string() },
        Found::Damaged => StoreError::Corrupt {
            table: "watermark",
            problem: format!(
                "no part of {} is valid, so it cannot be checked whether acknowledged writes are there. Restore \
                 the file, or start once with --accept-loss",
                path.display()
            ),
        },
    };
    if accept_loss {
        tracing::warn!(%problem, "loss accepted by the operator");
        return Ok(());
    }
    Err(problem)
}

fn engine_error(error: &rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => {
            StoreError::Corrupt { table: "the engine's files", problem: error.to_string() }
        }
        _ => StoreError::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
