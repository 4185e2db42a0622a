//! What clients ask of the administration plane.

use lockstep_admin::{
    AdminError, ErrorContext, REQUEST_BODY_BYTES_MAX,
    atom::{self, QueueProperties, QueueSnapshot, RequestUrl, RuntimeCounts},
    router::{self, Operation, Request},
};
use lockstep_model::{EntityName, QueueDescription, Timestamp};

use crate::input::Input;

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

/// Longest answer to a refused request, in bytes: inputs have at most 4 KiB, and escapes lengthen
/// what is shown of them.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Method, path and query, then a body. Promise: no panic; whatever is taken is within the bounds
/// of a queue, reads back as it was taken, and every answer is XML that this side itself reads.
pub(super) fn administration(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    let method = ["GET", "PUT", "PUT", "DELETE", "POST"][usize::from(choice & 7) % 5];
    let rest = input.rest();
    let (head, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (&rest[..0], rest),
    };
    let head = String::from_utf8_lossy(head);
    let (path, query) = head.split_once('?').unwrap_or((&head, ""));
    let operation = router::route(&Request { method, path, query, if_match: choice & 8 != 0 });
    if let Err(error) = &operation {
        check_error(error, path);
    }
    if let Ok(Operation::Subscription(operation)) = &operation {
        check_error(&operation.refusal("ns"), path);
    }
    let name = operation.ok().as_ref().and_then(Operation::entity).cloned();
    let name = name.unwrap_or_else(|| EntityName::new("q").expect("a name"));
    match QueueProperties::parse(body) {
        Ok(properties) => check_properties(properties, name, (path, query)),
        Err(error) => check_error(&error, path),
    }
}

fn check_error(error: &AdminError, path: &str) {
    let reply = error.reply(&ErrorContext { tracking_id: "id", host: "h", path, now: NOW });
    assert!((400..600).contains(&reply.status));
    assert!(reply.body.len() <= ANSWER_BYTES_MAX, "an answer is not much longer than its request");
}

fn check_properties(properties: QueueProperties, name: EntityName, (path, query): (&str, &str)) {
    let created = match properties.clone().create(name.clone()) {
        Ok(created) => created,
        Err(error) => return check_error(&error, path),
    };
    created.validate().expect("within the bounds");
    // An update of the same queue with the same body changes nothing.
    assert_eq!(properties.clone().update(&created).expect("the same again"), created);
    // That of another may be refused; what is taken is within the bounds.
    if let Ok(updated) = properties.update(&QueueDescription::new(name)) {
        updated.validate().expect("within the bounds");
    }
    // What is shown can be sent back as it is.
    let url = RequestUrl { base: "https://h", path, query, namespace: "ns", now: NOW };
    let snapshot = QueueSnapshot { description: created, counts: RuntimeCounts::default() };
    let shown = atom::queue_entry(&url, &snapshot);
    if shown.body.len() <= REQUEST_BODY_BYTES_MAX {
        let read = QueueProperties::parse(shown.body.as_bytes()).expect("an answer can be read");
        let again = read.update(&snapshot.description).expect("what is shown is accepted");
        assert_eq!(again.differences(&snapshot.description), [""; 0]);
    }
}
