//! Requests to an entity's `$management` node and the responses to them (wire.md 7).
//!
//! A request is a message: the operation and some options stand in its application-properties,
//! the arguments in a map that is its body. Clients differ in integer widths, in arrays against
//! lists, and in strings against symbols; all of that is accepted.

mod body;
mod locks;
mod message_sessions;
mod peek;
mod request;
mod response;
mod sequence_numbers;
mod settlement;

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::types::Value;
use lockstep_model::{
    Feature, LockToken, MessageSessionId, ReceiveMode, Refusal, SequenceNumber, Settlement, Timestamp,
};

pub use request::parse;
pub use response::{Response, encode_response};

/// A request, understood.
#[derive(Clone, PartialEq, Debug)]
pub struct ManagementRequest {
    /// The correlation-id of the response, with its type: the request's message-id, or its own
    /// correlation-id if it has none.
    pub message_id: Option<Value>,
    /// The address of the response.
    pub reply_to: Option<Box<str>>,
    /// The client's link that the request is about; judged by semantics A-99.
    pub associated_link_name: Option<Box<str>>,
    /// How long the client waits for the response.
    pub server_timeout: Option<Duration>,
    /// What is asked.
    pub operation: ManagementOperation,
}

/// What can be asked.
#[derive(Clone, PartialEq, Debug)]
pub enum ManagementOperation {
    /// renew-lock.
    RenewLocks {
        /// At least one, at most `limits::LOCK_TOKENS_PER_REQUEST_MAX`.
        tokens: Vec<LockToken>,
    },
    /// renew-session-lock.
    RenewMessageSessionLock {
        /// The message session.
        session: MessageSessionId,
    },
    /// get-session-state.
    GetMessageSessionState {
        /// The message session.
        session: MessageSessionId,
    },
    /// set-session-state.
    SetMessageSessionState {
        /// The message session.
        session: MessageSessionId,
        /// The state; `None` (null, or no bytes) removes it.
        state: Option<Bytes>,
    },
    /// get-message-sessions.
    ListMessageSessions {
        /// `None`: those that have messages or state (the sentinel time was given). `Some`:
        /// those whose state was set after it.
        state_updated_after: Option<Timestamp>,
        /// How many to leave out first.
        skip: u32,
        /// How many at the most.
        top: u32,
    },
    /// peek-message.
    Peek {
        /// First sequence number looked at.
        from: SequenceNumber,
        /// How many at the most; at least one.
        count: u32,
        /// Only messages of one message session.
        session: Option<MessageSessionId>,
        /// Leave the bodies out.
        omit_body: bool,
    },
    /// update-disposition.
    Settle {
        /// At least one, at most `limits::LOCK_TOKENS_PER_REQUEST_MAX`.
        tokens: Vec<LockToken>,
        /// What becomes of them.
        settlement: Settlement,
        /// The message session they belong to, if the client says so.
        session: Option<MessageSessionId>,
    },
    /// schedule-message.
    Schedule {
        /// Encoded messages; at least one, at most `limits::BATCH_MESSAGES_MAX`.
        messages: Vec<Bytes>,
    },
    /// cancel-scheduled-message.
    CancelScheduled {
        /// At most `limits::SEQUENCE_NUMBERS_PER_REQUEST_MAX`.
        sequence_numbers: Vec<SequenceNumber>,
    },
    /// receive-by-sequence-number.
    ReceiveBySequenceNumbers {
        /// At most `limits::SEQUENCE_NUMBERS_PER_REQUEST_MAX`, in the order of the answer.
        sequence_numbers: Vec<SequenceNumber>,
        /// Lock them, or remove them.
        mode: ReceiveMode,
        /// The message session that they belong to.
        session: Option<MessageSessionId>,
    },
    /// batch-delete-messages.
    DeleteMessages {
        /// How many at the most.
        count: u32,
        /// Only those that were enqueued at or before it.
        enqueued_until: Timestamp,
        /// Only those of one message session.
        session: Option<MessageSessionId>,
    },
    /// A known operation of a feature that this version does not have; to be refused by name.
    NotYet(Feature),
    /// An operation that does not exist, by its name; to be refused.
    Unknown(String),
}

impl ManagementOperation {
    /// The message session that the request is about, for texts.
    #[must_use]
    pub const fn message_session(&self) -> Option<&MessageSessionId> {
        match self {
            Self::RenewMessageSessionLock { session }
            | Self::GetMessageSessionState { session }
            | Self::SetMessageSessionState { session, .. } => Some(session),
            Self::Peek { session, .. }
            | Self::Settle { session, .. }
            | Self::ReceiveBySequenceNumbers { session, .. }
            | Self::DeleteMessages { session, .. } => session.as_ref(),
            _ => None,
        }
    }
}

/// A request that cannot be understood. It is answered all the same, if it can be told where to.
#[derive(Clone, PartialEq, Debug)]
pub struct ManagementError {
    /// As in [`ManagementRequest`].
    pub message_id: Option<Value>,
    /// As in [`ManagementRequest`].
    pub reply_to: Option<Box<str>>,
    /// How it is refused.
    pub refusal: Refusal,
    /// What to change about the request.
    pub text: Box<str>,
}

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod tests;
