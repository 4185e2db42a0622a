//! The whole engine against a peer that does anything: frames of its own making, raw bytes, time
//! steps, partial writes, and a driver that answers in any order.

mod peer;

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    AmqpSessionId, AttachReply, ClientSasl, CloseReason, Config, Connection, DeliveryRef, Event, Limits,
    LinkId, OutgoingDelivery, SaslCode, SaslPolicy, Time,
    codec::{encode_frame, encode_heartbeat, encode_sasl},
    types::{
        Begin, DeliveryState, Error, Outcome, Performative, Role, SaslFrame, SaslInit, SaslMechanisms,
        SaslOutcome, Source, Symbol, Target, TargetTerminus,
    },
};

use super::{
    attach::{begin, open, plain_attach},
    frames::framed,
    model::Wire,
};
use crate::input::Input;

/// Steps of one input.
const STEPS_MAX: usize = 400;
/// Bytes that the engine may write for one step, besides payloads: answers to what one frame can
/// name.
const BYTES_PER_STEP_MAX: usize = 64 * 1024;

/// How far a link is, as the driver knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Pending,
    Attached,
    /// The peer has detached, the driver has not.
    Detaching,
    Gone,
}

struct Harness<'a> {
    engine: Connection,
    now: Time,
    input: Input<'a>,
    wire: Wire,
    links: Vec<LinkId>,
    known: HashMap<LinkId, Known>,
    sessions: Vec<AmqpSessionId>,
    deliveries: Vec<DeliveryRef>,
    closed: Option<CloseReason>,
    /// Nothing but the peer or time ends the connection while this is false.
    driver_closed: bool,
    /// Sum of all link-credit that the peer has ever stated.
    granted: u64,
    payload_bytes: usize,
    first_serial: u32,
    steps: usize,
    is_client: bool,
}

/// Promise: no panic; what is written is what AMQP allows, and bounded; events come in order, one
/// end for each beginning; a connection that ends says why; time never stands still.
pub(super) fn server(data: &[u8]) {
    run(data, false);
}

/// The same for the client role.
pub(super) fn client(data: &[u8]) {
    run(data, true);
}

fn config(input: &mut Input<'_>, client: bool) -> Config {
    let choice = input.u8();
    let first_serial = match input.u8() % 4 {
        0 => 0,
        1 => u32::MAX - 3,
        2 => (1 << 31) - 2,
        _ => 1,
    };
    let mechanisms = ["MSSBCBS", "PLAIN", "ANONYMOUS"].map(Symbol::from).to_vec();
    let mut config = Config {
        container_id: "engine".into(),
        sasl: SaslPolicy { mechanisms, required: choice & 1 == 1 },
        first_serial,
        strict_windows: choice & 2 == 2,
        ..Config::default()
    };
    if choice & 4 == 4 {
        config.max_frame_size = 512;
        config.channel_max = 3;
        config.handle_max = 3;
        config.incoming_window = 3;
        config.idle_time_out_ms = Some(1_000);
        config.limits = Limits {
            amqp_sessions_max: 2,
            links_per_amqp_session_max: 2,
            pending_attaches_max: 2,
            unsettled_per_link_max: 3,
            reassembly_bytes_max: 2_000,
            outbox_bytes_high: 2_000,
        };
    }
    if client {
        config.hostname = Some("ns.example".into());
    }
    config
}

fn run(data: &[u8], client: bool) {
    let mut input = Input::new(data);
    let config = config(&mut input, client);
    let start = input.u8();
    let sasl = (client && start & 2 == 2)
        .then(|| ClientSasl { mechanism: Symbol::from("PLAIN"), initial_response: Some(Bytes::new()) });
    let first_serial = config.first_serial;
    let sasl_required = config.sasl.required;
    let engine = if client {
        Connection::client(Arc::new(config), sasl.clone(), Time(0))
    } else {
        Connection::server(Arc::new(config), Time(0))
    };
    let mut harness = Harness {
        engine,
        now: Time(0),
        input,
        wire: Wire::default(),
        links: Vec::new(),
        known: HashMap::new(),
        sessions: Vec::new(),
        deliveries: Vec::new(),
        closed: None,
        driver_closed: false,
        granted: 0,
        payload_bytes: 0,
        first_serial,
        steps: 0,
        is_client: client,
    };
    if start & 1 == 0 {
        harness.handshake(client, sasl.is_some() || (!client && sasl_required), start);
    }
    while !harness.input.is_empty() && harness.steps < STEPS_MAX && harness.closed.is_none() {
        harness.steps += 1;
        harness.step(client);
        harness.events();
    }
    harness.finish();
}

