//! Queues without message sessions: `pipe` as fast as it goes, `latency` at a fixed rate.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
};

use super::{
    args::{LatencyArgs, LoadArgs, PipeArgs, SettleMode},
    check::{Ledger, Verdict},
    client::Dial,
    endpoint::Endpoint,
    pacer::Pacer,
    progress::{self, Progress},
    receiver::{Received, Receiver, ReceiverPlan},
    report::{self, Report, Used},
    sender::{Run, Sender},
};

/// How long a sender that paused because of the backlog waits before it looks again.
const BACKLOG_LOOK: Duration = Duration::from_millis(1);

/// Messages of one sender without an outcome at a fixed rate: the bound that keeps a broker that
/// does not keep up from filling the generator's memory.
const PACED_IN_FLIGHT_MAX: u32 = 50_000;

/// What makes senders send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As fast as outcomes come.
    Window {
        /// Messages of a sender without an outcome.
        in_flight: u32,
        /// Messages in all that are not completed.
        backlog: u64,
    },
    /// By the clock: messages a second, of all senders together.
    Rate(u32),
}

/// A run over queues without message sessions.
#[derive(Clone, Debug)]
pub(super) struct PipePlan {
    pub(super) queues: Vec<String>,
    pub(super) senders: u16,
    pub(super) receivers: u16,
    pub(super) body_bytes: usize,
    pub(super) settle: SettleMode,
    pub(super) credit: u32,
    pub(super) pace: Pace,
    /// Messages in all.
    pub(super) count: Option<u64>,
    /// How long senders send.
    pub(super) duration: Duration,
}

impl PipePlan {
    pub(super) fn of_pipe(args: &PipeArgs) -> Result<Self> {
        let pace = Pace::Window { in_flight: args.in_flight, backlog: args.backlog };
        let plan = Self::of_load(&args.load, 2, pace, args.credit, args.duration)?;
        Ok(Self { count: args.count, ..plan })
    }

    pub(super) fn of_latency(args: &LatencyArgs) -> Result<Self> {
        Self::of_load(&args.load, 1, Pace::Rate(args.rate), args.credit, args.duration)
    }

    fn of_load(load: &LoadArgs, default: u16, pace: Pace, credit: u32, duration_s: u64) -> Result<Self> {
        let queues = load.queue_names();
        let (senders, receivers) = load.connection_counts(default);
        let least = u16::try_from(queues.len()).unwrap_or(u16::MAX);
        ensure!(
            senders >= least && receivers >= least,
            "each of the {least} queues needs a sending and a receiving connection; raise --connections"
        );
        let (body_bytes, settle) = (load.size, load.settle);
        let duration = Duration::from_secs(duration_s);
        Ok(Self { queues, senders, receivers, body_bytes, settle, credit, pace, count: None, duration })
    }

    fn queue(&self, index: u16) -> &str {
        self.queues.get(usize::from(index) % self.queues.len()).map_or("", |queue| queue)
    }

    /// How many messages one sender sends at most.
    fn share(&self, sender: u16) -> u64 {
        let senders = u64::from(self.senders);
        self.count.map_or(u64::MAX, |count| count / senders + u64::from(u64::from(sender) < count % senders))
    }
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct PipeOutcome {
    pub(super) messages: u64,
    /// From the first send to the last completion.
    pub(super) seconds: f64,
    /// Times from send to accepted, in nanoseconds.
    pub(super) accepted: Histogram<u64>,
    /// Times from send to delivery, in nanoseconds.
    pub(super) delivered: Histogram<u64>,
    pub(super) verdict: Verdict,
    pub(super) used: Used,
}

/// Opens all connections, then sends, receives and completes.
///
/// # Errors
/// When a connection fails or the broker refuses something. Loss and the like are no errors here
/// but in the verdict.
pub(super) async fn run<D: Dial>(
    dial: &D,
    endpoint: &Endpoint,
    plan: &PipePlan,
    broker_pid: Option<u32>,
) -> Result<PipeOutcome> {
    let run = Run::new();
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for index in 0..plan.receivers {
        let queue = plan.queue(index);
        let name = format!("bench-receiver-{index}");
        let receiver_plan =
            ReceiverPlan { queue, settle: plan.settle, credit: plan.credit, senders: plan.senders.into() };
        let opened = Receiver::open(dial, endpoint, &run, &name, receiver_plan).await;
        receivers.push(opened.with_context(|| format!("receiver {index} of queue {queue}"))?);
    }
    for index in 0..plan.senders {
        let (queue, name) = (plan.queue(index), format!("bench-sender-{index}"));
        let opened = Sender::open(dial, endpoint, &run, &name, queue, plan.body_bytes).await;
        senders.push(opened.with_context(|| format!("sender {index} of queue {queue}"))?);
    }
    drive(plan, run, senders, receivers, broker_pid).await
}

async fn drive<S>(
    plan: &PipePlan,
    run: Run,
    senders: Vec<Sender<S>>,
    receivers: Vec<Receiver<S>>,
    broker_pid: Option<u32>,
) -> Result<PipeOutcome>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stop, stopped) = watch::channel(false);
    let (before, start_ns) = (Used::so_far(broker_pid)?, run.watch.nanos());
    let (mut receiving, mut sending) = (JoinSet::new(), JoinSet::new());
    for receiver in receivers {
        receiving.spawn(receiver.drain(stopped.clone()));
    }
    let plan = Arc::new(plan.clone());
    let sender_count = senders.len();
    for (index, sender) in senders.into_iter().enumerate() {
        sending.spawn(send_all(sender, index as u16, Arc::clone(&plan), run.clone()));
    }
    let (mut accepted_parts, mut received_parts) = (Vec::new(), Vec::new());
    // A failed receiver shows as a stall of the senders at the latest, so both are watched.
    tokio::select! {
        sent = progress::wait(&run.progress, &mut sending, &mut accepted_parts, |_, ended| ended == sender_count) => { sent?; }
        failed = first_failure(&mut receiving) => failed.context(run.progress.describe())?,
    }
    let is_done = |progress: &Progress, _| progress.backlog() == 0;
    progress::wait(&run.progress, &mut receiving, &mut received_parts, is_done).await?;
    let used = Used::so_far(broker_pid)?.since(&before);
    stop.send_replace(true);
    while let Some(ended) = receiving.join_next().await {
        received_parts.push(ended.context("a receiver of the generator ended")??);
    }
    outcome(&run, start_ns, used, sender_count, accepted_parts, received_parts)
}

