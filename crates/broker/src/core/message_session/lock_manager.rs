//! The lock on a message session: who holds it, until when, and what becomes of its deliveries
//! when it ends.
//!
//! ```text
//!            attach            connection broke
//!   (free) ---------> HELD ------------------------> LOST
//!                      | |                           | | |
//!    detach, close     | | expiry            expiry  | | | the same client attaches again
//!    (nothing counted) | +-----------+     +---------+ | | (counted)
//!                      |             | |   |           | |
//!                      +-------------+-+---+-----------+-+--> ended
//! ```
//! A link holds at most one message session, and a message session has at most one holder. The
//! locks of its messages have no deadline of their own (semantics A-47): they end with the hold.

use std::collections::VecDeque;

use lockstep_model::{
    ConnectionId, EntityId, LockToken, MessageSessionId, MonoTime, Now, OutgoingLinkId, Refusal, Timestamp,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::MessageSessionSlot;
use crate::core::{
    Attach, AttachGrant, Effect, HolderClaim, LinkIdentity, Reply,
    deadlines::Deadline,
    defects::{Defect, is_present},
    links::{Link, LinkKind},
    message_locks::LockKind,
    namespace::{Changed, Namespace, Returning, Step, Unfinished},
};

/// A link's lock on a message session.
#[derive(Debug)]
pub(in crate::core) struct Hold {
    pub(in crate::core) slot: MessageSessionSlot,
    pub(in crate::core) deadline: MonoTime,
    /// The deadline as the client is told it.
    pub(in crate::core) locked_until: Timestamp,
    pub(in crate::core) identity: LinkIdentity,
    /// The connection broke: nothing is delivered, the lock runs to its end.
    pub(in crate::core) is_lost: bool,
}

impl Namespace {
    /// Accepts one message session, at once or not at all (semantics A-23 to A-28).
    pub(in crate::core) fn accept_session(
        &mut self,
        step: &mut Step<'_>,
        attach: &Attach,
        session: &MessageSessionId,
    ) -> Result<(), Refusal> {
        if let Some(holder) = self.holder_of(attach.entity, session) {
            let held = self.links.get(&holder).and_then(|link| match &link.kind {
                LinkKind::Holder(hold) => Some((link, hold)),
                _ => None,
            });
            let Some((link, hold)) = held else {
                // Its deliveries are still being counted.
                return Err(Refusal::MessageSessionCannotBeLocked);
            };
            if self.is_over(step.now, link, hold) {
                self.expire_session_lock(step, holder);
            } else if hold.is_lost && is_same_client(&hold.identity, &attach.identity) {
                self.end_hold(step, holder, true);
            } else {
                return Err(Refusal::MessageSessionCannotBeLocked);
            }
        }
        let queue = self.queues.get_mut(&attach.entity).ok_or(Refusal::EntityNotFound)?;
        let slot = queue.message_sessions.find_or_create(session);
        if queue.message_sessions.get(slot).is_some_and(|session| session.holder.is_some()) {
            return Err(Refusal::MessageSessionCannotBeLocked);
        }
        self.add_link(attach, LinkKind::Plain { turn: None });
        self.start_hold(step, attach.link, slot, attach.identity.clone());
        self.mark(Changed::MessageSession(attach.entity, slot));
        Ok(())
    }

    /// The link that holds a message session.
    pub(in crate::core) fn holder_of(
        &self,
        entity: EntityId,
        session: &MessageSessionId,
    ) -> Option<OutgoingLinkId> {
        let sessions = &self.queues.get(&entity)?.message_sessions;
        sessions.get(sessions.find(session)?)?.holder
    }

    /// Gives a free message session to a link that exists.
    pub(super) fn start_hold(
        &mut self,
        step: &mut Step<'_>,
        id: OutgoingLinkId,
        slot: MessageSessionSlot,
        identity: LinkIdentity,
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(queue) = self.queues.get_mut(&link.queue) else { return };
        let deadline = step.now.mono.plus(queue.settings.lock_duration);
        let locked_until = step.now.utc.plus(queue.settings.lock_duration);
        queue.message_sessions.hold(slot, id);
        link.kind =
            LinkKind::Holder(Box::new(Hold { slot, deadline, locked_until, identity, is_lost: false }));
        self.deadlines.insert(deadline, Deadline::MessageSessionLock(id));
        let message_session = queue.message_sessions.id(Some(slot)).map(|id| (id, Some(locked_until)));
        step.immediate(link.connection, Effect::Attached(AttachGrant { link: id, message_session }));
    }

    /// The hold's time is over: deliveries in flight count as failed, the holder is detached,
    /// anyone may accept at once (semantics A-53 to A-60).
    pub(in crate::core) fn expire_session_lock(&mut self, step: &mut Step<'_>, id: OutgoingLinkId) {
        let told = self.links.get(&id).and_then(|link| match &link.kind {
            LinkKind::Holder(hold) if !hold.is_lost => Some(link.connection),
            _ => None,
        });
        if told.is_some() {
            self.leave_reserved(id);
        }
        self.end_hold(step, id, true);
        if let Some(connection) = told {
            let cause = Some(Refusal::MessageSessionLockLost);
            step.fenced(connection, Effect::Detached { link: id, cause });
        }
    }

    /// A clean end: the message session is free at once, nothing is counted (semantics A-62,
    /// A-63) unless the entity says so (F-9).
    pub(in crate::core) fn release_hold(&mut self, step: &mut Step<'_>, id: OutgoingLinkId) {
        let queue = self.links.get(&id).and_then(|link| self.queues.get(&link.queue));
        let counted = queue.is_some_and(|queue| queue.settings.count_unsettled_on_message_session_close);
        self.end_hold(step, id, counted);
    }

    /// The connection broke: the hold stays until it expires, or until the same client is back
    /// (semantics A-68).
    pub(in crate::core) fn lose_hold(&mut self, step: &mut Step<'_>, id: OutgoingLinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let LinkKind::Holder(hold) = &mut link.kind else { return };
        if hold.is_lost {
            return;
        }
        hold.is_lost = true;
        self.lost_holds.insert(link.queue, &hold.identity, id);
        let (in_flight, connection) = (link.in_flight.clone(), link.connection);
        self.leave_connection(connection, id);
        self.return_reserved(step, &in_flight);
    }

    /// Ends a hold and its link. With `counted`, each delivery in flight is one failed delivery;
    /// what was only reserved never reached the client and is not.
    pub(in crate::core) fn end_hold(&mut self, step: &mut Step<'_>, id: OutgoingLinkId, counted: bool) {
        let Some(link) = self.remove_link(id) else { return };
        let Link { queue, in_flight, kind: LinkKind::Holder(hold), .. } = link else { return };
        self.ended_holds.add_link(id);
        self.note_use(step.now.utc, queue);
        let mut deliveries = Vec::new();
        let mut reserved = Vec::new();
        for slot in in_flight {
            match self.locks.get(slot).map(|lock| lock.kind) {
                Some(LockKind::Reserved { .. }) => reserved.push(slot),
                Some(_) => {
                    if let Some(token) = self.locks.forget_token(slot) {
                        self.ended_holds.add_token(token);
                    }
                    deliveries.push(slot);
                }
                None => {}
            }
        }
        self.return_reserved(step, &reserved);
        if counted {
            self.returning.insert(id, Returning { queue, slot: hold.slot, in_flight: deliveries });
            self.count_returning(step, id);
            return;
        }
        for slot in deliveries {
            if let Some(lock) = self.locks.remove(slot) {
                self.give_back(lock.queue, lock.sequence_number);
            }
        }
        if is_present(Defect::HoldOutlivesItsLink) {
            return;
        }
        self.free_session(queue, hold.slot);
    }

    /// Counts the deliveries of a lost hold, then frees its message session. What goes over the
    /// bound of a step is left to the next one; until then nobody gets the message session.
    pub(in crate::core) fn count_returning(&mut self, step: &mut Step<'_>, id: OutgoingLinkId) {
        let Some(mut returning) = self.returning.remove(&id) else { return };
        while let Some(slot) = returning.in_flight.pop() {
            if !step.may_go_on() {
                returning.in_flight.push(slot);
                self.returning.insert(id, returning);
                self.unfinished.insert(Unfinished::Returning(id));
                return;
            }
            if let Some(lock) = self.locks.remove(slot) {
                self.fail_delivery(step, lock.queue, lock.sequence_number, None);
            }
        }
        self.free_session(returning.queue, returning.slot);
    }

    fn free_session(&mut self, queue_id: EntityId, slot: MessageSessionSlot) {
        if let Some(queue) = self.queues.get_mut(&queue_id) {
            queue.message_sessions.release(slot);
        }
        self.mark(Changed::MessageSession(queue_id, slot));
    }

    /// Renews the caller's lock: from now on for one lock duration, never shortened (semantics
    /// A-45 to A-50).
    pub(in crate::core) fn renew_session_lock(
        &mut self,
        step: &mut Step<'_>,
        entity: EntityId,
        session: &MessageSessionId,
        claim: HolderClaim,
    ) -> Reply {
        if let Err(refusal) = self.held_session(step.now, entity, session, claim) {
            return Reply::Refused(refusal);
        }
        let Some(id) = self.holder_of(entity, session) else {
            return Reply::Refused(Refusal::MessageSessionLockLost);
        };
        match self.extend_hold(step.now, id) {
            Some(locked_until) => Reply::Renewed(vec![locked_until]),
            None => Reply::Refused(Refusal::MessageSessionLockLost),
        }
    }

    /// Gives a hold one lock duration from now, never less than it had; its new end.
    pub(in crate::core) fn extend_hold(&mut self, now: Now, id: OutgoingLinkId) -> Option<Timestamp> {
        let link = self.links.get_mut(&id)?;
        let lock_duration = self.queues.get(&link.queue)?.settings.lock_duration;
        let LinkKind::Holder(hold) = &mut link.kind else { return None };
        self.deadlines.remove(hold.deadline, Deadline::MessageSessionLock(id));
        hold.deadline = hold.deadline.max(now.mono.plus(lock_duration));
        hold.locked_until = hold.locked_until.max(now.utc.plus(lock_duration));
        self.deadlines.insert(hold.deadline, Deadline::MessageSessionLock(id));
        Some(hold.locked_until)
    }

    /// A hold whose client is there and whose time is not over.
    pub(in crate::core) fn live_hold(&self, now: Now, id: OutgoingLinkId) -> Option<(&Link, &Hold)> {
        let link = self.links.get(&id)?;
        match &link.kind {
            LinkKind::Holder(hold) if !hold.is_lost && !self.is_over(now, link, hold) => Some((link, hold)),
            _ => None,
        }
    }

    /// The message session that the caller claims to hold, if so (semantics A-99).
    pub(in crate::core) fn held_session(
        &self,
        now: Now,
        entity: EntityId,
        session: &MessageSessionId,
        claim: HolderClaim,
    ) -> Result<MessageSessionSlot, Refusal> {
        self.queue_of(entity)?;
        let holder = self.holder_of(entity, session).ok_or(Refusal::MessageSessionLockLost)?;
        let (link, hold) = self.live_hold(now, holder).ok_or(Refusal::MessageSessionLockLost)?;
        let is_named = claim.link.is_none_or(|named| named == holder);
        if is_named && link.connection == claim.connection {
            Ok(hold.slot)
        } else {
            Err(Refusal::MessageSessionLockLost)
        }
    }

    /// Whether the caller has a browse link on the message session (semantics A-100).
    pub(super) fn browses(&self, entity: EntityId, session: &MessageSessionId, claim: HolderClaim) -> bool {
        let of_connection = self.connections.get(&claim.connection);
        of_connection.into_iter().flatten().any(|id| {
            claim.link.is_none_or(|named| named == *id)
                && self.links.get(id).is_some_and(|link| {
                    link.queue == entity && matches!(&link.kind, LinkKind::Browser(id) if id == session)
                })
        })
    }

    /// Whether a connection holds any message session of an entity.
    pub(in crate::core) fn holds_any(&self, now: Now, entity: EntityId, connection: ConnectionId) -> bool {
        let of_connection = self.connections.get(&connection);
        of_connection
            .into_iter()
            .flatten()
            .any(|&id| self.live_hold(now, id).is_some_and(|(link, _)| link.queue == entity))
    }
}

/// Whether two links belong to one client: by the receiver name if both have one, else by
/// container and link name.
fn is_same_client(old: &LinkIdentity, new: &LinkIdentity) -> bool {
    let same_receiver = old.receiver_name.is_some() && old.receiver_name == new.receiver_name;
    let is_named = !new.container_id.is_empty() && !new.link_name.is_empty();
    same_receiver || (is_named && old.container_id == new.container_id && old.link_name == new.link_name)
}

/// Holds whose connection broke, by what their client can be recognised by.
#[derive(Debug, Default)]
pub(in crate::core) struct LostHolds(FxHashMap<(EntityId, ClientName), Vec<OutgoingLinkId>>);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum ClientName {
    Receiver(Box<str>),
    Link { container_id: Box<str>, link_name: Box<str> },
}

fn names(identity: &LinkIdentity) -> impl Iterator<Item = ClientName> {
    let receiver = identity.receiver_name.clone().map(ClientName::Receiver);
    let is_named = !identity.container_id.is_empty() && !identity.link_name.is_empty();
    let link = is_named.then(|| ClientName::Link {
        container_id: identity.container_id.clone(),
        link_name: identity.link_name.clone(),
    });
    receiver.into_iter().chain(link)
}

impl LostHolds {
    fn insert(&mut self, entity: EntityId, identity: &LinkIdentity, link: OutgoingLinkId) {
        for name in names(identity) {
            self.0.entry((entity, name)).or_default().push(link);
        }
    }

    pub(in crate::core) fn remove(
        &mut self,
        entity: EntityId,
        identity: &LinkIdentity,
        link: OutgoingLinkId,
    ) {
        for name in names(identity) {
            let key = (entity, name);
            if let Some(links) = self.0.get_mut(&key) {
                links.retain(|&other| other != link);
                if links.is_empty() {
                    self.0.remove(&key);
                }
            }
        }
    }

    /// The lost holds of the client that has this identity.
    pub(super) fn find(&self, entity: EntityId, identity: &LinkIdentity) -> Vec<OutgoingLinkId> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<_> =
            names(identity).filter_map(|name| self.0.get(&(entity, name))).flatten().copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    #[cfg(test)]
    pub(in crate::core) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Links and lock tokens that are remembered after their hold ended.
const ENDED_REMEMBERED_MAX: usize = 65_536;

/// Tells *the message session's lock was lost* from *the message's lock is unknown*: who settles
/// with a token of a hold that ended is told the former (semantics A-58), as long as it is
/// remembered.
#[derive(Debug, Default)]
pub(in crate::core) struct EndedHolds {
    links: Recent<OutgoingLinkId>,
    tokens: Recent<LockToken>,
}

impl EndedHolds {
    fn add_link(&mut self, link: OutgoingLinkId) {
        self.links.add(link);
    }

    fn add_token(&mut self, token: LockToken) {
        self.tokens.add(token);
    }

    pub(in crate::core) fn has_link(&self, link: OutgoingLinkId) -> bool {
        self.links.known.contains(&link)
    }

    pub(in crate::core) fn has_token(&self, token: LockToken) -> bool {
        self.tokens.known.contains(&token)
    }
}

/// The last [`ENDED_REMEMBERED_MAX`] values.
#[derive(Debug)]
struct Recent<T> {
    order: VecDeque<T>,
    known: FxHashSet<T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), known: FxHashSet::default() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Recent<T> {
    fn add(&mut self, value: T) {
        if self.order.len() >= ENDED_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(value);
        self.known.insert(value);
    }
}
