//! Settlement: tokens of one request, properties that settlements give, what a lost lock is called,
//! how messages get into dead-letter queues.

use lockstep_amqp::types::{
    DeliveryState, Described, Error, Fields, Modified, Outcome as Terminal, Source, Value,
};
use lockstep_interop_amqp::{Client, Delivery, Outcome, Outgoing, receiver, text_message};

use crate::{
    locks::update_disposition,
    numbered::{settle_tokens, shown},
    sending::rejected,
    suite::{Scenario, scenarios},
};

scenarios![
    the_tokens_of_a_request_are_settled_together_or_not_at_all,
    settled_dispositions_are_carried_out_without_an_answer,
    properties_of_settlements_are_laid_over_each_other,
    properties_of_settlements_have_a_limit,
    limits_of_headers_and_properties,
    a_lost_lock_has_a_name_for_each_cause,
    every_way_of_dead_lettering,
    names_of_dead_letter_queues,
];

/// Sends these texts, and receives them.
fn send_and_receive(client: &mut Client, queue: &str, texts: &[&str]) -> Outcome<Vec<Delivery>> {
    let sender = client.sender(queue)?;
    client.send_all(sender, texts.iter().map(|text| text_message(text, None)))?;
    let credit = u32::try_from(texts.len()).unwrap_or(u32::MAX);
    let receiving = client.receiver(queue, credit)?;
    client.receive_many(receiving, texts.len())
}

fn fields(entries: &[(&str, Value)]) -> Fields {
    let mut fields = Fields::default();
    for (key, value) in entries {
        fields.insert(key, value.clone());
    }
    fields
}

fn abandoned(entries: &[(&str, Value)]) -> Terminal {
    Terminal::Modified(Modified { message_annotations: Some(fields(entries)), ..Modified::default() })
}

fn the_tokens_of_a_request_are_settled_together_or_not_at_all(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let deliveries = send_and_receive(&mut client, queue, &["1", "2", "3"])?;
    let tokens: Vec<Value> = deliveries.iter().map(Delivery::token).collect::<Outcome<_>>()?;
    client.complete(&deliveries[2])?;
    let all_locked = [("1".to_owned(), 0, 0), ("2".to_owned(), 0, 0)];
    for status in ["completed", "abandoned", "defered", "suspended"] {
        let unknown = Value::Uuid([7; 16]);
        for bad in [tokens[2].clone(), unknown, tokens[0].clone()] {
            let response =
                settle_tokens(&mut client, queue, status, vec![tokens[0].clone(), tokens[1].clone(), bad])?;
            assert_eq!(
                response.verdict(),
                (410, "com.microsoft:message-lock-lost"),
                "{status}: {response:?}"
            );
        }
        assert_eq!(shown(&mut client, queue)?, all_locked);
    }
    // A token is of its queue, also when the other one is its dead-letter queue.
    let dead_letters = format!("{queue}/$DeadLetterQueue");
    let response = settle_tokens(&mut client, &dead_letters, "completed", vec![tokens[0].clone()])?;
    assert_eq!(response.verdict(), (410, "com.microsoft:message-lock-lost"));
    let response = settle_tokens(&mut client, queue, "unknown", vec![tokens[0].clone()])?;
    assert_eq!(response.verdict(), (400, "com.microsoft:argument-error"), "{response:?}");
    settle_tokens(&mut client, queue, "completed", tokens[..2].to_vec())?.ok()?;
    assert_eq!(shown(&mut client, queue)?, []);
    client.close()
}

