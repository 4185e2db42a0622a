//! What the RocksDB store checks when it is opened, and its directory.

use std::fs;

use lockstep_model::SequenceNumber;

use super::*;
use crate::records::CounterRecord;

fn open(path: &Path) -> Result<RocksStore, StoreError> {
    RocksStore::open(path, &RocksOptions::default())
}

fn open_accepting_loss(path: &Path) -> RocksStore {
    let options = RocksOptions { accept_loss: true, ..RocksOptions::default() };
    RocksStore::open(path, &options).expect("opens in spite of loss")
}

/// A directory with `commits` commits, all acknowledged, closed.
fn filled(commits: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path()).expect("opens");
    for commit in 1..=commits {
        let mut batch = Batch::new();
        batch.put_counter(
            EntityId::from_raw(4),
            CounterRecord { last_sequence_number: SequenceNumber(commit) },
        );
        store.write(CommitNumber(commit), &batch).expect("written");
        store.sync(CommitNumber(commit)).expect("synced");
    }
    dir
}

/// Opens the engine below the store.
fn raw(path: &Path) -> DB {
    let families = Table::ALL.map(Table::name);
    DB::open_cf(&rocksdb::Options::default(), path.join("rocksdb"), families).expect("opens")
}

#[test]
fn a_new_store_is_empty_and_may_be_opened_again() {
    let dir = filled(0);
    assert_eq!(open(dir.path()).expect("opens").recovered_commit(), CommitNumber(0));
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = filled(0);
    let _store = open(dir.path()).expect("opens");
    assert!(matches!(open(dir.path()), Err(StoreError::InUse { .. })));
}

#[test]
fn another_format_is_refused_and_left_as_it_is() {
    let dir = filled(1);
    let db = raw(dir.path());
    db.put_cf(family(&db, Table::System), keys::FORMAT, 3_u32.to_be_bytes()).expect("written");
    drop(db);
    for _ in 0..2 {
        let text = open(dir.path()).expect_err("refused").to_string();
        assert!(text.contains("has format 3, this version reads format 2"), "{text}");
    }
}

/// An older version could not read what this one writes, so the number is raised at once.
#[test]
fn an_older_format_becomes_the_newest_when_it_is_opened() {
    let dir = filled(1);
    let db = raw(dir.path());
    db.put_cf(family(&db, Table::System), keys::FORMAT, 1_u32.to_be_bytes()).expect("written");
    drop(db);
    assert_eq!(open(dir.path()).expect("opens").recovered_commit(), CommitNumber(1));
    let db = raw(dir.path());
    let format = db.get_cf(family(&db, Table::System), keys::FORMAT).expect("readable");
    assert_eq!(format.as_deref(), Some(&2_u32.to_be_bytes()[..]));
}

#[test]
fn a_column_family_of_a_later_version_is_refused_as_a_format() {
    let dir = filled(1);
    let mut db = raw(dir.path());
    db.put_cf(family(&db, Table::System), keys::FORMAT, 9_u32.to_be_bytes()).expect("written");
    db.create_cf("later", &rocksdb::Options::default()).expect("created");
    drop(db);
    assert!(matches!(open(dir.path()), Err(StoreError::Format { found: 9, supported: 2, .. })));
}

#[test]
fn a_missing_watermark_beside_data_is_refused_unless_loss_is_accepted() {
    let dir = filled(3);
    fs::remove_file(dir.path().join("watermark")).expect("there");
    let text = open(dir.path()).expect_err("refused").to_string();
    assert!(text.contains("watermark is missing beside a store that holds data"), "{text}");
    assert!(text.contains("--accept-loss"), "{text}");
    assert_eq!(open_accepting_loss(dir.path()).recovered_commit(), CommitNumber(3));
    open(dir.path()).expect("the watermark is there again");
}

#[test]
fn a_damaged_watermark_is_refused_unless_loss_is_accepted() {
    let dir = filled(3);
    fs::write(dir.path().join("watermark"), b"nonsense").expect("written");
    assert!(matches!(open(dir.path()), Err(StoreError::Corrupt { table: "watermark", .. })));
    drop(open_accepting_loss(dir.path()));
    open(dir.path()).expect("the watermark is there again");
}

