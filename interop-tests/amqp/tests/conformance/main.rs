//! Rules of AMQP 1.0, part by part, against the real broker, in raw frames; each check names its
//! section. What is covered where: docs/conformance.md. The checks of a scenario run one after the
//! other on its queue, which each of them leaves empty. Scenarios: `../../../scenarios.md`.

mod delivery_states;
mod encodings;
mod flow_control;
mod links;
mod messages;
mod security;
mod sessions;
#[path = "../scenarios/suite.rs"]
#[expect(dead_code, unused_imports, unused_macros, reason = "the other test program uses all of it")]
mod suite;
mod termini;
mod transfers;
mod transport;

use std::process::ExitCode;

use bytes::Bytes;
use lockstep_amqp::types::{
    Attach, DeliveryState, Disposition, Flow, Open, Outcome as Terminal, Performative, Role, Transfer,
};
use lockstep_interop_amqp::{Failed, HOST, Outcome, RawConnection, receiver, sender};

use crate::suite::{Body, Scenario};

fn main() -> ExitCode {
    let scenarios = [
        transport::SCENARIOS,
        sessions::SCENARIOS,
        links::SCENARIOS,
        flow_control::SCENARIOS,
        transfers::SCENARIOS,
        delivery_states::SCENARIOS,
        termini::SCENARIOS,
        messages::SCENARIOS,
        encodings::SCENARIOS,
        security::SCENARIOS,
    ];
    suite::run_all(scenarios, None)
}