fn settled_dispositions_are_carried_out_without_an_answer(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let texts = ["accepted", "modified", "deferred", "rejected", "released", "no state"];
    let deliveries = send_and_receive(&mut client, queue, &texts)?;
    let deferred = Modified { undeliverable_here: Some(true), ..Modified::default() };
    let outcomes = [
        Terminal::Accepted,
        Terminal::Modified(Modified::default()),
        Terminal::Modified(deferred),
        Terminal::Rejected(None),
        Terminal::Released,
    ];
    for (delivery, outcome) in deliveries.iter().zip(outcomes) {
        client.settle_later(&[delivery], &DeliveryState::Outcome(outcome), true);
    }
    client.flush()?;
    let expected = [
        ("modified".to_owned(), 0, 1),
        ("deferred".to_owned(), 1, 1),
        ("released".to_owned(), 0, 0),
        ("no state".to_owned(), 0, 0),
    ];
    assert_eq!(shown(&mut client, queue)?, expected);
    assert_eq!(shown(&mut client, &format!("{queue}/$DeadLetterQueue"))?, [("rejected".to_owned(), 0, 0)]);
    // The default outcome of the source is for those that say nothing.
    let mut attach = receiver("with-a-default", queue);
    let source: &mut Source = attach.source.get_or_insert_default();
    source.default_outcome = Some(Terminal::Rejected(None));
    let (link, _) = client.attach(attach)?;
    let left = client.drain(link, 10)?;
    assert_eq!(left.iter().map(Delivery::text).collect::<Vec<_>>(), ["modified", "released"]);
    client.complete(&left[0])?;
    client.complete(&left[1])?;
    client.close()
}

fn properties_of_settlements_are_laid_over_each_other(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let mut message = Outgoing::text("1");
    message.application_properties = vec![
        (Value::string("kept"), Value::string("sender")),
        (Value::string("replaced"), Value::string("sender")),
    ];
    client.send(sender, message.encode())?;
    let receiving = client.receiver(queue, 1)?;
    let delivery = client.receive(receiving)?;
    let span = Value::Described(Box::new(Described {
        descriptor: Value::symbol("com.microsoft:timespan"),
        value: Value::Long(7),
    }));
    let first = [
        ("replaced", Value::Int(1)),
        ("twice", Value::Int(1)),
        ("null", Value::Null),
        ("span", span.clone()),
    ];
    client.try_settle(&delivery, abandoned(&first))?;
    client.credit(receiving, 1)?;
    let delivery = client.receive(receiving)?;
    let second = Value::Map(vec![
        (Value::string("twice"), Value::Ulong(2)),
        (Value::symbol("by a symbol"), Value::Bool(true)),
    ]);
    let further = [("properties-to-modify", second)];
    update_disposition(&mut client, queue, "abandoned", delivery.token()?, &further)?.ok()?;
    client.credit(receiving, 1)?;
    let delivery = client.receive(receiving)?;
    let message = &delivery.message;
    assert_eq!(delivery.count(), 2);
    let expected = [
        ("kept", Value::string("sender")),
        ("replaced", Value::Int(1)),
        ("twice", Value::Ulong(2)),
        ("null", Value::Null),
        ("span", span),
        ("by a symbol", Value::Bool(true)),
    ];
    for (key, value) in &expected {
        assert_eq!(message.property(key), Some(value), "{key}");
    }
    assert_eq!(message.application_properties.len(), expected.len());
    assert!(message.application_properties.iter().all(|(key, _)| matches!(key, Value::String(_))));
    // They go along into the dead-letter queue.
    client.try_settle(&delivery, Terminal::Rejected(None))?;
    let dead = client.receiver(&format!("{queue}/$DeadLetterQueue"), 1)?;
    let dead = client.receive(dead)?;
    assert_eq!(dead.message.application_properties.len(), expected.len());
    client.close()
}

