//! What recorded clients asked for and a later version brings: refused by name.

use std::path::Path;

use bytes::Bytes;
use lockstep_amqp::{
    codec::{self, Frame, FrameKind},
    types::{Attach, DeliveryState, Disposition, Performative, TargetTerminus},
};
use lockstep_interop_amqp::{Failed, Outcome};

use crate::{
    casts,
    message_sessions::send,
    sdk::{From, Mode, Sdk},
    suite::{Scenario, scenarios},
};

scenarios![dotnet_recorded_requests_of_later_versions_are_refused_by_name];

/// Operations, and what the refusal calls them.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("queue-schedule-cancel/1.jsonl", "com.microsoft:schedule-message", "Scheduled"),
    ("queue-schedule-cancel/1.jsonl", "com.microsoft:cancel-scheduled-message", "Scheduled"),
    ("session-deferred/2.jsonl", "com.microsoft:receive-by-sequence-number", "Deferring"),
    ("rules/1.jsonl", "com.microsoft:enumerate-rules", "ule"),
    ("rules/1.jsonl", "com.microsoft:remove-rule", "ule"),
];

/// The first frame of a recording that `wanted` takes.
fn recorded<T>(file: &str, wanted: impl Fn(&Performative, &Bytes) -> Option<T>) -> Outcome<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dotnet").join(file);
    for line in std::fs::read_to_string(path)?.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).map_err(|error| Failed::new(error.to_string()))?;
        let digits = line["hex"].as_str().unwrap_or_default();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
        let bytes: Result<Bytes, _> = (0..digits.len()).step_by(2).map(byte).collect();
        let bytes = bytes.map_err(|error| Failed::new(error.to_string()))?;
        // Headers and SASL are no AMQP frames.
        if let Ok(Frame::Amqp { performative, payload, .. }) = codec::decode_frame(bytes, FrameKind::Amqp)
            && let Some(found) = wanted(&performative, &payload)
        {
            return Ok(found);
        }
    }
    Err(Failed::new(format!("{file} has no such frame")))
}

fn disposition(file: &str, wanted: impl Fn(&DeliveryState) -> bool) -> Outcome<DeliveryState> {
    recorded(file, |performative, _| match performative {
        Performative::Disposition(Disposition { state: Some(state), .. }) => {
            wanted(state).then(|| state.clone())
        }
        _ => None,
    })
}

fn dotnet_recorded_requests_of_later_versions_are_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut management = sdk.management(queue)?;
    for (file, operation, name) in REQUESTS {
        let needle = operation.as_bytes();
        let request = recorded(file, |_, payload| {
            payload.windows(needle.len()).any(|part| part == needle).then(|| payload.clone())
        })?;
        sdk.ask_recorded(&mut management, &request)?;
        let answer = casts::management(&sdk.response(&management)?);
        answer.refused(501, "amqp:not-implemented", name);
    }
    // A deferral, and settling and sending in a transaction.
    send(&mut sdk, queue, &[("s", "1")])?;
    let deferral = disposition("session-deferred/2.jsonl", |_| true)?;
    let transactional =
        disposition("transaction-session/2.jsonl", |state| matches!(state, DeliveryState::Transactional(_)))?;
    for (state, name) in [(deferral, "Deferring"), (transactional, "ransaction")] {
        let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
        let deliveries = sdk.receive(&mut link, 1, 1)?;
        let error = sdk.settle_as(&link, &deliveries[0], state)?;
        assert_eq!(error.condition.as_str(), "amqp:not-implemented", "{error:?}");
        assert!(error.description.as_ref().is_some_and(|text| text.contains(name)), "{error:?}");
        sdk.close_receiver(&link)?;
    }
    let coordinator = recorded("transaction-send-commit/1.jsonl", |performative, _| match performative {
        Performative::Attach(attach) => {
            matches!(attach.target, Some(TargetTerminus::Coordinator(_))).then(|| Attach::clone(attach))
        }
        _ => None,
    })?;
    let error = sdk.refused_attach(coordinator)?;
    assert_eq!(error.condition.as_str(), "amqp:not-implemented", "{error:?}");
    assert!(error.description.as_ref().is_some_and(|text| text.contains("ransaction")), "{error:?}");
    sdk.close(&[&management])
}
