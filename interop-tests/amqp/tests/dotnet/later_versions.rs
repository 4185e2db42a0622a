//! What recorded clients asked for and a later version brings: refused by name.

use lockstep_amqp::types::{Attach, DeliveryState, Performative, TargetTerminus};
use lockstep_interop_amqp::Outcome;

use crate::{
    casts,
    message_sessions::send,
    recorded::{recorded, recorded_request, recorded_state},
    sdk::{From, Mode, Sdk},
    suite::{Scenario, scenarios},
};

scenarios![dotnet_recorded_requests_of_later_versions_are_refused_by_name];

/// Operations, and what the refusal calls them.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("rules/1.jsonl", "com.microsoft:enumerate-rules", "ule"),
    ("rules/1.jsonl", "com.microsoft:remove-rule", "ule"),
];

fn dotnet_recorded_requests_of_later_versions_are_refused_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut management = sdk.management(queue)?;
    for (file, operation, name) in REQUESTS {
        let request = recorded_request(file, operation)?;
        sdk.ask_recorded(&mut management, &request)?;
        let answer = casts::management(&sdk.response(&management)?);
        answer.refused(501, "amqp:not-implemented", name);
    }
    // Settling and sending in a transaction.
    send(&mut sdk, queue, &[("s", "1")])?;
    let transactional = recorded_state("transaction-session/2.jsonl", |state| {
        matches!(state, DeliveryState::Transactional(_))
    })?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let deliveries = sdk.receive(&mut link, 1, 1)?;
    let error = sdk.settle_as(&link, &deliveries[0], transactional)?;
    assert_eq!(error.condition.as_str(), "amqp:not-implemented", "{error:?}");
    assert!(error.description.as_ref().is_some_and(|text| text.contains("ransaction")), "{error:?}");
    sdk.close_receiver(&link)?;
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
