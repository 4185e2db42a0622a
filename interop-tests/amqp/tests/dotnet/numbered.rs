//! Messages by their numbers: scheduling, deferral, batch deletion.

use lockstep_amqp::types::{Array, DeliveryState, Map, Modified, Outcome as Terminal, Value};
use lockstep_interop_amqp::{Message, Outcome, Outgoing, text_message, utc_millis};

use crate::{
    casts::{self, Answer},
    message_sessions,
    receiving::{fields, send, tokens},
    recorded::{recorded_request, recorded_state},
    sdk::{From, Mode, Pair, Sdk},
    suite::{Scenario, scenarios},
};

scenarios![
    dotnet_recorded_scheduling_and_deferral_are_carried_out,
    dotnet_schedules_and_cancels,
    dotnet_receives_and_settles_deferred_messages,
    dotnet_receives_deferred_messages_of_a_message_session,
    dotnet_deletes_messages_in_batches,
];

const HOUR_MILLIS: i64 = 3_600_000;

/// `sequence-numbers`: an array of longs.
fn numbers(wanted: &[i64]) -> (Value, Value) {
    let elements = wanted.iter().map(|&number| Value::Long(number)).collect();
    (Value::string("sequence-numbers"), Value::Array(Box::new(Array { constructor: 0x81, elements })))
}

/// `ScheduleMessageInternalAsync` in AmqpSender.cs: each message beside its ids.
fn schedule(sdk: &mut Sdk<'_>, management: &mut Pair, messages: &[(&str, i64)]) -> Outcome<Answer> {
    let entry = |(text, at): &(&str, i64)| {
        let mut message = Outgoing::text(text);
        let time = (Value::symbol("x-opt-scheduled-enqueue-time"), Value::Timestamp(*at));
        message.annotations = vec![time];
        message.properties.message_id = Some(Value::string(text));
        Value::Map(vec![
            (Value::string("message-id"), Value::string(text)),
            (Value::string("message"), Value::Binary(message.encode())),
        ])
    };
    let messages = Value::List(messages.iter().map(entry).collect());
    sdk.manage(management, "schedule-message", None, vec![(Value::string("messages"), messages)])
}

/// `ReceiveDeferredMessagesAsyncInternal` in AmqpReceiver.cs.
fn fetch(
    sdk: &mut Sdk<'_>,
    management: &mut Pair,
    link: Option<&str>,
    wanted: &[i64],
    mode: Mode,
    message_session: Option<&str>,
) -> Outcome<Answer> {
    let mode = Value::Uint(if mode == Mode::PeekLock { 1 } else { 0 });
    let mut body = vec![numbers(wanted), (Value::string("receiver-settle-mode"), mode)];
    body.extend(message_session.map(|id| (Value::string("session-id"), Value::string(id))));
    sdk.manage(management, "receive-by-sequence-number", link, body)
}

/// `DisposeMessageRequestResponseAsync` in AmqpReceiver.cs, which deferred messages always take.
fn dispose(
    sdk: &mut Sdk<'_>,
    management: &mut Pair,
    status: &str,
    token: &Value,
    further: Map,
) -> Outcome<Answer> {
    let tokens = Value::Array(Box::new(Array { constructor: 0x98, elements: vec![token.clone()] }));
    let mut body = vec![
        (Value::string("lock-tokens"), tokens),
        (Value::string("disposition-status"), Value::string(status)),
    ];
    body.extend(further);
    sdk.manage(management, "update-disposition", None, body)
}

fn peek(sdk: &mut Sdk<'_>, management: &mut Pair) -> Outcome<Vec<(String, i32)>> {
    let body = vec![
        (Value::string("from-sequence-number"), Value::Long(0)),
        (Value::string("message-count"), Value::Int(100)),
    ];
    let answer = sdk.manage(management, "peek-message", None, body)?;
    if answer.status == 204 {
        return Ok(Vec::new());
    }
    let state = |message: &Message| match message.annotation("x-opt-message-state") {
        Some(Value::Int(state)) => (message.text().to_owned(), *state),
        other => panic!("x-opt-message-state is {other:?}"),
    };
    Ok(answer.ok().peeked().iter().map(state).collect())
}

