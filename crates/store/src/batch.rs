//! A list of puts and deletes that becomes durable as a whole or not at all.

use bytes::Bytes;
use lockstep_model::{BodyId, EntityDescription, EntityId, MessageSessionId, NamespaceId, SequenceNumber};

use crate::records::{
    CounterRecord, MessageOverlayRecord, MessageRecord, MessageSessionRecord, NamespaceRecord,
};

/// A column family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// Format, node, commit number, namespaces, entity definitions, counters.
    System = 0,
    /// [`MessageRecord`] by entity and sequence number.
    Messages = 1,
    /// [`MessageOverlayRecord`] by entity and sequence number.
    Overlays = 2,
    /// Encoded messages by namespace, body id and chunk.
    Bodies = 3,
    /// [`MessageSessionRecord`] by entity and message-session id.
    MessageSessions = 4,
}

/// One put or delete, encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Set the value of a key.
    Put {
        /// Column family.
        table: Table,
        /// Encoded key.
        key: Bytes,
        /// Encoded value.
        value: Bytes,
    },
    /// Remove a key; nothing happens if it is absent.
    Delete {
        /// Column family.
        table: Table,
        /// Encoded key.
        key: Bytes,
    },
}

/// Puts and deletes, in order; a later operation on a key wins.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
    size_bytes: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { operations: Vec::new(), size_bytes: 0 }
    }

    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How many puts and deletes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Bytes of its keys and values.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Its operations, in order.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter()
    }

    /// Appends another batch.
    pub fn append(&mut self, mut other: Self) {
        self.size_bytes += other.size_bytes;
        self.operations.append(&mut other.operations);
    }

    /// Writes a namespace.
    pub fn put_namespace(&mut self, id: NamespaceId, record: &NamespaceRecord) {
        let _ = (id, record);
    }

    /// Writes an entity definition, under the id of its main store.
    pub fn put_entity(&mut self, id: EntityId, description: &EntityDescription) {
        let _ = (id, description);
    }

    /// Writes a message store's counters.
    pub fn put_counter(&mut self, id: EntityId, record: CounterRecord) {
        let _ = (id, record);
    }

    /// Writes a message's row (not its body).
    pub fn put_message(&mut self, id: EntityId, sequence_number: SequenceNumber, record: &MessageRecord) {
        let _ = (id, sequence_number, record);
    }

    /// Removes a message's row (neither its overlay nor its body).
    pub fn delete_message(&mut self, id: EntityId, sequence_number: SequenceNumber) {
        let _ = (id, sequence_number);
    }

    /// Writes what settlements changed about a message.
    pub fn put_overlay(
        &mut self,
        id: EntityId,
        sequence_number: SequenceNumber,
        record: &MessageOverlayRecord,
    ) {
        let _ = (id, sequence_number, record);
    }

    /// Removes what settlements changed about a message.
    pub fn delete_overlay(&mut self, id: EntityId, sequence_number: SequenceNumber) {
        let _ = (id, sequence_number);
    }

    /// Writes an encoded message.
    pub fn put_body(&mut self, namespace: NamespaceId, body: BodyId, encoded: Bytes) {
        let _ = (namespace, body, encoded);
    }

    /// Removes an encoded message of `size_bytes` bytes.
    pub fn delete_body(&mut self, namespace: NamespaceId, body: BodyId, size_bytes: u32) {
        let _ = (namespace, body, size_bytes);
    }

    /// Writes the state of a message session.
    pub fn put_message_session(
        &mut self,
        id: EntityId,
        session: &MessageSessionId,
        record: &MessageSessionRecord,
    ) {
        let _ = (id, session, record);
    }

    /// Removes the state of a message session.
    pub fn delete_message_session(&mut self, id: EntityId, session: &MessageSessionId) {
        let _ = (id, session);
    }
}
