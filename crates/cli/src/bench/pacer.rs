//! A fixed rate, kept by the kernel's timer: tokio's own timers tick in whole milliseconds, which
//! is longer than what is measured.

use anyhow::Result;

#[cfg(target_os = "linux")]
mod timer {
    use std::{num::NonZeroU64, time::Duration};

    use anyhow::{Context as _, Result};
    use rustix::{
        fd::OwnedFd,
        time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        },
    };
    use tokio::io::{Interest, unix::AsyncFd};

    /// Fires again and again; counts what was missed.
    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of other descriptors; an OwnedFd stays open and the same"
        )]
        pub(super) fn start(interval: Duration) -> Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Monotonic, flags).context("cannot make a timer")?;
            let interval = Timespec {
                tv_sec: i64::try_from(interval.as_secs())?,
                tv_nsec: interval.subsec_nanos().into(),
            };
            let times = Itimerspec { it_interval: interval, it_value: interval };
            timerfd_settime(&fd, TimerfdTimerFlags::empty(), &times).context("cannot set a timer")?;
            Ok(Self(AsyncFd::with_interest(fd, Interest::READABLE)?))
        }

        /// How often it fired since it was last asked; at least once.
        pub(super) async fn fired(&self) -> Result<NonZeroU64> {
            loop {
                let mut ready = self.0.readable().await?;
                let mut count = [0; 8];
                let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?));
                if let Ok(result) = read {
                    result.context("cannot read a timer")?;
                    if let Some(count) = NonZeroU64::new(u64::from_ne_bytes(count)) {
                        return Ok(count);
                    }
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::{num::NonZeroU64, time::Duration};

    use anyhow::{Result, bail};

    /// There is none.
    #[derive(Debug)]
    pub(super) struct Timer;

    impl Timer {
        pub(super) fn start(_interval: Duration) -> Result<Self> {
            bail!("the latency scenario needs Linux: it keeps its rate with timerfd")
        }

        pub(super) async fn fired(&self) -> Result<NonZeroU64> {
            std::future::pending().await
        }
    }
}

/// Says when messages are due, from the moment it is started.
#[derive(Debug)]
pub(super) struct Pacer {
    timer: timer::Timer,
    interval_ns: u64,
    start_ns: u64,
    next: u64,
}

impl Pacer {
    /// `interval_ns` nanoseconds from one message to the next; the first is due one interval
    /// after `now_ns`.
    pub(super) fn start(interval_ns: u64, now_ns: u64) -> Result<Self> {
        let interval_ns = interval_ns.max(1);
        let timer = timer::Timer::start(std::time::Duration::from_nanos(interval_ns))?;
        Ok(Self { timer, interval_ns, start_ns: now_ns, next: 1 })
    }

    /// Waits for the next message's time; gives the times of all that are due. Can be dropped.
    pub(super) async fn due(&mut self) -> Result<impl Iterator<Item = u64> + use<>> {
        let count = self.timer.fired().await?.get();
        let first = self.next;
        self.next += count;
        let (start_ns, interval_ns) = (self.start_ns, self.interval_ns);
        Ok((first..first + count).map(move |index| start_ns + index * interval_ns))
    }
}
