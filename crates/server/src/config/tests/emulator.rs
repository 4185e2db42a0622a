//! The configuration file of the emulator, alone and beside ours.

use super::*;

const EMULATOR: &str = r#"
// The emulator's sample has comments.
{ "UserConfig": { "Namespaces": [ { "Name": "sbemulatorns", /* and these */
  "Queues": [
    {"Name": "orders", "Properties": {"LockDuration": "PT30S", "RequiresSession": true,
       "DefaultMessageTimeToLive": "PT1H", "ForwardTo": "", "RequiresDuplicateDetection": false,
       "DuplicateDetectionHistoryTimeWindow": "PT20S"}},
    {"Name": "plain"},
  ],
  "Topics": [ {"Name": "events", "Subscriptions": [ {"Name": "eu", "Rules": []} ] } ] },
  { "Name": "second" } ],
  "Logging": {"Type": "File"} } }
"#;

#[test]
fn the_emulators_file_is_understood_with_azures_defaults() {
    let fixture = Fixture::emulator(EMULATOR);
    let config = fixture.load();
    assert_eq!(config.namespaces.len(), 2);
    let queues = &config.namespaces[0].queues;
    assert_eq!(queues[0].description.lock_duration, Duration::from_secs(30));
    assert!(queues[0].description.requires_session);
    assert_eq!(queues[0].description.max_delivery_count, 10);
    assert_eq!(fixture.short(&queues[1].origin.to_string()), "Config.json:8");
    assert_eq!(config.namespaces[0].topics_left_out, ["events"]);
    let warnings = fixture.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    assert_eq!(queues[0].description.default_message_time_to_live, Some(Duration::from_secs(3_600)));
    assert_eq!(queues[1].description.default_message_time_to_live, None);
}

#[test]
fn the_emulators_defaults_are_taken_on_request() {
    let mut fixture = Fixture::emulator(EMULATOR);
    fixture.options.emulator_defaults = true;
    let queue = fixture.load().namespaces[0].queues[1].description.clone();
    assert_eq!(queue.max_delivery_count, 3);
    assert_eq!(queue.default_message_time_to_live, Some(Duration::from_secs(3_600)));
    assert_eq!(queue.duplicate_detection_history_time_window, Duration::from_secs(20));
}

#[test]
fn problems_of_the_emulators_file_use_its_own_spelling() {
    let queue = |properties: &str| {
        Fixture::emulator(&format!(
            "{{\"UserConfig\": {{\"Namespaces\": [{{\"Name\": \"a\", \"Queues\": [{{\"Name\": \"q\",\n\"Properties\": {{{properties}}}}}]}}]}}}}"
        ))
    };
    for (properties, expected) in [
        ("\"LockDuration\": \"PT10M\"", "LockDuration must be between 5 and 300 seconds, not 600"),
        ("\"LockDuration\": \"60\"", "LockDuration must be an ISO 8601 duration such as"),
        ("\"MaxDeliveryCount\": 0", "MaxDeliveryCount must be between 1 and"),
        (
            "\"RequireSession\": true",
            "unknown key \"RequireSession\" in UserConfig.Namespaces.Queues.Properties; did you mean \"RequiresSession\"?",
        ),
        (
            "\"RequiresSession\": true, \"RequiresSession\": true",
            "\"RequiresSession\" stands twice, first in line 2",
        ),
    ] {
        let problem = queue(properties).the_problem();
        assert!(problem.starts_with(&format!("Config.json:2: {expected}")), "{problem}");
    }
}

#[test]
fn a_namespace_named_in_both_files_is_one() {
    let fixture = queue_with("").and_emulator(
        "{\"UserConfig\": {\"Namespaces\": [{\"Name\": \"NS\", \"Queues\": [{\"Name\": \"r\"}]}]}}",
    );
    let config = fixture.load();
    assert_eq!(config.namespaces.len(), 1);
    let names: Vec<_> =
        config.namespaces[0].queues.iter().map(|queue| queue.description.name.as_str()).collect();
    assert_eq!(names, ["q", "r"]);
    assert_eq!(config.namespaces[0].policies.len(), 1);
}

#[test]
fn a_queue_named_in_both_files_is_refused_with_both_places() {
    let fixture = queue_with("").and_emulator(
        "{\"UserConfig\": {\"Namespaces\": [{\"Name\": \"ns\", \"Queues\": [{\"Name\": \"Q\"}]}]}}",
    );
    let problem = fixture.the_problem();
    assert!(problem.starts_with("Config.json:1: entity \"Q\" stands twice"), "{problem}");
    assert!(problem.contains("first in lockstep.toml:8"), "{problem}");
}
