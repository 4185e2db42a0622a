//! Durability is shown, not assumed: a child process writes and says what was acknowledged, is
//! killed, and this process checks what is left. With the shim (shim/sync_log.c) the files are cut
//! back to what was synced, so that what only the operating system's memory held is gone, as after
//! a loss of power. Negative controls show that the checks can fail.
#![cfg(feature = "rocksdb")]

mod child;
mod disk;

use std::path::Path;

use child::{Fault, Workload};
use disk::Cut;
use lockstep_store::{RocksOptions, RocksStore, Store, StoreError};

fn open(path: &Path) -> Result<RocksStore, StoreError> {
    RocksStore::open(path, &RocksOptions::default())
}

fn open_accepting_loss(path: &Path) -> RocksStore {
    let options = RocksOptions { accept_loss: true, ..RocksOptions::default() };
    RocksStore::open(path, &options).expect("opens in spite of loss")
}

/// Opens what is left and checks that it is exactly the state after some commit that is not before
/// the last one acknowledged.
fn check_nothing_acknowledged_is_lost(path: &Path, workload: Workload, acknowledged: u64) {
    let store = open(path).expect("opens");
    let recovered = store.recovered_commit().0;
    assert!(recovered >= acknowledged, "acknowledged {acknowledged}, recovered {recovered}");
    child::check_state(&store, workload, recovered);
}

#[test]
fn after_kill_9_everything_acknowledged_is_there() {
    for acknowledgements in [1, 50, 300] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let killed = child::run_until(dir.path(), Workload::Small, Fault::None, acknowledgements);
        check_nothing_acknowledged_is_lost(dir.path(), Workload::Small, killed.acknowledged);
    }
}

#[test]
fn after_a_loss_of_power_everything_acknowledged_is_there() {
    for (acknowledgements, cut) in [
        (1, Cut::ToSynced),
        (200, Cut::ToSynced),
        (60, Cut::Torn { seed: 1 }),
        (120, Cut::Torn { seed: 2 }),
        (180, Cut::Torn { seed: 3 }),
        (240, Cut::Torn { seed: 4 }),
    ] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let killed = child::run_until(dir.path(), Workload::Small, Fault::None, acknowledgements);
        killed.notes.cut(dir.path(), cut);
        check_nothing_acknowledged_is_lost(dir.path(), Workload::Small, killed.acknowledged);
    }
}

/// Enough bytes that memtables are written out and the log changes over several times.
#[test]
fn after_a_loss_of_power_amid_table_writes_everything_acknowledged_is_there() {
    for cut in [Cut::ToSynced, Cut::Torn { seed: 5 }] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let killed = child::run_until_commit(dir.path(), Workload::Large, Fault::None, 250);
        killed.notes.cut(dir.path(), cut);
        check_nothing_acknowledged_is_lost(dir.path(), Workload::Large, killed.acknowledged);
    }
}

/// Crashes again and again in the same directory: each start must leave what it found durable.
#[test]
fn a_loss_of_power_right_after_a_start_takes_nothing_away() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut acknowledged = 0;
    for round in 1..=4 {
        let killed = child::run_until(dir.path(), Workload::Small, Fault::None, 20 * round);
        assert!(killed.recovered >= acknowledged, "round {round}");
        acknowledged = killed.acknowledged.max(killed.recovered);
        killed.notes.cut(dir.path(), Cut::Torn { seed: 100 + round });
    }
    check_nothing_acknowledged_is_lost(dir.path(), Workload::Small, acknowledged);
}

/// Negative control: without syncs the same check must find loss.
#[test]
fn a_store_that_skips_the_sync_is_caught_by_the_cut() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let killed = child::run_until(dir.path(), Workload::SmallWithoutSync, Fault::None, 200);
    killed.notes.cut(dir.path(), Cut::ToSynced);
    let recovered = open(dir.path()).expect("opens").recovered_commit().0;
    assert!(recovered < killed.acknowledged, "nothing was lost, so the cut shows nothing");
}

/// Negative control: a disk that says "synced" and is not, as the watermark finds out by itself.
#[test]
fn a_disk_that_lies_about_syncs_stops_the_next_start() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let killed = child::run_until(dir.path(), Workload::Small, Fault::LieAfter(20), 100);
    killed.notes.cut(dir.path(), Cut::ToSynced);
    let error = open(dir.path()).expect_err("acknowledged writes are missing");
    let StoreError::AcknowledgedWritesMissing { recovered, acknowledged } = error else {
        panic!("{error}");
    };
    assert!(acknowledged >= killed.acknowledged && recovered < killed.acknowledged);
    let store = open_accepting_loss(dir.path());
    assert_eq!(store.recovered_commit().0, recovered);
    child::check_state(&store, Workload::Small, recovered);
    drop(store);
    open(dir.path()).expect("loss has to be accepted once only");
}

#[test]
fn a_bit_flipped_inside_the_synced_log_stops_the_start_with_a_clear_error() {
    let dir = tempfile::tempdir().expect("temporary directory");
    child::run_until(dir.path(), Workload::Small, Fault::None, 300);
    for share in [0.1, 0.5, 0.8] {
        let copy = tempfile::tempdir().expect("temporary directory");
        disk::copy_directory(dir.path(), copy.path());
        disk::flip_bit_in_log(copy.path(), share);
        let error = open(copy.path()).expect_err("the log is damaged");
        assert!(
            matches!(error, StoreError::AcknowledgedWritesMissing { .. } | StoreError::Corrupt { .. }),
            "{error}"
        );
        if let StoreError::AcknowledgedWritesMissing { .. } = error {
            let text = error.to_string();
            assert!(text.contains("the log ends at commit") && text.contains("--accept-loss"), "{text}");
            open_accepting_loss(copy.path());
        }
    }
}

#[test]
fn a_failing_sync_latches_and_the_next_start_has_everything_acknowledged() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let ended = child::run_to_end(dir.path(), Workload::Small, Fault::FailSync(40));
    assert_eq!(ended.last_words, ["sync failed", "write latched", "sync latched"]);
    assert!(ended.acknowledged > 0);
    ended.notes.cut(dir.path(), Cut::Torn { seed: 9 });
    check_nothing_acknowledged_is_lost(dir.path(), Workload::Small, ended.acknowledged);
}
