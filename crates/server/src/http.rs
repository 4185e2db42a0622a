//! The HTTP side of a listener: health, and the upgrade to AMQP over WebSocket. The
//! administration plane will hang in here.

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
    server::conn::http1,
    service::service_fn,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use crate::websocket::{SUB_PROTOCOLS, WebSocketBytes};

/// Path of AMQP over WebSocket; .NET adds a slash (wire.md 1.1).
const WEBSOCKET_PATH: &str = "/$servicebus/websocket";
/// The same as some clients escape it.
const WEBSOCKET_PATH_ESCAPED: &str = "/%24servicebus/websocket";
/// Path of the health check, as in the emulator (admin.md 4).
const HEALTH_PATH: &str = "/health";
/// How long the head of a request may take, and how long a connection may wait for its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines of a request.
const HEADERS_COUNT_MAX: usize = 64;
/// Length of a `Sec-WebSocket-Key`: 16 bytes in base 64.
const WEBSOCKET_KEY_CHARS: usize = 24;

/// Whether the broker does its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    /// A durable write works.
    Healthy,
    /// It does not, or not yet.
    Unhealthy,
}

/// A WebSocket over what HTTP came over.
pub(crate) type UpgradedBytes = WebSocketBytes<TokioIo<Upgraded>>;

