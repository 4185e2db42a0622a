//! Receivers: attaching, credit, and the ways in which a link ends.

use lockstep_model::{
    ConnectionId, EntityId, MessageSessionId, OutgoingLinkId, ReceiveMode, Refusal, limits::ACCEPT_WAIT_MAX,
};

use super::{
    Attach, AttachGrant, Departure, Effect, ReceiveIntent,
    deadlines::Deadline,
    message_locks::LockSlot,
    message_session::{lock_manager::Hold, waiting::PendingAccept},
    namespace::{Changed, Namespace, Step, Unfinished},
};

/// A client's receiver.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    pub(super) queue: EntityId,
    pub(super) mode: ReceiveMode,
    /// Deliveries made since it attached.
    pub(super) delivered: u64,
    /// Deliveries allowed since it attached.
    pub(super) limit: u64,
    /// Deliveries that live no longer than the link: those under a message-session lock, and
    /// reservations of receive-and-delete.
    pub(super) in_flight: Vec<LockSlot>,
    pub(super) kind: LinkKind,
}

/// What a link is there for.
#[derive(Debug)]
pub(super) enum LinkKind {
    /// Takes messages of a queue without message sessions; its turn while it has credit.
    Plain { turn: Option<u64> },
    /// Waits for a message session.
    Pending(Box<PendingAccept>),
    /// Holds a message session.
    Holder(Box<Hold>),
    /// Looks at a message session (semantics A-100).
    Browser(MessageSessionId),
}

impl Link {
    pub(super) const fn has_credit(&self) -> bool {
        self.delivered < self.limit
    }
}

impl Namespace {
    pub(super) fn attach(&mut self, step: &mut Step<'_>, attach: Attach) {
        if let Err(refusal) = self.check_attach(&attach) {
            refuse(step, &attach, refusal);
            return;
        }
        self.note_access(step.now.utc, attach.entity);
        match attach.intent.clone() {
            ReceiveIntent::Plain => {
                self.add_link(&attach, LinkKind::Plain { turn: None });
                grant(step, &attach, None);
            }
            ReceiveIntent::BrowseMessageSession(session) => {
                self.add_link(&attach, LinkKind::Browser(session.clone()));
                grant(step, &attach, Some(session));
            }
            ReceiveIntent::AcceptMessageSession(session) => {
                if let Err(refusal) = self.accept_session(step, &attach, &session) {
                    refuse(step, &attach, refusal);
                }
            }
            ReceiveIntent::AcceptNextMessageSession { wait } => {
                self.accept_next_session(step, &attach, wait.min(ACCEPT_WAIT_MAX));
            }
        }
    }

    fn check_attach(&self, attach: &Attach) -> Result<(), Refusal> {
        let queue = self.queue_of(attach.entity)?;
        if !queue.settings.status.allows_receive() {
            return Err(Refusal::EntityDisabled);
        }
        if self.links.contains_key(&attach.link) {
            return Err(Refusal::InvalidArgument("link"));
        }
        let is_plain = attach.intent == ReceiveIntent::Plain;
        match (is_plain, queue.settings.requires_session) {
            (true, true) => Err(Refusal::MessageSessionReceiverRequired),
            (false, false) if queue.is_sub_queue() => Err(Refusal::MessageSessionOnSubQueue),
            (false, false) => Err(Refusal::MessageSessionsNotSupported),
            _ => Ok(()),
        }
    }

    pub(super) fn add_link(&mut self, attach: &Attach, kind: LinkKind) {
        let link = Link {
            connection: attach.connection,
            queue: attach.entity,
            mode: attach.mode,
            delivered: 0,
            limit: 0,
            in_flight: Vec::new(),
            kind,
        };
        self.links.insert(attach.link, link);
        self.connections.entry(attach.connection).or_default().insert(attach.link);
    }

    /// Takes a link out of every table that knows it; what it holds is left to the caller.
    pub(super) fn remove_link(&mut self, id: OutgoingLinkId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        self.leave_connection(link.connection, id);
        match &link.kind {
            LinkKind::Plain { turn: Some(turn) } => {
                if let Some(queue) = self.queues.get_mut(&link.queue) {
                    queue.turns.remove(turn);
                }
            }
            LinkKind::Pending(pending) => {
                if let Some(queue) = self.queues.get_mut(&link.queue) {
                    queue.pending_accepts.remove(&pending.turn);
                }
                self.deadlines.remove(pending.deadline, Deadline::Accept(id));
            }
            LinkKind::Holder(hold) => {
                self.deadlines.remove(hold.deadline, Deadline::MessageSessionLock(id));
                if hold.is_lost {
                    self.lost_holds.remove(link.queue, &hold.identity, id);
                }
            }
            LinkKind::Plain { turn: None } | LinkKind::Browser(_) => {}
        }
        Some(link)
    }

