//! The `$management` node of an entity: requests become commands, replies become responses.

use bytes::Bytes;
use lockstep_amqp::types::Value;
use lockstep_broker::{
    core::{
        Command, Delivery, Enqueue, HolderClaim, PeekedMessage, ReceiveBySequenceNumbers, Reply, SettleVia,
        StateValue,
    },
    runtime::EntityInfo,
};
use lockstep_model::{
    BodyId, EntityAddress, EntityId, IncomingMessage, LockToken, MessageSessionId, OutgoingLinkId,
    ReceiveMode, Refusal, RequestId, Right, SequenceNumber,
};
use lockstep_protocol::{
    management::{self, ManagementOperation, ManagementRequest, Response},
    message_mapping::{
        DeliveryFacts, DuplicateDetection, IncomingContext, incoming_single, outgoing_whole,
        outgoing_without_body,
    },
};

use super::{Connection, LinkBinding, reply_reads::bodies, request_links::Route, requests::Pending, streams};

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
    /// A reply with messages whose bytes are still to come.
    incomplete: Option<Reply>,
    /// How many are read for it.
    read_bytes: u64,
}

impl ManagementReply {
    /// The broker's reply is there but for bytes of messages, so many of them.
    pub(super) fn begin_read(&mut self, reply: Reply, bytes: u64) {
        self.incomplete = Some(reply);
        self.read_bytes = bytes;
    }
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
    Peeked {
        omit_body: bool,
    },
    /// How many messages are scheduled.
    Scheduled {
        count: usize,
    },
    Deferred {
        mode: ReceiveMode,
    },
    Deleted,
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
                let right = right(&request.operation);
                if let Err(refusal) = self.authorizer.check(address, right, self.now.utc) {
                    let session = request.operation.message_session();
                    self.refuse_management(&route, request.message_id.as_ref(), path, session, &refusal);
                    return;
                }
                self.management_command(request, entity, address, path, route);
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

    fn management_command(
        &mut self,
        request: ManagementRequest,
        info: &EntityInfo,
        address: &EntityAddress,
        path: &str,
        route: Route,
    ) {
        let entity = info.id.with_sub_queue(address.sub_queue);
        let connection = self.broker_id();
        let link = self.associated_link(request.associated_link_name.as_deref());
        let holder = HolderClaim { connection, link };
        let session = request.operation.message_session().cloned();
        let kind = reply_kind(&request.operation).and_then(|kind| match kind {
            // What makes the broker hold more.
            ReplyKind::Scheduled { .. } | ReplyKind::Deferred { .. } if self.refuses_work() => {
                Err(Refusal::ServerBusy)
            }
            kind => Ok(kind),
        });
        let kind = match kind {
            Ok(kind) => kind,
            Err(refusal) => {
                return self.refuse_management(&route, request.message_id.as_ref(), path, None, &refusal);
            }
        };
        let message_id = request.message_id;
        let messages = match self.scheduled_messages(&request.operation, info) {
            Ok(messages) => messages,
            Err(refusal) => {
                return self.refuse_management(&route, message_id.as_ref(), path, session.as_ref(), &refusal);
            }
        };
        let path = path.to_owned();
        let reply = ManagementReply {
            route,
            message_id,
            path,
            entity,
            session,
            kind,
            incomplete: None,
            read_bytes: 0,
        };
        let request_id = self.requests.open(Pending::Management(Box::new(reply)));
        if messages.is_empty() {
            self.commands.extend(command(request.operation, entity, holder, request_id));
        } else {
            let request = Some(request_id);
            self.commands.push_back(Command::Enqueue(Enqueue {
                entity,
                messages: messages.into(),
                connection,
                request,
            }));
        }
    }

