//! What both stores do with encoded rows: decode them for a visitor, and put bodies together.

use bytes::{Bytes, BytesMut};

use crate::{
    api::{LoadVisitor, StoreError},
    batch::Table,
    codec, entity_codec,
    keys::{self, BODY_CHUNK_SIZE_BYTES, SystemRow, damaged},
    records::DuplicateRecord,
};

/// The tables that [`visit_row`] takes, in the order that [`LoadVisitor`] promises.
pub(crate) const LOAD_ORDER: [Table; 5] =
    [Table::System, Table::MessageSessions, Table::Messages, Table::Overlays, Table::Duplicates];

/// Decodes one row and hands it to the visitor. Rows of the engine's own are passed over.
pub(crate) fn visit_row(
    table: Table,
    key: &[u8],
    value: &[u8],
    visitor: &mut dyn LoadVisitor,
) -> Result<(), StoreError> {
    let bad = |problem| damaged(table, key, problem);
    match table {
        Table::System => match keys::parse_system(key)? {
            SystemRow::Format | SystemRow::CommitNumber => {}
            SystemRow::Namespace(id) => visitor.namespace(id, codec::decode_namespace(value).map_err(bad)?),
            SystemRow::Entity(id) => visitor.entity(id, entity_codec::decode_entity(value).map_err(bad)?),
            SystemRow::Counter(id) => visitor.counter(id, codec::decode_counter(value).map_err(bad)?),
        },
        Table::MessageSessions => {
            let (id, session) = keys::parse_message_session(key)?;
            visitor.message_session(id, session, codec::decode_message_session(value).map_err(bad)?);
        }
        Table::Messages => {
            let (id, sequence_number) = keys::parse_message(table, key)?;
            visitor.message(id, sequence_number, codec::decode_message(value).map_err(bad)?);
        }
        Table::Overlays => {
            let (id, sequence_number) = keys::parse_message(table, key)?;
            visitor.overlay(id, sequence_number, codec::decode_overlay(value).map_err(bad)?);
        }
        Table::Duplicates => {
            let (id, interval, key) = keys::parse_duplicate(key)?;
            let accepted_at = codec::decode_duplicate(value).map_err(bad)?;
            visitor.duplicate(id, DuplicateRecord { interval, key, accepted_at });
        }
        Table::Bodies => {}
    }
    Ok(())
}

/// Puts a body together from its first row; `row` reads the row of a given number. The body ends
/// with the first row that is not full.
pub(crate) fn assemble_body(
    first: Option<Bytes>,
    mut row: impl FnMut(u16) -> Result<Option<Bytes>, StoreError>,
    name: impl Fn() -> String,
) -> Result<Option<Bytes>, StoreError> {
    let Some(first) = first else { return Ok(None) };
    if first.len() < BODY_CHUNK_SIZE_BYTES {
        return Ok(Some(first));
    }
    let corrupt = |problem: &str| StoreError::Corrupt {
        table: Table::Bodies.name(),
        problem: format!("{}: {problem}", name()),
    };
    let mut body = BytesMut::with_capacity(2 * BODY_CHUNK_SIZE_BYTES);
    body.extend_from_slice(&first);
    for chunk in 1..=u16::MAX {
        let part = row(chunk)?.ok_or_else(|| corrupt("its last rows are missing"))?;
        body.extend_from_slice(&part);
        if part.len() < BODY_CHUNK_SIZE_BYTES {
            return Ok(Some(body.freeze()));
        }
    }
    Err(corrupt("it has no end"))
}
