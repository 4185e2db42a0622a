//! What happens to receivers: attached, given credit, gone; and who holds a message session.

use super::*;

impl Reference {
    pub(super) fn attach(&mut self, attach: &Attach) {
        let (id, entity) = (attach.link.0, attach.entity);
        let known = &self.entities[&entity];
        let refusal = match (&attach.intent, known.requires_session) {
            _ if !known.description.status.allows_receive() => Some(Refusal::EntityDisabled),
            (ReceiveIntent::Plain, true) => Some(Refusal::MessageSessionReceiverRequired),
            (ReceiveIntent::Plain, false) | (_, true) => None,
            _ if entity.sub_queue() != SubQueue::Main => Some(Refusal::MessageSessionOnSubQueue),
            _ => Some(Refusal::MessageSessionsNotSupported),
        };
        if let Some(refusal) = refusal {
            return self.tell(false, Whom::Link(id), Told::Refused(refusal));
        }
        let mut link = Receiver {
            connection: attach.connection.0,
            entity,
            mode: attach.mode,
            identity: attach.identity.clone(),
            delivered: 0,
            limit: 0,
            kind: Kind::Plain,
        };
        match &attach.intent {
            ReceiveIntent::Plain => self.tell(true, Whom::Link(id), Told::Granted(None)),
            ReceiveIntent::BrowseMessageSession(session) => {
                link.kind = Kind::Browser(session.clone());
                self.tell(true, Whom::Link(id), Told::Granted(Some((session.clone(), None))));
            }
            ReceiveIntent::AcceptMessageSession(session) => {
                let holder = self.entities[&entity].sessions.get(session).and_then(|held| held.holder);
                if let Some(holder) = holder {
                    if self.hold_deadline(holder) <= self.now.mono {
                        self.expire_hold(holder);
                    } else if self.is_lost(holder) && self.same_client(holder, &attach.identity) {
                        self.end_hold(holder, true);
                    } else {
                        let refusal = Refusal::MessageSessionCannotBeLocked;
                        return self.tell(false, Whom::Link(id), Told::Refused(refusal));
                    }
                }
                self.links.insert(id, link);
                return self.grant(id, session.clone());
            }
            ReceiveIntent::AcceptNextMessageSession { wait } => {
                let displaced = |id: &&u64| {
                    self.links[*id].entity == entity
                        && self.is_lost(**id)
                        && self.same_client(**id, &attach.identity)
                };
                for id in self.links.keys().filter(displaced).copied().collect::<Vec<_>>() {
                    self.end_hold(id, true);
                }
                link.kind = Kind::Pending { deadline: self.now.mono.plus(*wait), drain: false };
                self.entity(entity).pending.push(id);
            }
        }
        self.links.insert(id, link);
    }

    fn same_client(&self, id: u64, new: &LinkIdentity) -> bool {
        let old = &self.links[&id].identity;
        (old.receiver_name.is_some() && old.receiver_name == new.receiver_name)
            || (old.container_id == new.container_id && old.link_name == new.link_name)
    }

    pub(super) fn is_lost(&self, id: u64) -> bool {
        matches!(self.links[&id].kind, Kind::Holder { lost: true, .. })
    }

    pub(super) fn hold_deadline(&self, id: u64) -> MonoTime {
        match self.links[&id].kind {
            Kind::Holder { deadline, .. } => deadline,
            _ => panic!("not a holder"),
        }
    }

    pub(super) fn is_live_holder(&self, id: u64) -> bool {
        self.links.get(&id).is_some_and(|link| matches!(link.kind, Kind::Holder { lost: false, .. }))
            && self.hold_deadline(id) > self.now.mono
    }

    pub(super) fn held_by(
        &self,
        entity: EntityId,
        session: &MessageSessionId,
        claim: HolderClaim,
    ) -> Option<u64> {
        let holder = self.entities[&entity].sessions.get(session)?.holder?;
        let named = claim.link.is_none_or(|link| link.0 == holder);
        let same = self.links[&holder].connection == claim.connection.0;
        (named && same && self.is_live_holder(holder)).then_some(holder)
    }

