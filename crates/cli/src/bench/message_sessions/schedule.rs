//! Who sends what, in which order, and whether it came in that order.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::bench::stamp::Stamp;

/// Shape of a run over message sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// Message sessions.
    pub(super) count: u32,
    /// Messages of each in a round.
    pub(super) messages: u32,
    /// Rounds over all of them.
    pub(super) rounds: u32,
    /// How many of them a sender interleaves.
    pub(super) interleave: u32,
}

/// One message to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Item {
    /// Its message session.
    pub(super) index: u32,
    /// Its number within the message session, over all rounds.
    pub(super) sequence: u64,
    /// Whether no message session is half sent before it: a sender may pause here only, or
    /// receivers could wait for the rest of what they hold while the sender waits for them.
    pub(super) may_pause: bool,
}

impl Shape {
    /// Message sessions accepted, drained and closed in all.
    pub(super) fn accepts(&self) -> u64 {
        u64::from(self.count) * u64::from(self.rounds)
    }

    /// Messages in all.
    pub(super) fn messages_in_all(&self) -> u64 {
        self.accepts() * u64::from(self.messages)
    }

    /// What sender number `sender` of `senders` sends. Each message session belongs to one
    /// sender, so that its order is known.
    pub(super) fn items(self, sender: u32, senders: u32) -> impl Iterator<Item = Item> {
        let own = self.count.saturating_sub(sender).div_ceil(senders.max(1));
        let chunk_size = self.interleave.max(1);
        let chunks = own.div_ceil(chunk_size);
        (0..self.rounds).flat_map(move |round| {
            (0..chunks).flat_map(move |chunk| {
                let first = chunk * chunk_size;
                let last = (first + chunk_size).min(own);
                (0..self.messages).flat_map(move |message| {
                    (first..last).map(move |own_index| Item {
                        index: sender + own_index * senders,
                        sequence: u64::from(round) * u64::from(self.messages) + u64::from(message),
                        may_pause: message == 0 && own_index == first,
                    })
                })
            })
        })
    }
}

/// What each message session has to deliver next. A gap, a repetition and a wrong order all show
/// at once, as message sessions are strictly first in, first out.
#[derive(Debug)]
pub(super) struct FifoCheck {
    run: u64,
    next: Mutex<Vec<u64>>,
}

impl FifoCheck {
    pub(super) fn new(run: u64, count: u32) -> Self {
        Self { run, next: Mutex::new(vec![0; count as usize]) }
    }

    /// Takes a message delivered by the holder of message session `index`.
    ///
    /// # Errors
    /// When it is another one than the next.
    pub(super) fn record(&self, index: u32, stamp: Option<&Stamp>) -> Result<()> {
        let stamp = stamp.filter(|stamp| stamp.run == self.run);
        let stamp = stamp.context("a message of another run arrived; the queue has to be empty before")?;
        ensure!(
            stamp.stream == index,
            "message session {index} delivered a message of message session {}",
            stamp.stream
        );
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = next.get_mut(index as usize).context("a message session that was never sent to")?;
        ensure!(
            stamp.sequence == *expected,
            "message session {index} delivered message {} where {expected} was next",
            stamp.sequence
        );
        *expected += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { count: 5, messages: 2, rounds: 2, interleave: 2 };

    #[test]
    fn senders_share_the_message_sessions_and_send_each_in_order() {
        let mut next = [0; 5];
        for sender in 0..2 {
            for item in SHAPE.items(sender, 2) {
                assert_eq!(item.index % 2, sender);
                assert_eq!(item.sequence, next[item.index as usize]);
                next[item.index as usize] += 1;
            }
        }
        assert_eq!(next, [4; 5]);
        assert_eq!(SHAPE.messages_in_all(), 20);
    }

    #[test]
    fn a_sender_interleaves_and_pauses_only_between_chunks() {
        let order: Vec<_> = SHAPE.items(0, 2).take(6).map(|item| (item.index, item.may_pause)).collect();
        assert_eq!(order, [(0, true), (2, false), (0, false), (2, false), (4, true), (4, false)]);
    }

    #[test]
    fn a_gap_a_repetition_and_a_foreign_message_are_errors() {
        let check = FifoCheck::new(1, 2);
        let stamp = |sequence| Stamp { run: 1, stream: 1, sequence, sent_ns: 0 };
        check.record(1, Some(&stamp(0))).unwrap();
        assert!(check.record(1, Some(&stamp(2))).is_err());
        assert!(check.record(1, Some(&stamp(0))).is_err());
        assert!(check.record(0, Some(&stamp(1))).is_err());
        assert!(check.record(1, None).is_err());
        check.record(1, Some(&stamp(1))).unwrap();
    }
}
