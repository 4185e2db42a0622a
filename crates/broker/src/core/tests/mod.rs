//! Tests of the core through its commands and effects, over a memory store.

mod accepting;
mod auto_renewal;
mod batch_delete;
mod bounds;
mod deferral;
mod duplicates;
mod expiry;
mod holding;
mod large;
mod lifecycle;
mod model;
mod peeking;
mod plain_queue;
mod redelivery;
mod reserved;
mod restart;
mod scheduling;
mod sending;
mod settling;
mod state;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use lockstep_model::{
    BodyId, CommitNumber, ConnectionId, EntityDescription, EntityId, EntityName, IncomingMessage, LockToken,
    MessageSessionId, MessageState, MonoTime, NamespaceId, Now, OutgoingLinkId, PropertyOverlay,
    QueueDescription, ReceiveMode, Refusal, RequestId, SequenceNumber, Settlement, SubQueue, Timestamp,
};
use lockstep_store::{
    CounterRecord, DuplicateRecord, LoadVisitor, MemoryStore, MessageOverlayRecord, MessageRecord,
    MessageSessionRecord, NamespaceRecord, Store,
};

use super::*;

pub(super) const LOCK: Duration = Duration::from_secs(60);
pub(super) const MAX_DELIVERY_COUNT: u32 = 3;

/// Counts tokens up.
#[derive(Debug, Default)]
pub(super) struct Tokens(pub(super) u128);

impl IdSource for Tokens {
    fn lock_token(&mut self) -> LockToken {
        self.0 += 1;
        LockToken::from_uuid_bytes(self.0.to_be_bytes())
    }
}

pub(super) fn id(text: &str) -> MessageSessionId {
    MessageSessionId::new(text).expect("short enough")
}

pub(super) fn link(number: u64) -> OutgoingLinkId {
    OutgoingLinkId(number)
}

pub(super) fn connection(number: u64) -> ConnectionId {
    ConnectionId(number)
}

pub(super) fn message(session: Option<&str>, text: &str) -> IncomingMessage {
    IncomingMessage {
        encoded: Bytes::copy_from_slice(text.as_bytes()),
        generated_bytes: 0,
        message_session: session.map(id),
        ..IncomingMessage::default()
    }
}

/// A namespace with its store and clock. Every command is committed at once, unless
/// [`Broker::hold_commits`] was called.
pub(super) struct Broker {
    pub(super) namespace: Namespace,
    pub(super) store: MemoryStore,
    pub(super) now: Now,
    pub(super) config: CoreConfig,
    tokens: Tokens,
    commit: CommitNumber,
    fenced: VecDeque<Routed>,
    commits_held: bool,
    next_request: u64,
}

impl Broker {
    pub(super) fn new(config: CoreConfig) -> Self {
        let start = Now { mono: MonoTime::from_micros(0), utc: Timestamp::from_unix_millis(1_000_000) };
        Self {
            namespace: Namespace::new(NamespaceId(1), "ns".into(), config),
            store: MemoryStore::new(),
            now: start,
            config,
            tokens: Tokens::default(),
            commit: CommitNumber(1),
            fenced: VecDeque::new(),
            commits_held: false,
            next_request: 0,
        }
    }

    /// A broker with one queue without message sessions.
    pub(super) fn with_queue() -> (Self, EntityId) {
        let mut broker = Self::new(CoreConfig::default());
        let queue = broker.define("q", false);
        (broker, queue)
    }

    /// A broker with one queue with message sessions.
    pub(super) fn with_session_queue() -> (Self, EntityId) {
        let mut broker = Self::new(CoreConfig::default());
        let queue = broker.define("q", true);
        (broker, queue)
    }

    pub(super) fn description(name: &str, requires_session: bool) -> QueueDescription {
        let mut description = QueueDescription::new(EntityName::new(name).expect("valid"));
        description.requires_session = requires_session;
        description.lock_duration = LOCK;
        description.max_delivery_count = MAX_DELIVERY_COUNT;
        description.max_message_size_bytes = 1024;
        description
    }

    pub(super) fn define(&mut self, name: &str, requires_session: bool) -> EntityId {
        self.define_as(Self::description(name, requires_session)).expect("valid")
    }

