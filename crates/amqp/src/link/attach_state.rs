//! Attach: a peer's wish for a link, its answer at any later time, and this end's own wishes.

use super::{
    Link, LinkKind, LinkState,
    incoming::{self, IncomingLink},
    outgoing::OutgoingLink,
};
use crate::{
    Event,
    connection::Connection,
    event::{AmqpSessionId, AttachReply, LinkId},
    session::AmqpSessionState,
    types::{Attach, Detach, Error, Performative, Role},
    violation::Violation,
};

/// Link names taken by links that are attached or being attached, by this end's role.
#[derive(Debug, Default)]
pub(crate) struct LinkNames {
    receiving: std::collections::HashMap<Box<str>, LinkId>,
    sending: std::collections::HashMap<Box<str>, LinkId>,
}

impl LinkNames {
    fn of(&mut self, local_role: Role) -> &mut std::collections::HashMap<Box<str>, LinkId> {
        match local_role {
            Role::Receiver => &mut self.receiving,
            Role::Sender => &mut self.sending,
        }
    }

    fn get(&mut self, local_role: Role, name: &str) -> Option<LinkId> {
        self.of(local_role).get(name).copied()
    }

    fn take(&mut self, local_role: Role, name: Box<str>, link: LinkId) {
        self.of(local_role).insert(name, link);
    }

    /// Frees a link's name, unless another link has it by now.
    pub(crate) fn free(&mut self, local_role: Role, name: &str, link: LinkId) {
        let names = self.of(local_role);
        if names.get(name) == Some(&link) {
            names.remove(name);
        }
    }
}

const fn other(role: Role) -> Role {
    match role {
        Role::Sender => Role::Receiver,
        Role::Receiver => Role::Sender,
    }
}

/// Links beyond the limit that may wait for the peer's detach after their refusal; a peer that
/// never detaches them loses the AMQP session.
const REFUSED_LINKS_MAX: usize = 1_024;

impl Connection {
    pub(crate) fn on_attach(&mut self, channel: u16, attach: Box<Attach>) -> Result<(), Violation> {
        let id = self.session_on(channel)?;
        let Some(session) = self.sessions.get(id.0) else { return Ok(()) };
        if session.state == AmqpSessionState::EndSent {
            return Ok(());
        }
        if attach.handle > self.config.handle_max {
            return Err(Violation::HandleOverMax);
        }
        if session.handles.get(attach.handle).is_some() {
            return Err(Violation::HandleInUse);
        }
        let local_role = other(attach.role);
        if let Some(old) = self.names.get(local_role, &attach.name) {
            let old_state = self.links.get(old.0).map(|link| (link.session, link.state));
            if let Some((session, LinkState::AttachSent | LinkState::DetachSentEarly { .. })) = old_state
                && session == id
            {
                self.on_attach_answer(old, attach);
                return Ok(());
            }
            self.steal(old);
            // The old link may have had no handle for its end, which ends its AMQP session.
            if self.is_over(id) {
                return Ok(());
            }
        }
        self.on_new_attach(id, attach)
    }

    fn on_new_attach(&mut self, session_id: AmqpSessionId, attach: Box<Attach>) -> Result<(), Violation> {
        let limits = &self.config.limits;
        let Some(session) = self.sessions.get_mut(session_id.0) else { return Ok(()) };
        let limit = limits.links_per_amqp_session_max as usize;
        let excess = if session.links.len() >= limit {
            Some(Violation::TooManyLinks)
        } else if self.pending_attaches >= limits.pending_attaches_max {
            Some(Violation::TooManyPendingAttaches)
        } else {
            None
        };
        if session.links.len() >= limit.saturating_add(REFUSED_LINKS_MAX) {
            // One more answer cannot be kept track of.
            self.fail_session(session_id, Some(Violation::TooManyLinks.to_error()));
            return Ok(());
        }
        let kind = match attach.role {
            Role::Sender => LinkKind::Incoming(IncomingLink::new(
                attach.initial_delivery_count.unwrap_or(0),
                attach.rcv_settle_mode,
            )),
            Role::Receiver => LinkKind::Outgoing(OutgoingLink::new(self.config.first_serial)),
        };
        let remote_handle = attach.handle;
        let local_role = other(attach.role);
        let link = Link {
            session: session_id,
            state: LinkState::AttachPending,
            kind,
            name: attach.name.clone(),
            attach: Some(attach.clone()),
            local_handle: None,
            remote_handle: Some(remote_handle),
            unsettled: 0,
        };
        let Some(id) = self.links.insert(link).map(LinkId) else {
            return Err(Violation::TooManyAmqpSessions);
        };
        session.handles.insert(remote_handle, id);
        session.links.push(id);
        self.pending_attaches += 1;
        if let Some(violation) = excess {
            self.send_refusal(id, Some(violation.to_error()), true);
            return Ok(());
        }
        self.names.take(local_role, attach.name.clone(), id);
        self.push(Event::Attach { link: id, session: session_id, attach });
        Ok(())
    }

