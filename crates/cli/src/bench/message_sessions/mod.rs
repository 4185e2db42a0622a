//! Message sessions: senders interleave them, receivers accept the next, drain it in order,
//! complete and close, until all are done.

mod holder;
mod schedule;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use self::{
    holder::{Held, Holder, Work, message_session_name},
    schedule::{FifoCheck, Shape},
};
use super::{
    args::{MessageSessionArgs, SettleMode},
    client::Dial,
    endpoint::Endpoint,
    observer::Observer,
    progress,
    report::{self, Report, Used},
    sender::{Run, Sender, SenderPlan, Sent},
};

/// The queue if none is named.
const DEFAULT_QUEUE: &str = "bench-sessions";

/// How long a sender that paused because of the backlog waits before it looks again.
const BACKLOG_LOOK: Duration = Duration::from_millis(1);

/// A run over message sessions.
#[derive(Clone, Debug)]
pub(super) struct MessageSessionPlan {
    queue: String,
    senders: u16,
    receivers: u16,
    concurrent: u32,
    body_bytes: usize,
    durable: bool,
    settle: SettleMode,
    in_flight: u32,
    backlog: u64,
    prefill: bool,
    warm_up_rounds: u32,
    shape: Shape,
}

impl MessageSessionPlan {
    pub(super) fn of(args: &MessageSessionArgs, endpoint: &Endpoint) -> Result<Self> {
        let queue = match (&args.load.queue[..], &endpoint.address.queue) {
            ([], Some(queue)) => queue.clone(),
            ([], None) if args.load.queues == 1 => DEFAULT_QUEUE.to_owned(),
            ([queue], _) => queue.clone(),
            _ => bail!("message sessions are measured on one queue; give one --queue"),
        };
        let (senders, receivers) = args.load.connection_counts(2);
        ensure!(senders > 0 && receivers > 0, "a sending and a receiving connection are needed");
        Ok(Self {
            queue,
            senders,
            receivers,
            concurrent: args.concurrent,
            body_bytes: args.load.size,
            durable: args.load.durable,
            settle: args.load.settle,
            in_flight: args.in_flight,
            backlog: args.backlog,
            prefill: args.prefill,
            warm_up_rounds: args.warm_up_rounds,
            shape: Shape {
                count: args.sessions,
                messages: args.messages,
                rounds: args.rounds,
                interleave: args.interleave,
            },
        })
    }
}

/// What was used and how long it took.
#[derive(Clone, Copy, Debug)]
struct Phase {
    seconds: f64,
    used: Used,
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct MessageSessionOutcome {
    /// Sending alone, if everything was sent before.
    fill: Option<Phase>,
    /// From the first send (or the first accept, if everything was sent before) to the last close.
    drain: Phase,
    accepted: Histogram<u64>,
    held: Held,
}

/// Opens all connections, then sends and drains; the same before that for the warm-up, if there
/// is one.
///
/// # Errors
/// When a connection fails, the broker refuses something, or a message session delivers anything
/// but its next message.
pub(super) async fn run<D: Dial>(
    dial: &D,
    endpoint: &Endpoint,
    plan: &MessageSessionPlan,
    observer: &Observer,
) -> Result<MessageSessionOutcome> {
    if plan.warm_up_rounds > 0 {
        let shape = Shape { rounds: plan.warm_up_rounds, ..plan.shape };
        let warm_up = MessageSessionPlan { shape, ..plan.clone() };
        run_once(dial, endpoint, &warm_up, observer).await.context("warm-up")?;
    }
    run_once(dial, endpoint, plan, observer).await
}

async fn run_once<D: Dial>(
    dial: &D,
    endpoint: &Endpoint,
    plan: &MessageSessionPlan,
    observer: &Observer,
) -> Result<MessageSessionOutcome> {
    let run = Run::new();
    let work = Arc::new(Work {
        queue: plan.queue.clone(),
        settle: plan.settle,
        messages: plan.shape.messages,
        concurrent: plan.concurrent,
        accepts_left: AtomicI64::new(i64::try_from(plan.shape.accepts()).unwrap_or(i64::MAX)),
        check: FifoCheck::new(run.id, plan.shape.count),
    });
    let (mut senders, mut holders) = (Vec::new(), Vec::new());
    for index in 0..plan.receivers {
        let name = format!("bench-session-receiver-{index}");
        let opened = Holder::open(dial, endpoint, &run, name, Arc::clone(&work)).await;
        holders.push(opened.with_context(|| format!("receiver {index} of queue {}", plan.queue))?);
    }
    for index in 0..plan.senders {
        let name = format!("bench-sender-{index}");
        let sender_plan =
            SenderPlan { queue: &plan.queue, body_bytes: plan.body_bytes, durable: plan.durable };
        let opened = Sender::open(dial, endpoint, &run, &name, sender_plan).await;
        senders.push(opened.with_context(|| format!("sender {index} of queue {}", plan.queue))?);
    }
    drive(plan, &run, senders, holders, observer).await
}

/// What a task ended with.
#[derive(Debug)]
enum Part {
    Sent(Sent),
    Held(Box<Held>),
}

async fn drive<S>(
    plan: &MessageSessionPlan,
    run: &Run,
    senders: Vec<Sender<S>>,
    holders: Vec<Holder<S>>,
    observer: &Observer,
) -> Result<MessageSessionOutcome>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender_count, all) = (senders.len(), senders.len() + holders.len());
    let (mut tasks, mut parts) = (JoinSet::new(), Vec::new());
    let mut start_ns = run.watch.nanos();
    let mut before = Used::so_far(observer.pid)?;
    for (index, sender) in senders.into_iter().enumerate() {
        let sending = send_all(sender, index as u32, plan.clone(), run.clone());
        tasks.spawn(async move { sending.await.map(Part::Sent) });
    }
    let mut fill = None;
    if plan.prefill {
        let whole =
            progress::wait(&run.progress, observer, &mut tasks, &mut parts, |_, ended| ended == sender_count)
                .await?;
        ensure!(whole, "the broker stopped to accept messages: {}", run.progress.describe());
        let now = Used::so_far(observer.pid)?;
        let now_ns = run.watch.nanos();
        fill = Some(Phase { seconds: (now_ns - start_ns) as f64 / 1e9, used: now.since(&before) });
        (start_ns, before) = (now_ns, now);
    }
    for holder in holders {
        tasks.spawn(async move { holder.work().await.map(|held| Part::Held(Box::new(held))) });
    }
    let whole =
        progress::wait(&run.progress, observer, &mut tasks, &mut parts, |_, ended| ended == all).await?;
    ensure!(whole, "the run came to a stop: {}", run.progress.describe());
    let end_ns = run.progress.last_closed_ns.load(Relaxed);
    let used = Used::so_far(observer.pid)?.since(&before);
    let drain = Phase { seconds: end_ns.saturating_sub(start_ns) as f64 / 1e9, used };
    let (accepted, held) = merge(parts)?;
    Ok(MessageSessionOutcome { fill, drain, accepted, held })
}

