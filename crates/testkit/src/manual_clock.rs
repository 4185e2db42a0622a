use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lockstep_model::{Clock, MonoTime, Now, Timestamp};

/// A clock that stands still until it is turned. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Now>>);

impl Default for ManualClock {
    /// Stands at one second of monotonic time, 2030-01-01T00:00:00Z.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Now {
            mono: MonoTime::from_micros(1_000_000),
            utc: Timestamp::from_unix_millis(1_893_456_000_000),
        })))
    }
}

impl ManualClock {
    /// Turns both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = Now { mono: now.mono.plus(by), utc: now.utc.plus(by) };
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
