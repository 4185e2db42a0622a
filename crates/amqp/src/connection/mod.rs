//! The engine of one connection.

mod config;
mod frames;
mod lifecycle;
pub(crate) mod numbers;
mod slab;

use std::{collections::VecDeque, io::IoSlice, sync::Arc};

use bytes::{Bytes, BytesMut};

pub use self::config::{ClientSasl, Config, Limits, SaslPolicy};
pub(crate) use self::lifecycle::{SASL_HEADER, State};
use self::{
    lifecycle::Peer,
    numbers::{FreeNumbers, NumberTable},
    slab::Slab,
};
use crate::{
    event::{AmqpSessionId, DeliveryRef, Event},
    link::{Link, LinkKind, attach_state::LinkNames},
    outbox::{FRAMED_BYTES_AIM, Outbox},
    session::AmqpSession,
    timers::{Time, Timers},
    types::{DeliveryState, Error},
};

/// What an unwritten disposition counts for in `outbox_bytes`.
const DISPOSITION_BYTES: usize = 40;

/// Unparsed bytes that are kept while parsing waits for the driver, in bytes.
const PAUSED_BYTES_MAX: usize = 64 << 10;

/// Capacity of the receive buffer that an idle connection keeps, in bytes.
const IDLE_RECEIVE_BYTES_MAX: usize = 4 << 10;

/// Frames, events and deliveries named by dispositions that are worked off before the driver has
/// to take the events: a few bytes of a peer can name many deliveries.
const WORK_MAX: usize = 256;

/// What the peer's open said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) max_frame_size: usize,
    pub(crate) channel_max: u16,
}

/// An AMQP connection without a transport.
///
/// The order of use, for each turn of the driver's loop:
///
/// 1. Read into [`Self::receive_buffer`], then call [`Self::process`]. If
///    [`Self::wants_input`] says no, do not read.
/// 2. Call [`Self::poll_event`] until it has nothing more; give commands in answer. Commands may
///    be given at any time, also long afterwards. They never fail: one for something that is gone
///    does nothing.
/// 3. Write [`Self::transmit`] or [`Self::transmit_slices`], and say how much was written with
///    [`Self::transmitted`]. Both that call and any command can bring new events.
/// 4. At [`Self::next_timeout`], call [`Self::on_timeout`].
///
/// After [`Event::Closed`], write what is left and close the transport.
///
/// Every link that [`Event::Attach`] reports ends in exactly one of `AttachCancelled`,
/// `Detached`, `AmqpSessionEnded` (in its list) and `Closed`.
#[derive(Debug)]
pub struct Connection {
    pub(crate) config: Arc<Config>,
    peer: Peer,
    state: State,
    open_sent: bool,
    receive: BytesMut,
    pub(crate) outbox: Outbox,
    pub(crate) events: VecDeque<Event>,
    timers: Timers,
    pub(crate) remote: Remote,
    pub(crate) sessions: Slab<AmqpSession>,
    pub(crate) links: Slab<Link>,
    pub(crate) names: LinkNames,
    pub(crate) remote_channels: NumberTable<AmqpSessionId>,
    pub(crate) local_channels: NumberTable<AmqpSessionId>,
    pub(crate) free_channels: FreeNumbers,
    pub(crate) pending_attaches: u32,
    /// Bytes of partial deliveries and of those held for a pending attach.
    pub(crate) reassembly_bytes: usize,
    /// Bytes of deliveries that are not framed yet.
    pub(crate) queued_bytes: usize,
    /// AMQP sessions that can send, each at most once.
    pub(crate) ready: VecDeque<AmqpSessionId>,
    /// AMQP sessions with unwritten dispositions, each at most once.
    dirty: Vec<AmqpSessionId>,
    /// The outbox was over its mark: say so when it is not any more.
    congested: bool,
    /// Work done since the driver last took all events; see `WORK_MAX`.
    pub(crate) work: usize,
}

impl Connection {
    /// The end that accepted the transport.
    #[must_use]
    pub fn server(config: Arc<Config>, now: Time) -> Self {
        Self::new(config, Peer::Client, now)
    }

