use super::*;

const KEY: &str = "SAS_KEY_VALUE";
const EXPIRY: i64 = 1_893_456_000;
const BEFORE: Timestamp = Timestamp::from_unix_millis(EXPIRY * 1_000 - 1);
const GOLDEN: &str = "hCF6F1gPLY6nvjA5kJ67W3yAyQPeoWQ+ZfpbEDsVnGE=";
const GOLDEN_GO: &str = "V6rx1UfCSH/DufGVj8V8qyU3qECDCa01K/PdgyVZ3sg=";

fn check(token: &str, audience: &str, now: Timestamp) -> Result<(), TokenError> {
    SasToken::parse(token)?.check([KEY], &Audience::parse(audience), |host| host == "localhost", now)
}

#[test]
fn golden_vectors_of_both_encodings_verify() {
    for (resource, signature) in
        [("sb%3A%2F%2Flocalhost%2Fqueue1", GOLDEN), ("sb%3a%2f%2flocalhost%2fqueue1", GOLDEN_GO)]
    {
        let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        for token in [
            format!("SharedAccessSignature sr={resource}&sig={signature}&se={EXPIRY}&skn=Root"),
            format!("SharedAccessSignature skn=Root&se={EXPIRY}&sig={signature}&sr={resource}"),
            format!("sharedaccesssignature  SR={resource}&Sig={signature}&SE={EXPIRY}&skN=Root&x=y"),
        ] {
            assert_eq!(check(&token, "amqps://localhost:5671/queue1", BEFORE), Ok(()), "{token}");
        }
    }
}

#[test]
fn a_minted_token_has_the_golden_signature_and_verifies() {
    let token = mint("sb://localhost/queue1", "Root", KEY, EXPIRY);
    assert_eq!(
        token,
        "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Fqueue1\
         &sig=hCF6F1gPLY6nvjA5kJ67W3yAyQPeoWQ%2BZfpbEDsVnGE%3D&se=1893456000&skn=Root"
    );
    assert_eq!(check(&token, "sb://localhost/queue1", BEFORE), Ok(()));
    assert_eq!(SasToken::parse(&token).expect("well formed").policy_name(), "Root");
}

#[test]
fn a_wrong_key_an_unknown_policy_and_a_changed_token_have_an_invalid_signature() {
    let token = mint("sb://localhost/queue1", "Root", "other", EXPIRY);
    assert_eq!(check(&token, "sb://localhost/queue1", BEFORE), Err(TokenError::InvalidSignature));
    let token = mint("sb://localhost/queue1", "Root", KEY, EXPIRY);
    for changed in [token.replace("queue1", "queue2"), token.replace(&EXPIRY.to_string(), "1893456001")] {
        assert_eq!(check(&changed, "sb://localhost/queue1", BEFORE), Err(TokenError::InvalidSignature));
    }
    let parsed = SasToken::parse(&token).expect("well formed");
    let audience = Audience::parse("sb://localhost/queue1");
    let none: [&str; 0] = [];
    assert_eq!(parsed.check(none, &audience, |_| true, BEFORE), Err(TokenError::InvalidSignature));
    assert_eq!(parsed.check(["other", KEY], &audience, |_| true, BEFORE), Ok(()));
}

#[test]
fn a_token_is_expired_from_its_second_on_and_that_is_told_before_its_scope() {
    let token = mint("sb://localhost/queue1", "Root", KEY, EXPIRY);
    let expiry = Timestamp::from_unix_millis(EXPIRY * 1_000);
    for audience in ["sb://localhost/queue1", "sb://localhost/other"] {
        let error = check(&token, audience, expiry).expect_err("expired");
        assert_eq!(
            error.to_string(),
            "ExpiredToken: The token is expired. Expiration time: 2030-01-01T00:00:00.000Z"
        );
    }
}

#[test]
fn texts_begin_with_what_is_wrong() {
    assert_eq!(
        TokenError::InvalidSignature.to_string(),
        "InvalidSignature: The token has an invalid signature."
    );
    assert!(TokenError::InvalidAudience.to_string().starts_with("InvalidAudience"));
    assert!(TokenError::Malformed("x").to_string().starts_with("MalformedToken"));
}

#[test]
fn a_resource_covers_what_lies_beneath_it() {
    for (resource, audience, covered) in [
        ("sb://localhost/", "amqp://localhost/queue1/$management", true),
        ("sb://localhost", "sb://localhost", true),
        ("http://LOCALHOST:5672/Queue1/", "amqps://localhost//queue1", true),
        ("sb://localhost/queue1", "sb://localhost/queue1/$DeadLetterQueue", true),
        ("sb://localhost/t", "sb://localhost/t/Subscriptions/s", true),
        ("sb://localhost/a%2Fb", "sb://localhost/A/b/c", true),
        ("sb://localhost/queue1", "sb://localhost/queue10", false),
        ("sb://localhost/queue1", "sb://localhost/", false),
        ("sb://localhost/queue1/x", "sb://localhost/queue1", false),
        ("sb://elsewhere/queue1", "sb://localhost/queue1", false),
    ] {
        let token = mint(resource, "Root", KEY, EXPIRY);
        let expected = if covered { Ok(()) } else { Err(TokenError::InvalidAudience) };
        assert_eq!(check(&token, audience, BEFORE), expected, "{resource} {audience}");
    }
}

#[test]
fn audiences_of_all_clients_are_the_same() {
    for spelled in [
        "amqps://ns.example/Entity",
        "sb://ns.example/entity/",
        "amqp://NS.example:5672/entity",
        "sb%3A%2F%2Fns.example%2Fentity",
        "ns.example/entity",
    ] {
        let audience = Audience::parse(spelled);
        assert_eq!((audience.host(), audience.path()), ("ns.example", "entity"), "{spelled}");
    }
}

#[test]
fn other_texts_are_malformed() {
    let long = format!("SharedAccessSignature sr={}", "a".repeat(TOKEN_BYTES_MAX));
    for token in [
        "",
        "eyJhbGciOi",
        "SharedAccessSignature",
        "SharedAccessSignature sr=a&sig=aa==&se=1",
        "SharedAccessSignature sr=a&sig=aa==&se=soon&skn=k",
        "SharedAccessSignature sr=a&sig=?&se=1&skn=k",
        "SharedAccessSignaturé sr=a&sig=aa==&se=1&skn=k",
        &long,
    ] {
        assert!(matches!(SasToken::parse(token), Err(TokenError::Malformed(_))), "{token}");
    }
}

#[test]
fn neither_a_signature_nor_a_key_is_shown() {
    let token = mint("sb://localhost/queue1", "Root", KEY, EXPIRY);
    let shown = format!("{:?}", SasToken::parse(&token).expect("well formed"));
    assert!(!shown.contains("sig"), "{shown}");
}

#[test]
fn keys_are_compared_whole() {
    assert!(is_same_key("abc", "abc"));
    assert!(!is_same_key("abc", "abd"));
    assert!(!is_same_key("ab", "abc"));
}
