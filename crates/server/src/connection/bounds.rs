//! What one connection may hold, and what becomes of one that holds it for too long: a peer that
//! does not read, and one that keeps much while memory is short.

use std::time::Duration;

use lockstep_amqp::types::Error;
use lockstep_broker::runtime::{MemoryCharge, MemoryPressure};
use lockstep_model::{MonoTime, Now};
use lockstep_protocol::names::condition::SERVER_BUSY;

use super::{Connection, LinkBinding};

/// Bytes that a connection may hold while memory is short.
const FAIR_BYTES: u64 = 64 * 1024;
/// Bytes that such a connection has to take in a twelfth of `limits.unread_timeout_s`.
const PRESSED_PROGRESS_BYTES: u64 = 64 * 1024;
/// Looks at a peer that does not read, until it is given up.
const LOOKS_MAX: u32 = 12;
/// Pause after which a connection that is held back looks whether memory is free again.
const HELD_BACK_LOOK: Duration = Duration::from_millis(500);
/// What a link counts for, in bytes.
const LINK_BYTES: u64 = 2 * 1024;
/// What an AMQP session counts for, in bytes.
const AMQP_SESSION_BYTES: u64 = 1024;

/// What a connection holds, and how long its peer has not read.
#[derive(Debug)]
pub(super) struct Holdings {
    charge: MemoryCharge,
    /// Bytes of the charge that are no links: the peer can make them go away by reading.
    bytes: u64,
    /// Written to the peer since the last look.
    written_bytes: u64,
    look_at: Option<MonoTime>,
    /// Looks in a row at which nothing had been written.
    looks: u32,
}

impl Holdings {
    pub(super) fn new(charge: MemoryCharge) -> Self {
        Self { charge, bytes: 0, written_bytes: 0, look_at: None, looks: 0 }
    }
}

impl Connection {
    /// Counts what the connection holds now, and looks after a peer that does not take it.
    pub(crate) fn note_holdings(&mut self) {
        let responses: usize = self
            .response_links
            .iter()
            .filter_map(|link| match self.links.get(link) {
                Some(LinkBinding::Responses(node)) => Some(node.waiting_bytes()),
                _ => None,
            })
            .sum();
        let bytes = (self.engine.held_bytes()
            + self.command_bytes
            + self.uploads.held_bytes()
            + self.reply_reads.held_bytes()
            + responses) as u64
            + self.window.used_bytes();
        let (links, amqp_sessions) = self.engine.links_and_amqp_sessions();
        let fixed = links as u64 * LINK_BYTES + amqp_sessions as u64 * AMQP_SESSION_BYTES;
        self.holdings.bytes = bytes;
        self.holdings.charge.set(bytes + fixed);
        if self.engine.outbox_bytes() == 0 && !self.is_held_back() {
            self.holdings.look_at = None;
            self.holdings.looks = 0;
        } else if self.holdings.look_at.is_none() {
            self.holdings.look_at = Some(self.now.mono.plus(self.context.unread_timeout / LOOKS_MAX));
        }
    }

    /// Bytes were written to the peer.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.holdings.written_bytes += count as u64;
        self.note_bytes(count);
    }

    /// Whether it holds more than its share while memory is short.
    pub(super) fn is_held_back(&self) -> bool {
        self.holdings.bytes > FAIR_BYTES && self.context.memory.pressure() >= MemoryPressure::High
    }

    /// Whether what makes the broker hold more is refused.
    pub(super) fn refuses_work(&self) -> bool {
        self.is_held_back() || self.context.memory.pressure() == MemoryPressure::Full
    }

    /// When to look at it next.
    pub(super) fn next_look(&self) -> Option<MonoTime> {
        let held_back = self.is_held_back().then(|| self.now.mono.plus(HELD_BACK_LOOK));
        [held_back, self.holdings.look_at].into_iter().flatten().min()
    }

    /// A deadline passed: perhaps it is time for a look.
    pub(super) fn look(&mut self) {
        if self.holdings.look_at.is_none_or(|at| at > self.now.mono) {
            return;
        }
        self.holdings.look_at = None;
        let written = std::mem::take(&mut self.holdings.written_bytes);
        if self.is_held_back() && written < PRESSED_PROGRESS_BYTES {
            let text = "The broker is short of memory, and this connection holds more than its share of it.";
            return self.cut_off_connection(Error::new(SERVER_BUSY, text));
        }
        if self.engine.outbox_bytes() == 0 || written > 0 {
            self.holdings.looks = 0;
            return;
        }
        self.holdings.looks += 1;
        if self.holdings.looks >= LOOKS_MAX {
            let text = "What the broker sent on this connection was not read in time.";
            self.cut_off_connection(Error::new("amqp:connection:forced", text));
        }
    }

    /// Too many connections have shown no credential, and this one has waited longest with it. A
    /// stop looks the same from there and comes by itself.
    pub(crate) fn turn_away(&mut self, now: Now) {
        self.now = now;
        let text = "Too many connections wait for a credential to be presented.";
        self.cut_off_connection(Error::new(SERVER_BUSY, text));
    }

    /// Whether the client has shown a credential.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.authorizer.is_authenticated()
    }

    /// Says why, as far as the peer reads it, and lets go of everything at once.
    pub(super) fn cut_off_connection(&mut self, error: Error) {
        tracing::info!(connection = self.broker_id().0, reason = %error.condition, "connection cut off");
        self.engine.close(Some(error));
        self.transport_closed(self.now);
    }
}
