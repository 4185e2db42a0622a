//! The broker: a deterministic core that turns commands into effects, and a runtime that gives
//! the core a thread, makes its writes durable and carries its effects to connections.
//!
//! What is absent: AMQP types and sockets. In [`core`] also: clocks, threads, and any read of
//! the store.
#![warn(missing_docs)]

pub mod core;
pub mod runtime;
