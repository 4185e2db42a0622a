//! The one place where an AMQP `group-id` becomes a message-session id and back.
//!
//! `group-id` is an ordinary property of AMQP messages; Service Bus calls it `SessionId` and
//! locks all messages that share it together. Absent and null mean the same: no message session.
//! The empty string is an id like any other (semantics ).

use bytes::BytesMut;
use lockstep_amqp::{codec::encode_value, message::text_key, types::Value};
use lockstep_model::{MessageSessionId, Refusal};

/// Name of the field in texts for clients.
const FIELD: &str = "SessionId";

/// The message session that an encoded `group-id` names; `None` if it is absent or null.
///
/// # Errors
/// `Malformed` if it is not a string, `IdTooLong` beyond 128 characters.
pub fn from_group_id(encoded: Option<&[u8]>) -> Result<Option<MessageSessionId>, Refusal> {
    const NULL: u8 = 0x40;
    const STRINGS: [u8; 2] = [0xa1, 0xb1];
    match encoded {
        None | Some([NULL]) => Ok(None),
        Some(encoded) if encoded.first().is_some_and(|constructor| STRINGS.contains(constructor)) => {
            let text = text_key(encoded).ok_or(Refusal::Malformed("the group-id is not valid UTF-8"))?;
            from_text(text).map(Some)
        }
        Some(_) => Err(Refusal::Malformed("the group-id (SessionId) has to be a string")),
    }
}

/// The encoded `group-id` of a message session; null without one.
#[must_use]
pub fn to_group_id(id: Option<&MessageSessionId>) -> BytesMut {
    let mut encoded = BytesMut::new();
    encode_value(&mut encoded, &id.map_or(Value::Null, |id| Value::string(id.as_str())));
    encoded
}

/// The message session of a text from a filter or a request.
///
/// # Errors
/// `IdTooLong` beyond 128 characters.
pub(crate) fn from_text(text: &str) -> Result<MessageSessionId, Refusal> {
    MessageSessionId::new(text).map_err(|invalid| Refusal::IdTooLong { field: FIELD, chars: invalid.chars })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &Value) -> BytesMut {
        let mut encoded = BytesMut::new();
        encode_value(&mut encoded, value);
        encoded
    }

    #[test]
    fn absent_empty_and_longest_ids_round_trip() {
        let longest_ascii = "a".repeat(128);
        let longest = "ü".repeat(128);
        for text in [None, Some(""), Some("s"), Some(longest_ascii.as_str()), Some(longest.as_str())] {
            let id = text.map(|text| MessageSessionId::new(text).expect("within the limit"));
            assert_eq!(from_group_id(Some(&to_group_id(id.as_ref()))), Ok(id));
        }
        assert_eq!(from_group_id(None), Ok(None));
    }

    #[test]
    fn longer_ids_are_refused_by_their_number_of_characters() {
        assert_eq!(
            from_group_id(Some(&encoded(&Value::string(&"ü".repeat(129))))),
            Err(Refusal::IdTooLong { field: "SessionId", chars: 129 })
        );
    }

    #[test]
    fn other_types_are_no_ids() {
        for value in [Value::Int(1), Value::symbol("s"), Value::Uuid([0; 16]), Value::Bool(true)] {
            assert!(matches!(from_group_id(Some(&encoded(&value))), Err(Refusal::Malformed(_))), "{value:?}");
        }
        assert!(matches!(from_group_id(Some(&[0xa1, 1, 0xff])), Err(Refusal::Malformed(_))));
    }
}
