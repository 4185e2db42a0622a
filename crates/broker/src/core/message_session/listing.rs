//! Message-session ids in order, with pages at any depth.

use lockstep_model::MessageSessionId;

/// Ids in one block; a full block is split in two.
const BLOCK_IDS_MAX: usize = 512;

/// A sorted set of ids, in blocks, so that *the ids after the first n* costs a walk over blocks
/// and not over ids.
#[derive(Debug, Default)]
pub(in crate::core) struct SortedIds {
    /// None is empty; ascending within and across blocks.
    blocks: Vec<Vec<MessageSessionId>>,
    len: usize,
}

impl SortedIds {
    pub(in crate::core) const fn len(&self) -> usize {
        self.len
    }

    /// The block in which `id` is or would be.
    fn block_of(&self, id: &MessageSessionId) -> usize {
        self.blocks.partition_point(|block| block.first().is_some_and(|first| first <= id)).saturating_sub(1)
    }

    pub(in crate::core) fn insert(&mut self, id: &MessageSessionId) {
        let at = self.block_of(id);
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.push(vec![id.clone()]);
            self.len += 1;
            return;
        };
        let Err(position) = block.binary_search(id) else { return };
        block.insert(position, id.clone());
        self.len += 1;
        if block.len() > BLOCK_IDS_MAX {
            // Ids often ascend (dates, counters): then the left half stays nearly full.
            let keep = if position + 1 == block.len() { BLOCK_IDS_MAX } else { BLOCK_IDS_MAX / 2 };
            let upper = block.split_off(keep);
            self.blocks.insert(at + 1, upper);
        }
    }

    pub(in crate::core) fn remove(&mut self, id: &MessageSessionId) {
        let at = self.block_of(id);
        let Some(block) = self.blocks.get_mut(at) else { return };
        let Ok(position) = block.binary_search(id) else { return };
        block.remove(position);
        self.len -= 1;
        if block.is_empty() {
            self.blocks.remove(at);
        }
    }

    /// All ids after the first `skip`, ascending.
    pub(in crate::core) fn iter_from(&self, mut skip: usize) -> impl Iterator<Item = &MessageSessionId> {
        let mut first = self.blocks.len();
        for (at, block) in self.blocks.iter().enumerate() {
            if skip < block.len() {
                first = at;
                break;
            }
            skip -= block.len();
        }
        self.blocks.iter().skip(first).flatten().skip(skip)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn agrees_with_a_sorted_set_at_every_depth() {
        let mut ids = SortedIds::default();
        let mut expected = BTreeSet::new();
        let mut number = 1_u64;
        for step in 0..20_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = MessageSessionId::new(&format!("{}", (number >> 33) % 3000)).expect("short");
            if step % 3 == 0 {
                ids.remove(&id);
                expected.remove(&id);
            } else {
                ids.insert(&id);
                expected.insert(id);
            }
        }
        assert_eq!(ids.len(), expected.len());
        for skip in [0, 1, 511, 512, 513, 1000, expected.len() - 1, expected.len(), 99_999] {
            assert!(ids.iter_from(skip).eq(expected.iter().skip(skip)), "skip {skip}");
        }
        for id in &expected {
            ids.remove(id);
        }
        assert!(ids.blocks.is_empty() && ids.len() == 0);
    }
}
