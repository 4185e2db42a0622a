//! Who the client is and which namespace it means: SASL, open, tokens that run out.

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::{
    SaslCode,
    types::{Error, Open},
};
use lockstep_broker::runtime::MemoryPressure;
use lockstep_model::{EntityName, Refusal, Right};
use lockstep_protocol::{names::condition::SERVER_BUSY, names::sasl, sas_token, sasl_plain};

use super::{Connection, LinkBinding, authorizer::Grant};
use crate::{
    client_certificate::ClientCertificate,
    config::PolicyConfig,
    context::{NamespaceContext, ServerContext},
};

/// Within this time of connecting a client must have presented a token (semantics B-101).
pub(super) const AUTHENTICATION_WAIT: Duration = Duration::from_secs(20);

/// What the client said about itself.
#[derive(Debug)]
pub(super) struct Identity {
    sni: Option<String>,
    sasl_hostname: Option<Box<str>>,
    open_hostname: Option<Box<str>>,
    pub(super) container_id: Box<str>,
    /// Policy name and key of SASL PLAIN; checked again once the namespace is known.
    plain: Option<(String, String)>,
    /// Of the TLS handshake; says nothing unless the client authenticates by it.
    certificate: Option<Box<ClientCertificate>>,
    /// Whether it did; which rights that gives is looked up once the namespace is known.
    is_external: bool,
}

impl Identity {
    pub(super) fn new(sni: Option<String>, certificate: Option<ClientCertificate>) -> Self {
        Self {
            sni,
            sasl_hostname: None,
            open_hostname: None,
            container_id: "".into(),
            plain: None,
            certificate: certificate.map(Box::new),
            is_external: false,
        }
    }

    fn hosts(&self) -> [Option<&str>; 3] {
        [self.open_hostname.as_deref(), self.sasl_hostname.as_deref(), self.sni.as_deref()]
    }

    /// Every host that the client named.
    pub(super) fn said_hosts(&self) -> [Option<&str>; 3] {
        self.hosts()
    }

    /// The host name for texts: the client's own word for it, else the namespace's.
    pub(super) fn host(&self, namespace: Option<&NamespaceContext>) -> String {
        let said = self.hosts().into_iter().flatten().find(|host| !host.is_empty());
        said.or_else(|| namespace.map(|namespace| namespace.config.name.as_str())).unwrap_or("").to_owned()
    }
}

/// The grants that a policy name and key give in a namespace.
fn password_grants(namespace: &NamespaceContext, name: &str, key: &str) -> Vec<Grant> {
    let matches = |policy: &&PolicyConfig| {
        std::iter::once(&policy.primary_key)
            .chain(&policy.secondary_key)
            .any(|own| sas_token::is_same_key(key, own.expose()))
    };
    let grant = |policy: &PolicyConfig| Grant {
        path: policy.scope.as_ref().map_or_else(String::new, |scope| scope.key().to_owned()),
        policy_scope: policy.scope.clone(),
        rights: policy.rights.clone(),
        expires_at: None,
    };
    namespace.policies(name).filter(matches).map(grant).collect()
}

/// The grants that a client certificate gives in a namespace: one for each entity, whatever names
/// of the certificate they were configured by.
fn certificate_grants(namespace: &NamespaceContext, certificate: &ClientCertificate) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for known in namespace.config.client_certificates.iter().filter(|known| certificate.is_named(&known.name))
    {
        let path = known.scope.as_ref().map_or("", EntityName::key);
        match grants.iter_mut().find(|grant| grant.path == path) {
            Some(grant) => grant.rights.extend_from_slice(&known.rights),
            None => grants.push(Grant {
                path: path.to_owned(),
                policy_scope: known.scope.clone(),
                rights: known.rights.clone(),
                expires_at: None,
            }),
        }
    }
    grants
}

fn known_anywhere(context: &ServerContext, name: &str, key: &str) -> bool {
    context.namespaces.iter().any(|namespace| !password_grants(namespace, name, key).is_empty())
}

impl Connection {
    pub(super) fn sasl_init(
        &mut self,
        mechanism: &str,
        initial_response: Option<Bytes>,
        hostname: Option<Box<str>>,
    ) {
        self.identity.sasl_hostname = hostname;
        let code = match mechanism {
            // MSSBCBS is .NET's name for ANONYMOUS followed by a token on $cbs.
            "ANONYMOUS" | "MSSBCBS" => SaslCode::Ok,
            "PLAIN" => {
                let response = initial_response.unwrap_or_default();
                match sasl_plain::parse(&response) {
                    // Which namespace is meant may be known at open only; it is checked again there.
                    Ok(plain) if known_anywhere(&self.context, plain.policy_name, plain.key) => {
                        self.identity.plain = Some((plain.policy_name.to_owned(), plain.key.to_owned()));
                        SaslCode::Ok
                    }
                    _ => SaslCode::Auth,
                }
            }
            sasl::EXTERNAL => self.sasl_external(initial_response.as_deref().unwrap_or_default()),
            _ => SaslCode::Auth,
        };
        if code != SaslCode::Ok {
            tracing::info!(mechanism, "SASL authentication failed");
        }
        self.engine.sasl_outcome(code);
    }

