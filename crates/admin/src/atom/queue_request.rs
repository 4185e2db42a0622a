//! `QueueDescription` on its way in: what a client sets, and what comes of it for a new queue or
//! one that is there (admin.md 1.3, 2).

use std::time::Duration;

use lockstep_model::{AuthorizationRule, EntityName, EntityStatus, InvalidDescription, QueueDescription};

use super::{
    authorization, duration,
    names::{ATOM, SERVICE_BUS},
    queue::{KILOBYTE, MEGABYTE, STATUSES, max_message_size_kilobytes, max_size_megabytes},
    xml::{self, Element},
};
use crate::AdminError;

/// `MaxSizeInMegabytes` of the Standard tier.
const SIZES_IN_MEGABYTES: [u64; 5] = [1024, 2048, 3072, 4096, 5120];
/// Partitions of a partitioned entity, each of that size; shown as the sum.
const PARTITIONS: u64 = 16;
/// `MaxMessageSizeInKilobytes` of the Standard tier.
const MESSAGE_SIZE_KILOBYTES: u64 = 256;
/// The shortest `DuplicateDetectionHistoryTimeWindow` that is taken here; a configuration file
/// may name a shorter one.
const HISTORY_TIME_WINDOW_MIN: Duration = Duration::from_secs(20);

/// The properties that a request sets; what it leaves out is `None`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueProperties {
    lock_duration: Option<Duration>,
    max_size_megabytes: Option<u64>,
    requires_duplicate_detection: Option<bool>,
    requires_session: Option<bool>,
    /// The inner `None` is for ever.
    default_message_time_to_live: Option<Option<Duration>>,
    dead_lettering_on_message_expiration: Option<bool>,
    history_time_window: Option<Duration>,
    max_delivery_count: Option<u32>,
    enable_batched_operations: Option<bool>,
    authorization_rules: Option<Vec<AuthorizationRule>>,
    status: Option<EntityStatus>,
    user_metadata: Option<Box<str>>,
    support_ordering: Option<bool>,
    auto_delete_on_idle: Option<Option<Duration>>,
    enable_partitioning: Option<bool>,
    enable_express: Option<bool>,
    max_message_size_kilobytes: Option<u64>,
}

impl QueueProperties {
    /// Reads the body of a creation or an update: an entry with a `QueueDescription` in it.
    /// Elements may come in any order; unknown ones and those that only answers have are ignored.
    ///
    /// # Errors
    /// The body cannot be read, is too large, or asks for what a later version brings.
    pub fn parse(body: &[u8]) -> Result<Self, AdminError> {
        if body.len() > crate::REQUEST_BODY_BYTES_MAX {
            return Err(AdminError::TooLarge);
        }
        let entry = xml::parse(body)
            .map_err(|problem| AdminError::Invalid(format!("The body of the request {problem}.")))?;
        let content = Some(&entry).filter(|entry| entry.is(ATOM, "entry"));
        let content = content.and_then(|entry| entry.child(ATOM, "content"));
        let description = content.and_then(|content| content.children.first());
        match description.and_then(|description| description.name_in(SERVICE_BUS)) {
            Some("QueueDescription") => {}
            Some("TopicDescription" | "SubscriptionDescription") => {
                return Err(AdminError::NotSupported("topics and subscriptions"));
            }
            Some("RuleDescription") => return Err(AdminError::NotSupported("rules of subscriptions")),
            _ => {
                let text = "The body of the request is no ATOM entry with a QueueDescription as its content.";
                return Err(AdminError::Invalid(text.to_owned()));
            }
        }
        let mut properties = Self::default();
        for element in description.map_or(&[][..], |description| &description.children) {
            if let Some(name) = element.name_in(SERVICE_BUS) {
                properties.set(name, element)?;
            }
        }
        Ok(properties)
    }

