//! Deferral: messages put aside and found by their numbers.

use std::time::Duration;

use lockstep_amqp::types::{Map, Value};
use lockstep_interop_amqp::{
    Client, Delivery, Outcome, Response, associated_link, text_message, utc_millis, wait_until,
};

use crate::{
    locks::{tokens, update_disposition},
    numbered::{
        PEEK_LOCK, RECEIVE_AND_DELETE, defer, expect_argument_error, expect_not_found, fetch, fetch_one,
        fetched, numbers, settle_tokens, shown, time_of,
    },
    suite::{Scenario, scenarios},
};

scenarios![
    deferred_messages_are_found_by_their_numbers_only,
    every_settlement_of_a_deferred_message,
    fetching_by_number_is_all_or_nothing,
    a_deferred_message_is_received_and_deleted,
    deferring_by_token_from_another_connection,
    a_deferred_message_of_a_message_session_needs_its_lock,
    a_lost_message_session_lock_leaves_messages_deferred,
    the_lock_of_a_deferred_message_is_renewed_and_runs_out,
    deferring_never_dead_letters,
    messages_are_deferred_in_dead_letter_queues,
];

/// Lock duration of the queues whose subject is expiry.
const SHORT_LOCK_MILLIS: i64 = 5_000;
/// Expiry, with room for a busy machine.
const AFTER_EXPIRY: Duration = Duration::from_secs(12);

/// Sends these texts, and receives them.
fn send_and_receive(client: &mut Client, queue: &str, texts: &[&str]) -> Outcome<Vec<Delivery>> {
    let sender = client.sender(queue)?;
    client.send_all(sender, texts.iter().map(|text| text_message(text, None)))?;
    let credit = u32::try_from(texts.len()).unwrap_or(u32::MAX);
    let receiving = client.receiver(queue, credit)?;
    client.receive_many(receiving, texts.len())
}

fn expect_message_session_lock_lost(response: &Response) {
    assert_eq!(response.verdict(), (410, "com.microsoft:session-lock-lost"), "{response:?}");
}

fn deferred_messages_are_found_by_their_numbers_only(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let deliveries = send_and_receive(&mut client, queue, &["1", "2", "3"])?;
    defer(&mut client, &deliveries[0], &[("why", Value::string("later"))])?;
    update_disposition(&mut client, queue, "defered", deliveries[1].token()?, &[])?.ok()?;
    update_disposition(&mut client, queue, "deferred", deliveries[2].token()?, &[])?.ok()?;
    let receiving = client.receiver(queue, 0)?;
    assert!(client.drain(receiving, 10)?.is_empty());
    let three = |count| ["1", "2", "3"].map(|text| (text.to_owned(), 1, count)).to_vec();
    assert_eq!(shown(&mut client, queue)?, three(1));

    // In the order asked, each locked from now on.
    let before = utc_millis();
    let messages = fetched(fetch(&mut client, queue, &[3, 1, 2], PEEK_LOCK, None)?)?;
    let after = utc_millis();
    let texts: Vec<_> = messages.iter().map(|(message, _)| message.text()).collect();
    assert_eq!(texts, ["3", "1", "2"]);
    for (message, token) in &messages {
        assert_eq!(message.annotation("x-opt-message-state"), Some(&Value::Int(1)));
        assert_eq!(message.delivery_annotation("x-opt-lock-token"), Some(token));
        assert_eq!(message.delivery_count(), Some(1));
        let until = time_of(message, "x-opt-locked-until")?;
        assert!((before + 60_000..=after + 60_000).contains(&until), "{before} {until} {after}");
        assert!(time_of(message, "x-opt-enqueued-time")? <= before);
        let why = (message.text() == "1").then(|| Value::string("later"));
        assert_eq!(message.property("why"), why.as_ref());
    }
    // What is locked by number stays deferred.
    assert_eq!(shown(&mut client, queue)?, three(1));
    let tokens = messages.into_iter().map(|(_, token)| token).collect();
    settle_tokens(&mut client, queue, "completed", tokens)?.ok()?;
    assert_eq!(shown(&mut client, queue)?, []);
    client.close()
}