    /// Authenticates by the certificate of the TLS handshake. The client may name itself besides,
    /// but nobody else.
    fn sasl_external(&mut self, named: &[u8]) -> SaslCode {
        let Some(certificate) = self.identity.certificate.as_deref() else { return SaslCode::Auth };
        let subject = certificate.subject();
        let is_own =
            named.is_empty() || std::str::from_utf8(named).is_ok_and(|named| certificate.is_identity(named));
        if !is_own {
            tracing::info!(%subject, "the client names another identity than its certificate");
            return SaslCode::Auth;
        }
        // Which namespace is meant may be known at open only; it is checked again there.
        let mut namespaces = self.context.namespaces.iter();
        if !namespaces.any(|namespace| !certificate_grants(namespace, certificate).is_empty()) {
            tracing::info!(%subject, "no namespace gives rights to this client certificate");
            return SaslCode::Auth;
        }
        self.identity.is_external = true;
        SaslCode::Ok
    }

    /// The grants of a client that authenticated by certificate; an error closes the connection.
    fn external_grants(&self, namespace: &NamespaceContext) -> Result<Vec<Grant>, String> {
        let certificate = self.identity.certificate.as_deref().filter(|_| self.identity.is_external);
        let Some(certificate) = certificate else { return Ok(Vec::new()) };
        let grants = certificate_grants(namespace, certificate);
        if grants.is_empty() {
            let (subject, name) = (certificate.subject(), &namespace.config.name);
            tracing::info!(%subject, namespace = %name, "the namespace gives no rights to this client certificate");
            return Err(format!(
                "Unauthorized access. The client certificate '{subject}' has no rights in namespace '{name}'."
            ));
        }
        Ok(grants)
    }

    pub(super) fn opened(&mut self, open: &Open) {
        self.identity.open_hostname.clone_from(&open.hostname);
        self.identity.container_id.clone_from(&open.container_id);
        let index = self.context.namespace_of(self.identity.hosts());
        let context = std::sync::Arc::clone(&self.context);
        let namespace = &context.namespaces[index];
        if let Some((name, key)) = self.identity.plain.take() {
            let grants = password_grants(namespace, &name, &key);
            if grants.is_empty() {
                let text = format!(
                    "Unauthorized access. The policy '{name}' with this key is not one of namespace '{}'.",
                    namespace.config.name
                );
                self.engine.close(Some(Error::new("amqp:unauthorized-access", text)));
                return;
            }
            self.authentication_deadline = None;
            for grant in grants {
                // A connection that has no grants yet has room for those of one policy name.
                let _has_room = self.authorizer.add(grant);
            }
        }
        match self.external_grants(namespace) {
            Ok(grants) => {
                for grant in grants {
                    self.authentication_deadline = None;
                    // The configuration has fewer than a connection may hold, or else the first.
                    let _has_room = self.authorizer.add(grant);
                }
            }
            Err(text) => {
                self.engine.close(Some(Error::new("amqp:unauthorized-access", text)));
                return;
            }
        }
        if self.context.memory.pressure() == MemoryPressure::Full {
            let text = "The broker is short of memory. Please try again later.";
            self.engine.close(Some(Error::new(SERVER_BUSY, text)));
            return;
        }
        let broker = namespace.client.connect();
        tracing::debug!(
            connection = broker.id().0,
            namespace = %namespace.config.name,
            container_id = %open.container_id,
            "connection opened"
        );
        self.namespace = Some((index, broker));
        self.engine.open(None);
    }

    /// No token came in time.
    pub(super) fn close_unauthenticated(&mut self) {
        if self.authorizer.is_authenticated() || self.namespace.is_none() {
            return;
        }
        let text = format!(
            "Unauthorized access. No token was presented on '$cbs' within {} seconds.",
            AUTHENTICATION_WAIT.as_secs()
        );
        self.engine.close(Some(Error::new("amqp:unauthorized-access", text)));
    }

    /// Detaches links whose token ran out (wire.md 2.6).
    pub(super) fn detach_expired(&mut self) {
        let now = self.now.utc;
        self.expiries_seen_to = now;
        let expired: Vec<(lockstep_amqp::LinkId, Refusal)> = self
            .links
            .iter()
            .filter_map(|(link, binding)| {
                let checked = match binding {
                    LinkBinding::Sender(sender) => self.authorizer.check(&sender.address, Right::Send, now),
                    LinkBinding::Receiver(receiver) if !receiver.ending => {
                        self.authorizer.check(&receiver.address, Right::Listen, now)
                    }
                    _ => Ok(()),
                };
                checked.err().map(|refusal| (*link, refusal))
            })
            .collect();
        for (link, refusal) in expired {
            match self.links.get(&link) {
                Some(LinkBinding::Sender(_)) => self.end_sender(link, &refusal),
                Some(LinkBinding::Receiver(_)) => self.end_receiver(link, &refusal),
                _ => {}
            }
        }
    }
}
