//! Attaches: what is asked for, whether it may be, and the answer.

use lockstep_amqp::{
    AmqpSessionId, LinkId,
    types::{Attach, Error},
};
use lockstep_broker::core::{Attach as CoreAttach, AttachGrant, Command, LinkIdentity, ReceiveIntent};
use lockstep_model::{
    EntityAddress, Feature, MessageSessionId, OutgoingLinkId, ReceiveMode, Refusal, Right, SubQueue, limits,
};
use lockstep_protocol::{
    attach_intent::{self, AttachIntent, MessageSessionFilterEcho, ReceiveKind},
    attach_reply::{Grant, accept_reply},
    conditions,
};

use super::{
    Connection, LINKS_MAX, LinkBinding,
    body_window::BodyWindow,
    receivers::Receiver,
    request_links::{Node, NodeKey, RequestNode, ResponseNode},
    senders::Sender,
    uploads,
};

/// Messages that a sender may have under way; topped up as outcomes are given.
const SENDER_CREDIT: u32 = 1_000;
/// Requests that a client may have under way on one link (5,000 renewals at once must pass,
/// semantics A-51).
const REQUEST_CREDIT: u32 = 10_000;

impl Connection {
    pub(super) fn attach(&mut self, link: LinkId, session: AmqpSessionId, attach: &Attach) {
        let path = attach_intent::spelled_address(attach).to_owned();
        if self.links.len() >= LINKS_MAX {
            tracing::debug!(path, "one link too many");
            let text = format!(
                "The connection has {LINKS_MAX} links, which is as many as it may have. Detach some, or open \
                 another connection."
            );
            return self.engine.refuse(link, Error::new("amqp:resource-limit-exceeded", text));
        }
        let room = if self.refuses_work() { Err(Refusal::ServerBusy) } else { Ok(()) };
        let result = room
            .and_then(|()| attach_intent::attach_intent(attach))
            .and_then(|intent| self.bind(link, session, attach, intent, &path));
        if let Err(refusal) = result {
            tracing::debug!(?refusal, path, "attach refused");
            let error = self.refusal_error(&refusal, &path, None);
            self.engine.refuse(link, error);
        }
    }

    fn bind(
        &mut self,
        link: LinkId,
        session: AmqpSessionId,
        attach: &Attach,
        intent: AttachIntent,
        path: &str,
    ) -> Result<(), Refusal> {
        match intent {
            AttachIntent::Send { address } => self.attach_sender(link, attach, address, path),
            AttachIntent::Receive { address, mode, kind, filter_echo } => {
                let selects = filter_echo.as_ref().is_some_and(MessageSessionFilterEcho::is_selector);
                let mut receiver = self.attach_receiver(attach, address, mode, (kind, selects), path)?;
                receiver.filter_echo = filter_echo;
                self.by_outgoing.insert(receiver.outgoing, link);
                self.links.insert(link, LinkBinding::Receiver(Box::new(receiver)));
                Ok(())
            }
            AttachIntent::CbsRequests | AttachIntent::CbsResponses { .. } if self.has_cbs_link(&intent) => {
                self.refuse_second_cbs_link(link);
                Ok(())
            }
            AttachIntent::CbsRequests => {
                self.cbs_links.requests = Some(link);
                self.attach_requests(link, session, attach, Node::Cbs, path);
                Ok(())
            }
            AttachIntent::CbsResponses { reply_to } => {
                self.cbs_links.responses = Some(link);
                self.attach_responses(link, session, attach, Node::Cbs, reply_to, path);
                Ok(())
            }
            AttachIntent::ManagementRequests { address } => {
                let node = self.management_node(&address)?;
                self.attach_requests(link, session, attach, node, path);
                Ok(())
            }
            AttachIntent::ManagementResponses { address, reply_to } => {
                let node = self.management_node(&address)?;
                self.attach_responses(link, session, attach, node, reply_to, path);
                Ok(())
            }
        }
    }

    /// Whether the connection has the link to `$cbs` that is asked for already.
    fn has_cbs_link(&self, intent: &AttachIntent) -> bool {
        let of_requests = matches!(intent, AttachIntent::CbsRequests);
        let last = if of_requests { self.cbs_links.requests } else { self.cbs_links.responses };
        // Its number may be that of another link by now.
        let key = match last.and_then(|link| self.links.get(&link)) {
            Some(LinkBinding::Requests(node)) if of_requests => Some(node.key()),
            Some(LinkBinding::Responses(node)) if !of_requests => Some(node.key()),
            _ => None,
        };
        key == Some(NodeKey::Cbs)
    }

    /// As Service Bus does; Go's client takes it for a link of its own that was left over, and
    /// makes another connection.
    fn refuse_second_cbs_link(&mut self, link: LinkId) {
        let text =
            "A link to the connection's $cbs node has already been opened. Use it, or detach it first.";
        self.engine.refuse(link, Error::new("amqp:not-allowed", text));
    }

    fn management_node(&self, address: &EntityAddress) -> Result<Node, Refusal> {
        let entity = self.entity_for(address, Right::Listen)?;
        // Any right opens the node; each operation checks its own.
        let may = [Right::Listen, Right::Send]
            .into_iter()
            .map(|right| self.authorizer.check(address, right, self.now.utc));
        may.reduce(Result::or).unwrap_or(Ok(()))?;
        Ok(Node::Management { entity, address: address.clone() })
    }

