//! Identifiers. All are newtypes, so that a sequence number is never passed as a link.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// A namespace of this broker. Stored; never reused.
    NamespaceId(u32)
}
id! {
    /// One AMQP connection of this process. Not stored; never reused within a process.
    ConnectionId(u64)
}
id! {
    /// One link on which the broker sends messages (a client's receiver). Unique within the
    /// process; never reused.
    OutgoingLinkId(u64)
}
impl OutgoingLinkId {
    /// No link: of a lock that was got by a management request. No link has this number.
    pub const NONE: Self = Self(0);
}

id! {
    /// Chosen by a connection to recognise the reply to one of its commands. Unique among the
    /// open requests of that connection.
    RequestId(u64)
}
id! {
    /// Chosen by a connection to name a large message that it hands on in parts. Unique among the
    /// unfinished ones of that connection.
    UploadId(u64)
}
id! {
    /// Broker-assigned position of a message in its entity: unique, gapless and increasing per
    /// entity, the first is 1 (semantics B-5). On the wire an AMQP `long`.
    SequenceNumber(u64)
}
id! {
    /// Names the stored bytes of one message within its namespace. Several rows may share one
    /// body; a move to the dead-letter queue keeps it.
    BodyId(u64)
}
id! {
    /// Position of a write batch in the one commit pipeline of the process; 1 is the first.
    CommitNumber(u64)
}

/// Which of the message stores of an entity is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum SubQueue {
    /// The entity itself.
    #[default]
    Main,
    /// `<entity>/$DeadLetterQueue`.
    DeadLetter,
    /// `<entity>/$Transfer/$DeadLetterQueue`.
    TransferDeadLetter,
}

/// A message store: `namespace: u32 | entity number: u32`, where the low two bits of the entity
/// number are the sub-queue. The sub-queues of one entity are allocated together and the number
/// is never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(u64);

impl EntityId {
    /// Number of entities that one namespace can ever have had.
    pub const NUMBER_MAX: u32 = (u32::MAX >> 2) - 1;

    /// The main store of the `number`-th entity of `namespace`. `number` is at most
    /// [`EntityId::NUMBER_MAX`]; larger values wrap and must not be passed.
    #[must_use]
    pub const fn new(namespace: NamespaceId, number: u32) -> Self {
        Self(((namespace.0 as u64) << 32) | ((number << 2) as u64))
    }

    /// From its stored form.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Its stored form; keys sort by it.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The namespace it lives in.
    #[must_use]
    pub const fn namespace(self) -> NamespaceId {
        NamespaceId((self.0 >> 32) as u32)
    }

    /// The number given to [`EntityId::new`].
    #[must_use]
    pub const fn number(self) -> u32 {
        (self.0 as u32) >> 2
    }

    /// Which store of the entity this is.
    #[must_use]
    pub const fn sub_queue(self) -> SubQueue {
        match self.0 & 0b11 {
            0 => SubQueue::Main,
            1 => SubQueue::DeadLetter,
            _ => SubQueue::TransferDeadLetter,
        }
    }

    /// The same entity's other store.
    #[must_use]
    pub const fn with_sub_queue(self, sub_queue: SubQueue) -> Self {
        let bits = match sub_queue {
            SubQueue::Main => 0,
            SubQueue::DeadLetter => 1,
            SubQueue::TransferDeadLetter => 2,
        };
        Self((self.0 & !0b11) | bits)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityId({}/{}/{:?})", self.namespace(), self.number(), self.sub_queue())
    }
}

impl SequenceNumber {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl CommitNumber {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_id_keeps_its_parts() {
        let id = EntityId::new(NamespaceId(7), 1234);
        assert_eq!((id.namespace(), id.number(), id.sub_queue()), (NamespaceId(7), 1234, SubQueue::Main));
        let dead_letter = id.with_sub_queue(SubQueue::DeadLetter);
        assert_eq!((dead_letter.number(), dead_letter.sub_queue()), (1234, SubQueue::DeadLetter));
        assert_eq!(dead_letter.with_sub_queue(SubQueue::Main), id);
    }
}
