//! What the raw-frame scenarios are made of: the broker's process, a client that is driven by
//! the engine, and a connection whose frames are made by hand where the engine would refuse to
//! misbehave. All of it blocks, one connection at a time; nothing here knows how the broker works
//! inside.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attach;
pub mod attacks;
mod broker_process;
mod client;
mod clock;
mod failed;
mod home;
mod message;
mod raw_connection;

pub use attach::{
    MESSAGE_SESSION_FILTER, associated_link, described_filter, receive_and_delete, receiver, sender,
    with_filter, with_message_session, with_next_message_session, with_property,
};
pub use broker_process::Broker;
pub use client::{Client, Delivery, Login, Response};
pub use clock::{Deadline, utc_millis, wait_for_time_to_pass, wait_until};
pub use failed::{Failed, Outcome};
pub use home::{HOST, Home};
pub use message::{Message, Outgoing, batch, lock_token, text_message};
pub use raw_connection::{AMQP_HEADER, RawConnection, SASL_HEADER};

use std::time::Duration;

/// What an answer needs, with room for a busy machine.
pub const ANSWER: Duration = Duration::from_secs(15);
