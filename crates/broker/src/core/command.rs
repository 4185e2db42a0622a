//! What can be asked of a namespace.

use std::time::Duration;

use bytes::Bytes;
use lockstep_model::{
    CommitNumber, ConnectionId, EntityId, EntityName, IncomingMessage, IncomingMessages, LockToken,
    LockTokens, MessageSessionId, OutgoingLinkId, QueueDescription, ReceiveMode, RequestId, SequenceNumber,
    Settlement, Timestamp, UploadId,
};

/// A command. Those with a `request` are answered by exactly one
/// [`Effect::Reply`](super::Effect::Reply) with the same number, to `connection`.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Store messages at the end of an entity.
    Enqueue(Enqueue),
    /// Write one full row of a message that arrives in parts. Answered by `Done` when it is durable;
    /// a refusal forgets the message with all its rows, and every later part of it is refused too.
    StorePart {
        /// The entity; always a main store.
        entity: EntityId,
        /// Which message of the connection.
        upload: UploadId,
        /// The number of the row, from 0.
        part: u16,
        /// Exactly [`BODY_PART_SIZE_BYTES`](lockstep_model::limits::BODY_PART_SIZE_BYTES).
        row: Bytes,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Store the last row of a message that arrived in parts, and the message, at the end of its
    /// entity. The reply is `Enqueued` or `Refused`; a refusal forgets the message with all its rows.
    EnqueueParts(EnqueueParts),
    /// Forget a message that arrives in parts: it will not be completed. An unknown one is ignored.
    DropParts {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        upload: UploadId,
    },
    /// A client's receiver wants to attach. Answered by `Attached` or `AttachRefused`, perhaps
    /// minutes later.
    Attach(Attach),
    /// How many deliveries a link may have been given in all since it attached: a cumulative
    /// limit, so that deliveries under way need no bookkeeping. A smaller limit than deliveries
    /// already made just stops further ones. Credit on a link that is still pending is kept.
    /// With `drain`, what is available up to the limit is delivered, then
    /// [`Effect::Drained`](super::Effect::Drained) is sent and the limit is used up.
    Credit {
        /// The link.
        link: OutgoingLinkId,
        /// Deliveries allowed in all.
        limit: u64,
        /// Whether to answer when nothing more can be delivered now.
        drain: bool,
    },
    /// The link goes away (or, if it is pending, its attach is cancelled). Answered by
    /// [`Effect::Detached`](super::Effect::Detached) (fenced) when `departure` is clean and the
    /// link is known; an unknown link is ignored.
    Detach {
        /// The link.
        link: OutgoingLinkId,
        /// How it ended.
        departure: Departure,
    },
    /// Every link of the connection goes away, pending ones too, and every message that arrives in
    /// parts. Not answered.
    ConnectionGone {
        /// The connection.
        connection: ConnectionId,
        /// How it ended.
        departure: Departure,
    },
    /// Deliveries that the connection did not put on the wire (the link had ended, or its
    /// credit was taken back): put back as they were, delivery count unchanged. Unknown tokens
    /// are ignored. Works for receive-and-delete deliveries too.
    Return {
        /// The link they were made on.
        link: OutgoingLinkId,
        /// Which.
        tokens: Vec<LockToken>,
    },
    /// A settlement of deliveries was asked for on their link and is refused before it comes here:
    /// the receiver has forgotten them, so their locks are not renewed by the broker any more
    /// (`auto_renew_while_link_open`). Unknown tokens are ignored.
    SettlementRefused {
        /// The link they were made on.
        link: OutgoingLinkId,
        /// Which.
        tokens: LockTokens,
    },
    /// Receive-and-delete deliveries that are on the wire: their bodies can go. Until then a
    /// `Return` or the end of the link brings them back.
    Sent {
        /// The link they were made on.
        link: OutgoingLinkId,
        /// Which.
        tokens: Vec<LockToken>,
    },
    /// Settle locked messages. Answered by [`Reply::Settled`](super::Reply::Settled) if
    /// `request` is given.
    Settle {
        /// Whose locks, and how failures are treated.
        via: SettleVia,
        /// The messages.
        tokens: LockTokens,
        /// What becomes of them.
        settlement: Settlement,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply; `None` if the client wants none.
        request: Option<RequestId>,
    },
    /// Renew message locks, all or none. Answered by `Renewed` or refused. Tokens of a
    /// message-session hold answer that hold's expiry and change nothing (semantics A-49).
    RenewMessageLocks {
        /// Message store that the tokens belong to.
        entity: EntityId,
        /// The locks; at least one.
        tokens: Vec<LockToken>,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Renew the caller's lock on a message session. Answered by `Renewed` with one time.
    RenewMessageSessionLock {
        /// The entity.
        entity: EntityId,
        /// The message session.
        session: MessageSessionId,
        /// Who asks, and on the strength of what.
        holder: HolderClaim,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Read the state of a message session; allowed to its holder and to a browse link of the
    /// same connection. Answered by `MessageSessionState`.
    GetMessageSessionState {
        /// The entity.
        entity: EntityId,
        /// The message session.
        session: MessageSessionId,
        /// Who asks, and on the strength of what.
        holder: HolderClaim,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Replace (`Some`) or remove (`None`) the state of a message session; allowed to its
    /// holder. Answered by `Done`.
    SetMessageSessionState {
        /// The entity.
        entity: EntityId,
        /// The message session.
        session: MessageSessionId,
        /// The new state, perhaps of no bytes; `None` removes it.
        state: Option<Bytes>,
        /// Who asks, and on the strength of what.
        holder: HolderClaim,
        /// Recognises the reply.
        request: RequestId,
    },
    /// List message sessions, by id. Answered by `MessageSessions`.
    ListMessageSessions {
        /// The entity.
        entity: EntityId,
        /// `None`: those that have messages or state. `Some`: those whose state was set after it.
        state_updated_after: Option<Timestamp>,
        /// How many to leave out first.
        skip: u32,
        /// How many at the most.
        top: u32,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Look at messages without locking them. Answered by `Peeked`.
    Peek {
        /// The message store.
        entity: EntityId,
        /// First sequence number looked at; 0 and 1 are the start.
        from: SequenceNumber,
        /// How many at the most.
        count: u32,
        /// Only those of one message session.
        session: Option<MessageSessionId>,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Lock, or take, deferred messages. Answered by `Deferred` or refused, all or none.
    ReceiveBySequenceNumbers(ReceiveBySequenceNumbers),
    /// The connection has read the bytes of the deferred messages that a request took. Not
    /// answered.
    BodiesRead {
        /// The connection.
        connection: ConnectionId,
        /// The request that took them.
        request: RequestId,
    },
    /// Take scheduled messages back before they are due, all or none. Answered by `Done`.
    CancelScheduled {
        /// The entity.
        entity: EntityId,
        /// The numbers that they have while they wait.
        sequence_numbers: Vec<SequenceNumber>,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Delete messages that nobody holds, oldest first. Answered by `Deleted`.
    DeleteMessages {
        /// The message store.
        entity: EntityId,
        /// How many at the most.
        count: u32,
        /// Only those that were enqueued at or before it.
        enqueued_until: Timestamp,
        /// Only those of one message session.
        session: Option<MessageSessionId>,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Create a queue, or change one. Answered by `Defined`.
    DefineQueue {
        /// What it is to be like.
        description: Box<QueueDescription>,
        /// Whether it must not, or must, be there before.
        existence: Existence,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Look at a queue. Answered by `Described`.
    DescribeQueue {
        /// Its name.
        name: EntityName,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Look at the queues, by name. Answered by `Listed`.
    ListQueues {
        /// How many to leave out first.
        skip: u32,
        /// How many at the most.
        top: u32,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Delete a queue with everything in it; its links are detached. Answered by `Done`.
    DeleteQueue {
        /// The queue.
        entity: EntityId,
        /// Who asks.
        connection: ConnectionId,
        /// Recognises the reply.
        request: RequestId,
    },
    /// Batches up to this one are durable.
    Committed(CommitNumber),
    /// Time has passed: look at the deadlines. (Every other command looks at them too, after its
    /// own work: a renewal that arrived in time is never beaten by a deadline.)
    Tick,
}

/// Messages to store, all or none (semantics B-95).
#[derive(Clone, PartialEq, Debug)]
pub struct Enqueue {
    /// The entity; always a main store.
    pub entity: EntityId,
    /// In order; at least one. Their sizes were not checked yet.
    pub messages: IncomingMessages,
    /// Who asks.
    pub connection: ConnectionId,
    /// Recognises the reply; `None` for a pre-settled send whose refusal the caller reports by
    /// other means. The reply is `Enqueued` or `Refused`.
    pub request: Option<RequestId>,
}

/// The end of a message that arrived in parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnqueueParts {
    /// The entity; always a main store.
    pub entity: EntityId,
    /// Which message of the connection; at least one part of it came.
    pub upload: UploadId,
    /// What is known of it. Its `encoded` is the last row only: not full, perhaps empty.
    pub message: IncomingMessage,
    /// Who asks.
    pub connection: ConnectionId,
    /// Recognises the reply.
    pub request: RequestId,
}

/// What is known of an entity before it is defined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existence {
    /// It is to be created: refused if it is there.
    New,
    /// It is to be changed: refused if it is not there.
    Existing,
}

/// A request for deferred messages.
#[derive(Clone, PartialEq, Debug)]
pub struct ReceiveBySequenceNumbers {
    /// The message store.
    pub entity: EntityId,
    /// Which messages, in the order of the answer.
    pub sequence_numbers: Vec<SequenceNumber>,
    /// Lock them, or remove them.
    pub mode: ReceiveMode,
    /// The message session that they belong to; required where the entity has them.
    pub message_session: Option<MessageSessionId>,
    /// Who asks, and on the strength of what.
    pub holder: HolderClaim,
    /// Recognises the reply.
    pub request: RequestId,
}

/// A receiver's attach.
#[derive(Clone, PartialEq, Debug)]
pub struct Attach {
    /// Names the link from now on.
    pub link: OutgoingLinkId,
    /// Where its effects go.
    pub connection: ConnectionId,
    /// The message store.
    pub entity: EntityId,
    /// Peek-lock or receive-and-delete.
    pub mode: ReceiveMode,
    /// Plain, or which message session.
    pub intent: ReceiveIntent,
    /// By which a client is recognised after its connection broke.
    pub identity: LinkIdentity,
}

/// What a receiver wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReceiveIntent {
    /// Messages of an entity without message sessions, or of a sub-queue.
    Plain,
    /// The lock of one message session, at once or not at all.
    AcceptMessageSession(MessageSessionId),
    /// The lock of any message session that has a message; waits for one.
    AcceptNextMessageSession {
        /// How long to wait before `AcceptTimedOut`.
        wait: Duration,
    },
    /// No lock and no messages: peek and state of one message session (semantics A-100).
    BrowseMessageSession(MessageSessionId),
}

/// A client's own names for a link, for take-over after a broken connection (semantics A-68).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LinkIdentity {
    /// Link property `com.microsoft:receiver-name`.
    pub receiver_name: Option<Box<str>>,
    /// `container-id` of the connection.
    pub container_id: Box<str>,
    /// Name of the link.
    pub link_name: Box<str>,
}

/// How a link or connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// detach, end or close on the wire, with or without an error, or the broker's own shutdown:
    /// message-session locks are released at once, nothing is counted.
    Clean,
    /// The transport broke: message-session locks are held to their expiry (or released at once
    /// if so configured).
    Lost,
}

/// On the strength of what a settlement is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettleVia {
    /// By a disposition on the link that got the messages; each token stands for itself.
    Link(OutgoingLinkId),
    /// By `update-disposition`: all or none, any live lock of the entity; on an entity with
    /// message sessions the caller's connection must hold the session.
    Management(EntityId),
}

/// Who claims to hold a message session (semantics A-99).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HolderClaim {
    /// The connection that asks.
    pub connection: ConnectionId,
    /// The link of that connection named by `associated-link-name`, if it names a live one: then
    /// that link must be the holder; otherwise any link of the connection may be.
    pub link: Option<OutgoingLinkId>,
}
