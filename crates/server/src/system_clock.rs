//! The one place that reads the system's clocks.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use lockstep_model::{Clock, MonoTime, Now, Timestamp};

/// The clock of a running broker. Its UTC time never steps back within a process: when the
/// system's clock is set back, it stands still until that has caught up.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
    /// The latest UTC time given out, in milliseconds since the Unix epoch.
    latest_utc_ms: AtomicI64,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one that reads the clock")]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), latest_utc_ms: AtomicI64::new(i64::MIN) }
    }

    fn utc_not_before_latest(&self, read_ms: i64) -> Timestamp {
        let earlier = self.latest_utc_ms.fetch_max(read_ms, Ordering::Relaxed);
        Timestamp::from_unix_millis(earlier.max(read_ms))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this file is the one that reads the clock")]
    fn now(&self) -> Now {
        let mono = u64::try_from(Instant::now().duration_since(self.start).as_micros()).unwrap_or(u64::MAX);
        // A system clock before 1970 counts as 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let utc_ms = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Now { mono: MonoTime::from_micros(mono), utc: self.utc_not_before_latest(utc_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_stands_still_while_the_system_clock_is_behind() {
        let clock = SystemClock::new();
        let read = |ms| clock.utc_not_before_latest(ms).unix_millis();
        assert_eq!([read(1_000), read(400), read(999), read(1_001)], [1_000, 1_000, 1_000, 1_001]);
    }

    #[test]
    fn both_clocks_only_go_forward() {
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.mono >= first.mono && second.utc >= first.utc);
        assert!(first.utc.unix_millis() > 1_600_000_000_000);
    }
}
