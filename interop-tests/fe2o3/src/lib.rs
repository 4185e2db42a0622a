//! What the scenarios with fe2o3-amqp have in common: connections, links, and what is said in one line.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use fe2o3_amqp::{
    Connection, Delivery, Receiver, Sender, Session,
    connection::ConnectionHandle,
    link::{ReceiverAttachError, SenderAttachError, receiver::CreditMode},
    sasl_profile::SaslProfile,
    session::SessionHandle,
    types::{
        definitions::{self, SenderSettleMode},
        messaging::{AmqpValue, Body, Message, Outcome, Properties, Source},
        primitives::Value,
    },
};
use lockstep_interop_amqp::{ANSWER, Broker};
use tokio::time::timeout;

/// How long is looked at a place where nothing may arrive.
pub const NOTHING: Duration = Duration::from_secs(1);

/// A connection and an AMQP session on it.
#[derive(Debug)]
pub struct Client {
    /// The connection; it ends when this is dropped.
    pub connection: ConnectionHandle<()>,
    /// What links are attached to.
    pub amqp_session: SessionHandle<()>,
}

/// A name that no other link or container of this run has.
#[must_use]
pub fn new_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("fe2o3-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

impl Client {
    /// Connects with name and key of the policy that may do everything.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn connect(broker: &Broker) -> Result<Self> {
        let password = broker.home().key("root").to_owned();
        Self::connect_as(broker, SaslProfile::Plain { username: "root".to_owned(), password }).await
    }

    /// Connects with another SASL profile.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn connect_as(broker: &Broker, profile: SaslProfile) -> Result<Self> {
        Self::connect_with_frames(broker, profile, 64 * 1024).await
    }

    /// Connects, and takes frames up to a size in bytes.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn connect_with_frames(broker: &Broker, profile: SaslProfile, bytes: u32) -> Result<Self> {
        let url = format!("amqp://{}", broker.address());
        let builder =
            Connection::builder().container_id(new_name()).max_frame_size(bytes).sasl_profile(profile);
        let mut connection = builder.open(&url[..]).await?;
        let amqp_session = Session::begin(&mut connection).await?;
        Ok(Self { connection, amqp_session })
    }

    /// A sender.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn sender(&mut self, address: &str) -> Result<Sender, SenderAttachError> {
        Sender::attach(&mut self.amqp_session, new_name(), address).await
    }

    /// A receiver that gives credit by hand.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn receiver(&mut self, source: impl Into<Source>) -> Result<Receiver, ReceiverAttachError> {
        self.receiver_in(source, SenderSettleMode::Mixed).await
    }

    /// A receiver that gives credit by hand, with this `snd-settle-mode`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn receiver_in(
        &mut self,
        source: impl Into<Source>,
        mode: SenderSettleMode,
    ) -> Result<Receiver, ReceiverAttachError> {
        Receiver::builder()
            .name(new_name())
            .source(source)
            .sender_settle_mode(mode)
            .credit_mode(CreditMode::Manual)
            .attach(&mut self.amqp_session)
            .await
    }

    /// Sends texts of one group, or of none.
    ///
    /// # Errors
    /// When one is not accepted.
    pub async fn send(&mut self, address: &str, group: Option<&str>, texts: &[&str]) -> Result<()> {
        let mut sender = self.sender(address).await?;
        for text in texts {
            let properties = Properties::builder().group_id(group.map(str::to_owned)).build();
            let message = Message::builder().properties(properties).value((*text).to_owned()).build();
            accepted(sender.send(message).await?)?;
        }
        Ok(sender.close().await?)
    }

    /// Closes the connection in order.
    ///
    /// # Errors
    /// When the broker does not.
    pub async fn close(mut self) -> Result<()> {
        self.amqp_session.end().await.map_err(|error| anyhow!("end: {error:?}"))?;
        self.connection.close().await.map_err(|error| anyhow!("close: {error:?}"))
    }
}

/// That a message was accepted.
///
/// # Errors
/// When it was not.
pub fn accepted(outcome: Outcome) -> Result<()> {
    ensure!(matches!(outcome, Outcome::Accepted(_)), "not accepted: {outcome:?}");
    Ok(())
}

/// What arrives next.
///
/// # Errors
/// When nothing does in time.
pub async fn receive(receiver: &mut Receiver) -> Result<Delivery<Body<Value>>> {
    Ok(timeout(ANSWER, receiver.recv::<Body<Value>>()).await.context("no message in time")??)
}

/// That nothing arrives for a while.
///
/// # Errors
/// When something does.
pub async fn nothing_arrives(receiver: &mut Receiver) -> Result<()> {
    match timeout(NOTHING, receiver.recv::<Body<Value>>()).await {
        Err(_) => Ok(()),
        Ok(Ok(delivery)) => bail!("a message too many: {:?}", delivery.message()),
        Ok(Err(error)) => Err(error.into()),
    }
}

/// The text that is a delivery's body.
///
/// # Errors
/// When the body is something else.
pub fn text(delivery: &Delivery<Body<Value>>) -> Result<&str> {
    match delivery.body() {
        Body::Value(AmqpValue(Value::String(text))) => Ok(text),
        other => bail!("no text: {other:?}"),
    }
}

/// The texts of the next messages, which are accepted. Gives the credit for them.
///
/// # Errors
/// When they do not arrive in time.
pub async fn take(receiver: &mut Receiver, count: u32) -> Result<Vec<String>> {
    receiver.set_credit(count).await?;
    let mut texts = Vec::new();
    for _ in 0..count {
        let delivery = receive(receiver).await?;
        texts.push(text(&delivery)?.to_owned());
        receiver.accept(&delivery).await?;
    }
    Ok(texts)
}

/// How many deliveries of a message failed before this one.
#[must_use]
pub fn delivery_count(delivery: &Delivery<Body<Value>>) -> u32 {
    delivery.message().header.as_ref().map_or(0, |header| header.delivery_count)
}

/// That a receiver was refused with a condition. The client may answer a refusal twice, which ends its AMQP session:
/// nothing else is to be done with that.
///
/// # Errors
/// When it was not, or otherwise.
pub fn refused(attached: Result<Receiver, ReceiverAttachError>, condition: &str) -> Result<()> {
    match attached {
        Err(ReceiverAttachError::RemoteClosedWithError(error)) => has_condition(&error, condition),
        other => bail!("not refused with {condition}: {other:?}"),
    }
}

/// That an error has a condition and a text.
///
/// # Errors
/// When it has not.
pub fn has_condition(error: &definitions::Error, condition: &str) -> Result<()> {
    let found = serde_amqp::to_value(&error.condition)?;
    ensure!(found == Value::Symbol(condition.into()), "{condition} is not {error:?}");
    ensure!(error.description.as_ref().is_some_and(|text| !text.is_empty()), "no description");
    Ok(())
}
