//! The server's side of TLS: certificates from PEM files, TLS 1.2 and 1.3; with an authority for
//! client certificates, these are asked for and verified.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};

/// Why TLS cannot be offered: the file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is no PEM of what it should hold.
    #[error("{} holds no {wanted}: {problem}", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What was found.
        problem: String,
    },
    /// Certificate and key are not usable, or not with each other.
    #[error(
        "the certificate in {} and the key in {} cannot be used: {problem}",
        certificate_file.display(),
        key_file.display()
    )]
    Unusable {
        /// The certificate's file.
        certificate_file: PathBuf,
        /// The key's file.
        key_file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An authority for client certificates is not usable.
    #[error("the authority for client certificates in {} cannot be used: {problem}", file.display())]
    UnusableAuthority {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Reads a certificate chain and its key, and the authorities that client certificates must come
/// from. Without any, none are asked for; with one, a client may come without a certificate, but
/// not with one that does not verify.
///
/// # Errors
/// When a file cannot be read or holds something else, or when the two do not fit.
pub(crate) fn acceptor(
    certificate_file: &Path,
    key_file: &Path,
    client_ca_file: Option<&Path>,
) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(certificate_file)?;
    let key =
        PrivateKeyDer::from_pem_file(key_file).map_err(|error| file_error(key_file, "private key", error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match client_ca_file {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(file) => client_verifier(file, Arc::clone(&provider))?,
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .map_err(|error| TlsError::Unusable {
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
            problem: error.to_string(),
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificates of a PEM file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| file_error(file, "certificate", error))?;
    if certificates.is_empty() {
        return Err(file_error(file, "certificate", pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn client_verifier(
    file: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |problem: String| TlsError::UnusableAuthority { file: file.to_owned(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(error.to_string()))
}

fn file_error(file: &Path, wanted: &'static str, error: pem::Error) -> TlsError {
    let file = file.to_owned();
    match error {
        pem::Error::Io(error) => TlsError::Unreadable { file, error },
        pem::Error::NoItemsFound => {
            let problem = format!("no \"-----BEGIN …-----\" section with a {wanted} in it");
            TlsError::NotPem { file, wanted, problem }
        }
        other => TlsError::NotPem { file, wanted, problem: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::Timestamp;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::{
        TlsConnector,
        rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
    };

    use super::*;
    use crate::dev_certificate::{self, DevCertificate};

    const NOW: Timestamp = Timestamp::from_unix_millis(1_750_000_000_000);

    fn connector(ca_file: &Path) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    /// Files made in a directory of their own. The test's client judges them by the system's
    /// time, so they must be valid now.
    fn certificate(directory: &Path) -> DevCertificate {
        use lockstep_model::Clock as _;
        let now = crate::system_clock::SystemClock::new().now().utc;
        dev_certificate::ensure(directory, &["ns.example".to_owned()], now).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_authority_gets_through_and_names_its_host() {
        let directory = tempfile::tempdir().unwrap();
        let files = certificate(directory.path());
        let acceptor = acceptor(&files.certificate_file, &files.key_file, None).unwrap();
        for host in ["localhost", "ns.example"] {
            let (client, server) = tokio::io::duplex(4096);
            let connector = connector(&files.ca_file);
            let client = tokio::spawn(async move {
                let mut client =
                    connector.connect(ServerName::try_from(host).unwrap(), client).await.unwrap();
                client.write_all(b"AMQP").await.unwrap();
                client.flush().await.unwrap();
                client
            });
            let mut server = acceptor.accept(server).await.unwrap();
            assert_eq!(server.get_ref().1.server_name(), Some(host));
            let mut bytes = [0; 4];
            server.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"AMQP");
            drop(client.await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_trust_the_authority_is_not_served() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, theirs) = (certificate(ours.path()), certificate(theirs.path()));
        let acceptor = acceptor(&ours.certificate_file, &ours.key_file, None).unwrap();
        let connector = connector(&theirs.ca_file);
        let (client, server) = tokio::io::duplex(4096);
        let client = tokio::spawn(async move {
            connector.connect(ServerName::try_from("localhost").unwrap(), client).await.map(|_| ())
        });
        assert!(acceptor.accept(server).await.is_err());
        assert!(client.await.unwrap().is_err());
    }

    /// A certificate for clients, signed by a new authority; the authority's file.
    fn client_certificate(directory: &Path) -> (PathBuf, CertificateDer<'static>, PrivateKeyDer<'static>) {
        use rcgen::{
            BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
            KeyUsagePurpose,
        };
        let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
        ca.distinguished_name.push(DnType::CommonName, directory.display().to_string());
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_key = KeyPair::generate().unwrap();
        let file = directory.join("client-ca.pem");
        std::fs::write(&file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
        let mut client = CertificateParams::new(vec!["worker".to_owned()]).unwrap();
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = client.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (file, certificate.der().clone(), key)
    }

    #[tokio::test]
    async fn client_certificates_are_optional_and_must_verify() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = certificate(directory.path());
        let (authority, known, known_key) = client_certificate(directory.path());
        let (_, foreign, foreign_key) = client_certificate(elsewhere.path());
        let acceptor = acceptor(&files.certificate_file, &files.key_file, Some(&authority)).unwrap();
        let expected = known.clone();
        for (presented, verifies) in
            [(None, true), (Some((known, known_key)), true), (Some((foreign, foreign_key)), false)]
        {
            let has_certificate = presented.is_some();
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&files.ca_file).unwrap()).unwrap();
            let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
            let config = match presented {
                None => builder.with_no_client_auth(),
                Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            };
            let (client, server) = tokio::io::duplex(16 * 1024);
            let client = tokio::spawn(async move {
                let host = ServerName::try_from("localhost").unwrap();
                let mut client = TlsConnector::from(Arc::new(config)).connect(host, client).await?;
                // The verdict comes behind the client's own last message.
                client.read_u8().await
            });
            match acceptor.accept(server).await {
                Ok(mut server) => {
                    assert!(verifies);
                    let seen = server.get_ref().1.peer_certificates().map(<[_]>::to_vec);
                    assert_eq!(seen, has_certificate.then(|| vec![expected.clone()]));
                    server.write_all(b"!").await.unwrap();
                    server.flush().await.unwrap();
                    assert_eq!(client.await.unwrap().unwrap(), b'!');
                }
                Err(error) => {
                    assert!(!verifies, "{error}");
                    let told = client.await.unwrap().expect_err("an alert").to_string();
                    assert!(told.contains("UnknownCA"), "{told}");
                }
            }
        }
    }

    #[test]
    fn errors_name_the_file_and_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let files = dev_certificate::ensure(directory.path(), &[], NOW).unwrap();
        let error = |certificate: &Path, key: &Path| match acceptor(certificate, key, None) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let absent = directory.path().join("absent.pem");
        assert!(error(&absent, &files.key_file).starts_with(&format!("cannot read {}: ", absent.display())));
        assert!(error(&files.certificate_file, &absent).contains("absent.pem"));
        assert!(error(&files.key_file, &files.key_file).contains("holds no certificate"));
        assert!(error(&files.certificate_file, &files.ca_file).contains("holds no private key"));
        assert!(error(&files.certificate_file, &files.ca_key_file).contains("cannot be used"));
        let of_authority = match acceptor(&files.certificate_file, &files.key_file, Some(&files.key_file)) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(of_authority.contains("holds no certificate"), "{of_authority}");
    }
}