/// A message that has no room for what it is given goes to the dead-letter queue, without it.
fn properties_of_settlements_have_a_limit(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let delivery = send_and_receive(&mut client, queue, &["1"])?.remove(0);
    let wide = |key: &'static str, kib: usize| [(key, Value::string(&"x".repeat(kib * 1_024)))];
    // 64 KiB in one settlement.
    let state = client.try_settle(&delivery, abandoned(&wide("a", 65)))?;
    assert_eq!(rejected(&state)?.0, "com.microsoft:argument-error");
    // Nothing happened to it; its token is good. Values of several parts are none of a property.
    assert_eq!(shown(&mut client, queue)?, [("1".to_owned(), 0, 0)]);
    let modify = |value: Value| [("properties-to-modify", Value::Map(vec![(Value::string("b"), value)]))];
    for value in [Value::List(vec![Value::Int(1)]), Value::string(&"x".repeat(65 * 1_024))] {
        let response =
            update_disposition(&mut client, queue, "abandoned", delivery.token()?, &modify(value))?;
        assert_eq!(response.verdict(), (400, "com.microsoft:argument-error"), "{response:?}");
    }
    let a = [("properties-to-modify", Value::Map(vec![(Value::string("a"), wide("a", 40)[0].1.clone())]))];
    update_disposition(&mut client, queue, "abandoned", delivery.token()?, &a)?.ok()?;
    let receiving = client.receiver(queue, 1)?;
    let delivery = client.receive(receiving)?;
    // What replaces something takes its room.
    client.try_settle(&delivery, abandoned(&wide("a", 40)))?;
    client.credit(receiving, 1)?;
    let delivery = client.receive(receiving)?;
    assert_eq!(delivery.count(), 2);
    // 64 KiB of all settlements.
    let state = client.try_settle(&delivery, abandoned(&wide("b", 40)))?;
    assert!(matches!(state, DeliveryState::Outcome(Terminal::Modified(_))), "{state:?}");
    assert_eq!(shown(&mut client, queue)?, []);
    let dead_letters = format!("{queue}/$DeadLetterQueue");
    let dead = client.receiver(&dead_letters, 1)?;
    let dead = client.receive(dead)?;
    assert_eq!((dead.text(), dead.count()), ("1", 2));
    assert_eq!(dead.message.property("DeadLetterReason"), Some(&Value::string("HeaderSizeExceeded")));
    assert!(matches!(dead.message.property("DeadLetterErrorDescription"), Some(Value::String(_))));
    assert!(dead.message.property("a").is_some() && dead.message.property("b").is_none());
    // There is nowhere to go from there.
    let b = modify(wide("b", 40)[0].1.clone());
    for status in ["abandoned", "defered"] {
        let response = update_disposition(&mut client, &dead_letters, status, dead.token()?, &b)?;
        assert_eq!(response.verdict(), (400, "com.microsoft:argument-error"), "{response:?}");
    }
    client.complete(&dead)?;
    client.close()
}

fn a_lost_lock_has_a_name_for_each_cause(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let mut other = s.connect()?;
    let sender = client.sender(queue)?;
    client.send_all(sender, ["1", "2"].map(|text| text_message(text, Some("s"))))?;
    let link = client.accept(queue, "s", 2)?;
    let deliveries = client.receive_many(link, 2)?;
    client.complete(&deliveries[0])?;
    let expect = |client: &mut Client, token: Value, condition: &str| {
        for status in ["completed", "abandoned", "defered", "suspended"] {
            let response = update_disposition(client, queue, status, token.clone(), &[])?;
            assert_eq!(response.verdict(), (410, condition), "{status}: {response:?}");
        }
        Outcome::Ok(())
    };
    // The message session is held: it is the message's own lock that is gone, or never was.
    expect(&mut client, deliveries[0].token()?, "com.microsoft:message-lock-lost")?;
    expect(&mut client, Value::Uuid([0; 16]), "com.microsoft:message-lock-lost")?;
    // Somebody who holds nothing.
    expect(&mut other, deliveries[1].token()?, "com.microsoft:session-lock-lost")?;
    expect(&mut other, Value::Uuid([0; 16]), "com.microsoft:session-lock-lost")?;
    client.detach(link)?;
    expect(&mut client, deliveries[1].token()?, "com.microsoft:session-lock-lost")?;
    // Held anew, the old tokens are as lost as before.
    let link = client.accept(queue, "s", 1)?;
    let again = client.receive(link)?;
    assert_eq!((again.text(), again.count()), ("2", 0));
    expect(&mut client, deliveries[1].token()?, "com.microsoft:session-lock-lost")?;
    client.complete(&again)?;
    expect(&mut client, again.token()?, "com.microsoft:message-lock-lost")?;
    other.close()?;
    client.close()
}

