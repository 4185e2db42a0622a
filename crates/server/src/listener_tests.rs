//! A whole listener on a free port of the loopback address, with services that echo.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::*;
use crate::{dev_certificate, system_clock::SystemClock, tls, websocket::WebSocketBytes};

/// Echoes AMQP connections and notes how they came.
#[derive(Default)]
struct Echo {
    seen: Mutex<Vec<(TransportKind, Option<String>)>>,
}

impl Services for Echo {
    async fn amqp(&self, accepted: Accepted) {
        self.seen.lock().unwrap().push((accepted.transport, accepted.sni));
        let mut stream = accepted.stream;
        let mut bytes = [0; 1024];
        while let Ok(size @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(&bytes[..size]).await.unwrap();
            stream.flush().await.unwrap();
        }
        stream.shutdown().await.ok();
    }

    async fn health(&self) -> Health {
        Health::Healthy
    }

    async fn administer(
        &self,
        head: Head,
        _body: impl Future<Output = Result<Bytes, AdminError>> + Send,
    ) -> lockstep_admin::Reply {
        let body = format!("{} tls: {} sni: {:?}", head.path, head.is_tls, head.sni);
        lockstep_admin::Reply { status: 200, content_type: None, body }
    }
}

struct Fixture {
    address: SocketAddr,
    services: Arc<Echo>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    connector: Option<TlsConnector>,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn start(with_tls: bool, connections_count_max: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (acceptor, connector) = if with_tls { certificate(directory.path()) } else { (None, None) };
        let listen = ListenConfig { address: "127.0.0.1:0".parse().unwrap(), optional: false };
        let listener = Listener::bind(&[listen]).unwrap();
        let address = listener.addresses().next().unwrap();
        let (services, stop) = (Arc::new(Echo::default()), CancellationToken::new());
        let serving =
            tokio::spawn(listener.serve(acceptor, connections_count_max, services.clone(), stop.clone()));
        Self { address, services, stop, serving, connector, _directory: directory }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_tls(&self) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        let host = ServerName::try_from("localhost").unwrap();
        self.connector.as_ref().unwrap().connect(host, self.connect().await).await.unwrap()
    }

    fn seen(&self) -> Vec<(TransportKind, Option<String>)> {
        self.services.seen.lock().unwrap().clone()
    }
}

fn certificate(directory: &std::path::Path) -> (Option<TlsAcceptor>, Option<TlsConnector>) {
    use lockstep_model::Clock as _;
    let files = dev_certificate::ensure(directory, &[], SystemClock::new().now().utc).unwrap();
    let acceptor = tls::acceptor(&files.certificate_file, &files.key_file, None).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca_file).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Some(acceptor), Some(TlsConnector::from(Arc::new(config))))
}

const HEADER: &[u8] = b"AMQP\0\x01\0\0";

async fn assert_echoes(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(HEADER).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 8];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, HEADER);
}

async fn upgraded<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> WebSocketBytes<S> {
    let request = "GET /$servicebus/websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: AMQPWSB10\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    WebSocketBytes::connect(stream).await
}

#[tokio::test]
async fn one_port_serves_every_transport() {
    let fixture = Fixture::start(true, 10);
    assert_echoes(fixture.connect().await).await;
    assert_echoes(fixture.connect_tls().await).await;
    assert_echoes(upgraded(fixture.connect().await).await).await;
    assert_echoes(upgraded(fixture.connect_tls().await).await).await;
    let localhost = Some("localhost".to_owned());
    assert_eq!(
        fixture.seen(),
        [
            (TransportKind::Tcp, None),
            (TransportKind::Tls, localhost.clone()),
            (TransportKind::WebSocket, None),
            (TransportKind::WebSocketTls, localhost),
        ]
    );
}

#[tokio::test]
async fn health_is_answered_on_the_same_port() {
    let fixture = Fixture::start(false, 10);
    let mut stream = fixture.connect().await;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn first_bytes_that_are_no_protocol_get_an_answer() {
    let fixture = Fixture::start(false, 10);
    let mut stream = fixture.connect().await;
    stream.write_all(b"\0\0\0\0").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{answer}");
    assert!(body.contains("AMQP 1.0"), "{answer}");
}

#[tokio::test]
async fn tls_without_a_certificate_is_refused_with_an_alert() {
    let fixture = Fixture::start(false, 10);
    let mut stream = fixture.connect().await;
    stream.write_all(&[0x16, 3, 1, 0, 0]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, TLS_ALERT);
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_a_place() {
    let fixture = Fixture::start(false, 1);
    let mut first = fixture.connect().await;
    first.write_all(HEADER).await.unwrap();
    first.read_exact(&mut [0; 8]).await.unwrap();
    let second = fixture.connect().await;
    let waiting = tokio::spawn(assert_echoes(second));
    drop(first);
    waiting.await.unwrap();
    assert_eq!(fixture.seen().len(), 2);
}

#[tokio::test]
async fn a_stop_ends_accepting_and_waits_for_connections() {
    let fixture = Fixture::start(false, 10);
    let mut open = fixture.connect().await;
    open.write_all(HEADER).await.unwrap();
    open.read_exact(&mut [0; 8]).await.unwrap();
    let silent = fixture.connect().await;
    fixture.stop.cancel();
    // The open one is still served.
    open.write_all(HEADER).await.unwrap();
    open.read_exact(&mut [0; 8]).await.unwrap();
    drop(open);
    fixture.serving.await.unwrap();
    assert!(TcpStream::connect(fixture.address).await.is_err());
    drop(silent);
}

#[tokio::test]
async fn an_address_in_use_is_named_and_an_optional_one_is_left_out() {
    let first =
        Listener::bind(&[ListenConfig { address: "127.0.0.1:0".parse().unwrap(), optional: false }]).unwrap();
    let address = first.addresses().next().unwrap();
    let error = Listener::bind(&[ListenConfig { address, optional: false }]).expect_err("in use");
    assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")));
    let left_out = Listener::bind(&[ListenConfig { address, optional: true }]).unwrap();
    assert_eq!(left_out.addresses().count(), 0);
}
