//! Receiving from queues.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use lockstep_amqp::types::{Attach, DeliveryState, Detach, Outcome as Terminal, Performative};
use lockstep_interop_amqp::{
    Client, Failed, Message, Outcome, RawConnection, receive_and_delete, receiver, text_message,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    receive_and_delete_with_much_credit_and_an_early_detach_loses_nothing,
    peek_lock_with_much_credit_and_an_early_detach_locks_what_was_sent_only,
    a_drain_sends_all_that_is_there_before_it_ends,
    a_drain_behind_releases_in_one_write_is_answered,
    released_leftovers_come_back_uncounted,
    a_browse_of_what_is_locked_changes_nothing,
];

fn receive_and_delete_with_much_credit_and_an_early_detach_loses_nothing(s: &Scenario) -> Outcome {
    leave_early(s, receive_and_delete("r", s.queue()))
}

fn peek_lock_with_much_credit_and_an_early_detach_locks_what_was_sent_only(s: &Scenario) -> Outcome {
    leave_early(s, receiver("r", s.queue()))
}

/// A receiver asks for all there is and leaves after the first ten. What was on the wire by then is
/// its own (gone, or locked); all the rest is there for the next one at once.
fn leave_early(s: &Scenario, attach: Attach) -> Outcome {
    const MESSAGES: usize = 400;
    // Too much for the sockets between, so that the detach overtakes some of them.
    const BODY_BYTES: usize = 30_000;
    let mut client = s.connect()?;
    let sender = client.sender(s.queue())?;
    let messages = (0..MESSAGES).map(|number| text_message(format!("{number:0BODY_BYTES$}"), None));
    client.send_all(sender, messages)?;

    // By hand: the engine drops what comes after its own detach, and that counts here.
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    raw.attach(0, 0, attach)?;
    raw.expect("attach", |_, performative, _| {
        matches!(performative, Performative::Attach(attach) if attach.source.is_some()).then_some(())
    })?;
    raw.credit(0, 0, 0, 5_000, false)?;
    let mut taken = BTreeSet::new();
    take_until(&mut raw, &mut taken, |taken| taken >= 10)?;
    raw.frame(0, Performative::Detach(Detach { handle: 0, closed: true, error: None }))?;
    take_until(&mut raw, &mut taken, |_| false)?;

    let left: Vec<_> = {
        let link = client.attach(receive_and_delete("rest", s.queue()))?.0;
        // Until nothing more comes, whatever the broker says about the end of what is there.
        client.credit(link, 5_000)?;
        std::iter::from_fn(|| client.receive_within(link, Duration::from_millis(1_500)).ok()).collect()
    };
    assert!(left.iter().all(|delivery| delivery.count() == 0));
    let left: BTreeSet<usize> = left.iter().map(|delivery| number(delivery.text())).collect();
    let twice: Vec<_> = taken.intersection(&left).collect();
    assert!(twice.is_empty(), "they came twice: {twice:?}");
    let missing: Vec<_> = (0..MESSAGES).filter(|n| !taken.contains(n) && !left.contains(n)).collect();
    assert!(
        missing.is_empty(),
        "{} were sent, {} are left, {} are neither: {missing:?}",
        taken.len(),
        left.len(),
        missing.len()
    );
    Ok(())
}

/// Reads deliveries until there are enough, or the broker has detached. One that is cut off by the
/// detach was not sent.
fn take_until(
    raw: &mut RawConnection,
    taken: &mut BTreeSet<usize>,
    enough: impl Fn(usize) -> bool,
) -> Outcome {
    let mut partial: Vec<u8> = Vec::new();
    raw.expect("transfers, then detach", |_, performative, payload| match performative {
        Performative::Transfer(transfer) => {
            partial.extend_from_slice(payload);
            if !transfer.more {
                let message = Message::parse(&Bytes::from(std::mem::take(&mut partial)));
                taken.insert(message.map_or(usize::MAX, |message| number(message.text())));
            }
            enough(taken.len()).then_some(())
        }
        Performative::Detach(_) => Some(()),
        _ => None,
    })
}

/// The number that a body is, or one that no body is.
fn number(text: &str) -> usize {
    text.parse().unwrap_or(usize::MAX)
}

fn a_drain_sends_all_that_is_there_before_it_ends(s: &Scenario) -> Outcome {
    const MESSAGES: usize = 3_000;
    const ROUNDS: usize = 10;
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, (0..MESSAGES).map(|number| text_message(format!("{number}"), Some("s"))))?;
    let mut counts = Vec::new();
    for _ in 0..ROUNDS {
        let link = client.accept(queue, "s", 0)?;
        counts.push(client.drain(link, 10_000)?.len());
        client.detach(link)?;
    }
    assert_eq!(counts, [MESSAGES; ROUNDS]);
    client.close()
}

fn a_drain_behind_releases_in_one_write_is_answered(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, (0..4).map(|number| text_message(format!("{number}"), None)))?;
    for _ in 0..5 {
        let link = client.receiver(queue, 10)?;
        let got = client.receive_many(link, 4)?;
        // What is released could come right back, but the credit is taken back behind it.
        let released = DeliveryState::Outcome(Terminal::Released);
        client.settle_later(&got.iter().collect::<Vec<_>>(), &released, false);
        let again = client.drain(link, 0)?;
        for delivery in &got {
            assert_eq!(client.outcome(delivery.reference)?, released);
        }
        client.settle_later(&again.iter().collect::<Vec<_>>(), &released, true);
        client.detach(link)?;
    }
    let link = client.receiver(queue, 10)?;
    let got = client.receive_many(link, 4)?;
    assert!(got.iter().all(|delivery| delivery.count() == 0));
    client.close()
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