fn every_way_of_dead_lettering(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let texts = ["no error", "no info", "reason", "other types", "token", "token without", "too often"];
    let deliveries = send_and_receive(&mut client, queue, &texts)?;
    let error = |info: Option<Fields>| {
        Terminal::Rejected(Some(Error {
            condition: "com.microsoft:dead-letter".into(),
            description: Some("of the error".into()),
            info,
        }))
    };
    let reason = fields(&[
        ("DeadLetterReason", Value::string("why")),
        ("DeadLetterErrorDescription", Value::string("how")),
        ("mine", Value::Int(7)),
    ]);
    let other_types =
        fields(&[("DeadLetterReason", Value::Int(7)), ("DeadLetterErrorDescription", Value::Null)]);
    let outcomes = [Terminal::Rejected(None), error(None), error(Some(reason)), error(Some(other_types))];
    for (delivery, outcome) in deliveries.iter().zip(outcomes) {
        let state = client.try_settle(delivery, outcome)?;
        assert_eq!(state, DeliveryState::Outcome(Terminal::Rejected(None)));
    }
    let further = [
        ("deadletter-reason", Value::string("why")),
        ("deadletter-description", Value::string("how")),
        ("properties-to-modify", Value::Map(vec![(Value::string("mine"), Value::Int(7))])),
    ];
    update_disposition(&mut client, queue, "suspended", deliveries[4].token()?, &further)?.ok()?;
    update_disposition(&mut client, queue, "suspended", deliveries[5].token()?, &[])?.ok()?;
    // The queue gives up after one.
    client.abandon(&deliveries[6])?;
    assert_eq!(shown(&mut client, queue)?, []);

    let link = client.receiver(&format!("{queue}/$DeadLetterQueue"), 10)?;
    let text = Value::string;
    let exceeded = text("MaxDeliveryCountExceeded");
    let consumed = text("Message could not be consumed after 1 delivery attempts.");
    let expected = [
        (None, None, 0),
        (None, None, 0),
        (Some(text("why")), Some(text("how")), 0),
        (Some(Value::Int(7)), None, 0),
        (Some(text("why")), Some(text("how")), 0),
        (None, None, 0),
        (Some(exceeded), Some(consumed), 1),
    ];
    for ((delivery, before), (reason, description, count)) in
        client.receive_many(link, 7)?.iter().zip(&deliveries).zip(expected)
    {
        let message = &delivery.message;
        assert_eq!(message.property("DeadLetterReason"), reason.as_ref(), "{}", delivery.text());
        assert_eq!(
            message.property("DeadLetterErrorDescription"),
            description.as_ref(),
            "{}",
            delivery.text()
        );
        assert_eq!((delivery.text(), delivery.count()), (before.text(), count));
        // It stays what it was, but for the lock.
        for key in ["x-opt-sequence-number", "x-opt-enqueued-time"] {
            assert_eq!(message.annotation(key), before.message.annotation(key));
        }
        assert_eq!(message.annotations.len(), before.message.annotations.len());
    }
    client.close()
}

