//! Real time: the broker under test is a real process.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Failed, Outcome};

/// Between two looks at something that cannot be waited for, in milliseconds.
const POLL_MILLIS: u64 = 20;

/// A moment after which waiting ends.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    within: Duration,
}

impl Deadline {
    /// From now on.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the broker under test runs in real time")]
    pub fn after(within: Duration) -> Self {
        Self { start: Instant::now(), within }
    }

    /// What is left, `None` when it is over.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.within.checked_sub(self.passed()).filter(|left| !left.is_zero())
    }

    /// What has passed since it was made.
    #[must_use]
    pub fn passed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Milliseconds since the Unix epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the broker under test runs in real time")]
pub fn utc_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Lets real time pass where the passing of time is the subject.
pub fn wait_for_time_to_pass(time: Duration) {
    std::thread::sleep(time);
}

/// Polls until `ready` gives something.
///
/// # Errors
/// With `what` after the deadline.
pub fn wait_until<T>(what: &str, within: Duration, mut ready: impl FnMut() -> Option<T>) -> Outcome<T> {
    let deadline = Deadline::after(within);
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if deadline.left().is_none() {
            return Err(Failed::new(format!("{what} did not happen within {within:?}")));
        }
        std::thread::sleep(Duration::from_millis(POLL_MILLIS));
    }
}
