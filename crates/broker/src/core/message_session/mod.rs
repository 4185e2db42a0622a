//! Message sessions of one queue: which there are, their messages in order, and which of them an
//! accept may take. The lock on a message session is in [`lock_manager`], pending accepts in
//! [`waiting`], the state blob in [`state_blob`].
//!
//! In this folder the bare word *session* means a message session.

pub(super) mod listing;
pub(super) mod lock_manager;
pub(super) mod sequence_list;
pub(super) mod state_blob;
pub(super) mod waiting;

use std::collections::{BTreeSet, HashMap};

use lockstep_model::{MessageSessionId, OutgoingLinkId, SequenceNumber};
use slab::Slab;

use self::{listing::SortedIds, sequence_list::SequenceList, state_blob::StateBlob};
use super::message_state::MessageIndex;

/// Place of a message session in [`MessageSessions`]; reused once it is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct MessageSessionSlot(u32);

/// One message session.
///
/// ```text
///             accept                      expiry, take-over (counted);
///   free ----------------> held            detach, close (not counted)
///    ^                      |
///    +----------------------+
/// ```
/// Free and with an available message, it is *eligible*: accept-next may take it.
#[derive(Debug)]
pub(super) struct MessageSession {
    pub(super) id: MessageSessionId,
    /// All its messages, ascending.
    pub(super) messages: SequenceList,
    /// The highest sequence number that was ever taken.
    delivered_through: SequenceNumber,
    /// Available again after a delivery.
    #[expect(clippy::box_collection, reason = "most message sessions have none; 16 bytes saved in each")]
    returned: Option<Box<BTreeSet<SequenceNumber>>>,
    pub(super) state: Option<Box<StateBlob>>,
    /// The link that holds its lock.
    pub(super) holder: Option<OutgoingLinkId>,
    /// When it was last released, as a count of releases of this queue; 0 is never.
    last_release: u64,
    /// Its first available message while it is eligible.
    eligible_head: Option<SequenceNumber>,
}

impl MessageSession {
    const fn new(id: MessageSessionId) -> Self {
        Self {
            id,
            messages: SequenceList::new(),
            delivered_through: SequenceNumber(0),
            returned: None,
            state: None,
            holder: None,
            last_release: 0,
            eligible_head: None,
        }
    }

    /// The message that its holder gets next.
    pub(super) fn next_available(&self, durable_through: SequenceNumber) -> Option<SequenceNumber> {
        let returned = self.returned.as_ref().and_then(|returned| returned.first().copied());
        returned
            .or_else(|| self.messages.first_from(self.delivered_through.next()))
            .filter(|&next| next <= durable_through)
    }

    /// Takes the message that [`MessageSession::next_available`] named.
    pub(super) fn take(&mut self, next: SequenceNumber) {
        let Some(returned) = &mut self.returned else {
            self.delivered_through = next;
            return;
        };
        if !returned.remove(&next) {
            self.delivered_through = next;
        }
        if returned.is_empty() {
            self.returned = None;
        }
    }

    pub(super) fn give_back(&mut self, sequence_number: SequenceNumber) {
        self.returned.get_or_insert_default().insert(sequence_number);
    }

    /// Whether it exists for clients: it has messages or state (semantics A-112, A-114).
    fn is_listed(&self) -> bool {
        !self.messages.is_empty() || self.state.is_some()
    }
}

/// The message sessions of one queue. Those of a plain queue are only an index for peek.
#[derive(Debug, Default)]
pub(super) struct MessageSessions {
    slots: Slab<MessageSession>,
    /// Ids come from clients: this map must not have a hash function that they can foresee. It
    /// is never walked, so its order does not matter.
    by_id: HashMap<MessageSessionId, MessageSessionSlot>,
    listing: SortedIds,
    /// Least recently released first, then lowest first message (semantics A-38).
    eligible: BTreeSet<(u64, SequenceNumber, MessageSessionSlot)>,
    releases: u64,
    held: u64,
}

impl MessageSessions {
    pub(super) fn find(&self, id: &MessageSessionId) -> Option<MessageSessionSlot> {
        self.by_id.get(id).copied()
    }

    pub(super) fn find_or_create(&mut self, id: &MessageSessionId) -> MessageSessionSlot {
        if let Some(slot) = self.find(id) {
            return slot;
        }
        let key = self.slots.insert(MessageSession::new(id.clone()));
        let slot = MessageSessionSlot(u32::try_from(key).unwrap_or(u32::MAX));
        self.by_id.insert(id.clone(), slot);
        slot
    }

