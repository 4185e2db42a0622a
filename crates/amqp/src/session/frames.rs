//! Begin, end, flow and disposition as they come.

use super::{AmqpSession, AmqpSessionState};
use crate::{
    Event,
    connection::Connection,
    event::{AmqpSessionId, Deliveries, DeliveryRef},
    link::incoming::unpin_state,
    types::{Begin, Disposition, End, Error, Flow, Performative, Role},
    violation::Violation,
};

impl Connection {
    /// The AMQP session of a channel.
    pub(crate) fn session_on(&self, channel: u16) -> Result<AmqpSessionId, Violation> {
        self.remote_channels.get(channel.into()).ok_or(Violation::ChannelNotBegun)
    }

    /// Client role: begins an AMQP session. `None` if no channel is free or the connection is
    /// closing.
    pub fn begin(&mut self) -> Option<AmqpSessionId> {
        if self.is_closing() {
            return None;
        }
        let local_channel = self.free_channels.take(self.remote.channel_max.into())?;
        let session = AmqpSession::new(AmqpSessionState::BeginSent, local_channel as u16, &self.config);
        let begin = session.begin(&self.config);
        let id = AmqpSessionId(self.sessions.insert(session)?);
        self.local_channels.insert(local_channel, id);
        self.outbox.frame(local_channel as u16, &begin);
        Some(id)
    }

    pub(crate) fn on_begin(&mut self, channel: u16, begin: &Begin) -> Result<(), Violation> {
        if self.remote_channels.get(channel.into()).is_some() {
            return Err(Violation::ChannelInUse);
        }
        if let Some(local_channel) = begin.remote_channel {
            return self.on_begin_answer(channel, local_channel, begin);
        }
        let over_limit = self.sessions.len() >= self.config.limits.amqp_sessions_max as usize;
        let Some(local_channel) = self.free_channels.take(self.remote.channel_max.into()) else {
            return Err(Violation::ChannelOverMax);
        };
        let mut session = AmqpSession::new(AmqpSessionState::Mapped, local_channel as u16, &self.config);
        session.mapped(channel, begin);
        let answer = session.begin(&self.config);
        let Some(id) = self.sessions.insert(session).map(AmqpSessionId) else {
            return Err(Violation::TooManyAmqpSessions);
        };
        self.remote_channels.insert(channel.into(), id);
        self.local_channels.insert(local_channel, id);
        self.outbox.frame(local_channel as u16, &answer);
        if over_limit {
            self.send_end(id, Some(Violation::TooManyAmqpSessions.to_error()));
        } else {
            self.push(Event::AmqpSessionBegun(id));
        }
        Ok(())
    }

    fn on_begin_answer(&mut self, channel: u16, local_channel: u16, begin: &Begin) -> Result<(), Violation> {
        let id = self.local_channels.get(local_channel.into()).ok_or(Violation::RemoteChannelUnknown)?;
        let session = self.amqp_session(id).ok_or(Violation::RemoteChannelUnknown)?;
        if session.remote_channel.is_some() {
            return Err(Violation::RemoteChannelUnknown);
        }
        session.mapped(channel, begin);
        let ours = session.state == AmqpSessionState::BeginSent;
        if ours {
            session.state = AmqpSessionState::Mapped;
        }
        self.remote_channels.insert(channel.into(), id);
        if ours {
            self.push(Event::AmqpSessionBegun(id));
        }
        Ok(())
    }

    /// Ends an AMQP session with all its links; they are reported by one
    /// [`Event::AmqpSessionEnded`] at once. Unknown or ended ones: nothing happens.
    pub fn end(&mut self, session: AmqpSessionId, error: Option<Error>) {
        if !self.is_closing() {
            self.fail_session(session, error);
        }
    }

    /// Whether the AMQP session is gone, or this end has ended it.
    pub(crate) fn is_over(&self, id: AmqpSessionId) -> bool {
        self.sessions.get(id.0).is_none_or(|session| session.state == AmqpSessionState::EndSent)
    }

    /// Sends end, reports it, and waits for the peer's. Unknown or ended ones: nothing happens.
    pub(crate) fn fail_session(&mut self, id: AmqpSessionId, error: Option<Error>) {
        if self.is_over(id) {
            return;
        }
        let links = self.release_links(id);
        self.send_end(id, error.clone());
        self.push(Event::AmqpSessionEnded { session: id, links, error });
    }

    fn send_end(&mut self, id: AmqpSessionId, error: Option<Error>) {
        if let Some(session) = self.sessions.get_mut(id.0) {
            session.write(&mut self.outbox, &Performative::End(End { error }));
            session.state = AmqpSessionState::EndSent;
        }
    }

