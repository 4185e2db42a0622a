//! Peers that say the same thing without end.

use bytes::Bytes;
use lockstep_amqp::{
    message::{Properties, encode_value_message},
    types::{DeliveryState, Disposition, Outcome as Terminal, Performative, Role, Transfer, Value},
};

use super::{
    Ground, Scale, Watcher,
    peer::{CREDIT_MAX, Flood, attach, discard, expect_attached, fill, flow, hold, receivers, together},
};
use crate::{Client, Login, Outcome, Outgoing, RawConnection, receiver, sender};

/// Frames in one write of a flood, about.
const FRAMES_AT_ONCE: u32 = 1_000;
/// Messages that a sender has under way.
const SENDS_AT_ONCE: usize = 100;
/// Bytes of the frame that a partial frame says to be.
const FRAME_BYTES: u32 = 256 << 10;

/// Sends a flood until it is over, and reads what comes.
fn flood_until_over(raw: &RawConnection, flood: &Flood, watcher: &dyn Watcher) -> Outcome {
    let (mut socket, reading) = (raw.socket()?, raw.socket()?);
    std::thread::scope(|scope| {
        scope.spawn(|| discard(reading, watcher));
        while flood.once(&mut socket, watcher)? {}
        Ok(())
    })
}

pub(super) fn credit(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    together(scale.connections, watcher, |_, watcher, ready| {
        let raw = RawConnection::connect(ground.address)?;
        let raw = receivers(ground, raw, scale.links, |name| receiver(name, &ground.queue))?;
        let mut flood = Flood::new();
        for round in 0..FRAMES_AT_ONCE / scale.links.max(1) {
            for handle in 0..scale.links {
                let credit = if round % 2 == 0 { CREDIT_MAX } else { 0 };
                flood.frame(0, &flow(u32::MAX >> 1, Some(handle), credit));
            }
        }
        ready();
        flood_until_over(&raw, &flood, watcher)
    })
}

pub(super) fn dispositions(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    fill(ground, scale.messages * scale.connections, scale.message_bytes)?;
    together(scale.connections, watcher, |_, watcher, ready| {
        let raw = RawConnection::connect(ground.address)?;
        let mut raw = receivers(ground, raw, 1, |name| receiver(name, &ground.queue))?;
        raw.credit(0, 0, 0, u32::try_from(scale.messages).unwrap_or(u32::MAX), false)?;
        for _ in 0..scale.messages {
            raw.expect("a message", |_, performative, _| {
                matches!(performative, Performative::Transfer(_)).then_some(())
            })?;
        }
        let mut flood = Flood::new();
        let received = DeliveryState::Received { section_number: 0, section_offset: 0 };
        for first in 0..FRAMES_AT_ONCE {
            // Most of them change nothing, which is the dear part; now and then one settles.
            let accepts = first % 100 == 99;
            let state = if accepts { DeliveryState::Outcome(Terminal::Accepted) } else { received.clone() };
            flood.frame(
                0,
                &Performative::Disposition(Disposition {
                    role: Role::Receiver,
                    first: 0,
                    last: Some(if accepts { first } else { i32::MAX as u32 }),
                    settled: false,
                    state: Some(state),
                    batchable: false,
                }),
            );
        }
        ready();
        flood_until_over(&raw, &flood, watcher)
    })
}

pub(super) fn tokens(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    together(scale.connections, watcher, |_, watcher, ready| {
        let mut raw = RawConnection::connect(ground.address)?;
        raw.handshake(&ground.home)?;
        raw.frame(0, attach(0, sender("requests", "$cbs")))?;
        raw.frame(0, attach(1, receiver("responses", "$cbs")))?;
        expect_attached(&mut raw, 2)?;
        let mut flood = Flood::new();
        for number in 0..scale.links {
            let audience = format!("amqps://localhost/{}", number);
            // Half of them are good.
            let token = if number % 2 == 0 {
                ground.home.token("root", &audience, 4_000_000_000)
            } else {
                "SharedAccessSignature sr=x&sig=y&se=1&skn=z".to_owned()
            };
            let properties = Properties {
                message_id: Some(Value::Ulong(number.into())),
                reply_to: Some(Value::string("responses")),
                ..Properties::default()
            };
            let application = [
                ("operation".into(), Value::string("put-token")),
                ("type".into(), Value::string("servicebus.windows.net:sastoken")),
                ("name".into(), Value::string(&audience)),
            ];
            let request = encode_value_message(Some(&properties), &application, &Value::string(&token));
            // Settled, so that ids may come again.
            flood.transfer(0, &pre_settled(0, number), &request);
        }
        ready();
        flood_until_over(&raw, &flood, watcher)
    })
}

fn pre_settled(handle: u32, id: u32) -> Transfer {
    Transfer {
        handle,
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
        message_format: Some(0),
        settled: Some(true),
        ..Transfer::default()
    }
}

pub(super) fn sends(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    let message = Outgoing { body: vec![b'x'; scale.message_bytes].into(), ..Outgoing::default() }.encode();
    let rounds = scale.messages / scale.connections.max(1) / SENDS_AT_ONCE;
    together(scale.connections, watcher, |_, watcher, ready| {
        let mut client = Client::connect(ground.address, Login::plain("root", ground.home.key("root")))?;
        let sender = client.sender(&ground.queue)?;
        ready();
        for _ in 0..rounds {
            if watcher.is_over() {
                break;
            }
            let sends: Outcome<Vec<_>> =
                (0..SENDS_AT_ONCE).map(|_| client.start_send(sender, 0, false, message.clone())).collect();
            for delivery in sends? {
                // A refusal for want of memory is an answer too.
                client.outcome(delivery)?;
            }
        }
        hold(watcher);
        Ok(())
    })
}

pub(super) fn partial_frames(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    let mut part = FRAME_BYTES.to_be_bytes().to_vec();
    part.extend_from_slice(&[2, 0, 0, 0]);
    part.resize(scale.message_bytes, 0);
    let mut held = Vec::new();
    for _ in 0..scale.connections {
        let mut raw = RawConnection::connect(ground.address)?;
        raw.handshake(&ground.home)?;
        held.push(raw);
    }
    for raw in &held {
        let mut socket = raw.socket()?;
        socket.set_nonblocking(true)?;
        // As much as the socket takes: the broker may have stopped reading.
        let _ = std::io::Write::write(&mut socket, &part);
    }
    watcher.ready();
    hold(watcher);
    Ok(())
}
