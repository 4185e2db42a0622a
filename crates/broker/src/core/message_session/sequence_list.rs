//! The messages of one message session, in order.

use std::collections::VecDeque;

use lockstep_model::SequenceNumber;

use crate::core::message_state::MessageIndex;

/// Numbers of removed messages that a list may carry along besides as many as it has live ones.
const STALE_MAX: usize = 32;

/// An ascending list of sequence numbers. A message removed from its middle leaves its number
/// behind as *stale* until there are too many of them; a number is stale when the queue has no
/// such message.
#[derive(Debug, Default)]
pub(in crate::core) struct SequenceList {
    numbers: VecDeque<SequenceNumber>,
    stale: u32,
}

impl SequenceList {
    pub(in crate::core) const fn new() -> Self {
        Self { numbers: VecDeque::new(), stale: 0 }
    }

    /// Whether it has no live number.
    pub(in crate::core) fn is_empty(&self) -> bool {
        self.numbers.len() == self.stale as usize
    }

    pub(in crate::core) fn insert(&mut self, number: SequenceNumber) {
        if self.numbers.back().is_none_or(|&last| last < number) {
            self.numbers.push_back(number);
            return;
        }
        let position = self.numbers.partition_point(|&other| other < number);
        if self.numbers.get(position) == Some(&number) {
            // The same message came back after it was removed: its stale number is live again.
            self.stale = self.stale.saturating_sub(1);
        } else {
            self.numbers.insert(position, number);
        }
    }

    /// Removes a number; `messages` no longer has it.
    pub(in crate::core) fn remove(&mut self, number: SequenceNumber, messages: &MessageIndex) {
        self.stale += 1;
        if self.numbers.front() == Some(&number) {
            while let Some(&front) = self.numbers.front() {
                if self.stale == 0 || messages.contains(front) {
                    break;
                }
                self.numbers.pop_front();
                self.stale -= 1;
            }
        } else if self.stale as usize > STALE_MAX + self.numbers.len() / 2 {
            self.drop_stale(messages);
        }
        if self.numbers.is_empty() {
            // A long backlog that was worked off leaves no memory behind.
            self.numbers = VecDeque::new();
        }
    }

    fn drop_stale(&mut self, messages: &MessageIndex) {
        self.numbers.retain(|&number| messages.contains(number));
        self.numbers.shrink_to(self.numbers.len() * 2);
        self.stale = 0;
    }

    /// The highest number; perhaps a stale one.
    pub(in crate::core) fn last(&self) -> Option<SequenceNumber> {
        self.numbers.back().copied()
    }

    /// The first number that is not below `from`; live if nothing from there on was removed.
    pub(in crate::core) fn first_from(&self, from: SequenceNumber) -> Option<SequenceNumber> {
        if self.numbers.back().is_none_or(|&last| last < from) {
            return None;
        }
        self.numbers.get(self.numbers.partition_point(|&number| number < from)).copied()
    }

    /// Numbers from `from` on, ascending; stale ones too, but not many in a row.
    pub(in crate::core) fn iter_from(
        &mut self,
        from: SequenceNumber,
        messages: &MessageIndex,
    ) -> impl Iterator<Item = SequenceNumber> + use<'_> {
        if self.stale as usize > STALE_MAX {
            self.drop_stale(messages);
        }
        self.numbers.range(self.numbers.partition_point(|&number| number < from)..).copied()
    }
}
