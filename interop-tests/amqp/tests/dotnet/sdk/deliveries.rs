//! Deliveries: receive, drain, settle.

use std::collections::HashSet;

use bytes::BytesMut;
use lockstep_amqp::types::{DeliveryState, Disposition, Error, Outcome as Terminal, Performative, Role};
use lockstep_interop_amqp::{Failed, Message, Outcome};

use super::{Delivery, Receiver, Sdk, covers};
use crate::casts;

impl Sdk<'_> {
    /// `ReceiveMessagesAsync`: asks for `most` messages, of which `come` have to come. A receiver
    /// of a message session drains what is left of its credit (AmqpReceiver.cs).
    pub(crate) fn receive(&mut self, link: &mut Receiver, most: u32, come: usize) -> Outcome<Vec<Delivery>> {
        self.grant(link, most)?;
        let deliveries = self.take(link, come)?;
        if link.message_session.is_some() && link.credit > 0 {
            let late = self.drain(link)?;
            assert!(late.is_empty(), "{late:?}");
        }
        Ok(deliveries)
    }

    /// `SetTotalLinkCredit` of AmqpLink.cs: what a prefetch count does, at first and after a drain.
    pub(crate) fn grant(&mut self, link: &mut Receiver, credit: u32) -> Outcome {
        link.credit = credit;
        self.flow(link.channel, 0, link.delivery_count, credit, false)
    }

    /// So many deliveries.
    pub(crate) fn take(&mut self, link: &mut Receiver, count: usize) -> Outcome<Vec<Delivery>> {
        (0..count).map(|_| self.next_delivery(link)).collect()
    }

    /// `DrainAsync` of ReceivingAmqpLink.cs: what comes before the broker's answer.
    pub(crate) fn drain(&mut self, link: &mut Receiver) -> Outcome<Vec<Delivery>> {
        let end = link.delivery_count.wrapping_add(link.credit);
        self.flow(link.channel, 0, link.delivery_count, link.credit, true)?;
        self.wait("the answer to a drain", |seen| match &seen.performative {
            Performative::Flow(flow) if seen.channel == link.channel && flow.drain => {
                casts::drained(flow, end);
                Some(())
            }
            _ => None,
        })?;
        let mut deliveries = Vec::new();
        while self.inbox.iter().any(|seen| {
            seen.channel == link.channel && matches!(seen.performative, Performative::Transfer(_))
        }) {
            deliveries.push(self.next_delivery(link)?);
        }
        (link.delivery_count, link.credit) = (end, 0);
        Ok(deliveries)
    }

    fn next_delivery(&mut self, link: &mut Receiver) -> Outcome<Delivery> {
        let (first, mut more, bytes) = self.next_transfer(link.channel)?;
        let (id, tag) = casts::delivery(&first, link.mode, &mut link.unsettled);
        let mut payload = BytesMut::from(&bytes[..]);
        let mut frames = 1;
        while more {
            let (next, goes_on, bytes) = self.next_transfer(link.channel)?;
            assert!(next.delivery_id.is_none_or(|again| again == id), "{next:?}");
            payload.extend_from_slice(&bytes);
            more = goes_on;
            frames += 1;
        }
        // More than the credit is a transfer-limit-exceeded in AmqpLink.cs.
        assert!(link.credit > 0, "a delivery beyond the credit");
        link.credit -= 1;
        link.delivery_count = link.delivery_count.wrapping_add(1);
        let message = Message::parse(&payload.freeze())?;
        casts::message(&message, link.mode);
        Ok(Delivery { id, tag, message, frames })
    }

    /// Settles deliveries that follow each other, and waits for the broker's word on each.
    pub(crate) fn settle(
        &mut self,
        link: &mut Receiver,
        deliveries: &[&Delivery],
        outcome: Terminal,
    ) -> Outcome<Result<(), Error>> {
        let (Some(first), Some(last)) = (deliveries.first(), deliveries.last()) else { return Ok(Ok(())) };
        let disposition = Disposition {
            role: Role::Receiver,
            first: first.id,
            last: (last.id != first.id).then_some(last.id),
            settled: false,
            state: Some(DeliveryState::Outcome(outcome.clone())),
            batchable: true,
        };
        self.frame(link.channel, Performative::Disposition(disposition))?;
        let mut open: HashSet<u32> = deliveries.iter().map(|delivery| delivery.id).collect();
        let mut result = Ok(());
        while !open.is_empty() {
            let told = self.wait("the broker's word on a settlement", |seen| match &seen.performative {
                Performative::Disposition(told) if seen.channel == link.channel => Some(told.clone()),
                _ => None,
            })?;
            let count = open.len();
            open.retain(|id| !covers(&told, *id));
            assert!(open.len() < count, "{told:?}");
            result = result.and(casts::settled(&told, &outcome));
        }
        for delivery in deliveries {
            link.unsettled.remove(&delivery.tag);
        }
        if let Err(error) = &result {
            casts::error(error);
        }
        Ok(result)
    }

    /// Settles a delivery with a state that is refused; the error.
    pub(crate) fn settle_as(
        &mut self,
        link: &Receiver,
        delivery: &Delivery,
        state: DeliveryState,
    ) -> Outcome<Error> {
        let disposition = Disposition {
            role: Role::Receiver,
            first: delivery.id,
            last: None,
            settled: false,
            state: Some(state),
            batchable: true,
        };
        self.frame(link.channel, Performative::Disposition(disposition))?;
        let state = self.wait("a refused settlement", |seen| match &seen.performative {
            Performative::Disposition(told) if seen.channel == link.channel => Some(told.state.clone()),
            _ => None,
        })?;
        match state {
            Some(DeliveryState::Outcome(Terminal::Rejected(Some(error)))) => Ok(error),
            other => Err(Failed::new(format!("a settlement that is refused ended as {other:?}"))),
        }
    }

    /// Completes a delivery.
    pub(crate) fn complete(&mut self, link: &mut Receiver, delivery: &Delivery) -> Outcome {
        let settled = self.settle(link, &[delivery], Terminal::Accepted)?;
        settled.map_err(|error| Failed::new(format!("{error:?}")))
    }
}
