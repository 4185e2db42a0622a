//! Helpers for tests: a clock that is turned by hand. A dev-dependency only.
#![warn(missing_docs)]

mod manual_clock;

pub use manual_clock::ManualClock;