fn merge(parts: Vec<Part>) -> Result<(Histogram<u64>, Held)> {
    let mut accepted = report::histogram()?;
    let mut all = Held { hold: report::histogram()?, delivered: report::histogram()?, timed_out: 0 };
    for part in parts {
        match part {
            Part::Sent(sent) => accepted.add(sent.accepted)?,
            Part::Held(held) => {
                all.hold.add(held.hold)?;
                all.delivered.add(held.delivered)?;
                all.timed_out += held.timed_out;
            }
        }
    }
    Ok((accepted, all))
}

async fn send_all<S>(mut sender: Sender<S>, index: u32, plan: MessageSessionPlan, run: Run) -> Result<Sent>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let backlog_max = if plan.prefill { u64::MAX } else { plan.backlog };
    let mut items = plan.shape.items(index, plan.senders.into()).peekable();
    while let Some(next) = items.peek() {
        if next.may_pause && run.progress.backlog() >= backlog_max {
            tokio::select! {
                turned = sender.turn() => turned?,
                () = tokio::time::sleep(BACKLOG_LOOK) => {}
            }
            continue;
        }
        let mut room = sender.room(plan.in_flight);
        while room > 0
            && let Some(item) = items.next()
        {
            let group_id = message_session_name(run.id, item.index);
            sender.send(item.index, item.sequence, run.watch.nanos(), Some(&group_id))?;
            room -= 1;
            if items.peek().is_some_and(|next| next.may_pause) {
                break;
            }
        }
        sender.turn().await?;
    }
    sender.finish().await
}

/// The rows of a finished run.
pub(super) fn report(
    plan: &MessageSessionPlan,
    outcome: &MessageSessionOutcome,
    observer: &Observer,
) -> Report {
    let Shape { count, messages, rounds, interleave } = plan.shape;
    let (accepts, all) = (plan.shape.accepts() as f64, plan.shape.messages_in_all());
    let mut report = Report::new("sessions");
    report.put("queues", 1, "");
    report.put("senders", plan.senders, "connections");
    report.put("receivers", plan.receivers, "connections");
    report.put("sessions_held_per_receiver", plan.concurrent, "message sessions");
    report.put("body_bytes", plan.body_bytes, "bytes");
    report.put("in_flight_per_sender", plan.in_flight, "messages");
    report.put("message_sessions", count, "");
    report.put("messages_per_session", messages, "");
    report.put("rounds", rounds, "");
    report.put("interleaved_per_sender", interleave, "message sessions");
    report.put("messages", all, "");
    if let Some(fill) = &outcome.fill {
        report.measure("fill_seconds", fill.seconds, "s");
        report.measure("fill_messages_per_s", all as f64 / fill.seconds, "1/s");
        report.usage("fill_", &fill.used, all);
    }
    let Phase { seconds, used } = &outcome.drain;
    report.measure("seconds", *seconds, "s");
    report.measure("messages_per_s", all as f64 / seconds, "1/s");
    report.measure("sessions_closed_per_s", accepts / seconds, "1/s");
    report.times("accepted", &outcome.accepted);
    report.times("delivered", &outcome.held.delivered);
    report.times("session_hold", &outcome.held.hold);
    report.usage("", used, all);
    report.memory(observer);
    report.put("accepts_timed_out", outcome.held.timed_out, "");
    report
}
