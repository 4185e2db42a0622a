//! The pure core: `(state, now, command) -> effects`. One [`Namespace`] is one deterministic
//! state machine with one owner.
//!
//! `namespace.rs` takes a command apart and keeps the order of work within a step: the command's
//! own changes, then whoever can be served because of them, then what is due. `queue.rs` and
//! `message_session/mod.rs` say which message is next; `delivery.rs` hands it out and takes it
//! back; `message_locks.rs` and `message_session/lock_manager.rs` say who holds what, until when.
//!
//! ## Order and durability
//! * Every write of one `apply` goes into [`Output::batch`]; the runtime makes it durable as a
//!   whole under a commit number and tells the core so with [`Command::Committed`].
//! * [`Output::immediate`] may leave the process at once; [`Output::fenced`] leaves only when
//!   every batch up to and including this one is durable (docs/architecture.md, rules 1 and 2).
//! * A row made in a batch is handed to no receiver before `Committed` for that batch.

mod auto_renewal;
mod batch_delete;
pub mod command;
mod dead_letter;
mod deadlines;
mod defects;
mod deferral;
mod delivery;
mod duplicates;
pub mod effect;
mod enqueue;
mod expiry;
mod large;
mod lifecycle;
mod links;
mod message_locks;
mod message_session;
mod message_state;
mod namespace;
mod peek;
mod queue;
mod redelivery;
mod reserved;
mod restore;
mod scheduling;
mod settle;
#[cfg(test)]
mod tests;
mod wall_clock;

pub use command::{
    Attach, Command, Departure, Enqueue, EnqueueParts, Existence, HolderClaim, LinkIdentity,
    ReceiveBySequenceNumbers, ReceiveIntent, SettleVia,
};
pub use effect::{
    AttachGrant, BodyRef, Delivery, Effect, EntityChange, EntitySnapshot, Output, PeekedMessage, Reply,
    Routed, StateValue,
};
pub use lifecycle::{DefineError, EntityCounts};
pub use namespace::Namespace;

use lockstep_model::LockToken;

/// Where random lock tokens come from: an argument, like time.
pub trait IdSource {
    /// A token that was never returned before.
    fn lock_token(&mut self) -> LockToken;
}

/// Switches of the core that hold for a whole namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoreConfig {
    /// A broken connection releases its message-session locks at once (as a clean close does,
    /// nothing counted) instead of holding them to their expiry (semantics D-3).
    pub release_message_sessions_on_connection_loss: bool,
}
