//! The one place of the load generator that reads the system's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lockstep_amqp::Time;

/// Time since a run began. Copies agree with each other, so a time stamp made by a sender means
/// the same to a receiver of the same process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopwatch {
    start: Instant,
}

impl Stopwatch {
    /// Starts at zero.
    #[expect(clippy::disallowed_methods, reason = "the load generator's only reading of this clock is here")]
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Nanoseconds since the start.
    #[expect(clippy::disallowed_methods, reason = "the load generator's only reading of this clock is here")]
    pub(super) fn nanos(&self) -> u64 {
        u64::try_from(Instant::now().duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.nanos() as f64 / 1e9
    }

    /// The engine's time.
    pub(super) fn time(&self) -> Time {
        Time(self.nanos() / 1_000)
    }
}

/// Nanoseconds since the Unix epoch: names a run, and dates tokens.
#[expect(clippy::disallowed_methods, reason = "the load generator's only reading of this clock is here")]
pub(super) fn unix_nanos() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
