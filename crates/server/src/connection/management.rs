//! The `$management` node of an entity: requests become commands, replies become responses.

use bytes::Bytes;
use lockstep_amqp::types::Value;
use lockstep_broker::{
    core::{Command, HolderClaim, PeekedMessage, Reply, SettleVia, StateValue},
    runtime::EntityInfo,
};
use lockstep_model::{
    BodyId, EntityAddress, EntityId, MessageSessionId, OutgoingLinkId, Refusal, RequestId, Right,
};
use lockstep_protocol::{
    management::{self, ManagementOperation, ManagementRequest, Response},
    message_mapping::{DeliveryFacts, outgoing_whole, outgoing_without_body},
};

use super::{
    BodyWaiter, Connection, LinkBinding,
    request_links::Route,
    requests::Pending,
    streams::{self, RowWaiter},
};

/// A request to a `$management` node that waits for the broker.
#[derive(Debug)]
pub(crate) struct ManagementReply {
    route: Route,
    message_id: Option<Value>,
    /// Address of the node as the client spelled it.
    path: String,
    entity: EntityId,
    session: Option<MessageSessionId>,
    kind: ReplyKind,
}

/// What the broker's reply means.
#[derive(Debug)]
enum ReplyKind {
    LocksRenewed,
    MessageSessionLockRenewed,
    MessageSessionState,
    MessageSessions {
        skip: u32,
    },
    /// Messages whose bytes are still to come are kept here until they are complete.
    Peeked {
        omit_body: bool,
        messages: Vec<PeekedMessage>,
    },
    Done,
}

impl Connection {
    pub(super) fn management_request(
        &mut self,
        payload: &Bytes,
        entity: &EntityInfo,
        address: &EntityAddress,
        path: &str,
        route: &dyn Fn(Option<Box<str>>) -> Route,
    ) {
        match management::parse(payload) {
            Ok(request) => {
                let route = route(request.reply_to.clone());
                if let Err(refusal) = self.authorizer.check(address, Right::Listen, self.now.utc) {
                    let session = request.operation.message_session();
                    self.refuse_management(&route, request.message_id.as_ref(), path, session, &refusal);
                    return;
                }
                let store = entity.id.with_sub_queue(address.sub_queue);
                self.management_command(request, store, path, route);
            }
            Err(error) => {
                let message = self.in_refusal_context(&error.text, path, None, |context| {
                    let response = Response::not_understood(&error, context);
                    management::encode_response(error.message_id.as_ref(), &response)
                });
                self.respond(&route(error.reply_to), message);
            }
        }
    }

    fn refuse_management(
        &mut self,
        route: &Route,
        message_id: Option<&Value>,
        path: &str,
        session: Option<&MessageSessionId>,
        refusal: &Refusal,
    ) {
        let session = session.map(MessageSessionId::as_str);
        let message = self.in_refusal_context(refusal, path, session, |context| {
            management::encode_response(message_id, &Response::refused(refusal, context))
        });
        self.respond(route, message);
    }

    /// The link that the request says it is about, if it is a receiver of this connection.
    fn associated_link(&self, name: Option<&str>) -> Option<OutgoingLinkId> {
        let name = name?;
        self.links.values().find_map(|binding| match binding {
            // A link of that name that is on its way out is not the one that is meant.
            LinkBinding::Receiver(receiver) if !receiver.ending && receiver.link_name.as_ref() == name => {
                Some(receiver.outgoing)
            }
            _ => None,
        })
    }

