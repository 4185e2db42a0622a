//! What the generator's links look like, and the request to `$cbs`.

use anyhow::{Context as _, Result, bail};
use lockstep_amqp::{
    Event, LinkId, OutgoingDelivery,
    message::{Properties, decode_map_section, encode_value_message, scan},
    types::{
        Attach, DeliveryState, Fields, Outcome, ReceiverSettleMode, Role, SenderSettleMode, Source, Target,
        TargetTerminus, Value,
    },
};
use lockstep_protocol::names;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{args::SettleMode, client::Client, endpoint::Endpoint};

/// How long the broker may look for a message session, in milliseconds.
const ACCEPT_WAIT_MS: u32 = 60_000;

/// The state that completes a message.
pub(super) const ACCEPTED: DeliveryState = DeliveryState::Outcome(Outcome::Accepted);

fn attach(name: &str, role: Role, source: Source, target: Target) -> Attach {
    Attach {
        name: name.into(),
        handle: 0,
        role,
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::First),
        source: Some(source),
        target: Some(TargetTerminus::Target(target)),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        max_message_size: None,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

fn address(text: &str) -> Option<Value> {
    Some(Value::string(text))
}

/// A link that sends to a node.
pub(super) fn sender(name: &str, node: &str) -> Attach {
    let source = Source { address: address(name), ..Source::default() };
    attach(name, Role::Sender, source, Target { address: address(node), ..Target::default() })
}

/// A link that receives from a node.
pub(super) fn receiver(name: &str, node: &str, settle: SettleMode) -> Attach {
    let source = Source { address: address(node), ..Source::default() };
    let target = Target { address: address(name), ..Target::default() };
    let rcv_settle_mode = match settle {
        SettleMode::First => ReceiverSettleMode::First,
        SettleMode::Second => ReceiverSettleMode::Second,
    };
    Attach { rcv_settle_mode: Some(rcv_settle_mode), ..attach(name, Role::Receiver, source, target) }
}

/// A link that accepts the next message session of a queue.
pub(super) fn next_message_session(name: &str, queue: &str, settle: SettleMode) -> Attach {
    let mut attach = receiver(name, queue, settle);
    let mut filter = Fields::default();
    filter.insert(names::filter::MESSAGE_SESSION, Value::Null);
    if let Some(source) = &mut attach.source {
        source.filter = Some(filter);
    }
    let mut properties = Fields::default();
    properties.insert(names::link_property::TIMEOUT, Value::Uint(ACCEPT_WAIT_MS));
    attach.properties = Some(properties);
    attach
}

/// Which message session an attach was answered with.
pub(super) fn granted_message_session(answer: &Attach) -> Option<&str> {
    answer.source.as_ref()?.filter.as_ref()?.get(names::filter::MESSAGE_SESSION)?.as_text()
}

/// Puts a token for `entity`, if the endpoint authenticates with tokens.
pub(super) async fn authorise<S>(client: &mut Client<S>, endpoint: &Endpoint, entity: &str) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some((audience, token)) = endpoint.token(entity) else { return Ok(()) };
    let requests = client.attach(sender("cbs-requests", names::CBS_NODE)).await?;
    let answers = client.attach(receiver("cbs-answers", names::CBS_NODE, SettleMode::First)).await?;
    client.engine.set_credit(answers, 1);
    let properties = Properties {
        message_id: Some(Value::string("put-token")),
        reply_to: Some(Value::string("cbs-answers")),
        ..Properties::default()
    };
    let entries: [(Box<str>, Value); 3] = [
        (names::cbs::OPERATION.into(), Value::string(names::cbs::PUT_TOKEN)),
        (names::cbs::TYPE.into(), Value::string(names::cbs::TYPE_SAS)),
        (names::cbs::NAME.into(), Value::string(&audience)),
    ];
    let request = OutgoingDelivery {
        tag: bytes::Bytes::from_static(b"put-token"),
        message_format: 0,
        settled: true,
        prefix: encode_value_message(Some(&properties), &entries, &Value::string(&token)),
        rest: bytes::Bytes::new(),
    };
    while client.engine.sendable(requests) == 0 {
        client.turn().await?;
        while client.poll_event()?.is_some() {}
    }
    client.engine.send(requests, request).context("cannot send the request to $cbs")?;
    take_answer(client, answers, entity).await?;
    client.engine.detach(requests, None);
    client.engine.detach(answers, None);
    Ok(())
}

async fn take_answer<S>(client: &mut Client<S>, answers: LinkId, entity: &str) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Event::Delivery { delivery, payload, settled, .. } = client.event().await? else { continue };
        if delivery.link != answers {
            continue;
        }
        if !settled {
            client.engine.settle(&[delivery], &ACCEPTED, true);
        }
        let sections = scan(&payload).context("the answer of $cbs is no message")?;
        let entries = sections.application_properties.and_then(|range| payload.get(range));
        let entries = decode_map_section(entries.context("the answer of $cbs has no status")?)?;
        let field =
            |name| entries.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value);
        let status = field(names::cbs::STATUS_CODE).and_then(Value::as_u64).unwrap_or(0);
        if (200..300).contains(&status) {
            return Ok(());
        }
        let text = field(names::cbs::STATUS_DESCRIPTION).and_then(Value::as_text).unwrap_or("");
        bail!("the broker refused the token for {entity}: {status} {text}");
    }
}
