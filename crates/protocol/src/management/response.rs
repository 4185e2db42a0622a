//! Responses (wire.md 7.3 to 7.11).

use bytes::Bytes;
use lockstep_amqp::{
    message::{Properties, encode_value_message},
    types::{Map, Value},
};
use lockstep_model::{LockToken, MessageSessionId, Refusal, SequenceNumber, Timestamp};

use super::{ManagementError, locks, message_sessions, peek, sequence_numbers};
use crate::{
    conditions::{self, RefusalContext},
    names::{condition, management as names},
};

const OK: i32 = 200;
const NO_CONTENT: i32 = 204;

/// What is answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Response<'a> {
    /// New ends of message locks, in the order asked.
    LocksRenewed(&'a [Timestamp]),
    /// New end of a message-session lock.
    MessageSessionLockRenewed(Timestamp),
    /// State of a message session.
    MessageSessionState(Option<&'a Bytes>),
    /// Ids of message sessions; none are answered by 204.
    MessageSessions {
        /// As it was asked.
        skip: u32,
        /// In order.
        ids: &'a [MessageSessionId],
    },
    /// Whole encoded messages; none are answered by 204.
    Peeked(&'a [Bytes]),
    /// Numbers of scheduled messages, in the order of the request.
    Scheduled(&'a [SequenceNumber]),
    /// Whole encoded messages with their locks.
    Received(&'a [(Bytes, LockToken)]),
    /// How many messages were deleted; none are answered by 204.
    Deleted(u32),
    /// The state was set, the messages were settled.
    Done,
    /// Nothing was done. Made by [`Response::refused`] and [`Response::not_understood`].
    Refused {
        /// statusCode.
        status: i32,
        /// errorCondition.
        condition: &'static str,
        /// statusDescription.
        description: String,
    },
}

impl Response<'_> {
    /// The answer to a request that the broker refuses.
    #[must_use]
    pub fn refused(refusal: &Refusal, context: &RefusalContext<'_>) -> Self {
        let (status, condition) = conditions::management_status(refusal);
        Self::Refused { status, condition, description: conditions::description(refusal, context) }
    }

    /// The answer to a request that could not be understood.
    #[must_use]
    pub fn not_understood(error: &ManagementError, context: &RefusalContext<'_>) -> Self {
        let (status, condition) = conditions::management_status(&error.refusal);
        Self::Refused { status, condition, description: conditions::described(&error.text, context) }
    }
}

/// A whole response message. `correlation_id` is the request's `message_id`, of the same type.
#[must_use]
pub fn encode_response(correlation_id: Option<&Value>, response: &Response<'_>) -> Bytes {
    let (status, description, condition, body) = parts(response);
    let mut properties = vec![
        (names::STATUS_CODE.into(), Value::Int(status)),
        (names::STATUS_DESCRIPTION.into(), Value::string(description)),
    ];
    if let Some(condition) = condition {
        properties.push((names::ERROR_CONDITION.into(), Value::symbol(condition)));
    }
    let header = Properties { correlation_id: correlation_id.cloned(), ..Properties::default() };
    encode_value_message(Some(&header), &properties, &Value::Map(body))
}

/// Status, description, condition and body.
fn parts<'a>(response: &'a Response<'_>) -> (i32, &'a str, Option<&'static str>, Map) {
    let ok = |body| (OK, "OK", None, body);
    match response {
        Response::LocksRenewed(times) => ok(locks::expirations(times)),
        Response::MessageSessionLockRenewed(time) => ok(locks::expiration(*time)),
        Response::MessageSessionState(state) => ok(message_sessions::state(*state)),
        Response::MessageSessions { ids: [], .. } => {
            (NO_CONTENT, "No sessions were found.", Some(condition::MESSAGE_SESSION_NOT_FOUND), Map::new())
        }
        Response::MessageSessions { skip, ids } => ok(message_sessions::ids(*skip, ids)),
        Response::Peeked([]) => {
            (NO_CONTENT, "No messages were found.", Some(condition::MESSAGE_NOT_FOUND), Map::new())
        }
        Response::Peeked(messages) => ok(peek::messages(messages)),
        Response::Scheduled(numbers) => ok(sequence_numbers::scheduled(numbers)),
        Response::Received(messages) => ok(sequence_numbers::received(messages)),
        // JS takes 204 for nothing to delete with this condition only.
        Response::Deleted(0) => (
            NO_CONTENT,
            "No messages were deleted.",
            Some(condition::MESSAGE_NOT_FOUND),
            sequence_numbers::deleted(0),
        ),
        Response::Deleted(count) => ok(sequence_numbers::deleted(*count)),
        Response::Done => ok(Map::new()),
        Response::Refused { status, condition, description } => {
            (*status, description, Some(*condition), Map::new())
        }
    }
}
