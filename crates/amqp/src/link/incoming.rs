//! Transfers from the peer: reassembly, credit, bounds.

use bytes::{Bytes, BytesMut};

use super::{Link, LinkState};
use crate::{
    Event,
    connection::Connection,
    event::{AmqpSessionId, DeliveryRef, LinkId, Parts},
    session::AmqpSessionState,
    types::{Declared, DeliveryState, Flow, ReceiverSettleMode, TransactionalState, Transfer},
    violation::Violation,
};

/// Payloads up to this size are copied out of the read buffer, which would stay in memory as a
/// whole otherwise; larger ones keep their slice of it. In bytes.
const COPY_BYTES_MAX: usize = 16 << 10;

/// Deliveries beyond the credit that are taken all the same: some clients send as if they had
/// 10,000 before the first grant.
const OVER_CREDIT_DELIVERIES_MAX: u32 = 20_000;

/// Deliveries kept for an attach that is not answered yet.
const HELD_DELIVERIES_MAX: usize = 20_000;

/// A delivery of which some frames came.
#[derive(Debug)]
struct Partial {
    id: u32,
    tag: Bytes,
    message_format: u32,
    settled: bool,
    state: Option<DeliveryState>,
    /// What was not reported yet.
    payload: BytesMut,
    /// Bytes that came, reported ones too.
    size: u64,
    /// A part of it was reported.
    reported: bool,
    /// It was too large: the rest is thrown away.
    discarding: bool,
}

impl Partial {
    /// Whether a transfer names this delivery, or none (2.7.5).
    fn is_continued_by(&self, transfer: &Transfer) -> bool {
        let same_tag = |tag: &Bytes| self.tag.is_empty() || *tag == self.tag;
        transfer.delivery_id.is_none_or(|id| id == self.id)
            && transfer.delivery_tag.as_ref().is_none_or(same_tag)
            && transfer.message_format.is_none_or(|format| format == self.message_format)
    }

    fn new(id: u32, tag: Bytes, message_format: u32, settled: bool, state: Option<DeliveryState>) -> Self {
        Self {
            id,
            tag,
            message_format,
            settled,
            state,
            payload: BytesMut::new(),
            size: 0,
            reported: false,
            discarding: false,
        }
    }

    /// Takes bytes in, and hands on every part that is full.
    fn fill(
        &mut self,
        delivery: DeliveryRef,
        mut bytes: &[u8],
        parts: Option<Parts>,
        events: &mut Vec<Event>,
    ) {
        self.size += bytes.len() as u64;
        let Some(parts) = parts.filter(|parts| self.reported || self.size > parts.over_bytes as u64) else {
            self.payload.extend_from_slice(bytes);
            return;
        };
        loop {
            let room = parts.part_bytes.saturating_sub(self.payload.len());
            let (fits, left) = bytes.split_at(room.min(bytes.len()));
            self.payload.extend_from_slice(fits);
            bytes = left;
            if self.payload.len() < parts.part_bytes {
                return;
            }
            let full = self.payload.split_to(parts.part_bytes).freeze();
            // A block of its own for the next part, so that none keeps the memory of another.
            let mut next = BytesMut::with_capacity(parts.part_bytes);
            next.extend_from_slice(&self.payload);
            self.payload = next;
            events.push(self.part(delivery, full, false));
        }
    }

    fn part(&mut self, delivery: DeliveryRef, payload: Bytes, last: bool) -> Event {
        Event::DeliveryPart {
            delivery,
            first: !std::mem::replace(&mut self.reported, true),
            last,
            message_format: self.message_format,
            settled: self.settled,
            state: self.state.clone(),
            payload,
        }
    }
}

/// A link on which the peer sends.
#[derive(Debug)]
pub(crate) struct IncomingLink {
    pub(crate) delivery_count: u32,
    pub(crate) credit: u32,
    over_credit: u32,
    /// Credit that is kept topped up.
    pub(crate) auto_credit: Option<u32>,
    pub(crate) max_message_size: Option<u64>,
    pub(crate) parts: Option<Parts>,
    /// Whether its transfers may ask for rcv-settle-mode second.
    settles_second: bool,
    /// See [`AttachReply`](crate::AttachReply).
    pub(crate) takes_repeated_ids: bool,
    partial: Option<Box<Partial>>,
    /// Events of an attach that is not answered yet.
    pub(crate) held: Vec<Event>,
    /// Payload bytes in `held`.
    pub(crate) held_bytes: usize,
    pub(crate) held_flow: Option<Flow>,
}