    /// Another attach took the name: the old link ends at once.
    fn steal(&mut self, old: LinkId) {
        let error = Error::new("amqp:link:stolen", "another link was attached with the same name");
        self.end_link(old, Some(error));
    }

    /// Answers an attach. Nothing happens if the link is gone or was answered already.
    pub fn accept(&mut self, link: LinkId, reply: AttachReply) {
        if self.is_closing() || !self.is_pending(link) {
            return;
        }
        let Some(entry) = self.links.get_mut(link.0) else { return };
        let Some(session) = self.sessions.get_mut(entry.session.0) else { return };
        let Some(handle) = session.free_handles.take(session.remote_handle_max) else {
            let id = entry.session;
            self.fail_session(id, Some(Violation::TooManyLinks.to_error()));
            return;
        };
        entry.local_handle = Some(handle);
        entry.state = LinkState::Attached;
        entry.attach = None;
        self.pending_attaches -= 1;
        if let LinkKind::Incoming(incoming) = &mut entry.kind {
            incoming.max_message_size = reply.max_message_size.filter(|&size| size > 0);
            incoming.parts = reply.parts;
            incoming.takes_repeated_ids = reply.takes_repeated_ids;
        }
        let answer = Attach {
            name: entry.name.clone(),
            handle,
            role: entry.local_role(),
            snd_settle_mode: reply.snd_settle_mode,
            rcv_settle_mode: reply.rcv_settle_mode,
            source: reply.source,
            target: reply.target,
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: match &entry.kind {
                LinkKind::Incoming(_) => None,
                LinkKind::Outgoing(outgoing) => Some(outgoing.delivery_count),
            },
            max_message_size: reply.max_message_size,
            offered_capabilities: reply.offered_capabilities,
            desired_capabilities: Vec::new(),
            properties: reply.properties,
        };
        session.write(&mut self.outbox, &Performative::Attach(Box::new(answer)));
        self.release_held(link);
    }

    /// What came before the answer happens now, in its order.
    fn release_held(&mut self, link: LinkId) {
        let Some(entry) = self.links.get_mut(link.0) else { return };
        let flow = match &mut entry.kind {
            LinkKind::Incoming(incoming) => {
                let held = std::mem::take(&mut incoming.held);
                self.reassembly_bytes -= std::mem::take(&mut incoming.held_bytes);
                let max = incoming.max_message_size.unwrap_or(u64::MAX);
                let parts = incoming.parts;
                let flow = incoming.held_flow.take();
                for event in held {
                    incoming::released(event, max, parts).into_iter().for_each(|event| self.push(event));
                }
                flow
            }
            LinkKind::Outgoing(outgoing) => outgoing.held_flow.take(),
        };
        if let Some(flow) = flow {
            self.on_link_flow(link, &flow);
        }
    }

    /// Refuses an attach: attach without termini and detach with the error stand next to each
    /// other in the outbox. The link's end is reported by `Detached` when the peer has answered.
    /// Nothing happens if the link is gone or was answered already.
    pub fn refuse(&mut self, link: LinkId, error: Error) {
        if !self.is_closing() && self.is_pending(link) {
            self.send_refusal(link, Some(error), false);
        }
    }

    pub(crate) fn is_pending(&self, link: LinkId) -> bool {
        self.links.get(link.0).is_some_and(|link| link.state == LinkState::AttachPending)
    }

