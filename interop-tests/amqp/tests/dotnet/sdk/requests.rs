//! Pairs of request links: tokens and `$management`.

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    message::{Properties, encode_value_message},
    types::{
        Attach, Detach, End, Map, Performative, SenderSettleMode, Target, TargetTerminus, Transfer, Value,
    },
};
use lockstep_interop_amqp::{
    ANSWER, Failed, HOST, Message, Outcome, associated_link, receiver, sender, utc_millis, with_property,
};

use super::{PAIR_CREDIT, Pair, REMAINING_MILLIS, Sdk, TIMEOUT};
use crate::casts;

impl Sdk<'_> {
    /// A pair of links on an AMQP session of its own (RequestResponseAmqpLink.cs): senders without
    /// initial-delivery-count, the receiver's target named by a GUID.
    pub(super) fn pair(&mut self, node: &str, properties: &[(&str, Value)]) -> Outcome<Pair> {
        let channel = self.begin(5_000)?;
        let reply_to = self.guid().replace('-', "");
        let link = format!("duplex0:{}:{}", channel + 1, self.identifier());
        let target = Target { address: Some(Value::string(&reply_to)), ..Target::default() };
        let requests = Attach {
            snd_settle_mode: Some(SenderSettleMode::Settled),
            ..sender(&format!("{link}:sender"), node)
        };
        let responses = Attach {
            snd_settle_mode: Some(SenderSettleMode::Settled),
            rcv_settle_mode: None,
            target: Some(TargetTerminus::Target(target)),
            ..receiver(&format!("{link}:receiver"), node)
        };
        for (handle, attach) in [requests, responses].into_iter().enumerate() {
            let attach = with_property(attach, TIMEOUT, Value::Uint(REMAINING_MILLIS));
            let attach = properties
                .iter()
                .fold(attach, |attach, (key, value)| with_property(attach, key, value.clone()));
            self.raw.attach(channel, u32::try_from(handle).unwrap_or(0), attach)?;
        }
        for end in ["sender", "receiver"] {
            casts::pair_attach(&self.wait_attach(channel, &format!("{link}:{end}"), ANSWER)?);
        }
        self.wait_credit(channel)?;
        let pair = Pair { channel, reply_to, requests: 0 };
        self.flow(channel, 1, 0, PAIR_CREDIT, false)?;
        Ok(pair)
    }

    /// A settled request with the empty tag; the response with its correlation-id, whose type is
    /// the request's (`MessageId` in RequestResponseAmqpLink.cs).
    pub(crate) fn ask(
        &mut self,
        pair: &mut Pair,
        options: &[(Box<str>, Value)],
        body: &Value,
    ) -> Outcome<Message> {
        let message_id = Value::string(&format!("request{}", pair.requests + 1));
        let properties = Properties {
            message_id: Some(message_id.clone()),
            reply_to: Some(Value::string(&pair.reply_to)),
            ..Properties::default()
        };
        let message = encode_value_message(Some(&properties), options, body);
        self.ask_recorded(pair, &message)?;
        let response = self.response(pair)?;
        assert_eq!(response.properties.correlation_id, Some(message_id));
        Ok(response)
    }

    /// Sends the bytes of a request.
    pub(crate) fn ask_recorded(&mut self, pair: &mut Pair, request: &Bytes) -> Outcome {
        let transfer = Transfer {
            handle: 0,
            delivery_id: Some(pair.requests),
            delivery_tag: Some(Bytes::new()),
            message_format: Some(0),
            settled: Some(true),
            ..Transfer::default()
        };
        pair.requests += 1;
        self.transfer(pair.channel, transfer, request)
    }

    /// The next response of a pair, with one more credit for it.
    pub(crate) fn response(&mut self, pair: &Pair) -> Outcome<Message> {
        let mut payload = BytesMut::new();
        loop {
            let (settled, more, bytes) = self.next_transfer(pair.channel)?;
            if payload.is_empty() {
                assert_eq!(settled.settled, Some(true), "the link asked for settled responses");
            }
            payload.extend_from_slice(&bytes);
            if !more {
                self.flow(pair.channel, 1, pair.requests, PAIR_CREDIT, false)?;
                return Message::parse(&payload.freeze());
            }
        }
    }

    /// Puts a token that is good for so many seconds (AmqpCbsLink.cs); code and description.
    pub(crate) fn put_token(
        &mut self,
        entity: &str,
        key: Option<&str>,
        seconds: i64,
    ) -> Outcome<(i32, String)> {
        let audience = format!("amqps://{HOST}/{entity}");
        let expiry = utc_millis() / 1_000 + seconds;
        let mut token = self.s.broker().home().token("root", &audience, expiry);
        if let Some(key) = key {
            token = token.replace("skn=root", key);
        }
        let options: [(Box<str>, Value); 4] = [
            ("operation".into(), Value::string("put-token")),
            ("type".into(), Value::string("servicebus.windows.net:sastoken")),
            ("name".into(), Value::string(&audience)),
            ("expiration".into(), Value::Timestamp(expiry * 1_000)),
        ];
        let mut pair = self.cbs.take().ok_or_else(|| Failed::new("no $cbs links"))?;
        let response = self.ask(&mut pair, &options, &Value::string(&token));
        self.cbs = Some(pair);
        Ok(casts::cbs(&response?))
    }

    pub(super) fn authorize(&mut self, entity: &str) -> Outcome {
        assert_eq!(self.put_token(entity, None, 600)?.0, 202);
        Ok(())
    }

    /// The pair of `$management` links of an entity.
    pub(crate) fn management(&mut self, entity: &str) -> Outcome<Pair> {
        let node = format!("{entity}/$management");
        self.authorize(&node)?;
        self.pair(&node, &[("com.microsoft:entity-type", Value::string("entity-mgmt"))])
    }

    /// A request to `$management` (AmqpRequestMessage.cs), perhaps about a link.
    pub(crate) fn manage(
        &mut self,
        pair: &mut Pair,
        operation: &str,
        link: Option<&str>,
        body: Map,
    ) -> Outcome<casts::Answer> {
        let mut options: Vec<(Box<str>, Value)> = vec![
            ("operation".into(), Value::string(&format!("com.microsoft:{operation}"))),
            ("com.microsoft:server-timeout".into(), Value::Uint(REMAINING_MILLIS)),
            ("com.microsoft:tracking-id".into(), Value::string(&self.guid())),
        ];
        options.extend(link.map(associated_link));
        Ok(casts::management(&self.ask(pair, &options, &Value::Map(body))?))
    }

    /// Closes a pair: both links, then their AMQP session.
    pub(crate) fn close_pair(&mut self, pair: &Pair) -> Outcome {
        for handle in [0, 1] {
            self.frame(pair.channel, Performative::Detach(Detach { handle, closed: true, error: None }))?;
        }
        self.frame(pair.channel, Performative::End(End::default()))?;
        self.wait_end(pair.channel)
    }
}
