//! Accepting message sessions.

use std::time::Duration;

use lockstep_amqp::{
    LinkId,
    types::{Attach, Value},
};
use lockstep_interop_amqp::{
    ANSWER, Client, Deadline, Failed, Login, MESSAGE_SESSION_FILTER, Outcome, described_filter, receiver,
    text_message, with_filter, with_message_session, with_next_message_session, with_property,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    accept_cancelled_by_detach_takes_no_message_session,
    accept_cancelled_by_end_close_or_loss_takes_no_message_session,
    fifty_racing_accepts_have_one_winner,
    a_thousand_pending_accepts_and_one_message_wake_exactly_one,
    the_session_filter_comes_back_in_the_form_it_came,
    a_session_filter_of_a_wrong_type_is_refused,
    a_session_id_over_128_characters_is_refused,
    a_session_filter_on_a_dead_letter_queue_is_refused,
    a_lost_connection_is_taken_over_by_the_same_client,
];

/// What an accept is given to take something that it must not take.
const A_WHILE: Duration = Duration::from_millis(700);
/// Longer than any of these scenarios.
const LONG_WAIT_MILLIS: u32 = 60_000;

/// The value of the message-session filter of an answered attach.
fn granted(attach: &Attach) -> Option<&Value> {
    attach.source.as_ref()?.filter.as_ref()?.get(MESSAGE_SESSION_FILTER)
}

/// The message session is free, and its one message was never out.
fn expect_untouched(client: &mut Client, queue: &str, id: &str) -> Outcome {
    let link = client.accept(queue, id, 1)?;
    let delivery = client.receive(link)?;
    assert_eq!((delivery.text(), delivery.count()), ("m", 0));
    client.complete(&delivery)?;
    client.detach(link)
}

fn accept_cancelled_by_detach_takes_no_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let pending =
        client.start_attach(with_next_message_session(receiver("pending", queue), LONG_WAIT_MILLIS))?;
    client.nothing_comes(A_WHILE)?;
    client.start_detach(pending);
    client.expect_detached(pending, ANSWER)?;

    let sender = client.sender(queue)?;
    client.send(sender, text_message("m", Some("s")))?;
    client.nothing_comes(A_WHILE)?;
    expect_untouched(&mut client, queue, "s")?;

    // The name is free again.
    let (again, attach) = client.attach(with_message_session(receiver("pending", queue), "s"))?;
    assert_eq!(granted(&attach), Some(&Value::string("s")));
    client.detach(again)?;
    client.close()
}

fn accept_cancelled_by_end_close_or_loss_takes_no_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let next = || with_next_message_session(receiver("pending", queue), LONG_WAIT_MILLIS);
    let mut client = s.connect()?;
    let ended = client.begin()?;
    client.start_attach_on(ended, next())?;
    let mut closing = s.connect()?;
    closing.start_attach(next())?;
    let mut lost = s.connect()?;
    lost.start_attach(next())?;
    for waiting in [&mut client, &mut closing, &mut lost] {
        waiting.nothing_comes(A_WHILE)?;
    }
    client.end(ended)?;
    closing.close()?;
    drop(lost);

    // A round trip behind end shows that it was read; nothing shows that the loss was.
    let sender = client.sender(queue)?;
    lockstep_interop_amqp::wait_for_time_to_pass(A_WHILE);
    client.send(sender, text_message("m", Some("s")))?;
    expect_untouched(&mut client, queue, "s")?;
    client.close()
}

fn fifty_racing_accepts_have_one_winner(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut clients = (0..10).map(|_| s.connect()).collect::<Outcome<Vec<Client>>>()?;
    let mut racing: Vec<(usize, LinkId)> = Vec::new();
    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            let name = format!("racer-{round}");
            racing.push((number, client.start_attach(with_message_session(receiver(&name, queue), "x"))?));
        }
    }
    for client in &mut clients {
        client.flush()?;
    }
    let mut winners = 0;
    for (number, link) in racing {
        match clients[number].attach_answer(link, ANSWER)? {
            Ok(attach) => {
                assert_eq!(granted(&attach), Some(&Value::string("x")));
                winners += 1;
            }
            Err(error) => {
                let error = error.ok_or_else(|| Failed::new("a refusal without an error"))?;
                assert_eq!(error.condition.as_str(), "com.microsoft:session-cannot-be-locked");
            }
        }
    }
    assert_eq!(winners, 1);
    Ok(())
}

