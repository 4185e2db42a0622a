//! One client connection: our own engine in the client role over any byte stream.

use std::{
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

/// Bytes that one read may bring.
const READ_BYTES: usize = 64 << 10;

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

/// Plain TCP.
#[derive(Clone, Debug)]
pub(super) struct TcpDial {
    pub(super) address: String,
}

impl Dial for TcpDial {
    type Stream = tokio::net::TcpStream;

    async fn dial(&self) -> io::Result<Self::Stream> {
        let stream = tokio::net::TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A connection with one AMQP session.
#[derive(Debug)]
pub(super) struct Client<S> {
    /// For commands and questions; bytes are moved by [`Self::turn`].
    pub(super) engine: Connection,
    /// The connection's one AMQP session.
    pub(super) amqp_session: AmqpSessionId,
    stream: S,
    tick: Interval,
    watch: Stopwatch,
}

enum Io {
    Wrote,
    Read,
    Ended,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Connects, authenticates, opens and begins.
    pub(super) async fn open<D>(dial: &D, endpoint: &Endpoint, name: &str, watch: Stopwatch) -> Result<Self>
    where
        D: Dial<Stream = S>,
    {
        let stream = dial.dial().await.with_context(|| format!("cannot connect to {}", endpoint.address))?;
        let config = Config {
            container_id: name.into(),
            hostname: Some(endpoint.hostname.as_str().into()),
            idle_time_out_ms: None,
            ..Config::default()
        };
        let mut engine = Connection::client(Arc::new(config), Some(endpoint.sasl()), watch.time());
        let amqp_session = engine.begin().context("the engine gave no AMQP session")?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut client = Self { engine, amqp_session, stream, tick, watch };
        loop {
            match client.event().await {
                Ok(Event::AmqpSessionBegun(_)) => return Ok(client),
                Ok(_) => {}
                Err(error) => {
                    let policy = endpoint.policy();
                    return Err(error.context(format!("opening a connection as policy {policy} failed")));
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
        let Self { engine, stream, tick, watch, .. } = self;
        tokio::select! {
            biased;
            io = poll_fn(|cx| poll_io(cx, stream, engine)) => match io.context("the transport failed")? {
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
        let name = attach.name.clone();
        let wish = self.engine.attach(self.amqp_session, attach);
        let link = wish.with_context(|| format!("the engine has no room for link {name}"))?;
        loop {
            match self.event().await? {
                Event::AttachAnswered { link: answered, attach }
                    if answered == link && !is_refusal(&attach) =>
                {
                    return Ok(link);
                }
                Event::Detached { link: ended, error, .. } if ended == link => {
                    bail!("the broker refused link {name}: {}", describe(error.as_ref()));
                }
                _ => {}
            }
        }
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

fn poll_io<S>(cx: &mut Context<'_>, stream: &mut S, engine: &mut Connection) -> Poll<io::Result<Io>>
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
    }
    if wrote {
        return Poll::Ready(Ok(Io::Wrote));
    }
    if !engine.wants_input() {
        return Poll::Pending;
    }
    let buffer = engine.receive_buffer();
    buffer.reserve(READ_BYTES);
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
