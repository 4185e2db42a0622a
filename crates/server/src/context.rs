//! What all connections of the server share.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use lockstep_amqp as amqp;
use lockstep_broker::runtime::{BrokerClient, MemoryBudget};
use lockstep_model::{Clock, EntityAddress, Timestamp};
use lockstep_protocol::sas_token::{Audience, SasToken, TokenError};

use crate::{
    config::{NamespaceConfig, PolicyConfig, Secret},
    connection::{authorizer::Grant, idleness::IdleRules},
};

/// A namespace as connections see it.
#[derive(Debug)]
pub(crate) struct NamespaceContext {
    pub(crate) config: NamespaceConfig,
    pub(crate) client: BrokerClient,
}

impl NamespaceContext {
    /// Whether `host` (perhaps with a port) means this namespace.
    fn answers_to(&self, host: &str) -> bool {
        let host = without_port(host);
        host.eq_ignore_ascii_case(&self.config.name)
            || self.config.host_names.iter().any(|name| name.eq_ignore_ascii_case(host))
            || host.split_once('.').is_some_and(|(first, _)| first.eq_ignore_ascii_case(&self.config.name))
    }

    /// The policies of that name: one of the namespace, and those of entities.
    pub(crate) fn policies<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a PolicyConfig> {
        self.config.policies.iter().filter(move |policy| policy.name == name)
    }

    /// The authorisation rule of that name that is stored with the entity at `path` (or above: its
    /// sub-queues and nodes have none of their own), as a policy (semantics G-6).
    fn stored_policy(&self, name: &str, path: &str) -> Option<PolicyConfig> {
        let address = EntityAddress::parse(path).ok()?;
        let found = self.client.lookup(&address.entity)?;
        let description = &found.description;
        let rule = description.authorization_rules.iter().find(|rule| *rule.key_name == *name)?;
        Some(PolicyConfig {
            name: name.to_owned(),
            primary_key: Secret::new(&rule.primary_key),
            secondary_key: Some(Secret::new(&rule.secondary_key)),
            rights: rule.rights.clone(),
            scope: Some(description.name.clone()),
        })
    }
}

/// See the module's documentation.
pub(crate) struct ServerContext {
    /// In the order of the configuration; the first one is meant by unknown hosts. Never empty.
    pub(crate) namespaces: Vec<NamespaceContext>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) engine_config: Arc<amqp::Config>,
    /// The same for connections with a verified client certificate: with SASL EXTERNAL.
    pub(crate) engine_config_external: Arc<amqp::Config>,
    /// Bytes of large messages that arrived and are not durable yet.
    pub(crate) unstored_bytes: Arc<AtomicUsize>,
    /// What the process holds for its clients.
    pub(crate) memory: Arc<MemoryBudget>,
    /// How long a client may leave unread what is sent to it.
    pub(crate) unread_timeout: Duration,
    /// What is given up when nobody uses it.
    pub(crate) idle_rules: IdleRules,
    /// When the server started.
    pub(crate) started_at: Timestamp,
}

impl std::fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerContext").field("namespaces", &self.namespaces.len()).finish_non_exhaustive()
    }
}

impl ServerContext {
    /// Whether a token made for `host` (no port) is made for this namespace: by one of its names,
    /// by the name under which the client itself addresses the broker, or by a local address.
    pub(crate) fn is_own_host(
        &self,
        namespace: &NamespaceContext,
        host: &str,
        said: [Option<&str>; 3],
    ) -> bool {
        namespace.answers_to(host)
            || said.into_iter().flatten().any(|said| without_port(said).eq_ignore_ascii_case(host))
            || host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Checks a token for an audience: its form, signature, expiry and scope, with the keys of
    /// whatever policies have its name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check_token(
        &self,
        namespace: &NamespaceContext,
        token: &str,
        audience: &Audience,
        said: [Option<&str>; 3],
        now: Timestamp,
    ) -> Result<Grant, TokenError> {
        let token = SasToken::parse(token)?;
        let is_own_host = |host: &str| self.is_own_host(namespace, host, said);
        let mut result = Err(TokenError::InvalidSignature);
        let stored = namespace.stored_policy(token.policy_name(), audience.path());
        // Policies of the namespace and of entities may share a name; the one whose key signed counts.
        for policy in namespace.policies(token.policy_name()).chain(&stored) {
            match token.check(keys(policy), audience, is_own_host, now) {
                Ok(()) => {
                    return Ok(Grant {
                        path: audience.path().to_owned(),
                        policy_scope: policy.scope.clone(),
                        rights: policy.rights.clone(),
                        expires_at: Some(token.expires_at()),
                    });
                }
                Err(TokenError::InvalidSignature) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// The namespace that the first known of these hosts means; the first one if none is known.
    pub(crate) fn namespace_of(&self, hosts: [Option<&str>; 3]) -> usize {
        hosts
            .into_iter()
            .flatten()
            .find_map(|host| self.namespaces.iter().position(|namespace| namespace.answers_to(host)))
            .unwrap_or(0)
    }
}

fn keys(policy: &PolicyConfig) -> impl Iterator<Item = &str> {
    std::iter::once(&policy.primary_key).chain(&policy.secondary_key).map(Secret::expose)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}
