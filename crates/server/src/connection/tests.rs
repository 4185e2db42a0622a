//! A connection over a real broker with a memory store and a clock turned by hand: the engine in
//! its client role on the other side, bytes carried between the two by the test.

mod administration;
mod driven;
mod large;
mod reply_reads;

use std::{sync::Arc, time::Duration};

use lockstep_amqp::{
    self as amqp, AmqpSessionId, ClientSasl, CloseReason, Event, LinkId,
    types::{Attach, Error, Fields, Role, Source, Symbol, Target, TargetTerminus, Value},
};
use lockstep_broker::runtime::{
    Broker, BrokerConfig, MEMORY_BYTES_DEFAULT, MemoryBudget, NamespaceDefinition,
};
use lockstep_model::{Clock, EntityName, QueueDescription, Right};
use lockstep_store::MemoryStore;
use lockstep_testkit::ManualClock;

use super::{idleness::IdleRules, *};
use crate::{
    config::{NamespaceConfig, PolicyConfig, Secret},
    turns::Turns,
};

/// Turns of the loop that carries bytes, after which a test gives up waiting for the broker's
/// threads.
const TURNS_MAX: u32 = 5_000_000;
const IDLE_TIME_OUT: Duration = Duration::from_secs(30);
const UNREAD_TIMEOUT: Duration = Duration::from_secs(12);

/// A policy that may do everything, beside one that may not.
fn administrator(policy: &PolicyConfig) -> PolicyConfig {
    let rights = vec![Right::Send, Right::Listen, Right::Manage];
    PolicyConfig { name: "all".into(), primary_key: Secret::new("all-key"), rights, ..policy.clone() }
}

struct World {
    clock: ManualClock,
    context: Arc<ServerContext>,
    _broker: Broker,
}

impl World {
    fn new() -> Self {
        Self::with(&BrokerConfig::default(), IdleRules::default())
    }

    fn with_idle_rules(idle_rules: IdleRules) -> Self {
        Self::with(&BrokerConfig::default(), idle_rules)
    }

    fn with(config: &BrokerConfig, idle_rules: IdleRules) -> Self {
        let clock = ManualClock::default();
        let mut queue = QueueDescription::new(EntityName::new("orders").expect("name"));
        queue.requires_session = true;
        queue.max_message_size_bytes = lockstep_model::limits::MESSAGE_SIZE_BYTES_MAX;
        let definition = NamespaceDefinition { name: "sbtest".into(), queues: vec![queue] };
        let store = Arc::new(MemoryStore::new());
        let broker = Broker::start(store, Arc::new(clock.clone()), config, &[definition]).expect("starts");
        let policy = PolicyConfig {
            name: "root".into(),
            primary_key: Secret::new("key"),
            secondary_key: None,
            rights: vec![Right::Send, Right::Listen],
            scope: None,
        };
        let config = NamespaceConfig {
            name: "sbtest".into(),
            host_names: vec![],
            policies: vec![administrator(&policy), policy],
            queues: vec![],
            topics_left_out: vec!["events".into()],
            client_certificates: vec![],
        };
        let client = broker.namespace("sbtest").expect("namespace");
        let engine_config = amqp::Config {
            idle_time_out_ms: Some(IDLE_TIME_OUT.as_millis() as u32),
            sasl: amqp::SaslPolicy {
                mechanisms: ["PLAIN", "ANONYMOUS"].map(Symbol::new).to_vec(),
                required: false,
            },
            ..amqp::Config::default()
        };
        let engine_config = Arc::new(engine_config);
        let context = Arc::new(ServerContext {
            namespaces: vec![NamespaceContext { config, client }],
            clock: Arc::new(clock.clone()),
            engine_config_external: Arc::clone(&engine_config),
            engine_config,
            unstored_bytes: Arc::default(),
            memory: Arc::new(MemoryBudget::new(MEMORY_BYTES_DEFAULT)),
            unread_timeout: UNREAD_TIMEOUT,
            idle_rules,
            started_at: clock.now().utc,
        });
        Self { clock, context, _broker: broker }
    }

    fn now(&self) -> amqp::Time {
        amqp::Time(self.clock.now().mono.micros())
    }

