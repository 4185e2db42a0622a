//! What a verified client certificate says about its owner (SASL EXTERNAL).

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::distinguished_name::DistinguishedName;

/// The names in a certificate that the TLS handshake has verified against the configured
/// authority. It is not looked at again later: the rights last as long as the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ClientCertificate {
    subject: DistinguishedName,
    /// DNS names, e-mail addresses and URIs.
    alternative_names: Vec<AlternativeName>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum AlternativeName {
    /// Letter case does not count.
    Dns(String),
    Email(String),
    Uri(String),
}

/// Whose certificate is meant, as configured.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CertificateName {
    /// By the subject.
    Subject(DistinguishedName),
    /// By one of the subject's alternative names: a DNS name, an e-mail address or a URI.
    AlternativeName(String),
}

impl ClientCertificate {
    /// Reads the names.
    ///
    /// # Errors
    /// What is wrong with the certificate, in words for the log.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let alternative_names =
            names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(AlternativeName::Dns((*name).to_owned())),
                GeneralName::RFC822Name(name) => Some(AlternativeName::Email((*name).to_owned())),
                GeneralName::URI(name) => Some(AlternativeName::Uri((*name).to_owned())),
                _ => None,
            });
        Ok(Self {
            subject: DistinguishedName::of(certificate.subject()),
            alternative_names: alternative_names.collect(),
        })
    }

    /// The subject, for the log.
    pub(crate) const fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// Whether this is the certificate that is meant.
    pub(crate) fn is_named(&self, name: &CertificateName) -> bool {
        match name {
            CertificateName::Subject(subject) => self.subject == *subject,
            CertificateName::AlternativeName(name) => self.has_alternative_name(name),
        }
    }

    /// With a ':' it is a URI, otherwise with an '@' an e-mail address, otherwise a DNS name: an
    /// authority that lets owners choose one kind must not open the others.
    fn has_alternative_name(&self, name: &str) -> bool {
        let (is_uri, has_at) = (name.contains(':'), name.contains('@'));
        self.alternative_names.iter().any(|own| match own {
            AlternativeName::Dns(own) => !is_uri && !has_at && own.eq_ignore_ascii_case(name),
            AlternativeName::Email(own) => !is_uri && has_at && own == name,
            AlternativeName::Uri(own) => is_uri && own == name,
        })
    }

    /// Whether an authorization identity that the client named besides (RFC 4422, appendix A) is
    /// the certificate's own.
    pub(crate) fn is_identity(&self, named: &str) -> bool {
        self.has_alternative_name(named)
            || DistinguishedName::parse(named).is_ok_and(|subject| subject == self.subject)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate() -> ClientCertificate {
        let mut params = CertificateParams::new(vec!["Worker.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "worker");
        params.subject_alt_names.push(SanType::Rfc822Name("Worker@example.org".try_into().unwrap()));
        params.subject_alt_names.push(SanType::URI("spiffe://example/Worker".try_into().unwrap()));
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::read(made.der()).unwrap()
    }

    #[test]
    fn a_certificate_is_known_by_its_subject_and_each_alternative_name() {
        let certificate = certificate();
        let subject = |text| CertificateName::Subject(DistinguishedName::parse(text).unwrap());
        let other = |text: &str| CertificateName::AlternativeName(text.into());
        assert_eq!(certificate.subject().to_string(), "CN=worker");
        for named in [
            subject("cn=worker"),
            other("worker.EXAMPLE"),
            other("Worker@example.org"),
            other("spiffe://example/Worker"),
        ] {
            assert!(certificate.is_named(&named), "{named:?}");
        }
        for not in [
            subject("CN=Worker"),
            subject("CN=worker,O=Acme"),
            other("worker"),
            other("worker@example.org"),
            other("spiffe://example/worker"),
            other(""),
        ] {
            assert!(!certificate.is_named(&not), "{not:?}");
        }
    }

    #[test]
    fn an_alternative_name_counts_only_as_what_it_is() {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        for name in ["root.example", "root@example.org"] {
            params.subject_alt_names.push(SanType::URI(name.try_into().unwrap()));
        }
        params.subject_alt_names.push(SanType::DnsName("spiffe://root".try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("other.example".try_into().unwrap()));
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let certificate = ClientCertificate::read(made.der()).unwrap();
        for name in ["root.example", "root@example.org", "spiffe://root", "other.example"] {
            assert!(!certificate.is_named(&CertificateName::AlternativeName(name.into())), "{name}");
        }
    }

    #[test]
    fn an_authorization_identity_is_one_of_its_names() {
        let certificate = certificate();
        for own in ["CN=worker", "worker.example", "Worker@example.org"] {
            assert!(certificate.is_identity(own), "{own}");
        }
        for other in ["worker", "CN=root", "root.example"] {
            assert!(!certificate.is_identity(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        assert!(ClientCertificate::read(b"no certificate").is_err());
    }
}
