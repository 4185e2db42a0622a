//! Request-response links: pairs of a client's sender and receiver on one node, `$cbs` or the
//! `$management` node of an entity. Which receiver a response goes to, and when.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use lockstep_amqp::{
    AmqpSessionId, DeliveryRef, LinkId, OutgoingDelivery,
    types::{Attach, DeliveryState, Error, Outcome, SenderSettleMode},
};
use lockstep_broker::runtime::EntityInfo;
use lockstep_model::{EntityAddress, EntityId, Refusal, SizeLimit, limits};

use super::{Connection, LinkBinding, turn::TOKEN_WORK};

/// Largest request to `$cbs`, in bytes: it is open to clients that nobody knows yet.
const CBS_REQUEST_SIZE_BYTES_MAX: u64 = 64 * 1024;
/// What a request to a `$management` node may hold besides a message-session state, in bytes.
const REQUEST_ENVELOPE_BYTES_MAX: u64 = 64 * 1024;
/// Responses kept for a link that grants no credit; the oldest go when there are more.
const RESPONSES_WAITING_MAX: usize = 20_000;
/// Bytes of them, unless one alone is larger; likewise.
const RESPONSES_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The node behind a request-response link.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Cbs,
    Management { entity: Arc<EntityInfo>, address: EntityAddress },
}

/// What tells nodes apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeKey {
    Cbs,
    /// The message store whose `$management` node it is.
    Management(EntityId),
}

/// The last links to `$cbs` that were attached, of which a connection has one of each at a time.
#[derive(Debug, Default)]
pub(super) struct CbsLinks {
    pub(super) requests: Option<LinkId>,
    pub(super) responses: Option<LinkId>,
}

impl Node {
    /// Largest request that the node takes, in bytes.
    pub(super) fn request_size_bytes_max(&self) -> u64 {
        match self {
            Self::Cbs => CBS_REQUEST_SIZE_BYTES_MAX,
            Self::Management { entity, .. } => {
                let payload = entity.description.max_message_size_bytes.max(limits::BATCH_SIZE_BYTES_MAX);
                payload + REQUEST_ENVELOPE_BYTES_MAX
            }
        }
    }

    fn key(&self) -> NodeKey {
        match self {
            Self::Cbs => NodeKey::Cbs,
            Self::Management { entity, address } => {
                NodeKey::Management(entity.id.with_sub_queue(address.sub_queue))
            }
        }
    }
}

/// The link on which a client sends requests.
#[derive(Debug)]
pub(crate) struct RequestNode {
    pub(super) session: AmqpSessionId,
    pub(super) node: Node,
    path: String,
}

impl RequestNode {
    pub(super) fn new(session: AmqpSessionId, node: Node, path: &str) -> Self {
        Self { session, node, path: path.to_owned() }
    }