    pub(super) fn get(&self, slot: MessageSessionSlot) -> Option<&MessageSession> {
        self.slots.get(slot.0 as usize)
    }

    pub(super) fn get_mut(&mut self, slot: MessageSessionSlot) -> Option<&mut MessageSession> {
        self.slots.get_mut(slot.0 as usize)
    }

    pub(super) fn id(&self, slot: Option<MessageSessionSlot>) -> Option<MessageSessionId> {
        Some(self.get(slot?)?.id.clone())
    }

    /// How many a listing would show.
    pub(super) fn listed(&self) -> u64 {
        self.listing.len() as u64
    }

    /// How many are locked.
    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    pub(super) fn add_message(&mut self, slot: MessageSessionSlot, sequence_number: SequenceNumber) {
        let Some(session) = self.slots.get_mut(slot.0 as usize) else { return };
        let was_listed = session.is_listed();
        session.messages.insert(sequence_number);
        if !was_listed {
            self.listing.insert(&session.id);
        }
    }

    /// Takes out a message that is no longer in `messages`.
    pub(super) fn remove_message(
        &mut self,
        slot: MessageSessionSlot,
        sequence_number: SequenceNumber,
        messages: &MessageIndex,
    ) {
        let Some(session) = self.slots.get_mut(slot.0 as usize) else { return };
        session.messages.remove(sequence_number, messages);
        self.tidy_up(slot);
    }

    /// Takes a message session without messages or state off the listing, and forgets it if no
    /// link holds it either.
    pub(super) fn tidy_up(&mut self, slot: MessageSessionSlot) {
        let Some(session) = self.get(slot) else { return };
        if session.is_listed() {
            return;
        }
        let (id, is_free) = (session.id.clone(), session.holder.is_none());
        self.listing.remove(&id);
        if is_free {
            self.unlist_eligible(slot);
            self.by_id.remove(&id);
            self.slots.remove(slot.0 as usize);
        }
    }

    pub(super) fn set_state(&mut self, slot: MessageSessionSlot, state: Option<StateBlob>) {
        let Some(session) = self.slots.get_mut(slot.0 as usize) else { return };
        let was_listed = session.is_listed();
        session.state = state.map(Box::new);
        if !was_listed && session.is_listed() {
            self.listing.insert(&session.id);
        }
        self.tidy_up(slot);
    }

    /// Gives the lock to a link.
    pub(super) fn hold(&mut self, slot: MessageSessionSlot, link: OutgoingLinkId) {
        self.unlist_eligible(slot);
        if let Some(session) = self.slots.get_mut(slot.0 as usize) {
            session.holder = Some(link);
            self.held += 1;
        }
    }

    /// Takes the lock back.
    pub(super) fn release(&mut self, slot: MessageSessionSlot) {
        self.releases += 1;
        if let Some(session) = self.slots.get_mut(slot.0 as usize)
            && session.holder.take().is_some()
        {
            session.last_release = self.releases;
            self.held -= 1;
        }
    }

    fn unlist_eligible(&mut self, slot: MessageSessionSlot) {
        if let Some(session) = self.slots.get_mut(slot.0 as usize)
            && let Some(head) = session.eligible_head.take()
        {
            self.eligible.remove(&(session.last_release, head, slot));
        }
    }

    /// Brings the order of eligible message sessions up to date with a change in one of them.
    pub(super) fn refresh(&mut self, slot: MessageSessionSlot, durable_through: SequenceNumber) {
        let Some(session) = self.slots.get_mut(slot.0 as usize) else { return };
        let head = if session.holder.is_none() { session.next_available(durable_through) } else { None };
        if head == session.eligible_head {
            return;
        }
        if let Some(old) = session.eligible_head {
            self.eligible.remove(&(session.last_release, old, slot));
        }
        session.eligible_head = head;
        if let Some(new) = head {
            self.eligible.insert((session.last_release, new, slot));
        }
    }

    pub(super) fn refresh_all(&mut self, durable_through: SequenceNumber) {
        let slots: Vec<_> = self.by_id.values().copied().collect();
        for slot in slots {
            self.refresh(slot, durable_through);
        }
    }

    /// The message session that accept-next takes.
    pub(super) fn first_eligible(&self) -> Option<MessageSessionSlot> {
        self.eligible.first().map(|&(_, _, slot)| slot)
    }

    /// Ids that have messages or state, ascending, after the first `skip`.
    pub(super) fn listed_ids(&self, skip: usize) -> impl Iterator<Item = &MessageSessionId> {
        self.listing.iter_from(skip)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.slots.len(), self.by_id.len());
        self.slots.len()
    }
}
