//! How much may be on its way to the disk before sends wait: as much as keeps it busy, and no more,
//! since everybody's next commit waits behind that.
//!
//! The bound follows what it leads to. While sends are held back by it, each release tells how long
//! its oldest commit was under way. Less than the aim: the bound grows; more: it shrinks. The aim
//! is a time of our own and some syncs of this disk: one whose sync alone takes long gets more
//! bytes for it. While somebody who sends little is among those who send much, the aim is
//! shorter: then it is about that one's wait, else about how much goes through. And where messages
//! are large, so that it is their bytes that take time, the bound may get less for it.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::UNCOMMITTED_BYTES_MAX;

/// The least bound, in bytes.
const UNCOMMITTED_BYTES_MIN: u64 = 256 * 1024;
/// [`UNCOMMITTED_BYTES_MIN`] while somebody sends little and others send large messages.
const SHORT_UNCOMMITTED_BYTES_MIN: u64 = 64 * 1024;
/// Bytes that an operation of the store has on average from which messages are large. With smaller
/// ones less under way makes nobody's wait shorter, just commits smaller.
const LARGE_OPERATION_BYTES: u64 = 4 * 1024;
/// Syncs of no more than that tell how long a sync takes at least, in bytes.
const SMALL_SYNC_BYTES_MAX: u64 = 64 * 1024;
/// The bound at the start, in bytes.
const UNCOMMITTED_BYTES_START: u64 = 1024 * 1024;
/// How long a commit should be under way while sends are held back, besides syncs.
const COMMIT_AIM: Duration = Duration::from_millis(1);
/// Syncs that it may take, of small commits.
const SYNCS_AIM: u64 = 4;
/// [`COMMIT_AIM`] while somebody sends little.
const SHORT_COMMIT_AIM: Duration = Duration::from_micros(200);
/// [`SYNCS_AIM`] while somebody sends little: the sync that is under way, its own, and as much time
/// for bytes as a sync takes, so that a disk whose syncs take long still gets many at a time.
const SHORT_SYNCS_AIM: u64 = 3;
/// Releases for which a small send is remembered: about a tenth of a second of them.
const SMALL_SEND_RELEASES: u32 = 64;
/// Part of the bound by which it moves.
const STEP: u64 = 8;
/// Slower syncs that it takes, about, to be taken for slow.
const SLOWER_SYNCS: u64 = 64;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Pace {
    limit_bytes: AtomicU64,
    /// How long a small sync takes; 0 while that is not known.
    sync_micros: AtomicU64,
    /// Something was held back since the last release.
    held_back: AtomicBool,
    /// Releases for which the aim is the short one.
    short_releases: AtomicU32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            limit_bytes: AtomicU64::new(UNCOMMITTED_BYTES_START),
            sync_micros: AtomicU64::new(0),
            held_back: AtomicBool::new(false),
            short_releases: AtomicU32::new(0),
        }
    }
}

