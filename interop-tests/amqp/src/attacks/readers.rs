//! Peers that ask for everything and take nothing.

use super::{
    Ground, Scale, Watcher,
    peer::{
        CREDIT_MAX, Flood, attach, discard, expect_attached, fill, flow, hold, receivers, small_socket,
        together,
    },
};
use crate::{Outcome, RawConnection, receive_and_delete, receiver};
use lockstep_amqp::types::{Begin, Performative};

/// Transfers that an open window lets through.
const WINDOW: u32 = 10;
/// Windows opened and shut in one write.
const WINDOWS_AT_ONCE: usize = 500;

pub(super) fn slow(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    fill(ground, scale.messages, scale.message_bytes)?;
    let mut held = Vec::new();
    for number in 0..scale.connections {
        // Both ways in which messages are given out.
        let kind = if number % 2 == 0 { receiver } else { receive_and_delete };
        let raw = small_socket(ground.address)?;
        let mut raw = receivers(ground, raw, scale.links, |name| kind(name, &ground.queue))?;
        for handle in 0..scale.links {
            raw.credit(0, handle, 0, CREDIT_MAX, false)?;
        }
        held.push(raw);
    }
    watcher.ready();
    hold(watcher);
    Ok(())
}

pub(super) fn zero_windows(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    fill(ground, scale.messages, scale.message_bytes)?;
    together(scale.connections, watcher, |_, watcher, ready| {
        let mut raw = RawConnection::connect(ground.address)?;
        raw.handshake(&ground.home)?;
        // An AMQP session of its own, whose window is shut from the start.
        raw.frame(
            1,
            Performative::Begin(Box::new(Begin {
                remote_channel: None,
                next_outgoing_id: 1,
                incoming_window: 0,
                outgoing_window: 0,
                handle_max: u32::MAX,
                offered_capabilities: Vec::new(),
                desired_capabilities: Vec::new(),
                properties: None,
            })),
        )?;
        for handle in 0..scale.links {
            raw.frame(1, attach(handle, receiver(&format!("w{handle}"), &ground.queue)))?;
        }
        expect_attached(&mut raw, scale.links)?;
        for handle in 0..scale.links {
            raw.frame(1, flow(0, Some(handle), CREDIT_MAX))?;
        }
        let mut flood = Flood::new();
        for _ in 0..WINDOWS_AT_ONCE {
            flood.frame(1, &flow(WINDOW, None, 0));
            flood.frame(1, &flow(0, None, 0));
        }
        let mut socket = raw.socket()?;
        let reading = raw.socket()?;
        ready();
        std::thread::scope(|scope| {
            scope.spawn(|| discard(reading, watcher));
            while flood.once(&mut socket, watcher)? {}
            Ok(())
        })
    })
}
