//! Order and settlement in message sessions.

use std::{collections::BTreeMap, time::Duration};

use lockstep_amqp::types::{DeliveryState, Modified, Outcome as Terminal};
use lockstep_interop_amqp::{
    ANSWER, Failed, Outcome, receiver, text_message, wait_for_time_to_pass, with_next_message_session,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    abandon_and_flow_in_one_write_redeliver_the_same_message,
    several_handlers_drain_a_hundred_message_sessions,
    a_receiver_that_ended_while_it_waited_takes_no_message,
];

fn abandon_and_flow_in_one_write_redeliver_the_same_message(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, ["1", "2", "3"].map(|text| text_message(text, Some("s"))))?;
    let link = client.accept(queue, "s", 1)?;
    let abandoned = DeliveryState::Outcome(Terminal::Modified(Modified::default()));
    for count in 0..5 {
        let delivery = client.receive(link)?;
        assert_eq!((delivery.text(), delivery.count()), ("1", count));
        // Disposition and flow leave in one write; settled at once or with a confirmation.
        client.settle_later(&[&delivery], &abandoned, count % 2 == 1);
        client.credit_later(link, 1);
        client.flush()?;
    }
    let delivery = client.receive(link)?;
    assert_eq!((delivery.text(), delivery.count()), ("1", 5));
    client.complete(&delivery)?;
    client.credit(link, 1)?;
    assert_eq!(client.receive(link)?.text(), "2");
    client.close()
}

fn several_handlers_drain_a_hundred_message_sessions(s: &Scenario) -> Outcome {
    const MESSAGE_SESSIONS: usize = 100;
    const MESSAGES: usize = 20;
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let messages = (0..MESSAGES).flat_map(|number| {
        (0..MESSAGE_SESSIONS).map(move |id| text_message(format!("{number}"), Some(&format!("s{id}"))))
    });
    client.send_all(sender, messages)?;

    let handled: Vec<Outcome<BTreeMap<String, Vec<usize>>>> = std::thread::scope(|scope| {
        let handlers: Vec<_> = (0..2).map(|_| scope.spawn(|| handle(s, MESSAGES))).collect();
        handlers
            .into_iter()
            .map(|handler| handler.join().unwrap_or_else(|_| Err(Failed::new("a handler panicked"))))
            .collect()
    });
    let mut all: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut shares = Vec::new();
    for messages in handled {
        let messages = messages?;
        shares.push(messages.len());
        for (id, numbers) in messages {
            all.entry(id).or_default().extend(numbers);
        }
    }
    assert_eq!(all.len(), MESSAGE_SESSIONS);
    for (id, numbers) in all {
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{id}");
    }
    assert!(shares.iter().all(|&share| share > 0), "one handler did it all: {shares:?}");
    Ok(())
}

/// Takes message sessions until there is none, four messages at a time.
fn handle(s: &Scenario, messages: usize) -> Outcome<BTreeMap<String, Vec<usize>>> {
    const AT_A_TIME: u32 = 4;
    const WAIT_MILLIS: u32 = 1_500;
    let mut client = s.connect()?;
    let mut handled: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    loop {
        let link =
            client.start_attach(with_next_message_session(receiver("handler", s.queue()), WAIT_MILLIS))?;
        match client.attach_answer(link, ANSWER)? {
            Ok(_) => {}
            Err(Some(error)) if error.condition.as_str() == "com.microsoft:timeout" => return Ok(handled),
            Err(error) => return Err(Failed::new(format!("an accept was refused: {error:?}"))),
        }
        for _ in 0..messages.div_ceil(AT_A_TIME as usize) {
            client.credit(link, AT_A_TIME)?;
            for delivery in client.receive_many(link, AT_A_TIME as usize)? {
                let id = delivery.message.properties.group_id.as_deref().unwrap_or_default().to_owned();
                let number = delivery.text().parse().map_err(|_| Failed::new("a foreign message"))?;
                handled.entry(id).or_default().push(number);
                client.settle_later(&[&delivery], &DeliveryState::Outcome(Terminal::Accepted), true);
            }
        }
        client.detach(link)?;
    }
}

fn a_receiver_that_ended_while_it_waited_takes_no_message(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    for (number, end) in ["detach", "end", "close", "loss"].into_iter().enumerate() {
        let mut waiting = s.connect()?;
        let session = waiting.begin()?;
        let link = waiting.start_attach_on(session, receiver("waiting", queue))?;
        assert!(waiting.attach_answer(link, ANSWER)?.is_ok());
        waiting.credit(link, 10)?;
        waiting.nothing_comes(Duration::from_millis(200))?;
        match end {
            "detach" => waiting.detach(link)?,
            "end" => {
                waiting.end(session)?;
                // A round trip behind end shows that it was read.
                waiting.begin()?;
            }
            "close" => waiting.close()?,
            _ => {
                drop(waiting);
                // Nothing shows when the broker has noticed.
                wait_for_time_to_pass(Duration::from_millis(500));
            }
        }
        client.send(sender, text_message(format!("{number}"), None))?;
        let link = client.receiver(queue, 1)?;
        let delivery = client.receive_within(link, Duration::from_secs(5))?;
        assert_eq!((delivery.text(), delivery.count()), (format!("{number}").as_str(), 0), "after {end}");
        client.complete(&delivery)?;
        client.detach(link)?;
    }
    client.close()
}
