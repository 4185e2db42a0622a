//! Removes the logs that the engine no longer needs, a piece at a time.
//!
//! A log has some 64 MiB when its tables have been written. To remove it at once takes the file
//! system 10 to 20 ms, and on ext4 every sync waits until that is done, and with it everybody's
//! commits. So the engine moves old logs to its archive directory (`WAL_ttl_seconds`) instead of
//! removing them, and a thread cuts them shorter, with pauses, until nothing is left.
//!
//! Nothing in the archive is ever read again, so it does not matter how far a crash lets it come.
//! Without the archive the engine could not move old logs there, and would keep them all.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::rocks::directory::is_log;

/// By how much a log gets shorter at once, in bytes.
const PIECE_SIZE_BYTES: u64 = 1024 * 1024;
/// The pause after a piece: some 800 MB a second are removed, more than most disks take.
const PAUSE: Duration = Duration::from_millis(1);
/// Logs that are removed so slowly; of more than that the others go at once, so that removing does
/// not fall behind writing.
const SLOWLY_REMOVED_LOGS_MAX: usize = 4;
/// Bytes that the store writes from one look into the archive to the next.
const LOOK_EVERY_BYTES: u64 = 16 * 1024 * 1024;
/// The engine's own directory for them, within its directory.
const ARCHIVE_DIRECTORY: &str = "archive";

/// A thread that removes old logs; dropping this ends it, perhaps with some left.
#[derive(Debug)]
pub(super) struct OldLogs {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    written_bytes: AtomicU64,
}

impl OldLogs {
    /// Starts the thread for an engine's directory.
    pub(super) fn start(engine: &Path) -> io::Result<Self> {
        let archive = archive_of(engine);
        // One wake-up that waits is as good as many.
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new().name("lockstep-logs".to_owned()).spawn(move || {
            let mut failing = false;
            while woken.recv().is_ok() {
                let removed = remove_all_slowly(&archive, &woken);
                if let Err(error) = &removed
                    && !failing
                {
                    tracing::warn!(path = %archive.display(), %error, "cannot remove old logs");
                }
                failing = removed.is_err();
            }
        })?;
        Ok(Self { wake: Some(wake), thread: Some(thread), written_bytes: AtomicU64::new(0) })
    }

    /// Counts what is written and looks into the archive every [`LOOK_EVERY_BYTES`].
    pub(super) fn written(&self, bytes: u64) {
        if self.written_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= LOOK_EVERY_BYTES {
            self.look();
        }
    }

    /// Has the thread look into the archive now.
    pub(super) fn look(&self) {
        self.written_bytes.store(0, Ordering::Relaxed);
        if let Some(wake) = &self.wake {
            // Full: it is about to look anyway.
            let _ = wake.try_send(());
        }
    }

    /// Ends the thread.
    pub(super) fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, that has been reported, and what it left is removed at the next start.
            let _ = thread.join();
        }
    }
}

