//! What a client speaks, told by the first byte it sends; so that one port serves AMQP, TLS,
//! HTTP and WebSocket (wire.md 1.1).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// A stream whose first byte tells what it carries. The byte is still there to be read.
#[derive(Debug)]
pub(crate) enum Sniffed<S> {
    /// `A`: an AMQP or SASL header. Whether it is a good one, the engine sees and answers.
    Amqp(Replay<S>),
    /// 0x16: a TLS handshake record.
    Tls(Replay<S>),
    /// A capital letter: the method of an HTTP request.
    Http(Replay<S>),
    /// Anything else.
    Unknown(Replay<S>),
    /// The peer closed without a byte.
    Nothing,
}

/// Waits for the first byte. The caller sets the deadline.
///
/// # Errors
/// When the stream fails.
pub(crate) async fn sniff<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Sniffed<S>> {
    let mut first = [0];
    if stream.read(&mut first).await? == 0 {
        return Ok(Sniffed::Nothing);
    }
    let [first] = first;
    let replay = Replay { first: Some(first), inner: stream };
    Ok(match first {
        b'A' => Sniffed::Amqp(replay),
        0x16 => Sniffed::Tls(replay),
        b'B'..=b'Z' => Sniffed::Http(replay),
        _ => Sniffed::Unknown(replay),
    })
}

/// Bytes of a peer that got its final answer which are still read, so that the answer is not
/// lost to a reset.
const LINGER_BYTES_MAX: u64 = 64 * 1024;

/// Sends a final answer and closes. Reads what the peer still sends, up to a bound: a socket
/// that is closed with unread bytes takes the answer back. The caller sets the deadline.
///
/// # Errors
/// When the stream fails.
pub(crate) async fn answer_and_close<S>(mut stream: S, answer: &[u8]) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(answer).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

/// A stream with its first byte put back.
#[derive(Debug)]
pub(crate) struct Replay<S> {
    first: Option<u8>,
    inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_some() && buf.remaining() > 0 {
            if let Some(first) = self.first.take() {
                buf.put_slice(&[first]);
            }
            // What has arrived behind it comes in the same read; a failure shows in the next.
            let _ = Pin::new(&mut self.inner).poll_read(cx, buf);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sniffed(bytes: &[u8]) -> (Sniffed<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        (sniff(server).await.unwrap(), client)
    }

    #[tokio::test]
    async fn the_first_byte_tells_the_protocol_and_stays_readable() {
        let hello: &[u8] = &[0x16, 3, 1, 2, 0];
        for bytes in [&b"AMQP\0\x01\0\0"[..], b"AMQP\x03\x01\0\0", b"GET / HTTP/1.1\r\n", hello, b"\0\0"] {
            let (sniffed, client) = sniffed(bytes).await;
            drop(client);
            let (kind, mut stream) = match sniffed {
                Sniffed::Amqp(stream) => ("amqp", stream),
                Sniffed::Tls(stream) => ("tls", stream),
                Sniffed::Http(stream) => ("http", stream),
                Sniffed::Unknown(stream) => ("unknown", stream),
                Sniffed::Nothing => unreachable!("bytes were sent"),
            };
            let expected = match bytes[0] {
                b'A' => "amqp",
                b'G' => "http",
                0x16 => "tls",
                _ => "unknown",
            };
            assert_eq!(kind, expected);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, bytes);
        }
    }

    #[tokio::test]
    async fn a_read_of_no_bytes_keeps_the_first_byte() {
        let (sniffed, client) = sniffed(b"AMQP").await;
        drop(client);
        let Sniffed::Amqp(mut stream) = sniffed else { panic!("not AMQP: {sniffed:?}") };
        assert_eq!(stream.read(&mut []).await.unwrap(), 0);
        assert_eq!(stream.read_u8().await.unwrap(), b'A');
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_and_closes_is_told_apart() {
        let (client, server) = tokio::io::duplex(16);
        drop(client);
        assert!(matches!(sniff(server).await.unwrap(), Sniffed::Nothing));
    }

    #[tokio::test]
    async fn an_answer_arrives_although_the_peer_goes_on_sending() {
        let (mut client, server) = tokio::io::duplex(16);
        let answering = tokio::spawn(async move { answer_and_close(server, b"no").await });
        client.write_all(&[0; 100]).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"no");
        drop(client);
        answering.await.unwrap().unwrap();
    }
}
