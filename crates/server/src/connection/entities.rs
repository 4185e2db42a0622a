//! Entities that links are bound to: how they are found, and what becomes of links when they
//! change or go. Receivers are ended by the core; the others are the connection's own.

use std::sync::Arc;

use lockstep_amqp::LinkId;
use lockstep_broker::runtime::EntityInfo;
use lockstep_model::{EntityAddress, EntityId, EntityName, Feature, Refusal, Right, SubQueue};

use super::{Connection, LinkBinding, request_links::NodeKey};

impl Connection {
    /// The entity of an address.
    pub(super) fn entity(&self, address: &EntityAddress) -> Result<Arc<EntityInfo>, Refusal> {
        let found = self.broker().and_then(|broker| broker.client().lookup(&address.entity));
        found.ok_or_else(|| self.missing(address))
    }

    fn missing(&self, address: &EntityAddress) -> Refusal {
        let subscription = address.subscription();
        let topic = subscription.map_or(address.entity.as_str(), |(topic, _)| topic);
        let topics = self.namespace_context().map(|namespace| &namespace.config.topics_left_out);
        let is_left_out = |name: &String| name.eq_ignore_ascii_case(topic);
        if subscription.is_some() || topics.is_some_and(|topics| topics.iter().any(is_left_out)) {
            // The name alone tells that a later feature was meant.
            Refusal::EntityOfFeature(Feature::Topics)
        } else {
            Refusal::EntityNotFound
        }
    }

    /// The entity of an address, for a client that has shown a credential at all: others are not
    /// told what exists. From now on the connection is told when the entity changes.
    pub(super) fn entity_for(
        &self,
        address: &EntityAddress,
        right: Right,
    ) -> Result<Arc<EntityInfo>, Refusal> {
        if !self.authorizer.is_authenticated() {
            return Err(Refusal::Unauthorized(right));
        }
        let found = self.broker().and_then(|broker| broker.watch(&address.entity));
        found.ok_or_else(|| self.missing(address))
    }

    /// An entity has changed or is gone: senders follow, or end as clients expect it, and so do
    /// request-response links (semantics G-11, G-82).
    pub(super) fn entity_changed(&mut self, id: EntityId, name: &EntityName) {
        let Some(broker) = self.broker() else { return };
        let found = broker.client().lookup(name).filter(|found| found.id == id);
        if found.is_none() && broker.client().lookup(name).is_none() {
            broker.unwatch(name);
        }
        let mut ended: Vec<(LinkId, Refusal)> = Vec::new();
        for (&link, binding) in &mut self.links {
            match binding {
                LinkBinding::Sender(sender) if sender.entity.id == id => match &found {
                    None => ended.push((link, Refusal::EntityNotFound)),
                    // Of one that is disabled, too: each message is refused by name. A detach that
                    // crosses a message would leave the client without an outcome.
                    Some(found) => sender.entity = Arc::clone(found),
                },
                LinkBinding::Requests(node) if found.is_none() && is_of(node.key(), id) => {
                    ended.push((link, Refusal::EntityNotFound));
                }
                LinkBinding::Responses(node) if found.is_none() && is_of(node.key(), id) => {
                    ended.push((link, Refusal::EntityNotFound));
                }
                _ => {}
            }
        }
        // In the order in which they were made, whatever the table's own.
        ended.sort_unstable_by_key(|(link, _)| *link);
        for (link, refusal) in ended {
            self.response_links.retain(|other| *other != link);
            self.end_sender_after_outcomes(link, &refusal);
        }
    }
}

fn is_of(key: NodeKey, entity: EntityId) -> bool {
    matches!(key, NodeKey::Management(id) if id.with_sub_queue(SubQueue::Main) == entity)
}