    /// The messages of a request to schedule some; none for other requests.
    fn scheduled_messages(
        &mut self,
        operation: &ManagementOperation,
        info: &EntityInfo,
    ) -> Result<Vec<IncomingMessage>, Refusal> {
        let ManagementOperation::Schedule { messages } = operation else { return Ok(Vec::new()) };
        let context =
            IncomingContext { duplicates: DuplicateDetection::from(&info.description), now: self.now.utc };
        let random = &mut self.random;
        let mut read = |message: &Bytes| {
            let message = incoming_single(message.clone(), context, &mut || random.next_uuid())?;
            if message.scheduled_at.is_none() {
                return Err(Refusal::InvalidArgument(
                    "a message to schedule needs the annotation x-opt-scheduled-enqueue-time",
                ));
            }
            Ok(message)
        };
        let messages: Vec<_> = messages.iter().map(&mut read).collect::<Result<_, _>>()?;
        self.command_bytes += messages.iter().map(|message| message.encoded.len()).sum::<usize>();
        Ok(messages)
    }

    /// The broker has answered, and every byte that the response needs is at hand.
    pub(super) fn management_reply(&mut self, request: RequestId, pending: ManagementReply, reply: Reply) {
        if matches!(pending.kind, ReplyKind::Deferred { mode: ReceiveMode::ReceiveAndDelete }) {
            self.commands.push_back(Command::BodiesRead { connection: self.broker_id(), request });
        }
        let ManagementReply { route, message_id, path, session, kind, .. } = pending;
        let message_id = message_id.as_ref();
        let (peeked, deferred, numbers);
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
            (ReplyKind::Peeked { omit_body }, Reply::Peeked(messages)) => {
                match encode_peeked(messages, *omit_body) {
                    Ok(encoded) => peeked = encoded,
                    Err(refusal) => {
                        return self.refuse_management(&route, message_id, &path, session.as_ref(), &refusal);
                    }
                }
                Response::Peeked(&peeked)
            }
            (ReplyKind::Deferred { mode }, Reply::Deferred(deliveries)) => {
                match encode_deferred(deliveries, *mode) {
                    Ok(encoded) => deferred = encoded,
                    Err(refusal) => {
                        return self.refuse_management(&route, message_id, &path, session.as_ref(), &refusal);
                    }
                }
                Response::Received(&deferred)
            }
            (ReplyKind::Scheduled { count }, Reply::Enqueued { first, duplicates }) => {
                numbers = scheduled_numbers(*count, *first, duplicates);
                Response::Scheduled(&numbers)
            }
            (ReplyKind::Deleted, Reply::Deleted(count)) => Response::Deleted(*count),
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
        self.management_reply(request, *pending, reply);
    }

    pub(super) fn body_for_request(
        &mut self,
        request: RequestId,
        body: BodyId,
        bytes: &Result<Option<Bytes>, Refusal>,
    ) {
        let Some(Pending::Management(pending)) = self.requests.get_mut(request) else { return };
        let Some(reply) = &mut pending.incomplete else { return };
        match (bytes, &mut *reply) {
            (Ok(Some(bytes)), reply) => {
                for waiting in bodies(reply).into_iter().filter(|waiting| waiting.id == body) {
                    waiting.bytes = Some(bytes.clone());
                }
            }
            // It was completed meanwhile: peek shows what is there.
            (Ok(None), Reply::Peeked(messages)) => messages.retain(|message| message.body.id != body),
            // Its lock ran out meanwhile and somebody else completed it.
            (Ok(None), _) => *reply = Reply::Refused(Refusal::MessageNotFound),
            (Err(refusal), _) => *reply = Reply::Refused(refusal.clone()),
        }
        if lacks_bodies(reply) {
            return;
        }
        if let Some(Pending::Management(mut pending)) = self.requests.close(request)
            && let Some(reply) = pending.incomplete.take()
        {
            let bytes = pending.read_bytes;
            self.management_reply(request, *pending, reply);
            self.end_read(bytes);
        }
    }
}

/// Whether bytes of messages in a reply are still to be read.
pub(super) fn lacks_bodies(reply: &Reply) -> bool {
    match reply {
        Reply::Peeked(messages) => messages.iter().any(|message| message.body.bytes.is_none()),
        Reply::Deferred(deliveries) => deliveries.iter().any(|delivery| delivery.body.bytes.is_none()),
        _ => false,
    }
}

