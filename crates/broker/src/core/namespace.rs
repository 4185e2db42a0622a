//! The state machine: what a namespace is, and which part of it does what a command asks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lockstep_model::{
    BodyId, CommitNumber, ConnectionId, EntityId, EntityName, MonoTime, NamespaceId, Now, OutgoingLinkId,
    QueueDescription, Refusal, RequestId, SequenceNumber, SubQueue, Timestamp,
};
use lockstep_store::CounterRecord;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Command, CoreConfig, Effect, IdSource, Output, Reply, Routed,
    deadlines::{Deadline, Deadlines},
    large::Uploads,
    links::Link,
    message_locks::{LockSlot, LockTable},
    message_session::{
        MessageSessionSlot,
        lock_manager::{EndedHolds, LostHolds},
    },
    queue::Queue,
    reserved::LeftReserved,
    wall_clock::{Due, WallClock},
};

/// Rows that one step may touch before it leaves the rest to the next one (docs/architecture.md,
/// rule 12). A command that must be atomic (a batch, a list of tokens) goes over it.
pub(super) const ROWS_PER_STEP: u32 = 1_024;

/// The sub-queues that come with every entity.
pub(super) const SUB_QUEUES: [SubQueue; 3] =
    [SubQueue::Main, SubQueue::DeadLetter, SubQueue::TransferDeadLetter];

/// One namespace: its entities, their messages, and everyone who waits for or holds something.
/// It has one owner, which gives it time, commands and random numbers, and carries out what it
/// answers. See the [module](super) for the order in which effects may leave.
#[derive(Debug)]
pub struct Namespace {
    pub(super) id: NamespaceId,
    pub(super) name: Box<str>,
    pub(super) config: CoreConfig,
    pub(super) last_entity_number: u32,
    pub(super) next_body: BodyId,
    /// Messages that arrive in parts.
    pub(super) uploads: Uploads,
    /// Bodies that restored rows name; until the first command.
    pub(super) restored_bodies: Option<FxHashSet<BodyId>>,
    pub(super) descriptions: BTreeMap<EntityId, QueueDescription>,
    pub(super) by_name: BTreeMap<EntityName, EntityId>,
    /// By the id of the queue or sub-queue.
    pub(super) queues: FxHashMap<EntityId, Queue>,
    pub(super) links: FxHashMap<OutgoingLinkId, Link>,
    pub(super) connections: FxHashMap<ConnectionId, BTreeSet<OutgoingLinkId>>,
    pub(super) locks: LockTable,
    pub(super) deadlines: Deadlines,
    pub(super) wall_clock: WallClock,
    /// See [`Namespace::hold_deadlines_after`].
    deadlines_through: MonoTime,
    /// Writes that are not durable yet, oldest first.
    uncommitted: VecDeque<(CommitNumber, Uncommitted)>,
    /// Queues whose counter row is out of date.
    pub(super) stale_counters: Vec<EntityId>,
    /// Where something became available during this step.
    pub(super) changed: Vec<Changed>,
    /// Links that wait to be told that nothing more can be delivered.
    pub(super) drains: Vec<OutgoingLinkId>,
    /// What this step left to the next one.
    pub(super) unfinished: BTreeSet<Unfinished>,
    /// Deliveries of ended holds that were not counted yet.
    pub(super) returning: FxHashMap<OutgoingLinkId, Returning>,
    /// Bytes of messages that a connection took and has not read yet.
    pub(super) bodies_to_read: FxHashMap<ConnectionId, Vec<(RequestId, BodyId, u32)>>,
    /// Bytes of deleted entities that are still to be deleted.
    pub(super) abandoned_bodies: Vec<(BodyId, u32)>,
    pub(super) lost_holds: LostHolds,
    pub(super) ended_holds: EndedHolds,
    pub(super) left_reserved: LeftReserved,
    /// Numbers the turns of receivers and accepts.
    last_turn: u64,
}

/// A write that something waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Uncommitted {
    /// Messages up to this number were enqueued.
    Enqueued { queue: EntityId, through: SequenceNumber },
    /// The row of one message was written again.
    Row { queue: EntityId, sequence_number: SequenceNumber },
    /// The state of a message session was written.
    State { queue: EntityId, slot: MessageSessionSlot },
}

/// Where someone may now be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Changed {
    /// Plain receivers of a queue.
    Queue(EntityId),
    /// The holder of a message session, or accepts that wait for one.
    MessageSession(EntityId, MessageSessionSlot),
}

