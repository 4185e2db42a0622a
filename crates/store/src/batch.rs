//! A list of puts and deletes that becomes durable as a whole or not at all.

use std::fmt;

use bytes::Bytes;
use lockstep_model::{BodyId, EntityDescription, EntityId, MessageSessionId, NamespaceId, SequenceNumber};

use crate::{
    codec, entity_codec,
    keys::{self, BODY_CHUNK_SIZE_BYTES, Hex},
    records::{
        CounterRecord, DuplicateRecord, MessageOverlayRecord, MessageRecord, MessageSessionRecord,
        NamespaceRecord,
    },
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
    /// [`DuplicateRecord`] by entity, interval and message-id.
    Duplicates = 5,
}

/// One put or delete, encoded; borrowed from its [`Batch`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Set the value of a key.
    Put {
        /// Column family.
        table: Table,
        /// Encoded key.
        key: &'a [u8],
        /// Encoded value.
        value: &'a [u8],
    },
    /// Remove a key; nothing happens if it is absent.
    Delete {
        /// Column family.
        table: Table,
        /// Encoded key.
        key: &'a [u8],
    },
    /// Remove all keys from `key` up to, but not including, `end`.
    DeleteRange {
        /// Column family.
        table: Table,
        /// Encoded first key.
        key: &'a [u8],
        /// Encoded end.
        end: &'a [u8],
    },
}

impl fmt::Debug for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { table, key, value } => {
                write!(f, "put {} {} ({} bytes)", table.name(), Hex(key), value.len())
            }
            Self::Delete { table, key } => write!(f, "delete {} {}", table.name(), Hex(key)),
            Self::DeleteRange { table, key, end } => {
                write!(f, "delete {} {} to {}", table.name(), Hex(key), Hex(end))
            }
        }
    }
}

/// Puts and deletes, in order; a later operation on a key wins.
///
/// Keys and small values lie one behind the other in one buffer; message bodies are kept as the
/// [`Bytes`] they came in, so that a body is not copied until the engine copies it into its log.
#[derive(Clone, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    arena: Vec<u8>,
    shared: Vec<Bytes>,
    size_bytes: usize,
}

/// One operation. The key is `arena[key_at..key_end]`.
#[derive(Clone, Copy)]
struct Entry {
    table: Table,
    key_at: usize,
    key_end: usize,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    Delete,
    /// The end of the range follows the key in the arena and ends here.
    DeleteRange(usize),
    /// The value follows the key in the arena and ends here.
    PutArena(usize),
    /// The value is `shared[_]`.
    PutShared(usize),
}

