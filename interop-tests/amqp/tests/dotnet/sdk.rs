//! Plays the .NET SDK: its frames, in its order, with all that the letter of AMQP would not have.
//! An AMQP session for every link and every pair of request links, a token before each, settled
//! requests that share one empty tag, receivers that drain, settlements that wait for the broker's
//! word. Every answer goes through the casts of the SDK (`casts.rs`).

mod deliveries;
mod links;
mod requests;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use lockstep_amqp::{
    codec::Frame,
    types::{
        Attach, Begin, Close, Detach, Disposition, End, Fields, Flow, Open, Performative, Transfer, Value,
    },
};
use lockstep_interop_amqp::{AMQP_HEADER, ANSWER, Deadline, Failed, HOST, Message, Outcome, RawConnection};

use crate::{casts, suite::Scenario};

/// Link property: how long the client waits, in milliseconds.
const TIMEOUT: &str = "com.microsoft:timeout";
/// What remains of the SDK's 60 seconds for an operation, in milliseconds.
const REMAINING_MILLIS: u32 = 59_812;
/// max-frame-size, in bytes (AmqpConstants.cs).
const FRAME_BYTES: usize = 65_536;
/// Bytes of a message in one frame; the rest is the transfer's fields.
const FRAGMENT_BYTES: usize = FRAME_BYTES - 512;
/// Credit of the receiving link of a pair (RequestResponseAmqpLink.cs).
const PAIR_CREDIT: u32 = 50;

/// How messages are received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    PeekLock,
    ReceiveAndDelete,
}

/// What is received from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From<'a> {
    Queue,
    /// As Microsoft.Azure.ServiceBus attached: without a target.
    QueueWithoutTarget,
    MessageSession(&'a str),
    NextMessageSession {
        wait_millis: u32,
    },
}

/// A frame that came, on our channel.
#[derive(Debug)]
struct Seen {
    channel: u16,
    performative: Performative,
    payload: Bytes,
}

/// A pair of request links.
#[derive(Debug)]
pub(crate) struct Pair {
    channel: u16,
    reply_to: String,
    requests: u32,
}

/// A sending link.
#[derive(Debug)]
pub(crate) struct Sender {
    channel: u16,
    deliveries: u32,
    /// max-message-size, in bytes
    pub(crate) max_message_size: u64,
}

/// A receiving link.
#[derive(Debug)]
pub(crate) struct Receiver {
    channel: u16,
    mode: Mode,
    attach: Attach,
    delivery_count: u32,
    credit: u32,
    unsettled: HashSet<Bytes>,
    /// The id that was granted.
    pub(crate) message_session: Option<String>,
}

impl Receiver {
    /// Its link's name.
    pub(crate) fn name(&self) -> &str {
        &self.attach.name
    }
}

/// A delivery.
#[derive(Debug)]
pub(crate) struct Delivery {
    id: u32,
    pub(crate) tag: Bytes,
    pub(crate) message: Message,
    /// How many frames it took.
    pub(crate) frames: usize,
}

/// A connection.
pub(crate) struct Sdk<'s> {
    s: &'s Scenario,
    raw: RawConnection,
    container: String,
    identifiers: u32,
    channels_begun: u16,
    /// The broker's channels, and ours.
    channels: HashMap<u16, u16>,
    inbox: Vec<Seen>,
    cbs: Option<Pair>,
}

impl<'s> Sdk<'s> {
    /// Connects to the scenario's broker.
    pub(crate) fn connect(s: &'s Scenario) -> Outcome<Self> {
        Self::connect_to(s, s.broker().address(), Some(HOST))
    }

