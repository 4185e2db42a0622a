//! What the core knows about each message, and where it finds it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lockstep_model::{BodyId, MessageSessionId, MessageState, PropertyOverlay, SequenceNumber, Timestamp};
use lockstep_store::{MessageOverlayRecord, MessageRecord};

use super::{message_locks::LockSlot, message_session::MessageSessionSlot};

/// Where a message is. Exactly one of:
///
/// ```text
///            Committed              deliver                    settle
/// Awaiting ------------> Available ---------> Locked -------------------> gone
///    ^                       ^                 |  |  | abandon, release,
///    |                       +-----------------+  |  | expiry, return
///    +------- return of a receive-and-delete -----+  |
///                                                    | defer
/// Scheduled ----> Available under another number     |    receive by number
///           due                                      +--> Deferred ----> Locked
/// ```
/// A deferred message that is locked goes back to `Deferred` when its lock ends.
///
///
/// A message just enqueued is `Available` from the start; that it is not durable yet shows in its
/// sequence number being above [`Queue::durable_through`](super::queue::Queue).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Can be delivered as soon as it is durable.
    Available,
    /// Its row was written again (a move, or a receive-and-delete that was taken back) and is
    /// not durable yet.
    Awaiting,
    /// Out on delivery: locked, or reserved for a receive-and-delete link.
    Locked(LockSlot),
    /// Put aside: found by its number only.
    Deferred,
    /// Waits for its time.
    Scheduled,
}

/// When a message expires; orders as time does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Expiry(i64);

impl Expiry {
    pub(super) const NEVER: Self = Self(i64::MAX);

    /// `time_to_live` after `from`; a time beyond what can be told is never.
    pub(super) fn after(from: Timestamp, time_to_live: Option<Duration>) -> Self {
        let millis = time_to_live.and_then(|time| i64::try_from(time.as_millis()).ok());
        Self(millis.and_then(|millis| from.unix_millis().checked_add(millis)).unwrap_or(i64::MAX))
    }

    pub(super) fn at(time: Option<Timestamp>) -> Self {
        time.map_or(Self::NEVER, |time| Self(time.unix_millis()))
    }

    pub(super) fn time(self) -> Option<Timestamp> {
        (self != Self::NEVER).then(|| Timestamp::from_unix_millis(self.0))
    }

    pub(super) const fn has_come(self, now: Timestamp) -> bool {
        self.0 <= now.unix_millis()
    }

    /// How long it is until then; `None` if it is never.
    pub(super) fn left(self, now: Timestamp) -> Option<Duration> {
        self.time_to_live(now)
    }

    /// The time to live of a message that was enqueued at `from`.
    pub(super) fn time_to_live(self, from: Timestamp) -> Option<Duration> {
        let millis = self.time()?.unix_millis().saturating_sub(from.unix_millis());
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }
}

/// One message of one queue; its body is in the store.
#[derive(Clone, Debug)]
pub(super) struct MessageEntry {
    /// Of a scheduled message: when it is due.
    pub(super) enqueued_at: Timestamp,
    pub(super) expiry: Expiry,
    pub(super) body: BodyId,
    /// `None` while settlements laid no properties over it.
    pub(super) overlay: Option<Arc<PropertyOverlay>>,
    pub(super) size_bytes: u32,
    pub(super) delivery_count: u32,
    pub(super) place: Place,
    pub(super) message_session: Option<MessageSessionSlot>,
    /// It was put aside once: it is `Deferred` whenever it is not locked.
    pub(super) is_deferred: bool,
    /// It was scheduled and became active since.
    pub(super) was_scheduled: bool,
}

// Design: at most 64 bytes for each waiting message (docs/storage.md, memory budget).
const _: () = assert!(size_of::<MessageEntry>() <= 56);

impl MessageEntry {
    /// Whether the store has an overlay row for it.
    pub(super) fn has_overlay_row(&self) -> bool {
        self.delivery_count > 0 || self.overlay.is_some()
    }

    /// Its overlay row.
    pub(super) fn overlay_record(&self) -> MessageOverlayRecord {
        MessageOverlayRecord {
            delivery_count: self.delivery_count,
            properties: self.overlay.as_deref().cloned().unwrap_or_default(),
        }
    }

    /// Its row as an active or deferred message.
    pub(super) fn record(&self, message_session: Option<MessageSessionId>) -> MessageRecord {
        MessageRecord {
            state: if self.is_deferred { MessageState::Deferred } else { MessageState::Active },
            enqueued_at: self.enqueued_at,
            expires_at: self.expiry.time(),
            was_scheduled: self.was_scheduled,
            body: self.body,
            size_bytes: self.size_bytes,
            message_session,
        }
    }

    /// What a browser sees it as.
    pub(super) const fn state(&self) -> MessageState {
        match self.place {
            Place::Scheduled => MessageState::Scheduled,
            _ if self.is_deferred => MessageState::Deferred,
            _ => MessageState::Active,
        }
    }

    /// What a receiver gets it as: a message that was scheduled still says so (semantics B-54).
    pub(super) const fn received_state(&self) -> MessageState {
        match self.state() {
            MessageState::Active if self.was_scheduled => MessageState::Scheduled,
            state => state,
        }
    }

    /// How long it lives, from its enqueueing on.
    pub(super) fn time_to_live(&self) -> Option<Duration> {
        self.expiry.time_to_live(self.enqueued_at)
    }

    /// Lays properties over those laid before.
    pub(super) fn lay_over(&mut self, properties: &PropertyOverlay) {
        if !properties.is_empty() {
            let mut merged = self.overlay.as_deref().cloned().unwrap_or_default();
            merged.merge(properties);
            self.overlay = Some(merged.into());
        }
    }
}

