//! One client connection: the AMQP engine on one side, a namespace on the other, and what binds
//! links to entities. No I/O here; `connection_driver` reads, writes and waits.

mod attach;
pub(crate) mod authorizer;
mod body_window;
mod bounds;
mod entities;
mod identity;
pub(crate) mod idleness;
mod lost_locks;
mod management;
mod outgoing_deliveries;
mod receivers;
mod reply_reads;
mod request_links;
mod requests;
mod senders;
mod streams;
#[cfg(test)]
mod tests;
mod tokens;
mod turn;
mod uploads;

use std::{collections::VecDeque, fmt::Debug, sync::Arc};

use bytes::Bytes;
use lockstep_amqp::{
    self as amqp, CloseReason, Event, LinkId,
    types::{DeliveryState, Error, Outcome},
};
use lockstep_broker::{
    core::{Command, Departure, Effect, Reply, StateValue},
    runtime::{BrokerConnection, MemoryBudget, MemoryPressure},
};
use lockstep_model::{BodyId, ConnectionId, MonoTime, Now, OutgoingLinkId, Refusal, RequestId, Timestamp};
use lockstep_protocol::conditions::{self, RefusalContext};
use rustc_hash::FxHashMap;

use self::{
    authorizer::Authorizer,
    bounds::Holdings,
    identity::Identity,
    idleness::Idleness,
    lost_locks::LostLocks,
    receivers::Receiver,
    reply_reads::ReplyReads,
    request_links::{CbsLinks, RequestNode, ResponseNode},
    requests::{Pending, Requests},
    senders::Sender,
    streams::Streams,
    turn::Turn,
    uploads::{Part, Uploads},
};
use crate::{
    client_certificate::ClientCertificate,
    context::{NamespaceContext, ServerContext},
};

/// Bytes in the outbox over which nothing more is put into it.
pub(crate) const OUTBOX_BYTES_HIGH: usize = 256 * 1024;
/// Commands kept for the broker over which the socket is not read.
pub(crate) const COMMANDS_MAX: usize = 4_096;
/// Bytes of messages and states in those commands over which the socket is not read.
const COMMAND_BYTES_MAX: usize = 1024 * 1024;
/// Links of one connection; the next attach is refused with `amqp:resource-limit-exceeded`.
pub(crate) const LINKS_MAX: usize = 4_999;
/// Open requests over which the socket is not read.
const REQUESTS_MAX: usize = 65_536;

/// Bytes that one read may bring.
const READ_BYTES_MAX: usize = 64 * 1024;
/// The same while the memory budget is used up.
const READ_BYTES_MAX_PRESSED: usize = 4 * 1024;

/// What a link of the connection is bound to.
#[derive(Debug)]
pub(crate) enum LinkBinding {
    Sender(Sender),
    Receiver(Box<Receiver>),
    Requests(RequestNode),
    Responses(ResponseNode),
}

/// Who waits for stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyWaiter {
    Link(LinkId),
    Request(RequestId),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) engine: amqp::Connection,
    context: Arc<ServerContext>,
    identity: Identity,
    authorizer: Authorizer,
    /// Tokens that ran out up to here have had their links detached.
    expiries_seen_to: Timestamp,
    /// Index of the namespace and the end in it, once the client's open told which.
    namespace: Option<(usize, BrokerConnection)>,
    links: FxHashMap<LinkId, LinkBinding>,
    by_outgoing: FxHashMap<OutgoingLinkId, LinkId>,
    requests: Requests,
    /// For the broker, in frame order.
    commands: VecDeque<Command>,
    /// Bytes of the payloads that `commands` came from.
    command_bytes: usize,
    /// Receivers of responses, in the order in which they attached.
    response_links: Vec<LinkId>,
    cbs_links: CbsLinks,
    lost_locks: LostLocks,
    /// Links that may have something to send.
    ready_links: VecDeque<LinkId>,
    body_waiters: FxHashMap<BodyId, Vec<BodyWaiter>>,
    uploads: Uploads,
    streams: Streams,
    reply_reads: ReplyReads,
    /// Bytes of messages at hand or asked for that wait to be sent; see `body_window`.
    window: Arc<MemoryBudget>,
    /// Receivers whose next message has no room in that.
    window_waiters: VecDeque<LinkId>,
    holdings: Holdings,
    idleness: Idleness,
    turn: Turn,
    random: crate::random::Random,
    now: Now,
    /// Until when a token must have come, while none has.
    authentication_deadline: Option<MonoTime>,
    closed: bool,
}

