//! Refusals as clients see them: the only table from [`Refusal`] to AMQP condition,
//! `$management` status and text (wire.md 9).
//!
//! Clients tell refusals apart by condition and status, and some of them by the first words of
//! the text; those words are marked below and fixed by tests.

use std::time::Duration;

use lockstep_amqp::types::{Error, Symbol};
use lockstep_model::{Feature, Refusal, Right, SizeLimit, Timestamp, limits};

use crate::{
    jms_selector,
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
        Refusal::EntityNotFound | Refusal::EntityOfFeature(_) | Refusal::MessageNotFound => 404,
        Refusal::EntityAlreadyExists => 409,
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
        | Refusal::InvalidField(_)
        | Refusal::InvalidDescription(_)
        | Refusal::ImmutableProperty(_)
        | Refusal::EntityDisabled
        | Refusal::PartitionKeyMismatch(_)
        | Refusal::TooManyMessages
        | Refusal::Malformed(_) => 400,
        Refusal::TooLarge { .. } | Refusal::QuotaExceeded => 403,
        Refusal::UnknownOperation | Refusal::NotSupported(_) => 501,
        Refusal::ServerBusy | Refusal::ShuttingDown | Refusal::LinkIdle(_) => 503,
        Refusal::Unreadable => 500,
    };
    (status, condition(refusal))
}

/// The AMQP condition of a refusal.
#[must_use]
pub const fn condition(refusal: &Refusal) -> &'static str {
    match refusal {
        // Clients try again after "not implemented", for as long as they have time.
        Refusal::EntityNotFound | Refusal::EntityOfFeature(_) => condition::NOT_FOUND,
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
        | Refusal::PartitionKeyMismatch(_)
        | Refusal::NotAllowedInMode => condition::NOT_ALLOWED,
        Refusal::IdTooLong { .. }
        | Refusal::InvalidArgument(_)
        | Refusal::InvalidDescription(_)
        | Refusal::ImmutableProperty(_) => condition::ARGUMENT_ERROR,
        Refusal::MessageNotFound => condition::MESSAGE_NOT_FOUND,
        Refusal::EntityDisabled => condition::ENTITY_DISABLED,
        Refusal::LinkIdle(_) => condition::LINK_DETACH_FORCED,
        Refusal::EntityAlreadyExists => condition::ENTITY_ALREADY_EXISTS,
        Refusal::InvalidField(_) => condition::INVALID_FIELD,
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
    described(&text(refusal, context), context)
}

/// A text of the caller's, followed by tracking id, tracker and time.
#[must_use]
pub fn described(text: &str, context: &RefusalContext<'_>) -> String {
    let RefusalContext { host, tracking_id, now, .. } = *context;
    let path = context.bare_path();
    format!("{text} TrackingId:{tracking_id}, SystemTracker:{host}:{path}, Timestamp:{}", Iso8601(now))
}

/// The texts that mention nothing; where a client or the specification fixes the words, it says so.
mod fixed {
    /// G-36; Go looks for the beginning.
    pub(super) const MESSAGE_LOCK_LOST: &str = "The lock supplied is invalid. Either the lock expired, or \
        the message has already been removed from the queue.";
    pub(super) const MESSAGE_NOT_FOUND: &str = "The operation cannot be completed because a requested \
        message was not found, or is not in a state in which the operation is possible.";
    ///
    pub(super) const MESSAGE_SESSION_LOCK_LOST: &str =
        "The session lock has expired on the MessageSession. Accept a new MessageSession.";
    /// wire.md 2.6: the word ExpiredToken.
    pub(super) const TOKEN_EXPIRED: &str =
        "ExpiredToken: The token is expired. Put a new token to $cbs before the old one expires.";
    ///
    pub(super) const MESSAGE_SESSION_ID_MISSING: &str = "The SessionId was not set on a message, and it \
        cannot be sent to the entity. Entities that have session support enabled can only receive messages \
        that have the SessionId set to a valid value.";
    /// A-84; Go looks for the beginning.
    pub(super) const MESSAGE_SESSION_RECEIVER_REQUIRED: &str = "It is not possible for an entity that \
        requires sessions to create a non-sessionful message receiver.";
    pub(super) const MESSAGE_SESSIONS_NOT_SUPPORTED: &str = "It is not possible for an entity that does \
        not require sessions to create a sessionful message receiver.";
    ///
    pub(super) const MESSAGE_SESSION_ON_SUB_QUEUE: &str = "Cannot create a MessageSession for a sub-queue.";
    pub(super) const ALREADY_DEAD_LETTERED: &str =
        "The message already is in a dead-letter queue and cannot be dead-lettered again.";
    pub(super) const NOT_ALLOWED_IN_MODE: &str =
        "The receive mode of this link does not allow the operation.";
    pub(super) const UNKNOWN_OPERATION: &str = "The operation is not known.";
    pub(super) const SERVER_BUSY: &str = "The broker is busy. Wait before the next attempt.";
    pub(super) const SHUTTING_DOWN: &str = "The broker is shutting down. Connect again later.";
    pub(super) const UNREADABLE: &str =
        "A stored message cannot be read; the operator has to look at the store.";
}

