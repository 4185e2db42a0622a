//! A client's receivers: credit and permits towards the core, deliveries towards the client.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use lockstep_amqp::{
    Deliveries, DeliveryRef, LinkId,
    types::{DeliveryState, Outcome},
};
use lockstep_broker::core::{Command, Delivery, Departure, SettleVia};
use lockstep_model::{BodyId, LockToken, LockTokens, MessageSessionId, OutgoingLinkId, ReceiveMode, Refusal};
use lockstep_protocol::{attach_intent::MessageSessionFilterEcho, settlement};
use rustc_hash::FxHashMap;

use super::{
    Connection, LinkBinding,
    body_window::BodyWindow,
    outgoing_deliveries::outgoing,
    requests::Pending,
    streams::{self, Stream},
};

/// Deliveries that the core may have under way to one link, whatever the client's credit.
const PERMITS_MAX: u32 = 1_000;
/// Bytes of messages that the permits of one link should amount to.
const PERMITTED_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that one link may put into the outbox before the next link has its turn.
const TURN_BYTES_MAX: usize = 64 * 1024;
/// Assumed size of a message on a link that has not seen one yet.
const FIRST_SIZE_GUESS_BYTES: u64 = 4 * 1024;

/// One receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) outgoing: OutgoingLinkId,
    pub(crate) path: String,
    pub(crate) link_name: Box<str>,
    pub(crate) address: lockstep_model::EntityAddress,
    pub(crate) mode: ReceiveMode,
    /// How to answer the message-session filter, if there was one.
    pub(super) filter_echo: Option<MessageSessionFilterEcho>,
    /// The message session asked for by its id, for the text of a refusal.
    pub(super) asked_for: Option<MessageSessionId>,
    /// How long the accept of the next message session may wait, for the text of a refusal.
    pub(super) wait: Option<Duration>,
    /// The attach was granted; deliveries may be sent.
    pub(crate) open: bool,
    /// The link is in `ready_links`.
    ready: bool,
    /// The client asked to detach, or the core ended the link: nothing is sent any more.
    pub(crate) ending: bool,
    /// The core ended the link, and its detach is still to come.
    lost: bool,
    /// The client's credit as the engine last reported it, less what was sent since.
    credit: u32,
    /// The client asks to use its credit up.
    drain: bool,
    /// The core says that nothing more is available; answered when the queue is empty.
    drained: bool,
    /// Drains that the core was asked for and has not answered. Only the last answer counts: the
    /// limit was raised since the others.
    drains_asked: u32,
    /// What to tell the client when the core has let go of a link that the broker ends.
    pub(crate) end_error: Option<lockstep_amqp::types::Error>,
    /// Deliveries of the core that are not on the wire yet.
    pub(super) queue: VecDeque<Delivery>,
    /// The large message at the front of the queue that is about to be sent, or the one that is
    /// being sent.
    pub(super) stream: Option<Stream>,
    /// A large message whose first row is not enough to begin with: it is read as a whole.
    pub(super) read_whole: Option<BodyId>,
    /// Which of them have their bytes.
    pub(super) window: BodyWindow,
    /// Deliveries of the core that were taken off the queue, sent or returned.
    taken: u64,
    /// The cumulative limit that the core was last given.
    limit: u64,
    /// The outcome that the client named for deliveries it settles without one.
    default_outcome: Option<Outcome>,
    /// Receive-and-delete: the delivery that is on the wire in part, perhaps.
    sending: Option<(u32, LockToken)>,
    /// Moving average of message sizes.
    size_bytes: u64,
    /// Locks of deliveries that the client has not settled, by delivery-id.
    tokens: FxHashMap<u32, LockToken>,
}

impl Receiver {
    pub(crate) fn new(
        outgoing: OutgoingLinkId,
        address: lockstep_model::EntityAddress,
        path: String,
        link_name: &str,
        mode: ReceiveMode,
        default_outcome: Option<Outcome>,
        window: BodyWindow,
    ) -> Self {
        Self {
            outgoing,
            window,
            path,
            link_name: link_name.into(),
            address,
            mode,
            filter_echo: None,
            asked_for: None,
            wait: None,
            open: false,
            ready: false,
            ending: false,
            lost: false,
            credit: 0,
            drain: false,
            drained: false,
            drains_asked: 0,
            end_error: None,
            queue: VecDeque::new(),
            stream: None,
            read_whole: None,
            taken: 0,
            limit: 0,
            default_outcome,
            sending: None,
            size_bytes: FIRST_SIZE_GUESS_BYTES,
            tokens: FxHashMap::default(),
        }
    }