fn deferral() -> Terminal {
    Terminal::Modified(Modified { undeliverable_here: Some(true), ..Modified::default() })
}

/// The frames of the recordings, on an entity where their numbers mean something.
fn dotnet_recorded_scheduling_and_deferral_are_carried_out(s: &Scenario) -> Outcome {
    // The recording's message session; its message has the number 4.
    const ID: &str = "4dc4de58";
    let deferring = s.queue();
    let mut sdk = Sdk::connect(s)?;
    message_sessions::send(&mut sdk, deferring, &[(ID, "1"), (ID, "2"), (ID, "3"), (ID, "4")])?;
    let mut link = sdk.receiver(deferring, Mode::PeekLock, From::MessageSession(ID))?;
    let deliveries = sdk.receive(&mut link, 4, 4)?;
    let state = recorded_state("session-deferred/2.jsonl", |_| true)?;
    let DeliveryState::Outcome(outcome) = state else { panic!("{state:?}") };
    assert_eq!(sdk.settle(&mut link, &[&deliveries[3]], outcome)?, Ok(()));
    let mut management = sdk.management(deferring)?;
    let request = recorded_request("session-deferred/2.jsonl", "com.microsoft:receive-by-sequence-number")?;
    sdk.ask_recorded(&mut management, &request)?;
    let answer = casts::management(&sdk.response(&management)?).ok();
    let deferred = answer.deferred(Mode::PeekLock);
    assert_eq!((deferred.len(), deferred[0].0.text()), (1, "4"));
    assert_eq!(deferred[0].0.delivery_count(), Some(1));

    // The recorded cancellation is of number 41. The recorded message is due or not, as time goes by.
    let queue = "dotnet_schedules_as_it_was_recorded";
    let mut plain = sdk.management(queue)?;
    send(&mut sdk, queue, &["x"; 40])?;
    let at = utc_millis() + HOUR_MILLIS;
    assert_eq!(schedule(&mut sdk, &mut plain, &[("cancelled", at)])?.ok().sequence_numbers(), [41]);
    let file = "queue-schedule-cancel/1.jsonl";
    sdk.ask_recorded(&mut plain, &recorded_request(file, "com.microsoft:schedule-message")?)?;
    let answer = casts::management(&sdk.response(&plain)?).ok();
    assert_eq!(answer.sequence_numbers(), [42]);
    let cancel = recorded_request(file, "com.microsoft:cancel-scheduled-message")?;
    sdk.ask_recorded(&mut plain, &cancel)?;
    casts::management(&sdk.response(&plain)?).ok();
    assert!(peek(&mut sdk, &mut plain)?.iter().all(|(text, _)| text != "cancelled"));
    sdk.ask_recorded(&mut plain, &cancel)?;
    let answer = casts::management(&sdk.response(&plain)?);
    answer.refused(404, "com.microsoft:message-not-found", "not found");
    sdk.close(&[&management, &plain])
}

fn dotnet_schedules_and_cancels(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut management = sdk.management(queue)?;
    let (soon, late) = ((utc_millis() / 1_000 + 2) * 1_000, utc_millis() + HOUR_MILLIS);
    let answer = schedule(&mut sdk, &mut management, &[("1", late), ("2", soon), ("3", late)])?;
    assert_eq!(answer.ok().sequence_numbers(), [1, 2, 3]);
    let all = ["1", "2", "3"].map(|text| (text.to_owned(), 2));
    assert_eq!(peek(&mut sdk, &mut management)?, all);
    let cancel = |wanted: &[i64]| vec![numbers(wanted)];
    sdk.manage(&mut management, "cancel-scheduled-message", None, cancel(&[1, 3]))?.ok();
    let answer = sdk.manage(&mut management, "cancel-scheduled-message", None, cancel(&[1]))?;
    answer.refused(404, "com.microsoft:message-not-found", "not found");
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let deliveries = sdk.receive(&mut link, 1, 1)?;
    let message = &deliveries[0].message;
    assert_eq!((message.text(), message.sequence_number()?), ("2", 4));
    assert_eq!(message.annotation("x-opt-scheduled-enqueue-time"), Some(&Value::Timestamp(soon)));
    let answer = sdk.manage(&mut management, "cancel-scheduled-message", None, cancel(&[4]))?;
    answer.refused(404, "com.microsoft:message-not-found", "not found");
    sdk.complete(&mut link, &deliveries[0])?;
    assert_eq!(peek(&mut sdk, &mut management)?, []);
    sdk.close(&[&management])
}

