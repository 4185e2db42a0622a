//! Headers, open, close, and the deadlines.
//!
//! ```text
//!  AwaitHeader -> (Sasl -> AwaitAmqpHeader) -> AwaitOpen -> OpenReceived -> Open -> CloseSent
//!       |              |          |                |             |           |         |
//!       +--------------+----------+----------------+-------------+-----------+---------+-> Closed
//! ```
//! While the driver's answer is awaited (`SaslState::Driver`, `OpenReceived`) nothing is
//! parsed, so that whatever the peer sent ahead is dealt with in its order afterwards.

use bytes::Buf;

use super::{ClientSasl, Connection, NumberTable, Remote};
use crate::{
    codec::{self, FrameKind},
    event::{CloseReason, Event, SaslCode},
    link::LinkState,
    sasl::SaslState,
    timers::Due,
    types::{Close, Error, Fields, Open, Performative},
    violation::Violation,
};

/// Who is at the other end.
#[derive(Debug)]
pub(crate) enum Peer {
    /// This is the server.
    Client,
    /// This is the client.
    Server(Option<ClientSasl>),
}

#[derive(Debug)]
pub(crate) enum State {
    /// No header came yet.
    AwaitHeader,
    /// The SASL layer.
    Sasl(SaslState),
    /// SASL is done, the AMQP header has to come.
    AwaitAmqpHeader,
    /// Headers are exchanged.
    AwaitOpen,
    /// Server role: the peer's open came, the driver has to answer.
    OpenReceived,
    /// Both ends are open.
    Open,
    /// This end closed; only close is awaited.
    CloseSent(Option<Error>),
    /// Over.
    Closed,
}

impl State {
    /// Whether parsing pauses until the driver answers.
    pub(crate) fn waits_for_driver(&self) -> bool {
        matches!(self, Self::OpenReceived | Self::Sasl(SaslState::Driver))
    }
}

pub(crate) const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
pub(crate) const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

/// Largest SASL frame that is taken, in bytes. (The specification says 512; some tokens are
/// longer.)
pub(crate) const SASL_FRAME_BYTES_MAX: u32 = 8_192;

/// Room that is made for a frame of which a part has come, as a multiple of that part, and in
/// bytes at least.
const PARTIAL_FRAME_GROWTH: usize = 4;
const PARTIAL_FRAME_BYTES_MIN: usize = 1 << 10;

impl Connection {
    pub(crate) fn start_client(&mut self) {
        match &self.peer {
            Peer::Server(Some(_)) => {
                self.outbox.direct().extend_from_slice(&SASL_HEADER);
                self.outbox.defer();
            }
            Peer::Server(None) => self.start_amqp(),
            Peer::Client => {}
        }
    }

    /// Client role: AMQP header and open, then what was waiting for them.
    pub(crate) fn start_amqp(&mut self) {
        self.outbox.direct().extend_from_slice(&AMQP_HEADER);
        self.write_open(self.config.properties.clone());
        self.outbox.stop_deferring();
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::CloseSent(_) | State::Closed)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn set_state(&mut self, state: State) {
        self.state = state;
    }

    pub(crate) fn client_sasl(&self) -> Option<&ClientSasl> {
        match &self.peer {
            Peer::Server(sasl) => sasl.as_ref(),
            Peer::Client => None,
        }
    }

    /// One step of parsing; false if nothing more can be done now.
    pub(crate) fn step(&mut self) -> bool {
        let result = match &self.state {
            State::AwaitHeader | State::AwaitAmqpHeader => return self.on_header(),
            State::OpenReceived | State::Sasl(SaslState::Driver) => return false,
            State::Closed => {
                self.receive.clear();
                return false;
            }
            State::Sasl(_) => self.next_frame(FrameKind::Sasl, SASL_FRAME_BYTES_MAX),
            State::AwaitOpen | State::Open | State::CloseSent(_) => {
                self.next_frame(FrameKind::Amqp, self.config.max_frame_size)
            }
        };
        match result {
            Ok(None) => return false,
            Ok(Some(frame)) => {
                self.timers.received();
                self.on_frame(frame);
            }
            Err(violation) => self.fail(violation.to_error()),
        }
        true
    }

