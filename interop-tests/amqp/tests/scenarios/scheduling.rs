//! Scheduling: messages that are enqueued at a time of their sender's choice.

use bytes::Bytes;
use lockstep_amqp::{
    message::BATCH_MESSAGE_FORMAT,
    types::{Map, Value},
};
use lockstep_interop_amqp::{
    Client, Failed, Login, Message, Outcome, Outgoing, Response, batch, text_message, utc_millis,
};

use crate::{
    numbered::{PEEK_LOCK, expect_argument_error, expect_not_found, fetch, numbers, peek, shown, time_of},
    sending::rejected,
    suite::{Scenario, scenarios},
};

scenarios![
    scheduled_messages_are_numbered_shown_and_cancelled,
    scheduled_messages_come_when_they_are_due,
    a_time_that_has_come_means_now,
    scheduling_needs_the_right_to_send,
    a_message_session_is_eligible_when_its_message_is_due,
    a_message_that_cannot_be_scheduled_refuses_the_request,
];

/// Far enough for what is not to come.
const HOUR_MILLIS: i64 = 3_600_000;
/// Constructor of longs in an array.
const LONGS: u8 = 0x81;

/// A text with a time.
pub(crate) fn due(text: &str, at: i64) -> Outgoing {
    let time = (Value::symbol("x-opt-scheduled-enqueue-time"), Value::Timestamp(at));
    Outgoing { annotations: vec![time], ..Outgoing::text(text) }
}

/// `schedule-message`.
pub(crate) fn schedule(client: &mut Client, queue: &str, messages: &[Bytes]) -> Outcome<Response> {
    let entry = |message: &Bytes| {
        Value::Map(vec![
            (Value::string("message-id"), Value::string("1")),
            (Value::string("message"), Value::Binary(message.clone())),
        ])
    };
    let messages = Value::List(messages.iter().map(entry).collect());
    client.manage(queue, "schedule-message", vec![(Value::string("messages"), messages)])
}

/// The numbers in an answer: an array of longs, nothing else will do for .NET and Go.
pub(crate) fn scheduled_numbers(response: Response) -> Outcome<Vec<i64>> {
    let response = response.ok()?;
    let Some(Value::Array(array)) = response.entry("sequence-numbers") else {
        return Err(Failed::new(format!("no array in {response:?}")));
    };
    assert_eq!(array.constructor, LONGS);
    let long = |value: &Value| match value {
        Value::Long(number) => Ok(*number),
        other => Err(Failed::new(format!("{other:?} is no long"))),
    };
    array.elements.iter().map(long).collect()
}

fn cancel(client: &mut Client, queue: &str, wanted: &[i64]) -> Outcome<Response> {
    client.manage(queue, "cancel-scheduled-message", numbers(wanted))
}

/// The end of the second after the next one, so that a message is due at a whole second.
fn soon() -> i64 {
    (utc_millis() / 1_000 + 2) * 1_000
}

fn scheduled_messages_are_numbered_shown_and_cancelled(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let at = utc_millis() + HOUR_MILLIS;
    let messages = ["1", "2", "3"].map(|text| due(text, at).encode());
    assert_eq!(scheduled_numbers(schedule(&mut client, queue, &messages)?)?, [1, 2, 3]);
    // One counter for both ways, and for what is sent.
    let sender = client.sender(queue)?;
    client.send(sender, due("4", at).encode())?;
    client.send(sender, text_message("now", None))?;
    let receiving = client.receiver(queue, 0)?;
    let arrived = client.drain(receiving, 10)?;
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].message.sequence_number()?, 5);
    client.complete(&arrived[0])?;
    for message in peek(&mut client, queue)? {
        assert_eq!(message.annotation("x-opt-message-state"), Some(&Value::Int(2)));
        assert_eq!(time_of(&message, "x-opt-scheduled-enqueue-time")?, at);
        assert_eq!(message.delivery_count(), Some(0));
    }
    let left = |texts: &[&str]| texts.iter().map(|text| ((*text).to_owned(), 2, 0)).collect::<Vec<_>>();
    assert_eq!(shown(&mut client, queue)?, left(&["1", "2", "3", "4"]));

    cancel(&mut client, queue, &[2])?.ok()?;
    assert_eq!(shown(&mut client, queue)?, left(&["1", "3", "4"]));
    // Cancelled before, unknown, received, named twice: nothing at all is cancelled.
    client.send(sender, text_message("here", None))?;
    for wanted in [&[2][..], &[1, 2], &[99], &[0], &[-1], &[1, 5], &[6, 1], &[1, 1]] {
        expect_not_found(&cancel(&mut client, queue, wanted)?);
    }
    // Scheduled is not deferred.
    expect_not_found(&fetch(&mut client, queue, &[1], PEEK_LOCK, None)?);
    cancel(&mut client, queue, &[])?.ok()?;
    let mut expected = left(&["1", "3", "4"]);
    expected.push(("here".to_owned(), 0, 0));
    assert_eq!(shown(&mut client, queue)?, expected);
    cancel(&mut client, queue, &[4, 1, 3])?.ok()?;
    expected.drain(..3);
    assert_eq!(shown(&mut client, queue)?, expected);
    expect_argument_error(&cancel(&mut client, queue, &(1..=10_001).collect::<Vec<_>>())?);
    client.close()
}

