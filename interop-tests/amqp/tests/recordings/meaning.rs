//! What bytes mean, as JSON in the form of the recordings: by the types of the standard alone, so
//! that it can judge what is made of a frame's fields.

use bytes::Bytes;
use lockstep_amqp::{
    codec::decode_value,
    types::{Described, Value},
};
use serde_json::{Map, Value as Json, json};

/// Code, name and fields of a described list (AMQP 2.7, 3.2, 3.4, 3.5, 4.5, 5.3.3).
const COMPOSITES: &[(u64, &str, &[&str])] = &[
    (
        0x10,
        "open",
        &[
            "container-id",
            "hostname",
            "max-frame-size",
            "channel-max",
            "idle-time-out",
            "outgoing-locales",
            "incoming-locales",
            "offered-capabilities",
            "desired-capabilities",
            "properties",
        ],
    ),
    (
        0x11,
        "begin",
        &[
            "remote-channel",
            "next-outgoing-id",
            "incoming-window",
            "outgoing-window",
            "handle-max",
            "offered-capabilities",
            "desired-capabilities",
            "properties",
        ],
    ),
    (
        0x12,
        "attach",
        &[
            "name",
            "handle",
            "role",
            "snd-settle-mode",
            "rcv-settle-mode",
            "source",
            "target",
            "unsettled",
            "incomplete-unsettled",
            "initial-delivery-count",
            "max-message-size",
            "offered-capabilities",
            "desired-capabilities",
            "properties",
        ],
    ),
    (
        0x13,
        "flow",
        &[
            "next-incoming-id",
            "incoming-window",
            "next-outgoing-id",
            "outgoing-window",
            "handle",
            "delivery-count",
            "link-credit",
            "available",
            "drain",
            "echo",
            "properties",
        ],
    ),
    (
        0x14,
        "transfer",
        &[
            "handle",
            "delivery-id",
            "delivery-tag",
            "message-format",
            "settled",
            "more",
            "rcv-settle-mode",
            "state",
            "resume",
            "aborted",
            "batchable",
        ],
    ),
    (0x15, "disposition", &["role", "first", "last", "settled", "state", "batchable"]),
    (0x16, "detach", &["handle", "closed", "error"]),
    (0x17, "end", &["error"]),
    (0x18, "close", &["error"]),
    (0x1d, "error", &["condition", "description", "info"]),
    (0x24, "accepted", &[]),
    (0x25, "rejected", &["error"]),
    (0x26, "released", &[]),
    (0x27, "modified", &["delivery-failed", "undeliverable-here", "message-annotations"]),
    (
        0x28,
        "source",
        &[
            "address",
            "durable",
            "expiry-policy",
            "timeout",
            "dynamic",
            "dynamic-node-properties",
            "distribution-mode",
            "filter",
            "default-outcome",
            "outcomes",
            "capabilities",
        ],
    ),
    (
        0x29,
        "target",
        &[
            "address",
            "durable",
            "expiry-policy",
            "timeout",
            "dynamic",
            "dynamic-node-properties",
            "capabilities",
        ],
    ),
    (0x30, "coordinator", &["capabilities"]),
    (0x31, "declare", &["global-id"]),
    (0x32, "discharge", &["txn-id", "fail"]),
    (0x34, "transactional-state", &["txn-id", "outcome"]),
    (0x41, "sasl-init", &["mechanism", "initial-response", "hostname"]),
    (
        0x73,
        "properties",
        &[
            "message-id",
            "user-id",
            "to",
            "subject",
            "reply-to",
            "correlation-id",
            "content-type",
            "content-encoding",
            "absolute-expiry-time",
            "creation-time",
            "group-id",
            "group-sequence",
            "reply-to-group-id",
        ],
    ),
];

/// Sections of a message that hold one value each (AMQP 3.2).
const SECTIONS: &[(u64, &str)] = &[
    (0x71, "delivery-annotations"),
    (0x72, "message-annotations"),
    (0x74, "application-properties"),
    (0x75, "data"),
    (0x77, "amqp-value"),
];

