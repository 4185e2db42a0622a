//! Duplicate detection: the message-ids that an entity remembers (semantics B-61 to B-67).
//!
//! Ids are kept in intervals of their time, so that old ones are forgotten by the interval: one
//! range is deleted instead of a row for each id. The exact time beside each id decides.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use lockstep_model::{DuplicateKey, EntityId, Timestamp, limits::MESSAGE_IDS_REMEMBERED_MAX};
use lockstep_store::{Batch, DuplicateRecord};

/// Intervals that a window is divided into.
const INTERVALS_PER_WINDOW: u64 = 16;

/// The ids of one interval.
#[derive(Debug)]
struct Interval {
    /// Seconds since 1970, so that the order of keys in the store is the order of time.
    start_s: u32,
    /// Ids, and how many milliseconds after the start they came. Ids are hashes that clients can
    /// choose among: the map has a hash function that they cannot foresee.
    ids: HashMap<DuplicateKey, u32>,
}

/// What one entity remembers.
#[derive(Debug, Default)]
pub(super) struct DuplicateHistory(VecDeque<Interval>);

impl DuplicateHistory {
    /// Whether an id came within `window` before `now`.
    pub(super) fn contains(&self, key: DuplicateKey, now: Timestamp, window: Duration) -> bool {
        // Most duplicates are retries: the newest interval is the likeliest.
        self.0.iter().rev().any(|interval| {
            interval.ids.get(&key).is_some_and(|&millis| {
                let age = now.unix_millis() - interval.start_s as i64 * 1_000 - i64::from(millis);
                age < i64::try_from(window.as_millis()).unwrap_or(i64::MAX)
            })
        })
    }

    /// Remembers an id, also in the store.
    pub(super) fn add(
        &mut self,
        batch: &mut Batch,
        entity: EntityId,
        key: DuplicateKey,
        now: Timestamp,
        window: Duration,
    ) {
        let interval = self.interval_of(now, window);
        let millis = now.unix_millis() - i64::from(interval.start_s) * 1_000;
        interval.ids.insert(key, u32::try_from(millis.max(0)).unwrap_or(u32::MAX));
        let record = DuplicateRecord { interval: interval.start_s, key, accepted_at: now };
        batch.put_duplicate(entity, &record);
    }

    /// Remembers what the store holds; called in the order of its keys.
    pub(super) fn restore(&mut self, record: DuplicateRecord) {
        if self.0.back().is_none_or(|last| last.start_s != record.interval) {
            self.0.push_back(Interval { start_s: record.interval, ids: HashMap::new() });
        }
        if let Some(interval) = self.0.back_mut() {
            let millis = record.accepted_at.unix_millis() - i64::from(interval.start_s) * 1_000;
            interval.ids.insert(record.key, u32::try_from(millis.max(0)).unwrap_or(u32::MAX));
        }
    }

    /// The interval for `now`: the last one while it is young enough. A clock that was set back
    /// stays in it.
    fn interval_of(&mut self, now: Timestamp, window: Duration) -> &mut Interval {
        let now_s = u32::try_from(now.unix_millis().div_euclid(1_000)).unwrap_or(0);
        let length_s = (window.as_secs() / INTERVALS_PER_WINDOW).max(1);
        let is_new = self.0.back().is_none_or(|last| u64::from(now_s) >= u64::from(last.start_s) + length_s);
        if is_new {
            self.0.push_back(Interval { start_s: now_s, ids: HashMap::new() });
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Forgets intervals whose ids are all older than `window`, also in the store. Returns when
    /// there will be something to forget again.
    pub(super) fn forget(
        &mut self,
        batch: &mut Batch,
        entity: EntityId,
        now: Timestamp,
        window: Duration,
    ) -> Option<Timestamp> {
        let before = self.0.len();
        while self.end_of_first().is_some_and(|end| end.plus(window) <= now) {
            self.0.pop_front();
        }
        if self.0.len() < before {
            let next = self.0.front().map_or(u32::MAX, |interval| interval.start_s);
            batch.delete_duplicates_before(entity, next);
        }
        self.end_of_first().map(|end| end.plus(window))
    }

    /// A time by which the youngest id of the first interval had come: the start of the next one,
    /// or the youngest itself.
    fn end_of_first(&self) -> Option<Timestamp> {
        let first = self.0.front()?;
        if let Some(next) = self.0.get(1) {
            return Some(Timestamp::from_unix_millis(i64::from(next.start_s) * 1_000));
        }
        let youngest = first.ids.values().max().copied().unwrap_or(0);
        Some(Timestamp::from_unix_millis(i64::from(first.start_s) * 1_000 + i64::from(youngest)))
    }

    /// Whether it remembers nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of the tables: a power of two of places, of which seven in eight are used, each with one
    /// byte beside it.
    #[cfg(test)]
    fn memory_bytes(&self) -> usize {
        let places = |ids: &HashMap<DuplicateKey, u32>| (ids.capacity() * 8 / 7).next_power_of_two();
        let tables = self.0.iter().map(|interval| places(&interval.ids));
        tables.sum::<usize>() * (size_of::<(DuplicateKey, u32)>() + 1)
    }

    /// Whether it remembers as many as it may: forgetting one before its time would let a duplicate
    /// pass.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= MESSAGE_IDS_REMEMBERED_MAX
    }

    /// How many ids are remembered.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|interval| interval.ids.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::NamespaceId;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(20);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000 + millis)
    }

