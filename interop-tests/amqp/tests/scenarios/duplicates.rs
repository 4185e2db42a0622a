//! Duplicate detection: which messages are duplicates, and for how long.

use lockstep_amqp::types::{DeliveryState, Outcome as Terminal, Value};
use lockstep_interop_amqp::{Client, Failed, Outcome, Outgoing, utc_millis, wait_for_time_to_pass};

use crate::{
    locks::update_disposition,
    numbered::{numbers, shown},
    scheduling::{due, schedule, scheduled_numbers},
    suite::{Scenario, scenarios},
};

scenarios![
    a_duplicate_is_accepted_and_dropped,
    message_ids_are_compared_by_value_and_type,
    duplicates_in_a_batch_leave_the_rest,
    duplicates_of_scheduled_messages_get_the_number_zero,
    message_ids_outlive_their_messages_and_the_broker,
    message_ids_are_forgotten_after_the_window,
];

const HOUR_MILLIS: i64 = 3_600_000;
/// The shortest window that can be configured, in milliseconds.
const WINDOW_MILLIS: u64 = 5_000;

fn with_id(text: &str, id: Value) -> Outgoing {
    let mut message = Outgoing::text(text);
    message.properties.message_id = Some(id);
    message
}

fn named(text: &str, id: &str) -> Outgoing {
    with_id(text, Value::string(id))
}

fn texts(client: &mut Client, queue: &str) -> Outcome<Vec<String>> {
    Ok(shown(client, queue)?.into_iter().map(|(text, ..)| text).collect())
}

fn a_duplicate_is_accepted_and_dropped(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    // Whatever else is in them, and however they are sent.
    client.send_all(sender, (0..5).map(|number| named(&number.to_string(), "id").encode()))?;
    client.start_send(sender, 0, true, named("pre-settled", "id").encode())?;
    let mut other = s.connect()?;
    let another = other.sender(queue)?;
    other.send(another, named("other connection", "id").encode())?;
    // They use no sequence number.
    client.send(sender, named("next", "next").encode())?;
    let receiving = client.receiver(queue, 0)?;
    let deliveries = client.drain(receiving, 10)?;
    let seen: Outcome<Vec<_>> = deliveries
        .iter()
        .map(|delivery| Ok((delivery.text(), delivery.message.sequence_number()?)))
        .collect();
    assert_eq!(seen?, [("0", 1), ("next", 2)]);
    other.close()?;
    client.close()
}

fn message_ids_are_compared_by_value_and_type(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let uuid = *b"0123456789abcdef";
    let bytes = |bytes: &'static [u8]| Value::Binary(bytes::Bytes::from_static(bytes));
    let different = [
        Value::string("7"),
        Value::Ulong(7),
        bytes(b"7"),
        Value::Uuid(uuid),
        bytes(b"0123456789abcdef"),
        Value::string("0123456789abcdef"),
        Value::string("30313233-3435-3637-3839-616263646566"),
        // Case counts, and so does white space.
        Value::string("a"),
        Value::string("A"),
        Value::string("a "),
        Value::string(""),
        Value::Ulong(300),
        Value::Ulong(0),
    ];
    for _ in 0..2 {
        for id in &different {
            client.send(sender, with_id("id", id.clone()).encode())?;
        }
    }
    assert_eq!(texts(&mut client, queue)?.len(), different.len());
    // One that was sent without an id is nobody's duplicate.
    client.send_all(sender, ["none", "none"].map(|text| Outgoing::text(text).encode()))?;
    assert_eq!(texts(&mut client, queue)?.len(), different.len() + 2);
    client.close()
}

fn duplicates_in_a_batch_leave_the_rest(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, named("sent before", "0").encode())?;
    let members = [
        named("1", "1").encode(),
        named("dropped", "0").encode(),
        named("2", "2").encode(),
        named("dropped", "1").encode(),
        named("3", "3").encode(),
    ];
    for _ in 0..2 {
        let state = client.try_send_batch(sender, &members)?;
        assert_eq!(state, DeliveryState::Outcome(Terminal::Accepted));
    }
    let receiving = client.receiver(queue, 0)?;
    let deliveries = client.drain(receiving, 10)?;
    let seen: Vec<_> = deliveries.iter().map(|delivery| delivery.text()).collect();
    assert_eq!(seen, ["sent before", "1", "2", "3"]);
    for (delivery, number) in deliveries.iter().zip(1_i64..) {
        assert_eq!(delivery.message.sequence_number()?, number);
    }
    client.close()
}

fn duplicates_of_scheduled_messages_get_the_number_zero(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let later = utc_millis() + HOUR_MILLIS;
    let scheduled = |text: &str, id: &str| {
        let mut message = due(text, later);
        message.properties.message_id = Some(Value::string(id));
        message.encode()
    };
    client.send(sender, named("sent", "1").encode())?;
    let messages =
        [scheduled("2", "2"), scheduled("dropped", "1"), scheduled("dropped", "2"), scheduled("3", "3")];
    assert_eq!(scheduled_numbers(schedule(&mut client, queue, &messages)?)?, [2, 0, 0, 3]);
    // What is scheduled is remembered from now on, also when it is cancelled.
    client.send(sender, named("dropped", "2").encode())?;
    client.manage(queue, "cancel-scheduled-message", numbers(&[3]))?.ok()?;
    client.send(sender, named("dropped", "3").encode())?;
    assert_eq!(texts(&mut client, queue)?, ["sent", "2"]);
    client.close()
}

fn message_ids_outlive_their_messages_and_the_broker(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let broker = s.own_broker()?;
    let mut client = broker.connect()?;
    let sender = client.sender(queue)?;
    let ids = ["completed", "dead-lettered", "deferred", "deleted"];
    client.send_all(sender, ids.map(|id| named(id, id).encode()))?;
    let receiving = client.receiver(queue, 3)?;
    let deliveries = client.receive_many(receiving, 3)?;
    client.complete(&deliveries[0])?;
    for (delivery, status) in deliveries[1..].iter().zip(["suspended", "defered"]) {
        update_disposition(&mut client, queue, status, delivery.token()?, &[])?.ok()?;
    }
    let body = vec![(Value::string("message-count"), Value::Int(10))];
    client.manage(queue, "batch-delete-messages", body)?.ok()?;
    for round in 0..2 {
        let sender = client.sender(queue)?;
        client.send_all(sender, ids.map(|id| named("dropped", id).encode()))?;
        assert_eq!(texts(&mut client, queue)?, ["deferred"], "round {round}");
        broker.kill();
        broker.restart()?;
        client = broker.connect()?;
    }
    client.close()
}

fn message_ids_are_forgotten_after_the_window(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let start = utc_millis();
    client.send(sender, named("1", "id").encode())?;
    let stored = |client: &mut Client| Ok::<_, Failed>(texts(client, queue)?.len());
    // Duplicates do not make the window longer.
    while utc_millis() < start + 4_000 {
        client.send(sender, named("dropped", "id").encode())?;
        assert_eq!(stored(&mut client)?, 1);
        wait_for_time_to_pass(std::time::Duration::from_millis(500));
    }
    let left = start + i64::try_from(WINDOW_MILLIS).unwrap_or(0) + 200 - utc_millis();
    wait_for_time_to_pass(std::time::Duration::from_millis(u64::try_from(left).unwrap_or(0)));
    client.send(sender, named("2", "id").encode())?;
    client.send(sender, named("dropped", "id").encode())?;
    assert_eq!(texts(&mut client, queue)?, ["1", "2"]);
    client.close()
}
