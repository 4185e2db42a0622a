//! A queue model that is as simple as it can be: flat maps, linear searches, everything derived
//! anew. It says what each command must bring about; [`model`](super::model) compares.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What a link or connection is told, without random numbers.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Told {
    Granted(Option<(MessageSessionId, Option<Timestamp>)>),
    Refused(Refusal),
    Delivered { number: u64, count: u32, until: Option<Timestamp>, mark: Option<Box<str>>, dead: bool },
    Drained,
    Detached(Option<Refusal>),
    Reply(RequestId, Said),
}

/// [`Reply`] without bodies.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Said {
    Peeked(Vec<(u64, u32, Option<Box<str>>)>),
    Other(Reply),
}

/// Whom an effect concerns; order matters only within one of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Whom {
    Link(u64),
    Connection(u64),
}

#[derive(Default, PartialEq, Debug)]
pub(super) struct Expected {
    pub(super) immediate: BTreeMap<Whom, Vec<Told>>,
    pub(super) fenced: BTreeMap<Whom, Vec<Told>>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Ready,
    Awaiting(CommitNumber),
    Locked,
    Reserved,
}

#[derive(Clone, Debug)]
struct Msg {
    session: Option<MessageSessionId>,
    count: u32,
    mark: Option<Box<str>>,
    dead: bool,
    place: Place,
}

#[derive(Clone, Default, Debug)]
struct Sess {
    holder: Option<u64>,
    last_release: u64,
    state: Option<(Bytes, Timestamp, CommitNumber)>,
}

#[derive(Clone, Default, Debug)]
struct Que {
    requires_session: bool,
    last: u64,
    messages: BTreeMap<u64, Msg>,
    sessions: BTreeMap<MessageSessionId, Sess>,
    line: Vec<u64>,
    pending: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Kind {
    Plain,
    Pending { deadline: MonoTime, drain: bool },
    Holder { session: MessageSessionId, deadline: MonoTime, until: Timestamp, lost: bool },
    Browser(MessageSessionId),
}

#[derive(Clone, Debug)]
struct Lin {
    connection: u64,
    entity: EntityId,
    mode: ReceiveMode,
    identity: LinkIdentity,
    delivered: u64,
    limit: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
struct Loc {
    token: Option<LockToken>,
    entity: EntityId,
    number: u64,
    link: u64,
    /// `None` while it belongs to a message session or is a reservation.
    ends: Option<(MonoTime, Timestamp)>,
    reserved: bool,
}

#[derive(Default)]
pub(super) struct Reference {
    queues: BTreeMap<EntityId, Que>,
    links: BTreeMap<u64, Lin>,
    locks: Vec<Loc>,
    releases: u64,
    durable: CommitNumber,
    ended_links: BTreeSet<u64>,
    ended_tokens: BTreeSet<LockToken>,
    drains: Vec<u64>,
    now: Now,
    commit: CommitNumber,
    told: Expected,
}

impl Reference {
    pub(super) fn define(&mut self, entity: EntityId, requires_session: bool) {
        self.queues.insert(entity, Que { requires_session, ..Que::default() });
        self.queues.insert(dead_letter(entity), Que::default());
    }

    pub(super) fn apply(&mut self, now: Now, commit: CommitNumber, command: &Command) -> Expected {
        (self.now, self.commit) = (now, commit);
        self.execute(command.clone());
        self.serve();
        self.expire();
        for queue in self.queues.values_mut() {
            let messages = &queue.messages;
            queue.sessions.retain(|id, session| {
                session.holder.is_some()
                    || session.state.is_some()
                    || messages.values().any(|message| message.session.as_ref() == Some(id))
            });
        }
        std::mem::take(&mut self.told)
    }

    /// Learns the token of a delivery that was predicted.
    pub(super) fn learn(&mut self, link: u64, number: u64, token: LockToken) {
        let lock = self.locks.iter_mut().find(|l| l.link == link && l.number == number && l.token.is_none());
        lock.expect("was predicted").token = Some(token);
    }

