//! How senders send: as fast as outcomes come, or by the clock.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Pace, PipePlan};
use crate::bench::{
    pacer::Pacer,
    sender::{Run, Sender, Sent},
};

/// How long a sender that paused because of the backlog waits before it looks again.
const BACKLOG_LOOK: Duration = Duration::from_millis(1);

/// Messages of one sender without an outcome at a fixed rate: the bound that keeps a broker that
/// does not keep up from filling the generator's memory.
const PACED_IN_FLIGHT_MAX: u32 = 50_000;

/// Messages that are due at one sender and cannot be sent, at which a run at a fixed rate is given
/// up.
const OVERDUE_MAX: usize = 1_000_000;

/// Sends one sender's share of a run.
pub(super) async fn send_all<S>(
    mut sender: Sender<S>,
    index: u16,
    plan: Arc<PipePlan>,
    run: Run,
) -> Result<Sent>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let end_ns = run.watch.nanos() + u64::try_from(plan.duration.as_nanos()).unwrap_or(u64::MAX / 2);
    let count = plan.share(index);
    match plan.pace {
        Pace::Window { in_flight, backlog } => {
            send_by_window(&mut sender, index, count, end_ns, in_flight, backlog, &run).await?;
        }
        Pace::Rate(per_second) => {
            let interval_ns = 1_000_000_000 * u64::from(plan.senders) / u64::from(per_second.max(1));
            send_by_clock(&mut sender, index, count, end_ns, interval_ns, &run).await?;
        }
    }
    sender.finish().await
}

async fn send_by_window<S>(
    sender: &mut Sender<S>,
    index: u16,
    count: u64,
    end_ns: u64,
    in_flight: u32,
    backlog: u64,
    run: &Run,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut sequence = 0;
    loop {
        let now = run.watch.nanos();
        if now >= end_ns || sequence >= count {
            return Ok(());
        }
        let paused = run.progress.backlog() >= backlog;
        let room = if paused { 0 } else { u64::from(sender.room(in_flight)).min(count - sequence) };
        for _ in 0..room {
            sender.send(index.into(), sequence, run.watch.nanos(), None)?;
            sequence += 1;
        }
        if paused {
            tokio::select! {
                turned = sender.turn() => turned?,
                () = tokio::time::sleep(BACKLOG_LOOK) => {}
            }
        } else {
            sender.turn().await?;
        }
    }
}

/// Open loop: what is due while the broker gives no credit waits here, and its time counts from
/// when it was due. So a broker that pauses is charged for every message of its pause.
async fn send_by_clock<S>(
    sender: &mut Sender<S>,
    index: u16,
    count: u64,
    end_ns: u64,
    interval_ns: u64,
    run: &Run,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pacer = Pacer::start(interval_ns, run.watch.nanos())?;
    let (mut due, mut sequence, mut over) = (VecDeque::new(), 0, false);
    while !over || !due.is_empty() {
        while sender.room(PACED_IN_FLIGHT_MAX) > 0
            && let Some(due_ns) = due.pop_front()
        {
            sender.send_due(index.into(), sequence, due_ns)?;
            sequence += 1;
        }
        tokio::select! {
            biased;
            turned = sender.turn() => turned?,
            times = pacer.due(), if !over => for due_ns in times? {
                over = over || due_ns >= end_ns || sequence + due.len() as u64 >= count;
                if !over {
                    due.push_back(due_ns);
                }
            },
        }
        ensure!(
            due.len() <= OVERDUE_MAX,
            "the broker does not keep up with the rate: {} messages are due at one sender",
            due.len()
        );
    }
    Ok(())
}