/// What happens to a key, as the batch holds it.
#[derive(Clone, Copy)]
pub(crate) enum Change<'a> {
    Delete,
    /// Up to, but not including, this key.
    DeleteRange(&'a [u8]),
    Put(&'a [u8]),
    PutShared(&'a Bytes),
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new(), arena: Vec::new(), shared: Vec::new(), size_bytes: 0 }
    }

    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many puts and deletes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of its keys and values.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Its operations, in order.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        self.rows().map(|(table, key, change)| match change {
            Change::Delete => Operation::Delete { table, key },
            Change::DeleteRange(end) => Operation::DeleteRange { table, key, end },
            Change::Put(value) => Operation::Put { table, key, value },
            Change::PutShared(value) => Operation::Put { table, key, value },
        })
    }

    /// Its operations, in order: table, key, and what happens to it.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Table, &[u8], Change<'_>)> {
        self.entries.iter().map(|entry| {
            let change = match entry.action {
                Action::Delete => Change::Delete,
                Action::DeleteRange(end) => Change::DeleteRange(&self.arena[entry.key_end..end]),
                Action::PutArena(end) => Change::Put(&self.arena[entry.key_end..end]),
                Action::PutShared(index) => Change::PutShared(&self.shared[index]),
            };
            (entry.table, &self.arena[entry.key_at..entry.key_end], change)
        })
    }

    /// Appends another batch.
    pub fn append(&mut self, mut other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let (arena_at, shared_at) = (self.arena.len(), self.shared.len());
        self.entries.extend(other.entries.iter().map(|entry| Entry {
            table: entry.table,
            key_at: entry.key_at + arena_at,
            key_end: entry.key_end + arena_at,
            action: match entry.action {
                Action::Delete => Action::Delete,
                Action::DeleteRange(end) => Action::DeleteRange(end + arena_at),
                Action::PutArena(end) => Action::PutArena(end + arena_at),
                Action::PutShared(index) => Action::PutShared(index + shared_at),
            },
        }));
        self.arena.extend_from_slice(&other.arena);
        self.shared.append(&mut other.shared);
        self.size_bytes += other.size_bytes;
    }

    /// Writes a namespace.
    pub fn put_namespace(&mut self, id: NamespaceId, record: &NamespaceRecord) {
        self.put(Table::System, |to| keys::put_namespace(to, id), |to| codec::encode_namespace(to, record));
    }

    /// Writes an entity definition, under the id of its main store.
    pub fn put_entity(&mut self, id: EntityId, description: &EntityDescription) {
        self.put(
            Table::System,
            |to| keys::put_entity(to, id),
            |to| entity_codec::encode_entity(to, description),
        );
    }

    /// Writes a message store's counters.
    pub fn put_counter(&mut self, id: EntityId, record: CounterRecord) {
        self.put(Table::System, |to| keys::put_counter(to, id), |to| codec::encode_counter(to, record));
    }

    /// Writes a message's row (not its body).
    pub fn put_message(&mut self, id: EntityId, sequence_number: SequenceNumber, record: &MessageRecord) {
        self.put(
            Table::Messages,
            |to| keys::put_message(to, id, sequence_number),
            |to| codec::encode_message(to, record),
        );
    }

    /// Removes a message's row (neither its overlay nor its body).
    pub fn delete_message(&mut self, id: EntityId, sequence_number: SequenceNumber) {
        self.delete(Table::Messages, |to| keys::put_message(to, id, sequence_number));
    }

    /// Writes what settlements changed about a message.
    pub fn put_overlay(
        &mut self,
        id: EntityId,
        sequence_number: SequenceNumber,
        record: &MessageOverlayRecord,
    ) {
        self.put(
            Table::Overlays,
            |to| keys::put_message(to, id, sequence_number),
            |to| codec::encode_overlay(to, record),
        );
    }

    /// Removes what settlements changed about a message.
    pub fn delete_overlay(&mut self, id: EntityId, sequence_number: SequenceNumber) {
        self.delete(Table::Overlays, |to| keys::put_message(to, id, sequence_number));
    }

    /// Writes an encoded message. It takes one row for every whole MiB and one for the rest, which
    /// is written even if it is empty: so the end of a body is known, and a missing row is noticed.
    /// A body is far smaller than the 64 GiB that its rows can number (`limits` allows 100 MiB).
    pub fn put_body(&mut self, namespace: NamespaceId, body: BodyId, encoded: Bytes) {
        let mut rest = encoded;
        for part in 0..=u16::MAX {
            let value = rest.split_to(rest.len().min(BODY_CHUNK_SIZE_BYTES));
            let last = value.len() < BODY_CHUNK_SIZE_BYTES;
            self.put_body_part(namespace, body, part, value);
            if last {
                break;
            }
        }
    }

    /// Writes one row of an encoded message that comes in parts. Parts are numbered from 0 and
    /// have exactly [`BODY_PART_SIZE_BYTES`](lockstep_model::limits::BODY_PART_SIZE_BYTES); the last
    /// one has less, perhaps nothing. Until a message names the body, a start removes it.
    pub fn put_body_part(&mut self, namespace: NamespaceId, body: BodyId, part: u16, value: Bytes) {
        debug_assert!(value.len() <= BODY_CHUNK_SIZE_BYTES);
        let (key_at, key_end) = self.key(|to| to.extend_from_slice(&keys::body(namespace, body, part)));
        self.size_bytes += key_end - key_at + value.len();
        let action = Action::PutShared(self.shared.len());
        self.shared.push(value);
        self.entries.push(Entry { table: Table::Bodies, key_at, key_end, action });
    }

    /// Removes the first `parts` rows of a body whose last row was not written.
    pub fn delete_body_parts(&mut self, namespace: NamespaceId, body: BodyId, parts: u16) {
        for part in 0..parts {
            let key = keys::body(namespace, body, part);
            self.delete(Table::Bodies, |to| to.extend_from_slice(&key));
        }
    }

    /// Removes an encoded message of `size_bytes` bytes.
    pub fn delete_body(&mut self, namespace: NamespaceId, body: BodyId, size_bytes: u32) {
        for chunk in 0..=keys::last_body_chunk(size_bytes as usize) {
            // At most 4096, because `size_bytes` is a `u32`.
            let key = keys::body(namespace, body, chunk as u16);
            self.delete(Table::Bodies, |to| to.extend_from_slice(&key));
        }
    }

    /// Writes the state of a message session.
    pub fn put_message_session(
        &mut self,
        id: EntityId,
        session: &MessageSessionId,
        record: &MessageSessionRecord,
    ) {
        self.put(
            Table::MessageSessions,
            |to| keys::put_message_session(to, id, session),
            |to| codec::encode_message_session(to, record),
        );
    }

    /// Removes the state of a message session.
    pub fn delete_message_session(&mut self, id: EntityId, session: &MessageSessionId) {
        self.delete(Table::MessageSessions, |to| keys::put_message_session(to, id, session));
    }

    /// Remembers a message-id.
    pub fn put_duplicate(&mut self, id: EntityId, record: &DuplicateRecord) {
        self.put(
            Table::Duplicates,
            |to| keys::put_duplicate(to, id, record.interval, record.key),
            |to| codec::encode_duplicate(to, record.accepted_at),
        );
    }

    /// Forgets the message-ids of all intervals before `interval`.
    pub fn delete_duplicates_before(&mut self, id: EntityId, interval: u32) {
        let (key_at, key_end) = self.key(|to| keys::put_duplicate_interval(to, id, 0));
        keys::put_duplicate_interval(&mut self.arena, id, interval);
        let end = self.arena.len();
        self.size_bytes += end - key_at;
        let action = Action::DeleteRange(end);
        self.entries.push(Entry { table: Table::Duplicates, key_at, key_end, action });
    }

    /// Removes an entity definition (neither its counters nor its messages).
    pub fn delete_entity(&mut self, id: EntityId) {
        self.delete(Table::System, |to| keys::put_entity(to, id));
    }

    /// Removes every row of one message store: messages, what settlements changed about them,
    /// message-session states and remembered message-ids. Bodies stay: they belong to no store.
    pub fn delete_rows_of(&mut self, id: EntityId) {
        for table in [Table::Messages, Table::Overlays, Table::MessageSessions, Table::Duplicates] {
            let (key_at, key_end) = self.key(|to| keys::put_rows_of(to, id.raw()));
            keys::put_rows_of(&mut self.arena, id.raw() + 1);
            let end = self.arena.len();
            self.size_bytes += end - key_at;
            self.entries.push(Entry { table, key_at, key_end, action: Action::DeleteRange(end) });
        }
    }

    /// Removes a message store's counters.
    pub fn delete_counter(&mut self, id: EntityId) {
        self.delete(Table::System, |to| keys::put_counter(to, id));
    }

    /// Removes a body row by its key.
    pub(crate) fn delete_raw(&mut self, table: Table, key: &[u8]) {
        self.delete(table, |to| to.extend_from_slice(key));
    }

    fn put(&mut self, table: Table, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        let (key_at, key_end) = self.key(key);
        value(&mut self.arena);
        let end = self.arena.len();
        self.size_bytes += end - key_at;
        self.entries.push(Entry { table, key_at, key_end, action: Action::PutArena(end) });
    }

    fn delete(&mut self, table: Table, key: impl FnOnce(&mut Vec<u8>)) {
        let (key_at, key_end) = self.key(key);
        self.size_bytes += key_end - key_at;
        self.entries.push(Entry { table, key_at, key_end, action: Action::Delete });
    }

    fn key(&mut self, key: impl FnOnce(&mut Vec<u8>)) -> (usize, usize) {
        let at = self.arena.len();
        key(&mut self.arena);
        (at, self.arena.len())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.operations()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: NamespaceId = NamespaceId(1);

    fn queue() -> EntityId {
        EntityId::new(NAMESPACE, 1)
    }

    fn value_sizes(batch: &Batch) -> Vec<Option<usize>> {
        batch
            .operations()
            .map(|operation| match operation {
                Operation::Put { value, .. } => Some(value.len()),
                Operation::Delete { .. } | Operation::DeleteRange { .. } => None,
            })
            .collect()
    }

    #[test]
    fn operations_come_in_the_order_they_were_given() {
        let mut batch = Batch::new();
        batch.put_counter(queue(), CounterRecord { last_sequence_number: SequenceNumber(3) });
        batch.delete_message(queue(), SequenceNumber(2));
        batch.put_body(NAMESPACE, BodyId(5), Bytes::from_static(b"body"));
        let text = format!("{batch:?}");
        assert_eq!(
            text,
            "[put default 120000000100000004 (9 bytes), delete meta 00000001000000040000000000000002, put body \
             0000000100000000000000050000 (4 bytes)]"
        );
        assert_eq!(batch.size_bytes(), 9 + 9 + 16 + 14 + 4);
    }

    #[test]
    fn an_appended_batch_reads_as_if_written_in_one() {
        let parts = |batch: &mut Batch, from: u64| {
            batch.put_counter(queue(), CounterRecord { last_sequence_number: SequenceNumber(from) });
            batch.put_body(NAMESPACE, BodyId(from), Bytes::from(vec![7; from as usize]));
            batch.delete_overlay(queue(), SequenceNumber(from));
            batch.delete_duplicates_before(queue(), from as u32);
        };
        let (mut whole, mut first, mut second) = (Batch::new(), Batch::new(), Batch::new());
        parts(&mut whole, 1);
        parts(&mut whole, 2);
        parts(&mut first, 1);
        parts(&mut second, 2);
        first.append(second);
        first.append(Batch::new());
        assert!(first.operations().eq(whole.operations()));
        assert_eq!(first.size_bytes(), whole.size_bytes());
        assert_eq!(first.len(), 8);
    }

    #[test]
    fn a_body_ends_with_a_row_that_is_not_full() {
        let sizes = |size: usize| {
            let mut batch = Batch::new();
            batch.put_body(NAMESPACE, BodyId(1), Bytes::from(vec![0; size]));
            value_sizes(&batch).into_iter().flatten().collect::<Vec<_>>()
        };
        const MIB: usize = BODY_CHUNK_SIZE_BYTES;
        assert_eq!(sizes(0), [0]);
        assert_eq!(sizes(MIB - 1), [MIB - 1]);
        assert_eq!(sizes(MIB), [MIB, 0]);
        assert_eq!(sizes(2 * MIB + 1), [MIB, MIB, 1]);
    }

    #[test]
    fn deleting_a_body_names_the_rows_that_putting_it_made() {
        for size in [0, 5, BODY_CHUNK_SIZE_BYTES, 3 * BODY_CHUNK_SIZE_BYTES + 7] {
            let (mut put, mut delete) = (Batch::new(), Batch::new());
            put.put_body(NAMESPACE, BodyId(1), Bytes::from(vec![0; size]));
            delete.delete_body(NAMESPACE, BodyId(1), size as u32);
            let keys = |batch: &Batch| batch.rows().map(|(_, key, _)| key.to_vec()).collect::<Vec<_>>();
            assert_eq!(keys(&put), keys(&delete));
        }
    }
}
