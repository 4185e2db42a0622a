//! One task per connection: reads, writes and waits for a [`Connection`], which does the rest.
//! No domain rules here.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use lockstep_broker::runtime::{BrokerWaiter, ToConnection};
use lockstep_model::{Clock, MonoTime, Now};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep},
};
use tokio_util::{io::poll_read_buf, sync::CancellationToken};

use crate::{
    connection::Connection,
    newcomers::Newcomer,
    turns::{HeavyTurn, Turns},
};

/// Bytes of a thread's read buffer when it is new.
const READ_BYTES: usize = 128 * 1024;
/// Room in it under which it is made new.
const READ_BYTES_MIN: usize = 32 * 1024;
/// Slices that one vectored write may carry.
const WRITE_SLICES_MAX: usize = 64;
/// How long the last bytes of a connection may take to leave.
const FINAL_FLUSH_WAIT: Duration = Duration::from_secs(5);
/// How long the last bytes of a peer may take to be announced after a write has failed.
const FINAL_READ_WAIT: Duration = Duration::from_secs(5);

/// How long a peer has to close its side after the last bytes have left.
const LINGER_WAIT: Duration = Duration::from_secs(1);
/// Bytes of it that are passed over meanwhile.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

enum Io {
    Read,
    Wrote,
    WriteFailed,
    Ended,
}

/// What a connection waited for.
enum Step {
    Io(Io),
    Received,
    TimerElapsed,
    TurnedAway,
    Stopping,
    /// Something is left of the last turn, or the broker takes the next burst.
    GoOn,
}

/// What the drivers of a server share.
#[derive(Clone)]
pub(crate) struct Driving {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) turns: Arc<Turns>,
}

/// Drives a connection to its end.
pub(crate) async fn drive<S>(
    mut stream: S,
    mut connection: Connection,
    Driving { clock, shutdown, turns }: Driving,
    newcomer: Newcomer,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut items: Vec<ToConnection> = Vec::new();
    let mut waiter: Option<BrokerWaiter> = None;
    let mut stopping = false;
    let mut timer = Timer::new();
    let mut newcomer = Some(newcomer);
    let mut turn: Option<HeavyTurn<'_>> = None;
    loop {
        connection.settle_turn();
        drop(turn.take());
        if let Some(at) = connection.did_little() {
            turns.courtesy().note_little(at);
        }
        if connection.is_authenticated() {
            newcomer = None;
        }
        if connection.broker().is_none() {
            // What is still in the inbox is put back by the broker.
            waiter = None;
        } else if waiter.is_none() {
            waiter = connection.broker().map(lockstep_broker::runtime::BrokerConnection::waiter);
        }
        if connection.is_closed() {
            break;
        }
        timer.set(connection.next_timeout(), &*clock);
        let waits_to_submit = connection.waits_to_submit();
        let mut waited = false;
        let step = tokio::select! {
            io = poll_fn(|cx| {
                let polled = poll_io(cx, &mut stream, &mut connection);
                waited |= polled.is_pending();
                polled
            }) => Step::Io(io),
            () = receive(waiter.as_ref(), &mut items), if connection.may_receive() => Step::Received,
            () = submittable(waiter.as_ref()), if waits_to_submit => Step::GoOn,
            () = std::future::ready(()), if connection.has_more() => Step::GoOn,
            () = timer.elapsed() => Step::TimerElapsed,
            () = turned_away(newcomer.as_ref()), if !stopping => Step::TurnedAway,
            () = shutdown.cancelled(), if !stopping => Step::Stopping,
        };
        if waited {
            connection.rested();
        }
        if !matches!(step, Step::Io(Io::WriteFailed)) {
            turn = stand_in_line(&mut connection, &turns, &*clock).await;
        }
        stopping |= matches!(step, Step::Stopping);
        match step {
            Step::Io(Io::WriteFailed) => read_the_rest(&mut stream, &mut connection, &*clock).await,
            step => act(step, &mut connection, &mut items, clock.now()),
        }
    }
    drop(turn);
    // The peer may have gone or may not read: the last bytes are sent on a best effort.
    let finished = tokio::time::timeout(FINAL_FLUSH_WAIT, finish(&mut stream, &mut connection)).await;
    if matches!(finished, Ok(Ok(()))) {
        let _ended = tokio::time::timeout(LINGER_WAIT, linger(&mut stream)).await;
    }
}