    /// Connects, up to the pair of `$cbs` links (AmqpConnectionScope.cs). SASL without a host.
    pub(crate) fn connect_to(s: &'s Scenario, address: SocketAddr, hostname: Option<&str>) -> Outcome<Self> {
        let mut raw = RawConnection::connect(address)?;
        assert_eq!(raw.sasl("MSSBCBS", None, None)?, 0);
        raw.write(&AMQP_HEADER)?;
        let mut properties = Fields::default();
        properties.insert("product", Value::string("Azure.Messaging.ServiceBus"));
        properties.insert("version", Value::Null);
        properties.insert("framework", Value::string(".NET 10.0.0"));
        let container = format!("{}-{:08x}", s.queue(), std::process::id());
        let open = Open {
            container_id: container.as_str().into(),
            hostname: hostname.map(Into::into),
            max_frame_size: 65_536,
            channel_max: 8_191,
            idle_time_out: Some(60_000),
            outgoing_locales: Vec::new(),
            incoming_locales: Vec::new(),
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Some(properties),
        };
        raw.frame(0, Performative::Open(Box::new(open)))?;
        raw.expect_header(AMQP_HEADER)?;
        let (channels, inbox) = (HashMap::new(), Vec::new());
        let mut sdk =
            Self { s, raw, container, identifiers: 0, channels_begun: 0, channels, inbox, cbs: None };
        sdk.wait("open", |seen| {
            let open = matches!(seen.performative, Performative::Open(_));
            open.then(|| casts::handshake(&seen.performative))
        })?;
        let cbs = sdk.pair("$cbs", &[])?;
        sdk.cbs = Some(cbs);
        Ok(sdk)
    }

    fn identifier(&mut self) -> u32 {
        self.identifiers += 1;
        self.identifiers
    }

    fn guid(&mut self) -> String {
        format!("{:08x}-7c1d-4e8f-9a00-{:012x}", std::process::id(), self.identifier())
    }

    /// The first frame that `wanted` takes; others are kept until they are asked for.
    fn wait<T>(&mut self, what: &str, wanted: impl FnMut(&Seen) -> Option<T>) -> Outcome<T> {
        self.wait_for(what, ANSWER, wanted)
    }

