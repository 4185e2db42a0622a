//! Everything the broker refuses, as a closed list. The texts that clients see and the AMQP
//! conditions are made in `protocol::conditions`, the only such table.

use std::time::Duration;

use crate::InvalidDescription;

/// A right that a shared access policy gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Right {
    /// Send messages.
    Send,
    /// Receive, settle, renew, browse, and use session state.
    Listen,
    /// Everything, and the administration plane.
    Manage,
}

/// What Service Bus has and this version of Lockstep does not have yet; refused by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Feature {
    /// Topics, subscriptions and their rules.
    Topics,
    /// Transactions.
    Transactions,
    /// Auto-forwarding.
    Forwarding,
    /// Several holders of one message session.
    NonExclusiveMessageSessions,
    /// Selectors on a receiver.
    Selectors,
    /// Transfer destinations of a sender ("send via").
    SendVia,
    /// Dynamic nodes.
    DynamicNodes,
}

/// Which size limit was exceeded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SizeLimit {
    /// The encoded message, against the entity's `max_message_size_bytes`.
    Message,
    /// The encoded batch.
    Batch,
    /// The message-session state.
    MessageSessionState,
    /// The messages that one request asks for.
    Answer,
}

/// Why the broker does not do what a client asked. Every refusal is final for that request and
/// changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such entity.
    EntityNotFound,
    /// No such entity, and there cannot be one: its kind needs a feature that is not there yet.
    EntityOfFeature(Feature),
    /// The messages of this sub-queue or management node cannot be sent to (semantics B-10).
    SendToSubQueue,
    /// The caller's key lacks a right on the entity.
    Unauthorized(Right),
    /// The caller's token ran out and was not refreshed.
    TokenExpired,
    /// The lock token is unknown, expired or used up (semantics B-24).
    MessageLockLost,
    /// The message session is not, or no longer, held by the caller (semantics ).
    MessageSessionLockLost,
    /// Another link holds the message session (semantics A-25).
    MessageSessionCannotBeLocked,
    /// No message session became available within the wait (semantics A-33).
    AcceptTimedOut,
    /// A message without `group-id` was sent to an entity that requires message sessions
    /// (semantics A-13).
    MessageSessionIdMissing,
    /// A plain receiver on an entity that requires message sessions (semantics A-84).
    MessageSessionReceiverRequired,
    /// A message-session receiver on an entity without message sessions (semantics A-85).
    MessageSessionsNotSupported,
    /// A message-session receiver on a sub-queue (semantics A-86).
    MessageSessionOnSubQueue,
    /// An id has more characters than allowed.
    IdTooLong {
        /// Name of the field, as the client knows it.
        field: &'static str,
        /// How many characters it has.
        chars: usize,
    },
    /// Larger than the limit.
    TooLarge {
        /// Which limit.
        limit: SizeLimit,
        /// The limit.
        max_bytes: u64,
    },
    /// More than [`crate::limits::BATCH_MESSAGES_MAX`] messages in one batch.
    TooManyMessages,
    /// Dead-lettering a message that already is in a dead-letter queue (semantics B-38).
    AlreadyDeadLettered,
    /// A message asked for by its sequence number is not there, not deferred or scheduled as the
    /// request needs it, or locked (semantics A-125, B-49).
    MessageNotFound,
    /// An entity of that name is there already.
    EntityAlreadyExists,
    /// A property of an entity is outside its bounds.
    InvalidDescription(InvalidDescription),
    /// A property of an entity that cannot be changed differs; in the spelling of `lockstep.toml`.
    ImmutableProperty(&'static str),
    /// The entity's status forbids it (semantics B-97).
    EntityDisabled,
    /// The link was not used for so long (semantics A-69).
    LinkIdle(Duration),
    /// The keys of a message, or of the messages of one batch, name different partitions
    /// (semantics A-139, D-20).
    PartitionKeyMismatch(&'static str),
    /// Settling on a receive-and-delete link, or another thing the mode of the link rules out.
    NotAllowedInMode,
    /// The message or request cannot be read.
    Malformed(&'static str),
    /// An argument is missing or of the wrong type or outside its bounds.
    InvalidArgument(&'static str),
    /// A field of a performative says what cannot hold together with another one.
    InvalidField(&'static str),
    /// An operation that does not exist.
    UnknownOperation,
    /// Not in this version.
    NotSupported(Feature),
    /// No room: the entity's or the disk's quota.
    QuotaExceeded,
    /// Too much is under way; try again.
    ServerBusy,
    /// The broker is stopping.
    ShuttingDown,
    /// A stored message cannot be read back.
    Unreadable,
}
