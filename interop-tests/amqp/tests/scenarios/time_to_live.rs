//! Times to live: what comes back of them, and what happens when they are over.

use lockstep_amqp::{
    message::{Header, Properties},
    types::Value,
};
use lockstep_interop_amqp::{
    ANSWER, Client, Message, Outcome, Outgoing, text_message, utc_millis, wait_for_time_to_pass, wait_until,
};

use crate::{
    numbered::{PEEK_LOCK, defer, expect_not_found, fetch, fetch_one, shown, time_of},
    scheduling::{due, schedule, scheduled_numbers},
    suite::{Scenario, scenarios},
};

scenarios![
    a_time_to_live_comes_back_whole,
    a_queue_lowers_times_to_live,
    an_expired_message_is_never_delivered,
    an_expired_message_is_dead_lettered,
    a_locked_message_expires_when_it_comes_back,
    a_deferred_message_expires_when_it_is_asked_for,
    a_scheduled_message_lives_from_when_it_is_due,
    one_expired_message_expires_its_message_session,
    messages_of_a_message_session_expire_one_by_one,
];

/// Milliseconds of a day.
const DAY_MILLIS: i64 = 86_400_000;
/// Short enough to wait for.
const SHORT_MILLIS: u32 = 300;

/// A text that lives so long.
fn living(text: &str, ttl_millis: u32) -> Outgoing {
    let header = Header { ttl: Some(ttl_millis), ..Header::default() };
    Outgoing { header: Some(header), ..Outgoing::text(text) }
}

fn let_expire(millis: u32) {
    // Past it by more than the clock's grain.
    wait_for_time_to_pass(std::time::Duration::from_millis(u64::from(millis) + 50));
}

/// `ttl`, and the span between `creation-time` and `absolute-expiry-time`.
fn times(message: &Message) -> (Option<u32>, Option<i64>) {
    let Properties { creation_time, absolute_expiry_time, .. } = &message.properties;
    let span = absolute_expiry_time.and_then(|end| Some(end - (*creation_time)?));
    (message.header.ttl, span)
}

fn receive_all(client: &mut Client, queue: &str) -> Outcome<Vec<(String, Message)>> {
    let receiving = client.receiver(queue, 0)?;
    let deliveries = client.drain(receiving, 100)?;
    for delivery in &deliveries {
        client.complete(delivery)?;
    }
    Ok(deliveries.into_iter().map(|delivery| (delivery.text().to_owned(), delivery.message)).collect())
}

fn texts(messages: &[(String, Message)]) -> Vec<&str> {
    messages.iter().map(|(text, _)| text.as_str()).collect()
}

fn a_time_to_live_comes_back_whole(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let now = utc_millis();
    let pair = |creation_time, end| Properties {
        creation_time,
        absolute_expiry_time: Some(end),
        ..Properties::default()
    };
    let days = 100 * DAY_MILLIS;
    let messages = [
        (living("header", 60_000), Some(60_000), Some(60_000)),
        // As SDKs send it: both, and the pair counts if the header has no room.
        (
            Outgoing { properties: pair(Some(now), now + 60_000), ..living("both", 60_000) },
            Some(60_000),
            Some(60_000),
        ),
        (
            Outgoing { properties: pair(Some(now), now + days), ..living("days", u32::MAX) },
            Some(u32::MAX),
            Some(days),
        ),
        // A header that says less than the pair counts.
        (
            Outgoing { properties: pair(Some(now), now + 90_000), ..living("header first", 60_000) },
            Some(60_000),
            Some(60_000),
        ),
        (
            Outgoing { properties: pair(Some(now), now + 90_000), ..Outgoing::text("pair") },
            Some(90_000),
            Some(90_000),
        ),
        (Outgoing::text("for ever"), None, None),
        (
            Outgoing {
                properties: Properties { creation_time: Some(7), ..Properties::default() },
                ..Outgoing::text("creation")
            },
            None,
            None,
        ),
    ];
    for (message, ..) in &messages {
        client.send(sender, message.encode())?;
    }
    let received = receive_all(&mut client, queue)?;
    assert_eq!(received.len(), messages.len());
    for ((text, message), (_, ttl, span)) in received.iter().zip(&messages) {
        assert_eq!(times(message), (*ttl, *span), "{text}");
        assert_eq!(message.properties.absolute_expiry_time.is_some(), span.is_some(), "{text}");
    }
    // A creation-time that was sent is the sender's; one that was not is the time of enqueueing.
    assert_eq!(received[1].1.properties.creation_time, Some(now));
    assert_eq!(received[6].1.properties.creation_time, Some(7));
    assert_eq!(received[5].1.properties.creation_time, None);
    let first = &received[0].1;
    assert_eq!(first.properties.creation_time, Some(time_of(first, "x-opt-enqueued-time")?));
    // Without creation-time it is counted from now on.
    client.send(
        sender,
        Outgoing { properties: pair(None, utc_millis() + 60_000), ..Outgoing::text("end") }.encode(),
    )?;
    let received = receive_all(&mut client, queue)?;
    let ttl = received[0].1.header.ttl.unwrap_or_default();
    assert!((55_000..=60_000).contains(&ttl), "{ttl}");
    client.close()
}