fn a_thousand_pending_accepts_and_one_message_wake_exactly_one(s: &Scenario) -> Outcome {
    const CONNECTIONS: usize = 4;
    const LINKS: usize = 250;
    const WAIT_MILLIS: u32 = 12_000;
    let queue = s.queue();
    let mut clients = (0..CONNECTIONS).map(|_| s.connect()).collect::<Outcome<Vec<Client>>>()?;
    let started = Deadline::after(Duration::from_millis(u64::from(WAIT_MILLIS)));
    let mut pending: Vec<(usize, LinkId)> = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        for link in 0..LINKS {
            let attach = with_next_message_session(receiver(&format!("{link}"), queue), WAIT_MILLIS);
            pending.push((number, client.start_attach(attach)?));
        }
        client.flush()?;
    }
    for client in &mut clients {
        client.nothing_comes(Duration::from_millis(300))?;
    }
    let mut other = s.connect()?;
    let sender = other.sender(queue)?;
    other.send(sender, text_message("m", Some("s")))?;

    // One of them gets it, and only one.
    let winner = first_winner(&mut clients, &pending)?;
    let settled_by = clients[winner.0].attach_answer(winner.1, ANSWER)?;
    assert!(settled_by.is_ok_and(|attach| granted(&attach) == Some(&Value::string("s"))));
    pending.retain(|&other| other != winner);
    for client in &mut clients {
        client.nothing_comes(A_WHILE)?;
    }
    // Let go with its message in it, it wakes one more.
    clients[winner.0].detach(winner.1)?;
    let second = first_winner(&mut clients, &pending)?;
    assert!(clients[second.0].attach_answer(second.1, ANSWER)?.is_ok());
    pending.retain(|&other| other != second);
    clients[second.0].credit(second.1, 1)?;
    let delivery = clients[second.0].receive(second.1)?;
    assert_eq!((delivery.text(), delivery.count()), ("m", 0));
    clients[second.0].complete(&delivery)?;
    clients[second.0].detach(second.1)?;

    // The others wait out their time, and no more than that.
    assert!(started.left().is_some(), "the machine was too slow for this scenario");
    for (number, link) in pending {
        match clients[number].attach_answer(link, ANSWER + Duration::from_millis(WAIT_MILLIS.into()))? {
            Err(Some(error)) => assert_eq!(error.condition.as_str(), "com.microsoft:timeout"),
            other => return Err(Failed::new(format!("a waiting accept was answered by {other:?}"))),
        }
    }
    Ok(())
}

/// The first accept that is answered, while they all are watched.
fn first_winner(clients: &mut [Client], pending: &[(usize, LinkId)]) -> Outcome<(usize, LinkId)> {
    let deadline = Deadline::after(ANSWER);
    while deadline.left().is_some() {
        for client in clients.iter_mut() {
            // Whatever comes is looked at below.
            let _ = client.nothing_comes(Duration::from_millis(5));
        }
        let answered: Vec<_> =
            pending.iter().filter(|(number, link)| clients[*number].is_answered(*link)).collect();
        match answered[..] {
            [] => {}
            [&winner] => return Ok(winner),
            _ => return Err(Failed::new(format!("{} accepts were answered", answered.len()))),
        }
    }
    Err(Failed::new("no accept was answered"))
}

fn the_session_filter_comes_back_in_the_form_it_came(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let asked_and_answered = [
        ("bare", Value::string("bare"), Value::string("bare")),
        (
            "described",
            described_filter(Value::string("described")),
            described_filter(Value::string("described")),
        ),
        ("next", Value::Null, Value::string("next")),
        ("next-described", described_filter(Value::Null), described_filter(Value::string("next-described"))),
        ("", Value::string(""), Value::string("")),
    ];
    for (id, asked, answered) in asked_and_answered {
        client.send(sender, text_message("m", Some(id)))?;
        let (link, attach) =
            client.attach(with_filter(receiver("r", queue), MESSAGE_SESSION_FILTER, asked.clone()))?;
        assert_eq!(granted(&attach), Some(&answered), "asked for {asked:?}");
        let source = attach.source.as_ref().and_then(|source| source.address.as_ref());
        assert_eq!(source, Some(&Value::string(queue)));
        let properties = attach.properties.as_ref().and_then(|p| p.get("com.microsoft:locked-until-utc"));
        assert!(matches!(properties, Some(Value::Long(ticks)) if *ticks > 0), "{properties:?}");
        client.credit(link, 1)?;
        let delivery = client.receive(link)?;
        assert_eq!(delivery.message.properties.group_id.as_deref(), Some(id));
        client.complete(&delivery)?;
        client.detach(link)?;
    }
    client.close()
}

