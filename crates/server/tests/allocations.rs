//! What the broker allocates for a message on its way through: a whole server with its store on a
//! free port of the loopback address, one client, and an allocator that counts what every thread
//! but the client's asks for.
//!
//! RocksDB allocates by itself, in C++; that is not counted here.
#![expect(unsafe_code, reason = "an allocator that counts is a global allocator")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use lockstep_amqp::{
    ClientSasl, Config, Connection, DeliveryRef, Event, LinkId, OutgoingDelivery, Time,
    message::{Properties, encode_properties},
    types::{Attach, DeliveryState, Outcome, Role, Source, Symbol, Target, TargetTerminus, Value},
};
use lockstep_server::{StartOptions, config, start};

/// Messages sent before the next ones; their commands share a burst, as under load.
const ROUND_MESSAGES: usize = 400;
/// Rounds until every table and buffer has its size.
const WARM_UP_ROUNDS: usize = 20;
const COUNTED_ROUNDS: usize = 25;
const BODY_BYTES: usize = 1_024;

/// Allocations that a message may take. Its own are two: its bytes, and the counter of those who
/// share them. What is left is for what many messages share: chunks of the index, bursts, batches,
/// buffers (docs/performance.md). One more for each message passes the bound.
const ALLOCATIONS_MAX: f64 = 4.0;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The client's own allocations are not the broker's.
    static IS_CLIENT: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that is ending has no such flag any more; what it asks for counts.
    if !IS_CLIENT.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_message_takes_no_allocation_beyond_its_own_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("lockstep.toml");
    let text = "[[namespace]]\nname = \"test\"\n[[namespace.policy]]\nname = \"root\"\nprimary_key = \"key-of-a-test\"\n\
                rights = [\"Send\", \"Listen\"]\n[[namespace.queue]]\nname = \"orders\"\n";
    std::fs::write(&file, text).expect("written");
    let options = config::LoadOptions {
        config: Some(file),
        data_dir: Some(directory.path().join("data")),
        listen: vec!["127.0.0.1:0".into()],
        ..config::LoadOptions::default()
    };
    let config = config::load(&options).expect("a configuration");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(start(config, StartOptions::default())).expect("starts");
    let address = server.addresses()[0];
    let counted = runtime.spawn_blocking(move || {
        IS_CLIENT.set(true);
        let mut client = Client::open(address);
        for _ in 0..WARM_UP_ROUNDS {
            client.round();
        }
        let before = ALLOCATIONS.load(Relaxed);
        for _ in 0..COUNTED_ROUNDS {
            client.round();
        }
        ALLOCATIONS.load(Relaxed) - before
    });
    let counted = runtime.block_on(counted).expect("the client");
    runtime.block_on(server.shut_down()).expect("ends");
    let each = counted as f64 / (ROUND_MESSAGES * COUNTED_ROUNDS) as f64;
    println!("{each:.2} allocations a message");
    assert!(each <= ALLOCATIONS_MAX, "{each:.2} allocations a message, allowed {ALLOCATIONS_MAX}");
}

