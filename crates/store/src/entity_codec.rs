//! The byte form of entity definitions. Version 2 is a list of fields, each a number, a length and
//! its bytes, so that properties can be added without a new version; version 1 is read.

use std::time::Duration;

use lockstep_model::{
    AuthorizationRule, EntityDescription, EntityName, EntityStatus, MessageSessionExpiration,
    QueueDescription, Right, Timestamp,
};

use crate::codec::{Problem, Reader, put_sized, text};

/// Fixed positions; without what came later.
const VERSION_FIXED: u8 = 1;
/// A list of fields.
const VERSION_FIELDS: u8 = 2;
const KIND_QUEUE: u8 = 1;
/// The flags of version 1.
const REQUIRES_SESSION: u8 = 0b1;
const AUTO_RENEW_WHILE_LINK_OPEN: u8 = 0b10;

/// Numbers of fields: given once, never given again.
mod field {
    pub(super) const NAME: u8 = 1;
    pub(super) const REQUIRES_SESSION: u8 = 2;
    pub(super) const LOCK_DURATION: u8 = 3;
    pub(super) const MAX_DELIVERY_COUNT: u8 = 4;
    pub(super) const MAX_MESSAGE_SIZE_BYTES: u8 = 5;
    pub(super) const STATUS: u8 = 6;
    pub(super) const MAX_SIZE_BYTES: u8 = 7;
    pub(super) const DEFAULT_MESSAGE_TIME_TO_LIVE: u8 = 8;
    pub(super) const DEAD_LETTERING_ON_MESSAGE_EXPIRATION: u8 = 9;
    pub(super) const MESSAGE_SESSION_EXPIRATION: u8 = 10;
    pub(super) const REQUIRES_DUPLICATE_DETECTION: u8 = 11;
    pub(super) const DUPLICATE_DETECTION_WINDOW: u8 = 12;
    pub(super) const AUTO_DELETE_ON_IDLE: u8 = 13;
    pub(super) const ENABLE_PARTITIONING: u8 = 14;
    pub(super) const MESSAGE_SESSION_STATE_TIME_TO_LIVE: u8 = 15;
    pub(super) const COUNT_UNSETTLED_ON_SESSION_CLOSE: u8 = 16;
    pub(super) const AUTO_RENEW_WHILE_LINK_OPEN: u8 = 17;
    pub(super) const USER_METADATA: u8 = 18;
    pub(super) const REDELIVERY_DELAY: u8 = 19;
    pub(super) const REDELIVERY_DELAY_MAX: u8 = 20;
    pub(super) const BATCHED_OPERATIONS_ARE_OFF: u8 = 21;
    pub(super) const ENABLE_EXPRESS: u8 = 22;
    pub(super) const SUPPORT_ORDERING: u8 = 23;
    /// One authorisation rule; as often as there are rules, in their order.
    pub(super) const AUTHORIZATION_RULE: u8 = 24;
    pub(super) const CREATED_AT: u8 = 25;
    pub(super) const UPDATED_AT: u8 = 26;
    pub(super) const MADE_AT_RUN_TIME: u8 = 27;
}

pub(crate) fn encode_entity(to: &mut Vec<u8>, description: &EntityDescription) {
    let EntityDescription::Queue(queue) = description;
    to.push(VERSION_FIELDS);
    to.push(KIND_QUEUE);
    let mut put = |field: u8, value: &[u8]| {
        to.push(field);
        put_sized(to, value);
    };
    put(field::NAME, queue.name.as_str().as_bytes());
    put(field::LOCK_DURATION, &duration_bytes(queue.lock_duration));
    put(field::MAX_DELIVERY_COUNT, &queue.max_delivery_count.to_be_bytes());
    put(field::MAX_MESSAGE_SIZE_BYTES, &queue.max_message_size_bytes.to_be_bytes());
    put(field::STATUS, &[queue.status as u8]);
    put(field::MAX_SIZE_BYTES, &queue.max_size_bytes.to_be_bytes());
    put(field::MESSAGE_SESSION_EXPIRATION, &[queue.message_session_expiration as u8]);
    put(field::DUPLICATE_DETECTION_WINDOW, &duration_bytes(queue.duplicate_detection_history_time_window));
    put(field::REDELIVERY_DELAY, &duration_bytes(queue.redelivery_delay));
    put(field::REDELIVERY_DELAY_MAX, &duration_bytes(queue.redelivery_delay_max));
    for (field, value) in [
        (field::REQUIRES_SESSION, queue.requires_session),
        (field::DEAD_LETTERING_ON_MESSAGE_EXPIRATION, queue.dead_lettering_on_message_expiration),
        (field::REQUIRES_DUPLICATE_DETECTION, queue.requires_duplicate_detection),
        (field::ENABLE_PARTITIONING, queue.enable_partitioning),
        (field::COUNT_UNSETTLED_ON_SESSION_CLOSE, queue.count_unsettled_on_message_session_close),
        (field::AUTO_RENEW_WHILE_LINK_OPEN, queue.auto_renew_while_link_open),
        (field::BATCHED_OPERATIONS_ARE_OFF, !queue.enable_batched_operations),
        (field::ENABLE_EXPRESS, queue.enable_express),
        (field::MADE_AT_RUN_TIME, queue.made_at_run_time),
    ] {
        put(field, &[u8::from(value)]);
    }
    put(field::CREATED_AT, &queue.created_at.unix_millis().to_be_bytes());
    put(field::UPDATED_AT, &queue.updated_at.unix_millis().to_be_bytes());
    if let Some(value) = queue.support_ordering {
        put(field::SUPPORT_ORDERING, &[u8::from(value)]);
    }
    for rule in &queue.authorization_rules {
        put(field::AUTHORIZATION_RULE, &rule_bytes(rule));
    }
    for (field, value) in [
        (field::DEFAULT_MESSAGE_TIME_TO_LIVE, queue.default_message_time_to_live),
        (field::AUTO_DELETE_ON_IDLE, queue.auto_delete_on_idle),
        (field::MESSAGE_SESSION_STATE_TIME_TO_LIVE, queue.message_session_state_time_to_live),
    ] {
        if let Some(value) = value {
            put(field, &duration_bytes(value));
        }
    }
    if let Some(value) = &queue.user_metadata {
        put(field::USER_METADATA, value.as_bytes());
    }
}