    fn next_frame(&mut self, kind: FrameKind, size_max: u32) -> Result<Option<codec::Frame>, Violation> {
        let Some(size) = codec::frame_size(&self.receive, size_max)? else { return Ok(None) };
        if self.receive.len() < size {
            // Room in proportion to what came, whatever the frame says to be. It also copies the
            // bytes out of the driver's larger buffer, which they would keep in memory.
            let room = (PARTIAL_FRAME_GROWTH * self.receive.len()).max(PARTIAL_FRAME_BYTES_MIN).min(size);
            self.receive.reserve(room.saturating_sub(self.receive.len()));
            return Ok(None);
        }
        let frame = self.receive.split_to(size).freeze();
        codec::decode_frame(frame, kind).map(Some)
    }

    fn on_header(&mut self) -> bool {
        let first = matches!(self.state, State::AwaitHeader);
        let known = self.receive.len().min(4);
        if self.receive.get(..known) != AMQP_HEADER.get(..known) {
            self.reject_header(first);
            return true;
        }
        let Some(header) = self.receive.first_chunk::<8>().copied() else { return false };
        let sasl_offered = match &self.peer {
            Peer::Client => !self.config.sasl.mechanisms.is_empty(),
            Peer::Server(sasl) => sasl.is_some(),
        };
        let plain_allowed = match &self.peer {
            Peer::Client => !self.config.sasl.required,
            Peer::Server(sasl) => sasl.is_none(),
        };
        if header == SASL_HEADER && first && sasl_offered {
            self.receive.advance(header.len());
            self.start_sasl();
        } else if header == AMQP_HEADER && (!first || plain_allowed) {
            self.receive.advance(header.len());
            if matches!(self.peer, Peer::Client) {
                self.outbox.direct().extend_from_slice(&AMQP_HEADER);
            }
            self.state = State::AwaitOpen;
        } else {
            self.reject_header(first);
        }
        true
    }

    /// Answers a header that is not served with one that is (2.2), and is over.
    fn reject_header(&mut self, first: bool) {
        if matches!(self.peer, Peer::Client) {
            self.write_served_header(first);
        }
        self.finish(CloseReason::Local(Some(Violation::ProtocolHeader.to_error())));
    }

    pub(crate) fn on_open(&mut self, open: Box<Open>) {
        self.remote = Remote {
            max_frame_size: open.max_frame_size.max(codec::MIN_MAX_FRAME_SIZE) as usize,
            channel_max: open.channel_max,
        };
        self.timers.opened(open.idle_time_out);
        self.state = match self.peer {
            Peer::Client => State::OpenReceived,
            Peer::Server(_) => State::Open,
        };
        self.push(Event::Opened(open));
    }

    /// Server role: answers [`Event::Opened`]. Whatever the peer sent after its open is dealt
    /// with now, so events can follow.
    pub fn open(&mut self, properties: Option<Fields>) {
        if matches!(self.state, State::OpenReceived) {
            self.write_open(properties);
            self.state = State::Open;
            self.process_received();
        }
    }

    fn write_open(&mut self, properties: Option<Fields>) {
        let open = Open {
            container_id: self.config.container_id.clone(),
            hostname: self.config.hostname.clone(),
            max_frame_size: self.config.max_frame_size,
            channel_max: self.config.channel_max,
            idle_time_out: self.config.idle_time_out_ms,
            outgoing_locales: Vec::new(),
            incoming_locales: Vec::new(),
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties,
        };
        codec::encode_frame(self.outbox.direct(), 0, &Performative::Open(Box::new(open)));
        self.open_sent = true;
    }

    fn write_close(&mut self, error: Option<Error>) {
        self.flush_dispositions();
        if !self.open_sent {
            self.write_open(None);
        }
        codec::encode_frame(self.outbox.direct(), 0, &Performative::Close(Close { error }));
    }

    pub(crate) fn start_close(&mut self, error: Option<Error>) {
        match self.state {
            State::AwaitHeader | State::Sasl(_) | State::AwaitAmqpHeader if !self.open_sent => {
                self.say_before_open(error.as_ref(), SaslCode::SysTemp);
                self.finish(CloseReason::Local(error));
            }
            State::CloseSent(_) | State::Closed => {}
            _ => {
                self.write_close(error.clone());
                self.timers.closing();
                self.state = State::CloseSent(error);
                // The peer's close may be there already.
                self.process_received();
            }
        }
    }

