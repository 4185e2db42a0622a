//! The administration plane: requests of `ServiceBusAdministrationClient` (ATOM entries over HTTP)
//! to decided operations, and outcomes to the ATOM that clients parse (admin.md 1).
//!
//! Pure: bytes and values in, values and bytes out. What is absent: sockets, HTTP, clocks, random
//! numbers, the broker, and any judgement of credentials. `server` brings all of that together.
//!
//! * [`router`]: which operation a method, path and query ask for.
//! * [`atom`]: bodies of requests and answers.
//! * [`AdminError`]: everything that can be refused, with its status and text.
//!
//! Topics, subscriptions and rules get their place beside `atom::queue` and in
//! [`router::Operation`]; until then they are refused by name.
#![warn(missing_docs)]

pub mod atom;
mod error;
mod reply;
pub mod router;

pub use error::{Action, AdminError, ErrorContext};
pub use reply::Reply;

/// Bytes of the body of a request. The largest description, with twelve authorisation rules and
/// 1,024 characters of metadata, takes less than a third.
pub const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024;
