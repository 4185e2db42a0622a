//! Refusals as clients see them: the only table from [`Refusal`] to AMQP condition,
//! `$management` status and text (wire.md 9).
//!
//! Clients tell refusals apart by condition and status, and some of them by the first words of
//! the text; those words are marked below and fixed by tests.

use std::time::Duration;

use lockstep_amqp::types::{Error, Symbol};
use lockstep_model::{Feature, Refusal, Right, SizeLimit, Timestamp, limits};

use crate::{
    names::condition,
    timestamp_text::{HoursMinutesSeconds, Iso8601},
};

/// What the text of a refusal mentions besides the refusal itself.
#[derive(Clone, Copy, Debug)]
pub struct RefusalContext<'a> {
    /// Full host name of the namespace, as the client knows it.
    pub host: &'a str,
    /// The address as the client spelled it; scheme, authority and slashes at its ends are left
    /// out of the text.
    pub path: &'a str,
    /// The message session asked for.
    pub message_session: Option<&'a str>,
    /// How long an accept has waited.
    pub waited: Option<Duration>,
    /// Finds the request in the broker's log; a GUID or the like.
    pub tracking_id: &'a str,
    /// Broker UTC time.
    pub now: Timestamp,
}

impl<'a> RefusalContext<'a> {
    /// A context without message session and wait.
    #[must_use]
    pub const fn new(host: &'a str, path: &'a str, tracking_id: &'a str, now: Timestamp) -> Self {
        Self { host, path, message_session: None, waited: None, tracking_id, now }
    }

    /// The same, with the message session asked for.
    #[must_use]
    pub const fn with_message_session(self, id: Option<&'a str>) -> Self {
        Self { message_session: id, ..self }
    }

    /// The same, with the time an accept has waited.
    #[must_use]
    pub const fn with_wait(self, waited: Option<Duration>) -> Self {
        Self { waited, ..self }
    }

    /// The path without scheme, authority and slashes at its ends.
    fn bare_path(&self) -> &'a str {
        let path = match self.path.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => self.path,
        };
        path.trim_matches('/')
    }
}

/// A refusal as the error of a detach, a close or a rejected outcome: condition, text with
/// tracking id and time, no info.
#[must_use]
pub fn error(refusal: &Refusal, context: &RefusalContext<'_>) -> Error {
    Error {
        condition: Symbol::new(condition(refusal)),
        description: Some(description(refusal, context).into()),
        info: None,
    }
}

/// Status code and error condition of a `$management` response (wire.md 9.1).
#[must_use]
pub const fn management_status(refusal: &Refusal) -> (i32, &'static str) {
    let status = match refusal {
        Refusal::EntityNotFound => 404,
        Refusal::Unauthorized(_) | Refusal::TokenExpired => 401,
        Refusal::MessageLockLost
        | Refusal::MessageSessionLockLost
        | Refusal::MessageSessionCannotBeLocked => 410,
        Refusal::AcceptTimedOut => 408,
        Refusal::SendToSubQueue
        | Refusal::MessageSessionIdMissing
        | Refusal::MessageSessionReceiverRequired
        | Refusal::MessageSessionsNotSupported
        | Refusal::MessageSessionOnSubQueue
        | Refusal::AlreadyDeadLettered
        | Refusal::NotAllowedInMode
        | Refusal::IdTooLong { .. }
        | Refusal::InvalidArgument(_)
        | Refusal::TooManyMessages
        | Refusal::Malformed(_) => 400,
        Refusal::TooLarge { .. } | Refusal::QuotaExceeded => 403,
        Refusal::UnknownOperation | Refusal::NotSupported(_) => 501,
        Refusal::ServerBusy | Refusal::ShuttingDown => 503,
        Refusal::Unreadable => 500,
    };
    (status, condition(refusal))
}

/// The AMQP condition of a refusal.
#[must_use]
pub const fn condition(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::EntityNotFound => condition::NOT_FOUND,
        Refusal::Unauthorized(_) | Refusal::TokenExpired => condition::UNAUTHORIZED_ACCESS,
        Refusal::MessageLockLost => condition::MESSAGE_LOCK_LOST,
        Refusal::MessageSessionLockLost => condition::MESSAGE_SESSION_LOCK_LOST,
        Refusal::MessageSessionCannotBeLocked => condition::MESSAGE_SESSION_CANNOT_BE_LOCKED,
        Refusal::AcceptTimedOut => condition::TIMEOUT,
        Refusal::SendToSubQueue
        | Refusal::MessageSessionIdMissing
        | Refusal::MessageSessionReceiverRequired
        | Refusal::MessageSessionsNotSupported
        | Refusal::MessageSessionOnSubQueue
        | Refusal::AlreadyDeadLettered
        | Refusal::NotAllowedInMode => condition::NOT_ALLOWED,
        Refusal::IdTooLong { .. } | Refusal::InvalidArgument(_) => condition::ARGUMENT_ERROR,
        Refusal::TooManyMessages => condition::ARGUMENT_OUT_OF_RANGE,
        Refusal::Malformed(_) => condition::DECODE_ERROR,
        Refusal::TooLarge { .. } => condition::MESSAGE_SIZE_EXCEEDED,
        Refusal::UnknownOperation | Refusal::NotSupported(_) => condition::NOT_IMPLEMENTED,
        Refusal::QuotaExceeded => condition::RESOURCE_LIMIT_EXCEEDED,
        Refusal::ServerBusy => condition::SERVER_BUSY,
        Refusal::ShuttingDown => condition::CONNECTION_FORCED,
        Refusal::Unreadable => condition::INTERNAL_ERROR,
    }
}