    pub(crate) fn on_close(&mut self, close: Close) {
        if let State::CloseSent(error) = &self.state {
            let error = error.clone();
            self.finish(CloseReason::Local(error));
        } else {
            self.write_close(None);
            self.finish(CloseReason::Remote(close.error));
        }
    }

    /// Says that this end gives up before both are open, in the form of the layer that the
    /// connection is in. Server role: the header that is served, an outcome, or open and close.
    /// Client role: close, once open is written.
    fn say_before_open(&mut self, error: Option<&Error>, code: SaslCode) {
        let server = matches!(self.peer, Peer::Client);
        match &self.state {
            State::AwaitHeader | State::AwaitAmqpHeader if self.open_sent => {
                self.write_close(error.cloned());
            }
            State::AwaitHeader if server => self.write_served_header(true),
            State::Sasl(_) if server => self.write_sasl_outcome(code),
            State::AwaitAmqpHeader if server => {
                self.write_served_header(false);
                self.write_close(error.cloned());
            }
            _ => {}
        }
    }

    /// Server role: the header of the layer that has to come first, or of AMQP.
    fn write_served_header(&mut self, first: bool) {
        let sasl = first && !self.config.sasl.mechanisms.is_empty();
        let header = if sasl { SASL_HEADER } else { AMQP_HEADER };
        self.outbox.direct().extend_from_slice(&header);
    }

    /// Ends the connection because of what the peer did or did not do.
    pub(crate) fn fail(&mut self, error: Error) {
        self.fail_with(error, SaslCode::Auth);
    }

    /// The same; `code` is the outcome if the SASL layer is not over.
    fn fail_with(&mut self, error: Error, code: SaslCode) {
        self.say_before_open(Some(&error), code);
        match &self.state {
            State::AwaitOpen | State::OpenReceived | State::Open => {
                self.write_close(Some(error.clone()));
                self.finish(CloseReason::Local(Some(error)));
            }
            State::CloseSent(own) => {
                let own = own.clone();
                self.finish(CloseReason::Local(own));
            }
            State::Sasl(_) => self.finish(CloseReason::SaslFailed),
            State::AwaitHeader | State::AwaitAmqpHeader | State::Closed => {
                self.finish(CloseReason::Local(Some(error)));
            }
        }
    }

    /// The last event. Everything is let go but what is written already.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        if matches!(self.state, State::Closed) {
            return;
        }
        let pending: Vec<u32> = self
            .links
            .ids()
            .filter(|&id| self.links.get(id).is_some_and(|link| link.state == LinkState::AttachPending))
            .collect();
        for id in pending {
            self.push(Event::AttachCancelled(crate::LinkId(id)));
        }
        let sessions: Vec<u32> = self.sessions.ids().collect();
        for id in sessions {
            let dropped = self.sessions.get_mut(id).map(crate::session::AmqpSession::drop_everything);
            if let Some((deliveries, _)) = dropped.filter(|(deliveries, _)| !deliveries.is_empty()) {
                self.push(Event::CutOff { deliveries });
            }
        }
        self.push(Event::Closed(reason));
        self.state = State::Closed;
        self.timers.stop();
        self.receive = bytes::BytesMut::new();
        self.sessions = super::Slab::new();
        self.links = super::Slab::new();
        self.names = super::LinkNames::default();
        self.remote_channels = NumberTable::new();
        self.local_channels = NumberTable::new();
        self.ready.clear();
        self.dirty.clear();
        self.pending_attaches = 0;
        self.reassembly_bytes = 0;
        self.queued_bytes = 0;
    }

    pub(crate) fn on_due(&mut self, due: Due) {
        match due {
            // Not the credentials' fault.
            Due::Open => self.fail_with(Violation::OpenTimeOut.to_error(), SaslCode::SysTemp),
            Due::Idle => self.fail(Violation::IdleTimeOut.to_error()),
            Due::Close => self.fail(Violation::CloseTimeOut.to_error()),
            Due::Heartbeat => {
                if self.outbox_bytes() == 0 && matches!(self.state, State::Open) {
                    codec::encode_heartbeat(self.outbox.direct());
                }
                self.timers.sent();
            }
        }
    }
}
