use lockstep_model::Timestamp;

use super::*;

const SAS: &str = "servicebus.windows.net:sastoken";

fn request(message_id: Option<Value>, options: &[(&str, Value)], body: &Value) -> Bytes {
    let properties =
        Properties { message_id, reply_to: Some(Value::string("reply")), ..Properties::default() };
    let options: Vec<_> = options.iter().map(|(key, value)| ((*key).into(), value.clone())).collect();
    encode_value_message(Some(&properties), &options, body)
}

fn put_token(more: &[(&str, Value)]) -> Vec<(&'static str, Value)> {
    let mut options =
        vec![("operation", Value::string("put-token")), ("name", Value::string("sb://ns/Queue"))];
    for (key, value) in more {
        options.push((if *key == "type" { "type" } else { "expiration" }, value.clone()));
    }
    options
}

fn refusal(message: &Bytes) -> (i32, String) {
    match parse(message).expect_err("refused").response {
        CbsResponse::Refused { status, description, .. } => (status, description),
        CbsResponse::Accepted => panic!("accepted"),
    }
}

/// What a response says: correlation-id, application-properties, body.
fn decoded(message: &Bytes) -> (Option<Value>, Map, Option<Value>) {
    let sections = scan(message).expect("a message");
    let properties = decode_properties(&message[sections.properties.clone().expect("properties")]);
    let options = decode_map_section(&message[sections.application_properties.clone().expect("options")]);
    let body = decode_body_value(message, &sections).expect("a body");
    (properties.expect("properties").correlation_id, options.expect("a map"), body)
}

#[test]
fn every_clients_put_token_is_understood() {
    for (message_id, expiration) in [
        (Value::string("request1"), Some(Value::Timestamp(1_795_261_946_000))),
        (Value::Uuid([7; 16]), Some(Value::Timestamp(1))),
        (Value::Ulong(3), Some(Value::string("0"))),
        (Value::string("x"), Some(Value::Long(5))),
        (Value::string("x"), None),
    ] {
        let mut more = vec![("type", Value::string(SAS))];
        more.extend(expiration.map(|value| ("expiration", value)));
        let message = request(Some(message_id.clone()), &put_token(&more), &Value::string("token"));
        let expected = PutToken {
            message_id: Some(message_id),
            reply_to: Some("reply".into()),
            audience: "sb://ns/Queue".into(),
            token: "token".into(),
        };
        assert_eq!(parse(&message), Ok(expected));
    }
}

#[test]
fn a_recorded_request_of_dotnet_is_understood() {
    let message = Bytes::from_static(include_bytes!("dotnet_put_token.bin"));
    let request = parse(&message).expect("good");
    assert_eq!(request.message_id, Some(Value::string("request1")));
    assert_eq!(&*request.audience, "sb://cap.servicebus.windows.net/partitioned-queue/$management");
    let token = crate::sas_token::SasToken::parse(&request.token).expect("a token");
    assert_eq!(token.policy_name(), "RootManageSharedAccessKey");
    assert_eq!(token.resource().path(), "partitioned-queue/$management");
    assert_eq!(token.expires_at(), Timestamp::from_unix_millis(1_795_262_009_000));
}

#[test]
fn the_token_is_not_shown() {
    let message = request(None, &put_token(&[]), &Value::string("secret"));
    let shown = format!("{:?}", parse(&message).expect("good"));
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn malformed_requests_get_400_and_name_what_is_missing() {
    let token = Value::string("token");
    let no_name = [("operation", Value::string("put-token"))];
    for (message, mentions) in [
        (request(None, &[], &token), "'operation'"),
        (request(None, &no_name, &token), "'name'"),
        (request(None, &put_token(&[]), &Value::Int(1)), "a string"),
        (request(None, &put_token(&[]), &Value::Null), "a string"),
        (Bytes::from_static(b"nonsense"), "no AMQP message"),
    ] {
        let (status, text) = refusal(&message);
        assert_eq!(status, 400);
        assert!(text.contains(mentions), "{text}");
    }
}

#[test]
fn other_operations_get_501_and_other_types_of_token_401() {
    let delete = [("operation", Value::string("delete-token"))];
    assert_eq!(refusal(&request(None, &delete, &Value::Null)).0, 501);
    let jwt = put_token(&[("type", Value::string("jwt"))]);
    assert_eq!(refusal(&request(None, &jwt, &Value::string("ey"))).0, 401);
}

#[test]
fn a_refused_request_can_still_be_answered() {
    let error = parse(&request(Some(Value::Ulong(9)), &[], &Value::Null)).expect_err("refused");
    assert_eq!(error.message_id, Some(Value::Ulong(9)));
    assert_eq!(error.reply_to.as_deref(), Some("reply"));
}

#[test]
fn acceptance_is_an_int_202_in_kebab_case_with_the_same_correlation_id() {
    for id in [Value::Ulong(1), Value::Uuid([1; 16]), Value::string("r")] {
        let (correlation_id, options, body) = decoded(&encode_response(Some(&id), &CbsResponse::Accepted));
        assert_eq!(correlation_id, Some(id));
        assert_eq!(
            options,
            vec![
                (Value::string("status-code"), Value::Int(202)),
                (Value::string("status-description"), Value::string("Accepted")),
            ]
        );
        assert_eq!(body, Some(Value::Null));
    }
}

#[test]
fn a_bad_token_is_401_and_a_missing_entity_404_with_texts_that_clients_match() {
    let context = RefusalContext::new("ns.example", "sb://ns.example/Queue", "id", Timestamp::default());
    let expired = TokenError::Expired(Timestamp::from_unix_millis(0));
    for (response, status, condition, begins) in [
        (
            CbsResponse::bad_token(&expired, &context),
            401,
            "amqp:unauthorized-access",
            "ExpiredToken: The token is expired. Expiration time: 1970-01-01T00:00:00.000Z",
        ),
        (
            CbsResponse::bad_token(&TokenError::InvalidSignature, &context),
            401,
            "amqp:unauthorized-access",
            "InvalidSignature: The token has an invalid signature.",
        ),
        (
            CbsResponse::refused(&Refusal::EntityNotFound, &context),
            404,
            "amqp:not-found",
            "The messaging entity 'sb://ns.example/Queue' could not be found.",
        ),
    ] {
        let (_, options, _) = decoded(&encode_response(None, &response));
        assert_eq!(options[0], (Value::string("status-code"), Value::Int(status)));
        let text = options[1].1.as_text().expect("a text");
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(options[2], (Value::string("error-condition"), Value::symbol(condition)));
    }
}
