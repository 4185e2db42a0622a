//! A connection's turn: how much it does before others have theirs, and how much makes it stand
//! in line for the next one (see [`crate::turns`]).
//!
//! What a client can ask for in one read, or the broker answer at once, may be thousands of
//! events. A turn takes a bounded part of them, the rest has the next turns; and one that does
//! little is never behind more than a turn or two of those that do much.

use std::time::Duration;

use lockstep_amqp::Event;
use lockstep_broker::{
    core::{Command, Effect},
    runtime::ToConnection,
};
use lockstep_model::{MonoTime, Now, Refusal};

use super::{Connection, OUTBOX_BYTES_HIGH};

/// Work of one turn, in ordinary events of the client or effects of the broker: about 200 us.
const TURN_WORK_MAX: usize = 256;
/// Work beside that in one turn for sending what links have, in links and messages.
const TURN_SENDING_MAX: usize = 256;
/// Work of a turn, or of several with no pause, after which the connection stands in line for its
/// next one.
const LIGHT_WORK_MAX: usize = 64;
/// Work of a connection that does little, in ordinary events in a tenth of a second: several hundred
/// messages a second.
const LITTLE_WORK_MAX: usize = 512;
/// The tenth of a second over which it is counted.
const PERIOD: Duration = Duration::from_millis(100);
/// Bytes, read or written, that count for one ordinary event.
const BYTES_PER_WORK: usize = 1024;

/// What checking a token counts for.
pub(super) const TOKEN_WORK: usize = 16;
/// Links looked at that count for one ordinary event.
pub(super) const LOOKS_PER_WORK: usize = 8;

/// What a connection has done in its turn, and what is left for the next one.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Done, in ordinary events.
    work: usize,
    /// Done for sending.
    sending: usize,
    /// What the broker said, the first of it last.
    arrived: Vec<ToConnection>,
    /// Something is left that has not had its turn.
    pub(super) has_more: bool,
    /// Events are left that wait until the broker has taken or answered what was asked before.
    pub(super) has_held_events: bool,
    /// What the last turn has done, and it with those before since the peer last paused.
    last: usize,
    since_rest: usize,
    lately: Lately,
    /// The last turn has shown that it does little.
    did_little: bool,
}

/// What a connection does in a [`PERIOD`].
#[derive(Debug, Default)]
struct Lately {
    begun: MonoTime,
    work: usize,
}

impl Lately {
    /// Whether this begins a new period, and something was done in the last one, but little.
    fn note(&mut self, work: usize, now: MonoTime) -> bool {
        if self.begun.until(now) < PERIOD {
            self.work += work;
            return false;
        }
        let did_little = (1..=LITTLE_WORK_MAX).contains(&self.work);
        *self = Self { begun: now, work };
        did_little
    }
}

impl Turn {
    /// Counts something that is dearer than an ordinary event.
    pub(super) fn spend(&mut self, work: usize) {
        self.work += work;
    }

    pub(super) fn spend_sending(&mut self, work: usize) {
        self.sending += work;
    }

    pub(super) fn may_send(&self) -> bool {
        self.sending < TURN_SENDING_MAX
    }

    fn may_work(&self) -> bool {
        self.work < TURN_WORK_MAX
    }
}

impl Connection {
    /// Whether something is left for the next turn.
    pub(crate) fn has_more(&self) -> bool {
        self.turn.has_more
    }

    /// Whether what the broker said has been worked off, so that more may be taken.
    pub(crate) fn may_receive(&self) -> bool {
        self.turn.arrived.is_empty()
    }

    /// Whether its next turn has to wait in line with those of others that do much.
    pub(crate) fn is_heavy(&self) -> bool {
        self.turn.has_more || self.turn.since_rest > LIGHT_WORK_MAX
    }

    /// When it had its last turn, if that shows that it does little.
    pub(crate) fn did_little(&self) -> Option<MonoTime> {
        self.turn.did_little.then_some(self.now.mono)
    }

    /// The peer had sent nothing more, for however short a while.
    pub(crate) fn rested(&mut self) {
        self.turn.since_rest = self.turn.last;
    }

    /// Bytes were read from the peer or written to it.
    pub(crate) fn note_bytes(&mut self, count: usize) {
        self.turn.spend(count / BYTES_PER_WORK);
    }

