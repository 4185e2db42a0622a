//! AMQP 1.0: types, codec, and a connection engine that turns bytes into events and commands
//! into bytes, for both the server and the client role.
//!
//! What is absent: sockets, tasks, clocks (time is an argument), and any idea of what nodes,
//! messages or links are for. All names are those of the specification (OASIS AMQP 1.0).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod codec;
mod event;
pub mod message;
pub mod types;
mod violation;

pub use event::{
    AmqpSessionId, AttachReply, CloseReason, DeliveryRef, Event, LinkId, OutgoingDelivery, SaslCode,
};
pub use violation::{Scope, Violation};
