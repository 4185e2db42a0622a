//! HTTP over a pipe, with services that say what they were asked.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::JoinHandle,
};

use super::*;

/// Answers with what it was asked.
struct Told(Health);

impl HttpServices for Told {
    async fn health(&self) -> Health {
        self.0
    }

    async fn administer(
        &self,
        head: Head,
        body: impl Future<Output = Result<Bytes, AdminError>> + Send,
    ) -> lockstep_admin::Reply {
        if head.method == "POST" {
            let error = AdminError::MethodNotAllowed;
            return lockstep_admin::Reply {
                status: error.status(),
                content_type: None,
                body: error.to_string(),
            };
        }
        let body = body.await.map(|body| String::from_utf8_lossy(&body).into_owned());
        let status = body.as_ref().map_or_else(AdminError::status, |_| 200);
        let body = format!("{head:?} {body:?}");
        lockstep_admin::Reply { status, content_type: Some("text/x-told"), body }
    }
}

fn serving(health: Health) -> (DuplexStream, JoinHandle<Option<UpgradedBytes>>) {
    let (client, server) = duplex(256 * 1024);
    let serving = tokio::spawn(async move { serve(server, &Told(health), CancellationToken::new()).await });
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
async fn a_look_at_the_root_is_told_what_is_here() {
    let answer = get("/").await;
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
    let (_, client, serving) = upgrade("/$servicebus/websocket", "Sec-WebSocket-Protocol: amqp\r\n").await;
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
    let answer_long = answer(&format!("GET /health HTTP/1.1\r\nX: {long}\r\n\r\n"), Health::Healthy).await;
    assert!(answer_long.starts_with("HTTP/1.1 431 "), "{answer_long}");
}

#[tokio::test]
async fn what_is_no_request_gets_400() {
    let answer = answer("GARBAGE\r\n\r\n", Health::Healthy).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn every_other_path_is_for_the_administration_plane() {
    let request = "PUT /a%2Fb?x=%24y HTTP/1.1\r\nHost: h:5671\r\nAuthorization: token\r\nIf-Match: *\r\n\
                   Content-Length: 4\r\nConnection: close\r\n\r\nbody";
    let answer = answer(request, Health::Healthy).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("content-type: text/x-told\r\n"),
        "{answer}"
    );
    let expected = Head {
        method: "PUT".into(),
        path: "/a%2Fb".into(),
        query: "x=%24y".into(),
        host: Some("h:5671".into()),
        authorization: Some("token".into()),
        if_match: true,
        ..Head::default()
    };
    assert!(answer.ends_with(&format!("{expected:?} Ok(\"body\")")), "{answer}");
}

#[tokio::test]
async fn bodies_in_chunks_and_after_a_pause_are_read_whole_on_one_connection() {
    let (mut client, _serving) = serving(Health::Healthy);
    let chunked =
        "PUT /q HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    client.write_all(chunked.as_bytes()).await.unwrap();
    let waiting = "PUT /q HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    client.write_all(waiting.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("HTTP/1.1 100 Continue\r\n") {
        let mut bytes = [0; 1024];
        let size = client.read(&mut bytes).await.unwrap();
        assert!(size > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&bytes[..size]).unwrap());
    }
    assert!(seen.contains("Ok(\"abcde\")"), "{seen}");
    client.write_all(b"xy").await.unwrap();
    client.read_to_string(&mut seen).await.unwrap();
    assert!(seen.ends_with("Ok(\"xy\")"), "{seen}");
}

#[tokio::test]
async fn a_body_over_the_bound_gets_413_and_another_method_405() {
    let large = "x".repeat(REQUEST_BODY_BYTES_MAX + 1);
    let length = large.len();
    let request = format!("PUT /q HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{large}");
    assert!(answer(&request, Health::Healthy).await.starts_with("HTTP/1.1 413 "));
    let other = answer("POST /q HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", Health::Healthy).await;
    assert!(other.starts_with("HTTP/1.1 405 ") && other.contains("allow: GET, PUT, DELETE\r\n"), "{other}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_gets_408() {
    let request = "PUT /q HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo";
    let answer = answer(request, Health::Healthy).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}
