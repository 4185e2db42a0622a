//! Arguments in the body of a request, whatever types a client gives them.

use bytes::Bytes;
use lockstep_amqp::types::{Map, Value};
use lockstep_model::{LockToken, MessageSessionId, Refusal, limits};

use crate::{message_session_id, names::management as names};

/// Why an argument is refused, and the text that says what to change.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct InvalidBody {
    pub(super) refusal: Refusal,
    pub(super) text: String,
}

pub(super) type Result<T> = std::result::Result<T, InvalidBody>;

impl InvalidBody {
    /// An argument that is missing or wrong.
    pub(super) fn argument(text: String) -> Self {
        Self { refusal: Refusal::InvalidArgument("an argument of the request is missing or wrong"), text }
    }
}

/// The arguments of a request by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a>(pub(super) &'a Map);

impl<'a> Body<'a> {
    /// An argument, unless it is missing or null.
    pub(super) fn get(self, key: &str) -> Option<&'a Value> {
        self.entry(key).filter(|value| **value != Value::Null)
    }

    /// An argument that may be null but not missing.
    pub(super) fn entry(self, key: &str) -> Option<&'a Value> {
        self.0.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
    }

    /// An argument that has to be there.
    pub(super) fn required(self, key: &str) -> Result<&'a Value> {
        self.get(key).ok_or_else(|| missing(key))
    }

    /// A text that has to be there.
    pub(super) fn text(self, key: &str) -> Result<&'a str> {
        self.required(key)?.as_text().ok_or_else(|| wrong_type(key, "a string"))
    }

    /// A text that may be missing.
    pub(super) fn optional_text(self, key: &str) -> Result<Option<&'a str>> {
        self.get(key).map(|value| value.as_text().ok_or_else(|| wrong_type(key, "a string"))).transpose()
    }

    /// An integer of any width that has to be there.
    pub(super) fn integer(self, key: &str) -> Result<i64> {
        self.required(key)?.as_i64().ok_or_else(|| wrong_type(key, "an integer"))
    }

    /// A count of any integer type; beyond 2^32 - 1 it is that.
    pub(super) fn count(self, key: &str) -> Result<u32> {
        match self.integer(key)? {
            negative if negative < 0 => {
                Err(InvalidBody::argument(format!("'{key}' may not be negative, but is {negative}.")))
            }
            count => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
        }
    }

    /// Binary data or null, but not missing.
    pub(super) fn nullable_binary(self, key: &str) -> Result<Option<Bytes>> {
        match self.entry(key) {
            None => Err(missing(key)),
            Some(Value::Null) => Ok(None),
            Some(Value::Binary(bytes)) => Ok(Some(bytes.clone())),
            Some(_) => Err(wrong_type(key, "binary or null")),
        }
    }

    /// `session-id`, which has to be there; the empty string is an id.
    pub(super) fn message_session(self) -> Result<MessageSessionId> {
        parse_message_session(self.text(names::MESSAGE_SESSION_ID)?)
    }

    /// `session-id`, which may be missing.
    pub(super) fn optional_message_session(self) -> Result<Option<MessageSessionId>> {
        self.optional_text(names::MESSAGE_SESSION_ID)?.map(parse_message_session).transpose()
    }

    /// `lock-tokens`: an array or list of uuids, at least one.
    pub(super) fn lock_tokens(self) -> Result<Vec<LockToken>> {
        const EXPECTED: &str = "an array of uuids";
        let key = names::LOCK_TOKENS;
        let elements = match self.required(key)? {
            Value::Array(array) => &array.elements,
            Value::List(elements) => elements,
            _ => return Err(wrong_type(key, EXPECTED)),
        };
        if elements.is_empty() {
            return Err(InvalidBody::argument(format!("'{key}' has to hold at least one lock token.")));
        }
        if elements.len() > limits::LOCK_TOKENS_PER_REQUEST_MAX {
            return Err(InvalidBody::argument(format!(
                "'{key}' may hold at most {} lock tokens, not {}.",
                limits::LOCK_TOKENS_PER_REQUEST_MAX,
                elements.len()
            )));
        }
        elements
            .iter()
            .map(|element| match element {
                Value::Uuid(bytes) => Ok(LockToken::from_uuid_bytes(*bytes)),
                _ => Err(wrong_type(key, EXPECTED)),
            })
            .collect()
    }
}

fn parse_message_session(text: &str) -> Result<MessageSessionId> {
    message_session_id::from_text(text).map_err(|refusal| InvalidBody {
        refusal,
        text: format!(
            "'{}' has at most {} characters.",
            names::MESSAGE_SESSION_ID,
            limits::MESSAGE_SESSION_ID_CHARS_MAX
        ),
    })
}

/// The text for an argument that is missing.
pub(super) fn missing(key: &str) -> InvalidBody {
    InvalidBody::argument(format!("The body of the request has no '{key}'."))
}

/// The text for an argument of the wrong type.
pub(super) fn wrong_type(key: &str, expected: &str) -> InvalidBody {
    InvalidBody::argument(format!("'{key}' in the body of the request has to be {expected}."))
}
