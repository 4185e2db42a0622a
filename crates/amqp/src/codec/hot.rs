//! Transfer, flow and disposition, read field by field without building values.

use std::ops::Range;

use bytes::Bytes;

use super::{
    composite,
    cursor::{Cursor, ListReader},
    value::decode_value_at,
};
use crate::{
    Violation,
    types::{DeliveryState, Disposition, Flow, Outcome, ReceiverSettleMode, Role, Transfer},
};

/// Longest delivery-tag in bytes (2.8.7).
const MAX_DELIVERY_TAG_BYTES: usize = 32;

/// A field that has to be there.
fn mandatory<T>(field: Option<T>) -> Result<T, Violation> {
    field.ok_or(Violation::InvalidField)
}

/// The list behind a flow's descriptor. Its properties are passed over.
#[inline]
pub(super) fn flow(cursor: &mut Cursor<'_>) -> Result<Flow, Violation> {
    let mut list = cursor.list()?;
    Ok(Flow {
        next_incoming_id: list.field(Cursor::uint)?,
        incoming_window: mandatory(list.field(Cursor::uint)?)?,
        next_outgoing_id: mandatory(list.field(Cursor::uint)?)?,
        outgoing_window: mandatory(list.field(Cursor::uint)?)?,
        handle: list.field(Cursor::uint)?,
        delivery_count: list.field(Cursor::uint)?,
        link_credit: list.field(Cursor::uint)?,
        available: list.field(Cursor::uint)?,
        drain: list.field(Cursor::boolean)?.unwrap_or(false),
        echo: list.field(Cursor::boolean)?.unwrap_or(false),
    })
}

/// The list behind a transfer's descriptor.
#[inline]
pub(super) fn transfer(frame: &Bytes, cursor: &mut Cursor<'_>) -> Result<Transfer, Violation> {
    let mut list = cursor.list()?;
    Ok(Transfer {
        handle: mandatory(list.field(Cursor::uint)?)?,
        delivery_id: list.field(Cursor::uint)?,
        delivery_tag: list.field(|cursor| delivery_tag(frame, cursor))?,
        message_format: list.field(Cursor::uint)?,
        settled: list.field(Cursor::boolean)?,
        more: list.field(Cursor::boolean)?.unwrap_or(false),
        rcv_settle_mode: list.field(Cursor::ubyte)?.map(receiver_settle_mode).transpose()?,
        state: state(frame, &mut list)?,
        resume: list.field(Cursor::boolean)?.unwrap_or(false),
        aborted: list.field(Cursor::boolean)?.unwrap_or(false),
        batchable: list.field(Cursor::boolean)?.unwrap_or(false),
    })
}

/// The list behind a disposition's descriptor.
#[inline]
pub(super) fn disposition(frame: &Bytes, cursor: &mut Cursor<'_>) -> Result<Disposition, Violation> {
    let mut list = cursor.list()?;
    Ok(Disposition {
        role: role(mandatory(list.field(Cursor::boolean)?)?),
        first: mandatory(list.field(Cursor::uint)?)?,
        last: list.field(Cursor::uint)?,
        settled: list.field(Cursor::boolean)?.unwrap_or(false),
        state: state(frame, &mut list)?,
        batchable: list.field(Cursor::boolean)?.unwrap_or(false),
    })
}

pub(super) fn role(receiver: bool) -> Role {
    if receiver { Role::Receiver } else { Role::Sender }
}

pub(super) fn receiver_settle_mode(mode: u8) -> Result<ReceiverSettleMode, Violation> {
    match mode {
        0 => Ok(ReceiverSettleMode::First),
        1 => Ok(ReceiverSettleMode::Second),
        _ => Err(Violation::InvalidField),
    }
}

fn delivery_tag(frame: &Bytes, cursor: &mut Cursor<'_>) -> Result<Option<Bytes>, Violation> {
    let Some(tag) = cursor.binary()? else {
        return Ok(None);
    };
    if tag.len() > MAX_DELIVERY_TAG_BYTES {
        return Err(Violation::InvalidField);
    }
    let end = cursor.position();
    Ok(Some(frame.slice(end - tag.len()..end)))
}

fn state(frame: &Bytes, list: &mut ListReader<'_>) -> Result<Option<DeliveryState>, Violation> {
    list.range()?.map(|range| delivery_state(frame, range)).transpose()
}

fn delivery_state(frame: &Bytes, range: Range<usize>) -> Result<DeliveryState, Violation> {
    // Nearly every state on the wire is one of these two, in one of these two forms.
    match frame.get(range.clone()) {
        Some([0x00, 0x53, 0x24, 0x45] | [0x00, 0x53, 0x24, 0xc0, 1, 0]) => {
            return Ok(DeliveryState::Outcome(Outcome::Accepted));
        }
        Some([0x00, 0x53, 0x26, 0x45] | [0x00, 0x53, 0x26, 0xc0, 1, 0]) => {
            return Ok(DeliveryState::Outcome(Outcome::Released));
        }
        _ => {}
    }
    let (value, _) = decode_value_at(frame, range.start)?;
    composite::delivery_state(value)
}
