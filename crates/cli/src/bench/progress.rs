//! How far a run is: counters that its tasks share.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::observer::{self, Observer};

/// How often the controlling task looks whether a run is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A run in which nothing happens for so long is given up.
const STALL: Duration = Duration::from_secs(15);

/// Counts of one run.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Messages given to the engine.
    pub(super) sent: AtomicU64,
    /// Messages that the broker accepted.
    pub(super) accepted: AtomicU64,
    /// When the latest of them was, in the run's nanoseconds.
    pub(super) last_accepted_ns: AtomicU64,
    /// Messages that arrived, each as often as it came.
    pub(super) delivered: AtomicU64,
    /// Messages of other runs that arrived.
    pub(super) foreign: AtomicU64,
    /// Messages whose completion is confirmed (or sent, if nothing confirms it), those of other
    /// runs too.
    pub(super) completed: AtomicU64,
    /// When the latest of them was, in the run's nanoseconds.
    pub(super) last_completed_ns: AtomicU64,
    /// Message sessions accepted, drained and closed.
    pub(super) closed: AtomicU64,
    /// When the latest of them was, in the run's nanoseconds.
    pub(super) last_closed_ns: AtomicU64,
}

impl Progress {
    pub(super) fn add_accepted(&self, count: usize, now_ns: u64) {
        self.accepted.fetch_add(count as u64, Relaxed);
        self.last_accepted_ns.fetch_max(now_ns, Relaxed);
    }

    pub(super) fn add_completed(&self, count: usize, now_ns: u64) {
        if count > 0 {
            self.completed.fetch_add(count as u64, Relaxed);
            self.last_completed_ns.fetch_max(now_ns, Relaxed);
        }
    }

    pub(super) fn add_closed(&self, now_ns: u64) {
        self.closed.fetch_add(1, Relaxed);
        self.last_closed_ns.fetch_max(now_ns, Relaxed);
    }

    /// Messages sent and not completed.
    pub(super) fn backlog(&self) -> u64 {
        let all = self.sent.load(Relaxed) + self.foreign.load(Relaxed);
        all.saturating_sub(self.completed.load(Relaxed))
    }

    fn everything(&self) -> [u64; 5] {
        [&self.sent, &self.accepted, &self.delivered, &self.completed, &self.closed].map(|n| n.load(Relaxed))
    }

    /// The counts in words.
    pub(super) fn describe(&self) -> String {
        let [sent, accepted, delivered, completed, closed] = self.everything();
        let mut text =
            format!("{sent} sent, {accepted} accepted, {delivered} delivered, {completed} completed");
        if closed > 0 {
            text.push_str(&format!(", {closed} message sessions closed"));
        }
        text
    }
}

/// Waits until `is_done`, or nothing happens any more (false). Results of tasks that end
/// meanwhile go to `results`; the first failure ends the waiting.
///
/// # Errors
/// What a task failed with, together with the counts.
pub(super) async fn wait<T: 'static>(
    progress: &Progress,
    observer: &Observer,
    tasks: &mut JoinSet<Result<T>>,
    results: &mut Vec<T>,
    is_done: impl Fn(&Progress, usize) -> bool,
) -> Result<bool> {
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut before = progress.everything();
    let mut quiet = Duration::ZERO;
    let mut tell = tokio::time::interval(observer::LOOK_INTERVAL);
    tell.tick().await;
    loop {
        tokio::select! {
            biased;
            _ = tell.tick() => observer.look(&progress.describe()),
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ok(result)) => results.push(result),
                Ok(Err(error)) => return Err(error.context(progress.describe())),
                Err(error) => bail!("a task of the generator ended: {error} ({})", progress.describe()),
            },
            _ = look.tick() => {
                let now = progress.everything();
                quiet = if now == before { quiet + LOOK_INTERVAL } else { Duration::ZERO };
                before = now;
            }
        }
        if is_done(progress, results.len()) {
            return Ok(true);
        }
        if quiet >= STALL {
            return Ok(false);
        }
    }
}