#[test]
fn a_log_that_ends_before_the_watermark_is_refused_unless_loss_is_accepted() {
    let dir = filled(3);
    Watermark::create(&dir.path().join("watermark"), 5).expect("written");
    match open(dir.path()) {
        Err(StoreError::AcknowledgedWritesMissing { recovered: 3, acknowledged: 5 }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(open_accepting_loss(dir.path()).recovered_commit(), CommitNumber(3));
    open(dir.path()).expect("the watermark fits again");
}

#[test]
fn an_engine_directory_that_vanished_is_not_taken_for_a_new_store() {
    let dir = filled(3);
    fs::remove_dir_all(dir.path().join("rocksdb")).expect("there");
    assert!(matches!(open(dir.path()), Err(StoreError::AcknowledgedWritesMissing { recovered: 0, .. })));
    assert!(matches!(open(dir.path()), Err(StoreError::AcknowledgedWritesMissing { recovered: 0, .. })));
}

#[test]
fn a_row_that_does_not_decode_stops_the_load_with_its_key() {
    let dir = filled(1);
    let db = raw(dir.path());
    db.put_cf(family(&db, Table::Messages), [0xab; 16], [9]).expect("written");
    drop(db);
    struct Nothing;
    impl LoadVisitor for Nothing {
        fn namespace(&mut self, _: NamespaceId, _: crate::NamespaceRecord) {}
        fn entity(&mut self, _: EntityId, _: lockstep_model::EntityDescription) {}
        fn counter(&mut self, _: EntityId, _: CounterRecord) {}
        fn message_session(&mut self, _: EntityId, _: MessageSessionId, _: MessageSessionRecord) {}
        fn message(&mut self, _: EntityId, _: SequenceNumber, _: crate::MessageRecord) {}
        fn overlay(&mut self, _: EntityId, _: SequenceNumber, _: crate::MessageOverlayRecord) {}
        fn duplicate(&mut self, _: EntityId, _: crate::DuplicateRecord) {}
    }
    let text = open(dir.path()).expect("opens").load(&mut Nothing).expect_err("damaged").to_string();
    assert!(text.contains("damaged row in meta") && text.contains("abababab"), "{text}");
}

#[test]
fn free_space_is_told() {
    let dir = filled(0);
    assert!(open(dir.path()).expect("opens").free_bytes().is_some_and(|free| free > 0));
}

#[test]
fn a_torn_end_of_the_log_is_no_damage() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path()).expect("opens");
    for commit in 1..=3 {
        let mut batch = Batch::new();
        batch.put_counter(EntityId::from_raw(4), CounterRecord::default());
        store.write(CommitNumber(commit), &batch).expect("written");
        store.sync(CommitNumber(commit)).expect("synced");
    }
    let copy = tempfile::tempdir().expect("temporary directory");
    crate::contract::copy_directory(dir.path(), copy.path());
    let log = log_of(copy.path());
    let mut bytes = fs::read(&log).expect("readable");
    bytes.extend_from_slice(&[0xd5; 777]);
    fs::write(&log, bytes).expect("written");
    assert_eq!(open(copy.path()).expect("opens").recovered_commit(), CommitNumber(3));
}

#[test]
fn the_watermark_can_be_made_durable_by_whoever_holds_a_clock() {
    let dir = filled(0);
    let store = open(dir.path()).expect("opens");
    store.write(CommitNumber(1), &Batch::new()).expect("written");
    store.sync(CommitNumber(1)).expect("synced");
    store.sync_watermark().expect("synced");
    assert_eq!(watermark::read(&dir.path().join("watermark")).expect("readable"), Found::Commit(1));
}

/// RocksDB by itself reads such a log for ever (log_guard.rs).
#[test]
fn a_record_type_of_recycled_logs_does_not_hang_the_start() {
    let dir = filled(200);
    let store = open(dir.path()).expect("opens");
    for commit in 201..=400 {
        let mut batch = Batch::new();
        batch.put_body(NamespaceId(1), BodyId(commit), Bytes::from(vec![0; 500]));
        store.write(CommitNumber(commit), &batch).expect("written");
        store.sync(CommitNumber(commit)).expect("synced");
    }
    let copy = tempfile::tempdir().expect("temporary directory");
    crate::contract::copy_directory(dir.path(), copy.path());
    let log = log_of(copy.path());
    let mut bytes = fs::read(&log).expect("readable");
    let second_block = 32 * 1024;
    bytes[second_block + 6] = 5;
    fs::write(&log, bytes).expect("written");
    let error = open(copy.path()).expect_err("acknowledged writes are missing");
    assert!(matches!(error, StoreError::AcknowledgedWritesMissing { acknowledged: 400, .. }), "{error}");
}

#[test]
fn logs_that_are_not_needed_any_more_go_to_the_archive_and_are_removed() {
    let dir = filled(1);
    let directory = DataDirectory::open(dir.path()).expect("free");
    let db = open_engine(&directory, &RocksOptions::default(), false).expect("opens");
    db.put_cf(family(&db, Table::System), keys::COMMIT_NUMBER, 2_u64.to_be_bytes()).expect("written");
    db.flush_wal(true).expect("synced");
    db.flush_cf(family(&db, Table::System)).expect("written out");
    db.cancel_all_background_work(true);
    drop((db, directory));
    let archive = dir.path().join("rocksdb/archive");
    let archived = || -> Vec<_> {
        fs::read_dir(&archive).expect("there").map(|entry| entry.expect("readable").path()).collect()
    };
    let before = archived();
    assert!(!before.is_empty());
    let store = open(dir.path()).expect("opens");
    assert_eq!(store.recovered_commit(), CommitNumber(2));
    assert!(!archived().iter().any(|log| before.contains(log)), "removed before the engine opened");
    drop(store);
    assert!(archived().is_empty());
}

fn log_of(path: &Path) -> std::path::PathBuf {
    fs::read_dir(path.join("rocksdb"))
        .expect("a directory")
        .map(|entry| entry.expect("readable").path())
        .find(|path| directory::is_log(path))
        .expect("a log")
}