/// What it takes to ask for an operation.
const fn right(operation: &ManagementOperation) -> Right {
    match operation {
        ManagementOperation::Schedule { .. } | ManagementOperation::CancelScheduled { .. } => Right::Send,
        _ => Right::Listen,
    }
}

/// One number for each message, in order; 0 for one that was dropped as a duplicate.
fn scheduled_numbers(count: usize, first: SequenceNumber, duplicates: &[u32]) -> Vec<SequenceNumber> {
    let mut next = first;
    let number = |position: usize| {
        if duplicates.iter().any(|&duplicate| duplicate as usize == position) {
            return SequenceNumber(0);
        }
        let number = next;
        next = next.next();
        number
    };
    (0..count).map(number).collect()
}

/// How the reply to an operation is told.
///
/// # Errors
/// The operation is none that there is.
const fn reply_kind(operation: &ManagementOperation) -> Result<ReplyKind, Refusal> {
    Ok(match operation {
        ManagementOperation::RenewLocks { .. } => ReplyKind::LocksRenewed,
        ManagementOperation::RenewMessageSessionLock { .. } => ReplyKind::MessageSessionLockRenewed,
        ManagementOperation::GetMessageSessionState { .. } => ReplyKind::MessageSessionState,
        ManagementOperation::ListMessageSessions { skip, .. } => ReplyKind::MessageSessions { skip: *skip },
        ManagementOperation::Peek { omit_body, .. } => ReplyKind::Peeked { omit_body: *omit_body },
        ManagementOperation::Schedule { messages } => ReplyKind::Scheduled { count: messages.len() },
        ManagementOperation::ReceiveBySequenceNumbers { mode, .. } => ReplyKind::Deferred { mode: *mode },
        ManagementOperation::DeleteMessages { .. } => ReplyKind::Deleted,
        ManagementOperation::CancelScheduled { .. }
        | ManagementOperation::SetMessageSessionState { .. }
        | ManagementOperation::Settle { .. } => ReplyKind::Done,
        ManagementOperation::NotYet(feature) => return Err(Refusal::NotSupported(*feature)),
        ManagementOperation::Unknown(_) => return Err(Refusal::UnknownOperation),
    })
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
        ManagementOperation::CancelScheduled { sequence_numbers } => {
            Command::CancelScheduled { entity, sequence_numbers, connection, request }
        }
        ManagementOperation::ReceiveBySequenceNumbers { sequence_numbers, mode, session } => {
            Command::ReceiveBySequenceNumbers(ReceiveBySequenceNumbers {
                entity,
                sequence_numbers,
                mode,
                message_session: session,
                holder,
                request,
            })
        }
        ManagementOperation::DeleteMessages { count, enqueued_until, session } => {
            Command::DeleteMessages { entity, count, enqueued_until, session, connection, request }
        }
        ManagementOperation::Schedule { .. }
        | ManagementOperation::NotYet(_)
        | ManagementOperation::Unknown(_) => return None,
    })
}

fn encode_deferred(deliveries: &[Delivery], mode: ReceiveMode) -> Result<Vec<(Bytes, LockToken)>, Refusal> {
    let encode = |delivery: &Delivery| {
        let bytes = delivery.body.bytes.as_ref().ok_or(Refusal::Unreadable)?;
        let facts = DeliveryFacts {
            sequence_number: delivery.sequence_number,
            enqueued_at: delivery.enqueued_at,
            locked_until: delivery.locked_until,
            delivery_count: delivery.delivery_count,
            lock_token: (mode == ReceiveMode::PeekLock).then_some(delivery.token),
            state: Some(delivery.state),
            time_to_live: delivery.time_to_live,
            properties: delivery.properties.as_deref(),
        };
        Ok((outgoing_whole(bytes, &facts, false)?, delivery.token))
    };
    deliveries.iter().map(encode).collect()
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
            time_to_live: message.time_to_live,
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
