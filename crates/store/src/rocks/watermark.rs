//! The watermark: a side file that says which commit was last acknowledged.
//!
//! RocksDB takes a damaged record in the middle of its log for the log's end and silently drops
//! what follows. The watermark tells the two apart: a log that ends before the last acknowledged
//! commit was damaged.
//!
//! It is written after every sync and made durable after every [`SYNC_EVERY`]th, so what survives
//! a loss of power is always a lower bound, which is all that is needed.
//!
//! The file has two slots of [`SLOT_SIZE_BYTES`], written in turn, so that a torn write leaves the
//! older one:
//!
//! ```text
//! 0   8   "LSWMARK1"
//! 8   8   commit number, u64 big-endian
//! 16  8   FNV-1a (64 bits) of the 16 bytes before, big-endian
//! ```

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use crate::rocks::directory::sync_directory;

/// Syncs of the store for each sync of this file. The store reads no clock, so it counts: under
/// load a few hundred syncs are about a second; a store with little to do has this file written
/// back by the operating system within about half a minute.
const SYNC_EVERY: u32 = 256;
/// Distance of the slots: one sector of a disk, which is written whole or not at all.
const SLOT_SIZE_BYTES: u64 = 512;
const MAGIC: [u8; 8] = *b"LSWMARK1";
const RECORD_SIZE_BYTES: usize = 24;

/// What a watermark file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// This commit was acknowledged.
    Commit(u64),
    /// There is no such file.
    Missing,
    /// There is one and no slot of it is valid.
    Damaged,
}

/// An open watermark file.
#[derive(Debug)]
pub(crate) struct Watermark {
    file: File,
    next_slot: u64,
    unsynced: u32,
}

/// Reads the file at `path`.
pub(crate) fn read(path: &Path) -> io::Result<Found> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    let commits = [read_slot(&file, 0)?, read_slot(&file, 1)?];
    Ok(commits.into_iter().flatten().max().map_or(Found::Damaged, Found::Commit))
}

/// The commit in a slot; `None` if the slot was never written or is damaged.
fn read_slot(file: &File, slot: u64) -> io::Result<Option<u64>> {
    let mut record = [0; RECORD_SIZE_BYTES];
    match file.read_exact_at(&mut record, slot * SLOT_SIZE_BYTES) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut number = [0; 8];
    number.copy_from_slice(&record[8..16]);
    let commit = u64::from_be_bytes(number);
    Ok((record == encode(commit)).then_some(commit))
}

fn encode(commit: u64) -> [u8; RECORD_SIZE_BYTES] {
    let mut record = [0; RECORD_SIZE_BYTES];
    record[..8].copy_from_slice(&MAGIC);
    record[8..16].copy_from_slice(&commit.to_be_bytes());
    let sum = fnv1a(&record[..16]);
    record[16..].copy_from_slice(&sum.to_be_bytes());
    record
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Watermark {
    /// Opens or creates the file and makes it say `commit`, durably.
    pub(crate) fn create(path: &Path, commit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        // Both slots: after --accept-loss the file may say more than there is.
        for slot in 0..2 {
            file.write_all_at(&encode(commit), slot * SLOT_SIZE_BYTES)?;
        }
        file.sync_all()?;
        if let Some(directory) = path.parent() {
            sync_directory(directory)?;
        }
        Ok(Self { file, next_slot: 0, unsynced: 0 })
    }

    /// Notes that everything up to `commit` is durable.
    pub(crate) fn note(&mut self, commit: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(commit), self.next_slot * SLOT_SIZE_BYTES)?;
        self.next_slot = 1 - self.next_slot;
        self.unsynced += 1;
        if self.unsynced >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// For a sync beside the commit path, which must not wait for it: the file to be synced, if
    /// there is something to sync. Counts as synced.
    pub(crate) fn begin_sync(&mut self) -> io::Result<Option<File>> {
        if self.unsynced == 0 {
            return Ok(None);
        }
        let file = self.file.try_clone()?;
        self.unsynced = 0;
        Ok(Some(file))
    }

    /// Makes the file durable, if it is not.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced > 0 {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(commits: &[u64]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("watermark");
        let mut watermark = Watermark::create(&path, 0).expect("created");
        for commit in commits {
            watermark.note(*commit).expect("noted");
        }
        (dir, path)
    }

    fn damage(path: &Path, at: u64) {
        let file = OpenOptions::new().write(true).open(path).expect("there");
        file.write_all_at(&[0xaa], at).expect("written");
    }

    #[test]
    fn the_last_commit_noted_is_read() {
        let (_dir, path) = written(&[1, 2, 700]);
        assert_eq!(read(&path).expect("readable"), Found::Commit(700));
    }

    #[test]
    fn a_torn_write_leaves_the_commit_before() {
        let (_dir, path) = written(&[5, 6, 7]);
        damage(&path, 12);
        assert_eq!(read(&path).expect("readable"), Found::Commit(6));
        damage(&path, SLOT_SIZE_BYTES + 20);
        assert_eq!(read(&path).expect("readable"), Found::Damaged);
    }

    #[test]
    fn no_file_and_an_empty_file_are_told_apart() {
        let (dir, path) = written(&[]);
        assert_eq!(read(&path).expect("readable"), Found::Commit(0));
        File::create(&path).expect("emptied");
        assert_eq!(read(&path).expect("readable"), Found::Damaged);
        assert_eq!(read(&dir.path().join("none")).expect("readable"), Found::Missing);
    }

    #[test]
    fn creating_lowers_what_the_file_said() {
        let (_dir, path) = written(&[8, 9]);
        Watermark::create(&path, 3).expect("created");
        assert_eq!(read(&path).expect("readable"), Found::Commit(3));
    }
}
