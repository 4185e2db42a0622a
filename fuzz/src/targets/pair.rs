//! Two engines that keep to the rules, joined by memory: neither may accuse the other of a
//! mistake, whatever their drivers do and however the bytes are cut.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    AmqpSessionId, AttachReply, CloseReason, Config, Connection, DeliveryRef, Event, LinkId,
    OutgoingDelivery, SaslPolicy, Time,
    types::{DeliveryState, Error, Outcome, Role, Source, Target, TargetTerminus},
};

use super::{attach::plain_attach, model::Wire};
use crate::input::Input;

const STEPS_MAX: usize = 400;
/// Rounds in which two engines have to come to rest.
const ROUNDS_MAX: usize = 10_000;

/// What the test knows of one link, by its name.
#[derive(Default)]
struct Flow {
    /// Payloads on their way, in their order.
    under_way: VecDeque<Bytes>,
    /// Deliveries that arrived.
    received: u64,
    /// Deliveries that may arrive at the most; `None` while credit tops itself up.
    limit: Option<u64>,
}

/// One end and what its driver knows.
struct End {
    engine: Connection,
    wire: Wire,
    out: BytesMut,
    links: Vec<(LinkId, u32)>,
    sessions: Vec<AmqpSessionId>,
    sent: Vec<DeliveryRef>,
    received: Vec<DeliveryRef>,
    closed: bool,
}

impl End {
    fn new(engine: Connection) -> Self {
        Self {
            engine,
            wire: Wire::default(),
            out: BytesMut::new(),
            links: Vec::new(),
            sessions: Vec::new(),
            sent: Vec::new(),
            received: Vec::new(),
            closed: false,
        }
    }

    fn number(&self, link: LinkId) -> u32 {
        let found = self.links.iter().find(|(known, _)| *known == link);
        found.map(|(_, number)| *number).expect("a link that is known")
    }
}

struct Pair<'a> {
    /// Client and server.
    ends: [End; 2],
    flows: HashMap<u32, Flow>,
    input: Input<'a>,
    now: Time,
    names: u32,
}

fn config(input: &mut Input<'_>) -> Config {
    let choice = input.u8();
    let mut config = Config {
        sasl: SaslPolicy::default(),
        strict_windows: true,
        idle_time_out_ms: Some(1_000),
        first_serial: [0, u32::MAX - 2, (1 << 31) - 2, 1][usize::from(choice % 4)],
        ..Config::default()
    };
    if choice & 4 == 4 {
        config.max_frame_size = 512;
    }
    if choice & 8 == 8 {
        config.incoming_window = 1 + u32::from(choice >> 4);
    }
    if choice & 16 == 16 {
        config.limits.outbox_bytes_high = 1_000;
    }
    config
}

/// Promise: no panic; neither end reports a violation of the other; deliveries arrive whole, once,
/// in order and within credit; when both ends have come to rest, nothing waits.
pub(super) fn pair(data: &[u8]) {
    let mut input = Input::new(data);
    let client = Connection::client(Arc::new(config(&mut input)), None, Time(0));
    let server = Connection::server(Arc::new(config(&mut input)), Time(0));
    let mut pair = Pair {
        ends: [End::new(client), End::new(server)],
        flows: HashMap::new(),
        input,
        now: Time(0),
        names: 0,
    };
    for _ in 0..STEPS_MAX {
        if pair.input.is_empty() || pair.ends.iter().any(|end| end.closed) {
            break;
        }
        pair.step();
    }
    pair.rest();
    for end in &mut pair.ends {
        if end.closed {
            return;
        }
        for (link, _) in &end.links {
            assert!(!end.engine.is_sending(*link), "nothing waits while credit and window allow");
        }
    }
    assert!(pair.flows.values().all(|flow| flow.under_way.is_empty()), "everything has arrived");
}