    fn set(&mut self, name: &str, element: &Element) -> Result<(), AdminError> {
        let text = element.text.trim();
        let duration = || duration::parse(text).ok_or_else(|| is_no(name, text, "duration"));
        let or_for_ever = || duration::parse_or_for_ever(text).ok_or_else(|| is_no(name, text, "duration"));
        match name {
            // What is written empty is as if it were left out.
            _ if text.is_empty() && element.children.is_empty() && name != "AuthorizationRules" => {}
            "LockDuration" => self.lock_duration = Some(duration()?),
            "MaxSizeInMegabytes" => self.max_size_megabytes = Some(number(name, text)?),
            "RequiresDuplicateDetection" => self.requires_duplicate_detection = Some(flag(name, text)?),
            "RequiresSession" => self.requires_session = Some(flag(name, text)?),
            "DefaultMessageTimeToLive" => self.default_message_time_to_live = Some(or_for_ever()?),
            "DeadLetteringOnMessageExpiration" => {
                self.dead_lettering_on_message_expiration = Some(flag(name, text)?);
            }
            "DuplicateDetectionHistoryTimeWindow" => self.history_time_window = Some(duration()?),
            "MaxDeliveryCount" => {
                // Out of bounds either way, and told so with them.
                let count = number(name, text)?;
                self.max_delivery_count = Some(u32::try_from(count).unwrap_or(u32::MAX));
            }
            "EnableBatchedOperations" => self.enable_batched_operations = Some(flag(name, text)?),
            "AuthorizationRules" => self.authorization_rules = Some(authorization::parse(element)?),
            "Status" => self.status = Some(status(text)?),
            "UserMetadata" => self.user_metadata = Some(element.text.as_str().into()),
            "SupportOrdering" => self.support_ordering = Some(flag(name, text)?),
            "AutoDeleteOnIdle" => self.auto_delete_on_idle = Some(or_for_ever()?),
            "EnablePartitioning" => self.enable_partitioning = Some(flag(name, text)?),
            "EnableExpress" => self.enable_express = Some(flag(name, text)?),
            "MaxMessageSizeInKilobytes" => self.max_message_size_kilobytes = Some(number(name, text)?),
            "ForwardTo" => return Err(AdminError::NotSupported("ForwardTo")),
            "ForwardDeadLetteredMessagesTo" => {
                return Err(AdminError::NotSupported("ForwardDeadLetteredMessagesTo"));
            }
            "IsAnonymousAccessible" if flag(name, text)? => {
                return Err(AdminError::NotSupported("IsAnonymousAccessible"));
            }
            _ => {}
        }
        Ok(())
    }

    /// A new queue with these properties; what is left out has the default of Service Bus.
    ///
    /// # Errors
    /// A value that Service Bus would not take.
    pub fn create(self, name: EntityName) -> Result<QueueDescription, AdminError> {
        let mut queue = QueueDescription::new(name);
        queue.requires_session = self.requires_session.unwrap_or(false);
        queue.requires_duplicate_detection = self.requires_duplicate_detection.unwrap_or(false);
        queue.enable_partitioning = self.enable_partitioning.unwrap_or(false);
        queue.max_size_bytes = self.max_size_bytes(queue.enable_partitioning, None)?;
        queue.max_message_size_bytes = self.max_message_size_bytes(None)?;
        self.check_window(None)?;
        self.fill(queue)
    }

    /// The queue as an update leaves it: what is left out falls back to its default, except for
    /// what cannot be changed and what only the configuration file knows.
    ///
    /// # Errors
    /// A value that Service Bus would not take, or another value for what cannot be changed.
    pub fn update(self, existing: &QueueDescription) -> Result<QueueDescription, AdminError> {
        self.check_immutable(existing)?;
        let defaults = QueueDescription::new(existing.name.clone());
        let queue = QueueDescription {
            max_size_bytes: self.max_size_bytes(existing.enable_partitioning, Some(existing))?,
            max_message_size_bytes: self.max_message_size_bytes(Some(existing))?,
            lock_duration: defaults.lock_duration,
            max_delivery_count: defaults.max_delivery_count,
            status: defaults.status,
            default_message_time_to_live: None,
            dead_lettering_on_message_expiration: false,
            duplicate_detection_history_time_window: defaults.duplicate_detection_history_time_window,
            auto_delete_on_idle: None,
            user_metadata: None,
            enable_batched_operations: true,
            enable_express: false,
            support_ordering: None,
            ..existing.clone()
        };
        self.check_window(Some(existing))?;
        self.fill(queue)
    }

    fn fill(self, mut queue: QueueDescription) -> Result<QueueDescription, AdminError> {
        queue.lock_duration = self.lock_duration.unwrap_or(queue.lock_duration);
        queue.max_delivery_count = self.max_delivery_count.unwrap_or(queue.max_delivery_count);
        queue.status = self.status.unwrap_or(queue.status);
        queue.default_message_time_to_live = self.default_message_time_to_live.flatten();
        queue.dead_lettering_on_message_expiration =
            self.dead_lettering_on_message_expiration.unwrap_or(false);
        if let Some(window) = self.history_time_window {
            queue.duplicate_detection_history_time_window = window;
        }
        queue.auto_delete_on_idle = self.auto_delete_on_idle.flatten();
        queue.user_metadata = self.user_metadata;
        queue.enable_batched_operations = self.enable_batched_operations.unwrap_or(true);
        queue.enable_express = self.enable_express.unwrap_or(false);
        // What is shown anyway is as if it were left out, so that reading and writing changes nothing.
        let shown_anyway = !queue.enable_partitioning;
        queue.support_ordering = self.support_ordering.filter(|wanted| *wanted != shown_anyway);
        queue.authorization_rules = self.authorization_rules.unwrap_or_default();
        if queue.enable_express && queue.requires_duplicate_detection {
            let text = "EnableExpress cannot be combined with RequiresDuplicateDetection.";
            return Err(AdminError::Invalid(text.to_owned()));
        }
        queue.validate().map_err(|invalid| out_of_bounds(&invalid))?;
        Ok(queue)
    }