impl Connection {
    pub(crate) fn new(
        engine: amqp::Connection,
        context: Arc<ServerContext>,
        (sni, certificate): (Option<String>, Option<ClientCertificate>),
        now: Now,
    ) -> Self {
        let uploads = Uploads::new(Arc::clone(&context.unstored_bytes));
        let authentication_deadline = Some(now.mono.plus(identity::AUTHENTICATION_WAIT));
        let holdings = Holdings::new(context.memory.charge());
        Self {
            engine,
            holdings,
            idleness: Idleness::new(context.idle_rules, now.mono),
            // Only its sum counts.
            window: Arc::new(MemoryBudget::new(u64::MAX)),
            window_waiters: VecDeque::new(),
            turn: Turn::default(),
            random: crate::random::Random::new(),
            context,
            identity: Identity::new(sni, certificate),
            authorizer: Authorizer::default(),
            expiries_seen_to: now.utc,
            namespace: None,
            links: FxHashMap::default(),
            by_outgoing: FxHashMap::default(),
            requests: Requests::default(),
            commands: VecDeque::new(),
            command_bytes: 0,
            response_links: Vec::new(),
            cbs_links: CbsLinks::default(),
            lost_locks: LostLocks::default(),
            ready_links: VecDeque::new(),
            body_waiters: FxHashMap::default(),
            uploads,
            streams: Streams::default(),
            reply_reads: ReplyReads::default(),
            now,
            authentication_deadline,
            closed: false,
        }
    }

    /// The connection's end in its namespace, once it has one.
    pub(crate) fn broker(&self) -> Option<&BrokerConnection> {
        self.namespace.as_ref().map(|(_, broker)| broker)
    }

    /// Whether there is room for what events ask of the broker.
    fn has_room(&self) -> bool {
        self.commands.len() < COMMANDS_MAX
            && self.command_bytes < COMMAND_BYTES_MAX
            && self.requests.len() < REQUESTS_MAX
            && self.reply_reads.takes_more()
    }

    /// Whether more may be read from the socket.
    pub(crate) fn may_read(&self) -> bool {
        self.has_room()
            && self.uploads.may_read()
            && self.engine.wants_input()
            && self.engine.outbox_bytes() < 4 * OUTBOX_BYTES_HIGH
            && !self.turn.has_more
            && !self.turn.has_held_events
            && !self.is_held_back()
    }