fn a_queue_lowers_times_to_live(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    // The queue's own is an hour.
    let now = utc_millis();
    let properties = Properties {
        creation_time: Some(now),
        absolute_expiry_time: Some(now + 100 * DAY_MILLIS),
        ..Properties::default()
    };
    let messages = [
        Outgoing::text("none"),
        living("less", 60_000),
        living("more", 7_200_000),
        Outgoing { properties, ..living("days", u32::MAX) },
    ];
    client.send_all(sender, messages.iter().map(Outgoing::encode))?;
    let received = receive_all(&mut client, queue)?;
    let seen: Vec<_> = received.iter().map(|(_, message)| times(message)).collect();
    let hour = (Some(3_600_000), Some(3_600_000));
    assert_eq!(seen, [hour, (Some(60_000), Some(60_000)), hour, hour]);
    client.close()
}

fn an_expired_message_is_never_delivered(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, living("none at all", 0).encode())?;
    client.send(sender, living("short", SHORT_MILLIS).encode())?;
    client.send(sender, living("long", 60_000).encode())?;
    let now = utc_millis();
    let properties = Properties {
        creation_time: Some(now - 2_000),
        absolute_expiry_time: Some(now - 1_000),
        ..Properties::default()
    };
    client.send(sender, Outgoing { properties, ..Outgoing::text("one second") }.encode())?;
    let_expire(1_000);
    // A receiver that waits and one that comes get the same.
    assert_eq!(texts(&receive_all(&mut client, queue)?), ["long"]);
    assert_eq!(receive_all(&mut client, &format!("{queue}/$DeadLetterQueue"))?.len(), 0);
    // It goes by itself, too.
    client.send(sender, living("short", SHORT_MILLIS).encode())?;
    wait_until("the end of an expired message", ANSWER, || {
        shown(&mut client, queue).ok()?.is_empty().then_some(())
    })?;
    client.close()
}

fn an_expired_message_is_dead_lettered(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, living("1", SHORT_MILLIS).encode())?;
    client.send(sender, text_message("2", None))?;
    let_expire(SHORT_MILLIS);
    assert_eq!(texts(&receive_all(&mut client, queue)?), ["2"]);
    // There it stays for ever, with its time to live.
    let dead_letters = format!("{queue}/$DeadLetterQueue");
    let_expire(SHORT_MILLIS);
    let dead = receive_all(&mut client, &dead_letters)?;
    assert_eq!(texts(&dead), ["1"]);
    let message = &dead[0].1;
    assert_eq!(message.property("DeadLetterReason"), Some(&Value::string("TTLExpiredException")));
    assert!(matches!(message.property("DeadLetterErrorDescription"), Some(Value::String(_))));
    assert_eq!((message.sequence_number()?, message.delivery_count()), (1, Some(0)));
    assert_eq!(times(message), (Some(SHORT_MILLIS), Some(i64::from(SHORT_MILLIS))));
    assert_eq!(message.annotation("x-opt-deadletter-source"), None);
    client.close()
}

