//! A broker small enough to be obviously right, over in-memory streams: queues in memory, with
//! and without message sessions, at the server's end of our own engine. It can be told to misbehave.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use lockstep_amqp::{
    AttachReply, Config, Connection, DeliveryRef, Event, LinkId, OutgoingDelivery, SaslCode, SaslPolicy,
    Time, message,
    types::{
        Attach, DeliveryState, Error, Fields, Outcome, Role, Source, Symbol, Target, TargetTerminus, Value,
    },
};
use lockstep_protocol::names;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    sync::watch,
};

use crate::bench::{client::Dial, pacer::Pacer};

/// Bytes that a stream holds in each direction.
const STREAM_BYTES: usize = 64 << 10;

/// How long a stalled broker gives no credit.
pub(super) const STALL: Duration = Duration::from_millis(600);

/// A deliberate fault, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The fifth message is accepted and forgotten.
    Lose,
    /// The fifth message is queued twice.
    Duplicate,
    /// The fifth message is queued in front.
    Overtake,
    /// The fifth message is rejected.
    Reject,
    /// The fifth message is queued and gets no outcome.
    Silence,
    /// From the fifth receiving link on, each ends its connection without a word.
    HangUp,
}

#[derive(Debug, Default)]
struct Store {
    /// Messages by group-id; those without one have the empty one.
    groups: BTreeMap<String, VecDeque<Bytes>>,
    locked: Vec<String>,
    arrivals: u64,
    /// Receiving links ever attached.
    consumers: u64,
    /// Whether each message said that it is durable.
    durable: Vec<bool>,
    /// Whether a stall is over.
    resumed: bool,
}

/// The broker; copies share their queue, of which it has one under every name. A queue whose name
/// contains `session` has message sessions.
#[derive(Clone, Debug)]
pub(super) struct EchoBroker {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<u64>,
    fault: Option<Fault>,
    pub(super) key: &'static str,
    pub(super) needs_sasl: bool,
    /// Messages after which senders get no credit until [`EchoBroker::resume_after_arrivals`].
    pub(super) stalls_after: Option<u32>,
}

