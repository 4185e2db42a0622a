//! Storage by number, where no number is ever used twice.

/// Bits of an id that name the slot; the others count the slot's uses.
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const SLOTS_MAX: usize = 1 << INDEX_BITS;
const USES_MAX: u32 = (1 << (32 - INDEX_BITS)) - 1;

#[derive(Debug)]
struct Slot<T> {
    uses: u32,
    value: Option<Box<T>>,
}

/// Values by id. An id is a slot with the number of its use; a slot whose numbers are used up is
/// given away no more, so ids stay unique for the slab's whole life at a cost of 16 bytes per
/// 4,096 values.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts a value under a new id; `None` if all ids are used up.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.push(Slot { uses: 0, value: None });
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.value = Some(Box::new(value));
        self.len += 1;
        Some(slot.uses << INDEX_BITS | index)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let slot = self.slots.get((id & INDEX_MASK) as usize)?;
        if slot.uses != id >> INDEX_BITS {
            return None;
        }
        slot.value.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut((id & INDEX_MASK) as usize)?;
        if slot.uses != id >> INDEX_BITS {
            return None;
        }
        slot.value.as_deref_mut()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Box<T>> {
        let index = id & INDEX_MASK;
        let slot = self.slots.get_mut(index as usize)?;
        if slot.uses != id >> INDEX_BITS {
            return None;
        }
        let value = slot.value.take()?;
        self.len -= 1;
        if slot.uses < USES_MAX {
            slot.uses += 1;
            self.free.push(index);
        }
        Some(value)
    }

    /// Ids of all values, ascending by slot.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.value.is_some())
            .map(|(index, slot)| slot.uses << INDEX_BITS | index as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_comes_back() {
        let mut slab = Slab::new();
        let mut seen = std::collections::HashSet::new();
        for n in 0..10_000 {
            let id = slab.insert(n).unwrap();
            assert!(seen.insert(id));
            assert_eq!(slab.get(id), Some(&n));
            assert_eq!(slab.remove(id).map(|n| *n), Some(n));
            assert_eq!(slab.get(id), None);
            assert!(slab.remove(id).is_none());
        }
        assert_eq!(slab.len(), 0);
        assert!(slab.slots.len() <= 3);
    }
}