fn dotnet_receives_and_settles_deferred_messages(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    send(&mut sdk, queue, &["complete", "abandon", "defer", "dead-letter", "delete"])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let deliveries = sdk.receive(&mut link, 5, 5)?;
    // A range, and one with properties; the SDK takes the outcome of its own kind for the word.
    let range: Vec<_> = deliveries[..4].iter().collect();
    assert_eq!(sdk.settle(&mut link, &range, deferral())?, Ok(()));
    let changed = Some(fields(&[("retry", Value::Int(1))]));
    let modified =
        Modified { undeliverable_here: Some(true), message_annotations: changed, ..Modified::default() };
    assert_eq!(sdk.settle(&mut link, &[&deliveries[4]], Terminal::Modified(modified))?, Ok(()));

    let mut management = sdk.management(queue)?;
    let states = peek(&mut sdk, &mut management)?;
    assert!(states.len() == 5 && states.iter().all(|(_, state)| *state == 1), "{states:?}");
    let name = Some(link.name().to_owned());
    let answer = fetch(&mut sdk, &mut management, name.as_deref(), &[4, 3, 2, 1], Mode::PeekLock, None)?;
    let deferred = answer.ok().deferred(Mode::PeekLock);
    let texts: Vec<_> = deferred.iter().map(|(message, _)| message.text()).collect();
    assert_eq!(texts, ["dead-letter", "defer", "abandon", "complete"]);
    // `RenewMessageLockAsync` by the token alone.
    let renewal = Value::Array(Box::new(Array { constructor: 0x98, elements: vec![deferred[3].1.clone()] }));
    let body = vec![(Value::string("lock-tokens"), renewal)];
    let answer = sdk.manage(&mut management, "renew-lock", name.as_deref(), body)?;
    assert!(answer.ok().expirations(1)[0] > utc_millis());
    let again = fetch(&mut sdk, &mut management, None, &[1], Mode::PeekLock, None)?;
    again.refused(404, "com.microsoft:message-not-found", "not found");
    let why = || {
        vec![
            (Value::string("deadletter-reason"), Value::string("why")),
            (Value::string("deadletter-description"), Value::string("how")),
        ]
    };
    dispose(&mut sdk, &mut management, "suspended", &deferred[0].1, why())?.ok();
    let retry = vec![(
        Value::string("properties-to-modify"),
        Value::Map(vec![(Value::string("retry"), Value::Int(2))]),
    )];
    dispose(&mut sdk, &mut management, "defered", &deferred[1].1, retry)?.ok();
    dispose(&mut sdk, &mut management, "abandoned", &deferred[2].1, Map::new())?.ok();
    dispose(&mut sdk, &mut management, "completed", &deferred[3].1, Map::new())?.ok();
    let lost = dispose(&mut sdk, &mut management, "completed", &deferred[3].1, Map::new())?;
    lost.refused(410, "com.microsoft:message-lock-lost", "The lock supplied is invalid");

    let answer = fetch(&mut sdk, &mut management, None, &[2, 3], Mode::PeekLock, None)?;
    let deferred = answer.ok().deferred(Mode::PeekLock);
    assert!(deferred.iter().all(|(message, _)| message.delivery_count() == Some(2)));
    assert_eq!(deferred[1].0.property("retry"), Some(&Value::Int(2)));
    let answer = fetch(&mut sdk, &mut management, None, &[5], Mode::ReceiveAndDelete, None)?;
    let deleted = answer.ok().deferred(Mode::ReceiveAndDelete);
    assert_eq!(deleted[0].0.property("retry"), Some(&Value::Int(1)));
    let again = fetch(&mut sdk, &mut management, None, &[5], Mode::ReceiveAndDelete, None)?;
    again.refused(404, "com.microsoft:message-not-found", "not found");
    let mut dead = sdk.receiver(&format!("{queue}/$DeadLetterQueue"), Mode::ReceiveAndDelete, From::Queue)?;
    let dead = sdk.receive(&mut dead, 1, 1)?;
    assert_eq!(dead[0].message.property("DeadLetterReason"), Some(&Value::string("why")));
    sdk.close(&[&management])
}

