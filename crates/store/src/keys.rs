//! The key registry: every key of the store is made and taken apart here, nowhere else.
//!
//! All integers are big-endian, so that keys sort as their numbers do. Each column family holds
//! one kind of row, except [`Table::System`], whose keys begin with one byte of [`SystemKey`].
//!
//! | Table | Name | Key |
//! |---|---|---|
//! | `System` | `default` | [`SystemKey`] as `u8`, then its own fields |
//! | `Messages` | `meta` | `entity: u64` `sequence number: u64` |
//! | `Overlays` | `mut` | `entity: u64` `sequence number: u64` |
//! | `Bodies` | `body` | `namespace: u32` `body: u64` `chunk: u16` |
//! | `MessageSessions` | `sess` | `entity: u64` `id: UTF-8, the rest` |
//! | `Duplicates` | `dedup` | `entity: u64` `interval: u32` `hash of the message-id: 16 bytes` |

use lockstep_model::{BodyId, DuplicateKey, EntityId, MessageSessionId, NamespaceId, SequenceNumber};

use crate::{api::StoreError, batch::Table};

/// Bytes of one body row; the last row of a body is shorter (perhaps empty), all others have
/// exactly this many.
pub(crate) const BODY_CHUNK_SIZE_BYTES: usize = lockstep_model::limits::BODY_PART_SIZE_BYTES;

/// First byte of a key in [`Table::System`]. Numbers are given once: a retired one stays in this
/// list, marked so, and is never given again. Load order is their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum SystemKey {
    /// Value: format of the whole store, `u32`.
    Format = 0x01,
    /// Value: number of the last commit whose batch is in the log, `u64`.
    CommitNumber = 0x03,
    /// Key goes on with `namespace: u32`.
    Namespace = 0x10,
    /// Key goes on with `entity: u64`.
    Entity = 0x11,
    /// Key goes on with `entity: u64`.
    Counter = 0x12,
    // 0x02 is reserved for the id of a node of a cluster.
}

/// What a key of [`Table::System`] names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SystemRow {
    Format,
    CommitNumber,
    Namespace(NamespaceId),
    Entity(EntityId),
    Counter(EntityId),
}

impl Table {
    /// Every column family, in the order in which they are loaded.
    pub const ALL: [Self; 6] =
        [Self::System, Self::Messages, Self::Overlays, Self::Bodies, Self::MessageSessions, Self::Duplicates];

    /// Its name on disk and in error texts. RocksDB demands that one family is called `default`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "default",
            Self::Messages => "meta",
            Self::Overlays => "mut",
            Self::Bodies => "body",
            Self::MessageSessions => "sess",
            Self::Duplicates => "dedup",
        }
    }
}

#[cfg(any(test, feature = "rocksdb"))]
pub(crate) const FORMAT: [u8; 1] = [SystemKey::Format as u8];
#[cfg(any(test, feature = "rocksdb"))]
pub(crate) const COMMIT_NUMBER: [u8; 1] = [SystemKey::CommitNumber as u8];

/// Bytes of a row's key in [`Table::Messages`] and [`Table::Overlays`].
const MESSAGE_KEY_SIZE_BYTES: usize = 16;
/// Bytes of a row's key in [`Table::Duplicates`].
const DUPLICATE_KEY_SIZE_BYTES: usize = 28;
/// Bytes of a row's key in [`Table::Bodies`].
const BODY_KEY_SIZE_BYTES: usize = 14;

pub(crate) fn put_namespace(to: &mut Vec<u8>, id: NamespaceId) {
    to.push(SystemKey::Namespace as u8);
    to.extend_from_slice(&id.0.to_be_bytes());
}

pub(crate) fn put_entity(to: &mut Vec<u8>, id: EntityId) {
    to.push(SystemKey::Entity as u8);
    to.extend_from_slice(&id.raw().to_be_bytes());
}

pub(crate) fn put_counter(to: &mut Vec<u8>, id: EntityId) {
    to.push(SystemKey::Counter as u8);
    to.extend_from_slice(&id.raw().to_be_bytes());
}

/// The key of a row in [`Table::Messages`] and [`Table::Overlays`].
pub(crate) fn put_message(to: &mut Vec<u8>, id: EntityId, sequence_number: SequenceNumber) {
    to.extend_from_slice(&id.raw().to_be_bytes());
    to.extend_from_slice(&sequence_number.0.to_be_bytes());
}

pub(crate) fn body(namespace: NamespaceId, body: BodyId, chunk: u16) -> [u8; BODY_KEY_SIZE_BYTES] {
    let mut key = [0; BODY_KEY_SIZE_BYTES];
    key[..4].copy_from_slice(&namespace.0.to_be_bytes());
    key[4..12].copy_from_slice(&body.0.to_be_bytes());
    key[12..].copy_from_slice(&chunk.to_be_bytes());
    key
}