    pub(super) fn define_as(&mut self, description: QueueDescription) -> Result<EntityId, DefineError> {
        let mut out = Output::default();
        let result = self.namespace.define_queue(description, self.now.utc, &mut out);
        self.namespace.plan_all(self.now.utc);
        self.write(&mut out);
        self.store.sync(CommitNumber(self.commit.0 - 1)).expect("memory");
        result
    }

    fn write(&mut self, out: &mut Output) {
        self.namespace.seal(out);
        if !out.batch.is_empty() {
            self.store.write(self.commit, &out.batch).expect("memory");
            self.commit = self.commit.next();
        }
    }

    /// From now on nothing is durable until [`Broker::commit`].
    pub(super) fn hold_commits(&mut self) {
        self.commits_held = true;
    }

    /// Runs a command; what leaves the broker because of it.
    pub(super) fn run(&mut self, command: Command) -> Vec<Routed> {
        let mut seen = self.step(command);
        if !self.commits_held {
            seen.extend(self.commit());
        }
        seen
    }

    fn step(&mut self, command: Command) -> Vec<Routed> {
        let mut out = Output::default();
        self.namespace.apply(self.now, self.commit, command, &mut self.tokens, &mut out);
        self.write(&mut out);
        self.fenced.extend(std::mem::take(&mut out.fenced));
        out.immediate
    }

    /// Makes everything durable, also what comes of that.
    pub(super) fn commit(&mut self) -> Vec<Routed> {
        let mut seen = Vec::new();
        loop {
            let durable = CommitNumber(self.commit.0 - 1);
            self.store.sync(durable).expect("memory");
            seen.extend(self.fenced.drain(..));
            seen.extend(self.step(Command::Committed(durable)));
            if self.store.unsynced_batches() == 0 && self.fenced.is_empty() {
                return seen;
            }
        }
    }

    /// Lets time pass, unnoticed.
    pub(super) fn advance(&mut self, duration: Duration) {
        self.now = Now { mono: self.now.mono.plus(duration), utc: self.now.utc.plus(duration) };
    }

    pub(super) fn tick(&mut self) -> Vec<Routed> {
        self.run(Command::Tick)
    }

    /// Lets time pass and the broker notice, until nothing is overdue.
    pub(super) fn pass(&mut self, duration: Duration) -> Vec<Routed> {
        self.advance(duration);
        let mut seen = Vec::new();
        while self.namespace.next_deadline().is_some_and(|at| at <= self.now.mono)
            || self.namespace.next_due().is_some_and(|at| at <= self.now.utc)
        {
            seen.extend(self.tick());
        }
        seen
    }

    /// Asks for deferred messages on connection `number`.
    pub(super) fn receive_deferred(
        &mut self,
        entity: EntityId,
        number: u64,
        numbers: &[u64],
        session: Option<&str>,
        mode: ReceiveMode,
    ) -> Reply {
        let request = self.request();
        reply(&self.run(Command::ReceiveBySequenceNumbers(ReceiveBySequenceNumbers {
            entity,
            sequence_numbers: numbers.iter().copied().map(SequenceNumber).collect(),
            mode,
            message_session: session.map(id),
            holder: claim(number),
            request,
        })))
    }

    /// Locks deferred messages that are there.
    pub(super) fn deferred(
        &mut self,
        entity: EntityId,
        number: u64,
        numbers: &[u64],
        session: Option<&str>,
    ) -> Vec<Delivery> {
        match self.receive_deferred(entity, number, numbers, session, ReceiveMode::PeekLock) {
            Reply::Deferred(deliveries) => deliveries,
            other => panic!("not received: {other:?}"),
        }
    }

    pub(super) fn defer(&mut self, number: u64, token: LockToken) -> Option<Refusal> {
        self.settle(number, token, Settlement::Defer(PropertyOverlay::new()))
    }

    pub(super) fn cancel(&mut self, entity: EntityId, numbers: &[u64]) -> Reply {
        let request = self.request();
        let sequence_numbers = numbers.iter().copied().map(SequenceNumber).collect();
        let connection = connection(97);
        reply(&self.run(Command::CancelScheduled { entity, sequence_numbers, connection, request }))
    }