impl IncomingLink {
    pub(crate) fn new(delivery_count: u32, mode: Option<ReceiverSettleMode>) -> Self {
        Self {
            delivery_count,
            settles_second: mode == Some(ReceiverSettleMode::Second),
            takes_repeated_ids: false,
            credit: 0,
            over_credit: 0,
            auto_credit: None,
            max_message_size: None,
            parts: None,
            partial: None,
            held: Vec::new(),
            held_bytes: 0,
            held_flow: None,
        }
    }

    /// Forgets a partial delivery; its bytes.
    pub(crate) fn drop_partial(&mut self) -> usize {
        self.partial.take().map_or(0, |partial| partial.payload.len())
    }

    pub(crate) fn grant(&mut self, credit: u32) {
        self.credit = credit;
        self.over_credit = 0;
    }

    /// Counts a delivery; false if the peer went too far beyond its credit.
    fn count_delivery(&mut self) -> bool {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        if self.credit > 0 {
            self.credit -= 1;
            return true;
        }
        self.over_credit += 1;
        self.over_credit <= OVER_CREDIT_DELIVERIES_MAX
    }
}

/// Copies what a state keeps of the read buffer.
pub(crate) fn unpin_state(state: DeliveryState) -> DeliveryState {
    match state {
        DeliveryState::Transactional(TransactionalState { txn_id, outcome }) => {
            DeliveryState::Transactional(TransactionalState {
                txn_id: Bytes::copy_from_slice(&txn_id),
                outcome,
            })
        }
        DeliveryState::Declared(Declared { txn_id }) => {
            DeliveryState::Declared(Declared { txn_id: Bytes::copy_from_slice(&txn_id) })
        }
        other => other,
    }
}

/// A delivery that came whole before the attach was answered, told as the answer wants it.
pub(crate) fn released(event: Event, max: u64, parts: Option<Parts>) -> Vec<Event> {
    match (within_size(event, max), parts) {
        (Event::Delivery { delivery, tag, message_format, settled, state, payload }, Some(parts))
            if payload.len() > parts.over_bytes =>
        {
            let mut partial = Partial::new(delivery.id, tag, message_format, settled, state);
            let mut events = Vec::new();
            partial.fill(delivery, &payload, Some(parts), &mut events);
            let rest = std::mem::take(&mut partial.payload).freeze();
            events.push(partial.part(delivery, rest, true));
            events
        }
        (event, _) => vec![event],
    }
}

/// A delivery that came before the link's limit was known, judged by it.
fn within_size(event: Event, max: u64) -> Event {
    match event {
        Event::Delivery { delivery, settled, payload, .. } if payload.len() as u64 > max => {
            Event::DeliveryTooLarge { delivery, settled, complete: true }
        }
        other => other,
    }
}

/// Copies tag and payload out of the read buffer, into one block.
fn unpin(tag: &Bytes, payload: Bytes) -> (Bytes, Bytes) {
    if payload.len() > COPY_BYTES_MAX {
        return (Bytes::copy_from_slice(tag), payload);
    }
    let mut block = BytesMut::with_capacity(tag.len() + payload.len());
    block.extend_from_slice(tag);
    block.extend_from_slice(&payload);
    let mut block = block.freeze();
    let tag = block.split_to(tag.len());
    (tag, block)
}

impl Connection {
    pub(crate) fn on_transfer(
        &mut self,
        channel: u16,
        transfer: Transfer,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let id = self.session_on(channel)?;
        let strict = self.config.strict_windows;
        let Some(session) = self.sessions.get_mut(id.0) else { return Ok(()) };
        if session.state == AmqpSessionState::EndSent {
            return Ok(());
        }
        let within_window = session.incoming.take();
        if strict && !within_window {
            return Err(Violation::WindowViolated);
        }
        let window_half_used = session.incoming.half_used();
        let link = self.link_with_handle(id, transfer.handle)?;
        let result = self.on_link_transfer(id, link, transfer, payload);
        if let Err(violation) = result {
            if violation.scope() != crate::Scope::Link {
                return Err(violation);
            }
            self.fail_link(link, violation);
        }
        if window_half_used {
            self.send_session_flow(id);
        }
        Ok(())
    }