impl Pace {
    /// Whether sends have to wait when so many bytes are under way, `reserve` of the bound not
    /// counted.
    pub(crate) fn holds_back(&self, uncommitted_bytes: u64, reserve: u64) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        let holds_back = uncommitted_bytes > limit + reserve;
        if holds_back {
            self.held_back.store(true, Ordering::Relaxed);
        }
        holds_back
    }

    /// Somebody sends who sends little.
    pub(crate) fn small_send(&self) {
        self.short_releases.store(SMALL_SEND_RELEASES, Ordering::Relaxed);
    }

    /// So many bytes, of so many operations, were made durable by a sync of that time; the first of
    /// them had been under way for `waited`.
    pub(crate) fn released(&self, bytes: u64, operations: u64, sync: Duration, waited: Duration) {
        if bytes <= SMALL_SYNC_BYTES_MAX {
            let (micros, known) = (micros(sync), self.sync_micros.load(Ordering::Relaxed));
            // One that takes longer may have waited for other writes.
            let known =
                if known == 0 || micros < known { micros } else { known + (micros - known) / SLOWER_SYNCS };
            self.sync_micros.store(known, Ordering::Relaxed);
        }
        if !self.held_back.swap(false, Ordering::Relaxed) {
            return;
        }
        let is_short = self.is_short();
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        let step = limit / STEP;
        let least = if is_short && bytes >= operations * LARGE_OPERATION_BYTES {
            SHORT_UNCOMMITTED_BYTES_MIN
        } else {
            UNCOMMITTED_BYTES_MIN
        };
        let limit = if limit < least || micros(waited) <= self.aim_micros(is_short) {
            (limit + step).min(UNCOMMITTED_BYTES_MAX)
        } else {
            (limit - step).max(least)
        };
        self.limit_bytes.store(limit, Ordering::Relaxed);
    }

    /// Whether somebody has sent little lately; counts a release.
    fn is_short(&self) -> bool {
        let releases = self.short_releases.load(Ordering::Relaxed);
        // A small send that comes meanwhile may be lost; the next one is not.
        self.short_releases.store(releases.saturating_sub(1), Ordering::Relaxed);
        releases > 0
    }

    /// How long a commit should be under way.
    fn aim_micros(&self, is_short: bool) -> u64 {
        let (time, syncs) =
            if is_short { (SHORT_COMMIT_AIM, SHORT_SYNCS_AIM) } else { (COMMIT_AIM, SYNCS_AIM) };
        micros(time) + syncs * self.sync_micros.load(Ordering::Relaxed)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that takes as many bytes a microsecond besides the time of a sync, under a load that
    /// fills whatever the bound is: the bound that comes of it, in bytes.
    fn bound_of(sync: Duration, bytes_per_micro: u64, pace: &Pace) -> u64 {
        pace.released(1_000, 3, sync, sync);
        for _ in 0..200 {
            let bytes = pace.limit_bytes.load(Ordering::Relaxed);
            assert!(!pace.holds_back(bytes, 0) && pace.holds_back(bytes + 1, 0));
            let took = sync + Duration::from_micros(bytes / 2 / bytes_per_micro);
            // One sync is under way, the next one takes the rest.
            pace.released(bytes / 2, bytes / 1_000, took, 2 * took);
        }
        pace.limit_bytes.load(Ordering::Relaxed)
    }

    #[test]
    fn the_bound_is_what_the_disk_takes_in_the_time_aimed_at() {
        let pace = Pace::default();
        let fast = bound_of(Duration::from_micros(150), 400, &pace);
        // 1.6 ms, less two syncs, at 400 bytes a microsecond.
        assert!((450_000..600_000).contains(&fast), "{fast}");
        let slow = bound_of(Duration::from_micros(150), 100, &pace);
        assert!((UNCOMMITTED_BYTES_MIN..300_000).contains(&slow), "{slow}");
    }

    #[test]
    fn a_disk_whose_syncs_take_long_gets_more_at_a_time() {
        let pace = Pace::default();
        let bound = bound_of(Duration::from_millis(8), 150, &pace);
        assert!((2_000_000..3_200_000).contains(&bound), "{bound}");
        let fast = Pace::default();
        assert_eq!(bound_of(Duration::from_millis(8), 10_000, &fast), UNCOMMITTED_BYTES_MAX);
    }

    #[test]
    fn whoever_sends_little_makes_the_bound_smaller_for_a_while() {
        let pace = Pace::default();
        let sync = Duration::from_micros(150);
        let alone = bound_of(sync, 1_000, &pace);
        pace.small_send();
        for _ in 0..SMALL_SEND_RELEASES {
            assert!(pace.holds_back(UNCOMMITTED_BYTES_MAX, 0));
            pace.released(alone, alone / 500, sync, Duration::from_micros(800));
        }
        // More than 200 us and three syncs; less than 1 ms and four.
        assert_eq!(pace.limit_bytes.load(Ordering::Relaxed), UNCOMMITTED_BYTES_MIN);
        assert!(bound_of(sync, 1_000, &pace) > alone / STEP * (STEP - 2));
    }

    #[test]
    fn it_gets_less_yet_among_large_messages_alone() {
        let pace = Pace::default();
        let sync = Duration::from_micros(150);
        bound_of(sync, 1_000, &pace);
        let release = |pace: &Pace, operations: u64| {
            pace.small_send();
            assert!(pace.holds_back(UNCOMMITTED_BYTES_MAX, 0));
            pace.released(2 * 64 * 1024, operations, sync, Duration::from_millis(2));
            pace.limit_bytes.load(Ordering::Relaxed)
        };
        for _ in 0..SMALL_SEND_RELEASES {
            // Two of 64 KiB, in three operations each.
            release(&pace, 6);
        }
        assert_eq!(release(&pace, 6), SHORT_UNCOMMITTED_BYTES_MIN);
        // Never at once, so that a release of whoever sends little does not matter.
        let more = release(&pace, 300);
        assert!((SHORT_UNCOMMITTED_BYTES_MIN + 1..UNCOMMITTED_BYTES_MIN / 2).contains(&more), "{more}");
        let small = (0..SMALL_SEND_RELEASES).map(|_| release(&pace, 300)).last().unwrap();
        assert!((UNCOMMITTED_BYTES_MIN..UNCOMMITTED_BYTES_MIN * 5 / 4).contains(&small), "{small}");
    }

    #[test]
    fn a_disk_whose_syncs_take_long_gets_many_bytes_for_whoever_sends_little_too() {
        let pace = Pace::default();
        let sync = Duration::from_millis(8);
        bound_of(sync, 150, &pace);
        for _ in 0..4 {
            // It lasts for as many releases.
            pace.small_send();
            for _ in 0..SMALL_SEND_RELEASES {
                let bytes = pace.limit_bytes.load(Ordering::Relaxed);
                assert!(pace.holds_back(bytes + 1, 0));
                let took = sync + Duration::from_micros(bytes / 2 / 150);
                pace.released(bytes / 2, bytes / 1_000, took, 2 * took);
            }
        }
        let bound = pace.limit_bytes.load(Ordering::Relaxed);
        assert!((1_000_000..1_500_000).contains(&bound), "{bound}");
    }

    #[test]
    fn without_load_the_bound_stays_and_small_commits_have_a_reserve() {
        let pace = Pace::default();
        for _ in 0..100 {
            pace.released(1_000, 3, Duration::from_millis(50), Duration::from_secs(1));
        }
        assert!(!pace.holds_back(UNCOMMITTED_BYTES_START, 0));
        assert!(!pace.holds_back(UNCOMMITTED_BYTES_START + 7, 7));
        assert!(pace.holds_back(UNCOMMITTED_BYTES_START + 8, 7));
    }
}