impl Pair<'_> {
    fn step(&mut self) {
        let who = self.input.below(2);
        match self.input.u8() % 20 {
            0 => self.begin_or_end(who),
            1..=3 => self.attach(who),
            4..=8 => self.send(who),
            9..=11 => self.credit(who),
            12 | 13 => self.settle(who),
            14 => self.link_ends(who),
            15 => {
                self.rest();
                self.now = self.now.plus_millis(u64::from(self.input.u8()));
                for end in &mut self.ends {
                    end.engine.on_timeout(self.now);
                }
                self.rest();
            }
            16 | 17 => {
                let count = usize::from(self.input.u16());
                self.carry(who, count);
            }
            18 => self.rest(),
            _ if self.input.u8() > 250 => self.ends[who].engine.close(None),
            _ => {}
        }
    }

    fn begin_or_end(&mut self, who: usize) {
        let end = &mut self.ends[who];
        if who == 0 && (end.sessions.len() < 2 || self.input.bool()) {
            let session = end.engine.begin();
            end.sessions.extend(session);
        } else if let Some(&session) = self.input.pick(&end.sessions)
            && self.input.u8() > 200
        {
            end.engine.end(session, Some(Error::new("test:end", "")));
        }
        self.events(who);
    }

    fn attach(&mut self, who: usize) {
        let end = &mut self.ends[0];
        if who == 1 || end.sessions.is_empty() {
            let session = end.engine.begin();
            return end.sessions.extend(session);
        }
        let role = if self.input.bool() { Role::Receiver } else { Role::Sender };
        let Some(&session) = self.input.pick(&end.sessions) else { return };
        self.names += 1;
        let attach = plain_attach(role, &self.names.to_string(), 0);
        if let Some(link) = end.engine.attach(session, attach) {
            end.links.push((link, self.names));
            self.flows.insert(self.names, Flow { limit: Some(0), ..Flow::default() });
        }
    }

    fn send(&mut self, who: usize) {
        let size = self.input.below(256) * if self.input.bool() { 37 } else { 1 };
        let settled = self.input.bool();
        let end = &mut self.ends[who];
        let Some(&(link, number)) = self.input.pick(&end.links) else { return };
        let flow = self.flows.get_mut(&number).expect("a known link");
        let mut payload = BytesMut::from(&self.now.0.to_be_bytes()[..]);
        payload.extend_from_slice(&(flow.received + flow.under_way.len() as u64).to_be_bytes());
        payload.resize(16 + size, 0x70);
        let payload = payload.freeze();
        let delivery = OutgoingDelivery {
            tag: Bytes::from_static(b"t"),
            message_format: 0,
            settled,
            prefix: payload.slice(..16),
            rest: payload.slice(16..),
        };
        if let Ok(delivery) = end.engine.send(link, delivery) {
            flow.under_way.push_back(payload);
            if !settled {
                end.sent.push(delivery);
            }
        }
    }

    fn credit(&mut self, who: usize) {
        let credit = u32::from(self.input.u8() % 16);
        let end = &mut self.ends[who];
        let choice = self.input.u8() % 8;
        let Some(&(link, number)) = self.input.pick(&end.links) else { return };
        if choice == 7 {
            return end.engine.drained(link);
        }
        let flow = self.flows.get_mut(&number).expect("a known link");
        let sends = end.engine.sendable(link) > 0;
        if sends {
            return;
        }
        match choice {
            0 => {
                flow.limit = None;
                end.engine.set_credit_auto(link, credit.max(1));
            }
            1 | 2 => {
                flow.limit = flow.limit.map(|limit| limit.max(flow.received + u64::from(credit)));
                end.engine.flow(link, credit, true);
            }
            _ => {
                flow.limit = flow.limit.map(|limit| limit.max(flow.received + u64::from(credit)));
                end.engine.set_credit(link, credit);
            }
        }
    }

    fn settle(&mut self, who: usize) {
        let end = &mut self.ends[who];
        let own = self.input.bool();
        let from = if own { &end.sent } else { &end.received };
        let Some(&delivery) = self.input.pick(from) else { return };
        let settled = self.input.bool();
        end.engine.settle(&[delivery], &DeliveryState::Outcome(Outcome::Accepted), settled);
    }

    fn link_ends(&mut self, who: usize) {
        let end = &mut self.ends[who];
        if self.input.u8() < 128 {
            return;
        }
        let Some(&(link, _)) = self.input.pick(&end.links) else { return };
        end.engine.detach(link, Some(Error::new("test:detach", "")));
    }

    /// Moves bytes from one end to the other.
    fn carry(&mut self, from: usize, count: usize) {
        let end = &mut self.ends[from];
        loop {
            let piece = end.engine.transmit();
            if piece.is_empty() {
                break;
            }
            let size = piece.len();
            end.out.extend_from_slice(piece);
            end.engine.transmitted(size);
        }
        let count = count.min(end.out.len());
        let moved = end.out.split_to(count);
        end.wire.read(&moved, end.engine.remote_max_frame_size());
        let other = &mut self.ends[1 - from];
        other.engine.receive_buffer().extend_from_slice(&moved);
        other.engine.process(self.now);
        self.events(1 - from);
    }

    /// Moves bytes until both ends are quiet.
    fn rest(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.events(0);
            self.events(1);
            let before = (self.ends[0].wire.bytes, self.ends[1].wire.bytes);
            self.carry(0, usize::MAX);
            self.carry(1, usize::MAX);
            if before == (self.ends[0].wire.bytes, self.ends[1].wire.bytes) {
                return;
            }
        }
        panic!("two engines do not come to rest");
    }

    fn events(&mut self, who: usize) {
        while let Some(event) = self.ends[who].engine.poll_event() {
            self.event(who, event);
        }
    }

    fn event(&mut self, who: usize, event: Event) {
        if std::env::var_os("FUZZ_TRACE").is_some() {
            eprintln!("{who}: {event:?}");
        }
        let end = &mut self.ends[who];
        match event {
            Event::Opened(_) => end.engine.open(None),
            Event::AmqpSessionBegun(session) if who == 1 => end.sessions.push(session),
            Event::Attach { link, attach, .. } => {
                let number = attach.name.parse().expect("a name of ours");
                end.links.push((link, number));
                let reply = AttachReply {
                    source: Some(Source::default()),
                    target: Some(TargetTerminus::Target(Target::default())),
                    ..AttachReply::default()
                };
                end.engine.accept(link, reply);
            }
            Event::Delivery { delivery, payload, settled, .. } => {
                let number = end.number(delivery.link);
                if !settled {
                    end.received.push(delivery);
                }
                let flow = self.flows.get_mut(&number).expect("a known link");
                let expected = flow.under_way.pop_front().expect("a delivery that was sent");
                assert_eq!(payload, expected, "whole and in order");
                flow.received += 1;
                assert!(flow.limit.is_none_or(|limit| flow.received <= limit), "no delivery without credit");
            }
            Event::DeliveryTooLarge { .. } => panic!("no link has a limit"),
            Event::Credit { link, drain: true, .. } => end.engine.drained(link),
            Event::Detached { link, error, answered, .. } => {
                ours(error.as_ref());
                let number = end.number(link);
                if !answered {
                    end.engine.detach(link, None);
                }
                self.link_gone(who, link, number);
            }
            Event::AttachCancelled(link) => {
                let number = end.number(link);
                self.link_gone(who, link, number);
            }
            Event::AmqpSessionEnded { session, links, error } => {
                ours(error.as_ref());
                end.sessions.retain(|&known| known != session);
                for link in links {
                    // A link that the peer had detached just before is done with already.
                    let end = &self.ends[who];
                    if end.links.iter().any(|(known, _)| *known == link) {
                        let number = end.number(link);
                        self.link_gone(who, link, number);
                    }
                }
            }
            Event::Closed(reason) => {
                end.closed = true;
                match reason {
                    CloseReason::Remote(error) | CloseReason::Local(error) => ours(error.as_ref()),
                    other => panic!("{other:?}"),
                }
            }
            _ => {}
        }
    }

    /// What was under way on it is lost; either end may know first.
    fn link_gone(&mut self, who: usize, link: LinkId, number: u32) {
        let end = &mut self.ends[who];
        end.links.retain(|(known, _)| *known != link);
        end.sent.retain(|delivery| delivery.link != link);
        end.received.retain(|delivery| delivery.link != link);
        let still_known = self.ends.iter().any(|end| end.links.iter().any(|(_, known)| *known == number));
        if let Some(flow) = self.flows.get_mut(&number)
            && !still_known
        {
            flow.under_way.clear();
        }
    }
}

/// An error that a driver here gave; an engine's own would name a violation.
fn ours(error: Option<&Error>) {
    if let Some(error) = error {
        assert!(error.condition.as_str().starts_with("test:"), "a violation: {error:?}");
    }
}
