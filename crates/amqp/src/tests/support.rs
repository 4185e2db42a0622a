//! A scripted peer and a joined pair.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{
    AttachReply, Config, Connection, DeliveryRef, Event, Limits, LinkId, OutgoingDelivery, SaslPolicy, Time,
    codec::{self, Frame, FrameKind},
    types::{
        Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative, Role, Source, Symbol,
        Target, TargetTerminus, Transfer, Value,
    },
};

pub(super) const AMQP: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
pub(super) const SASL: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

pub(super) fn config() -> Config {
    Config {
        container_id: "server".into(),
        sasl: SaslPolicy {
            mechanisms: ["MSSBCBS", "PLAIN", "ANONYMOUS"].map(Symbol::from).to_vec(),
            required: false,
        },
        ..Config::default()
    }
}

pub(super) fn limits(change: impl FnOnce(&mut Limits)) -> Config {
    let mut config = config();
    change(&mut config.limits);
    config
}

pub(super) fn open() -> Open {
    Open {
        container_id: "peer".into(),
        hostname: Some("ns.example".into()),
        max_frame_size: 65_536,
        channel_max: 65_535,
        idle_time_out: None,
        outgoing_locales: Vec::new(),
        incoming_locales: Vec::new(),
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

pub(super) fn begin() -> Begin {
    Begin {
        remote_channel: None,
        next_outgoing_id: 1,
        incoming_window: 5_000,
        outgoing_window: 5_000,
        handle_max: 262_143,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

pub(super) fn attach(role: Role, name: &str, handle: u32) -> Attach {
    Attach {
        name: name.into(),
        handle,
        role,
        snd_settle_mode: None,
        rcv_settle_mode: None,
        source: Some(Source { address: Some(Value::string("q")), ..Source::default() }),
        target: (role == Role::Sender).then(|| {
            TargetTerminus::Target(Target { address: Some(Value::string("q")), ..Target::default() })
        }),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: (role == Role::Sender).then_some(0),
        max_message_size: None,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

pub(super) fn reply() -> AttachReply {
    AttachReply {
        source: Some(Source::default()),
        target: Some(TargetTerminus::Target(Target::default())),
        max_message_size: Some(262_144),
        ..AttachReply::default()
    }
}

pub(super) fn transfer(handle: u32, id: u32) -> Transfer {
    Transfer {
        handle,
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
        message_format: Some(0),
        ..Transfer::default()
    }
}

pub(super) fn link_flow(handle: u32, delivery_count: u32, link_credit: u32) -> Flow {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: 5_000,
        next_outgoing_id: 1,
        outgoing_window: 5_000,
        handle: Some(handle),
        delivery_count: Some(delivery_count),
        link_credit: Some(link_credit),
        ..Flow::default()
    }
}

pub(super) fn detach(handle: u32) -> Performative {
    Performative::Detach(Detach { handle, closed: true, error: None })
}

pub(super) fn end() -> Performative {
    Performative::End(End::default())
}

pub(super) fn close() -> Performative {
    Performative::Close(Close::default())
}

pub(super) fn disposition(role: Role, first: u32, last: u32, settled: bool) -> Performative {
    Performative::Disposition(Disposition {
        role,
        first,
        last: Some(last),
        settled,
        state: Some(accepted()),
        batchable: false,
    })
}

pub(super) fn accepted() -> crate::types::DeliveryState {
    crate::types::DeliveryState::Outcome(crate::types::Outcome::Accepted)
}

pub(super) fn message(bytes: &[u8]) -> OutgoingDelivery {
    OutgoingDelivery {
        tag: Bytes::from_static(b"0123456789abcdef"),
        message_format: 0,
        settled: false,
        prefix: Bytes::new(),
        rest: Bytes::copy_from_slice(bytes),
    }
}

/// Frames of the peer, one after the other.
#[derive(Default)]
pub(super) struct Script(pub(super) BytesMut);

impl Script {
    pub(super) fn header(mut self, header: [u8; 8]) -> Self {
        self.0.extend_from_slice(&header);
        self
    }

    pub(super) fn frame(mut self, channel: u16, performative: Performative) -> Self {
        codec::encode_frame(&mut self.0, channel, &performative);
        self
    }

    pub(super) fn open(self) -> Self {
        self.frame(0, Performative::Open(Box::new(open())))
    }

    pub(super) fn begin(self, channel: u16) -> Self {
        self.frame(channel, Performative::Begin(Box::new(begin())))
    }

    pub(super) fn attach(self, channel: u16, attach: Attach) -> Self {
        self.frame(channel, Performative::Attach(Box::new(attach)))
    }

    pub(super) fn flow(self, channel: u16, flow: Flow) -> Self {
        self.frame(channel, Performative::Flow(flow))
    }

    pub(super) fn transfer(mut self, channel: u16, transfer: Transfer, payload: &[u8]) -> Self {
        codec::encode_transfer(&mut self.0, channel, &transfer, &[payload]);
        self
    }
}

/// A server engine and what it said.
pub(super) struct Server {
    pub(super) engine: Connection,
    pub(super) now: Time,
}

impl Server {
    pub(super) fn new(config: Config) -> Self {
        Self { engine: Connection::server(Arc::new(config), Time(0)), now: Time(0) }
    }

    /// Open, with `begin` on channel 0.
    pub(super) fn begun(config: Config) -> Self {
        Self::begun_by(config, begin())
    }

    /// The same, by a peer that takes one handle.
    pub(super) fn begun_with_one_handle(config: Config) -> Self {
        Self::begun_by(config, Begin { handle_max: 0, ..begin() })
    }

    fn begun_by(config: Config, begin: Begin) -> Self {
        let mut server = Self::new(config);
        server.receive(Script::default().header(AMQP).open());
        server.engine.open(None);
        server.receive(Script::default().frame(0, Performative::Begin(Box::new(begin))));
        server.frames();
        server.events();
        server
    }

    /// With an accepted link too, of the peer's `role`, with handle 0.
    pub(super) fn linked(config: Config, role: Role) -> (Self, LinkId) {
        let mut server = Self::begun(config);
        let link = server.attach(attach(role, "link", 0));
        server.engine.accept(link, reply());
        server.frames();
        (server, link)
    }

    pub(super) fn receive(&mut self, script: Script) {
        self.receive_bytes(&script.0);
    }

    pub(super) fn receive_bytes(&mut self, bytes: &[u8]) {
        self.engine.receive_buffer().extend_from_slice(bytes);
        self.engine.process(self.now);
    }

    /// Attaches on channel 0; the link of the event.
    pub(super) fn attach(&mut self, attach: Attach) -> LinkId {
        self.receive(Script::default().attach(0, attach));
        self.events()
            .iter()
            .find_map(|event| if let Event::Attach { link, .. } = event { Some(*link) } else { None })
            .expect("an attach event")
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }

    pub(super) fn written(&mut self) -> BytesMut {
        written(&mut self.engine)
    }

    /// What was written since, without headers.
    pub(super) fn frames(&mut self) -> Vec<Frame> {
        decode(&self.written())
    }

    /// Performatives written since.
    pub(super) fn performatives(&mut self) -> Vec<Performative> {
        self.frames()
            .into_iter()
            .filter_map(|frame| match frame {
                Frame::Amqp { performative, .. } => Some(performative),
                _ => None,
            })
            .collect()
    }
}

pub(super) fn written(engine: &mut Connection) -> BytesMut {
    let mut all = BytesMut::new();
    loop {
        let piece = engine.transmit();
        if piece.is_empty() {
            return all;
        }
        let count = piece.len();
        all.extend_from_slice(piece);
        engine.transmitted(count);
    }
}

pub(super) fn decode(bytes: &[u8]) -> Vec<Frame> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut frames = Vec::new();
    let mut kind = FrameKind::Amqp;
    while !rest.is_empty() {
        if rest.starts_with(b"AMQP") {
            kind = if rest.starts_with(&SASL) { FrameKind::Sasl } else { FrameKind::Amqp };
            let _ = rest.split_to(8);
            continue;
        }
        let size = codec::frame_size(&rest, u32::MAX).unwrap().unwrap();
        frames.push(codec::decode_frame(rest.split_to(size), kind).unwrap());
    }
    frames
}

/// Short names of frames, in order.
pub(super) fn names(performatives: &[Performative]) -> Vec<&'static str> {
    performatives
        .iter()
        .map(|performative| match performative {
            Performative::Open(_) => "open",
            Performative::Begin(_) => "begin",
            Performative::Attach(_) => "attach",
            Performative::Flow(_) => "flow",
            Performative::Transfer(_) => "transfer",
            Performative::Disposition(_) => "disposition",
            Performative::Detach(_) => "detach",
            Performative::End(_) => "end",
            Performative::Close(_) => "close",
        })
        .collect()
}

/// The error condition of the last detach, end or close.
pub(super) fn last_condition(performatives: &[Performative]) -> Option<String> {
    performatives.iter().rev().find_map(|performative| {
        let error = match performative {
            Performative::Detach(detach) => &detach.error,
            Performative::End(end) => &end.error,
            Performative::Close(close) => &close.error,
            _ => return None,
        };
        error.as_ref().map(|error| error.condition.to_string())
    })
}

/// Deliveries of `Delivery` events with their payload.
pub(super) fn deliveries(events: &[Event]) -> Vec<(DeliveryRef, Bytes)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Delivery { delivery, payload, .. } => Some((*delivery, payload.clone())),
            _ => None,
        })
        .collect()
}

