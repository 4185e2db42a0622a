//! Renewals (wire.md 7.4, 7.5).

use lockstep_amqp::types::{Array, Map, Value};
use lockstep_model::Timestamp;

use super::{
    ManagementOperation,
    body::{Body, Result},
};
use crate::names::management as names;

/// Constructor of timestamps in arrays.
const TIMESTAMP: u8 = 0x83;

pub(super) fn renew_locks(body: Body<'_>) -> Result<ManagementOperation> {
    Ok(ManagementOperation::RenewLocks { tokens: body.lock_tokens()? })
}

pub(super) fn renew_message_session_lock(body: Body<'_>) -> Result<ManagementOperation> {
    Ok(ManagementOperation::RenewMessageSessionLock { session: body.message_session()? })
}

/// An array, not a list: .NET and Go cast it.
pub(super) fn expirations(times: &[Timestamp]) -> Map {
    let elements = times.iter().map(|time| Value::Timestamp(time.unix_millis())).collect();
    let array = Value::Array(Box::new(Array { constructor: TIMESTAMP, elements }));
    vec![(Value::string(names::EXPIRATIONS), array)]
}

pub(super) fn expiration(time: Timestamp) -> Map {
    vec![(Value::string(names::EXPIRATION), Value::Timestamp(time.unix_millis()))]
}
