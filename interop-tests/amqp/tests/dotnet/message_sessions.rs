//! Message sessions: accept, drain, renew, state, peek.

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::types::{Map, Modified, Outcome as Terminal, Value};
use lockstep_interop_amqp::{ANSWER, Outcome, text_message, utc_millis};

use crate::{
    sdk::{From, Mode, Sdk},
    suite::{Scenario, scenarios},
};

scenarios![
    dotnet_accepts_by_id_and_drains_after_each_receive,
    dotnet_accepts_the_next_message_session,
    dotnet_prefetches_and_goes_on_after_a_drain,
    dotnet_is_told_of_a_lost_message_session_lock,
    dotnet_receives_and_deletes_from_a_message_session,
    dotnet_is_told_at_once_of_a_held_message_session,
    dotnet_an_accept_of_the_next_times_out_as_asked,
    dotnet_cancels_an_accept_by_ending_its_amqp_session,
    dotnet_renews_a_message_session_lock,
    dotnet_keeps_message_session_state,
    dotnet_peeks_a_message_session,
];

pub(crate) fn send(sdk: &mut Sdk<'_>, queue: &str, messages: &[(&str, &str)]) -> Outcome {
    let mut sender = sdk.sender(queue)?;
    for (message_session, text) in messages {
        assert_eq!(sdk.send(&mut sender, &text_message(text, Some(message_session)), false)?, Ok(()));
    }
    Ok(())
}

pub(crate) fn session_id(id: &str) -> Map {
    vec![(Value::string("session-id"), Value::string(id))]
}

/// What is left of the credit is drained, so that a message that is abandoned, or comes later, is
/// not sent behind the back of the next receive.
fn dotnet_accepts_by_id_and_drains_after_each_receive(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &[("s", "1"), ("s", "2"), ("other", "x"), ("s", "3")])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    assert_eq!(link.message_session.as_deref(), Some("s"));
    let first = sdk.receive(&mut link, 10, 3)?;
    let texts: Vec<&str> = first.iter().map(|delivery| delivery.message.text()).collect();
    assert_eq!(texts, ["1", "2", "3"]);
    assert!(first.iter().all(|delivery| delivery.message.properties.group_id.as_deref() == Some("s")));
    // Abandoned after the drain: it stays where it is until somebody asks.
    let abandoned = Terminal::Modified(Modified::default());
    assert_eq!(sdk.settle(&mut link, &[&first[0], &first[1], &first[2]], abandoned)?, Ok(()));
    send(&mut sdk, queue, &[("s", "4")])?;
    // An empty receive is drained like any other.
    let again = sdk.receive(&mut link, 10, 4)?;
    let texts: Vec<_> = again.iter().map(|one| (one.message.text(), one.message.delivery_count())).collect();
    assert_eq!(texts, [("1", Some(1)), ("2", Some(1)), ("3", Some(1)), ("4", Some(0))]);
    for delivery in &again {
        sdk.complete(&mut link, delivery)?;
    }
    for _ in 0..3 {
        assert!(sdk.receive(&mut link, 10, 0)?.is_empty());
    }
    send(&mut sdk, queue, &[("s", "5")])?;
    let last = sdk.receive(&mut link, 1, 1)?;
    sdk.complete(&mut link, &last[0])?;
    sdk.close_receiver(&link)?;
    sdk.close(&[])
}

/// The key of the filter is there and its value null; the answer names what was granted.
fn dotnet_accepts_the_next_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &[("a", "1"), ("b", "2"), ("a", "3")])?;
    let mut held = Vec::new();
    for (id, texts) in [("a", vec!["1", "3"]), ("b", vec!["2"])] {
        let mut link =
            sdk.receiver(queue, Mode::PeekLock, From::NextMessageSession { wait_millis: 59_900 })?;
        assert_eq!(link.message_session.as_deref(), Some(id));
        let deliveries = sdk.receive(&mut link, 5, texts.len())?;
        assert!(deliveries.iter().map(|delivery| delivery.message.text()).eq(texts));
        for delivery in &deliveries {
            sdk.complete(&mut link, delivery)?;
        }
        held.push(link);
    }
    for link in &held {
        sdk.close_receiver(link)?;
    }
    sdk.close(&[])
}

