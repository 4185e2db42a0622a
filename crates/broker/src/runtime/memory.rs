//! The memory that the process may hold for its clients, and how near it is to that.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Default of the budget, in bytes.
pub const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
/// Part of the budget that the store's own tables and the index of messages may need.
const STORE_SHARE: u64 = 4;
/// Share of the rest, in quarters, over which whoever holds much is held back.
const HIGH_QUARTERS: u64 = 3;

/// How much of the budget is left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MemoryPressure {
    /// Enough.
    Low,
    /// Less than a quarter: whoever holds much is held back.
    High,
    /// Nothing: new work is refused.
    Full,
}

/// A sum of bytes with a bound. The bound is not enforced here: whoever takes on work asks for the
/// pressure first.
#[derive(Debug)]
pub struct MemoryBudget {
    bytes_max: u64,
    used: AtomicU64,
}

impl MemoryBudget {
    /// For a process that may hold `bytes_max` in all.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max: bytes_max - bytes_max / STORE_SHARE, used: AtomicU64::new(0) }
    }

    /// How near the bound is.
    #[must_use]
    pub fn pressure(&self) -> MemoryPressure {
        let used = self.used_bytes();
        if used >= self.bytes_max {
            MemoryPressure::Full
        } else if used >= self.bytes_max / 4 * HIGH_QUARTERS {
            MemoryPressure::High
        } else {
            MemoryPressure::Low
        }
    }

    /// What is held now, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A share of the sum, of no bytes yet.
    #[must_use]
    pub fn charge(self: &Arc<Self>) -> MemoryCharge {
        MemoryCharge { budget: Arc::clone(self), bytes: 0 }
    }
}

/// What one holder holds; given back when dropped.
#[derive(Debug)]
pub struct MemoryCharge {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl MemoryCharge {
    /// The holder holds so many bytes now.
    pub fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// What the holder holds, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_follows_what_is_charged_and_given_back() {
        let budget = Arc::new(MemoryBudget::new(400));
        let mut first = budget.charge();
        first.set(224);
        assert_eq!(budget.pressure(), MemoryPressure::Low);
        let mut second = budget.charge();
        second.set(1);
        assert_eq!(budget.pressure(), MemoryPressure::High);
        first.set(299);
        assert_eq!((budget.pressure(), budget.used_bytes()), (MemoryPressure::Full, 300));
        first.set(10);
        assert_eq!((budget.pressure(), first.bytes()), (MemoryPressure::Low, 10));
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
    }
}