/// Waits for a receiver that fails; none ends otherwise before it is told to.
async fn first_failure(receiving: &mut JoinSet<Result<Received>>) -> Result<()> {
    match receiving.join_next().await {
        Some(ended) => ended.context("a receiver of the generator ended")?.map(|_| ()),
        None => std::future::pending().await,
    }
}

fn outcome(
    run: &Run,
    start_ns: u64,
    used: Used,
    senders: usize,
    accepted_parts: Vec<Histogram<u64>>,
    received_parts: Vec<Received>,
) -> Result<PipeOutcome> {
    let (mut accepted, mut delivered) = (report::histogram()?, report::histogram()?);
    for part in &accepted_parts {
        accepted.add(part)?;
    }
    let mut ledger = Ledger::new(run.id, senders);
    for part in &received_parts {
        delivered.add(&part.latency)?;
        ledger.merge(&part.ledger);
    }
    let messages = run.progress.accepted.load(Relaxed);
    let end_ns = run.progress.last_completed_ns.load(Relaxed);
    Ok(PipeOutcome {
        messages,
        seconds: end_ns.saturating_sub(start_ns) as f64 / 1e9,
        accepted,
        delivered,
        verdict: ledger.verdict(messages),
        used,
    })
}

async fn send_all<S>(
    mut sender: Sender<S>,
    index: u16,
    plan: Arc<PipePlan>,
    run: Run,
) -> Result<Histogram<u64>>
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
    let mut sequence = 0;
    loop {
        tokio::select! {
            biased;
            turned = sender.turn() => turned?,
            due = pacer.due() => for due_ns in due? {
                if due_ns >= end_ns || sequence >= count {
                    return Ok(());
                }
                ensure!(
                    sender.room(PACED_IN_FLIGHT_MAX) > 0,
                    "the broker does not keep up with the rate: a sender has no room left"
                );
                sender.send(index.into(), sequence, due_ns, None)?;
                sequence += 1;
            },
        }
    }
}

/// The rows of a finished run that `pipe` and `latency` have in common.
pub(super) fn report(scenario: &'static str, plan: &PipePlan, outcome: &PipeOutcome) -> Report {
    let mut report = Report::new(scenario);
    report.put("queues", plan.queues.len(), "");
    report.put("senders", plan.senders, "connections");
    report.put("receivers", plan.receivers, "connections");
    report.put("body_bytes", plan.body_bytes, "bytes");
    match plan.pace {
        Pace::Window { in_flight, .. } => report.put("in_flight_per_sender", in_flight, "messages"),
        Pace::Rate(rate) => report.put("rate", rate, "1/s"),
    }
    report.put("messages", outcome.messages, "");
    report.measure("seconds", outcome.seconds, "s");
    let rate = outcome.messages as f64 / outcome.seconds.max(f64::MIN_POSITIVE);
    report.measure("messages_per_s", rate, "1/s");
    report.times("accepted", &outcome.accepted);
    report.times("delivered", &outcome.delivered);
    report.usage("", &outcome.used, outcome.messages);
    report.verdict(&outcome.verdict);
    report
}