    /// The end that made the transport; without `sasl` there is no SASL layer. Headers, SASL and
    /// open go out by themselves.
    #[must_use]
    pub fn client(config: Arc<Config>, sasl: Option<ClientSasl>, now: Time) -> Self {
        let mut connection = Self::new(config, Peer::Server(sasl), now);
        connection.start_client();
        connection
    }

    fn new(config: Arc<Config>, peer: Peer, now: Time) -> Self {
        Self {
            timers: Timers::new(now, config.idle_time_out_ms),
            config,
            peer,
            state: State::AwaitHeader,
            open_sent: false,
            receive: BytesMut::new(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            remote: Remote {
                max_frame_size: crate::codec::MIN_MAX_FRAME_SIZE as usize,
                channel_max: u16::MAX,
            },
            sessions: Slab::new(),
            links: Slab::new(),
            names: LinkNames::default(),
            remote_channels: NumberTable::new(),
            local_channels: NumberTable::new(),
            free_channels: FreeNumbers::default(),
            pending_attaches: 0,
            reassembly_bytes: 0,
            queued_bytes: 0,
            ready: VecDeque::new(),
            dirty: Vec::new(),
            congested: false,
            work: 0,
        }
    }

    /// Where the driver appends what it reads.
    pub fn receive_buffer(&mut self) -> &mut BytesMut {
        &mut self.receive
    }

    /// Whether the driver should read. False while the peer does not take what is sent to it, and
    /// while parsing waits for `sasl_outcome` or `open`.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        let paused = self.state.waits_for_driver() && self.receive.len() >= PAUSED_BYTES_MAX;
        // Deliveries that wait for the peer's window do not count: the flow that opens it has to
        // be read.
        let mark = self.config.limits.outbox_bytes_high.max(2 * FRAMED_BYTES_AIM);
        !matches!(self.state, State::Closed) && !paused && self.outbox.len() <= mark
    }

    /// Takes whole frames from the receive buffer: all of them, or as many as make a good deal of
    /// work; then `poll_event` goes on with the others when it has given out what there is.
    /// Never fails: what breaks the specification is answered with detach, end or close, and
    /// reported.
    pub fn process(&mut self, now: Time) {
        self.timers.advance(now);
        if self.events.is_empty() {
            self.work = 0;
        }
        self.process_received();
    }

    pub(crate) fn process_received(&mut self) {
        while self.work < WORK_MAX && self.step() {
            self.work += 1;
        }
        if self.receive.is_empty() && self.receive.capacity() > IDLE_RECEIVE_BYTES_MAX {
            self.receive = BytesMut::new();
        }
        self.note_congestion();
    }

    /// The transport ended or failed; reported as [`Event::Closed`] unless that is known already.
    pub fn transport_closed(&mut self, now: Time) {
        self.timers.advance(now);
        self.finish(crate::event::CloseReason::Lost);
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        while self.events.is_empty() && self.work >= WORK_MAX {
            self.work = 0;
            self.process_received();
        }
        let event = self.events.pop_front();
        if event.is_none() {
            self.work = 0;
        }
        event
    }

