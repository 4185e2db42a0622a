//! What a later version brings is refused by name, and never taken for something else.

use bytes::Bytes;
use lockstep_amqp::types::{
    DeliveryState, Described, Map, Outcome as Terminal, Source, Target, TargetTerminus, Value,
};
use lockstep_interop_amqp::{
    Outcome, described_filter, receiver, sender, text_message, with_filter, with_property,
};

use crate::{
    locks::update_disposition,
    sending::rejected,
    suite::{Scenario, scenarios},
};

scenarios![
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

fn topics_are_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let (condition, text) = client.refused(receiver("r", "topic/Subscriptions/subscription"))?;
    assert_eq!(condition, "amqp:not-found");
    assert!(text.contains("could not be found. Topics, subscriptions and rules are not supported"), "{text}");
    for operation in ["add-rule", "remove-rule", "enumerate-rules"] {
        expect_501(&client.manage(queue, operation, Map::new())?, "rules");
    }
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
