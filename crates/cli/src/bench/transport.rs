//! Byte streams to a broker over the network: plain TCP, or TLS over it.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
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

use super::{address::Address, args::TargetArgs, client::Dial};

/// Where systems keep the authorities that they trust; the first that is there is read.
const SYSTEM_CA_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How to connect.
#[derive(Clone)]
pub(super) struct NetDial {
    host_port: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for NetDial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host_port, tls } = self;
        f.debug_struct("NetDial").field("host_port", host_port).field("tls", &tls.is_some()).finish()
    }
}

impl NetDial {
    /// # Errors
    /// When TLS is wanted and certificates cannot be read.
    pub(super) fn new(address: &Address, args: &TargetArgs) -> Result<Self> {
        let host_port = address.host_port();
        if !address.tls {
            return Ok(Self { host_port, tls: None });
        }
        let name = ServerName::try_from(address.host.clone()).context("the host is no name for TLS")?;
        let connector = TlsConnector::from(Arc::new(client_config(args)?));
        Ok(Self { host_port, tls: Some((connector, name)) })
    }
}

fn client_config(args: &TargetArgs) -> Result<ClientConfig> {
    let ca_file = match &args.tls_ca {
        Some(file) => file.clone(),
        None => SYSTEM_CA_FILES
            .into_iter()
            .map(PathBuf::from)
            .find(|file| file.exists())
            .context("the system's authorities were not found; give --tls-ca")?,
    };
    let mut roots = RootCertStore::empty();
    let (good, bad) = roots.add_parsable_certificates(certificates(&ca_file)?);
    ensure!(good > 0, "none of the {bad} certificates in {} is an authority", ca_file.display());
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let (Some(cert_file), Some(key_file)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_file(key_file)
        .with_context(|| format!("{} holds no private key in PEM", key_file.display()))?;
    builder
        .with_client_auth_cert(certificates(cert_file)?, key)
        .with_context(|| format!("the certificate in {} cannot be used", cert_file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| format!("{} holds no certificates in PEM", file.display()))?;
    ensure!(!chain.is_empty(), "{} holds no certificates in PEM", file.display());
    Ok(chain)
}

impl Dial for NetDial {
    type Stream = NetStream;

    async fn dial(&self) -> io::Result<NetStream> {
        let stream = TcpStream::connect(&self.host_port).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(NetStream::Plain(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                Ok(NetStream::Tls(Box::new(stream)))
            }
        }
    }
}

/// A byte stream to a broker.
#[derive(Debug)]
pub(super) enum NetStream {
    /// TCP itself.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for NetStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for NetStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
