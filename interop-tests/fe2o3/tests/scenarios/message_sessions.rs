//! Message sessions through the source filter.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail, ensure};
use fe2o3_amqp::{
    link::{ReceiverAttachError, receiver::CreditMode},
    types::{
        messaging::{Modified, Source},
        primitives::Value,
    },
};
use lockstep_interop_amqp::{Broker, utc_millis};
use lockstep_interop_fe2o3::{Client, has_condition, nothing_arrives, receive, refused, take, text};
use serde_amqp::{described::Described, descriptor::Descriptor};

use crate::{
    scenarios,
    snippets::{accept_by_id, accept_next, accepted_id, get_state, renew, send, set_state},
};

scenarios![
    generic_session_by_a_bare_string,
    generic_session_by_a_described_filter_with_symbol,
    generic_session_by_a_described_filter_with_ulong,
    generic_session_by_a_symbol_typed_id,
    generic_session_next_by_null,
    generic_session_held_elsewhere_is_refused,
    generic_session_messages_come_in_order,
    generic_session_lock_is_renewed_by_management,
    generic_session_state_by_management,
];

const FILTER: &str = "com.microsoft:session-filter";

fn source(queue: &str, filter: Value) -> Source {
    Source::builder().address(queue).add_to_filter_using_legacy_format(FILTER, filter).build()
}

fn described(descriptor: Descriptor, value: Value) -> Value {
    Value::Described(Box::new(Described { descriptor, value }))
}

/// Sends to two ids, accepts the wanted one by `filter`, sees only its messages; the answer has `granted`.
async fn accepts_with(broker: &Broker, queue: &str, filter: Value, granted: Value) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    client.send(queue, Some("other"), &["not for us"]).await?;
    client.send(queue, Some("wanted"), &["one", "two"]).await?;
    let mut receiver = client.receiver(source(queue, filter)).await?;
    assert_eq!(take(&mut receiver, 2).await?, ["one", "two"]);
    receiver.set_credit(1).await?;
    nothing_arrives(&mut receiver).await?;
    let answered = receiver.source().as_ref().and_then(|source| source.filter.as_ref()?.get(FILTER).cloned());
    assert_eq!(answered, Some(granted));
    receiver.close().await?;
    client.close().await
}

async fn generic_session_by_a_bare_string(broker: &Broker, queue: &str) -> Result<()> {
    let wanted = Value::String("wanted".to_owned());
    accepts_with(broker, queue, wanted.clone(), wanted).await
}

async fn generic_session_by_a_described_filter_with_symbol(broker: &Broker, queue: &str) -> Result<()> {
    let wanted = described(Descriptor::Name(FILTER.into()), Value::String("wanted".to_owned()));
    accepts_with(broker, queue, wanted.clone(), wanted).await
}

async fn generic_session_by_a_described_filter_with_ulong(broker: &Broker, queue: &str) -> Result<()> {
    let wanted = described(Descriptor::Code(0x0000_0013_7000_000C), Value::String("wanted".to_owned()));
    accepts_with(broker, queue, wanted.clone(), wanted).await
}

async fn generic_session_by_a_symbol_typed_id(broker: &Broker, queue: &str) -> Result<()> {
    // The id is a string, whatever it was asked with.
    accepts_with(broker, queue, Value::Symbol("wanted".into()), Value::String("wanted".to_owned())).await
}

async fn generic_session_next_by_null(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    let mut other = Client::connect(broker).await?;
    send(&mut client.amqp_session, queue, "first", "one").await?;
    let mut first = accept_next(&mut client.amqp_session, queue).await?;
    assert_eq!(accepted_id(&first)?, "first");
    first.set_credit_mode(CreditMode::Manual);
    assert_eq!(take(&mut first, 1).await?, ["one"]);
    // The next one is pending until there is another id.
    let pending = accept_next(&mut other.amqp_session, queue);
    let sent = send(&mut client.amqp_session, queue, "second", "two");
    let (second, sent) = join(pending, sent).await;
    sent?;
    // A link that is dropped while messages come makes the client end its AMQP session.
    let second = second?;
    assert_eq!(accepted_id(&second)?, "second");
    second.close().await?;
    first.close().await?;
    client.close().await?;
    other.close().await
}

