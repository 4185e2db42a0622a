//! Messages that are larger than the broker keeps in memory.

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::types::{
    Attach, DeliveryState, Error, Outcome as Terminal, Performative, Transfer, Value,
};
use lockstep_interop_amqp::{
    ANSWER, Broker, Client, Delivery, Message, Outcome, Outgoing, RawConnection, receive_and_delete, sender,
    text_message, wait_until,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    a_message_of_100_mib_passes_both_ways_in_bounded_memory,
    a_growing_message_over_a_large_limit_is_refused_before_it_ends,
    a_large_message_given_up_or_cut_off_leaves_nothing,
    a_kill_loses_no_large_message_and_leaves_no_part_of_one,
    several_large_messages_at_once_stay_under_the_budget,
    a_large_message_of_a_message_session_is_dead_lettered,
];

const MIB: usize = 1 << 20;
/// What a queue may be configured to take, in bytes.
const LARGEST: usize = 100 * MIB;
/// Time for a message of that size on a busy machine with a slow disk.
const LONG: Duration = Duration::from_secs(120);
/// Memory that the broker may take for any number of large messages beyond what it has at rest: the
/// buffers of its store, 64 MiB of messages that are not durable yet, and a few MiB a connection.
const MEMORY_KIB_MAX: u64 = 400 << 10;

/// A message of exactly so many bytes, whose body differs from place to place.
fn of_size(bytes: usize, salt: u32) -> Bytes {
    let body = |length: usize| {
        let words = (0..length.div_ceil(4) as u32).flat_map(|word| (word ^ salt).to_be_bytes());
        Bytes::from_iter(words.take(length))
    };
    let overhead = Outgoing { body: body(MIB), ..Outgoing::default() }.encode().len() - MIB;
    let message = Outgoing { body: body(bytes - overhead), ..Outgoing::default() }.encode();
    assert_eq!(message.len(), bytes);
    message
}

/// Whether a delivery has the body of that message.
fn is(delivery: &Delivery, message: &Bytes) -> bool {
    let body = &delivery.message.body;
    !body.is_empty() && message.ends_with(body)
}

fn send(client: &mut Client, queue: &str, message: Bytes) -> Outcome {
    let link = client.sender(queue)?;
    let sent = client.start_send(link, 0, false, message)?;
    assert_eq!(client.outcome_within(sent, LONG)?, DeliveryState::Outcome(Terminal::Accepted));
    client.detach(link)
}

fn a_message_of_100_mib_passes_both_ways_in_bounded_memory(s: &Scenario) -> Outcome {
    let broker = s.own_broker()?;
    let mut client = broker.connect()?;
    let (link, answer) = client.attach(sender("limit", s.queue()))?;
    assert_eq!(answer.max_message_size, Some(LARGEST as u64));
    client.detach(link)?;
    let at_rest = broker.resident_kib()?;

    let message = of_size(LARGEST, 1);
    send(&mut client, s.queue(), message.clone())?;
    let link = client.receiver(s.queue(), 5)?;
    let first = client.receive_within(link, LONG)?;
    assert!(is(&first, &message));
    assert_eq!((first.count(), first.message.sequence_number()?), (0, 1));
    // Once more: the annotations are made anew, the rest comes from the same rows.
    client.abandon(&first)?;
    let second = client.receive_within(link, LONG)?;
    assert!(is(&second, &message));
    assert_eq!(second.count(), 1);
    client.complete(&second)?;
    let taken = broker.peak_kib()? - at_rest;
    println!("one message of 100 MiB: {taken} KiB over {at_rest} KiB");
    assert!(taken < MEMORY_KIB_MAX, "{taken} KiB");
    client.nothing_comes(Duration::from_millis(300))?;
    client.close()
}

/// A raw connection with a sender attached under handle 0.
fn raw_sender(broker: &Broker, queue: &str) -> Outcome<RawConnection> {
    let mut raw = broker.connect_raw()?;
    raw.handshake(broker.home())?;
    raw.attach(0, 0, Attach { initial_delivery_count: Some(0), ..sender("raw", queue) })?;
    raw.expect("credit", |_, performative, _| {
        matches!(performative, Performative::Flow(flow) if flow.handle.is_some()).then_some(())
    })?;
    Ok(raw)
}

