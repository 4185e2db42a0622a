//! Which of the messages that wait to be sent have their bytes in memory: the first ones of each
//! link, up to a bound for the link and one for the connection. The bytes of the others are read
//! when their time comes; the core hands out many messages before a slow client takes them.

use lockstep_amqp::LinkId;
use lockstep_broker::core::Delivery;
use lockstep_broker::runtime::{MemoryCharge, MemoryPressure};
use lockstep_model::{BodyId, LockToken, limits::LARGE_MESSAGE_SIZE_BYTES};

use super::{
    BodyWaiter, Connection, LinkBinding, OUTBOX_BYTES_HIGH, receivers::Receiver, streams,
    turn::LOOKS_PER_WORK,
};

/// Bytes of messages at hand for one link, unless the first alone has more.
const LINK_WINDOW_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of messages at hand for all links of a connection, unless the first alone has more.
const CONNECTION_WINDOW_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The same while memory is short.
const CONNECTION_WINDOW_BYTES_MAX_PRESSED: u64 = 64 * 1024;
/// Links that get another try in one turn.
const TRIES_PER_TURN_MAX: usize = 8;

/// The first `fetched` deliveries of a receiver's queue.
#[derive(Debug)]
pub(crate) struct BodyWindow {
    /// Deliveries whose bytes are there or asked for.
    fetched: usize,
    /// Their bytes, as a share of the connection's sum.
    bytes: MemoryCharge,
}

impl BodyWindow {
    pub(super) fn new(bytes: MemoryCharge) -> Self {
        Self { fetched: 0, bytes }
    }

    fn give_back(&mut self, bytes: u64) {
        self.bytes.set(self.bytes.bytes().saturating_sub(bytes));
    }
}

/// What a delivery counts for: large ones are read row by row when they are sent, see `streams`.
fn held_bytes(delivery: &Delivery) -> u64 {
    let size = delivery.body.size_bytes;
    if size as usize > LARGE_MESSAGE_SIZE_BYTES { 0 } else { size.into() }
}

/// Lets go of a delivery's bytes, unless it would then have to be read row by row.
fn strip(delivery: &mut Delivery) {
    if delivery.body.size_bytes as usize <= LARGE_MESSAGE_SIZE_BYTES {
        delivery.body.bytes = None;
    }
}

impl Receiver {
    /// The first delivery, off the queue.
    pub(super) fn pop_front(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        if self.window.fetched > 0 {
            self.window.fetched -= 1;
            self.window.give_back(held_bytes(&delivery));
        }
        Some(delivery)
    }

    /// All deliveries but the first `keep`, off the queue.
    pub(super) fn drain_behind(&mut self, keep: usize) -> Vec<LockToken> {
        for delivery in self.queue.iter().take(self.window.fetched).skip(keep) {
            self.window.give_back(held_bytes(delivery));
        }
        self.window.fetched = self.window.fetched.min(keep);
        self.queue.drain(keep..).map(|delivery| delivery.token).collect()
    }

    /// Takes deliveries whose message is gone off the queue; how many.
    pub(super) fn drop_body(&mut self, body: BodyId) -> usize {
        let before = self.queue.len();
        let is_gone = |delivery: &&Delivery| delivery.body.id == body;
        let fetched = self.queue.iter().take(self.window.fetched).filter(is_gone).count();
        for delivery in self.queue.iter().take(self.window.fetched).filter(is_gone) {
            self.window.give_back(held_bytes(delivery));
        }
        self.window.fetched -= fetched;
        self.queue.retain(|delivery| delivery.body.id != body);
        before - self.queue.len()
    }

    /// The deliveries whose bytes may be kept.
    pub(super) fn fetched(&mut self) -> impl Iterator<Item = &mut Delivery> {
        self.queue.iter_mut().take(self.window.fetched)
    }

    /// Lets go of all bytes.
    fn shut_window(&mut self) {
        for delivery in self.queue.iter_mut().take(self.window.fetched) {
            strip(delivery);
        }
        self.window.fetched = 0;
        self.window.bytes.set(0);
    }
}

impl Connection {
    /// Takes more of a link's deliveries into its window, as far as there is room, and asks for
    /// the bytes that are missing.
    pub(super) fn widen_window(&mut self, link: LinkId) {
        let connection_max = match self.context.memory.pressure() {
            MemoryPressure::Low => CONNECTION_WINDOW_BYTES_MAX,
            _ => CONNECTION_WINDOW_BYTES_MAX_PRESSED,
        };
        loop {
            let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link) else { return };
            let Some(next) = receiver.queue.get(receiver.window.fetched) else { return };
            let size = held_bytes(next);
            let (own, all) = (receiver.window.bytes.bytes(), self.window.used_bytes());
            if own > 0 && own + size > LINK_WINDOW_BYTES_MAX {
                return;
            }
            if all > 0 && all + size > connection_max {
                let is_stuck = receiver.window.fetched == 0;
                if is_stuck && !self.shut_idle_windows() && !self.window_waiters.contains(&link) {
                    self.window_waiters.push_back(link);
                }
                if is_stuck && self.window.used_bytes() < all {
                    continue;
                }
                return;
            }
            let is_missing = next.body.bytes.is_none() && !streams::is_large(&next.body);
            let missing = is_missing.then_some(next.body.id);
            receiver.window.fetched += 1;
            receiver.window.bytes.set(own + size);
            if let Some(body) = missing {
                self.request_body(body, BodyWaiter::Link(link));
            }
        }
    }

    /// A delivery came: its bytes are kept only if it is within the window.
    pub(super) fn enter_window(&mut self, link: LinkId) {
        self.widen_window(link);
        if let Some(LinkBinding::Receiver(receiver)) = self.links.get_mut(&link)
            && receiver.queue.len() > receiver.window.fetched
            && let Some(last) = receiver.queue.back_mut()
        {
            strip(last);
        }
    }

    /// Lets go of the bytes for links whose client takes nothing now; whether there were any.
    /// Such a link asks for them again when it gets credit or a window.
    fn shut_idle_windows(&mut self) -> bool {
        if self.engine.outbox_bytes() >= OUTBOX_BYTES_HIGH {
            // Nobody can send: no link is worse than the others.
            return false;
        }
        self.turn.spend_sending(self.links.len() / LOOKS_PER_WORK);
        let mut any = false;
        for (link, binding) in &mut self.links {
            if let LinkBinding::Receiver(receiver) = binding
                && receiver.window.fetched > 0
                && self.engine.sendable(*link) == 0
                && !self.engine.is_sending(*link)
            {
                receiver.shut_window();
                any = true;
            }
        }
        any
    }

    /// Gives links that found no room another try.
    pub(super) fn retry_windows(&mut self) {
        if self.window_waiters.is_empty() || self.window.used_bytes() >= CONNECTION_WINDOW_BYTES_MAX {
            return;
        }
        for _ in 0..TRIES_PER_TURN_MAX {
            let Some(link) = self.window_waiters.pop_front() else { return };
            self.mark_ready(link);
        }
    }
}
