//! The data directory around the engine: its lock, its ballast, the space left on its device.
//!
//! ```text
//! <data directory>/
//!   lockstep.lock   locked while a process uses the directory
//!   watermark       the last acknowledged commit (watermark.rs)
//!   ballast         space to give back when the disk is full
//!   rocksdb/        the engine's files
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, FlockOperation};

use crate::api::StoreError;

/// Bytes set aside while there is room. When the disk is full at a start they are given back, so
/// that the engine can open and settled messages can be deleted.
pub(crate) const BALLAST_SIZE_BYTES: u64 = 8 * 1024 * 1024;
/// Below this many free bytes at a start the ballast is given back.
const BALLAST_RELEASE_FREE_BYTES: u64 = 2 * BALLAST_SIZE_BYTES;
/// From this many free bytes on the ballast is set aside.
const BALLAST_CREATE_FREE_BYTES: u64 = 8 * BALLAST_SIZE_BYTES;

const LOCK_FILE: &str = "lockstep.lock";
const BALLAST_FILE: &str = "ballast";
const WATERMARK_FILE: &str = "watermark";
const ENGINE_DIRECTORY: &str = "rocksdb";

/// A data directory that this process holds alone until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// The lock ends when the value is dropped, or when the process ends in whatever way.
    lock: File,
}

impl Drop for DataDirectory {
    /// Unlocks instead of leaving that to the close: a child process between its fork and its exec
    /// holds a copy of the descriptor, and would hold the lock with it.
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(path = %self.path.display(), %error, "cannot unlock the data directory");
        }
    }
}

impl DataDirectory {
    /// Creates the directory if need be and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| io_error("cannot create the data directory", path, &error))?;
        let lock_file = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_file)
            .map_err(|error| io_error("cannot open the lock file", &lock_file, &error))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse {
                path: path.display().to_string(),
                lock_file: lock_file.display().to_string(),
            }),
            Err(error) => Err(io_error("cannot lock", &lock_file, &error.into())),
        }
    }

    pub(crate) fn engine(&self) -> PathBuf {
        self.path.join(ENGINE_DIRECTORY)
    }

    pub(crate) fn watermark(&self) -> PathBuf {
        self.path.join(WATERMARK_FILE)
    }

    /// Bytes that this process may still write on the device.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let device = rustix::fs::statvfs(&self.path).ok()?;
        Some(device.f_bavail.saturating_mul(device.f_frsize))
    }

    /// Syncs the engine's logs before they are read. After a crash of the process alone their ends
    /// may be in the operating system's memory only, and what is recovered counts as durable.
    pub(crate) fn sync_logs(&self) -> Result<(), StoreError> {
        let engine = self.engine();
        let sync = || {
            for entry in fs::read_dir(&engine)? {
                let path = entry?.path();
                if is_log(&path) {
                    File::open(path)?.sync_data()?;
                }
            }
            sync_directory(&engine)
        };
        sync().map_err(|error| io_error("cannot sync the logs in", &engine, &error))
    }

    /// Gives the ballast back if the disk is nearly full. Returns whether it is.
    pub(crate) fn make_room(&self) -> Result<bool, StoreError> {
        if self.free_bytes().is_none_or(|free| free >= BALLAST_RELEASE_FREE_BYTES) {
            return Ok(false);
        }
        let ballast = self.path.join(BALLAST_FILE);
        match fs::remove_file(&ballast) {
            Ok(()) => tracing::warn!(path = %ballast.display(), "the disk is full: ballast given back"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), "the disk is full and no ballast is left");
            }
            Err(error) => return Err(io_error("cannot remove", &ballast, &error)),
        }
        Ok(true)
    }

    /// Sets the ballast aside if there is room for it and it is not there. Failing to is no
    /// failure of the store.
    pub(crate) fn set_ballast_aside(&self) {
        let ballast = self.path.join(BALLAST_FILE);
        let there = fs::metadata(&ballast).is_ok_and(|file| file.len() == BALLAST_SIZE_BYTES);
        if there || self.free_bytes().is_none_or(|free| free < BALLAST_CREATE_FREE_BYTES) {
            return;
        }
        let made =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&ballast).and_then(
                |file| Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BALLAST_SIZE_BYTES)?),
            );
        if let Err(error) = made {
            tracing::warn!(path = %ballast.display(), %error, "no ballast could be set aside");
            // A ballast of another size would be taken for none and made anew.
            let _ = fs::remove_file(&ballast);
        }
    }
}

/// Whether a file of the engine is a log, by its name.
pub(crate) fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(crate) fn io_error(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io(format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_by_name_and_free_again_after_use() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = DataDirectory::open(dir.path()).expect("free");
        let refused = DataDirectory::open(dir.path()).expect_err("in use").to_string();
        assert!(refused.contains("in use by another process"), "{refused}");
        assert!(refused.contains(LOCK_FILE), "{refused}");
        drop(first);
        DataDirectory::open(dir.path()).expect("free again");
    }

    #[test]
    fn a_copy_of_the_descriptor_in_a_forked_child_does_not_keep_the_directory() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = DataDirectory::open(dir.path()).expect("free");
        let _copy = first.lock.try_clone().expect("a copy");
        drop(first);
        DataDirectory::open(dir.path()).expect("free again");
    }

    #[test]
    fn the_ballast_takes_up_its_space_and_is_made_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let directory = DataDirectory::open(dir.path()).expect("free");
        assert!(!directory.make_room().expect("there is room"));
        directory.set_ballast_aside();
        directory.set_ballast_aside();
        let blocks = std::os::unix::fs::MetadataExt::blocks(
            &fs::metadata(dir.path().join(BALLAST_FILE)).expect("ballast"),
        );
        assert!(blocks * 512 >= BALLAST_SIZE_BYTES);
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_named() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let error = DataDirectory::open(&file.path().join("data")).expect_err("a file is in the way");
        assert!(error.to_string().contains(&*file.path().to_string_lossy()), "{error}");
    }
}