    fn attach_sender(
        &mut self,
        link: LinkId,
        attach: &Attach,
        address: EntityAddress,
        path: &str,
    ) -> Result<(), Refusal> {
        let entity = self.entity_for(&address, Right::Send)?;
        self.authorizer.check(&address, Right::Send, self.now.utc)?;
        if !entity.description.status.allows_send() {
            return Err(Refusal::EntityDisabled);
        }
        let max_message_size_bytes = entity.description.max_message_size_bytes;
        let mut reply = accept_reply(attach, Grant::Sender { max_message_size_bytes });
        reply.parts = Some(uploads::PARTS);
        self.engine.accept(link, reply);
        self.engine.set_credit_auto(link, SENDER_CREDIT);
        self.links.insert(link, LinkBinding::Sender(Sender::new(entity, address, path)));
        Ok(())
    }

    fn attach_receiver(
        &mut self,
        attach: &Attach,
        address: EntityAddress,
        mode: ReceiveMode,
        (kind, selects): (ReceiveKind, bool),
        path: &str,
    ) -> Result<Receiver, Refusal> {
        let entity = self.entity_for(&address, Right::Listen)?;
        self.authorizer.check(&address, Right::Listen, self.now.utc)?;
        let of_sessions = entity.description.requires_session && address.sub_queue == SubQueue::Main;
        if selects && !of_sessions {
            // Here a selector would have to pick messages.
            return Err(Refusal::NotSupported(Feature::Selectors));
        }
        let Some(broker) = self.broker() else { return Err(Refusal::ShuttingDown) };
        let outgoing = broker.new_link();
        let connection = broker.id();
        let asked_for = match &kind {
            ReceiveKind::MessageSession(id) => Some(id.clone()),
            _ => None,
        };
        let mut wait = None;
        let intent = match kind {
            ReceiveKind::Plain => ReceiveIntent::Plain,
            ReceiveKind::MessageSession(id) => ReceiveIntent::AcceptMessageSession(id),
            ReceiveKind::NextMessageSession { wait: asked } => {
                let asked = asked.unwrap_or(limits::ACCEPT_WAIT_DEFAULT);
                wait = Some(asked);
                ReceiveIntent::AcceptNextMessageSession { wait: asked }
            }
            ReceiveKind::Browse(id) => ReceiveIntent::BrowseMessageSession(id),
        };
        let identity = LinkIdentity {
            receiver_name: attach_intent::receiver_name(attach).map(Into::into),
            container_id: self.identity.container_id.clone(),
            link_name: attach.name.clone(),
        };
        let entity = entity.id.with_sub_queue(address.sub_queue);
        self.commands.push_back(Command::Attach(CoreAttach {
            link: outgoing,
            connection,
            entity,
            mode,
            intent,
            identity,
        }));
        let default_outcome = attach.source.as_ref().and_then(|source| source.default_outcome.clone());
        let window = BodyWindow::new(self.window.charge());
        let mut receiver =
            Receiver::new(outgoing, address, path.to_owned(), &attach.name, mode, default_outcome, window);
        (receiver.asked_for, receiver.wait) = (asked_for, wait);
        Ok(receiver)
    }

    /// The core grants a receiver.
    pub(super) fn attach_granted(&mut self, grant: &AttachGrant) {
        let Some(&link) = self.by_outgoing.get(&grant.link) else { return };
        let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
        if receiver.ending {
            return;
        }
        // The engine keeps the client's attach; without it the link has just ended.
        let Some(attach) = self.engine.link_attach(link) else { return };
        receiver.open = true;
        let filter_echo = receiver.filter_echo.as_ref();
        let message_session = grant.message_session.as_ref().map(|(id, until)| (id, *until));
        let reply = accept_reply(attach, Grant::Receiver { filter_echo, message_session });
        self.engine.accept(link, reply);
        self.mark_ready(link);
    }

    /// The core refuses a receiver.
    pub(super) fn attach_refused(&mut self, outgoing: OutgoingLinkId, refusal: &Refusal) {
        let Some(&link) = self.by_outgoing.get(&outgoing) else { return };
        let Some(LinkBinding::Receiver(receiver)) = self.links.get(&link) else { return };
        let (path, asked_for, wait) = (receiver.path.clone(), receiver.asked_for.clone(), receiver.wait);
        let asked_for = asked_for.as_ref().map(MessageSessionId::as_str);
        let error = self.in_refusal_context(refusal, &path, asked_for, |context| {
            conditions::error(refusal, &context.with_wait(wait))
        });
        self.engine.refuse(link, error);
        self.forget_receiver(link);
    }

    fn attach_requests(
        &mut self,
        link: LinkId,
        session: AmqpSessionId,
        attach: &Attach,
        node: Node,
        path: &str,
    ) {
        let max_message_size_bytes = node.request_size_bytes_max();
        let reply = accept_reply(attach, Grant::Requests { max_message_size_bytes });
        self.engine.accept(link, reply);
        self.engine.set_credit_auto(link, REQUEST_CREDIT);
        self.links.insert(link, LinkBinding::Requests(RequestNode::new(session, node, path)));
    }

    fn attach_responses(
        &mut self,
        link: LinkId,
        session: AmqpSessionId,
        attach: &Attach,
        node: Node,
        reply_to: Option<Box<str>>,
        path: &str,
    ) {
        let response = ResponseNode::new(session, node, reply_to, attach, path);
        self.engine.accept(link, accept_reply(attach, Grant::Responses));
        self.links.insert(link, LinkBinding::Responses(response));
        self.response_links.push(link);
    }
}
