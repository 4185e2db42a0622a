//! Message sessions with fe2o3-amqp: what a document shows, and what the scenarios run.

use anyhow::{Context, Result, ensure};
use fe2o3_amqp::{
    Receiver, Sender,
    session::SessionHandle,
    types::{
        messaging::{AmqpValue, ApplicationProperties, Message, Properties, Source},
        primitives::{Binary, OrderedMap, Value},
    },
};
use lockstep_interop_fe2o3::new_name;

// snippet: accept-by-id
pub(crate) async fn accept_by_id(
    amqp_session: &mut SessionHandle<()>,
    queue: &str,
    id: &str,
) -> Result<Receiver> {
    let filter = Value::String(id.to_owned());
    let source = Source::builder()
        .address(queue)
        .add_to_filter_using_legacy_format("com.microsoft:session-filter", filter)
        .build();
    // Fails while another holds it: com.microsoft:session-cannot-be-locked.
    Ok(Receiver::builder().name(new_name()).source(source).attach(amqp_session).await?)
}
// end snippet

// snippet: accept-next
/// Waits for the next message session; the broker refuses after 65 seconds without one.
pub(crate) async fn accept_next(amqp_session: &mut SessionHandle<()>, queue: &str) -> Result<Receiver> {
    let source = Source::builder()
        .address(queue)
        .add_to_filter_using_legacy_format("com.microsoft:session-filter", Value::Null)
        .build();
    Ok(Receiver::builder().name(new_name()).source(source).attach(amqp_session).await?)
}

pub(crate) fn accepted_id(receiver: &Receiver) -> Result<String> {
    let filter = receiver.source().as_ref().and_then(|source| source.filter.as_ref()).context("no filter")?;
    match filter.get("com.microsoft:session-filter") {
        Some(Value::String(id)) => Ok(id.clone()),
        other => anyhow::bail!("no message session in the answer: {other:?}"),
    }
}
// end snippet

// snippet: send
pub(crate) async fn send(
    amqp_session: &mut SessionHandle<()>,
    queue: &str,
    id: &str,
    text: &str,
) -> Result<()> {
    let mut sender = Sender::attach(amqp_session, new_name(), queue).await?;
    let properties = Properties::builder().group_id(id.to_owned()).build();
    let message = Message::builder().properties(properties).value(text.to_owned()).build();
    sender.send(message).await?.accepted_or(()).ok().context("not accepted")?;
    Ok(sender.close().await?)
}
// end snippet

// snippet: request
/// One request to a queue's management node: its answer.
pub(crate) async fn request(
    amqp_session: &mut SessionHandle<()>,
    queue: &str,
    operation: &str,
    body: OrderedMap<String, Value>,
) -> Result<OrderedMap<String, Value>> {
    let node = format!("{queue}/$management");
    let mut answers = Receiver::attach(amqp_session, new_name(), node.as_str()).await?;
    let mut requests = Sender::attach(amqp_session, new_name(), node.as_str()).await?;
    let message = Message::builder()
        .properties(Properties::builder().message_id(new_name()).reply_to(node).build())
        .application_properties(ApplicationProperties::builder().insert("operation", operation).build())
        .value(body)
        .build();
    requests.send(message).await?;
    let answer = answers.recv::<AmqpValue<OrderedMap<String, Value>>>().await?;
    answers.accept(&answer).await?;
    let properties = answer.message().application_properties.as_ref().context("no properties")?;
    let status = properties.get("statusCode");
    ensure!(status.is_some_and(|status| i32::try_from(status.clone()) == Ok(200)), "{properties:?}");
    requests.close().await?;
    answers.close().await?;
    Ok(answer.into_body().0)
}
// end snippet

// snippet: renew
/// Until when the lock holds now, in milliseconds since 1970.
pub(crate) async fn renew(amqp_session: &mut SessionHandle<()>, queue: &str, id: &str) -> Result<i64> {
    let body = [("session-id".to_owned(), Value::String(id.to_owned()))].into_iter().collect();
    let answer = request(amqp_session, queue, "com.microsoft:renew-session-lock", body).await?;
    match answer.get("expiration") {
        Some(Value::Timestamp(time)) => Ok(time.milliseconds()),
        other => anyhow::bail!("no time: {other:?}"),
    }
}
// end snippet

// snippet: state
pub(crate) async fn set_state(
    amqp_session: &mut SessionHandle<()>,
    queue: &str,
    id: &str,
    state: Option<&[u8]>,
) -> Result<()> {
    let state = state.map_or(Value::Null, |bytes| Value::Binary(Binary::from(bytes.to_vec())));
    let body = [("session-id".to_owned(), Value::String(id.to_owned())), ("session-state".to_owned(), state)];
    request(amqp_session, queue, "com.microsoft:set-session-state", body.into_iter().collect()).await?;
    Ok(())
}

pub(crate) async fn get_state(
    amqp_session: &mut SessionHandle<()>,
    queue: &str,
    id: &str,
) -> Result<Option<Vec<u8>>> {
    let body = [("session-id".to_owned(), Value::String(id.to_owned()))].into_iter().collect();
    let answer = request(amqp_session, queue, "com.microsoft:get-session-state", body).await?;
    match answer.get("session-state") {
        Some(Value::Binary(state)) => Ok(Some(state.to_vec())),
        Some(Value::Null) => Ok(None),
        other => anyhow::bail!("no state: {other:?}"),
    }
}
// end snippet
