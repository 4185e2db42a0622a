//! The runtime: one owner thread for the namespaces, a commit pipeline of a write stage and a
//! sync stage, and inboxes that carry effects to connections.
//!
//! ```text
//! connection ── burst ──▶ mailbox ─▶ owner thread ─ group ─▶ write stage ─▶ sync stage
//!     ▲                                  │ immediate                            │ fenced
//!     └────────────── inbox ◀────────────┴──────────────────────────────────────┘
//! ```
//! Nothing that is fenced reaches an inbox before everything it could have seen is durable. A
//! failed write or sync ends all releases for good; the process is expected to exit.

mod bodies;
mod client;
mod commit;
mod courtesy;
mod directory;
mod error;
mod inbox;
mod intake;
mod mailbox;
mod memory;
mod namespace_thread;
mod pace;
mod reader;
mod recovery;
#[cfg(test)]
mod tests;
mod token_source;

pub use client::{BrokerClient, BrokerConnection, BrokerWaiter};
pub use courtesy::Courtesy;
pub use directory::EntityInfo;
pub use error::BrokerError;
pub use inbox::{ToConnection, Unreadable};
pub use memory::{MEMORY_BYTES_DEFAULT, MemoryBudget, MemoryCharge, MemoryPressure};

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use lockstep_model::{Clock, CommitNumber, QueueDescription};
use lockstep_store::{Store, StoreError};
use tokio::sync::{oneshot, watch};

use self::{
    commit::{CommitPipeline, Group},
    directory::Directory,
    inbox::Inboxes,
    mailbox::{Mail, Mailbox},
    namespace_thread::NamespaceThread,
    reader::Reader,
};
use crate::core::CoreConfig;

/// Bytes of writes that may be under way before sends wait (docs/architecture.md, rule 13): the
/// bound is lower where the disk takes longer for them than a quiet client should wait.
pub const UNCOMMITTED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of recent messages kept in memory so that prompt receivers need no read.
pub const BODY_CACHE_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// How the broker runs.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Switches of the core.
    pub core: CoreConfig,
    /// Bytes of recent messages kept in memory.
    pub body_cache_bytes: usize,
    /// What the process holds for its clients, and may.
    pub memory: Arc<MemoryBudget>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            core: CoreConfig::default(),
            body_cache_bytes: BODY_CACHE_BYTES_DEFAULT,
            memory: Arc::new(MemoryBudget::new(MEMORY_BYTES_DEFAULT)),
        }
    }
}

/// A namespace as configuration wants it.
#[derive(Clone, Debug)]
pub struct NamespaceDefinition {
    /// Its name; compared without regard to case.
    pub name: String,
    /// Its queues.
    pub queues: Vec<QueueDescription>,
}

/// What the threads and clients of one broker share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) mailbox: Mailbox,
    pub(crate) inboxes: Inboxes,
    pub(crate) pipeline: CommitPipeline,
    pub(crate) reader: Reader,
    pub(crate) directories: Vec<Arc<Directory>>,
    /// Set while the disk is nearly full: sends and state writes are refused.
    pub(crate) refuse_growth: AtomicBool,
    /// What the process holds for its clients.
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) courtesy: Arc<Courtesy>,
    next_id: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// A running broker. Dropping it without [`Broker::shut_down`] leaves its threads to the end of
/// the process.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    /// Taken by whoever shuts the broker down.
    threads: Mutex<Vec<JoinHandle<()>>>,
    failure: watch::Receiver<Option<String>>,
    warnings: Vec<String>,
}

