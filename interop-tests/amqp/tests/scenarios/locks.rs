//! Locks of message sessions and of messages.

use std::time::Duration;

use lockstep_amqp::types::{Array, Map, Value};
use lockstep_interop_amqp::{
    Client, Delivery, Failed, Outcome, Response, associated_link, text_message, utc_millis,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    expiry_detaches_within_a_second_without_client_traffic,
    an_old_token_after_re_accept_gets_session_lock_lost,
    renewal_from_a_connection_without_the_lock_fails,
    locks_survive_link_and_connection_and_settle_by_token,
    a_message_lock_is_renewed_by_token_from_another_connection,
    an_unknown_token_is_a_lost_lock,
];

/// Milliseconds from year 1 to 1970, and .NET's ticks in a millisecond.
const EPOCH_TICKS: i64 = 621_355_968_000_000_000;
const TICKS_PER_MILLI: i64 = 10_000;
/// Lock duration of the queues whose subject is expiry.
const SHORT_LOCK_MILLIS: i64 = 5_000;
/// Expiry, with room for a busy machine.
const AFTER_EXPIRY: Duration = Duration::from_secs(12);

/// The body of a request about lock tokens.
pub(crate) fn tokens(tokens: Vec<Value>) -> Map {
    let array = Value::Array(Box::new(Array { constructor: 0x98, elements: tokens }));
    vec![(Value::string("lock-tokens"), array)]
}

/// Settles by token over `$management`.
pub(crate) fn update_disposition(
    client: &mut Client,
    queue: &str,
    status: &str,
    token: Value,
    further: &[(&str, Value)],
) -> Outcome<Response> {
    let mut body = tokens(vec![token]);
    body.push((Value::string("disposition-status"), Value::string(status)));
    body.extend(further.iter().map(|(key, value)| (Value::string(key), value.clone())));
    client.manage(queue, "update-disposition", body)
}

pub(crate) fn message_session(id: &str) -> Map {
    vec![(Value::string("session-id"), Value::string(id))]
}

fn expect_message_session_lock_lost(response: &Response) {
    assert_eq!(response.verdict(), (410, "com.microsoft:session-lock-lost"), "{response:?}");
    assert!(
        response.description.starts_with("The session lock has expired on the MessageSession."),
        "{response:?}"
    );
}

fn expiry_detaches_within_a_second_without_client_traffic(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, ["1", "2"].map(|text| text_message(text, Some("s"))))?;
    let before = utc_millis();
    let attach =
        lockstep_interop_amqp::with_message_session(lockstep_interop_amqp::receiver("holder", queue), "s");
    let (link, answer) = client.attach(attach)?;
    let after = utc_millis();
    let ticks = answer.properties.as_ref().and_then(|fields| fields.get("com.microsoft:locked-until-utc"));
    let Some(Value::Long(ticks)) = ticks else {
        return Err(Failed::new(format!("locked-until-utc is {ticks:?}")));
    };
    let locked_until = (ticks - EPOCH_TICKS) / TICKS_PER_MILLI;
    let range = before + SHORT_LOCK_MILLIS - 1..=after + SHORT_LOCK_MILLIS;
    assert!(range.contains(&locked_until), "{locked_until} is not in {range:?}");
    client.credit(link, 1)?;
    assert_eq!(client.receive(link)?.text(), "1");

    let (condition, text) = client.expect_forced_detach(link, AFTER_EXPIRY)?;
    let late = utc_millis() - locked_until;
    assert_eq!(condition, "com.microsoft:session-lock-lost");
    assert!(text.starts_with("The session lock has expired on the MessageSession."), "{text}");
    assert!((-20..=1_000).contains(&late), "{late} ms after the lock's end");

    // What was out counts, what was not does not.
    let link = client.accept(queue, "s", 2)?;
    let counts: Vec<_> =
        client.receive_many(link, 2)?.iter().map(|d| (d.text().to_owned(), d.count())).collect();
    assert_eq!(counts, [("1".to_owned(), 1), ("2".to_owned(), 0)]);
    client.close()
}