    /// What a store holds now.
    pub(super) fn image(&self) -> Self {
        let mut image = Self { releases: 0, ..Self::default() };
        for (&entity, queue) in &self.queues {
            let mut kept =
                Que { requires_session: queue.requires_session, last: queue.last, ..Que::default() };
            for (&number, message) in &queue.messages {
                if message.place != Place::Reserved {
                    kept.messages.insert(number, Msg { place: Place::Ready, ..message.clone() });
                    if let Some(id) = &message.session {
                        kept.sessions.entry(id.clone()).or_default();
                    }
                }
            }
            for (id, session) in &queue.sessions {
                if let Some((bytes, at, _)) = &session.state {
                    kept.sessions.entry(id.clone()).or_default().state =
                        Some((bytes.clone(), *at, CommitNumber(0)));
                }
            }
            image.queues.insert(entity, kept);
        }
        image
    }

    /// Every message is in one place, and every lock has one message.
    pub(super) fn check(&self) {
        let mut holders = BTreeSet::new();
        for (entity, queue) in &self.queues {
            for (number, message) in &queue.messages {
                let locks = self.locks.iter().filter(|l| l.entity == *entity && l.number == *number);
                let is_out = matches!(message.place, Place::Locked | Place::Reserved);
                assert_eq!(locks.count(), usize::from(is_out), "{entity:?} {number} {:?}", message.place);
            }
            for session in queue.sessions.values() {
                assert!(session.holder.is_none_or(|link| holders.insert(link)));
            }
        }
    }

    /// Messages, locked messages and held sessions of an entity.
    pub(super) fn counts(&self, entity: EntityId) -> (usize, usize, usize) {
        let queue = &self.queues[&entity];
        let there = queue.messages.values().filter(|message| message.place != Place::Reserved).count();
        let locked = queue.messages.values().filter(|message| message.place == Place::Locked).count();
        (there, locked, queue.sessions.values().filter(|session| session.holder.is_some()).count())
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Enqueue(enqueue) => {
                let reply = self.enqueue(&enqueue);
                self.reply(enqueue.connection, enqueue.request, Said::Other(reply));
            }
            Command::Attach(attach) => self.attach(&attach),
            Command::Credit { link, limit, drain } => self.credit(link.0, limit, drain),
            Command::Detach { link, departure } => {
                let known = self.links.contains_key(&link.0) && !self.is_lost(link.0);
                self.depart(link.0, departure);
                if known && departure == Departure::Clean {
                    self.tell(false, Whom::Link(link.0), Told::Detached(None));
                }
            }
            Command::ConnectionGone { connection, departure } => {
                let of_it = |(&id, link): (&u64, &Lin)| (link.connection == connection.0).then_some(id);
                for id in self.links.iter().filter_map(of_it).collect::<Vec<_>>() {
                    self.depart(id, departure);
                }
            }
            Command::Return { link, tokens } => {
                for token in tokens {
                    if let Some(lock) = self.take_lock(|l| l.token == Some(token) && l.link == link.0) {
                        self.put_back(&lock, false);
                    }
                }
            }
            Command::Sent { link, tokens } => {
                for token in tokens {
                    let wanted = |l: &Loc| l.token == Some(token) && l.link == link.0 && l.reserved;
                    if let Some(lock) = self.take_lock(wanted) {
                        self.queue(lock.entity).messages.remove(&lock.number);
                    }
                }
            }
            Command::Settle { via, tokens, settlement, connection, request } => {
                let reply = self.settle(via, &tokens, &settlement, connection.0);
                self.reply(connection, request, Said::Other(reply));
            }
            Command::Committed(commit) => self.committed(commit),
            Command::Tick => {}
            other => self.answer(other),
        }
    }

