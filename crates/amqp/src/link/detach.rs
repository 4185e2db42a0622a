//! Detach, in both directions, and what goes with it.

use super::{LinkKind, LinkState};
use crate::{
    Event,
    connection::Connection,
    event::{AmqpSessionId, LinkId},
    session::AmqpSessionState,
    types::{Detach, Error, Performative},
    violation::Violation,
};

impl Connection {
    /// Ends a link for good, or answers the peer's detach. Nothing more is sent on it: what
    /// waited to be sent is dropped. A pending attach is refused. Nothing happens if the link is
    /// gone or this end has detached already.
    ///
    /// A detach that did not close is answered by one that does not either, unless with an error:
    /// after a closing one the peer would have to attach again, just to close (2.6.6).
    ///
    /// The end is reported by `Detached { answered: true }` when the peer has answered; if the
    /// peer had detached first, nothing more is reported.
    pub fn detach(&mut self, link: LinkId, error: Option<Error>) {
        let Some(state) = self.links.get(link.0).map(|link| link.state) else { return };
        if self.is_closing() {
            return;
        }
        match state {
            LinkState::AttachPending => self.send_refusal(link, error, false),
            LinkState::AttachSent => {
                self.send_detach(link, true, error);
                self.set_link_state(link, LinkState::DetachSentEarly { reported: false });
            }
            LinkState::Attached => {
                self.send_detach(link, true, error);
                self.close_down(link);
                self.set_link_state(link, LinkState::DetachSent { reported: false });
            }
            LinkState::DetachReceived { closed } => {
                self.send_detach(link, closed || error.is_some(), error);
                self.remove_link(link);
            }
            LinkState::DetachSent { .. } | LinkState::DetachSentEarly { .. } => {}
        }
    }

    /// Ends a link because of what the peer did, and reports it at once.
    pub(crate) fn end_link(&mut self, link: LinkId, error: Option<Error>) {
        let Some(state) = self.links.get(link.0).map(|link| link.state) else { return };
        match state {
            LinkState::AttachPending => {
                self.send_refusal(link, error, true);
                self.push(Event::AttachCancelled(link));
            }
            LinkState::Attached | LinkState::AttachSent => {
                self.detach(link, error.clone());
                self.set_link_state(
                    link,
                    match state {
                        LinkState::Attached => LinkState::DetachSent { reported: true },
                        _ => LinkState::DetachSentEarly { reported: true },
                    },
                );
                self.push(Event::Detached { link, closed: true, error, answered: true });
            }
            LinkState::DetachReceived { .. }
            | LinkState::DetachSent { .. }
            | LinkState::DetachSentEarly { .. } => {}
        }
    }

    /// A violation of the scope of one link.
    pub(crate) fn fail_link(&mut self, link: LinkId, violation: Violation) {
        self.end_link(link, Some(violation.to_error()));
    }

    pub(crate) fn set_link_state(&mut self, link: LinkId, state: LinkState) {
        if let Some(entry) = self.links.get_mut(link.0) {
            entry.state = state;
        }
    }

    fn send_detach(&mut self, link: LinkId, closed: bool, error: Option<Error>) {
        let Some(entry) = self.links.get(link.0) else { return };
        let Some(session) = self.sessions.get_mut(entry.session.0) else { return };
        if let Some(handle) = entry.local_handle {
            session.write(&mut self.outbox, &Performative::Detach(Detach { handle, closed, error }));
        }
    }

