//! Deliveries to the peer: ids, fragments, turns.
//!
//! Some clients insist that the first frames of a session's deliveries come in the order of their
//! ids without a gap. So ids are given out by `send`, deliveries begin in that order, and what
//! takes turns is the rest of those that are under way, at most one of each link.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Link, LinkState};
use crate::{
    connection::Connection,
    event::{AmqpSessionId, DeliveryRef, LinkId, OutgoingDelivery},
    outbox::{FRAMED_BYTES_AIM, Outbox},
    session::AmqpSession,
    types::{Flow, Role, Transfer},
};

/// Bytes of one link before another one's turn; also the largest transfer frame, whatever the peer
/// would take.
const TURN_BYTES: usize = 64 << 10;

/// Bytes that a queued delivery is counted with besides its payload.
const QUEUED_DELIVERY_BYTES: usize = 64;

/// Longest delivery-tag (AMQP 1.0, 2.8.7).
const DELIVERY_TAG_BYTES_MAX: usize = 32;

/// Why a delivery was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendRefused {
    /// The link is gone, detached, not answered yet, or one on which the peer sends.
    #[error("the link cannot send")]
    LinkGone,
    /// All credit is used up.
    #[error("no link-credit is left")]
    NoCredit,
    /// As many deliveries are unsettled as the limit allows.
    #[error("too many unsettled deliveries on the link")]
    UnsettledLimit,
    /// The delivery-tag has more than 32 bytes.
    #[error("a delivery-tag has at most 32 bytes")]
    TagTooLong,
}

/// A link on which this end sends.
#[derive(Debug)]
pub(crate) struct OutgoingLink {
    /// Deliveries begun.
    pub(crate) delivery_count: u32,
    /// Deliveries that may begin, those queued among them.
    pub(crate) credit: u32,
    /// Deliveries in the AMQP session's queue.
    pub(crate) queued: u32,
    /// Whether a delivery is under way.
    pub(crate) sending: bool,
    /// The peer asked for drain.
    pub(crate) drain: bool,
    /// `drained` was called while deliveries were queued.
    pub(crate) drained_due: bool,
    pub(crate) available: u32,
    /// The last flow before the attach was answered.
    pub(crate) held_flow: Option<Flow>,
}

impl OutgoingLink {
    pub(crate) fn new(delivery_count: u32) -> Self {
        Self {
            delivery_count,
            credit: 0,
            queued: 0,
            sending: false,
            drain: false,
            drained_due: false,
            available: 0,
            held_flow: None,
        }
    }

    /// Deliveries that may be given to `send`.
    pub(crate) fn free_credit(&self) -> u32 {
        self.credit.saturating_sub(self.queued)
    }
}

/// A delivery with its id, of which no frame was written.
#[derive(Debug)]
pub(crate) struct QueuedDelivery {
    pub(crate) link: LinkId,
    handle: u32,
    id: u32,
    tag: Bytes,
    message_format: u32,
    settled: bool,
    payload: [Bytes; 2],
    /// Its payload is given in parts.
    open: Option<Box<OpenEnd>>,
}

/// The end of a delivery whose payload was not known as a whole when it was sent.
#[derive(Debug, Default)]
struct OpenEnd {
    /// Behind `payload`.
    later: VecDeque<Bytes>,
    later_bytes: usize,
    /// Nothing more is given.
    finished: bool,
    aborted: bool,
}

impl QueuedDelivery {
    /// What it counts for in the outbox.
    pub(crate) fn bytes(&self) -> usize {
        self.payload_bytes() + QUEUED_DELIVERY_BYTES
    }

    fn payload_bytes(&self) -> usize {
        let later_bytes = self.open.as_ref().map_or(0, |open| open.later_bytes);
        self.payload[0].len() + self.payload[1].len() + later_bytes
    }

