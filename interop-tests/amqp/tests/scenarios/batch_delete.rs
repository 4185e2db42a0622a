//! Deleting many messages with one request.

use lockstep_amqp::types::{Map, Value};
use lockstep_interop_amqp::{Client, Outcome, Outgoing, Response, text_message, utc_millis};

use crate::{
    numbered::{defer, expect_argument_error, peek, shown, time_of},
    scheduling::due,
    suite::{Scenario, scenarios},
};

scenarios![
    a_batch_delete_takes_the_oldest_that_are_free,
    a_batch_delete_keeps_to_a_time_and_a_message_session,
    a_purge_of_five_thousand_takes_two_requests,
    a_batch_delete_that_asks_for_too_much_is_refused,
];

/// Later than everything.
const HOUR_MILLIS: i64 = 3_600_000;

fn delete(
    client: &mut Client,
    queue: &str,
    count: i32,
    until: i64,
    message_session: Option<&str>,
) -> Outcome<Response> {
    let mut body = vec![
        (Value::string("message-count"), Value::Int(count)),
        (Value::string("enqueued-time-utc"), Value::Timestamp(until)),
    ];
    body.extend(message_session.map(|id| (Value::string("session-id"), Value::string(id))));
    client.manage(queue, "batch-delete-messages", body)
}

/// Deletes, and expects so many: with 200, or none with 204 and the same body.
fn expect_deleted(response: &Response, count: i32) {
    let status = if count == 0 { 204 } else { 200 };
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.entry("message-count"), Some(&Value::Int(count)), "{response:?}");
}

fn texts(client: &mut Client, queue: &str) -> Outcome<Vec<String>> {
    Ok(shown(client, queue)?.into_iter().map(|(text, ..)| text).collect())
}

fn a_batch_delete_takes_the_oldest_that_are_free(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let later = utc_millis() + HOUR_MILLIS;
    expect_deleted(&delete(&mut client, queue, 5, later, None)?, 0);
    client.send_all(sender, ["locked", "deferred"].map(|text| text_message(text, None)))?;
    let receiving = client.receiver(queue, 2)?;
    let deliveries = client.receive_many(receiving, 2)?;
    defer(&mut client, &deliveries[1], &[])?;
    client.send(sender, due("scheduled", later).encode())?;
    client.send_all(sender, ["1", "2", "3", "4"].map(|text| text_message(text, None)))?;
    expect_deleted(&delete(&mut client, queue, 2, later, None)?, 2);
    assert_eq!(texts(&mut client, queue)?, ["locked", "deferred", "scheduled", "3", "4"]);
    expect_deleted(&delete(&mut client, queue, 10, later, None)?, 2);
    expect_deleted(&delete(&mut client, queue, 10, later, None)?, 0);
    assert_eq!(texts(&mut client, queue)?, ["locked", "deferred", "scheduled"]);
    // The locked one is still its receiver's. Deleted messages are in no dead-letter queue.
    client.abandon(&deliveries[0])?;
    let dead_letters = format!("{queue}/$DeadLetterQueue");
    assert_eq!(texts(&mut client, &dead_letters)?, [""; 0]);
    // A time is not needed; a dead-letter queue is purged likewise.
    let body = vec![(Value::string("message-count"), Value::Int(1))];
    expect_deleted(&client.manage(queue, "batch-delete-messages", body)?, 1);
    assert_eq!(texts(&mut client, queue)?, ["deferred", "scheduled"]);
    client.send(sender, text_message("dead", None))?;
    let delivery = client.receiver(queue, 1).and_then(|link| client.receive(link))?;
    crate::locks::update_disposition(&mut client, queue, "suspended", delivery.token()?, &[])?.ok()?;
    expect_deleted(&delete(&mut client, &dead_letters, 10, later, None)?, 1);
    assert_eq!(texts(&mut client, &dead_letters)?, [""; 0]);
    client.close()
}

fn a_batch_delete_keeps_to_a_time_and_a_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let message = |text: &str, id: &str| Outgoing::text(text).of(id).encode();
    client.send_all(sender, [message("1", "s"), message("2", "t"), message("3", "s")])?;
    let until = time_of(&peek(&mut client, queue)?[2], "x-opt-enqueued-time")?;
    lockstep_interop_amqp::wait_until("a later millisecond", lockstep_interop_amqp::ANSWER, || {
        (utc_millis() > until + 1).then_some(())
    })?;
    client.send(sender, message("4", "s"))?;
    // The time itself is in, a millisecond later is not.
    expect_deleted(&delete(&mut client, queue, 10, until, Some("s"))?, 2);
    assert_eq!(texts(&mut client, queue)?, ["2", "4"]);
    expect_deleted(&delete(&mut client, queue, 10, until, Some("s"))?, 0);
    expect_deleted(&delete(&mut client, queue, 10, until, Some("unknown"))?, 0);
    // Without an id all of them; nobody needs to hold them.
    expect_deleted(&delete(&mut client, queue, 10, until, None)?, 1);
    assert_eq!(texts(&mut client, queue)?, ["4"]);
    let link = client.accept(queue, "s", 1)?;
    assert_eq!(client.receive(link)?.text(), "4");
    client.close()
}

fn a_purge_of_five_thousand_takes_two_requests(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let one: Vec<_> = (0..1_000).map(|number| text_message(number.to_string(), None)).collect();
    for _ in 0..5 {
        client.try_send_batch(sender, &one)?;
    }
    let until = utc_millis() + HOUR_MILLIS;
    expect_deleted(&delete(&mut client, queue, 4_000, until, None)?, 4_000);
    expect_deleted(&delete(&mut client, queue, 4_000, until, None)?, 1_000);
    expect_deleted(&delete(&mut client, queue, 4_000, until, None)?, 0);
    client.close()
}

fn a_batch_delete_that_asks_for_too_much_is_refused(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    for count in [0, -1, 4_001, i32::MAX] {
        expect_argument_error(&delete(&mut client, queue, count, utc_millis(), None)?);
    }
    expect_argument_error(&client.manage(queue, "batch-delete-messages", Map::new())?);
    let body = vec![
        (Value::string("message-count"), Value::Int(1)),
        (Value::string("enqueued-time-utc"), Value::string("now")),
    ];
    expect_argument_error(&client.manage(queue, "batch-delete-messages", body)?);
    client.close()
}
