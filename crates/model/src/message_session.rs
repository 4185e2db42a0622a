//! The id of a message session.

use std::{fmt, sync::Arc};

use crate::limits::MESSAGE_SESSION_ID_CHARS_MAX;

/// The id of a message session: AMQP `group-id`, Service Bus `SessionId`. At most
/// [`MESSAGE_SESSION_ID_CHARS_MAX`] characters; the empty string is a valid, distinct id
/// (semantics ). Compared ordinally, case-sensitively. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageSessionId(Arc<str>);

/// Why a text is no message-session id: it is longer than [`MESSAGE_SESSION_ID_CHARS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a session id has at most {MESSAGE_SESSION_ID_CHARS_MAX} characters, this one has {chars}")]
pub struct InvalidMessageSessionId {
    /// How many characters it has.
    pub chars: usize,
}

impl MessageSessionId {
    /// Parses an id.
    ///
    /// # Errors
    /// When it is too long.
    pub fn new(id: &str) -> Result<Self, InvalidMessageSessionId> {
        // A text of n bytes has at most n characters, so most ids need no count.
        if id.len() > MESSAGE_SESSION_ID_CHARS_MAX {
            let chars = id.chars().count();
            if chars > MESSAGE_SESSION_ID_CHARS_MAX {
                return Err(InvalidMessageSessionId { chars });
            }
        }
        Ok(Self(Arc::from(id)))
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MessageSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageSessionId({:?})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_characters_not_bytes() {
        assert!(MessageSessionId::new(&"ü".repeat(128)).is_ok());
        assert_eq!(MessageSessionId::new(&"ü".repeat(129)), Err(InvalidMessageSessionId { chars: 129 }));
        assert_eq!(MessageSessionId::new("").expect("empty is an id").as_str(), "");
    }
}
