//! Deadlines as data: nothing here waits, the driver asks when to call.

/// Microseconds since an arbitrary start; never steps back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// This time plus `micros` microseconds; saturates.
    #[must_use]
    pub const fn plus_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// This time plus `millis` milliseconds; saturates.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        self.plus_micros(millis.saturating_mul(1_000))
    }
}

/// Header, SASL and open must be done in this time, in microseconds.
pub const OPEN_DEADLINE_US: u64 = 10_000_000;

/// Close must be answered in this time, in microseconds.
pub const CLOSE_DEADLINE_US: u64 = 10_000_000;

/// Heartbeats are never nearer to each other than this, in microseconds, whatever the peer asks.
const HEARTBEAT_INTERVAL_US_MIN: u64 = 50_000;

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// The connection is not open yet.
    Open,
    /// Close is not answered yet.
    Close,
    /// The peer was silent.
    Idle,
    /// Something must be sent.
    Heartbeat,
}

/// The deadline for the answer to close. Close is called without the time, so the deadline is
/// armed by the next call that knows it; until then a call is asked for at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CloseDeadline {
    Off,
    ToArm,
    At(Time),
}

/// All deadlines of a connection.
#[derive(Debug)]
pub(crate) struct Timers {
    now: Time,
    open: Option<Time>,
    close: CloseDeadline,
    idle_us: Option<u64>,
    received_at: Time,
    heartbeat_us: Option<u64>,
    sent_at: Time,
}

impl Timers {
    pub(crate) fn new(now: Time, idle_time_out_ms: Option<u32>) -> Self {
        Self {
            now,
            open: Some(now.plus_micros(OPEN_DEADLINE_US)),
            close: CloseDeadline::Off,
            idle_us: idle_time_out_ms.filter(|&ms| ms > 0).map(|ms| u64::from(ms) * 1_000),
            received_at: now,
            heartbeat_us: None,
            sent_at: now,
        }
    }

    /// Takes the time; time never steps back.
    pub(crate) fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
        if self.close == CloseDeadline::ToArm {
            self.close = CloseDeadline::At(self.now.plus_micros(CLOSE_DEADLINE_US));
        }
    }

    pub(crate) fn received(&mut self) {
        self.received_at = self.now;
    }

    /// Bytes went out. The time may be an older one than now, which only brings the next
    /// heartbeat forward.
    pub(crate) fn sent(&mut self) {
        self.sent_at = self.now;
    }

    /// The peer's open came, with its idle-time-out.
    pub(crate) fn opened(&mut self, peer_idle_time_out_ms: Option<u32>) {
        self.open = None;
        self.heartbeat_us = peer_idle_time_out_ms
            .filter(|&ms| ms > 0)
            .map(|ms| (u64::from(ms) * 500).max(HEARTBEAT_INTERVAL_US_MIN));
    }

    pub(crate) fn closing(&mut self) {
        self.open = None;
        self.close = CloseDeadline::ToArm;
    }

    /// Nothing is due any more.
    pub(crate) fn stop(&mut self) {
        self.open = None;
        self.close = CloseDeadline::Off;
        self.idle_us = None;
        self.heartbeat_us = None;
    }

    fn deadlines(&self) -> [(Option<Time>, Due); 4] {
        let close = match self.close {
            CloseDeadline::Off => None,
            CloseDeadline::ToArm => Some(self.now),
            CloseDeadline::At(at) => Some(at),
        };
        [
            (close, Due::Close),
            (self.open, Due::Open),
            (self.idle_us.map(|us| self.received_at.plus_micros(us)), Due::Idle),
            (self.heartbeat_us.map(|us| self.sent_at.plus_micros(us)), Due::Heartbeat),
        ]
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.deadlines().into_iter().filter_map(|(at, _)| at).min()
    }

    /// The most important thing that is due now, if any.
    pub(crate) fn due(&self) -> Option<Due> {
        self.deadlines().into_iter().find(|(at, _)| at.is_some_and(|at| at <= self.now)).map(|(_, due)| due)
    }
}
