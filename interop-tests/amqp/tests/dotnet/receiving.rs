//! Receiving from queues without message sessions, and `$management` of messages.

use bytes::Bytes;
use lockstep_amqp::types::{Array, Described, Error, Fields, Map, Modified, Outcome as Terminal, Value};
use lockstep_interop_amqp::{Outcome, lock_token, text_message};

use crate::{
    sdk::{From, Mode, Sdk},
    suite::{Scenario, scenarios},
};

scenarios![
    dotnet_settles_in_every_way_and_waits_for_the_word,
    dotnet_receives_and_deletes,
    dotnet_settles_by_management_what_another_link_received,
    dotnet_renews_message_locks,
    dotnet_peeks_messages,
];

/// Constructor of uuids in an array.
const UUIDS: u8 = 0x98;

pub(crate) fn send(sdk: &mut Sdk<'_>, queue: &str, texts: &[&str]) -> Outcome {
    let mut sender = sdk.sender(queue)?;
    for text in texts {
        assert_eq!(sdk.send(&mut sender, &text_message(text, None), false)?, Ok(()));
    }
    Ok(())
}

pub(crate) fn tokens(tags: &[&Bytes]) -> Outcome<(Value, Value)> {
    let elements = tags.iter().map(|tag| lock_token(tag)).collect::<Outcome<Vec<_>>>()?;
    Ok((Value::string("lock-tokens"), Value::Array(Box::new(Array { constructor: UUIDS, elements }))))
}

/// `DisposeMessageRequestResponseAsync` in AmqpReceiver.cs.
pub(crate) fn disposition(status: &str, tag: &Bytes, further: &[(&str, Value)]) -> Outcome<Map> {
    let mut body = vec![tokens(&[tag])?, (Value::string("disposition-status"), Value::string(status))];
    body.extend(further.iter().map(|(key, value)| (Value::string(key), value.clone())));
    Ok(body)
}

pub(crate) fn fields(entries: &[(&str, Value)]) -> Fields {
    let mut fields = Fields::default();
    for (key, value) in entries {
        fields.insert(key, value.clone());
    }
    fields
}

fn time_span() -> Value {
    let descriptor = Value::symbol("com.microsoft:timespan");
    Value::Described(Box::new(Described { descriptor, value: Value::Long(600_000_000) }))
}

fn dead_lettered(reason: &str, description: &str) -> Terminal {
    let info = [
        ("DeadLetterReason", Value::string(reason)),
        ("DeadLetterErrorDescription", Value::string(description)),
    ];
    Terminal::Rejected(Some(Error {
        condition: "com.microsoft:dead-letter".into(),
        description: None,
        info: Some(fields(&info)),
    }))
}

/// Settlements with settled = false, one and a range; the outcomes of AmqpReceiver.cs.
fn dotnet_settles_in_every_way_and_waits_for_the_word(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &["1", "2", "3", "4", "5"])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let all = sdk.receive(&mut link, 5, 5)?;
    assert_eq!(sdk.settle(&mut link, &[&all[0], &all[1]], Terminal::Accepted)?, Ok(()));
    let changed = [("retry", Value::Int(1)), ("span", time_span())];
    let modified = Modified { message_annotations: Some(fields(&changed)), ..Modified::default() };
    assert_eq!(sdk.settle(&mut link, &[&all[2]], Terminal::Modified(modified))?, Ok(()));
    assert_eq!(sdk.settle(&mut link, &[&all[3]], dead_lettered("why", "how"))?, Ok(()));
    // `DeadLetterMessageAsync` without arguments has no error.
    assert_eq!(sdk.settle(&mut link, &[&all[4]], Terminal::Rejected(None))?, Ok(()));
    let again = sdk.receive(&mut link, 1, 1)?;
    let message = &again[0].message;
    assert_eq!((message.text(), message.delivery_count()), ("3", Some(1)));
    assert_eq!(
        (message.property("retry"), message.property("span")),
        (Some(&Value::Int(1)), Some(&time_span()))
    );
    // Abandoned without properties: a modified of no fields.
    assert_eq!(sdk.settle(&mut link, &[&again[0]], Terminal::Modified(Modified::default()))?, Ok(()));
    let again = sdk.receive(&mut link, 1, 1)?;
    assert_eq!(again[0].message.delivery_count(), Some(2));
    sdk.complete(&mut link, &again[0])?;
    sdk.close_receiver(&link)?;
    let dead = format!("{queue}/$DeadLetterQueue");
    let mut link = sdk.receiver(&dead, Mode::ReceiveAndDelete, From::Queue)?;
    let dead = sdk.receive(&mut link, 2, 2)?;
    assert_eq!(dead[0].message.property("DeadLetterReason"), Some(&Value::string("why")));
    assert_eq!(dead[0].message.property("DeadLetterErrorDescription"), Some(&Value::string("how")));
    assert_eq!(dead[1].message.property("DeadLetterReason"), None);
    sdk.close(&[])
}

