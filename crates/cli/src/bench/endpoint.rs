//! Which broker, and who the client is to it.

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use lockstep_amqp::{ClientSasl, types::Symbol};
use lockstep_protocol::{names, sas_token};

use super::{
    address::Address,
    args::{SaslChoice, Switch, TargetArgs},
    clock,
};

/// SASL EXTERNAL (RFC 4422, appendix A).
const EXTERNAL: &str = "EXTERNAL";

/// How long a token is good, in seconds: longer than any run.
const TOKEN_LIFETIME_S: u64 = 24 * 3_600;

/// A broker, and who the client is to it.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Where it is.
    pub(super) address: Address,
    /// The host that open names.
    pub(super) hostname: String,
    user: String,
    password: Option<String>,
    sasl: SaslChoice,
    cbs: bool,
}

impl Endpoint {
    /// # Errors
    /// When the address cannot be read, or the way to authenticate lacks something.
    pub(super) fn from_args(args: &TargetArgs) -> Result<Self> {
        let address = match &args.connection_string {
            Some(text) => Address::parse_connection_string(text)?,
            None => Address::parse(&args.address)?,
        };
        let user = address.user.clone().unwrap_or_else(|| args.policy.clone());
        let password = address.password.clone().or_else(|| args.key.clone());
        let cbs = args.cbs == Switch::On;
        let sasl = args.sasl.unwrap_or(match password {
            Some(_) if !cbs => SaslChoice::Plain,
            _ => SaslChoice::Anonymous,
        });
        if password.is_none() && (cbs || sasl == SaslChoice::Plain) {
            bail!("--sasl plain and --cbs on need --key, a password in --address, or --connection-string");
        }
        ensure!(
            sasl != SaslChoice::External || (address.tls && args.tls_cert.is_some()),
            "--sasl external needs an amqps:// address, --tls-cert and --tls-key"
        );
        let hostname = args.hostname.clone().unwrap_or_else(|| address.host.clone());
        Ok(Self { address, hostname, user, password, sasl, cbs })
    }

    /// The SASL exchange; `None` means no SASL layer.
    pub(super) fn sasl(&self) -> Option<ClientSasl> {
        let (mechanism, initial_response) = match self.sasl {
            SaslChoice::None => return None,
            SaslChoice::Plain => {
                let password = self.password.as_deref().unwrap_or_default();
                let response = Bytes::from(format!("\0{}\0{password}", self.user));
                (names::sasl::PLAIN, Some(response))
            }
            SaslChoice::Anonymous => (names::sasl::ANONYMOUS, None),
            SaslChoice::Mssbcbs => (names::sasl::MSSBCBS, None),
            SaslChoice::External => (EXTERNAL, Some(Bytes::new())),
        };
        Some(ClientSasl { mechanism: Symbol::new(mechanism), initial_response })
    }

    /// Audience and token for an entity, if tokens are put.
    pub(super) fn token(&self, entity: &str) -> Option<(String, String)> {
        let key = self.password.as_deref().filter(|_| self.cbs)?;
        let audience = format!("sb://{}/{entity}", self.hostname);
        let expiry = clock::unix_nanos() / 1_000_000_000 + TOKEN_LIFETIME_S;
        let expiry = i64::try_from(expiry).unwrap_or(i64::MAX);
        let token = sas_token::mint(&audience, &self.user, key, expiry);
        Some((audience, token))
    }

    /// Who is refused when authentication fails.
    pub(super) fn identity(&self) -> String {
        match self.sasl {
            SaslChoice::Plain => format!("user {}", self.user),
            SaslChoice::None => "nobody (no SASL layer)".to_owned(),
            SaslChoice::Anonymous | SaslChoice::Mssbcbs => "anonymous".to_owned(),
            SaslChoice::External => "the subject of the client certificate".to_owned(),
        }
    }
}
