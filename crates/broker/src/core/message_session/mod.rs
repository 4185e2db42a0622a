//! Message sessions of one queue: which there are, their messages in order, and which of them an
//! accept may take. The lock on a message session is in [`lock_manager`], pending accepts in
//! [`waiting`], the state blob in [`state_blob`].
//!
//! In this folder the bare word *session* means a message session.

pub(super) mod listing;
pub(super) mod lock_manager;
pub(super) mod sequence_list;
pub(super) mod state_blob;
mod state_time_to_live;
pub(super) mod waiting;

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroU32,
};

use lockstep_model::{MessageSessionId, OutgoingLinkId, SequenceNumber, Timestamp};
use slab::Slab;

use self::{listing::SortedIds, sequence_list::SequenceList, state_blob::StateBlob};
use super::{
    defects::{Defect, is_present},
    expiry::Expiring,
    message_state::{MessageIndex, Place},
};

/// Place of a message session in [`MessageSessions`]; reused once it is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct MessageSessionSlot(NonZeroU32);

impl MessageSessionSlot {
    fn of(key: usize) -> Self {
        // Four thousand million message sessions do not fit into memory.
        let number = u32::try_from(key + 1).ok().and_then(NonZeroU32::new);
        Self(number.unwrap_or(NonZeroU32::MAX))
    }