    /// Whether nothing can be framed before more is given.
    fn is_starved(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.finished && self.payload_bytes() == 0)
    }

    /// Moves what can be framed next to the front; whether more comes behind it.
    fn refill(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        for piece in &mut self.payload {
            if piece.is_empty()
                && let Some(next) = open.later.pop_front()
            {
                open.later_bytes -= next.len();
                *piece = next;
            }
        }
        if self.payload[0].is_empty() {
            self.payload.swap(0, 1);
        }
        !open.finished || !open.later.is_empty()
    }

    /// Names it for the driver.
    pub(crate) fn reference(&self) -> DeliveryRef {
        DeliveryRef { link: self.link, id: self.id }
    }

    fn first_transfer(&self) -> Transfer {
        Transfer {
            handle: self.handle,
            delivery_id: Some(self.id),
            delivery_tag: Some(self.tag.clone()),
            message_format: Some(self.message_format),
            settled: Some(self.settled),
            ..Transfer::default()
        }
    }

    /// Continuations name the link only: some clients take a frame with a delivery-id for a
    /// delivery's first one.
    fn next_transfer(&self) -> Transfer {
        Transfer { handle: self.handle, ..Transfer::default() }
    }
}

/// A delivery of which some frames were written; its payload is what is left.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) delivery: QueuedDelivery,
}

impl AmqpSession {
    /// Writes frames of one delivery while window and turn allow; the delivery is returned if
    /// something is left of it.
    fn write_frames(
        &mut self,
        outbox: &mut Outbox,
        frame_size_max: usize,
        mut delivery: QueuedDelivery,
        mut transfer: Transfer,
    ) -> Option<QueuedDelivery> {
        let mut written = 0;
        loop {
            let open = delivery.refill();
            transfer.aborted = delivery.open.as_ref().is_some_and(|open| open.aborted);
            written += outbox.transfer(
                self.local_channel,
                &mut transfer,
                &mut delivery.payload,
                frame_size_max,
                open,
            );
            self.outgoing.take();
            if !transfer.more {
                return None;
            }
            if written >= TURN_BYTES || self.outgoing.left() == 0 || delivery.is_starved() {
                return Some(delivery);
            }
            transfer = delivery.next_transfer();
        }
    }
}

impl Connection {
    /// Deliveries that can be sent on a link now: link-credit, the peer's incoming-window, the
    /// bound of unsettled ones; 0 while more than `outbox_bytes_high` waits on the connection. `send` takes more than this
    /// as long as there is credit, and keeps it until the window opens.
    #[must_use]
    pub fn sendable(&self, link: LinkId) -> u32 {
        let limits = &self.config.limits;
        if self.is_closing() || self.backlog_bytes() > limits.outbox_bytes_high {
            return 0;
        }
        let Some(entry) = self.links.get(link.0) else { return 0 };
        let super::LinkKind::Outgoing(outgoing) = &entry.kind else { return 0 };
        if entry.state != LinkState::Attached {
            return 0;
        }
        let Some(session) = self.sessions.get(entry.session.0) else { return 0 };
        // A delivery that waits for its next part takes nothing of the window before it has that.
        let under_way = session.sending.iter().filter(|sending| !sending.delivery.is_starved()).count();
        let waiting = u32::try_from(session.queue.len() + under_way).unwrap_or(u32::MAX);
        outgoing
            .free_credit()
            .min(session.outgoing.left().saturating_sub(waiting))
            .min(limits.unsettled_per_link_max.saturating_sub(entry.unsettled))
    }

    /// Transfers that the peer takes now on a link's AMQP session, whoever sends them.
    #[must_use]
    pub fn peer_window(&self, link: LinkId) -> u32 {
        let session = self.links.get(link.0).and_then(|entry| self.sessions.get(entry.session.0));
        session.map_or(0, |session| session.outgoing.left())
    }

    /// Whether deliveries of a link wait to be framed, or one is framed in part.
    #[must_use]
    pub fn is_sending(&self, link: LinkId) -> bool {
        let Some(entry) = self.links.get(link.0) else { return false };
        let super::LinkKind::Outgoing(outgoing) = &entry.kind else { return false };
        outgoing.sending || outgoing.queued > 0
    }

    /// Sends a delivery: cut into frames of the peer's max-frame-size, in turns with other links.
    ///
    /// # Errors
    /// See [`SendRefused`]; nothing was sent then.
    pub fn send(&mut self, link: LinkId, delivery: OutgoingDelivery) -> Result<DeliveryRef, SendRefused> {
        self.send_queued(link, delivery, None)
    }