    pub(crate) fn on_end(&mut self, channel: u16, end: End) -> Result<(), Violation> {
        let id = self.session_on(channel)?;
        let ended = self.amqp_session(id).is_some_and(|session| session.state == AmqpSessionState::EndSent);
        if !ended {
            let links = self.release_links(id);
            self.send_end(id, None);
            self.push(Event::AmqpSessionEnded { session: id, links, error: end.error });
        }
        self.remote_channels.remove(channel.into());
        if let Some(session) = self.sessions.remove(id.0) {
            self.local_channels.remove(session.local_channel.into());
            self.free_channels.give_back(session.local_channel.into());
        }
        Ok(())
    }

    pub(crate) fn on_flow(&mut self, channel: u16, flow: &Flow) -> Result<(), Violation> {
        let id = self.session_on(channel)?;
        let Some(session) = self.sessions.get_mut(id.0) else { return Ok(()) };
        if session.state == AmqpSessionState::EndSent {
            return Ok(());
        }
        let was_shut = session.outgoing.left() == 0;
        session.incoming.set_next_id(flow.next_outgoing_id);
        session.outgoing.update(flow.next_incoming_id, flow.incoming_window);
        let opened = was_shut && session.outgoing.left() > 0;
        if opened {
            self.mark_ready(id);
            self.pump();
        }
        let flow_link = match flow.handle {
            Some(handle) => Some(self.link_with_handle(id, handle)?),
            None => None,
        };
        let reported = match flow_link {
            Some(link) => self.on_link_flow(link, flow).then_some(link),
            None => None,
        };
        if opened {
            self.report_credit(id, reported);
        }
        if flow_link.is_none() && flow.echo {
            self.send_session_flow(id);
        }
        Ok(())
    }

    /// Tells the peer that the AMQP session takes no more transfers for now, or that it does
    /// again. What is under way already is taken all the same. Unknown AMQP sessions are ignored.
    pub fn hold_incoming_window(&mut self, id: AmqpSessionId, held: bool) {
        let is_news = !self.is_closing()
            && self.amqp_session(id).is_some_and(|session| {
                session.state == AmqpSessionState::Mapped && session.incoming.hold(held)
            });
        if is_news {
            self.send_session_flow(id);
        }
    }

    /// Unless the AMQP session has ended, maybe by what asks for this.
    pub(crate) fn send_session_flow(&mut self, id: AmqpSessionId) {
        if let Some(session) = self.sessions.get_mut(id.0)
            && session.state != AmqpSessionState::EndSent
        {
            let flow = session.flow();
            session.write(&mut self.outbox, &Performative::Flow(flow));
        }
    }

    pub(crate) fn on_disposition(&mut self, channel: u16, disposition: Disposition) -> Result<(), Violation> {
        let id = self.session_on(channel)?;
        let Some(session) = self.sessions.get_mut(id.0) else { return Ok(()) };
        if session.state == AmqpSessionState::EndSent {
            return Ok(());
        }
        let Disposition { role, first, last, settled, state, .. } = disposition;
        let ring = match role {
            Role::Receiver => &mut session.sent,
            Role::Sender => &mut session.received,
        };
        // Nearly always all are of one link: `runs` stays empty, and takes no memory then.
        let (mut runs, mut run): (Vec<Deliveries>, Deliveries) = Default::default();
        let work = &mut self.work;
        ring.in_range(first, last.unwrap_or(first), |entry| {
            *work += 1;
            let delivery = DeliveryRef { link: entry.link, id: entry.id };
            if run.last().is_some_and(|last| last.link != delivery.link) {
                runs.push(std::mem::take(&mut run));
            }
            run.push(delivery);
        });
        let state = state.map(unpin_state);
        for deliveries in runs.into_iter().chain((!run.is_empty()).then_some(run)) {
            if settled {
                for delivery in &deliveries {
                    self.forget(id, role, *delivery);
                }
            }
            // Deliveries of an attach that is not answered are unknown to the driver still.
            self.push_for_link(Event::Disposed { deliveries, settled, state: state.clone() });
        }
        Ok(())
    }

    /// Takes a delivery out of the books; `peer_role` is the peer's role on the link.
    pub(crate) fn forget(&mut self, session: AmqpSessionId, peer_role: Role, delivery: DeliveryRef) {
        let Some(session) = self.sessions.get_mut(session.0) else { return };
        let removed = match peer_role {
            Role::Receiver => session.sent.remove(delivery.id),
            Role::Sender => session.received.remove(delivery.id),
        };
        if let Some(link) = removed.and_then(|link| self.links.get_mut(link.0)) {
            link.unsettled = link.unsettled.saturating_sub(1);
        }
    }
}