    fn check_immutable(&self, existing: &QueueDescription) -> Result<(), AdminError> {
        let differs = |wanted: Option<bool>, is: bool| wanted.is_some_and(|wanted| wanted != is);
        let flags = [
            ("RequiresSession", self.requires_session, existing.requires_session),
            (
                "RequiresDuplicateDetection",
                self.requires_duplicate_detection,
                existing.requires_duplicate_detection,
            ),
        ];
        if let Some((name, ..)) = flags.into_iter().find(|(_, wanted, is)| differs(*wanted, *is)) {
            return Err(AdminError::Invalid(format!(
                "The value for the {name} property of an existing Queue cannot be changed."
            )));
        }
        if differs(self.enable_partitioning, existing.enable_partitioning) {
            let text = format!("Partitioning cannot be changed for Queue. {}", existing.name);
            return Err(AdminError::Invalid(text));
        }
        Ok(())
    }

    /// What a client read is taken back as it was; else a size of the Standard tier. That of a
    /// partitioned queue may be given for one partition or for all.
    fn max_size_bytes(
        &self,
        is_partitioned: bool,
        existing: Option<&QueueDescription>,
    ) -> Result<u64, AdminError> {
        let wanted = self.max_size_megabytes.unwrap_or(SIZES_IN_MEGABYTES[0]);
        if let Some(existing) = existing.filter(|existing| max_size_megabytes(existing) == wanted) {
            return Ok(existing.max_size_bytes);
        }
        if SIZES_IN_MEGABYTES.contains(&wanted) {
            return Ok(wanted * MEGABYTE * if is_partitioned { PARTITIONS } else { 1 });
        }
        let of_all = wanted.is_multiple_of(PARTITIONS) && SIZES_IN_MEGABYTES.contains(&(wanted / PARTITIONS));
        if is_partitioned && of_all {
            return Ok(wanted * MEGABYTE);
        }
        Err(AdminError::Invalid(format!(
            "The value '{wanted}' of MaxSizeInMegabytes is not one of 1024, 2048, 3072, 4096 and 5120."
        )))
    }

    /// The Standard tier has one size. A larger one comes from the configuration file only, and
    /// stays when it is left out or sent back.
    fn max_message_size_bytes(&self, existing: Option<&QueueDescription>) -> Result<u64, AdminError> {
        match (self.max_message_size_kilobytes, existing) {
            (None, Some(existing)) => Ok(existing.max_message_size_bytes),
            (Some(wanted), Some(existing)) if wanted == max_message_size_kilobytes(existing) => {
                Ok(existing.max_message_size_bytes)
            }
            (None | Some(MESSAGE_SIZE_KILOBYTES), _) => Ok(MESSAGE_SIZE_KILOBYTES * KILOBYTE),
            (Some(wanted), _) => Err(AdminError::Invalid(format!(
                "The value for 'MaxMessageSizeInKilobytes' must be between 1024 and 102400 in the Premium tier, \
                 and 256 in the Standard tier, which this is; it is '{wanted}'."
            ))),
        }
    }

    fn check_window(&self, existing: Option<&QueueDescription>) -> Result<(), AdminError> {
        let before = existing.map(|existing| existing.duplicate_detection_history_time_window);
        match self.history_time_window {
            Some(window) if window < HISTORY_TIME_WINDOW_MIN && before != Some(window) => {
                Err(AdminError::Invalid(format!(
                    "The value '{}' of DuplicateDetectionHistoryTimeWindow is out of range: it must be between \
                     20 seconds and 7 days.",
                    duration::text(window)
                )))
            }
            _ => Ok(()),
        }
    }
}

fn is_no(name: &str, text: &str, what: &str) -> AdminError {
    let shown: String = text.chars().take(authorization::SHOWN_CHARS_MAX).collect();
    AdminError::Invalid(format!("The value '{shown}' of {name} is no {what}."))
}

fn number(name: &str, text: &str) -> Result<u64, AdminError> {
    text.parse().map_err(|_| is_no(name, text, "number from 0 on"))
}

fn flag(name: &str, text: &str) -> Result<bool, AdminError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(is_no(name, text, "'true' or 'false'")),
    }
}

fn status(text: &str) -> Result<EntityStatus, AdminError> {
    let known = STATUSES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
    known.map(|(status, _)| *status).ok_or_else(|| is_no("Status", text, "status that a client may set"))
}

/// The text about a property that is out of its bounds, by the name that clients know it by.
fn out_of_bounds(invalid: &InvalidDescription) -> AdminError {
    let name = match invalid.property {
        "lock_duration_s" => "LockDuration",
        "max_delivery_count" => "MaxDeliveryCount",
        "default_message_time_to_live_s" => "DefaultMessageTimeToLive",
        "auto_delete_on_idle_s" => "AutoDeleteOnIdle",
        "duplicate_detection_history_time_window_s" => "DuplicateDetectionHistoryTimeWindow",
        "user_metadata" => "UserMetadata",
        other => other,
    };
    AdminError::Invalid(format!("The value of {name} is out of range: it {}.", invalid.problem))
}

#[cfg(test)]
mod tests;
