//! Channel numbers and handles: giving out the lowest free one, finding by number.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Gives out the lowest number that is free.
#[derive(Debug, Default)]
pub(crate) struct FreeNumbers {
    next: u32,
    free: BinaryHeap<Reverse<u32>>,
}

impl FreeNumbers {
    /// The lowest free number that is not over `max`.
    pub(crate) fn take(&mut self, max: u32) -> Option<u32> {
        match self.free.peek() {
            Some(&Reverse(number)) if number <= max => {
                self.free.pop();
                Some(number)
            }
            Some(_) => None,
            None if self.next <= max && self.next < u32::MAX => {
                self.next += 1;
                Some(self.next - 1)
            }
            None => None,
        }
    }

    /// Gives a number back.
    pub(crate) fn give_back(&mut self, number: u32) {
        self.free.push(Reverse(number));
    }
}

/// Values by the peer's numbers. Sorted, since a peer may use far-apart numbers: memory follows
/// the count of entries, never the size of a number. Peers number upwards, so that the guess
/// "at its own index" is right nearly always.
#[derive(Debug)]
pub(crate) struct NumberTable<T> {
    entries: Vec<(u32, T)>,
}

impl<T: Copy> NumberTable<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn position(&self, number: u32) -> Result<usize, usize> {
        // First with numbers from 0, then from 1 upwards.
        for guess in [number as usize, (number as usize).wrapping_sub(1)] {
            if self.entries.get(guess).is_some_and(|entry| entry.0 == number) {
                return Ok(guess);
            }
        }
        self.entries.binary_search_by_key(&number, |entry| entry.0)
    }

    pub(crate) fn get(&self, number: u32) -> Option<T> {
        let position = self.position(number).ok()?;
        self.entries.get(position).map(|entry| entry.1)
    }

    /// Puts a value; the number must be free.
    pub(crate) fn insert(&mut self, number: u32, value: T) {
        match self.position(number) {
            Ok(position) => {
                if let Some(entry) = self.entries.get_mut(position) {
                    entry.1 = value;
                }
            }
            Err(position) => self.entries.insert(position, (number, value)),
        }
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let position = self.position(number).ok()?;
        Some(self.entries.remove(position).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_free_number_first() {
        let mut numbers = FreeNumbers::default();
        assert_eq!([numbers.take(2), numbers.take(2), numbers.take(2)], [Some(0), Some(1), Some(2)]);
        assert_eq!(numbers.take(2), None);
        numbers.give_back(2);
        numbers.give_back(0);
        assert_eq!([numbers.take(2), numbers.take(2), numbers.take(2)], [Some(0), Some(2), None]);
    }

    #[test]
    fn far_apart_numbers_are_found() {
        let mut table = NumberTable::new();
        for number in [7, u32::MAX, 0, 1] {
            table.insert(number, number);
        }
        assert_eq!(table.get(u32::MAX), Some(u32::MAX));
        assert_eq!(table.get(1), Some(1));
        assert_eq!(table.remove(7), Some(7));
        assert_eq!(table.get(7), None);
        assert_eq!(table.len(), 3);
    }
}
