//! What the owner thread has been sent and not worked off: two lanes for each connection, and
//! connections take turns.
//!
//! *Control and settlement* go on always. *Ingest*, what makes the store grow, waits while too
//! much is uncommitted; whatever else its connection sent passes it, but for what leans on a
//! state write or a part of a large message. So a slow disk delays sends, never a renewal.
//!
//! A connection that asks for little, with nothing of it waiting, has its turn before those that
//! ask for much, and its ingest has some room of its own. So however many others send as much as
//! they can, it waits for the turn that is under way and for the commits before its own.

use std::{collections::VecDeque, sync::Arc};

use lockstep_model::{ConnectionId, MonoTime, Now};
use rustc_hash::FxHashMap;

use super::{client::Gate, mailbox::Burst};
use crate::core::{Command, EnqueueParts};

/// Work of one connection before the next one has its turn, in ordinary commands.
pub(super) const TURN_WORK_MAX: usize = 256;
/// Bytes of messages and states in one turn, unless one command alone has more.
pub(super) const TURN_INGEST_BYTES_MAX: usize = 128 * 1024;
/// Bytes of waiting ingest over which the connection may not submit more.
const WAITING_INGEST_BYTES_MAX: usize = 1024 * 1024;

/// Commands of a small burst.
const SMALL_BURST_COMMANDS_MAX: usize = 16;
/// Work of a small burst, in ordinary commands.
const SMALL_BURST_WORK_MAX: usize = 64;
/// Bytes of messages and states in a small burst.
const SMALL_BURST_BYTES_MAX: usize = 16 * 1024;
/// Turns of connections with small bursts in a row, while others wait for theirs.
const SMALL_TURNS_IN_A_ROW_MAX: usize = 32;

/// Releases of commits for which ingest is held at most: then one connection has a turn whatever is
/// uncommitted, lest many that send little, who may pass the bound, keep it waiting for ever.
const HELD_RELEASES_MAX: u32 = 8;

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    pub(super) connection: ConnectionId,
    /// The connection asks for little.
    pub(super) is_small: bool,
    /// Its ingest need not wait.
    pub(super) is_overdue: bool,
}

/// A command and what belongs to it.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) namespace: usize,
    pub(super) arrived: Now,
    pub(super) command: Command,
}

/// One connection's commands.
#[derive(Debug, Default)]
struct Lanes {
    /// In frame order.
    bursts: VecDeque<Burst>,
    /// Ingest that was passed by, in frame order.
    ingest: VecDeque<Next>,
    ingest_bytes: usize,
    /// Those among it that others must not pass.
    leaned_on: usize,
    /// Opened when little enough ingest waits.
    gates: Vec<Arc<Gate>>,
    /// Stands in `turns`.
    has_turn: bool,
    /// Stands in `held`.
    is_held: bool,
}

impl Lanes {
    fn is_empty(&self) -> bool {
        self.bursts.is_empty() && self.ingest.is_empty()
    }

    fn next(&mut self, ingest_may: bool) -> Option<Next> {
        if ingest_may && let Some(next) = self.ingest.pop_front() {
            self.ingest_bytes -= ingest_bytes(&next.command);
            self.leaned_on -= usize::from(is_leaned_on(&next.command));
            return Some(next);
        }
        loop {
            let burst = self.bursts.front_mut()?;
            let Some(command) = burst.commands.pop_front() else {
                self.gates.extend(self.bursts.pop_front().map(|burst| burst.gate));
                continue;
            };
            if self.leaned_on > 0 && leans(&command) {
                burst.commands.push_front(command);
                return None;
            }
            let next = Next { namespace: burst.namespace, arrived: burst.arrived, command };
            if !ingest_may && grows(&next.command) {
                self.ingest_bytes += ingest_bytes(&next.command);
                self.leaned_on += usize::from(is_leaned_on(&next.command));
                self.ingest.push_back(next);
                continue;
            }
            return Some(next);
        }
    }

