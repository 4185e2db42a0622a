//! What connections hold: a cheap handle to a namespace, and one connection's own end of the
//! mailbox and inbox.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use lockstep_model::{
    BodyId, ConnectionId, EntityId, EntityName, MessageSessionId, NamespaceId, Now, OutgoingLinkId, RequestId,
};
use rustc_hash::FxHashSet;
use tokio::sync::Notify;

use super::{
    Shared,
    directory::EntityInfo,
    inbox::{Inbox, ToConnection},
    mailbox::{Burst, Mail},
    reader::Read,
};
use crate::core::{Command, Departure};

/// Closed while the owner thread has not taken the connection's last burst.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: AtomicBool,
    wanted: AtomicBool,
    opened: Notify,
}

impl Gate {
    /// A burst is handed over.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether a burst may be handed over.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }

    /// Called by the owner thread when it has taken the burst.
    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        if self.wanted.swap(false, Ordering::SeqCst) {
            self.opened.notify_one();
        }
    }
}

/// A handle to one namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BrokerClient {
    shared: Arc<Shared>,
    namespace: usize,
}

impl BrokerClient {
    pub(crate) const fn new(shared: Arc<Shared>, namespace: usize) -> Self {
        Self { shared, namespace }
    }

    /// The namespace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.directories[self.namespace].name()
    }

    /// Finds an entity by its name, in any letter case.
    #[must_use]
    pub fn lookup(&self, name: &EntityName) -> Option<Arc<EntityInfo>> {
        self.shared.directories[self.namespace].lookup(name)
    }

    /// Opens a connection's end. Dropping it without [`BrokerConnection::close`] counts as a
    /// broken connection.
    #[must_use]
    pub fn connect(&self) -> BrokerConnection {
        let id = ConnectionId(self.shared.new_id());
        BrokerConnection {
            client: self.clone(),
            id,
            inbox: self.shared.inboxes.open(id),
            gate: Arc::default(),
            watched: Mutex::default(),
            departed: false,
        }
    }
}

/// Waits for a connection's inbox and for its turn to submit.
#[derive(Clone, Debug)]
pub struct BrokerWaiter {
    inbox: Arc<Inbox>,
    gate: Arc<Gate>,
}

impl BrokerWaiter {
    /// Waits until a burst can be submitted. Cancel-safe.
    pub async fn submittable(&self) {
        while self.gate.closed.load(Ordering::SeqCst) {
            self.gate.wanted.store(true, Ordering::SeqCst);
            if !self.gate.closed.load(Ordering::SeqCst) {
                return;
            }
            self.gate.opened.notified().await;
        }
    }

    /// Waits for something in the inbox and swaps it into `items`, which must be empty.
    /// Cancel-safe.
    pub async fn receive(&self, items: &mut Vec<ToConnection>) {
        self.inbox.take(items).await;
    }
}

/// One connection's end: bursts of commands go in, effects come out.
#[derive(Debug)]
pub struct BrokerConnection {
    client: BrokerClient,
    id: ConnectionId,
    inbox: Arc<Inbox>,
    gate: Arc<Gate>,
    /// Entities whose changes it is told.
    watched: Mutex<FxHashSet<EntityName>>,
    departed: bool,
}

impl BrokerConnection {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The namespace it works in.
    #[must_use]
    pub const fn client(&self) -> &BrokerClient {
        &self.client
    }

    fn watched(&self) -> MutexGuard<'_, FxHashSet<EntityName>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds an entity, and has the connection told by
    /// [`Effect::EntityChanged`](crate::core::Effect::EntityChanged) when it changes or goes.
    #[must_use]
    pub fn watch(&self, name: &EntityName) -> Option<Arc<EntityInfo>> {
        let found = self.client.shared.directories[self.client.namespace].watch(name, self.id)?;
        self.watched().insert(found.description.name.clone());
        Some(found)
    }