    fn management_command(&mut self, request: ManagementRequest, entity: EntityId, path: &str, route: Route) {
        let connection = self.broker_id();
        let link = self.associated_link(request.associated_link_name.as_deref());
        let holder = HolderClaim { connection, link };
        let session = request.operation.message_session().cloned();
        let kind = match &request.operation {
            ManagementOperation::RenewLocks { .. } => ReplyKind::LocksRenewed,
            ManagementOperation::RenewMessageSessionLock { .. } => ReplyKind::MessageSessionLockRenewed,
            ManagementOperation::GetMessageSessionState { .. } => ReplyKind::MessageSessionState,
            ManagementOperation::ListMessageSessions { skip, .. } => {
                ReplyKind::MessageSessions { skip: *skip }
            }
            ManagementOperation::Peek { omit_body, .. } => {
                ReplyKind::Peeked { omit_body: *omit_body, messages: Vec::new() }
            }
            ManagementOperation::SetMessageSessionState { .. } | ManagementOperation::Settle { .. } => {
                ReplyKind::Done
            }
            ManagementOperation::NotYet(feature) => {
                let refusal = Refusal::NotSupported(*feature);
                return self.refuse_management(&route, request.message_id.as_ref(), path, None, &refusal);
            }
            ManagementOperation::Unknown(_) => {
                let refusal = Refusal::UnknownOperation;
                return self.refuse_management(&route, request.message_id.as_ref(), path, None, &refusal);
            }
        };
        let message_id = request.message_id;
        let reply = ManagementReply { route, message_id, path: path.to_owned(), entity, session, kind };
        let request_id = self.requests.open(Pending::Management(Box::new(reply)));
        self.commands.extend(command(request.operation, entity, holder, request_id));
    }

    /// The broker has answered, and every byte that the response needs is at hand.
    pub(super) fn management_reply(&mut self, pending: ManagementReply, reply: Reply) {
        let ManagementReply { route, message_id, path, session, kind, .. } = pending;
        let message_id = message_id.as_ref();
        let peeked;
        let response = match (&kind, &reply) {
            (_, Reply::Refused(refusal)) => {
                return self.refuse_management(&route, message_id, &path, session.as_ref(), refusal);
            }
            (_, Reply::Settled(failures)) if !failures.is_empty() => {
                let refusal = &failures[0].1;
                return self.refuse_management(&route, message_id, &path, session.as_ref(), refusal);
            }
            (ReplyKind::LocksRenewed, Reply::Renewed(ends)) => Response::LocksRenewed(ends),
            (ReplyKind::MessageSessionLockRenewed, Reply::Renewed(ends)) => {
                Response::MessageSessionLockRenewed(ends.first().copied().unwrap_or_default())
            }
            (ReplyKind::MessageSessionState, Reply::MessageSessionState(state)) => {
                Response::MessageSessionState(match state {
                    StateValue::Inline(state) => Some(state),
                    StateValue::Absent | StateValue::Stored => None,
                })
            }
            (ReplyKind::MessageSessions { skip }, Reply::MessageSessions(ids)) => {
                Response::MessageSessions { skip: *skip, ids }
            }
            (ReplyKind::Peeked { omit_body, .. }, Reply::Peeked(messages)) => {
                match encode_peeked(messages, *omit_body) {
                    Ok(encoded) => peeked = encoded,
                    Err(refusal) => {
                        return self.refuse_management(&route, message_id, &path, session.as_ref(), &refusal);
                    }
                }
                Response::Peeked(&peeked)
            }
            _ => Response::Done,
        };
        let message = management::encode_response(message_id, &response);
        self.respond(&route, message);
    }

    /// The state is in the store: it is read before the response is made.
    pub(super) fn read_state(&mut self, request: RequestId) {
        let Some(Pending::Management(reply)) = self.requests.get_mut(request) else { return };
        let (entity, session) = (reply.entity, reply.session.clone());
        if let (Some(session), Some((_, broker))) = (session, &self.namespace) {
            broker.read_message_session_state(entity, session, request);
        }
    }

    pub(super) fn state_read(&mut self, request: RequestId, state: Result<Option<Bytes>, Refusal>) {
        let Some(Pending::Management(pending)) = self.requests.close(request) else { return };
        let reply = match state {
            Ok(Some(state)) => Reply::MessageSessionState(StateValue::Inline(state)),
            Ok(None) => Reply::MessageSessionState(StateValue::Absent),
            Err(refusal) => Reply::Refused(refusal),
        };
        self.management_reply(*pending, reply);
    }