    fn answer(&mut self, command: Command) {
        let (connection, request, said) = match command {
            Command::RenewMessageLocks { entity, tokens, connection, request } => {
                (connection, request, Said::Other(self.renew(entity, &tokens, connection.0)))
            }
            Command::RenewMessageSessionLock { entity, session, holder, request } => {
                let reply = match self.held_by(entity, &session, holder) {
                    None => Reply::Refused(Refusal::MessageSessionLockLost),
                    Some(id) => {
                        let now = self.now;
                        let Kind::Holder { deadline, until, .. } = &mut self.link(id).kind else {
                            panic!("a holder")
                        };
                        (*deadline, *until) = (now.mono.plus(LOCK), now.utc.plus(LOCK));
                        Reply::Renewed(vec![*until])
                    }
                };
                (holder.connection, request, Said::Other(reply))
            }
            Command::GetMessageSessionState { entity, session, holder, request } => {
                let browses = self.links.iter().any(|(id, link)| {
                    link.connection == holder.connection.0
                        && link.entity == entity
                        && holder.link.is_none_or(|named| named.0 == *id)
                        && matches!(&link.kind, Kind::Browser(id) if *id == session)
                });
                let reply = if browses || self.held_by(entity, &session, holder).is_some() {
                    let state = self.queues[&entity].sessions.get(&session).and_then(|s| s.state.clone());
                    Reply::MessageSessionState(match state {
                        None => StateValue::Absent,
                        Some((bytes, _, commit)) if commit > self.durable => StateValue::Inline(bytes),
                        Some(_) => StateValue::Stored,
                    })
                } else {
                    Reply::Refused(Refusal::MessageSessionLockLost)
                };
                (holder.connection, request, Said::Other(reply))
            }
            Command::SetMessageSessionState { entity, session, state, holder, request } => {
                let reply = match self.held_by(entity, &session, holder) {
                    None => Reply::Refused(Refusal::MessageSessionLockLost),
                    Some(_) => {
                        let stamp = (self.now.utc, self.commit);
                        let session = self.queue(entity).sessions.get_mut(&session).expect("held");
                        session.state = state.map(|bytes| (bytes, stamp.0, stamp.1));
                        Reply::Done
                    }
                };
                (holder.connection, request, Said::Other(reply))
            }
            Command::ListMessageSessions { entity, state_updated_after, skip, top, connection, request } => {
                let queue = &self.queues[&entity];
                let shown = queue.sessions.iter().filter(|(id, session)| match state_updated_after {
                    Some(cutoff) => session.state.as_ref().is_some_and(|state| state.1 > cutoff),
                    None => {
                        session.state.is_some()
                            || queue.messages.values().any(|message| message.session.as_ref() == Some(id))
                    }
                });
                let ids = shown.map(|(id, _)| id.clone()).skip(skip as usize).take(top as usize);
                let ids = if queue.requires_session { ids.collect() } else { Vec::new() };
                (connection, request, Said::Other(Reply::MessageSessions(ids)))
            }
            Command::Peek { entity, from, count, session, connection, request } => {
                let messages = self.queues[&entity].messages.range(from.0..);
                let shown = messages.filter(|(_, message)| {
                    message.place != Place::Reserved && (session.is_none() || message.session == session)
                });
                let page = shown.take(count as usize).map(|(&n, m)| (n, m.count, m.mark.clone()));
                (connection, request, Said::Peeked(page.collect()))
            }
            other => panic!("not asked by the test: {other:?}"),
        };
        self.reply(connection, Some(request), said);
    }

    fn queue(&mut self, entity: EntityId) -> &mut Que {
        self.queues.get_mut(&entity).expect("defined")
    }

    fn link(&mut self, id: u64) -> &mut Lin {
        self.links.get_mut(&id).expect("known")
    }

    fn tell(&mut self, immediate: bool, whom: Whom, told: Told) {
        let all = if immediate { &mut self.told.immediate } else { &mut self.told.fenced };
        all.entry(whom).or_default().push(told);
    }

    fn reply(&mut self, connection: ConnectionId, request: Option<RequestId>, said: Said) {
        if let Some(request) = request {
            self.tell(false, Whom::Connection(connection.0), Told::Reply(request, said));
        }
    }