    pub(super) fn grant(&mut self, id: u64, session: MessageSessionId) {
        let (deadline, until) = (self.now.mono.plus(LOCK), self.now.utc.plus(LOCK));
        let entity = self.links[&id].entity;
        self.entity(entity).sessions.entry(session.clone()).or_default().holder = Some(id);
        self.link(id).kind = Kind::Holder { session: session.clone(), deadline, until, lost: false };
        self.tell(true, Whom::Link(id), Told::Granted(Some((session, Some(until)))));
    }

    pub(super) fn credit(&mut self, id: u64, limit: u64, drain: bool) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.limit = limit;
        if let Kind::Pending { drain: wanted, .. } = &mut link.kind {
            *wanted |= drain;
            return;
        }
        if matches!(link.kind, Kind::Plain) {
            let (entity, has_credit) = (link.entity, link.delivered < limit);
            let line = &mut self.entity(entity).line;
            if !has_credit {
                line.retain(|&other| other != id);
            } else if !line.contains(&id) {
                line.push(id);
            }
        }
        if drain {
            self.drains.push(id);
        }
    }

    pub(super) fn depart(&mut self, id: u64, departure: Departure) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let releases =
            departure == Departure::Clean || self.config.release_message_sessions_on_connection_loss;
        let entity = link.entity;
        match &mut link.kind {
            Kind::Holder { lost: true, .. } => {}
            Kind::Holder { .. } if releases => {
                let counted = self.description(entity).count_unsettled_on_message_session_close;
                self.end_hold(id, counted);
            }
            Kind::Holder { lost, .. } => {
                *lost = true;
                self.put_back_reserved(id);
            }
            _ => self.drop_link(id),
        }
    }

    pub(super) fn drop_link(&mut self, id: u64) {
        self.put_back_reserved(id);
        let link = self.links.remove(&id).expect("known");
        let entity = self.entity(link.entity);
        entity.line.retain(|&other| other != id);
        entity.pending.retain(|&other| other != id);
    }

    pub(super) fn put_back_reserved(&mut self, id: u64) {
        if self.left.contains_key(&id) {
            return;
        }
        while let Some(lock) = self.take_lock(|lock| lock.link == id && lock.reserved) {
            self.put_back(&lock, false);
        }
    }

    pub(super) fn end_hold(&mut self, id: u64, counted: bool) {
        self.put_back_reserved(id);
        self.ended_links.insert(id);
        let link = self.links.remove(&id).expect("known");
        let Kind::Holder { session, .. } = link.kind else { panic!("a holder") };
        while let Some(lock) = self.take_lock(|lock| lock.link == id && !lock.reserved) {
            self.ended_tokens.extend(lock.token);
            self.put_back(&lock, counted);
        }
        self.releases += 1;
        let releases = self.releases;
        let held = self.entity(link.entity).sessions.get_mut(&session).expect("held");
        (held.holder, held.last_release) = (None, releases);
    }

    /// The broker ends a link whose client is there: its connection will say what was sent.
    fn leave_reserved(&mut self, id: u64) {
        let connection = self.links[&id].connection;
        self.left.insert(id, connection);
    }

    pub(super) fn expire_hold(&mut self, id: u64) {
        let told = !self.is_lost(id);
        if told {
            self.leave_reserved(id);
        }
        self.end_hold(id, true);
        if told {
            let cause = Some(Refusal::MessageSessionLockLost);
            self.tell(false, Whom::Link(id), Told::Detached(cause));
        }
    }

    /// Changes the properties of a queue; links end where receiving is no longer allowed.
    pub(super) fn redefine(&mut self, description: &QueueDescription) -> Reply {
        let named = self.entities.iter().find(|(_, known)| known.description.name == description.name);
        let id = named.map(|(id, _)| id.with_sub_queue(SubQueue::Main)).expect("only known ones are changed");
        self.define(id, description);
        if !description.status.allows_receive() {
            let of_it = |(&link, receiver): (&u64, &Receiver)| {
                (receiver.entity.with_sub_queue(SubQueue::Main) == id).then_some(link)
            };
            for link in self.links.iter().filter_map(of_it).collect::<Vec<_>>() {
                let told = match &self.links[&link].kind {
                    Kind::Holder { lost: true, .. } => None,
                    Kind::Holder { .. } => Some(Told::Detached(Some(Refusal::MessageSessionLockLost))),
                    Kind::Pending { .. } => Some(Told::Refused(Refusal::EntityDisabled)),
                    _ => Some(Told::Detached(Some(Refusal::EntityDisabled))),
                };
                if matches!(told, Some(Told::Detached(_))) {
                    self.leave_reserved(link);
                }
                if matches!(self.links[&link].kind, Kind::Holder { .. }) {
                    self.end_hold(link, false);
                } else {
                    self.drop_link(link);
                }
                if let Some(told) = told {
                    self.tell(false, Whom::Link(link), told);
                }
            }
        }
        Reply::Defined(id)
    }

    pub(super) fn renew_session(
        &mut self,
        entity: EntityId,
        session: &MessageSessionId,
        holder: HolderClaim,
    ) -> Reply {
        let Some(id) = self.held_by(entity, session, holder) else {
            return Reply::Refused(Refusal::MessageSessionLockLost);
        };
        let now = self.now;
        let Kind::Holder { deadline, until, .. } = &mut self.link(id).kind else { panic!("a holder") };
        (*deadline, *until) = (now.mono.plus(LOCK), (*until).max(now.utc.plus(LOCK)));
        Reply::Renewed(vec![*until])
    }

    pub(super) fn get_state(
        &self,
        entity: EntityId,
        session: &MessageSessionId,
        holder: HolderClaim,
    ) -> Reply {
        let browses = self.links.iter().any(|(id, link)| {
            link.connection == holder.connection.0
                && link.entity == entity
                && holder.link.is_none_or(|named| named.0 == *id)
                && matches!(&link.kind, Kind::Browser(id) if id == session)
        });
        if !browses && self.held_by(entity, session, holder).is_none() {
            return Reply::Refused(Refusal::MessageSessionLockLost);
        }
        let state = self.entities[&entity].sessions.get(session).and_then(|held| held.state.clone());
        Reply::MessageSessionState(match state {
            None => StateValue::Absent,
            Some((bytes, _, commit)) if commit > self.durable => StateValue::Inline(bytes),
            Some(_) => StateValue::Stored,
        })
    }

    pub(super) fn set_state(
        &mut self,
        entity: EntityId,
        session: &MessageSessionId,
        state: Option<Bytes>,
        holder: HolderClaim,
    ) -> Reply {
        if self.held_by(entity, session, holder).is_none() {
            return Reply::Refused(Refusal::MessageSessionLockLost);
        }
        let (now, commit) = (self.now.utc, self.commit);
        let held_bytes = self.size_bytes(entity);
        let max_size_bytes = self.description(entity).max_size_bytes;
        let held = self.entity(entity).sessions.get_mut(session).expect("held");
        let before = held.state.as_ref().map_or(0, |(bytes, ..)| bytes.len() as u64);
        if let Some(bytes) = &state
            && bytes.len() as u64 > before
            && held_bytes - before + bytes.len() as u64 > max_size_bytes
        {
            return Reply::Refused(Refusal::QuotaExceeded);
        }
        held.state = state.map(|bytes| (bytes, now, commit));
        Reply::Done
    }

    pub(super) fn list(
        &self,
        entity: EntityId,
        state_updated_after: Option<Timestamp>,
        skip: u32,
        top: u32,
    ) -> Reply {
        if !self.entities[&entity].requires_session {
            return Reply::MessageSessions(Vec::new());
        }
        let sessions = &self.entities[&entity].sessions;
        let is_shown = |id: &MessageSessionId| match state_updated_after {
            Some(cutoff) => {
                sessions.get(id).and_then(|held| held.state.as_ref()).is_some_and(|state| state.1 > cutoff)
            }
            None => self.is_listed(entity, id),
        };
        let ids = self.session_ids(entity).into_iter().filter(is_shown);
        Reply::MessageSessions(ids.skip(skip as usize).take(top as usize).collect())
    }
}
