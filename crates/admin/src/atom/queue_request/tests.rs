use lockstep_model::{Right, Timestamp};

use super::*;

const NOW: Timestamp = Timestamp::from_unix_millis(1_893_456_000_000);

fn name() -> EntityName {
    EntityName::new("Orders/EU").expect("valid")
}

fn body(elements: &str) -> String {
    format!(
        "<entry xmlns=\"{ATOM}\"><content type=\"application/xml\"><QueueDescription xmlns=\"{SERVICE_BUS}\" \
         xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">{elements}</QueueDescription></content></entry>"
    )
}

fn parsed(elements: &str) -> Result<QueueProperties, AdminError> {
    QueueProperties::parse(body(elements).as_bytes())
}

fn created(elements: &str) -> Result<QueueDescription, AdminError> {
    parsed(elements)?.create(name())
}

fn updated(elements: &str, existing: &QueueDescription) -> Result<QueueDescription, AdminError> {
    parsed(elements)?.update(existing)
}

fn invalid<T: std::fmt::Debug>(result: Result<T, AdminError>) -> String {
    match result {
        Err(AdminError::Invalid(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn rule(name: &str, rights: &str, key: char) -> String {
    let rights: String =
        rights.split(' ').map(|right| format!("<AccessRights>{right}</AccessRights>")).collect();
    let (primary, secondary) = (key.to_string().repeat(44), "S".repeat(44));
    format!(
        "<AuthorizationRule i:type=\"SharedAccessAuthorizationRule\"><ClaimType>SharedAccessKey</ClaimType>\
         <ClaimValue>None</ClaimValue><Rights>{rights}</Rights><KeyName>{name}</KeyName>\
         <PrimaryKey>{primary}</PrimaryKey><SecondaryKey>{secondary}</SecondaryKey></AuthorizationRule>"
    )
}

#[test]
fn a_queue_of_which_nothing_is_said_has_the_defaults_of_service_bus() {
    assert_eq!(created(""), Ok(QueueDescription::new(name())));
}

#[test]
fn every_client_form_of_the_entry_is_understood() {
    // Python: ATOM behind a prefix, the description in the default namespace.
    let python = format!(
        "<ns0:entry xmlns:ns0=\"{ATOM}\" xmlns=\"{SERVICE_BUS}\"><ns0:content type=\"application/xml\">\
         <QueueDescription><LockDuration>PT30S</LockDuration></QueueDescription></ns0:content></ns0:entry>"
    );
    // Java: the description behind a prefix of its own, a declaration, and blanks.
    let java = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<entry xmlns=\"{ATOM}\">\n <updated>x</updated>\n <content>\n \
         <w:QueueDescription xmlns:w=\"{SERVICE_BUS}\">\n<w:LockDuration> PT30S </w:LockDuration>\n\
         </w:QueueDescription></content></entry>"
    );
    for text in [python, java] {
        let queue = QueueProperties::parse(text.as_bytes()).and_then(|properties| properties.create(name()));
        assert_eq!(queue.map(|queue| queue.lock_duration), Ok(Duration::from_secs(30)));
    }
}

#[test]
fn every_property_is_taken_over_in_any_order() {
    let queue = created(
        "<EnableExpress>true</EnableExpress><UserMetadata> a &amp; b </UserMetadata><Status>SendDisabled</Status>\
         <LockDuration>PT1M30S</LockDuration><MaxSizeInMegabytes>2048</MaxSizeInMegabytes>\
         <RequiresSession>True</RequiresSession><DefaultMessageTimeToLive>PT1H</DefaultMessageTimeToLive>\
         <DeadLetteringOnMessageExpiration>true</DeadLetteringOnMessageExpiration>\
         <DuplicateDetectionHistoryTimeWindow>PT20S</DuplicateDetectionHistoryTimeWindow>\
         <MaxDeliveryCount>2147483647</MaxDeliveryCount><EnableBatchedOperations>false</EnableBatchedOperations>\
         <SupportOrdering>false</SupportOrdering><AutoDeleteOnIdle>PT5M</AutoDeleteOnIdle>\
         <MaxMessageSizeInKilobytes>256</MaxMessageSizeInKilobytes><MessageCount>7</MessageCount>\
         <IsClientAffine>false</IsClientAffine><Unknown><LockDuration>PT2M</LockDuration></Unknown>",
    );
    let expected = QueueDescription {
        enable_express: true,
        user_metadata: Some(" a & b ".into()),
        status: EntityStatus::SendDisabled,
        lock_duration: Duration::from_secs(90),
        max_size_bytes: 2048 * MEGABYTE,
        requires_session: true,
        default_message_time_to_live: Some(Duration::from_secs(3_600)),
        dead_lettering_on_message_expiration: true,
        duplicate_detection_history_time_window: Duration::from_secs(20),
        max_delivery_count: i32::MAX as u32,
        enable_batched_operations: false,
        support_ordering: Some(false),
        auto_delete_on_idle: Some(Duration::from_secs(300)),
        ..QueueDescription::new(name())
    };
    assert_eq!(queue, Ok(expected));
}

#[test]
fn values_that_service_bus_does_not_take_are_refused_with_their_name() {
    for (elements, expected) in [
        ("<LockDuration>P25D</LockDuration>", "LockDuration is out of range"),
        ("<LockDuration>P10675199DT2H48M5.4775807S</LockDuration>", "LockDuration is out of range"),
        ("<LockDuration>5</LockDuration>", "'5' of LockDuration is no duration"),
        ("<MaxDeliveryCount>0</MaxDeliveryCount>", "MaxDeliveryCount is out of range"),
        ("<MaxDeliveryCount>99999999999</MaxDeliveryCount>", "MaxDeliveryCount is out of range"),
        ("<MaxDeliveryCount>-1</MaxDeliveryCount>", "MaxDeliveryCount is no number"),
        ("<MaxSizeInMegabytes>1500</MaxSizeInMegabytes>", "1024, 2048, 3072, 4096 and 5120"),
        ("<MaxSizeInMegabytes>16384</MaxSizeInMegabytes>", "1024, 2048, 3072, 4096 and 5120"),
        (
            "<MaxMessageSizeInKilobytes>1024</MaxMessageSizeInKilobytes>",
            "value for 'MaxMessageSizeInKilobytes' must be between 1024 and 102400",
        ),
        ("<DefaultMessageTimeToLive>PT0S</DefaultMessageTimeToLive>", "DefaultMessageTimeToLive is out"),
        ("<AutoDeleteOnIdle>PT1M</AutoDeleteOnIdle>", "AutoDeleteOnIdle is out of range"),
        (
            "<DuplicateDetectionHistoryTimeWindow>PT5S</DuplicateDetectionHistoryTimeWindow>",
            "DuplicateDetectionHistoryTimeWindow is out of range",
        ),
        ("<Status>Deleting</Status>", "Status"),
        ("<RequiresSession>yes</RequiresSession>", "'true' or 'false'"),
        (
            "<EnableExpress>true</EnableExpress><RequiresDuplicateDetection>true</RequiresDuplicateDetection>",
            "EnableExpress",
        ),
    ] {
        let text = invalid(created(elements));
        assert!(text.contains(expected), "{text}");
    }
    let metadata = format!("<UserMetadata>{}</UserMetadata>", "m".repeat(1_025));
    assert!(invalid(created(&metadata)).contains("UserMetadata"));
}

#[test]
fn what_a_later_version_brings_is_refused_by_name() {
    let refused = |elements: &str| created(elements).expect_err("refused");
    assert_eq!(refused("<ForwardTo>sb://h/q2</ForwardTo>"), AdminError::NotSupported("ForwardTo"));
    assert_eq!(
        refused("<ForwardDeadLetteredMessagesTo>q2</ForwardDeadLetteredMessagesTo>"),
        AdminError::NotSupported("ForwardDeadLetteredMessagesTo")
    );
    assert!(created("<ForwardTo/><ForwardDeadLetteredMessagesTo> </ForwardDeadLetteredMessagesTo>").is_ok());
    for (kind, named) in [
        ("TopicDescription", "topics"),
        ("SubscriptionDescription", "subscriptions"),
        ("RuleDescription", "rules"),
    ] {
        let body = body("").replace("QueueDescription", kind);
        match QueueProperties::parse(body.as_bytes()) {
            Err(AdminError::NotSupported(what)) => assert!(what.contains(named)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bodies_that_hold_no_description_are_refused() {
    for bad in
        ["", "<a/>", "{}", &body("").replace("content", "summary"), &body("").replace(SERVICE_BUS, "urn:x")]
    {
        invalid(QueueProperties::parse(bad.as_bytes()));
    }
    let large = vec![b' '; crate::REQUEST_BODY_BYTES_MAX + 1];
    assert_eq!(QueueProperties::parse(&large), Err(AdminError::TooLarge));
}

#[test]
fn an_update_replaces_what_may_change_and_keeps_what_may_not() {
    let mut existing = created(
        "<LockDuration>PT30S</LockDuration><RequiresSession>true</RequiresSession><UserMetadata>m</UserMetadata>",
    )
    .expect("valid");
    existing.auto_renew_while_link_open = true;
    existing.created_at = NOW;
    let after = updated("<MaxDeliveryCount>3</MaxDeliveryCount>", &existing).expect("valid");
    let expected = QueueDescription {
        requires_session: true,
        max_delivery_count: 3,
        auto_renew_while_link_open: true,
        created_at: NOW,
        ..QueueDescription::new(name())
    };
    assert_eq!(after, expected);
}

#[test]
fn properties_that_cannot_change_are_named() {
    let existing = created("<RequiresSession>true</RequiresSession>").expect("valid");
    let text = invalid(updated("<RequiresSession>false</RequiresSession>", &existing));
    assert!(
        text.contains("The value for the RequiresSession property of an existing Queue cannot be changed")
    );
    let text = invalid(updated("<RequiresDuplicateDetection>true</RequiresDuplicateDetection>", &existing));
    assert!(text.contains("RequiresDuplicateDetection"));
    let text = invalid(updated("<EnablePartitioning>true</EnablePartitioning>", &existing));
    assert!(text.contains("Partitioning cannot be changed for Queue. "));
    assert!(updated("<RequiresSession>true</RequiresSession>", &existing).is_ok());
}

#[test]
fn sizes_of_a_partitioned_queue_are_taken_for_one_partition_and_for_all() {
    let partitioned = |size: u64| {
        format!(
            "<EnablePartitioning>true</EnablePartitioning><MaxSizeInMegabytes>{size}</MaxSizeInMegabytes>"
        )
    };
    let existing = created(&partitioned(2048)).expect("valid");
    assert_eq!(max_size_megabytes(&existing), 16 * 2048);
    for same in [2048, 16 * 2048] {
        assert_eq!(updated(&partitioned(same), &existing), Ok(existing.clone()));
    }
    let grown = updated(&partitioned(16 * 5120), &existing).expect("valid");
    assert_eq!(grown.max_size_bytes, 16 * 5120 * MEGABYTE);
    invalid(updated(&partitioned(16 * 1500), &existing));
}

#[test]
fn what_the_configuration_file_set_is_taken_back_as_it_was_read() {
    let mut existing = created("").expect("valid");
    existing.max_size_bytes = 7 * MEGABYTE + 1;
    existing.max_message_size_bytes = 1024 * KILOBYTE;
    existing.duplicate_detection_history_time_window = Duration::from_secs(5);
    let read = "<MaxSizeInMegabytes>8</MaxSizeInMegabytes><MaxMessageSizeInKilobytes>1024</MaxMessageSizeInKilobytes>\
                <DuplicateDetectionHistoryTimeWindow>PT5S</DuplicateDetectionHistoryTimeWindow>";
    assert_eq!(updated(read, &existing), Ok(existing.clone()));
    assert!(invalid(updated("<MaxSizeInMegabytes>9</MaxSizeInMegabytes>", &existing)).contains("'9'"));
}

#[test]
fn rules_keep_their_order_their_rights_and_their_dates() {
    let rules = |elements: String| format!("<AuthorizationRules>{elements}</AuthorizationRules>");
    let both = rules(rule("b", "Manage Send Listen", 'p') + &rule("a", "Listen", 'q'));
    let queue = created(&both).expect("valid");
    let shown: Vec<_> =
        queue.authorization_rules.iter().map(|rule| (&*rule.key_name, rule.rights.clone())).collect();
    assert_eq!(shown, [("b", vec![Right::Manage, Right::Send, Right::Listen]), ("a", vec![Right::Listen])]);
    assert_eq!(&*queue.authorization_rules[0].primary_key, "p".repeat(44));
    // They have the dates that they came with, if any.
    let dated = rule("a", "Send", 'q').replace(
        "<KeyName>",
        "<CreatedTime>2020-01-02T03:04:05.6780000Z</CreatedTime><ModifiedTime>soon</ModifiedTime><KeyName>",
    );
    let changed = rules(dated + &rule("b", "Manage Send Listen", 'p'));
    let after = updated(&changed, &queue).expect("valid").authorization_rules;
    let dates: Vec<_> =
        after.iter().map(|rule| (&*rule.key_name, rule.created_at, rule.modified_at)).collect();
    let created = Timestamp::from_unix_millis(1_577_934_245_678);
    assert_eq!(dates, [("a", Some(created), None), ("b", None, None)]);
    assert_eq!(updated("<AuthorizationRules/>", &queue).expect("valid").authorization_rules, []);
}

#[test]
fn rules_that_service_bus_does_not_take_are_refused_with_their_name() {
    for (rules, expected) in [
        (rule("a", "Manage", 'p'), "'a' gives Manage, which needs"),
        (rule("a", "Send Send", 'p'), "twice"),
        (rule("a", "Read", 'p'), "'Read', which is no right"),
        (rule("a", "Send", 'p') + &rule("a", "Listen", 'p'), "'a' is there twice"),
        (rule("", "Send", 'p'), "needs a name"),
        (rule("a/b", "Send", 'p'), "needs a name"),
        (rule("a", "Send", 'p').replace("pppp", ""), "needs a PrimaryKey"),
        (rule("a", "Send", 'é'), "needs a PrimaryKey"),
        (rule("a", "Send", 'p').replace("SharedAccessAuthorizationRule", "AcsRule"), "of a type"),
        ((0..13).map(|n| rule(&format!("r{n}"), "Send", 'p')).collect(), "at most 12"),
    ] {
        let text = invalid(created(&format!("<AuthorizationRules>{rules}</AuthorizationRules>")));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_rule_with_one_key_has_it_twice() {
    let text = rule("a", "Send", 'p');
    let text = text.replace(&format!("<SecondaryKey>{}</SecondaryKey>", "S".repeat(44)), "");
    let queue = created(&format!("<AuthorizationRules>{text}</AuthorizationRules>")).expect("valid");
    assert_eq!(queue.authorization_rules[0].secondary_key, queue.authorization_rules[0].primary_key);
}