fn names_of_dead_letter_queues(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let delivery = send_and_receive(&mut client, queue, &["1"])?.remove(0);
    client.try_settle(&delivery, Terminal::Rejected(None))?;
    for name in ["$DeadLetterQueue", "$deadletterqueue", "$DEADLETTERQUEUE"] {
        let link = client.receiver(&format!("{queue}/{name}"), 0)?;
        let arrived = client.drain(link, 10)?;
        assert_eq!(arrived.len(), 1, "{name}");
        client.try_settle(&arrived[0], Terminal::Released)?;
        assert_eq!(shown(&mut client, &format!("{queue}/{name}"))?.len(), 1);
    }
    // Nothing is forwarded yet: it is there, and empty.
    let transfers = format!("{queue}/$Transfer/$DeadLetterQueue");
    let link = client.receiver(&transfers, 0)?;
    assert!(client.drain(link, 10)?.is_empty());
    assert_eq!(shown(&mut client, &transfers)?, []);
    for address in [format!("{queue}/$DeadLetterQueue"), transfers] {
        let refused = client.refused(lockstep_interop_amqp::sender("to-a-sub-queue", &address))?;
        assert_eq!(refused.0, "amqp:not-allowed", "{refused:?}");
        // It has no dead-letter queue of its own.
        let deeper = format!("{address}/$DeadLetterQueue");
        let refused = client.refused(receiver("deeper", &deeper))?;
        assert_eq!(refused.0, "amqp:not-found", "{refused:?}");
    }
    client.close()
}

/// The table of limits in docs/protocol.md, row by row, as far as a send is refused.
fn limits_of_headers_and_properties(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    let text = |chars: usize| "é".repeat(chars);
    let annotated = |key: &str, value: &str| {
        let annotations = vec![(Value::symbol(key), Value::string(value))];
        Outgoing { annotations, ..Outgoing::text("1") }
    };
    let properties = |change: &dyn Fn(&mut Outgoing)| {
        let mut message = Outgoing::text("1");
        change(&mut message);
        message
    };
    let message_id = |chars: usize| {
        properties(&|message| message.properties.message_id = Some(Value::string(&text(chars))))
    };
    let group_id = |chars: usize| Outgoing::text("1").of(&text(chars));
    let key = |chars: usize| annotated("x-opt-partition-key", &text(chars));
    let via = |chars: usize| annotated("x-opt-via-partition-key", &text(chars));
    // A name of one character takes three bytes, a long text five more than its own.
    let property = |bytes: usize| (Value::string("p"), Value::string(&"x".repeat(bytes - 8)));
    let one = |bytes: usize| properties(&|message| message.application_properties = vec![property(bytes)]);
    // Two properties and one annotation, all beside a message-id; the maps and sections around
    // them have 42 bytes.
    let all = |bytes: usize| {
        properties(&|message| {
            message.application_properties = vec![property(32_768), (Value::string("q"), property(20_000).1)];
            message.annotations =
                vec![(Value::symbol("a"), Value::string(&"x".repeat(bytes - 32_768 - 20_000 - 42)))];
            message.properties.message_id = Some(Value::string("1"));
        })
    };
    let rows = [
        ("message-id", message_id(128), message_id(129)),
        ("group-id", group_id(128), group_id(129)),
        ("x-opt-partition-key", key(128), key(129)),
        ("x-opt-via-partition-key", via(128), via(129)),
        ("one property", one(32 * 1_024), one(32 * 1_024 + 1)),
        ("all of them", all(64 * 1_024 - 100), all(64 * 1_024 + 100)),
    ];
    for (row, fits, is_over) in rows {
        client.send(sender, fits.encode())?;
        let state = client.try_send(sender, is_over.encode())?;
        assert_eq!(rejected(&state)?.0, "com.microsoft:argument-error", "{row}");
        // In a batch it refuses the others, in a request to schedule too.
        let state = client.try_send_batch(sender, &[fits.encode(), is_over.encode()])?;
        assert_eq!(rejected(&state)?.0, "com.microsoft:argument-error", "{row}");
    }
    // A name of other fields may be longer.
    let long = properties(&|message| {
        message.properties.subject = Some(text(1_000).into());
        message.properties.reply_to_group_id = Some(text(1_000).into());
    });
    client.send(sender, long.encode())?;
    assert_eq!(shown(&mut client, queue)?.len(), 7);
    client.close()
}
