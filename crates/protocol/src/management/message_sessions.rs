//! State and enumeration of message sessions (wire.md 7.11).

use bytes::Bytes;
use lockstep_amqp::types::{Array, Map, Value};
use lockstep_model::{MessageSessionId, Timestamp};

use super::{
    ManagementOperation,
    body::{Body, Result, wrong_type},
};
use crate::names::management as names;

/// 10000-01-01T00:00:00Z: from here on a last-updated-time means "all" (semantics A-112). A
/// millisecond before it is an ordinary time.
const ALL_FROM_UNIX_MILLIS: i64 = 253_402_300_800_000;
/// Constructors of strings in arrays: up to 255 bytes each, and longer ones.
const STRING_SHORT: u8 = 0xa1;
const STRING_LONG: u8 = 0xb1;

pub(super) fn get_state(body: Body<'_>) -> Result<ManagementOperation> {
    Ok(ManagementOperation::GetMessageSessionState { session: body.message_session()? })
}

pub(super) fn set_state(body: Body<'_>) -> Result<ManagementOperation> {
    Ok(ManagementOperation::SetMessageSessionState {
        session: body.message_session()?,
        // What Go's client writes for nil, which it documents as clearing the state.
        state: body.nullable_binary(names::MESSAGE_SESSION_STATE)?.filter(|state| !state.is_empty()),
    })
}

pub(super) fn list(body: Body<'_>) -> Result<ManagementOperation> {
    let Value::Timestamp(updated_after) = *body.required(names::LAST_UPDATED_TIME)? else {
        return Err(wrong_type(names::LAST_UPDATED_TIME, "a timestamp"));
    };
    let state_updated_after =
        (updated_after < ALL_FROM_UNIX_MILLIS).then(|| Timestamp::from_unix_millis(updated_after));
    Ok(ManagementOperation::ListMessageSessions {
        state_updated_after,
        skip: body.count(names::SKIP)?,
        top: body.count(names::TOP)?,
    })
}

/// The key is there even without a state (semantics G-68).
pub(super) fn state(state: Option<&Bytes>) -> Map {
    let state = state.map_or(Value::Null, |state| Value::Binary(state.clone()));
    vec![(Value::string(names::MESSAGE_SESSION_STATE), state)]
}

pub(super) fn ids(skip: u32, ids: &[MessageSessionId]) -> Map {
    let short = ids.iter().all(|id| u8::try_from(id.as_str().len()).is_ok());
    let array = Array {
        constructor: if short { STRING_SHORT } else { STRING_LONG },
        elements: ids.iter().map(|id| Value::string(id.as_str())).collect(),
    };
    vec![
        (Value::string(names::SKIP), Value::Int(i32::try_from(skip).unwrap_or(i32::MAX))),
        (Value::string(names::MESSAGE_SESSIONS_IDS), Value::Array(Box::new(array))),
    ]
}