fn a_locked_message_expires_when_it_comes_back(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client
        .send_all(sender, ["completed", "abandoned", "released"].map(|text| living(text, 1_000).encode()))?;
    let receiving = client.receiver(queue, 3)?;
    let deliveries = client.receive_many(receiving, 3)?;
    let_expire(1_000);
    assert_eq!(shown(&mut client, queue)?.len(), 3);
    client.complete(&deliveries[0])?;
    client.abandon(&deliveries[1])?;
    client.try_settle(&deliveries[2], lockstep_amqp::types::Outcome::Released)?;
    assert!(client.drain(receiving, 10)?.is_empty());
    let dead = receive_all(&mut client, &format!("{queue}/$DeadLetterQueue"))?;
    let counts: Vec<_> =
        dead.iter().map(|(text, message)| (text.as_str(), message.delivery_count())).collect();
    assert_eq!(counts, [("abandoned", Some(1)), ("released", Some(0))]);
    client.close()
}

fn a_deferred_message_expires_when_it_is_asked_for(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, ["1", "2"].map(|text| living(text, 1_500).encode()))?;
    let receiving = client.receiver(queue, 2)?;
    for delivery in client.receive_many(receiving, 2)? {
        defer(&mut client, &delivery, &[])?;
    }
    let (_, token) = fetch_one(&mut client, queue, 2, None)?;
    let_expire(1_500);
    // The sweep leaves it alone.
    let_expire(1_000);
    assert_eq!(shown(&mut client, queue)?.len(), 2);
    expect_not_found(&fetch(&mut client, queue, &[1], PEEK_LOCK, None)?);
    let dead = receive_all(&mut client, &format!("{queue}/$DeadLetterQueue"))?;
    assert_eq!(texts(&dead), ["1"]);
    assert_eq!(dead[0].1.property("DeadLetterReason"), Some(&Value::string("TTLExpiredException")));
    // What was in somebody's hands is completed all the same.
    crate::locks::update_disposition(&mut client, queue, "completed", token, &[])?.ok()?;
    assert_eq!(shown(&mut client, queue)?, []);
    client.close()
}

fn a_scheduled_message_lives_from_when_it_is_due(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let at = utc_millis() + 2_000;
    let message = Outgoing { header: living("", 1_000).header, ..due("1", at) };
    assert_eq!(scheduled_numbers(schedule(&mut client, queue, &[message.encode()])?)?, [1]);
    let receiving = client.receiver(queue, 1)?;
    let delivery = client.receive(receiving)?;
    assert_eq!(times(&delivery.message), (Some(1_000), Some(1_000)));
    assert!(delivery.message.properties.absolute_expiry_time >= Some(at + 1_000));
    client.close()
}

/// Three messages of a message session, of which the second one expires; what is left of them
/// for somebody who accepts it then, and what is dead-lettered.
fn expire_the_second(s: &Scenario) -> Outcome<(Vec<String>, Vec<String>)> {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let messages = [
        text_message("1", Some("s")),
        living("2", SHORT_MILLIS).of("s").encode(),
        text_message("3", Some("s")),
        text_message("other", Some("t")),
    ];
    client.send_all(sender, messages)?;
    // Nobody asks for it: it stays.
    let_expire(2_000);
    assert_eq!(shown(&mut client, queue)?.len(), 4);
    let link = client.accept(queue, "s", 0)?;
    let left = client.drain(link, 10)?.iter().map(|delivery| delivery.text().to_owned()).collect();
    client.detach(link)?;
    let other = client.accept(queue, "t", 1)?;
    assert_eq!(client.receive(other)?.text(), "other");
    let dead = receive_all(&mut client, &format!("{queue}/$DeadLetterQueue"))?;
    client.close()?;
    Ok((left, dead.into_iter().map(|(text, _)| text).collect()))
}

fn one_expired_message_expires_its_message_session(s: &Scenario) -> Outcome {
    let (left, dead) = expire_the_second(s)?;
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(dead, ["1", "2", "3"]);
    Ok(())
}

fn messages_of_a_message_session_expire_one_by_one(s: &Scenario) -> Outcome {
    let (left, dead) = expire_the_second(s)?;
    assert_eq!((left, dead), (vec!["1".to_owned(), "3".to_owned()], vec!["2".to_owned()]));
    Ok(())
}