fn every_settlement_of_a_deferred_message(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let texts = ["complete", "abandon", "defer", "dead-letter"];
    for delivery in send_and_receive(&mut client, queue, &texts)? {
        defer(&mut client, &delivery, &[])?;
    }
    // Settled from another connection: the token is enough.
    let mut other = s.connect()?;
    let properties = Value::Map(vec![(Value::string("mine"), Value::Int(7))]);
    let mut settle = |number: i64, status: &str| {
        let (_, token) = fetch_one(&mut client, queue, number, None)?;
        let further = [
            ("properties-to-modify", properties.clone()),
            ("deadletter-reason", Value::string("why")),
            ("deadletter-description", Value::string("because")),
        ];
        update_disposition(&mut other, queue, status, token.clone(), &further)?.ok()?;
        // Once only.
        let again = update_disposition(&mut other, queue, status, token, &[])?;
        assert_eq!(again.verdict(), (410, "com.microsoft:message-lock-lost"), "{again:?}");
        Outcome::Ok(())
    };
    settle(1, "completed")?;
    settle(2, "abandoned")?;
    settle(3, "defered")?;
    settle(4, "suspended")?;
    let expected = [("abandon".to_owned(), 1, 2), ("defer".to_owned(), 1, 2)];
    assert_eq!(shown(&mut client, queue)?, expected);
    for number in [2, 3] {
        let (message, _) = fetch_one(&mut client, queue, number, None)?;
        assert_eq!(message.delivery_count(), Some(2));
        assert_eq!(message.property("mine"), Some(&Value::Int(7)));
        assert_eq!(message.property("DeadLetterReason"), None);
    }
    expect_not_found(&fetch(&mut client, queue, &[4], PEEK_LOCK, None)?);
    // Dead-lettered it is an ordinary message, counted as before.
    let dead = client.receiver(&format!("{queue}/$DeadLetterQueue"), 1)?;
    let dead = client.receive(dead)?;
    assert_eq!((dead.text(), dead.count()), ("dead-letter", 1));
    assert_eq!(dead.message.property("DeadLetterReason"), Some(&Value::string("why")));
    assert_eq!(dead.message.property("DeadLetterErrorDescription"), Some(&Value::string("because")));
    assert_eq!(dead.message.property("mine"), Some(&Value::Int(7)));
    assert_eq!(dead.message.annotation("x-opt-message-state"), None);
    client.complete(&dead)?;
    other.close()?;
    client.close()
}

fn fetching_by_number_is_all_or_nothing(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let deliveries = send_and_receive(&mut client, queue, &["1", "2", "locked"])?;
    defer(&mut client, &deliveries[0], &[])?;
    defer(&mut client, &deliveries[1], &[])?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("available", None))?;
    let asked: [&[i64]; 9] = [
        &[1, 3],
        &[4, 1],
        &[1, 99],
        &[0],
        &[-1, 1],
        &[i64::MAX],
        &[i64::MIN],
        // Named twice it is locked the second time.
        &[1, 1],
        &[98, 99],
    ];
    for wanted in asked {
        for mode in [PEEK_LOCK, RECEIVE_AND_DELETE] {
            expect_not_found(&fetch(&mut client, queue, wanted, mode, None)?);
        }
    }
    let too_many: Vec<i64> = (1..=10_001).collect();
    expect_argument_error(&fetch(&mut client, queue, &too_many, PEEK_LOCK, None)?);
    expect_argument_error(&fetch(&mut client, queue, &[1], Value::Uint(2), None)?);
    expect_argument_error(&client.manage(queue, "receive-by-sequence-number", Map::new())?);
    assert!(fetched(fetch(&mut client, queue, &[], PEEK_LOCK, None)?)?.is_empty());

    // Nothing of all that locked one. A mode may have any width, and is peek-lock if it is missing.
    let messages = fetched(fetch(&mut client, queue, &[1], Value::Ubyte(1), None)?)?;
    assert_eq!(messages.len(), 1);
    expect_not_found(&fetch(&mut client, queue, &[1], PEEK_LOCK, None)?);
    expect_not_found(&fetch(&mut client, queue, &[2, 1], PEEK_LOCK, None)?);
    let messages = fetched(client.manage(queue, "receive-by-sequence-number", numbers(&[2]))?)?;
    assert!(time_of(&messages[0].0, "x-opt-locked-until")? > utc_millis());
    client.close()
}

