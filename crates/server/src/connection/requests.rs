//! Commands that wait for their reply, by request number.

use lockstep_amqp::{Deliveries, DeliveryRef, LinkId, types::DeliveryState};
use lockstep_model::{RequestId, UploadId};

use super::management::ManagementReply;

/// What a reply is for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// An unsettled send: the sender waits for its outcome.
    Send(DeliveryRef),
    /// A pre-settled send: a refusal detaches the link.
    SettledSend(LinkId),
    /// A row of a large message: until it is durable its sender is held back.
    Part {
        /// The sender's link.
        link: LinkId,
        /// Which message.
        upload: UploadId,
        /// Bytes of the row.
        bytes: usize,
    },
    /// Unsettled dispositions: the receiver waits for the confirmation of this state.
    Settle {
        /// In the order of the tokens in the command.
        deliveries: Deliveries,
        /// What the receiver asked for.
        state: DeliveryState,
    },
    /// A request to a `$management` node.
    Management(Box<ManagementReply>),
}

#[derive(Debug, Default)]
struct Slot {
    /// Raised whenever a request is closed, so that a late answer to it finds nothing.
    generation: u32,
    pending: Option<Pending>,
}

/// A slab of open requests. Their numbers are `generation: u32 | slot: u32`.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Requests {
    pub(crate) fn open(&mut self, pending: Pending) -> RequestId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // The driver stops reading long before there are 2^32 open requests.
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.pending = Some(pending);
        RequestId(u64::from(slot.generation) << 32 | u64::from(index))
    }

    fn slot(&mut self, request: RequestId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut((request.0 & u64::from(u32::MAX)) as usize)?;
        (u64::from(slot.generation) == request.0 >> 32).then_some(slot)
    }

    pub(crate) fn get_mut(&mut self, request: RequestId) -> Option<&mut Pending> {
        self.slot(request)?.pending.as_mut()
    }

    pub(crate) fn close(&mut self, request: RequestId) -> Option<Pending> {
        let slot = self.slot(request)?;
        let pending = slot.pending.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push((request.0 & u64::from(u32::MAX)) as u32);
        Some(pending)
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_to_a_closed_request_finds_nothing() {
        let mut requests = Requests::default();
        let first = requests.open(Pending::SettledSend(LinkId(1)));
        assert!(requests.close(first).is_some());
        let second = requests.open(Pending::SettledSend(LinkId(2)));
        assert_ne!(first, second);
        assert!(requests.close(first).is_none());
        assert!(requests.get_mut(second).is_some());
        assert_eq!(requests.len(), 1);
    }
}
