//! Links, messages and their settlement.

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::{
    AmqpSessionId, DeliveryRef, LinkId, OutgoingDelivery,
    message::BATCH_MESSAGE_FORMAT,
    types::{Attach, DeliveryState, Error, Modified, Outcome as Terminal, Role, Value},
};

use super::{Client, seen::Arrived};
use crate::{ANSWER, Failed, Message, Outcome, attach, lock_token};

/// A message that came on a link.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// For its settlement.
    pub reference: DeliveryRef,
    /// As it came.
    pub tag: Bytes,
    /// Whether the broker forgot it already.
    pub settled: bool,
    /// The message.
    pub message: Message,
}

impl Delivery {
    pub(super) fn new(arrived: &Arrived) -> Outcome<Self> {
        if arrived.message_format != 0 {
            return Err(Failed::new(format!("message-format {:#x}", arrived.message_format)));
        }
        Ok(Self {
            reference: arrived.delivery,
            tag: arrived.tag.clone(),
            settled: arrived.settled,
            message: Message::parse(&arrived.payload)?,
        })
    }

    /// The body.
    #[must_use]
    pub fn text(&self) -> &str {
        self.message.text()
    }

    /// The delivery-count; -1 if the header does not say.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.message.delivery_count().map_or(-1, i64::from)
    }

    /// The lock token for `$management`.
    ///
    /// # Errors
    /// When the delivery-tag is none.
    pub fn token(&self) -> Outcome<Value> {
        lock_token(&self.tag)
    }
}

impl Client {
    /// Sends an attach on an AMQP session, without waiting for the answer.
    ///
    /// # Errors
    /// When the name is taken or the AMQP session is gone.
    pub fn start_attach_on(&mut self, session: AmqpSessionId, attach: Attach) -> Outcome<LinkId> {
        let name = attach.name.clone();
        self.engine
            .attach(session, attach)
            .ok_or_else(|| Failed::new(format!("the engine does not attach {name}")))
    }

    /// Sends an attach on the first AMQP session, without waiting for the answer.
    ///
    /// # Errors
    /// As `start_attach_on`.
    pub fn start_attach(&mut self, attach: Attach) -> Outcome<LinkId> {
        self.start_attach_on(self.session, attach)
    }

    /// The answer to an attach: the broker's attach, or the error of its refusal.
    ///
    /// # Errors
    /// When none comes.
    pub fn attach_answer(
        &mut self,
        link: LinkId,
        within: Duration,
    ) -> Outcome<Result<Attach, Option<Error>>> {
        let answer = self.until("the answer to an attach", within, |seen| seen.attached.remove(&link))?;
        let receiving = answer.role == Role::Sender;
        let granted = if receiving { answer.source.is_some() } else { answer.target.is_some() };
        if granted {
            return Ok(Ok(answer));
        }
        self.until("the detach after a refused attach", ANSWER, |seen| seen.detached.remove(&link)).map(Err)
    }

    /// Whether an attach was answered already.
    #[must_use]
    pub fn is_answered(&self, link: LinkId) -> bool {
        self.seen.attached.contains_key(&link)
    }

    /// Attaches a link.
    ///
    /// # Errors
    /// When it is refused.
    pub fn attach(&mut self, attach: Attach) -> Outcome<(LinkId, Attach)> {
        let name = attach.name.clone();
        let link = self.start_attach(attach)?;
        match self.attach_answer(link, ANSWER)? {
            Ok(answer) => Ok((link, answer)),
            Err(error) => Err(Failed::new(format!("the attach of {name} was refused: {error:?}"))),
        }
    }

    /// Attaches a link that has to be refused; gives condition and text.
    ///
    /// # Errors
    /// When it is not refused, or without an error.
    pub fn refused(&mut self, attach: Attach) -> Outcome<(String, String)> {
        let name = attach.name.clone();
        let link = self.start_attach(attach)?;
        match self.attach_answer(link, ANSWER)? {
            Err(Some(error)) => Ok(condition_and_text(&error)),
            Err(None) => Err(Failed::new(format!("the refusal of {name} has no error"))),
            Ok(answer) => Err(Failed::new(format!("the attach of {name} was not refused: {answer:?}"))),
        }
    }

    /// A sender to an entity.
    ///
    /// # Errors
    /// When it is refused.
    pub fn sender(&mut self, address: &str) -> Outcome<LinkId> {
        let name = self.unique_name("sender");
        Ok(self.attach(attach::sender(&name, address))?.0)
    }

    /// A peek-lock receiver of an entity without sessions, with credit.
    ///
    /// # Errors
    /// When it is refused.
    pub fn receiver(&mut self, address: &str, credit: u32) -> Outcome<LinkId> {
        let name = self.unique_name("receiver");
        let link = self.attach(attach::receiver(&name, address))?.0;
        self.credit(link, credit)?;
        Ok(link)
    }

