//! Receiving from queues.

use std::{collections::BTreeSet, time::Duration};

use lockstep_amqp::types::{DeliveryState, Outcome as Terminal, Performative};
use lockstep_interop_amqp::{Client, Failed, Message, Outcome, receive_and_delete, text_message};

use crate::suite::{Scenario, scenarios};

scenarios![
    receive_and_delete_with_much_credit_and_an_early_detach_loses_nothing,
    released_leftovers_come_back_uncounted,
    a_browse_of_what_is_locked_changes_nothing,
];

fn receive_and_delete_with_much_credit_and_an_early_detach_loses_nothing(s: &Scenario) -> Outcome {
    const MESSAGES: usize = 400;
    // Too much for the sockets between, so that the detach overtakes some of them.
    const BODY_BYTES: usize = 30_000;
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client
        .send_all(sender, (0..MESSAGES).map(|number| text_message(format!("{number:0BODY_BYTES$}"), None)))?;

    // By hand: the engine drops what comes after its own detach, and that counts here.
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    raw.attach(0, 0, receive_and_delete("r", queue))?;
    raw.expect("attach", |_, performative, _| {
        matches!(performative, Performative::Attach(attach) if attach.source.is_some()).then_some(())
    })?;
    raw.credit(0, 0, 0, 5_000, false)?;
    let mut taken = BTreeSet::new();
    let mut partial: Vec<u8> = Vec::new();
    let mut detached = false;
    raw.expect("detach", |_, performative, payload| match performative {
        Performative::Transfer(transfer) => {
            partial.extend_from_slice(payload);
            if !transfer.more {
                taken.insert(number(&std::mem::take(&mut partial)));
            }
            (taken.len() == 10).then_some(())
        }
        _ => None,
    })?;
    raw.frame(
        0,
        Performative::Detach(lockstep_amqp::types::Detach { handle: 0, closed: true, error: None }),
    )?;
    while !detached {
        raw.expect("transfers, then detach", |_, performative, payload| {
            match performative {
                Performative::Transfer(transfer) => {
                    partial.extend_from_slice(payload);
                    if !transfer.more {
                        taken.insert(number(&std::mem::take(&mut partial)));
                    }
                }
                Performative::Detach(_) => detached = true,
                _ => {}
            }
            Some(())
        })?;
    }
    // A delivery that was cut off by the detach was not put on the wire, so it is still there.
    let mut left = BTreeSet::new();
    let (link, _) = client.attach(receive_and_delete("rest", queue))?;
    for delivery in client.drain(link, 5_000)? {
        left.insert(delivery.text().parse::<usize>().map_err(|_| Failed::new("a foreign message"))?);
    }
    assert!(taken.is_disjoint(&left), "{:?} came twice", taken.intersection(&left));
    let all: BTreeSet<usize> = taken.union(&left).copied().collect();
    assert_eq!(all, (0..MESSAGES).collect(), "{} taken, {} left", taken.len(), left.len());
    Ok(())
}

/// The number in a message, or one that no message has.
fn number(message: &[u8]) -> usize {
    Message::parse(&bytes::Bytes::copy_from_slice(message))
        .ok()
        .and_then(|message| message.text().parse().ok())
        .unwrap_or(usize::MAX)
}

fn released_leftovers_come_back_uncounted(s: &Scenario) -> Outcome {
    const MESSAGES: usize = 300;
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, (0..MESSAGES).map(|number| text_message(format!("{number}"), None)))?;

    // Asks for thousands, takes one, gives the rest back: with a confirmation, and without.
    for (round, settled) in [(0, false), (1, true)] {
        let link = client.receiver(queue, 3_000)?;
        let got = client.receive_many(link, MESSAGES - round)?;
        assert_eq!(got[0].text(), format!("{round}"));
        client.complete(&got[0])?;
        let rest: Vec<_> = got[1..].iter().collect();
        let released = DeliveryState::Outcome(Terminal::Released);
        // No credit, or they would come right back.
        client.drain(link, 0)?;
        client.settle_later(&rest, &released, settled);
        if !settled {
            for delivery in &rest {
                assert_eq!(client.outcome(delivery.reference)?, released);
            }
        }
        client.nothing_comes(Duration::from_millis(200))?;
        client.detach(link)?;
    }
    expect_all(&mut client, queue, 2..MESSAGES)?;
    client.close()
}

fn expect_all(client: &mut Client, queue: &str, numbers: std::ops::Range<usize>) -> Outcome {
    let link = client.receiver(queue, 3_000)?;
    let got = client.receive_many(link, numbers.len())?;
    for (delivery, number) in got.iter().zip(numbers) {
        assert_eq!((delivery.text(), delivery.count()), (format!("{number}").as_str(), 0));
    }
    client.detach(link)
}

fn a_browse_of_what_is_locked_changes_nothing(s: &Scenario) -> Outcome {
    use lockstep_amqp::types::Value;
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, ["1", "2"].map(|text| text_message(text, None)))?;
    let link = client.receiver(queue, 1)?;
    let first = client.receive(link)?;
    let peek = |from: i64| {
        vec![
            (Value::string("from-sequence-number"), Value::Long(from)),
            (Value::string("message-count"), Value::Int(10)),
        ]
    };
    let response = client.manage(queue, "peek-message", peek(0))?.ok()?;
    let Some(Value::List(messages)) = response.entry("messages") else {
        return Err(Failed::new(format!("{response:?}")));
    };
    let mut seen = Vec::new();
    for entry in messages {
        let Value::Map(entry) = entry else { return Err(Failed::new("an entry is no map")) };
        let encoded = entry.iter().find(|(key, _)| key.as_text() == Some("message")).map(|(_, value)| value);
        let Some(Value::Binary(encoded)) = encoded else { return Err(Failed::new("no message in an entry")) };
        let message = Message::parse(encoded)?;
        assert_eq!(message.annotation("x-opt-message-state"), Some(&Value::Int(0)));
        assert_eq!(message.annotation("x-opt-locked-until"), None);
        seen.push((message.text().to_owned(), message.sequence_number()?, message.delivery_count()));
    }
    assert_eq!(seen, [("1".to_owned(), 1, Some(0)), ("2".to_owned(), 2, Some(0))]);
    let response = client.manage(queue, "peek-message", peek(3))?;
    assert_eq!(response.status, 204, "{response:?}");
    client.complete(&first)?;
    client.credit(link, 1)?;
    let second = client.receive(link)?;
    assert_eq!((second.text(), second.count()), ("2", 0));
    assert_eq!(second.message.delivery_annotation("x-opt-lock-token"), Some(&second.token()?));
    client.complete(&second)?;
    client.close()
}
