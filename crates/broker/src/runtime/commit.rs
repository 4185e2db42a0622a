//! The commit pipeline: a write stage that appends groups to the store's log, and a sync stage
//! that makes them durable and then releases what they fenced. The write stage syncs by itself
//! when nothing else is queued, which saves a thread's wake-up on a quiet broker.

use std::sync::{
    Arc, Condvar, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use lockstep_model::{CommitNumber, MonoTime};
use lockstep_store::{Batch, Store, StoreError};
use tokio::sync::{oneshot, watch};

use super::{
    Shared,
    inbox::{Inbox, ToConnection},
    mailbox::Mail,
    pace::Pace,
};
use crate::core::Routed;

/// Bytes that the write stage puts into one store write, unless one group alone is larger.
const WRITE_BYTES_MAX: usize = 1024 * 1024;
/// Operations that the write stage puts into one store write, likewise.
const WRITE_OPERATIONS_MAX: usize = 8 * 1024;

/// What one turn of the owner thread wrote, and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Its commit number; 0 for a group that writes nothing and only waits for those before it.
    pub(crate) commit: CommitNumber,
    pub(crate) batch: Batch,
    /// When it was handed in.
    pub(crate) submitted: MonoTime,
    pub(crate) fenced: Vec<Routed>,
    /// A reader's answer that waits likewise.
    pub(crate) answer: Option<(Arc<Inbox>, ToConnection)>,
    /// Told when the group is durable.
    pub(crate) done: Option<oneshot::Sender<()>>,
}

