//! Shared access signatures: form, signature, scope and expiry (wire.md 2.4, 2.5).
//!
//! `SharedAccessSignature sr=<resource>&sig=<signature>&se=<expiry>&skn=<policy name>`, where the
//! signature is the HMAC-SHA256 of `<resource>\n<expiry>` exactly as they stand in the token,
//! with the UTF-8 bytes of the policy's key.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use lockstep_model::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::timestamp_text::Iso8601;

/// Bytes of the longest token looked at.
pub const TOKEN_BYTES_MAX: usize = 8_192;
/// What a token begins with, in any letter case.
const SCHEME: &str = "SharedAccessSignature";

/// Why a token is not good. All of them are a 401 of the put-token; the texts begin as clients
/// expect.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// It does not have the form of a shared access signature.
    #[error("MalformedToken: The token is no shared access signature: {0}.")]
    Malformed(&'static str),
    /// No key of the policy made the signature, or there is no such policy; which of both is not
    /// told.
    #[error("InvalidSignature: The token has an invalid signature.")]
    InvalidSignature,
    /// It has run out.
    #[error("ExpiredToken: The token is expired. Expiration time: {time}", time = Iso8601(*.0))]
    Expired(Timestamp),
    /// It was made for another resource.
    #[error("InvalidAudience: The resource of the token does not cover the audience.")]
    InvalidAudience,
}

/// What a token is for: the host and path of a resource, in a form that can be compared. Schemes
/// and ports make no difference, neither do letter case, percent-escapes and extra slashes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Audience {
    host: Box<str>,
    path: Box<str>,
}

impl Audience {
    /// Takes an audience or resource apart. A text without a scheme is taken as host and path.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let decoded = percent_decode(text).to_lowercase();
        let rest = decoded.split_once("://").map_or(decoded.as_str(), |(_, rest)| rest);
        // JavaScript signs URLs with their queries; no entity has a question mark in its name.
        let rest = rest.split_once('?').map_or(rest, |(path, _query)| path);
        let mut segments = rest.split('/').filter(|segment| !segment.is_empty());
        let authority = segments.next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let path = segments.collect::<Vec<_>>().join("/");
        Self { host: host.into(), path: path.into() }
    }

    /// The host, in lower case, without port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path, in lower case, decoded, without slashes at its ends; empty for the whole
    /// namespace.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a token for this resource is good for `other`, hosts aside: the same path, or one
    /// above it. A queue covers its `$DeadLetterQueue` and `$management`, a topic its
    /// subscriptions, the root everything.
    #[must_use]
    pub fn covers_path(&self, other: &Self) -> bool {
        let Some(below) = other.path.strip_prefix(&*self.path) else {
            return false;
        };
        self.path.is_empty() || below.is_empty() || below.starts_with('/')
    }
}

/// A token taken apart. Its debug output leaves the signature out.
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken<'a> {
    resource_raw: &'a str,
    expiry_raw: &'a str,
    resource: Audience,
    signature: Vec<u8>,
    policy_name: String,
    expires_at: Timestamp,
}

