//! What an entity allows: its status, its size, its keys, and how its messages are shared out.

use bytes::Bytes;
use lockstep_amqp::types::{DeliveryState, Outcome as Terminal, Value};
use lockstep_interop_amqp::{
    Client, Outcome, Outgoing, Response, receiver, sender, text_message, utc_millis,
};

use crate::{
    numbered::{RECEIVE_AND_DELETE, fetch, shown},
    scheduling::{due, schedule},
    sending::rejected,
    suite::{Scenario, scenarios},
};

scenarios![
    a_queue_that_is_disabled_refuses_both_ways,
    a_queue_that_is_disabled_for_sending_can_be_emptied,
    a_queue_that_is_disabled_for_receiving_can_be_filled,
    a_full_queue_takes_nothing_more,
    states_of_message_sessions_count_for_the_size_of_a_queue,
    keys_of_messages_in_a_partitioned_queue,
    nothing_comes_behind_the_answer_to_a_drain,
    receivers_that_compete_share_messages,
];

const HOUR_MILLIS: i64 = 3_600_000;
const DISABLED: &str = "com.microsoft:entity-disabled";
const FULL: &str = "amqp:resource-limit-exceeded";

fn expect_disabled(response: &Response) {
    assert_eq!(response.verdict(), (400, DISABLED), "{response:?}");
    assert!(response.description.contains("currently disabled"), "{response:?}");
}

fn expect_accepted(state: &DeliveryState) {
    assert_eq!(*state, DeliveryState::Outcome(Terminal::Accepted));
}

/// Neither a new link nor a request adds a message.
fn sending_is_refused(client: &mut Client, queue: &str) -> Outcome {
    let refused = client.refused(sender("disabled", queue))?;
    assert_eq!(refused.0, DISABLED, "{refused:?}");
    expect_disabled(&schedule(client, queue, &[due("1", utc_millis() + HOUR_MILLIS).encode()])?);
    Ok(())
}

fn receiving_is_refused(client: &mut Client, queue: &str) -> Outcome {
    let refused = client.refused(receiver("disabled", queue))?;
    assert_eq!(refused.0, DISABLED, "{refused:?}");
    expect_disabled(&fetch(client, queue, &[1], RECEIVE_AND_DELETE, None)?);
    Ok(())
}

fn a_queue_that_is_disabled_refuses_both_ways(s: &Scenario) -> Outcome {
    let mut client = s.connect()?;
    sending_is_refused(&mut client, s.queue())?;
    receiving_is_refused(&mut client, s.queue())?;
    client.close()
}

fn a_queue_that_is_disabled_for_sending_can_be_emptied(s: &Scenario) -> Outcome {
    let mut client = s.connect()?;
    sending_is_refused(&mut client, s.queue())?;
    let link = client.receiver(s.queue(), 0)?;
    assert!(client.drain(link, 10)?.is_empty());
    client.close()
}

fn a_queue_that_is_disabled_for_receiving_can_be_filled(s: &Scenario) -> Outcome {
    let mut client = s.connect()?;
    let link = client.sender(s.queue())?;
    client.send(link, text_message("1", None))?;
    receiving_is_refused(&mut client, s.queue())?;
    assert_eq!(shown(&mut client, s.queue())?, [("1".to_owned(), 0, 0)]);
    client.close()
}

/// Sends until the queue has no room; how many went in.
fn fill(client: &mut Client, queue: &str, id: Option<&str>) -> Outcome<usize> {
    let link = client.sender(queue)?;
    let message = text_message("x".repeat(100_000), id);
    for count in 0..100 {
        let state = client.try_send(link, message.clone())?;
        if state != DeliveryState::Outcome(Terminal::Accepted) {
            let (condition, text) = rejected(&state)?;
            assert_eq!(condition, FULL);
            assert!(text.starts_with("The maximum entity size has been reached or exceeded for"), "{text}");
            return Ok(count);
        }
    }
    panic!("ten times its size went in")
}

fn a_full_queue_takes_nothing_more(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    // A mebibyte.
    let count = fill(&mut client, queue, None)?;
    assert!((10..=11).contains(&count), "{count}");
    let link = client.sender(queue)?;
    let state = client.try_send_batch(link, &[text_message("1", None), text_message("2", None)])?;
    assert_eq!(rejected(&state)?.0, FULL);
    let response = schedule(&mut client, queue, &[due("1", utc_millis() + HOUR_MILLIS).encode()])?;
    assert_eq!(response.verdict(), (403, FULL), "{response:?}");
    // What is there can be had; what is dead-lettered still counts.
    let receiving = client.receiver(queue, 2)?;
    let deliveries = client.receive_many(receiving, 2)?;
    client.try_settle(&deliveries[0], Terminal::Rejected(None))?;
    assert_eq!(rejected(&client.try_send(link, text_message("1", None))?)?.0, FULL);
    client.complete(&deliveries[1])?;
    expect_accepted(&client.try_send(link, text_message("1", None))?);
    client.close()
}

