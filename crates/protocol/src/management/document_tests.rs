//! The bytes in `docs/sessions-for-amqp-clients.md` are those that are understood and answered.

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use lockstep_amqp::types::Value;
use lockstep_model::{MessageSessionId, SequenceNumber, Timestamp};

use super::*;

/// 2030-01-01T00:00:00Z.
const END: Timestamp = Timestamp::from_unix_millis(1_893_456_000_000);

/// The bytes of each block, by its title.
fn blocks() -> BTreeMap<String, Bytes> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sessions-for-amqp-clients.md");
    let text = std::fs::read_to_string(file).expect("the document");
    let mut blocks = BTreeMap::new();
    for block in text.split("```hex ").skip(1) {
        let (title, rest) = block.split_once('\n').expect("a title");
        let (hex, _) = rest.split_once("```").expect("an end");
        let digits: String = hex.split_whitespace().collect();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
        let bytes: Bytes = (0..digits.len()).step_by(2).map(byte).collect::<Vec<u8>>().into();
        blocks.insert(title.to_owned(), bytes);
    }
    blocks
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x} ");
    }
    text
}

#[test]
fn the_requests_in_the_document_ask_what_it_says() {
    let blocks = blocks();
    let session = MessageSessionId::new("s").expect("short");
    let peek = ManagementOperation::Peek {
        from: SequenceNumber(1),
        count: 10,
        session: Some(session.clone()),
        omit_body: false,
    };
    let state = Some(Bytes::from_static(b"ok"));
    for (name, expected) in [
        ("renew-session-lock", ManagementOperation::RenewMessageSessionLock { session: session.clone() }),
        ("get-session-state", ManagementOperation::GetMessageSessionState { session: session.clone() }),
        ("set-session-state", ManagementOperation::SetMessageSessionState { session, state }),
        ("peek-message", peek),
    ] {
        let request = parse(&blocks[&format!("{name} request")]).expect(name);
        assert_eq!(request.message_id, Some(Value::string("1")), "{name}");
        assert_eq!(request.reply_to.as_deref(), Some("r"), "{name}");
        assert_eq!(request.operation, expected, "{name}");
    }
}

#[test]
fn the_responses_in_the_document_are_the_ones_that_are_given() {
    let blocks = blocks();
    let state = Bytes::from_static(b"ok");
    for (name, response) in [
        ("renew-session-lock", Response::MessageSessionLockRenewed(END)),
        ("get-session-state", Response::MessageSessionState(Some(&state))),
        ("set-session-state", Response::Done),
        ("peek-message", Response::Peeked(&[])),
    ] {
        let given = encode_response(Some(&Value::string("1")), &response);
        assert_eq!(hex(&blocks[&format!("{name} response")]), hex(&given), "{name}");
    }
}