impl Broker {
    /// Recovers what the store holds, brings the entities in line with `definitions` (durably)
    /// and starts the threads. A definition wins over what is stored, with a warning that says
    /// what it changed; entities that no definition names stay as they are, with a warning unless
    /// they were made at run time.
    ///
    /// # Errors
    /// When the store cannot be read or written, or a definition changes what cannot be changed.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        config: &BrokerConfig,
        definitions: &[NamespaceDefinition],
    ) -> Result<Self, BrokerError> {
        let recovered = recovery::recover(&*store, config.core, definitions, clock.now().utc)?;
        let (failure_sender, failure) = watch::channel(None);
        let durable = recovered.durable;
        let directories =
            recovered.namespaces.iter().map(|namespace| Arc::new(Directory::of(namespace))).collect();
        let shared = Arc::new(Shared {
            clock,
            mailbox: Mailbox::default(),
            inboxes: Inboxes::default(),
            pipeline: CommitPipeline::new(failure_sender),
            reader: Reader::default(),
            directories,
            refuse_growth: AtomicBool::new(false),
            memory: Arc::clone(&config.memory),
            courtesy: Arc::default(),
            next_id: AtomicU64::new(1),
        });
        let mut threads = vec![];
        let owner =
            NamespaceThread::new(Arc::clone(&shared), recovered.namespaces, durable, config.body_cache_bytes);
        threads.push(spawn("lockstep-core", &shared, move || owner.run())?);
        for (name, stage) in [
            ("lockstep-write", commit::write_stage as fn(&Shared, &dyn Store)),
            ("lockstep-sync", commit::sync_stage),
            ("lockstep-read-0", reader::read_stage),
            ("lockstep-read-1", reader::read_stage),
        ] {
            let store = Arc::clone(&store);
            let stage_shared = Arc::clone(&shared);
            threads.push(spawn(name, &shared, move || stage(&stage_shared, &*store))?);
        }
        Ok(Self { shared, threads: Mutex::new(threads), failure, warnings: recovered.warnings })
    }

    /// What the operator should know about the start: properties that definitions changed, and
    /// what is kept although no definition names it any more.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A client of the namespace named `name`, in any letter case.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<BrokerClient> {
        let index = self.shared.directories.iter().position(|d| d.name().eq_ignore_ascii_case(name))?;
        Some(BrokerClient::new(Arc::clone(&self.shared), index))
    }

    /// What threads that work for clients share, so that those who do little are not kept waiting.
    #[must_use]
    pub fn courtesy(&self) -> Arc<Courtesy> {
        Arc::clone(&self.shared.courtesy)
    }

    /// Becomes `Some` with the reason when a write or sync failed. The process must then end:
    /// nothing is released any more.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Refuses (or admits again) what makes the store grow: sends and state writes. For a disk
    /// that is nearly full; settlement goes on.
    pub fn set_refuse_growth(&self, refuse: bool) {
        self.shared.refuse_growth.store(refuse, Ordering::Relaxed);
    }

    /// Resolves when a real write, made now, is durable.
    ///
    /// # Errors
    /// When the broker stops or fails first.
    pub async fn probe(&self) -> Result<(), BrokerError> {
        let (sender, receiver) = oneshot::channel();
        self.shared.mailbox.post(Mail::Probe(sender));
        receiver.await.map_err(|_| BrokerError::ShuttingDown)
    }

    /// Makes what was accepted durable and ends the threads. Connections should have gone first.
    /// A second call returns at once.
    pub fn shut_down(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.mailbox.post(Mail::Stop);
        if self.shared.pipeline.has_failed() {
            // The owner may have ended without telling the readers.
            self.shared.reader.stop();
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a broker thread panicked");
            }
        }
    }
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, BrokerError> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _guard = FailOnPanic(&shared.pipeline);
            run();
        })
        .map_err(|error| BrokerError::Thread(error.to_string()))
}

/// A panic of a broker thread ends the process as a failed write does: half of a step may have
/// been taken.
struct FailOnPanic<'a>(&'a CommitPipeline);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&StoreError::Io("a broker thread panicked".to_owned()));
        }
    }
}

impl Group {
    /// A group that writes nothing but its commit number.
    pub(crate) fn probe(commit: CommitNumber, done: oneshot::Sender<()>) -> Self {
        Self { commit, done: Some(done), ..Self::default() }
    }
}
