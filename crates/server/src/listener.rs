//! Listeners: every address serves AMQP, AMQP over WebSocket and HTTP, and with a certificate
//! all of them over TLS, told apart by their first bytes.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use lockstep_admin::AdminError;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    administration::Head,
    client_certificate::ClientCertificate,
    config::ListenConfig,
    http::{self, Health, HttpServices, UpgradedBytes},
    newcomers::{Newcomer, Newcomers},
    sniff::{Replay, Sniffed, answer_and_close, sniff},
};

/// How long a peer may take to show what it speaks, and a TLS handshake to be done.
const SNIFF_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a final answer may take to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after an accept that failed for lack of descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 4_096;

/// The answer to first bytes that are no protocol of ours.
const NOT_UNDERSTOOD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\
Content-Length: 83\r\n\r\nThis port speaks AMQP 1.0, AMQP over WebSocket and HTTP. The first bytes are none.\n";
/// A fatal TLS alert, handshake_failure (RFC 8446, 6): the answer where there is no certificate, and
/// to a handshake that failed.
const TLS_ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 40];

/// How a connection came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TransportKind {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    WebSocket,
    /// WebSocket over TLS.
    WebSocketTls,
}

/// A connection on which the peer is about to send an AMQP header.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Its bytes.
    pub(crate) stream: ByteStream,
    /// Who it is.
    pub(crate) peer: SocketAddr,
    /// The host that the client named in its TLS handshake.
    pub(crate) sni: Option<String>,
    /// The certificate that it showed in that handshake and that was verified.
    pub(crate) certificate: Option<ClientCertificate>,
    /// How it came in.
    pub(crate) transport: TransportKind,
    /// Its place among those without a credential.
    pub(crate) newcomer: Newcomer,
}

/// What a listener hands connections to.
pub(crate) trait Services: Send + Sync + 'static {
    /// Serves an AMQP connection to its end.
    fn amqp(&self, accepted: Accepted) -> impl Future<Output = ()> + Send;

    /// Whether the broker does its work.
    fn health(&self) -> impl Future<Output = Health> + Send;

    /// Answers a request of the administration plane.
    fn administer(
        &self,
        head: Head,
        body: impl Future<Output = Result<Bytes, AdminError>> + Send,
    ) -> impl Future<Output = lockstep_admin::Reply> + Send;
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub(crate) struct BindError {
    /// The address.
    pub(crate) address: SocketAddr,
    /// What the system says.
    pub(crate) error: io::Error,
}

/// Bound sockets that accept nothing yet.
#[derive(Debug)]
pub(crate) struct Listener {
    sockets: Vec<(TcpListener, SocketAddr)>,
}

impl Listener {
    /// Binds all addresses; called within a Tokio runtime. Optional ones that cannot be bound
    /// are left out.
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub(crate) fn bind(listen: &[ListenConfig]) -> Result<Self, BindError> {
        let mut sockets = Vec::with_capacity(listen.len());
        for ListenConfig { address, optional } in listen {
            match bind(*address) {
                Ok(socket) => sockets.push(socket),
                Err(error) if *optional => {
                    tracing::debug!(%address, %error, "not listening on an optional address");
                }
                Err(error) => return Err(BindError { address: *address, error }),
            }
        }
        Ok(Self { sockets })
    }

    /// The addresses, with the ports that the system chose.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|(_, address)| *address)
    }

    /// Accepts connections until `stop` is cancelled; then returns when all of them have ended.
    /// It is for `services` to end AMQP connections, and for the caller to give up waiting.
    pub(crate) async fn serve<S: Services>(
        self,
        tls: Option<TlsAcceptor>,
        connections_count_max: usize,
        services: Arc<S>,
        stop: CancellationToken,
    ) {
        let permits = Arc::new(Semaphore::new(connections_count_max.min(Semaphore::MAX_PERMITS)));
        let connections = TaskTracker::new();
        let newcomers = Newcomers::new(connections_count_max);
        let shared =
            Arc::new(Shared { tls, services, stop, permits, newcomers, connections: connections.clone() });
        let accepting = TaskTracker::new();
        for (socket, address) in self.sockets {
            accepting.spawn(accept_loop(socket, address, shared.clone()));
        }
        accepting.close();
        accepting.wait().await;
        connections.close();
        connections.wait().await;
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that both families can be bound to one port, each by its own socket.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// What all connections of a listener share.
struct Shared<S> {
    tls: Option<TlsAcceptor>,
    services: Arc<S>,
    stop: CancellationToken,
    permits: Arc<Semaphore>,
    newcomers: Arc<Newcomers>,
    connections: TaskTracker,
}

async fn accept_loop<S: Services>(socket: TcpListener, address: SocketAddr, shared: Arc<Shared<S>>) {
    while let Some((stream, peer, permit)) = next_connection(&socket, address, &shared).await {
        let connection = serve_connection(stream, peer, shared.clone());
        shared.connections.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}

/// The next connection and its place among the permitted; `None` when it is time to stop.
async fn next_connection<S: Services>(
    socket: &TcpListener,
    address: SocketAddr,
    shared: &Shared<S>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = tokio::select! {
        () = shared.stop.cancelled() => return None,
        permit = shared.permits.clone().acquire_owned() => permit.ok()?,
    };
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return None,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            // The peer has gone before it was accepted.
            Err(error) if is_about_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%address, %error, "cannot accept connections; trying again");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn serve_connection<S: Services>(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared<S>>) {
    // Every write is a whole batch of frames already.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "no TCP_NODELAY");
    }
    let newcomer = shared.newcomers.arrive(&shared.stop);
    match sniff_in_time(stream, peer, newcomer.turned_away()).await {
        Sniffed::Nothing => {}
        Sniffed::Amqp(stream) => {
            let (stream, transport) = (ByteStream::Tcp(stream), TransportKind::Tcp);
            let (sni, certificate) = (None, None);
            shared.services.amqp(Accepted { stream, peer, sni, certificate, transport, newcomer }).await;
        }
        Sniffed::Http(stream) => {
            serve_http(stream, peer, (None, None), TransportKind::WebSocket, &shared, newcomer).await;
        }
        Sniffed::Tls(stream) => match &shared.tls {
            Some(acceptor) => serve_tls(acceptor.clone(), stream, peer, &shared, newcomer).await,
            None => {
                tracing::warn!(%peer, "a client asks for TLS, but there is no certificate; give --cert and --key");
                answer(stream, TLS_ALERT).await;
            }
        },
        Sniffed::Unknown(stream) => {
            tracing::debug!(%peer, "first bytes are no protocol of ours");
            answer(stream, NOT_UNDERSTOOD).await;
        }
    }
}

/// What the peer speaks; `Nothing` if it does not say so in time.
async fn sniff_in_time<S: AsyncRead + Unpin>(
    stream: S,
    peer: SocketAddr,
    stop: &CancellationToken,
) -> Sniffed<S> {
    let sniffed = tokio::select! {
        () = stop.cancelled() => return Sniffed::Nothing,
        sniffed = timeout(SNIFF_TIMEOUT, sniff(stream)) => sniffed,
    };
    match sniffed {
        Ok(Ok(sniffed)) => sniffed,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "connection failed before its first byte");
            Sniffed::Nothing
        }
        Err(_elapsed) => {
            tracing::debug!(%peer, "no byte in time");
            Sniffed::Nothing
        }
    }
}

