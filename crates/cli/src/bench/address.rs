//! The broker's address as one writes it: a URL, `host:port`, or a connection string.

use anyhow::{Context as _, Result, bail};

/// Port of plain AMQP.
const PLAIN_PORT: u16 = 5672;

/// Port of AMQP over TLS.
const TLS_PORT: u16 = 5671;

/// What an address says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Address {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// User of SASL PLAIN, or policy of a token.
    pub(super) user: Option<String>,
    /// Its password or key.
    pub(super) password: Option<String>,
    /// Name of a queue.
    pub(super) queue: Option<String>,
}

impl Address {
    /// Reads `amqp://user:password@host:port/queue` (`amqps` for TLS) or `host:port`.
    ///
    /// # Errors
    /// When the scheme is another one, the host is missing, or the port is no number.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (tls, rest) = match text.split_once("://") {
            None | Some(("amqp", _)) => (false, text.strip_prefix("amqp://").unwrap_or(text)),
            Some(("amqps", rest)) => (true, rest),
            Some((scheme, _)) => bail!("the address has the scheme {scheme}; known are amqp and amqps"),
        };
        let (authority, queue) = match rest.split_once('/') {
            Some((authority, queue)) => (authority, percent_decoded(queue)?),
            None => (rest, String::new()),
        };
        let (credentials, host_port) = match authority.rsplit_once('@') {
            Some((credentials, host_port)) => (Some(credentials), host_port),
            None => (None, authority),
        };
        let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((user, password)) => (Some(percent_decoded(user)?), Some(percent_decoded(password)?)),
            None => (None, None),
        };
        let (host, port) = host_and_port(host_port, if tls { TLS_PORT } else { PLAIN_PORT })?;
        let queue = (!queue.is_empty()).then_some(queue);
        Ok(Self { host, port, tls, user, password, queue })
    }

    /// Reads a connection string of Service Bus. With `UseDevelopmentEmulator=true` it means plain
    /// TCP, else TLS, as it does for the clients of Service Bus.
    ///
    /// # Errors
    /// When a part is missing.
    pub(super) fn parse_connection_string(text: &str) -> Result<Self> {
        let optional = |name: &str| {
            let pairs = text.split(';').filter_map(|part| part.split_once('='));
            let mut named = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let field =
            |name: &str| optional(name).with_context(|| format!("the connection string has no {name}"));
        let endpoint = field("Endpoint")?;
        let host_port = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
        let tls = !optional("UseDevelopmentEmulator").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let port = if tls { TLS_PORT } else { PLAIN_PORT };
        let (host, port) = host_and_port(host_port.trim_end_matches('/'), port)?;
        Ok(Self {
            host,
            port,
            tls,
            user: Some(field("SharedAccessKeyName")?),
            password: Some(field("SharedAccessKey")?),
            queue: optional("EntityPath"),
        })
    }

    /// Host and port as a resolver wants them.
    pub(super) fn host_port(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

fn host_and_port(text: &str, default: u16) -> Result<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        bail!("the address {text:?} has no host");
    }
    let port = match port {
        None | Some("") => default,
        Some(port) => port.parse().with_context(|| format!("the port of {text:?} is no number"))?,
    };
    Ok((host.to_owned(), port))
}

fn percent_decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.split_first_chunk::<2>().and_then(|(digits, behind)| {
            rest = behind;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        });
        bytes.push(digits.with_context(|| format!("{text:?} has a % without two hexadecimal digits"))?);
    }
    String::from_utf8(bytes).with_context(|| format!("{text:?} is not UTF-8 when decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn a_url_gives_everything_with_percent_encoding_undone() {
        let address = parsed("amqps://a%40b:p%2Fw%3a@broker.test:7000/amq/queue/q%201");
        assert_eq!((address.host_port(), address.tls), ("broker.test:7000".to_owned(), true));
        assert_eq!(address.user.as_deref(), Some("a@b"));
        assert_eq!(address.password.as_deref(), Some("p/w:"));
        assert_eq!(address.queue.as_deref(), Some("amq/queue/q 1"));
    }

    #[test]
    fn a_path_with_two_slashes_keeps_the_second() {
        assert_eq!(parsed("amqp://h//amq/queue/q").queue.as_deref(), Some("/amq/queue/q"));
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let address = parsed("localhost");
        assert_eq!((address.host_port(), address.tls), ("localhost:5672".to_owned(), false));
        assert_eq!((address.user, address.password, address.queue), (None, None, None));
        assert_eq!(parsed("amqps://localhost/").port, 5671);
        assert_eq!(parsed("amqps://localhost/").queue, None);
        assert_eq!(parsed("amqp://[::1]").host_port(), "[::1]:5672");
        assert_eq!(parsed("[::1]:7000").host_port(), "[::1]:7000");
    }

    #[test]
    fn a_wrong_address_is_refused_with_its_reason() {
        let error = |text| Address::parse(text).unwrap_err().to_string();
        assert!(error("http://localhost").contains("http"));
        assert!(error("localhost:x").contains("port"));
        assert!(error("amqp://:5672").contains("no host"));
        assert!(error("amqp://a%zz@h").contains("hexadecimal"));
        assert!(error("amqp://a%ff@h").contains("UTF-8"));
    }

    #[test]
    fn a_connection_string_gives_host_policy_key_and_queue() {
        let text = "Endpoint=sb://localhost:7000/;SharedAccessKeyName=root;SharedAccessKey=a=b==;\
                    UseDevelopmentEmulator=true;EntityPath=orders";
        let address = Address::parse_connection_string(text).unwrap();
        assert_eq!((address.host_port(), address.tls), ("localhost:7000".to_owned(), false));
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("root"), Some("a=b==")));
        assert_eq!(address.queue.as_deref(), Some("orders"));
    }

    #[test]
    fn a_connection_string_without_the_word_emulator_means_tls() {
        let text = "Endpoint=sb://ns.test/;SharedAccessKeyName=root;SharedAccessKey=k";
        let address = Address::parse_connection_string(text).unwrap();
        assert_eq!((address.host_port(), address.tls), ("ns.test:5671".to_owned(), true));
    }

    #[test]
    fn what_a_connection_string_lacks_is_named() {
        let error =
            Address::parse_connection_string("Endpoint=sb://localhost;SharedAccessKey=k").unwrap_err();
        assert!(error.to_string().contains("SharedAccessKeyName"));
    }
}