pub(crate) fn decode_entity(value: &[u8]) -> Result<EntityDescription, Problem> {
    let (version, mut from) = Reader::of_versions(value, VERSION_FIXED..=VERSION_FIELDS)?;
    if from.u8()? != KIND_QUEUE {
        return Err("the kind of entity is unknown");
    }
    let queue = if version == VERSION_FIXED { fixed(from)? } else { fields(from)? };
    Ok(EntityDescription::Queue(queue))
}

fn fixed(mut from: Reader<'_>) -> Result<QueueDescription, Problem> {
    let flags = from.flags(REQUIRES_SESSION | AUTO_RENEW_WHILE_LINK_OPEN)?;
    let lock_duration = duration(&mut from)?;
    let (max_delivery_count, max_message_size_bytes) = (from.u32()?, from.u64()?);
    let mut queue = QueueDescription::new(name(from.remaining_text()?)?);
    queue.requires_session = flags & REQUIRES_SESSION != 0;
    queue.auto_renew_while_link_open = flags & AUTO_RENEW_WHILE_LINK_OPEN != 0;
    queue.lock_duration = lock_duration;
    queue.max_delivery_count = max_delivery_count;
    queue.max_message_size_bytes = max_message_size_bytes;
    Ok(queue)
}

fn fields(mut from: Reader<'_>) -> Result<QueueDescription, Problem> {
    if from.u8()? != field::NAME {
        return Err("the definition does not begin with its name");
    }
    let mut queue = QueueDescription::new(name(text(from.sized()?)?)?);
    while !from.is_empty() {
        let field = from.u8()?;
        let bytes = from.sized()?;
        let mut value = Reader::new(bytes);
        match field {
            field::LOCK_DURATION => queue.lock_duration = duration(&mut value)?,
            field::MAX_DELIVERY_COUNT => queue.max_delivery_count = value.u32()?,
            field::MAX_MESSAGE_SIZE_BYTES => queue.max_message_size_bytes = value.u64()?,
            field::STATUS => queue.status = status(value.u8()?)?,
            field::MAX_SIZE_BYTES => queue.max_size_bytes = value.u64()?,
            field::DEFAULT_MESSAGE_TIME_TO_LIVE => {
                queue.default_message_time_to_live = Some(duration(&mut value)?);
            }
            field::MESSAGE_SESSION_EXPIRATION => {
                queue.message_session_expiration = match value.u8()? {
                    0 => MessageSessionExpiration::MessageSession,
                    1 => MessageSessionExpiration::Message,
                    _ => return Err("the scope of expiration is unknown"),
                };
            }
            field::DUPLICATE_DETECTION_WINDOW => {
                queue.duplicate_detection_history_time_window = duration(&mut value)?;
            }
            field::AUTO_DELETE_ON_IDLE => queue.auto_delete_on_idle = Some(duration(&mut value)?),
            field::MESSAGE_SESSION_STATE_TIME_TO_LIVE => {
                queue.message_session_state_time_to_live = Some(duration(&mut value)?);
            }
            field::REDELIVERY_DELAY => queue.redelivery_delay = duration(&mut value)?,
            field::REDELIVERY_DELAY_MAX => queue.redelivery_delay_max = duration(&mut value)?,
            field::USER_METADATA => {
                queue.user_metadata = Some(text(bytes)?.into());
                continue;
            }
            field::BATCHED_OPERATIONS_ARE_OFF => queue.enable_batched_operations = value.flags(1)? == 0,
            field::SUPPORT_ORDERING => queue.support_ordering = Some(value.flags(1)? == 1),
            field::AUTHORIZATION_RULE => queue.authorization_rules.push(rule(&mut value)?),
            field::CREATED_AT => queue.created_at = timestamp(&mut value)?,
            field::UPDATED_AT => queue.updated_at = timestamp(&mut value)?,
            _ => {
                let flag = flag(&mut queue, field)?;
                *flag = value.flags(1)? == 1;
            }
        }
        value.end()?;
    }
    Ok(queue)
}

