//! Idle connections and links: how long they take to open, and what each costs the broker.
//!
//! ```text
//!   Connect ----> Attach ----> Hold ----> Close
//! ```
//!
//! Every connection goes through these stages, each stage together with all others, so that the
//! broker's memory can be read between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use lockstep_amqp::Event;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{
    args::{ConnectionsArgs, LinkRole, SettleMode},
    client::{Client, Dial, READ_BYTES_IDLE, describe},
    clock::Stopwatch,
    endpoint::Endpoint,
    links,
    observer::{self, Observer},
    process,
    report::{Report, Used, histogram},
};

/// The queue if none is named.
const DEFAULT_QUEUE: &str = "bench-0";

/// Descriptors beside those of the connections.
const DESCRIPTORS_SPARE: u64 = 64;

/// How often the controlling task looks whether a stage is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How long the broker is left alone before its memory is read at a stage's end.
const SETTLE: Duration = Duration::from_millis(500);

/// A run over idle connections.
#[derive(Clone, Debug)]
pub(super) struct ConnectionsPlan {
    queue: String,
    count: u32,
    links: u32,
    role: LinkRole,
    parallel: u32,
    hold: Duration,
}

impl ConnectionsPlan {
    pub(super) fn of(args: &ConnectionsArgs, endpoint: &Endpoint) -> Self {
        let queue = args.queue.clone().or_else(|| endpoint.address.queue.clone());
        Self {
            queue: queue.unwrap_or_else(|| DEFAULT_QUEUE.to_owned()),
            count: args.count,
            links: args.links,
            role: args.role,
            parallel: args.parallel,
            hold: Duration::from_secs(args.hold),
        }
    }

    fn links_in_all(&self) -> u64 {
        u64::from(self.count) * u64::from(self.links)
    }
}

/// Raises the limit of open descriptors to what the plan needs.
///
/// # Errors
/// When the system does not let this process have so many.
pub(super) fn raise_descriptor_limit(plan: &ConnectionsPlan) -> Result<()> {
    let needed = u64::from(plan.count) + DESCRIPTORS_SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).with_context(|| {
        let allowed = limit.maximum.unwrap_or(u64::MAX);
        format!("{} connections need {needed} descriptors; the system allows {allowed}", plan.count)
    })
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct ConnectionsOutcome {
    /// Seconds that opening all connections took, and attaching all links.
    connect_s: f64,
    attach_s: f64,
    /// Times of opening one connection, and of attaching all links of one, in nanoseconds.
    connect: Histogram<u64>,
    attach: Histogram<u64>,
    /// The broker's resident memory before, with the connections, with the links, and at the end.
    resident: Option<[u64; 4]>,
    /// What was used while connections were opened, links attached, and everything was idle.
    used: [Used; 3],
    idle_s: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Connect,
    Attach,
    Hold,
    Close,
}

/// What all connections of a run share.
struct Shared<D> {
    dial: D,
    endpoint: Endpoint,
    plan: ConnectionsPlan,
    watch: Stopwatch,
    /// Connections that are opened, or given their links, at this moment.
    permits: Semaphore,
    stage: watch::Receiver<Stage>,
    opened: AtomicU64,
    attached: AtomicU64,
}

