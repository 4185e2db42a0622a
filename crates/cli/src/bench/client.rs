//! One client connection: our own engine in the client role over any byte stream.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use lockstep_amqp::{
    AmqpSessionId, CloseReason, Config, Connection, Event, LinkId,
    types::{Attach, Error, Role},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    time::{Interval, MissedTickBehavior},
};

use super::{clock::Stopwatch, endpoint::Endpoint};

/// Bytes that one read may bring on a connection that carries messages.
pub(super) const READ_BYTES_BUSY: usize = 64 << 10;

/// The same on one of very many idle connections: each keeps a buffer of this size.
pub(super) const READ_BYTES_IDLE: usize = 2 << 10;

/// Attaches under way at a time on a connection that attaches many links.
const ATTACH_BATCH: usize = 64;

/// Slices that one write may carry.
const WRITE_SLICES_MAX: usize = 64;

/// How often the engine's deadlines (heartbeats above all) are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How long close may take.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// Makes transports.
pub(super) trait Dial: Clone + Send + Sync + 'static {
    /// A byte stream to the broker.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects.
    fn dial(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A connection with one AMQP session.
#[derive(Debug)]
pub(super) struct Client<S> {
    /// For commands and questions; bytes are moved by [`Self::turn`].
    pub(super) engine: Connection,
    /// The connection's one AMQP session.
    pub(super) amqp_session: AmqpSessionId,
    stream: S,
    /// Whether the stream (TLS above all) may hold bytes that it has taken and not yet sent on.
    unflushed: bool,
    read_bytes: usize,
    tick: Interval,
    watch: Stopwatch,
}

enum Io {
    Wrote,
    Read,
    Ended,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Connects, authenticates, opens and begins. `read_bytes` is what one read may bring.
    pub(super) async fn open<D>(
        dial: &D,
        endpoint: &Endpoint,
        name: &str,
        read_bytes: usize,
        watch: Stopwatch,
    ) -> Result<Self>
    where
        D: Dial<Stream = S>,
    {
        let stream = dial.dial().await;
        let stream = stream.with_context(|| format!("cannot connect to {}", endpoint.address.host_port()))?;
        let config = Config {
            container_id: name.into(),
            hostname: Some(endpoint.hostname.as_str().into()),
            idle_time_out_ms: None,
            ..Config::default()
        };
        let mut engine = Connection::client(Arc::new(config), endpoint.sasl(), watch.time());
        let amqp_session = engine.begin().context("the engine gave no AMQP session")?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut client = Self { engine, amqp_session, stream, unflushed: false, read_bytes, tick, watch };
        loop {
            match client.event().await {
                Ok(Event::AmqpSessionBegun(_)) => return Ok(client),
                Ok(_) => {}
                Err(error) => {
                    let identity = endpoint.identity();
                    return Err(error.context(format!("opening a connection as {identity} failed")));
                }
            }
        }
    }

    /// The next event if one is there; an error if the connection is over.
    pub(super) fn poll_event(&mut self) -> Result<Option<Event>> {
        match self.engine.poll_event() {
            Some(Event::Closed(reason)) => Err(closed(&reason)),
            Some(Event::AmqpSessionEnded { error, .. }) => {
                Err(anyhow!("the broker ended the AMQP session: {}", describe(error.as_ref())))
            }
            event => Ok(event),
        }
    }

    /// Waits for the next event.
    pub(super) async fn event(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.poll_event()? {
                return Ok(event);
            }
            self.turn().await?;
        }
    }

    /// Writes what is to be written; if there was nothing, waits for bytes and takes them in. Can
    /// be dropped at any point.
    pub(super) async fn turn(&mut self) -> Result<()> {
        let Self { engine, stream, unflushed, read_bytes, tick, watch, .. } = self;
        tokio::select! {
            biased;
            io = poll_fn(|cx| poll_io(cx, stream, engine, unflushed, *read_bytes)) => match io.context("the transport failed")? {
                Io::Wrote => {}
                Io::Read => engine.process(watch.time()),
                Io::Ended => engine.transport_closed(watch.time()),
            },
            _ = tick.tick() => engine.on_timeout(watch.time()),
        }
        Ok(())
    }

    /// Attaches a link and waits for the answer. Events of other links are dropped, so it is for
    /// the beginning, before any credit was given.
    pub(super) async fn attach(&mut self, attach: Attach) -> Result<LinkId> {
        let mut waiting = HashMap::new();
        let link = self.begin_attach(attach, &mut waiting)?;
        self.attached(waiting).await?;
        Ok(link)
    }

    /// Attaches many links, some at a time, and waits for all answers. Like [`Self::attach`], for
    /// the beginning.
    pub(super) async fn attach_all(&mut self, attaches: impl Iterator<Item = Attach>) -> Result<()> {
        let mut attaches = attaches.peekable();
        while attaches.peek().is_some() {
            let mut waiting = HashMap::new();
            for attach in attaches.by_ref().take(ATTACH_BATCH) {
                self.begin_attach(attach, &mut waiting)?;
            }
            self.attached(waiting).await?;
        }
        Ok(())
    }

    fn begin_attach(&mut self, attach: Attach, waiting: &mut HashMap<LinkId, Box<str>>) -> Result<LinkId> {
        let name = attach.name.clone();
        let link = self.engine.attach(self.amqp_session, attach);
        let link = link.with_context(|| format!("the engine has no room for link {name}"))?;
        waiting.insert(link, name);
        Ok(link)
    }

    /// Waits until the broker has answered all of `waiting`.
    async fn attached(&mut self, mut waiting: HashMap<LinkId, Box<str>>) -> Result<()> {
        while !waiting.is_empty() {
            match self.event().await? {
                Event::AttachAnswered { link, attach } if !is_refusal(&attach) => {
                    waiting.remove(&link);
                }
                Event::Detached { link, error, .. } => {
                    if let Some(name) = waiting.get(&link) {
                        bail!("the broker refused link {name}: {}", describe(error.as_ref()));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Closes the connection and waits a little for the broker's close.
    pub(super) async fn close(mut self) {
        self.engine.close(None);
        let ended = async {
            loop {
                match self.engine.poll_event() {
                    Some(Event::Closed(_)) => return,
                    Some(_) => {}
                    None if self.turn().await.is_err() => return,
                    None => {}
                }
            }
        };
        // A broker that does not answer is left alone.
        let _late = tokio::time::timeout(CLOSE_WAIT, ended).await;
    }
}

fn poll_io<S>(
    cx: &mut Context<'_>,
    stream: &mut S,
    engine: &mut Connection,
    unflushed: &mut bool,
    read_bytes: usize,
) -> Poll<io::Result<Io>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wrote = false;
    while engine.outbox_bytes() > 0 {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        let filled = engine.transmit_slices(&mut slices);
        // What is left may wait for the peer's window.
        let Some(slices) = slices.get(..filled).filter(|slices| !slices.is_empty()) else { break };
        match Pin::new(&mut *stream).poll_write_vectored(cx, slices)? {
            Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(count) => engine.transmitted(count),
            Poll::Pending => break,
        }
        wrote = true;
        *unflushed = true;
    }
    if *unflushed && Pin::new(&mut *stream).poll_flush(cx)?.is_ready() {
        *unflushed = false;
    }
    if wrote {
        return Poll::Ready(Ok(Io::Wrote));
    }
    if !engine.wants_input() {
        return Poll::Pending;
    }
    let buffer = engine.receive_buffer();
    buffer.reserve(read_bytes);
    match pin!(stream.read_buf(buffer)).poll(cx)? {
        Poll::Ready(0) => Poll::Ready(Ok(Io::Ended)),
        Poll::Ready(_) => Poll::Ready(Ok(Io::Read)),
        Poll::Pending => Poll::Pending,
    }
}

/// Whether an answer to our attach announces a detach: it lacks the terminus of the broker's end.
pub(super) fn is_refusal(answer: &Attach) -> bool {
    match answer.role {
        Role::Sender => answer.source.is_none(),
        Role::Receiver => answer.target.is_none(),
    }
}

/// An error in words.
pub(super) fn describe(error: Option<&Error>) -> String {
    match error {
        None => "no reason given".to_owned(),
        Some(Error { condition, description: Some(text), .. }) => format!("{condition}: {text}"),
        Some(Error { condition, .. }) => condition.to_string(),
    }
}

fn closed(reason: &CloseReason) -> anyhow::Error {
    match reason {
        CloseReason::Remote(error) => {
            anyhow!("the broker closed the connection: {}", describe(error.as_ref()))
        }
        CloseReason::Local(error) => anyhow!("the connection was closed: {}", describe(error.as_ref())),
        CloseReason::Lost => anyhow!("the broker ended the transport without close"),
        CloseReason::SaslFailed => anyhow!("the broker refused the credentials"),
    }
}
