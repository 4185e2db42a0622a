//! The dictionary between AMQP 1.0 and the broker's model: what Service Bus means by addresses,
//! filters, annotations, outcomes and the requests to `$cbs` and `$management`.
//!
//! What is absent: state, sockets, tasks, clocks (time is an argument), and any decision about
//! queues, locks or message sessions. Every function is a pure translation of its arguments.
//!
//! *Session trap*: AMQP sessions and message sessions are unrelated; here only the latter occur,
//! and `group-id` becomes a [`lockstep_model::MessageSessionId`] in one place,
//! [`message_session_id`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod attach_intent;
pub mod attach_reply;
pub mod cbs;
pub mod conditions;
pub mod delivery_tag;
mod jms_selector;
pub mod management;
pub mod message_mapping;
pub mod message_session_id;
pub mod names;
pub mod sas_token;
pub mod sasl_plain;
pub mod settlement;
mod timestamp_text;