/// Settled deliveries; the SDK disposes of them locally and says nothing.
fn dotnet_receives_and_deletes(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &["1", "2", "3"])?;
    let mut link = sdk.receiver(queue, Mode::ReceiveAndDelete, From::Queue)?;
    let deliveries = sdk.receive(&mut link, 10, 3)?;
    assert_eq!(deliveries[2].message.text(), "3");
    // Credit is left: what comes with the drain would be lost otherwise.
    assert!(sdk.drain(&mut link)?.is_empty());
    sdk.close_receiver(&link)?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::QueueWithoutTarget)?;
    sdk.receive(&mut link, 1, 0)?;
    // The second time there is no credit left to drain.
    for _ in 0..2 {
        assert!(sdk.drain(&mut link)?.is_empty());
    }
    sdk.close(&[])
}

/// A delivery-tag that the new link does not know is `amqp:not-found` in ReceivingAmqpLink.cs, and
/// AmqpReceiver.cs asks `$management` then.
fn dotnet_settles_by_management_what_another_link_received(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &["1", "2", "3"])?;
    let mut lost = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let deliveries = sdk.receive(&mut lost, 3, 3)?;
    drop(sdk);
    let mut sdk = Sdk::connect(s)?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let mut management = sdk.management(queue)?;
    let mut update = |sdk: &mut Sdk<'_>, status: &str, number: usize, further: &[(&str, Value)]| {
        let body = disposition(status, &deliveries[number].tag, further)?;
        sdk.manage(&mut management, "update-disposition", Some(link.name()), body)
    };
    update(&mut sdk, "completed", 0, &[])?.ok();
    let properties =
        Value::Map(vec![(Value::string("retry"), Value::Int(1)), (Value::string("span"), time_span())]);
    update(&mut sdk, "abandoned", 1, &[("properties-to-modify", properties)])?.ok();
    let why = [("deadletter-reason", Value::string("why")), ("deadletter-description", Value::string("how"))];
    update(&mut sdk, "suspended", 2, &why)?.ok();
    update(&mut sdk, "completed", 0, &[])?.refused(
        410,
        "com.microsoft:message-lock-lost",
        "The lock supplied is invalid",
    );
    let again = sdk.receive(&mut link, 1, 1)?;
    assert_eq!((again[0].message.text(), again[0].message.delivery_count()), ("2", Some(1)));
    assert_eq!(again[0].message.property("span"), Some(&time_span()));
    sdk.complete(&mut link, &again[0])?;
    let mut dead = sdk.receiver(&format!("{queue}/$DeadLetterQueue"), Mode::ReceiveAndDelete, From::Queue)?;
    let dead = sdk.receive(&mut dead, 1, 1)?;
    assert_eq!(dead[0].message.property("DeadLetterReason"), Some(&Value::string("why")));
    sdk.close(&[])
}

/// `expirations` is a `DateTime[]`, in the order of the tokens.
fn dotnet_renews_message_locks(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &["1", "2"])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let deliveries = sdk.receive(&mut link, 2, 2)?;
    let mut management = sdk.management(queue)?;
    for delivery in &deliveries {
        let body = vec![tokens(&[&delivery.tag])?];
        let answer = sdk.manage(&mut management, "renew-lock", Some(link.name()), body)?.ok();
        let Some(Value::Timestamp(before)) = delivery.message.annotation("x-opt-locked-until") else {
            panic!("checked before")
        };
        assert!(answer.expirations(1)[0] >= *before, "{answer:?}");
    }
    let both = vec![tokens(&[&deliveries[0].tag, &deliveries[1].tag])?];
    sdk.manage(&mut management, "renew-lock", Some(link.name()), both)?.ok().expirations(2);
    sdk.complete(&mut link, &deliveries[0])?;
    let lost = vec![tokens(&[&deliveries[0].tag])?];
    let answer = sdk.manage(&mut management, "renew-lock", Some(link.name()), lost)?;
    answer.refused(410, "com.microsoft:message-lock-lost", "The lock supplied is invalid");
    sdk.close(&[&management])
}

/// Pages by the last sequence number; 204 at the end, of which the SDK makes an empty list.
fn dotnet_peeks_messages(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &["1", "2", "3"])?;
    let mut management = sdk.management(queue)?;
    let mut from = 1;
    let mut texts = Vec::new();
    loop {
        let body = vec![
            (Value::string("from-sequence-number"), Value::Long(from)),
            (Value::string("message-count"), Value::Int(2)),
        ];
        let answer = sdk.manage(&mut management, "peek-message", None, body)?;
        if answer.status == 204 {
            break;
        }
        for message in answer.ok().peeked() {
            from = message.sequence_number()? + 1;
            texts.push(message.text().to_owned());
        }
    }
    assert_eq!(texts, ["1", "2", "3"]);
    // Nothing was locked or counted.
    let mut link = sdk.receiver(queue, Mode::ReceiveAndDelete, From::Queue)?;
    let deliveries = sdk.receive(&mut link, 3, 3)?;
    assert!(deliveries.iter().all(|delivery| delivery.message.delivery_count() == Some(0)));
    sdk.close(&[&management])
}
