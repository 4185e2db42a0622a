//! The response of SASL PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd`. For Service Bus
//! the authcid is the name of a shared access policy and the password its key.

/// Bytes of the longest response looked at.
pub const RESPONSE_BYTES_MAX: usize = 4_096;

/// What a PLAIN response says. Debug output leaves the key out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PlainCredentials<'a> {
    /// Name of the policy.
    pub policy_name: &'a str,
    /// Its key, as the client believes.
    pub key: &'a str,
}

impl std::fmt::Debug for PlainCredentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainCredentials").field("policy_name", &self.policy_name).finish_non_exhaustive()
    }
}

/// The response does not have the form of RFC 4616.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a PLAIN response is an optional identity, NUL, a policy name, NUL and its key, in UTF-8")]
pub struct MalformedPlainResponse;

/// Takes a PLAIN response apart. An authorization identity is ignored, as Service Bus knows no
/// acting for others.
///
/// # Errors
/// When it is longer than [`RESPONSE_BYTES_MAX`], not UTF-8, lacks a part, or the policy name or
/// key is empty.
pub fn parse(response: &[u8]) -> Result<PlainCredentials<'_>, MalformedPlainResponse> {
    if response.len() > RESPONSE_BYTES_MAX {
        return Err(MalformedPlainResponse);
    }
    let text = std::str::from_utf8(response).map_err(|_| MalformedPlainResponse)?;
    let mut parts = text.split('\0');
    let (Some(_identity), Some(policy_name), Some(key), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(MalformedPlainResponse);
    };
    if policy_name.is_empty() || key.is_empty() {
        return Err(MalformedPlainResponse);
    }
    Ok(PlainCredentials { policy_name, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_name_and_key_are_found_with_and_without_an_identity() {
        for response in [&b"\0Root\0SAS_KEY_VALUE"[..], b"someone\0Root\0SAS_KEY_VALUE"] {
            let found = parse(response).expect("well formed");
            assert_eq!((found.policy_name, found.key), ("Root", "SAS_KEY_VALUE"));
        }
    }

    #[test]
    fn other_forms_are_malformed() {
        let long = vec![b'a'; RESPONSE_BYTES_MAX + 1];
        for response in
            [&b""[..], b"Root", b"\0Root", b"\0\0key", b"\0Root\0", b"\0a\0b\0c", b"\0\xff\0key", &long]
        {
            assert_eq!(parse(response), Err(MalformedPlainResponse), "{response:?}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        let shown = format!("{:?}", parse(b"\0Root\0secret").expect("well formed"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
