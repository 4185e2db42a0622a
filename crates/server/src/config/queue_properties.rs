//! The properties of a queue in either file: read by kind, put into a description by name.

use std::time::Duration;

use lockstep_model::{EntityStatus, MessageSessionExpiration, QueueDescription};

use super::{
    emulator,
    keys::Format,
    section::{Located, Report, Section, suggestion},
    tree::Origin,
};

/// From this duration on a time to live is none: what .NET writes for `TimeSpan.MaxValue`, in any
/// of its spellings.
const FOR_EVER: Duration = Duration::from_secs(10_675_199 * 86_400);

/// A property that a file sets.
#[derive(Debug)]
pub(super) struct QueueProperty {
    /// In the spelling of `lockstep.toml`.
    pub(super) name: &'static str,
    /// As the file spells it, so that messages do, too.
    pub(super) spelling: &'static str,
    pub(super) origin: Origin,
    pub(super) value: PropertyValue,
}

/// Its value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum PropertyValue {
    Flag(bool),
    Count(u64),
    Time(Duration),
    Text(String),
}

/// Kinds of values.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Count,
    Time,
    Text,
}

/// Spelling in `lockstep.toml`, spelling in the emulator's file (empty if it has none), kind.
const PROPERTIES: &[(&str, &str, Kind)] = &[
    ("requires_session", "RequiresSession", Kind::Flag),
    ("lock_duration_s", "LockDuration", Kind::Time),
    ("max_delivery_count", "MaxDeliveryCount", Kind::Count),
    ("max_message_size_bytes", "", Kind::Count),
    ("max_size_bytes", "", Kind::Count),
    ("status", "", Kind::Text),
    ("default_message_time_to_live_s", "DefaultMessageTimeToLive", Kind::Time),
    ("dead_lettering_on_message_expiration", "DeadLetteringOnMessageExpiration", Kind::Flag),
    ("session_expiration_scope", "", Kind::Text),
    ("requires_duplicate_detection", "RequiresDuplicateDetection", Kind::Flag),
    ("duplicate_detection_history_time_window_s", "DuplicateDetectionHistoryTimeWindow", Kind::Time),
    ("auto_delete_on_idle_s", "", Kind::Time),
    ("enable_partitioning", "", Kind::Flag),
    ("session_state_time_to_live_s", "", Kind::Time),
    ("redelivery_delay_s", "", Kind::Time),
    ("redelivery_delay_max_s", "", Kind::Time),
    ("count_unsettled_on_message_session_close", "", Kind::Flag),
    ("auto_renew_while_link_open", "", Kind::Flag),
    ("user_metadata", "", Kind::Text),
];

/// Reads all properties that a table of either file sets.
pub(super) fn read(section: &Section<'_>, format: Format, report: &mut Report) -> Vec<QueueProperty> {
    let mut properties = Vec::new();
    for &(name, of_emulator, kind) in PROPERTIES {
        let spelling = match format {
            Format::Toml => name,
            Format::Emulator if of_emulator.is_empty() => continue,
            Format::Emulator => of_emulator,
        };
        let value = match kind {
            Kind::Flag => located(section.bool(spelling, report), PropertyValue::Flag),
            Kind::Count => located(section.count(spelling, report), PropertyValue::Count),
            Kind::Text => located(section.text(spelling, report), PropertyValue::Text),
            Kind::Time if format == Format::Emulator => {
                located(emulator::duration(section, spelling, report), PropertyValue::Time)
            }
            Kind::Time => located(section.seconds(spelling, report), PropertyValue::Time),
        };
        if let Some((value, origin)) = value {
            properties.push(QueueProperty { name, spelling, origin, value });
        }
    }
    properties
}

fn located<T>(
    value: Option<Located<T>>,
    wrap: impl FnOnce(T) -> PropertyValue,
) -> Option<(PropertyValue, Origin)> {
    value.map(|value| (wrap(value.value), value.origin))
}

