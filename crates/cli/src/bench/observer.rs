//! Who watches a run: lines on standard error while it goes on, and the broker's memory.

use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{args::TargetArgs, process};

/// How often progress is told and memory is read.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Watches a run.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// The broker's process.
    pub(super) pid: Option<u32>,
    /// Whether progress is told.
    tells: bool,
    resident_bytes_max: AtomicU64,
}

impl Observer {
    pub(super) fn of(args: &TargetArgs) -> Self {
        Self { pid: args.pid, tells: !args.quiet, resident_bytes_max: AtomicU64::new(0) }
    }

    /// Reads the broker's memory, and tells how far the run is.
    pub(super) fn look(&self, progress: &str) {
        self.look_at_memory();
        if self.tells {
            // A closed standard error is no reason to end a run.
            let _ = writeln!(std::io::stderr(), "lockstep bench: {progress}");
        }
    }

    fn look_at_memory(&self) {
        if let Some(pid) = self.pid
            && let Ok(bytes) = process::resident_bytes_of_tree(pid)
        {
            self.resident_bytes_max.fetch_max(bytes, Relaxed);
        }
    }

    /// The most memory that the broker's processes had at any look, this one too, in bytes. `None`
    /// without a process.
    pub(super) fn resident_bytes_max(&self) -> Option<u64> {
        self.look_at_memory();
        Some(self.resident_bytes_max.load(Relaxed)).filter(|bytes| *bytes > 0)
    }
}
