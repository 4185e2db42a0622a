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

impl Fixture {
    fn new(store: &Arc<MemoryStore>) -> Self {
        let definition = NamespaceDefinition {
            name: "sbtest".into(),
            queues: vec![QueueDescription::new(EntityName::new("q").expect("name"))],
        };
        let store: Arc<dyn Store> = Arc::clone(store) as _;
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

    async fn send(&mut self, bodies: &[&'static str]) -> Reply {
        let request = Some(self.request());
        let message = |body: &&'static str| IncomingMessage {
            encoded: Bytes::from_static(body.as_bytes()),
            generated_bytes: 0,
            message_session: None,
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
                ToConnection::Effect(Effect::Deliver(delivery)) => deliveries.push(*delivery),
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
    assert_eq!(fixture.send(&["a", "b"]).await, Reply::Enqueued(SequenceNumber(1)));
    let crashed = Arc::new(store.crash());
    let mut after = Fixture::new(&crashed);
    let (_, deliveries) = after.receive(10).await;
    let numbers: Vec<_> = deliveries.iter().map(|delivery| delivery.sequence_number.0).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(after.send(&["c"]).await, Reply::Enqueued(SequenceNumber(3)));
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
        tokens: vec![deliveries[0].token],
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
    assert_eq!(fixture.send(&["a"]).await, Reply::Enqueued(SequenceNumber(1)));
}

#[tokio::test]
async fn shutting_down_makes_what_was_submitted_durable() {
    let store = Arc::new(MemoryStore::new());
    let fixture = Fixture::new(&store);
    let messages = vec![IncomingMessage {
        encoded: Bytes::from_static(b"last"),
        generated_bytes: 0,
        message_session: None,
    }];
    let (entity, connection) = (fixture.queue, fixture.connection.id());
    fixture.submit([Command::Enqueue(Enqueue { entity, messages, connection, request: None })]).await;
    fixture.connection.close(Departure::Clean, vec![]);
    tokio::task::spawn_blocking(move || fixture.broker.shut_down()).await.expect("threads end");
    let mut after = Fixture::new(&Arc::new(store.crash()));
    assert_eq!(after.receive(10).await.1.len(), 1);
}