    fn enqueue(&mut self, enqueue: &Enqueue) -> Reply {
        let commit = self.commit;
        let queue = self.queue(enqueue.entity);
        if queue.requires_session && enqueue.messages.iter().any(|m| m.message_session.is_none()) {
            return Reply::Refused(Refusal::MessageSessionIdMissing);
        }
        let first = queue.last + 1;
        for message in &enqueue.messages {
            queue.last += 1;
            let session = message.message_session.clone();
            if let Some(id) = &session {
                queue.sessions.entry(id.clone()).or_default();
            }
            let place = Place::Awaiting(commit);
            let message = Msg { session, count: 0, mark: None, dead: false, place };
            queue.messages.insert(queue.last, message);
        }
        enqueued(first)
    }

    fn attach(&mut self, attach: &Attach) {
        let (id, entity) = (attach.link.0, attach.entity);
        let requires_session = self.queues[&entity].requires_session;
        let refusal = match (&attach.intent, requires_session) {
            (ReceiveIntent::Plain, true) => Some(Refusal::MessageSessionReceiverRequired),
            (ReceiveIntent::Plain, false) | (_, true) => None,
            _ if entity.sub_queue() != SubQueue::Main => Some(Refusal::MessageSessionOnSubQueue),
            _ => Some(Refusal::MessageSessionsNotSupported),
        };
        if let Some(refusal) = refusal {
            return self.tell(false, Whom::Link(id), Told::Refused(refusal));
        }
        let mut link = Lin {
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
                let holder = self.queues[&entity].sessions.get(session).and_then(|session| session.holder);
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
                self.queue(entity).pending.push(id);
            }
        }
        self.links.insert(id, link);
    }

    fn same_client(&self, id: u64, new: &LinkIdentity) -> bool {
        let old = &self.links[&id].identity;
        (old.receiver_name.is_some() && old.receiver_name == new.receiver_name)
            || (old.container_id == new.container_id && old.link_name == new.link_name)
    }

    fn is_lost(&self, id: u64) -> bool {
        matches!(self.links[&id].kind, Kind::Holder { lost: true, .. })
    }

    fn hold_deadline(&self, id: u64) -> MonoTime {
        match self.links[&id].kind {
            Kind::Holder { deadline, .. } => deadline,
            _ => panic!("not a holder"),
        }
    }

    fn is_live_holder(&self, id: u64) -> bool {
        self.links.get(&id).is_some_and(|link| matches!(link.kind, Kind::Holder { lost: false, .. }))
            && self.hold_deadline(id) > self.now.mono
    }

    fn held_by(&self, entity: EntityId, session: &MessageSessionId, claim: HolderClaim) -> Option<u64> {
        let holder = self.queues[&entity].sessions.get(session)?.holder?;
        let named = claim.link.is_none_or(|link| link.0 == holder);
        let same = self.links[&holder].connection == claim.connection.0;
        (named && same && self.is_live_holder(holder)).then_some(holder)
    }

    fn grant(&mut self, id: u64, session: MessageSessionId) {
        let (deadline, until) = (self.now.mono.plus(LOCK), self.now.utc.plus(LOCK));
        let entity = self.links[&id].entity;
        self.queue(entity).sessions.entry(session.clone()).or_default().holder = Some(id);
        self.link(id).kind = Kind::Holder { session: session.clone(), deadline, until, lost: false };
        self.tell(true, Whom::Link(id), Told::Granted(Some((session, Some(until)))));
    }

