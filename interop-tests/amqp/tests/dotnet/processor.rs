//! The message-session processor (SessionReceiverManager.cs): several accepts of the next one at
//! the same time on one connection; each that is granted is received from, one message at a time,
//! until a receive is empty; then it is closed and the next one accepted. An accept that times out
//! is asked again.

use std::time::Duration;

use lockstep_amqp::types::Value;
use lockstep_interop_amqp::Outcome;

use crate::{
    message_sessions::{send, session_id},
    sdk::{From, Mode, Receiver, Sdk},
    suite::{Scenario, scenarios},
};

scenarios![
    dotnet_the_processor_loops_over_message_sessions,
    dotnet_waiting_accepts_are_granted_when_messages_come,
];

/// `MaxConcurrentSessions`
const CONCURRENT: usize = 3;
/// How long an accept waits, in milliseconds: long enough to be granted, short enough to end.
const WAIT_MILLIS: u32 = 1_500;
const OPENED_WITHIN: Duration = Duration::from_secs(30);

/// Receives one message after the other, completes each, and drains after the empty receive; what
/// came.
fn process(sdk: &mut Sdk<'_>, link: &mut Receiver, messages: usize) -> Outcome<Vec<String>> {
    let mut texts = Vec::new();
    for _ in 0..messages {
        let deliveries = sdk.receive(link, 1, 1)?;
        texts.push(deliveries[0].message.text().to_owned());
        sdk.complete(link, &deliveries[0])?;
    }
    // Nothing more comes: the drain of an empty receive says so.
    assert!(sdk.receive(link, 1, 0)?.is_empty());
    Ok(texts)
}

fn dotnet_the_processor_loops_over_message_sessions(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let ids = ["a", "b", "c", "d", "e", "f", "g"];
    let messages: Vec<_> = ["1", "2"].iter().flat_map(|text| ids.iter().map(|id| (*id, *text))).collect();
    send(&mut sdk, queue, &messages)?;
    let next = From::NextMessageSession { wait_millis: WAIT_MILLIS };
    let mut waiting = Vec::new();
    for _ in 0..CONCURRENT {
        waiting.push(sdk.ask_receiver(queue, Mode::PeekLock, next)?);
    }
    let mut seen = Vec::new();
    let mut timed_out = 0;
    while timed_out < CONCURRENT {
        // All that wait at the same time are granted before any of them is closed.
        let mut granted = Vec::new();
        for mut link in waiting.drain(..) {
            match sdk.opened(&mut link, OPENED_WITHIN)? {
                Ok(()) => granted.push(link),
                Err(error) => {
                    assert_eq!(error.condition.as_str(), "com.microsoft:timeout", "{error:?}");
                    timed_out += 1;
                }
            }
        }
        for mut link in granted {
            let id = link.message_session.clone().unwrap_or_default();
            assert!(!seen.contains(&id), "{id} twice");
            // Each receiver has a pair of its own, which is closed after its link.
            let mut management = sdk.management(queue)?;
            let renewal =
                sdk.manage(&mut management, "renew-session-lock", Some(link.name()), session_id(&id))?;
            renewal.ok().expiration();
            assert_eq!(process(&mut sdk, &mut link, 2)?, ["1", "2"]);
            seen.push(id);
            sdk.close_receiver(&link)?;
            sdk.close_pair(&management)?;
            waiting.push(sdk.ask_receiver(queue, Mode::PeekLock, next)?);
        }
    }
    seen.sort();
    assert_eq!(seen, ids);
    sdk.close(&[])
}

/// Accepts that wait on one connection are granted one message session each, in the order in
/// which they were asked; state that is set meanwhile stays.
fn dotnet_waiting_accepts_are_granted_when_messages_come(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let next = From::NextMessageSession { wait_millis: 59_900 };
    let mut waiting = Vec::new();
    for _ in 0..CONCURRENT {
        waiting.push(sdk.ask_receiver(queue, Mode::PeekLock, next)?);
    }
    let mut management = sdk.management(queue)?;
    for (id, mut link) in ["a", "b", "c"].into_iter().zip(waiting) {
        send(&mut sdk, queue, &[(id, "1")])?;
        assert_eq!(sdk.opened(&mut link, OPENED_WITHIN)?, Ok(()));
        assert_eq!(link.message_session.as_deref(), Some(id));
        let mut body = session_id(id);
        body.push((Value::string("session-state"), Value::Binary(id.to_owned().into())));
        sdk.manage(&mut management, "set-session-state", Some(link.name()), body)?.ok();
        assert_eq!(process(&mut sdk, &mut link, 1)?, ["1"]);
        let answer = sdk.manage(&mut management, "get-session-state", Some(link.name()), session_id(id))?;
        assert_eq!(answer.ok().state().as_deref(), Some(id.as_bytes()));
        sdk.close_receiver(&link)?;
    }
    sdk.close(&[&management])
}
