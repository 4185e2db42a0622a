//! What an entity is like.

use std::{fmt, time::Duration};

use crate::{EntityName, Right, Timestamp, limits};

/// The properties of a queue. Built by configuration or by the administration plane, checked by
/// [`QueueDescription::validate`].
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
    /// What may be done with it (semantics B-97).
    pub status: EntityStatus,
    /// Bytes of messages (dead-lettered ones too) and of message-session states that it may hold;
    /// a send that begins above it is refused (semantics B-8). 1 MiB or more.
    pub max_size_bytes: u64,
    /// The longest a message lives; a message's own value is lowered to it (semantics B-56). 1 s
    /// or more; `None` is for ever.
    pub default_message_time_to_live: Option<Duration>,
    /// Whether expired messages go to the dead-letter queue instead of being dropped.
    pub dead_lettering_on_message_expiration: bool,
    /// What expires together with a message of a message session (semantics A-103, D-4).
    pub message_session_expiration: MessageSessionExpiration,
    /// Whether a message with the message-id of an earlier one is accepted and dropped. Cannot be
    /// changed (semantics B-61).
    pub requires_duplicate_detection: bool,
    /// For how long message-ids are remembered: 5 s to 7 days (semantics B-62).
    pub duplicate_detection_history_time_window: Duration,
    /// After how long without use it is deleted: 5 min or more; `None` is never (semantics B-98).
    pub auto_delete_on_idle: Option<Duration>,
    /// Whether it was asked for as a partitioned entity. It has one partition all the same; the
    /// rules about keys hold. Cannot be changed (semantics B-104, D-20).
    pub enable_partitioning: bool,
    /// How long after it was last set, or its last message came, the state of a message session is
    /// removed that nobody holds and that has no messages; `None` is never (semantics F-1).
    pub message_session_state_time_to_live: Option<Duration>,
    /// After how long an abandoned message is delivered again, after its first failed delivery;
    /// doubled with each further one. Zero, as in Service Bus, is at once (semantics F-7).
    pub redelivery_delay: Duration,
    /// The longest of these delays; less than the first one means that all are the same.
    pub redelivery_delay_max: Duration,
    /// Whether messages that a holder leaves unsettled when it closes count as failed deliveries
    /// (semantics F-9).
    pub count_unsettled_on_message_session_close: bool,
    /// Whether locks that would expire are renewed while the link that holds them is attached
    /// (semantics F-3).
    pub auto_renew_while_link_open: bool,
    /// A text of the user's, at most 1,024 characters.
    pub user_metadata: Option<Box<str>>,
    /// Kept for the administration plane; makes no difference (batches always work).
    pub enable_batched_operations: bool,
    /// Kept for the administration plane; makes no difference (nothing is held in memory only).
    pub enable_express: bool,
    /// Kept for the administration plane; makes no difference. `None`: as the entity is
    /// partitioned or not.
    pub support_ordering: Option<bool>,
    /// Keys that open this entity alone (semantics G-6), at most 12, in the order given.
    pub authorization_rules: Vec<AuthorizationRule>,
    /// Whether it was created at run time, and no configuration file has named it since. Set by
    /// the core.
    pub made_at_run_time: bool,
    /// When it was created. Whoever defines an entity leaves it to the core, which sets it.
    pub created_at: Timestamp,
    /// When its definition was last changed; set by the core too.
    pub updated_at: Timestamp,
}

/// A shared access key that belongs to one entity (admin.md 1.10). Its debug output leaves the
/// keys out.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// `SharedAccessKeyName`; 1 to 256 characters.
    pub key_name: Box<str>,
    /// A key that is valid for it, verbatim.
    pub primary_key: Box<str>,
    /// Another key that is valid for it; may be the same.
    pub secondary_key: Box<str>,
    /// What it allows, in the order given.
    pub rights: Vec<Right>,
    /// When it was first given, if who gave it said so.
    pub created_at: Option<Timestamp>,
    /// When it was last changed, likewise.
    pub modified_at: Option<Timestamp>,
}

impl fmt::Debug for AuthorizationRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationRule")
            .field("key_name", &self.key_name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// What may be done with an entity (semantics B-97). Stored messages are kept in any case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum EntityStatus {
    /// Everything.
    #[default]
    Active = 0,
    /// Neither sending nor receiving.
    Disabled = 1,
    /// No sending.
    SendDisabled = 2,
    /// No receiving.
    ReceiveDisabled = 3,
}

impl EntityStatus {
    /// Whether messages may be sent to the entity.
    #[must_use]
    pub const fn allows_send(self) -> bool {
        matches!(self, Self::Active | Self::ReceiveDisabled)
    }

    /// Whether messages may be received from the entity.
    #[must_use]
    pub const fn allows_receive(self) -> bool {
        matches!(self, Self::Active | Self::SendDisabled)
    }
}

