//! What a namespace does in answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lockstep_model::{
    BodyId, ConnectionId, EntityId, EntityName, LockToken, MessageSessionId, MessageState, OutgoingLinkId,
    PropertyOverlay, QueueDescription, Refusal, RequestId, SequenceNumber, Timestamp,
};
use lockstep_store::Batch;

use super::{lifecycle::EntityCounts, message_state::MessageEntry};

/// The effects of one or several commands.
#[derive(Debug, Default)]
pub struct Output {
    /// What must become durable.
    pub batch: Batch,
    /// The bytes behind each `put_body` of the batch, for the runtime's cache.
    pub new_bodies: Vec<(BodyId, Bytes)>,
    /// The body of each `delete_body` of the batch, likewise.
    pub gone_bodies: Vec<BodyId>,
    /// May leave the process at once, in order.
    pub immediate: Vec<Routed>,
    /// May leave, in order, when the batch and all before it are durable.
    pub fenced: Vec<Routed>,
    /// How the entities changed, in order. Whoever is told of it by the runtime is told behind
    /// what is in `fenced` now.
    pub entities: Vec<EntityChange>,
}

/// An entity came, changed or went.
#[derive(Clone, PartialEq, Debug)]
pub enum EntityChange {
    /// There is an entity with these properties.
    Defined(EntityId, Box<QueueDescription>),
    /// There is none of this name any more.
    Deleted(EntityId, EntityName),
}

/// An entity at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntitySnapshot {
    /// Its main store.
    pub id: EntityId,
    /// Its properties.
    pub description: QueueDescription,
    /// What it holds.
    pub counts: EntityCounts,
}

/// An effect and the connection that it is for.
#[derive(Clone, PartialEq, Debug)]
pub struct Routed {
    /// Whose.
    pub connection: ConnectionId,
    /// What.
    pub effect: Effect,
}

/// What a connection is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// The attach is granted. Immediate; precedes every delivery on the link.
    Attached(AttachGrant),
    /// The attach is refused (fenced); the link is forgotten.
    AttachRefused {
        /// The link.
        link: OutgoingLinkId,
        /// Why.
        refusal: Refusal,
    },
    /// A message for a link. Immediate in peek-lock mode, fenced in receive-and-delete mode.
    Deliver(Delivery),
    /// Nothing more can be delivered under the drained credit. Fenced, and after every delivery
    /// made before it.
    Drained {
        /// The link.
        link: OutgoingLinkId,
    },
    /// The link is gone (fenced): in answer to a clean detach (`cause` is `None`), or because
    /// the core ended it (expiry, take-over).
    Detached {
        /// The link.
        link: OutgoingLinkId,
        /// Why, if the core ended it.
        cause: Option<Refusal>,
    },
    /// An entity that the connection watches has changed or is gone (fenced). Comes from the
    /// runtime, which knows who watches.
    EntityChanged(EntityId, EntityName),
    /// The answer to a command (fenced).
    Reply {
        /// The command's number.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
}

/// A granted attach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachGrant {
    /// The link.
    pub link: OutgoingLinkId,
    /// The message session that the link holds or browses, and for holders until when.
    pub message_session: Option<(MessageSessionId, Option<Timestamp>)>,
}

/// One message on its way to a receiver.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    /// The receiver.
    pub link: OutgoingLinkId,
    /// The lock; of no use in receive-and-delete mode except for `Sent` and `Return`.
    pub token: LockToken,
    /// Position in the entity.
    pub sequence_number: SequenceNumber,
    /// When it was accepted.
    pub enqueued_at: Timestamp,
    /// Until when it is locked: its own lock's end, or that of the message-session lock; `None`
    /// in receive-and-delete mode.
    pub locked_until: Option<Timestamp>,
    /// Failed deliveries before this one.
    pub delivery_count: u32,
    /// `Active`; `Deferred` if it was asked for by its number; `Scheduled` if it was scheduled and
    /// has become active since (semantics B-54).
    pub state: MessageState,
    /// How long it lives, from `enqueued_at` on; `None` is for ever.
    pub time_to_live: Option<Duration>,
    /// Its bytes.
    pub body: BodyRef,
    /// Application properties laid over it.
    pub properties: Option<Arc<PropertyOverlay>>,
}

impl Delivery {
    pub(super) fn of(
        link: OutgoingLinkId,
        token: LockToken,
        sequence_number: SequenceNumber,
        locked_until: Option<Timestamp>,
        entry: &MessageEntry,
    ) -> Self {
        Self {
            link,
            token,
            sequence_number,
            enqueued_at: entry.enqueued_at,
            locked_until,
            delivery_count: entry.delivery_count,
            state: entry.received_state(),
            time_to_live: entry.time_to_live(),
            body: BodyRef { id: entry.body, size_bytes: entry.size_bytes, bytes: None },
            properties: entry.overlay.clone(),
        }
    }
}

/// Where the bytes of a message are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyRef {
    /// Their name.
    pub id: BodyId,
    /// Their number.
    pub size_bytes: u32,
    /// The bytes themselves, if they were at hand (the runtime fills them in from its cache;
    /// the core leaves `None`).
    pub bytes: Option<Bytes>,
}

/// One message seen by peek.
#[derive(Clone, PartialEq, Debug)]
pub struct PeekedMessage {
    /// Position in the entity.
    pub sequence_number: SequenceNumber,
    /// When it was enqueued; of a scheduled message, when it will be.
    pub enqueued_at: Timestamp,
    /// Failed deliveries so far.
    pub delivery_count: u32,
    /// Active, deferred or scheduled.
    pub state: MessageState,
    /// How long it lives, from `enqueued_at` on; `None` is for ever.
    pub time_to_live: Option<Duration>,
    /// Its bytes.
    pub body: BodyRef,
    /// Application properties laid over it.
    pub properties: Option<Arc<PropertyOverlay>>,
}

/// A message-session state on its way to a reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateValue {
    /// None is set.
    Absent,
    /// At hand.
    Inline(Bytes),
    /// In the store, as it stood when every commit before the reply's fence was durable; the
    /// runtime reads it.
    Stored,
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The messages are stored, except those that were dropped as duplicates.
    Enqueued {
        /// The number of the first stored one; the others follow it.
        first: SequenceNumber,
        /// Positions, ascending, of the dropped ones.
        duplicates: Vec<u32>,
    },
    /// Deferred messages, in the order asked; locked, or gone from the entity. The bytes of the
    /// latter are kept until [`Command::BodiesRead`](super::Command::BodiesRead) or the end of
    /// the connection.
    Deferred(Vec<Delivery>),
    /// How many messages were deleted.
    Deleted(u32),
    /// The queue is defined.
    Defined(EntityId),
    /// The queue asked for.
    Described(Box<EntitySnapshot>),
    /// Queues, by name; perhaps fewer than asked.
    Listed(Vec<EntitySnapshot>),
    /// The settlement was made, except for these tokens (by position) and reasons. By
    /// management there is either no failure or a `Refused`.
    Settled(Vec<(u32, Refusal)>),
    /// New lock ends, in the order asked.
    Renewed(Vec<Timestamp>),
    /// The state of the message session asked for.
    MessageSessionState(StateValue),
    /// Ids, ascending; perhaps fewer than asked.
    MessageSessions(Vec<MessageSessionId>),
    /// Messages, ascending; perhaps fewer than asked.
    Peeked(Vec<PeekedMessage>),
    /// Done.
    Done,
    /// Refused; nothing changed.
    Refused(Refusal),
}
