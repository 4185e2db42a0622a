//! Where the broker is and how to authenticate.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use lockstep_amqp::{ClientSasl, types::Symbol};
use lockstep_protocol::{names, sas_token};

use super::{
    args::{AuthMethod, TargetArgs},
    clock,
};

/// Port of plain AMQP.
const PLAIN_PORT: u16 = 5672;

/// How long a token is good, in seconds: longer than any run.
const TOKEN_LIFETIME_S: u64 = 24 * 3_600;

/// A broker, and who the client is to it.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// `host:port`.
    pub(super) address: String,
    /// The host that open names.
    pub(super) hostname: String,
    policy: String,
    key: String,
    auth: AuthMethod,
}

impl Endpoint {
    pub(super) fn from_args(args: &TargetArgs) -> Result<Self> {
        let (address, policy, key) = match (&args.connection_string, &args.key) {
            (Some(text), _) => parse_connection_string(text)?,
            (None, Some(key)) => (args.address.clone(), args.policy.clone(), key.clone()),
            (None, None) => bail!("give --key (with --policy), or --connection-string"),
        };
        let address = with_port(&address);
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let hostname = args.hostname.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
        Ok(Self { hostname, address, policy, key, auth: args.auth })
    }

    /// The SASL exchange.
    pub(super) fn sasl(&self) -> ClientSasl {
        match self.auth {
            AuthMethod::Plain => ClientSasl {
                mechanism: Symbol::new(names::sasl::PLAIN),
                initial_response: Some(Bytes::from(format!("\0{}\0{}", self.policy, self.key))),
            },
            AuthMethod::Cbs => {
                ClientSasl { mechanism: Symbol::new(names::sasl::ANONYMOUS), initial_response: None }
            }
        }
    }

    /// Audience and token for an entity, if tokens are the way to authenticate.
    pub(super) fn token(&self, entity: &str) -> Option<(String, String)> {
        if self.auth != AuthMethod::Cbs {
            return None;
        }
        let audience = format!("sb://{}/{entity}", self.hostname);
        let expiry = clock::unix_nanos() / 1_000_000_000 + TOKEN_LIFETIME_S;
        let expiry = i64::try_from(expiry).unwrap_or(i64::MAX);
        let token = sas_token::mint(&audience, &self.policy, &self.key, expiry);
        Some((audience, token))
    }

    /// Who is refused when authentication fails.
    pub(super) fn policy(&self) -> &str {
        &self.policy
    }
}

fn with_port(address: &str) -> String {
    let has_port = match address.rsplit_once(':') {
        Some((host, port)) => {
            !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !host.is_empty()
        }
        None => false,
    };
    if has_port { address.to_owned() } else { format!("{}:{PLAIN_PORT}", address.trim_end_matches(':')) }
}

/// Address, policy and key.
fn parse_connection_string(text: &str) -> Result<(String, String, String)> {
    let field = |name: &str| {
        text.split(';')
            .filter_map(|part| part.split_once('='))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .with_context(|| format!("the connection string has no {name}"))
    };
    let endpoint = field("Endpoint")?;
    let host = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    let host = host.trim_end_matches('/');
    Ok((host.to_owned(), field("SharedAccessKeyName")?, field("SharedAccessKey")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_gives_address_policy_and_key() {
        let text = "Endpoint=sb://localhost;SharedAccessKeyName=root;SharedAccessKey=a=b==;UseDevelopmentEmulator=true;";
        let (address, policy, key) = parse_connection_string(text).unwrap();
        assert_eq!([&*with_port(&address), &policy, &key], ["localhost:5672", "root", "a=b=="]);
    }

    #[test]
    fn what_a_connection_string_lacks_is_named() {
        let error = parse_connection_string("Endpoint=sb://localhost:7000/;SharedAccessKey=k").unwrap_err();
        assert!(error.to_string().contains("SharedAccessKeyName"));
    }
}
