//! What a later version brings is refused by name, and never taken for something else.

use bytes::Bytes;
use lockstep_amqp::{
    message::{Header, Properties},
    types::{
        Array, DeliveryState, Described, Map, Modified, Outcome as Terminal, Source, Target, TargetTerminus,
        Value,
    },
};
use lockstep_interop_amqp::{
    Outcome, Outgoing, described_filter, receiver, sender, text_message, utc_millis, with_filter,
    with_property,
};

use crate::{
    locks::update_disposition,
    sending::rejected,
    suite::{Scenario, scenarios},
};

scenarios![
    deferral_is_refused_by_name,
    scheduling_is_refused_by_name,
    a_time_to_live_is_refused_by_name,
    topics_are_refused_by_name,
    transactions_are_refused_by_name,
    selectors_and_dynamic_nodes_are_refused_by_name,
];

const NOT_IMPLEMENTED: &str = "amqp:not-implemented";

fn expect_refused(condition_and_text: &(String, String), name: &str) {
    let (condition, text) = condition_and_text;
    assert_eq!(condition, NOT_IMPLEMENTED, "{text}");
    assert!(text.contains(name), "{name} is not in: {text}");
}

fn expect_501(response: &lockstep_interop_amqp::Response, name: &str) {
    assert_eq!(response.verdict(), (501, NOT_IMPLEMENTED), "{response:?}");
    assert!(response.description.contains(name), "{name} is not in: {response:?}");
}

fn longs(key: &str, numbers: &[i64]) -> Map {
    let elements = numbers.iter().map(|&number| Value::Long(number)).collect();
    vec![(Value::string(key), Value::Array(Box::new(Array { constructor: 0x81, elements })))]
}

fn deferral_is_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    client.send(link, text_message("m", None))?;
    let receiving = client.receiver(queue, 1)?;
    let delivery = client.receive(receiving)?;
    let deferred = Modified { undeliverable_here: Some(true), ..Modified::default() };
    let state = client.try_settle(&delivery, Terminal::Modified(deferred))?;
    expect_refused(&rejected(&state)?, "Deferring");
    for status in ["defered", "deferred"] {
        let response = update_disposition(&mut client, queue, status, delivery.token()?, &[])?;
        expect_501(&response, "Deferring");
    }
    let mut body = longs("sequence-numbers", &[1]);
    body.push((Value::string("receiver-settle-mode"), Value::Uint(1)));
    expect_501(&client.manage(queue, "receive-by-sequence-number", body)?, "Deferring");
    // The message is locked as before.
    update_disposition(&mut client, queue, "completed", delivery.token()?, &[])?.ok()?;
    client.close()
}

fn scheduling_is_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    let due = Value::Timestamp(utc_millis() + 3_600_000);
    let message = Outgoing {
        annotations: vec![(Value::symbol("x-opt-scheduled-enqueue-time"), due)],
        ..Outgoing::text("m")
    };
    let state = client.try_send(link, message.encode())?;
    expect_refused(&rejected(&state)?, "Scheduled");
    let state = client.try_send_batch(link, &[text_message("good", None), message.encode()])?;
    expect_refused(&rejected(&state)?, "Scheduled");
    let entry = vec![
        (Value::string("message-id"), Value::string("1")),
        (Value::string("message"), Value::Binary(message.encode())),
    ];
    let body = vec![(Value::string("messages"), Value::List(vec![Value::Map(entry)]))];
    expect_501(&client.manage(queue, "schedule-message", body)?, "Scheduled");
    let body = longs("sequence-numbers", &[1]);
    expect_501(&client.manage(queue, "cancel-scheduled-message", body)?, "Scheduled");
    let receiving = client.receiver(queue, 1)?;
    assert!(client.drain(receiving, 10)?.is_empty());
    client.close()
}

fn a_time_to_live_is_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    let by_header =
        Outgoing { header: Some(Header { ttl: Some(60_000), ..Header::default() }), ..Outgoing::text("m") };
    let by_pair = Outgoing {
        properties: Properties {
            creation_time: Some(utc_millis()),
            absolute_expiry_time: Some(utc_millis() + 1_000),
            ..Properties::default()
        },
        ..Outgoing::text("m")
    };
    for message in [by_header, by_pair] {
        let state = client.try_send(link, message.encode())?;
        expect_refused(&rejected(&state)?, "time to live");
    }
    let receiving = client.receiver(queue, 1)?;
    assert!(client.drain(receiving, 10)?.is_empty());
    client.close()
}

fn topics_are_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let refused = client.refused(receiver("r", "topic/Subscriptions/subscription"))?;
    expect_refused(&refused, "Topics");
    for operation in ["add-rule", "remove-rule", "enumerate-rules"] {
        expect_501(&client.manage(queue, operation, Map::new())?, "rules");
    }
    let body = vec![(Value::string("message-count"), Value::Int(1))];
    expect_501(&client.manage(queue, "batch-delete-messages", body)?, "deletion");
    client.close()
}

fn transactions_are_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let mut coordinator = sender("coordinator", queue);
    coordinator.target = Some(TargetTerminus::Coordinator(vec!["amqp:local-transactions".into()]));
    expect_refused(&client.refused(coordinator)?, "Transactions");

    // A settlement within a transaction that cannot be.
    let link = client.sender(queue)?;
    client.send(link, text_message("m", None))?;
    let receiving = client.receiver(queue, 1)?;
    let delivery = client.receive(receiving)?;
    let state = DeliveryState::Transactional(lockstep_amqp::types::TransactionalState {
        txn_id: Bytes::from_static(b"1"),
        outcome: Some(Terminal::Accepted),
    });
    client.settle_later(&[&delivery], &state, false);
    let state = client.outcome(delivery.reference)?;
    expect_refused(&rejected(&state)?, "Transactions");
    update_disposition(&mut client, queue, "completed", delivery.token()?, &[])?.ok()?;
    client.close()
}

fn selectors_and_dynamic_nodes_are_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let selector = Value::Described(Box::new(Described {
        descriptor: Value::Ulong(0x0000_468c_0000_0004),
        value: Value::string("colour = 'red'"),
    }));
    let filtered = with_filter(receiver("r", queue), "apache.org:selector-filter:string", selector);
    expect_refused(&client.refused(filtered)?, "Selectors");
    let shared = with_filter(
        receiver("r", queue),
        "com.microsoft:non-exclusive-session-filter:list",
        described_filter(Value::List(vec![Value::string("s"), Value::Uuid([0; 16])])),
    );
    expect_refused(&client.refused(shared)?, "Non-exclusive");
    let mut dynamic = receiver("r", queue);
    dynamic.source = Some(Source { dynamic: true, ..Source::default() });
    expect_refused(&client.refused(dynamic)?, "Dynamic");
    let mut dynamic = sender("s", queue);
    dynamic.target = Some(TargetTerminus::Target(Target { dynamic: true, ..Target::default() }));
    expect_refused(&client.refused(dynamic)?, "Dynamic");
    let via = with_property(
        sender("s", queue),
        "com.microsoft:transfer-destination-address",
        Value::string("elsewhere"),
    );
    expect_refused(&client.refused(via)?, "Transfer");
    // A sender without an address is no anonymous relay.
    let mut anonymous = sender("s", queue);
    anonymous.target = Some(TargetTerminus::Target(Target::default()));
    let (_, text) = client.refused(anonymous)?;
    assert!(text.contains("address"), "{text}");
    client.close()
}