/// The text itself, one or several sentences.
fn text(refusal: &Refusal, context: &RefusalContext<'_>) -> String {
    let (host, path) = (context.host, context.bare_path());
    match refusal {
        Refusal::EntityNotFound => entity_not_found(context),
        Refusal::EntityOfFeature(feature) => {
            format!("{} {}", entity_not_found(context), not_supported(*feature))
        }
        // Python and Java look for the beginning (G-5).
        Refusal::Unauthorized(right) => format!(
            "Unauthorized access. '{}' claim(s) are required to perform this operation. \
             Resource: 'sb://{host}/{path}'.",
            claim(*right)
        ),
        Refusal::SendToSubQueue => format!(
            "Cannot send to '{path}': messages reach a sub-queue only by being dead-lettered. \
             Send to the entity itself."
        ),
        //
        Refusal::MessageSessionCannotBeLocked => format!(
            "The requested session '{}' cannot be accepted. It may be locked by another receiver.",
            context.message_session.unwrap_or_default()
        ),
        //
        Refusal::AcceptTimedOut => format!(
            "The operation did not complete within the allotted timeout of {}.",
            HoursMinutesSeconds(context.waited.unwrap_or(limits::ACCEPT_WAIT_DEFAULT))
        ),
        Refusal::IdTooLong { field, chars } => format!(
            "{field} has at most {} characters, this one has {chars}.",
            limits::MESSAGE_SESSION_ID_CHARS_MAX
        ),
        Refusal::TooLarge { limit, max_bytes } => {
            format!("{} is larger than the limit of {max_bytes} bytes.", limited_subject(*limit))
        }
        Refusal::TooManyMessages => format!("A batch has at most {} messages.", limits::BATCH_MESSAGES_MAX),
        Refusal::NotSupported(feature) => not_supported(*feature),
        Refusal::QuotaExceeded => {
            format!("The maximum entity size has been reached or exceeded for '{path}'.")
        }
        Refusal::Malformed(text)
        | Refusal::InvalidArgument(text)
        | Refusal::InvalidField(text)
        | Refusal::PartitionKeyMismatch(text) => sentence(text),
        Refusal::EntityDisabled => format!("Messaging entity 'sb://{host}/{path}' is currently disabled."),
        Refusal::LinkIdle(timeout) => format!(
            "The link to '{path}' is force detached. Code: IdleTimerExpired. Idle timeout: {}.",
            HoursMinutesSeconds(*timeout)
        ),
        Refusal::EntityAlreadyExists => {
            format!("The messaging entity 'sb://{host}/{path}' already exists.")
        }
        Refusal::InvalidDescription(problem) => sentence(&problem.to_string()),
        Refusal::ImmutableProperty(property) => format!("The property {property} cannot be changed."),
        Refusal::MessageNotFound => fixed::MESSAGE_NOT_FOUND.into(),
        Refusal::MessageLockLost => fixed::MESSAGE_LOCK_LOST.into(),
        Refusal::MessageSessionLockLost => fixed::MESSAGE_SESSION_LOCK_LOST.into(),
        Refusal::TokenExpired => fixed::TOKEN_EXPIRED.into(),
        Refusal::MessageSessionIdMissing => fixed::MESSAGE_SESSION_ID_MISSING.into(),
        Refusal::MessageSessionReceiverRequired => fixed::MESSAGE_SESSION_RECEIVER_REQUIRED.into(),
        Refusal::MessageSessionsNotSupported => fixed::MESSAGE_SESSIONS_NOT_SUPPORTED.into(),
        Refusal::MessageSessionOnSubQueue => fixed::MESSAGE_SESSION_ON_SUB_QUEUE.into(),
        Refusal::AlreadyDeadLettered => fixed::ALREADY_DEAD_LETTERED.into(),
        Refusal::NotAllowedInMode => fixed::NOT_ALLOWED_IN_MODE.into(),
        Refusal::UnknownOperation => fixed::UNKNOWN_OPERATION.into(),
        Refusal::ServerBusy => fixed::SERVER_BUSY.into(),
        Refusal::ShuttingDown => fixed::SHUTTING_DOWN.into(),
        Refusal::Unreadable => fixed::UNREADABLE.into(),
    }
}

/// JS and Java look for these words (G-4).
fn entity_not_found(context: &RefusalContext<'_>) -> String {
    format!("The messaging entity 'sb://{}/{}' could not be found.", context.host, context.bare_path())
}

fn not_supported(feature: Feature) -> String {
    let subject = feature_subject(feature);
    match feature {
        Feature::Selectors => format!(
            "{subject} not supported by this version of the broker, except on an entity that requires \
             sessions: {}.",
            jms_selector::SUPPORTED
        ),
        _ => format!("{subject} not supported by this version of the broker."),
    }
}

/// A right, as a claim is called.
const fn claim(right: Right) -> &'static str {
    match right {
        Right::Send => "Send",
        Right::Listen => "Listen",
        Right::Manage => "Manage",
    }
}

/// What a size limit limits, as the subject of a sentence.
const fn limited_subject(limit: SizeLimit) -> &'static str {
    match limit {
        SizeLimit::Message => "The message",
        SizeLimit::Batch => "The batch of messages",
        SizeLimit::Answer => "The answer with all messages asked for",
        SizeLimit::MessageSessionState => "The session state",
    }
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
        Feature::Topics => "Topics, subscriptions and rules are",
        Feature::Transactions => "Transactions are",
        Feature::Forwarding => "Auto-forwarding is",
        Feature::NonExclusiveMessageSessions => "Non-exclusive session filters are",
        Feature::Selectors => "Selectors and rule filters on a receiver are",
        Feature::SendVia => "Transfer destinations of a sender (send via) are",
        Feature::DynamicNodes => "Dynamic nodes are",
    }
}

#[cfg(test)]
mod tests;
