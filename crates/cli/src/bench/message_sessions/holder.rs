//! A connection that accepts message sessions, several at a time.
//!
//! ```text
//!   attach (next)      answered         all confirmed        detach answered
//!  --------------> Accepting ----> Draining ---------> Closing ----------> next attach
//!                      | refused: no message session in time
//!                      +--> attached again
//! ```

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use lockstep_amqp::{
    DeliveryRef, Event, LinkId,
    types::{Attach, DeliveryState, Error, Outcome},
};
use lockstep_protocol::names::condition;
use tokio::io::{AsyncRead, AsyncWrite};

use super::schedule::FifoCheck;
use crate::bench::{
    args::SettleMode,
    client::{Client, Dial, READ_BYTES_BUSY, describe, is_refusal},
    endpoint::Endpoint,
    links, report,
    sender::Run,
    stamp::Stamp,
};

/// What all holders of a run share.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) queue: String,
    pub(super) settle: SettleMode,
    /// Messages that a message session is drained of before it is closed.
    pub(super) messages: u32,
    /// Message sessions that one connection holds or waits for at a time.
    pub(super) concurrent: u32,
    /// Accepts that nobody has begun yet; below 0 when there is nothing left.
    pub(super) accepts_left: AtomicI64,
    pub(super) check: FifoCheck,
}

/// Name of a message session of a run.
pub(super) fn message_session_name(run: u64, index: u32) -> String {
    format!("{run:016x}-{index}")
}

fn index_of(run: u64, name: &str) -> Option<u32> {
    let (of_run, index) = name.split_once('-')?;
    (u64::from_str_radix(of_run, 16) == Ok(run)).then(|| index.parse().ok())?
}

#[derive(Debug)]
enum Stage {
    Accepting,
    Draining { index: u32, delivered: u32, completed: u32, granted_ns: u64 },
    Closing { granted_ns: u64 },
}

/// What a holder saw.
#[derive(Debug)]
pub(super) struct Held {
    /// Times from grant to closed, in nanoseconds.
    pub(super) hold: Histogram<u64>,
    /// Times from send to delivery, in nanoseconds.
    pub(super) delivered: Histogram<u64>,
    /// Accepts that waited so long that the broker gave up.
    pub(super) timed_out: u64,
}

/// Accepts, drains and closes message sessions over one connection.
#[derive(Debug)]
pub(super) struct Holder<S> {
    client: Client<S>,
    work: Arc<Work>,
    run: Run,
    name: String,
    stages: HashMap<LinkId, Stage>,
    links_made: u64,
    held: Held,
    burst: Vec<DeliveryRef>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Holder<S> {
    /// Connects and authenticates.
    pub(super) async fn open<D: Dial<Stream = S>>(
        dial: &D,
        endpoint: &Endpoint,
        run: &Run,
        name: String,
        work: Arc<Work>,
    ) -> Result<Self> {
        let mut client = Client::open(dial, endpoint, &name, READ_BYTES_BUSY, run.watch).await?;
        links::authorise(&mut client, endpoint, &work.queue).await?;
        let held = Held { hold: report::histogram()?, delivered: report::histogram()?, timed_out: 0 };
        let (stages, run) = (HashMap::new(), run.clone());
        Ok(Self { client, work, run, name, stages, links_made: 0, held, burst: Vec::new() })
    }

    /// Works until no accept is left.
    pub(super) async fn work(mut self) -> Result<Held> {
        for _ in 0..self.work.concurrent {
            self.accept_next()?;
        }
        while !self.stages.is_empty() {
            self.client.turn().await?;
            while let Some(event) = self.client.poll_event()? {
                self.take(event)?;
            }
            self.complete_burst()?;
        }
        self.client.close().await;
        Ok(self.held)
    }

    /// Begins an accept if one is left.
    fn accept_next(&mut self) -> Result<()> {
        if self.work.accepts_left.fetch_sub(1, Relaxed) > 0 { self.attach() } else { Ok(()) }
    }

    fn attach(&mut self) -> Result<()> {
        self.links_made += 1;
        let name = format!("{}-{}", self.name, self.links_made);
        let wish = links::next_message_session(&name, &self.work.queue, self.work.settle);
        let link = self.client.engine.attach(self.client.amqp_session, wish);
        self.stages.insert(link.context("the engine has no room for a link")?, Stage::Accepting);
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::AttachAnswered { link, attach } if !is_refusal(&attach) => self.take_grant(link, &attach),
            Event::Delivery { delivery, payload, .. } => self.take_delivery(delivery, &payload),
            Event::Disposed { deliveries, state, .. } => self.take_confirmation(&deliveries, state),
            Event::Detached { link, error, answered, .. } => self.take_end(link, error.as_ref(), answered),
            _ => Ok(()),
        }
    }