    fn open_gates(&mut self) {
        if self.ingest_bytes <= WAITING_INGEST_BYTES_MAX {
            self.gates.drain(..).for_each(|gate| gate.open());
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Intake {
    lanes: FxHashMap<ConnectionId, Lanes>,
    /// Connections that may have something to apply, each at most once here or in `small_turns`.
    turns: VecDeque<ConnectionId>,
    /// Those with just a small burst.
    small_turns: VecDeque<ConnectionId>,
    small_turns_in_a_row: usize,
    /// Connections of which only ingest is left, in the order in which they came to that.
    held: VecDeque<ConnectionId>,
    /// Releases in a row at which some were held, since one had its turn whatever was uncommitted.
    held_releases: u32,
}

impl Intake {
    pub(super) fn push(&mut self, burst: Burst) {
        let connection = burst.connection;
        let lanes = self.lanes.entry(connection).or_default();
        let is_small = lanes.is_empty() && is_small(&burst.commands);
        lanes.bursts.push_back(burst);
        if !std::mem::replace(&mut lanes.has_turn, true) {
            if is_small { &mut self.small_turns } else { &mut self.turns }.push_back(connection);
        }
    }

    /// The connection whose turn it is.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        let small_may = self.turns.is_empty() || self.small_turns_in_a_row < SMALL_TURNS_IN_A_ROW_MAX;
        if small_may && let Some(connection) = self.small_turns.pop_front() {
            self.small_turns_in_a_row += 1;
            return Some(Turn { connection, is_small: true, is_overdue: false });
        }
        self.small_turns_in_a_row = 0;
        let connection = self.turns.pop_front()?;
        let is_overdue = self.held_releases >= HELD_RELEASES_MAX;
        if is_overdue {
            self.held_releases = 0;
        }
        Some(Turn { connection, is_small: false, is_overdue })
    }

    /// The next command in a connection's turn.
    pub(super) fn next(&mut self, connection: ConnectionId, ingest_may: bool) -> Option<Next> {
        self.lanes.get_mut(&connection)?.next(ingest_may)
    }

    /// The turn is over; `more`: because it was long enough, not for want of commands.
    pub(super) fn end_turn(&mut self, connection: ConnectionId, more: bool) {
        let Some(lanes) = self.lanes.get_mut(&connection) else { return };
        lanes.open_gates();
        lanes.has_turn = more;
        if more {
            self.turns.push_back(connection);
        } else if lanes.is_empty() {
            self.lanes.remove(&connection);
        } else if !std::mem::replace(&mut lanes.is_held, true) {
            self.held.push_back(connection);
        }
    }

    /// Ingest may be applied again: those that were held have their turns first.
    pub(super) fn release(&mut self) {
        if !self.held.is_empty() {
            self.held_releases += 1;
        } else if self.turns.is_empty() {
            self.held_releases = 0;
        }
        while let Some(connection) = self.held.pop_back() {
            let Some(lanes) = self.lanes.get_mut(&connection) else { continue };
            lanes.is_held = false;
            if !std::mem::replace(&mut lanes.has_turn, true) {
                self.turns.push_front(connection);
            }
        }
    }

    /// Connections that have something to apply now.
    pub(super) fn turns(&self) -> usize {
        self.turns.len() + self.small_turns.len()
    }

    /// Whether nothing is left, held ingest included.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// When the first of the commands that are not held reached this machine.
    pub(super) fn earliest_arrival(&self) -> Option<MonoTime> {
        let turns = self.turns.iter().chain(&self.small_turns);
        let bursts = turns.filter_map(|connection| self.lanes.get(connection));
        bursts.flat_map(|lanes| &lanes.bursts).map(|burst| burst.arrived.mono).min()
    }

    /// Bytes of ingest that waits.
    pub(super) fn held_bytes(&self) -> usize {
        self.held
            .iter()
            .filter_map(|connection| self.lanes.get(connection))
            .map(|lanes| lanes.ingest_bytes)
            .sum()
    }
}

/// Whether these are few commands of little work and few bytes.
fn is_small(commands: &VecDeque<Command>) -> bool {
    commands.len() <= SMALL_BURST_COMMANDS_MAX
        && commands.iter().map(work_of).sum::<usize>() <= SMALL_BURST_WORK_MAX
        && commands.iter().map(ingest_bytes).sum::<usize>() <= SMALL_BURST_BYTES_MAX
}

/// Whether the command makes the store grow.
pub(super) fn grows(command: &Command) -> bool {
    matches!(
        command,
        Command::Enqueue(_)
            | Command::StorePart { .. }
            | Command::EnqueueParts(_)
            | Command::SetMessageSessionState { state: Some(_), .. }
    )
}

/// Whether other commands mean something else before it than behind it.
fn is_leaned_on(command: &Command) -> bool {
    matches!(
        command,
        Command::SetMessageSessionState { .. } | Command::StorePart { .. } | Command::EnqueueParts(_)
    )
}

/// Whether the command means something else before such a one than behind it.
fn leans(command: &Command) -> bool {
    matches!(
        command,
        Command::SetMessageSessionState { .. }
            | Command::GetMessageSessionState { .. }
            | Command::DropParts { .. }
            | Command::Detach { .. }
            | Command::ConnectionGone { .. }
    ) && !grows(command)
}

/// What a command counts for in a turn.
pub(super) fn work_of(command: &Command) -> usize {
    match command {
        Command::Attach(_) | Command::ConnectionGone { .. } => 8,
        Command::Detach { .. } => 4,
        Command::Settle { tokens, .. } | Command::SettlementRefused { tokens, .. } => tokens.len().max(1),
        Command::Return { tokens, .. }
        | Command::Sent { tokens, .. }
        | Command::RenewMessageLocks { tokens, .. } => tokens.len().max(1),
        Command::Enqueue(enqueue) => enqueue.messages.len().max(1),
        Command::ReceiveBySequenceNumbers(asked) => asked.sequence_numbers.len().max(1),
        Command::CancelScheduled { sequence_numbers, .. } => sequence_numbers.len().max(1),
        // It may have to pass over many that it does not take.
        Command::DeleteMessages { count, .. } => (*count as usize).max(64),
        Command::Peek { .. }
        | Command::ListMessageSessions { .. }
        | Command::ListQueues { .. }
        | Command::DefineQueue { .. } => 32,
        Command::DeleteQueue { .. } => TURN_WORK_MAX,
        _ => 1,
    }
}

/// Bytes that the command brings.
pub(super) fn ingest_bytes(command: &Command) -> usize {
    match command {
        Command::Enqueue(enqueue) => enqueue.messages.iter().map(|message| message.encoded.len()).sum(),
        Command::StorePart { row, .. } => row.len(),
        Command::EnqueueParts(EnqueueParts { message, .. }) => message.encoded.len(),
        Command::SetMessageSessionState { state: Some(state), .. } => state.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lockstep_model::{
        EntityId, IncomingMessage, LockToken, MessageSessionId, OutgoingLinkId, RequestId, Timestamp,
    };

    use super::*;
    use crate::core::{Departure, Enqueue, HolderClaim};

    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);

    fn credit(limit: u64) -> Command {
        Command::Credit { link: OutgoingLinkId(1), limit, drain: false }
    }

    fn send(bytes: usize) -> Command {
        let encoded = Bytes::from(vec![0; bytes]);
        let message = IncomingMessage { encoded, ..IncomingMessage::default() };
        Command::Enqueue(Enqueue {
            entity: EntityId::from_raw(4),
            messages: [message].into(),
            connection: ONE,
            request: None,
        })
    }

    fn state_write() -> Command {
        Command::SetMessageSessionState {
            entity: EntityId::from_raw(4),
            session: MessageSessionId::new("s").unwrap(),
            state: Some(Bytes::from_static(b"state")),
            holder: HolderClaim { connection: ONE, link: None },
            request: RequestId(1),
        }
    }

    fn detach() -> Command {
        Command::Detach { link: OutgoingLinkId(1), departure: Departure::Clean }
    }

    fn burst(connection: ConnectionId, commands: impl IntoIterator<Item = Command>) -> Burst {
        let arrived = Now { mono: MonoTime::from_micros(7), utc: Timestamp::from_unix_millis(0) };
        Burst {
            namespace: 0,
            connection,
            commands: commands.into_iter().collect(),
            arrived,
            gate: Arc::default(),
        }
    }

    const fn in_time(connection: ConnectionId, is_small: bool) -> Turn {
        Turn { connection, is_small, is_overdue: false }
    }

    /// One whole turn.
    fn turn(intake: &mut Intake, ingest_may: bool) -> Vec<Command> {
        let Some(Turn { connection, .. }) = intake.next_turn() else { return Vec::new() };
        let commands = std::iter::from_fn(|| intake.next(connection, ingest_may)).map(|next| next.command);
        let commands = commands.collect();
        intake.end_turn(connection, false);
        commands
    }

    #[test]
    fn settlement_and_credit_pass_sends_that_wait_and_these_keep_their_order() {
        let mut intake = Intake::default();
        intake.push(burst(ONE, [send(1), credit(1), send(2), credit(2)]));
        assert_eq!(turn(&mut intake, false), [credit(1), credit(2)]);
        assert_eq!((intake.turns(), intake.is_empty(), intake.held_bytes()), (0, false, 3));
        intake.push(burst(ONE, [send(3), credit(3)]));
        assert_eq!(turn(&mut intake, false), [credit(3)]);
        intake.release();
        assert_eq!(turn(&mut intake, true), [send(1), send(2), send(3)]);
        assert!(intake.is_empty());
    }

    #[test]
    fn a_detach_does_not_pass_a_state_write_that_waits() {
        let mut intake = Intake::default();
        intake.push(burst(ONE, [state_write(), credit(1), detach(), credit(2)]));
        assert_eq!(turn(&mut intake, false), [credit(1)]);
        intake.release();
        assert_eq!(turn(&mut intake, true), [state_write(), detach(), credit(2)]);
    }

    #[test]
    fn connections_take_turns_and_the_held_ones_come_first_when_there_is_room() {
        let mut intake = Intake::default();
        intake.push(burst(ONE, [send(1)]));
        assert_eq!(turn(&mut intake, false), []);
        intake.push(burst(TWO, (2..40).map(credit)));
        assert_eq!(intake.earliest_arrival(), Some(MonoTime::from_micros(7)));
        intake.release();
        assert_eq!(turn(&mut intake, true), [send(1)]);
        assert_eq!(turn(&mut intake, true), (2..40).map(credit).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_asks_for_little_goes_before_those_who_ask_for_much() {
        let mut intake = Intake::default();
        intake.push(burst(ONE, (0..1_000).map(credit)));
        intake.push(burst(TWO, [credit(2)]));
        assert_eq!(intake.turns(), 2);
        assert_eq!(intake.next_turn(), Some(in_time(TWO, true)));
        intake.end_turn(TWO, false);
        assert_eq!(intake.next_turn(), Some(in_time(ONE, false)));
        intake.end_turn(ONE, true);
        // A small burst behind a large one is no small turn, and neither is much work or many bytes.
        intake.push(burst(ONE, [credit(1)]));
        assert_eq!(intake.next_turn(), Some(in_time(ONE, false)));
        let returned = Command::Return {
            link: OutgoingLinkId(1),
            tokens: vec![LockToken::from_uuid_bytes([1; 16]); 65],
        };
        let deleted = Command::DeleteMessages {
            entity: EntityId::from_raw(4),
            count: 65,
            enqueued_until: Timestamp::default(),
            session: None,
            connection: TWO,
            request: RequestId(1),
        };
        for much in [send(SMALL_BURST_BYTES_MAX + 1), returned, deleted] {
            intake.push(burst(TWO, [much]));
            assert_eq!(intake.next_turn(), Some(in_time(TWO, false)));
            intake.end_turn(TWO, true);
            turn(&mut intake, true);
        }
    }

    #[test]
    fn many_who_ask_for_little_do_not_shut_out_one_who_asks_for_much() {
        let mut intake = Intake::default();
        intake.push(burst(ONE, (0..1_000).map(credit)));
        for number in 0..100 {
            intake.push(burst(ConnectionId(10 + number), [credit(1)]));
        }
        let turns = std::iter::from_fn(|| intake.next_turn()).map(|turn| turn.connection);
        assert_eq!(
            turns.into_iter().position(|connection| connection == ONE),
            Some(SMALL_TURNS_IN_A_ROW_MAX)
        );
    }

    #[test]
    fn ingest_is_not_held_for_ever() {
        let mut intake = Intake::default();
        intake.push(burst(ONE, [send(SMALL_BURST_BYTES_MAX + 1)]));
        for _ in 0..2 {
            let mut releases = 0;
            while !intake.next_turn().is_some_and(|turn| turn.is_overdue) {
                assert!(intake.next(ONE, false).is_none());
                intake.end_turn(ONE, false);
                intake.release();
                releases += 1;
            }
            assert_eq!(releases, HELD_RELEASES_MAX);
            // It has more, and begins to wait anew.
            intake.end_turn(ONE, true);
        }
        assert!(intake.next(ONE, true).is_some());
    }

    #[test]
    fn a_connection_with_much_ingest_may_not_submit_more_until_it_is_applied() {
        let mut intake = Intake::default();
        let (little, much) = (burst(ONE, [send(10)]), burst(TWO, [send(WAITING_INGEST_BYTES_MAX + 1)]));
        let gates = [Arc::clone(&little.gate), Arc::clone(&much.gate)];
        gates.iter().for_each(|gate| gate.close());
        intake.push(little);
        intake.push(much);
        turn(&mut intake, false);
        turn(&mut intake, false);
        assert_eq!(gates.each_ref().map(|gate| gate.is_open()), [true, false]);
        intake.release();
        turn(&mut intake, true);
        turn(&mut intake, true);
        assert!(gates[1].is_open());
    }
}
