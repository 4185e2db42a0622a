//! One queue or sub-queue: its messages, who waits for them, and in what order they go out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lockstep_model::{
    EntityId, EntityStatus, MessageSessionExpiration, OutgoingLinkId, QueueDescription, SequenceNumber,
    SubQueue, Timestamp,
};

use super::{
    defects::{Defect, is_present},
    duplicates::DuplicateHistory,
    expiry::Expiring,
    message_session::{MessageSessionSlot, MessageSessions},
    message_state::{Expiry, MessageEntry, MessageIndex, Place},
    redelivery::BackOff,
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
    pub(super) status: EntityStatus,
    pub(super) max_size_bytes: u64,
    pub(super) default_message_time_to_live: Option<Duration>,
    pub(super) dead_lettering_on_message_expiration: bool,
    pub(super) message_session_expiration: MessageSessionExpiration,
    /// For how long message-ids are remembered, if duplicates are detected.
    pub(super) duplicate_detection_window: Option<Duration>,
    pub(super) enable_partitioning: bool,
    pub(super) count_unsettled_on_message_session_close: bool,
    pub(super) auto_delete_on_idle: Option<Duration>,
    pub(super) back_off: BackOff,
    pub(super) message_session_state_time_to_live: Option<Duration>,
}

impl Settings {
    pub(super) fn of(description: &QueueDescription, sub_queue: SubQueue) -> Self {
        Self {
            lock_duration: description.lock_duration,
            max_delivery_count: description.max_delivery_count,
            max_message_size_bytes: description.max_message_size_bytes,
            auto_renew: description.auto_renew_while_link_open,
            requires_session: description.requires_session && sub_queue == SubQueue::Main,
            status: description.status,
            max_size_bytes: description.max_size_bytes,
            default_message_time_to_live: description.default_message_time_to_live,
            dead_lettering_on_message_expiration: description.dead_lettering_on_message_expiration,
            message_session_expiration: description.message_session_expiration,
            duplicate_detection_window: description
                .requires_duplicate_detection
                .then_some(description.duplicate_detection_history_time_window),
            enable_partitioning: description.enable_partitioning,
            count_unsettled_on_message_session_close: description.count_unsettled_on_message_session_close,
            auto_delete_on_idle: description.auto_delete_on_idle,
            back_off: BackOff::of(description),
            message_session_state_time_to_live: description.message_session_state_time_to_live,
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
    /// Available messages that expire (plain main queue only; elsewhere nothing expires, or the
    /// message session knows).
    pub(super) expiring: Expiring,
    /// Messages that wait for their time, soonest first.
    pub(super) scheduled: BTreeSet<(Timestamp, SequenceNumber)>,
    pub(super) duplicates: DuplicateHistory,
    /// Plain receivers with credit, in the order in which they are served.
    pub(super) turns: BTreeMap<u64, OutgoingLinkId>,
    /// Accepts that wait for any message session, first come first served (semantics A-37).
    pub(super) pending_accepts: BTreeMap<u64, OutgoingLinkId>,
    /// No message before it can be deleted by a batch deletion: all are in somebody's hands, put
    /// aside or wait for their time.
    pub(super) deletable_from: SequenceNumber,
    /// Messages out on peek-lock delivery.
    pub(super) locked: u64,
    /// Messages that were put aside, locked ones included.
    pub(super) deferred: u64,
    /// Bytes of all messages.
    pub(super) size_bytes: u64,
    /// When it was last used (semantics B-98).
    pub(super) last_used: Timestamp,
    /// When messages of it, or of a sub-queue, were last sent, received or looked at since the
    /// start.
    pub(super) accessed_at: Option<Timestamp>,
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
            expiring: Expiring::default(),
            scheduled: BTreeSet::new(),
            duplicates: DuplicateHistory::default(),
            deletable_from: SequenceNumber::default(),
            locked: 0,
            reserved: 0,
            deferred: 0,
            size_bytes: 0,
            last_used: Timestamp::default(),
            accessed_at: None,
        }
    }

    /// Notes that a client used its messages, which is use too.
    pub(super) fn note_access(&mut self, now: Timestamp) {
        self.last_used = now;
        self.accessed_at = Some(now);
    }

    pub(super) fn is_sub_queue(&self) -> bool {
        self.id.sub_queue() != SubQueue::Main
    }

    /// The next sequence number; its counter row is written with the batch.
    pub(super) fn next_sequence_number(&mut self, stale_counters: &mut Vec<EntityId>) -> SequenceNumber {
        if !self.counter_is_stale {
            self.counter_is_stale = true;
            stale_counters.push(self.id);
        }
        self.last_sequence_number = self.last_sequence_number.next();
        self.last_sequence_number
    }

    /// Puts a message in, also into its message session.
    pub(super) fn insert(&mut self, sequence_number: SequenceNumber, entry: MessageEntry) {
        match (entry.place, entry.message_session) {
            (Place::Scheduled, slot) => {
                self.scheduled.insert((entry.enqueued_at, sequence_number));
                if let Some(slot) = slot {
                    self.message_sessions.add_scheduled(slot, sequence_number);
                }
            }
            (_, Some(slot)) => self.message_sessions.add_message(slot, sequence_number),
            (_, None) => {}
        }
        self.size_bytes += u64::from(entry.size_bytes);
        self.deferred += u64::from(entry.is_deferred);
        let expires = entry.place == Place::Available && entry.expiry != Expiry::NEVER;
        self.messages.insert(sequence_number, entry);
        if expires {
            self.start_expiring(sequence_number);
        }
    }