pub(crate) fn put_message_session(to: &mut Vec<u8>, id: EntityId, session: &MessageSessionId) {
    to.extend_from_slice(&id.raw().to_be_bytes());
    to.extend_from_slice(session.as_str().as_bytes());
}

/// What the keys of all rows of a message store begin with, in every table but
/// [`Table::System`] and [`Table::Bodies`].
pub(crate) fn put_rows_of(to: &mut Vec<u8>, raw_id: u64) {
    to.extend_from_slice(&raw_id.to_be_bytes());
}

pub(crate) fn put_duplicate(to: &mut Vec<u8>, id: EntityId, interval: u32, key: DuplicateKey) {
    put_duplicate_interval(to, id, interval);
    to.extend_from_slice(&key.0);
}

/// What the keys of all message-ids of one interval begin with; also the end of the range before.
pub(crate) fn put_duplicate_interval(to: &mut Vec<u8>, id: EntityId, interval: u32) {
    to.extend_from_slice(&id.raw().to_be_bytes());
    to.extend_from_slice(&interval.to_be_bytes());
}

pub(crate) fn parse_duplicate(key: &[u8]) -> Result<(EntityId, u32, DuplicateKey), StoreError> {
    let wrong = || damaged(Table::Duplicates, key, "its key does not have 28 bytes");
    let key: &[u8; DUPLICATE_KEY_SIZE_BYTES] = key.try_into().map_err(|_| wrong())?;
    let (entity, rest) = key.split_first_chunk::<8>().ok_or_else(wrong)?;
    let (interval, rest) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    let hash = rest.try_into().map_err(|_| wrong())?;
    Ok((EntityId::from_raw(u64::from_be_bytes(*entity)), u32::from_be_bytes(*interval), DuplicateKey(hash)))
}

/// The number of the last row of a body: all rows before it are full, it is not.
pub(crate) const fn last_body_chunk(size_bytes: usize) -> usize {
    size_bytes / BODY_CHUNK_SIZE_BYTES
}

pub(crate) fn parse_system(key: &[u8]) -> Result<SystemRow, StoreError> {
    let wrong = || damaged(Table::System, key, "it is no key of this format");
    let (kind, rest) = key.split_first().ok_or_else(wrong)?;
    let entity = || Ok(EntityId::from_raw(u64::from_be_bytes(rest.try_into().map_err(|_| wrong())?)));
    match *kind {
        kind if kind == SystemKey::Format as u8 && rest.is_empty() => Ok(SystemRow::Format),
        kind if kind == SystemKey::CommitNumber as u8 && rest.is_empty() => Ok(SystemRow::CommitNumber),
        kind if kind == SystemKey::Namespace as u8 => {
            Ok(SystemRow::Namespace(NamespaceId(u32::from_be_bytes(rest.try_into().map_err(|_| wrong())?))))
        }
        kind if kind == SystemKey::Entity as u8 => Ok(SystemRow::Entity(entity()?)),
        kind if kind == SystemKey::Counter as u8 => Ok(SystemRow::Counter(entity()?)),
        _ => Err(wrong()),
    }
}

/// Takes apart a key of [`Table::Messages`] or [`Table::Overlays`].
pub(crate) fn parse_message(table: Table, key: &[u8]) -> Result<(EntityId, SequenceNumber), StoreError> {
    if key.len() != MESSAGE_KEY_SIZE_BYTES {
        return Err(damaged(table, key, "its key does not have 16 bytes"));
    }
    Ok((EntityId::from_raw(u64_at(key, 0)), SequenceNumber(u64_at(key, 8))))
}

/// Takes apart a key of [`Table::Bodies`].
pub(crate) fn parse_body(key: &[u8]) -> Result<(NamespaceId, BodyId, u16), StoreError> {
    if key.len() != BODY_KEY_SIZE_BYTES {
        return Err(damaged(Table::Bodies, key, "its key does not have 14 bytes"));
    }
    let namespace = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    Ok((NamespaceId(namespace), BodyId(u64_at(key, 4)), u16::from_be_bytes([key[12], key[13]])))
}

/// Takes apart a key of [`Table::MessageSessions`].
pub(crate) fn parse_message_session(key: &[u8]) -> Result<(EntityId, MessageSessionId), StoreError> {
    let wrong = |problem| damaged(Table::MessageSessions, key, problem);
    if key.len() < 8 {
        return Err(wrong("its key is shorter than 8 bytes"));
    }
    let id = std::str::from_utf8(&key[8..]).map_err(|_| wrong("its session id is not UTF-8"))?;
    let id = MessageSessionId::new(id).map_err(|_| wrong("its session id is longer than 128 characters"))?;
    Ok((EntityId::from_raw(u64_at(key, 0)), id))
}

/// The eight bytes at `at`; callers have checked the length.
fn u64_at(key: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key[at..at + 8]);
    u64::from_be_bytes(bytes)
}

