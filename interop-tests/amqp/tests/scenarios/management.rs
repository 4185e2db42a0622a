//! `$management`: what it does not know, and what it cannot read.

use bytes::Bytes;
use lockstep_amqp::{
    message::{Properties, encode_value_message},
    types::{Array, DeliveryState, Map, Outcome as Terminal, Value},
};
use lockstep_interop_amqp::Outcome;

use crate::suite::{Scenario, scenarios};

scenarios![
    an_unknown_management_operation_answers_501,
    a_malformed_management_request_answers_400,
    many_requests_at_once_are_all_answered,
];

fn an_unknown_management_operation_answers_501(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    for operation in ["no-such-thing", "renew-lock2", ""] {
        let response = client.manage(queue, operation, Map::new())?;
        assert_eq!(response.verdict(), (501, "amqp:not-implemented"), "{response:?}");
        assert!(!response.description.is_empty());
    }
    // Without a map as its body, it is unknown all the same.
    let response = client.request(
        &format!("{queue}/$management"),
        &[("operation".into(), Value::string("READ"))],
        &Value::Null,
    )?;
    assert_eq!(response.status, 501, "{response:?}");
    client.close()
}

fn a_malformed_management_request_answers_400(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let entry = |key: &str, value: Value| vec![(Value::string(key), value)];
    let uuids = |elements| Value::Array(Box::new(Array { constructor: 0x98, elements }));
    let uuid = || uuids(vec![Value::Uuid([1; 16])]);
    let requests: [(&str, Map); 13] = [
        ("renew-lock", Map::new()),
        ("renew-lock", entry("lock-tokens", Value::string("x"))),
        ("renew-lock", entry("lock-tokens", Value::List(vec![Value::Int(1)]))),
        ("renew-session-lock", Map::new()),
        ("renew-session-lock", entry("session-id", Value::Int(1))),
        ("renew-session-lock", entry("session-id", Value::string(&"i".repeat(129)))),
        ("get-session-state", entry("session-id", Value::Null)),
        ("set-session-state", entry("session-id", Value::string("s"))),
        ("peek-message", entry("from-sequence-number", Value::string("1"))),
        (
            "peek-message",
            vec![
                (Value::string("from-sequence-number"), Value::Long(1)),
                (Value::string("message-count"), Value::Int(-1)),
            ],
        ),
        ("get-message-sessions", entry("skip", Value::Int(0))),
        ("update-disposition", entry("lock-tokens", uuid())),
        (
            "update-disposition",
            vec![
                (Value::string("lock-tokens"), uuid()),
                (Value::string("disposition-status"), Value::string("eaten")),
            ],
        ),
    ];
    for (operation, body) in requests {
        let response = client.manage(queue, operation, body.clone())?;
        assert_eq!(response.status, 400, "{operation} {body:?}: {response:?}");
        assert!(
            response.condition.starts_with("com.microsoft:argument"),
            "{operation} {body:?}: {response:?}"
        );
        assert!(!response.description.is_empty());
    }

    // No operation; an operation of a wrong type; a body that is no map.
    let node = format!("{queue}/$management");
    for (properties, body) in [
        (vec![], Value::Map(Map::new())),
        (vec![("operation".into(), Value::Int(1))], Value::Map(Map::new())),
        (vec![("operation".into(), Value::string("com.microsoft:renew-lock"))], Value::string("no map")),
    ] {
        let response = client.request(&node, &properties, &body)?;
        assert_eq!(response.verdict(), (400, "com.microsoft:argument-error"), "{response:?}");
    }

    // Correlation by whatever type the message-id has.
    for id in [Value::string("id"), Value::Uuid([7; 16]), Value::Binary(Bytes::from_static(b"id"))] {
        let properties = Properties { message_id: Some(id.clone()), ..Properties::default() };
        let request = encode_value_message(Some(&properties), &[], &Value::Null);
        let response = client.request_raw(&node, &id, request)?;
        assert_eq!(response.status, 400, "{response:?}");
    }

    // Bytes that are no message: rejected, or answered as far as that goes.
    match client.request_garbage(&node, Bytes::from_static(b"no message"))? {
        Ok(state) => assert!(
            matches!(state, DeliveryState::Outcome(Terminal::Rejected(_) | Terminal::Accepted)),
            "{state:?}"
        ),
        Err(status) => assert_eq!(status, 400),
    }
    let response = client.manage(
        queue,
        "peek-message",
        vec![
            (Value::string("from-sequence-number"), Value::Long(1)),
            (Value::string("message-count"), Value::Int(1)),
        ],
    )?;
    assert_eq!(response.status, 204, "{response:?}");
    client.close()
}

fn many_requests_at_once_are_all_answered(s: &Scenario) -> Outcome {
    const REQUESTS: usize = 1_000;
    let queue = s.queue();
    let mut client = s.connect()?;
    client.accept(queue, "s", 1)?;
    let times =
        client.manage_many(queue, "renew-session-lock", &crate::locks::message_session("s"), REQUESTS)?;
    assert_eq!(times.len(), REQUESTS);
    for response in times {
        response.ok()?;
    }
    client.close()
}
