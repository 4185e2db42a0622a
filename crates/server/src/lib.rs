//! The server: configuration, listeners, connections, and the wiring of the broker to them.
//!
//! What is absent: domain rules. They are in `broker::core`; how AMQP says them is in
//! `protocol`.
//!
//! *Session trap*: AMQP sessions and message sessions are unrelated; names here say which.

mod administration;
mod client_certificate;
pub mod config;
mod connection;
mod connection_driver;
mod context;
mod dev_certificate;
mod disk;
mod distinguished_name;
mod health;
mod http;
mod listener;
mod newcomers;
mod random;
mod sniff;
mod start;
mod system_clock;
pub mod telemetry;
mod tls;
mod turns;
mod websocket;

pub use start::{RunningServer, StartOptions, start};