    /// Works off what the broker says.
    pub(crate) fn received(&mut self, items: &mut Vec<ToConnection>, now: Now) {
        self.now = now;
        items.reverse();
        items.append(&mut self.turn.arrived);
        std::mem::swap(items, &mut self.turn.arrived);
        self.work_off();
    }

    /// Ends the turn: sends what links have to send, and hands commands over if the broker takes
    /// them.
    pub(crate) fn settle_turn(&mut self) {
        // A write can have brought events too: the end of a congestion frees credit.
        self.work_off();
        self.retry_windows();
        self.pump();
        self.submit();
        self.turn.has_more |= self.turn.has_held_events && self.has_room();
        self.note_holdings();
        let (work, sending) = (std::mem::take(&mut self.turn.work), std::mem::take(&mut self.turn.sending));
        self.turn.last = work + sending;
        self.turn.since_rest += self.turn.last;
        self.turn.did_little = self.turn.lately.note(self.turn.last, self.now.mono);
    }

    /// Works off what the broker said and the client's events, as far as the turn goes and there
    /// is room for what they ask for.
    pub(super) fn work_off(&mut self) {
        while self.turn.may_work()
            && let Some(item) = self.turn.arrived.pop()
        {
            self.turn.spend(1);
            self.said(item);
        }
        self.turn.has_more = !self.turn.arrived.is_empty();
        while self.turn.may_work() {
            if !self.has_room() {
                // The broker's answer, or its readiness for more, brings the next turn.
                self.turn.has_held_events = true;
                return;
            }
            let Some(event) = self.engine.poll_event() else {
                self.turn.has_held_events = false;
                return;
            };
            self.turn.spend(work_of(&event));
            self.event(event);
        }
        self.turn.has_more = true;
    }

    /// Works off all events.
    pub(super) fn drain_all_events(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            self.event(event);
        }
        self.turn.has_more = !self.turn.arrived.is_empty();
        self.turn.has_held_events = false;
    }

    /// Something is left to send that has had no turn. If the outbox is full its next write
    /// brings that.
    pub(super) fn leave_sending(&mut self) {
        self.turn.has_more |= self.engine.outbox_bytes() < OUTBOX_BYTES_HIGH;
    }

    /// Takes what the broker said and nobody has looked at; deliveries among it go back.
    pub(super) fn unlooked_at(&mut self) -> impl Iterator<Item = Command> {
        let items = std::mem::take(&mut self.turn.arrived);
        items.into_iter().rev().filter_map(|item| match item {
            ToConnection::Effect(Effect::Deliver(delivery)) => {
                Some(Command::Return { link: delivery.link, tokens: vec![delivery.token] })
            }
            _ => None,
        })
    }

    fn said(&mut self, item: ToConnection) {
        match item {
            ToConnection::Effect(effect) => self.effect(effect),
            ToConnection::Body(body, bytes) => {
                self.body_read(body, bytes.map_err(|_| Refusal::Unreadable));
            }
            ToConnection::BodyPart(body, row, bytes) => {
                self.row_read(body, row, bytes.map_err(|_| Refusal::Unreadable));
            }
            ToConnection::MessageSessionState(request, state) => {
                self.state_read(request, state.map_err(|_| Refusal::Unreadable));
            }
        }
    }
}

/// What an event counts for in a turn.
fn work_of(event: &Event) -> usize {
    match event {
        Event::Attach { .. } => 16,
        Event::Detached { .. } | Event::AttachCancelled(_) | Event::AmqpSessionBegun(_) => 8,
        Event::AmqpSessionEnded { links, .. } => 8 + links.len(),
        Event::Disposed { deliveries, .. } => 1 + deliveries.len() / 8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_did_little_before_it_does_something_again_does_little() {
        let mut lately = Lately::default();
        let at = |millis: u64| MonoTime::from_micros(1_000_000 + 1_000 * millis);
        // A newcomer has yet to show it.
        assert!(!lately.note(1, at(0)));
        assert!(!lately.note(LITTLE_WORK_MAX - 1, at(99)));
        assert!(lately.note(1, at(100)));
        assert!(!lately.note(LITTLE_WORK_MAX, at(199)));
        // Too much, however long ago.
        assert!(!lately.note(1, at(5_000)));
        assert!(lately.note(0, at(9_000)));
        assert!(!lately.note(1, at(9_100)));
    }
}