/// Puts a property into a description.
///
/// # Errors
/// What is wrong with the value, to stand behind the property's name. Bounds are checked by
/// [`QueueDescription::validate`].
pub(super) fn apply(queue: &mut QueueDescription, property: &QueueProperty) -> Result<(), String> {
    match (&property.value, property.name) {
        (PropertyValue::Flag(value), name) => {
            *flag(queue, name)? = *value;
        }
        (PropertyValue::Count(value), "max_delivery_count") => {
            queue.max_delivery_count = u32::try_from(*value).unwrap_or(u32::MAX);
        }
        (PropertyValue::Count(value), "max_message_size_bytes") => queue.max_message_size_bytes = *value,
        (PropertyValue::Count(value), "max_size_bytes") => queue.max_size_bytes = *value,
        (PropertyValue::Time(value), "lock_duration_s") => queue.lock_duration = *value,
        (PropertyValue::Time(value), "duplicate_detection_history_time_window_s") => {
            queue.duplicate_detection_history_time_window = *value;
        }
        (PropertyValue::Time(value), "redelivery_delay_s") => queue.redelivery_delay = *value,
        (PropertyValue::Time(value), "redelivery_delay_max_s") => queue.redelivery_delay_max = *value,
        (PropertyValue::Time(value), name) => {
            *time_to_live(queue, name)? = Some(*value).filter(|value| *value < FOR_EVER);
        }
        (PropertyValue::Text(value), "status") => {
            queue.status = one_of(
                value,
                &[
                    ("Active", EntityStatus::Active),
                    ("Disabled", EntityStatus::Disabled),
                    ("SendDisabled", EntityStatus::SendDisabled),
                    ("ReceiveDisabled", EntityStatus::ReceiveDisabled),
                ],
            )?;
        }
        (PropertyValue::Text(value), "session_expiration_scope") => {
            queue.message_session_expiration = one_of(
                value,
                &[
                    ("session", MessageSessionExpiration::MessageSession),
                    ("message", MessageSessionExpiration::Message),
                ],
            )?;
        }
        (PropertyValue::Text(value), "user_metadata") => {
            queue.user_metadata = (!value.is_empty()).then(|| value.as_str().into());
        }
        (PropertyValue::Count(_) | PropertyValue::Text(_), name) => return Err(unknown(name)),
    }
    Ok(())
}

fn flag<'a>(queue: &'a mut QueueDescription, name: &str) -> Result<&'a mut bool, String> {
    Ok(match name {
        "requires_session" => &mut queue.requires_session,
        "dead_lettering_on_message_expiration" => &mut queue.dead_lettering_on_message_expiration,
        "requires_duplicate_detection" => &mut queue.requires_duplicate_detection,
        "enable_partitioning" => &mut queue.enable_partitioning,
        "count_unsettled_on_message_session_close" => &mut queue.count_unsettled_on_message_session_close,
        "auto_renew_while_link_open" => &mut queue.auto_renew_while_link_open,
        _ => return Err(unknown(name)),
    })
}

fn time_to_live<'a>(queue: &'a mut QueueDescription, name: &str) -> Result<&'a mut Option<Duration>, String> {
    Ok(match name {
        "default_message_time_to_live_s" => &mut queue.default_message_time_to_live,
        "auto_delete_on_idle_s" => &mut queue.auto_delete_on_idle,
        "session_state_time_to_live_s" => &mut queue.message_session_state_time_to_live,
        _ => return Err(unknown(name)),
    })
}

fn unknown(name: &str) -> String {
    format!("({name}) is no property of a queue")
}

fn one_of<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
        return Ok(*choice);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let hint = suggestion(value, names.iter().copied())
        .map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"));
    Err(format!("must be one of \"{}\", not \"{value}\"{hint}", names.join("\", \"")))
}

#[cfg(test)]
mod tests {
    use lockstep_model::EntityName;

    use super::*;
    use crate::config::keys;

    fn property(name: &'static str, value: PropertyValue) -> QueueProperty {
        QueueProperty { name, spelling: name, origin: Origin::option("--test"), value }
    }

    #[test]
    fn every_property_has_its_place_in_a_description_and_in_the_documents() {
        for &(name, of_emulator, kind) in PROPERTIES {
            let mut queue = QueueDescription::new(EntityName::new("q").unwrap());
            let before = queue.clone();
            let value = match kind {
                Kind::Flag => PropertyValue::Flag(true),
                Kind::Count => PropertyValue::Count(7),
                Kind::Time => PropertyValue::Time(Duration::from_secs(7)),
                Kind::Text if name == "status" => PropertyValue::Text("Disabled".into()),
                Kind::Text if name == "session_expiration_scope" => PropertyValue::Text("message".into()),
                Kind::Text => PropertyValue::Text("text".into()),
            };
            apply(&mut queue, &property(name, value)).unwrap();
            assert_ne!(queue, before, "{name}");
            assert!(keys::QUEUE.keys.iter().any(|key| key.name == name), "{name}");
            let known = keys::EMULATOR_QUEUE_PROPERTIES.keys.iter().any(|key| key.name == of_emulator);
            assert!(of_emulator.is_empty() || known, "{of_emulator}");
        }
    }

    #[test]
    fn a_time_that_is_for_ever_is_none() {
        let mut queue = QueueDescription::new(EntityName::new("q").unwrap());
        let for_ever = property("default_message_time_to_live_s", PropertyValue::Time(FOR_EVER));
        apply(&mut queue, &for_ever).unwrap();
        assert_eq!(queue.default_message_time_to_live, None);
    }

    #[test]
    fn a_wrong_choice_is_answered_with_the_right_ones() {
        let mut queue = QueueDescription::new(EntityName::new("q").unwrap());
        let wrong = property("status", PropertyValue::Text("SendDisable".into()));
        let problem = apply(&mut queue, &wrong).unwrap_err();
        assert!(
            problem.starts_with("must be one of \"Active\"") && problem.contains("SendDisabled"),
            "{problem}"
        );
    }
}
