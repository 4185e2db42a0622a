//! What clients ask of `$cbs` and `$management`, and the credentials they show.

use bytes::Bytes;
use lockstep_amqp::{
    codec::decode_value,
    message::{Properties, decode_body_value, decode_map_section, encode_value_message, scan},
    types::{Map, Value},
};
use lockstep_model::{Timestamp, limits};
use lockstep_protocol::{
    cbs::{self, CbsResponse},
    conditions::RefusalContext,
    management::{self, ManagementOperation, Response},
    sas_token::{self, Audience, SasToken},
    sasl_plain,
};

use crate::input::Input;

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
/// Longest text of a refusal, in bytes; clients' own texts are cut or bounded.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

fn context() -> RefusalContext<'static> {
    RefusalContext::new("ns.servicebus.windows.net", "q", "id", NOW)
}

/// A message out of choices: request properties, application properties and an amqp-value body.
/// The values are encoded ones, taken from the input.
fn request(input: &mut Input<'_>, names: &[&str], operations: &[&str]) -> Bytes {
    let choice = input.u8();
    let mut values = Bytes::copy_from_slice(input.rest());
    let mut next = || decode_value(&mut values).ok();
    let properties = Properties {
        message_id: if choice & 1 == 0 { Some(Value::Ulong(1)) } else { next() },
        reply_to: if choice & 2 == 0 { Some(Value::string("reply")) } else { next() },
        ..Properties::default()
    };
    let operation = operations[usize::from(choice >> 2) % operations.len()];
    let mut options: Vec<(Box<str>, Value)> = vec![("operation".into(), Value::string(operation))];
    for name in names {
        if let Some(value) = next() {
            options.push(((*name).into(), value));
        }
    }
    let body = next().unwrap_or_default();
    encode_value_message(Some(&properties), &options, &body)
}

/// The response is a message that carries the request's id and says a status.
fn check_response(response: &Bytes, status_code: &str) {
    let sections = scan(response).expect("a response is a message");
    let options = &response[sections.application_properties.clone().expect("a status")];
    let options = decode_map_section(options).expect("a map");
    let status = options.iter().find(|(key, _)| key.as_text() == Some(status_code)).map(|(_, value)| value);
    assert!(matches!(status, Some(Value::Int(200..=599))), "{status:?}");
    decode_body_value(response, &sections).expect("a body");
}

/// Put-token. Promise: no panic; what is not understood gets an answer that can be read and is not
/// much longer than the request.
pub(super) fn cbs(data: &[u8]) {
    let mut input = Input::new(data);
    let raw = input.bool();
    let message = if raw {
        Bytes::copy_from_slice(input.rest())
    } else {
        request(&mut input, &["name", "type", "expiration"], &["put-token", "delete-token"])
    };
    let (id, response) = match cbs::parse(&message) {
        Ok(request) => {
            assert!(request.token.len() + request.audience.len() <= message.len());
            let audience = Audience::parse(&request.audience);
            let response = match SasToken::parse(&request.token) {
                Ok(token) => match token.check(["key"], &audience, |_| true, NOW) {
                    Ok(()) => CbsResponse::Accepted,
                    Err(error) => CbsResponse::bad_token(&error, &context()),
                },
                Err(error) => CbsResponse::bad_token(&error, &context()),
            };
            (request.message_id, response)
        }
        Err(error) => (error.message_id, error.response),
    };
    let response = cbs::encode_response(id.as_ref(), &response);
    assert!(response.len() <= 3 * message.len() + RESPONSE_BYTES_MAX);
    check_response(&response, "status-code");
}

/// Shared access signatures and audiences. Promise: no panic; no signature but the right one
/// passes; a token that is minted for a resource covers it.
pub(super) fn sas_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let audience = Audience::parse(&text);
    assert!(audience.covers_path(&audience));
    assert!(Audience::parse("sb://ns").covers_path(&audience), "the root covers everything");
    if let Ok(token) = SasToken::parse(&text) {
        assert!(!token.policy_name().contains('\u{0}') || text.contains("%00") || text.contains('\u{0}'));
        let signed = token.check(["a key that no input knows"], &audience, |_| true, NOW);
        assert!(signed.is_err(), "an unknown key signs nothing");
        assert!(token.check([""; 0], &audience, |_| true, NOW).is_err());
    }
    let resource = format!("sb://ns/{text}");
    let minted = sas_token::mint(&resource, &text, "key", 4_000_000_000);
    match SasToken::parse(&minted) {
        Ok(token) => {
            assert_eq!(token.policy_name(), text);
            let audience = Audience::parse(&resource);
            assert_eq!(token.check(["no", "key"], &audience, |host| host == "ns", NOW), Ok(()));
            assert!(token.check(["other"], &audience, |_| true, NOW).is_err());
        }
        Err(_) => assert!(minted.len() > sas_token::TOKEN_BYTES_MAX),
    }
}