/// Messages by sequence number.
///
/// Numbers are dense at the end of a queue and sparse where only stragglers are left, so entries
/// are packed in chunks of [`CHUNK_NUMBERS`] consecutive numbers: a bit says which are there,
/// their rank says where.
#[derive(Debug, Default)]
pub(super) struct MessageIndex {
    chunks: BTreeMap<u64, Chunk>,
    len: usize,
}

/// Sequence numbers that one chunk covers; one bit each.
const CHUNK_NUMBERS: u64 = u64::BITS as u64;

#[derive(Debug, Default)]
struct Chunk {
    present: u64,
    entries: Vec<MessageEntry>,
}

const fn split(sequence_number: SequenceNumber) -> (u64, u32) {
    (sequence_number.0 / CHUNK_NUMBERS, (sequence_number.0 % CHUNK_NUMBERS) as u32)
}

impl Chunk {
    const fn contains(&self, bit: u32) -> bool {
        self.present & (1 << bit) != 0
    }

    /// How many entries lie before `bit`.
    const fn rank(&self, bit: u32) -> usize {
        (self.present & ((1 << bit) - 1)).count_ones() as usize
    }

    fn remove(&mut self, bit: u32) -> MessageEntry {
        let entry = self.entries.remove(self.rank(bit));
        self.present &= !(1 << bit);
        if self.entries.len() * 4 <= self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        entry
    }
}

impl MessageIndex {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn contains(&self, sequence_number: SequenceNumber) -> bool {
        self.get(sequence_number).is_some()
    }

    pub(super) fn get(&self, sequence_number: SequenceNumber) -> Option<&MessageEntry> {
        let (chunk, bit) = split(sequence_number);
        let chunk = self.chunks.get(&chunk).filter(|chunk| chunk.contains(bit))?;
        chunk.entries.get(chunk.rank(bit))
    }

    pub(super) fn get_mut(&mut self, sequence_number: SequenceNumber) -> Option<&mut MessageEntry> {
        let (chunk, bit) = split(sequence_number);
        let chunk = self.chunks.get_mut(&chunk).filter(|chunk| chunk.contains(bit))?;
        let rank = chunk.rank(bit);
        chunk.entries.get_mut(rank)
    }

    /// Puts a message in; one that is there under the same number is replaced.
    pub(super) fn insert(&mut self, sequence_number: SequenceNumber, entry: MessageEntry) {
        let (chunk, bit) = split(sequence_number);
        let chunk = self.chunks.entry(chunk).or_default();
        if chunk.contains(bit) {
            chunk.remove(bit);
            self.len -= 1;
        }
        let rank = chunk.rank(bit);
        chunk.entries.insert(rank, entry);
        chunk.present |= 1 << bit;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, sequence_number: SequenceNumber) -> Option<MessageEntry> {
        let (number, bit) = split(sequence_number);
        let chunk = self.chunks.get_mut(&number).filter(|chunk| chunk.contains(bit))?;
        let entry = chunk.remove(bit);
        if chunk.present == 0 {
            self.chunks.remove(&number);
        }
        self.len -= 1;
        Some(entry)
    }

    /// Messages from `from` on, ascending.
    pub(super) fn iter_from(
        &self,
        from: SequenceNumber,
    ) -> impl Iterator<Item = (SequenceNumber, &MessageEntry)> {
        let (first_chunk, first_bit) = split(from);
        self.chunks.range(first_chunk..).flat_map(move |(&number, chunk)| {
            let skipped = if number == first_chunk { (1 << first_bit) - 1 } else { 0 };
            let start = (chunk.present & skipped).count_ones() as usize;
            let mut left = chunk.present & !skipped;
            chunk.entries.iter().skip(start).map(move |entry| {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (SequenceNumber(number * CHUNK_NUMBERS + u64::from(bit)), entry)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: u64) -> MessageEntry {
        MessageEntry {
            enqueued_at: Timestamp::default(),
            body: BodyId(body),
            overlay: None,
            size_bytes: 0,
            delivery_count: 0,
            place: Place::Available,
            message_session: None,
            expiry: Expiry::NEVER,
            is_deferred: false,
            was_scheduled: false,
        }
    }

    #[test]
    fn finds_what_was_put_in_and_walks_it_in_order() {
        let mut index = MessageIndex::default();
        for number in [200, 1, 64, 63, 65, 127, 128, 5000] {
            index.insert(SequenceNumber(number), entry(number));
        }
        assert_eq!(index.remove(SequenceNumber(64)).expect("was put in").body, BodyId(64));
        assert!(index.remove(SequenceNumber(64)).is_none());
        let from = |n| index.iter_from(SequenceNumber(n)).map(|(n, e)| (n.0, e.body.0)).collect::<Vec<_>>();
        let all: Vec<_> = [1, 63, 65, 127, 128, 200, 5000].map(|n| (n, n)).to_vec();
        assert_eq!(from(0), all);
        assert_eq!(from(64), all[2..]);
        assert_eq!(from(127), all[3..]);
        assert_eq!(from(201), all[6..]);
        assert_eq!(index.get(SequenceNumber(127)).expect("is there").body, BodyId(127));
        assert_eq!(index.len(), 7);
    }

    #[test]
    fn an_emptied_index_keeps_nothing() {
        let mut index = MessageIndex::default();
        for number in 1..=1000 {
            index.insert(SequenceNumber(number), entry(number));
        }
        for number in (1..=1000).rev() {
            index.remove(SequenceNumber(number));
        }
        assert!(index.chunks.is_empty() && index.len() == 0);
    }
}
