//! Frames to where they belong.

use bytes::Bytes;

use super::{Connection, lifecycle::State};
use crate::{
    codec::Frame,
    types::Performative,
    violation::{Scope, Violation},
};

impl Connection {
    pub(crate) fn on_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Heartbeat => {}
            Frame::Sasl(frame) => self.on_sasl_frame(frame),
            Frame::Amqp { channel, performative, payload } => {
                if let Err(violation) = self.on_performative(channel, performative, payload) {
                    self.on_violation(channel, violation);
                }
            }
        }
    }

    fn on_violation(&mut self, channel: u16, violation: Violation) {
        let session = match violation.scope() {
            Scope::Connection => None,
            Scope::AmqpSession | Scope::Link => self.remote_channels.get(channel.into()),
        };
        match session {
            Some(session) => self.fail_session(session, Some(violation.to_error())),
            None => self.fail(violation.to_error()),
        }
    }

    fn on_performative(
        &mut self,
        channel: u16,
        performative: Performative,
        payload: Bytes,
    ) -> Result<(), Violation> {
        match (&self.state, performative) {
            // Until open is exchanged there is channel 0 only (2.4.1).
            (State::AwaitOpen, _) if channel > 0 => Err(Violation::ChannelOverMax),
            (State::AwaitOpen, Performative::Open(open)) => {
                self.on_open(open);
                Ok(())
            }
            (State::AwaitOpen, _) => Err(Violation::OpenExpected),
            (State::CloseSent(_) | State::Open, Performative::Close(close)) => {
                self.on_close(close);
                Ok(())
            }
            // After close everything but the peer's close is ignored (2.4.3).
            (State::CloseSent(_), _) => Ok(()),
            (_, performative) => self.on_session_performative(channel, performative, payload),
        }
    }

    fn on_session_performative(
        &mut self,
        channel: u16,
        performative: Performative,
        payload: Bytes,
    ) -> Result<(), Violation> {
        if channel > self.config.channel_max {
            return Err(Violation::ChannelOverMax);
        }
        match performative {
            Performative::Begin(begin) => self.on_begin(channel, &begin),
            Performative::Attach(attach) => self.on_attach(channel, attach),
            Performative::Flow(flow) => self.on_flow(channel, &flow),
            Performative::Transfer(transfer) => self.on_transfer(channel, transfer, payload),
            Performative::Disposition(disposition) => self.on_disposition(channel, disposition),
            Performative::Detach(detach) => self.on_detach(channel, detach),
            Performative::End(end) => self.on_end(channel, end),
            Performative::Open(_) | Performative::Close(_) => Err(Violation::OpenTwice),
        }
    }
}
