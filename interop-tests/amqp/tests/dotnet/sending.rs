//! Sending.

use bytes::Bytes;
use lockstep_amqp::{
    message::Properties,
    types::{Described, Value},
};
use lockstep_interop_amqp::{Outcome, Outgoing, batch, text_message};

use crate::{
    sdk::{From, Mode, Sdk},
    suite::{Scenario, scenarios},
};

scenarios![
    dotnet_sends_messages_and_batches,
    dotnet_large_messages_pass_both_ways_in_frames_of_64_kib,
    dotnet_a_refused_send_is_an_exception_by_name,
];

/// A message alone, a batch of one as a message, a batch in its format; what is in them comes as
/// it was sent.
fn dotnet_sends_messages_and_batches(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut sender = sdk.sender(queue)?;
    assert_eq!(sender.max_message_size, 256 << 10);
    // As AmqpMessageConverter.cs writes values that AMQP has no type for.
    let ticks = |name: &str, ticks| {
        Value::Described(Box::new(Described { descriptor: Value::symbol(name), value: Value::Long(ticks) }))
    };
    let annotations = vec![
        (Value::symbol("x-opt-partition-key"), Value::string("pk")),
        (Value::symbol("span"), ticks("com.microsoft:timespan", 600_000_000)),
    ];
    let properties = Properties {
        message_id: Some(Value::string("id-1")),
        correlation_id: Some(Value::string("c")),
        to: Some(Value::string("to")),
        reply_to: Some(Value::string("reply")),
        subject: Some("subject".into()),
        content_type: Some("text/plain".into()),
        reply_to_group_id: Some("rs".into()),
        ..Properties::default()
    };
    let message =
        Outgoing { annotations: annotations.clone(), properties: properties.clone(), ..Outgoing::text("1") };
    assert_eq!(sdk.send(&mut sender, &message.encode(), false)?, Ok(()));
    let members: Vec<Bytes> = ["2", "3", "4"].iter().map(|text| text_message(text, None)).collect();
    assert_eq!(sdk.send(&mut sender, &batch(&members), true)?, Ok(()));
    let mut receiver = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let deliveries = sdk.receive(&mut receiver, 10, 4)?;
    let texts: Vec<&str> = deliveries.iter().map(|delivery| delivery.message.text()).collect();
    assert_eq!(texts, ["1", "2", "3", "4"]);
    let first = &deliveries[0].message;
    assert_eq!(first.properties, properties);
    for (key, value) in annotations {
        assert_eq!(first.annotation(key.as_text().unwrap_or_default()), Some(&value));
    }
    for delivery in &deliveries {
        sdk.complete(&mut receiver, delivery)?;
    }
    // The receiver of a queue drains before it closes, so that nothing stays locked.
    assert!(sdk.drain(&mut receiver)?.is_empty());
    sdk.close_receiver(&receiver)?;
    sdk.close(&[])
}

/// 200,000 bytes: four frames each way, none over the SDK's max-frame-size.
fn dotnet_large_messages_pass_both_ways_in_frames_of_64_kib(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut sender = sdk.sender(queue)?;
    let bodies: Vec<Bytes> = (0..3_u8).map(|n| vec![n; 200_000].into()).collect();
    for body in &bodies {
        let message = Outgoing { body: body.clone(), ..Outgoing::default() };
        assert_eq!(sdk.send(&mut sender, &message.encode(), false)?, Ok(()));
    }
    let mut receiver = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let deliveries = sdk.receive(&mut receiver, 3, 3)?;
    for (delivery, body) in deliveries.iter().zip(&bodies) {
        assert!(delivery.message.body == *body && delivery.frames >= 4, "{} frames", delivery.frames);
        sdk.complete(&mut receiver, delivery)?;
    }
    sdk.close(&[])
}

/// What the broker refuses has a condition for which the SDK has a reason.
fn dotnet_a_refused_send_is_an_exception_by_name(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut sender = sdk.sender(queue)?;
    // Over the size that the attach told, which the SDK itself would not send.
    let large = Outgoing { body: vec![0; 256 << 10].into(), ..Outgoing::default() };
    let no_message_session = text_message("m", None);
    for (message, condition) in [
        (no_message_session, "amqp:not-allowed"),
        (large.of("s").encode(), "amqp:link:message-size-exceeded"),
    ] {
        let refused = sdk.send(&mut sender, &message, false)?;
        assert_eq!(refused.map_err(|error| error.condition.to_string()), Err(condition.to_owned()));
    }
    sdk.close(&[])
}
