//! A small pool of threads that read what the owner thread must not wait for: bodies that are no
//! longer in memory, and stored message-session states.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use lockstep_model::{BodyId, EntityId, MessageSessionId, NamespaceId, RequestId};
use lockstep_store::Store;

use super::{
    Shared,
    inbox::{Inbox, ToConnection, Unreadable},
    mailbox::Mail,
};

/// Bodies that one turn of a reader thread fetches together.
const BODIES_PER_READ_MAX: usize = 64;

/// Something to read. Bounded by the permits and requests of the connections that ask.
#[derive(Debug)]
pub(crate) enum Read {
    Body { namespace: NamespaceId, body: BodyId, inbox: Arc<Inbox> },
    BodyPart { namespace: NamespaceId, body: BodyId, part: u16, inbox: Arc<Inbox> },
    MessageSessionState { entity: EntityId, session: MessageSessionId, request: RequestId, inbox: Arc<Inbox> },
}

#[derive(Debug, Default)]
struct Queue {
    reads: VecDeque<Read>,
    idle_threads: usize,
    stopping: bool,
}

/// The queue in front of the pool.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Reader {
    pub(crate) fn request(&self, read: Read) {
        let mut queue = self.lock();
        queue.reads.push_back(read);
        let wake = queue.idle_threads > 0;
        drop(queue);
        if wake {
            self.filled.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next state or row, or the next run of bodies of one namespace; `None` to stop.
    fn next(&self) -> Option<Vec<Read>> {
        let mut queue = self.lock();
        while queue.reads.is_empty() {
            if queue.stopping {
                return None;
            }
            queue.idle_threads += 1;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle_threads -= 1;
        }
        let first = queue.reads.pop_front()?;
        let mut reads = vec![first];
        if let Read::Body { namespace, .. } = reads[0] {
            while reads.len() < BODIES_PER_READ_MAX
                && matches!(queue.reads.front(), Some(Read::Body { namespace: next, .. }) if *next == namespace)
            {
                reads.extend(queue.reads.pop_front());
            }
        }
        Some(reads)
    }
}

/// How much the pool's threads stand back (as `nice` means it) where processors are short: whoever
/// reads little finds it in memory, and must not wait behind those who have much read.
const NICENESS: i32 = 5;

/// Runs one thread of the pool until the broker stops.
pub(crate) fn read_stage(shared: &Shared, store: &dyn Store) {
    // For this thread alone, which is what Linux makes of it.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(NICENESS)
    {
        tracing::debug!(%error, "reading keeps its priority");
    }
    while let Some(reads) = shared.reader.next() {
        shared.courtesy.give_way(shared.clock.now().mono);
        match &reads[0] {
            Read::Body { namespace, .. } => read_bodies(store, *namespace, &reads),
            Read::BodyPart { namespace, body, part, inbox } => {
                let row = store.read_body_part(*namespace, *body, *part).map_err(|error| {
                    tracing::error!(%error, %namespace, %body, part, "cannot read a stored message");
                    Unreadable
                });
                inbox.push([ToConnection::BodyPart(*body, *part, row)]);
            }
            Read::MessageSessionState { entity, session, request, inbox } => {
                let state = store
                    .read_message_session(*entity, session)
                    .map(|record| record.map(|record| record.state))
                    .map_err(|error| {
                        tracing::error!(%error, ?entity, message_session_id = %session, "cannot read a message-session state");
                        Unreadable
                    });
                // What was read may be newer than the reply's fence and not durable yet.
                let item = ToConnection::MessageSessionState(*request, state);
                shared.mailbox.post(Mail::Answer(Arc::clone(inbox), item));
            }
        }
    }
}

fn read_bodies(store: &dyn Store, namespace: NamespaceId, reads: &[Read]) {
    let bodies: Vec<(BodyId, &Arc<Inbox>)> = reads
        .iter()
        .filter_map(|read| match read {
            Read::Body { body, inbox, .. } => Some((*body, inbox)),
            Read::BodyPart { .. } | Read::MessageSessionState { .. } => None,
        })
        .collect();
    let ids: Vec<BodyId> = bodies.iter().map(|(body, _)| *body).collect();
    match store.read_bodies(namespace, &ids) {
        Ok(found) => {
            for ((body, inbox), bytes) in bodies.into_iter().zip(found) {
                inbox.push([ToConnection::Body(body, Ok(bytes))]);
            }
        }
        Err(error) => {
            tracing::error!(%error, %namespace, "cannot read stored messages together");
            // One unreadable row must not make its neighbours unreadable.
            for (body, inbox) in bodies {
                let bytes = store.read_bodies(namespace, &[body]);
                let bytes = bytes.map(|mut found| found.pop().flatten()).map_err(|error| {
                    tracing::error!(%error, %namespace, %body, "cannot read a stored message");
                    Unreadable
                });
                inbox.push([ToConnection::Body(body, bytes)]);
            }
        }
    }
}
