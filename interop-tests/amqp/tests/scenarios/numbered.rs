//! Requests about sequence numbers, and what their answers hold.

use lockstep_amqp::types::{Array, DeliveryState, Fields, Map, Modified, Outcome as Terminal, Value};
use lockstep_interop_amqp::{Client, Delivery, Failed, Message, Outcome, Response};

/// Constructor of longs in an array.
const LONGS: u8 = 0x81;
/// Constructor of uuids in an array.
const UUIDS: u8 = 0x98;

/// A receive mode, as requests spell it.
pub(crate) const RECEIVE_AND_DELETE: Value = Value::Uint(0);
/// The other one.
pub(crate) const PEEK_LOCK: Value = Value::Uint(1);

/// `sequence-numbers` as clients send them.
pub(crate) fn numbers(numbers: &[i64]) -> Map {
    let elements = numbers.iter().map(|&number| Value::Long(number)).collect();
    vec![(Value::string("sequence-numbers"), Value::Array(Box::new(Array { constructor: LONGS, elements })))]
}

/// `receive-by-sequence-number`, in a message session or not.
pub(crate) fn fetch(
    client: &mut Client,
    queue: &str,
    wanted: &[i64],
    mode: Value,
    message_session: Option<&str>,
) -> Outcome<Response> {
    let mut body = numbers(wanted);
    body.push((Value::string("receiver-settle-mode"), mode));
    body.extend(message_session.map(|id| (Value::string("session-id"), Value::string(id))));
    client.manage(queue, "receive-by-sequence-number", body)
}

/// What a fetch gave: the messages with their lock tokens.
pub(crate) fn fetched(response: Response) -> Outcome<Vec<(Message, Value)>> {
    let response = response.ok()?;
    let Some(Value::List(entries)) = response.entry("messages") else {
        return Err(Failed::new(format!("no messages in {response:?}")));
    };
    let entry = |entry: &Value| {
        let Value::Map(map) = entry else { return Err(Failed::new(format!("{entry:?} is no map"))) };
        let find =
            |key: &str| map.iter().find(|(name, _)| *name == Value::string(key)).map(|(_, value)| value);
        match (find("message"), find("lock-token")) {
            (Some(Value::Binary(bytes)), Some(token @ Value::Uuid(_))) => {
                Ok((Message::parse(bytes)?, token.clone()))
            }
            other => Err(Failed::new(format!("message and lock-token are {other:?}"))),
        }
    };
    entries.iter().map(entry).collect()
}

/// Fetches one message with a lock.
pub(crate) fn fetch_one(
    client: &mut Client,
    queue: &str,
    wanted: i64,
    message_session: Option<&str>,
) -> Outcome<(Message, Value)> {
    let response = fetch(client, queue, &[wanted], PEEK_LOCK, message_session)?;
    let mut messages = fetched(response)?;
    match messages.pop() {
        Some(message) if messages.is_empty() => Ok(message),
        other => Err(Failed::new(format!("{other:?} and {messages:?} instead of one message"))),
    }
}

/// That a request did not find a message it named.
pub(crate) fn expect_not_found(response: &Response) {
    assert_eq!(response.verdict(), (404, "com.microsoft:message-not-found"), "{response:?}");
}

/// That a request was refused for one of its arguments.
pub(crate) fn expect_argument_error(response: &Response) {
    assert_eq!(response.verdict(), (400, "com.microsoft:argument-error"), "{response:?}");
}

/// Defers a delivery by its disposition; the properties are laid over the message.
pub(crate) fn defer(client: &mut Client, delivery: &Delivery, properties: &[(&str, Value)]) -> Outcome {
    let mut fields = Fields::default();
    for (key, value) in properties {
        fields.insert(key, value.clone());
    }
    let message_annotations = (!properties.is_empty()).then_some(fields);
    let deferred = Modified { undeliverable_here: Some(true), message_annotations, ..Modified::default() };
    match client.try_settle(delivery, Terminal::Modified(deferred))? {
        DeliveryState::Outcome(Terminal::Modified(_)) => Ok(()),
        other => Err(Failed::new(format!("the deferral was answered by {other:?}"))),
    }
}

/// `update-disposition` of several tokens.
pub(crate) fn settle_tokens(
    client: &mut Client,
    queue: &str,
    status: &str,
    tokens: Vec<Value>,
) -> Outcome<Response> {
    let tokens = Value::Array(Box::new(Array { constructor: UUIDS, elements: tokens }));
    let body = vec![
        (Value::string("lock-tokens"), tokens),
        (Value::string("disposition-status"), Value::string(status)),
    ];
    client.manage(queue, "update-disposition", body)
}

/// All messages that a peek shows.
pub(crate) fn peek(client: &mut Client, queue: &str) -> Outcome<Vec<Message>> {
    let body = vec![
        (Value::string("from-sequence-number"), Value::Long(0)),
        (Value::string("message-count"), Value::Int(1_000)),
    ];
    let response = client.manage(queue, "peek-message", body)?;
    if response.status == 204 {
        return Ok(Vec::new());
    }
    let response = response.ok()?;
    let Some(Value::List(entries)) = response.entry("messages") else {
        return Err(Failed::new(format!("no messages in {response:?}")));
    };
    let entry = |entry: &Value| match entry {
        Value::Map(map) => match &map[..] {
            [(key, Value::Binary(bytes))] if *key == Value::string("message") => Message::parse(bytes),
            other => Err(Failed::new(format!("a peeked entry holds {other:?}"))),
        },
        other => Err(Failed::new(format!("a peeked entry is {other:?}"))),
    };
    entries.iter().map(entry).collect()
}

/// Text, state and delivery count of what a peek shows.
pub(crate) fn shown(client: &mut Client, queue: &str) -> Outcome<Vec<(String, i32, u32)>> {
    let facts = |message: &Message| {
        let state = match message.annotation("x-opt-message-state") {
            Some(Value::Int(state)) => *state,
            other => return Err(Failed::new(format!("x-opt-message-state is {other:?}"))),
        };
        Ok((message.text().to_owned(), state, message.delivery_count().unwrap_or(u32::MAX)))
    };
    peek(client, queue)?.iter().map(facts).collect()
}

/// A timestamp among the annotations, in milliseconds.
pub(crate) fn time_of(message: &Message, key: &str) -> Outcome<i64> {
    match message.annotation(key) {
        Some(Value::Timestamp(millis)) => Ok(*millis),
        other => Err(Failed::new(format!("{key} is {other:?}"))),
    }
}
