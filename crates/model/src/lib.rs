//! The broker's vocabulary: identifiers, entity paths and descriptions, messages, lock tokens,
//! time and refusals.
//!
//! What is absent: I/O, sockets, clocks that tick by themselves, AMQP types, and any behaviour
//! beyond parsing and validating values. A value of one of these types is valid by construction.
//!
//! *Session trap*: AMQP sessions and message sessions are unrelated. Everything here that says
//! `MessageSession` is Service Bus's: all messages of one entity that share one `group-id`.
#![warn(missing_docs)]

mod entity_description;
mod entity_path;
mod ids;
pub mod limits;
mod lock_token;
mod message;
mod message_session;
mod refusal;
mod time;

pub use entity_description::{
    AuthorizationRule, EntityDescription, EntityStatus, InvalidDescription, MessageSessionExpiration,
    QueueDescription,
};
pub use entity_path::{EntityAddress, EntityName, InvalidAddress, NodeKind, percent_decode};
pub use ids::{
    BodyId, CommitNumber, ConnectionId, EntityId, NamespaceId, OutgoingLinkId, RequestId, SequenceNumber,
    SubQueue, UploadId,
};
pub use lock_token::{LockToken, LockTokens};
pub use message::{
    DuplicateKey, IncomingMessage, IncomingMessages, MessageState, PropertyOverlay, PropertyValue,
    ReceiveMode, Settlement,
};
pub use message_session::{InvalidMessageSessionId, MessageSessionId};
pub use refusal::{Feature, Refusal, Right, SizeLimit};
pub use time::{Clock, MonoTime, Now, Timestamp};
