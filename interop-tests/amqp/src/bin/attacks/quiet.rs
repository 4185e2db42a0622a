//! The client that does no harm: now and then it sends a message, receives and completes it.

use std::time::Duration;

use lockstep_amqp::LinkId;
use lockstep_interop_amqp::{Broker, Client, Deadline, Outcome, text_message, wait_for_time_to_pass};

/// Its queue.
const QUEUE: &str = "quiet";
/// Pause between two messages.
const PAUSE: Duration = Duration::from_millis(4);

/// Times of whole rounds: sent and accepted, received, completed and confirmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) count: usize,
    pub(crate) p50_micros: u64,
    pub(crate) p99_micros: u64,
    pub(crate) most_micros: u64,
}

impl Latency {
    fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let at = |share: usize| {
            let index = (micros.len() * share / 100).min(micros.len().saturating_sub(1));
            micros.get(index).copied().unwrap_or_default()
        };
        Self { count: micros.len(), p50_micros: at(50), p99_micros: at(99), most_micros: at(100) }
    }
}

pub(crate) struct Quiet {
    client: Client,
    sender: LinkId,
    receiver: LinkId,
}

impl Quiet {
    pub(crate) fn connect(broker: &Broker) -> Outcome<Self> {
        let mut client = broker.connect()?;
        let sender = client.sender(QUEUE)?;
        let receiver = client.receiver(QUEUE, 1)?;
        let mut quiet = Self { client, sender, receiver };
        quiet.round()?;
        Ok(quiet)
    }

    fn round(&mut self) -> Outcome {
        self.client.send(self.sender, text_message("quiet", None))?;
        let delivery = self.client.receive(self.receiver)?;
        self.client.complete(&delivery)?;
        self.client.credit(self.receiver, 1)
    }

    /// Goes on for `time`, or until `is_over`.
    pub(crate) fn measure(
        &mut self,
        time: Duration,
        mut is_over: impl FnMut() -> Outcome<bool>,
    ) -> Outcome<Latency> {
        let all = Deadline::after(time);
        let mut micros = Vec::new();
        while all.left().is_some() && !is_over()? {
            let round = Deadline::after(time);
            self.round()?;
            micros.push(u64::try_from(round.passed().as_micros()).unwrap_or(u64::MAX));
            wait_for_time_to_pass(PAUSE);
        }
        Ok(Latency::of(micros))
    }

    pub(crate) fn close(self) -> Outcome {
        self.client.close()
    }
}