impl fmt::Debug for SasToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SasToken")
            .field("resource", &self.resource)
            .field("policy_name", &self.policy_name)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl<'a> SasToken<'a> {
    /// Takes a token apart: fields in any order, names in any letter case, unknown ones ignored.
    ///
    /// # Errors
    /// `Malformed` when a field is missing or unreadable, or the token is longer than
    /// [`TOKEN_BYTES_MAX`].
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed("it is too long"));
        }
        let token = token.trim();
        if !has_scheme(token) {
            return Err(TokenError::Malformed("it does not begin with SharedAccessSignature"));
        }
        let fields = token[SCHEME.len()..].trim_start();
        let field = |name: &str| {
            fields
                .split('&')
                .filter_map(|field| field.split_once('='))
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        let resource_raw = field("sr").ok_or(TokenError::Malformed("the field sr is missing"))?;
        let signature = field("sig").ok_or(TokenError::Malformed("the field sig is missing"))?;
        let expiry_raw = field("se").ok_or(TokenError::Malformed("the field se is missing"))?;
        let policy_name = field("skn").ok_or(TokenError::Malformed("the field skn is missing"))?;
        let expiry_s: i64 = percent_decode(expiry_raw)
            .parse()
            .map_err(|_| TokenError::Malformed("the field se is no number of seconds"))?;
        let signature = STANDARD
            .decode(percent_decode(signature))
            .map_err(|_| TokenError::Malformed("the field sig is no base64"))?;
        Ok(Self {
            resource_raw,
            expiry_raw,
            // Once for its place in the token; the resource itself is a URI with escapes too.
            resource: Audience::parse(&percent_decode(resource_raw)),
            signature,
            policy_name: percent_decode(policy_name),
            expires_at: Timestamp::from_unix_millis(expiry_s.saturating_mul(1_000)),
        })
    }

    /// Name of the policy whose key signed it, as the token says.
    #[must_use]
    pub fn policy_name(&self) -> &str {
        &self.policy_name
    }

    /// When it runs out: client-claimed, but covered by the signature.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// What it is good for, as it says.
    #[must_use]
    pub const fn resource(&self) -> &Audience {
        &self.resource
    }

    /// Checks the token in the order that clients rely on: signature (by any of `keys`, the
    /// policy's primary and secondary key; none for an unknown policy), expiry, scope.
    /// `is_own_host` tells whether a host name (lower case, no port) means the namespace. The
    /// signature is compared in constant time.
    ///
    /// # Errors
    /// `InvalidSignature`, `Expired` or `InvalidAudience`, the first that applies.
    pub fn check<K: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        audience: &Audience,
        is_own_host: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        let signed = keys.into_iter().any(|key| {
            mac(key.as_ref(), self.resource_raw, self.expiry_raw).verify_slice(&self.signature).is_ok()
        });
        if !signed {
            return Err(TokenError::InvalidSignature);
        }
        if self.expires_at <= now {
            return Err(TokenError::Expired(self.expires_at));
        }
        if !is_own_host(self.resource.host()) || !self.resource.covers_path(audience) {
            return Err(TokenError::InvalidAudience);
        }
        Ok(())
    }
}

/// Whether a text begins as a shared access signature does.
#[must_use]
pub(crate) fn has_scheme(token: &str) -> bool {
    token.trim_start().get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// Makes a token for a resource, e.g. `sb://localhost/queue1`, that runs out at `expiry_unix_s`
/// seconds since the Unix epoch. For clients.
#[must_use]
pub fn mint(resource: &str, policy_name: &str, key: &str, expiry_unix_s: i64) -> String {
    let resource = percent_encode(resource);
    let expiry = expiry_unix_s.to_string();
    let signature = STANDARD.encode(mac(key, &resource, &expiry).finalize().into_bytes());
    format!(
        "{SCHEME} sr={resource}&sig={}&se={expiry}&skn={}",
        percent_encode(&signature),
        percent_encode(policy_name)
    )
}

/// Whether a key that a client gave (by SASL PLAIN) is the policy's, compared in constant time.
#[must_use]
pub fn is_same_key(given: &str, key: &str) -> bool {
    given.as_bytes().ct_eq(key.as_bytes()).into()
}

fn mac(key: &str, resource_raw: &str, expiry_raw: &str) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(resource_raw.as_bytes());
    mac.update(b"\n");
    mac.update(expiry_raw.as_bytes());
    mac
}

/// Decodes `%XX`; broken escapes stay as they are, bytes that are no UTF-8 become the
/// replacement character, so that nothing decodes to what it is not.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| Some((hex_digit(digits[0])?, hex_digit(digits[1])?)));
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

fn percent_encode(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(byte as char);
        } else {
            encoded.push('%');
            encoded.push(DIGITS[usize::from(byte >> 4)] as char);
            encoded.push(DIGITS[usize::from(byte & 0xf)] as char);
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
