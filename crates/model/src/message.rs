//! Messages as the broker sees them: mostly opaque bytes with a few facts beside them.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{MessageSessionId, Timestamp};

/// A message on its way into an entity.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IncomingMessage {
    /// The whole encoded message as it will be stored: the sender's sections, with a generated
    /// message-id where there was none.
    pub encoded: Bytes,
    /// What of `encoded` the sender did not send, in bytes; limits are about the rest.
    pub generated_bytes: u32,
    /// `group-id`, if it was sent.
    pub message_session: Option<MessageSessionId>,
    /// How long it lives, as the sender asked (semantics B-57); `None` is for ever.
    pub time_to_live: Option<Duration>,
    /// When it is to be enqueued (`x-opt-scheduled-enqueue-time`); a time that has come already
    /// means now (semantics B-47).
    pub scheduled_at: Option<Timestamp>,
    /// Stands for the message-id that was sent; `None` if none was, or if the entity does not
    /// look for duplicates.
    pub duplicate_key: Option<DuplicateKey>,
    /// `x-opt-partition-key`, if it was sent.
    pub partition_key: Option<Box<str>>,
}

/// The first 128 bits of a SHA-256 hash of a message-id and its AMQP type: equal for equal ids
/// (semantics G-19).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DuplicateKey(pub [u8; 16]);

impl IncomingMessage {
    /// The size of the message as it was sent, in bytes.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        (self.encoded.len() as u64).saturating_sub(u64::from(self.generated_bytes))
    }
}

/// Messages that are stored together. Nearly always it is one, which takes no memory of its own.
pub type IncomingMessages = SmallVec<[IncomingMessage; 1]>;

/// How a receiver takes messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReceiveMode {
    /// Locked until settled (at least once).
    PeekLock,
    /// Removed before it is sent (at most once).
    ReceiveAndDelete,
}

/// Where a stored message stands; the values are those of `x-opt-message-state`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum MessageState {
    /// Waiting or locked.
    #[default]
    Active = 0,
    /// Set aside, found by its sequence number only.
    Deferred = 1,
    /// Waits for its time.
    Scheduled = 2,
}

/// One value of a [`PropertyOverlay`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PropertyValue {
    /// An AMQP-encoded value of a simple type, opaque to the broker.
    Encoded(Bytes),
    /// A text of the broker's own.
    Text(Box<str>),
}

/// Application properties that settlements added or replaced, recorded beside the untouched
/// message (semantics B-21, B-22). Ordered by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PropertyOverlay(BTreeMap<Box<str>, PropertyValue>);

impl PropertyOverlay {
    /// An overlay that changes nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets one property, replacing an earlier value.
    pub fn set(&mut self, name: impl Into<Box<str>>, value: PropertyValue) {
        self.0.insert(name.into(), value);
    }

    /// Lays `newer` over this one.
    pub fn merge(&mut self, newer: &Self) {
        for (name, value) in &newer.0 {
            self.0.insert(name.clone(), value.clone());
        }
    }

    /// The value of one property, if the overlay sets it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&PropertyValue> {
        self.0.get(name)
    }

    /// All properties, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PropertyValue)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Bytes of its names and values: what it adds to the size of a message, roughly.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.iter().map(entry_size_bytes).sum()
    }

    /// The same once `newer` is laid over it.
    #[must_use]
    pub fn merged_size_bytes(&self, newer: &Self) -> usize {
        let kept = self.iter().filter(|(name, _)| !newer.0.contains_key(*name));
        kept.map(entry_size_bytes).sum::<usize>() + newer.size_bytes()
    }
}

fn entry_size_bytes((name, value): (&str, &PropertyValue)) -> usize {
    let value = match value {
        PropertyValue::Encoded(bytes) => bytes.len(),
        PropertyValue::Text(text) => text.len(),
    };
    name.len() + value
}

/// What a receiver says about a message it holds locked; the model side of an AMQP outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// Processed: remove it.
    Complete,
    /// Failed: unlock it, count the delivery, lay the properties over it.
    Abandon(PropertyOverlay),
    /// The same, to be delivered again after this time at the earliest instead of after the
    /// entity's own delay (semantics F-7); at most
    /// [`REDELIVERY_DELAY_MAX`](crate::limits::REDELIVERY_DELAY_MAX).
    AbandonFor(PropertyOverlay, Duration),
    /// Hopeless: move it to the dead-letter queue; reason and description are among the
    /// properties.
    DeadLetter(PropertyOverlay),
    /// Not looked at: unlock it, count nothing.
    Release,
    /// Put aside: unlock it, count the delivery, lay the properties over it; from now on it is
    /// found by its sequence number only (semantics B-19, B-44).
    Defer(PropertyOverlay),
}
