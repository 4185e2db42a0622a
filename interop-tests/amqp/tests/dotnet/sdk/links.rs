//! Sending and receiving links, each on an AMQP session of its own.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use lockstep_amqp::{
    message::BATCH_MESSAGE_FORMAT,
    types::{
        Attach, DeliveryState, Detach, End, Error, Fields, Outcome as Terminal, Performative,
        ReceiverSettleMode, Role, SenderSettleMode, Source, Target, TargetTerminus, Transfer, Value,
    },
};
use lockstep_interop_amqp::{
    ANSWER, Failed, MESSAGE_SESSION_FILTER, Outcome, receiver, sender, with_filter, with_property,
};

use super::{From, Mode, REMAINING_MILLIS, Receiver, Sdk, Sender, TIMEOUT, covers};
use crate::casts;

impl Sdk<'_> {
    /// A sending link, with a token, on an AMQP session of its own; its address has a slash.
    pub(crate) fn sender(&mut self, entity: &str) -> Outcome<Sender> {
        self.authorize(entity)?;
        let channel = self.begin(u32::MAX)?;
        let number = self.identifier();
        let name = format!("{};0:{}:{number}", self.container, channel + 1);
        let source = Source { address: Some(Value::string(&self.guid())), ..Source::default() };
        let attach = Attach {
            source: Some(source),
            initial_delivery_count: Some(0),
            ..with_property(sender(&name, &format!("/{entity}")), TIMEOUT, Value::Uint(REMAINING_MILLIS))
        };
        self.raw.attach(channel, 0, attach)?;
        let max_message_size = casts::sender_attach(&self.wait_attach(channel, &name, ANSWER)?);
        self.wait_credit(channel)?;
        Ok(Sender { channel, deliveries: 0, max_message_size })
    }

    /// Sends a message, or a batch in its format, and waits for the outcome.
    pub(crate) fn send(
        &mut self,
        link: &mut Sender,
        message: &Bytes,
        batch: bool,
    ) -> Outcome<Result<(), Error>> {
        let id = link.deliveries;
        link.deliveries += 1;
        let transfer = Transfer {
            handle: 0,
            delivery_id: Some(id),
            delivery_tag: Some(Bytes::copy_from_slice(&link.deliveries.to_le_bytes())),
            message_format: Some(if batch { BATCH_MESSAGE_FORMAT } else { 0 }),
            batchable: true,
            ..Transfer::default()
        };
        self.transfer(link.channel, transfer, message)?;
        let state = self.wait("the outcome of a send", |seen| match &seen.performative {
            Performative::Disposition(of) if seen.channel == link.channel && covers(of, id) => {
                assert!(of.settled && of.role == Role::Receiver, "{of:?}");
                Some(of.state.clone())
            }
            _ => None,
        })?;
        // Anything but accepted or rejected with an error is a null reference in AmqpSender.cs.
        match state {
            Some(DeliveryState::Outcome(Terminal::Accepted)) => Ok(Ok(())),
            Some(DeliveryState::Outcome(Terminal::Rejected(Some(error)))) => {
                casts::error(&error);
                Ok(Err(error))
            }
            other => Err(Failed::new(format!("a send ended as {other:?}"))),
        }
    }

    /// Asks for a receiving link and does not wait for it: an accept may take minutes.
    pub(crate) fn ask_receiver(&mut self, entity: &str, mode: Mode, from: From<'_>) -> Outcome<Receiver> {
        self.authorize(entity)?;
        let channel = self.begin(u32::MAX)?;
        let address = format!("/{entity}");
        let number = self.identifier();
        let name = format!(
            "{};0:{}:{number}:source(address:{address},filter:[{MESSAGE_SESSION_FILTER}:])",
            self.container,
            channel + 1
        );
        let mut attach = receiver(&name, &address);
        let target = Target { address: Some(Value::string(&self.guid())), ..Target::default() };
        attach.target = Some(TargetTerminus::Target(target));
        (attach.snd_settle_mode, attach.rcv_settle_mode) = match mode {
            Mode::PeekLock => (None, Some(ReceiverSettleMode::Second)),
            Mode::ReceiveAndDelete => (Some(SenderSettleMode::Settled), None),
        };
        // A filter set without entries is sent all the same.
        attach.source.get_or_insert_default().filter = Some(Fields::default());
        attach = match from {
            From::Queue => attach,
            From::QueueWithoutTarget => {
                Attach { target: None, ..with_property(attach, "com.microsoft:entity-type", Value::Int(0)) }
            }
            From::MessageSession(id) => with_filter(attach, MESSAGE_SESSION_FILTER, Value::string(id)),
            From::NextMessageSession { wait_millis } => with_property(
                with_filter(attach, MESSAGE_SESSION_FILTER, Value::Null),
                TIMEOUT,
                Value::Uint(wait_millis),
            ),
        };
        self.raw.attach(channel, 0, attach.clone())?;
        let unsettled = HashSet::new();
        Ok(Receiver { channel, mode, attach, delivery_count: 0, credit: 0, unsettled, message_session: None })
    }

    /// Waits for a link that was asked for. A refusal ends the link's AMQP session with its error.
    pub(crate) fn opened(&mut self, link: &mut Receiver, within: Duration) -> Outcome<Result<(), Error>> {
        let attach = self.wait_attach(link.channel, &link.attach.name, within)?;
        if attach.source.is_some() {
            link.message_session = casts::receiver_attach(&attach, &link.attach);
            link.delivery_count = attach.initial_delivery_count.unwrap_or_default();
            return Ok(Ok(()));
        }
        let error = self.detached(link)?;
        self.frame(link.channel, Performative::End(End { error: Some(error.clone()) }))?;
        self.wait_end(link.channel)?;
        Ok(Err(error))
    }

    /// The broker's detach, which is answered, and its error.
    pub(crate) fn detached(&mut self, link: &Receiver) -> Outcome<Error> {
        let error = self.wait("detach", |seen| match &seen.performative {
            Performative::Detach(detach) if seen.channel == link.channel => {
                assert!(detach.closed, "{detach:?}");
                Some(detach.error.clone())
            }
            _ => None,
        })?;
        self.frame(link.channel, Performative::Detach(Detach { handle: 0, closed: true, error: None }))?;
        let error = error.ok_or_else(|| Failed::new("a detach without an error"))?;
        casts::error(&error);
        Ok(error)
    }

    /// A receiving link that has to be granted.
    pub(crate) fn receiver(&mut self, entity: &str, mode: Mode, from: From<'_>) -> Outcome<Receiver> {
        let mut link = self.ask_receiver(entity, mode, from)?;
        match self.opened(&mut link, ANSWER)? {
            Ok(()) => Ok(link),
            Err(error) => Err(Failed::new(format!("refused: {error:?}"))),
        }
    }

    /// Attaches on an AMQP session of its own; the error with which it is refused.
    pub(crate) fn refused_attach(&mut self, attach: Attach) -> Outcome<Error> {
        let channel = self.begin(5_000)?;
        self.raw.attach(channel, 0, attach)?;
        let error = self.wait("detach", |seen| match &seen.performative {
            Performative::Detach(detach) if seen.channel == channel => Some(detach.error.clone()),
            _ => None,
        })?;
        error.ok_or_else(|| Failed::new("a detach without an error"))
    }

    /// Closes a receiver: the link, then its AMQP session.
    pub(crate) fn close_receiver(&mut self, link: &Receiver) -> Outcome {
        self.frame(link.channel, Performative::Detach(Detach { handle: 0, closed: true, error: None }))?;
        self.wait("the answer to a detach", |seen| match &seen.performative {
            Performative::Detach(detach) if seen.channel == link.channel => {
                assert!(detach.closed && detach.error.is_none(), "{detach:?}");
                Some(())
            }
            _ => None,
        })?;
        self.end(link)
    }

    /// Ends a link's AMQP session, and by that the link.
    pub(crate) fn end(&mut self, link: &Receiver) -> Outcome {
        self.frame(link.channel, Performative::End(End::default()))?;
        self.wait_end(link.channel)
    }
}
