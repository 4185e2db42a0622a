//! Two clocks (docs/architecture.md, rule 16): *monotonic time* judges locks and pending accepts,
//! *broker UTC time* dates messages. Client-claimed time is never a `Timestamp` of these.

use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z, the AMQP `timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

/// .NET ticks (100 ns) at the Unix epoch.
const DOTNET_TICKS_AT_UNIX_EPOCH: i64 = 621_355_968_000_000_000;
const DOTNET_TICKS_PER_MILLI: i64 = 10_000;

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// 100-ns units since 0001-01-01T00:00:00Z: the form of `com.microsoft:locked-until-utc`.
    /// Saturates at the bounds of `i64`.
    #[must_use]
    pub const fn dotnet_ticks(self) -> i64 {
        self.0.saturating_mul(DOTNET_TICKS_PER_MILLI).saturating_add(DOTNET_TICKS_AT_UNIX_EPOCH)
    }

    /// This time plus `duration`, cut to whole milliseconds; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl Timestamp {
    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// Microseconds since an arbitrary start of this process; never steps back. Not stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MonoTime(u64);

impl MonoTime {
    /// From microseconds since the process's own start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the process's own start.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// This time plus `duration`; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_micros(later.0.saturating_sub(self.0))
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic time.
    pub mono: MonoTime,
    /// Broker UTC time; never steps back.
    pub utc: Timestamp,
}

/// Where time comes from. Only the server owns the one that ticks; tests turn theirs by hand.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_until_ticks_match_the_golden_vector() {
        assert_eq!(Timestamp::from_unix_millis(1_893_456_000_000).dotnet_ticks(), 640_290_528_000_000_000);
    }
}
