//! Operations on messages by their sequence numbers (wire.md 7.7 to 7.9, 7.13).

use bytes::Bytes;
use lockstep_amqp::types::{Array, Map, Value};
use lockstep_model::{LockToken, ReceiveMode, SequenceNumber, Timestamp, limits};

use super::{
    ManagementOperation,
    body::{Body, InvalidBody, Result, wrong_type},
};
use crate::names::management as names;

/// Constructor of longs in arrays.
const LONG: u8 = 0x81;

pub(super) fn schedule(body: Body<'_>) -> Result<ManagementOperation> {
    const EXPECTED: &str = "a list of maps, each with a binary 'message'";
    let key = names::MESSAGES;
    let Value::List(elements) = body.required(key)? else { return Err(wrong_type(key, EXPECTED)) };
    if elements.is_empty() || elements.len() > limits::BATCH_MESSAGES_MAX {
        return Err(InvalidBody::argument(format!(
            "'{key}' has to hold 1 to {} messages, not {}.",
            limits::BATCH_MESSAGES_MAX,
            elements.len()
        )));
    }
    let message = |element: &Value| {
        let Value::Map(entries) = element else { return Err(wrong_type(key, EXPECTED)) };
        match Body(entries).get(names::MESSAGE) {
            Some(Value::Binary(message)) => Ok(message.clone()),
            _ => Err(wrong_type(key, EXPECTED)),
        }
    };
    Ok(ManagementOperation::Schedule { messages: elements.iter().map(message).collect::<Result<_>>()? })
}

pub(super) fn cancel(body: Body<'_>) -> Result<ManagementOperation> {
    Ok(ManagementOperation::CancelScheduled { sequence_numbers: sequence_numbers(body)? })
}

pub(super) fn receive(body: Body<'_>) -> Result<ManagementOperation> {
    let key = names::RECEIVER_SETTLE_MODE;
    let mode = match body.get(key).map(Value::as_i64) {
        // Clients that say nothing mean a lock.
        None | Some(Some(1)) => ReceiveMode::PeekLock,
        Some(Some(0)) => ReceiveMode::ReceiveAndDelete,
        Some(_) => return Err(wrong_type(key, "0 (receive and delete) or 1 (peek-lock)")),
    };
    Ok(ManagementOperation::ReceiveBySequenceNumbers {
        sequence_numbers: sequence_numbers(body)?,
        mode,
        session: body.optional_message_session()?,
    })
}

pub(super) fn delete(body: Body<'_>) -> Result<ManagementOperation> {
    let key = names::ENQUEUED_TIME_UTC;
    let enqueued_until = match body.get(key) {
        None => Timestamp::from_unix_millis(i64::MAX),
        Some(Value::Timestamp(millis)) => Timestamp::from_unix_millis(*millis),
        Some(_) => return Err(wrong_type(key, "a timestamp")),
    };
    Ok(ManagementOperation::DeleteMessages {
        count: body.count(names::MESSAGE_COUNT)?,
        enqueued_until,
        session: body.optional_message_session()?,
    })
}

/// `sequence-numbers`: an array or list of integers; it may be empty.
fn sequence_numbers(body: Body<'_>) -> Result<Vec<SequenceNumber>> {
    const EXPECTED: &str = "an array of longs";
    let key = names::SEQUENCE_NUMBERS;
    let elements = match body.required(key)? {
        Value::Array(array) => &array.elements,
        Value::List(elements) => elements,
        _ => return Err(wrong_type(key, EXPECTED)),
    };
    if elements.len() > limits::SEQUENCE_NUMBERS_PER_REQUEST_MAX {
        return Err(InvalidBody::argument(format!(
            "'{key}' may hold at most {} numbers, not {}.",
            limits::SEQUENCE_NUMBERS_PER_REQUEST_MAX,
            elements.len()
        )));
    }
    // No message has a number below 1: it is asked for and not found.
    let number = |element: &Value| {
        let number = element.as_i64().ok_or_else(|| wrong_type(key, EXPECTED))?;
        Ok(SequenceNumber(u64::try_from(number).unwrap_or(0)))
    };
    elements.iter().map(number).collect()
}

/// An array of longs, not a list: .NET and Go cast it.
pub(super) fn scheduled(numbers: &[SequenceNumber]) -> Map {
    let long = |number: &SequenceNumber| Value::Long(i64::try_from(number.0).unwrap_or(i64::MAX));
    let array = Array { constructor: LONG, elements: numbers.iter().map(long).collect() };
    vec![(Value::string(names::SEQUENCE_NUMBERS), Value::Array(Box::new(array)))]
}

/// A list of maps with whole messages and their locks.
pub(super) fn received(messages: &[(Bytes, LockToken)]) -> Map {
    let entry = |(message, token): &(Bytes, LockToken)| {
        Value::Map(vec![
            (Value::string(names::MESSAGE), Value::Binary(message.clone())),
            (Value::string(names::LOCK_TOKEN), Value::Uuid(token.uuid_bytes())),
        ])
    };
    vec![(Value::string(names::MESSAGES), Value::List(messages.iter().map(entry).collect()))]
}

pub(super) fn deleted(count: u32) -> Map {
    vec![(Value::string(names::MESSAGE_COUNT), Value::Int(i32::try_from(count).unwrap_or(i32::MAX)))]
}
