//! Who gets which message or message session, and what time brings.

use lockstep_model::MessageSessionExpiration;

use super::*;

impl Reference {
    /// The message that goes out next: the lowest number.
    fn next(&self, entity: EntityId, session: Option<&MessageSessionId>) -> Option<u64> {
        let wanted = |m: &&Message| {
            m.entity == entity
                && m.place == Place::Ready
                && (session.is_none() || m.session.as_ref() == session)
        };
        let next = self.messages.iter().filter(wanted).map(|m| m.number).min()?;
        (!self.is_blocked(entity, session, next)).then_some(next)
    }

    /// In a message session nothing overtakes what is in nobody's hands and not ready either.
    fn is_blocked(&self, entity: EntityId, session: Option<&MessageSessionId>, next: u64) -> bool {
        let in_between = |m: &&Message| {
            m.entity == entity
                && m.session.as_ref() == session
                && (matches!(m.place, Place::Awaiting(_)) || self.is_left(m))
        };
        session.is_some() && self.messages.iter().filter(in_between).any(|m| m.number < next)
    }

    /// The first message that is ready is blocked.
    fn has_to_wait(&self, entity: EntityId, session: &MessageSessionId) -> bool {
        let ready = |m: &&Message| {
            m.entity == entity && m.place == Place::Ready && m.session.as_ref() == Some(session)
        };
        let first = self.messages.iter().filter(ready).map(|m| m.number).min();
        first.is_some_and(|first| self.is_blocked(entity, Some(session), first))
    }

    /// Whether a link had reserved it that the broker ended.
    fn is_left(&self, message: &Message) -> bool {
        let of_it = |lock: &Locked| lock.entity == message.entity && lock.number == message.number;
        let lock = self.locks.iter().find(|lock| lock.reserved && of_it(lock));
        lock.is_some_and(|lock| self.left.contains_key(&lock.link))
    }

    /// Delivers and grants until nothing more can be.
    pub(super) fn serve(&mut self) {
        for entity in self.entities.keys().copied().collect::<Vec<_>>() {
            if self.entities[&entity].requires_session {
                self.serve_sessions(entity);
            } else {
                self.serve_receivers(entity);
            }
        }
        for id in std::mem::take(&mut self.drains) {
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.limit = link.delivered;
            let entity = link.entity;
            self.entity(entity).line.retain(|&other| other != id);
            self.tell(false, Whom::Link(id), Told::Drained);
        }
    }

    fn serve_receivers(&mut self, entity: EntityId) {
        while let (Some(&id), Some(number)) = (self.entities[&entity].line.first(), self.next(entity, None)) {
            let now = self.now.utc;
            if self.message(entity, number).has_expired(now) {
                self.expire_message(entity, number);
                continue;
            }
            self.entity(entity).line.remove(0);
            self.deliver(id, number);
            if self.links[&id].delivered < self.links[&id].limit {
                self.entity(entity).line.push(id);
            }
        }
    }

    fn serve_sessions(&mut self, entity: EntityId) {
        let holders = self.entities[&entity].sessions.values().filter_map(|held| held.holder);
        for id in holders.collect::<Vec<_>>() {
            self.serve_holder(id);
        }
        while let Some(&id) = self.entities[&entity].pending.first() {
            let Some(session) = self.first_eligible(entity) else { return };
            self.expire_session(entity, &session);
            if self.first_eligible(entity).as_ref() != Some(&session) {
                continue;
            }
            self.entity(entity).pending.remove(0);
            if matches!(self.links[&id].kind, Kind::Pending { drain: true, .. }) {
                self.drains.push(id);
            }
            self.grant(id, session);
            self.serve_holder(id);
        }
    }

    /// The free message session with a message that was released first, of several such the one
    /// with the oldest message.
    fn first_eligible(&self, entity: EntityId) -> Option<MessageSessionId> {
        let sessions = &self.entities[&entity].sessions;
        let eligible = self.session_ids(entity).into_iter().filter_map(|id| {
            let (holder, last_release) =
                sessions.get(&id).map_or((None, 0), |held| (held.holder, held.last_release));
            let head = self.next(entity, Some(&id))?;
            holder.is_none().then_some((last_release, head, id))
        });
        eligible.min().map(|(_, _, id)| id)
    }

    fn serve_holder(&mut self, id: u64) {
        while self.is_live_holder(id) && self.links[&id].delivered < self.links[&id].limit {
            let Kind::Holder { session, .. } = &self.links[&id].kind else { return };
            let (entity, session) = (self.links[&id].entity, session.clone());
            if self.has_to_wait(entity, &session) {
                return;
            }
            self.expire_session(entity, &session);
            let Some(number) = self.next(entity, Some(&session)) else { return };
            self.deliver(id, number);
        }
    }