    fn on_link_transfer(
        &mut self,
        session: AmqpSessionId,
        link: LinkId,
        transfer: Transfer,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let Some(entry) = self.links.get_mut(link.0) else { return Ok(()) };
        if !matches!(entry.state, LinkState::AttachPending | LinkState::Attached) {
            return Ok(());
        }
        let incoming = entry.as_incoming().ok_or(Violation::TransferFromReceiver)?;
        if transfer.rcv_settle_mode == Some(ReceiverSettleMode::Second) && !incoming.settles_second {
            return Err(Violation::ReceiverSettleMode);
        }
        match incoming.partial.take() {
            Some(partial) => {
                self.reassembly_bytes -= partial.payload.len();
                if !partial.is_continued_by(&transfer) {
                    return Err(Violation::DeliveryInterleaved);
                }
                self.continue_delivery(session, link, partial, transfer, payload)
            }
            None => self.begin_delivery(session, link, transfer, payload),
        }
    }

    fn begin_delivery(
        &mut self,
        session: AmqpSessionId,
        link: LinkId,
        transfer: Transfer,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let id = transfer.delivery_id.ok_or(Violation::DeliveryIdMissing)?;
        let settled = transfer.settled.unwrap_or(false);
        let tag = match transfer.delivery_tag {
            Some(tag) => tag,
            // Nobody will speak of it again.
            None if settled || transfer.aborted => Bytes::new(),
            None => return Err(Violation::DeliveryTagMissing),
        };
        if !settled && !transfer.aborted {
            self.track_received(session, link, id)?;
        }
        if transfer.aborted {
            return self.abort_delivery(link);
        }
        let state = transfer.state.map(unpin_state);
        let message_format = transfer.message_format.unwrap_or(0);
        if !transfer.more {
            let (tag, payload) = unpin(&tag, payload);
            let event = Event::Delivery {
                delivery: DeliveryRef { link, id },
                tag,
                message_format,
                settled,
                state,
                payload,
            };
            return self.complete_delivery(link, event);
        }
        let partial = Partial::new(id, Bytes::copy_from_slice(&tag), message_format, settled, state);
        self.append(link, Box::new(partial), &payload)
    }

    fn continue_delivery(
        &mut self,
        session: AmqpSessionId,
        link: LinkId,
        mut partial: Box<Partial>,
        transfer: Transfer,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let delivery = DeliveryRef { link, id: partial.id };
        if transfer.aborted {
            self.forget(session, crate::types::Role::Sender, delivery);
            if partial.reported && !partial.discarding {
                self.push(Event::DeliveryAborted(delivery));
            }
            return self.abort_delivery(link);
        }
        if transfer.settled == Some(true) && !partial.settled {
            partial.settled = true;
            self.forget(session, crate::types::Role::Sender, delivery);
        }
        if transfer.state.is_some() {
            partial.state = transfer.state.map(unpin_state);
        }
        if transfer.more {
            return self.append(link, partial, &payload);
        }
        if partial.discarding {
            return self.count_delivery(link);
        }
        let parts = self.links.get_mut(link.0).and_then(Link::as_incoming).and_then(|link| link.parts);
        let large =
            |parts: Parts| partial.reported || partial.size + payload.len() as u64 > parts.over_bytes as u64;
        if parts.is_some_and(large) {
            return self.complete_in_parts(link, *partial, &payload);
        }
        let Partial { id, tag, message_format, settled, state, payload: mut bytes, .. } = *partial;
        bytes.extend_from_slice(&payload);
        let delivery = DeliveryRef { link, id };
        let event =
            Event::Delivery { delivery, tag, message_format, settled, state, payload: bytes.freeze() };
        self.complete_delivery(link, event)
    }

    /// The last frame of a delivery that is reported in parts.
    fn complete_in_parts(
        &mut self,
        link: LinkId,
        mut partial: Partial,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Some(incoming) = self.links.get_mut(link.0).and_then(Link::as_incoming) else { return Ok(()) };
        let delivery = DeliveryRef { link, id: partial.id };
        let mut events = Vec::new();
        if incoming.max_message_size.is_some_and(|max| partial.size + payload.len() as u64 > max) {
            events.push(Event::DeliveryTooLarge { delivery, settled: partial.settled, complete: true });
        } else {
            partial.fill(delivery, payload, incoming.parts, &mut events);
            let rest = std::mem::take(&mut partial.payload).freeze();
            events.push(partial.part(delivery, rest, true));
        }
        events.into_iter().for_each(|event| self.push(event));
        self.count_delivery(link)
    }