    pub(super) fn key(&self) -> NodeKey {
        self.node.key()
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// The link on which a client receives responses.
#[derive(Debug)]
pub(crate) struct ResponseNode {
    session: AmqpSessionId,
    key: NodeKey,
    /// The target's address.
    reply_to: Option<Box<str>>,
    link_name: Box<str>,
    /// The client wants to settle responses itself.
    unsettled: bool,
    /// Responses that wait for credit.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    sent: u32,
    path: String,
}

impl ResponseNode {
    pub(super) fn new(
        session: AmqpSessionId,
        node: Node,
        reply_to: Option<Box<str>>,
        attach: &Attach,
        path: &str,
    ) -> Self {
        Self {
            session,
            key: node.key(),
            reply_to,
            link_name: attach.name.clone(),
            unsettled: attach.snd_settle_mode == Some(SenderSettleMode::Unsettled),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: 0,
            path: path.to_owned(),
        }
    }

    pub(super) const fn key(&self) -> NodeKey {
        self.key
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What waits for credit, in bytes.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    fn push(&mut self, message: Bytes) {
        self.waiting_bytes += message.len();
        self.waiting.push_back(message);
        while self.waiting.len() > RESPONSES_WAITING_MAX
            || (self.waiting_bytes > RESPONSES_WAITING_BYTES_MAX && self.waiting.len() > 1)
        {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.waiting.pop_front()?;
        self.waiting_bytes -= message.len();
        Some(message)
    }
}

/// Where a response goes.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(super) session: AmqpSessionId,
    pub(super) key: NodeKey,
    pub(super) reply_to: Option<Box<str>>,
}

impl Connection {
    /// A request arrived.
    pub(super) fn request(
        &mut self,
        delivery: DeliveryRef,
        settled: bool,
        state: Option<&DeliveryState>,
        payload: &Bytes,
    ) {
        let Some(LinkBinding::Requests(requests)) = self.links.get(&delivery.link) else { return };
        let (session, node, path) = (requests.session, requests.node.clone(), requests.path.clone());
        if matches!(state, Some(DeliveryState::Transactional(_))) {
            let feature = lockstep_model::Feature::Transactions;
            self.refuse_message(delivery, settled, &Refusal::NotSupported(feature));
            return;
        }
        if self.response_link(&Route { session, key: node.key(), reply_to: None }).is_none() {
            let text = "No receiver is attached to this node on the connection, so the request cannot be \
                        answered. Attach one whose source is the node first.";
            let rejected = Outcome::Rejected(Some(Error::new("amqp:precondition-failed", text)));
            if !settled {
                self.engine.settle(&[delivery], &DeliveryState::Outcome(rejected), true);
            }
            return;
        }
        if !settled {
            self.engine.settle(&[delivery], &DeliveryState::Outcome(Outcome::Accepted), true);
        }
        self.command_bytes += payload.len();
        let route = |reply_to| Route { session, key: node.key(), reply_to };
        match &node {
            Node::Cbs => {
                self.turn.spend(TOKEN_WORK);
                self.cbs_request(payload, &route);
            }
            Node::Management { entity, address } => {
                self.management_request(payload, entity, address, &path, &route);
            }
        }
    }

    /// The receiver for a response (wire.md 2.1): by the target's address, else by the link's
    /// name, else the newest one of the node; in the request's AMQP session first.
    fn response_link(&self, route: &Route) -> Option<LinkId> {
        let nodes = |in_session: bool| {
            // The newest first.
            self.response_links.iter().rev().filter_map(move |link| match self.links.get(link) {
                Some(LinkBinding::Responses(node))
                    if node.key == route.key && (!in_session || node.session == route.session) =>
                {
                    Some((*link, node))
                }
                _ => None,
            })
        };
        let reply_to = route.reply_to.as_deref();
        let found = |in_session: bool| {
            let by_address = |(_, node): &(LinkId, &ResponseNode)| node.reply_to.as_deref() == reply_to;
            let by_name = |(_, node): &(LinkId, &ResponseNode)| Some(node.link_name.as_ref()) == reply_to;
            reply_to
                .and_then(|_| nodes(in_session).find(by_address).or_else(|| nodes(in_session).find(by_name)))
                .or_else(|| nodes(in_session).next())
                .map(|(link, _)| link)
        };
        found(true).or_else(|| found(false))
    }

    /// Sends a response, or keeps it until the client grants credit.
    pub(super) fn respond(&mut self, route: &Route, message: Bytes) {
        let Some(link) = self.response_link(route) else {
            tracing::debug!(?route, "no link to answer on");
            return;
        };
        if let Some(LinkBinding::Responses(node)) = self.links.get_mut(&link) {
            node.push(message);
            self.send_responses(link);
        }
    }

    pub(super) fn send_responses(&mut self, link: LinkId) {
        let Some(LinkBinding::Responses(node)) = self.links.get_mut(&link) else { return };
        while self.engine.sendable(link) > 0
            && let Some(message) = node.pop()
        {
            self.turn.spend(1);
            node.sent = node.sent.wrapping_add(1);
            let outgoing = OutgoingDelivery {
                tag: Bytes::copy_from_slice(&node.sent.to_be_bytes()),
                message_format: 0,
                settled: !node.unsettled,
                prefix: message.clone(),
                rest: Bytes::new(),
            };
            if self.engine.send(link, outgoing).is_err() {
                node.waiting_bytes += message.len();
                node.waiting.push_front(message);
                break;
            }
        }
    }

    /// The client's flow, or a free outbox, lets responses go.
    pub(super) fn response_credit(&mut self, link: LinkId, drain: bool) {
        self.send_responses(link);
        if drain {
            // Nothing more goes out under this credit: either nothing waits, or there is none left.
            self.engine.drained(link);
        }
    }

    /// A request passed the size that its node takes.
    pub(super) fn request_too_large(&mut self, link: LinkId) {
        let Some(LinkBinding::Requests(requests)) = self.links.get(&link) else { return };
        let max_bytes = requests.node.request_size_bytes_max();
        let refusal = Refusal::TooLarge { limit: SizeLimit::Message, max_bytes };
        self.end_sender(link, &refusal);
    }

    /// The client settles responses it got unsettled.
    pub(super) fn response_disposed(
        &mut self,
        deliveries: &[DeliveryRef],
        settled: bool,
        state: Option<DeliveryState>,
    ) {
        if !settled {
            let state = state.unwrap_or(DeliveryState::Outcome(Outcome::Accepted));
            self.engine.settle(deliveries, &state, true);
        }
    }
}