    pub(crate) fn on_detach(&mut self, channel: u16, detach: Detach) -> Result<(), Violation> {
        let id = self.session_on(channel)?;
        let Some(session) = self.sessions.get_mut(id.0) else { return Ok(()) };
        if session.state == AmqpSessionState::EndSent {
            return Ok(());
        }
        let link = session.handles.remove(detach.handle).ok_or(Violation::HandleUnattached)?;
        let Some(entry) = self.links.get_mut(link.0) else { return Ok(()) };
        entry.remote_handle = None;
        match entry.state {
            LinkState::AttachPending => {
                // A bare detach would name a handle that the peer never saw attached, which ends
                // the AMQP session in several clients; so the answer is attach and detach.
                self.send_refusal(link, None, true);
                self.remove_link(link);
                self.push(Event::AttachCancelled(link));
            }
            LinkState::DetachSent { reported } => {
                self.remove_link(link);
                if !reported {
                    let Detach { closed, error, .. } = detach;
                    self.push(Event::Detached { link, closed, error, answered: true });
                }
            }
            _ => {
                self.stop_transfers(link);
                let Detach { closed, error, .. } = detach;
                self.set_link_state(link, LinkState::DetachReceived { closed });
                self.push(Event::Detached { link, closed, error, answered: false });
            }
        }
        Ok(())
    }

    /// No transfer comes or goes any more: frees the name, and drops partial deliveries and what
    /// waits to be sent.
    fn stop_transfers(&mut self, link: LinkId) {
        let Some(entry) = self.links.get_mut(link.0) else { return };
        let role = entry.local_role();
        match &mut entry.kind {
            LinkKind::Incoming(incoming) => {
                self.reassembly_bytes -= incoming.drop_partial();
                self.reassembly_bytes -= std::mem::take(&mut incoming.held_bytes);
                incoming.held = Vec::new();
            }
            LinkKind::Outgoing(outgoing) => {
                outgoing.credit = 0;
                outgoing.queued = 0;
                outgoing.sending = false;
                outgoing.held_flow = None;
                if let Some(session) = self.sessions.get_mut(entry.session.0) {
                    let (deliveries, bytes) = session.drop_outgoing(link);
                    self.queued_bytes -= bytes;
                    if !deliveries.is_empty() {
                        self.events.push_back(Event::CutOff { deliveries });
                    }
                }
            }
        }
        self.names.free(role, &entry.name, link);
    }

    /// This end's detach is written: all deliveries of the link leave the books too.
    pub(crate) fn close_down(&mut self, link: LinkId) {
        self.stop_transfers(link);
        let Some(entry) = self.links.get_mut(link.0) else { return };
        if entry.state == LinkState::AttachPending {
            self.pending_attaches -= 1;
        }
        if std::mem::take(&mut entry.unsettled) == 0 {
            return;
        }
        let Some(session) = self.sessions.get_mut(entry.session.0) else { return };
        match entry.kind {
            LinkKind::Incoming(_) => session.received.remove_link(link),
            LinkKind::Outgoing(_) => session.sent.remove_link(link),
        }
    }

    /// Both ends have detached.
    fn remove_link(&mut self, link: LinkId) {
        self.close_down(link);
        let Some(entry) = self.links.remove(link.0) else { return };
        let Some(session) = self.sessions.get_mut(entry.session.0) else { return };
        if let Some(handle) = entry.local_handle {
            session.free_handles.give_back(handle);
        }
        if let Some(position) = session.links.iter().position(|&other| other == link) {
            session.links.swap_remove(position);
        }
    }

    /// Drops all links of an AMQP session; returns those whose end the driver does not know yet.
    pub(crate) fn release_links(&mut self, session: AmqpSessionId) -> Vec<LinkId> {
        let Some(entry) = self.sessions.get_mut(session.0) else { return Vec::new() };
        let mut links = std::mem::take(&mut entry.links);
        // All at once, not link by link.
        let (deliveries, bytes) = entry.drop_everything();
        self.queued_bytes -= bytes;
        if !deliveries.is_empty() {
            self.events.push_back(Event::CutOff { deliveries });
        }
        links.sort_unstable();
        links.retain(|&link| {
            self.close_down(link);
            let Some(entry) = self.links.remove(link.0) else { return false };
            !matches!(
                entry.state,
                LinkState::DetachSent { reported: true } | LinkState::DetachSentEarly { reported: true }
            )
        });
        links
    }
}