/// The text of a refusal, followed by tracking id, tracker and time.
#[must_use]
pub fn description(refusal: &Refusal, context: &RefusalContext<'_>) -> String {
    let RefusalContext { host, tracking_id, now, .. } = *context;
    let path = context.bare_path();
    let text = text(refusal, context);
    format!("{text} TrackingId:{tracking_id}, SystemTracker:{host}:{path}, Timestamp:{}", Iso8601(now))
}

/// The text itself, one or several sentences.
fn text(refusal: &Refusal, context: &RefusalContext<'_>) -> String {
    let (host, path) = (context.host, context.bare_path());
    let fixed = match refusal {
        // JS and Java look for "The messaging entity … could not be found." (G-4).
        Refusal::EntityNotFound => {
            return format!("The messaging entity 'sb://{host}/{path}' could not be found.");
        }
        // Python and Java look for the beginning (G-5).
        Refusal::Unauthorized(right) => {
            let right = match right {
                Right::Send => "Send",
                Right::Listen => "Listen",
                Right::Manage => "Manage",
            };
            return format!(
                "Unauthorized access. '{right}' claim(s) are required to perform this operation. \
                 Resource: 'sb://{host}/{path}'."
            );
        }
        Refusal::SendToSubQueue => {
            return format!(
                "Cannot send to '{path}': messages reach a sub-queue only by being dead-lettered. \
                 Send to the entity itself."
            );
        }
        //
        Refusal::MessageSessionCannotBeLocked => {
            let id = context.message_session.unwrap_or_default();
            return format!(
                "The requested session '{id}' cannot be accepted. It may be locked by another receiver."
            );
        }
        //
        Refusal::AcceptTimedOut => {
            let waited = context.waited.unwrap_or(limits::ACCEPT_WAIT_DEFAULT);
            return format!(
                "The operation did not complete within the allotted timeout of {}.",
                HoursMinutesSeconds(waited)
            );
        }
        Refusal::IdTooLong { field, chars } => {
            return format!(
                "{field} has at most {} characters, this one has {chars}.",
                limits::MESSAGE_SESSION_ID_CHARS_MAX
            );
        }
        Refusal::TooLarge { limit, max_bytes } => {
            let what = match limit {
                SizeLimit::Message => "The message",
                SizeLimit::Batch => "The batch of messages",
                SizeLimit::MessageSessionState => "The session state",
            };
            return format!("{what} is larger than the limit of {max_bytes} bytes.");
        }
        Refusal::TooManyMessages => {
            return format!("A batch has at most {} messages.", limits::BATCH_MESSAGES_MAX);
        }
        Refusal::NotSupported(feature) => {
            return format!("{} not supported by this version of the broker.", feature_subject(*feature));
        }
        Refusal::QuotaExceeded => {
            return format!("The maximum entity size has been reached or exceeded for '{path}'.");
        }
        Refusal::Malformed(text) | Refusal::InvalidArgument(text) => return sentence(text),
        // G-36; Go looks for the beginning.
        Refusal::MessageLockLost => {
            "The lock supplied is invalid. Either the lock expired, or the message has already been removed \
             from the queue."
        }
        //
        Refusal::MessageSessionLockLost => {
            "The session lock has expired on the MessageSession. Accept a new MessageSession."
        }
        Refusal::TokenExpired => {
            "ExpiredToken: The token is expired. Put a new token to $cbs before the old one expires."
        }
        //
        Refusal::MessageSessionIdMissing => {
            "The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have \
             session support enabled can only receive messages that have the SessionId set to a valid value."
        }
        // A-84; Go looks for the beginning.
        Refusal::MessageSessionReceiverRequired => {
            "It is not possible for an entity that requires sessions to create a non-sessionful message \
             receiver."
        }
        Refusal::MessageSessionsNotSupported => {
            "It is not possible for an entity that does not require sessions to create a sessionful message \
             receiver."
        }
        //
        Refusal::MessageSessionOnSubQueue => "Cannot create a MessageSession for a sub-queue.",
        Refusal::AlreadyDeadLettered => {
            "The message already is in a dead-letter queue and cannot be dead-lettered again."
        }
        Refusal::NotAllowedInMode => "The receive mode of this link does not allow the operation.",
        Refusal::UnknownOperation => "The operation is not known.",
        Refusal::ServerBusy => "The broker is busy. Wait before the next attempt.",
        Refusal::ShuttingDown => "The broker is shutting down. Connect again later.",
        Refusal::Unreadable => "A stored message cannot be read; the operator has to look at the store.",
    };
    fixed.to_owned()
}

/// A static text as a sentence: with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut sentence = String::with_capacity(text.len() + 1);
    let mut characters = text.chars();
    sentence.extend(characters.next().into_iter().flat_map(char::to_uppercase));
    sentence.push_str(characters.as_str());
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

/// A feature and its verb, as the subject of a sentence.
const fn feature_subject(feature: Feature) -> &'static str {
    match feature {
        Feature::Deferral => "Deferring messages is",
        Feature::Scheduling => "Scheduled enqueueing (x-opt-scheduled-enqueue-time) is",
        Feature::TimeToLive => "A time to live (header ttl, absolute-expiry-time) is",
        Feature::DuplicateDetection => "Duplicate detection is",
        Feature::Topics => "Topics, subscriptions and rules are",
        Feature::Transactions => "Transactions are",
        Feature::Forwarding => "Auto-forwarding is",
        Feature::BatchDelete => "Batch deletion of messages is",
        Feature::NonExclusiveMessageSessions => "Non-exclusive session filters are",
        Feature::Selectors => "Selectors and rule filters on a receiver are",
        Feature::SendVia => "Transfer destinations of a sender (send via) are",
        Feature::DynamicNodes => "Dynamic nodes are",
    }
}

#[cfg(test)]
mod tests;
