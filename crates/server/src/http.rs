//! The HTTP side of a listener: health, the upgrade to AMQP over WebSocket, and every other path
//! for the administration plane.

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use lockstep_admin::{AdminError, REQUEST_BODY_BYTES_MAX};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use crate::{
    administration::Head,
    websocket::{SUB_PROTOCOLS, WebSocketBytes},
};

/// Path of AMQP over WebSocket; .NET adds a slash (wire.md 1.1).
const WEBSOCKET_PATH: &str = "/$servicebus/websocket";
/// The same as some clients escape it.
const WEBSOCKET_PATH_ESCAPED: &str = "/%24servicebus/websocket";
/// Path of the health check, as in the emulator (admin.md 4).
const HEALTH_PATH: &str = "/health";
/// How long the head of a request may take, and how long a connection may wait for its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
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

/// What HTTP requests are handed to.
pub(crate) trait HttpServices: Sync {
    /// Whether the broker does its work.
    fn health(&self) -> impl Future<Output = Health> + Send;

    /// Answers a request of the administration plane.
    fn administer(
        &self,
        head: Head,
        body: impl Future<Output = Result<Bytes, AdminError>> + Send,
    ) -> impl Future<Output = lockstep_admin::Reply> + Send;
}

/// Serves requests until the peer goes, asks for WebSocket, or `stop` is cancelled. Returns the
/// WebSocket that was asked for.
pub(crate) async fn serve<S>(
    stream: S,
    services: &impl HttpServices,
    stop: CancellationToken,
) -> Option<UpgradedBytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Filled by the request that asks for WebSocket, which is the last one of its connection.
    let upgrade: Arc<Mutex<Option<OnUpgrade>>> = Arc::default();
    let service = service_fn(|request| {
        let upgrade = upgrade.clone();
        async move { Ok::<_, Infallible>(respond(request, services, &upgrade).await) }
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

async fn respond(
    request: Request<Incoming>,
    services: &impl HttpServices,
    upgrade: &Mutex<Option<OnUpgrade>>,
) -> Reply {
    let path = request.uri().path();
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if trimmed.eq_ignore_ascii_case(HEALTH_PATH) {
        return match *request.method() {
            Method::GET | Method::HEAD => health_reply(services.health().await),
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
    if trimmed.is_empty() && *request.method() == Method::GET {
        return text(
            StatusCode::NOT_FOUND,
            "Nothing is here. This port speaks AMQP 1.0, AMQP over WebSocket at /$servicebus/websocket, the \
             administration API of Service Bus at the paths of entities, and answers GET /health.",
        );
    }
    let (parts, body) = request.into_parts();
    let reply = services.administer(head(&parts), read_body(body)).await;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response = with_header(response, header::ALLOW, "GET, PUT, DELETE");
    }
    match reply.content_type {
        Some(content_type) => with_header(response, header::CONTENT_TYPE, content_type),
        None => response,
    }
}

/// What the administration plane needs of a head; whoever accepted the connection adds the rest.
fn head(parts: &Parts) -> Head {
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let host = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    Head {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or("").to_owned(),
        host: host.or_else(|| text(header::HOST)),
        authorization: text(header::AUTHORIZATION),
        if_match: parts.headers.contains_key(header::IF_MATCH),
        ..Head::default()
    }
}

/// The body of a request, if it is not too large and comes in time.
async fn read_body(body: Incoming) -> Result<Bytes, AdminError> {
    let limited = Limited::new(body, REQUEST_BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_TIMEOUT, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(AdminError::TooLarge),
        Ok(Err(error)) => {
            Err(AdminError::Invalid(format!("The body of the request cannot be read: {error}.")))
        }
        Err(_elapsed) => Err(AdminError::TooSlow),
    }
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
#[path = "http_tests.rs"]
mod tests;
