//! Peers that come and go, and many that stay.

use lockstep_amqp::types::{Begin, Detach, End, Performative};

use super::{
    Ground, Scale, Watcher,
    peer::{Flood, attach, discard, hold, receivers, together},
};
use crate::{Outcome, RawConnection, SASL_HEADER, receiver, with_next_message_session};

/// Threads that set up many connections.
const THREADS: usize = 8;
/// Milliseconds that an accept waits.
const ACCEPT_MILLIS: u32 = 60_000;

pub(super) fn attaches(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    come_and_go(ground, scale, watcher, |handle| receiver(&format!("a{handle}"), &ground.queue))
}

pub(super) fn accepts(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    come_and_go(ground, scale, watcher, |handle| {
        let receiver = receiver(&format!("a{handle}"), &ground.message_sessions);
        with_next_message_session(receiver, ACCEPT_MILLIS)
    })
}

/// All links at once, then none, and again. The next round waits for the last answer: a peer
/// that does not is cut off for using handles twice.
fn come_and_go(
    ground: &Ground,
    scale: Scale,
    watcher: &dyn Watcher,
    link: impl Fn(u32) -> lockstep_amqp::types::Attach + Sync,
) -> Outcome {
    together(scale.connections, watcher, |_, watcher, ready| {
        let mut raw = RawConnection::connect(ground.address)?;
        raw.handshake(&ground.home)?;
        let (mut coming, mut going) = (Flood::new(), Flood::new());
        for handle in 0..scale.links {
            coming.frame(0, &attach(handle, link(handle)));
            going.frame(0, &Performative::Detach(Detach { handle, closed: true, error: None }));
        }
        let mut socket = raw.socket()?;
        ready();
        // The answers of one round are small enough for the sockets' buffers.
        while coming.once(&mut socket, watcher)? && going.once(&mut socket, watcher)? {
            let mut left = scale.links;
            while left > 0 && !watcher.is_over() {
                raw.expect("detach", |_, performative, _| {
                    matches!(performative, Performative::Detach(_)).then_some(())
                })?;
                left -= 1;
            }
        }
        Ok(())
    })
}

pub(super) fn amqp_sessions(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    together(scale.connections, watcher, |_, watcher, ready| {
        let mut raw = RawConnection::connect(ground.address)?;
        raw.handshake(&ground.home)?;
        let mut flood = Flood::new();
        for channel in 1..=u16::try_from(scale.links).unwrap_or(u16::MAX) {
            let begin = Begin {
                remote_channel: None,
                next_outgoing_id: 1,
                incoming_window: 5_000,
                outgoing_window: 5_000,
                handle_max: u32::MAX,
                offered_capabilities: Vec::new(),
                desired_capabilities: Vec::new(),
                properties: None,
            };
            flood.frame(channel, &Performative::Begin(Box::new(begin)));
        }
        for channel in 1..=u16::try_from(scale.links).unwrap_or(u16::MAX) {
            flood.frame(channel, &Performative::End(End { error: None }));
        }
        let (mut socket, reading) = (raw.socket()?, raw.socket()?);
        ready();
        std::thread::scope(|scope| {
            scope.spawn(|| discard(reading, watcher));
            while flood.once(&mut socket, watcher)? {}
            Ok(())
        })
    })
}

pub(super) fn connections(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    together(scale.connections, watcher, |number, watcher, ready| {
        ready();
        let mut rounds = 0;
        while !watcher.is_over() {
            let mut raw = RawConnection::connect(ground.address)?;
            rounds += 1;
            // Half of them do not even say hello.
            if (rounds + number) % 2 == 0 {
                raw.handshake(&ground.home)?;
            }
        }
        Ok(())
    })
}

pub(super) fn unauthenticated(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    many(scale, watcher, || {
        let mut raw = RawConnection::connect(ground.address)?;
        raw.write(&SASL_HEADER)?;
        Ok(raw)
    })
}

pub(super) fn idle(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    many(scale, watcher, || {
        let mut raw = RawConnection::connect(ground.address)?;
        raw.handshake(&ground.home)?;
        Ok(raw)
    })
}

/// Many connections that are held.
fn many(scale: Scale, watcher: &dyn Watcher, connect: impl Fn() -> Outcome<RawConnection> + Sync) -> Outcome {
    let threads = THREADS.min(scale.connections);
    together(threads, watcher, |number, watcher, ready| {
        let count = scale.connections / threads + usize::from(number < scale.connections % threads);
        let _held = (0..count).map(|_| connect()).collect::<Outcome<Vec<_>>>()?;
        ready();
        hold(watcher);
        Ok(())
    })
}

pub(super) fn links(ground: &Ground, scale: Scale, watcher: &dyn Watcher) -> Outcome {
    let mut held = Vec::new();
    for _ in 0..scale.connections {
        let raw = RawConnection::connect(ground.address)?;
        held.push(receivers(ground, raw, scale.links, |name| receiver(name, &ground.queue))?);
    }
    watcher.ready();
    hold(watcher);
    Ok(())
}