fn a_deferred_message_is_received_and_deleted(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    for delivery in send_and_receive(&mut client, queue, &["1", "2", "3"])? {
        defer(&mut client, &delivery, &[])?;
    }
    let messages = fetched(fetch(&mut client, queue, &[2, 1], RECEIVE_AND_DELETE, None)?)?;
    let texts: Vec<_> = messages.iter().map(|(message, _)| message.text()).collect();
    assert_eq!(texts, ["2", "1"]);
    for (message, token) in &messages {
        assert_eq!(message.annotation("x-opt-message-state"), Some(&Value::Int(1)));
        assert_eq!(message.annotation("x-opt-locked-until"), None);
        assert_eq!(message.delivery_annotation("x-opt-lock-token"), None);
        let response = update_disposition(&mut client, queue, "completed", token.clone(), &[])?;
        assert_eq!(response.verdict(), (410, "com.microsoft:message-lock-lost"));
    }
    expect_not_found(&fetch(&mut client, queue, &[2], RECEIVE_AND_DELETE, None)?);
    assert_eq!(shown(&mut client, queue)?, [("3".to_owned(), 1, 1)]);
    client.close()
}

fn deferring_by_token_from_another_connection(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let deliveries = send_and_receive(&mut client, queue, &["1"])?;
    let token = deliveries[0].token()?;
    client.close()?;
    let mut client = s.connect()?;
    let mine = [("properties-to-modify", Value::Map(vec![(Value::string("mine"), Value::Int(7))]))];
    update_disposition(&mut client, queue, "defered", token, &mine)?.ok()?;
    let (message, _) = fetch_one(&mut client, queue, 1, None)?;
    assert_eq!((message.text(), message.property("mine")), ("1", Some(&Value::Int(7))));
    client.close()
}

fn a_deferred_message_of_a_message_session_needs_its_lock(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let mut other = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, ["a", "b"].map(|text| text_message(text, Some("s"))))?;
    client.send(sender, text_message("c", Some("t")))?;
    let of_s = client.accept(queue, "s", 1)?;
    let delivery = client.receive(of_s)?;
    defer(&mut client, &delivery, &[])?;
    // The others of its message session go on.
    client.credit(of_s, 1)?;
    assert_eq!(client.receive(of_s)?.text(), "b");

    expect_message_session_lock_lost(&fetch(&mut client, queue, &[1], PEEK_LOCK, None)?);
    expect_message_session_lock_lost(&fetch(&mut other, queue, &[1], PEEK_LOCK, Some("s"))?);
    let of_t = client.accept(queue, "t", 1)?;
    let in_t = client.receive(of_t)?;
    defer(&mut client, &in_t, &[])?;
    expect_not_found(&fetch(&mut client, queue, &[1], PEEK_LOCK, Some("t"))?);
    expect_not_found(&fetch(&mut client, queue, &[1, 3], PEEK_LOCK, Some("s"))?);
    // A link that the request names has to hold it.
    let mut body = numbers(&[1]);
    body.push((Value::string("session-id"), Value::string("s")));
    let wrong = vec![associated_link(&client.link_name(of_t)?)];
    let response = client.manage_with(queue, "receive-by-sequence-number", body, wrong)?;
    expect_message_session_lock_lost(&response);

    let (message, token) = fetch_one(&mut client, queue, 1, Some("s"))?;
    assert_eq!((message.text(), message.delivery_count()), ("a", Some(1)));
    assert!(time_of(&message, "x-opt-locked-until")? > utc_millis());
    // Nobody else settles it.
    let response = update_disposition(&mut other, queue, "completed", token.clone(), &[])?;
    expect_message_session_lock_lost(&response);
    // Released it is deferred as before, uncounted; the next holder finds it.
    client.detach(of_s)?;
    expect_message_session_lock_lost(&update_disposition(&mut client, queue, "completed", token, &[])?);
    let next = other.accept(queue, "s", 1)?;
    assert_eq!(other.receive(next)?.text(), "b");
    let (message, token) = fetch_one(&mut other, queue, 1, Some("s"))?;
    assert_eq!(message.delivery_count(), Some(1));
    update_disposition(&mut other, queue, "completed", token, &[])?.ok()?;
    expect_not_found(&fetch(&mut other, queue, &[1], PEEK_LOCK, Some("s"))?);
    client.close()?;
    other.close()
}