    /// A connection whose open was answered.
    fn connect(&self, mechanism: &str, response: &'static [u8]) -> Peer<'_> {
        self.connect_with(mechanism, response, amqp::Config::default())
    }

    fn connect_with(&self, mechanism: &str, response: &'static [u8], config: amqp::Config) -> Peer<'_> {
        let sasl = ClientSasl {
            mechanism: Symbol::new(mechanism),
            initial_response: Some(Bytes::from_static(response)),
        };
        let config = Arc::new(amqp::Config { hostname: Some("sbtest".into()), ..config });
        let engine = amqp::Connection::server(Arc::clone(&self.context.engine_config), self.now());
        let mut peer = Peer {
            world: self,
            client: amqp::Connection::client(config, Some(sasl), self.now()),
            server: Connection::new(engine, Arc::clone(&self.context), (None, None), self.clock.now()),
            events: VecDeque::new(),
        };
        peer.until("open", |event| matches!(event, Event::Opened(_)).then_some(()));
        peer
    }
}

/// A client and its connection.
struct Peer<'a> {
    world: &'a World,
    client: amqp::Connection,
    server: Connection,
    events: VecDeque<Event>,
}

impl Peer<'_> {
    /// Carries what is there, both ways.
    fn carry(&mut self) {
        let now = self.world.clock.now();
        let sent = self.client.transmit().to_vec();
        self.client.transmitted(sent.len());
        if !sent.is_empty() {
            self.server.engine.receive_buffer().extend_from_slice(&sent);
            self.server.process(now);
        }
        let mut items = Vec::new();
        if let Some(broker) = self.server.broker() {
            broker.try_receive(&mut items);
        }
        self.server.received(&mut items, now);
        self.server.settle_turn();
        let sent = self.server.engine.transmit().to_vec();
        self.server.engine.transmitted(sent.len());
        if !sent.is_empty() {
            self.client.receive_buffer().extend_from_slice(&sent);
            self.client.process(self.world.now());
        }
        while let Some(event) = self.client.poll_event() {
            self.events.push_back(event);
        }
    }

    /// The first event that `wanted` takes; those before it are passed over.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        for _ in 0..TURNS_MAX {
            while let Some(event) = self.events.pop_front() {
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
            self.carry();
            std::thread::yield_now();
        }
        panic!("waiting for {what}");
    }

    fn begin(&mut self) -> AmqpSessionId {
        let begun = self.client.begin().expect("open");
        self.until("begin", |event| matches!(event, Event::AmqpSessionBegun(_)).then_some(()));
        begun
    }

    /// Attaches to `address`; the refusal's error, if it is refused.
    fn attach(&mut self, attach: Attach) -> Result<LinkId, Error> {
        let session = self.begin();
        let link = self.client.attach(session, attach).expect("begun");
        self.until("attach", |event| match event {
            Event::AttachAnswered { attach, .. } if attach.source.is_some() && attach.target.is_some() => {
                Some(Ok(link))
            }
            Event::Detached { error: Some(error), .. } => Some(Err(error.clone())),
            _ => None,
        })
    }

    fn closed_with(&mut self) -> Option<Error> {
        self.until("close", |event| match event {
            Event::Closed(CloseReason::Remote(error)) => Some(error.clone()),
            _ => None,
        })
    }
}

fn attach(role: Role, address: &str) -> Attach {
    let node = Some(Value::string(address));
    let (source, target) = match role {
        Role::Receiver => (Source { address: node, ..Source::default() }, Target::default()),
        Role::Sender => (Source::default(), Target { address: node, ..Target::default() }),
    };
    Attach {
        name: "link".into(),
        handle: 0,
        role,
        snd_settle_mode: None,
        rcv_settle_mode: None,
        source: Some(source),
        target: Some(TargetTerminus::Target(target)),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: Some(0),
        max_message_size: None,
        offered_capabilities: vec![],
        desired_capabilities: vec![],
        properties: None,
    }
}

fn accept(id: &str) -> Attach {
    let mut attach = attach(Role::Receiver, "orders");
    let mut filter = Fields::default();
    filter.insert("com.microsoft:session-filter", Value::string(id));
    attach.source.as_mut().expect("a source").filter = Some(filter);
    attach
}

const ROOT: &[u8] = b"\0root\0key";