/// Work that went over [`ROWS_PER_STEP`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Unfinished {
    /// Deliveries to plain receivers of a queue.
    Queue(EntityId),
    /// Deliveries to the holder of a message session.
    Holder(OutgoingLinkId),
    /// Deliveries of a hold that was lost.
    Returning(OutgoingLinkId),
    /// Expired messages of a message session.
    Expiring(EntityId, MessageSessionSlot),
    /// Bytes of deleted entities.
    AbandonedBodies,
}

/// A hold that was lost with many deliveries in flight.
#[derive(Debug)]
pub(super) struct Returning {
    pub(super) queue: EntityId,
    pub(super) slot: MessageSessionSlot,
    pub(super) in_flight: Vec<LockSlot>,
}

/// What belongs to one `apply`.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) commit: CommitNumber,
    pub(super) ids: &'a mut dyn IdSource,
    pub(super) out: &'a mut Output,
    /// How many more rows it may touch.
    pub(super) rows_left: u32,
}

impl Step<'_> {
    pub(super) fn immediate(&mut self, connection: ConnectionId, effect: Effect) {
        self.out.immediate.push(Routed { connection, effect });
    }

    pub(super) fn fenced(&mut self, connection: ConnectionId, effect: Effect) {
        self.out.fenced.push(Routed { connection, effect });
    }

    fn reply(&mut self, connection: ConnectionId, request: Option<RequestId>, reply: Reply) {
        if let Some(request) = request {
            self.fenced(connection, Effect::Reply { request, reply });
        }
    }

    /// Whether another row may be touched; counts it.
    pub(super) const fn may_go_on(&mut self) -> bool {
        let may = self.rows_left > 0;
        self.rows_left = self.rows_left.saturating_sub(1);
        may
    }
}

