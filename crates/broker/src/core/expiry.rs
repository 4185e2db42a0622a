//! Time to live: messages that have expired are never handed out; they are dropped or
//! dead-lettered (semantics, B-56 to B-60).
//!
//! A message is looked at when it would be delivered, and before: in a plain queue by the wall
//! clock, in a message session whenever somebody receives from it or accepts it. What is in a
//! receiver's hands does not expire (B-59).

use std::{collections::BTreeSet, time::Duration};

use lockstep_model::{
    EntityId, MessageSessionExpiration, PropertyOverlay, PropertyValue, SequenceNumber, Timestamp,
};

use super::{
    dead_letter::{DESCRIPTION, REASON},
    message_session::MessageSessionSlot,
    message_state::Expiry,
    namespace::{Changed, Namespace, Step, Unfinished},
    wall_clock::Due,
};

/// Expired messages that nobody asks for are looked for once in this time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Available messages that expire, soonest first.
#[derive(Debug, Default)]
pub(super) struct Expiring(BTreeSet<(Expiry, SequenceNumber)>);

impl Expiring {
    pub(super) fn insert(&mut self, expiry: Expiry, sequence_number: SequenceNumber) {
        self.0.insert((expiry, sequence_number));
    }

    pub(super) fn remove(&mut self, expiry: Expiry, sequence_number: SequenceNumber) {
        self.0.remove(&(expiry, sequence_number));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The message that expires first.
    pub(super) fn first(&self) -> Option<(Expiry, SequenceNumber)> {
        self.0.first().copied()
    }

    /// The message that expired first, of those up to a number.
    fn first_expired(&self, now: Timestamp, through: SequenceNumber) -> Option<SequenceNumber> {
        let mut expired = self.0.iter().take_while(|(expiry, _)| expiry.has_come(now));
        expired.find(|&&(_, number)| number <= through).map(|&(_, number)| number)
    }
}

/// When the first message will have expired, put off to the end of its interval, so that many are
/// swept at once.
fn next_sweep(expiring: &Expiring) -> Option<Timestamp> {
    let (expiry, _) = expiring.first()?;
    let interval = SWEEP_INTERVAL.as_millis() as i64;
    let intervals = expiry.time()?.unix_millis().div_euclid(interval) + 1;
    Some(Timestamp::from_unix_millis(intervals.saturating_mul(interval)))
}

impl Namespace {
    /// A message that is in nobody's hands and no longer in line goes: to the dead-letter queue or
    /// for good.
    pub(super) fn expire_message(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        sequence_number: SequenceNumber,
    ) {
        let Some(queue) = self.queues.get(&queue_id) else { return };
        if queue.settings.dead_lettering_on_message_expiration {
            let mut reason = PropertyOverlay::new();
            reason.set(REASON, PropertyValue::Text("TTLExpiredException".into()));
            reason.set(DESCRIPTION, PropertyValue::Text("The message expired and was dead lettered.".into()));
            self.move_to_dead_letter(step, queue_id, sequence_number, &reason);
        } else {
            self.remove_message(step, queue_id, sequence_number);
        }
    }

    /// Lets the expired messages of a plain queue go, as many as the step may touch.
    pub(super) fn sweep_queue(&mut self, step: &mut Step<'_>, queue_id: EntityId) {
        loop {
            let Some(queue) = self.queues.get_mut(&queue_id) else { return };
            let Some(number) = queue.expiring.first_expired(step.now.utc, queue.last_sequence_number) else {
                break;
            };
            if !step.may_go_on() {
                break;
            }
            queue.withdraw(number);
            self.expire_message(step, queue_id, number);
        }
        self.plan_sweep(queue_id);
    }

    /// Sets when the messages of a plain queue are looked through next.
    pub(super) fn plan_sweep(&mut self, queue_id: EntityId) {
        let next = self.queues.get(&queue_id).and_then(|queue| next_sweep(&queue.expiring));
        self.wall_clock.set(Due::Expire(queue_id), next);
    }

    /// The same after a message became available; most have no time to live.
    pub(super) fn plan_sweep_no_later(&mut self, queue_id: EntityId) {
        if let Some(next) = self.queues.get(&queue_id).and_then(|queue| next_sweep(&queue.expiring)) {
            self.wall_clock.set_no_later(Due::Expire(queue_id), next);
        }
    }

    /// Lets go what has expired in a message session that somebody receives from or accepts; under
    /// the rule of the seed all its messages that are in nobody's hands go together (semantics
    /// Returns whether it is done; otherwise the next step goes on.
    pub(super) fn sweep_session(
        &mut self,
        step: &mut Step<'_>,
        queue_id: EntityId,
        slot: MessageSessionSlot,
    ) -> bool {
        loop {
            let Some(queue) = self.queues.get_mut(&queue_id) else { return true };
            let scope = queue.settings.message_session_expiration;
            let durable_through = queue.durable_through;
            let Some(session) = queue.message_sessions.get_mut(slot) else { return true };
            // What is not durable yet cannot be handed out, and expires nothing else either.
            let first_expired = |expiring: &Expiring| expiring.first_expired(step.now.utc, durable_through);
            let expired = session.expiring.as_deref().and_then(first_expired);
            if expired.is_some() && scope == MessageSessionExpiration::MessageSession {
                let last = session.messages.last().unwrap_or_default();
                session.expired_through = session.expired_through.max(last);
            }
            let next = session
                .first_in_line(durable_through, &queue.messages)
                .filter(|&next| next <= session.expired_through)
                .or(expired);
            let Some(number) = next else { return true };
            if !step.may_go_on() {
                self.unfinished.insert(Unfinished::Expiring(queue_id, slot));
                return false;
            }
            queue.withdraw(number);
            self.expire_message(step, queue_id, number);
            self.mark(Changed::MessageSession(queue_id, slot));
        }
    }
}
