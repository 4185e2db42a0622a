//! What an entity is like.

use std::time::Duration;

use crate::{EntityName, limits};

/// The properties of a queue. Built by configuration, checked by [`QueueDescription::validate`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueDescription {
    /// Its name.
    pub name: EntityName,
    /// Whether every message belongs to a message session. Cannot be changed (semantics A-10).
    pub requires_session: bool,
    /// How long a message lock or message-session lock lasts: 5 s to 5 min.
    pub lock_duration: Duration,
    /// Failed deliveries after which a message is dead-lettered; at least 1.
    pub max_delivery_count: u32,
    /// Largest encoded message accepted, in bytes; also the limit of a message-session state.
    pub max_message_size_bytes: u64,
    /// Whether the broker itself renews a lock that was given to a link, as long as that link is
    /// there: for clients that cannot renew.
    pub auto_renew_while_link_open: bool,
}

/// The definition of an entity as it is stored. Topics and subscriptions come later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntityDescription {
    /// A queue.
    Queue(QueueDescription),
}

/// A property outside its bounds; the text says which and what it may be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{property} {problem}")]
pub struct InvalidDescription {
    /// The property, in the spelling of `lockstep.toml`.
    pub property: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl QueueDescription {
    /// A queue with Azure's defaults (semantics D-44).
    #[must_use]
    pub const fn new(name: EntityName) -> Self {
        Self {
            name,
            requires_session: false,
            lock_duration: limits::LOCK_DURATION_DEFAULT,
            max_delivery_count: limits::DELIVERY_COUNT_DEFAULT,
            max_message_size_bytes: limits::MESSAGE_SIZE_BYTES_DEFAULT,
            auto_renew_while_link_open: false,
        }
    }

    /// Checks the bounds of every property.
    ///
    /// # Errors
    /// The first property that is outside its bounds.
    pub fn validate(&self) -> Result<(), InvalidDescription> {
        let invalid = |property, problem| Err(InvalidDescription { property, problem });
        if self.lock_duration < limits::LOCK_DURATION_MIN || self.lock_duration > limits::LOCK_DURATION_MAX {
            return invalid(
                "lock_duration_s",
                format!("must be between 5 and 300 seconds, not {}", self.lock_duration.as_secs_f64()),
            );
        }
        if self.max_delivery_count == 0 || self.max_delivery_count > i32::MAX as u32 {
            return invalid(
                "max_delivery_count",
                format!("must be between 1 and {}, not {}", i32::MAX, self.max_delivery_count),
            );
        }
        if self.max_message_size_bytes < 1024 || self.max_message_size_bytes > limits::MESSAGE_SIZE_BYTES_MAX
        {
            return invalid(
                "max_message_size_bytes",
                format!(
                    "must be between 1024 and {}, not {}",
                    limits::MESSAGE_SIZE_BYTES_MAX,
                    self.max_message_size_bytes
                ),
            );
        }
        Ok(())
    }
}
