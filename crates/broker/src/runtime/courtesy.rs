//! Whether threads that have much to do give way to those that have been woken for a client that
//! does little.
//!
//! A message of such a client wakes some ten threads until its acknowledgement leaves. Where all
//! processors are taken, each of them may have to wait for the system's next tick, up to 4 ms,
//! unless whoever runs offers the processor before. Offers have a price: clients that do much get
//! up to a quarter less done. So they are made only while somebody is there who does little.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use lockstep_model::MonoTime;

/// How long it is remembered that a client which does little has done something.
const REMEMBERED: Duration = Duration::from_millis(200);
/// Differences under which it is not noted again, in microseconds: all threads look at it.
const NOTED_EVERY_MICROS: u64 = 1_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Courtesy {
    /// Until when, on the monotonic clock, somebody who does little is taken to be there.
    until_micros: AtomicU64,
}

impl Courtesy {
    /// A client that does little has just done something.
    pub fn note_little(&self, now: MonoTime) {
        let until = now.plus(REMEMBERED).micros();
        if until.saturating_sub(self.until_micros.load(Ordering::Relaxed)) >= NOTED_EVERY_MICROS {
            self.until_micros.store(until, Ordering::Relaxed);
        }
    }

    /// To be called by a thread that has much to do, before each part of it: offers the processor
    /// to threads that wait for one, while somebody is there who does little.
    pub fn give_way(&self, now: MonoTime) {
        if self.is_due(now) {
            std::thread::yield_now();
        }
    }

    /// Whether somebody is there who does little.
    #[must_use]
    pub fn is_due(&self, now: MonoTime) -> bool {
        now.micros() < self.until_micros.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_little_is_remembered_for_a_while() {
        let (courtesy, at) =
            (Courtesy::default(), |millis: u64| MonoTime::from_micros(5_000 + 1_000 * millis));
        assert!(!courtesy.is_due(at(0)));
        courtesy.note_little(at(0));
        courtesy.note_little(at(100));
        assert!(courtesy.is_due(at(299)));
        assert!(!courtesy.is_due(at(300)));
    }
}