/// That a message came at its time, and says so.
fn came_at(message: &Message, at: i64) -> Outcome {
    let enqueued = time_of(message, "x-opt-enqueued-time")?;
    assert!((at..at + 1_000).contains(&enqueued), "due at {at}, enqueued at {enqueued}");
    assert_eq!(time_of(message, "x-opt-scheduled-enqueue-time")?, at);
    assert_eq!(message.annotation("x-opt-message-state"), Some(&Value::Int(2)));
    assert_eq!(message.delivery_count(), Some(0));
    Ok(())
}

fn scheduled_messages_come_when_they_are_due(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let at = soon();
    // By a request, one by one, in a batch beside another one, and pre-settled.
    let by_request = [due("late", at + 1_000).encode(), due("by request", at).encode()];
    assert_eq!(scheduled_numbers(schedule(&mut client, queue, &by_request)?)?, [1, 2]);
    client.send(sender, due("sent", at).encode())?;
    let members = [due("in a batch", at).encode(), text_message("now", None)];
    client.try_send_batch(sender, &members)?;
    client.start_send(sender, 0, true, due("pre-settled", at).encode())?;
    let one = batch(&[due("alone in a batch", at).encode()]);
    client.start_send(sender, BATCH_MESSAGE_FORMAT, true, one)?;
    let receiving = client.receiver(queue, 10)?;
    assert_eq!(client.receive(receiving)?.text(), "now");
    // By the time at which they are due, then in the order in which they came.
    let expected = ["by request", "sent", "in a batch", "pre-settled", "alone in a batch", "late"];
    let deliveries = client.receive_many(receiving, expected.len())?;
    let texts: Vec<_> = deliveries.iter().map(|delivery| delivery.text()).collect();
    assert_eq!(texts, expected);
    for (delivery, number) in deliveries.iter().zip(8_i64..) {
        let at = if delivery.text() == "late" { at + 1_000 } else { at };
        came_at(&delivery.message, at)?;
        // Seven numbers were given before; those of scheduled messages count no more.
        assert_eq!(delivery.message.sequence_number()?, number);
        expect_not_found(&cancel(&mut client, queue, &[number])?);
        client.complete(delivery)?;
    }
    assert_eq!(shown(&mut client, queue)?, [("now".to_owned(), 0, 0)]);
    expect_not_found(&cancel(&mut client, queue, &[1])?);
    client.close()
}

fn a_time_that_has_come_means_now(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let past = utc_millis() - HOUR_MILLIS;
    let numbers = scheduled_numbers(schedule(&mut client, queue, &[due("1", past).encode()])?)?;
    assert_eq!(numbers.len(), 1);
    client.send(sender, due("2", past).encode())?;
    client.send(sender, due("3", 0).encode())?;
    let receiving = client.receiver(queue, 0)?;
    let arrived = client.drain(receiving, 10)?;
    let texts: Vec<_> = arrived.iter().map(|delivery| delivery.text()).collect();
    assert_eq!(texts, ["1", "2", "3"]);
    assert_eq!(time_of(&arrived[0].message, "x-opt-scheduled-enqueue-time")?, past);
    assert!(time_of(&arrived[0].message, "x-opt-enqueued-time")? > past);
    client.close()
}