impl EchoBroker {
    pub(super) fn new(fault: Option<Fault>) -> Self {
        Self {
            store: Arc::default(),
            changed: watch::Sender::new(0),
            fault,
            key: "right",
            needs_sasl: true,
            stalls_after: None,
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn arrivals(&self) -> u64 {
        self.store().arrivals
    }

    /// Ends the stall [`STALL`] after so many messages have arrived.
    pub(super) async fn resume_after_arrivals(&self, arrivals: u64) {
        let mut changed = self.changed.subscribe();
        while self.arrivals() < arrivals {
            changed.changed().await.unwrap();
        }
        // The generator's own kind of timer: the test is of times by the same clock.
        let mut pacer = Pacer::start(STALL.as_nanos() as u64, 0).unwrap();
        assert!(pacer.due().await.unwrap().next().is_some());
        self.store().resumed = true;
        self.tell();
    }

    /// What the messages' headers said about durability, each different answer once.
    pub(super) fn durability_seen(&self) -> Vec<bool> {
        let mut seen = self.store().durable.clone();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    fn arrived(&self, payload: Bytes) -> Option<DeliveryState> {
        let group = group_of(&payload);
        let header = message::scan(&payload).unwrap().header.unwrap();
        let header = message::decode_header(&payload[header]).unwrap();
        let mut store = self.store();
        store.durable.push(header.durable == Some(true));
        store.arrivals += 1;
        let fault = self.fault.filter(|_| store.arrivals == 5);
        let queue = store.groups.entry(group).or_default();
        match fault {
            Some(Fault::Reject) => {
                let error = Error::new("amqp:resource-limit-exceeded", "the queue is full");
                return Some(DeliveryState::Outcome(Outcome::Rejected(Some(error))));
            }
            Some(Fault::Lose) => {}
            Some(Fault::Duplicate) => queue.extend([payload.clone(), payload]),
            Some(Fault::Overtake) => queue.push_front(payload),
            Some(Fault::Silence | Fault::HangUp) | None => queue.push_back(payload),
        }
        drop(store);
        self.tell();
        (fault != Some(Fault::Silence)).then_some(DeliveryState::Outcome(Outcome::Accepted))
    }
}

fn group_of(payload: &[u8]) -> String {
    let properties = message::scan(payload).unwrap().properties.unwrap();
    let properties = message::decode_properties(&payload[properties]).unwrap();
    properties.group_id.map_or_else(String::new, |group| group.into_string())
}

impl Dial for EchoBroker {
    type Stream = DuplexStream;

    async fn dial(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(STREAM_BYTES);
        tokio::spawn(serve(self.clone(), far));
        Ok(near)
    }
}

/// One connection's half of the broker.
struct Served {
    broker: EchoBroker,
    engine: Connection,
    /// Receiving clients: link and the group that they drain.
    consumers: HashMap<LinkId, String>,
    /// Accepts that wait for a message session.
    waiting: Vec<(LinkId, Box<Attach>)>,
    out: HashMap<DeliveryRef, Bytes>,
    cbs_answers: Option<LinkId>,
    hung_up: bool,
    /// A sending client without credit until the broker resumes.
    stalled: Option<LinkId>,
}

/// Serves one connection until it is closed.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(broker: EchoBroker, mut stream: S) {
    let mechanisms = names::sasl::OFFERED.map(Symbol::from).to_vec();
    let required = broker.needs_sasl;
    let config = Config { sasl: SaslPolicy { mechanisms, required }, ..Config::default() };
    let engine = Connection::server(Arc::new(config), Time(0));
    let mut changed = broker.changed.subscribe();
    let mut served = Served {
        broker,
        engine,
        consumers: HashMap::new(),
        waiting: Vec::new(),
        out: HashMap::new(),
        cbs_answers: None,
        hung_up: false,
        stalled: None,
    };
    loop {
        while let Some(event) = served.engine.poll_event() {
            if matches!(event, Event::Closed(_)) {
                let last = served.engine.transmit().to_vec();
                let _ = stream.write_all(&last).await;
                let _ = stream.flush().await;
                return;
            }
            served.take(event);
        }
        if served.hung_up {
            return;
        }
        if served.broker.store().resumed
            && let Some(link) = served.stalled.take()
        {
            served.engine.set_credit_auto(link, 100);
        }
        served.grant_waiting();
        served.deliver();
        let bytes = served.engine.transmit().to_vec();
        if !bytes.is_empty() {
            if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            served.engine.transmitted(bytes.len());
            continue;
        }
        tokio::select! {
            read = stream.read_buf(served.engine.receive_buffer()) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => served.engine.process(Time(0)),
            },
            _ = changed.changed() => {}
        }
    }
}

impl Served {
    fn take(&mut self, event: Event) {
        match event {
            Event::SaslInit { mechanism, initial_response, .. } => {
                let given = initial_response.unwrap_or_default();
                let right =
                    mechanism.as_str() != names::sasl::PLAIN || given.ends_with(self.broker.key.as_bytes());
                self.engine.sasl_outcome(if right { SaslCode::Ok } else { SaslCode::Auth });
            }
            Event::Opened(_) => self.engine.open(None),
            Event::Attach { link, attach, .. } => self.attached(link, attach),
            Event::Delivery { delivery, payload, settled, .. } => {
                if settled {
                    return self.answer_token();
                }
                if let Some(state) = self.broker.arrived(payload) {
                    self.engine.settle(&[delivery], &state, true);
                }
            }
            Event::Disposed { deliveries, settled, state } => {
                for delivery in &deliveries {
                    self.out.remove(delivery);
                }
                if let (false, Some(state)) = (settled, state) {
                    self.engine.settle(&deliveries, &state, true);
                }
            }
            Event::Detached { link, .. } => {
                if let Some(group) = self.consumers.remove(&link) {
                    self.broker.store().locked.retain(|locked| *locked != group);
                    self.broker.tell();
                }
                self.engine.detach(link, None);
            }
            _ => {}
        }
    }

