//! The owner thread: takes bursts, applies commands, hands what they wrote to the commit
//! pipeline, and sleeps until the next deadline. It never reads the store and never waits on a
//! connection.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use lockstep_model::{CommitNumber, ConnectionId, MonoTime, Now, Refusal, RequestId};

use super::{
    Shared,
    bodies::BodyCache,
    commit::Group,
    inbox::ToConnection,
    intake::{Intake, Next, TURN_INGEST_BYTES_MAX, TURN_WORK_MAX, Turn, grows, ingest_bytes, work_of},
    mailbox::Mail,
    memory::MemoryCharge,
    token_source::RandomTokens,
};
use crate::core::{Command, Effect, EnqueueParts, Namespace, Output, Reply, Routed};

/// Bytes after which a turn is handed to the commit pipeline though more mail is there.
const TURN_BYTES_MAX: usize = 1024 * 1024;
/// Operations after which it is, likewise.
const TURN_OPERATIONS_MAX: usize = 4096;
/// Effects after which it is, likewise.
const TURN_EFFECTS_MAX: usize = 4096;

/// Work of all turns, in ordinary commands, after which what they did is handed on and new mail is
/// looked at.
const ROUND_WORK_MAX: usize = 512;
/// Bytes of writes under way by which connections that send little may pass the bound of the
/// others.
const SMALL_INGEST_BYTES_MAX: u64 = 1024 * 1024;

/// How often the thread looks whether everything is released, while it is stopping.
const STOP_POLL: Duration = Duration::from_millis(5);
/// How often the thread looks at the wall clock, while something is due by it.
const WALL_CLOCK_POLL: Duration = Duration::from_secs(1);

pub(crate) struct NamespaceThread {
    shared: Arc<Shared>,
    namespaces: Vec<Namespace>,
    /// Namespaces with work in `output`.
    touched: Vec<bool>,
    bodies: BodyCache,
    tokens: RandomTokens,
    output: Output,
    /// The commit that `output` becomes if it writes anything.
    commit: CommitNumber,
    durable: CommitNumber,
    /// What is not worked off.
    intake: Intake,
    /// What this thread and the commit pipeline hold.
    memory: MemoryCharge,
    stopping: bool,
}