    /// Bytes of some peeked messages are in the store only: they are read first.
    pub(super) fn read_peeked(&mut self, request: RequestId, reply: Reply) {
        let Reply::Peeked(peeked) = reply else { return };
        let missing: Vec<(BodyId, bool)> = super::missing_bodies(&peeked).collect();
        if let Some(Pending::Management(pending)) = self.requests.get_mut(request)
            && let ReplyKind::Peeked { messages, .. } = &mut pending.kind
        {
            *messages = peeked;
        }
        for (body, is_large) in missing {
            if is_large {
                self.ask_row(body, 0, RowWaiter::Peek(request));
            } else {
                self.request_body(body, BodyWaiter::Peek(request));
            }
        }
    }

    pub(super) fn body_for_peek(
        &mut self,
        request: RequestId,
        body: BodyId,
        bytes: &Result<Option<Bytes>, Refusal>,
    ) {
        let Some(Pending::Management(pending)) = self.requests.get_mut(request) else { return };
        let ReplyKind::Peeked { messages, .. } = &mut pending.kind else { return };
        match bytes {
            Ok(Some(bytes)) => {
                for message in messages.iter_mut().filter(|message| message.body.id == body) {
                    message.body.bytes = Some(bytes.clone());
                }
            }
            // It was completed meanwhile: peek shows what is there.
            Ok(None) => messages.retain(|message| message.body.id != body),
            Err(_) => messages.clear(),
        }
        if super::missing_bodies(messages).next().is_some() {
            return;
        }
        let messages = std::mem::take(messages);
        let reply = match bytes {
            Err(refusal) => Reply::Refused(refusal.clone()),
            Ok(_) => Reply::Peeked(messages),
        };
        if let Some(Pending::Management(pending)) = self.requests.close(request) {
            self.management_reply(*pending, reply);
        }
    }
}

/// The command for an operation; `None` for those that the caller has refused.
fn command(
    operation: ManagementOperation,
    entity: EntityId,
    holder: HolderClaim,
    request: RequestId,
) -> Option<Command> {
    let connection = holder.connection;
    Some(match operation {
        ManagementOperation::RenewLocks { tokens } => {
            Command::RenewMessageLocks { entity, tokens, connection, request }
        }
        ManagementOperation::RenewMessageSessionLock { session } => {
            Command::RenewMessageSessionLock { entity, session, holder, request }
        }
        ManagementOperation::GetMessageSessionState { session } => {
            Command::GetMessageSessionState { entity, session, holder, request }
        }
        ManagementOperation::SetMessageSessionState { session, state } => {
            Command::SetMessageSessionState { entity, session, state, holder, request }
        }
        ManagementOperation::ListMessageSessions { state_updated_after, skip, top } => {
            Command::ListMessageSessions { entity, state_updated_after, skip, top, connection, request }
        }
        ManagementOperation::Peek { from, count, session, .. } => {
            Command::Peek { entity, from, count, session, connection, request }
        }
        ManagementOperation::Settle { tokens, settlement, .. } => Command::Settle {
            via: SettleVia::Management(entity),
            tokens: tokens.into(),
            settlement,
            connection,
            request: Some(request),
        },
        ManagementOperation::NotYet(_) | ManagementOperation::Unknown(_) => return None,
    })
}

fn encode_peeked(messages: &[PeekedMessage], omit_body: bool) -> Result<Vec<Bytes>, Refusal> {
    let encode = |message: &PeekedMessage| {
        let bytes = message.body.bytes.as_ref().ok_or(Refusal::Unreadable)?;
        let facts = DeliveryFacts {
            sequence_number: message.sequence_number,
            enqueued_at: message.enqueued_at,
            locked_until: None,
            delivery_count: message.delivery_count,
            lock_token: None,
            state: Some(message.state),
            properties: message.properties.as_deref(),
        };
        if streams::is_head_only(&message.body) {
            // A response holds its messages whole, so it has no room for a large one's body.
            return outgoing_without_body(bytes, message.body.size_bytes, &facts);
        }
        outgoing_whole(bytes, &facts, omit_body)
    };
    messages.iter().map(encode).collect()
}