    /// Ends [`BrokerConnection::watch`]; for an entity that is gone, too.
    pub fn unwatch(&self, name: &EntityName) {
        if self.watched().remove(name) {
            self.client.shared.directories[self.client.namespace].unwatch(name, self.id);
        }
    }

    /// A new process-wide name for a link.
    #[must_use]
    pub fn new_link(&self) -> OutgoingLinkId {
        OutgoingLinkId(self.client.shared.new_id())
    }

    /// Whether the owner thread has taken the last burst, so that another may be submitted.
    #[must_use]
    pub fn can_submit(&self) -> bool {
        self.gate.is_open()
    }

    /// Submits commands, in frame order; `arrived` is when their frames were read. Call only when
    /// [`BrokerConnection::can_submit`]; the memory held by a connection that does otherwise is
    /// not bounded.
    pub fn submit(&self, commands: VecDeque<Command>, arrived: Now) {
        if commands.is_empty() {
            return;
        }
        self.gate.close();
        let gate = Arc::clone(&self.gate);
        let namespace = self.client.namespace;
        let connection = self.id;
        self.client.shared.mailbox.post(Mail::Burst(Burst {
            namespace,
            connection,
            commands,
            arrived,
            gate,
        }));
    }

    /// The part of this end that waits; it can be held beside this one.
    #[must_use]
    pub fn waiter(&self) -> BrokerWaiter {
        BrokerWaiter { inbox: Arc::clone(&self.inbox), gate: Arc::clone(&self.gate) }
    }

    /// Swaps what is in the inbox into `items`, which must be empty.
    pub fn try_receive(&self, items: &mut Vec<ToConnection>) {
        self.inbox.try_take(items);
    }

    /// Asks for stored bytes; they come as [`ToConnection::Body`].
    pub fn read_body(&self, body: BodyId) {
        let namespace: NamespaceId = self.client.shared.directories[self.client.namespace].namespace();
        self.client.shared.reader.request(Read::Body { namespace, body, inbox: Arc::clone(&self.inbox) });
    }

    /// Asks for one row of a large message, by its number; it comes as [`ToConnection::BodyPart`].
    pub fn read_body_part(&self, body: BodyId, part: u16) {
        let namespace = self.client.shared.directories[self.client.namespace].namespace();
        let inbox = Arc::clone(&self.inbox);
        self.client.shared.reader.request(Read::BodyPart { namespace, body, part, inbox });
    }

    /// Asks for a stored state; it comes as [`ToConnection::MessageSessionState`].
    pub fn read_message_session_state(
        &self,
        entity: EntityId,
        session: MessageSessionId,
        request: RequestId,
    ) {
        let inbox = Arc::clone(&self.inbox);
        self.client.shared.reader.request(Read::MessageSessionState { entity, session, request, inbox });
    }

    /// Ends the connection's part in the namespace. `unsent` are `Return`s of deliveries that are
    /// not on the wire; they count after the end, so that nothing comes back for them. What is
    /// still in the inbox is put back likewise.
    pub fn close(mut self, departure: Departure, unsent: Vec<Command>) {
        self.depart(departure, unsent);
    }

    fn depart(&mut self, departure: Departure, unsent: Vec<Command>) {
        if std::mem::replace(&mut self.departed, true) {
            return;
        }
        for name in std::mem::take(&mut *self.watched()) {
            self.client.shared.directories[self.client.namespace].unwatch(&name, self.id);
        }
        let gone = Command::ConnectionGone { connection: self.id, departure };
        // Behind every burst submitted before; the gate no longer matters.
        self.client.shared.mailbox.post(Mail::Burst(Burst {
            namespace: self.client.namespace,
            connection: self.id,
            commands: std::iter::once(gone).chain(unsent).collect(),
            arrived: self.client.shared.clock.now(),
            gate: Arc::default(),
        }));
    }
}

impl Drop for BrokerConnection {
    fn drop(&mut self) {
        self.depart(Departure::Lost, Vec::new());
    }
}
