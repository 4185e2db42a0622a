//! Requests to `$cbs` and `$management`.

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::{
    LinkId,
    message::{Properties, encode_value_message},
    types::{DeliveryState, Map, Outcome as Terminal, Role, Target, TargetTerminus, Value},
};

use super::{Client, links::Delivery};
use crate::{ANSWER, Failed, Message, Outcome, attach};

/// Credit for responses.
const RESPONSE_CREDIT: u32 = 100;

/// A pair of links to a node that answers requests.
#[derive(Clone, Debug)]
pub(super) struct Node {
    requests: LinkId,
    responses: LinkId,
    reply_to: Box<str>,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// status-code or statusCode
    pub status: i32,
    /// status-description or statusDescription
    pub description: String,
    /// error-condition or errorCondition; empty if absent
    pub condition: String,
    /// The amqp-value body.
    pub body: Value,
}

impl Response {
    fn read(message: &Message) -> Outcome<Self> {
        let property = |names: [&str; 2]| names.iter().find_map(|name| message.property(name));
        let status = match property(["status-code", "statusCode"]) {
            Some(Value::Int(status)) => *status,
            other => return Err(Failed::new(format!("a response with the status {other:?}"))),
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_text).unwrap_or_default().to_owned();
        Ok(Self {
            status,
            description: text(property(["status-description", "statusDescription"])),
            condition: text(property(["error-condition", "errorCondition"])),
            body: message.value.clone().unwrap_or_default(),
        })
    }

    /// An entry of the body.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Value> {
        let Value::Map(map) = &self.body else { return None };
        map.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
    }

    /// The response, if its status is 200 or 202.
    ///
    /// # Errors
    /// With the response otherwise.
    pub fn ok(self) -> Outcome<Self> {
        if matches!(self.status, 200 | 202) { Ok(self) } else { Err(Failed::new(format!("{self:?}"))) }
    }

    /// Status and condition, for comparisons.
    #[must_use]
    pub fn verdict(&self) -> (i32, &str) {
        (self.status, &self.condition)
    }
}

impl Client {
    fn node(&mut self, address: &str) -> Outcome<Node> {
        if let Some(node) = self.nodes.get(address) {
            return Ok(node.clone());
        }
        let reply_to = self.unique_name("reply-to");
        let (requests, _) = self.attach(attach::sender(&format!("{reply_to}-requests"), address))?;
        let mut responses = attach::receiver(&format!("{reply_to}-responses"), address);
        debug_assert_eq!(responses.role, Role::Receiver);
        responses.rcv_settle_mode = None;
        let target = Target { address: Some(Value::string(&reply_to)), ..Target::default() };
        responses.target = Some(TargetTerminus::Target(target));
        let (responses, _) = self.attach(responses)?;
        self.engine.set_credit_auto(responses, RESPONSE_CREDIT);
        let node = Node { requests, responses, reply_to };
        self.nodes.insert(address.into(), node.clone());
        Ok(node)
    }

    /// Sends a message with a request to a node, and waits for the response to it.
    ///
    /// # Errors
    /// When none comes.
    pub fn request(
        &mut self,
        address: &str,
        application_properties: &[(Box<str>, Value)],
        body: &Value,
    ) -> Outcome<Response> {
        let node = self.node(address)?;
        self.names += 1;
        let id = Value::Ulong(u64::from(self.names));
        let properties = Properties {
            message_id: Some(id.clone()),
            reply_to: Some(Value::string(&node.reply_to)),
            ..Properties::default()
        };
        self.request_raw(address, &id, encode_value_message(Some(&properties), application_properties, body))
    }

    /// Sends any bytes as a request to a node, and waits for the response with the
    /// correlation-id `id`.
    ///
    /// # Errors
    /// When none comes.
    pub fn request_raw(&mut self, address: &str, id: &Value, message: Bytes) -> Outcome<Response> {
        let node = self.node(address)?;
        self.start_send(node.requests, 0, true, message)?;
        loop {
            let delivery = self.response(&node, ANSWER)?;
            if delivery.message.properties.correlation_id.as_ref() == Some(id) {
                return Response::read(&delivery.message);
            }
        }
    }

