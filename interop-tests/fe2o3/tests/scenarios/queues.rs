//! Queues: how messages are sent, received and settled.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fe2o3_amqp::{
    Receiver, Sendable, Sender,
    link::{SenderAttachError, receiver::CreditMode},
    sasl_profile::SaslProfile,
    types::{
        definitions::{ReceiverSettleMode, SenderSettleMode},
        messaging::{
            AmqpSequence, AmqpValue, Annotations, ApplicationProperties, Body, Data, DeliveryAnnotations,
            Footer, Header, Message, MessageAnnotations, MessageId, Modified, Priority, Properties,
            annotations::OwnedKey,
        },
        primitives::{Array, Binary, OrderedMap, SimpleValue, Symbol, Timestamp, Uuid, Value},
    },
};
use lockstep_interop_amqp::{Broker, utc_millis};
use lockstep_interop_fe2o3::{
    Client, accepted, delivery_count, has_condition, new_name, nothing_arrives, receive, refused, take, text,
};

use crate::{scenarios, snippets::request};

scenarios![
    generic_send_receive_and_complete,
    generic_anonymous_and_a_cbs_token,
    generic_every_body_kind_and_property_survives,
    generic_a_message_in_many_frames,
    generic_outcomes_accepted_released_modified_rejected,
    generic_receive_and_delete,
    generic_the_receiver_settles_second,
    generic_a_pre_settled_send,
    generic_a_drain_is_answered,
    generic_credit_is_kept_to,
    generic_a_plain_receiver_shares_with_another,
    generic_deferring_by_disposition,
    generic_peek_by_management,
    generic_a_message_lock_is_renewed_by_management,
];

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("text {number}")).collect()
}