/// Makes a scenario of checks.
macro_rules! checks {
    ($scenario:ident: $($check:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: $crate::suite::Scenarios = &[(stringify!($scenario), $scenario)];

        fn $scenario(s: &$crate::suite::Scenario) -> lockstep_interop_amqp::Outcome {
            crate::run(s, &[$((stringify!($check), $check)),*])
        }
    };
}
use checks;

fn run(s: &Scenario, checks: &[(&str, Body)]) -> Outcome {
    for (name, check) in checks {
        check(s).map_err(|failed| Failed::new(format!("{name}: {failed}")))?;
    }
    Ok(())
}

/// A connection that may do everything, with channel 0 begun.
fn begun(s: &Scenario) -> Outcome<RawConnection> {
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    Ok(raw)
}

/// One that has passed SASL and said no more.
fn authenticated(s: &Scenario) -> Outcome<RawConnection> {
    let mut raw = s.broker().connect_raw()?;
    let response = Bytes::from(format!("\0root\0{}", s.broker().home().key("root")));
    assert_eq!(raw.sasl("PLAIN", Some(response), Some(HOST))?, 0);
    Ok(raw)
}

fn open() -> Open {
    Open {
        container_id: "conformance".into(),
        hostname: Some(HOST.into()),
        max_frame_size: 65_536,
        channel_max: 8_191,
        idle_time_out: None,
        outgoing_locales: Vec::new(),
        incoming_locales: Vec::new(),
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

/// A link on channel 0; the broker's attach.
fn attached(raw: &mut RawConnection, handle: u32, attach: Attach) -> Outcome<Attach> {
    raw.attach(0, handle, attach)?;
    raw.expect("attach", |_, performative, _| match performative {
        Performative::Attach(attach) => Some((**attach).clone()),
        _ => None,
    })
}

/// A sender that has credit.
fn sending(raw: &mut RawConnection, handle: u32, name: &str, address: &str) -> Outcome {
    attached(raw, handle, Attach { initial_delivery_count: Some(0), ..sender(name, address) })?;
    raw.expect("credit", |_, performative, _| {
        matches!(performative, Performative::Flow(flow) if flow.link_credit > Some(0)).then_some(())
    })
}

/// A peek-lock receiver with credit.
fn receiving(raw: &mut RawConnection, handle: u32, name: &str, address: &str, credit: u32) -> Outcome {
    attached(raw, handle, receiver(name, address))?;
    raw.credit(0, handle, 0, credit, false)
}

/// The first frame of a delivery.
fn first_frame(handle: u32, id: u32) -> Transfer {
    Transfer {
        handle,
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
        message_format: Some(0),
        ..Transfer::default()
    }
}

/// The next delivery state that the broker tells, and the deliveries that it is about.
fn next_disposition(raw: &mut RawConnection) -> Outcome<Disposition> {
    raw.expect("disposition", |_, performative, _| match performative {
        Performative::Disposition(disposition) => Some(disposition.clone()),
        _ => None,
    })
}

fn next_transfer(raw: &mut RawConnection) -> Outcome<(Transfer, Bytes)> {
    raw.expect("transfer", |_, performative, payload| match performative {
        Performative::Transfer(transfer) => Some((transfer.clone(), payload.clone())),
        _ => None,
    })
}

fn next_flow(raw: &mut RawConnection) -> Outcome<Flow> {
    raw.expect("flow", |_, performative, _| match performative {
        Performative::Flow(flow) => Some(*flow),
        _ => None,
    })
}

fn condition(error: Option<&lockstep_amqp::types::Error>) -> String {
    error.map(|error| error.condition.as_str().to_owned()).unwrap_or_default()
}

/// The condition of the next detach.
fn next_detach(raw: &mut RawConnection) -> Outcome<String> {
    raw.expect("detach", |_, performative, _| match performative {
        Performative::Detach(detach) => Some(condition(detach.error.as_ref())),
        _ => None,
    })
}

/// The condition of the next end.
fn next_end(raw: &mut RawConnection) -> Outcome<String> {
    raw.expect("end", |_, performative, _| match performative {
        Performative::End(end) => Some(condition(end.error.as_ref())),
        _ => None,
    })
}

/// The condition with which the connection ends.
fn close_condition(raw: &mut RawConnection) -> Outcome<String> {
    Ok(condition(raw.expect_end()?.as_ref()))
}

/// Asks the AMQP session for its flow, and gives all frames that came before the answer.
fn until_echo(raw: &mut RawConnection) -> Outcome<Vec<Performative>> {
    let echo = Flow {
        next_incoming_id: Some(0),
        incoming_window: u32::MAX >> 1,
        next_outgoing_id: 1,
        outgoing_window: 2_048,
        echo: true,
        ..Flow::default()
    };
    raw.frame(0, Performative::Flow(echo))?;
    let mut before = Vec::new();
    raw.expect("the echo", |_, performative, _| match performative {
        Performative::Flow(flow) if flow.handle.is_none() => Some(()),
        other => {
            before.push(other.clone());
            None
        }
    })?;
    Ok(before)
}

/// Sends a message that has to be accepted.
fn send(raw: &mut RawConnection, handle: u32, id: u32, message: &[u8]) -> Outcome {
    raw.transfer(0, &first_frame(handle, id), message)?;
    let disposition = next_disposition(raw)?;
    assert_eq!((disposition.role, disposition.first, disposition.settled), (Role::Receiver, id, true));
    assert_eq!(disposition.state, Some(DeliveryState::Outcome(Terminal::Accepted)));
    Ok(())
}

fn settle(
    raw: &mut RawConnection,
    first: u32,
    last: u32,
    settled: bool,
    state: Option<DeliveryState>,
) -> Outcome {
    raw.frame(
        0,
        Performative::Disposition(Disposition {
            role: Role::Receiver,
            first,
            last: Some(last),
            settled,
            state,
            batchable: false,
        }),
    )
}

/// Completes deliveries and waits for the broker's word.
fn complete(raw: &mut RawConnection, first: u32, last: u32) -> Outcome {
    settle(raw, first, last, false, Some(DeliveryState::Outcome(Terminal::Accepted)))?;
    let mut open = first..=last;
    while !open.is_empty() {
        let told = next_disposition(raw)?;
        assert!(told.settled && told.first == *open.start(), "{told:?}");
        open = told.last.unwrap_or(told.first) + 1..=last;
    }
    Ok(())
}