/// Two engines joined in memory; time stands still unless moved.
pub(super) struct Pair {
    pub(super) client: Connection,
    pub(super) server: Connection,
    pub(super) now: Time,
}

impl Pair {
    /// Open, without SASL.
    pub(super) fn opened(client: Config, server: Config) -> Self {
        let mut pair = Self {
            client: Connection::client(Arc::new(client), None, Time(0)),
            server: Connection::server(Arc::new(server), Time(0)),
            now: Time(0),
        };
        pair.drive();
        pair.server.open(None);
        pair.drive();
        pair.client_events();
        pair.server_events();
        pair
    }

    /// Moves bytes until both ends are quiet.
    pub(super) fn drive(&mut self) {
        loop {
            let to_server = written(&mut self.client);
            self.server.receive_buffer().extend_from_slice(&to_server);
            self.server.process(self.now);
            let to_client = written(&mut self.server);
            self.client.receive_buffer().extend_from_slice(&to_client);
            self.client.process(self.now);
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
        }
    }

    pub(super) fn client_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    pub(super) fn server_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    /// An attached link: the client's name for it and the server's.
    pub(super) fn link(&mut self, role: Role, name: &str) -> (LinkId, LinkId) {
        let session = self.client.begin().unwrap();
        let client = self.client.attach(session, attach(role, name, 0)).unwrap();
        self.drive();
        let server = self
            .server_events()
            .iter()
            .find_map(|event| if let Event::Attach { link, .. } = event { Some(*link) } else { None })
            .unwrap();
        self.server.accept(server, AttachReply { max_message_size: None, ..reply() });
        self.drive();
        self.client_events();
        self.server_events();
        (client, server)
    }
}