    const fn key(self) -> usize {
        self.0.get() as usize - 1
    }
}

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
    /// All its messages, ascending; without scheduled ones, which are not there yet.
    pub(super) messages: SequenceList,
    #[expect(clippy::box_collection, reason = "most message sessions have none; 16 bytes saved in each")]
    pub(super) scheduled: Option<Box<BTreeSet<SequenceNumber>>>,
    /// Its available messages that expire.
    pub(super) expiring: Option<Box<Expiring>>,
    /// Messages up to here expired together; those of them that are in flight expire when they
    /// come back (semantics A-105).
    pub(super) expired_through: SequenceNumber,
    /// The highest sequence number that was ever taken.
    delivered_through: SequenceNumber,
    /// Available again after a delivery.
    #[expect(clippy::box_collection, reason = "most message sessions have none; 16 bytes saved in each")]
    returned: Option<Box<BTreeSet<SequenceNumber>>>,
    /// Its messages that are neither available nor in a receiver's hands, for now: abandoned with
    /// a delay, or taken back and not durable yet. None behind them is delivered.
    #[expect(clippy::box_collection, reason = "most message sessions have none; 16 bytes saved in each")]
    held_back: Option<Box<BTreeSet<SequenceNumber>>>,
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
            scheduled: None,
            expiring: None,
            expired_through: SequenceNumber(0),
            delivered_through: SequenceNumber(0),
            returned: None,
            held_back: None,
            state: None,
            holder: None,
            last_release: 0,
            eligible_head: None,
        }
    }

    /// The message that its holder gets next: not one behind a message that waits for its next
    /// delivery.
    pub(super) fn next_available(
        &mut self,
        durable_through: SequenceNumber,
        messages: &MessageIndex,
    ) -> Option<SequenceNumber> {
        let next = self.first_in_line(durable_through, messages)?;
        let held_back = self.held_back.as_ref().and_then(|held_back| held_back.first());
        Some(next).filter(|next| held_back.is_none_or(|first| next < first))
    }

    /// Whether there is such a message, but behind one that waits.
    pub(super) fn is_blocked(&mut self, durable_through: SequenceNumber, messages: &MessageIndex) -> bool {
        // Mostly nothing waits.
        let Some(&waits) = self.held_back.as_ref().and_then(|held_back| held_back.first()) else {
            return false;
        };
        self.first_in_line(durable_through, messages).is_some_and(|next| waits < next)
    }

    /// The first message that is available. Messages that were put aside before the broker
    /// started are passed over, once.
    pub(super) fn first_in_line(
        &mut self,
        durable_through: SequenceNumber,
        messages: &MessageIndex,
    ) -> Option<SequenceNumber> {
        if let Some(&first) = self.returned.as_ref().and_then(|returned| returned.first())
            && !is_present(Defect::AbandonedGoesToTheTail)
        {
            return Some(first).filter(|&next| next <= durable_through);
        }
        loop {
            let next = self.messages.first_from(self.delivered_through.next());
            let Some(next) = next.filter(|&next| next <= durable_through) else {
                return self.returned.as_ref().and_then(|returned| returned.first()).copied();
            };
            if messages.get(next).is_some_and(|entry| entry.place == Place::Available) {
                return Some(next);
            }
            self.delivered_through = next;
        }
    }

    /// Takes a message out of line that is neither first nor wanted any more.
    pub(super) fn withdraw(&mut self, number: SequenceNumber) {
        if let Some(returned) = &mut self.returned {
            returned.remove(&number);
            if returned.is_empty() {
                self.returned = None;
            }
        }
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

    /// No message behind this one is delivered, until it is given back or gone.
    pub(super) fn hold_back(&mut self, sequence_number: SequenceNumber) {
        self.held_back.get_or_insert_default().insert(sequence_number);
    }

    fn let_go(&mut self, sequence_number: SequenceNumber) {
        if let Some(held_back) = &mut self.held_back {
            held_back.remove(&sequence_number);
            if held_back.is_empty() {
                self.held_back = None;
            }
        }
    }

    pub(super) fn give_back(&mut self, sequence_number: SequenceNumber) {
        self.let_go(sequence_number);
        self.returned.get_or_insert_default().insert(sequence_number);
    }

    /// Whether nothing needs it to be remembered.
    fn is_forgettable(&self) -> bool {
        !self.is_listed() && self.holder.is_none() && self.scheduled.is_none()
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
    /// Bytes of all states.
    state_bytes: u64,
    /// Which states are looked at when, where they have a time to live.
    aging: BTreeSet<(Timestamp, MessageSessionSlot)>,
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
        let slot = MessageSessionSlot::of(key);
        self.by_id.insert(id.clone(), slot);
        slot
    }

    pub(super) fn get(&self, slot: MessageSessionSlot) -> Option<&MessageSession> {
        self.slots.get(slot.key())
    }

    pub(super) fn get_mut(&mut self, slot: MessageSessionSlot) -> Option<&mut MessageSession> {
        self.slots.get_mut(slot.key())
    }

    pub(super) fn id(&self, slot: Option<MessageSessionSlot>) -> Option<MessageSessionId> {
        Some(self.get(slot?)?.id.clone())
    }

    /// How many a listing would show.
    pub(super) fn listed(&self) -> u64 {
        self.listing.len() as u64
    }

    /// Bytes of all states.
    pub(super) const fn state_bytes(&self) -> u64 {
        self.state_bytes
    }

    /// How many are locked.
    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    /// Notes a message that waits for its time.
    pub(super) fn add_scheduled(&mut self, slot: MessageSessionSlot, sequence_number: SequenceNumber) {
        if let Some(session) = self.get_mut(slot) {
            session.scheduled.get_or_insert_default().insert(sequence_number);
        }
    }

    /// Forgets a message that waited for its time.
    pub(super) fn remove_scheduled(&mut self, slot: MessageSessionSlot, sequence_number: SequenceNumber) {
        let Some(session) = self.get_mut(slot) else { return };
        if let Some(scheduled) = &mut session.scheduled {
            scheduled.remove(&sequence_number);
            if scheduled.is_empty() {
                session.scheduled = None;
            }
        }
        self.tidy_up(slot);
    }

    pub(super) fn add_message(&mut self, slot: MessageSessionSlot, sequence_number: SequenceNumber) {
        let Some(session) = self.slots.get_mut(slot.key()) else { return };
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
        let Some(session) = self.slots.get_mut(slot.key()) else { return };
        session.messages.remove(sequence_number, messages);
        session.let_go(sequence_number);
        self.tidy_up(slot);
    }

    /// Takes a message session without messages or state off the listing, and forgets it if no
    /// link holds it either.
    pub(super) fn tidy_up(&mut self, slot: MessageSessionSlot) {
        let Some(session) = self.get(slot) else { return };
        if session.is_listed() {
            return;
        }
        let (id, is_forgettable) = (session.id.clone(), session.is_forgettable());
        self.listing.remove(&id);
        if is_forgettable {
            self.unlist_eligible(slot);
            self.by_id.remove(&id);
            self.slots.remove(slot.key());
        }
    }

    pub(super) fn set_state(&mut self, slot: MessageSessionSlot, state: Option<StateBlob>) {
        let Some(session) = self.slots.get_mut(slot.key()) else { return };
        let was_listed = session.is_listed();
        let size_bytes = |state: &StateBlob| state.size_bytes;
        if let Some(look_at) = session.state.as_ref().and_then(|state| state.look_at) {
            self.aging.remove(&(look_at, slot));
        }
        self.state_bytes -= session.state.as_deref().map_or(0, size_bytes);
        self.state_bytes += state.as_ref().map_or(0, size_bytes);
        session.state = state.map(Box::new);
        if !was_listed && session.is_listed() {
            self.listing.insert(&session.id);
        }
        self.tidy_up(slot);
    }

    /// Gives the lock to a link.
    pub(super) fn hold(&mut self, slot: MessageSessionSlot, link: OutgoingLinkId) {
        self.unlist_eligible(slot);
        if let Some(session) = self.slots.get_mut(slot.key()) {
            session.holder = Some(link);
            self.held += 1;
        }
    }

    /// Takes the lock back.
    pub(super) fn release(&mut self, slot: MessageSessionSlot) {
        self.releases += 1;
        if let Some(session) = self.slots.get_mut(slot.key())
            && session.holder.take().is_some()
        {
            session.last_release = self.releases;
            self.held -= 1;
        }
    }

    fn unlist_eligible(&mut self, slot: MessageSessionSlot) {
        if let Some(session) = self.slots.get_mut(slot.key())
            && let Some(head) = session.eligible_head.take()
        {
            self.eligible.remove(&(session.last_release, head, slot));
        }
    }

    /// Brings the order of eligible message sessions up to date with a change in one of them.
    pub(super) fn refresh(
        &mut self,
        slot: MessageSessionSlot,
        durable_through: SequenceNumber,
        messages: &MessageIndex,
    ) {
        let Some(session) = self.slots.get_mut(slot.key()) else { return };
        let is_free = session.holder.is_none() || is_present(Defect::TwoHolders);
        let head = if is_free { session.next_available(durable_through, messages) } else { None };
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

    pub(super) fn refresh_all(&mut self, durable_through: SequenceNumber, messages: &MessageIndex) {
        let slots: Vec<_> = self.by_id.values().copied().collect();
        for slot in slots {
            self.refresh(slot, durable_through, messages);
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