    /// Somebody receives from a message session, or accepts it: what has expired goes, and under
    /// the umbrella rule everything that was sent to it so far.
    fn expire_session(&mut self, entity: EntityId, session: &MessageSessionId) {
        let now = self.now.utc;
        let of_it = |m: &&Message| m.entity == entity && m.session.as_ref() == Some(session);
        let ready = |m: &&Message| of_it(m) && m.place == Place::Ready;
        let last = self
            .messages
            .iter()
            .filter(of_it)
            .filter(|m| m.place != Place::Scheduled)
            .map(|m| m.number)
            .max();
        let scope = self.description(entity).message_session_expiration;
        let any_expired = self.messages.iter().filter(ready).any(|m| m.has_expired(now));
        if any_expired && scope == MessageSessionExpiration::MessageSession {
            let held = self.entity(entity).sessions.entry(session.clone()).or_default();
            held.expired_through = held.expired_through.max(last.unwrap_or(0));
        }
        let through = self.entities[&entity].sessions.get(session).map_or(0, |held| held.expired_through);
        let goes = |m: &&Message| ready(m) && (m.has_expired(now) || m.number <= through);
        for number in self.messages.iter().filter(goes).map(|m| m.number).collect::<Vec<_>>() {
            self.expire_message(entity, number);
        }
    }

    fn deliver(&mut self, id: u64, number: u64) {
        let now = self.now;
        let link = self.link(id);
        link.delivered += 1;
        let (entity, reserved) = (link.entity, link.mode == ReceiveMode::ReceiveAndDelete);
        let (ends, until) = match &link.kind {
            _ if reserved => (None, None),
            Kind::Holder { until, .. } => (None, Some(*until)),
            _ => {
                let until = now.utc.plus(LOCK);
                (Some((now.mono.plus(LOCK), until)), Some(until))
            }
        };
        self.locks.push(Locked { token: None, entity, number, link: id, ends, reserved });
        let message = self.message(entity, number);
        message.place = if reserved { Place::Reserved } else { Place::Locked };
        let shown = message.received(until);
        self.tell(!reserved, Whom::Link(id), Told::Delivered(shown));
    }

    /// Locks and accepts that are over, in the order in which they became it.
    pub(super) fn pass_deadlines(&mut self) {
        let mut due: Vec<(MonoTime, u8, u64)> = Vec::new();
        for (&id, link) in &self.links {
            match link.kind {
                Kind::Holder { deadline, .. } => due.push((deadline, 1, id)),
                Kind::Pending { deadline, .. } => due.push((deadline, 2, id)),
                _ => {}
            }
        }
        due.extend(self.locks.iter().filter_map(|lock| Some((lock.ends?.0, 0, 0))));
        due.retain(|&(at, ..)| at <= self.now.mono);
        due.sort_unstable();
        for (at, kind, id) in due {
            match kind {
                0 => {
                    let over = |lock: &Locked| lock.ends.is_some_and(|(deadline, _)| deadline <= at);
                    if let Some(lock) = self.take_lock(over) {
                        self.put_back(&lock, true);
                    }
                }
                1 => self.expire_hold(id),
                _ => {
                    self.serve();
                    if matches!(self.links[&id].kind, Kind::Pending { .. }) {
                        self.drop_link(id);
                        self.tell(false, Whom::Link(id), Told::Refused(Refusal::AcceptTimedOut));
                    }
                }
            }
        }
        self.serve();
    }

    /// Scheduled messages that are due, and expired messages of plain queues.
    ///
    /// The broker looks for the latter once a second. The test keeps its wall clock on even
    /// seconds and times to live odd, so that whatever has expired was looked for.
    pub(super) fn pass_wall_clock(&mut self) {
        let (now, commit) = (self.now.utc, self.commit);
        let is_due = |m: &&Message| m.place == Place::Scheduled && m.enqueued_at <= now;
        let mut due: Vec<_> =
            self.messages.iter().filter(is_due).map(|m| (m.enqueued_at, m.number, m.entity)).collect();
        due.sort_unstable();
        for (_, number, entity) in due {
            self.entity(entity).last += 1;
            let last = self.entities[&entity].last;
            let message = self.message(entity, number);
            (message.number, message.enqueued_at, message.place) = (last, now, Place::New(commit));
        }
        let is_plain = |m: &&Message| !self.entities[&m.entity].requires_session;
        let expired = |m: &&Message| is_plain(m) && m.is_in_nobodys_hands() && m.has_expired(now);
        let expired = self.messages.iter().filter(expired).map(|m| (m.entity, m.number));
        for (entity, number) in expired.collect::<Vec<_>>() {
            self.expire_message(entity, number);
        }
    }
}