fn an_old_token_after_re_accept_gets_session_lock_lost(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("m", Some("s")))?;
    let link = client.accept(queue, "s", 1)?;
    let old = client.receive(link)?.token()?;
    assert_eq!(client.expect_forced_detach(link, AFTER_EXPIRY)?.0, "com.microsoft:session-lock-lost");

    let link = client.accept(queue, "s", 1)?;
    let name = client.link_name(link)?;
    let delivery = client.receive(link)?;
    assert_eq!(delivery.count(), 1);
    for status in ["completed", "abandoned", "suspended"] {
        let response = update_disposition(
            &mut client,
            queue,
            status,
            old.clone(),
            &[("session-id", Value::string("s"))],
        )?;
        expect_message_session_lock_lost(&response);
    }
    let mut body = tokens(vec![old]);
    body.push((Value::string("disposition-status"), Value::string("completed")));
    body.push((Value::string("session-id"), Value::string("s")));
    let response = client.manage_with(queue, "update-disposition", body, vec![associated_link(&name)])?;
    expect_message_session_lock_lost(&response);
    // The new hold is as it was.
    client.complete(&delivery)?;
    client.close()
}

fn renewal_from_a_connection_without_the_lock_fails(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut holder = s.connect()?;
    let link = holder.accept(queue, "s", 1)?;
    let name = holder.link_name(link)?;
    let mut other = s.connect()?;
    // Not even by naming the holder's link, which is no link of this connection.
    for options in [Vec::new(), vec![associated_link(&name)]] {
        let response = other.manage_with(queue, "renew-session-lock", message_session("s"), options)?;
        expect_message_session_lock_lost(&response);
    }
    // Nor for another message session than the one held.
    let other_link = other.accept(queue, "t", 1)?;
    let other_name = other.link_name(other_link)?;
    let response = other.manage_with(
        queue,
        "renew-session-lock",
        message_session("s"),
        vec![associated_link(&other_name)],
    )?;
    expect_message_session_lock_lost(&response);
    expect_message_session_lock_lost(&other.manage(queue, "renew-session-lock", message_session("s"))?);

    for options in [Vec::new(), vec![associated_link(&name)], vec![associated_link("gone")]] {
        let response =
            holder.manage_with(queue, "renew-session-lock", message_session("s"), options)?.ok()?;
        assert!(
            matches!(response.entry("expiration"), Some(Value::Timestamp(time)) if *time > utc_millis()),
            "{response:?}"
        );
    }
    holder.close()
}

fn locks_survive_link_and_connection_and_settle_by_token(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut receiving = s.connect()?;
    let mut other = s.connect()?;
    let sender = other.sender(queue)?;
    other.send_all(sender, (1..=6).map(|number| text_message(format!("{number}"), None)))?;
    let link = receiving.receiver(queue, 6)?;
    let got = receiving.receive_many(link, 6)?;
    let token = |number: usize| got[number - 1].token();

    // While the receiver is there, after its link is gone, and after its connection is.
    update_disposition(&mut other, queue, "completed", token(1)?, &[])?.ok()?;
    receiving.detach(link)?;
    let none = other.receiver(queue, 6)?;
    other.nothing_comes(Duration::from_millis(500))?;
    other.detach(none)?;
    update_disposition(&mut other, queue, "completed", token(2)?, &[])?.ok()?;
    update_disposition(&mut receiving, queue, "completed", token(3)?, &[])?.ok()?;
    drop(receiving);
    lockstep_interop_amqp::wait_for_time_to_pass(Duration::from_millis(300));
    let changed = Value::Map(vec![(Value::string("tried"), Value::Int(1))]);
    update_disposition(&mut other, queue, "abandoned", token(4)?, &[("properties-to-modify", changed)])?
        .ok()?;
    let reason = [
        ("deadletter-reason", Value::string("reason")),
        ("deadletter-description", Value::string("description")),
    ];
    update_disposition(&mut other, queue, "suspended", token(5)?, &reason)?.ok()?;
    other.manage(queue, "renew-lock", tokens(vec![token(6)?]))?.ok()?;
    update_disposition(&mut other, queue, "completed", token(6)?, &[])?.ok()?;
    // Twice is too often.
    let again = update_disposition(&mut other, queue, "completed", token(6)?, &[])?;
    assert_eq!(again.verdict(), (410, "com.microsoft:message-lock-lost"), "{again:?}");

    let link = other.receiver(queue, 6)?;
    let abandoned = other.receive(link)?;
    assert_eq!((abandoned.text(), abandoned.count()), ("4", 1));
    assert_eq!(abandoned.message.property("tried"), Some(&Value::Int(1)));
    other.complete(&abandoned)?;
    other.nothing_comes(Duration::from_millis(300))?;
    let dead = other.receiver(&format!("{queue}/$DeadLetterQueue"), 6)?;
    let delivery = other.receive(dead)?;
    assert_eq!((delivery.text(), delivery.count()), ("5", 0));
    assert_eq!(delivery.message.property("DeadLetterReason"), Some(&Value::string("reason")));
    assert_eq!(delivery.message.property("DeadLetterErrorDescription"), Some(&Value::string("description")));
    other.complete(&delivery)?;
    other.close()
}