async fn serve_tls<S: Services>(
    acceptor: TlsAcceptor,
    stream: Replay<TcpStream>,
    peer: SocketAddr,
    shared: &Shared<S>,
    newcomer: Newcomer,
) {
    let stream = match timeout(SNIFF_TIMEOUT, acceptor.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, stream))) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            // Behind the library's own alert, if it has sent one; what the peer still sends must
            // not take that back.
            return answer(stream, TLS_ALERT).await;
        }
        Err(_elapsed) => return tracing::debug!(%peer, "TLS handshake not done in time"),
    };
    let handshake = stream.get_ref().1;
    let sni = handshake.server_name().map(str::to_owned);
    let shown = handshake.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.and_then(|shown| match ClientCertificate::read(shown) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            tracing::warn!(%peer, %error, "a verified client certificate cannot be read");
            None
        }
    });
    match sniff_in_time(stream, peer, newcomer.turned_away()).await {
        Sniffed::Nothing => {}
        Sniffed::Amqp(stream) => {
            let (stream, transport) = (ByteStream::Tls(Box::new(stream)), TransportKind::Tls);
            shared.services.amqp(Accepted { stream, peer, sni, certificate, transport, newcomer }).await;
        }
        Sniffed::Http(stream) => {
            serve_http(stream, peer, (sni, certificate), TransportKind::WebSocketTls, shared, newcomer).await;
        }
        Sniffed::Tls(stream) | Sniffed::Unknown(stream) => answer(stream, NOT_UNDERSTOOD).await,
    }
}

async fn serve_http<S: Services>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    (sni, certificate): (Option<String>, Option<ClientCertificate>),
    transport: TransportKind,
    shared: &Shared<S>,
    newcomer: Newcomer,
) {
    let is_tls = transport == TransportKind::WebSocketTls;
    let services = HttpSide { services: &*shared.services, sni: sni.as_deref(), is_tls };
    if let Some(socket) = http::serve(stream, &services, newcomer.turned_away().clone()).await {
        let stream = ByteStream::WebSocket(Box::new(socket));
        shared.services.amqp(Accepted { stream, peer, sni, certificate, transport, newcomer }).await;
    }
}

/// The services of one HTTP connection.
struct HttpSide<'a, S> {
    services: &'a S,
    sni: Option<&'a str>,
    is_tls: bool,
}

impl<S: Services> HttpServices for HttpSide<'_, S> {
    fn health(&self) -> impl Future<Output = Health> + Send {
        self.services.health()
    }

    async fn administer(
        &self,
        head: Head,
        body: impl Future<Output = Result<Bytes, AdminError>> + Send,
    ) -> lockstep_admin::Reply {
        let head = Head { is_tls: self.is_tls, sni: self.sni.map(str::to_owned), ..head };
        self.services.administer(head, body).await
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(stream: S, bytes: &[u8]) {
    // A peer that does not take its answer has had its chance.
    let _ = timeout(ANSWER_TIMEOUT, answer_and_close(stream, bytes)).await;
}

/// The bytes of an AMQP connection, whatever carries them.
#[derive(Debug)]
pub(crate) enum ByteStream {
    /// Plain TCP.
    Tcp(Replay<TcpStream>),
    /// TLS.
    Tls(Box<Replay<TlsStream<Replay<TcpStream>>>>),
    /// WebSocket, over either.
    WebSocket(Box<UpgradedBytes>),
}

macro_rules! with_stream {
    ($self:expr, $stream:ident => $body:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $body
            }
            Self::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $body
            }
            Self::WebSocket($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $body
            }
        }
    };
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_stream!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::WebSocket(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
