//! Commands that wait for their reply, by request number.

use lockstep_amqp::{DeliveryRef, LinkId, types::DeliveryState};
use lockstep_model::RequestId;

use super::management::ManagementReply;

/// What a reply is for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// An unsettled send: the sender waits for its outcome.
    Send(DeliveryRef),
    /// A pre-settled send: a refusal detaches the link.
    SettledSend(LinkId),
    /// Unsettled dispositions: the receiver waits for the confirmation of this state.
    Settle {
        /// In the order of the tokens in the command.
        deliveries: Vec<DeliveryRef>,
        /// What the receiver asked for.
        state: DeliveryState,
    },
    /// A request to a `$management` node.
    Management(Box<ManagementReply>),
}

/// A slab of open requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    slots: Vec<Option<Pending>>,
    free: Vec<usize>,
}

impl Requests {
    pub(crate) fn open(&mut self, pending: Pending) -> RequestId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(pending);
        RequestId(slot as u64)
    }

    pub(crate) fn get_mut(&mut self, request: RequestId) -> Option<&mut Pending> {
        self.slots.get_mut(usize::try_from(request.0).ok()?)?.as_mut()
    }

    pub(crate) fn close(&mut self, request: RequestId) -> Option<Pending> {
        let slot = usize::try_from(request.0).ok()?;
        let pending = self.slots.get_mut(slot)?.take();
        if pending.is_some() {
            self.free.push(slot);
        }
        pending
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