    /// Whether its client waits for something, or may hold a lock.
    pub(super) fn is_in_use(&self) -> bool {
        let has_message_session = self.filter_echo.is_some();
        let is_owed = self.credit > 0 || !self.queue.is_empty() || !self.tokens.is_empty();
        !self.open || has_message_session || is_owed || self.ending
    }

    /// Deliveries that the core may have under way now.
    fn permits(&self) -> u32 {
        let by_size = PERMITTED_BYTES_MAX / self.size_bytes.max(1);
        let by_size = u32::try_from(by_size).unwrap_or(u32::MAX).clamp(1, PERMITS_MAX);
        self.credit.min(by_size)
    }

    /// The command that brings the core's limit in line with credit and permits, if it is worth
    /// one: a smaller limit always is, a larger one when half of the permits are used up.
    fn credit_command(&mut self, forced: bool) -> Option<Command> {
        let permits = self.permits();
        let wanted = self.taken + u64::from(permits);
        let left = self.limit.saturating_sub(self.taken);
        let worth = wanted < self.limit || (wanted > self.limit && left <= u64::from(permits) / 2);
        if !worth && !forced {
            return None;
        }
        self.limit = wanted;
        self.drained = false;
        self.drains_asked += u32::from(self.drain);
        Some(Command::Credit { link: self.outgoing, limit: wanted, drain: self.drain })
    }

    /// The first delivery of the queue went out under this delivery-id.
    pub(super) fn note_sent(&mut self, delivery_id: u32, sent_tokens: &mut Vec<LockToken>) {
        let Some(delivery) = self.pop_front() else { return };
        self.taken += 1;
        self.credit = self.credit.saturating_sub(1);
        match self.mode {
            ReceiveMode::PeekLock => {
                self.tokens.insert(delivery_id, delivery.token);
            }
            // The one before it is whole by now.
            ReceiveMode::ReceiveAndDelete => {
                let before = self.sending.replace((delivery_id, delivery.token));
                sent_tokens.extend(before.map(|(_, token)| token));
            }
        }
    }

    /// The delivery was given up: its message is not this client's any more.
    pub(super) fn forget_sent(&mut self, delivery_id: u32) -> Option<LockToken> {
        let sending = self.sending.take_if(|(id, _)| *id == delivery_id).map(|(_, token)| token);
        sending.or_else(|| self.tokens.remove(&delivery_id))
    }

    /// The delivery that is on the wire in part will not be completed: its message goes back with
    /// the link.
    pub(super) fn forget_sending(&mut self) {
        self.sending = None;
    }

    /// The last receive-and-delete delivery is on the wire. Only to be asked when the engine has
    /// said which deliveries it cut off, or is in the middle of none.
    pub(crate) fn last_sent(&mut self) -> Option<Command> {
        let (_, token) = self.sending.take()?;
        Some(Command::Sent { link: self.outgoing, tokens: vec![token] })
    }

    /// Takes every delivery that is not on the wire, but for the first `keep`, off the queue.
    pub(crate) fn unsent(&mut self, keep: usize) -> Option<Command> {
        if self.queue.len() <= keep {
            return None;
        }
        let tokens = self.drain_behind(keep);
        self.taken += tokens.len() as u64;
        Some(Command::Return { link: self.outgoing, tokens })
    }
}