/// What a message of a message session takes with it when it expires (semantics ).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum MessageSessionExpiration {
    /// Every message of its message session that is not out on delivery, as the documents of
    /// Service Bus say.
    #[default]
    MessageSession = 0,
    /// Nothing.
    Message = 1,
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
            status: EntityStatus::Active,
            max_size_bytes: limits::ENTITY_SIZE_BYTES_DEFAULT,
            default_message_time_to_live: None,
            dead_lettering_on_message_expiration: false,
            message_session_expiration: MessageSessionExpiration::MessageSession,
            requires_duplicate_detection: false,
            duplicate_detection_history_time_window: limits::DUPLICATE_DETECTION_WINDOW_DEFAULT,
            auto_delete_on_idle: None,
            enable_partitioning: false,
            message_session_state_time_to_live: None,
            redelivery_delay: Duration::ZERO,
            redelivery_delay_max: Duration::ZERO,
            count_unsettled_on_message_session_close: false,
            auto_renew_while_link_open: false,
            user_metadata: None,
            enable_batched_operations: true,
            enable_express: false,
            support_ordering: None,
            authorization_rules: Vec::new(),
            made_at_run_time: false,
            created_at: Timestamp::from_unix_millis(0),
            updated_at: Timestamp::from_unix_millis(0),
        }
    }

    /// The properties that differ from another description's, in the spelling of `lockstep.toml`
    /// where that has them; what the core sets aside.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let session_ttl = self.message_session_state_time_to_live != other.message_session_state_time_to_live;
        let window = self.duplicate_detection_history_time_window;
        let properties = [
            ("requires_session", self.requires_session != other.requires_session),
            ("lock_duration_s", self.lock_duration != other.lock_duration),
            ("max_delivery_count", self.max_delivery_count != other.max_delivery_count),
            ("max_message_size_bytes", self.max_message_size_bytes != other.max_message_size_bytes),
            ("max_size_bytes", self.max_size_bytes != other.max_size_bytes),
            ("status", self.status != other.status),
            (
                "default_message_time_to_live_s",
                self.default_message_time_to_live != other.default_message_time_to_live,
            ),
            (
                "dead_lettering_on_message_expiration",
                self.dead_lettering_on_message_expiration != other.dead_lettering_on_message_expiration,
            ),
            ("session_expiration_scope", self.message_session_expiration != other.message_session_expiration),
            (
                "requires_duplicate_detection",
                self.requires_duplicate_detection != other.requires_duplicate_detection,
            ),
            (
                "duplicate_detection_history_time_window_s",
                window != other.duplicate_detection_history_time_window,
            ),
            ("auto_delete_on_idle_s", self.auto_delete_on_idle != other.auto_delete_on_idle),
            ("enable_partitioning", self.enable_partitioning != other.enable_partitioning),
            ("session_state_time_to_live_s", session_ttl),
            (
                "count_unsettled_on_message_session_close",
                self.count_unsettled_on_message_session_close
                    != other.count_unsettled_on_message_session_close,
            ),
            (
                "auto_renew_while_link_open",
                self.auto_renew_while_link_open != other.auto_renew_while_link_open,
            ),
            ("redelivery_delay_s", self.redelivery_delay != other.redelivery_delay),
            ("redelivery_delay_max_s", self.redelivery_delay_max != other.redelivery_delay_max),
            ("user_metadata", self.user_metadata != other.user_metadata),
            ("EnableBatchedOperations", self.enable_batched_operations != other.enable_batched_operations),
            ("EnableExpress", self.enable_express != other.enable_express),
            ("SupportOrdering", self.support_ordering != other.support_ordering),
            ("AuthorizationRules", self.authorization_rules != other.authorization_rules),
        ];
        properties.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
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
        self.validate_times()?;
        if self.authorization_rules.len() > limits::AUTHORIZATION_RULES_MAX {
            return invalid(
                "AuthorizationRules",
                format!(
                    "may be {} at most, not {}",
                    limits::AUTHORIZATION_RULES_MAX,
                    self.authorization_rules.len()
                ),
            );
        }
        if self.max_size_bytes < limits::ENTITY_SIZE_BYTES_MIN {
            return invalid(
                "max_size_bytes",
                format!("must be at least {}, not {}", limits::ENTITY_SIZE_BYTES_MIN, self.max_size_bytes),
            );
        }
        let metadata_chars = self.user_metadata.as_ref().map_or(0, |text| text.chars().count());
        if metadata_chars > limits::USER_METADATA_CHARS_MAX {
            return invalid(
                "user_metadata",
                format!(
                    "must have at most {} characters, not {metadata_chars}",
                    limits::USER_METADATA_CHARS_MAX
                ),
            );
        }
        Ok(())
    }

    fn validate_times(&self) -> Result<(), InvalidDescription> {
        let at_least = |property, value: Option<Duration>, min: Duration| match value {
            Some(value) if value < min => Err(InvalidDescription {
                property,
                problem: format!(
                    "must be at least {} seconds, not {}",
                    min.as_secs_f64(),
                    value.as_secs_f64()
                ),
            }),
            _ => Ok(()),
        };
        let time_to_live = self.default_message_time_to_live;
        at_least("default_message_time_to_live_s", time_to_live, limits::TIME_TO_LIVE_MIN)?;
        at_least("auto_delete_on_idle_s", self.auto_delete_on_idle, limits::AUTO_DELETE_ON_IDLE_MIN)?;
        let state_time_to_live = self.message_session_state_time_to_live;
        at_least("session_state_time_to_live_s", state_time_to_live, limits::TIME_TO_LIVE_MIN)?;
        for (property, value) in [
            ("redelivery_delay_s", self.redelivery_delay),
            ("redelivery_delay_max_s", self.redelivery_delay_max),
        ] {
            if value > limits::REDELIVERY_DELAY_MAX {
                let problem = format!("must be at most 24 hours, not {} seconds", value.as_secs_f64());
                return Err(InvalidDescription { property, problem });
            }
        }
        let window = self.duplicate_detection_history_time_window;
        if window < limits::DUPLICATE_DETECTION_WINDOW_MIN || window > limits::DUPLICATE_DETECTION_WINDOW_MAX
        {
            return Err(InvalidDescription {
                property: "duplicate_detection_history_time_window_s",
                problem: format!(
                    "must be between 5 seconds and 7 days, not {} seconds",
                    window.as_secs_f64()
                ),
            });
        }
        Ok(())
    }
}