    fn wait_for<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&Seen) -> Option<T>,
    ) -> Outcome<T> {
        let deadline = Deadline::after(within);
        let mut looked = 0;
        loop {
            while let Some(seen) = self.inbox.get(looked) {
                if let Some(value) = wanted(seen) {
                    self.inbox.remove(looked);
                    return Ok(value);
                }
                looked += 1;
            }
            let Some(left) = deadline.left() else {
                return Err(Failed::new(format!("{what} did not come, but {:?}", self.inbox)));
            };
            let frame = self.raw.next_frame(left);
            match frame
                .map_err(|error| Failed::new(format!("waiting for {what}: {error}; {:?}", self.inbox)))?
            {
                Some(Frame::Amqp { channel, performative, payload }) => {
                    self.came(channel, performative, payload);
                }
                Some(Frame::Heartbeat) => {}
                other => {
                    return Err(Failed::new(format!("{other:?} instead of {what}; {:?}", self.inbox)));
                }
            }
        }
    }

    fn came(&mut self, theirs: u16, performative: Performative, payload: Bytes) {
        if let Performative::Begin(begin) = &performative {
            self.channels.insert(theirs, begin.remote_channel.unwrap_or(theirs));
        }
        let window_only = matches!(&performative, Performative::Flow(flow) if flow.handle.is_none());
        if !window_only {
            let channel = self.channels.get(&theirs).copied().unwrap_or(theirs);
            self.inbox.push(Seen { channel, performative, payload });
        }
    }

    /// An AMQP session; `window` transfers may be unsettled in it.
    fn begin(&mut self, window: u32) -> Outcome<u16> {
        let channel = self.channels_begun;
        self.channels_begun += 1;
        let begin = Begin {
            remote_channel: None,
            next_outgoing_id: 1,
            incoming_window: window,
            outgoing_window: 5_000,
            handle_max: 262_143,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Some(Fields::default()),
        };
        self.raw.frame(channel, Performative::Begin(Box::new(begin)))?;
        self.wait("begin", |seen| {
            let begin = seen.channel == channel && matches!(seen.performative, Performative::Begin(_));
            begin.then(|| casts::handshake(&seen.performative))
        })?;
        Ok(channel)
    }

    fn wait_attach(&mut self, channel: u16, name: &str, within: Duration) -> Outcome<Attach> {
        self.wait_for("attach", within, |seen| match &seen.performative {
            Performative::Attach(attach) if seen.channel == channel && &*attach.name == name => {
                Some((**attach).clone())
            }
            _ => None,
        })
    }

    fn wait_credit(&mut self, channel: u16) -> Outcome {
        self.wait("credit", |seen| match &seen.performative {
            Performative::Flow(flow) => (seen.channel == channel && flow.link_credit > Some(0)).then_some(()),
            _ => None,
        })
    }

    fn flow(&mut self, channel: u16, handle: u32, delivery_count: u32, credit: u32, drain: bool) -> Outcome {
        let flow = Flow {
            next_incoming_id: Some(0),
            incoming_window: u32::MAX,
            next_outgoing_id: 1,
            outgoing_window: 2_048,
            handle: Some(handle),
            delivery_count: Some(delivery_count),
            link_credit: Some(credit),
            available: Some(0),
            drain,
            echo: false,
        };
        self.raw.frame(channel, Performative::Flow(flow))
    }

    /// A message in as many frames as it takes.
    fn transfer(&mut self, channel: u16, first: Transfer, message: &Bytes) -> Outcome {
        let mut rest = message.clone();
        let mut transfer = first;
        loop {
            let fragment = rest.split_to(rest.len().min(FRAGMENT_BYTES));
            transfer.more = !rest.is_empty();
            self.raw.transfer(channel, &transfer, &fragment)?;
            if rest.is_empty() {
                return Ok(());
            }
            transfer = Transfer { handle: transfer.handle, ..Transfer::default() };
        }
    }

    fn next_transfer(&mut self, channel: u16) -> Outcome<(Transfer, bool, Bytes)> {
        self.wait("a transfer", |seen| match &seen.performative {
            Performative::Transfer(transfer) if seen.channel == channel => {
                Some((transfer.clone(), transfer.more, seen.payload.clone()))
            }
            _ => None,
        })
    }

    /// Any frame.
    pub(crate) fn frame(&mut self, channel: u16, performative: Performative) -> Outcome {
        self.raw.frame(channel, performative)
    }

    fn wait_end(&mut self, channel: u16) -> Outcome {
        self.wait("end", |seen| match &seen.performative {
            Performative::End(end) if seen.channel == channel => {
                assert_eq!(end.error, None);
                Some(())
            }
            _ => None,
        })
    }

    /// Closes all: both links of each pair, their AMQP sessions, the connection, without waiting
    /// in between.
    pub(crate) fn close(mut self, pairs: &[&Pair]) -> Outcome {
        let cbs = self.cbs.take();
        for pair in pairs.iter().copied().chain(cbs.as_ref()) {
            for handle in [0, 1] {
                self.frame(pair.channel, Performative::Detach(Detach { handle, closed: true, error: None }))?;
            }
            self.frame(pair.channel, Performative::End(End::default()))?;
        }
        self.frame(0, Performative::Close(Close::default()))?;
        for pair in pairs.iter().copied().chain(cbs.as_ref()) {
            self.wait_end(pair.channel)?;
        }
        self.wait("close", |seen| match &seen.performative {
            Performative::Close(close) => {
                assert_eq!(close.error, None);
                Some(())
            }
            _ => None,
        })?;
        assert_eq!(self.raw.expect_end()?, None);
        Ok(())
    }
}

fn covers(disposition: &Disposition, id: u32) -> bool {
    (disposition.first..=disposition.last.unwrap_or(disposition.first)).contains(&id)
}
