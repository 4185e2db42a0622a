use std::time::Duration;

use lockstep_model::{AuthorizationRule, EntityName, EntityStatus, QueueDescription, Right};

use super::{
    super::{names::COUNTS, queue_request::QueueProperties, xml},
    *,
};
use crate::atom::queue::RuntimeCounts;

const NOW: Timestamp = Timestamp::from_unix_millis(1_893_456_000_000);

fn url<'a>(path: &'a str, query: &'a str) -> RequestUrl<'a> {
    RequestUrl { base: "https://host:5671", path, query, namespace: "ns", now: NOW }
}

fn snapshot(name: &str) -> QueueSnapshot {
    let mut description = QueueDescription::new(EntityName::new(name).expect("valid"));
    description.created_at = NOW;
    description.updated_at = NOW;
    QueueSnapshot { description, counts: RuntimeCounts::default() }
}

fn tree(reply: &Reply) -> xml::Element {
    xml::parse(reply.body.as_bytes()).expect("an answer is XML")
}

fn names(element: &xml::Element, namespace: &str) -> Vec<String> {
    element.children.iter().map(|child| child.name_in(namespace).expect("its namespace").to_owned()).collect()
}

fn description(reply: &Reply) -> xml::Element {
    let entry = tree(reply);
    let content = entry.child(ATOM, "content").expect("content");
    content.child(SERVICE_BUS, "QueueDescription").expect("a description").clone()
}

fn text(element: &xml::Element, name: &str) -> String {
    element.child(SERVICE_BUS, name).expect(name).text.clone()
}

#[test]
fn an_entry_has_what_clients_look_for_in_the_order_of_service_bus() {
    let reply = queue_entry(&url("/ORDERS/eu", "api-version=2021-05&enrich=false"), &snapshot("Orders/EU"));
    assert_eq!((reply.status, reply.content_type.map(|kind| kind.contains("type=entry"))), (200, Some(true)));
    let entry = tree(&reply);
    assert_eq!(names(&entry, ATOM), ["id", "title", "published", "updated", "author", "link", "content"]);
    let of = |name: &str| entry.child(ATOM, name).expect(name);
    // The request's own spelling, and the queue's.
    assert_eq!(of("id").text, "https://host:5671/ORDERS/eu?api-version=2021-05&enrich=false");
    assert_eq!(of("title").text, "Orders/EU");
    assert_eq!(of("published").text, "2030-01-01T00:00:00Z");
    assert_eq!(of("author").child(ATOM, "name").expect("name").text, "ns");
    assert_eq!(of("link").attribute("", "rel"), Some("self"));
    let expected = [
        "LockDuration",
        "MaxSizeInMegabytes",
        "RequiresDuplicateDetection",
        "RequiresSession",
        "DefaultMessageTimeToLive",
        "DeadLetteringOnMessageExpiration",
        "DuplicateDetectionHistoryTimeWindow",
        "MaxDeliveryCount",
        "EnableBatchedOperations",
        "SizeInBytes",
        "MessageCount",
        "IsAnonymousAccessible",
        "AuthorizationRules",
        "Status",
        "CreatedAt",
        "UpdatedAt",
        "AccessedAt",
        "SupportOrdering",
        "CountDetails",
        "AutoDeleteOnIdle",
        "EnablePartitioning",
        "EntityAvailabilityStatus",
        "EnableExpress",
        "MaxMessageSizeInKilobytes",
    ];
    assert_eq!(names(&description(&reply), SERVICE_BUS), expected);
}

