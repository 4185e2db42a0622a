//! TLS and WebSocket in front of a client that speaks plain TCP: a port of its own, from which
//! bytes go to the broker and back.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use lockstep_interop_amqp::{Broker, Failed, HOST, Outcome};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::oneshot,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

/// Bytes that are carried at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// First byte of a whole binary WebSocket message (RFC 6455, 5.2).
const BINARY: u8 = 0x82;
/// Bit of a message whose payload is masked; the mask here is zero, which changes nothing.
const MASKED: u8 = 0x80;
/// Length of 16 bits follows.
const LENGTH_16: u8 = 126;

/// What carries the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Tls,
    WebSocketTls,
}

/// An open port; closed with all its connections when dropped.
pub(crate) struct TlsTunnel {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

fn runtime() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The directory with the certificates of the run.
fn certificates(broker: &Broker) -> PathBuf {
    broker.home().configuration().with_file_name("certs")
}

/// The certificate `certs/NAME.pem`, or none.
fn connector(certs: &Path, name: Option<&str>) -> Outcome<TlsConnector> {
    let unusable = |error: &dyn std::fmt::Display| Failed::new(format!("a certificate is unusable: {error}"));
    let read =
        |file: String| CertificateDer::from_pem_file(certs.join(file)).map_err(|error| unusable(&error));
    let mut roots = RootCertStore::empty();
    roots.add(read("ca.pem".into())?).map_err(|error| unusable(&error))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots);
    let config = match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(certs.join(format!("{name}-key.pem")))
                .map_err(|error| unusable(&error))?;
            builder
                .with_client_auth_cert(vec![read(format!("{name}.pem"))?], key)
                .map_err(|error| unusable(&error))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(connector: &TlsConnector, broker: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let host = ServerName::try_from(HOST).map_err(io::Error::other)?;
    connector.connect(host, TcpStream::connect(broker).await?).await
}

impl TlsTunnel {
    /// Opens a port from which clients reach the broker, with this certificate.
    pub(crate) fn open(broker: &Broker, certificate: Option<&str>, over: Over) -> Outcome<Self> {
        let connector = connector(&certificates(broker), certificate)?;
        let to = broker.address();
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let accepting = async {
                while let Ok((client, _)) = listener.accept().await {
                    let connector = connector.clone();
                    // What goes wrong shows at the client as the end of its connection.
                    tokio::spawn(async move { drop(carry(client, &connector, to, over).await) });
                }
            };
            runtime.block_on(async {
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How a TLS connection with this certificate fails, once the broker has seen it.
    pub(crate) fn failure(broker: &Broker, certificate: &str) -> Outcome<String> {
        let connector = connector(&certificates(broker), Some(certificate))?;
        let failed = runtime()?.block_on(async {
            let mut stream = connect(&connector, broker.address()).await?;
            // The broker's verdict comes behind the client's last message of the handshake.
            stream.read_u8().await.map(|_| ())
        });
        match failed {
            Ok(()) => Err(Failed::new("the broker answered a client that said nothing")),
            Err(error) => Ok(error.to_string()),
        }
    }
}

impl Drop for TlsTunnel {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}

async fn carry(
    mut client: TcpStream,
    connector: &TlsConnector,
    broker: SocketAddr,
    over: Over,
) -> io::Result<()> {
    let mut stream = connect(connector, broker).await?;
    if over == Over::Tls {
        copy_bidirectional(&mut client, &mut stream).await?;
        return Ok(());
    }
    upgrade(&mut stream).await?;
    let (from_client, to_client) = client.split();
    let (from_broker, to_broker) = tokio::io::split(stream);
    tokio::select! {
        ended = wrap(from_client, to_broker) => ended,
        ended = unwrap(from_broker, to_client) => ended,
    }
}

async fn upgrade(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    // As .NET asks: the path with a slash at its end, the sub-protocol of an old draft.
    let request = "GET /$servicebus/websocket/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: AMQPWSB10\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let agreed = head.lines().any(|line| line == "sec-websocket-protocol: amqpwsb10");
    if head.starts_with("http/1.1 101 ") && agreed { Ok(()) } else { Err(io::Error::other("no WebSocket")) }
}

/// Bytes into messages.
async fn wrap(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let length = u16::try_from(count).map_err(io::Error::other)?.to_be_bytes();
        let mut message = vec![BINARY, MASKED | LENGTH_16, length[0], length[1], 0, 0, 0, 0];
        if let Ok(short) = u8::try_from(count)
            && short < LENGTH_16
        {
            message = vec![BINARY, MASKED | short, 0, 0, 0, 0];
        }
        message.extend_from_slice(&buffer[..count]);
        to.write_all(&message).await?;
        to.flush().await?;
    }
}

/// Messages into bytes, until one that is not binary.
async fn unwrap(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    while from.read_u8().await? == BINARY {
        let length = match from.read_u8().await? {
            LENGTH_16 => u64::from(from.read_u16().await?),
            127 => from.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = Vec::new();
        (&mut from).take(length).read_to_end(&mut payload).await?;
        to.write_all(&payload).await?;
    }
    Ok(())
}
