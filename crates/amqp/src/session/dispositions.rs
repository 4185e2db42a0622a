//! Dispositions on their way out, merged into ranges.

use super::AmqpSession;
use crate::{
    outbox::Outbox,
    types::{DeliveryState, Disposition, Performative, Role},
};

/// Deliveries with consecutive ids that get the same state.
#[derive(Debug)]
pub(crate) struct Run {
    first: u32,
    last: u32,
    settled: bool,
    state: DeliveryState,
}

/// At most one unwritten run for each direction. It grows until another state, a gap, or a frame
/// whose place behind it matters comes.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    receiver: Option<Run>,
    sender: Option<Run>,
}

impl Runs {
    fn slot(&mut self, role: Role) -> &mut Option<Run> {
        match role {
            Role::Receiver => &mut self.receiver,
            Role::Sender => &mut self.sender,
        }
    }
}

impl AmqpSession {
    /// Adds one delivery to the run of `role` (this end's role on the link).
    pub(crate) fn dispose(
        &mut self,
        outbox: &mut Outbox,
        role: Role,
        id: u32,
        state: &DeliveryState,
        settled: bool,
    ) {
        if let Some(run) = self.runs.slot(role)
            && run.settled == settled
            && id == run.last.wrapping_add(1)
            && run.state == *state
        {
            run.last = id;
            return;
        }
        self.flush_run(outbox, role);
        *self.runs.slot(role) = Some(Run { first: id, last: id, settled, state: state.clone() });
    }

    /// Writes the run of `role`, if there is one.
    pub(crate) fn flush_run(&mut self, outbox: &mut Outbox, role: Role) {
        let Some(run) = self.runs.slot(role).take() else { return };
        outbox.frame(
            self.local_channel,
            &Performative::Disposition(Disposition {
                role,
                first: run.first,
                last: Some(run.last),
                settled: run.settled,
                state: Some(run.state),
                batchable: false,
            }),
        );
    }

    /// Writes both runs.
    pub(crate) fn flush_runs(&mut self, outbox: &mut Outbox) {
        self.flush_run(outbox, Role::Receiver);
        self.flush_run(outbox, Role::Sender);
    }

    /// Writes a frame of this AMQP session, behind all dispositions so far.
    pub(crate) fn write(&mut self, outbox: &mut Outbox, performative: &Performative) {
        self.flush_runs(outbox);
        outbox.frame(self.local_channel, performative);
    }
}