/// The error for a row that does not decode; names the row by its key.
pub(crate) fn damaged(table: Table, key: &[u8], problem: &str) -> StoreError {
    StoreError::Corrupt { table: table.name(), problem: format!("the row with key {} : {problem}", Hex(key)) }
}

/// Bytes in hexadecimal, for error texts.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(make: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut key = Vec::new();
        make(&mut key);
        key
    }

    fn entity(namespace: u32, number: u32) -> EntityId {
        EntityId::new(NamespaceId(namespace), number)
    }

    #[test]
    fn system_kinds_keep_their_numbers() {
        let numbers = [
            SystemKey::Format as u8,
            SystemKey::CommitNumber as u8,
            SystemKey::Namespace as u8,
            SystemKey::Entity as u8,
            SystemKey::Counter as u8,
        ];
        assert_eq!(numbers, [0x01, 0x03, 0x10, 0x11, 0x12]);
    }

    #[test]
    fn column_families_keep_their_names() {
        assert_eq!(Table::ALL.map(Table::name), ["default", "meta", "mut", "body", "sess", "dedup"]);
    }

    #[test]
    fn message_keys_sort_by_entity_then_sequence_number() {
        let key = |e, s| made(|to| put_message(to, e, SequenceNumber(s)));
        let sorted = [
            key(entity(1, 1), 1),
            key(entity(1, 1), 255),
            key(entity(1, 1), 256),
            key(entity(1, 2), 1),
            key(entity(2, 0), 0),
            key(entity(256, 0), 0),
        ];
        assert!(sorted.is_sorted());
        let parsed = parse_message(Table::Messages, &sorted[2]).expect("valid");
        assert_eq!(parsed, (entity(1, 1), SequenceNumber(256)));
    }

    #[test]
    fn body_keys_sort_by_namespace_then_body_then_chunk() {
        let sorted = [
            body(NamespaceId(1), BodyId(1), 0),
            body(NamespaceId(1), BodyId(1), 256),
            body(NamespaceId(1), BodyId(256), 0),
            body(NamespaceId(2), BodyId(0), 0),
        ];
        assert!(sorted.is_sorted());
        assert_eq!(parse_body(&sorted[1]).expect("valid"), (NamespaceId(1), BodyId(1), 256));
    }

    #[test]
    fn namespaces_sort_before_entities_before_counters() {
        let sorted = [
            FORMAT.to_vec(),
            COMMIT_NUMBER.to_vec(),
            made(|to| put_namespace(to, NamespaceId(u32::MAX))),
            made(|to| put_entity(to, entity(0, 0))),
            made(|to| put_counter(to, entity(0, 0))),
        ];
        assert!(sorted.is_sorted());
        assert_eq!(parse_system(&sorted[2]).expect("valid"), SystemRow::Namespace(NamespaceId(u32::MAX)));
        assert_eq!(parse_system(&sorted[4]).expect("valid"), SystemRow::Counter(entity(0, 0)));
    }

    #[test]
    fn message_session_keys_take_any_id() {
        for id in ["", "a", "a\0b", "\u{7f}ü€😀", &"€".repeat(128)] {
            let session = MessageSessionId::new(id).expect("at most 128 characters");
            let key = made(|to| put_message_session(to, entity(1, 7), &session));
            assert_eq!(parse_message_session(&key).expect("valid"), (entity(1, 7), session));
        }
    }

    #[test]
    fn remembered_message_ids_sort_by_entity_then_interval() {
        let key = |e, i, k| made(|to| put_duplicate(to, e, i, DuplicateKey([k; 16])));
        let sorted = [
            key(entity(1, 1), 1, 0xff),
            made(|to| put_duplicate_interval(to, entity(1, 1), 2)),
            key(entity(1, 1), 2, 0),
            key(entity(1, 1), 256, 0),
            key(entity(1, 2), 0, 7),
        ];
        assert!(sorted.is_sorted());
        let parsed = parse_duplicate(&sorted[4]).expect("valid");
        assert_eq!(parsed, (entity(1, 2), 0, DuplicateKey([7; 16])));
        assert!(parse_duplicate(&sorted[1]).is_err());
    }

    #[test]
    fn keys_of_a_wrong_shape_are_refused_with_the_key_in_the_text() {
        let text = |result: StoreError| result.to_string();
        assert!(text(parse_system(&[0x7f, 1]).expect_err("unknown kind")).contains("7f01"));
        assert!(text(parse_system(&[]).expect_err("empty")).contains("no key"));
        assert!(text(parse_message(Table::Overlays, &[1; 15]).expect_err("short")).contains("mut"));
        assert!(text(parse_body(&[1; 15]).expect_err("long")).contains("14 bytes"));
        assert!(text(parse_message_session(&[0; 7]).expect_err("short")).contains("shorter"));
        let not_text = [0, 0, 0, 0, 0, 0, 0, 0, 0xff];
        assert!(text(parse_message_session(&not_text).expect_err("not UTF-8")).contains("UTF-8"));
    }
}