impl Namespace {
    /// A namespace without entities. What a store holds of it is brought in by the `restore_`
    /// functions, then [`Namespace::finish_restore`].
    #[must_use]
    pub fn new(id: NamespaceId, name: Box<str>, config: CoreConfig) -> Self {
        Self {
            id,
            name,
            config,
            last_entity_number: 0,
            next_body: BodyId(1),
            uploads: Uploads::default(),
            restored_bodies: None,
            descriptions: BTreeMap::new(),
            by_name: BTreeMap::new(),
            queues: FxHashMap::default(),
            links: FxHashMap::default(),
            connections: FxHashMap::default(),
            locks: LockTable::default(),
            deadlines: Deadlines::default(),
            wall_clock: WallClock::default(),
            deadlines_through: MonoTime::from_micros(u64::MAX),
            uncommitted: VecDeque::new(),
            stale_counters: Vec::new(),
            changed: Vec::new(),
            drains: Vec::new(),
            unfinished: BTreeSet::new(),
            returning: FxHashMap::default(),
            bodies_to_read: FxHashMap::default(),
            abandoned_bodies: Vec::new(),
            lost_holds: LostHolds::default(),
            ended_holds: EndedHolds::default(),
            left_reserved: LeftReserved::default(),
            last_turn: 0,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> NamespaceId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The queues, by number; the id is that of the main queue.
    pub fn entities(&self) -> impl Iterator<Item = (EntityId, &QueueDescription)> {
        self.descriptions.iter().map(|(&id, description)| (id, description))
    }

    /// Does what a command asks, then whatever is due at `now`. `commit` is the number that
    /// `out.batch` will carry if it holds anything; it never decreases.
    pub fn apply(
        &mut self,
        now: Now,
        commit: CommitNumber,
        command: Command,
        ids: &mut dyn IdSource,
        out: &mut Output,
    ) {
        self.restored_bodies = None;
        // Half for what the command brings about, half for deadlines, so that neither starves the
        // other.
        let mut step = Step { now, commit, ids, out, rows_left: ROWS_PER_STEP / 2 };
        self.execute(&mut step, command);
        self.serve_changed(&mut step);
        step.rows_left = ROWS_PER_STEP / 2;
        self.pass_deadlines(&mut step);
    }

    fn execute(&mut self, step: &mut Step<'_>, command: Command) {
        match command {
            Command::Enqueue(enqueue) => {
                let (connection, request) = (enqueue.connection, enqueue.request);
                let reply = self.enqueue(step, enqueue);
                step.reply(connection, request, reply);
            }
            Command::EnqueueParts(end) => {
                let (connection, request) = (end.connection, Some(end.request));
                let reply = self.enqueue_parts(step, end);
                step.reply(connection, request, reply);
            }
            Command::StorePart { entity, upload, part, row, connection, request } => {
                let reply = self.store_part(step, entity, (connection, upload), part, row);
                step.reply(connection, Some(request), reply);
            }
            Command::DropParts { connection, upload } => self.drop_parts(step, connection, upload),
            Command::Attach(attach) => self.attach(step, attach),
            Command::Credit { link, limit, drain } => self.credit(link, limit, drain),
            Command::Detach { link, departure } => self.detach(step, link, departure),
            Command::ConnectionGone { connection, departure } => {
                self.connection_gone(step, connection, departure);
            }
            Command::Return { link, tokens } => self.return_deliveries(step, link, &tokens),
            Command::Sent { link, tokens } => self.deliveries_sent(step, link, &tokens),
            Command::Settle { via, tokens, settlement, connection, request } => {
                let reply = self.settle(step, via, &tokens, &settlement, connection);
                step.reply(connection, request, reply);
            }
            Command::SettlementRefused { link, tokens } => self.settlement_was_refused(link, &tokens),
            Command::BodiesRead { connection, request } => {
                self.bodies_were_read(step, connection, Some(request));
            }
            Command::Committed(durable) => self.committed(durable),
            Command::Tick => {}
            asked => self.answer(step, asked),
        }
    }

    /// Commands whose only effect on the caller is their reply.
    fn answer(&mut self, step: &mut Step<'_>, command: Command) {
        let (connection, request, reply) = match command {
            Command::RenewMessageLocks { entity, tokens, connection, request } => {
                (connection, request, self.renew_message_locks(step, entity, &tokens, connection))
            }
            Command::RenewMessageSessionLock { entity, session, holder, request } => {
                (holder.connection, request, self.renew_session_lock(step, entity, &session, holder))
            }
            Command::GetMessageSessionState { entity, session, holder, request } => {
                (holder.connection, request, self.get_state(step, entity, &session, holder))
            }
            Command::SetMessageSessionState { entity, session, state, holder, request } => {
                (holder.connection, request, self.set_state(step, entity, &session, state, holder))
            }
            Command::ListMessageSessions { entity, state_updated_after, skip, top, connection, request } => {
                (connection, request, self.list_sessions(entity, state_updated_after, skip, top))
            }
            Command::Peek { entity, from, count, session, connection, request } => {
                self.note_access(step.now.utc, entity);
                (connection, request, self.peek(entity, from, count, session.as_ref()))
            }
            Command::DescribeQueue { name, connection, request } => {
                (connection, request, self.describe(&name))
            }
            Command::ListQueues { skip, top, connection, request } => {
                (connection, request, self.list_queues(skip, top))
            }
            changing => return self.change(step, changing),
        };
        step.reply(connection, Some(request), reply);
    }

    /// Commands of the same kind that change messages or entities.
    fn change(&mut self, step: &mut Step<'_>, command: Command) {
        let (connection, request, reply) = match command {
            Command::ReceiveBySequenceNumbers(asked) => {
                self.note_access(step.now.utc, asked.entity);
                let reply = self.receive_by_sequence_numbers(step, &asked);
                (asked.holder.connection, asked.request, reply)
            }
            Command::CancelScheduled { entity, sequence_numbers, connection, request } => {
                self.note_access(step.now.utc, entity);
                (connection, request, self.cancel_scheduled(step, entity, &sequence_numbers))
            }
            Command::DeleteMessages { entity, count, enqueued_until, session, connection, request } => {
                self.note_access(step.now.utc, entity);
                let reply = self.delete_messages(step, entity, count, enqueued_until, session.as_ref());
                (connection, request, reply)
            }
            Command::DefineQueue { description, existence, connection, request } => {
                (connection, request, self.define(step, *description, existence))
            }
            Command::DeleteQueue { entity, connection, request } => {
                (connection, request, self.delete_queue(step, entity))
            }
            _ => return,
        };
        step.reply(connection, Some(request), reply);
    }

    /// Remembers that something waits for this step's batch.
    pub(super) fn await_commit(&mut self, step: &Step<'_>, what: Uncommitted) {
        if let Some((commit, Uncommitted::Enqueued { queue, through })) = self.uncommitted.back_mut()
            && let Uncommitted::Enqueued { queue: same, through: further } = what
            && *commit == step.commit
            && *queue == same
        {
            *through = further;
            return;
        }
        self.uncommitted.push_back((step.commit, what));
    }

    fn committed(&mut self, durable: CommitNumber) {
        while let Some(&(commit, what)) = self.uncommitted.front() {
            if commit > durable {
                break;
            }
            self.uncommitted.pop_front();
            match what {
                Uncommitted::Enqueued { queue, through } => self.enqueued_is_durable(queue, through),
                Uncommitted::Row { queue, sequence_number } => self.row_is_durable(queue, sequence_number),
                Uncommitted::State { queue, slot } => self.state_is_durable(queue, slot, durable),
            }
        }
    }

    /// Completes the batch before it is handed over: one counter row for each entity that gave
    /// out sequence numbers since the last call.
    pub fn seal(&mut self, out: &mut Output) {
        for id in self.stale_counters.drain(..) {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.counter_is_stale = false;
                out.batch.put_counter(id, CounterRecord { last_sequence_number: queue.last_sequence_number });
            }
        }
    }

    /// Until told otherwise, deadlines later than `through` wait although they have passed:
    /// commands that arrived before them are still to be applied, and a renewal that arrived in
    /// time must not find its lock gone (docs/architecture.md, invariant 9).
    pub fn hold_deadlines_after(&mut self, through: MonoTime) {
        self.deadlines_through = through;
    }

    /// When the next [`Command::Tick`] is due; in the past if work was left over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        if !self.unfinished.is_empty() {
            return Some(MonoTime::default());
        }
        self.deadlines.first().map(|(at, _)| at)
    }

    /// When a [`Command::Tick`] is due by the wall clock.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.wall_clock.first().map(|(at, _)| at)
    }

    fn pass_deadlines(&mut self, step: &mut Step<'_>) {
        self.resume_unfinished(step);
        while let Some((at, what)) = self.deadlines.first() {
            if at > step.now.mono.min(self.deadlines_through) || !step.may_go_on() {
                break;
            }
            self.deadlines.remove(at, what);
            match what {
                Deadline::MessageLock(slot) => self.message_lock_is_due(step, slot),
                Deadline::MessageSessionLock(link) => self.message_session_lock_is_due(step, link),
                Deadline::Accept(link) => {
                    // What expired just now may be what this accept waits for.
                    self.serve_changed(step);
                    self.accept_timed_out(step, link);
                }
            }
        }
        self.serve_changed(step);
        self.pass_wall_clock(step);
    }

    /// Does what is due by the wall clock. Each work sets its own next time, which is in the past
    /// if it went over the bound of a step.
    fn pass_wall_clock(&mut self, step: &mut Step<'_>) {
        while let Some((at, what)) = self.wall_clock.first()
            && at <= step.now.utc
            && step.may_go_on()
        {
            match what {
                Due::Activate(queue) => self.activate_due(step, queue),
                Due::Expire(queue) => self.sweep_queue(step, queue),
                Due::ForgetDuplicates(queue) => self.forget_duplicates(step, queue),
                Due::ForgetStates(queue) => self.forget_states(step, queue),
                Due::Idle(queue) => self.check_idle(step, queue),
            }
        }
        self.serve_changed(step);
    }

    fn resume_unfinished(&mut self, step: &mut Step<'_>) {
        if self.unfinished.is_empty() {
            return;
        }
        for unfinished in std::mem::take(&mut self.unfinished) {
            match unfinished {
                Unfinished::Queue(queue) => self.mark(Changed::Queue(queue)),
                Unfinished::Holder(link) => self.dispatch_to_holder(step, link),
                Unfinished::Returning(link) => self.count_returning(step, link),
                Unfinished::Expiring(queue, slot) => {
                    self.sweep_session(step, queue, slot);
                    self.mark(Changed::MessageSession(queue, slot));
                }
                Unfinished::AbandonedBodies => self.delete_abandoned_bodies(step),
            }
        }
        self.serve_changed(step);
    }

    /// Notes that someone may now be served.
    pub(super) fn mark(&mut self, changed: Changed) {
        if self.changed.last() != Some(&changed) {
            self.changed.push(changed);
        }
    }

    /// Serves whoever waits where something changed. Message sessions that became free are given
    /// to accepts only when all changes are known, so that the one that waited longest goes first.
    pub(super) fn serve_changed(&mut self, step: &mut Step<'_>) {
        let mut at = 0;
        while let Some(&changed) = self.changed.get(at) {
            at += 1;
            match changed {
                Changed::Queue(queue) => self.dispatch_to_receivers(step, queue),
                Changed::MessageSession(queue, slot) => self.serve_session(step, queue, slot),
            }
        }
        for at in 0..self.changed.len() {
            if let Some(&Changed::MessageSession(queue, _)) = self.changed.get(at) {
                self.serve_pending_accepts(step, queue);
            }
        }
        self.changed.clear();
        self.finish_drains(step);
    }

    pub(super) const fn next_turn(&mut self) -> u64 {
        self.last_turn += 1;
        self.last_turn
    }

    pub(super) fn queue_of(&self, entity: EntityId) -> Result<&Queue, Refusal> {
        self.queues.get(&entity).ok_or(Refusal::EntityNotFound)
    }
}
