//! Dispositions and delivery states (2.7.6, 3.4).

use lockstep_amqp::types::{
    Attach, DeliveryState, Disposition, Modified, Outcome as Terminal, Performative, Role, Source,
};
use lockstep_interop_amqp::{Message, Outcome, RawConnection, receiver, text_message};

use crate::suite::Scenario;
use crate::{attached, begun, checks, complete, next_transfer, receiving, send, sending, settle, until_echo};

checks![conformance_delivery_states:
    a_range_settles_all_of_it,
    a_disposition_of_the_other_role_touches_nothing,
    received_is_no_outcome,
    released_is_not_counted_and_modified_is,
    a_settled_disposition_without_a_state_takes_the_default_outcome,
    every_confirmation_is_settled_and_terminal,
];

/// With messages in the queue, received on handle 1.
fn received(s: &Scenario, messages: u32) -> Outcome<RawConnection> {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    for id in 0..messages {
        send(&mut raw, 0, id, &text_message("m", None))?;
    }
    receiving(&mut raw, 1, "r", s.queue(), 100)?;
    for _ in 0..messages {
        next_transfer(&mut raw)?;
    }
    Ok(raw)
}

fn outcome(outcome: Terminal) -> Option<DeliveryState> {
    Some(DeliveryState::Outcome(outcome))
}

/// Delivery-id and delivery-count of the next message.
fn redelivered(raw: &mut RawConnection) -> Outcome<(u32, Option<u32>)> {
    let (transfer, payload) = next_transfer(raw)?;
    Ok((transfer.delivery_id.unwrap_or(0), Message::parse(&payload)?.delivery_count()))
}

/// 2.7.6 first, last
fn a_range_settles_all_of_it(s: &Scenario) -> Outcome {
    let mut raw = received(s, 5)?;
    complete(&mut raw, 1, 3)?;
    // One that names what is settled already, and what never was.
    settle(&mut raw, 0, 1_000, true, outcome(Terminal::Accepted))?;
    let before = until_echo(&mut raw)?;
    assert!(before.is_empty(), "{before:?}");
    Ok(())
}

/// 2.7.6 role
fn a_disposition_of_the_other_role_touches_nothing(s: &Scenario) -> Outcome {
    let mut raw = received(s, 1)?;
    raw.frame(
        0,
        Performative::Disposition(Disposition {
            role: Role::Sender,
            first: 0,
            last: Some(9),
            settled: true,
            state: outcome(Terminal::Released),
            batchable: false,
        }),
    )?;
    assert!(until_echo(&mut raw)?.is_empty());
    complete(&mut raw, 0, 0)
}

/// 3.4.1: a state on the way to an outcome.
fn received_is_no_outcome(s: &Scenario) -> Outcome {
    let mut raw = received(s, 1)?;
    let on_the_way = DeliveryState::Received { section_number: 1, section_offset: 0 };
    settle(&mut raw, 0, 0, false, Some(on_the_way))?;
    assert!(until_echo(&mut raw)?.is_empty());
    complete(&mut raw, 0, 0)
}

/// 3.4.4, 3.4.5: released leaves the count alone. Modified raises it with delivery-failed, and here
/// without it too.
fn released_is_not_counted_and_modified_is(s: &Scenario) -> Outcome {
    let mut raw = received(s, 1)?;
    settle(&mut raw, 0, 0, true, outcome(Terminal::Released))?;
    assert_eq!(redelivered(&mut raw)?, (1, Some(0)));
    for (id, delivery_failed) in [(1, Some(true)), (2, Some(false)), (3, None)] {
        let modified = Modified { delivery_failed, ..Modified::default() };
        settle(&mut raw, id, id, true, outcome(Terminal::Modified(modified)))?;
        assert_eq!(redelivered(&mut raw)?, (id + 1, Some(id)));
    }
    complete(&mut raw, 4, 4)
}

/// 3.5.3 default-outcome
fn a_settled_disposition_without_a_state_takes_the_default_outcome(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    send(&mut raw, 0, 0, &text_message("m", None))?;
    let source = receiver("r", s.queue()).source.unwrap_or_default();
    let failed = Modified { delivery_failed: Some(true), ..Modified::default() };
    let source = Source { default_outcome: Some(Terminal::Modified(failed)), ..source };
    attached(&mut raw, 1, Attach { source: Some(source), ..receiver("r", s.queue()) })?;
    raw.credit(0, 1, 0, 9, false)?;
    next_transfer(&mut raw)?;
    settle(&mut raw, 0, 0, true, None)?;
    assert_eq!(redelivered(&mut raw)?, (1, Some(1)));
    complete(&mut raw, 1, 1)
}

/// 2.7.6 settled, state: a client that waits is told what has become of its deliveries.
fn every_confirmation_is_settled_and_terminal(s: &Scenario) -> Outcome {
    let mut raw = received(s, 3)?;
    let failed = Modified { delivery_failed: Some(true), ..Modified::default() };
    let cases = [(0, Terminal::Accepted), (1, Terminal::Rejected(None)), (2, Terminal::Modified(failed))];
    let mut redelivered = None;
    for (id, asked) in cases {
        settle(&mut raw, id, id, false, outcome(asked.clone()))?;
        // What comes again may come before the word that it does.
        let told = raw.expect("disposition", |_, performative, payload| match performative {
            Performative::Disposition(disposition) => Some(disposition.clone()),
            Performative::Transfer(_) => {
                redelivered = Some(payload.clone());
                None
            }
            _ => None,
        })?;
        assert_eq!((told.role, told.first, told.settled), (Role::Sender, id, true));
        assert_eq!(told.state, outcome(asked));
    }
    let again = match redelivered {
        Some(payload) => payload,
        None => next_transfer(&mut raw)?.1,
    };
    assert_eq!(Message::parse(&again)?.delivery_count(), Some(1));
    complete(&mut raw, 3, 3)
}