/// Semantics B-101.
#[test]
fn a_connection_without_a_token_is_closed_after_twenty_seconds() {
    let world = World::new();
    let mut peer = world.connect("ANONYMOUS", b"");
    world.clock.advance(Duration::from_secs(19));
    peer.server.on_timeout(world.clock.now());
    assert!(!peer.server.is_closed());
    world.clock.advance(Duration::from_secs(1));
    peer.server.on_timeout(world.clock.now());
    let error = peer.closed_with().expect("a reason");
    assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
}

#[test]
fn what_exists_is_not_told_to_those_who_have_shown_nothing() {
    let world = World::new();
    for address in ["orders", "missing"] {
        let mut peer = world.connect("ANONYMOUS", b"");
        let error = peer.attach(attach(Role::Sender, address)).expect_err("no token");
        assert_eq!(error.condition.as_str(), "amqp:unauthorized-access", "{address}");
    }
}

/// Bytes that became no command were counted until the next command, so that a connection without
/// one was not read any more.
#[test]
fn refused_messages_do_not_stop_the_reading() {
    const MESSAGES: u8 = 20;
    let garbage = Bytes::from(vec![0xff; 64 * 1024]);
    assert!(usize::from(MESSAGES) * garbage.len() > COMMAND_BYTES_MAX);
    let world = World::new();
    let mut peer = world.connect("PLAIN", ROOT);
    let link = peer.attach(attach(Role::Sender, "orders")).expect("granted");
    peer.until("credit", |event| matches!(event, Event::Credit { .. }).then_some(()));
    for number in 0..MESSAGES {
        let delivery = amqp::OutgoingDelivery {
            tag: Bytes::copy_from_slice(&[number]),
            message_format: 0,
            settled: false,
            prefix: Bytes::new(),
            rest: garbage.clone(),
        };
        peer.client.send(link, delivery).expect("credit");
        let state = peer.until("a refusal", |event| match event {
            Event::Disposed { state: Some(state), .. } => Some(state.clone()),
            _ => None,
        });
        let rejected =
            matches!(state, amqp::types::DeliveryState::Outcome(amqp::types::Outcome::Rejected(Some(_))));
        assert!(rejected, "{state:?}");
        assert!(peer.server.may_read(), "behind message {number}");
    }
}

/// Semantics A-68: silence is no good-bye, so the lock runs on.
#[test]
fn a_client_that_falls_silent_keeps_its_message_session_lock() {
    let world = World::new();
    let mut holder = world.connect("PLAIN", ROOT);
    holder.attach(accept("s")).expect("granted");
    world.clock.advance(IDLE_TIME_OUT);
    holder.server.on_timeout(world.clock.now());
    assert_eq!(holder.closed_with().expect("a reason").condition.as_str(), "amqp:resource-limit-exceeded");
    let mut other = world.connect("PLAIN", ROOT);
    // Under another name: the same client would take its own lock over.
    let attach = Attach { name: "other".into(), ..accept("s") };
    let error = other.attach(attach).expect_err("held until it expires");
    assert_eq!(error.condition.as_str(), "com.microsoft:session-cannot-be-locked");
    other.attach(accept("s")).expect("the client itself, back again");
}