    fn attached(&mut self, link: LinkId, attach: Box<Attach>) {
        let address = |value: &Option<Value>| value.as_ref().and_then(Value::as_text).map(ToOwned::to_owned);
        let node = match (&attach.source, &attach.target) {
            (Some(source), _) if attach.role == Role::Receiver => address(&source.address),
            (_, Some(TargetTerminus::Target(target))) => address(&target.address),
            _ => None,
        };
        let node = node.unwrap_or_default();
        if attach.role == Role::Receiver && node != names::CBS_NODE {
            let mut store = self.broker.store();
            store.consumers += 1;
            self.hung_up |= self.broker.fault == Some(Fault::HangUp) && store.consumers >= 5;
        }
        if node == "missing" {
            return self.engine.refuse(link, Error::new("amqp:not-found", "there is no queue 'missing'"));
        }
        if attach.role == Role::Sender {
            self.engine.accept(link, reply(&attach, None));
            match self.broker.stalls_after {
                Some(credit) if !self.broker.store().resumed => {
                    self.engine.set_credit(link, credit);
                    self.stalled = Some(link);
                }
                _ => self.engine.set_credit_auto(link, 100),
            }
        } else if node == names::CBS_NODE {
            self.engine.accept(link, reply(&attach, None));
            self.cbs_answers = Some(link);
        } else if node.contains("session") {
            self.waiting.push((link, attach));
        } else {
            self.engine.accept(link, reply(&attach, None));
            self.consumers.insert(link, String::new());
        }
    }

    /// Gives each waiting accept a message session that has messages and no holder.
    fn grant_waiting(&mut self) {
        let broker = self.broker.clone();
        let mut store = broker.store();
        self.waiting.retain(|(link, attach)| {
            let mut free = store.groups.iter().filter(|(name, queue)| {
                !queue.is_empty() && !store.locked.iter().any(|locked| locked == *name)
            });
            let Some(group) = free.next().map(|(name, _)| name.clone()) else { return true };
            self.engine.accept(*link, reply(attach, Some(&group)));
            store.locked.push(group.clone());
            self.consumers.insert(*link, group);
            false
        });
    }

    fn deliver(&mut self) {
        let broker = self.broker.clone();
        let mut store = broker.store();
        let mut links: Vec<_> = self.consumers.iter().collect();
        links.sort();
        for (&link, group) in links {
            let Some(queue) = store.groups.get_mut(group) else { continue };
            while self.engine.sendable(link) > 0
                && let Some(payload) = queue.pop_front()
            {
                let sent = self.engine.send(link, outgoing(payload.clone()));
                self.out.insert(sent.unwrap(), payload);
            }
        }
    }

    fn answer_token(&mut self) {
        let status = [(names::cbs::STATUS_CODE.into(), Value::Int(202))];
        let answer = message::encode_value_message(None, &status, &Value::Null);
        let answers = self.cbs_answers.unwrap();
        self.engine.send(answers, OutgoingDelivery { settled: true, ..outgoing(answer) }).unwrap();
    }
}

fn outgoing(payload: Bytes) -> OutgoingDelivery {
    let tag = Bytes::from_static(&[7; 16]);
    OutgoingDelivery { tag, message_format: 0, settled: false, prefix: Bytes::new(), rest: payload }
}

fn reply(attach: &Attach, message_session: Option<&str>) -> AttachReply {
    let mut source = attach.source.clone().unwrap_or_default();
    if let Some(id) = message_session {
        let mut filter = Fields::default();
        filter.insert(names::filter::MESSAGE_SESSION, Value::string(id));
        source = Source { filter: Some(filter), ..source };
    }
    AttachReply {
        source: Some(source),
        target: attach.target.clone().or(Some(TargetTerminus::Target(Target::default()))),
        ..AttachReply::default()
    }
}
