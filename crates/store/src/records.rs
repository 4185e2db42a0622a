//! What the rows say. The byte forms live in `keys.rs` and `codec.rs`; both carry a format
//! version (see docs/storage.md).

use bytes::Bytes;
use lockstep_model::{
    BodyId, DuplicateKey, MessageSessionId, MessageState, PropertyOverlay, SequenceNumber, Timestamp,
};

/// One message in one message store; written once when the message comes to be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageRecord {
    /// Active, deferred or scheduled.
    pub state: MessageState,
    /// When it was enqueued; of a scheduled message, when it is to be.
    pub enqueued_at: Timestamp,
    /// When it expires if it was, or will be, enqueued at `enqueued_at`; `None` is never.
    pub expires_at: Option<Timestamp>,
    /// Whether the message was scheduled before it became active or deferred.
    pub was_scheduled: bool,
    /// The bytes it is made of.
    pub body: BodyId,
    /// Their number; what the message adds to the size of the entity.
    pub size_bytes: u32,
    /// Its message session, if it has one.
    pub message_session: Option<MessageSessionId>,
}

/// What settlements changed about a message; absent while nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MessageOverlayRecord {
    /// Failed deliveries so far.
    pub delivery_count: u32,
    /// Application properties laid over the message.
    pub properties: PropertyOverlay,
}

/// The state blob of one message session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageSessionRecord {
    /// When it was last set.
    pub updated_at: Timestamp,
    /// The user's bytes; opaque.
    pub state: Bytes,
}

/// What cannot be derived from the rows of an entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CounterRecord {
    /// The highest sequence number ever given out in this message store; 0 if none was.
    pub last_sequence_number: SequenceNumber,
}

/// A message-id that an entity remembers, to recognise duplicates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DuplicateRecord {
    /// The interval of the history that it belongs to: its time divided by the interval's length,
    /// as the broker reckons it. Intervals are forgotten as a whole.
    pub interval: u32,
    /// Stands for the message-id.
    pub key: DuplicateKey,
    /// When the message was accepted.
    pub accepted_at: Timestamp,
}

/// A namespace known to this store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceRecord {
    /// Its name.
    pub name: Box<str>,
    /// The highest entity number ever given out in it.
    pub last_entity_number: u32,
}
