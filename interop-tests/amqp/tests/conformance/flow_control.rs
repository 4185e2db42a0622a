//! Link-credit, delivery-count, drain, echo (2.6.7, 2.7.4).

use lockstep_amqp::types::{Attach, Flow, Performative};
use lockstep_interop_amqp::{Outcome, RawConnection, receiver, sender, text_message};

use crate::suite::Scenario;
use crate::{
    attached, begun, checks, complete, first_frame, next_disposition, next_flow, next_transfer, send,
    sending, until_echo,
};

checks![conformance_flow_control:
    no_message_comes_without_credit_and_no_more_than_it,
    a_flow_without_delivery_count_counts_from_the_start,
    drain_ends_at_the_limit_that_was_granted,
    credit_can_be_taken_back,
    credit_for_a_sender_names_its_delivery_count,
    link_fields_without_a_handle_are_not_looked_at,
];

fn grant(delivery_count: Option<u32>, credit: u32) -> Flow {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: u32::MAX >> 1,
        next_outgoing_id: 1,
        outgoing_window: 2_048,
        handle: Some(1),
        delivery_count,
        link_credit: Some(credit),
        ..Flow::default()
    }
}

/// With messages in the queue, and a receiver with handle 1 that has no credit.
fn filled(s: &Scenario, messages: u32) -> Outcome<RawConnection> {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    for id in 0..messages {
        send(&mut raw, 0, id, &text_message("m", None))?;
    }
    attached(&mut raw, 1, receiver("r", s.queue()))?;
    Ok(raw)
}

/// 2.6.7
fn no_message_comes_without_credit_and_no_more_than_it(s: &Scenario) -> Outcome {
    let mut raw = filled(s, 3)?;
    assert!(until_echo(&mut raw)?.is_empty());
    raw.frame(0, Performative::Flow(grant(Some(0), 2)))?;
    next_transfer(&mut raw)?;
    next_transfer(&mut raw)?;
    raw.frame(0, Performative::Flow(Flow { echo: true, ..grant(Some(2), 0) }))?;
    let flow = next_flow(&mut raw)?;
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(2), Some(0)));
    // Granted from an earlier count: two of the three are used already.
    raw.frame(0, Performative::Flow(grant(Some(0), 3)))?;
    next_transfer(&mut raw)?;
    complete(&mut raw, 0, 2)
}

/// 2.6.7
fn a_flow_without_delivery_count_counts_from_the_start(s: &Scenario) -> Outcome {
    let mut raw = filled(s, 2)?;
    raw.frame(0, Performative::Flow(grant(None, 1)))?;
    next_transfer(&mut raw)?;
    raw.frame(0, Performative::Flow(Flow { echo: true, ..grant(None, 1) }))?;
    assert_eq!(next_flow(&mut raw)?.link_credit, Some(0));
    raw.frame(0, Performative::Flow(grant(None, 2)))?;
    next_transfer(&mut raw)?;
    complete(&mut raw, 0, 1)
}

/// 2.6.7
fn drain_ends_at_the_limit_that_was_granted(s: &Scenario) -> Outcome {
    let mut raw = filled(s, 2)?;
    raw.frame(0, Performative::Flow(Flow { drain: true, ..grant(Some(0), 9) }))?;
    next_transfer(&mut raw)?;
    next_transfer(&mut raw)?;
    let flow = next_flow(&mut raw)?;
    assert_eq!((flow.delivery_count, flow.link_credit, flow.drain), (Some(9), Some(0), true));
    complete(&mut raw, 0, 1)
}

/// 2.6.7, 2.6.10
fn credit_can_be_taken_back(s: &Scenario) -> Outcome {
    let mut raw = filled(s, 0)?;
    raw.frame(0, Performative::Flow(grant(Some(0), 10)))?;
    raw.frame(0, Performative::Flow(Flow { echo: true, ..grant(Some(0), 0) }))?;
    assert_eq!(next_flow(&mut raw)?.link_credit, Some(0));
    raw.transfer(0, &first_frame(0, 0), &text_message("m", None))?;
    next_disposition(&mut raw)?;
    assert!(until_echo(&mut raw)?.is_empty());
    raw.frame(0, Performative::Flow(grant(Some(0), 1)))?;
    next_transfer(&mut raw)?;
    complete(&mut raw, 0, 0)
}

/// 2.7.4 delivery-count
fn credit_for_a_sender_names_its_delivery_count(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    raw.attach(0, 0, Attach { initial_delivery_count: Some(u32::MAX), ..sender("s", s.queue()) })?;
    let flow = next_flow(&mut raw)?;
    assert_eq!(flow.delivery_count, Some(u32::MAX));
    assert!(flow.link_credit > Some(0));
    Ok(())
}

/// 2.7.4
fn link_fields_without_a_handle_are_not_looked_at(s: &Scenario) -> Outcome {
    let mut raw = filled(s, 1)?;
    raw.frame(0, Performative::Flow(Flow { handle: None, ..grant(Some(0), 10) }))?;
    assert!(until_echo(&mut raw)?.is_empty());
    raw.frame(0, Performative::Flow(grant(Some(0), 1)))?;
    next_transfer(&mut raw)?;
    complete(&mut raw, 0, 0)
}