    /// Keeps one more frame of a delivery that is not complete.
    fn append(&mut self, link: LinkId, mut partial: Box<Partial>, payload: &[u8]) -> Result<(), Violation> {
        let bytes_max = self.config.limits.reassembly_bytes_max;
        let Some(incoming) = self.links.get_mut(link.0).and_then(Link::as_incoming) else { return Ok(()) };
        let delivery = DeliveryRef { link, id: partial.id };
        let mut events = Vec::new();
        if !partial.discarding {
            if incoming.max_message_size.is_some_and(|max| partial.size + payload.len() as u64 > max) {
                partial.discarding = true;
                partial.payload = BytesMut::new();
                events.push(Event::DeliveryTooLarge { delivery, settled: partial.settled, complete: false });
            } else if self.reassembly_bytes + partial.payload.len() + payload.len() > bytes_max {
                return Err(Violation::ReassemblyLimit);
            } else {
                partial.fill(delivery, payload, incoming.parts, &mut events);
            }
        }
        self.reassembly_bytes += partial.payload.len();
        incoming.partial = Some(partial);
        events.into_iter().for_each(|event| self.push(event));
        Ok(())
    }

    fn complete_delivery(&mut self, link: LinkId, event: Event) -> Result<(), Violation> {
        let bytes_max = self.config.limits.reassembly_bytes_max;
        let Some(entry) = self.links.get_mut(link.0) else { return Ok(()) };
        let pending = entry.state == LinkState::AttachPending;
        let Some(incoming) = entry.as_incoming() else { return Ok(()) };
        let size = match &event {
            Event::Delivery { payload, .. } => payload.len(),
            _ => 0,
        };
        let max = incoming.max_message_size.unwrap_or(u64::MAX);
        if !pending {
            match incoming.parts.filter(|parts| size > parts.over_bytes) {
                None => self.push(within_size(event, max)),
                parts => released(event, max, parts).into_iter().for_each(|event| self.push(event)),
            }
            return self.count_delivery(link);
        }
        if incoming.held.len() >= HELD_DELIVERIES_MAX || self.reassembly_bytes + size > bytes_max {
            return Err(Violation::ReassemblyLimit);
        }
        self.reassembly_bytes += size;
        incoming.held_bytes += size;
        incoming.held.push(event);
        self.count_delivery(link)
    }

    fn count_delivery(&mut self, link: LinkId) -> Result<(), Violation> {
        let Some(incoming) = self.links.get_mut(link.0).and_then(Link::as_incoming) else { return Ok(()) };
        if !incoming.count_delivery() {
            return Err(Violation::TransferLimit);
        }
        self.top_up_credit(link);
        Ok(())
    }

    /// An aborted delivery costs no credit: it is given back, and the peer is told.
    fn abort_delivery(&mut self, link: LinkId) -> Result<(), Violation> {
        let Some(entry) = self.links.get_mut(link.0) else { return Ok(()) };
        let attached = entry.state == LinkState::Attached;
        let Some(incoming) = entry.as_incoming() else { return Ok(()) };
        let credit = incoming.credit;
        if !incoming.count_delivery() {
            return Err(Violation::TransferLimit);
        }
        if credit > 0 {
            incoming.credit = credit;
            if attached {
                self.send_link_flow(link, false);
            }
        }
        Ok(())
    }

    fn track_received(&mut self, session: AmqpSessionId, link: LinkId, id: u32) -> Result<(), Violation> {
        let unsettled_max = self.config.limits.unsettled_per_link_max;
        let (Some(entry), Some(session)) = (self.links.get_mut(link.0), self.sessions.get_mut(session.0))
        else {
            return Ok(());
        };
        if entry.unsettled >= unsettled_max {
            return Err(Violation::TooManyUnsettled);
        }
        if session.received.insert(id, link) {
            entry.unsettled += 1;
            return Ok(());
        }
        // The outcome of the one would be told for the other.
        let repeats = session.received.get(id).is_some_and(|other| other.link == link);
        let takes_repeated_ids = entry.as_incoming().is_some_and(|incoming| incoming.takes_repeated_ids);
        if repeats && takes_repeated_ids { Ok(()) } else { Err(Violation::DeliveryIdInUse) }
    }
}
