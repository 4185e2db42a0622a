//! A connection that sends.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use lockstep_amqp::{
    DeliveryRef, Event, LinkId,
    types::{DeliveryState, Outcome},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    client::{Client, Dial, READ_BYTES_BUSY, describe},
    clock::Stopwatch,
    endpoint::Endpoint,
    links,
    progress::Progress,
    report,
    stamp::{MessageMaker, Stamp},
};

/// What all connections of a run share.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Names the run, in every message.
    pub(super) id: u64,
    pub(super) watch: Stopwatch,
    pub(super) progress: Arc<Progress>,
}

impl Run {
    pub(super) fn new() -> Self {
        Self {
            id: super::clock::unix_nanos(),
            watch: Stopwatch::start(),
            progress: Arc::new(Progress::default()),
        }
    }
}

/// What a sender sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderPlan<'a> {
    pub(super) queue: &'a str,
    pub(super) body_bytes: usize,
    pub(super) durable: bool,
}

/// What became of a sender's messages.
#[derive(Debug)]
pub(super) struct Sent {
    /// Times from send (or from when it was due) to accepted, in nanoseconds.
    pub(super) accepted: Histogram<u64>,
    /// Times by which messages went out later than they were due, in nanoseconds.
    pub(super) late: Histogram<u64>,
}

/// One sending link on its own connection.
#[derive(Debug)]
pub(super) struct Sender<S> {
    client: Client<S>,
    link: LinkId,
    maker: MessageMaker,
    run: Run,
    /// When the messages without an outcome were sent, by delivery-id from `first_waiting`.
    waiting: VecDeque<Option<u64>>,
    first_waiting: u32,
    in_flight: u32,
    sent: Sent,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// Connects and attaches.
    pub(super) async fn open<D: Dial<Stream = S>>(
        dial: &D,
        endpoint: &Endpoint,
        run: &Run,
        name: &str,
        plan: SenderPlan<'_>,
    ) -> Result<Self> {
        let mut client = Client::open(dial, endpoint, name, READ_BYTES_BUSY, run.watch).await?;
        links::authorise(&mut client, endpoint, plan.queue).await?;
        let link = client.attach(links::sender(name, plan.queue)).await?;
        Ok(Self {
            client,
            link,
            maker: MessageMaker::new(plan.body_bytes, plan.durable),
            run: run.clone(),
            waiting: VecDeque::new(),
            first_waiting: 0,
            in_flight: 0,
            sent: Sent { accepted: report::histogram()?, late: report::histogram()? },
        })
    }

    /// Messages that can be sent now, with at most `in_flight_max` without an outcome.
    pub(super) fn room(&self, in_flight_max: u32) -> u32 {
        self.client.engine.sendable(self.link).min(in_flight_max.saturating_sub(self.in_flight))
    }

    /// Gives a message to the engine; it goes out with the next turn. Its latency counts from
    /// `sent_ns`.
    pub(super) fn send(
        &mut self,
        stream: u32,
        sequence: u64,
        sent_ns: u64,
        group_id: Option<&str>,
    ) -> Result<()> {
        let stamp = Stamp { run: self.run.id, stream, sequence, sent_ns };
        let delivery = self.maker.delivery(&stamp, group_id);
        let sent = self.client.engine.send(self.link, delivery).context("the engine refused a message")?;
        if self.waiting.is_empty() {
            self.first_waiting = sent.id;
        }
        self.waiting.push_back(Some(sent_ns));
        self.in_flight += 1;
        self.run.progress.sent.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Moves bytes, waiting if there is nothing to write, and takes in what came.
    pub(super) async fn turn(&mut self) -> Result<()> {
        self.client.turn().await?;
        while let Some(event) = self.client.poll_event()? {
            self.take(event)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Disposed { deliveries, state, .. } => match state {
                Some(DeliveryState::Outcome(Outcome::Accepted)) => self.take_accepted(&deliveries),
                Some(DeliveryState::Outcome(Outcome::Rejected(error))) => {
                    bail!("the broker rejected a message: {}", describe(error.as_ref()))
                }
                state => bail!("the broker gave a message the state {state:?} instead of accepted"),
            },
            Event::Detached { error, link, .. } if link == self.link => {
                bail!("the broker detached the sender: {}", describe(error.as_ref()))
            }
            _ => Ok(()),
        }
    }

    fn take_accepted(&mut self, deliveries: &[DeliveryRef]) -> Result<()> {
        let now = self.run.watch.nanos();
        for delivery in deliveries {
            let index = delivery.id.wrapping_sub(self.first_waiting) as usize;
            let Some(sent_ns) = self.waiting.get_mut(index).and_then(Option::take) else {
                bail!("the broker settled delivery {} twice", delivery.id);
            };
            self.sent.accepted.saturating_record(now.saturating_sub(sent_ns));
        }
        while self.waiting.front() == Some(&None) {
            self.waiting.pop_front();
            self.first_waiting = self.first_waiting.wrapping_add(1);
        }
        self.in_flight -= deliveries.len() as u32;
        self.run.progress.add_accepted(deliveries.len(), now);
        Ok(())
    }

    /// Gives a message to the engine that was due at `due_ns`, from where its latency counts.
    pub(super) fn send_due(&mut self, stream: u32, sequence: u64, due_ns: u64) -> Result<()> {
        self.sent.late.saturating_record(self.run.watch.nanos().saturating_sub(due_ns));
        self.send(stream, sequence, due_ns, None)
    }

    /// Waits for all outcomes and closes.
    pub(super) async fn finish(mut self) -> Result<Sent> {
        while self.in_flight > 0 {
            self.turn().await?;
        }
        self.client.close().await;
        Ok(self.sent)
    }
}