    fn credit(&mut self, id: u64, limit: u64, drain: bool) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.limit = limit;
        if let Kind::Pending { drain: wanted, .. } = &mut link.kind {
            *wanted |= drain;
            return;
        }
        if matches!(link.kind, Kind::Plain) {
            let (entity, has_credit) = (link.entity, link.delivered < limit);
            let line = &mut self.queue(entity).line;
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

    fn depart(&mut self, id: u64, departure: Departure) {
        let Some(link) = self.links.get_mut(&id) else { return };
        match (&mut link.kind, departure) {
            (Kind::Holder { lost: true, .. }, _) => {}
            (Kind::Holder { .. }, Departure::Clean) => self.end_hold(id, false),
            (Kind::Holder { lost, .. }, Departure::Lost) => {
                *lost = true;
                self.put_back_reserved(id);
            }
            _ => self.drop_link(id),
        }
    }

    fn drop_link(&mut self, id: u64) {
        self.put_back_reserved(id);
        let link = self.links.remove(&id).expect("known");
        let queue = self.queue(link.entity);
        queue.line.retain(|&other| other != id);
        queue.pending.retain(|&other| other != id);
    }

    fn put_back_reserved(&mut self, id: u64) {
        while let Some(lock) = self.take_lock(|lock| lock.link == id && lock.reserved) {
            self.put_back(&lock, false);
        }
    }

    fn take_lock(&mut self, wanted: impl Fn(&Loc) -> bool) -> Option<Loc> {
        let at = self.locks.iter().position(wanted)?;
        Some(self.locks.remove(at))
    }

    /// Puts the message of a lock back; with `counted` as a failed delivery.
    fn put_back(&mut self, lock: &Loc, counted: bool) {
        let commit = self.commit;
        let in_main = lock.entity.sub_queue() == SubQueue::Main;
        let message = self.queue(lock.entity).messages.get_mut(&lock.number).expect("there");
        message.place = if lock.reserved { Place::Awaiting(commit) } else { Place::Ready };
        if counted && in_main {
            message.count += 1;
            if message.count >= MAX_DELIVERY_COUNT {
                self.move_to_dead_letter(lock, None, true);
            }
        }
    }

    fn move_to_dead_letter(&mut self, lock: &Loc, mark: Option<Box<str>>, dead: bool) {
        let commit = self.commit;
        let mut message = self.queue(lock.entity).messages.remove(&lock.number).expect("there");
        message.place = Place::Awaiting(commit);
        message.mark = mark.or(message.mark);
        message.dead = dead;
        let target = self.queue(dead_letter(lock.entity));
        if let Some(id) = &message.session {
            target.sessions.entry(id.clone()).or_default();
        }
        target.messages.insert(lock.number, message);
    }

    fn end_hold(&mut self, id: u64, counted: bool) {
        self.put_back_reserved(id);
        self.ended_links.insert(id);
        let link = self.links.remove(&id).expect("known");
        let Kind::Holder { session, .. } = link.kind else { panic!("a holder") };
        while let Some(lock) = self.take_lock(|lock| lock.link == id) {
            self.ended_tokens.extend(lock.token);
            self.put_back(&lock, counted);
        }
        self.releases += 1;
        let releases = self.releases;
        let session = self.queue(link.entity).sessions.get_mut(&session).expect("held");
        (session.holder, session.last_release) = (None, releases);
    }

    fn expire_hold(&mut self, id: u64) {
        let told = !self.is_lost(id);
        self.end_hold(id, true);
        if told {
            let cause = Some(Refusal::MessageSessionLockLost);
            self.tell(false, Whom::Link(id), Told::Detached(cause));
        }
    }

    fn committed(&mut self, commit: CommitNumber) {
        self.durable = self.durable.max(commit);
        for message in self.queues.values_mut().flat_map(|queue| queue.messages.values_mut()) {
            if matches!(message.place, Place::Awaiting(awaited) if awaited <= commit) {
                message.place = Place::Ready;
            }
        }
    }

    fn judge(&self, via: SettleVia, token: LockToken, connection: u64) -> Result<Loc, Refusal> {
        let lock = self.locks.iter().find(|lock| lock.token == Some(token));
        let (by_link, entity) = match via {
            SettleVia::Link(link) => {
                let link = self.links.get(&link.0);
                if link.is_some_and(|link| link.mode == ReceiveMode::ReceiveAndDelete) {
                    return Err(Refusal::NotAllowedInMode);
                }
                (true, link.map(|link| link.entity))
            }
            SettleVia::Management(entity) => (false, Some(entity)),
        };
        if let Some(lock) = lock.filter(|lock| entity.is_none_or(|entity| entity == lock.entity)) {
            return match lock.ends {
                _ if lock.reserved => Err(Refusal::MessageLockLost),
                Some((deadline, _)) if deadline > self.now.mono => Ok(lock.clone()),
                Some(_) => Err(Refusal::MessageLockLost),
                None if self.is_live_holder(lock.link) && self.links[&lock.link].connection == connection => {
                    Ok(lock.clone())
                }
                None => Err(Refusal::MessageSessionLockLost),
            };
        }
        let hold_is_gone = match (via, entity) {
            (SettleVia::Link(link), _) => match self.links.get(&link.0).map(|link| &link.kind) {
                Some(Kind::Plain) => false,
                Some(Kind::Holder { deadline, .. }) => *deadline <= self.now.mono,
                Some(Kind::Pending { .. } | Kind::Browser(_)) => true,
                None => self.ended_links.contains(&link.0),
            },
            (SettleVia::Management(_), Some(entity)) => {
                let holds = |(&id, link): (&u64, &Lin)| {
                    link.entity == entity && link.connection == connection && self.is_live_holder(id)
                };
                self.queues[&entity].requires_session && !self.links.iter().any(holds)
            }
            (SettleVia::Management(_), None) => false,
        };
        let sessionful = by_link || entity.is_some_and(|entity| self.queues[&entity].requires_session);
        if hold_is_gone || (sessionful && self.ended_tokens.contains(&token)) {
            Err(Refusal::MessageSessionLockLost)
        } else {
            Err(Refusal::MessageLockLost)
        }
    }

    fn settle(
        &mut self,
        via: SettleVia,
        tokens: &[LockToken],
        settlement: &Settlement,
        connection: u64,
    ) -> Reply {
        let allow = |lock: Loc| match settlement {
            Settlement::DeadLetter(_) if lock.entity.sub_queue() != SubQueue::Main => {
                Err(Refusal::AlreadyDeadLettered)
            }
            _ => Ok(lock),
        };
        if matches!(via, SettleVia::Management(_)) {
            for (at, &token) in tokens.iter().enumerate() {
                let judged = self.judge(via, token, connection).and_then(allow);
                let twice = tokens[..at].contains(&token);
                if let Some(refusal) = judged.err().or(twice.then_some(Refusal::MessageLockLost)) {
                    return Reply::Refused(refusal);
                }
            }
        }
        let mut failures = Vec::new();
        for (at, &token) in tokens.iter().enumerate() {
            match self.judge(via, token, connection).and_then(allow) {
                Err(refusal) => failures.push((at as u32, refusal)),
                Ok(lock) => self.carry_out(&lock, settlement),
            }
        }
        Reply::Settled(failures)
    }

    fn carry_out(&mut self, lock: &Loc, settlement: &Settlement) {
        self.take_lock(|other| other.token == lock.token);
        match settlement {
            Settlement::Defer(_) => unreachable!("deferral has tests of its own"),
            Settlement::AbandonFor(..) => unreachable!("delays have tests of their own"),
            Settlement::Complete => drop(self.queue(lock.entity).messages.remove(&lock.number)),
            Settlement::Release => self.put_back(lock, false),
            Settlement::Abandon(overlay) => {
                let mark = mark_of(Some(overlay));
                let message = self.queue(lock.entity).messages.get_mut(&lock.number).expect("there");
                message.mark = mark.or(message.mark.take());
                self.put_back(lock, true);
            }
            Settlement::DeadLetter(overlay) => {
                self.move_to_dead_letter(lock, mark_of(Some(overlay)), false);
            }
        }
    }

    fn renew(&mut self, entity: EntityId, tokens: &[LockToken], connection: u64) -> Reply {
        for &token in tokens {
            if let Err(refusal) = self.judge(SettleVia::Management(entity), token, connection) {
                return Reply::Refused(refusal);
            }
        }
        let ends = (self.now.mono.plus(LOCK), self.now.utc.plus(LOCK));
        let mut answers = Vec::new();
        for &token in tokens {
            let lock = self.locks.iter_mut().find(|lock| lock.token == Some(token)).expect("judged");
            answers.push(match (&mut lock.ends, &self.links.get(&lock.link).map(|link| &link.kind)) {
                (Some(old), _) => {
                    *old = ends;
                    ends.1
                }
                (None, Some(Kind::Holder { until, .. })) => *until,
                other => panic!("judged: {other:?}"),
            });
        }
        Reply::Renewed(answers)
    }

    fn next(&self, entity: EntityId, session: Option<&MessageSessionId>) -> Option<u64> {
        let wanted = |message: &Msg| {
            message.place == Place::Ready && (session.is_none() || message.session.as_ref() == session)
        };
        self.queues[&entity].messages.iter().find(|(_, message)| wanted(message)).map(|(&number, _)| number)
    }

    /// Delivers and grants until nothing more can be.
    fn serve(&mut self) {
        for entity in self.queues.keys().copied().collect::<Vec<_>>() {
            if self.queues[&entity].requires_session {
                self.serve_sessions(entity);
                continue;
            }
            while let (Some(&id), Some(number)) = (self.queues[&entity].line.first(), self.next(entity, None))
            {
                self.queue(entity).line.remove(0);
                self.deliver(id, number);
                if self.links[&id].delivered < self.links[&id].limit {
                    self.queue(entity).line.push(id);
                }
            }
        }
        for id in std::mem::take(&mut self.drains) {
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.limit = link.delivered;
            let entity = link.entity;
            self.queue(entity).line.retain(|&other| other != id);
            self.tell(false, Whom::Link(id), Told::Drained);
        }
    }

    fn serve_sessions(&mut self, entity: EntityId) {
        let holders = self.queues[&entity].sessions.values().filter_map(|session| session.holder);
        for id in holders.collect::<Vec<_>>() {
            self.serve_holder(id);
        }
        while let Some(&id) = self.queues[&entity].pending.first() {
            let sessions = self.queues[&entity].sessions.iter();
            let free = sessions.filter(|(_, session)| session.holder.is_none());
            let eligible =
                free.filter_map(|(id, s)| Some((s.last_release, self.next(entity, Some(id))?, id.clone())));
            let Some((_, _, session)) = eligible.min() else { return };
            self.queue(entity).pending.remove(0);
            if matches!(self.links[&id].kind, Kind::Pending { drain: true, .. }) {
                self.drains.push(id);
            }
            self.grant(id, session);
            self.serve_holder(id);
        }
    }

    fn serve_holder(&mut self, id: u64) {
        while self.is_live_holder(id) && self.links[&id].delivered < self.links[&id].limit {
            let Kind::Holder { session, .. } = &self.links[&id].kind else { return };
            let Some(number) = self.next(self.links[&id].entity, Some(session)) else { return };
            self.deliver(id, number);
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
        self.locks.push(Loc { token: None, entity, number, link: id, ends, reserved });
        let message = self.queue(entity).messages.get_mut(&number).expect("ready");
        message.place = if reserved { Place::Reserved } else { Place::Locked };
        let (count, mark, dead) = (message.count, message.mark.clone(), message.dead);
        self.tell(!reserved, Whom::Link(id), Told::Delivered { number, count, until, mark, dead });
    }

    /// Everything that is due, in the order in which it became due.
    fn expire(&mut self) {
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
                    let over = |lock: &Loc| lock.ends.is_some_and(|(deadline, _)| deadline <= at);
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
}

/// The value of the property that the test lays over messages.
pub(super) fn mark_of(overlay: Option<&PropertyOverlay>) -> Option<Box<str>> {
    match overlay?.get("mark")? {
        lockstep_model::PropertyValue::Text(text) => Some(text.clone()),
        lockstep_model::PropertyValue::Encoded(_) => None,
    }
}