#[test]
fn a_queue_of_defaults_reads_as_in_service_bus() {
    let description = description(&queue_entry(&url("/q", ""), &snapshot("q")));
    for (name, value) in [
        ("LockDuration", "PT1M"),
        ("MaxSizeInMegabytes", "1024"),
        ("RequiresSession", "false"),
        ("DefaultMessageTimeToLive", "P10675199DT2H48M5.4775807S"),
        ("DuplicateDetectionHistoryTimeWindow", "PT10M"),
        ("MaxDeliveryCount", "10"),
        ("EnableBatchedOperations", "true"),
        ("Status", "Active"),
        ("AccessedAt", "0001-01-01T00:00:00Z"),
        ("CreatedAt", "2030-01-01T00:00:00.0000000Z"),
        ("SupportOrdering", "true"),
        ("AutoDeleteOnIdle", "P10675199DT2H48M5.4775807S"),
        ("EntityAvailabilityStatus", "Available"),
        ("MaxMessageSizeInKilobytes", "256"),
    ] {
        assert_eq!(text(&description, name), value, "{name}");
    }
}

#[test]
fn counts_stand_behind_the_one_prefix_that_their_element_declares() {
    let mut snapshot = snapshot("q");
    snapshot.counts = RuntimeCounts {
        active: 2,
        dead_letter: 3,
        scheduled: 5,
        transfer: 0,
        transfer_dead_letter: 7,
        size_bytes: 11,
        accessed_at: Some(NOW),
    };
    let reply = queue_entry(&url("/q", ""), &snapshot);
    let description = description(&reply);
    let counts = description.child(SERVICE_BUS, "CountDetails").expect("counts");
    let values: Vec<_> = counts.children.iter().map(|child| child.text.as_str()).collect();
    assert_eq!(values, ["2", "3", "5", "0", "7"]);
    assert!(counts.child(COUNTS, "TransferDeadLetterMessageCount").is_some());
    assert!(reply.body.contains(&format!("<CountDetails xmlns:d2p1=\"{COUNTS}\"><d2p1:ActiveMessageCount>")));
    assert_eq!(
        (text(&description, "MessageCount"), text(&description, "SizeInBytes")),
        ("17".into(), "11".into())
    );
    assert_eq!(text(&description, "AccessedAt"), "2030-01-01T00:00:00.0000000Z");
}

#[test]
fn the_answer_to_a_creation_has_no_counts_and_an_empty_list_of_rules_no_attribute() {
    let reply = queue_created(&url("/q", ""), &snapshot("q"), 201);
    assert_eq!(reply.status, 201);
    let description = description(&reply);
    assert!(description.child(SERVICE_BUS, "CountDetails").is_none());
    assert!(description.child(SERVICE_BUS, "AccessedAt").is_none());
    assert!(reply.body.contains("<AuthorizationRules></AuthorizationRules>"));
}

/// G-77.
#[test]
fn a_queue_of_defaults_that_is_written_back_is_the_same() {
    let snapshot = snapshot("q");
    let reply = queue_entry(&url("/q", ""), &snapshot);
    let properties = QueueProperties::parse(reply.body.as_bytes()).expect("what was written");
    assert_eq!(properties.update(&snapshot.description), Ok(snapshot.description));
}

/// What a client reads can be sent back whole and changes nothing.
#[test]
fn what_is_read_can_be_written_back() {
    let mut snapshot = snapshot("q");
    let queue = &mut snapshot.description;
    queue.requires_session = true;
    queue.enable_partitioning = true;
    queue.max_size_bytes = 16 * 1024 * 1024 * 1024;
    queue.max_message_size_bytes = 256 * 1024;
    queue.status = EntityStatus::ReceiveDisabled;
    queue.lock_duration = Duration::from_millis(30_500);
    queue.default_message_time_to_live = Some(Duration::from_secs(90));
    queue.auto_delete_on_idle = Some(Duration::from_secs(48 * 3_600));
    queue.user_metadata = Some("<&> \" ü\r\n]]>".into());
    queue.support_ordering = Some(true);
    queue.enable_batched_operations = false;
    queue.authorization_rules = vec![AuthorizationRule {
        key_name: "a".into(),
        primary_key: "p".repeat(44).into(),
        secondary_key: "s".repeat(44).into(),
        rights: vec![Right::Listen, Right::Send],
        created_at: Some(NOW),
        modified_at: None,
    }];
    let reply = queue_entry(&url("/q", ""), &snapshot);
    let properties = QueueProperties::parse(reply.body.as_bytes()).expect("what was written");
    assert_eq!(properties.clone().update(&snapshot.description), Ok(snapshot.description.clone()));
    // And makes an equal queue elsewhere.
    let again = properties.create(snapshot.description.name.clone()).expect("valid");
    assert_eq!(again.differences(&snapshot.description), [""; 0]);
}