    fn take_grant(&mut self, link: LinkId, answer: &Attach) -> Result<()> {
        let Some(stage) = self.stages.get_mut(&link) else { return Ok(()) };
        let name = links::granted_message_session(answer);
        let name = name.context("the broker granted a receiver without naming its message session")?;
        let index = index_of(self.run.id, name).with_context(|| {
            format!("message session {name} is not of this run; the queue has to be empty before")
        })?;
        *stage = Stage::Draining { index, delivered: 0, completed: 0, granted_ns: self.run.watch.nanos() };
        self.client.engine.set_credit(link, self.work.messages);
        Ok(())
    }

    fn take_delivery(&mut self, delivery: DeliveryRef, payload: &[u8]) -> Result<()> {
        let Some(Stage::Draining { index, delivered, .. }) = self.stages.get_mut(&delivery.link) else {
            return Ok(());
        };
        let stamp = Stamp::of_message(payload)?;
        self.work.check.record(*index, stamp.as_ref())?;
        *delivered += 1;
        ensure!(*delivered <= self.work.messages, "message session {index} delivered more than its credit");
        if let Some(stamp) = stamp {
            let latency = self.run.watch.nanos().saturating_sub(stamp.sent_ns);
            self.held.delivered.saturating_record(latency);
        }
        self.run.progress.delivered.fetch_add(1, Relaxed);
        self.burst.push(delivery);
        Ok(())
    }

    fn complete_burst(&mut self) -> Result<()> {
        let burst = std::mem::take(&mut self.burst);
        let at_once = self.work.settle == SettleMode::First;
        self.client.engine.settle(&burst, &links::ACCEPTED, at_once);
        if at_once {
            self.completed(&burst)?;
        }
        self.burst = burst;
        self.burst.clear();
        Ok(())
    }

    fn take_confirmation(&mut self, deliveries: &[DeliveryRef], state: Option<DeliveryState>) -> Result<()> {
        match state {
            Some(DeliveryState::Outcome(Outcome::Accepted)) | None => self.completed(deliveries),
            Some(DeliveryState::Outcome(Outcome::Rejected(error))) => {
                bail!("the broker refused a completion: {}", describe(error.as_ref()))
            }
            state => bail!("the broker answered a completion with {state:?}"),
        }
    }

    fn completed(&mut self, deliveries: &[DeliveryRef]) -> Result<()> {
        self.run.progress.add_completed(deliveries.len(), self.run.watch.nanos());
        for delivery in deliveries {
            let Some(stage) = self.stages.get_mut(&delivery.link) else { continue };
            let Stage::Draining { completed, granted_ns, .. } = stage else { continue };
            *completed += 1;
            if *completed == self.work.messages {
                *stage = Stage::Closing { granted_ns: *granted_ns };
                self.client.engine.detach(delivery.link, None);
            }
        }
        Ok(())
    }

    fn take_end(&mut self, link: LinkId, error: Option<&Error>, answered: bool) -> Result<()> {
        if !answered {
            self.client.engine.detach(link, None);
        }
        match self.stages.remove(&link) {
            Some(Stage::Closing { granted_ns }) => {
                let now = self.run.watch.nanos();
                self.held.hold.saturating_record(now.saturating_sub(granted_ns));
                self.run.progress.add_closed(now);
                self.accept_next()
            }
            Some(Stage::Accepting) if error.is_some_and(|e| e.condition.as_str() == condition::TIMEOUT) => {
                self.held.timed_out += 1;
                self.attach()
            }
            Some(Stage::Accepting) => bail!("the broker refused an accept: {}", describe(error)),
            Some(Stage::Draining { index, .. }) => {
                bail!("the broker detached the receiver of message session {index}: {}", describe(error))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_message_sessions_lead_back_to_their_index() {
        let name = message_session_name(0xfeed, 42);
        assert_eq!(index_of(0xfeed, &name), Some(42));
        assert_eq!(index_of(0xbeef, &name), None);
        assert_eq!(index_of(0xfeed, "orders"), None);
    }
}
