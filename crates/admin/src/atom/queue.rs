//! `QueueDescription` on its way out, in the element order of Service Bus (admin.md 1.5).

use std::time::Duration;

use lockstep_model::{EntityStatus, QueueDescription, Timestamp};

use super::{
    authorization, date, duration,
    names::{COUNTS, SCHEMA_INSTANCE, SERVICE_BUS},
    write::Writer,
};

/// Bytes of a megabyte and of a kilobyte, as Service Bus counts.
pub(super) const MEGABYTE: u64 = 1024 * 1024;
pub(super) const KILOBYTE: u64 = 1024;

/// A queue as the broker knows it at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueSnapshot {
    /// Its properties.
    pub description: QueueDescription,
    /// What it holds.
    pub counts: RuntimeCounts,
}

/// What a queue holds (admin.md 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RuntimeCounts {
    /// Messages, locked and deferred ones included.
    pub active: u64,
    /// Messages in the dead-letter queue.
    pub dead_letter: u64,
    /// Messages that wait for their time.
    pub scheduled: u64,
    /// Messages that wait to be forwarded. None before there is forwarding.
    pub transfer: u64,
    /// Messages that could not be forwarded.
    pub transfer_dead_letter: u64,
    /// Bytes of all of them.
    pub size_bytes: u64,
    /// When messages were last sent, received or looked at; none if never.
    pub accessed_at: Option<Timestamp>,
}

/// How much of a queue is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// The answer to a creation or an update: no counts.
    Definition,
    /// Everything.
    Full,
}

pub(super) fn write(to: &mut Writer, snapshot: &QueueSnapshot, extent: Extent) {
    let QueueSnapshot { description: queue, counts } = snapshot;
    to.raw("<QueueDescription");
    to.attribute("xmlns", SERVICE_BUS);
    to.attribute("xmlns:i", SCHEMA_INSTANCE);
    to.raw(">");
    to.element("LockDuration", duration::text(queue.lock_duration));
    to.element("MaxSizeInMegabytes", max_size_megabytes(queue));
    to.element("RequiresDuplicateDetection", queue.requires_duplicate_detection);
    to.element("RequiresSession", queue.requires_session);
    for_ever(to, "DefaultMessageTimeToLive", queue.default_message_time_to_live);
    to.element("DeadLetteringOnMessageExpiration", queue.dead_lettering_on_message_expiration);
    let window = queue.duplicate_detection_history_time_window;
    to.element("DuplicateDetectionHistoryTimeWindow", duration::text(window));
    to.element("MaxDeliveryCount", queue.max_delivery_count);
    to.element("EnableBatchedOperations", queue.enable_batched_operations);
    to.element("SizeInBytes", counts.size_bytes);
    let total =
        counts.active + counts.dead_letter + counts.scheduled + counts.transfer + counts.transfer_dead_letter;
    to.element("MessageCount", total);
    to.element("IsAnonymousAccessible", false);
    authorization::write(to, &queue.authorization_rules);
    to.element("Status", status(queue.status));
    to.element("CreatedAt", date::to_ticks(queue.created_at));
    to.element("UpdatedAt", date::to_ticks(queue.updated_at));
    if extent == Extent::Full {
        to.element("AccessedAt", counts.accessed_at.map_or_else(|| date::NEVER.to_owned(), date::to_ticks));
    }
    if let Some(metadata) = &queue.user_metadata {
        to.element("UserMetadata", metadata);
    }
    to.element("SupportOrdering", queue.support_ordering.unwrap_or(!queue.enable_partitioning));
    if extent == Extent::Full {
        write_counts(to, counts);
    }
    for_ever(to, "AutoDeleteOnIdle", queue.auto_delete_on_idle);
    to.element("EnablePartitioning", queue.enable_partitioning);
    to.element("EntityAvailabilityStatus", "Available");
    to.element("EnableExpress", queue.enable_express);
    to.element("MaxMessageSizeInKilobytes", max_message_size_kilobytes(queue));
    to.raw("</QueueDescription>");
}

fn for_ever(to: &mut Writer, name: &str, value: Option<Duration>) {
    to.element(name, duration::text_or_for_ever(value));
}

/// Its one attribute tells JavaScript the prefix of its children (admin.md 0.5).
fn write_counts(to: &mut Writer, counts: &RuntimeCounts) {
    to.raw("<CountDetails");
    to.attribute("xmlns:d2p1", COUNTS);
    to.raw(">");
    to.element("d2p1:ActiveMessageCount", counts.active);
    to.element("d2p1:DeadLetterMessageCount", counts.dead_letter);
    to.element("d2p1:ScheduledMessageCount", counts.scheduled);
    to.element("d2p1:TransferMessageCount", counts.transfer);
    to.element("d2p1:TransferDeadLetterMessageCount", counts.transfer_dead_letter);
    to.raw("</CountDetails>");
}

/// The size that is shown: whole megabytes, none too few.
pub(super) fn max_size_megabytes(queue: &QueueDescription) -> u64 {
    queue.max_size_bytes.div_ceil(MEGABYTE)
}

/// The same for the largest message.
pub(super) fn max_message_size_kilobytes(queue: &QueueDescription) -> u64 {
    queue.max_message_size_bytes.div_ceil(KILOBYTE)
}

/// Statuses that a client may set, by their names.
pub(super) const STATUSES: [(EntityStatus, &str); 4] = [
    (EntityStatus::Active, "Active"),
    (EntityStatus::Disabled, "Disabled"),
    (EntityStatus::SendDisabled, "SendDisabled"),
    (EntityStatus::ReceiveDisabled, "ReceiveDisabled"),
];

fn status(status: EntityStatus) -> &'static str {
    STATUSES.iter().find(|(known, _)| *known == status).map_or("Unknown", |(_, name)| name)
}
