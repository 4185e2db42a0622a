//! RocksDB's options, each with its reason. Measurements behind them: docs/decisions/0003.

use std::ffi::c_int;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    ReadOptions, WriteOptions,
};

use crate::{api::StoreError, batch::Table, rocks::RocksOptions};

const MIB: usize = 1024 * 1024;
/// What is written of tables goes to the disk in pieces of this size, one at a time, so that a
/// sync of the log waits for no more than that; but for a table's last megabyte, which its own sync
/// writes.
const TABLE_PIECE_SIZE_BYTES: u64 = 256 * 1024;
/// The engine keeps old logs in its archive for so long at most. They are removed long before
/// (old_logs.rs); it is only that this is over 0.
const OLD_LOGS_SECONDS: u64 = 24 * 60 * 60;

/// Log that may wait to be read again at a start; RocksDB replays about 150 MB a second.
const WAL_SIZE_BYTES_MAX: u64 = 256 * MIB as u64;
/// One memtable of the families that take most of the writes.
const LARGE_MEMTABLE_SIZE_BYTES: usize = 64 * MIB;
/// One memtable of the others.
const SMALL_MEMTABLE_SIZE_BYTES: usize = 16 * MIB;
/// Memtables of one family: one that is written, the others on their way to disk.
const MEMTABLES_MAX: c_int = 4;
/// Memory of all memtables together.
const MEMTABLES_SIZE_BYTES_MAX: usize = 256 * MIB;
/// Values from this size on go to blob files, so that compaction does not copy them again.
const BLOB_SIZE_BYTES_MIN: u64 = 16 * 1024;
/// Open table files; well under the usual limit of 1,024 or more descriptors when there are few.
const OPEN_FILES_MAX: c_int = 512;
/// What an iterator reads ahead when everything is scanned.
const SCAN_READAHEAD_BYTES: usize = 4 * MIB;
/// RocksDB's own text log: size of one file, and how many are kept.
const INFO_LOG_SIZE_BYTES_MAX: usize = 4 * MIB;
const INFO_LOG_FILES: usize = 4;
/// Bloom filter bits for each body key.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// While the disk is full nothing is written out as tables until the store is closed: replayed
/// log and new deletes stay in memory, where they cancel each other out. So memtables and the log
/// may grow by this factor.
const DISK_FULL_FACTOR: usize = 8;

// Options that are not bound by name.

/// Of what is written of tables only one piece is on its way to the disk at a time.
const ONE_PIECE_AT_A_TIME: &str = "strict_bytes_per_sync=true";
/// Do not write the replayed log out as tables, do not reserve room for a whole log ahead.
const SPARING: &str = "avoid_flush_during_recovery=true;allow_fallocate=false";

/// Options of the whole database. `disk_full` avoids what needs room before anything is deleted.
pub(super) fn database(options: &RocksOptions, disk_full: bool) -> Result<Options, StoreError> {
    let mut db = with(Options::default(), ONE_PIECE_AT_A_TIME)?;
    if disk_full {
        db = with(db, SPARING)?;
    }
    db.create_if_missing(true);
    db.create_missing_column_families(true);

    // The log. A torn end is normal after a crash; the watermark tells it from damage.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    db.set_manual_wal_flush(true);
    db.set_recycle_log_file_num(0);
    db.set_max_total_wal_size(WAL_SIZE_BYTES_MAX * factor(disk_full) as u64);
    db.set_track_and_verify_wals_in_manifest(true);
    db.set_paranoid_checks(true);

    // One thread writes and one syncs: nothing to gain from RocksDB's own grouping.
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_pipelined_write(false);
    db.set_unordered_write(false);
    db.set_avoid_unnecessary_blocking_io(true);

    db.set_max_background_jobs(options.background_jobs);
    db.set_db_write_buffer_size(MEMTABLES_SIZE_BYTES_MAX * factor(disk_full));
    db.set_max_open_files(OPEN_FILES_MAX);
    db.set_bytes_per_sync(TABLE_PIECE_SIZE_BYTES);
    db.set_writable_file_max_buffer_size(TABLE_PIECE_SIZE_BYTES);
    db.set_wal_ttl_seconds(OLD_LOGS_SECONDS);

    // A start reads no more than it must; nobody reads RocksDB's statistics.
    db.set_skip_stats_update_on_db_open(true);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_log_level(LogLevel::Warn);
    db.set_max_log_file_size(INFO_LOG_SIZE_BYTES_MAX);
    db.set_keep_log_file_num(INFO_LOG_FILES);
    Ok(db)
}

fn with(mut options: Options, text: &str) -> Result<Options, StoreError> {
    options.get_options_from_string(text).map_err(|error| StoreError::Io(error.to_string()))
}

/// The column families, each with its options; all share one block cache.
pub(super) fn column_families(options: &RocksOptions, disk_full: bool) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_size_bytes);
    Table::ALL
        .map(|table| ColumnFamilyDescriptor::new(table.name(), column_family(table, &cache, disk_full)))
        .into_iter()
        .collect()
}

fn column_family(table: Table, cache: &Cache, disk_full: bool) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if table == Table::Bodies {
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    }
    let mut family = Options::default();
    family.set_block_based_table_factory(&blocks);
    // Bodies are opaque and often compressed by their senders; the processor is the bottleneck.
    family.set_compression_type(DBCompressionType::None);
    family.set_level_compaction_dynamic_level_bytes(true);
    family.set_max_write_buffer_number(MEMTABLES_MAX);
    let memtable_size_bytes = match table {
        Table::Messages | Table::Bodies => LARGE_MEMTABLE_SIZE_BYTES,
        Table::System | Table::Overlays | Table::MessageSessions | Table::Duplicates => {
            SMALL_MEMTABLE_SIZE_BYTES
        }
    };
    family.set_write_buffer_size(memtable_size_bytes * factor(disk_full));
    if matches!(table, Table::Bodies | Table::MessageSessions) {
        family.set_enable_blob_files(true);
        family.set_min_blob_size(BLOB_SIZE_BYTES_MIN);
        family.set_enable_blob_gc(true);
    }
    if table == Table::Messages {
        // Settled messages leave tombstones in runs; compact files that are mostly tombstones.
        family.add_compact_on_deletion_collector_factory(10_000, 5_000, 0.5);
    }
    family
}

const fn factor(disk_full: bool) -> usize {
    if disk_full { DISK_FULL_FACTOR } else { 1 }
}

/// For reading everything once: ahead, and without pushing others out of the cache.
pub(super) fn scan() -> ReadOptions {
    let mut read = ReadOptions::default();
    read.fill_cache(false);
    read.set_readahead_size(SCAN_READAHEAD_BYTES);
    read
}

/// A write into the log's buffer; the sync stage makes it durable.
pub(super) fn unsynced_write() -> WriteOptions {
    let mut write = WriteOptions::default();
    write.set_sync(false);
    write
}