/// Sends the first bytes of a message, in frames of 64 KiB at the most, and does not end it.
fn send_beginning(raw: &mut RawConnection, id: u32, beginning: &[u8]) -> Outcome {
    let mut transfer = Transfer {
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
        message_format: Some(0),
        more: true,
        ..Transfer::default()
    };
    for frame in beginning.chunks(60_000) {
        raw.transfer(0, &transfer, frame)?;
        transfer = Transfer { more: true, ..Transfer::default() };
    }
    Ok(())
}

fn a_growing_message_over_a_large_limit_is_refused_before_it_ends(s: &Scenario) -> Outcome {
    const TOO_LARGE: &str = "amqp:link:message-size-exceeded";
    let mut raw = raw_sender(s.broker(), s.queue())?;
    // The queue takes 3 MiB.
    send_beginning(&mut raw, 0, &of_size(4 * MIB, 2)[..3 * MIB + 60_000])?;
    let condition = |error: &Option<Error>| error.as_ref().map(|error| error.condition.to_string());
    let rejected = raw.expect("the outcome", |_, performative, _| match performative {
        Performative::Disposition(disposition) => Some(disposition.state.clone()),
        _ => None,
    })?;
    let Some(DeliveryState::Outcome(Terminal::Rejected(error))) = rejected else { panic!("{rejected:?}") };
    assert_eq!(condition(&error).as_deref(), Some(TOO_LARGE));
    let ended = raw.expect("the detach", |_, performative, _| match performative {
        Performative::Detach(detach) => Some(condition(&detach.error)),
        _ => None,
    })?;
    assert_eq!(ended.as_deref(), Some(TOO_LARGE));
    // The largest one passes, and is the only one there.
    let mut client = s.connect()?;
    let message = of_size(3 * MIB, 3);
    send(&mut client, s.queue(), message.clone())?;
    let link = client.receiver(s.queue(), 5)?;
    assert!(is(&client.receive_within(link, LONG)?, &message));
    client.nothing_comes(Duration::from_millis(300))?;
    client.close()
}

/// A start says so when it finds rows of a message that never became whole.
const REMOVED: &str = "removed stored bodies that no message names";

fn a_large_message_given_up_or_cut_off_leaves_nothing(s: &Scenario) -> Outcome {
    let broker = s.own_broker()?;
    let beginning = of_size(10 * MIB, 4).slice(..7 * MIB);
    // Aborted; then with its link; then with its AMQP connection.
    let mut raw = raw_sender(&broker, s.queue())?;
    send_beginning(&mut raw, 0, &beginning)?;
    raw.transfer(0, &Transfer { aborted: true, ..Transfer::default() }, &[])?;
    send_beginning(&mut raw, 1, &beginning)?;
    raw.frame(
        0,
        Performative::Detach(lockstep_amqp::types::Detach { handle: 0, closed: true, error: None }),
    )?;
    raw.expect("the detach", |_, performative, _| {
        matches!(performative, Performative::Detach(_)).then_some(())
    })?;
    let mut raw = raw_sender(&broker, s.queue())?;
    send_beginning(&mut raw, 0, &beginning)?;
    raw.finish()?;
    raw.read_to_end()?;
    // What is answered behind that shows that the broker has seen it.
    let mut client = broker.connect()?;
    let message = of_size(2 * MIB, 5);
    send(&mut client, s.queue(), message.clone())?;
    client.close()?;
    broker.stop()?;
    broker.restart()?;
    assert!(!broker.log()?.contains(REMOVED), "everything was removed while it ran");
    let mut client = broker.connect()?;
    let link = client.receiver(s.queue(), 5)?;
    assert!(is(&client.receive_within(link, LONG)?, &message));
    client.nothing_comes(Duration::from_millis(300))?;
    client.close()
}

