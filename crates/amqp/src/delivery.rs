//! Unsettled deliveries of one direction of an AMQP session, and serial numbers.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event::LinkId;

/// Whether serial number `a` comes after `b` (RFC 1982; undefined at a distance of 2^31).
pub(crate) const fn serial_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// An unsettled delivery.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) id: u32,
    pub(crate) link: LinkId,
    /// Outgoing deliveries keep theirs.
    pub(crate) tag: Option<Bytes>,
    alive: bool,
}

/// Tombstones are swept when they are more than this and more than half of all.
const TOMBSTONES_MIN: usize = 64;

/// Unsettled deliveries in ascending order of their ids. Ids need not be dense: one delivery may
/// stay unsettled for hours while millions pass, and a peer may skip ids. So entries are found by
/// their distance from the front when ids are dense, else by binary search, and memory follows the
/// count of unsettled deliveries, never the span of their ids. Those of a peer whose ids do not
/// ascend are put in their places, which costs as much as there are to move.
#[derive(Debug, Default)]
pub(crate) struct UnsettledRing {
    entries: VecDeque<Unsettled>,
    dead: usize,
}

impl UnsettledRing {
    /// Deliveries in it.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.dead
    }

    /// Appends a delivery whose id comes after all that are there, as ids have to; false if it does
    /// not.
    pub(crate) fn push(&mut self, id: u32, link: LinkId, tag: Option<Bytes>) -> bool {
        if let (Some(front), Some(back)) = (self.entries.front(), self.entries.back()) {
            let ascends =
                serial_after(id, back.id) && id.wrapping_sub(front.id) > back.id.wrapping_sub(front.id);
            if !ascends {
                return false;
            }
        }
        self.entries.push_back(Unsettled { id, link, tag, alive: true });
        true
    }

    /// Puts a delivery in its place, wherever that is; false if one of that id is there already.
    pub(crate) fn insert(&mut self, id: u32, link: LinkId) -> bool {
        if self.push(id, link, None) {
            return true;
        }
        let new = Unsettled { id, link, tag: None, alive: true };
        let Some((base, last)) = self.entries.front().zip(self.entries.back()).map(|(a, b)| (a.id, b.id))
        else {
            return false;
        };
        let distance = id.wrapping_sub(base);
        if distance > last.wrapping_sub(base) {
            self.entries.push_front(new);
            return true;
        }
        match self.entries.binary_search_by_key(&distance, |entry| entry.id.wrapping_sub(base)) {
            Ok(position) => match self.entries.get_mut(position) {
                Some(entry) if !entry.alive => {
                    *entry = new;
                    self.dead -= 1;
                    true
                }
                _ => false,
            },
            Err(position) => {
                self.entries.insert(position, new);
                true
            }
        }
    }

    fn position(&self, id: u32) -> Option<usize> {
        let base = self.entries.front()?.id;
        let distance = id.wrapping_sub(base);
        let position = match self.entries.get(distance as usize) {
            Some(entry) if entry.id == id => distance as usize,
            _ => self.entries.binary_search_by_key(&distance, |entry| entry.id.wrapping_sub(base)).ok()?,
        };
        self.entries.get(position).filter(|entry| entry.alive).map(|_| position)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Unsettled> {
        self.position(id).and_then(|position| self.entries.get(position))
    }

    /// Forgets a delivery; its link, if it was there.
    pub(crate) fn remove(&mut self, id: u32) -> Option<LinkId> {
        let position = self.position(id)?;
        let entry = self.entries.get_mut(position)?;
        entry.alive = false;
        entry.tag = None;
        let link = entry.link;
        self.dead += 1;
        self.sweep();
        Some(link)
    }

    /// Calls `visit` with each delivery whose id lies in `first..=last` by serial number, in
    /// ascending order. Costs at most the number of deliveries here, however wide the range. A
    /// range that ends before it begins has nothing in it.
    pub(crate) fn in_range(&self, first: u32, last: u32, mut visit: impl FnMut(&Unsettled)) {
        let span = last.wrapping_sub(first);
        if span > i32::MAX as u32 {
            return;
        }
        if (span as usize) < self.entries.len() {
            for offset in 0..=span {
                if let Some(entry) = self.get(first.wrapping_add(offset)) {
                    visit(entry);
                }
            }
            return;
        }
        for entry in &self.entries {
            if entry.alive && entry.id.wrapping_sub(first) <= span {
                visit(entry);
            }
        }
    }

    /// Forgets all deliveries of a link.
    pub(crate) fn remove_link(&mut self, link: LinkId) {
        self.entries.retain(|entry| entry.alive && entry.link != link);
        self.dead = 0;
    }

    fn sweep(&mut self) {
        while self.entries.front().is_some_and(|entry| !entry.alive) {
            self.entries.pop_front();
            self.dead -= 1;
        }
        while self.entries.back().is_some_and(|entry| !entry.alive) {
            self.entries.pop_back();
            self.dead -= 1;
        }
        if self.dead > TOMBSTONES_MIN && self.dead > self.entries.len() / 2 {
            self.entries.retain(|entry| entry.alive);
            self.dead = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: LinkId = LinkId(1);

    fn ids(ring: &UnsettledRing, first: u32, last: u32) -> Vec<u32> {
        let mut found = Vec::new();
        ring.in_range(first, last, |entry| found.push(entry.id));
        found
    }

    #[test]
    fn ids_wrap() {
        let mut ring = UnsettledRing::default();
        for id in [u32::MAX - 1, u32::MAX, 0, 1] {
            assert!(ring.push(id, LINK, None));
        }
        assert_eq!(ids(&ring, u32::MAX, 0), [u32::MAX, 0]);
        assert_eq!(ids(&ring, u32::MAX - 100, 100), [u32::MAX - 1, u32::MAX, 0, 1]);
        assert_eq!(ring.remove(u32::MAX), Some(LINK));
        assert_eq!(ring.remove(u32::MAX), None);
        assert_eq!(ids(&ring, u32::MAX - 1, 1), [u32::MAX - 1, 0, 1]);
    }

    #[test]
    fn an_id_that_does_not_ascend_is_refused() {
        let mut ring = UnsettledRing::default();
        assert!(ring.push(5, LINK, None));
        assert!(!ring.push(5, LINK, None));
        assert!(!ring.push(4, LINK, None));
        assert!(ring.push(5 + (1 << 30), LINK, None));
        assert!(ring.push(5 + (2 << 30), LINK, None));
        assert!(ring.push(5 + (3 << 30), LINK, None));
        assert!(!ring.push(6, LINK, None), "once round the circle");
    }

    #[test]
    fn what_does_not_ascend_is_put_in_its_place() {
        let mut ring = UnsettledRing::default();
        for id in [5, 2, u32::MAX, 4, 9, 3] {
            assert!(ring.insert(id, LINK), "{id}");
        }
        assert_eq!(ids(&ring, u32::MAX - 5, 20), [u32::MAX, 2, 3, 4, 5, 9]);
        for id in [u32::MAX, 4, 9] {
            assert!(!ring.insert(id, LINK), "{id}");
        }
        // Again, once it was settled: from the middle, and from both ends.
        for id in [4, u32::MAX, 9] {
            assert_eq!(ring.remove(id), Some(LINK));
            assert!(ring.insert(id, LINK), "{id}");
        }
        assert_eq!(ring.len(), 6);
        assert_eq!(ids(&ring, u32::MAX - 5, 20), [u32::MAX, 2, 3, 4, 5, 9]);
        let mut ring = UnsettledRing::default();
        for id in [0, 1 << 30, 2 << 30, 3 << 30] {
            assert!(ring.insert(id, LINK));
        }
        assert!(ring.insert(u32::MAX, LINK), "still behind the last");
        assert!(ring.insert(7, LINK), "behind the first");
        assert_eq!(ring.len(), 6);
    }

    #[test]
    fn one_old_delivery_does_not_hold_the_memory_of_later_ones() {
        let mut ring = UnsettledRing::default();
        assert!(ring.push(0, LINK, None));
        for id in 1..100_000 {
            assert!(ring.push(id, LINK, None));
            assert!(ring.remove(id).is_some());
        }
        assert!(ring.entries.len() < 200);
        assert_eq!(ring.len(), 1);
        assert!(ring.get(0).is_some());
    }

    #[test]
    fn sparse_ids_are_found() {
        let mut ring = UnsettledRing::default();
        for id in (0..1_000).step_by(7) {
            assert!(ring.push(id, LINK, None));
        }
        assert_eq!(ids(&ring, 3, 20), [7, 14]);
        assert!(ring.get(8).is_none());
        assert_eq!(ids(&ring, 990, 1 << 20), [994]);
    }

    #[test]
    fn an_inverted_range_has_nothing_in_it() {
        let mut ring = UnsettledRing::default();
        assert!(ring.push(1, LINK, None));
        assert_eq!(ids(&ring, 0, u32::MAX - 1), [] as [u32; 0]);
        assert_eq!(ids(&ring, 0, i32::MAX as u32), [1]);
    }
}