/// Opens everything, holds it and closes it.
///
/// # Errors
/// When a connection or a link is refused, or ends before it is closed.
pub(super) async fn run<D: Dial>(
    dial: &D,
    endpoint: &Endpoint,
    plan: &ConnectionsPlan,
    observer: &Observer,
) -> Result<ConnectionsOutcome> {
    let (stage, at_stage) = watch::channel(Stage::Connect);
    let shared = Arc::new(Shared {
        dial: dial.clone(),
        endpoint: endpoint.clone(),
        plan: plan.clone(),
        watch: Stopwatch::start(),
        permits: Semaphore::new(plan.parallel as usize),
        stage: at_stage,
        opened: AtomicU64::new(0),
        attached: AtomicU64::new(0),
    });
    let mut guide = Guide { shared: Arc::clone(&shared), observer, tasks: JoinSet::new() };
    let mut moments = vec![guide.moment()?];
    for index in 0..plan.count {
        guide.tasks.spawn(hold_one(Arc::clone(&shared), index));
    }
    let all = u64::from(plan.count);
    let connect_s = guide.stage_end(|shared| shared.opened.load(Relaxed) == all).await?;
    moments.push(guide.moment()?);
    stage.send_replace(Stage::Attach);
    let attach_s = guide.stage_end(|shared| shared.attached.load(Relaxed) == all).await?;
    moments.push(guide.moment()?);
    stage.send_replace(Stage::Hold);
    let idle_end_s = shared.watch.seconds() + plan.hold.as_secs_f64();
    let idle_s = guide.stage_end(|shared| shared.watch.seconds() >= idle_end_s).await?;
    moments.push(guide.moment()?);
    stage.send_replace(Stage::Close);
    let (mut connect, mut attach) = (histogram()?, histogram()?);
    while let Some(ended) = guide.tasks.join_next().await {
        let times = ended.context("a task of the generator ended")??;
        connect.saturating_record(times.connect_ns);
        attach.saturating_record(times.attach_ns);
    }
    let [before, connected, linked, end] = &moments[..] else { bail!("a stage was left out") };
    let resident = [before, connected, linked, end].map(|moment| moment.resident);
    let resident =
        if let [Some(a), Some(b), Some(c), Some(d)] = resident { Some([a, b, c, d]) } else { None };
    let used = [(connected, before), (linked, connected), (end, linked)];
    let used = used.map(|(now, then)| now.used.since(&then.used));
    Ok(ConnectionsOutcome { connect_s, attach_s, connect, attach, resident, used, idle_s })
}

/// The broker between two stages.
struct Moment {
    used: Used,
    resident: Option<u64>,
}

/// Leads the connections through their stages.
struct Guide<'a, D> {
    shared: Arc<Shared<D>>,
    observer: &'a Observer,
    tasks: JoinSet<Result<Times>>,
}

impl<D> Guide<'_, D> {
    fn moment(&self) -> Result<Moment> {
        let pid = self.observer.pid;
        Ok(Moment {
            used: Used::so_far(pid)?,
            resident: pid.map(process::resident_bytes_of_tree).transpose()?,
        })
    }

    /// Waits until a stage is over and then a little; gives the seconds that the stage took. A
    /// connection that ends meanwhile is an error.
    async fn stage_end(&mut self, is_over: impl Fn(&Shared<D>) -> bool) -> Result<f64> {
        let start_s = self.shared.watch.seconds();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut tell = tokio::time::interval(observer::LOOK_INTERVAL);
        tell.tick().await;
        let mut took_s = None;
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    let context = self.describe();
                    ended.context("a task of the generator ended")?.context(context)?;
                    bail!("a connection ended too early");
                }
                _ = tell.tick() => self.observer.look(&self.describe()),
                _ = look.tick() => {}
            }
            let now_s = self.shared.watch.seconds() - start_s;
            match took_s {
                None if is_over(&self.shared) => took_s = Some(now_s),
                Some(took_s) if now_s >= took_s + SETTLE.as_secs_f64() => return Ok(took_s),
                _ => {}
            }
        }
    }

    fn describe(&self) -> String {
        let Shared { opened, attached, plan, .. } = &*self.shared;
        let (opened, attached) = (opened.load(Relaxed), attached.load(Relaxed));
        format!("{opened} of {} connections open, {attached} of them with all links", plan.count)
    }
}

/// How long one connection took, in nanoseconds.
struct Times {
    connect_ns: u64,
    attach_ns: u64,
}

