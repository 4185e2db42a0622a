//! One queue or sub-queue: its messages, who waits for them, and in what order they go out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lockstep_model::{EntityId, OutgoingLinkId, QueueDescription, SequenceNumber, SubQueue};

use super::{
    message_session::MessageSessions,
    message_state::{MessageEntry, MessageIndex, Place},
};

/// The properties of an entity that its queue and sub-queues obey.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    pub(super) lock_duration: Duration,
    pub(super) max_delivery_count: u32,
    pub(super) max_message_size_bytes: u64,
    /// Whether locks are renewed while their link is attached.
    pub(super) auto_renew: bool,
    /// Whether receivers take message sessions; never in a sub-queue (semantics A-86).
    pub(super) requires_session: bool,
}

impl Settings {
    pub(super) fn of(description: &QueueDescription, sub_queue: SubQueue) -> Self {
        Self {
            lock_duration: description.lock_duration,
            max_delivery_count: description.max_delivery_count,
            max_message_size_bytes: description.max_message_size_bytes,
            auto_renew: description.auto_renew_while_link_open,
            requires_session: description.requires_session && sub_queue == SubQueue::Main,
        }
    }
}

/// One queue or sub-queue.
///
/// *Which message is next* needs no list of all waiting ones. In the main queue messages become
/// durable in the order of their numbers, so those never handed out are exactly the ones above
/// `delivered_through`, up to `durable_through`. All that came back after a delivery lie below
/// it, in `returned`, and go first. The same holds within each message session. A sub-queue gets
/// its messages in any order; there every available message is in `returned`.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: EntityId,
    pub(super) settings: Settings,
    pub(super) messages: MessageIndex,
    pub(super) message_sessions: MessageSessions,
    /// The highest sequence number given out.
    pub(super) last_sequence_number: SequenceNumber,
    /// Whether `last_sequence_number` changed since the last counter row.
    pub(super) counter_is_stale: bool,
    /// The highest sequence number whose enqueueing is durable.
    pub(super) durable_through: SequenceNumber,
    /// The highest sequence number that was ever taken (plain main queue only).
    delivered_through: SequenceNumber,
    /// Available again, or available in a sub-queue.
    returned: BTreeSet<SequenceNumber>,
    /// Plain receivers with credit, in the order in which they are served.
    pub(super) turns: BTreeMap<u64, OutgoingLinkId>,
    /// Accepts that wait for any message session, first come first served (semantics A-37).
    pub(super) pending_accepts: BTreeMap<u64, OutgoingLinkId>,
    /// Messages out on peek-lock delivery.
    pub(super) locked: u64,
    /// Messages out on receive-and-delete delivery: no longer counted as there.
    pub(super) reserved: u64,
}

impl Queue {
    pub(super) fn new(id: EntityId, settings: Settings) -> Self {
        Self {
            id,
            settings,
            messages: MessageIndex::default(),
            message_sessions: MessageSessions::default(),
            last_sequence_number: SequenceNumber::default(),
            counter_is_stale: false,
            durable_through: SequenceNumber::default(),
            delivered_through: SequenceNumber::default(),
            returned: BTreeSet::new(),
            turns: BTreeMap::new(),
            pending_accepts: BTreeMap::new(),
            locked: 0,
            reserved: 0,
        }
    }

    pub(super) fn is_sub_queue(&self) -> bool {
        self.id.sub_queue() != SubQueue::Main
    }

    /// Puts a message in, also into its message session.
    pub(super) fn insert(&mut self, sequence_number: SequenceNumber, entry: MessageEntry) {
        if let Some(slot) = entry.message_session {
            self.message_sessions.add_message(slot, sequence_number);
        }
        self.messages.insert(sequence_number, entry);
    }

    /// Removes a message for good, also from its message session, which is forgotten if nothing
    /// else keeps it.
    pub(super) fn remove(&mut self, sequence_number: SequenceNumber) -> Option<MessageEntry> {
        let entry = self.messages.remove(sequence_number)?;
        if let Some(slot) = entry.message_session {
            self.message_sessions.remove_message(slot, sequence_number, &self.messages);
        }
        Some(entry)
    }

    /// Makes a message available, at its old position.
    pub(super) fn make_available(&mut self, sequence_number: SequenceNumber) {
        let Some(entry) = self.messages.get_mut(sequence_number) else { return };
        entry.place = Place::Available;
        match entry.message_session {
            Some(slot) if self.settings.requires_session => {
                if let Some(session) = self.message_sessions.get_mut(slot) {
                    session.give_back(sequence_number);
                }
            }
            _ => {
                self.returned.insert(sequence_number);
            }
        }
    }

    /// The message that a plain receiver gets next.
    pub(super) fn next_available(&self) -> Option<SequenceNumber> {
        if let Some(&first) = self.returned.first() {
            return Some(first);
        }
        if self.is_sub_queue() || self.delivered_through >= self.durable_through {
            return None;
        }
        let (next, _) = self.messages.iter_from(self.delivered_through.next()).next()?;
        (next <= self.durable_through).then_some(next)
    }

    /// Takes the message that [`Queue::next_available`] named.
    pub(super) fn take(&mut self, next: SequenceNumber) {
        if !self.returned.remove(&next) {
            self.delivered_through = next;
        }
    }

    /// Makes everything that is there durable and available; after the last row was restored.
    pub(super) fn finish_restore(&mut self) {
        if self.is_sub_queue() {
            self.returned = self.messages.iter_from(SequenceNumber(0)).map(|(number, _)| number).collect();
        }
        self.durable_through = self.last_sequence_number;
        if self.settings.requires_session {
            self.message_sessions.refresh_all(self.durable_through);
        }
    }
}