/// A property that is a yes or a no.
fn flag(queue: &mut QueueDescription, field: u8) -> Result<&mut bool, Problem> {
    Ok(match field {
        field::REQUIRES_SESSION => &mut queue.requires_session,
        field::DEAD_LETTERING_ON_MESSAGE_EXPIRATION => &mut queue.dead_lettering_on_message_expiration,
        field::REQUIRES_DUPLICATE_DETECTION => &mut queue.requires_duplicate_detection,
        field::ENABLE_PARTITIONING => &mut queue.enable_partitioning,
        field::ENABLE_EXPRESS => &mut queue.enable_express,
        field::MADE_AT_RUN_TIME => &mut queue.made_at_run_time,
        field::COUNT_UNSETTLED_ON_SESSION_CLOSE => &mut queue.count_unsettled_on_message_session_close,
        field::AUTO_RENEW_WHILE_LINK_OPEN => &mut queue.auto_renew_while_link_open,
        _ => return Err("a property is unknown; a newer broker may have written it"),
    })
}

const fn status(value: u8) -> Result<EntityStatus, Problem> {
    Ok(match value {
        0 => EntityStatus::Active,
        1 => EntityStatus::Disabled,
        2 => EntityStatus::SendDisabled,
        3 => EntityStatus::ReceiveDisabled,
        _ => return Err("the status is unknown"),
    })
}

/// Written for the date of a rule that has none.
const NO_DATE_MILLIS: i64 = i64::MIN;

fn rule_bytes(rule: &AuthorizationRule) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in [&rule.key_name, &rule.primary_key, &rule.secondary_key] {
        put_sized(&mut bytes, text.as_bytes());
    }
    let rights: Vec<u8> = rule.rights.iter().map(|right| right_number(*right)).collect();
    put_sized(&mut bytes, &rights);
    for time in [rule.created_at, rule.modified_at] {
        let millis = time.map_or(NO_DATE_MILLIS, Timestamp::unix_millis);
        bytes.extend_from_slice(&millis.to_be_bytes());
    }
    bytes
}

fn rule(from: &mut Reader<'_>) -> Result<AuthorizationRule, Problem> {
    let mut next = || Ok::<Box<str>, Problem>(text(from.sized()?)?.into());
    let (key_name, primary_key, secondary_key) = (next()?, next()?, next()?);
    let right = |number: &u8| {
        let known = [Right::Send, Right::Listen, Right::Manage].into_iter();
        known.clone().find(|right| right_number(*right) == *number).ok_or("a right is unknown")
    };
    let rights = from.sized()?.iter().map(right).collect::<Result<_, Problem>>()?;
    let date = |time: Timestamp| Some(time).filter(|time| time.unix_millis() != NO_DATE_MILLIS);
    let (created_at, modified_at) = (date(timestamp(from)?), date(timestamp(from)?));
    Ok(AuthorizationRule { key_name, primary_key, secondary_key, rights, created_at, modified_at })
}

const fn right_number(right: Right) -> u8 {
    match right {
        Right::Send => 1,
        Right::Listen => 2,
        Right::Manage => 3,
    }
}

fn timestamp(from: &mut Reader<'_>) -> Result<Timestamp, Problem> {
    Ok(Timestamp::from_unix_millis(from.u64()?.cast_signed()))
}

fn name(name: &str) -> Result<EntityName, Problem> {
    EntityName::new(name).map_err(|_| "the name is no entity name")
}

fn duration_bytes(duration: Duration) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&duration.as_secs().to_be_bytes());
    bytes[8..].copy_from_slice(&duration.subsec_nanos().to_be_bytes());
    bytes
}

