//! AMQP over WebSocket: the binary messages of a WebSocket as a stream of bytes. One message is
//! not one AMQP frame (wire.md 1.1).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// The sub-protocols that we speak: the name that Azure's clients offer, and the registered one.
pub(crate) const SUB_PROTOCOLS: [&str; 2] = ["AMQPWSB10", "amqp"];
/// Largest WebSocket message or frame of a peer, in bytes. Clients send one AMQP frame or a few
/// in each; AMQP frames have at most 1 MiB here.
const INCOMING_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that one of our own messages carries at most.
const OUTGOING_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Read buffer of a WebSocket, in bytes.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A WebSocket as a stream of bytes.
#[derive(Debug)]
pub(crate) struct WebSocketBytes<S> {
    socket: WebSocketStream<S>,
    /// What a message brought and nobody has read yet.
    unread: Bytes,
    /// Whether the peer has said that nothing follows.
    ended: bool,
    /// Whether our close frame has been sent.
    close_sent: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketBytes<S> {
    /// Takes the server's side of a stream whose upgrade has been answered.
    pub(crate) async fn accept(stream: S) -> Self {
        Self::over(stream, Role::Server).await
    }

    #[cfg(test)]
    /// Takes the client's side of a stream whose upgrade has been answered.
    pub(crate) async fn connect(stream: S) -> Self {
        Self::over(stream, Role::Client).await
    }

    async fn over(stream: S, role: Role) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(OUTGOING_MESSAGE_BYTES_MAX)
            .max_message_size(Some(INCOMING_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(INCOMING_MESSAGE_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(stream, role, Some(config)).await;
        Self { socket, unread: Bytes::new(), ended: false, close_sent: false }
    }

    /// Takes in messages until there are bytes to read or the peer has ended.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() && !self.ended {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                // Pings are answered by the library, with the next flush.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => self.ended = true,
                Some(Ok(Message::Text(_))) => {
                    self.refuse(cx, CloseCode::Unsupported, "binary messages only");
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "AMQP over WebSocket has binary messages only",
                    )));
                }
                Some(Err(error)) => {
                    match &error {
                        Error::Capacity(_) => self.refuse(cx, CloseCode::Size, "message too large"),
                        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {}
                        Error::Protocol(_) => {
                            self.refuse(cx, CloseCode::Protocol, "not a WebSocket frame of a client");
                        }
                        Error::Utf8(_) => {
                            self.refuse(cx, CloseCode::Unsupported, "binary messages only");
                        }
                        _ => {}
                    }
                    self.ended = true;
                    return Poll::Ready(Err(into_io(error)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Closes with a reason, as far as that goes without waiting.
    fn refuse(&mut self, cx: &mut Context<'_>, code: CloseCode, reason: &'static str) {
        self.ended = true;
        let close = CloseFrame { code, reason: reason.into() };
        let mut socket = Pin::new(&mut self.socket);
        if socket.as_mut().start_send(Message::Close(Some(close))).is_ok() {
            self.close_sent = true;
            let _ = socket.poll_flush(cx);
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(into_io)?;
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let size = total.min(OUTGOING_MESSAGE_BYTES_MAX);
        if size == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut bytes = BytesMut::with_capacity(size);
        for buf in bufs {
            let room = size - bytes.len();
            bytes.extend_from_slice(buf.get(..room).unwrap_or(buf));
        }
        Pin::new(&mut self.socket).start_send(Message::Binary(bytes.freeze())).map_err(into_io)?;
        Poll::Ready(Ok(size))
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        Error::Protocol(_) | Error::Capacity(_) => io::Error::new(io::ErrorKind::InvalidData, error),
        other => io::Error::other(other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_fill(cx))?;
        let size = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..size]);
        self.unread.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }

    /// Sends the close frame and waits for the peer's; what the peer sends in between is
    /// dropped. The caller sets the deadline.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.close_sent {
            ready!(Pin::new(&mut self.socket).poll_close(cx)).map_err(into_io)?;
            self.close_sent = true;
        }
        while !self.ended {
            self.unread = Bytes::new();
            if ready!(self.poll_fill(cx)).is_err() {
                break;
            }
        }
        // A peer that has begun the close gets its answer with this.
        Pin::new(&mut self.socket).poll_flush(cx).map(|_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::SinkExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    async fn pair() -> (WebSocketBytes<DuplexStream>, WebSocketBytes<DuplexStream>) {
        let (client, server) = duplex(1024);
        tokio::join!(WebSocketBytes::connect(client), WebSocketBytes::accept(server))
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_whatever_the_message_borders() {
        let (mut client, mut server) = pair().await;
        let sent: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            let mut back = [0; 3];
            client.read_exact(&mut back).await.unwrap();
            back
        });
        let mut received = vec![0; expected.len()];
        server.read_exact(&mut received).await.unwrap();
        assert_eq!(received, expected);
        server.write_all(b"abc").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(&sending.await.unwrap(), b"abc");
    }

    #[tokio::test]
    async fn slices_of_one_write_travel_in_one_message() {
        let (mut client, server) = pair().await;
        let slices = [io::IoSlice::new(b"AM"), io::IoSlice::new(b"QP")];
        assert_eq!(client.write_vectored(&slices).await.unwrap(), 4);
        client.flush().await.unwrap();
        let mut socket = server.socket;
        let message = std::future::poll_fn(|cx| Pin::new(&mut socket).poll_next(cx)).await;
        assert!(matches!(message, Some(Ok(Message::Binary(bytes))) if &bytes[..] == b"AMQP"));
    }

    #[tokio::test]
    async fn a_ping_is_answered_while_the_broker_reads() {
        let (mut client, mut server) = pair().await;
        client.socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
        client.write_all(b"x").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        server.flush().await.unwrap();
        let answer = std::future::poll_fn(|cx| Pin::new(&mut client.socket).poll_next(cx)).await;
        assert!(matches!(answer, Some(Ok(Message::Pong(bytes))) if &bytes[..] == b"there?"));
    }

    #[tokio::test]
    async fn a_close_of_either_side_ends_both_in_order() {
        let (mut client, mut server) = pair().await;
        let closing = tokio::spawn(async move { client.shutdown().await });
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        server.shutdown().await.unwrap();
        closing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_text_message_is_refused_with_a_reason() {
        let (mut client, mut server) = pair().await;
        client.socket.send(Message::Text("AMQP".into())).await.unwrap();
        let error = server.read_u8().await.expect_err("text is refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let answer = std::future::poll_fn(|cx| Pin::new(&mut client.socket).poll_next(cx)).await;
        let Some(Ok(Message::Close(Some(close)))) = answer else { panic!("no close: {answer:?}") };
        assert_eq!(close.code, CloseCode::Unsupported);
    }

    /// The server's answer to bytes that a client wrote by itself: opcode, close code.
    async fn answer_to(bytes: &[u8]) -> (u8, u16) {
        let (mut client, stream) = duplex(1024);
        let mut server = WebSocketBytes::accept(stream).await;
        client.write_all(bytes).await.unwrap();
        let error = server.read_u8().await.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        (answer[0], u16::from_be_bytes([answer[2], answer[3]]))
    }

    #[tokio::test]
    async fn frames_that_no_client_may_send_are_refused_with_a_reason() {
        const CLOSE: u8 = 0x88;
        let protocol = u16::from(CloseCode::Protocol);
        let long_ping = [&b"\x89\xfe\x00\x7e\0\0\0\0"[..], &[b'A'; 126]].concat();
        for (what, bytes) in [
            ("not masked", &b"\x82\x04AMQP"[..]),
            ("reserved bits", b"\xf2\x81\0\0\0\0A"),
            ("an unknown opcode", b"\x83\x81\0\0\0\0A"),
            ("a continuation of nothing", b"\x80\x81\0\0\0\0A"),
            ("a ping in fragments", b"\x09\x81\0\0\0\0A"),
            ("a long ping", &long_ping),
        ] {
            assert_eq!(answer_to(bytes).await, (CLOSE, protocol), "{what}");
        }
        let huge = b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0A";
        assert_eq!(answer_to(huge).await, (CLOSE, u16::from(CloseCode::Size)), "a frame of exabytes");
    }

    #[tokio::test]
    async fn a_message_over_the_bound_ends_the_stream_with_an_error() {
        let (mut client, mut server) = pair().await;
        let sending = tokio::spawn(async move {
            let huge = Bytes::from(vec![0; INCOMING_MESSAGE_BYTES_MAX + 1]);
            // The server may be gone before all of it is sent.
            let _ = client.socket.send(Message::Binary(huge)).await;
        });
        let error = server.read_u8().await.expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(server);
        sending.await.unwrap();
    }
}