    /// Bytes that a read may bring.
    pub(crate) fn read_bytes_max(&self) -> usize {
        if self.context.memory.pressure() == MemoryPressure::Full {
            READ_BYTES_MAX_PRESSED
        } else {
            READ_BYTES_MAX
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Works off what the engine has found in the bytes it got.
    pub(crate) fn process(&mut self, now: Now) {
        self.now = now;
        self.engine.process(amqp::Time(now.mono.micros()));
        self.work_off();
    }

    /// The transport ended, perhaps without warning.
    pub(crate) fn transport_closed(&mut self, now: Now) {
        self.now = now;
        self.engine.transport_closed(amqp::Time(now.mono.micros()));
        self.drain_all_events();
    }

    /// When something is to be done without any input.
    pub(crate) fn next_timeout(&self) -> Option<MonoTime> {
        let engine = self.engine.next_timeout().map(|time| MonoTime::from_micros(time.0));
        let expiry = self.authorizer.next_expiry(self.expiries_seen_to).map(|end| {
            let millis = u64::try_from(end.unix_millis() - self.now.utc.unix_millis()).unwrap_or(0);
            self.now.mono.plus(std::time::Duration::from_millis(millis))
        });
        let lost = self.lost_locks.next_due();
        [engine, expiry, self.authentication_deadline, lost, self.next_look(), self.next_idle_look()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A deadline passed.
    pub(crate) fn on_timeout(&mut self, now: Now) {
        self.now = now;
        self.engine.on_timeout(amqp::Time(now.mono.micros()));
        if self.authentication_deadline.is_some_and(|deadline| deadline <= now.mono) {
            self.authentication_deadline = None;
            self.close_unauthenticated();
        }
        self.detach_expired();
        self.detach_lost();
        self.look();
        self.look_for_idle();
        self.work_off();
    }

    /// The broker stops: the connection is closed, and its links with it. (A detach of their own
    /// would tell clients that connect again by themselves that the links are not to come back.)
    /// Nothing is counted.
    pub(crate) fn shut_down(&mut self) {
        // Deliveries may have been cut off that are not known of yet.
        self.drain_all_events();
        if let Some((_, broker)) = self.namespace.take() {
            self.part(broker, Departure::Clean);
        }
        let error = Error::new("amqp:connection:forced", "The broker is shutting down.");
        self.links.clear();
        self.by_outgoing.clear();
        self.engine.close(Some(error));
        self.drain_all_events();
    }

    fn event(&mut self, event: Event) {
        self.note_event(&event);
        match event {
            Event::SaslInit { mechanism, initial_response, hostname } => {
                self.sasl_init(mechanism.as_str(), initial_response, hostname);
            }
            Event::SaslResponse(_) => self.engine.sasl_outcome(amqp::SaslCode::Auth),
            Event::Opened(open) => self.opened(&open),
            Event::Attach { link, session, attach } => self.attach(link, session, &attach),
            Event::AttachCancelled(link) => self.link_gone(link, false),
            Event::Delivery { delivery, message_format, settled, state, payload, .. } => {
                match self.links.get(&delivery.link) {
                    Some(LinkBinding::Sender(_)) => {
                        self.message_sent(delivery, message_format, settled, state.as_ref(), payload);
                    }
                    Some(LinkBinding::Requests(_)) => {
                        self.request(delivery, settled, state.as_ref(), &payload)
                    }
                    _ => {}
                }
            }
            Event::DeliveryPart { delivery, first, last, message_format, settled, state, payload } => {
                self.message_part(Part { delivery, first, last, message_format, settled, state, payload });
            }
            Event::DeliveryAborted(delivery) => self.drop_upload(delivery.link),
            Event::DeliveryTooLarge { delivery, settled, complete } => {
                self.message_too_large(delivery, settled, complete);
            }
            Event::Disposed { deliveries, settled, state } => {
                let link = deliveries.first().and_then(|delivery| self.links.get(&delivery.link));
                match link {
                    Some(LinkBinding::Receiver(_)) => self.disposed(deliveries, settled, state),
                    Some(LinkBinding::Responses(_)) => self.response_disposed(&deliveries, settled, state),
                    _ => {}
                }
            }
            Event::Credit { link, credit, drain } => self.credit(link, credit, drain),
            Event::CutOff { deliveries } => self.cut_off(&deliveries),
            Event::Detached { link, answered, .. } => self.link_gone(link, !answered),
            Event::AmqpSessionEnded { links, .. } => {
                for link in links {
                    self.link_gone(link, false);
                }
            }
            Event::Closed(reason) => self.connection_closed(&reason),
            Event::AmqpSessionBegun(_) | Event::AttachAnswered { .. } | Event::SaslOutcome(_) => {}
        }
    }

    fn credit(&mut self, link: LinkId, credit: u32, drain: bool) {
        match self.links.get(&link) {
            Some(LinkBinding::Receiver(_)) => self.receiver_credit(link, credit, drain),
            Some(LinkBinding::Responses(_)) => self.response_credit(link, drain),
            _ => {}
        }
    }

    /// A link ended by the client (`answer`: it waits for the answer), by its AMQP session's end,
    /// or by an answer to our own detach.
    fn link_gone(&mut self, link: LinkId, answer: bool) {
        self.drop_upload(link);
        match self.links.get_mut(&link) {
            Some(LinkBinding::Receiver(_)) => self.receiver_detached(link, answer),
            Some(LinkBinding::Sender(sender)) if answer && sender.open_sends > 0 => sender.detaching = true,
            Some(LinkBinding::Responses(_)) => {
                self.response_links.retain(|other| *other != link);
                self.forget_link(link, answer);
            }
            _ => self.forget_link(link, answer),
        }
    }

    fn forget_link(&mut self, link: LinkId, answer: bool) {
        if answer {
            self.engine.detach(link, None);
        }
        self.links.remove(&link);
    }

    fn connection_closed(&mut self, reason: &CloseReason) {
        self.closed = true;
        let departure = match reason {
            CloseReason::Remote(_) | CloseReason::Local(None) | CloseReason::SaslFailed => Departure::Clean,
            // A peer that fell silent or broke the protocol has not said good-bye.
            CloseReason::Lost | CloseReason::Local(Some(_)) => Departure::Lost,
        };
        if let Some((_, broker)) = self.namespace.take() {
            self.part(broker, departure);
        }
    }

    /// Leaves the namespace: what was read still counts, what is not on the wire goes back.
    fn part(&mut self, broker: BrokerConnection, departure: Departure) {
        let mut unsent = Vec::new();
        for (link, binding) in &mut self.links {
            if let LinkBinding::Receiver(receiver) = binding {
                if self.engine.is_sending(*link) {
                    receiver.forget_sending();
                }
                self.commands.extend(receiver.last_sent());
                unsent.extend(receiver.unsent(0));
            }
        }
        unsent.extend(self.unlooked_at());
        broker.submit(std::mem::take(&mut self.commands), self.now);
        broker.close(departure, unsent);
    }

    fn submit(&mut self) {
        if self.commands.is_empty() {
            // What was refused or answered without the broker waits for nobody.
            self.command_bytes = 0;
            return;
        }
        match &self.namespace {
            Some((_, broker)) if broker.can_submit() => {
                broker.submit(std::mem::take(&mut self.commands), self.now);
                self.command_bytes = 0;
            }
            Some(_) => {}
            None => {
                self.commands.clear();
                self.command_bytes = 0;
            }
        }
    }

    /// Whether commands wait for the broker to take the last burst.
    pub(crate) fn waits_to_submit(&self) -> bool {
        !self.commands.is_empty() && self.broker().is_some_and(|broker| !broker.can_submit())
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Attached(grant) => self.attach_granted(&grant),
            Effect::AttachRefused { link, refusal } => self.attach_refused(link, &refusal),
            Effect::Deliver(delivery) => self.deliver(delivery),
            Effect::Drained { link } => self.drained(link),
            Effect::Detached { link, cause } => self.core_detached(link, cause),
            Effect::Reply { request, reply } => self.reply(request, reply),
            Effect::EntityChanged(entity, name) => self.entity_changed(entity, &name),
        }
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        // Replies whose bytes must be read first keep their request open.
        match &reply {
            Reply::MessageSessionState(StateValue::Stored) => return self.read_state(request),
            Reply::Peeked(_) | Reply::Deferred(_) if management::lacks_bodies(&reply) => {
                return self.read_bodies(request, reply);
            }
            _ => {}
        }
        let Some(pending) = self.requests.close(request) else { return };
        let reply = self.uploads.with_reason(request, reply);
        match (pending, reply) {
            (Pending::Send(delivery), Reply::Refused(refusal)) => {
                self.refuse_message(delivery, false, &refusal);
                self.send_answered(delivery.link);
            }
            (Pending::Send(delivery), _) => {
                self.message_accepted(delivery);
                self.send_answered(delivery.link);
            }
            (Pending::SettledSend(link), Reply::Refused(refusal)) => self.end_sender(link, &refusal),
            (Pending::SettledSend(_), _) => {}
            (Pending::Part { link, upload, bytes }, reply) => self.part_stored(link, upload, bytes, reply),
            (Pending::Settle { deliveries, state }, Reply::Settled(failures)) => {
                self.settled(&deliveries, &state, &failures);
            }
            (Pending::Settle { deliveries, state }, Reply::Refused(refusal)) => {
                let failures: Vec<_> = (0..deliveries.len() as u32).map(|at| (at, refusal.clone())).collect();
                self.settled(&deliveries, &state, &failures);
            }
            (Pending::Settle { .. }, _) => {}
            (Pending::Management(management), reply) => self.management_reply(request, *management, reply),
        }
    }

    /// Asks the broker for stored bytes, once for all who wait for them.
    fn request_body(&mut self, body: BodyId, waiter: BodyWaiter) {
        let waiters = self.body_waiters.entry(body).or_default();
        waiters.push(waiter);
        if waiters.len() == 1
            && let Some((_, broker)) = &self.namespace
        {
            broker.read_body(body);
        }
    }

    fn body_read(&mut self, body: BodyId, bytes: Result<Option<Bytes>, Refusal>) {
        for waiter in self.body_waiters.remove(&body).unwrap_or_default() {
            match waiter {
                BodyWaiter::Link(link) => self.body_for_link(link, body, &bytes),
                BodyWaiter::Request(request) => self.body_for_request(request, body, &bytes),
            }
        }
    }

    fn broker_id(&self) -> ConnectionId {
        self.broker().map_or_else(ConnectionId::default, BrokerConnection::id)
    }

    fn namespace_context(&self) -> Option<&NamespaceContext> {
        self.namespace.as_ref().and_then(|(index, _)| self.context.namespaces.get(*index))
    }

    /// The address of a link's node as its client spelled it.
    fn path_of(&self, link: LinkId) -> String {
        match self.links.get(&link) {
            Some(LinkBinding::Sender(sender)) => sender.path.clone(),
            Some(LinkBinding::Receiver(receiver)) => receiver.path.clone(),
            Some(LinkBinding::Requests(node)) => node.path().to_owned(),
            Some(LinkBinding::Responses(node)) => node.path().to_owned(),
            None => String::new(),
        }
    }

    /// Makes the text for a client that is refused something about the node `path`. Its tracking
    /// id stands in the log beside the `reason`.
    fn in_refusal_context<T>(
        &mut self,
        reason: &dyn Debug,
        path: &str,
        message_session: Option<&str>,
        tell: impl FnOnce(&RefusalContext<'_>) -> T,
    ) -> T {
        let tracking_id = self.random.next_guid_text();
        tracing::debug!(tracking_id, path, ?reason, "refused");
        let host = self.identity.host(self.namespace_context());
        let context = RefusalContext::new(&host, path, &tracking_id, self.now.utc);
        tell(&context.with_message_session(message_session))
    }

    /// The error that a client is told for a refusal about the node `path`.
    fn refusal_error(&mut self, refusal: &Refusal, path: &str, message_session: Option<&str>) -> Error {
        self.in_refusal_context(refusal, path, message_session, |context| conditions::error(refusal, context))
    }

    /// The rejected outcome of a message or settlement on the node `path`.
    fn rejected(&mut self, refusal: &Refusal, path: &str) -> DeliveryState {
        DeliveryState::Outcome(Outcome::Rejected(Some(self.refusal_error(refusal, path, None))))
    }
}