    /// The link is no longer one of its connection's.
    pub(super) fn leave_connection(&mut self, connection: ConnectionId, id: OutgoingLinkId) {
        if let Some(of_connection) = self.connections.get_mut(&connection) {
            of_connection.remove(&id);
            if of_connection.is_empty() {
                self.connections.remove(&connection);
            }
        }
    }

    pub(super) fn credit(&mut self, id: OutgoingLinkId, limit: u64, drain: bool) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.limit = limit;
        let (queue_id, has_credit) = (link.queue, link.has_credit());
        match &mut link.kind {
            LinkKind::Plain { turn } => {
                let turn = *turn;
                self.set_turn(id, turn, has_credit);
                self.mark(Changed::Queue(queue_id));
            }
            LinkKind::Holder(hold) => {
                let slot = hold.slot;
                self.mark(Changed::MessageSession(queue_id, slot));
            }
            LinkKind::Browser(_) => {}
            LinkKind::Pending(pending) => {
                // Answered once it has got a message session.
                pending.drain |= drain;
                return;
            }
        }
        if drain {
            self.drains.push(id);
        }
    }

    /// Answers drained links that got all there was.
    pub(super) fn finish_drains(&mut self, step: &mut Step<'_>) {
        if self.drains.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.drains) {
            let Some(link) = self.links.get_mut(&id) else { continue };
            let expiring = match &link.kind {
                LinkKind::Holder(hold) => Some(Unfinished::Expiring(link.queue, hold.slot)),
                _ => None,
            };
            let unfinished = [Some(Unfinished::Holder(id)), Some(Unfinished::Queue(link.queue)), expiring];
            if unfinished.iter().flatten().any(|unfinished| self.unfinished.contains(unfinished)) {
                self.drains.push(id);
                continue;
            }
            link.limit = link.delivered;
            let connection = link.connection;
            if let LinkKind::Plain { turn } = link.kind {
                self.set_turn(id, turn, false);
            }
            step.fenced(connection, Effect::Drained { link: id });
        }
    }

    /// Puts a plain receiver in line, or takes it out.
    fn set_turn(&mut self, id: OutgoingLinkId, turn: Option<u64>, wanted: bool) {
        let next = match (turn, wanted) {
            (None, true) => Some(self.next_turn()),
            (Some(_), false) => None,
            _ => return,
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(queue) = self.queues.get_mut(&link.queue) else { return };
        if let Some(turn) = turn {
            queue.turns.remove(&turn);
        }
        if let Some(turn) = next {
            queue.turns.insert(turn, id);
        }
        link.kind = LinkKind::Plain { turn: next };
    }

    pub(super) fn detach(&mut self, step: &mut Step<'_>, id: OutgoingLinkId, departure: Departure) {
        let Some(link) = self.links.get(&id) else { return };
        if matches!(&link.kind, LinkKind::Holder(hold) if hold.is_lost) {
            // Its connection is gone: nobody can mean it any more.
            return;
        }
        let connection = link.connection;
        self.depart(step, id, departure);
        if departure == Departure::Clean {
            step.fenced(connection, Effect::Detached { link: id, cause: None });
        }
    }

    pub(super) fn connection_gone(
        &mut self,
        step: &mut Step<'_>,
        connection: ConnectionId,
        departure: Departure,
    ) {
        self.drop_all_parts(step, connection);
        for id in self.connections.remove(&connection).unwrap_or_default() {
            self.depart(step, id, departure);
        }
        self.return_left_reserved(step, connection);
        self.bodies_were_read(step, connection, None);
    }

    /// The link ends from the client's side.
    fn depart(&mut self, step: &mut Step<'_>, id: OutgoingLinkId, departure: Departure) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let is_holder = matches!(link.kind, LinkKind::Holder(_));
        let queue_id = link.queue;
        let releases =
            departure == Departure::Clean || self.config.release_message_sessions_on_connection_loss;
        match (is_holder, releases) {
            (true, true) => self.release_hold(step, id),
            (true, false) => self.lose_hold(step, id),
            (false, _) => {
                if let Some(link) = self.remove_link(id) {
                    self.return_reserved(step, &link.in_flight);
                }
            }
        }
        self.note_use(step.now.utc, queue_id);
    }
}

pub(super) fn refuse(step: &mut Step<'_>, attach: &Attach, refusal: Refusal) {
    step.fenced(attach.connection, Effect::AttachRefused { link: attach.link, refusal });
}

fn grant(step: &mut Step<'_>, attach: &Attach, browsed: Option<MessageSessionId>) {
    let message_session = browsed.map(|session| (session, None));
    step.immediate(attach.connection, Effect::Attached(AttachGrant { link: attach.link, message_session }));
}