/// Waits for a turn, if the connection needs one: a peer that sends without end must not keep others
/// from being read, nor many that come and go.
async fn stand_in_line<'a>(
    connection: &mut Connection,
    turns: &'a Turns,
    clock: &dyn Clock,
) -> Option<HeavyTurn<'a>> {
    if !connection.is_heavy() && (connection.broker().is_some() || !turns.courtesy().is_due(clock.now().mono))
    {
        return None;
    }
    // What was read counts already while it stands there, for there may be many.
    connection.note_holdings();
    turns.next(clock.now().mono).await
}

/// Lets the connection do what it has waited for.
fn act(step: Step, connection: &mut Connection, items: &mut Vec<ToConnection>, now: Now) {
    match step {
        Step::Io(Io::Read) => connection.process(now),
        Step::Io(Io::Wrote | Io::WriteFailed) | Step::GoOn => {}
        Step::Io(Io::Ended) => connection.transport_closed(now),
        Step::Received => connection.received(items, now),
        Step::TimerElapsed => connection.on_timeout(now),
        // Closed by that: it is asked no more whether it is turned away.
        Step::TurnedAway => connection.turn_away(now),
        Step::Stopping => connection.shut_down(),
    }
}

async fn receive(waiter: Option<&BrokerWaiter>, items: &mut Vec<ToConnection>) {
    match waiter {
        Some(waiter) => waiter.receive(items).await,
        None => std::future::pending().await,
    }
}

async fn submittable(waiter: Option<&BrokerWaiter>) {
    match waiter {
        Some(waiter) => waiter.submittable().await,
        None => std::future::pending().await,
    }
}

async fn turned_away(newcomer: Option<&Newcomer>) {
    match newcomer {
        Some(newcomer) => newcomer.turned_away().cancelled().await,
        None => std::future::pending().await,
    }
}

/// Writes and reads, each as far as it goes at once. A failed write does not hide what the peer
/// sent before it went: reading goes on to its end.
fn poll_io<S>(cx: &mut Context<'_>, stream: &mut S, connection: &mut Connection) -> Poll<Io>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wrote = match poll_write_some(cx, stream, connection) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    };
    if matches!(wrote, Some(Err(_))) || connection.may_read() {
        let bytes_max = connection.read_bytes_max();
        match poll_read_some(cx, stream, connection.engine.receive_buffer(), bytes_max) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Io::Ended),
            Poll::Ready(Ok(count)) => {
                connection.note_bytes(count);
                return Poll::Ready(Io::Read);
            }
            Poll::Pending => {}
        }
    }
    match wrote {
        Some(Ok(())) => Poll::Ready(Io::Wrote),
        Some(Err(_)) => Poll::Ready(Io::WriteFailed),
        None => Poll::Pending,
    }
}

/// A socket may refuse a write before it announces what the peer had sent, for instance the close
/// of a peer that does not wait for the answer. Waits for the next of it, or for the end.
async fn read_the_rest<S>(stream: &mut S, connection: &mut Connection, clock: &dyn Clock)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let read = poll_fn(|cx| poll_read_some(cx, stream, connection.engine.receive_buffer(), READ_BYTES));
    match tokio::time::timeout(FINAL_READ_WAIT, read).await {
        Ok(Ok(1..)) => connection.process(clock.now()),
        Ok(_) | Err(_) => connection.transport_closed(clock.now()),
    }
}