impl Connection {
    /// The engine reports what the client's flow allows.
    pub(super) fn receiver_credit(&mut self, link: LinkId, credit: u32, drain: bool) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        if receiver.ending {
            return;
        }
        receiver.credit = credit;
        receiver.drain = drain;
        // Deliveries beyond a credit that was taken back were never sent: they go back.
        // The core is told of the smaller credit first, or it would send them here again.
        let unsent = receiver.unsent(credit as usize);
        if drain || unsent.is_some() {
            self.commands.extend(receiver.credit_command(drain));
            self.commands.extend(unsent);
        }
        // Otherwise once for all that this turn brings, when the link is pumped.
        self.mark_ready(link);
    }

    /// A delivery from the core.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let link = self.by_outgoing.get(&delivery.link).copied();
        let receiver = link.and_then(|link| match self.links.get_mut(&link) {
            Some(LinkBinding::Receiver(receiver)) if !receiver.ending => Some((link, receiver)),
            _ => None,
        });
        let Some((link, receiver)) = receiver else {
            // The link ended while the message was on its way: nobody has seen it.
            self.commands.push_back(Command::Return { link: delivery.link, tokens: vec![delivery.token] });
            return;
        };
        let size = u64::from(delivery.body.size_bytes);
        receiver.size_bytes = (receiver.size_bytes * 7 + size) / 8;
        receiver.queue.push_back(delivery);
        if receiver.queue.len() > receiver.credit as usize {
            // The client took credit back while the message was on its way.
            let excess = receiver.unsent(receiver.credit as usize);
            self.commands.extend(excess);
            return;
        }
        self.mark_ready(link);
        self.enter_window(link);
    }

    /// Stored bytes arrived for deliveries of a link.
    pub(super) fn body_for_link(
        &mut self,
        link: LinkId,
        body: BodyId,
        bytes: &Result<Option<Bytes>, Refusal>,
    ) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        match bytes {
            Ok(Some(bytes)) => {
                for delivery in receiver.fetched().filter(|delivery| delivery.body.id == body) {
                    delivery.body.bytes = Some(bytes.clone());
                }
                self.mark_ready(link);
            }
            Ok(None) => {
                // The row vanished because its lock did: somebody else has settled the message.
                tracing::debug!(%body, "a message was settled elsewhere before it was sent");
                let gone = receiver.drop_body(body);
                receiver.taken += gone as u64;
                self.mark_ready(link);
            }
            Err(refusal) => self.end_receiver(link, refusal),
        }
    }

    /// Gives a link a turn of sending.
    pub(super) fn mark_ready(&mut self, link: LinkId) {
        if let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link)
            && !std::mem::replace(&mut receiver.ready, true)
        {
            self.ready_links.push_back(link);
        }
    }

    /// Sends what can be sent on the links that may have something to send, in turns.
    pub(super) fn pump(&mut self) {
        self.pump_streams();
        let mut turns = self.ready_links.len();
        while turns > 0 {
            if !self.turn.may_send() {
                return self.leave_sending();
            }
            turns -= 1;
            self.turn.spend_sending(1);
            let Some(link) = self.ready_links.pop_front() else { return };
            if self.pump_link(link) {
                self.mark_ready(link);
                turns += usize::from(self.engine.outbox_bytes() < super::OUTBOX_BYTES_HIGH);
            }
        }
    }

    /// One turn of one link; whether it has more to send.
    fn pump_link(&mut self, link: LinkId) -> bool {
        self.widen_window(link);
        let more = self.send_some(link);
        self.widen_window(link);
        more
    }

    fn send_some(&mut self, link: LinkId) -> bool {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return false };
        receiver.ready = false;
        if !receiver.open || receiver.ending {
            return false;
        }
        let mut sent_bytes = 0;
        let mut sent_tokens = Vec::new();
        let mut failure = None;
        let mut large = false;
        // Only what is framed at once: the engine drops the rest when the client detaches.
        while sent_bytes < TURN_BYTES_MAX
            && self.engine.outbox_bytes() < super::OUTBOX_BYTES_HIGH
            && !self.engine.is_sending(link)
            && self.engine.sendable(link) > 0
        {
            // In order: a message whose bytes are still being read holds up those behind it.
            let Some(delivery) = receiver.queue.front() else { break };
            if delivery.body.bytes.is_none() {
                large = streams::is_large(&delivery.body);
                break;
            }
            match outgoing(delivery, receiver.mode) {
                Ok(outgoing) => {
                    sent_bytes += outgoing.prefix.len() + outgoing.rest.len();
                    let Ok(sent) = self.engine.send(link, outgoing) else { break };
                    self.turn.spend_sending(1);
                    receiver.note_sent(sent.id, &mut sent_tokens);
                }
                Err(refusal) => {
                    failure = Some(refusal);
                    break;
                }
            }
        }
        if !self.engine.is_sending(link) {
            sent_tokens.extend(receiver.sending.take().map(|(_, token)| token));
        }
        if !sent_tokens.is_empty() {
            self.commands.push_back(Command::Sent { link: receiver.outgoing, tokens: sent_tokens });
        }
        let full = sent_bytes >= TURN_BYTES_MAX || self.engine.outbox_bytes() >= super::OUTBOX_BYTES_HIGH;
        let more = full && (!receiver.queue.is_empty() || receiver.sending.is_some());
        if receiver.drain && receiver.drained && receiver.queue.is_empty() {
            self.answer_drain(link);
        } else {
            self.commands.extend(receiver.credit_command(false));
        }
        if large {
            self.stream_next(link);
        }
        if let Some(refusal) = failure {
            self.end_receiver(link, &refusal);
        }
        more
    }

    /// The link ended in the middle of deliveries: the client has not seen them.
    pub(super) fn cut_off(&mut self, deliveries: &[DeliveryRef]) {
        for delivery in deliveries {
            let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&delivery.link) else { continue };
            if let Some(token) = receiver.forget_sent(delivery.id) {
                self.commands.push_back(Command::Return { link: receiver.outgoing, tokens: vec![token] });
            }
        }
    }

    /// The core has nothing more under the limit that it knows.
    pub(super) fn drained(&mut self, outgoing: OutgoingLinkId) {
        let Some(&link) = self.by_outgoing.get(&outgoing) else { return };
        if let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) {
            receiver.drains_asked = receiver.drains_asked.saturating_sub(1);
            receiver.drained = receiver.drains_asked == 0;
            if receiver.drained && !receiver.drain {
                // The client has changed its mind meanwhile. The core took its limit as used up, so
                // it has to be told anew.
                receiver.limit = receiver.taken + receiver.queue.len() as u64;
            }
            self.mark_ready(link);
        }
    }

    /// Everything that was available is sent: the credit is used up, or more of it is drained.
    fn answer_drain(&mut self, link: LinkId) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        if receiver.taken >= receiver.limit && receiver.credit > 0 {
            // The permits were used up, not the messages.
            self.commands.extend(receiver.credit_command(true));
            return;
        }
        receiver.drain = false;
        receiver.drained = false;
        receiver.credit = 0;
        receiver.limit = receiver.taken;
        self.engine.drained(link);
    }

    /// The client gave deliveries a state, or settled them.
    pub(super) fn disposed(
        &mut self,
        mut deliveries: Deliveries,
        settled: bool,
        state: Option<DeliveryState>,
    ) {
        let Some(&first) = deliveries.first() else { return };
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&first.link) else { return };
        let default_outcome = receiver.default_outcome.as_ref();
        let asked = settlement::settlement_of_disposition(state.as_ref(), settled, default_outcome);
        // Without an outcome and without settlement nothing is asked for yet.
        let Some(asked) = asked.transpose() else { return };
        let mut tokens = LockTokens::with_capacity(deliveries.len());
        deliveries.retain(|delivery| {
            let token = receiver.tokens.remove(&delivery.id);
            tokens.extend(token);
            token.is_some()
        });
        if tokens.is_empty() {
            return;
        }
        // Room under the engine's bound of unsettled deliveries may let the next ones go.
        let waiting = !receiver.queue.is_empty();
        let via = SettleVia::Link(receiver.outgoing);
        match asked {
            Ok(settlement) => {
                // Only an unsettled disposition is confirmed, and that has a state.
                let request = state
                    .filter(|_| !settled)
                    .map(|state| self.requests.open(Pending::Settle { deliveries, state }));
                let connection = self.broker_id();
                self.commands.push_back(Command::Settle { via, tokens, settlement, connection, request });
                if waiting {
                    self.mark_ready(first.link);
                }
            }
            Err(refusal) => {
                // Refused by name; the message stays locked and can still be settled by its token
                // on the management node.
                let path = receiver.path.clone();
                self.commands.push_back(Command::SettlementRefused { link: receiver.outgoing, tokens });
                let failure = self.rejected(&refusal, &path);
                self.engine.settle(&deliveries, &failure, true);
                if waiting {
                    self.mark_ready(first.link);
                }
            }
        }
    }

    /// The core settled (or did not).
    pub(super) fn settled(
        &mut self,
        deliveries: &[DeliveryRef],
        state: &DeliveryState,
        failures: &[(u32, Refusal)],
    ) {
        let confirmation = settlement::confirmation(state);
        if let Some(first) = deliveries.first() {
            self.mark_ready(first.link);
        }
        if failures.is_empty() {
            self.engine.settle(deliveries, &confirmation, true);
            return;
        }
        let path = match deliveries.first().and_then(|delivery| self.links.get(&delivery.link)) {
            Some(LinkBinding::Receiver(receiver)) => receiver.path.clone(),
            _ => String::new(),
        };
        let mut failures = failures.iter().peekable();
        for (index, delivery) in deliveries.iter().enumerate() {
            let failure = failures.next_if(|(at, _)| *at as usize == index);
            let state =
                failure.map_or_else(|| confirmation.clone(), |(_, refusal)| self.rejected(refusal, &path));
            self.engine.settle(&[*delivery], &state, true);
        }
    }

    /// The broker itself ends a receiver, with an error.
    pub(super) fn end_receiver(&mut self, link: LinkId, refusal: &Refusal) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        if receiver.sending.is_some() {
            // Among what the engine has still to say may be that it was cut off.
            self.drain_all_events();
        }
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        if receiver.ending {
            return;
        }
        receiver.ending = true;
        let given_up = self.give_up_sending(link);
        self.end_stream(link);
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        self.commands.extend(receiver.last_sent());
        let path = receiver.path.clone();
        self.commands.push_back(Command::Detach { link: receiver.outgoing, departure: Departure::Clean });
        self.commands.extend(given_up);
        self.commands.extend(receiver.unsent(0));
        let error = self.refusal_error(refusal, &path, None);
        if let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) {
            receiver.end_error = Some(error);
        }
    }

    /// Aborts the delivery that is on the wire in part: its message goes back, and the core may
    /// hear so before the engine drops the link.
    fn give_up_sending(&mut self, link: LinkId) -> Option<Command> {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return None };
        let begun = receiver.stream.as_ref().and_then(Stream::delivery);
        let id = begun.map(|delivery| delivery.id).or(receiver.sending.map(|(id, _)| id))?;
        let delivery = DeliveryRef { link, id };
        self.engine.unframed_bytes(delivery)?;
        self.engine.abort_send(delivery);
        let token = receiver.forget_sent(id)?;
        Some(Command::Return { link: receiver.outgoing, tokens: vec![token] })
    }

    /// The client detached, or its AMQP session ended (`answer` is false then).
    pub(super) fn receiver_detached(&mut self, link: LinkId, answer: bool) {
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        if answer && receiver.lost {
            return self.end_detached(link, None);
        }
        let was_ending = std::mem::replace(&mut receiver.ending, true);
        self.end_stream(link);
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        self.commands.extend(receiver.last_sent());
        if !was_ending {
            self.commands.push_back(Command::Detach { link: receiver.outgoing, departure: Departure::Clean });
        }
        // Behind the detach: what is put back must not come here again.
        self.commands.extend(receiver.unsent(0));
        if !answer {
            self.forget_receiver(link);
        }
    }

    /// The core has let go of a link.
    pub(super) fn core_detached(&mut self, outgoing: OutgoingLinkId, cause: Option<Refusal>) {
        let Some(&link) = self.by_outgoing.get(&outgoing) else { return };
        if let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) {
            // What did not reach the wire goes back, as far as the core has not taken it back itself.
            self.commands.extend(receiver.last_sent());
            self.commands.extend(receiver.unsent(0));
            // Who detached already gets the answer at once.
            if cause == Some(Refusal::MessageSessionLockLost)
                && !std::mem::replace(&mut receiver.ending, true)
            {
                receiver.lost = true;
                return self.lock_was_lost(link, outgoing);
            }
        }
        self.end_detached(link, cause);
    }

    /// The core's end of the link is gone: its own follows.
    pub(super) fn end_detached(&mut self, link: LinkId, cause: Option<Refusal>) {
        let error = match (self.links.get_mut(&link), cause) {
            (Some(LinkBinding::Receiver(receiver)), Some(refusal)) => {
                let path = receiver.path.clone();
                Some(self.refusal_error(&refusal, &path, None))
            }
            (Some(LinkBinding::Receiver(receiver)), None) => receiver.end_error.take(),
            _ => None,
        };
        self.engine.detach(link, error);
        // It may have been cut off in the middle of a delivery.
        self.drain_all_events();
        self.forget_receiver(link);
    }

    pub(super) fn forget_receiver(&mut self, link: LinkId) {
        self.end_stream(link);
        if let Some(LinkBinding::Receiver(receiver)) = self.links.remove(&link) {
            self.by_outgoing.remove(&receiver.outgoing);
        }
    }
}