    /// Begins a delivery whose payload goes on: give the rest with [`Self::send_part`]. It uses the
    /// link, but neither its AMQP session nor the connection, until it ends.
    ///
    /// # Errors
    /// See [`SendRefused`]; nothing was sent then.
    pub fn send_first_part(
        &mut self,
        link: LinkId,
        delivery: OutgoingDelivery,
    ) -> Result<DeliveryRef, SendRefused> {
        self.send_queued(link, delivery, Some(Box::default()))
    }

    /// The next bytes of a delivery of [`Self::send_first_part`]. Nothing happens if it is over.
    pub fn send_part(&mut self, delivery: DeliveryRef, bytes: Bytes, last: bool) {
        let Some((session, queued, queued_bytes)) = self.open_delivery(delivery) else { return };
        if let Some(open) = &mut queued.open {
            open.finished = last;
            if !bytes.is_empty() {
                open.later_bytes += bytes.len();
                *queued_bytes += bytes.len();
                open.later.push_back(bytes);
            }
        }
        self.go_on(session);
    }

    /// Gives up a delivery that is not framed as a whole: the peer is told to forget what it has.
    /// It is not unsettled any more. Nothing happens if it is over.
    pub fn abort_send(&mut self, delivery: DeliveryRef) {
        let Some((session, queued, queued_bytes)) = self.unframed_delivery(delivery) else { return };
        *queued_bytes -= queued.bytes();
        queued.payload = Default::default();
        queued.open = Some(Box::new(OpenEnd { finished: true, aborted: true, ..OpenEnd::default() }));
        *queued_bytes += queued.bytes();
        self.forget(session, Role::Receiver, delivery);
        self.go_on(session);
    }

    /// Bytes of a delivery that are not framed yet; `None` if it is over: whole in the outbox,
    /// aborted, or dropped with its link.
    #[must_use]
    pub fn unframed_bytes(&self, delivery: DeliveryRef) -> Option<usize> {
        let session = self.sessions.get(self.links.get(delivery.link.0)?.session.0)?;
        let sending = session.sending.iter().map(|sending| &sending.delivery);
        sending
            .chain(&session.queue)
            .find(|queued| queued.reference() == delivery)
            .map(QueuedDelivery::payload_bytes)
    }

    /// A delivery that waits for more to send.
    fn open_delivery(
        &mut self,
        delivery: DeliveryRef,
    ) -> Option<(AmqpSessionId, &mut QueuedDelivery, &mut usize)> {
        let found = self.unframed_delivery(delivery)?;
        found.1.open.as_ref().is_some_and(|open| !open.finished).then_some(found)
    }

    /// A delivery of which not everything is framed, unless it was aborted.
    fn unframed_delivery(
        &mut self,
        delivery: DeliveryRef,
    ) -> Option<(AmqpSessionId, &mut QueuedDelivery, &mut usize)> {
        let id = self.links.get(delivery.link.0)?.session;
        let session = self.sessions.get_mut(id.0)?;
        let sending = session.sending.iter_mut().map(|sending| &mut sending.delivery);
        let queued = sending.chain(&mut session.queue).find(|queued| queued.reference() == delivery)?;
        let aborted = queued.open.as_ref().is_some_and(|open| open.aborted);
        (!aborted).then_some((id, queued, &mut self.queued_bytes))
    }

    /// Sends what can be sent of an AMQP session that has something new.
    fn go_on(&mut self, session: AmqpSessionId) {
        self.mark_ready(session);
        self.pump();
        self.note_congestion();
    }