    /// Changes the properties of a queue at run time.
    pub(super) fn redefine(&mut self, description: QueueDescription) -> Vec<Routed> {
        let (request, connection) = (self.request(), connection(97));
        let description = Box::new(description);
        let existence = Existence::Existing;
        self.run(Command::DefineQueue { description, existence, connection, request })
    }

    pub(super) fn states(&mut self, entity: EntityId) -> Vec<(u64, MessageState)> {
        self.peek(entity, 0, 1000, None).iter().map(|m| (m.sequence_number.0, m.state)).collect()
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// What a crash would leave, started again.
    pub(super) fn crash(&self) -> Self {
        let store = self.store.crash();
        let mut broker = Self::new(self.config);
        broker.now = self.now;
        broker.tokens = Tokens(self.tokens.0 + 1_000_000);
        broker.commit = store.recovered_commit().next();
        let mut loading = Loading { namespace: Namespace::new(NamespaceId(1), "ns".into(), self.config) };
        store.load(&mut loading).expect("memory");
        loading.namespace.finish_restore(self.now.utc);
        let live = |_, body| loading.namespace.is_live_body(body);
        store.remove_orphan_bodies(&live).expect("memory");
        broker.namespace = loading.namespace;
        broker.store = store;
        broker
    }

    // Commands.

    pub(super) fn send_all(&mut self, entity: EntityId, messages: Vec<IncomingMessage>) -> Reply {
        let request = Some(self.request());
        let enqueue = Enqueue { entity, messages: messages.into(), connection: connection(99), request };
        reply(&self.run(Command::Enqueue(enqueue)))
    }

    /// Sends one message; everything that leaves because of it.
    pub(super) fn send(&mut self, entity: EntityId, session: Option<&str>) -> Vec<Routed> {
        let messages = [message(session, "body")].into();
        let enqueue = Enqueue { entity, messages, connection: connection(99), request: None };
        self.run(Command::Enqueue(enqueue))
    }

    pub(super) fn attach(
        &mut self,
        entity: EntityId,
        number: u64,
        intent: ReceiveIntent,
        mode: ReceiveMode,
    ) -> Vec<Routed> {
        self.attach_as(entity, number, intent, mode, LinkIdentity::default())
    }

    /// Attaches link `number` on connection `number`.
    pub(super) fn attach_as(
        &mut self,
        entity: EntityId,
        number: u64,
        intent: ReceiveIntent,
        mode: ReceiveMode,
        identity: LinkIdentity,
    ) -> Vec<Routed> {
        self.run(Command::Attach(Attach {
            link: link(number),
            connection: connection(number),
            entity,
            mode,
            intent,
            identity,
        }))
    }

    pub(super) fn receiver(&mut self, entity: EntityId, number: u64, limit: u64) -> Vec<Routed> {
        self.attach(entity, number, ReceiveIntent::Plain, ReceiveMode::PeekLock);
        self.credit(number, limit)
    }

    pub(super) fn deleting_receiver(&mut self, entity: EntityId, number: u64, limit: u64) -> Vec<Routed> {
        self.attach(entity, number, ReceiveIntent::Plain, ReceiveMode::ReceiveAndDelete);
        self.credit(number, limit)
    }

    pub(super) fn accept(&mut self, entity: EntityId, number: u64, session: &str) -> Vec<Routed> {
        let intent = ReceiveIntent::AcceptMessageSession(id(session));
        self.attach(entity, number, intent, ReceiveMode::PeekLock)
    }

    pub(super) fn accept_next(&mut self, entity: EntityId, number: u64) -> Vec<Routed> {
        let intent = ReceiveIntent::AcceptNextMessageSession { wait: Duration::from_secs(30) };
        self.attach(entity, number, intent, ReceiveMode::PeekLock)
    }

    pub(super) fn credit(&mut self, number: u64, limit: u64) -> Vec<Routed> {
        self.run(Command::Credit { link: link(number), limit, drain: false })
    }

    pub(super) fn drain(&mut self, number: u64, limit: u64) -> Vec<Routed> {
        self.run(Command::Credit { link: link(number), limit, drain: true })
    }

    pub(super) fn detach(&mut self, number: u64) -> Vec<Routed> {
        self.run(Command::Detach { link: link(number), departure: Departure::Clean })
    }

    pub(super) fn break_connection(&mut self, number: u64) -> Vec<Routed> {
        self.run(Command::ConnectionGone { connection: connection(number), departure: Departure::Lost })
    }

    /// Settles on link and connection `number`; everything that leaves because of it.
    pub(super) fn settle_all(
        &mut self,
        number: u64,
        tokens: &[LockToken],
        settlement: Settlement,
    ) -> Vec<Routed> {
        let request = Some(self.request());
        self.run(Command::Settle {
            via: SettleVia::Link(link(number)),
            tokens: tokens.into(),
            settlement,
            connection: connection(number),
            request,
        })
    }

    /// Settles one message; why that failed, if it did.
    pub(super) fn settle(
        &mut self,
        number: u64,
        token: LockToken,
        settlement: Settlement,
    ) -> Option<Refusal> {
        let seen = self.settle_all(number, &[token], settlement);
        match reply(&seen) {
            Reply::Settled(failures) => failures.into_iter().next().map(|(_, refusal)| refusal),
            other => panic!("not a settlement: {other:?}"),
        }
    }

    pub(super) fn complete(&mut self, number: u64, token: LockToken) -> Option<Refusal> {
        self.settle(number, token, Settlement::Complete)
    }

    pub(super) fn abandon(&mut self, number: u64, token: LockToken) -> Option<Refusal> {
        self.settle(number, token, Settlement::Abandon(PropertyOverlay::new()))
    }

    /// Settles by management on connection `number`.
    pub(super) fn manage(
        &mut self,
        entity: EntityId,
        number: u64,
        tokens: &[LockToken],
        settlement: Settlement,
    ) -> Reply {
        let request = Some(self.request());
        reply(&self.run(Command::Settle {
            via: SettleVia::Management(entity),
            tokens: tokens.into(),
            settlement,
            connection: connection(number),
            request,
        }))
    }

    pub(super) fn renew(&mut self, entity: EntityId, number: u64, tokens: &[LockToken]) -> Reply {
        let request = self.request();
        let (tokens, connection) = (tokens.to_vec(), connection(number));
        reply(&self.run(Command::RenewMessageLocks { entity, tokens, connection, request }))
    }

    pub(super) fn renew_session(&mut self, entity: EntityId, number: u64, session: &str) -> Reply {
        let request = self.request();
        let (session, holder) = (id(session), claim(number));
        reply(&self.run(Command::RenewMessageSessionLock { entity, session, holder, request }))
    }

    pub(super) fn state(&mut self, entity: EntityId, number: u64, session: &str) -> Reply {
        let request = self.request();
        let (session, holder) = (id(session), claim(number));
        reply(&self.run(Command::GetMessageSessionState { entity, session, holder, request }))
    }

    pub(super) fn set_state(
        &mut self,
        entity: EntityId,
        number: u64,
        session: &str,
        state: Option<&[u8]>,
    ) -> Reply {
        let request = self.request();
        let (session, holder) = (id(session), claim(number));
        let state = state.map(Bytes::copy_from_slice);
        reply(&self.run(Command::SetMessageSessionState { entity, session, state, holder, request }))
    }

    pub(super) fn list(
        &mut self,
        entity: EntityId,
        state_updated_after: Option<Timestamp>,
        skip: u32,
        top: u32,
    ) -> Vec<String> {
        let request = self.request();
        let connection = connection(98);
        let list =
            Command::ListMessageSessions { entity, state_updated_after, skip, top, connection, request };
        match reply(&self.run(list)) {
            Reply::MessageSessions(ids) => ids.iter().map(ToString::to_string).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }

    pub(super) fn peek(
        &mut self,
        entity: EntityId,
        from: u64,
        count: u32,
        session: Option<&str>,
    ) -> Vec<PeekedMessage> {
        let request = self.request();
        let (from, session) = (SequenceNumber(from), session.map(id));
        let peek = Command::Peek { entity, from, count, session, connection: connection(98), request };
        match reply(&self.run(peek)) {
            Reply::Peeked(messages) => messages,
            other => panic!("not a peek: {other:?}"),
        }
    }

    /// Sequence numbers and delivery counts of all messages.
    pub(super) fn contents(&mut self, entity: EntityId) -> Vec<(u64, u32)> {
        self.peek(entity, 0, 1000, None).iter().map(|m| (m.sequence_number.0, m.delivery_count)).collect()
    }
}

/// Loads a namespace from a store.
pub(super) struct Loading {
    pub(super) namespace: Namespace,
}

impl LoadVisitor for Loading {
    fn namespace(&mut self, _: NamespaceId, record: NamespaceRecord) {
        self.namespace.restore_record(record);
    }
    fn entity(&mut self, id: EntityId, description: EntityDescription) {
        self.namespace.restore_entity(id, description);
    }
    fn counter(&mut self, id: EntityId, record: CounterRecord) {
        self.namespace.restore_counter(id, record);
    }
    fn message_session(&mut self, id: EntityId, session: MessageSessionId, record: MessageSessionRecord) {
        self.namespace.restore_message_session(id, session, record.updated_at, record.state.len() as u64);
    }
    fn message(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageRecord) {
        self.namespace.restore_message(id, sequence_number, record);
    }
    fn overlay(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageOverlayRecord) {
        self.namespace.restore_overlay(id, sequence_number, record);
    }
    fn duplicate(&mut self, id: EntityId, record: DuplicateRecord) {
        self.namespace.restore_duplicate(id, record);
    }
}

pub(super) fn claim(number: u64) -> HolderClaim {
    HolderClaim { connection: connection(number), link: None }
}

pub(super) fn dead_letter(entity: EntityId) -> EntityId {
    entity.with_sub_queue(SubQueue::DeadLetter)
}

/// The reply to a send of messages that were all stored.
pub(super) fn enqueued(first: u64) -> Reply {
    Reply::Enqueued { first: SequenceNumber(first), duplicates: Vec::new() }
}

/// The one reply among effects.
pub(super) fn reply(seen: &[Routed]) -> Reply {
    let mut replies = seen.iter().filter_map(|routed| match &routed.effect {
        Effect::Reply { reply, .. } => Some(reply.clone()),
        _ => None,
    });
    let first = replies.next().expect("a reply");
    assert_eq!(replies.next(), None, "one reply");
    first
}

pub(super) fn deliveries(seen: &[Routed]) -> Vec<Delivery> {
    let delivery = |routed: &Routed| match &routed.effect {
        Effect::Deliver(delivery) => Some(delivery.clone()),
        _ => None,
    };
    seen.iter().filter_map(delivery).collect()
}

/// Link, sequence number and delivery count of each delivery.
pub(super) fn delivered(seen: &[Routed]) -> Vec<(u64, u64, u32)> {
    deliveries(seen).iter().map(|d| (d.link.0, d.sequence_number.0, d.delivery_count)).collect()
}

/// The lock tokens of deliveries.
pub(super) fn tokens(seen: &[Routed]) -> Vec<LockToken> {
    deliveries(seen).iter().map(|delivery| delivery.token).collect()
}

/// The message session that each granted link got.
pub(super) fn granted(seen: &[Routed]) -> Vec<(u64, String)> {
    let grant = |routed: &Routed| match &routed.effect {
        Effect::Attached(AttachGrant { link, message_session: Some((session, _)) }) => {
            Some((link.0, session.to_string()))
        }
        _ => None,
    };
    seen.iter().filter_map(grant).collect()
}

/// Why each refused link was refused.
pub(super) fn refused(seen: &[Routed]) -> Vec<(u64, Refusal)> {
    let refusal = |routed: &Routed| match &routed.effect {
        Effect::AttachRefused { link, refusal } => Some((link.0, refusal.clone())),
        _ => None,
    };
    seen.iter().filter_map(refusal).collect()
}

/// Detached links with their causes.
pub(super) fn detached(seen: &[Routed]) -> Vec<(u64, Option<Refusal>)> {
    let cause = |routed: &Routed| match &routed.effect {
        Effect::Detached { link, cause } => Some((link.0, cause.clone())),
        _ => None,
    };
    seen.iter().filter_map(cause).collect()
}

pub(super) fn body_of(store: &MemoryStore, body: BodyId) -> Option<Bytes> {
    store.read_bodies(NamespaceId(1), &[body]).expect("memory").remove(0)
}