async fn hold_one<D: Dial>(shared: Arc<Shared<D>>, index: u32) -> Result<Times> {
    let Shared { dial, endpoint, plan, watch, permits, .. } = &*shared;
    let mut stage = shared.stage.clone();
    let name = format!("bench-idle-{index}");
    let permit = permits.acquire().await?;
    let start_ns = watch.nanos();
    let opened = Client::open(dial, endpoint, &name, READ_BYTES_IDLE, *watch).await;
    let mut client = opened.with_context(|| format!("connection {index}"))?;
    let connect_ns = watch.nanos() - start_ns;
    drop(permit);
    shared.opened.fetch_add(1, Relaxed);
    idle_until(&mut client, &mut stage, Stage::Attach)
        .await
        .with_context(|| format!("connection {index}"))?;
    let permit = permits.acquire().await?;
    let start_ns = watch.nanos();
    if plan.links > 0 {
        links::authorise(&mut client, endpoint, &plan.queue).await?;
    }
    let attaches = (0..plan.links).map(|link| {
        let name = format!("{name}-{link}");
        match plan.role {
            LinkRole::Sender => links::sender(&name, &plan.queue),
            LinkRole::Receiver => links::receiver(&name, &plan.queue, SettleMode::First),
        }
    });
    client.attach_all(attaches).await.with_context(|| format!("links of connection {index}"))?;
    let attach_ns = watch.nanos() - start_ns;
    drop(permit);
    shared.attached.fetch_add(1, Relaxed);
    idle_until(&mut client, &mut stage, Stage::Close).await.with_context(|| format!("connection {index}"))?;
    client.close().await;
    Ok(Times { connect_ns, attach_ns })
}

/// Keeps a connection alive until a stage is reached.
async fn idle_until<S>(
    client: &mut Client<S>,
    stage: &mut watch::Receiver<Stage>,
    wanted: Stage,
) -> Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        while let Some(event) = client.poll_event()? {
            if let Event::Detached { error, .. } = &event {
                bail!("the broker detached an idle link: {}", describe(error.as_ref()));
            }
            ensure!(
                !matches!(event, Event::Delivery { .. }),
                "the broker delivered a message on a link without credit"
            );
        }
        if *stage.borrow_and_update() >= wanted {
            return Ok(());
        }
        tokio::select! {
            turned = client.turn() => turned?,
            changed = stage.changed() => changed.context("the run was given up")?,
        }
    }
}

/// The rows of a finished run.
pub(super) fn report(plan: &ConnectionsPlan, outcome: &ConnectionsOutcome) -> Report {
    let mut report = Report::new("connections");
    let (count, links) = (f64::from(plan.count), plan.links_in_all());
    report.put("connections", plan.count, "");
    report.put("links", links, "");
    report.put("opened_at_a_time", plan.parallel, "connections");
    report.measure("connect_seconds", outcome.connect_s, "s");
    report.measure("connects_per_s", count / outcome.connect_s.max(f64::MIN_POSITIVE), "1/s");
    report.times("connect", &outcome.connect);
    if links > 0 {
        report.measure("attach_seconds", outcome.attach_s, "s");
        report.measure("attaches_per_s", links as f64 / outcome.attach_s.max(f64::MIN_POSITIVE), "1/s");
        report.times("attach_all_of_one", &outcome.attach);
    }
    report.measure("idle_seconds", outcome.idle_s, "s");
    let [connecting, attaching, idle] = &outcome.used;
    if let Some(cpu_s) = connecting.broker_cpu_s() {
        report.measure("broker_cpu_us_per_connect", cpu_s * 1e6 / count, "us");
    }
    if let Some(cpu_s) = attaching.broker_cpu_s().filter(|_| links > 0) {
        report.measure("broker_cpu_us_per_attach", cpu_s * 1e6 / links as f64, "us");
    }
    if let Some(cpu_s) = idle.broker_cpu_s() {
        report.measure("broker_cpu_idle_percent", cpu_s * 100.0 / outcome.idle_s.max(1e-3), "%");
    }
    if let Some([before, connected, linked, end]) = outcome.resident {
        let grown = |from: u64, to: u64| to as f64 - from as f64;
        for (key, bytes) in [("before", before), ("connected", connected), ("linked", linked), ("idle", end)]
        {
            report.measure(&format!("broker_rss_{key}_mb"), bytes as f64 / 1e6, "MB");
        }
        report.measure("broker_bytes_per_connection", grown(before, connected) / count, "bytes");
        if links > 0 {
            report.measure("broker_bytes_per_link", grown(connected, linked) / links as f64, "bytes");
        }
    }
    report
}
