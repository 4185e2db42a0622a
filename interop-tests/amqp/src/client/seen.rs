//! What came on a connection, sorted.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use lockstep_amqp::{
    AmqpSessionId, CloseReason, DeliveryRef, Event, LinkId,
    types::{Attach, DeliveryState, Error, Open},
};

/// A delivery as it came.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) delivery: DeliveryRef,
    pub(crate) tag: Bytes,
    pub(crate) message_format: u32,
    pub(crate) settled: bool,
    pub(crate) payload: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) open: Option<Open>,
    pub(crate) begun: HashSet<AmqpSessionId>,
    pub(crate) ended: HashMap<AmqpSessionId, Option<Error>>,
    /// Answers to attaches, not asked for yet.
    pub(crate) attached: HashMap<LinkId, Attach>,
    /// Ends of links, not asked for yet.
    pub(crate) detached: HashMap<LinkId, Option<Error>>,
    /// Deliveries, not asked for yet.
    pub(crate) deliveries: HashMap<LinkId, VecDeque<Arrived>>,
    /// Outcomes of either end's deliveries, not asked for yet.
    pub(crate) outcomes: HashMap<DeliveryRef, DeliveryState>,
    /// Links whose drain was answered.
    pub(crate) drained: HashSet<LinkId>,
    pub(crate) closed: Option<CloseReason>,
}

impl Seen {
    /// Notes an event; the link that needs a detach in answer, if one does.
    pub(crate) fn note(&mut self, event: Event) -> Option<LinkId> {
        match event {
            Event::Opened(open) => self.open = Some(*open),
            Event::AmqpSessionBegun(session) => {
                self.begun.insert(session);
            }
            Event::AttachAnswered { link, attach } => {
                self.attached.insert(link, *attach);
            }
            Event::Delivery { delivery, tag, message_format, settled, payload, .. } => {
                let arrived = Arrived { delivery, tag, message_format, settled, payload };
                self.deliveries.entry(delivery.link).or_default().push_back(arrived);
            }
            Event::Disposed { deliveries, state: Some(state), .. } => {
                self.outcomes.extend(deliveries.into_iter().map(|delivery| (delivery, state.clone())));
            }
            Event::Credit { link, credit: 0, drain: true } => {
                self.drained.insert(link);
            }
            Event::Detached { link, error, answered, .. } => {
                self.detached.insert(link, error);
                return (!answered).then_some(link);
            }
            Event::AmqpSessionEnded { session, links, error } => {
                self.detached.extend(links.into_iter().map(|link| (link, error.clone())));
                self.ended.insert(session, error);
            }
            Event::Closed(reason) => self.closed = Some(reason),
            _ => {}
        }
        None
    }

    /// Something that came although nothing should.
    pub(crate) fn surprise(&self) -> Option<String> {
        if let Some(reason) = &self.closed {
            return Some(format!("the connection ended: {reason:?}"));
        }
        if let Some((link, attach)) = self.attached.iter().next() {
            return Some(format!("an answer to the attach of {link:?}: {attach:?}"));
        }
        if let Some((link, error)) = self.detached.iter().next() {
            return Some(format!("a detach of {link:?}: {error:?}"));
        }
        let arrived = self.deliveries.iter().find(|(_, deliveries)| !deliveries.is_empty());
        arrived.map(|(link, deliveries)| format!("{} deliveries on {link:?}", deliveries.len()))
    }
}
