//! Request-response links: pairs of a client's sender and receiver on one node, `$cbs` or the
//! `$management` node of an entity. Which receiver a response goes to, and when.

use std::collections::VecDeque;

use bytes::Bytes;
use lockstep_amqp::{
    AmqpSessionId, DeliveryRef, LinkId, OutgoingDelivery,
    types::{Attach, DeliveryState, Error, Outcome, SenderSettleMode},
};
use lockstep_broker::runtime::EntityInfo;
use lockstep_model::{EntityAddress, EntityId};

use super::{Connection, LinkBinding};

/// Largest request to a `$cbs` or `$management` node, in bytes: room for the largest
/// message-session state and its envelope.
pub(super) const REQUEST_SIZE_BYTES_MAX: u64 = lockstep_model::limits::MESSAGE_SIZE_BYTES_MAX + 64 * 1024;
/// Responses kept for a link that grants no credit; the oldest go when there are more.
const RESPONSES_WAITING_MAX: usize = 20_000;

/// The node behind a request-response link.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Cbs,
    Management { entity: EntityInfo, address: EntityAddress },
}

/// What tells nodes apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeKey {
    Cbs,
    /// The message store whose `$management` node it is.
    Management(EntityId),
}

impl Node {
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
            sent: 0,
            path: path.to_owned(),
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
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
            self.refuse_message(delivery, settled, &lockstep_model::Refusal::NotSupported(feature));
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
        let route = |reply_to| Route { session, key: node.key(), reply_to };
        match &node {
            Node::Cbs => self.cbs_request(payload, &route),
            Node::Management { entity, address } => {
                self.management_request(payload, entity, address, &path, &route);
            }
        }
    }

    /// The receiver for a response (wire.md 2.1): by the target's address, else by the link's
    /// name, else the newest one of the node; in the request's AMQP session first.
    fn response_link(&self, route: &Route) -> Option<LinkId> {
        let of_node = |link: &LinkId, in_session: bool| match self.links.get(link) {
            Some(LinkBinding::Responses(node)) => {
                node.key == route.key && (!in_session || node.session == route.session)
            }
            _ => false,
        };
        for in_session in [true, false] {
            let mut links: Vec<LinkId> =
                self.links.keys().filter(|link| of_node(link, in_session)).copied().collect();
            links.sort_unstable();
            let named = |by: fn(&ResponseNode) -> Option<&str>| {
                links.iter().rev().copied().find(|link| match (self.links.get(link), &route.reply_to) {
                    (Some(LinkBinding::Responses(node)), Some(reply_to)) => {
                        by(node) == Some(reply_to.as_ref())
                    }
                    _ => false,
                })
            };
            let found = named(|node| node.reply_to.as_deref())
                .or_else(|| named(|node| Some(&*node.link_name)))
                .or_else(|| links.last().copied());
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Sends a response, or keeps it until the client grants credit.
    pub(super) fn respond(&mut self, route: &Route, message: Bytes) {
        let Some(link) = self.response_link(route) else {
            tracing::debug!(?route, "no link to answer on");
            return;
        };
        if let Some(LinkBinding::Responses(node)) = self.links.get_mut(&link) {
            if node.waiting.len() >= RESPONSES_WAITING_MAX {
                node.waiting.pop_front();
            }
            node.waiting.push_back(message);
            self.send_responses(link);
        }
    }

    pub(super) fn send_responses(&mut self, link: LinkId) {
        let Some(LinkBinding::Responses(node)) = self.links.get_mut(&link) else { return };
        while self.engine.sendable(link) > 0
            && let Some(message) = node.waiting.pop_front()
        {
            node.sent = node.sent.wrapping_add(1);
            let outgoing = OutgoingDelivery {
                tag: Bytes::copy_from_slice(&node.sent.to_be_bytes()),
                message_format: 0,
                settled: !node.unsettled,
                prefix: message.clone(),
                rest: Bytes::new(),
            };
            if self.engine.send(link, outgoing).is_err() {
                node.waiting.push_front(message);
                break;
            }
        }
        if !node.waiting.is_empty() {
            // The outbox was full, or the credit used up: the next turn or flow goes on.
            self.ready_links.push_back(link);
        }
    }

    /// The client's flow, or a free outbox, lets responses go.
    pub(super) fn response_credit(&mut self, link: LinkId, drain: bool) {
        self.send_responses(link);
        let idle =
            matches!(self.links.get(&link), Some(LinkBinding::Responses(node)) if node.waiting.is_empty());
        if drain && idle {
            self.engine.drained(link);
        }
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