impl Drop for OldLogs {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Removes the logs in the archive of an engine that syncs nothing, since it is not open yet or not
/// any more. Failing to is no failure of the store.
pub(super) fn remove_at_once(engine: &Path) {
    let archive = archive_of(engine);
    let removed = match old_logs(&archive) {
        Ok(logs) => each(&logs, |log| fs::remove_file(log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        tracing::warn!(path = %archive.display(), %error, "cannot remove old logs");
    }
}

fn archive_of(engine: &Path) -> PathBuf {
    engine.join(ARCHIVE_DIRECTORY)
}

/// Logs alone: what else somebody put there is not ours.
fn old_logs(archive: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(archive)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_file() && is_log(&path) {
            logs.push(path);
        }
    }
    Ok(logs)
}

/// Does it with each log, and goes on after an error. The first one is returned; it is none that a
/// log is gone.
fn each(logs: &[PathBuf], mut remove: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut result = Ok(());
    for log in logs {
        if let Err(error) = remove(log)
            && error.kind() != io::ErrorKind::NotFound
            && result.is_ok()
        {
            result = Err(error);
        }
    }
    result
}

/// Removes logs until there are none, or until nobody is left to wake the thread.
fn remove_all_slowly(archive: &Path, woken: &Receiver<()>) -> io::Result<()> {
    while remove_those_there(archive, woken)? {}
    Ok(())
}

/// Returns whether there may be more by now.
fn remove_those_there(archive: &Path, woken: &Receiver<()>) -> io::Result<bool> {
    let logs = match old_logs(archive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(path = %archive.display(), "the directory of old logs was gone; it is made again");
            fs::create_dir(archive)?;
            return Ok(false);
        }
        logs => logs?,
    };
    let (at_once, slowly) = logs.split_at(logs.len().saturating_sub(SLOWLY_REMOVED_LOGS_MAX));
    let removed = each(at_once, |log| fs::remove_file(log));
    removed.and(each(slowly, |log| remove_slowly(log, woken)))?;
    Ok(!logs.is_empty() && woken.try_recv() != Err(TryRecvError::Disconnected))
}

fn remove_slowly(log: &Path, woken: &Receiver<()>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(log)?;
    let mut left = file.metadata()?.len();
    while left > 0 {
        // A cut within a page would have that page written again.
        left = (left - 1) / PIECE_SIZE_BYTES * PIECE_SIZE_BYTES;
        file.set_len(left)?;
        if woken.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
            return Ok(());
        }
    }
    fs::remove_file(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine's directory with old logs of these sizes.
    fn engine(sizes: &[u64]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        let archive = archive_of(dir.path());
        fs::create_dir(&archive).expect("created");
        for (number, size) in sizes.iter().enumerate() {
            let log = fs::File::create(archive.join(format!("{number:06}.log")));
            log.and_then(|log| log.set_len(*size)).expect("created");
        }
        dir
    }

    fn left(engine: &Path) -> usize {
        old_logs(&archive_of(engine)).expect("readable").len()
    }

    #[test]
    fn all_logs_are_cut_and_removed_whatever_their_size_and_number() {
        let dir = engine(&[0, 1, PIECE_SIZE_BYTES, 3 * PIECE_SIZE_BYTES + 7, 9, 9, 9]);
        let archive = archive_of(dir.path());
        let (_wake, woken) = sync_channel(1);
        assert!(remove_those_there(&archive, &woken).expect("removed"), "there may be more by now");
        assert_eq!(left(dir.path()), 0);
        assert!(!remove_those_there(&archive, &woken).expect("nothing to do"));
    }

    #[test]
    fn it_stops_at_the_next_piece_when_nobody_is_left_to_wake_it() {
        let dir = engine(&[1000 * PIECE_SIZE_BYTES]);
        let (wake, woken) = sync_channel(1);
        drop(wake);
        assert!(!remove_those_there(&archive_of(dir.path()), &woken).expect("stopped"));
        let log = fs::metadata(archive_of(dir.path()).join("000000.log")).expect("there");
        assert_eq!(log.len(), 999 * PIECE_SIZE_BYTES);
        remove_at_once(dir.path());
        assert_eq!(left(dir.path()), 0);
    }

    #[test]
    fn an_archive_that_is_gone_is_made_again_where_an_engine_runs() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let archive = archive_of(dir.path());
        remove_at_once(dir.path());
        assert!(!archive.exists());
        let (_wake, woken) = sync_channel(1);
        assert!(!remove_those_there(&archive, &woken).expect("made"));
        assert!(archive.is_dir());
    }

    #[test]
    fn what_is_no_log_stays_and_stops_nothing() {
        let dir = engine(&[7]);
        let archive = archive_of(dir.path());
        fs::create_dir(archive.join("000000.log.d")).expect("created");
        fs::create_dir(archive.join("000001.log")).expect("created");
        fs::write(archive.join("notes"), "mine").expect("written");
        let (_wake, woken) = sync_channel(1);
        remove_all_slowly(&archive, &woken).expect("removed");
        assert_eq!((left(dir.path()), fs::read_dir(&archive).expect("there").count()), (0, 3));
    }

    #[test]
    fn the_thread_looks_when_enough_was_written_or_when_told_to() {
        let dir = engine(&[2 * PIECE_SIZE_BYTES]);
        let mut logs = OldLogs::start(dir.path()).expect("started");
        logs.written(LOOK_EVERY_BYTES - 1);
        // Nothing woke it: ending it leaves all there.
        logs.stop();
        assert_eq!(left(dir.path()), 1);
        for wake in [|logs: &OldLogs| logs.look(), |logs: &OldLogs| logs.written(LOOK_EVERY_BYTES)] {
            let dir = engine(&[2 * PIECE_SIZE_BYTES]);
            let logs = OldLogs::start(dir.path()).expect("started");
            wake(&logs);
            while left(dir.path()) > 0 {
                std::thread::yield_now();
            }
        }
    }
}