thread_local! {
    /// What reads go into: one for each thread, so that an idle connection holds no buffer and a
    /// busy one allocates once for many reads. Connections get slices of it.
    static READ_BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Reads once and appends to `received`; says how many bytes came.
fn poll_read_some<S>(
    cx: &mut Context<'_>,
    stream: &mut S,
    received: &mut BytesMut,
    bytes_max: usize,
) -> Poll<io::Result<usize>>
where
    S: AsyncRead + Unpin,
{
    READ_BUFFER.with_borrow_mut(|buffer| {
        if buffer.capacity() < READ_BYTES_MIN {
            // Takes the same memory again where no connection holds a slice of it any more.
            buffer.reserve(READ_BYTES);
        }
        let count = ready!(poll_read_buf(Pin::new(stream), cx, &mut buffer.limit(bytes_max)))?;
        let read = buffer.split();
        if received.is_empty() {
            *received = read;
        } else {
            received.extend_from_slice(&read);
        }
        Poll::Ready(Ok(count))
    })
}

/// Pending also when there is nothing to write.
fn poll_write_some<S>(
    cx: &mut Context<'_>,
    stream: &mut S,
    connection: &mut Connection,
) -> Poll<io::Result<()>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if connection.engine.outbox_bytes() == 0 {
        // A TLS stream may hold bytes of its own.
        if let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        return Poll::Pending;
    }
    let mut slices = [io::IoSlice::new(&[]); WRITE_SLICES_MAX];
    let filled = connection.engine.transmit_slices(&mut slices);
    let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..filled]))?;
    if written == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    connection.engine.transmitted(written);
    connection.wrote(written);
    Poll::Ready(Ok(()))
}

/// Sends the last bytes and closes the transport for writing.
async fn finish<S>(stream: &mut S, connection: &mut Connection) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while connection.engine.outbox_bytes() > 0 {
        poll_fn(|cx| poll_write_some(cx, stream, connection)).await?;
    }
    stream.flush().await?;
    stream.shutdown().await
}

/// Reads what the peer still sends and passes it over: a socket that is closed with bytes unread
/// resets the connection, and the peer may lose the close that says why.
async fn linger<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + Unpin,
{
    let mut passed_over = BytesMut::new();
    let mut bytes = 0;
    while bytes < LINGER_BYTES_MAX {
        let read = poll_fn(|cx| poll_read_some(cx, stream, &mut passed_over, READ_BYTES)).await?;
        if read == 0 {
            break;
        }
        bytes += read;
        passed_over.clear();
    }
    Ok(())
}

/// A timer that is re-armed only when the deadline comes nearer or has fired: most deadlines
/// move back with every frame, and firing early costs nothing but a look.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: bool,
}

impl Timer {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(Duration::ZERO)), armed: false }
    }

    fn set(&mut self, deadline: Option<MonoTime>, clock: &dyn Clock) {
        let Some(deadline) = deadline else {
            self.armed = false;
            return;
        };
        let at = Instant::now() + clock.now().mono.until(deadline);
        if !self.armed || at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
            self.armed = true;
        }
    }

    async fn elapsed(&mut self) {
        if !self.armed {
            std::future::pending::<()>().await;
        }
        self.sleep.as_mut().await;
        self.armed = false;
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A socket that is closed with bytes unread resets the connection, and what it had sent is
    /// lost with it.
    #[tokio::test]
    async fn a_peer_that_still_sends_reads_the_last_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        peer.write_all(&[0; 64 * 1024]).await.unwrap();
        stream.write_all(b"the reason").await.unwrap();
        stream.shutdown().await.unwrap();
        let leaving = tokio::spawn(async move { linger(&mut stream).await });
        peer.write_all(&[0; 64 * 1024]).await.unwrap();
        let mut last = Vec::new();
        peer.read_to_end(&mut last).await.unwrap();
        drop(peer);
        leaving.await.unwrap().unwrap();
        assert_eq!(last, b"the reason");
    }

    #[tokio::test]
    async fn a_peer_that_never_stops_is_left() {
        let (mut stream, mut peer) = tokio::io::duplex(64 * 1024);
        let sending = tokio::spawn(async move { while peer.write_all(&[0; 64 * 1024]).await.is_ok() {} });
        linger(&mut stream).await.unwrap();
        drop(stream);
        sending.await.unwrap();
    }
}