fn a_kill_loses_no_large_message_and_leaves_no_part_of_one(s: &Scenario) -> Outcome {
    let broker = s.own_broker()?;
    let mut client = broker.connect()?;
    let message = of_size(5 * MIB, 6);
    send(&mut client, s.queue(), message.clone())?;
    // One is under way, with rows that are durable: what is accepted behind them on another link is
    // behind them in the log.
    let mut raw = raw_sender(&broker, s.queue())?;
    let written_kib = broker.stored_kib()?;
    send_beginning(&mut raw, 0, &of_size(10 * MIB, 7)[..7 * MIB])?;
    let small = client.sender(s.queue())?;
    wait_until("rows of the unfinished message in the log", ANSWER, || {
        let sent = client.send(small, text_message("small", None));
        (sent.is_err() || broker.stored_kib().is_ok_and(|kib| kib > written_kib + (4 << 10))).then_some(())
    })?;
    broker.kill();
    broker.restart()?;
    assert!(broker.log()?.contains(REMOVED), "{}", broker.log_tail());
    let mut client = broker.connect()?;
    let link = client.receiver(s.queue(), 1_000)?;
    let first = client.receive_within(link, LONG)?;
    assert!(is(&first, &message));
    client.complete(&first)?;
    let rest = client.drain(link, 1_000)?;
    assert!(!rest.is_empty() && rest.iter().all(|delivery| delivery.text() == "small"));
    client.close()?;
    broker.restart()?;
    let starts = broker.log()?.matches(REMOVED).count();
    assert_eq!(starts, 1, "nothing was left to the second start");
    Ok(())
}

fn several_large_messages_at_once_stay_under_the_budget(s: &Scenario) -> Outcome {
    const CLIENTS: u32 = 6;
    const SIZE: usize = 40 * MIB;
    let broker = s.own_broker()?;
    broker.connect()?.close()?;
    let at_rest = broker.resident_kib()?;
    let queue = s.queue();
    let one = |number: u32| -> Outcome {
        let mut client = broker.connect()?;
        let message = of_size(SIZE, number);
        send(&mut client, queue, message)?;
        let name = format!("receiver-{number}");
        let (link, _) = client.attach(receive_and_delete(&name, queue))?;
        client.credit(link, 1)?;
        // Whose message it is does not matter, but it has to be one of them.
        let delivery = client.receive_within(link, LONG)?;
        assert!((0..CLIENTS).any(|salt| is(&delivery, &of_size(SIZE, salt))));
        client.close()
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || one(number))).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client panicked"))
    })?;
    let taken = broker.peak_kib()? - at_rest;
    println!("{CLIENTS} messages of 40 MiB at once: {taken} KiB over {at_rest} KiB");
    assert!(taken < MEMORY_KIB_MAX, "{taken} KiB");
    Ok(())
}

/// What a peek says of the body that it left out of the first message.
fn peeked_body_size(client: &mut Client, queue: &str) -> Outcome<Option<Value>> {
    let asked = vec![
        (Value::string("from-sequence-number"), Value::Long(0)),
        (Value::string("message-count"), Value::Int(1)),
    ];
    let response = client.manage(queue, "peek-message", asked)?.ok()?;
    let Some(Value::List(messages)) = response.entry("messages") else { panic!("{response:?}") };
    let Some(Value::Map(entry)) = messages.first() else { panic!("{response:?}") };
    let encoded = entry.iter().find(|(key, _)| key.as_text() == Some("message")).map(|(_, value)| value);
    let Some(Value::Binary(encoded)) = encoded else { panic!("{response:?}") };
    let message = Message::parse(encoded)?;
    assert!(message.body.is_empty());
    Ok(message.delivery_annotation("omitted-message-body-size").cloned())
}

fn a_large_message_of_a_message_session_is_dead_lettered(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let body = Bytes::from(vec![7; 3 * MIB]);
    let large = Outgoing { body: body.clone(), ..Outgoing::default() };
    let link = client.sender(queue)?;
    // Refused for what its first part lacks.
    let refused = client.try_send(link, large.encode())?;
    assert_eq!(crate::sending::rejected(&refused)?.0, "amqp:not-allowed");
    client.send(link, large.of("s").encode())?;
    client.send(link, text_message("behind", Some("s")))?;
    assert_eq!(peeked_body_size(&mut client, queue)?, Some(Value::Long(3 * MIB as i64 + 8)));
    let link = client.accept(queue, "s", 5)?;
    let delivery = client.receive_within(link, LONG)?;
    assert_eq!(delivery.message.body, body);
    assert_eq!(client.receive(link)?.text(), "behind");
    client.try_settle(
        &delivery,
        Terminal::Rejected(Some(Error::new("com.microsoft:dead-letter", "too large"))),
    )?;
    let dead_letters = format!("{queue}/$DeadLetterQueue");
    let link = client.receiver(&dead_letters, 1)?;
    let delivery = client.receive_within(link, LONG)?;
    assert_eq!(delivery.message.body, body);
    client.complete(&delivery)?;
    client.close()
}