/// With a prefetch count, credit is granted without a receive, and anew after each drain
/// (AmqpReceiver.cs).
fn dotnet_prefetches_and_goes_on_after_a_drain(s: &Scenario) -> Outcome {
    const PREFETCH: u32 = 10;
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &[("s", "1"), ("s", "2"), ("s", "3")])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    sdk.grant(&mut link, PREFETCH)?;
    let mut texts = Vec::new();
    for (count, more) in [(3, "4"), (1, "5"), (1, "6")] {
        let deliveries = sdk.take(&mut link, count)?;
        assert!(sdk.drain(&mut link)?.is_empty());
        sdk.grant(&mut link, PREFETCH)?;
        for delivery in &deliveries {
            texts.push(delivery.message.text().to_owned());
            sdk.complete(&mut link, delivery)?;
        }
        send(&mut sdk, queue, &[("s", more)])?;
    }
    assert_eq!(texts, ["1", "2", "3", "4", "5"]);
    // The last one is there, and goes back when the link is closed.
    assert_eq!(sdk.take(&mut link, 1)?[0].message.text(), "6");
    sdk.close_receiver(&link)?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let deliveries = sdk.receive(&mut link, 1, 1)?;
    assert_eq!((deliveries[0].message.text(), deliveries[0].message.delivery_count()), ("6", Some(0)));
    sdk.complete(&mut link, &deliveries[0])?;
    sdk.close_receiver(&link)?;
    sdk.close(&[])
}

/// The broker detaches with `SessionLockLost`, after which the SDK makes no new link but refuses
/// all calls itself; the message comes again, counted.
fn dotnet_is_told_of_a_lost_message_session_lock(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &[("s", "1")])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    sdk.receive(&mut link, 1, 1)?;
    let mut management = sdk.management(queue)?;
    let error = sdk.detached(&link)?;
    assert_eq!(error.condition.as_str(), "com.microsoft:session-lock-lost", "{error:?}");
    sdk.end(&link)?;
    let answer = sdk.manage(&mut management, "renew-session-lock", Some(link.name()), session_id("s"))?;
    answer.refused(410, "com.microsoft:session-lock-lost", "The session lock has expired");
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::NextMessageSession { wait_millis: 59_900 })?;
    let again = sdk.receive(&mut link, 1, 1)?;
    assert_eq!((again[0].message.text(), again[0].message.delivery_count()), ("1", Some(1)));
    sdk.complete(&mut link, &again[0])?;
    sdk.close_receiver(&link)?;
    sdk.close(&[&management])
}

fn dotnet_receives_and_deletes_from_a_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &[("s", "1"), ("s", "2")])?;
    let mut link = sdk.receiver(queue, Mode::ReceiveAndDelete, From::MessageSession("s"))?;
    assert_eq!(sdk.receive(&mut link, 10, 2)?.len(), 2);
    assert!(sdk.receive(&mut link, 10, 0)?.is_empty());
    sdk.close_receiver(&link)?;
    sdk.close(&[])
}

/// `SessionCannotBeLocked`, which the SDK does not try again.
fn dotnet_is_told_at_once_of_a_held_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut holder = Sdk::connect(s)?;
    let held = holder.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let mut sdk = Sdk::connect(s)?;
    let mut link = sdk.ask_receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let refused = sdk.opened(&mut link, Duration::from_secs(10))?;
    let condition = refused.map_err(|error| error.condition.to_string());
    assert_eq!(condition, Err("com.microsoft:session-cannot-be-locked".to_owned()));
    holder.close_receiver(&held)?;
    let link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    sdk.close_receiver(&link)?;
    sdk.close(&[])
}