/// Name and fields of a frame, and the sections of its payload. Fields that say what is also meant
/// without them are left out.
pub(crate) fn of_frame(frame: &Bytes) -> (String, Json, Vec<Json>) {
    let mut rest = frame.slice(usize::from(frame[4]) * 4..);
    if rest.is_empty() {
        return ("empty".to_owned(), Json::Null, Vec::new());
    }
    let Json::Object(performative) = value(&decode_value(&mut rest).unwrap()) else {
        panic!("no performative")
    };
    let (name, fields) = performative.into_iter().next().unwrap();
    (name, fields, of_message(rest))
}

/// Sections of a message.
pub(crate) fn of_message(mut bytes: Bytes) -> Vec<Json> {
    let mut sections = Vec::new();
    while !bytes.is_empty() {
        sections.push(value(&decode_value(&mut bytes).unwrap()));
    }
    sections
}

/// What a recording says, in the same form.
pub(crate) fn as_recorded(json: &Json) -> Json {
    match json {
        Json::Object(entries) => entries
            .iter()
            .filter(|(name, value)| *name == "role" || **value != Json::Bool(false))
            .map(|(name, value)| match (name.as_str(), value) {
                // Lists of no fields, and of none that is set.
                ("accepted" | "declare", _) => (name.clone(), json!({})),
                _ => (name.clone(), as_recorded(value)),
            })
            .collect(),
        Json::Array(values) => values.iter().map(as_recorded).collect(),
        other => other.clone(),
    }
}

fn value(of: &Value) -> Json {
    match of {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Ubyte(n) => json!(["ubyte", n]),
        Value::Ushort(n) => json!(["ushort", n]),
        Value::Uint(n) => json!(["uint", n]),
        Value::Ulong(n) => json!(["ulong", n]),
        Value::Int(n) => json!(["int", n]),
        Value::Long(n) => json!(["long", n]),
        Value::Timestamp(n) => json!(["timestamp", n]),
        Value::Uuid(bytes) => {
            let digits = hex(bytes);
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            json!(["uuid", parts.join("-")])
        }
        Value::Binary(bytes) => json!(["binary", hex(bytes)]),
        Value::String(text) => json!(text),
        Value::Symbol(symbol) => json!(["symbol", symbol.as_str()]),
        Value::List(values) => values.iter().map(value).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(name, entry)| (key(name), value(entry))).collect())
        }
        Value::Array(array) => json!({"array": array.elements.iter().map(value).collect::<Vec<_>>()}),
        Value::Described(described) => composite(described),
        other => panic!("no .NET client sent {other:?}"),
    }
}

fn key(of: &Value) -> String {
    match of {
        Value::String(text) => text.to_string(),
        Value::Symbol(symbol) => format!("[\"symbol\", \"{symbol}\"]"),
        other => panic!("no .NET client had the key {other:?}"),
    }
}

fn composite(described: &Described) -> Json {
    let Value::Ulong(code) = described.descriptor else { panic!("descriptor {:?}", described.descriptor) };
    if let Some((_, name)) = SECTIONS.iter().find(|(section, _)| *section == code) {
        return json!({*name: value(&described.value)});
    }
    let found = COMPOSITES.iter().find(|(composite, ..)| *composite == code);
    let (_, name, fields) = found.unwrap_or_else(|| panic!("descriptor {code:#x}"));
    let Value::List(values) = &described.value else { panic!("{name} is no list") };
    assert!(values.len() <= fields.len().max(1), "{name} of {} fields", values.len());
    let set = fields.iter().zip(values).filter(|(field, value)| !is_default(field, value));
    json!({*name: set.map(|(field, of)| ((*field).to_owned(), value(of))).collect::<Map<_, _>>()})
}

/// Whether a field may as well not be there (AMQP 2.7, 3.5).
fn is_default(field: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(false) => field != "role",
        Value::Uint(0) => matches!(field, "durable" | "timeout"),
        Value::Symbol(symbol) => field == "expiry-policy" && symbol.as_str() == "session-end",
        _ => false,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