/// The one expiration of a renewal.
fn expiration(response: &Response) -> Outcome<i64> {
    match response.entry("expirations") {
        Some(Value::Array(array)) if array.constructor == 0x83 => match array.elements[..] {
            [Value::Timestamp(time)] => Ok(time),
            _ => Err(Failed::new(format!("{response:?}"))),
        },
        _ => Err(Failed::new(format!("{response:?}"))),
    }
}

fn locked_until(delivery: &Delivery) -> Outcome<i64> {
    match delivery.message.annotation("x-opt-locked-until") {
        Some(Value::Timestamp(time)) => Ok(*time),
        other => Err(Failed::new(format!("x-opt-locked-until is {other:?}"))),
    }
}

fn a_message_lock_is_renewed_by_token_from_another_connection(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut receiving = s.connect()?;
    let sender = receiving.sender(queue)?;
    receiving.send(sender, text_message("m", None))?;
    let link = receiving.receiver(queue, 1)?;
    let delivery = receiving.receive(link)?;
    let mut until = locked_until(&delivery)?;
    let first = until;
    receiving.close()?;

    // Held for longer than the lock lasts, by renewals of a stranger.
    let mut other = s.connect()?;
    let waiting = other.receiver(queue, 1)?;
    for _ in 0..5 {
        other.nothing_comes(Duration::from_millis(1_500))?;
        let response = other.manage(queue, "renew-lock", tokens(vec![delivery.token()?]))?.ok()?;
        let renewed = expiration(&response)?;
        assert!(renewed > until, "{renewed} after {until}");
        assert!(renewed <= utc_millis() + SHORT_LOCK_MILLIS, "further ahead than the lock duration");
        until = renewed;
    }
    assert!(until > first + SHORT_LOCK_MILLIS);
    // Then it runs out, and the waiting receiver gets the message without any further doing.
    let again = other.receive_within(waiting, AFTER_EXPIRY)?;
    assert_eq!(again.count(), 1);
    assert!(utc_millis() >= until);
    let late = other.manage(queue, "renew-lock", tokens(vec![delivery.token()?]))?;
    assert_eq!(late.verdict(), (410, "com.microsoft:message-lock-lost"), "{late:?}");
    other.complete(&again)?;
    other.close()
}

fn an_unknown_token_is_a_lost_lock(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    for token in [[0; 16], [0x5a; 16]] {
        let renewal = client.manage(queue, "renew-lock", tokens(vec![Value::Uuid(token)]))?;
        let completion = update_disposition(&mut client, queue, "completed", Value::Uuid(token), &[])?;
        for response in [renewal, completion] {
            assert_eq!(response.verdict(), (410, "com.microsoft:message-lock-lost"), "{response:?}");
            let text = "The lock supplied is invalid. Either the lock expired, or the message has already \
                        been removed from the queue";
            assert!(response.description.starts_with(text), "{response:?}");
        }
    }
    client.close()
}