fn dotnet_receives_deferred_messages_of_a_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    message_sessions::send(&mut sdk, queue, &[("s", "1"), ("s", "2")])?;
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let deliveries = sdk.receive(&mut link, 2, 2)?;
    assert_eq!(sdk.settle(&mut link, &[&deliveries[0]], deferral())?, Ok(()));
    let mut management = sdk.management(queue)?;
    let name = Some(link.name().to_owned());
    let fetched = |sdk: &mut Sdk<'_>, management: &mut Pair, id| {
        fetch(sdk, management, name.as_deref(), &[1], Mode::PeekLock, Some(id))
    };
    fetched(&mut sdk, &mut management, "t")?.refused(410, "com.microsoft:session-lock-lost", "session lock");
    let deferred = fetched(&mut sdk, &mut management, "s")?.ok().deferred(Mode::PeekLock);
    assert_eq!(deferred[0].0.properties.group_id.as_deref(), Some("s"));
    // `session-id` stands in the disposition of a session receiver.
    let id = || message_sessions::session_id("s");
    dispose(&mut sdk, &mut management, "abandoned", &deferred[0].1, id())?.ok();
    let deferred = fetched(&mut sdk, &mut management, "s")?.ok().deferred(Mode::PeekLock);
    assert_eq!(deferred[0].0.delivery_count(), Some(2));
    // Closed with it in hand: it is deferred for whoever accepts next, its token is worth nothing.
    sdk.close_receiver(&link)?;
    let lost = dispose(&mut sdk, &mut management, "completed", &deferred[0].1, id())?;
    lost.refused(410, "com.microsoft:session-lock-lost", "session lock");
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let left = sdk.receive(&mut link, 10, 1)?;
    assert_eq!((left[0].message.text(), left[0].message.delivery_count()), ("2", Some(0)));
    let name = Some(link.name().to_owned());
    let answer = fetch(&mut sdk, &mut management, name.as_deref(), &[1], Mode::ReceiveAndDelete, Some("s"))?;
    assert_eq!(answer.ok().deferred(Mode::ReceiveAndDelete)[0].0.delivery_count(), Some(2));
    sdk.close(&[&management])
}

/// `PurgeMessagesAsync` asks with one cutoff until nothing was deleted.
fn dotnet_deletes_messages_in_batches(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut sender = sdk.sender(queue)?;
    for number in 0..25 {
        assert_eq!(sdk.send(&mut sender, &text_message(number.to_string(), None), false)?, Ok(()));
    }
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let held = sdk.receive(&mut link, 1, 1)?;
    let mut management = sdk.management(queue)?;
    let cutoff = utc_millis() + 1_000;
    let mut counts = Vec::new();
    while counts.last() != Some(&0) {
        let body = vec![
            (Value::string("message-count"), Value::Int(10)),
            (Value::string("enqueued-time-utc"), Value::Timestamp(cutoff)),
        ];
        counts.push(sdk.manage(&mut management, "batch-delete-messages", Some(link.name()), body)?.deleted());
    }
    assert_eq!(counts, [10, 10, 4, 0]);
    sdk.complete(&mut link, &held[0])?;
    let lost = vec![tokens(&[&held[0].tag])?];
    let answer = sdk.manage(&mut management, "renew-lock", None, lost)?;
    answer.refused(410, "com.microsoft:message-lock-lost", "The lock supplied is invalid");
    let mut dead = sdk.management(&format!("{queue}/$DeadLetterQueue"))?;
    assert_eq!(peek(&mut sdk, &mut dead)?, []);
    sdk.close(&[&management, &dead])
}