/// `com.microsoft:timeout` of the link is the wait, and of the error the reason `ServiceTimeout`.
fn dotnet_an_accept_of_the_next_times_out_as_asked(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    for wait_millis in [1, 1_000] {
        let start = utc_millis();
        let mut link = sdk.ask_receiver(queue, Mode::PeekLock, From::NextMessageSession { wait_millis })?;
        let refused = sdk.opened(&mut link, ANSWER)?;
        let condition = refused.map_err(|error| error.condition.to_string());
        assert_eq!(condition, Err("com.microsoft:timeout".to_owned()));
        assert!(utc_millis() - start >= wait_millis.into(), "too early");
    }
    // The connection goes on.
    send(&mut sdk, queue, &[("s", "1")])?;
    let link = sdk.receiver(queue, Mode::PeekLock, From::NextMessageSession { wait_millis: 59_900 })?;
    sdk.close_receiver(&link)?;
    sdk.close(&[])
}

/// A cancelled accept ends its AMQP session before there is an answer; nothing is locked by it.
fn dotnet_cancels_an_accept_by_ending_its_amqp_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let link = sdk.ask_receiver(queue, Mode::PeekLock, From::NextMessageSession { wait_millis: 59_900 })?;
    sdk.end(&link)?;
    send(&mut sdk, queue, &[("s", "1")])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let deliveries = sdk.receive(&mut link, 1, 1)?;
    sdk.complete(&mut link, &deliveries[0])?;
    sdk.close_receiver(&link)?;
    sdk.close(&[])
}

/// `expiration` is one `DateTime`; who does not hold it is `SessionLockLost`.
fn dotnet_renews_a_message_session_lock(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &[("s", "1")])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let deliveries = sdk.receive(&mut link, 1, 1)?;
    let mut management = sdk.management(queue)?;
    for _ in 0..2 {
        let answer = sdk.manage(&mut management, "renew-session-lock", Some(link.name()), session_id("s"))?;
        let left = answer.ok().expiration() - utc_millis();
        assert!((50_000..=60_000).contains(&left), "{left} ms");
    }
    sdk.complete(&mut link, &deliveries[0])?;
    sdk.close_receiver(&link)?;
    let answer = sdk.manage(&mut management, "renew-session-lock", Some(link.name()), session_id("s"))?;
    answer.refused(410, "com.microsoft:session-lock-lost", "The session lock has expired");
    sdk.close(&[&management])
}

/// `session-state` is there and null, or binary; set, read, and cleared by null or no bytes.
fn dotnet_keeps_message_session_state(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let mut management = sdk.management(queue)?;
    let large = Bytes::from(vec![7; 150_000]);
    for state in [None, Some(Bytes::from_static(b"state")), Some(large), Some(Bytes::new()), None] {
        let mut body = session_id("s");
        body.push((Value::string("session-state"), state.clone().map_or(Value::Null, Value::Binary)));
        sdk.manage(&mut management, "set-session-state", Some(link.name()), body)?.ok();
        let answer = sdk.manage(&mut management, "get-session-state", Some(link.name()), session_id("s"))?;
        let read = answer.ok().state();
        assert_eq!(read, state.filter(|state| !state.is_empty()));
    }
    sdk.close_receiver(&link)?;
    let answer = sdk.manage(&mut management, "get-session-state", Some(link.name()), session_id("s"))?;
    answer.refused(410, "com.microsoft:session-lock-lost", "The session lock has expired");
    sdk.close(&[&management])
}

fn dotnet_peeks_a_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &[("a", "1"), ("b", "2"), ("a", "3")])?;
    let link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("a"))?;
    let mut management = sdk.management(queue)?;
    let body = |from: i64| {
        let mut body = session_id("a");
        body.push((Value::string("from-sequence-number"), Value::Long(from)));
        body.push((Value::string("message-count"), Value::Int(10)));
        body
    };
    let peeked = sdk.manage(&mut management, "peek-message", Some(link.name()), body(1))?.ok().peeked();
    assert!(peeked.iter().map(lockstep_interop_amqp::Message::text).eq(["1", "3"]));
    let after = peeked[1].sequence_number()? + 1;
    assert_eq!(sdk.manage(&mut management, "peek-message", Some(link.name()), body(after))?.status, 204);
    sdk.close_receiver(&link)?;
    sdk.close(&[&management])
}