/// SASL PLAIN. Promise: no panic; name and key are parts of the response, not empty, without NUL.
pub(super) fn sasl_plain(data: &[u8]) {
    let Ok(credentials) = sasl_plain::parse(data) else { return };
    for part in [credentials.policy_name, credentials.key] {
        assert!(!part.is_empty() && !part.contains('\0'));
    }
    let mut again = data.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
    for part in [credentials.policy_name, credentials.key] {
        again.push(0);
        again.extend_from_slice(part.as_bytes());
    }
    assert_eq!(again, data);
}

/// Operations of `$management`, and the argument names of all of them.
const OPERATIONS: [&str; 16] = [
    "com.microsoft:renew-lock",
    "com.microsoft:renew-session-lock",
    "com.microsoft:get-session-state",
    "com.microsoft:set-session-state",
    "com.microsoft:get-message-sessions",
    "com.microsoft:peek-message",
    "com.microsoft:update-disposition",
    "com.microsoft:schedule-message",
    "com.microsoft:cancel-scheduled-message",
    "com.microsoft:receive-by-sequence-number",
    "com.microsoft:add-rule",
    "com.microsoft:remove-rule",
    "com.microsoft:enumerate-rules",
    "com.microsoft:batch-delete-messages",
    "READ",
    "",
];
const ARGUMENTS: [&str; 18] = [
    "lock-tokens",
    "session-id",
    "session-state",
    "last-updated-time",
    "skip",
    "top",
    "last-session-id",
    "from-sequence-number",
    "message-count",
    "omit-message-body",
    "disposition-status",
    "deadletter-reason",
    "deadletter-description",
    "properties-to-modify",
    "receiver-settle-mode",
    "sequence-numbers",
    "messages",
    "rule-name",
];

/// A request whose body is a map of known names and values of the input's.
fn management_request(input: &mut Input<'_>) -> Bytes {
    let operation = OPERATIONS[input.below(OPERATIONS.len())];
    let names: Vec<&str> = (0..input.below(6)).map(|_| ARGUMENTS[input.below(ARGUMENTS.len())]).collect();
    let mut values = Bytes::copy_from_slice(input.rest());
    let body: Map = names
        .into_iter()
        .map_while(|name| Some((Value::string(name), decode_value(&mut values).ok()?)))
        .collect();
    let options = [
        ("operation".into(), Value::string(operation)),
        ("com.microsoft:server-timeout".into(), decode_value(&mut values).unwrap_or_default()),
        ("associated-link-name".into(), decode_value(&mut values).unwrap_or_default()),
    ];
    let properties = Properties { message_id: decode_value(&mut values).ok(), ..Properties::default() };
    encode_value_message(Some(&properties), &options, &Value::Map(body))
}

/// Requests to `$management`. Promise: no panic; what is understood is within its bounds; what is
/// not gets an answer that can be read.
pub(super) fn management(data: &[u8]) {
    let mut input = Input::new(data);
    let message = match input.u8() & 3 {
        0 => Bytes::copy_from_slice(input.rest()),
        1 => request(&mut input, &["com.microsoft:server-timeout", "associated-link-name"], &OPERATIONS),
        _ => management_request(&mut input),
    };
    let request = match management::parse(&message) {
        Ok(request) => request,
        Err(error) => {
            assert!(!error.text.is_empty());
            let response = Response::not_understood(&error, &context());
            let response = management::encode_response(error.message_id.as_ref(), &response);
            assert!(response.len() <= 3 * message.len() + RESPONSE_BYTES_MAX);
            return check_response(&response, "statusCode");
        }
    };
    match &request.operation {
        ManagementOperation::RenewLocks { tokens } | ManagementOperation::Settle { tokens, .. } => {
            assert!((1..=limits::LOCK_TOKENS_PER_REQUEST_MAX).contains(&tokens.len()));
        }
        ManagementOperation::Peek { count, .. } => assert!(*count > 0),
        ManagementOperation::SetMessageSessionState { state: Some(state), .. } => {
            assert!(state.len() <= message.len());
        }
        _ => {}
    }
    if let Some(session) = request.operation.message_session() {
        assert!(session.as_str().chars().count() <= limits::MESSAGE_SESSION_ID_CHARS_MAX);
    }
    let response = management::encode_response(request.message_id.as_ref(), &Response::Done);
    check_response(&response, "statusCode");
}
