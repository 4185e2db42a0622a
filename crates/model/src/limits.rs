//! Limits of the domain, each with its unit and where it comes from.

use std::time::Duration;

/// Characters of a message-session id, message-id or partition key (semantics A-7, B-7).
pub const MESSAGE_SESSION_ID_CHARS_MAX: usize = 128;
/// Characters of a message-id of type string (semantics B-7).
pub const MESSAGE_ID_CHARS_MAX: usize = 128;
/// Bytes of one application property, name and value as encoded (semantics B-7).
pub const MESSAGE_PROPERTY_SIZE_BYTES_MAX: usize = 32 * 1024;
/// Bytes of the sections `message-annotations`, `properties` and `application-properties` of a
/// message that is sent, together (semantics B-7).
pub const MESSAGE_PROPERTIES_SIZE_BYTES_MAX: usize = 64 * 1024;
/// Characters of an entity name (semantics B-99).
pub const ENTITY_NAME_CHARS_MAX: usize = 260;
/// Default of an entity's `max_message_size_bytes` (Azure Standard: 256 KiB; semantics B-6).
pub const MESSAGE_SIZE_BYTES_DEFAULT: u64 = 256 * 1024;
/// Largest `max_message_size_bytes` that can be configured (semantics B-6).
pub const MESSAGE_SIZE_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// Bytes of one stored row of a message; a message has as many full rows as go into it, and one
/// that is not full. Also the most that one step of a large message hands on.
pub const BODY_PART_SIZE_BYTES: usize = 1024 * 1024;
/// Messages of more bytes than this, a generated message-id included, travel in parts of
/// [`BODY_PART_SIZE_BYTES`]: they are never in memory as a whole. Above the largest batch with its envelope, which stays in one piece.
pub const LARGE_MESSAGE_SIZE_BYTES: usize = BODY_PART_SIZE_BYTES + 64 * 1024;
/// Bytes that a generated message-id, and a section of its own for it, add to a message at most.
pub const GENERATED_MESSAGE_ID_SIZE_BYTES_MAX: usize = 64;
/// Bytes of the sections before the body of a message that travels in parts: four of them, each
/// four times of what Service Bus lets properties have (semantics B-7).
pub const LARGE_MESSAGE_HEAD_SIZE_BYTES_MAX: usize = 256 * 1024;
/// Messages in one batch (semantics B-6).
pub const BATCH_MESSAGES_MAX: usize = 4_500;
/// Bytes of one batch, also on large-message entities (semantics B-6).
pub const BATCH_SIZE_BYTES_MAX: u64 = 1024 * 1024;
/// Default lock duration (semantics D-1).
pub const LOCK_DURATION_DEFAULT: Duration = Duration::from_secs(60);
/// Shortest lock duration (semantics A-44).
pub const LOCK_DURATION_MIN: Duration = Duration::from_secs(5);
/// Longest lock duration (semantics A-44).
pub const LOCK_DURATION_MAX: Duration = Duration::from_secs(300);
/// Default `max_delivery_count` (semantics B-29).
pub const DELIVERY_COUNT_DEFAULT: u32 = 10;
/// How long an accept of the next message session waits when the client names no time
/// (semantics A-33).
pub const ACCEPT_WAIT_DEFAULT: Duration = Duration::from_secs(65);
/// The longest wait that a client may ask for (wire.md 6.3: honour 70 s, cap only at 10 min or
/// more).
pub const ACCEPT_WAIT_MAX: Duration = Duration::from_secs(600);
/// Messages that one peek may return, whatever it asked for.
pub const PEEK_MESSAGES_MAX: u32 = 1_000;
/// Bytes that one peek may return; the first message is returned even when it is larger.
pub const PEEK_SIZE_BYTES_MAX: u64 = 1024 * 1024;
/// Message-session ids that one listing may return, whatever it asked for.
pub const MESSAGE_SESSIONS_LISTED_MAX: u32 = 1_000;
/// Lock tokens that one management request may carry.
pub const LOCK_TOKENS_PER_REQUEST_MAX: usize = 10_000;
/// Bytes of names and values of the application properties that settlements may have laid over
/// one message, all together (semantics B-7).
pub const OVERLAY_SIZE_BYTES_MAX: usize = 64 * 1024;
/// Default of an entity's `max_size_bytes` (Azure: 1 GB; semantics B-8).
pub const ENTITY_SIZE_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;
/// Smallest `max_size_bytes`.
pub const ENTITY_SIZE_BYTES_MIN: u64 = 1024 * 1024;
/// Message-ids that one entity remembers at the most, about 48 bytes each; while it remembers as many
/// it takes no messages. Ten minutes of 50,000 a second.
pub const MESSAGE_IDS_REMEMBERED_MAX: usize = 32 * 1024 * 1024;
/// The longest that an abandoned message may be made to wait for its next delivery.
pub const REDELIVERY_DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shortest time to live that an entity may set.
pub const TIME_TO_LIVE_MIN: Duration = Duration::from_secs(1);
/// Shortest time after which an unused entity may be deleted (semantics B-98).
pub const AUTO_DELETE_ON_IDLE_MIN: Duration = Duration::from_secs(300);
/// For how long message-ids are remembered by default (semantics B-62).
pub const DUPLICATE_DETECTION_WINDOW_DEFAULT: Duration = Duration::from_secs(600);
/// The shortest memory of message-ids: what the emulator allows; Azure asks for 20 s (semantics
/// B-62).
pub const DUPLICATE_DETECTION_WINDOW_MIN: Duration = Duration::from_secs(5);
/// The longest memory of message-ids (semantics B-62).
pub const DUPLICATE_DETECTION_WINDOW_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Characters of an entity's user metadata.
pub const USER_METADATA_CHARS_MAX: usize = 1_024;
/// Sequence numbers that one management request may carry.
pub const SEQUENCE_NUMBERS_PER_REQUEST_MAX: usize = 10_000;
/// Messages that one batch deletion may remove (semantics B-55).
pub const BATCH_DELETE_MESSAGES_MAX: u32 = 4_000;
/// Bytes of deferred messages that one request may ask for, if it asks for several.
pub const DEFERRED_RECEIVE_SIZE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Authorisation rules of one entity (admin.md 1.10).
pub const AUTHORIZATION_RULES_MAX: usize = 12;
/// Entities of one namespace beyond which none is created at run time (Azure: 10,000; admin.md 7).
pub const ENTITIES_COUNT_MAX: usize = 10_000;
/// Entities that one listing may return, whatever it asked for.
pub const ENTITIES_LISTED_MAX: u32 = 100;