    /// Writes attach and detach for a pending link and drops what came for it.
    pub(crate) fn send_refusal(&mut self, link: LinkId, error: Option<Error>, reported: bool) {
        let Some(entry) = self.links.get_mut(link.0) else { return };
        let Some(session) = self.sessions.get_mut(entry.session.0) else { return };
        let Some(handle) = session.free_handles.take(session.remote_handle_max) else {
            let id = entry.session;
            if reported {
                // The AMQP session's end is no news of it.
                self.close_down(link);
                self.set_link_state(link, LinkState::DetachSent { reported });
            }
            self.fail_session(id, Some(Violation::TooManyLinks.to_error()));
            return;
        };
        entry.local_handle = Some(handle);
        let attach = Attach {
            name: entry.name.clone(),
            handle,
            role: entry.local_role(),
            snd_settle_mode: entry.attach.as_ref().and_then(|attach| attach.snd_settle_mode),
            rcv_settle_mode: entry.attach.as_ref().and_then(|attach| attach.rcv_settle_mode),
            source: None,
            target: None,
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: match &entry.kind {
                LinkKind::Incoming(_) => None,
                LinkKind::Outgoing(outgoing) => Some(outgoing.delivery_count),
            },
            max_message_size: None,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: None,
        };
        session.write(&mut self.outbox, &Performative::Attach(Box::new(attach)));
        session.write(&mut self.outbox, &Performative::Detach(Detach { handle, closed: true, error }));
        self.close_down(link);
        if let Some(entry) = self.links.get_mut(link.0) {
            entry.state = LinkState::DetachSent { reported };
        }
    }

    /// Client role: attaches a link. The handle in `attach` is chosen by the engine, and for a
    /// sender `initial_delivery_count` too. `None` if the AMQP session is gone or has no free
    /// handle, or a link with this name and role exists.
    pub fn attach(&mut self, session: AmqpSessionId, mut attach: Attach) -> Option<LinkId> {
        if self.is_closing() || self.names.get(attach.role, &attach.name).is_some() {
            return None;
        }
        let entry = self.sessions.get_mut(session.0)?;
        if entry.state == AmqpSessionState::EndSent {
            return None;
        }
        let handle = entry.free_handles.take(entry.remote_handle_max)?;
        attach.handle = handle;
        let kind = match attach.role {
            Role::Sender => {
                attach.initial_delivery_count = Some(self.config.first_serial);
                LinkKind::Outgoing(OutgoingLink::new(self.config.first_serial))
            }
            Role::Receiver => {
                let mut incoming = IncomingLink::new(0, attach.rcv_settle_mode);
                incoming.max_message_size = attach.max_message_size.filter(|&size| size > 0);
                LinkKind::Incoming(incoming)
            }
        };
        let link = Link {
            session,
            state: LinkState::AttachSent,
            kind,
            name: attach.name.clone(),
            attach: Some(Box::new(attach.clone())),
            local_handle: Some(handle),
            remote_handle: None,
            unsettled: 0,
        };
        let id = LinkId(self.links.insert(link)?);
        entry.links.push(id);
        self.names.take(attach.role, attach.name.clone(), id);
        entry.write(&mut self.outbox, &Performative::Attach(Box::new(attach)));
        Some(id)
    }

    fn on_attach_answer(&mut self, link: LinkId, attach: Box<Attach>) {
        let Some(entry) = self.links.get_mut(link.0) else { return };
        entry.remote_handle = Some(attach.handle);
        if let Some(session) = self.sessions.get_mut(entry.session.0) {
            session.handles.insert(attach.handle, link);
        }
        entry.attach = Some(attach.clone());
        if let LinkKind::Incoming(incoming) = &mut entry.kind {
            incoming.delivery_count = attach.initial_delivery_count.unwrap_or(0);
        }
        if let LinkState::DetachSentEarly { reported } = entry.state {
            entry.state = LinkState::DetachSent { reported };
            let role = entry.local_role();
            self.names.free(role, &attach.name, link);
            return;
        }
        entry.state = LinkState::Attached;
        self.push(Event::AttachAnswered { link, attach });
    }
}