/// Serves requests until the peer goes, asks for WebSocket, or `stop` is cancelled. Returns the
/// WebSocket that was asked for.
pub(crate) async fn serve<S, H, F>(stream: S, health: H, stop: CancellationToken) -> Option<UpgradedBytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn() -> F,
    F: Future<Output = Health>,
{
    // Filled by the request that asks for WebSocket, which is the last one of its connection.
    let upgrade: Arc<Mutex<Option<OnUpgrade>>> = Arc::default();
    let health = &health;
    let service = service_fn(|request| {
        let upgrade = upgrade.clone();
        async move { Ok::<_, Infallible>(respond(request, health, &upgrade).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_COUNT_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection ended");
    }
    let upgrade = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    match upgrade.await {
        Ok(upgraded) => Some(WebSocketBytes::accept(TokioIo::new(upgraded)).await),
        Err(error) => {
            tracing::debug!(%error, "WebSocket upgrade failed");
            None
        }
    }
}

type Reply = Response<Full<Bytes>>;

async fn respond<H, F>(request: Request<Incoming>, health: &H, upgrade: &Mutex<Option<OnUpgrade>>) -> Reply
where
    H: Fn() -> F,
    F: Future<Output = Health>,
{
    let path = request.uri().path();
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if trimmed.eq_ignore_ascii_case(HEALTH_PATH) {
        return match *request.method() {
            Method::GET | Method::HEAD => health_reply(health().await),
            _ => with_header(
                text(StatusCode::METHOD_NOT_ALLOWED, "The health check takes GET."),
                header::ALLOW,
                "GET, HEAD",
            ),
        };
    }
    if trimmed.eq_ignore_ascii_case(WEBSOCKET_PATH) || trimmed.eq_ignore_ascii_case(WEBSOCKET_PATH_ESCAPED) {
        return match websocket_reply(&request) {
            Ok(reply) => {
                let waiting = hyper::upgrade::on(request);
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
                reply
            }
            Err(refusal) => *refusal,
        };
    }
    text(
        StatusCode::NOT_FOUND,
        "Nothing is here. This port speaks AMQP 1.0, AMQP over WebSocket at /$servicebus/websocket, and \
         answers GET /health. The administration API comes in a later version.",
    )
}

/// The documents of the emulator, word for word: scripts look for them.
fn health_reply(health: Health) -> Reply {
    let (status, body) = match health {
        Health::Healthy => (StatusCode::OK, r#"{"status":"healthy","message":"Service is healthy."}"#),
        Health::Unhealthy => (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status":"unhealthy","message":"Service not available. Please try after some time."}"#,
        ),
    };
    with_header(reply(status, body), header::CONTENT_TYPE, "application/json")
}

/// The answer to a request for WebSocket (RFC 6455, 4.2): 101, or why not.
///
/// A client that offers no sub-protocol is accepted and told none: RFC 6455 lets it then assume
/// none, and it will speak AMQP or be closed by the engine. One that offers only others is refused.
fn websocket_reply(request: &Request<Incoming>) -> Result<Reply, Box<Reply>> {
    let headers = request.headers();
    let has = |name, token: &str| tokens(headers, name).any(|value| value.eq_ignore_ascii_case(token));
    if request.method() != Method::GET
        || !has(header::UPGRADE, "websocket")
        || !has(header::CONNECTION, "upgrade")
        || !has(header::SEC_WEBSOCKET_VERSION, "13")
    {
        let reply = text(
            StatusCode::UPGRADE_REQUIRED,
            "This is AMQP 1.0 over WebSocket: ask with GET and an upgrade to websocket, version 13.",
        );
        let reply = with_header(reply, header::UPGRADE, "websocket");
        return Err(Box::new(with_header(reply, header::SEC_WEBSOCKET_VERSION, "13")));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let Some(key) = key.filter(|key| key.len() == WEBSOCKET_KEY_CHARS) else {
        return Err(Box::new(text(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key must hold 16 bytes in base 64.",
        )));
    };
    let offered: Vec<&str> = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).collect();
    let chosen = offered
        .iter()
        .copied()
        .find(|offer| SUB_PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(offer)));
    if chosen.is_none() && !offered.is_empty() {
        return Err(Box::new(text(
            StatusCode::BAD_REQUEST,
            "None of the offered sub-protocols is spoken here; offer AMQPWSB10 or amqp.",
        )));
    }
    let accept = derive_accept_key(key);
    let reply = reply(StatusCode::SWITCHING_PROTOCOLS, "");
    let reply = with_header(reply, header::CONNECTION, "Upgrade");
    let reply = with_header(reply, header::UPGRADE, "websocket");
    let reply = with_header(reply, header::SEC_WEBSOCKET_ACCEPT, &accept);
    Ok(match chosen {
        Some(chosen) => with_header(reply, header::SEC_WEBSOCKET_PROTOCOL, chosen),
        None => reply,
    })
}

/// The comma-separated words of a header, over all its lines.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn reply(status: StatusCode, body: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *reply.status_mut() = status;
    reply
}

fn text(status: StatusCode, body: &'static str) -> Reply {
    with_header(reply(status, body), header::CONTENT_TYPE, "text/plain; charset=utf-8")
}

/// Adds a header whose value came from us or from a header.
fn with_header(mut reply: Reply, name: header::HeaderName, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        task::JoinHandle,
    };

    use super::*;

    fn serving(health: Health) -> (DuplexStream, JoinHandle<Option<UpgradedBytes>>) {
        let (client, server) = duplex(64 * 1024);
        let serving = tokio::spawn(serve(server, move || async move { health }, CancellationToken::new()));
        (client, serving)
    }

    /// The whole answer to a request after which the connection is closed.
    async fn answer(request: &str, health: Health) -> String {
        let (mut client, _serving) = serving(health);
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(path: &str) -> String {
        answer(&format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), Health::Healthy).await
    }

    fn upgrade_request(path: &str, more: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
    }

    /// The head of the answer to an upgrade, and the connection behind it.
    async fn upgrade(path: &str, more: &str) -> (String, DuplexStream, JoinHandle<Option<UpgradedBytes>>) {
        let (mut client, serving) = serving(Health::Healthy);
        client.write_all(upgrade_request(path, more).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap().to_lowercase(), client, serving)
    }

    #[tokio::test]
    async fn health_is_told_in_the_emulators_words() {
        let healthy = get("/health").await;
        assert!(healthy.starts_with("HTTP/1.1 200 OK\r\n"), "{healthy}");
        assert!(healthy.ends_with(r#"{"status":"healthy","message":"Service is healthy."}"#), "{healthy}");
        let request = "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let unhealthy = answer(request, Health::Unhealthy).await;
        assert!(unhealthy.starts_with("HTTP/1.1 503 "), "{unhealthy}");
        assert!(unhealthy.contains(r#""status":"unhealthy""#), "{unhealthy}");
    }

    #[tokio::test]
    async fn other_paths_are_told_what_is_here() {
        let answer = get("/orders").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert!(answer.contains("/$servicebus/websocket"), "{answer}");
    }

    #[tokio::test]
    async fn the_upgrade_echoes_the_first_sub_protocol_that_we_speak() {
        for (offer, echoed) in [
            ("Sec-WebSocket-Protocol: AMQPWSB10\r\n", Some("amqpwsb10")),
            ("Sec-WebSocket-Protocol: mqtt, amqp, AMQPWSB10\r\n", Some("amqp")),
            ("", None),
        ] {
            for path in ["/$servicebus/websocket", "/$servicebus/websocket/", "/%24servicebus/websocket"] {
                let (head, _client, _serving) = upgrade(path, offer).await;
                assert!(head.starts_with("http/1.1 101 "), "{head}");
                // The key and answer of RFC 6455, 1.3.
                assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
                let line = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
                assert_eq!(line, echoed);
            }
        }
    }

    #[tokio::test]
    async fn bytes_pass_through_an_upgraded_connection() {
        let (_, client, serving) =
            upgrade("/$servicebus/websocket", "Sec-WebSocket-Protocol: amqp\r\n").await;
        let mut client = WebSocketBytes::connect(client).await;
        let mut server = serving.await.unwrap().expect("a WebSocket");
        client.write_all(b"AMQP").await.unwrap();
        client.flush().await.unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"AMQP");
    }

    #[tokio::test]
    async fn upgrades_that_are_none_are_refused_with_a_reason() {
        let plain = get("/$servicebus/websocket").await;
        assert!(plain.starts_with("HTTP/1.1 426 "), "{plain}");
        let other = upgrade("/$servicebus/websocket", "Sec-WebSocket-Protocol: mqtt\r\n").await.0;
        assert!(other.starts_with("http/1.1 400 "), "{other}");
        let request = upgrade_request("/$servicebus/websocket", "").replace("b25jZQ", "");
        let (mut client, _serving) = serving(Health::Healthy);
        client.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 400");
    }

    #[tokio::test]
    async fn heads_over_the_bounds_are_refused() {
        let many = "X: y\r\n".repeat(HEADERS_COUNT_MAX + 1);
        let answer_many = answer(&format!("GET /health HTTP/1.1\r\n{many}\r\n"), Health::Healthy).await;
        assert!(answer_many.starts_with("HTTP/1.1 431 "), "{answer_many}");
        let long = "y".repeat(HEAD_BYTES_MAX);
        let answer_long =
            answer(&format!("GET /health HTTP/1.1\r\nX: {long}\r\n\r\n"), Health::Healthy).await;
        assert!(answer_long.starts_with("HTTP/1.1 431 "), "{answer_long}");
    }

    #[tokio::test]
    async fn what_is_no_request_gets_400() {
        let answer = answer("GARBAGE\r\n\r\n", Health::Healthy).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}
