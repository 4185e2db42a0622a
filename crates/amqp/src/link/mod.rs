//! A link: one name, two handles, and a direction.
//!
//! ```text
//!            attach received                 accept
//!   (peer) ------------------> AttachPending -------> Attached
//!                                  |  |                | |  \ detach received
//!             refuse, or a bound   |  | detach         | |   v
//!             is passed            |  | received       | |  DetachReceived -- detach --> gone
//!                                  v  v                | |
//!                           DetachSent (gone)          | | detach, or a violation
//!                                  ^-------------------+-+
//!                                  +---- detach received ----> gone
//! ```
//! Client role: `AttachSent` comes before `Attached`; `DetachSentEarly` is a detach that overtook
//! the peer's attach.

pub(crate) mod attach_state;
mod credit;
mod detach;
pub(crate) mod incoming;
pub(crate) mod outgoing;

use self::{incoming::IncomingLink, outgoing::OutgoingLink};
use crate::{
    Event,
    connection::Connection,
    event::{AmqpSessionId, LinkId},
    types::{Attach, Role},
    violation::Violation,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkState {
    /// The peer attached; the driver has to answer.
    AttachPending,
    /// This end attached; the peer has to answer.
    AttachSent,
    /// This end attached and detached; neither is answered.
    DetachSentEarly {
        /// The driver knows that it is over.
        reported: bool,
    },
    /// Both ends attached.
    Attached,
    /// The peer detached; the driver has to answer. `closed`: for good.
    DetachReceived {
        /// What the peer said.
        closed: bool,
    },
    /// This end detached; the peer has to answer. `reported`: the driver knows the end already.
    DetachSent {
        /// No event follows.
        reported: bool,
    },
}

/// What a link does in its direction, seen from here.
#[derive(Debug)]
pub(crate) enum LinkKind {
    /// The peer sends.
    Incoming(IncomingLink),
    /// The peer receives.
    Outgoing(OutgoingLink),
}

/// One link of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) session: AmqpSessionId,
    pub(crate) state: LinkState,
    pub(crate) kind: LinkKind,
    pub(crate) name: Box<str>,
    /// The peer's attach, server role: until it is accepted, since it is large and links are many.
    /// Client role: this end's until the peer's came.
    pub(crate) attach: Option<Box<Attach>>,
    pub(crate) local_handle: Option<u32>,
    pub(crate) remote_handle: Option<u32>,
    /// Unsettled deliveries.
    pub(crate) unsettled: u32,
}

impl Link {
    /// This end's role.
    pub(crate) fn local_role(&self) -> Role {
        match self.kind {
            LinkKind::Incoming(_) => Role::Receiver,
            LinkKind::Outgoing(_) => Role::Sender,
        }
    }

    /// Whether the driver can still settle deliveries of it.
    pub(crate) fn takes_settlement(&self) -> bool {
        matches!(self.state, LinkState::Attached | LinkState::DetachReceived { .. })
    }

    pub(crate) fn as_incoming(&mut self) -> Option<&mut IncomingLink> {
        match &mut self.kind {
            LinkKind::Incoming(incoming) => Some(incoming),
            LinkKind::Outgoing(_) => None,
        }
    }

    pub(crate) fn as_outgoing(&mut self) -> Option<&mut OutgoingLink> {
        match &mut self.kind {
            LinkKind::Incoming(_) => None,
            LinkKind::Outgoing(outgoing) => Some(outgoing),
        }
    }
}

impl Connection {
    /// The link of a peer's handle.
    pub(crate) fn link_with_handle(&self, session: AmqpSessionId, handle: u32) -> Result<LinkId, Violation> {
        self.sessions
            .get(session.0)
            .and_then(|session| session.handles.get(handle))
            .ok_or(Violation::HandleUnattached)
    }

    /// The peer's attach; `None` once this end has accepted it, or the link is gone.
    #[must_use]
    pub fn link_attach(&self, link: LinkId) -> Option<&Attach> {
        self.links.get(link.0).and_then(|link| link.attach.as_deref())
    }

    /// The AMQP session of a link; `None` once the link is gone.
    #[must_use]
    pub fn amqp_session_of(&self, link: LinkId) -> Option<AmqpSessionId> {
        self.links.get(link.0).map(|link| link.session)
    }

    /// Reports something about deliveries of a link, or keeps it until the link is accepted.
    pub(crate) fn push_for_link(&mut self, event: Event) {
        let link = match &event {
            Event::Delivery { delivery, .. } | Event::DeliveryTooLarge { delivery, .. } => {
                Some(delivery.link)
            }
            Event::Disposed { deliveries, .. } => deliveries.first().map(|delivery| delivery.link),
            _ => None,
        };
        let pending = link
            .and_then(|id| self.links.get_mut(id.0))
            .filter(|link| link.state == LinkState::AttachPending)
            .and_then(Link::as_incoming);
        match pending {
            Some(incoming) => {
                // Bounded: each delivery can be settled once only. States without settlement could
                // come without end, and say nothing to a driver that knows no delivery yet.
                if !matches!(event, Event::Disposed { settled: false, .. }) {
                    incoming.held.push(event);
                }
            }
            None => self.push(event),
        }
    }
}