impl NamespaceThread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        namespaces: Vec<Namespace>,
        durable: CommitNumber,
        body_cache_bytes: usize,
    ) -> Self {
        Self {
            memory: shared.memory.charge(),
            shared,
            touched: vec![false; namespaces.len()],
            namespaces,
            bodies: BodyCache::new(body_cache_bytes),
            tokens: RandomTokens::new(),
            output: Output::default(),
            commit: durable.next(),
            durable,
            intake: Intake::default(),
            stopping: false,
        }
    }

    /// Runs until told to stop and everything accepted is durable, or until the pipeline fails.
    pub(crate) fn run(mut self) {
        let mut mails = Vec::new();
        while !self.shared.pipeline.has_failed() {
            let timeout = self.next_timeout();
            self.shared.mailbox.take(&mut mails, timeout);
            for mail in mails.drain(..) {
                self.handle(mail);
            }
            // A deadline does not overtake what arrived before it.
            self.hold_deadlines_after(self.intake.earliest_arrival());
            let turns = self.intake.turns();
            let mut work = 0;
            for _ in 0..turns {
                work += self.turn();
                // What was asked for first is not kept back until all have had their turns, and
                // whoever has come meanwhile may go before them.
                if work >= ROUND_WORK_MAX {
                    break;
                }
            }
            self.hold_deadlines_after(self.intake.earliest_arrival());
            self.tick();
            // One connection alone may go on before anybody is told anything.
            if turns != 1 || self.intake.turns() != 1 {
                self.flush();
            }
            self.bodies.trim(self.durable);
            self.note_memory();
            if self.stopping && self.intake.is_empty() && self.shared.pipeline.is_idle() {
                break;
            }
        }
        self.shared.pipeline.stop();
        self.shared.reader.stop();
    }

    fn hold_deadlines_after(&mut self, through: Option<MonoTime>) {
        let through = through.unwrap_or(MonoTime::from_micros(u64::MAX));
        for namespace in &mut self.namespaces {
            namespace.hold_deadlines_after(through);
        }
    }

    fn note_memory(&mut self) {
        let held = self.bodies.bytes() + self.intake.held_bytes();
        self.memory.set(held as u64 + self.shared.pipeline.uncommitted_bytes());
    }

    fn next_timeout(&self) -> Option<Duration> {
        if self.intake.turns() > 0 {
            return Some(Duration::ZERO);
        }
        let deadline = self.namespaces.iter().filter_map(Namespace::next_deadline).min();
        let now = self.shared.clock.now();
        let timeout = deadline.map(|deadline| now.mono.until(deadline));
        // A wall clock may be set: it is looked at again before long.
        let due = self.namespaces.iter().filter_map(Namespace::next_due).min();
        let due = due.map(|due| now.utc.until(due).min(WALL_CLOCK_POLL));
        let timeout = timeout.into_iter().chain(due).min();
        if self.stopping {
            // A last group that writes nothing wakes nobody when it is released.
            return Some(timeout.map_or(STOP_POLL, |timeout| timeout.min(STOP_POLL)));
        }
        timeout
    }

    fn handle(&mut self, mail: Mail) {
        match mail {
            Mail::Burst(burst) => self.intake.push(burst),
            Mail::Committed(commit) => {
                self.durable = self.durable.max(commit);
                let now = self.shared.clock.now();
                for index in 0..self.namespaces.len() {
                    self.apply(index, now, Command::Committed(commit));
                }
                self.intake.release();
            }
            Mail::Probe(done) => {
                self.flush();
                let commit = self.commit;
                self.commit = commit.next();
                self.submit(Group::probe(commit, done));
            }
            Mail::Answer(inbox, item) => {
                self.flush();
                if self.shared.pipeline.is_idle() {
                    inbox.push([item]);
                } else {
                    self.submit(Group { answer: Some((inbox, item)), ..Group::default() });
                }
            }
            Mail::Stop => self.stopping = true,
        }
    }

    /// The next connection's turn; its work in ordinary commands.
    fn turn(&mut self) -> usize {
        let Some(Turn { connection, is_small, is_overdue }) = self.intake.next_turn() else { return 0 };
        let now = self.shared.clock.now();
        let (mut work, mut bytes) = (0, 0);
        while work < TURN_WORK_MAX && bytes < TURN_INGEST_BYTES_MAX {
            let ingest_may = is_overdue || !self.must_stall(is_small);
            let Some(next) = self.intake.next(connection, ingest_may) else {
                self.intake.end_turn(connection, false);
                return work;
            };
            if is_small && grows(&next.command) {
                self.shared.pipeline.pace().small_send();
            }
            work += work_of(&next.command);
            bytes += ingest_bytes(&next.command);
            self.apply_next(now, next);
            if self.output.batch.size_bytes() > TURN_BYTES_MAX
                || self.output.batch.len() > TURN_OPERATIONS_MAX
                || self.output.immediate.len() + self.output.fenced.len() > TURN_EFFECTS_MAX
            {
                self.flush();
            }
        }
        self.intake.end_turn(connection, true);
        work
    }

    fn apply_next(&mut self, now: Now, Next { namespace, arrived, command }: Next) {
        if grows(&command) && self.shared.refuse_growth.load(Ordering::Relaxed) {
            return self.refuse(namespace, now, &command);
        }
        if let Command::ConnectionGone { connection, .. } = command {
            self.apply(namespace, now, command);
            return self.return_undelivered(namespace, now, connection);
        }
        // A renewal or settlement counts from when it reached this machine.
        let at = if judged_by_arrival(&command) { arrived } else { now };
        self.apply(namespace, at, command);
    }

    /// Puts back the deliveries that the connection has not taken out of its inbox.
    fn return_undelivered(&mut self, index: usize, now: Now, connection: ConnectionId) {
        // Those of this turn have to be in the inbox first.
        self.flush();
        let Some(inbox) = self.shared.inboxes.close(connection) else { return };
        let mut items = Vec::new();
        inbox.try_take(&mut items);
        for item in items {
            if let ToConnection::Effect(Effect::Deliver(delivery)) = item {
                let tokens = vec![delivery.token];
                self.apply(index, now, Command::Return { link: delivery.link, tokens });
            }
        }
    }

    /// Whether ingest has to wait, of a connection that sends much or little.
    fn must_stall(&self, is_small: bool) -> bool {
        let bytes = self.shared.pipeline.uncommitted_bytes() + self.output.batch.size_bytes() as u64;
        self.shared.pipeline.pace().holds_back(bytes, if is_small { SMALL_INGEST_BYTES_MAX } else { 0 })
    }

    fn refuse(&mut self, index: usize, now: Now, command: &Command) {
        let (connection, request) = match command {
            Command::Enqueue(enqueue) => (enqueue.connection, enqueue.request),
            Command::StorePart { connection, upload, request, .. }
            | Command::EnqueueParts(EnqueueParts { connection, upload, request, .. }) => {
                let (connection, upload) = (*connection, *upload);
                self.apply(index, now, Command::DropParts { connection, upload });
                (connection, Some(*request))
            }
            Command::SetMessageSessionState { holder, request, .. } => (holder.connection, Some(*request)),
            _ => return,
        };
        if let Some(request) = request {
            self.reply(connection, request, Reply::Refused(Refusal::QuotaExceeded));
        }
    }

    fn reply(&mut self, connection: ConnectionId, request: RequestId, reply: Reply) {
        let effect = Effect::Reply { request, reply };
        self.output.fenced.push(Routed { connection, effect });
    }

    fn apply(&mut self, index: usize, now: Now, command: Command) {
        let Some(namespace) = self.namespaces.get_mut(index) else { return };
        self.touched[index] = true;
        let immediate_before = self.output.immediate.len();
        let fenced_before = self.output.fenced.len();
        namespace.apply(now, self.commit, command, &mut self.tokens, &mut self.output);
        let id = namespace.id();
        self.follow_entities(index);
        for (body, bytes) in self.output.new_bodies.drain(..) {
            self.bodies.insert(self.commit, id, body, bytes);
        }
        let fresh = self.output.immediate[immediate_before..].iter_mut();
        for routed in fresh.chain(self.output.fenced[fenced_before..].iter_mut()) {
            fill_in_bodies(&self.bodies, id, &mut routed.effect);
        }
        for body in self.output.gone_bodies.drain(..) {
            self.bodies.remove(id, body);
        }
    }

    /// Brings the directory up to date, and tells whoever watches, behind what they are told
    /// already.
    fn follow_entities(&mut self, index: usize) {
        for change in self.output.entities.drain(..) {
            let (id, name, watchers) = self.shared.directories[index].follow(change);
            let told = |connection| Routed { connection, effect: Effect::EntityChanged(id, name.clone()) };
            self.output.fenced.extend(watchers.into_iter().map(told));
        }
    }

    fn tick(&mut self) {
        let now = self.shared.clock.now();
        for index in 0..self.namespaces.len() {
            let namespace = &self.namespaces[index];
            if namespace.next_deadline().is_some_and(|deadline| deadline <= now.mono)
                || namespace.next_due().is_some_and(|due| due <= now.utc)
            {
                self.apply(index, now, Command::Tick);
            }
        }
    }

    fn submit(&self, group: Group) {
        self.shared.pipeline.submit(group, self.shared.clock.now().mono);
    }

    /// Hands over what the turn wrote and releases what need not wait.
    fn flush(&mut self) {
        for (namespace, touched) in self.namespaces.iter_mut().zip(&mut self.touched) {
            if std::mem::take(touched) {
                namespace.seal(&mut self.output);
            }
        }
        let Output { batch, mut immediate, mut fenced, .. } = std::mem::take(&mut self.output);
        self.shared.inboxes.route(&mut immediate);
        if !batch.is_empty() {
            let commit = self.commit;
            self.commit = commit.next();
            self.submit(Group { commit, batch, fenced, ..Group::default() });
        } else if !fenced.is_empty() {
            if self.shared.pipeline.is_idle() {
                self.shared.inboxes.route(&mut fenced);
            } else {
                self.submit(Group { fenced, ..Group::default() });
            }
        }
    }
}

fn judged_by_arrival(command: &Command) -> bool {
    matches!(
        command,
        Command::RenewMessageLocks { .. } | Command::RenewMessageSessionLock { .. } | Command::Settle { .. }
    )
}

fn fill_in_bodies(bodies: &BodyCache, namespace: lockstep_model::NamespaceId, effect: &mut Effect) {
    match effect {
        Effect::Deliver(delivery) => delivery.body.bytes = bodies.get(namespace, delivery.body.id),
        Effect::Reply { reply: Reply::Peeked(messages), .. } => {
            for message in messages {
                message.body.bytes = bodies.get(namespace, message.body.id);
            }
        }
        Effect::Reply { reply: Reply::Deferred(deliveries), .. } => {
            for delivery in deliveries {
                delivery.body.bytes = bodies.get(namespace, delivery.body.id);
            }
        }
        _ => {}
    }
}