    /// A peek-lock receiver of one message session, with credit.
    ///
    /// # Errors
    /// When it is refused.
    pub fn accept(&mut self, queue: &str, id: &str, credit: u32) -> Outcome<LinkId> {
        let name = self.unique_name("accept");
        let link = self.attach(attach::with_message_session(attach::receiver(&name, queue), id))?.0;
        self.credit(link, credit)?;
        Ok(link)
    }

    /// The name under which a link was attached.
    ///
    /// # Errors
    /// When it is gone.
    pub fn link_name(&self, link: LinkId) -> Outcome<Box<str>> {
        let attach = self.engine.link_attach(link).ok_or_else(|| Failed::new("the link is gone"))?;
        Ok(attach.name.clone())
    }

    /// Sets a link's credit to `credit` messages from now on.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn credit(&mut self, link: LinkId, credit: u32) -> Outcome {
        if credit == 0 {
            return Ok(());
        }
        self.engine.set_credit(link, credit);
        self.flush()
    }

    /// Sets credit without writing it yet.
    pub fn credit_later(&mut self, link: LinkId, credit: u32) {
        self.engine.set_credit(link, credit);
    }

    /// Asks for what is there, up to `credit` messages, and waits until the broker says that
    /// there is no more; gives what came.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn drain(&mut self, link: LinkId, credit: u32) -> Outcome<Vec<Delivery>> {
        self.seen.drained.remove(&link);
        self.engine.flow(link, credit, true);
        self.until("the answer to drain", ANSWER, |seen| seen.drained.remove(&link).then_some(()))?;
        let arrived = self.seen.deliveries.remove(&link).unwrap_or_default();
        arrived.iter().map(Delivery::new).collect()
    }

    /// The next message on a link; credit has to be there.
    ///
    /// # Errors
    /// When it does not come.
    pub fn receive(&mut self, link: LinkId) -> Outcome<Delivery> {
        self.receive_within(link, ANSWER)
    }

    /// The same, with a time.
    ///
    /// # Errors
    /// When it does not come.
    pub fn receive_within(&mut self, link: LinkId, within: Duration) -> Outcome<Delivery> {
        let arrived = self.until("a message", within, |seen| seen.deliveries.get_mut(&link)?.pop_front())?;
        Delivery::new(&arrived)
    }

    /// The next messages on a link.
    ///
    /// # Errors
    /// When they do not come.
    pub fn receive_many(&mut self, link: LinkId, count: usize) -> Outcome<Vec<Delivery>> {
        (0..count).map(|_| self.receive(link)).collect()
    }

    /// Whatever of the messages on a link was read already.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn arrived(&mut self, link: LinkId) -> Outcome<Vec<Delivery>> {
        let arrived = self.seen.deliveries.remove(&link).unwrap_or_default();
        arrived.iter().map(Delivery::new).collect()
    }

    /// Begins to send a message when there is credit.
    ///
    /// # Errors
    /// When there is none, or the link is gone.
    pub fn start_send(
        &mut self,
        link: LinkId,
        format: u32,
        settled: bool,
        message: Bytes,
    ) -> Outcome<DeliveryRef> {
        let what = "credit to send";
        // Credit is the engine's business, so it is looked at between reads.
        let deadline = crate::Deadline::after(ANSWER);
        while self.engine.sendable(link) == 0 {
            if let Some(error) = self.seen.detached.get(&link) {
                return Err(Failed::new(format!("the link ended before {what}: {error:?}")));
            }
            if let Some(reason) = &self.seen.closed {
                return Err(Failed::new(format!("the connection ended before {what}: {reason:?}")));
            }
            let left = deadline.left().ok_or_else(|| Failed::new(format!("{what} did not come")))?;
            self.turn(left)?;
        }
        self.names += 1;
        let tag = Bytes::copy_from_slice(&self.names.to_be_bytes());
        let delivery =
            OutgoingDelivery { tag, message_format: format, settled, prefix: Bytes::new(), rest: message };
        self.engine
            .send(link, delivery)
            .map_err(|refused| Failed::new(format!("the engine does not send: {refused:?}")))
    }

    /// The state that the broker gave a delivery of either end.
    ///
    /// # Errors
    /// When none comes, or the link ends first.
    pub fn outcome(&mut self, delivery: DeliveryRef) -> Outcome<DeliveryState> {
        self.outcome_within(delivery, ANSWER)
    }

    /// The same, with a time.
    ///
    /// # Errors
    /// As `outcome`.
    pub fn outcome_within(&mut self, delivery: DeliveryRef, within: Duration) -> Outcome<DeliveryState> {
        self.until("the state of a delivery", within, |seen| {
            if let Some(state) = seen.outcomes.remove(&delivery) {
                return Some(Ok(state));
            }
            let error = seen.detached.get(&delivery.link)?;
            Some(Err(Failed::new(format!("the link ended before the state of a delivery: {error:?}"))))
        })?
    }

    /// Sends a message and gives its outcome.
    ///
    /// # Errors
    /// When there is none.
    pub fn try_send(&mut self, link: LinkId, message: Bytes) -> Outcome<DeliveryState> {
        let delivery = self.start_send(link, 0, false, message)?;
        self.outcome(delivery)
    }

    /// Sends a batch and gives its outcome.
    ///
    /// # Errors
    /// When there is none.
    pub fn try_send_batch(&mut self, link: LinkId, messages: &[Bytes]) -> Outcome<DeliveryState> {
        let delivery = self.start_send(link, BATCH_MESSAGE_FORMAT, false, crate::batch(messages))?;
        self.outcome(delivery)
    }

    /// Sends messages that have to be accepted, without waiting for one before the next.
    ///
    /// # Errors
    /// When one is not.
    pub fn send_all(&mut self, link: LinkId, messages: impl IntoIterator<Item = Bytes>) -> Outcome {
        let mut sent = Vec::new();
        for message in messages {
            sent.push(self.start_send(link, 0, false, message)?);
        }
        for delivery in sent {
            expect_accepted(&self.outcome(delivery)?)?;
        }
        Ok(())
    }

    /// Sends one message that has to be accepted.
    ///
    /// # Errors
    /// When it is not.
    pub fn send(&mut self, link: LinkId, message: Bytes) -> Outcome {
        self.send_all(link, [message])
    }

    /// Gives deliveries a state without waiting for the broker's; nothing is written yet.
    pub fn settle_later(&mut self, deliveries: &[&Delivery], state: &DeliveryState, settled: bool) {
        let references: Vec<DeliveryRef> = deliveries.iter().map(|delivery| delivery.reference).collect();
        self.engine.settle(&references, state, settled);
    }

    /// Gives a delivery an outcome and waits for the broker's confirmation.
    ///
    /// # Errors
    /// When none comes.
    pub fn try_settle(&mut self, delivery: &Delivery, outcome: Terminal) -> Outcome<DeliveryState> {
        self.settle_later(&[delivery], &DeliveryState::Outcome(outcome), false);
        self.outcome(delivery.reference)
    }

    /// Completes a message.
    ///
    /// # Errors
    /// When the broker does not confirm it.
    pub fn complete(&mut self, delivery: &Delivery) -> Outcome {
        expect_accepted(&self.try_settle(delivery, Terminal::Accepted)?)
    }

    /// Abandons a message.
    ///
    /// # Errors
    /// When the broker does not confirm it.
    pub fn abandon(&mut self, delivery: &Delivery) -> Outcome {
        match self.try_settle(delivery, Terminal::Modified(Modified::default()))? {
            DeliveryState::Outcome(Terminal::Modified(_)) => Ok(()),
            other => Err(Failed::new(format!("the abandon was answered by {other:?}"))),
        }
    }

    /// Detaches a link and waits for the broker's detach.
    ///
    /// # Errors
    /// When it does not come.
    pub fn detach(&mut self, link: LinkId) -> Outcome {
        self.start_detach(link);
        match self.expect_detached(link, ANSWER)? {
            None => Ok(()),
            Some(error) => Err(Failed::new(format!("the detach was answered by {error:?}"))),
        }
    }

    /// Detaches a link; nothing is written yet.
    pub fn start_detach(&mut self, link: LinkId) {
        self.engine.detach(link, None);
    }

    /// Waits for the broker's detach; gives its error.
    ///
    /// # Errors
    /// When it does not come.
    pub fn expect_detached(&mut self, link: LinkId, within: Duration) -> Outcome<Option<Error>> {
        self.until("a detach", within, |seen| seen.detached.remove(&link))
    }

    /// Waits for a detach with an error; gives condition and text.
    ///
    /// # Errors
    /// When it does not come.
    pub fn expect_forced_detach(&mut self, link: LinkId, within: Duration) -> Outcome<(String, String)> {
        match self.expect_detached(link, within)? {
            Some(error) => Ok(condition_and_text(&error)),
            None => Err(Failed::new("the broker detached the link without an error")),
        }
    }
}

/// Condition and text of an error.
fn condition_and_text(error: &Error) -> (String, String) {
    (error.condition.as_str().to_owned(), error.description.as_deref().unwrap_or_default().to_owned())
}

fn expect_accepted(state: &DeliveryState) -> Outcome {
    match state {
        DeliveryState::Outcome(Terminal::Accepted) => Ok(()),
        other => Err(Failed::new(format!("{other:?} instead of accepted"))),
    }
}