async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    tokio::join!(a, b)
}

async fn generic_session_held_elsewhere_is_refused(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    let holder = accept_by_id(&mut client.amqp_session, queue, "held").await?;
    let mut refused_one = Client::connect(broker).await?;
    let Err(error) = accept_by_id(&mut refused_one.amqp_session, queue, "held").await else {
        bail!("one message session was accepted twice");
    };
    match error.downcast::<ReceiverAttachError>()? {
        ReceiverAttachError::RemoteClosedWithError(error) => {
            has_condition(&error, "com.microsoft:session-cannot-be-locked")?;
        }
        other => bail!("{other:?}"),
    }
    refused(Client::connect(broker).await?.receiver(queue).await, "amqp:not-allowed")?;
    holder.close().await?;
    let mut other = Client::connect(broker).await?;
    accept_by_id(&mut other.amqp_session, queue, "held").await?.close().await?;
    client.close().await?;
    other.close().await
}

async fn generic_session_messages_come_in_order(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    let mut receivers = Vec::new();
    for id in ["a", "b"] {
        let filter = Value::String(id.to_owned());
        receivers.push((id, client.receiver(source(queue, filter)).await?));
    }
    for number in 0..20 {
        for id in ["a", "b"] {
            client.send(queue, Some(id), &[&format!("{id}{number}")]).await?;
        }
    }
    for (id, receiver) in &mut receivers {
        receiver.set_credit(1).await?;
        let abandoned = receive(receiver).await?;
        assert_eq!(text(&abandoned)?, format!("{id}0"));
        let group =
            abandoned.message().properties.as_ref().and_then(|properties| properties.group_id.clone());
        assert_eq!(group.as_deref(), Some(*id));
        let failed =
            Modified { delivery_failed: Some(true), undeliverable_here: None, message_annotations: None };
        receiver.modify(&abandoned, failed).await?;
        let expected: Vec<String> = (0..20).map(|number| format!("{id}{number}")).collect();
        assert_eq!(take(receiver, 20).await?, expected);
    }
    client.close().await
}

async fn generic_session_lock_is_renewed_by_management(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    client.send(queue, Some("renewed"), &["one"]).await?;
    let mut holder = client.receiver(source(queue, Value::String("renewed".to_owned()))).await?;
    // The lock lasts five seconds; it is kept for eight.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let until = renew(&mut client.amqp_session, queue, "renewed").await?;
        ensure!(until > utc_millis(), "the new end {until} is over");
    }
    let mut other = Client::connect(broker).await?;
    let Err(error) = renew(&mut other.amqp_session, queue, "renewed").await else {
        bail!("renewed by another")
    };
    ensure!(error.to_string().contains("com.microsoft:session-lock-lost"), "{error}");
    ensure!(accept_by_id(&mut other.amqp_session, queue, "renewed").await.is_err(), "it was free");
    assert_eq!(take(&mut holder, 1).await?, ["one"]);
    client.close().await
}

async fn generic_session_state_by_management(broker: &Broker, queue: &str) -> Result<()> {
    let mut client = Client::connect(broker).await?;
    let id = "with state";
    let holder = accept_by_id(&mut client.amqp_session, queue, id).await?;
    assert_eq!(get_state(&mut client.amqp_session, queue, id).await?, None);
    set_state(&mut client.amqp_session, queue, id, Some(&[1, 2, 3])).await?;
    assert_eq!(get_state(&mut client.amqp_session, queue, id).await?, Some(vec![1, 2, 3]));
    holder.close().await?;
    let _holder = accept_by_id(&mut client.amqp_session, queue, id).await?;
    assert_eq!(get_state(&mut client.amqp_session, queue, id).await?, Some(vec![1, 2, 3]));
    set_state(&mut client.amqp_session, queue, id, None).await?;
    assert_eq!(get_state(&mut client.amqp_session, queue, id).await?, None);
    client.close().await
}