    /// Bytes that the connection holds for its peer: what came and is not whole yet, and what
    /// waits to be sent.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.receive.len() + self.reassembly_bytes + self.outbox.len() + self.queued_bytes
    }

    /// Links and AMQP sessions at a time.
    #[must_use]
    pub fn links_and_amqp_sessions(&self) -> (usize, usize) {
        (self.links.len(), self.sessions.len())
    }

    pub(crate) fn push(&mut self, event: Event) {
        if !matches!(self.state, State::Closed) {
            self.work += 1;
            self.events.push_back(event);
        }
    }

    /// The first contiguous piece of what is to be written; empty if there is nothing.
    pub fn transmit(&mut self) -> &[u8] {
        self.flush_dispositions();
        self.pump();
        self.outbox.first()
    }

    /// What is to be written, as many pieces as `out` has places; returns how many are set.
    pub fn transmit_slices<'a>(&'a mut self, out: &mut [IoSlice<'a>]) -> usize {
        self.flush_dispositions();
        self.pump();
        self.outbox.slices(out)
    }

    /// The first `count` bytes of what `transmit` gave were written.
    pub fn transmitted(&mut self, count: usize) {
        self.outbox.written(count);
        if count > 0 {
            self.timers.sent();
        }
        self.pump();
        if self.congested && self.backlog_bytes() <= self.config.limits.outbox_bytes_high / 2 {
            self.congested = false;
            let sessions: Vec<u32> = self.sessions.ids().collect();
            for id in sessions {
                self.report_credit(AmqpSessionId(id), None);
            }
        }
    }

    /// Bytes that can be written now (about, while dispositions wait for neighbours). 0 exactly if
    /// `transmit` has nothing.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.len() + self.dirty.len() * DISPOSITION_BYTES
    }

    /// With the deliveries that are not framed yet: they wait for their turn or for the peer's
    /// window.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.outbox_bytes() + self.queued_bytes
    }

    pub(crate) fn note_congestion(&mut self) {
        if self.backlog_bytes() > self.config.limits.outbox_bytes_high {
            self.congested = true;
        }
    }

    /// Largest frame that the peer takes, in bytes.
    #[must_use]
    pub fn remote_max_frame_size(&self) -> usize {
        self.remote.max_frame_size
    }

    /// Gives deliveries a state, and settles them if `settled`; deliveries of both directions.
    /// Neighbours with one state become one disposition, across calls too until `transmit`.
    /// Deliveries that are not unsettled any more are passed over.
    pub fn settle(&mut self, deliveries: &[DeliveryRef], state: &DeliveryState, settled: bool) {
        if self.is_closing() {
            return;
        }
        for &delivery in deliveries {
            self.settle_one(delivery, state, settled);
        }
    }

    fn settle_one(&mut self, delivery: DeliveryRef, state: &DeliveryState, settled: bool) {
        let Some(link) = self.links.get_mut(delivery.link.0) else { return };
        let Some(session) = self.sessions.get_mut(link.session.0) else { return };
        let incoming = matches!(link.kind, LinkKind::Incoming(_));
        let ring = if incoming { &mut session.received } else { &mut session.sent };
        let known = ring.get(delivery.id).is_some_and(|entry| entry.link == delivery.link);
        if !known || !link.takes_settlement() {
            return;
        }
        if settled {
            ring.remove(delivery.id);
            link.unsettled = link.unsettled.saturating_sub(1);
        }
        session.dispose(&mut self.outbox, link.local_role(), delivery.id, state, settled);
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(link.session);
        }
        if settled && incoming {
            self.top_up_credit(delivery.link);
        }
    }

    /// Writes all dispositions that still wait for neighbours.
    pub(crate) fn flush_dispositions(&mut self) {
        while let Some(id) = self.dirty.pop() {
            if let Some(session) = self.sessions.get_mut(id.0) {
                session.dirty = false;
                session.flush_runs(&mut self.outbox);
            }
        }
    }

    /// The tag of an unsettled delivery that this end sent.
    #[must_use]
    pub fn delivery_tag(&self, delivery: DeliveryRef) -> Option<&Bytes> {
        let link = self.links.get(delivery.link.0)?;
        let entry = self.sessions.get(link.session.0)?.sent.get(delivery.id)?;
        entry.tag.as_ref().filter(|_| entry.link == delivery.link)
    }

    /// When `on_timeout` is to be called, if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Does what is due: heartbeats, closing for silence, giving up on a handshake.
    pub fn on_timeout(&mut self, now: Time) {
        self.timers.advance(now);
        while let Some(due) = self.timers.due() {
            self.on_due(due);
        }
    }

    /// Closes the connection; before open was answered, open goes out first. The end is reported
    /// by [`Event::Closed`] when the peer has answered, or does not in time.
    pub fn close(&mut self, error: Option<Error>) {
        self.start_close(error);
    }
}