    /// Removes a message for good, also from its message session, which is forgotten if nothing
    /// else keeps it. The message is in no receiver's hands and no longer in line.
    pub(super) fn remove(&mut self, sequence_number: SequenceNumber) -> Option<MessageEntry> {
        let entry = self.messages.remove(sequence_number)?;
        self.size_bytes -= u64::from(entry.size_bytes);
        self.deferred -= u64::from(entry.is_deferred);
        match (entry.place, entry.message_session) {
            (Place::Scheduled, slot) => {
                self.scheduled.remove(&(entry.enqueued_at, sequence_number));
                if let Some(slot) = slot {
                    self.message_sessions.remove_scheduled(slot, sequence_number);
                }
            }
            (_, Some(slot)) => self.message_sessions.remove_message(slot, sequence_number, &self.messages),
            (_, None) => {}
        }
        Some(entry)
    }

    /// Makes a message available, at its old position; one that was put aside goes back there.
    pub(super) fn make_available(&mut self, sequence_number: SequenceNumber) {
        let Some(entry) = self.messages.get_mut(sequence_number) else { return };
        if entry.is_deferred && !is_present(Defect::AbandonedDeferredReturns) {
            entry.place = Place::Deferred;
            return;
        }
        entry.place = Place::Available;
        self.deletable_from = self.deletable_from.min(sequence_number);
        let expires = entry.expiry != Expiry::NEVER;
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
        if expires {
            self.start_expiring(sequence_number);
        }
    }

    /// A message is in nobody's hands and not available either: in a message session nothing
    /// overtakes it, until it is available or gone.
    pub(super) fn hold_back(&mut self, sequence_number: SequenceNumber) {
        let slot = self.messages.get(sequence_number).and_then(|entry| entry.message_session);
        if self.settings.requires_session
            && let Some(session) = slot.and_then(|slot| self.message_sessions.get_mut(slot))
        {
            session.hold_back(sequence_number);
        }
    }

    /// Whether a message session has available messages, but none that may be delivered yet.
    pub(super) fn is_blocked(&mut self, slot: MessageSessionSlot) -> bool {
        let (durable_through, messages) = (self.durable_through, &self.messages);
        self.message_sessions
            .get_mut(slot)
            .is_some_and(|session| session.is_blocked(durable_through, messages))
    }

    /// The message that a plain receiver gets next. Messages that are not available are passed
    /// over, once: what becomes available later is in `returned`.
    pub(super) fn next_available(&mut self) -> Option<SequenceNumber> {
        if let Some(&first) = self.returned.first() {
            return Some(first);
        }
        if self.is_sub_queue() || self.delivered_through >= self.durable_through {
            return None;
        }
        for (next, entry) in self.messages.iter_from(self.delivered_through.next()) {
            if next > self.durable_through {
                break;
            }
            if entry.place == Place::Available {
                return Some(next);
            }
            self.delivered_through = next;
        }
        None
    }

    /// Takes the message that [`Queue::next_available`] named.
    pub(super) fn take(&mut self, next: SequenceNumber) {
        if !self.returned.remove(&next) {
            self.delivered_through = next;
        }
    }

    /// Takes an available message out of line, wherever it stands.
    pub(super) fn withdraw(&mut self, sequence_number: SequenceNumber) {
        self.stop_expiring(sequence_number);
        self.returned.remove(&sequence_number);
        let slot = self.messages.get(sequence_number).and_then(|entry| entry.message_session);
        if let Some(session) = slot.and_then(|slot| self.message_sessions.get_mut(slot)) {
            session.withdraw(sequence_number);
        }
    }

    /// An available message has a time to live: it is looked after.
    fn start_expiring(&mut self, sequence_number: SequenceNumber) {
        self.with_expiring(sequence_number, |expiring, expiry| expiring.insert(expiry, sequence_number));
    }

    /// A message that was available no longer is.
    pub(super) fn stop_expiring(&mut self, sequence_number: SequenceNumber) {
        self.with_expiring(sequence_number, |expiring, expiry| expiring.remove(expiry, sequence_number));
    }

    fn with_expiring(&mut self, sequence_number: SequenceNumber, f: impl FnOnce(&mut Expiring, Expiry)) {
        let Some(entry) = self.messages.get(sequence_number) else { return };
        if self.is_sub_queue() || entry.expiry == Expiry::NEVER {
            return;
        }
        match entry.message_session.filter(|_| self.settings.requires_session) {
            None => f(&mut self.expiring, entry.expiry),
            Some(slot) => {
                if let Some(session) = self.message_sessions.get_mut(slot) {
                    let expiring = session.expiring.get_or_insert_default();
                    f(expiring, entry.expiry);
                    if expiring.is_empty() {
                        session.expiring = None;
                    }
                }
            }
        }
    }

    /// Messages that a client counts as active: all but scheduled ones and those that left by
    /// receive-and-delete (semantics B-96).
    pub(super) fn active(&self) -> u64 {
        self.messages.len() as u64 - self.reserved - self.scheduled.len() as u64
    }

    /// Makes everything that is there durable and available; after the last row was restored.
    pub(super) fn finish_restore(&mut self) {
        if self.is_sub_queue() {
            let available = |&(_, entry): &(SequenceNumber, &MessageEntry)| entry.place == Place::Available;
            let all = self.messages.iter_from(SequenceNumber(0));
            self.returned = all.filter(available).map(|(number, _)| number).collect();
        }
        self.durable_through = self.last_sequence_number;
        if self.settings.requires_session {
            self.message_sessions.refresh_all(self.durable_through, &self.messages);
        }
    }
}