async fn send_numbered(client: &mut Client, queue: &str, count: usize) -> Result<()> {
    let texts = numbered(count);
    client.send(queue, None, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn nothing_is_left(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    let mut receiver = client.receiver(queue).await?;
    receiver.set_credit(1).await?;
    nothing_arrives(&mut receiver).await?;
    client.close().await
}

async fn generic_send_receive_and_complete(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    send_numbered(&mut client, queue, 100).await?;
    let mut receiver = client.receiver(queue).await?;
    receiver.set_credit(100).await?;
    for expected in numbered(100) {
        let delivery = receive(&mut receiver).await?;
        assert_eq!(text(&delivery)?, expected);
        assert_eq!(delivery_count(&delivery), 0);
        receiver.accept(&delivery).await?;
    }
    client.close().await?;
    nothing_is_left(broker, queue).await
}

async fn generic_anonymous_and_a_cbs_token(broker: &Broker, queue: &str) -> Result<()> {
    let anonymous = async || Client::connect_as(broker, SaslProfile::Anonymous).await;
    match anonymous().await?.sender(queue).await {
        Err(SenderAttachError::RemoteClosedWithError(error)) => {
            has_condition(&error, "amqp:unauthorized-access")?;
        }
        other => bail!("not refused: {other:?}"),
    }
    refused(anonymous().await?.receiver(queue).await, "amqp:unauthorized-access")?;

    let mut client = anonymous().await?;
    let audience = format!("sb://127.0.0.1/{queue}");
    let token = broker.home().token("root", &audience, utc_millis() / 1000 + 600);
    let mut answers = client.receiver("$cbs").await?;
    answers.set_credit(1).await?;
    let mut requests = client.sender("$cbs").await?;
    let message = Message::builder()
        .properties(Properties::builder().message_id(7_u64).reply_to("$cbs").build())
        .application_properties(
            ApplicationProperties::builder()
                .insert("operation", "put-token")
                .insert("type", "servicebus.windows.net:sastoken")
                .insert("name", audience)
                .build(),
        )
        .value(token)
        .build();
    accepted(requests.send(message).await?)?;
    let answer = receive(&mut answers).await?;
    let properties = answer.message().properties.as_ref().context("no properties")?;
    assert_eq!(properties.correlation_id, Some(MessageId::Ulong(7)));
    let status = answer.message().application_properties.as_ref().and_then(|p| p.get("status-code").cloned());
    assert_eq!(status.map(Value::from), Some(Value::Int(202)));

    client.send(queue, None, &["with a token"]).await?;
    let mut receiver = client.receiver(queue).await?;
    assert_eq!(take(&mut receiver, 1).await?, ["with a token"]);
    client.close().await
}

fn values() -> Vec<Value> {
    let list = Value::List(vec![Value::String("nested".to_owned()), Value::List(vec![Value::Long(1)])]);
    let map: OrderedMap<Value, Value> =
        [(Value::Symbol("key".into()), list.clone()), (Value::Ulong(2), Value::Null)].into_iter().collect();
    vec![
        Value::String("größer als ASCII: ✓".to_owned()),
        Value::Bool(true),
        Value::Ubyte(255),
        Value::Ushort(65_535),
        Value::Uint(u32::MAX),
        Value::Ulong(u64::MAX),
        Value::Byte(-1),
        Value::Short(i16::MIN),
        Value::Int(i32::MIN),
        Value::Long(i64::MIN),
        Value::Float(0.5.into()),
        Value::Double(std::f64::consts::PI.into()),
        Value::Char('✓'),
        Value::Timestamp(Timestamp::from_milliseconds(1_700_000_000_123)),
        Value::Uuid(Uuid::from([7; 16])),
        Value::Binary(Binary::from(vec![0, 255])),
        Value::Symbol("symbol".into()),
        list,
        Value::Map(map),
        Value::Array(Array::from(vec![Value::Int(1), Value::Int(2)])),
        Value::Null,
    ]
}

fn every_property() -> Properties {
    Properties::builder()
        .message_id(Uuid::from([3; 16]))
        .user_id(vec![5])
        .to("somewhere")
        .subject("a subject")
        .reply_to("answers")
        .correlation_id(Binary::from(vec![6]))
        .content_type("text/plain")
        .content_encoding("identity")
        .creation_time(Timestamp::from_milliseconds(1_700_000_000_000))
        .group_id("a group".to_owned())
        .group_sequence(8)
        .reply_to_group_id("another".to_owned())
        .build()
}

/// One body in a message that has everything else.
fn full<B>(body: Message<B>) -> Message<B> {
    // Lists, maps and arrays are no values of application properties.
    let simple = values().into_iter().filter_map(|value| SimpleValue::try_from(value).ok());
    let application_properties =
        simple.enumerate().fold(ApplicationProperties::builder(), |all, (number, value)| {
            all.insert(format!("p{number}"), value)
        });
    Message {
        header: Some(Header { durable: true, priority: Priority(7), ..Header::default() }),
        message_annotations: Some(
            MessageAnnotations::builder()
                .insert(Symbol::from("x-opt-own"), Value::String("kept".to_owned()))
                .build(),
        ),
        properties: Some(every_property()),
        application_properties: Some(application_properties.build()),
        footer: Some(
            Footer::builder().insert(Symbol::from("a-footer"), Value::String("value".to_owned())).build(),
        ),
        ..body
    }
}

async fn generic_every_body_kind_and_property_survives(broker: &Broker, queue: &str) -> Result<()> {
    let mut bodies: Vec<Body<Value>> =
        values().into_iter().map(|value| Body::Value(AmqpValue(value))).collect();
    let data = |bytes: &[u8]| Data(Binary::from(bytes.to_vec()));
    bodies.push(Body::Data(vec![data(&[0, 1, 255])].into()));
    bodies.push(Body::Data(vec![data(&[1]), data(&[2])].into()));
    bodies.push(Body::Sequence(
        vec![AmqpSequence(vec![Value::Int(1)]), AmqpSequence(vec![Value::Null])].into(),
    ));

    let mut client = Client::connect(broker).await?;
    let mut sender = client.sender(queue).await?;
    let mut receiver = client.receiver(queue).await?;
    for body in bodies {
        let sent = full(Message::from(body));
        accepted(sender.send(sent.clone()).await?)?;
        receiver.set_credit(1).await?;
        let delivery = receive(&mut receiver).await?;
        let message = delivery.message();
        assert_eq!(message.body, sent.body);
        assert_eq!(message.properties, sent.properties);
        assert_eq!(message.application_properties, sent.application_properties);
        assert_eq!(message.footer, sent.footer);
        let header = message.header.as_ref().context("no header")?;
        assert_eq!((header.durable, &header.priority), (true, &Priority(7)));
        let annotations = message.message_annotations.as_ref().context("no annotations")?;
        for name in ["x-opt-own", "x-opt-sequence-number", "x-opt-enqueued-time", "x-opt-locked-until"] {
            ensure!(entry(annotations, name).is_some(), "no {name}");
        }
        receiver.accept(&delivery).await?;
    }
    client.close().await
}

async fn generic_a_message_in_many_frames(broker: &Broker, queue: &str) -> Result<()> {
    let password = broker.home().key("root").to_owned();
    let profile = SaslProfile::Plain { username: "root".to_owned(), password };
    let mut client = Client::connect_with_frames(broker, profile, 1024).await?;
    let bytes: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[number as usize % 3]).collect();
    let mut sender = client.sender(queue).await?;
    let mut receiver = client.receiver(queue).await?;
    for _ in 0..3 {
        accepted(sender.send(Message::builder().data(Binary::from(bytes.clone())).build()).await?)?;
        receiver.set_credit(1).await?;
        let delivery = receive(&mut receiver).await?;
        match delivery.body() {
            Body::Data(data) => {
                assert_eq!(data.iter().flat_map(|data| data.0.to_vec()).collect::<Vec<_>>(), bytes)
            }
            other => bail!("no data: {other:?}"),
        }
        receiver.accept(&delivery).await?;
    }
    client.close().await?;
    nothing_is_left(broker, queue).await
}

async fn generic_outcomes_accepted_released_modified_rejected(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    client.send(queue, None, &["one", "two"]).await?;
    let mut receiver = client.receiver(queue).await?;
    let failed =
        Modified { delivery_failed: Some(true), undeliverable_here: None, message_annotations: None };
    for (step, count) in [("release", 0), ("modify", 0), ("reject", 1)] {
        receiver.set_credit(1).await?;
        let delivery = receive(&mut receiver).await?;
        assert_eq!((text(&delivery)?, delivery_count(&delivery)), ("one", count));
        match step {
            "release" => receiver.release(&delivery).await?,
            "modify" => receiver.modify(&delivery, failed.clone()).await?,
            _ => receiver.reject(&delivery, None).await?,
        }
    }
    assert_eq!(take(&mut receiver, 1).await?, ["two"]);
    receiver.set_credit(1).await?;
    nothing_arrives(&mut receiver).await?;
    let mut dead = client.receiver(format!("{queue}/$DeadLetterQueue")).await?;
    assert_eq!(take(&mut dead, 1).await?, ["one"]);
    client.close().await
}

async fn generic_receive_and_delete(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    client.send(queue, None, &["gone", "stays"]).await?;
    let mut receiver = client.receiver_in(queue, SenderSettleMode::Settled).await?;
    receiver.set_credit(1).await?;
    assert_eq!(text(&receive(&mut receiver).await?)?, "gone");
    receiver.close().await?;
    let mut rest = client.receiver(queue).await?;
    assert_eq!(take(&mut rest, 1).await?, ["stays"]);
    client.close().await?;
    nothing_is_left(broker, queue).await
}

async fn generic_the_receiver_settles_second(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    send_numbered(&mut client, queue, 50).await?;
    let mut receiver = Receiver::builder()
        .name(new_name())
        .source(queue)
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .credit_mode(CreditMode::Manual)
        .attach(&mut client.amqp_session)
        .await?;
    assert_eq!(take(&mut receiver, 50).await?, numbered(50));
    // Closing waits for nothing, so that what is gone was confirmed before or is by now.
    receiver.close().await?;
    client.close().await?;
    nothing_is_left(broker, queue).await
}

async fn generic_a_pre_settled_send(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    let mut sender = Sender::builder()
        .name(new_name())
        .target(queue)
        .sender_settle_mode(SenderSettleMode::Settled)
        .attach(&mut client.amqp_session)
        .await?;
    for text in numbered(3) {
        sender.send(text).await?;
    }
    let mut mixed = client.sender(queue).await?;
    mixed.send(Sendable::builder().message("text 3").settled(true).build()).await?;
    let mut receiver = client.receiver(queue).await?;
    assert_eq!(take(&mut receiver, 4).await?, numbered(4));
    client.close().await
}

async fn generic_a_drain_is_answered(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    let mut receiver = client.receiver(queue).await?;
    receiver.set_credit(10).await?;
    // The client does not show the answer: what shows it is that the credit is used up.
    receiver.drain().await?;
    send_numbered(&mut client, queue, 2).await?;
    nothing_arrives(&mut receiver).await?;
    receiver.set_credit(10).await?;
    let texts =
        [text(&receive(&mut receiver).await?)?.to_owned(), text(&receive(&mut receiver).await?)?.to_owned()];
    assert_eq!(texts[..], numbered(2));
    receiver.drain().await?;
    send_numbered(&mut client, queue, 1).await?;
    nothing_arrives(&mut receiver).await?;
    client.close().await
}

async fn generic_credit_is_kept_to(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    send_numbered(&mut client, queue, 10).await?;
    let mut receiver = client.receiver(queue).await?;
    nothing_arrives(&mut receiver).await?;
    assert_eq!(take(&mut receiver, 3).await?[..], numbered(10)[..3]);
    nothing_arrives(&mut receiver).await?;
    assert_eq!(take(&mut receiver, 4).await?[..], numbered(10)[3..7]);
    nothing_arrives(&mut receiver).await?;
    client.close().await
}

async fn generic_a_plain_receiver_shares_with_another(broker: &Broker, queue: &str) -> Result<()> {
    let mut first = Client::connect(broker).await?;
    let mut second = Client::connect(broker).await?;
    let mut receivers = [first.receiver(queue).await?, second.receiver(queue).await?];
    for receiver in &mut receivers {
        receiver.set_credit(50).await?;
    }
    send_numbered(&mut first, queue, 100).await?;
    let mut seen = Vec::new();
    for receiver in &mut receivers {
        for _ in 0..50 {
            let delivery = receive(receiver).await?;
            seen.push(text(&delivery)?.to_owned());
            receiver.accept(&delivery).await?;
        }
        nothing_arrives(receiver).await?;
    }
    seen.sort();
    let mut expected = numbered(100);
    expected.sort();
    assert_eq!(seen, expected);
    first.close().await?;
    second.close().await
}

async fn generic_deferring_by_disposition(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    client.send(queue, None, &["one", "two"]).await?;
    let mut receiver = client.receiver(queue).await?;
    receiver.set_credit(1).await?;
    let delivery = receive(&mut receiver).await?;
    let elsewhere =
        Modified { delivery_failed: None, undeliverable_here: Some(true), message_annotations: None };
    receiver.modify(&delivery, elsewhere).await?;
    assert_eq!(take(&mut receiver, 1).await?, ["two"]);
    // It does not come again; its number finds it.
    receiver.set_credit(1).await?;
    nothing_arrives(&mut receiver).await?;
    let annotations = delivery.message().message_annotations.as_ref().context("no annotations")?;
    let number = entry(annotations, "x-opt-sequence-number").cloned().context("no number")?;
    let body = [
        ("sequence-numbers".to_owned(), Value::Array(Array::from(vec![number]))),
        ("receiver-settle-mode".to_owned(), Value::Uint(1)),
    ];
    let operation = "com.microsoft:receive-by-sequence-number";
    let answer = request(&mut client.amqp_session, queue, operation, body.into_iter().collect()).await?;
    let token = match answer.get("messages") {
        Some(Value::List(messages)) => match &messages[..] {
            [Value::Map(message)] => message.get(&Value::String("lock-token".to_owned())).cloned(),
            other => bail!("not one message: {other:?}"),
        },
        other => bail!("no messages: {other:?}"),
    };
    let body = [
        ("disposition-status".to_owned(), Value::String("completed".to_owned())),
        ("lock-tokens".to_owned(), Value::Array(Array::from(vec![token.context("no lock token")?]))),
    ];
    let operation = "com.microsoft:update-disposition";
    request(&mut client.amqp_session, queue, operation, body.into_iter().collect()).await?;
    client.close().await?;
    nothing_is_left(broker, queue).await
}

async fn generic_peek_by_management(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    client.send(queue, None, &["one", "two"]).await?;
    let body =
        [("from-sequence-number".to_owned(), Value::Long(0)), ("message-count".to_owned(), Value::Int(10))];
    let answer =
        request(&mut client.amqp_session, queue, "com.microsoft:peek-message", body.into_iter().collect())
            .await?;
    match answer.get("messages") {
        Some(Value::List(messages)) => assert_eq!(messages.len(), 2),
        other => bail!("no messages: {other:?}"),
    }
    let mut receiver = client.receiver(queue).await?;
    assert_eq!(take(&mut receiver, 2).await?, ["one", "two"]);
    client.close().await
}

async fn generic_a_message_lock_is_renewed_by_management(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    let mut other = Client::connect(broker).await?;
    client.send(queue, None, &["one"]).await?;
    let mut receiver = client.receiver(queue).await?;
    receiver.set_credit(1).await?;
    let delivery = receive(&mut receiver).await?;
    let token = lock_token(delivery.message().delivery_annotations.as_ref())?;
    let mut waits = other.receiver(queue).await?;
    waits.set_credit(1).await?;
    // The lock lasts five seconds; it is kept for eight.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let tokens = Value::Array(Array::from(vec![token.clone()]));
        let body = [("lock-tokens".to_owned(), tokens)].into_iter().collect();
        let answer = request(&mut client.amqp_session, queue, "com.microsoft:renew-lock", body).await?;
        match answer.get("expirations") {
            Some(Value::Array(times)) => {
                ensure!(
                    matches!(times.0[..], [Value::Timestamp(ref time)] if time.milliseconds() > utc_millis())
                );
            }
            other => bail!("no times: {other:?}"),
        }
    }
    receiver.accept(&delivery).await?;
    nothing_arrives(&mut waits).await?;
    client.close().await?;
    other.close().await
}

fn entry<'a>(annotations: &'a Annotations, name: &str) -> Option<&'a Value> {
    let named = |key: &OwnedKey| matches!(key, OwnedKey::Symbol(symbol) if symbol.as_str() == name);
    annotations.iter().find(|(key, _)| named(key)).map(|(_, value)| value)
}

fn lock_token(annotations: Option<&DeliveryAnnotations>) -> Result<Value> {
    let annotations = annotations.context("no delivery annotations")?;
    entry(annotations, "x-opt-lock-token").cloned().context("no lock token")
}