fn scheduling_needs_the_right_to_send(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let home = s.broker().home();
    let as_policy = |policy: &str| Login::plain(policy, home.key(policy));
    let mut listener = s.broker().connect_as(as_policy("listen-only"))?;
    let message = due("1", utc_millis() + HOUR_MILLIS).encode();
    let refused = |response: &Response, right: &str| {
        assert_eq!(response.verdict(), (401, "amqp:unauthorized-access"), "{response:?}");
        assert!(response.description.contains(right), "{response:?}");
    };
    refused(&schedule(&mut listener, queue, std::slice::from_ref(&message))?, "Send");
    refused(&cancel(&mut listener, queue, &[1])?, "Send");
    let mut sender = s.broker().connect_as(as_policy("send-only"))?;
    let scheduled = schedule(&mut sender, queue, std::slice::from_ref(&message))?;
    assert_eq!(scheduled_numbers(scheduled)?, [1]);
    refused(&fetch(&mut sender, queue, &[1], PEEK_LOCK, None)?, "Listen");
    let body = vec![(Value::string("message-count"), Value::Int(1))];
    refused(&sender.manage(queue, "batch-delete-messages", body)?, "Listen");
    assert_eq!(shown(&mut listener, queue)?, [("1".to_owned(), 2, 0)]);
    cancel(&mut sender, queue, &[1])?.ok()?;
    assert_eq!(shown(&mut listener, queue)?, []);
    listener.close()?;
    sender.close()
}

fn a_message_session_is_eligible_when_its_message_is_due(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let mut other = s.connect()?;
    let at = soon();
    let messages =
        [due("1", at).of("s").encode(), due("2", at).of("s").encode(), due("3", at).of("held").encode()];
    assert_eq!(scheduled_numbers(schedule(&mut client, queue, &messages)?)?, [1, 2, 3]);
    // Nobody has messages yet; the holder of one waits, and so does an accept of the next.
    let held = other.accept(queue, "held", 1)?;
    let attach = lockstep_interop_amqp::with_next_message_session(
        lockstep_interop_amqp::receiver("next", queue),
        60_000,
    );
    let (next, _) = client.attach(attach)?;
    assert!(utc_millis() >= at, "granted before it was due");
    client.credit(next, 5)?;
    for (text, number) in [("1", 4), ("2", 5)] {
        let delivery = client.receive(next)?;
        assert_eq!((delivery.text(), delivery.message.sequence_number()?), (text, number));
        came_at(&delivery.message, at)?;
    }
    let delivery = other.receive(held)?;
    assert_eq!((delivery.text(), delivery.message.sequence_number()?), ("3", 6));
    came_at(&delivery.message, at)?;
    client.close()?;
    other.close()
}

fn a_message_that_cannot_be_scheduled_refuses_the_request(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let at = utc_millis() + HOUR_MILLIS;
    let good = due("1", at).of("s").encode();
    let body = "x".repeat(256 * 1_024);
    let cases = [
        (due(&body, at).of("s").encode(), (403, "amqp:link:message-size-exceeded")),
        (due("2", at).encode(), (400, "amqp:not-allowed")),
        // Without a time.
        (text_message("2", Some("s")), (400, "com.microsoft:argument-error")),
        (Bytes::from_static(b"no message"), (400, "amqp:decode-error")),
    ];
    for (bad, verdict) in cases {
        for messages in [vec![bad.clone()], vec![good.clone(), bad]] {
            let response = schedule(&mut client, queue, &messages)?;
            assert_eq!(response.verdict(), verdict, "{response:?}");
        }
    }
    expect_argument_error(&schedule(&mut client, queue, &[])?);
    expect_argument_error(&client.manage(queue, "schedule-message", Map::new())?);
    expect_argument_error(&client.manage(queue, "cancel-scheduled-message", Map::new())?);
    let nothing = (Value::symbol("x-opt-scheduled-enqueue-time"), Value::Null);
    let null = Outgoing { annotations: vec![nothing], ..Outgoing::text("1") }.of("s");
    let sender = client.sender(queue)?;
    let state = client.try_send(sender, null.encode())?;
    assert_eq!(rejected(&state)?.0, "com.microsoft:argument-error");
    // Nothing was stored; no number was used.
    assert_eq!(shown(&mut client, queue)?, []);
    assert_eq!(scheduled_numbers(schedule(&mut client, queue, &[good])?)?, [1]);
    client.close()
}