fn duration(from: &mut Reader<'_>) -> Result<Duration, Problem> {
    let (seconds, nanos) = (from.u64()?, from.u32()?);
    if nanos >= 1_000_000_000 {
        return Err("a duration is none");
    }
    Ok(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(queue: &QueueDescription) -> Vec<u8> {
        let mut value = Vec::new();
        encode_entity(&mut value, &EntityDescription::Queue(queue.clone()));
        value
    }

    fn queue() -> QueueDescription {
        QueueDescription::new(EntityName::new("Orders/EU").expect("valid"))
    }

    /// A queue that differs from the defaults in everything.
    fn other() -> QueueDescription {
        QueueDescription {
            name: EntityName::new("Orders/EU").expect("valid"),
            requires_session: true,
            lock_duration: Duration::new(61, 500_000_000),
            max_delivery_count: 3,
            max_message_size_bytes: 1 << 20,
            status: EntityStatus::ReceiveDisabled,
            max_size_bytes: 1 << 40,
            default_message_time_to_live: Some(Duration::from_millis(1_500)),
            dead_lettering_on_message_expiration: true,
            message_session_expiration: MessageSessionExpiration::Message,
            requires_duplicate_detection: true,
            duplicate_detection_history_time_window: Duration::from_secs(20),
            auto_delete_on_idle: Some(Duration::from_secs(300)),
            enable_partitioning: true,
            message_session_state_time_to_live: Some(Duration::from_secs(9)),
            redelivery_delay: Duration::from_secs(4),
            redelivery_delay_max: Duration::from_millis(60_500),
            count_unsettled_on_message_session_close: true,
            auto_renew_while_link_open: true,
            user_metadata: Some("ü".into()),
            enable_batched_operations: false,
            enable_express: true,
            support_ordering: Some(false),
            authorization_rules: vec![
                AuthorizationRule {
                    key_name: "all".into(),
                    primary_key: "first".into(),
                    secondary_key: "second".into(),
                    rights: vec![Right::Manage, Right::Send, Right::Listen],
                    created_at: Some(Timestamp::from_unix_millis(1)),
                    modified_at: Some(Timestamp::from_unix_millis(2)),
                },
                AuthorizationRule {
                    key_name: "listen".into(),
                    primary_key: "third".into(),
                    secondary_key: "".into(),
                    rights: vec![Right::Listen],
                    created_at: None,
                    modified_at: Some(Timestamp::from_unix_millis(0)),
                },
            ],
            made_at_run_time: true,
            created_at: Timestamp::from_unix_millis(1_700_000_000_000),
            updated_at: Timestamp::from_unix_millis(1_700_000_000_001),
        }
    }

    #[test]
    fn definitions_come_back() {
        for queue in [queue(), other()] {
            let back = decode_entity(&encoded(&queue)).expect("decodes");
            let EntityDescription::Queue(name) = &back;
            // Names compare without case.
            assert_eq!(name.name.as_str(), "Orders/EU");
            assert_eq!(back, EntityDescription::Queue(queue));
        }
    }

    #[test]
    fn a_definition_of_version_1_is_read() {
        let value = [
            &[1, 1, 0b11][..],
            &61_u64.to_be_bytes(),
            &500_000_000_u32.to_be_bytes(),
            &7_u32.to_be_bytes(),
            &2_048_u64.to_be_bytes(),
            b"Orders/EU",
        ];
        let mut expected = queue();
        expected.requires_session = true;
        expected.auto_renew_while_link_open = true;
        expected.lock_duration = Duration::new(61, 500_000_000);
        expected.max_delivery_count = 7;
        expected.max_message_size_bytes = 2_048;
        assert_eq!(decode_entity(&value.concat()), Ok(EntityDescription::Queue(expected)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = encoded(&other());
        for end in 0..good.len() {
            // A definition may end behind any field; anywhere else it is damaged.
            if let Ok(EntityDescription::Queue(part)) = decode_entity(&good[..end]) {
                assert_ne!(part, other(), "{end} bytes");
            }
        }
        let with = |field: u8, value: &[u8]| {
            let mut bytes = good.clone();
            bytes.push(field);
            put_sized(&mut bytes, value);
            decode_entity(&bytes).expect_err("refused")
        };
        assert!(with(99, b"x").contains("newer"));
        assert!(with(field::STATUS, &[9]).contains("status"));
        let right_9 = [&[0; 12][..], &[0, 0, 0, 1, 9], &[0; 16]].concat();
        assert!(with(field::AUTHORIZATION_RULE, &right_9).contains("right"));
        assert!(with(field::MAX_DELIVERY_COUNT, &[1]).contains("too early"));
        assert!(with(field::MAX_DELIVERY_COUNT, &[1; 5]).contains("behind its end"));
        assert!(with(field::AUTO_DELETE_ON_IDLE, &[0xff; 12]).contains("duration"));
        assert!(with(field::USER_METADATA, &[0xff]).contains("UTF-8"));
    }
}
