//! The threads together, over the memory store: what leaves, when, and what a failure stops.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use lockstep_model::{
    Clock, EntityId, EntityName, IncomingMessage, MonoTime, Now, OutgoingLinkId, QueueDescription,
    ReceiveMode, RequestId, SequenceNumber, Settlement, Timestamp,
};
use lockstep_store::MemoryStore;

use super::*;
use crate::core::{
    Attach, Command, Delivery, Departure, Effect, Enqueue, LinkIdentity, ReceiveIntent, Reply, SettleVia,
};

/// Stands still: nothing here depends on time.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { mono: MonoTime::from_micros(1), utc: Timestamp::from_unix_millis(1_893_456_000_000) }
    }
}

struct Fixture {
    broker: Broker,
    connection: BrokerConnection,
    queue: EntityId,
    received: VecDeque<ToConnection>,
    next_request: u64,
}

/// How long a test waits for a thread before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A memory store whose syncs wait while the gate is shut.
struct GatedStore {
    inner: Arc<MemoryStore>,
    gate: std::sync::Mutex<Shut>,
    moved: std::sync::Condvar,
}

#[derive(Default)]
struct Shut {
    shut: bool,
    /// Syncs that wait.
    waiting: u32,
}

impl GatedStore {
    fn new(inner: &Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), gate: Default::default(), moved: Default::default() })
    }

    fn shut(&self, shut: bool) {
        self.gate.lock().expect("gate").shut = shut;
        self.moved.notify_all();
    }

    /// Returns when a sync waits at the gate.
    fn wait_for_a_sync(&self) {
        let gate = self.gate.lock().expect("gate");
        let waited = self.moved.wait_timeout_while(gate, PATIENCE, |gate| gate.waiting == 0).expect("gate");
        assert!(!waited.1.timed_out(), "a sync comes to the gate");
    }
}

impl Store for GatedStore {
    fn write(&self, commit: CommitNumber, batch: &lockstep_store::Batch) -> Result<(), StoreError> {
        self.inner.write(commit, batch)
    }

    fn sync(&self, acknowledged: CommitNumber) -> Result<(), StoreError> {
        let mut gate = self.gate.lock().expect("gate");
        gate.waiting += 1;
        self.moved.notify_all();
        let mut gate = self.moved.wait_while(gate, |gate| gate.shut).expect("gate");
        gate.waiting -= 1;
        drop(gate);
        self.inner.sync(acknowledged)
    }

    fn recovered_commit(&self) -> CommitNumber {
        self.inner.recovered_commit()
    }

    fn load(&self, visitor: &mut dyn lockstep_store::LoadVisitor) -> Result<(), StoreError> {
        self.inner.load(visitor)
    }

    fn read_bodies(
        &self,
        namespace: lockstep_model::NamespaceId,
        bodies: &[lockstep_model::BodyId],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.inner.read_bodies(namespace, bodies)
    }

    fn read_body_part(
        &self,
        namespace: lockstep_model::NamespaceId,
        body: lockstep_model::BodyId,
        part: u16,
    ) -> Result<Option<Bytes>, StoreError> {
        self.inner.read_body_part(namespace, body, part)
    }

    fn read_message_session(
        &self,
        entity: EntityId,
        session: &lockstep_model::MessageSessionId,
    ) -> Result<Option<lockstep_store::MessageSessionRecord>, StoreError> {
        self.inner.read_message_session(entity, session)
    }

    fn remove_orphan_bodies(
        &self,
        is_live: &dyn Fn(lockstep_model::NamespaceId, lockstep_model::BodyId) -> bool,
    ) -> Result<u64, StoreError> {
        self.inner.remove_orphan_bodies(is_live)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }
}

impl Fixture {
    fn new(store: &Arc<MemoryStore>) -> Self {
        Self::over(Arc::clone(store) as _)
    }