fn a_session_filter_of_a_wrong_type_is_refused(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let wrong = [
        Value::Int(1),
        Value::Bool(true),
        Value::Binary(bytes::Bytes::from_static(b"1")),
        Value::List(vec![Value::string("1")]),
        described_filter(Value::Ulong(1)),
    ];
    for value in wrong {
        let (condition, text) =
            client.refused(with_filter(receiver("r", queue), MESSAGE_SESSION_FILTER, value.clone()))?;
        assert!(
            ["com.microsoft:argument-error", "amqp:invalid-field", "amqp:not-allowed"]
                .contains(&condition.as_str()),
            "{value:?}: {condition}: {text}"
        );
        assert!(!text.is_empty());
    }
    let link = client.accept(queue, "1", 1)?;
    client.detach(link)?;
    client.close()
}

fn a_session_id_over_128_characters_is_refused(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let (longest, too_long) = ("ü".repeat(128), "ü".repeat(129));
    let sender = client.sender(queue)?;
    client.send(sender, text_message("m", Some(&longest)))?;
    let refused = client.try_send(sender, text_message("m", Some(&too_long)))?;
    assert!(format!("{refused:?}").contains("com.microsoft:argument-error"), "{refused:?}");
    client.send(sender, text_message("m", Some(&longest)))?;

    let (condition, text) = client.refused(with_message_session(receiver("r", queue), &too_long))?;
    assert_eq!(condition, "com.microsoft:argument-error");
    assert!(text.contains("128"), "{text}");
    let link = client.accept(queue, &longest, 2)?;
    client.receive_many(link, 2)?;
    client.close()
}

fn a_session_filter_on_a_dead_letter_queue_is_refused(s: &Scenario) -> Outcome {
    let path = format!("{}/$DeadLetterQueue", s.queue());
    let mut client = s.connect()?;
    for filter in [Value::string("s"), Value::Null] {
        let (condition, text) =
            client.refused(with_filter(receiver("r", &path), MESSAGE_SESSION_FILTER, filter))?;
        assert_eq!(condition, "amqp:not-allowed");
        assert!(text.starts_with("Cannot create a MessageSession for a sub-queue"), "{text}");
    }
    client.receiver(&path, 1)?;
    client.close()
}

fn a_lost_connection_is_taken_over_by_the_same_client(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let named = |link: &str, id: &str, receiver_name: Option<&str>| {
        let attach = with_message_session(receiver(link, queue), id);
        match receiver_name {
            Some(name) => with_property(attach, "com.microsoft:receiver-name", Value::string(name)),
            None => attach,
        }
    };
    let key = s.broker().home().key("root");
    let container = |id: &str| s.broker().connect_as(Login::plain("root", key).container(id));
    let mut other = s.connect()?;
    let sender = other.sender(queue)?;

    // By receiver name (from another container), or by container and link name.
    for (id, link_name, receiver_name) in [("by-receiver", "l1", Some("me")), ("by-link", "l2", None)] {
        other.send(sender, text_message("m", Some(id)))?;
        let mut holder = container("holder")?;
        let (link, _) = holder.attach(named(link_name, id, receiver_name))?;
        holder.credit(link, 1)?;
        assert_eq!(holder.receive(link)?.count(), 0);

        // While the holder is there, nobody takes over.
        let (condition, _) = other.refused(named("other", id, receiver_name))?;
        assert_eq!(condition, "com.microsoft:session-cannot-be-locked");
        drop(holder);

        // A stranger still has to wait.
        let (condition, _) = other.refused(named("stranger", id, Some("stranger")))?;
        assert_eq!(condition, "com.microsoft:session-cannot-be-locked");
        let mut same = container(if receiver_name.is_some() { "another" } else { "holder" })?;
        let link = take_over(&mut same, &named(link_name, id, receiver_name))?;
        same.credit(link, 1)?;
        let delivery = same.receive(link)?;
        assert_eq!((delivery.text(), delivery.count()), ("m", 1), "{id}");
        same.complete(&delivery)?;
        same.close()?;
    }
    Ok(())
}

/// Tries until the broker has noticed the loss.
fn take_over(client: &mut Client, attach: &Attach) -> Outcome<LinkId> {
    let deadline = Deadline::after(ANSWER);
    loop {
        let link = client.start_attach(attach.clone())?;
        match client.attach_answer(link, ANSWER)? {
            Ok(_) => return Ok(link),
            Err(error) if deadline.left().is_none() => {
                return Err(Failed::new(format!("no take-over: {error:?}")));
            }
            Err(_) => lockstep_interop_amqp::wait_for_time_to_pass(Duration::from_millis(50)),
        }
    }
}