    fn key(n: u8) -> DuplicateKey {
        DuplicateKey([n; 16])
    }

    fn entity() -> EntityId {
        EntityId::new(NamespaceId(1), 1)
    }

    #[test]
    fn an_id_is_remembered_for_exactly_the_window() {
        let mut history = DuplicateHistory::default();
        history.add(&mut Batch::new(), entity(), key(1), at(500), WINDOW);
        assert!(history.contains(key(1), at(500), WINDOW));
        assert!(history.contains(key(1), at(20_499), WINDOW));
        assert!(!history.contains(key(1), at(20_500), WINDOW));
        assert!(!history.contains(key(2), at(500), WINDOW));
    }

    #[test]
    fn old_intervals_are_forgotten_with_one_range() {
        let mut history = DuplicateHistory::default();
        for n in 0..50 {
            history.add(&mut Batch::new(), entity(), key(n), at(i64::from(n) * 1_000), WINDOW);
        }
        let mut batch = Batch::new();
        let next = history.forget(&mut batch, entity(), at(49_000), WINDOW).expect("some are left");
        assert_eq!(batch.len(), 1);
        assert!(next > at(49_000) && history.len() <= 21 && history.contains(key(30), at(49_000), WINDOW));
        let mut batch = Batch::new();
        assert_eq!(history.forget(&mut batch, entity(), at(69_000), WINDOW), None);
        assert_eq!((history.len(), batch.len()), (0, 1));
    }

    #[test]
    fn ten_minutes_of_ten_thousand_ids_a_second_take_less_than_200_mib() {
        let window = Duration::from_secs(600);
        let mut history = DuplicateHistory::default();
        let mut most_bytes = 0;
        for second in 0..640_i64 {
            let mut batch = Batch::new();
            for n in 0..10_000_i64 {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&(second * 10_000 + n).to_be_bytes());
                history.add(&mut batch, entity(), DuplicateKey(id), at(second * 1_000), window);
            }
            history.forget(&mut batch, entity(), at(second * 1_000), window);
            most_bytes = most_bytes.max(history.memory_bytes());
        }
        assert!((6_000_000..6_400_000).contains(&history.len()), "{}", history.len());
        assert!(most_bytes < 200 << 20, "{} MiB", most_bytes >> 20);
    }

    #[test]
    fn a_clock_set_back_forgets_nothing() {
        let mut history = DuplicateHistory::default();
        history.add(&mut Batch::new(), entity(), key(1), at(10_000), WINDOW);
        history.add(&mut Batch::new(), entity(), key(2), at(0), WINDOW);
        assert!(history.contains(key(1), at(0), WINDOW) && history.contains(key(2), at(0), WINDOW));
    }

    #[test]
    fn what_was_stored_is_remembered_with_its_time() {
        let mut history = DuplicateHistory::default();
        history.restore(DuplicateRecord { interval: 1_700_000_000, key: key(1), accepted_at: at(700) });
        history.restore(DuplicateRecord { interval: 1_700_000_001, key: key(2), accepted_at: at(1_700) });
        assert!(
            history.contains(key(1), at(20_699), WINDOW) && !history.contains(key(1), at(20_700), WINDOW)
        );
        assert!(history.contains(key(2), at(20_700), WINDOW));
    }
}
