//! Queues without message sessions: `pipe` sends and receives together, `send` and `drain` one
//! after the other, `latency` together at a fixed rate.

mod report;
mod sending;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
};

pub(super) use self::report::report;
use super::{
    args::{LatencyArgs, LoadArgs, PipeArgs, SettleMode},
    check::{Ledger, Verdict},
    client::Dial,
    endpoint::Endpoint,
    observer::Observer,
    progress::{self, Progress},
    receiver::{Received, Receiver, ReceiverPlan},
    report::{Used, histogram},
    sender::{Run, Sender, SenderPlan, Sent},
};

/// How long receivers stay after everything was completed, for what comes twice or late.
const LINGER: Duration = Duration::from_millis(100);

/// Which part of a run is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measured {
    /// Sending and receiving at the same time.
    Together,
    /// Sending; receiving comes after it, for the checks.
    Sending,
    /// Receiving, after everything was sent.
    Receiving,
}

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
    pub(super) measured: Measured,
    pub(super) queues: Vec<String>,
    pub(super) senders: u16,
    pub(super) receivers: u16,
    pub(super) body_bytes: usize,
    pub(super) durable: bool,
    pub(super) settle: SettleMode,
    pub(super) credit: u32,
    pub(super) pace: Pace,
    /// Messages in all.
    pub(super) count: Option<u64>,
    /// How long senders send.
    pub(super) duration: Duration,
    /// How long they send before, in a run of its own that is not measured.
    pub(super) warm_up: Duration,
}

impl PipePlan {
    pub(super) fn of_pipe(args: &PipeArgs, endpoint: &Endpoint, measured: Measured) -> Result<Self> {
        let backlog = if measured == Measured::Together { args.backlog } else { u64::MAX };
        let pace = Pace::Window { in_flight: args.in_flight, backlog };
        let plan = Self::of_load(&args.load, endpoint, 2, pace)?;
        Ok(Self {
            measured,
            credit: args.credit,
            count: args.count,
            duration: Duration::from_secs(args.duration),
            warm_up: Duration::from_secs(args.warm_up),
            ..plan
        })
    }

    /// One plan for each rate; the first has the warm-up.
    pub(super) fn of_latency(args: &LatencyArgs, endpoint: &Endpoint) -> Result<Vec<Self>> {
        let plan = |(index, rate): (usize, &u32)| {
            let plan = Self::of_load(&args.load, endpoint, 1, Pace::Rate(*rate))?;
            Ok(Self {
                credit: args.credit,
                duration: Duration::from_secs(args.duration),
                warm_up: Duration::from_secs(if index == 0 { args.warm_up } else { 0 }),
                ..plan
            })
        };
        args.rate.iter().enumerate().map(plan).collect()
    }

    fn of_load(load: &LoadArgs, endpoint: &Endpoint, default: u16, pace: Pace) -> Result<Self> {
        let queues = load.queue_names(endpoint.address.queue.as_deref());
        let (senders, receivers) = load.connection_counts(default);
        let least = u16::try_from(queues.len()).unwrap_or(u16::MAX);
        ensure!(
            senders >= least && receivers >= least,
            "each of the {least} queues needs a sending and a receiving connection; raise --connections"
        );
        Ok(Self {
            measured: Measured::Together,
            queues,
            senders,
            receivers,
            body_bytes: load.size,
            durable: load.durable,
            settle: load.settle,
            credit: 1,
            pace,
            count: None,
            duration: Duration::ZERO,
            warm_up: Duration::ZERO,
        })
    }

    /// The run before, if there is one.
    fn of_warm_up(&self) -> Option<Self> {
        (!self.warm_up.is_zero()).then(|| Self { count: None, duration: self.warm_up, ..self.clone() })
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
    /// Of the measured part. It ends with the last outcome where that is sending, else with the
    /// last completion.
    pub(super) seconds: f64,
    /// Times from send to accepted, in nanoseconds.
    pub(super) accepted: Histogram<u64>,
    /// Times by which messages went out later than they were due, in nanoseconds; none without a
    /// fixed rate.
    pub(super) late: Histogram<u64>,
    /// Times from send to delivery, in nanoseconds.
    pub(super) delivered: Histogram<u64>,
    pub(super) verdict: Verdict,
    pub(super) used: Used,
}

/// Opens all connections, then sends, receives and completes; the same before that for the
/// warm-up, if there is one.
///
/// # Errors
/// When a connection fails, the broker refuses something, or the warm-up was not clean. Loss and
/// the like are no errors here but in the verdict.
pub(super) async fn run<D: Dial>(
    dial: &D,
    endpoint: &Endpoint,
    plan: &PipePlan,
    observer: &Observer,
) -> Result<PipeOutcome> {
    if let Some(warm_up) = plan.of_warm_up() {
        let outcome = run_once(dial, endpoint, &warm_up, observer).await.context("warm-up")?;
        outcome.verdict.ensure_clean().context("warm-up")?;
    }
    run_once(dial, endpoint, plan, observer).await
}

async fn run_once<D: Dial>(
    dial: &D,
    endpoint: &Endpoint,
    plan: &PipePlan,
    observer: &Observer,
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
        let sender_plan = SenderPlan { queue, body_bytes: plan.body_bytes, durable: plan.durable };
        let opened = Sender::open(dial, endpoint, &run, &name, sender_plan).await;
        senders.push(opened.with_context(|| format!("sender {index} of queue {queue}"))?);
    }
    drive(plan, run, senders, receivers, observer).await
}

