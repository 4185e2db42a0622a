//! A connection that receives from a queue without message sessions and completes.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use lockstep_amqp::{
    DeliveryRef, Event, LinkId,
    types::{DeliveryState, Outcome},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{
    args::SettleMode,
    check::Ledger,
    client::{Client, Dial, READ_BYTES_BUSY, describe},
    endpoint::Endpoint,
    links, report,
    sender::Run,
    stamp::Stamp,
};

/// What a receiver saw.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) ledger: Ledger,
    /// Times from send to delivery, in nanoseconds.
    pub(super) latency: Histogram<u64>,
}

/// What a receiver is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiverPlan<'a> {
    pub(super) queue: &'a str,
    pub(super) settle: SettleMode,
    /// Credit that it keeps.
    pub(super) credit: u32,
    /// How many senders the run has.
    pub(super) senders: usize,
}

/// One receiving link on its own connection.
#[derive(Debug)]
pub(super) struct Receiver<S> {
    client: Client<S>,
    link: LinkId,
    settle: SettleMode,
    credit: u32,
    run: Run,
    received: Received,
    /// Deliveries of this burst, to be completed together.
    burst: Vec<DeliveryRef>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    /// Connects and attaches; credit is given by [`Self::drain`].
    pub(super) async fn open<D: Dial<Stream = S>>(
        dial: &D,
        endpoint: &Endpoint,
        run: &Run,
        name: &str,
        plan: ReceiverPlan<'_>,
    ) -> Result<Self> {
        let mut client = Client::open(dial, endpoint, name, READ_BYTES_BUSY, run.watch).await?;
        links::authorise(&mut client, endpoint, plan.queue).await?;
        let link = client.attach(links::receiver(name, plan.queue, plan.settle)).await?;
        let received = Received { ledger: Ledger::new(run.id, plan.senders), latency: report::histogram()? };
        let (settle, credit) = (plan.settle, plan.credit);
        Ok(Self { client, link, settle, credit, run: run.clone(), received, burst: Vec::new() })
    }

    /// Receives and completes until told to stop.
    pub(super) async fn drain(mut self, mut stop: watch::Receiver<bool>) -> Result<Received> {
        self.client.engine.set_credit_auto(self.link, self.credit);
        loop {
            while let Some(event) = self.client.poll_event()? {
                self.take(event)?;
            }
            self.complete_burst();
            tokio::select! {
                biased;
                turned = self.client.turn() => turned?,
                _ = stop.changed() => break,
            }
        }
        self.client.close().await;
        Ok(self.received)
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Delivery { delivery, payload, .. } => {
                let stamp = Stamp::of_message(&payload)?;
                if self.received.ledger.record(stamp.as_ref())
                    && let Some(stamp) = stamp
                {
                    let latency = self.run.watch.nanos().saturating_sub(stamp.sent_ns);
                    self.received.latency.saturating_record(latency);
                    self.run.progress.delivered.fetch_add(1, Relaxed);
                } else {
                    self.run.progress.foreign.fetch_add(1, Relaxed);
                }
                self.burst.push(delivery);
                Ok(())
            }
            Event::Disposed { deliveries, state, .. } => self.take_confirmation(&deliveries, state),
            Event::Detached { link, error, .. } if link == self.link => {
                bail!("the broker detached the receiver: {}", describe(error.as_ref()))
            }
            _ => Ok(()),
        }
    }

    fn take_confirmation(&mut self, deliveries: &[DeliveryRef], state: Option<DeliveryState>) -> Result<()> {
        match state {
            Some(DeliveryState::Outcome(Outcome::Accepted)) | None => {
                self.run.progress.add_completed(deliveries.len(), self.run.watch.nanos());
                Ok(())
            }
            Some(DeliveryState::Outcome(Outcome::Rejected(error))) => {
                bail!("the broker refused a completion: {}", describe(error.as_ref()))
            }
            state => bail!("the broker answered a completion with {state:?}"),
        }
    }

    fn complete_burst(&mut self) {
        if self.burst.is_empty() {
            return;
        }
        let at_once = self.settle == SettleMode::First;
        self.client.engine.settle(&self.burst, &links::ACCEPTED, at_once);
        if at_once {
            self.run.progress.add_completed(self.burst.len(), self.run.watch.nanos());
        }
        self.burst.clear();
    }
}
