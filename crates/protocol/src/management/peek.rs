//! Browsing (wire.md 7.6).

use bytes::Bytes;
use lockstep_amqp::types::{Map, Value};
use lockstep_model::SequenceNumber;

use super::{
    ManagementOperation,
    body::{Body, InvalidBody, Result, wrong_type},
};
use crate::names::management as names;

pub(super) fn peek(body: Body<'_>) -> Result<ManagementOperation> {
    // Numbers below the first one mean the start.
    let from = u64::try_from(body.integer(names::FROM_SEQUENCE_NUMBER)?).unwrap_or(0);
    let count = body.count(names::MESSAGE_COUNT)?;
    if count == 0 {
        return Err(InvalidBody::argument(format!("'{}' has to be at least 1.", names::MESSAGE_COUNT)));
    }
    let omit_body = match body.get(names::OMIT_MESSAGE_BODY) {
        None => false,
        Some(Value::Bool(omit)) => *omit,
        Some(_) => return Err(wrong_type(names::OMIT_MESSAGE_BODY, "a boolean")),
    };
    Ok(ManagementOperation::Peek {
        from: SequenceNumber(from),
        count,
        session: body.optional_message_session()?,
        omit_body,
    })
}

/// A list of maps, not an array.
pub(super) fn messages(messages: &[Bytes]) -> Map {
    let messages = messages
        .iter()
        .map(|message| Value::Map(vec![(Value::string(names::MESSAGE), Value::Binary(message.clone()))]))
        .collect();
    vec![(Value::string(names::MESSAGES), Value::List(messages))]
}
