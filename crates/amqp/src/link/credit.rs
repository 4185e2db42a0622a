//! Link-credit in both directions, drain and echo (2.6.7).

use super::{Link, LinkKind, LinkState};
use crate::{
    Event,
    connection::Connection,
    event::{AmqpSessionId, LinkId},
    types::{Flow, Performative},
};

/// Credit of a sender by the receiver's flow. A receiver that claims more deliveries than were
/// begun is taken to have seen all.
fn sender_credit(delivery_count: u32, peer_delivery_count: u32, link_credit: u32) -> u32 {
    let under_way = delivery_count.wrapping_sub(peer_delivery_count) as i32;
    link_credit.saturating_sub(under_way.max(0).unsigned_abs())
}

impl Connection {
    /// The link's half of a flow from the peer; whether its credit was reported.
    pub(crate) fn on_link_flow(&mut self, id: LinkId, flow: &Flow) -> bool {
        let first_serial = self.config.first_serial;
        let Some(link) = self.links.get_mut(id.0) else { return false };
        let state = link.state;
        let event = match &mut link.kind {
            LinkKind::Incoming(incoming) if state == LinkState::AttachPending => {
                incoming.held_flow = Some(*flow);
                return false;
            }
            LinkKind::Outgoing(outgoing) if state == LinkState::AttachPending => {
                outgoing.held_flow = Some(*flow);
                return false;
            }
            _ if state != LinkState::Attached => return false,
            LinkKind::Outgoing(outgoing) => {
                // delivery-count is null while the receiver has not seen this end's attach.
                let peer_count = flow.delivery_count.unwrap_or(first_serial);
                let before = outgoing.credit;
                if let Some(link_credit) = flow.link_credit {
                    outgoing.credit = sender_credit(outgoing.delivery_count, peer_count, link_credit);
                }
                let was_drain = std::mem::replace(&mut outgoing.drain, flow.drain);
                if !flow.drain {
                    // An answer that is still due would eat the credit given now.
                    outgoing.drained_due = false;
                }
                let credit = outgoing.free_credit();
                (before != outgoing.credit || flow.drain || was_drain).then_some((credit, flow.drain))
            }
            LinkKind::Incoming(incoming) => {
                if let Some(count) = flow.delivery_count {
                    // A sender that moves its count ahead uses up credit (drain); a count that
                    // lags behind is older than the transfers that came meanwhile.
                    let ahead = count.wrapping_sub(incoming.delivery_count) as i32;
                    if ahead > 0 {
                        incoming.delivery_count = count;
                        incoming.credit = incoming.credit.saturating_sub(ahead.unsigned_abs());
                    }
                }
                flow.drain.then_some((incoming.credit, true))
            }
        };
        if let Some((credit, drain)) = event {
            self.push(Event::Credit { link: id, credit, drain });
        }
        if flow.echo {
            self.send_link_flow(id, false);
        }
        self.top_up_credit(id);
        event.is_some()
    }

    /// Writes a flow with both halves; `drain` as given for a sender, never with echo.
    pub(crate) fn send_link_flow(&mut self, id: LinkId, drain: bool) {
        let Some(link) = self.links.get(id.0) else { return };
        if link.state != LinkState::Attached {
            return;
        }
        let Some(session) = self.sessions.get_mut(link.session.0) else { return };
        let (delivery_count, link_credit, available) = match &link.kind {
            LinkKind::Incoming(incoming) => (incoming.delivery_count, incoming.credit, None),
            LinkKind::Outgoing(outgoing) => {
                (outgoing.delivery_count, outgoing.credit, Some(outgoing.available))
            }
        };
        let flow = Flow {
            handle: link.local_handle,
            delivery_count: Some(delivery_count),
            link_credit: Some(link_credit),
            available,
            drain,
            ..session.flow()
        };
        session.write(&mut self.outbox, &Performative::Flow(flow));
    }

    /// Grants credit on a link on which the peer sends: `credit` deliveries from now on. Ends
    /// `set_credit_auto`. Nothing happens on other or ended links.
    pub fn set_credit(&mut self, link: LinkId, credit: u32) {
        self.flow(link, credit, false);
    }