    /// Sends any bytes as an unsettled request; gives the state that the broker gives it, or the
    /// status of a response without correlation-id, whatever comes first.
    ///
    /// # Errors
    /// When nothing comes.
    pub fn request_garbage(&mut self, address: &str, message: Bytes) -> Outcome<Result<DeliveryState, i32>> {
        let node = self.node(address)?;
        let delivery = self.start_send(node.requests, 0, false, message)?;
        let came = self.until("any answer", ANSWER, |seen| {
            if let Some(state) = seen.outcomes.remove(&delivery) {
                return Some(Ok(state));
            }
            seen.deliveries.get_mut(&node.responses)?.pop_front().map(Err)
        })?;
        match came {
            Ok(state) => Ok(Ok(state)),
            Err(arrived) => Ok(Err(Response::read(&Delivery::new(&arrived)?.message)?.status)),
        }
    }

    fn response(&mut self, node: &Node, within: Duration) -> Outcome<Delivery> {
        let responses = node.responses;
        let requests = node.requests;
        let arrived = self.until("a response", within, |seen| {
            if let Some(arrived) =
                seen.deliveries.get_mut(&responses).and_then(std::collections::VecDeque::pop_front)
            {
                return Some(Ok(arrived));
            }
            let error = seen.detached.get(&requests).or_else(|| seen.detached.get(&responses))?;
            Some(Err(Failed::new(format!("the link ended before a response: {error:?}"))))
        })??;
        let delivery = Delivery::new(&arrived)?;
        if !delivery.settled {
            self.settle_later(&[&delivery], &DeliveryState::Outcome(Terminal::Accepted), true);
        }
        Ok(delivery)
    }

    /// An operation of a queue's `$management` node.
    ///
    /// # Errors
    /// When there is no response.
    pub fn manage(&mut self, queue: &str, operation: &str, body: Map) -> Outcome<Response> {
        self.manage_with(queue, operation, body, Vec::new())
    }

    /// The same, with further options (application-properties).
    ///
    /// # Errors
    /// When there is no response.
    pub fn manage_with(
        &mut self,
        queue: &str,
        operation: &str,
        body: Map,
        options: Vec<(Box<str>, Value)>,
    ) -> Outcome<Response> {
        let mut properties = vec![("operation".into(), Value::string(&format!("com.microsoft:{operation}")))];
        properties.extend(options);
        self.request(&format!("{queue}/$management"), &properties, &Value::Map(body))
    }

    /// Puts a token for an audience.
    ///
    /// # Errors
    /// When there is no response.
    pub fn put_token(&mut self, audience: &str, token: &str) -> Outcome<Response> {
        self.request(
            "$cbs",
            &[
                ("operation".into(), Value::string("put-token")),
                ("type".into(), Value::string("servicebus.windows.net:sastoken")),
                ("name".into(), Value::string(audience)),
            ],
            &Value::string(token),
        )
    }
}

impl Client {
    /// The same request many times, without waiting for one response before the next; the
    /// responses in order of the requests.
    ///
    /// # Errors
    /// When a response does not come.
    pub fn manage_many(
        &mut self,
        queue: &str,
        operation: &str,
        body: &Map,
        count: usize,
    ) -> Outcome<Vec<Response>> {
        let address = format!("{queue}/$management");
        let node = self.node(&address)?;
        let operation = [("operation".into(), Value::string(&format!("com.microsoft:{operation}")))];
        for id in 0..count as u64 {
            let properties = Properties {
                message_id: Some(Value::Ulong(id)),
                reply_to: Some(Value::string(&node.reply_to)),
                ..Properties::default()
            };
            let request = encode_value_message(Some(&properties), &operation, &Value::Map(body.clone()));
            self.start_send(node.requests, 0, true, request)?;
        }
        let mut responses = vec![None; count];
        for _ in 0..count {
            let delivery = self.response(&node, ANSWER)?;
            let id = delivery.message.properties.correlation_id.as_ref().and_then(Value::as_u64);
            let slot = id.and_then(|id| responses.get_mut(usize::try_from(id).ok()?));
            let slot = slot.ok_or_else(|| Failed::new("a response to nothing"))?;
            *slot = Some(Response::read(&delivery.message)?);
        }
        responses
            .into_iter()
            .map(|response| response.ok_or_else(|| Failed::new("two responses to one request")))
            .collect()
    }
}