/// What a peer is told within `seconds`, looked at every second.
fn told_within<T>(peer: &mut Peer<'_>, seconds: u64, wanted: impl Fn(&Event) -> Option<T>) -> Option<T> {
    for _ in 0..seconds {
        peer.world.clock.advance(Duration::from_secs(1));
        peer.server.on_timeout(peer.world.clock.now());
        peer.client.on_timeout(peer.world.now());
        peer.carry();
        peer.carry();
        let found = peer.events.drain(..).find_map(|event| wanted(&event));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn detached_by_force(event: &Event) -> Option<LinkId> {
    match event {
        Event::Detached { link, error: Some(error), .. } => {
            assert_eq!(error.condition.as_str(), "amqp:link:detach-forced");
            Some(*link)
        }
        _ => None,
    }
}

/// Wire.md 1.4, semantics A-69.
#[test]
fn links_that_nobody_uses_are_detached_where_that_is_configured() {
    let link = Some(Duration::from_secs(100));
    let world = World::with_idle_rules(IdleRules { link, connection: None });
    let mut peer = world.connect("PLAIN", ROOT);
    let sender = peer.attach(attach(Role::Sender, "orders")).expect("attached");
    let holder = peer.attach(Attach { name: "holder".into(), ..accept("s") }).expect("granted");
    assert_eq!(told_within(&mut peer, 99, detached_by_force), None);
    assert_eq!(told_within(&mut peer, 60, detached_by_force), Some(sender));
    // The holder of a message session is never idle; without its lock being renewed it is told
    // of the loss instead.
    let lost = told_within(&mut peer, 600, |event| match event {
        Event::Detached { link, error: Some(error), .. } => Some((*link, error.condition.to_string())),
        _ => None,
    });
    assert!(lost.is_none_or(|lost| lost == (holder, "com.microsoft:session-lock-lost".into())));
}

#[test]
fn a_connection_without_links_is_closed_where_that_is_configured() {
    let connection = Some(Duration::from_secs(100));
    let closed = |event: &Event| match event {
        Event::Closed(CloseReason::Remote(error)) => {
            Some(error.as_ref().expect("a reason").condition.to_string())
        }
        _ => None,
    };
    let world = World::with_idle_rules(IdleRules { link: None, connection });
    let mut peer = world.connect("PLAIN", ROOT);
    assert_eq!(told_within(&mut peer, 99, closed), None);
    assert_eq!(told_within(&mut peer, 1, closed).as_deref(), Some("amqp:connection:forced"));
    let mut peer = world.connect("PLAIN", ROOT);
    let sender = peer.attach(attach(Role::Sender, "orders")).expect("attached");
    assert_eq!(told_within(&mut peer, 300, closed), None);
    peer.client.detach(sender, None);
    assert_eq!(told_within(&mut peer, 99, closed), None);
    assert_eq!(told_within(&mut peer, 51, closed).as_deref(), Some("amqp:connection:forced"));
    // Without the rules nothing is ever given up.
    let world = World::new();
    let mut peer = world.connect("PLAIN", ROOT);
    assert_eq!(told_within(&mut peer, 3_600, closed), None);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let world = World::new();
    let mut peer = world.connect("PLAIN", ROOT);
    peer.client.begin().expect("open");
    let begin = peer.client.transmit().to_vec();
    peer.server.engine.receive_buffer().extend_from_slice(&begin);
    peer.server.process(world.clock.now());
    // The answer is never written.
    for second in 1..=UNREAD_TIMEOUT.as_secs() {
        peer.server.settle_turn();
        assert!(!peer.server.is_closed(), "after {second} s");
        world.clock.advance(Duration::from_secs(1));
        peer.server.on_timeout(world.clock.now());
    }
    assert!(peer.server.is_closed());
}

#[test]
fn a_client_that_reads_a_little_is_not_given_up_unless_memory_is_short() {
    let world = World::new();
    let mut peer = world.connect("PLAIN", ROOT);
    let read_a_little = |peer: &mut Peer<'_>| {
        peer.server.settle_turn();
        world.clock.advance(Duration::from_secs(1));
        peer.server.wrote(10);
        peer.server.on_timeout(world.clock.now());
    };
    // A part of a frame, larger than what a connection may hold when memory is short.
    peer.server.engine.receive_buffer().extend_from_slice(&[0, 4, 0, 0, 2, 0, 0, 0]);
    peer.server.engine.receive_buffer().extend_from_slice(&[0; 100_000]);
    peer.server.process(world.clock.now());
    for _ in 0..20 {
        read_a_little(&mut peer);
    }
    assert!(!peer.server.is_closed());
    let mut others = world.context.memory.charge();
    others.set(700 << 20);
    assert!(!peer.server.may_read());
    read_a_little(&mut peer);
    assert_eq!(peer.closed_with().expect("a reason").condition.as_str(), "com.microsoft:server-busy");
}

#[test]
fn while_memory_is_used_up_attaches_are_refused() {
    let world = World::new();
    let mut peer = world.connect("PLAIN", ROOT);
    let mut others = world.context.memory.charge();
    others.set(MEMORY_BYTES_DEFAULT);
    let error = peer.attach(attach(Role::Sender, "orders")).expect_err("no memory");
    assert_eq!(error.condition.as_str(), "com.microsoft:server-busy");
    drop(others);
    peer.attach(attach(Role::Sender, "orders")).expect("memory again");
}

#[test]
fn topics_that_the_configuration_asked_for_are_refused_by_name() {
    let world = World::new();
    for (address, named) in [("Events", true), ("any/Subscriptions/one", true), ("other", false)] {
        let error =
            world.connect("PLAIN", ROOT).attach(attach(Role::Sender, address)).expect_err("no such entity");
        assert_eq!(error.condition.as_str(), "amqp:not-found");
        let text = error.description.expect("a text");
        assert!(text.starts_with("The messaging entity"), "{text}");
        assert_eq!(text.contains("Topics, subscriptions and rules are not supported"), named, "{text}");
    }
}

/// The socket of a peer that sent its last bytes and went: writes fail before the bytes are announced.
struct Gone(Option<Vec<u8>>, bool);

impl tokio::io::AsyncRead for Gone {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if !std::mem::replace(&mut self.1, true) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        buffer.put_slice(&self.0.take().unwrap_or_default());
        std::task::Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Gone {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// Semantics A-62: a client that does not wait for the answer to its close has closed all the same.
#[tokio::test]
async fn a_close_behind_a_failed_write_frees_the_message_session() {
    let world = World::new();
    let mut holder = world.connect("PLAIN", ROOT);
    holder.attach(accept("s")).expect("granted");
    // An answer that cannot be written any more, and the close behind the question.
    holder.client.begin().expect("open");
    let asked = holder.client.transmit().to_vec();
    holder.client.transmitted(asked.len());
    holder.server.engine.receive_buffer().extend_from_slice(&asked);
    holder.server.process(world.clock.now());
    holder.client.close(None);
    let last = holder.client.transmit().to_vec();
    let stream = Gone(Some(last), false);
    driven::drive(&world, stream, holder.server, Arc::new(Turns::of_threads(1, Arc::default()))).await;
    let mut other = world.connect("PLAIN", ROOT);
    // Under another name: the same client would take its own lock over.
    let attach = Attach { name: "other".into(), ..accept("s") };
    other.attach(attach).expect("free at once");
}

/// The receiver has forgotten the delivery, and the core must not renew its lock for it.
#[test]
fn the_core_is_told_of_a_settlement_that_is_refused_before_it() {
    let world = World::new();
    let mut peer = world.connect("PLAIN", ROOT);
    let link = peer.attach(Attach { name: "to".into(), ..attach(Role::Sender, "orders") }).expect("granted");
    peer.until("credit", |event| matches!(event, Event::Credit { .. }).then_some(()));
    let properties =
        amqp::message::Properties { group_id: Some("s".into()), ..amqp::message::Properties::default() };
    let message = amqp::message::encode_value_message(Some(&properties), &[], &Value::string("hello"));
    let delivery = amqp::OutgoingDelivery {
        tag: Bytes::from_static(b"1"),
        message_format: 0,
        settled: false,
        prefix: Bytes::new(),
        rest: message,
    };
    peer.client.send(link, delivery).expect("credit");
    peer.until("an outcome", |event| matches!(event, Event::Disposed { .. }).then_some(()));
    let from = peer.attach(accept("s")).expect("granted");
    peer.client.set_credit(from, 1);
    let got = peer.until("a message", |event| match event {
        Event::Delivery { delivery, .. } => Some(*delivery),
        _ => None,
    });
    let state = amqp::types::TransactionalState { txn_id: Bytes::from_static(b"t"), outcome: None };
    peer.client.settle(&[got], &DeliveryState::Transactional(state), false);
    let asked = peer.client.transmit().to_vec();
    peer.client.transmitted(asked.len());
    peer.server.engine.receive_buffer().extend_from_slice(&asked);
    peer.server.process(world.clock.now());
    let told =
        |command: &Command| matches!(command, Command::SettlementRefused { tokens, .. } if tokens.len() == 1);
    assert!(peer.server.commands.iter().any(told), "{:?}", peer.server.commands);
    let answer = peer.until("an answer", |event| match event {
        Event::Disposed { state, settled, .. } => Some((state.clone(), *settled)),
        _ => None,
    });
    assert!(matches!(answer, (Some(DeliveryState::Outcome(Outcome::Rejected(Some(_)))), true)), "{answer:?}");
}
