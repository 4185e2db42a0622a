//! Random commands: mostly such as can succeed, some that cannot.

use lockstep_model::PropertyValue;

use super::{
    super::*,
    reference::Place,
    world::{Handed, SESSIONS, STATUSES, World, duplicate_key, session_id},
};

/// Messages in one queue above which nothing more is sent to it: the reference searches linearly.
const MESSAGES_MAX: usize = 30;
/// A body with which a few messages fill a queue, in bytes.
const LARGE_BODY_SIZE_BYTES: usize = 300 * 1024;
static ZEROS: [u8; LARGE_BODY_SIZE_BYTES] = [0; LARGE_BODY_SIZE_BYTES];

impl World {
    pub(super) fn command(&mut self) -> Command {
        match self.random.below(100) {
            0..=15 => self.enqueue(),
            16..=26 => self.attach(),
            27..=40 => self.credit(),
            41..=61 => self.settle(),
            62..=64 => {
                let link = self.random.choose(&self.links).map_or(0, |(link, _)| link);
                self.links.retain(|&(other, _)| other != link);
                let departure = self.departure();
                Command::Detach { link: OutgoingLinkId(link), departure }
            }
            65 => {
                let (connection, departure) = (self.connection(), self.departure());
                Command::ConnectionGone { connection, departure }
            }
            66..=69 => {
                let (link, tokens) = self.some_tokens();
                if self.random.one_in(2) {
                    Command::Sent { link, tokens }
                } else {
                    Command::Return { link, tokens }
                }
            }
            70..=80 => {
                let gap = self.synced.0 - self.told.0;
                self.told.0 += if gap == 0 { 0 } else { 1 + self.random.below(gap) };
                Command::Committed(self.told)
            }
            81 => Command::Tick,
            82..=86 => self.receive_deferred(),
            87..=88 => self.cancel(),
            89 => self.change(),
            _ => self.ask(),
        }
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn connection(&mut self) -> ConnectionId {
        ConnectionId(self.random.below(4))
    }

    fn session(&mut self) -> MessageSessionId {
        session_id(self.random.below(SESSIONS))
    }

    fn entity(&mut self) -> EntityId {
        self.random.choose(&self.entities).expect("some")
    }

    fn session_entity(&mut self) -> EntityId {
        if self.random.one_in(3) { self.entities[6] } else { self.entities[2] }
    }

    fn departure(&mut self) -> Departure {
        if self.random.one_in(2) { Departure::Clean } else { Departure::Lost }
    }

    pub(super) fn peek(
        &mut self,
        entity: EntityId,
        from: SequenceNumber,
        count: u32,
        session: Option<MessageSessionId>,
    ) -> Command {
        let (connection, request) = (self.connection(), self.request());
        Command::Peek { entity, from, count, session, connection, request }
    }

    fn enqueue(&mut self) -> Command {
        let main: Vec<EntityId> = self.entities.iter().step_by(2).copied().collect();
        let entity = self.random.choose(&[main[0], main[1], main[1], main[2], main[3]]).expect("some");
        if self.reference.messages().iter().filter(|m| m.entity == entity).count() > MESSAGES_MAX {
            return self.delete(entity);
        }
        let entity = if self.random.one_in(100) { dead_letter(entity) } else { entity };
        let count = 1 + self.random.below(3);
        let messages = (0..count).map(|_| self.message(entity)).collect();
        let (connection, request) = (self.connection(), Some(self.request()));
        let request = request.filter(|_| !self.random.one_in(10));
        Command::Enqueue(Enqueue { entity, messages, connection, request })
    }

    fn message(&mut self, entity: EntityId) -> IncomingMessage {
        self.next_body += 1;
        let can_be_large = self.reference.description(entity).max_message_size_bytes > 1024;
        let encoded = match self.random.below(16) {
            0 | 1 if can_be_large => Bytes::from_static(&ZEROS),
            2 => Bytes::from_static(&ZEROS[..2000]),
            _ => Bytes::from(format!("body {}", self.next_body)),
        };
        let time_to_live = self.random.choose(&[1, 31, 101]).map(Duration::from_secs);
        let wait = self.random.choose(&[0, 2, 20, 60]).map_or(Duration::ZERO, Duration::from_secs);
        IncomingMessage {
            encoded,
            message_session: if self.random.one_in(20) { None } else { Some(self.session()) },
            time_to_live: time_to_live.filter(|_| self.random.one_in(4)),
            scheduled_at: self.random.one_in(6).then(|| self.now.utc.plus(wait)),
            duplicate_key: self.random.one_in(2).then(|| duplicate_key(self.random.below(5))),
            ..IncomingMessage::default()
        }
    }

    fn attach(&mut self) -> Command {
        self.next_link += 1;
        let connection = self.connection();
        self.links.push((self.next_link, connection.0));
        let entity = if self.random.one_in(3) { self.entity() } else { self.session_entity() };
        let has_sessions = self.reference.description(entity).requires_session;
        let fits =
            if has_sessions && entity.sub_queue() == SubQueue::Main { self.random.below(20) } else { 19 };
        let intent = match fits {
            0..=8 => ReceiveIntent::AcceptMessageSession(self.session()),
            9..=16 => {
                let wait = Duration::from_millis(self.random.below(100_000));
                ReceiveIntent::AcceptNextMessageSession { wait }
            }
            17 => ReceiveIntent::BrowseMessageSession(self.session()),
            18 => ReceiveIntent::Plain,
            _ if self.random.one_in(20) => ReceiveIntent::AcceptMessageSession(self.session()),
            _ => ReceiveIntent::Plain,
        };
        let delete = self.random.one_in(4);
        let mode = if delete { ReceiveMode::ReceiveAndDelete } else { ReceiveMode::PeekLock };
        let name = |number: u64| ["w", "x", "y", "z"][number as usize].into();
        let receiver_name = if self.random.one_in(2) { Some(name(self.random.below(4))) } else { None };
        let link_name = name(self.random.below(4));
        let identity = LinkIdentity { receiver_name, container_id: "container".into(), link_name };
        let link = OutgoingLinkId(self.next_link);
        Command::Attach(Attach { link, connection, entity, mode, intent, identity })
    }

    fn credit(&mut self) -> Command {
        let at = self.random.below(6).min(self.links.len() as u64) as usize;
        let recent = &self.links[self.links.len() - at..];
        let link = self.random.choose(recent).map_or(1, |(link, _)| link);
        let (limit, drain) = (self.random.below(8), self.random.one_in(4));
        Command::Credit { link: OutgoingLinkId(link), limit, drain }
    }

    /// A link and tokens, mostly of its own and mostly alive.
    fn some_tokens(&mut self) -> (OutgoingLinkId, Vec<LockToken>) {
        let recent = self.handed[self.handed.len().saturating_sub(12)..].to_vec();
        let Some(Handed { link, token, .. }) = self.random.choose(&recent) else {
            return (OutgoingLinkId(1), vec![LockToken::from_uuid_bytes([7; 16])]);
        };
        let mut tokens = vec![token];
        while self.random.one_in(3) {
            tokens.extend(self.random.choose(&recent).map(|handed| handed.token));
        }
        let link = if self.random.one_in(10) { self.random.below(self.next_link + 1) } else { link };
        (OutgoingLinkId(link), tokens)
    }

    fn settle(&mut self) -> Command {
        let (link, mut tokens) = self.some_tokens();
        let mut properties = PropertyOverlay::new();
        if self.random.one_in(2) {
            let text = format!("{}", self.next_request);
            properties.set("mark", PropertyValue::Text(text.into()));
        }
        let settlement = match self.random.below(10) {
            0..=2 => Settlement::Complete,
            3..=5 => Settlement::Abandon(properties),
            6 => Settlement::DeadLetter(properties),
            7 | 8 => Settlement::Defer(properties),
            _ => Settlement::Release,
        };
        // What was asked for by its number has no link of its own, but an entity.
        let asked =
            self.handed.iter().find(|h| tokens.contains(&h.token) && h.link == OutgoingLinkId::NONE.0);
        let via = match asked.copied() {
            Some(Handed { entity, token, .. }) if !self.random.one_in(4) => {
                tokens = vec![token];
                SettleVia::Management(entity)
            }
            _ if self.random.one_in(4) => SettleVia::Management(self.entity()),
            _ => SettleVia::Link(link),
        };
        let own = self.links.iter().find(|(other, _)| *other == link.0).map(|&(_, own)| ConnectionId(own));
        let connection = own.filter(|_| !self.random.one_in(10)).unwrap_or(self.connection());
        let request = if self.random.one_in(5) { None } else { Some(self.request()) };
        Command::Settle { via, tokens: tokens.into(), settlement, connection, request }
    }

    /// An entity with messages in a place, numbers of some, and the message session of the first.
    fn numbers(&mut self, place: Place) -> (EntityId, Vec<SequenceNumber>, Option<MessageSessionId>) {
        let there = self.reference.messages().iter().filter(|m| m.place == place);
        let there: Vec<_> = there.map(|m| (m.entity, m.session.clone(), SequenceNumber(m.number))).collect();
        let Some((entity, session, first)) = self.random.choose(&there).filter(|_| !self.random.one_in(10))
        else {
            return (self.entity(), vec![SequenceNumber(self.random.below(50))], Some(self.session()));
        };
        let mut numbers = vec![first];
        while self.random.one_in(3) {
            let strict = !self.random.one_in(10);
            let fits = there.iter().filter(|(of, id, _)| !strict || (*of == entity && *id == session));
            let fits: Vec<_> = fits.map(|&(_, _, number)| number).collect();
            numbers.extend(self.random.choose(&fits));
        }
        (entity, numbers, session)
    }

    fn receive_deferred(&mut self) -> Command {
        let (entity, sequence_numbers, session) = self.numbers(Place::Deferred);
        let mut held = self.reference.held().into_iter();
        let holder = held.find(|(of, id, _)| *of == entity && Some(id) == session.as_ref());
        let connection = holder.map(|(_, _, connection)| connection).filter(|_| !self.random.one_in(10));
        let connection = connection.unwrap_or(self.connection());
        let session = session.filter(|_| !self.random.one_in(10));
        let delete = self.random.one_in(4);
        let mode = if delete { ReceiveMode::ReceiveAndDelete } else { ReceiveMode::PeekLock };
        let (holder, request) = (HolderClaim { connection, link: None }, self.request());
        Command::ReceiveBySequenceNumbers(ReceiveBySequenceNumbers {
            entity,
            sequence_numbers,
            mode,
            message_session: session,
            holder,
            request,
        })
    }

    fn cancel(&mut self) -> Command {
        let (entity, sequence_numbers, _) = self.numbers(Place::Scheduled);
        let (connection, request) = (self.connection(), self.request());
        Command::CancelScheduled { entity, sequence_numbers, connection, request }
    }

    fn delete(&mut self, entity: EntityId) -> Command {
        let session = self.random.one_in(2).then(|| self.session());
        let count = self.random.below(20) as u32;
        let enqueued_until = self.now.utc;
        let (connection, request) = (self.connection(), self.request());
        Command::DeleteMessages { entity, count, enqueued_until, session, connection, request }
    }

    /// Changes a queue, or deletes messages of one, or reports bytes as read.
    fn change(&mut self) -> Command {
        let entity = self.entity();
        let (connection, request) = (self.connection(), self.request());
        match self.random.below(4) {
            0 => self.delete(entity),
            1 => {
                let request = RequestId(self.next_request.saturating_sub(self.random.below(20)));
                Command::BodiesRead { connection, request }
            }
            _ => {
                let mut description = self.reference.description(entity).clone();
                description.status = self.random.choose(&STATUSES).expect("some");
                let (description, existence) = (Box::new(description), Existence::Existing);
                Command::DefineQueue { description, existence, connection, request }
            }
        }
    }

    fn ask(&mut self) -> Command {
        let request = self.request();
        let held = self.random.choose(&self.reference.held()).filter(|_| !self.random.one_in(4));
        let (entity, session, connection) =
            held.unwrap_or((self.session_entity(), self.session(), self.connection()));
        let link = self.random.one_in(3).then_some(OutgoingLinkId(self.random.below(self.next_link + 1)));
        let holder = HolderClaim { connection, link };
        match self.random.below(8) {
            0 => {
                let (entity, (_, tokens)) = (self.entity(), self.some_tokens());
                Command::RenewMessageLocks { entity, tokens, connection, request }
            }
            1 | 2 => Command::RenewMessageSessionLock { entity, session, holder, request },
            3 => Command::GetMessageSessionState { entity, session, holder, request },
            4 => {
                let state = match self.random.below(4) {
                    0 => None,
                    1 => Some(Bytes::from_static(&ZEROS)),
                    _ => Some(Bytes::from(format!("state {}", self.next_request))),
                };
                // Where it may be large, a queue is full after three of them.
                let max_bytes = self.reference.description(entity).max_message_size_bytes;
                let state = state.filter(|state| state.len() as u64 <= max_bytes);
                Command::SetMessageSessionState { entity, session, state, holder, request }
            }
            5 => {
                let state_updated_after = self.random.one_in(2).then_some(self.now.utc);
                let (skip, top) = (self.random.below(3) as u32, self.random.below(5) as u32);
                let entity = self.entity();
                Command::ListMessageSessions { entity, state_updated_after, skip, top, connection, request }
            }
            _ => {
                let (from, count) = (SequenceNumber(self.random.below(50)), self.random.below(20) as u32);
                let (entity, one) = (self.entity(), self.random.one_in(2).then_some(session));
                self.peek(entity, from, count, one)
            }
        }
    }
}