    fn over(store: Arc<dyn Store>) -> Self {
        let mut queue = QueueDescription::new(EntityName::new("q").expect("name"));
        queue.max_message_size_bytes = lockstep_model::limits::MESSAGE_SIZE_BYTES_MAX;
        let definition = NamespaceDefinition { name: "sbtest".into(), queues: vec![queue] };
        let broker =
            Broker::start(store, Arc::new(Still), &BrokerConfig::default(), &[definition]).expect("starts");
        let client = broker.namespace("SBTEST").expect("namespace");
        let queue = client.lookup(&EntityName::new("Q").expect("name")).expect("queue").id;
        let connection = client.connect();
        Self { broker, connection, queue, received: VecDeque::new(), next_request: 0 }
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    async fn submit(&self, commands: impl IntoIterator<Item = Command>) {
        let submittable =
            tokio::time::timeout(PATIENCE, async { self.connection.waiter().submittable().await });
        submittable.await.expect("the owner takes the burst before");
        self.connection.submit(commands.into_iter().collect(), Still.now());
    }

    async fn next(&mut self) -> ToConnection {
        loop {
            if let Some(item) = self.received.pop_front() {
                return item;
            }
            let mut items = Vec::new();
            let waiter = self.connection.waiter();
            tokio::time::timeout(PATIENCE, waiter.receive(&mut items)).await.expect("an effect in time");
            self.received.extend(items);
        }
    }

    fn enqueue(&mut self, encoded: Bytes) -> Command {
        Command::Enqueue(Enqueue {
            entity: self.queue,
            messages: [IncomingMessage { encoded, ..IncomingMessage::default() }].into(),
            connection: self.connection.id(),
            request: Some(self.request()),
        })
    }

    fn inbox_is_empty(&mut self) -> bool {
        let mut items = Vec::new();
        self.connection.try_receive(&mut items);
        self.received.extend(items);
        self.received.is_empty()
    }

    async fn send(&mut self, bodies: &[&'static str]) -> Reply {
        let request = Some(self.request());
        let message = |body: &&'static str| IncomingMessage {
            encoded: Bytes::from_static(body.as_bytes()),
            ..IncomingMessage::default()
        };
        let messages = bodies.iter().map(message).collect();
        let connection = self.connection.id();
        self.submit([Command::Enqueue(Enqueue { entity: self.queue, messages, connection, request })]).await;
        match self.next().await {
            ToConnection::Effect(Effect::Reply { reply, .. }) => reply,
            other => panic!("expected a reply, got {other:?}"),
        }
    }

    async fn receive(&mut self, limit: u64) -> (OutgoingLinkId, Vec<Delivery>) {
        let link = self.connection.new_link();
        let attach = Attach {
            link,
            connection: self.connection.id(),
            entity: self.queue,
            mode: ReceiveMode::PeekLock,
            intent: ReceiveIntent::Plain,
            identity: LinkIdentity::default(),
        };
        self.submit([Command::Attach(attach), Command::Credit { link, limit, drain: true }]).await;
        let mut deliveries = Vec::new();
        loop {
            match self.next().await {
                ToConnection::Effect(Effect::Deliver(delivery)) => deliveries.push(delivery),
                ToConnection::Effect(Effect::Drained { .. }) => return (link, deliveries),
                ToConnection::Effect(Effect::Attached(_)) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_crash() {
    let store = Arc::new(MemoryStore::new());
    let mut fixture = Fixture::new(&store);
    assert_eq!(
        fixture.send(&["a", "b"]).await,
        Reply::Enqueued { first: SequenceNumber(1), duplicates: vec![] }
    );
    let crashed = Arc::new(store.crash());
    let mut after = Fixture::new(&crashed);
    let (_, deliveries) = after.receive(10).await;
    let numbers: Vec<_> = deliveries.iter().map(|delivery| delivery.sequence_number.0).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(after.send(&["c"]).await, Reply::Enqueued { first: SequenceNumber(3), duplicates: vec![] });
}

#[tokio::test]
async fn a_completed_message_is_gone_after_a_crash_and_its_bytes_with_it() {
    let store = Arc::new(MemoryStore::new());
    let mut fixture = Fixture::new(&store);
    fixture.send(&["a"]).await;
    let (link, deliveries) = fixture.receive(10).await;
    assert_eq!(deliveries[0].body.bytes.as_deref(), Some(&b"a"[..]), "fresh bodies come from memory");
    let request = fixture.request();
    let settle = Command::Settle {
        via: SettleVia::Link(link),
        tokens: [deliveries[0].token].into(),
        settlement: Settlement::Complete,
        connection: fixture.connection.id(),
        request: Some(request),
    };
    fixture.submit([settle]).await;
    let expected = Effect::Reply { request, reply: Reply::Settled(vec![]) };
    assert_eq!(fixture.next().await, ToConnection::Effect(expected));
    let mut after = Fixture::new(&Arc::new(store.crash()));
    assert_eq!(after.receive(10).await.1, []);
}

#[tokio::test]
async fn stored_bodies_are_read_by_the_pool() {
    let store = Arc::new(MemoryStore::new());
    Fixture::new(&store).send(&["kept"]).await;
    let mut after = Fixture::new(&Arc::new(store.crash()));
    let (_, deliveries) = after.receive(1).await;
    assert_eq!(deliveries[0].body.bytes, None, "a restarted broker has no bodies in memory");
    after.connection.read_body(deliveries[0].body.id);
    let body = Ok(Some(Bytes::from_static(b"kept")));
    assert_eq!(after.next().await, ToConnection::Body(deliveries[0].body.id, body));
}

#[tokio::test]
async fn a_probe_resolves_when_a_write_of_its_own_is_durable() {
    let store = Arc::new(MemoryStore::new());
    let fixture = Fixture::new(&store);
    let before = store.crash().recovered_commit();
    tokio::time::timeout(PATIENCE, fixture.broker.probe()).await.expect("in time").expect("durable");
    assert!(store.crash().recovered_commit() > before);
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_sends_by_name() {
    let store = Arc::new(MemoryStore::new());
    let mut fixture = Fixture::new(&store);
    fixture.broker.set_refuse_growth(true);
    assert_eq!(fixture.send(&["a"]).await, Reply::Refused(lockstep_model::Refusal::QuotaExceeded));
    fixture.broker.set_refuse_growth(false);
    assert_eq!(fixture.send(&["a"]).await, Reply::Enqueued { first: SequenceNumber(1), duplicates: vec![] });
}

#[tokio::test]
async fn shutting_down_makes_what_was_submitted_durable() {
    let store = Arc::new(MemoryStore::new());
    let fixture = Fixture::new(&store);
    let messages =
        [IncomingMessage { encoded: Bytes::from_static(b"last"), ..IncomingMessage::default() }].into();
    let (entity, connection) = (fixture.queue, fixture.connection.id());
    fixture.submit([Command::Enqueue(Enqueue { entity, messages, connection, request: None })]).await;
    fixture.connection.close(Departure::Clean, vec![]);
    tokio::task::spawn_blocking(move || fixture.broker.shut_down()).await.expect("threads end");
    let mut after = Fixture::new(&Arc::new(store.crash()));
    assert_eq!(after.receive(10).await.1.len(), 1);
}

#[tokio::test]
async fn nothing_fenced_leaves_before_its_sync() {
    let store = GatedStore::new(&Arc::new(MemoryStore::new()));
    let mut fixture = Fixture::over(Arc::clone(&store) as _);
    store.shut(true);
    let enqueue = fixture.enqueue(Bytes::from_static(b"a"));
    let peek_request = fixture.request();
    let peek = Command::Peek {
        entity: fixture.queue,
        from: SequenceNumber(0),
        count: 10,
        session: None,
        connection: fixture.connection.id(),
        request: peek_request,
    };
    fixture.submit([enqueue, peek]).await;
    store.wait_for_a_sync();
    assert!(fixture.inbox_is_empty(), "neither the outcome nor what peek saw of it");
    store.shut(false);
    assert!(matches!(
        fixture.next().await,
        ToConnection::Effect(Effect::Reply { reply: Reply::Enqueued { first: SequenceNumber(1), .. }, .. })
    ));
    let ToConnection::Effect(Effect::Reply { reply: Reply::Peeked(seen), .. }) = fixture.next().await else {
        panic!("the peek's answer comes behind the send's");
    };
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn sends_over_the_bound_wait_and_keep_their_order_even_when_the_connection_ends() {
    let memory = Arc::new(MemoryStore::new());
    let store = GatedStore::new(&memory);
    let mut fixture = Fixture::over(Arc::clone(&store) as _);
    store.shut(true);
    let big = fixture.enqueue(Bytes::from(vec![0; UNCOMMITTED_BYTES_MAX as usize + 1]));
    let small = fixture.enqueue(Bytes::from_static(b"small"));
    fixture.submit([big, small]).await;
    store.wait_for_a_sync();
    fixture.connection.close(Departure::Clean, vec![]);
    store.shut(false);
    tokio::task::spawn_blocking(move || fixture.broker.shut_down()).await.expect("threads end");
    let mut after = Fixture::new(&Arc::new(memory.crash()));
    let (_, deliveries) = after.receive(10).await;
    let sizes: Vec<_> = deliveries.iter().map(|delivery| u64::from(delivery.body.size_bytes)).collect();
    assert_eq!(sizes, [UNCOMMITTED_BYTES_MAX + 1, 5]);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_released_and_the_failure_is_told() {
    // The first one is that of the start.
    let faults = lockstep_store::Faults { sync: Some(2), ..Default::default() };
    let store = lockstep_store::FaultStore::new(MemoryStore::new(), faults);
    let mut fixture = Fixture::over(Arc::new(store));
    let enqueue = fixture.enqueue(Bytes::from_static(b"a"));
    fixture.submit([enqueue]).await;
    let mut failure = fixture.broker.failure();
    let told = tokio::time::timeout(PATIENCE, failure.wait_for(Option::is_some)).await;
    assert!(told.expect("in time").is_ok());
    assert!(fixture.inbox_is_empty());
    fixture.broker.shut_down();
}

#[tokio::test]
async fn deliveries_left_in_the_inbox_of_a_broken_connection_come_back_uncounted() {
    let store = Arc::new(MemoryStore::new());
    let mut fixture = Fixture::new(&store);
    fixture.send(&["a"]).await;
    let client = fixture.broker.namespace("sbtest").expect("namespace");
    let gone = client.connect();
    let link = gone.new_link();
    let attach = Attach {
        link,
        connection: gone.id(),
        entity: fixture.queue,
        mode: ReceiveMode::PeekLock,
        intent: ReceiveIntent::Plain,
        identity: LinkIdentity::default(),
    };
    let credit = Command::Credit { link, limit: 10, drain: false };
    gone.submit(VecDeque::from([Command::Attach(attach), credit]), Still.now());
    // Never taken out of its inbox.
    drop(gone);
    let (_, deliveries) = fixture.receive(10).await;
    assert_eq!(deliveries.iter().map(|delivery| delivery.delivery_count).collect::<Vec<_>>(), [0]);
}

fn named(name: &str) -> EntityName {
    EntityName::new(name).expect("name")
}

/// The definition of a queue with a text of its own.
fn with_metadata(name: &str, metadata: &str) -> QueueDescription {
    QueueDescription { user_metadata: Some(metadata.into()), ..QueueDescription::new(named(name)) }
}

impl Fixture {
    async fn ask(
        &mut self,
        command: impl FnOnce(lockstep_model::ConnectionId, RequestId) -> Command,
    ) -> Reply {
        let request = self.request();
        self.submit([command(self.connection.id(), request)]).await;
        match self.next().await {
            ToConnection::Effect(Effect::Reply { reply, .. }) => reply,
            other => panic!("expected a reply, got {other:?}"),
        }
    }

    async fn define(&mut self, description: QueueDescription, existence: crate::core::Existence) -> Reply {
        let description = Box::new(description);
        self.ask(|connection, request| Command::DefineQueue { description, existence, connection, request })
            .await
    }
}

/// G-11, G-82.
#[tokio::test]
async fn connections_are_told_of_changes_of_the_entities_that_they_watch() {
    use crate::core::Existence::{Existing, New};
    let mut fixture = Fixture::new(&Arc::new(MemoryStore::new()));
    let Reply::Defined(entity) = fixture.define(with_metadata("new", "1"), New).await else {
        panic!("defined")
    };
    let client = fixture.connection.client().clone();
    assert_eq!(client.lookup(&named("NEW")).map(|info| info.id), Some(entity), "at once");
    let watcher = client.connect();
    assert_eq!(watcher.watch(&named("nothing")), None);
    assert_eq!(watcher.watch(&named("New")).map(|info| info.id), Some(entity));
    let stranger = client.connect();
    let told = async || {
        let mut items = Vec::new();
        tokio::time::timeout(PATIENCE, watcher.waiter().receive(&mut items)).await.expect("told in time");
        items
    };
    let changed = [ToConnection::Effect(Effect::EntityChanged(entity, named("new")))];
    fixture.define(with_metadata("new", "2"), Existing).await;
    assert_eq!(told().await, changed);
    assert_eq!(
        client.lookup(&named("new")).and_then(|info| info.description.user_metadata.clone()),
        Some("2".into())
    );
    fixture.ask(|connection, request| Command::DeleteQueue { entity, connection, request }).await;
    assert_eq!(told().await, changed);
    assert_eq!(client.lookup(&named("new")), None);
    // One that was watched and is gone is another one when it comes again.
    watcher.unwatch(&named("new"));
    fixture.define(with_metadata("new", "3"), New).await;
    fixture.define(with_metadata("new", "4"), Existing).await;
    let mut items = Vec::new();
    watcher.try_receive(&mut items);
    stranger.try_receive(&mut items);
    assert_eq!(items, []);
}

#[tokio::test]
async fn queues_made_at_run_time_stay_and_the_file_wins_for_those_it_names() {
    use crate::core::Existence::{Existing, New};
    let store = Arc::new(MemoryStore::new());
    let mut fixture = Fixture::new(&store);
    assert_eq!(fixture.broker.warnings(), [""; 0]);
    fixture.define(with_metadata("new", "kept"), New).await;
    let mut changed = with_metadata("q", "changed");
    changed.enable_express = true;
    fixture.define(changed, Existing).await;
    let after = Fixture::new(&Arc::new(store.crash()));
    let metadata =
        |name: &str| after.connection.client().lookup(&named(name)).expect("there").description.clone();
    assert_eq!(metadata("new").user_metadata, Some("kept".into()));
    assert_eq!(metadata("q").user_metadata, None);
    assert!(metadata("q").enable_express, "a file says nothing of it");
    let warning = "queue 'q' of namespace 'sbtest' is stored with another max_message_size_bytes, user_metadata: \
                   the configuration file wins";
    assert_eq!(after.broker.warnings(), [warning]);
}