    /// As `set_credit`, with `drain`: the peer is asked to use the credit up at once. Its answer
    /// is reported as [`Event::Credit`] with `drain`.
    pub fn flow(&mut self, link: LinkId, credit: u32, drain: bool) {
        if self.is_closing() {
            return;
        }
        let attached = self.links.get_mut(link.0).filter(|link| link.state == LinkState::Attached);
        let Some(incoming) = attached.and_then(Link::as_incoming) else { return };
        incoming.auto_credit = None;
        incoming.grant(credit);
        self.send_link_flow(link, drain);
    }

    /// Keeps `window` deliveries of credit on a link on which the peer sends: granted now, and
    /// topped up whenever half is used, but never beyond the bound of unsettled deliveries.
    pub fn set_credit_auto(&mut self, link: LinkId, window: u32) {
        if self.is_closing() {
            return;
        }
        let attached = self.links.get_mut(link.0).filter(|link| link.state == LinkState::Attached);
        let Some(incoming) = attached.and_then(Link::as_incoming) else { return };
        incoming.auto_credit = Some(window);
        incoming.grant(window);
        self.send_link_flow(link, false);
    }

    /// Tops up credit that `set_credit_auto` promised, if half of it is used.
    pub(crate) fn top_up_credit(&mut self, id: LinkId) {
        let unsettled_max = self.config.limits.unsettled_per_link_max;
        let Some(link) = self.links.get_mut(id.0) else { return };
        if link.state != LinkState::Attached {
            return;
        }
        let room = unsettled_max.saturating_sub(link.unsettled);
        let Some(incoming) = link.as_incoming() else { return };
        let Some(window) = incoming.auto_credit else { return };
        let target = window.min(room);
        if incoming.credit <= window / 2 && target > incoming.credit {
            incoming.grant(target);
            self.send_link_flow(id, false);
        }
    }

    /// Says that nothing more is available for a receiver that drains: the rest of its credit is
    /// used up. Answers even if no credit is left. Deliveries that wait are sent before.
    pub fn drained(&mut self, link: LinkId) {
        if self.is_closing() {
            return;
        }
        let attached = self.links.get_mut(link.0).filter(|link| link.state == LinkState::Attached);
        let Some(outgoing) = attached.and_then(Link::as_outgoing) else { return };
        if outgoing.queued > 0 || outgoing.sending {
            outgoing.drained_due = true;
            return;
        }
        outgoing.drained_due = false;
        outgoing.drain = false;
        outgoing.delivery_count = outgoing.delivery_count.wrapping_add(outgoing.credit);
        outgoing.credit = 0;
        self.send_link_flow(link, true);
    }

    /// How many messages wait for a receiver; stated in the next flow of the link.
    pub fn set_available(&mut self, link: LinkId, available: u32) {
        if let Some(outgoing) = self.links.get_mut(link.0).and_then(Link::as_outgoing) {
            outgoing.available = available;
        }
    }

    /// The AMQP session's window or the outbox let messages pass again: says so for all links
    /// with credit but `except`.
    pub(crate) fn report_credit(&mut self, session: AmqpSessionId, except: Option<LinkId>) {
        let Some(entry) = self.sessions.get(session.0) else { return };
        for &id in &entry.links {
            let Some(link) = self.links.get(id.0) else { continue };
            if link.state != LinkState::Attached || Some(id) == except {
                continue;
            }
            if let LinkKind::Outgoing(outgoing) = &link.kind
                && outgoing.free_credit() > 0
            {
                let credit = outgoing.free_credit();
                self.work += 1;
                self.events.push_back(Event::Credit { link: id, credit, drain: outgoing.drain });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sender_credit;

    #[test]
    fn credit_counts_what_is_under_way_and_wraps() {
        assert_eq!(sender_credit(0, 0, 10), 10);
        assert_eq!(sender_credit(2, u32::MAX, 10), 7);
        assert_eq!(sender_credit(5, 0, 3), 0);
        assert_eq!(sender_credit(0, 5, 3), 3);
        assert_eq!(sender_credit(1, 0, u32::MAX), u32::MAX - 1);
    }
}