/// A group that is written and waits for a sync.
#[derive(Debug)]
struct Written {
    commit: CommitNumber,
    bytes: u64,
    operations: u64,
    submitted: MonoTime,
    fenced: Vec<Routed>,
    answer: Option<(Arc<Inbox>, ToConnection)>,
    done: Option<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct Queues {
    to_write: Vec<Group>,
    to_sync: Vec<Written>,
    /// A stage is between taking written groups and having released them.
    syncing: bool,
    writer_waits: bool,
    syncer_waits: bool,
    stopping: bool,
    writer_ended: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct CommitPipeline {
    queues: Mutex<Queues>,
    write_wanted: Condvar,
    sync_wanted: Condvar,
    uncommitted_bytes: AtomicU64,
    pace: Pace,
    submitted_groups: AtomicU64,
    released_groups: AtomicU64,
    failed: AtomicBool,
    failure: watch::Sender<Option<String>>,
}

impl CommitPipeline {
    pub(crate) fn new(failure: watch::Sender<Option<String>>) -> Self {
        Self {
            queues: Mutex::default(),
            write_wanted: Condvar::new(),
            sync_wanted: Condvar::new(),
            uncommitted_bytes: AtomicU64::new(0),
            pace: Pace::default(),
            submitted_groups: AtomicU64::new(0),
            released_groups: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            failure,
        }
    }

    /// Queues a group behind all before it.
    pub(crate) fn submit(&self, mut group: Group, now: MonoTime) {
        group.submitted = now;
        self.uncommitted_bytes.fetch_add(group.batch.size_bytes() as u64, Ordering::Relaxed);
        self.submitted_groups.fetch_add(1, Ordering::Relaxed);
        let mut queues = self.lock();
        queues.to_write.push(group);
        if std::mem::take(&mut queues.writer_waits) {
            drop(queues);
            self.write_wanted.notify_one();
        }
    }

    /// Bytes handed in and not yet durable.
    pub(crate) fn uncommitted_bytes(&self) -> u64 {
        self.uncommitted_bytes.load(Ordering::Relaxed)
    }

    /// How much may be under way.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Whether every group handed in has been released, so that nothing fences a new effect.
    /// Exact only on the thread that submits.
    pub(crate) fn is_idle(&self) -> bool {
        self.released_groups.load(Ordering::Acquire) == self.submitted_groups.load(Ordering::Relaxed)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Lets both stages end once their queues are empty.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.write_wanted.notify_one();
        self.sync_wanted.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all releases for good.
    pub(crate) fn fail(&self, error: &StoreError) {
        self.failed.store(true, Ordering::Release);
        tracing::error!(%error, "a durable write failed; nothing is acknowledged any more");
        self.failure.send_replace(Some(error.to_string()));
        let _queues = self.lock();
        self.write_wanted.notify_all();
        self.sync_wanted.notify_all();
    }

    /// Makes `written` durable and releases what waited for it. The caller has set `syncing`.
    fn sync_and_release(&self, shared: &Shared, store: &dyn Store, written: Vec<Written>) {
        let commit = written.iter().map(|group| group.commit).max().unwrap_or_default();
        let bytes: u64 = written.iter().map(|group| group.bytes).sum();
        let operations = written.iter().map(|group| group.operations).sum();
        if commit > CommitNumber(0) {
            let begun = shared.clock.now().mono;
            if let Err(error) = store.sync(commit) {
                self.fail(&error);
                return;
            }
            let now = shared.clock.now().mono;
            let first = written.iter().map(|group| group.submitted).min().unwrap_or(now);
            self.pace.released(bytes, operations, begun.until(now), first.until(now));
        }
        // Before the post, whose lock orders it: the owner looks at it to wake stalled bursts.
        self.uncommitted_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if commit > CommitNumber(0) {
            // Before anyone is told: what is asked because of a reply must find its rows eligible.
            shared.mailbox.post(Mail::Committed(commit));
        }
        let groups = written.len() as u64;
        for mut group in written {
            shared.inboxes.route(&mut group.fenced);
            if let Some((inbox, item)) = group.answer.take() {
                inbox.push([item]);
            }
            if let Some(done) = group.done.take() {
                // The one who asked may have gone.
                let _gone = done.send(());
            }
        }
        let mut queues = self.lock();
        self.released_groups.fetch_add(groups, Ordering::Release);
        queues.syncing = false;
        if queues.syncer_waits && (!queues.to_sync.is_empty() || queues.stopping) {
            queues.syncer_waits = false;
            self.sync_wanted.notify_one();
        }
        drop(queues);
    }
}

/// Runs the write stage until the pipeline stops or fails.
pub(crate) fn write_stage(shared: &Shared, store: &dyn Store) {
    let pipeline = &shared.pipeline;
    let mut groups = Vec::new();
    loop {
        {
            let mut queues = pipeline.lock();
            while queues.to_write.is_empty() && !queues.stopping && !pipeline.has_failed() {
                queues.writer_waits = true;
                queues = pipeline.write_wanted.wait(queues).unwrap_or_else(PoisonError::into_inner);
            }
            queues.writer_waits = false;
            if pipeline.has_failed() || queues.to_write.is_empty() {
                queues.writer_ended = true;
                drop(queues);
                pipeline.sync_wanted.notify_one();
                return;
            }
            std::mem::swap(&mut groups, &mut queues.to_write);
        }
        let written = match write_groups(store, &mut groups) {
            Ok(written) => written,
            Err(error) => {
                pipeline.fail(&error);
                continue;
            }
        };
        let mut queues = pipeline.lock();
        if queues.syncing || !queues.to_sync.is_empty() || !queues.to_write.is_empty() {
            queues.to_sync.extend(written);
            if !queues.syncing && std::mem::take(&mut queues.syncer_waits) {
                drop(queues);
                pipeline.sync_wanted.notify_one();
            }
        } else {
            queues.syncing = true;
            drop(queues);
            pipeline.sync_and_release(shared, store, written);
        }
    }
}

/// Writes groups in order, several to a store write.
fn write_groups(store: &dyn Store, groups: &mut Vec<Group>) -> Result<Vec<Written>, StoreError> {
    let mut written = Vec::with_capacity(groups.len());
    let mut merged = Batch::new();
    let mut merged_commit = CommitNumber(0);
    for mut group in groups.drain(..) {
        let full = merged.size_bytes() + group.batch.size_bytes() > WRITE_BYTES_MAX
            || merged.len() + group.batch.len() > WRITE_OPERATIONS_MAX;
        if full && merged_commit > CommitNumber(0) {
            store.write(merged_commit, &merged)?;
            merged = Batch::new();
            merged_commit = CommitNumber(0);
        }
        merged_commit = merged_commit.max(group.commit);
        let (bytes, operations) = (group.batch.size_bytes() as u64, group.batch.len() as u64);
        merged.append(std::mem::take(&mut group.batch));
        let Group { commit, submitted, fenced, answer, done, .. } = group;
        written.push(Written { commit, bytes, operations, submitted, fenced, answer, done });
    }
    if merged_commit > CommitNumber(0) {
        store.write(merged_commit, &merged)?;
    }
    Ok(written)
}

/// Runs the sync stage until the pipeline stops or fails.
pub(crate) fn sync_stage(shared: &Shared, store: &dyn Store) {
    let pipeline = &shared.pipeline;
    loop {
        let written = {
            let mut queues = pipeline.lock();
            loop {
                if pipeline.has_failed() {
                    return;
                }
                if !queues.syncing && !queues.to_sync.is_empty() {
                    break;
                }
                if queues.writer_ended && !queues.syncing {
                    return;
                }
                queues.syncer_waits = true;
                queues = pipeline.sync_wanted.wait(queues).unwrap_or_else(PoisonError::into_inner);
            }
            queues.syncer_waits = false;
            queues.syncing = true;
            std::mem::take(&mut queues.to_sync)
        };
        pipeline.sync_and_release(shared, store, written);
    }
}