fn a_lost_message_session_lock_leaves_messages_deferred(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("a", Some("s")))?;
    let link = client.accept(queue, "s", 1)?;
    let delivery = client.receive(link)?;
    defer(&mut client, &delivery, &[])?;
    let (_, token) = fetch_one(&mut client, queue, 1, Some("s"))?;
    let lost = client.expect_forced_detach(link, AFTER_EXPIRY)?;
    assert_eq!(lost.0, "com.microsoft:session-lock-lost", "{lost:?}");
    let response = update_disposition(&mut client, queue, "completed", token, &[])?;
    expect_message_session_lock_lost(&response);
    assert_eq!(shown(&mut client, queue)?, [("a".to_owned(), 1, 2)]);
    let link = client.accept(queue, "s", 0)?;
    assert!(client.drain(link, 10)?.is_empty());
    assert_eq!(fetch_one(&mut client, queue, 1, Some("s"))?.0.delivery_count(), Some(2));
    client.close()
}

fn the_lock_of_a_deferred_message_is_renewed_and_runs_out(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let delivery = send_and_receive(&mut client, queue, &["1"])?.remove(0);
    defer(&mut client, &delivery, &[])?;
    let (message, token) = fetch_one(&mut client, queue, 1, None)?;
    let until = time_of(&message, "x-opt-locked-until")?;
    let renewed = client.manage(queue, "renew-lock", tokens(vec![token.clone()]))?.ok()?;
    let Some(Value::Array(ends)) = renewed.entry("expirations") else { panic!("{renewed:?}") };
    let [Value::Timestamp(end)] = ends.elements[..] else { panic!("{renewed:?}") };
    assert!(end >= until && end <= utc_millis() + SHORT_LOCK_MILLIS, "{until} {end}");
    // It runs out by itself, counts, and the message is deferred as before.
    wait_until("the end of the lock", AFTER_EXPIRY, || {
        let shown = shown(&mut client, queue).ok()?;
        (shown == [("1".to_owned(), 1, 2)]).then_some(())
    })?;
    let response = update_disposition(&mut client, queue, "completed", token, &[])?;
    assert_eq!(response.verdict(), (410, "com.microsoft:message-lock-lost"));
    let receiving = client.receiver(queue, 0)?;
    assert!(client.drain(receiving, 10)?.is_empty());
    assert_eq!(fetch_one(&mut client, queue, 1, None)?.0.delivery_count(), Some(2));
    client.close()
}

fn deferring_never_dead_letters(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let delivery = send_and_receive(&mut client, queue, &["1"])?.remove(0);
    defer(&mut client, &delivery, &[])?;
    // The queue dead-letters at the second failure; a deferral is counted, but is none.
    for count in 1..5 {
        let (message, token) = fetch_one(&mut client, queue, 1, None)?;
        assert_eq!(message.delivery_count(), Some(count));
        update_disposition(&mut client, queue, "defered", token, &[])?.ok()?;
    }
    assert_eq!(shown(&mut client, queue)?, [("1".to_owned(), 1, 5)]);
    client.close()
}

fn messages_are_deferred_in_dead_letter_queues(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let dead_letters = format!("{queue}/$DeadLetterQueue");
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("a", Some("s")))?;
    let link = client.accept(queue, "s", 1)?;
    let delivery = client.receive(link)?;
    update_disposition(&mut client, queue, "suspended", delivery.token()?, &[])?.ok()?;
    client.detach(link)?;
    // There it is a plain queue: no lock of a message session is needed, nothing is counted.
    let dead = client.receiver(&dead_letters, 1)?;
    let delivery = client.receive(dead)?;
    let number = delivery.message.sequence_number()?;
    defer(&mut client, &delivery, &[])?;
    assert_eq!(shown(&mut client, &dead_letters)?, [("a".to_owned(), 1, 0)]);
    expect_message_session_lock_lost(&fetch(&mut client, queue, &[number], PEEK_LOCK, None)?);
    let (message, token) = fetch_one(&mut client, &dead_letters, number, None)?;
    assert_eq!((message.text(), message.delivery_count()), ("a", Some(0)));
    update_disposition(&mut client, &dead_letters, "abandoned", token, &[])?.ok()?;
    // A client may name the message session all the same.
    let (message, token) = fetch_one(&mut client, &dead_letters, number, Some("s"))?;
    assert_eq!(message.delivery_count(), Some(0));
    let response = update_disposition(&mut client, &dead_letters, "suspended", token.clone(), &[])?;
    assert_eq!(response.verdict(), (400, "amqp:not-allowed"), "{response:?}");
    update_disposition(&mut client, &dead_letters, "completed", token, &[])?.ok()?;
    assert_eq!(shown(&mut client, &dead_letters)?, []);
    client.close()
}
