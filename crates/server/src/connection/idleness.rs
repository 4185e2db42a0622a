//! Links and connections that nobody uses are given up, where that is configured (wire.md 1.4,
//! semantics A-69, G-8); off by default.
//!
//! A link is in use while something happens on it, while a receiver has credit, deliveries that are
//! not settled, a message session, or an accept that waits, and while a sender waits for an outcome:
//! no link that may hold a lock is ever idle. Links to `$cbs` and `$management` are let be.

use std::time::Duration;

use lockstep_amqp::{Event, LinkId, types::Error};
use lockstep_model::{MonoTime, Refusal};
use rustc_hash::FxHashMap;

use super::{Connection, LinkBinding};

/// Looks in the time after which a link is given up: it lasts at most this part of it longer.
const LOOKS: u32 = 4;

/// After how long what is idle is given up; `None` is never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct IdleRules {
    /// A link that is not used.
    pub(crate) link: Option<Duration>,
    /// A connection that has no link.
    pub(crate) connection: Option<Duration>,
}

/// What a connection keeps for these rules.
#[derive(Debug)]
pub(super) struct Idleness {
    /// When links were last found in use.
    last_use: FxHashMap<LinkId, MonoTime>,
    /// Since when there has been no link.
    without_links_since: Option<MonoTime>,
    look_at: Option<MonoTime>,
}

impl Idleness {
    pub(super) fn new(rules: IdleRules, now: MonoTime) -> Self {
        let times = [rules.link.map(|time| time / LOOKS), rules.connection];
        Self {
            last_use: FxHashMap::default(),
            without_links_since: Some(now),
            look_at: times.into_iter().flatten().min().map(|time| now.plus(time)),
        }
    }
}

/// The link that an event of the client is about.
fn link_of(event: &Event) -> Option<LinkId> {
    match event {
        Event::Delivery { delivery, .. } | Event::DeliveryPart { delivery, .. } => Some(delivery.link),
        Event::Disposed { deliveries, .. } => deliveries.first().map(|delivery| delivery.link),
        Event::Credit { link, .. } => Some(*link),
        _ => None,
    }
}

impl Connection {
    /// Something happened.
    pub(super) fn note_event(&mut self, event: &Event) {
        if self.context.idle_rules.link.is_some()
            && let Some(link) = link_of(event)
        {
            self.idleness.last_use.insert(link, self.now.mono);
        }
    }

    /// When idle links and the connection are looked for next.
    pub(super) fn next_idle_look(&self) -> Option<MonoTime> {
        self.idleness.look_at
    }

    /// A deadline passed: perhaps something has been idle for too long.
    pub(super) fn look_for_idle(&mut self) {
        let now = self.now.mono;
        if self.idleness.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.idleness.look_at = None;
        let rules = self.context.idle_rules;
        if let Some(timeout) = rules.link {
            self.detach_idle_links(timeout);
            self.idleness.look_at = Some(now.plus(timeout / LOOKS));
        }
        if let Some(timeout) = rules.connection {
            self.close_without_links(timeout);
        }
    }

    fn detach_idle_links(&mut self, timeout: Duration) {
        let now = self.now.mono;
        let mut idle = Vec::new();
        let mut seen = FxHashMap::default();
        for (&link, binding) in &self.links {
            let last_use = self.idleness.last_use.get(&link).copied().unwrap_or(now);
            match is_in_use(binding) {
                None => {}
                Some(false) if last_use.plus(timeout) <= now => idle.push(link),
                Some(is_in_use) => drop(seen.insert(link, if is_in_use { now } else { last_use })),
            }
        }
        self.idleness.last_use = seen;
        let refusal = Refusal::LinkIdle(timeout);
        for link in idle {
            match self.links.get(&link) {
                Some(LinkBinding::Sender(_)) => self.end_sender(link, &refusal),
                Some(LinkBinding::Receiver(_)) => self.end_receiver(link, &refusal),
                _ => {}
            }
        }
    }

    fn close_without_links(&mut self, timeout: Duration) {
        let now = self.now.mono;
        if !self.links.is_empty() {
            self.idleness.without_links_since = None;
        }
        let since = *self.idleness.without_links_since.get_or_insert(now);
        let over_at = since.plus(timeout);
        if self.links.is_empty() && over_at <= now {
            let text = format!(
                "The connection was inactive for more than the allowed {} milliseconds and is closed by \
                 container 'LinkTracker'.",
                timeout.as_millis()
            );
            self.engine.close(Some(Error::new("amqp:connection:forced", text)));
            self.idleness.look_at = None;
            return;
        }
        // A link that goes in between is noticed at the next look, at most a quarter late.
        let next = if self.links.is_empty() { over_at } else { now.plus(timeout / LOOKS) };
        self.idleness.look_at = Some(self.idleness.look_at.map_or(next, |at| at.min(next)));
    }
}

/// Whether a link is in use without anything happening on it; `None` if it never counts as idle.
fn is_in_use(binding: &LinkBinding) -> Option<bool> {
    match binding {
        LinkBinding::Sender(sender) => Some(sender.open_sends > 0),
        LinkBinding::Receiver(receiver) => Some(receiver.is_in_use()),
        LinkBinding::Requests(_) | LinkBinding::Responses(_) => None,
    }
}
