//! A client's senders: messages in, outcomes back.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_amqp::{
    DeliveryRef, LinkId,
    types::{DeliveryState, Outcome},
};
use lockstep_broker::{
    core::{Command, Enqueue},
    runtime::EntityInfo,
};
use lockstep_model::{EntityAddress, Feature, Refusal, RequestId, SizeLimit};
use lockstep_protocol::message_mapping::{self, DuplicateDetection, IncomingContext};

use super::{Connection, LinkBinding, requests::Pending};

/// One sender.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) entity: Arc<EntityInfo>,
    pub(crate) address: EntityAddress,
    /// As the client spelled it.
    pub(crate) path: String,
    /// Messages whose outcome is still to come.
    pub(super) open_sends: u32,
    /// The client has detached; it is answered after the last outcome.
    pub(super) detaching: bool,
    /// The broker ends the link for this reason, after the last outcome.
    pub(super) ending: Option<Box<Refusal>>,
}

impl Sender {
    pub(super) fn new(entity: Arc<EntityInfo>, address: EntityAddress, path: &str) -> Self {
        Self { entity, address, path: path.to_owned(), open_sends: 0, detaching: false, ending: None }
    }
}

impl Connection {
    /// A message arrived on a sender's link.
    pub(super) fn message_sent(
        &mut self,
        delivery: DeliveryRef,
        message_format: u32,
        settled: bool,
        state: Option<&DeliveryState>,
        payload: Bytes,
    ) {
        let Some(LinkBinding::Sender(sender)) = self.links.get(&delivery.link) else { return };
        let entity = sender.entity.id;
        if matches!(state, Some(DeliveryState::Transactional(_))) {
            self.refuse_message(delivery, settled, &Refusal::NotSupported(Feature::Transactions));
            return;
        }
        if self.refuses_work() {
            self.refuse_message(delivery, settled, &Refusal::ServerBusy);
            return;
        }
        let context = self.incoming_context(delivery.link);
        self.command_bytes += payload.len();
        let random = &mut self.random;
        let mut new_message_id = || random.next_uuid();
        let messages = match message_mapping::incoming(payload, message_format, context, &mut new_message_id)
        {
            Ok(messages) => messages,
            Err(refusal) => {
                self.refuse_message(delivery, settled, &refusal);
                return;
            }
        };
        let request = Some(self.open_send(delivery, settled));
        let connection = self.broker_id();
        self.commands.push_back(Command::Enqueue(Enqueue { entity, messages, connection, request }));
    }

    /// How the messages of a sender are to be read.
    pub(super) fn incoming_context(&self, link: LinkId) -> IncomingContext {
        let duplicates = match self.links.get(&link) {
            Some(LinkBinding::Sender(sender)) => DuplicateDetection::from(&sender.entity.description),
            _ => DuplicateDetection::Off,
        };
        IncomingContext { duplicates, now: self.now.utc }
    }

    /// The request of a message that is handed to the broker.
    pub(super) fn open_send(&mut self, delivery: DeliveryRef, settled: bool) -> RequestId {
        if settled {
            return self.requests.open(Pending::SettledSend(delivery.link));
        }
        if let Some(LinkBinding::Sender(sender)) = self.links.get_mut(&delivery.link) {
            sender.open_sends += 1;
        }
        self.requests.open(Pending::Send(delivery))
    }

    /// The engine discarded a delivery that passed the limit of its link.
    pub(super) fn message_too_large(&mut self, delivery: DeliveryRef, settled: bool, complete: bool) {
        self.drop_upload(delivery.link);
        let Some(LinkBinding::Sender(sender)) = self.links.get(&delivery.link) else {
            self.request_too_large(delivery.link);
            return;
        };
        let max_bytes = sender.entity.description.max_message_size_bytes;
        let refusal = Refusal::TooLarge { limit: SizeLimit::Message, max_bytes };
        if !settled {
            self.refuse_message(delivery, false, &refusal);
        }
        // A delivery that was still growing, or that nobody waits for, ends the link (D-35).
        if settled || !complete {
            self.end_sender(delivery.link, &refusal);
        }
    }

    /// Rejects an unsettled message, or detaches the link of a pre-settled one.
    pub(super) fn refuse_message(&mut self, delivery: DeliveryRef, settled: bool, refusal: &Refusal) {
        if settled {
            self.end_sender(delivery.link, refusal);
            return;
        }
        let path = self.path_of(delivery.link);
        let failure = self.rejected(refusal, &path);
        self.engine.settle(&[delivery], &failure, true);
    }

    /// The messages are stored.
    pub(super) fn message_accepted(&mut self, delivery: DeliveryRef) {
        self.engine.settle(&[delivery], &DeliveryState::Outcome(Outcome::Accepted), true);
    }

    /// The outcome of an unsettled send was given; the last one lets a detach be answered.
    pub(super) fn send_answered(&mut self, link: LinkId) {
        let Some(LinkBinding::Sender(sender)) = self.links.get_mut(&link) else { return };
        sender.open_sends = sender.open_sends.saturating_sub(1);
        if sender.open_sends > 0 {
            return;
        }
        if sender.detaching {
            self.forget_link(link, true);
        } else if let Some(refusal) = sender.ending.take() {
            self.end_sender(link, &refusal);
        }
    }

    /// Detaches a sender with an error once every message under way has its outcome: clients wait
    /// for those, whatever becomes of the link.
    pub(super) fn end_sender_after_outcomes(&mut self, link: LinkId, refusal: &Refusal) {
        match self.links.get_mut(&link) {
            Some(LinkBinding::Sender(sender)) if sender.open_sends > 0 => {
                sender.ending = Some(Box::new(refusal.clone()))
            }
            _ => self.end_sender(link, refusal),
        }
    }

    /// Detaches a sender with an error.
    pub(super) fn end_sender(&mut self, link: LinkId, refusal: &Refusal) {
        if !self.links.contains_key(&link) {
            return;
        }
        self.drop_upload(link);
        let path = self.path_of(link);
        let error = self.refusal_error(refusal, &path, None);
        self.engine.detach(link, Some(error));
        self.links.remove(&link);
    }
}