impl Harness<'_> {
    /// Gets both ends to open, with one AMQP session, if `start` says so a link too.
    fn handshake(&mut self, client: bool, sasl: bool, start: u8) {
        let mut script = BytesMut::new();
        if sasl {
            script.extend_from_slice(b"AMQP\x03\x01\x00\x00");
            let frames = if client {
                let mechanisms = SaslMechanisms { sasl_server_mechanisms: vec![Symbol::from("PLAIN")] };
                let outcome = SaslOutcome { code: 0, additional_data: None };
                vec![SaslFrame::Mechanisms(mechanisms), SaslFrame::Outcome(outcome)]
            } else {
                let init =
                    SaslInit { mechanism: Symbol::from("PLAIN"), initial_response: None, hostname: None };
                vec![SaslFrame::Init(init)]
            };
            for frame in frames {
                encode_sasl(&mut script, &frame);
            }
        }
        script.extend_from_slice(b"AMQP\x00\x01\x00\x00");
        let mut open = open();
        if start & 4 == 4 {
            open.max_frame_size = 512;
            open.channel_max = 2;
            open.idle_time_out = Some(1_000);
        }
        encode_frame(&mut script, 0, &Performative::Open(Box::new(open)));
        if !client {
            encode_frame(&mut script, 0, &Performative::Begin(Box::new(begin())));
            for (handle, role) in [(0, Role::Sender), (1, Role::Receiver)] {
                let attach = plain_attach(role, if handle == 0 { "s" } else { "r" }, handle);
                encode_frame(&mut script, 0, &Performative::Attach(Box::new(attach)));
            }
        }
        self.feed(&script);
        self.events();
        if client {
            let session = self.engine.begin();
            self.sessions.extend(session);
            let answer = Begin { remote_channel: Some(0), ..begin() };
            self.frame(0, Performative::Begin(Box::new(answer)));
            self.events();
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.engine.receive_buffer().extend_from_slice(bytes);
        self.engine.process(self.now);
    }

    fn frame(&mut self, channel: u16, performative: Performative) {
        let mut out = BytesMut::new();
        encode_frame(&mut out, channel, &performative);
        self.feed(&out);
    }

    fn step(&mut self, client: bool) {
        match self.input.u8() % 32 {
            0..=11 => self.peer_frame(),
            12 => {
                let count = self.input.below(64);
                let bytes = self.input.take(count);
                self.feed(bytes);
            }
            13 => {
                let count = self.input.below(64);
                let code = 0x10 + self.input.u8() % 16;
                let channel = u16::from(self.input.u8() % 3);
                let frame = framed(0, channel, &[&[0x00, 0x53, code], self.input.take(count)]);
                self.feed(&frame);
            }
            14 => self.peer_sasl(),
            15 => {
                let mut out = BytesMut::new();
                encode_heartbeat(&mut out);
                self.feed(&out);
            }
            16 => {
                let millis = u64::from(self.input.u16());
                self.time_passes(millis);
            }
            17 => {
                let count = usize::from(self.input.u16());
                self.wire.transmit(&mut self.engine, count);
            }
            18 => self.wire.transmit_all(&mut self.engine),
            19 if client => self.client_command(),
            _ => self.command(),
        }
    }

    fn time_passes(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        if self.engine.next_timeout().is_some_and(|at| at <= self.now) {
            self.engine.on_timeout(self.now);
            if let Some(next) = self.engine.next_timeout() {
                assert!(next > self.now, "nothing is due twice at one time");
            }
        }
    }

    fn a_link(&mut self) -> Option<LinkId> {
        self.input.pick(&self.links).copied()
    }

    fn a_session(&mut self) -> Option<AmqpSessionId> {
        self.input.pick(&self.sessions).copied()
    }

    /// The driver does something, not only what makes sense.
    fn command(&mut self) {
        let choice = self.input.u8() % 16;
        if choice == 14 {
            let Some(session) = self.a_session() else { return };
            let error = self.error();
            return self.engine.end(session, error);
        }
        if choice == 15 {
            let error = self.error();
            self.driver_closed = true;
            return self.engine.close(error);
        }
        let Some(link) = self.a_link() else { return };
        match choice {
            0 | 1 => self.engine.accept(link, reply()),
            2 => self.engine.refuse(link, Error::new("amqp:not-found", "no")),
            3 => {
                let credit = self.input.serial(0);
                self.engine.set_credit(link, credit);
            }
            4 => {
                let credit = self.input.serial(0);
                self.engine.set_credit_auto(link, credit);
            }
            5 => {
                let credit = u32::from(self.input.u8());
                self.engine.flow(link, credit, true);
            }
            6..=8 => self.send(link),
            9 => self.engine.drained(link),
            10 => {
                let error = self.error();
                self.engine.detach(link, error);
                self.mark(link, &[Known::Detaching], Known::Gone);
            }
            11 => self.engine.set_available(link, 7),
            _ => self.settle(),
        }
    }

    fn client_command(&mut self) {
        if self.input.bool() {
            let session = self.engine.begin();
            self.sessions.extend(session);
            return;
        }
        let Some(session) = self.a_session() else { return };
        let role = if self.input.bool() { Role::Receiver } else { Role::Sender };
        let name = ["s", "r", "a", "b"][self.input.below(4)];
        if let Some(link) = self.engine.attach(session, plain_attach(role, name, 0)) {
            self.links.push(link);
            assert!(self.known.insert(link, Known::Pending).is_none(), "names of links are new");
        }
    }

    fn send(&mut self, link: LinkId) {
        let size = if self.input.bool() { self.input.below(256) * 16 } else { self.input.below(16) };
        let settled = self.input.bool();
        let could = self.engine.sendable(link);
        let sent = self.engine.send(
            link,
            OutgoingDelivery {
                tag: Bytes::from_static(b"0123456789abcdef"),
                message_format: 0,
                settled,
                prefix: Bytes::from_static(b"pp"),
                rest: Bytes::from(vec![0x72; size]),
            },
        );
        match sent {
            Ok(delivery) => {
                self.payload_bytes += size;
                if !settled {
                    self.deliveries.push(delivery);
                }
            }
            Err(refused) => assert_eq!(could, 0, "sendable said it could: {refused:?}"),
        }
    }

    fn settle(&mut self) {
        let Some(&delivery) = self.input.pick(&self.deliveries) else { return };
        let settled = self.input.bool();
        let state = self.state().unwrap_or(DeliveryState::Outcome(Outcome::Accepted));
        self.engine.settle(&[delivery], &state, settled);
    }

    /// The link goes on to `next`; it has to be where that is possible.
    fn mark(&mut self, link: LinkId, from: &[Known], next: Known) {
        if let Some(known) = self.known.get_mut(&link)
            && from.contains(known)
        {
            *known = next;
        }
    }

    fn expect(&mut self, link: LinkId, from: &[Known], next: Known) {
        let known = self.known.get_mut(&link).expect("a link that was reported");
        assert!(from.contains(known), "{link:?} is {known:?} and cannot become {next:?}");
        *known = next;
    }

    fn events(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            assert!(self.closed.is_none(), "nothing follows closed: {event:?}");
            self.event(event);
        }
        let bytes = self.wire.bytes + self.engine.outbox_bytes();
        assert!(bytes <= (self.steps + 8) * BYTES_PER_STEP_MAX + 2 * self.payload_bytes, "output is bounded");
        assert!(self.wire.deliveries <= self.granted, "no delivery without credit");
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::SaslInit { .. } | Event::SaslResponse(_) => match self.input.u8() % 8 {
                6 => self.engine.sasl_outcome(SaslCode::Auth),
                7 => self.engine.sasl_challenge(Bytes::from_static(b"?")),
                _ => self.engine.sasl_outcome(SaslCode::Ok),
            },
            Event::Opened(_) => self.engine.open(None),
            Event::AmqpSessionBegun(session) => self.sessions.push(session),
            Event::Attach { link, .. } => {
                assert!(self.known.insert(link, Known::Pending).is_none(), "names of links are new");
                self.links.push(link);
                if self.input.u8() % 4 != 3 {
                    self.engine.accept(link, reply());
                }
            }
            Event::AttachAnswered { link, .. } => self.expect(link, &[Known::Pending], Known::Attached),
            Event::AttachCancelled(link) => {
                self.expect(link, &[Known::Pending, Known::Attached], Known::Gone);
            }
            Event::Delivery { delivery, settled, .. } => {
                self.alive(delivery.link);
                if !settled {
                    self.deliveries.push(delivery);
                }
            }
            Event::DeliveryTooLarge { delivery, .. } => {
                self.alive(delivery.link);
                self.deliveries.push(delivery);
            }
            Event::DeliveryPart { delivery, settled, last, .. } => {
                self.alive(delivery.link);
                if last && !settled {
                    self.deliveries.push(delivery);
                }
            }
            Event::DeliveryAborted(delivery) => self.alive(delivery.link),
            Event::Disposed { deliveries, .. } => assert!(!deliveries.is_empty()),
            Event::CutOff { deliveries } => assert!(!deliveries.is_empty()),
            Event::Credit { link, .. } => self.alive(link),
            Event::Detached { link, answered, .. } => {
                let next = if answered { Known::Gone } else { Known::Detaching };
                self.expect(link, &[Known::Pending, Known::Attached], next);
            }
            Event::AmqpSessionEnded { session, links, .. } => {
                self.sessions.retain(|&known| known != session);
                for link in links {
                    self.expect(link, &[Known::Pending, Known::Attached, Known::Detaching], Known::Gone);
                }
            }
            Event::Closed(reason) => self.closed = Some(reason),
            Event::SaslOutcome(_) => {}
        }
    }

    fn alive(&self, link: LinkId) {
        let known = self.known.get(&link);
        assert!(known.is_some_and(|known| *known != Known::Gone), "{link:?} is {known:?}");
    }

    fn finish(&mut self) {
        self.events();
        let lost = self.closed.is_none();
        if lost {
            self.wire.transmit_all(&mut self.engine);
            self.engine.transport_closed(self.now);
            self.events();
        }
        self.wire.transmit_all(&mut self.engine);
        assert!(self.wire.deliveries <= self.granted, "no delivery without credit");
        assert_eq!(self.engine.next_timeout(), None, "nothing is due any more");
        assert!(!self.engine.wants_input());
        self.feed(b"more");
        self.engine.transport_closed(self.now);
        assert_eq!(self.engine.poll_event(), None);
        assert!(self.engine.receive_buffer().is_empty());
        let reason = self.closed.take().expect("the end is reported");
        self.check_reason(&reason, lost);
    }

    /// A connection that this end gives up says why, in the form of the layer that it is in.
    fn check_reason(&self, reason: &CloseReason, lost: bool) {
        match reason {
            CloseReason::Lost => assert!(lost),
            CloseReason::Remote(_) => assert!(self.wire.closed.is_some(), "close is answered"),
            CloseReason::Local(error) => {
                assert!(error.is_some() || self.driver_closed, "this end gave up for a reason");
                // A client writes open ahead; a server that answers with another protocol would not
                // understand close.
                let other_protocol = error.as_ref().is_some_and(|error| {
                    error.description.as_deref().is_some_and(|text| text.contains("protocol header"))
                });
                if self.wire.opened && !other_protocol {
                    let close = self.wire.closed.as_ref().expect("close is written");
                    assert!(close.error.is_some() || self.driver_closed, "and says why");
                } else {
                    assert!(self.wire.headers > 0, "at least the header that is served");
                }
            }
            CloseReason::SaslFailed => {
                assert!(self.wire.headers > 0 && !self.wire.opened);
                assert!(self.is_client || self.wire.sasl_outcome.is_some_and(|code| code != 0));
            }
        }
    }
}

fn reply() -> AttachReply {
    AttachReply {
        source: Some(Source::default()),
        target: Some(TargetTerminus::Target(Target::default())),
        max_message_size: Some(1_500),
        ..AttachReply::default()
    }
}