async fn drive<S>(
    plan: &PipePlan,
    run: Run,
    senders: Vec<Sender<S>>,
    receivers: Vec<Receiver<S>>,
    observer: &Observer,
) -> Result<PipeOutcome>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stop, stopped) = watch::channel(false);
    let (mut receiving, mut sending) = (JoinSet::new(), JoinSet::new());
    let mut waiting = receivers;
    let receive = |waiting: &mut Vec<Receiver<S>>, receiving: &mut JoinSet<_>| {
        for receiver in waiting.drain(..) {
            receiving.spawn(receiver.drain(stopped.clone()));
        }
    };
    let mut start = Mark::now(&run, observer)?;
    if plan.measured == Measured::Together {
        receive(&mut waiting, &mut receiving);
    }
    let shared = Arc::new(plan.clone());
    let sender_count = senders.len();
    for (index, sender) in senders.into_iter().enumerate() {
        sending.spawn(sending::send_all(sender, index as u16, Arc::clone(&shared), run.clone()));
    }
    let mut sent_parts = Vec::new();
    // A failed receiver shows as a stall of the senders at the latest, so both are watched.
    let all_sent = tokio::select! {
        sent = progress::wait(&run.progress, observer, &mut sending, &mut sent_parts, |_, ended| ended == sender_count) => sent?,
        failed = first_failure(&mut receiving) => return Err(failed.context(run.progress.describe())),
    };
    ensure!(all_sent, "the broker stopped giving outcomes to messages: {}", run.progress.describe());
    let mut span = None;
    if plan.measured != Measured::Together {
        let sent = Mark::now(&run, observer)?;
        if plan.measured == Measured::Sending {
            span = Some(sent.since(&start, run.progress.last_accepted_ns.load(Relaxed)));
        }
        start = sent;
        receive(&mut waiting, &mut receiving);
    }
    let mut received_parts = Vec::new();
    let is_done = |progress: &Progress, _| progress.backlog() == 0;
    progress::wait(&run.progress, observer, &mut receiving, &mut received_parts, is_done).await?;
    let end = Mark::now(&run, observer)?;
    let span = span.unwrap_or_else(|| end.since(&start, run.progress.last_completed_ns.load(Relaxed)));
    tokio::time::sleep(LINGER).await;
    stop.send_replace(true);
    while let Some(ended) = receiving.join_next().await {
        received_parts.push(ended.context("a receiver of the generator ended")??);
    }
    outcome(&run, span, sender_count, sent_parts, received_parts)
}

/// A moment of a run.
struct Mark {
    at_ns: u64,
    used: Used,
}

/// How long the measured part took, and what it used.
struct Span {
    seconds: f64,
    used: Used,
}

impl Mark {
    fn now(run: &Run, observer: &Observer) -> Result<Self> {
        Ok(Self { at_ns: run.watch.nanos(), used: Used::so_far(observer.pid)? })
    }

    fn since(&self, start: &Self, end_ns: u64) -> Span {
        let seconds = end_ns.saturating_sub(start.at_ns) as f64 / 1e9;
        Span { seconds, used: self.used.since(&start.used) }
    }
}

/// Waits for a receiver that fails; none ends otherwise before it is told to.
async fn first_failure(receiving: &mut JoinSet<Result<Received>>) -> anyhow::Error {
    match receiving.join_next().await {
        Some(Ok(Err(error))) => error,
        Some(Ok(Ok(_))) => anyhow::anyhow!("a receiver ended before it was told to"),
        Some(Err(error)) => anyhow::Error::new(error).context("a receiver of the generator ended"),
        None => std::future::pending().await,
    }
}

fn outcome(
    run: &Run,
    span: Span,
    senders: usize,
    sent_parts: Vec<Sent>,
    received_parts: Vec<Received>,
) -> Result<PipeOutcome> {
    let (mut accepted, mut late, mut delivered) = (histogram()?, histogram()?, histogram()?);
    for part in &sent_parts {
        accepted.add(&part.accepted)?;
        late.add(&part.late)?;
    }
    let mut ledger = Ledger::new(run.id, senders);
    for part in &received_parts {
        delivered.add(&part.latency)?;
        ledger.merge(&part.ledger);
    }
    let messages = run.progress.accepted.load(Relaxed);
    if messages == 0 {
        bail!("no message was sent: the run was too short");
    }
    let Span { seconds, used } = span;
    Ok(PipeOutcome { messages, seconds, accepted, late, delivered, verdict: ledger.verdict(messages), used })
}