    fn send_queued(
        &mut self,
        link: LinkId,
        delivery: OutgoingDelivery,
        open: Option<Box<OpenEnd>>,
    ) -> Result<DeliveryRef, SendRefused> {
        let unsettled_max = self.config.limits.unsettled_per_link_max;
        if self.is_closing() {
            return Err(SendRefused::LinkGone);
        }
        let entry = self.links.get_mut(link.0).ok_or(SendRefused::LinkGone)?;
        let (session_id, unsettled, state) = (entry.session, entry.unsettled, entry.state);
        let handle = entry.local_handle.ok_or(SendRefused::LinkGone)?;
        let outgoing = entry.as_outgoing().ok_or(SendRefused::LinkGone)?;
        if state != LinkState::Attached {
            return Err(SendRefused::LinkGone);
        }
        if delivery.tag.len() > DELIVERY_TAG_BYTES_MAX {
            return Err(SendRefused::TagTooLong);
        }
        if outgoing.free_credit() == 0 {
            return Err(SendRefused::NoCredit);
        }
        if !delivery.settled && unsettled >= unsettled_max {
            return Err(SendRefused::UnsettledLimit);
        }
        let session = self.sessions.get_mut(session_id.0).ok_or(SendRefused::LinkGone)?;
        let id = session.next_delivery_id;
        session.next_delivery_id = id.wrapping_add(1);
        outgoing.queued += 1;
        if !delivery.settled && session.sent.push(id, link, Some(delivery.tag.clone())) {
            entry.unsettled += 1;
        }
        let queued = QueuedDelivery {
            link,
            handle,
            id,
            tag: delivery.tag,
            message_format: delivery.message_format,
            settled: delivery.settled,
            payload: [delivery.prefix, delivery.rest],
            open,
        };
        self.queued_bytes += queued.bytes();
        session.queue.push_back(queued);
        self.mark_ready(session_id);
        self.pump();
        self.note_congestion();
        Ok(DeliveryRef { link, id })
    }

    /// Puts an AMQP session into the list of those that can send.
    pub(crate) fn mark_ready(&mut self, id: AmqpSessionId) {
        if let Some(session) = self.sessions.get_mut(id.0)
            && !session.ready
            && session.outgoing.left() > 0
            && !(session.queue.is_empty() && session.sending.is_empty())
        {
            session.ready = true;
            self.ready.push_back(id);
        }
    }

    /// Frames what waits, turn by turn, until enough is ready for the transport. Nothing follows
    /// close (2.4.3): what is not framed by then is dropped with the connection.
    pub(crate) fn pump(&mut self) {
        if self.is_closing() {
            return;
        }
        while self.outbox.len() < FRAMED_BYTES_AIM {
            let Some(id) = self.ready.pop_front() else { return };
            if let Some(session) = self.sessions.get_mut(id.0) {
                session.ready = false;
                if self.take_turn(id) {
                    self.mark_ready(id);
                }
            }
        }
    }

    /// One turn of an AMQP session; false if nothing could be sent.
    fn take_turn(&mut self, id: AmqpSessionId) -> bool {
        let frame_size_max = self.remote.max_frame_size.min(TURN_BYTES);
        let Some(session) = self.sessions.get_mut(id.0) else { return false };
        if session.outgoing.left() == 0 {
            return false;
        }
        let next = session.queue.front().map(|queued| queued.link);
        let can_begin = next.is_some_and(|link| !session.sending.iter().any(|s| s.delivery.link == link));
        let under_way = session.sending.iter().position(|sending| !sending.delivery.is_starved());
        let begin = can_begin && (under_way.is_none() || !session.sending_first);
        session.sending_first = begin;
        let (delivery, transfer) = if begin {
            let Some(delivery) = session.queue.pop_front() else { return false };
            let transfer = delivery.first_transfer();
            if let Some(outgoing) = self.links.get_mut(delivery.link.0).and_then(Link::as_outgoing) {
                outgoing.queued = outgoing.queued.saturating_sub(1);
                outgoing.credit = outgoing.credit.saturating_sub(1);
                outgoing.delivery_count = outgoing.delivery_count.wrapping_add(1);
                outgoing.sending = true;
            }
            (delivery, transfer)
        } else {
            let under_way = under_way.and_then(|at| session.sending.remove(at));
            let Some(Sending { delivery }) = under_way else { return false };
            let transfer = delivery.next_transfer();
            (delivery, transfer)
        };
        let link = delivery.link;
        self.queued_bytes -= delivery.bytes();
        // An outcome for this end's earlier deliveries comes before a message that it may free.
        session.flush_run(&mut self.outbox, Role::Sender);
        match session.write_frames(&mut self.outbox, frame_size_max, delivery, transfer) {
            Some(delivery) => {
                self.queued_bytes += delivery.bytes();
                session.sending.push_back(Sending { delivery });
            }
            None => self.delivery_written(link),
        }
        true
    }

    fn delivery_written(&mut self, link: LinkId) {
        let Some(outgoing) = self.links.get_mut(link.0).and_then(Link::as_outgoing) else { return };
        outgoing.sending = false;
        if outgoing.drained_due && outgoing.queued == 0 {
            self.drained(link);
        }
    }
}