fn states_of_message_sessions_count_for_the_size_of_a_queue(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    client.accept(queue, "s", 0)?;
    client.accept(queue, "t", 0)?;
    let set = |client: &mut Client, id: &str, state: Value| {
        let body =
            vec![(Value::string("session-id"), Value::string(id)), (Value::string("session-state"), state)];
        client.manage(queue, "set-session-state", body)
    };
    let bytes = |count: usize| Value::Binary(Bytes::from(vec![7; count]));
    set(&mut client, "s", bytes(250_000))?.ok()?;
    let count = fill(&mut client, queue, Some("s"))?;
    assert!((8..=9).contains(&count), "{count}");
    let response = set(&mut client, "t", bytes(250_000))?;
    assert_eq!(response.verdict(), (403, FULL), "{response:?}");
    // A smaller one is no growth, and makes room.
    set(&mut client, "s", bytes(10))?.ok()?;
    let response = set(&mut client, "s", Value::Null)?;
    response.ok()?;
    let link = client.sender(queue)?;
    expect_accepted(&client.try_send(link, text_message("1", Some("s")))?);
    client.close()
}

fn keyed(text: &str, id: Option<&str>, key: Option<&str>) -> Outgoing {
    let mut message = Outgoing::text(text);
    message.properties.group_id = id.map(Into::into);
    let annotation = |key: &str| (Value::symbol("x-opt-partition-key"), Value::string(key));
    message.annotations = key.map(annotation).into_iter().collect();
    message
}

fn keys_of_messages_in_a_partitioned_queue(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    let refused = |state: &DeliveryState| {
        assert_eq!(rejected(state)?.0, "amqp:not-allowed");
        Outcome::Ok(())
    };
    refused(&client.try_send(link, keyed("1", Some("a"), Some("b")).encode())?)?;
    expect_accepted(&client.try_send(link, keyed("1", Some("a"), Some("a")).encode())?);
    expect_accepted(&client.try_send(link, keyed("2", Some("a"), None).encode())?);
    expect_accepted(&client.try_send(link, keyed("3", None, Some("b")).encode())?);
    let of = |keys: [(Option<&str>, Option<&str>); 2]| keys.map(|(id, key)| keyed("batch", id, key).encode());
    for keys in [
        [(Some("a"), None), (Some("b"), None)],
        [(None, Some("a")), (None, Some("b"))],
        [(None, Some("a")), (None, None)],
        [(Some("a"), None), (None, Some("b"))],
    ] {
        refused(&client.try_send_batch(link, &of(keys))?)?;
    }
    for keys in [
        [(Some("a"), None), (Some("a"), Some("a"))],
        [(None, Some("a")), (None, Some("a"))],
        [(None, None); 2],
    ] {
        expect_accepted(&client.try_send_batch(link, &of(keys))?);
    }
    // The key comes back; the numbers have no bits of a partition in them.
    let receiving = client.receiver(queue, 0)?;
    let deliveries = client.drain(receiving, 20)?;
    assert_eq!(deliveries.len(), 9);
    for (delivery, number) in deliveries.iter().zip(1_i64..) {
        assert_eq!(delivery.message.sequence_number()?, number);
    }
    assert_eq!(deliveries[2].message.annotation("x-opt-partition-key"), Some(&Value::string("b")));
    assert_eq!(deliveries[1].message.annotation("x-opt-partition-key"), None);
    client.close()
}

fn nothing_comes_behind_the_answer_to_a_drain(s: &Scenario) -> Outcome {
    const ROUNDS: usize = 40;
    let queue = s.queue();
    let mut client = s.connect()?;
    let mut other = s.connect()?;
    let sending = other.sender(queue)?;
    let receiving = client.receiver(queue, 0)?;
    let mut received = 0;
    for _ in 0..ROUNDS {
        // Under way while the drain is.
        for _ in 0..20 {
            other.start_send(sending, 0, true, text_message("x", None))?;
        }
        other.flush()?;
        for delivery in client.drain(receiving, 1_000)? {
            client.complete(&delivery)?;
            received += 1;
        }
        // What is asked for later is answered later: by now it would have come.
        shown(&mut client, queue)?;
        let late = client.arrived(receiving)?;
        assert!(late.is_empty(), "{} came behind the answer", late.len());
    }
    // All is there that did not come.
    let link = other.receiver(queue, 0)?;
    let rest = other.drain(link, 10_000)?.len();
    assert_eq!(received + rest, ROUNDS * 20);
    client.close()
}

fn receivers_that_compete_share_messages(s: &Scenario) -> Outcome {
    const RECEIVERS: usize = 4;
    const MESSAGES: usize = 200;
    let queue = s.queue();
    let mut clients = Vec::new();
    for _ in 0..RECEIVERS {
        let mut client = s.connect()?;
        let link = client.receiver(queue, 100)?;
        clients.push((client, link));
    }
    // An answer to each shows that its credit has come.
    for (client, _) in &mut clients {
        shown(client, queue)?;
    }
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    for number in 0..MESSAGES {
        client.send(link, text_message(number.to_string(), None))?;
    }
    let mut counts = Vec::new();
    for (client, link) in &mut clients {
        shown(client, queue)?;
        counts.push(client.arrived(*link)?.len());
    }
    assert_eq!(counts.iter().sum::<usize>(), MESSAGES, "{counts:?}");
    // Nobody starves beside the others.
    assert!(counts.iter().all(|count| *count >= MESSAGES / RECEIVERS / 2), "{counts:?}");
    client.close()
}
