//! The generator over real sockets: plain TCP, TLS, and what goes wrong with certificates.

use std::path::Path;

use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{
    echo_broker::{self, EchoBroker},
    text,
};
use crate::bench::{
    args::Scenario,
    check::Verdict,
    observer::Observer,
    pipe::{self, PipeOutcome},
    tests::{planned, scenario},
    transport::NetDial,
};

/// A broker that listens on loopback, with TLS if a certificate is given; its port.
async fn listen(acceptor: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker = EchoBroker::new(None);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (broker, acceptor) = (broker.clone(), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => echo_broker::serve(broker, stream).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            echo_broker::serve(broker, stream).await;
                        }
                    }
                }
            });
        }
    });
    port
}

/// A certificate for `localhost`, and its file, which serves as authority too.
fn certificate(directory: &Path) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("ca.pem"), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(std::sync::Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(std::sync::Arc::new(config))
}

async fn pipe_over_network(line: &str) -> anyhow::Result<PipeOutcome> {
    let (endpoint, plan) = planned(line)?;
    let Scenario::Pipe(args) = scenario(line) else { unreachable!("not a pipe") };
    let dial = NetDial::new(&endpoint.address, &args.target)?;
    pipe::run(&dial, &endpoint, &plan, &Observer::default()).await
}

const LOAD: &str = "--connections 2 --count 300 --in-flight 20 --duration 60 --size 20000";

#[tokio::test]
async fn a_url_with_everything_reaches_a_broker_over_tcp() {
    let port = listen(None).await;
    let outcome =
        pipe_over_network(&format!("pipe --address amqp://me:right@127.0.0.1:{port}/q {LOAD}")).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.messages, outcome.verdict), (300, Verdict::default()));
}

#[tokio::test]
async fn tls_works_with_the_authority_that_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let port = listen(Some(certificate(directory.path()))).await;
    let ca = directory.path().join("ca.pem");
    let line = format!("pipe --address amqps://me:right@localhost:{port}/q --tls-ca {} {LOAD}", ca.display());
    let outcome = pipe_over_network(&line).await.unwrap();
    assert_eq!((outcome.messages, outcome.verdict), (300, Verdict::default()));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = listen(Some(certificate(theirs.path()))).await;
    certificate(ours.path());
    let ca = ours.path().join("ca.pem");
    let line = format!("pipe --address amqps://me:right@localhost:{port}/q --tls-ca {} {LOAD}", ca.display());
    let error = text(&pipe_over_network(&line).await.unwrap_err());
    assert!(error.contains("cannot connect to localhost") && error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_file_without_authorities_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let line = format!("pipe --address amqps://me:right@localhost/q --tls-ca {}", file.display());
    let error = text(&pipe_over_network(&line).await.unwrap_err());
    assert!(error.contains("empty.pem"), "{error}");
}
