//! Whether every message came once and in order.

use anyhow::{Result, ensure};

use super::stamp::Stamp;

/// What came of one sender's messages.
#[derive(Clone, Debug, Default)]
struct Seen {
    words: Vec<u64>,
    last: Option<u64>,
}

impl Seen {
    /// Marks a message; false if it was marked before.
    fn mark(&mut self, sequence: u64) -> bool {
        let word = usize::try_from(sequence / 64).unwrap_or(usize::MAX);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (sequence % 64);
        let Some(slot) = self.words.get_mut(word) else { return false };
        let is_new = *slot & bit == 0;
        *slot |= bit;
        is_new
    }

    fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// The messages of one receiving link, later those of all of them together. Within a link each
/// sender's messages have to ascend; together no message may be missing or come twice.
#[derive(Debug)]
pub(super) struct Ledger {
    run: u64,
    senders: Vec<Seen>,
    duplicates: u64,
    out_of_order: u64,
    foreign: u64,
}

/// What is wrong, if anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Verdict {
    /// Accepted and never delivered.
    pub(super) lost: u64,
    /// Delivered more than once.
    pub(super) duplicates: u64,
    /// Delivered behind a later message of the same sender.
    pub(super) out_of_order: u64,
    /// Not of this run (left over in the queue); completed and not judged.
    pub(super) foreign: u64,
}

impl Verdict {
    /// Whether nothing is lost, doubled or out of order.
    pub(super) fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.out_of_order == 0
    }

    /// # Errors
    /// When something is lost, doubled or out of order: how much of it.
    pub(super) fn ensure_clean(&self) -> Result<()> {
        let Self { lost, duplicates, out_of_order, .. } = self;
        ensure!(
            self.is_clean(),
            "the broker lost {lost} messages, delivered {duplicates} twice and {out_of_order} out of order"
        );
        Ok(())
    }
}

impl Ledger {
    pub(super) fn new(run: u64, senders: usize) -> Self {
        Self { run, senders: vec![Seen::default(); senders], duplicates: 0, out_of_order: 0, foreign: 0 }
    }

    /// Takes a delivered message; whether it is of this run.
    pub(super) fn record(&mut self, stamp: Option<&Stamp>) -> bool {
        let own = stamp.filter(|stamp| stamp.run == self.run);
        let seen = own.and_then(|stamp| self.senders.get_mut(stamp.stream as usize));
        let (Some(stamp), Some(seen)) = (own, seen) else {
            self.foreign += 1;
            return false;
        };
        if seen.last.is_some_and(|last| stamp.sequence <= last) {
            self.out_of_order += 1;
        }
        seen.last = seen.last.max(Some(stamp.sequence));
        if !seen.mark(stamp.sequence) {
            self.duplicates += 1;
        }
        true
    }

    /// Adds what another link saw.
    pub(super) fn merge(&mut self, other: &Self) {
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.foreign += other.foreign;
        for (mine, theirs) in self.senders.iter_mut().zip(&other.senders) {
            if mine.words.len() < theirs.words.len() {
                mine.words.resize(theirs.words.len(), 0);
            }
            for (word, their_word) in mine.words.iter_mut().zip(&theirs.words) {
                self.duplicates += u64::from((*word & their_word).count_ones());
                *word |= their_word;
            }
        }
    }

    /// Judges everything seen against how many messages of all senders were accepted.
    pub(super) fn verdict(&self, accepted: u64) -> Verdict {
        let seen: u64 = self.senders.iter().map(Seen::count).sum();
        Verdict {
            lost: accepted.saturating_sub(seen),
            duplicates: self.duplicates,
            out_of_order: self.out_of_order,
            foreign: self.foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(sequences: &[u64]) -> Ledger {
        let mut ledger = Ledger::new(1, 2);
        for &sequence in sequences {
            ledger.record(Some(&Stamp { run: 1, stream: 1, sequence, sent_ns: 0 }));
        }
        ledger
    }

    #[test]
    fn competing_receivers_that_share_all_messages_are_clean() {
        let mut all = ledger(&[0, 3, 70]);
        all.merge(&ledger(&[1, 2]));
        assert!(all.verdict(5).is_clean());
    }

    #[test]
    fn a_message_that_nobody_got_is_lost() {
        assert_eq!(ledger(&[0, 2]).verdict(3), Verdict { lost: 1, ..Verdict::default() });
    }

    #[test]
    fn a_message_that_two_receivers_got_is_a_duplicate() {
        let mut all = ledger(&[0, 1]);
        all.merge(&ledger(&[1]));
        assert_eq!(all.verdict(2), Verdict { duplicates: 1, ..Verdict::default() });
    }

    #[test]
    fn a_message_behind_a_later_one_is_out_of_order() {
        assert_eq!(ledger(&[0, 2, 1]).verdict(3), Verdict { out_of_order: 1, ..Verdict::default() });
    }

    #[test]
    fn messages_of_another_run_are_not_judged() {
        let mut all = ledger(&[0]);
        all.record(None);
        all.record(Some(&Stamp { run: 2, stream: 0, sequence: 0, sent_ns: 0 }));
        assert_eq!(all.verdict(1), Verdict { foreign: 2, ..Verdict::default() });
    }
}
