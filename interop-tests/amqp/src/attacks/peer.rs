//! Parts of attackers.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::BytesMut;
use lockstep_amqp::{
    codec,
    types::{Attach, Flow, Performative, Transfer},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Ground, Watcher};
use crate::{ANSWER, Client, Failed, Login, Outcome, Outgoing, RawConnection};

/// Receive buffer of a socket that is not read, in bytes: what the system holds for it hides
/// what the broker holds.
const SMALL_SOCKET_BYTES: usize = 16 << 10;
/// How often a blocked attacker looks whether it is over.
const LOOK: Duration = Duration::from_millis(100);

/// All the credit there is.
pub(super) const CREDIT_MAX: u32 = i32::MAX as u32;

/// A connection whose own side buffers little.
///
/// # Errors
/// When there is nobody.
pub fn small_socket(address: SocketAddr) -> Outcome<RawConnection> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(SMALL_SOCKET_BYTES)?;
    socket.connect_timeout(&address.into(), ANSWER)?;
    RawConnection::over(socket.into())
}

/// Reads until the end and looks at nothing.
///
/// # Errors
/// When the socket cannot be set up.
pub fn discard(mut socket: TcpStream, watcher: &dyn Watcher) -> Outcome {
    socket.set_read_timeout(Some(LOOK))?;
    let mut buffer = vec![0; 256 << 10];
    while !watcher.is_over() {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_a_pause(&error) => {}
            // The broker has had enough.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn is_a_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Bytes that are sent over and over.
#[derive(Debug)]
pub struct Flood {
    bytes: BytesMut,
}

impl Flood {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: BytesMut::new() }
    }

    /// One more frame.
    pub fn frame(&mut self, channel: u16, performative: &Performative) {
        codec::encode_frame(&mut self.bytes, channel, performative);
    }

    /// One more message.
    pub fn transfer(&mut self, channel: u16, transfer: &Transfer, message: &[u8]) {
        codec::encode_transfer(&mut self.bytes, channel, transfer, &[message]);
    }

    /// Sends everything once; false if it is over or the broker has had enough.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub fn once(&self, socket: &mut TcpStream, watcher: &dyn Watcher) -> Outcome<bool> {
        socket.set_write_timeout(Some(LOOK))?;
        let mut left = &self.bytes[..];
        while !left.is_empty() {
            if watcher.is_over() {
                return Ok(false);
            }
            match socket.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if is_a_pause(&error) => {}
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Default for Flood {
    fn default() -> Self {
        Self::new()
    }
}

/// A flow for a link. The window is the AMQP session's.
pub(super) fn flow(window: u32, handle: Option<u32>, credit: u32) -> Performative {
    Performative::Flow(Flow {
        next_incoming_id: Some(0),
        incoming_window: window,
        next_outgoing_id: 1,
        outgoing_window: 2_048,
        handle,
        delivery_count: handle.map(|_| 0),
        link_credit: handle.map(|_| credit),
        ..Flow::default()
    })
}

/// An attach under a handle.
pub(super) fn attach(handle: u32, attach: Attach) -> Performative {
    Performative::Attach(Box::new(Attach { handle, ..attach }))
}

/// Waits for the broker's answers to so many attaches.
pub(super) fn expect_attached(raw: &mut RawConnection, count: u32) -> Outcome {
    for _ in 0..count {
        raw.expect("attach", |_, performative, _| {
            matches!(performative, Performative::Attach(_)).then_some(())
        })?;
    }
    Ok(())
}

/// A connection with receivers on `queue` under the handles from 0.
pub(super) fn receivers(
    ground: &Ground,
    mut raw: RawConnection,
    count: u32,
    receiver: impl Fn(&str) -> Attach,
) -> Outcome<RawConnection> {
    raw.handshake(&ground.home)?;
    let mut flood = BytesMut::new();
    for handle in 0..count {
        codec::encode_frame(&mut flood, 0, &attach(handle, receiver(&format!("r{handle}"))));
    }
    raw.write(&flood)?;
    expect_attached(&mut raw, count)?;
    Ok(raw)
}

/// Puts messages into a queue.
pub(super) fn fill(ground: &Ground, count: usize, bytes: usize) -> Outcome {
    let mut client = Client::connect(ground.address, Login::plain("root", ground.home.key("root")))?;
    let sender = client.sender(&ground.queue)?;
    let message = Outgoing { body: vec![b'x'; bytes].into(), ..Outgoing::default() }.encode();
    client.send_all(sender, std::iter::repeat_n(message, count))?;
    client.close()
}

/// A watcher for several threads: when one of them fails it is over for all.
struct Shared<'a> {
    watcher: &'a dyn Watcher,
    failed: AtomicBool,
}

impl Watcher for Shared<'_> {
    fn ready(&self) {
        self.watcher.ready();
    }

    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.watcher.is_over()
    }
}

/// Runs `body` in `count` threads, and says when all of them are ready.
pub(super) fn together(
    count: usize,
    watcher: &dyn Watcher,
    body: impl Fn(usize, &dyn Watcher, &dyn Fn()) -> Outcome + Sync,
) -> Outcome {
    let shared = Shared { watcher, failed: AtomicBool::new(false) };
    // Each thread says once whether it is ready or has failed.
    let (told, heard) = std::sync::mpsc::channel::<bool>();
    let tell = |told: &std::sync::mpsc::Sender<bool>, ready| {
        // Whoever counts may have given up.
        let _ = told.send(ready);
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let (told, body, shared) = (told.clone(), &body, &shared);
                scope.spawn(move || {
                    let result = body(number, shared, &|| tell(&told, true));
                    if result.is_err() {
                        shared.failed.store(true, Ordering::Relaxed);
                        tell(&told, false);
                    }
                    result
                })
            })
            .collect();
        drop(told);
        if heard.iter().take(count).filter(|ready| *ready).count() == count {
            watcher.ready();
        }
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failed::new("a thread of the attacker panicked")))
        })
    })
}

/// Holds what it has until it is over.
pub(super) fn hold(watcher: &dyn Watcher) {
    while !watcher.is_over() {
        std::thread::sleep(LOOK);
    }
}
