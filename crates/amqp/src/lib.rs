//! AMQP 1.0: types, codec, and a connection engine that turns bytes into events and commands
//! into bytes, for both the server and the client role.
//!
//! What is absent: sockets, tasks, clocks (time is an argument), and any idea of what nodes,
//! messages or links are for. All names are those of the specification (OASIS AMQP 1.0).
//!
//! [`Connection`] is the engine. Its methods are of four kinds: what the transport says
//! (`receive_buffer` and `process`, `transport_closed`, `on_timeout`), what comes out
//! (`poll_event`, `transmit`, `next_timeout`), commands (`accept`, `send`, `settle`, ...), and
//! questions (`sendable`, `link_attach`, ...).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod codec;
mod connection;
mod delivery;
mod event;
mod link;
pub mod message;
mod outbox;
mod sasl;
mod session;
#[cfg(test)]
mod tests;
mod timers;
pub mod types;
mod violation;

pub use connection::{ClientSasl, Config, Connection, Limits, SaslPolicy};
pub use event::{
    AmqpSessionId, AttachReply, CloseReason, Deliveries, DeliveryRef, Event, LinkId, OutgoingDelivery, Parts,
    SaslCode,
};
pub use link::outgoing::SendRefused;
pub use timers::{CLOSE_DEADLINE_US, OPEN_DEADLINE_US, Time};
pub use violation::{Scope, Violation};