/// A client that sends to a queue and receives from it on one connection.
struct Client {
    engine: Connection,
    stream: TcpStream,
    events: VecDeque<Event>,
    sender: LinkId,
    message: Bytes,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let sasl = ClientSasl {
            mechanism: Symbol::new("PLAIN"),
            initial_response: Some(Bytes::from_static(b"\0root\0key-of-a-test")),
        };
        let config = Arc::new(Config { hostname: Some("test".into()), ..Config::default() });
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        let mut client = Self {
            engine: Connection::client(config, Some(sasl), Time(0)),
            stream,
            events: VecDeque::new(),
            sender: LinkId(0),
            message: message(),
        };
        client.until(1, |event| matches!(event, Event::Opened(_)));
        let session = client.engine.begin().expect("open");
        client.sender = client.engine.attach(session, attach(Role::Sender)).expect("begun");
        let receiver = client.engine.attach(session, attach(Role::Receiver)).expect("begun");
        client.until(2, |event| matches!(event, Event::AttachAnswered { .. }));
        client.engine.set_credit_auto(receiver, 2 * ROUND_MESSAGES as u32);
        client
    }

    /// Sends the messages of a round, and completes each by a disposition of its own.
    fn round(&mut self) {
        for number in 0..ROUND_MESSAGES {
            let delivery = OutgoingDelivery {
                tag: Bytes::copy_from_slice(&(number as u32).to_be_bytes()),
                message_format: 0,
                settled: false,
                prefix: Bytes::new(),
                rest: self.message.clone(),
            };
            while self.engine.sendable(self.sender) == 0 {
                self.turn();
            }
            self.engine.send(self.sender, delivery).expect("credit");
        }
        let (mut accepted, mut delivered) = (0, Vec::<DeliveryRef>::new());
        while accepted < ROUND_MESSAGES || delivered.len() < ROUND_MESSAGES {
            match self.events.pop_front() {
                Some(Event::Delivery { delivery, .. }) => delivered.push(delivery),
                Some(Event::Disposed { deliveries, .. }) => accepted += deliveries.len(),
                Some(_) => {}
                None => self.turn(),
            }
        }
        let mut written = Vec::new();
        for delivery in delivered {
            self.engine.settle(&[delivery], &DeliveryState::Outcome(Outcome::Accepted), false);
            // Taken out at once, or neighbours would share one disposition.
            let frame = self.engine.transmit();
            let size = frame.len();
            written.extend_from_slice(frame);
            self.engine.transmitted(size);
        }
        self.stream.write_all(&written).expect("written");
        let mut confirmed = 0;
        while confirmed < ROUND_MESSAGES {
            match self.events.pop_front() {
                Some(Event::Disposed { deliveries, .. }) => confirmed += deliveries.len(),
                Some(_) => {}
                None => self.turn(),
            }
        }
    }

    /// Writes what is there, and reads unless there are events.
    fn turn(&mut self) {
        loop {
            let written = self.stream.write(self.engine.transmit()).expect("written");
            if written == 0 {
                break;
            }
            self.engine.transmitted(written);
        }
        let mut buffer = [0; 64 << 10];
        let read = self.stream.read(&mut buffer).expect("read");
        assert!(read > 0, "the broker closed the connection");
        self.engine.receive_buffer().extend_from_slice(&buffer[..read]);
        self.engine.process(Time(0));
        while let Some(event) = self.engine.poll_event() {
            assert!(!matches!(event, Event::Closed(_) | Event::Detached { .. }), "{event:?}");
            self.events.push_back(event);
        }
    }

    /// Until so many events were as wanted; the others are passed over.
    fn until(&mut self, count: usize, wanted: impl Fn(&Event) -> bool) {
        let mut seen = 0;
        while seen < count {
            match self.events.pop_front() {
                Some(event) => seen += usize::from(wanted(&event)),
                None => self.turn(),
            }
        }
    }
}

fn message() -> Bytes {
    let mut message = bytes::BytesMut::new();
    let properties = Properties { message_id: Some(Value::string("an-id")), ..Properties::default() };
    encode_properties(&mut message, &properties);
    message.extend_from_slice(&[0x00, 0x53, 0x75, 0xb0]);
    message.extend_from_slice(&(BODY_BYTES as u32).to_be_bytes());
    message.resize(message.len() + BODY_BYTES, 7);
    message.freeze()
}

fn attach(role: Role) -> Attach {
    let node = Some(Value::string("orders"));
    let (source, target) = match role {
        Role::Receiver => (Source { address: node, ..Source::default() }, Target::default()),
        Role::Sender => (Source::default(), Target { address: node, ..Target::default() }),
    };
    Attach {
        name: format!("{role:?}").into(),
        handle: 0,
        role,
        snd_settle_mode: None,
        rcv_settle_mode: Some(lockstep_amqp::types::ReceiverSettleMode::Second),
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