#[test]
fn a_full_page_names_the_next_in_the_form_that_python_reads() {
    let page = Page { skip: 2, top: 2 };
    let asked = url("/$Resources/queues", "api-version=2024-05&enrich=false&$skip=2&$top=2");
    let reply = queue_feed(&asked, page, &[snapshot("a/b"), snapshot("c")]);
    let feed = tree(&reply);
    assert_eq!(names(&feed, ATOM), ["title", "id", "updated", "link", "link", "entry", "entry"]);
    assert_eq!(feed.child(ATOM, "title").expect("title").text, "Queues");
    let next = feed.children[4].attribute("", "href").expect("a link");
    assert_eq!(feed.children[4].attribute("", "rel"), Some("next"));
    let expected = "https://host:5671/$Resources/queues?api-version=2024-05&enrich=false&%24skip=4&%24top=2";
    assert_eq!(next, expected);
    let entry = feed.children.last().expect("an entry");
    assert_eq!(entry.child(ATOM, "id").expect("id").text, "https://host:5671/c?api-version=2024-05");
    let content = entry.child(ATOM, "content").expect("content");
    let description = content.child(SERVICE_BUS, "QueueDescription").expect("a description");
    assert!(description.child(SERVICE_BUS, "CountDetails").is_some());
    let last = queue_feed(&asked, page, &[snapshot("a/b")]);
    assert_eq!(names(&tree(&last), ATOM), ["title", "id", "updated", "link", "entry"]);
    // Nothing at all is an empty feed with the list's own title.
    let empty = tree(&queue_feed(&asked, page, &[]));
    assert_eq!(empty.child(ATOM, "title").expect("title").text, "Queues");
    assert_eq!(names(&empty, ATOM), ["title", "id", "updated", "link"]);
}

#[test]
fn a_look_at_nothing_is_answered_with_the_feed_that_go_knows() {
    let reply = missing_entity("id-1", NOW);
    assert_eq!((reply.status, reply.content_type.map(|kind| kind.contains("type=feed"))), (200, Some(true)));
    let feed = tree(&reply);
    assert_eq!(feed.child(ATOM, "title").expect("title").text, "Publicly Listed Services");
    assert_eq!(names(&feed, ATOM), ["title", "subtitle", "id", "updated", "generator"]);
    assert_eq!(
        tree(&topic_feed(&url("/$Resources/topics", ""))).child(ATOM, "title").expect("t").text,
        "Topics"
    );
}

#[test]
fn the_namespace_is_of_the_standard_tier() {
    let entry = tree(&namespace_info(&url("/$namespaceinfo", "api-version=2021-05"), NOW, NOW));
    assert_eq!(names(&entry, ATOM), ["id", "title", "updated", "author", "link", "content"]);
    let content = entry.child(ATOM, "content").expect("content");
    let info = content.child(SERVICE_BUS, "NamespaceInfo").expect("info");
    assert_eq!(
        names(info, SERVICE_BUS),
        ["CreatedTime", "MessagingSKU", "ModifiedTime", "Name", "NamespaceType"]
    );
    assert_eq!((text(info, "MessagingSKU"), text(info, "Name")), ("Standard".into(), "ns".into()));
}

#[test]
fn an_api_version_of_strange_characters_does_not_get_into_other_urls() {
    let asked = url("/$Resources/queues", "api-version=%22%3E%3Cx&%24top=1");
    let reply = queue_feed(&asked, Page { skip: 0, top: 1 }, &[snapshot("q")]);
    let feed = tree(&reply);
    let entry = feed.children.last().expect("an entry");
    assert_eq!(entry.child(ATOM, "id").expect("id").text, "https://host:5671/q?api-version=x");
}
