//! The SASL layer (5.3). The server's decisions are the driver's.

use bytes::Bytes;

use crate::{
    codec,
    connection::{Connection, State},
    event::{CloseReason, Event, SaslCode},
    types::{SaslFrame, SaslInit, SaslMechanisms, SaslOutcome},
    violation::Violation,
};

/// What the SASL exchange waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SaslState {
    /// Server role.
    Init,
    /// Server role: the driver has to say outcome or challenge.
    Driver,
    /// Server role: a challenge was sent.
    Response,
    /// Client role.
    Mechanisms,
    /// Client role.
    Outcome,
}

impl Connection {
    /// The peer's SASL header came.
    pub(crate) fn start_sasl(&mut self) {
        if self.client_sasl().is_some() {
            self.set_state(State::Sasl(SaslState::Mechanisms));
            return;
        }
        let frame = SaslFrame::Mechanisms(SaslMechanisms {
            sasl_server_mechanisms: self.config.sasl.mechanisms.clone(),
        });
        self.outbox.direct().extend_from_slice(&crate::connection::SASL_HEADER);
        self.write_sasl(&frame);
        self.set_state(State::Sasl(SaslState::Init));
    }

    fn write_sasl(&mut self, frame: &SaslFrame) {
        codec::encode_sasl(self.outbox.direct(), frame);
    }

    pub(crate) fn write_sasl_outcome(&mut self, code: SaslCode) {
        self.write_sasl(&SaslFrame::Outcome(SaslOutcome { code: code as u8, additional_data: None }));
    }

    fn sasl_state(&self) -> Option<SaslState> {
        match self.state() {
            State::Sasl(state) => Some(*state),
            _ => None,
        }
    }

    pub(crate) fn on_sasl_frame(&mut self, frame: SaslFrame) {
        match (self.sasl_state(), frame) {
            (Some(SaslState::Init), SaslFrame::Init(init)) => self.on_sasl_init(init),
            (Some(SaslState::Response), SaslFrame::Response(response)) => {
                self.set_state(State::Sasl(SaslState::Driver));
                self.push(Event::SaslResponse(response));
            }
            (Some(SaslState::Mechanisms), SaslFrame::Mechanisms(offer)) => {
                self.choose_mechanism(&offer);
            }
            (Some(SaslState::Outcome), SaslFrame::Outcome(outcome)) => {
                self.push(Event::SaslOutcome(outcome.code));
                if outcome.code == SaslCode::Ok as u8 {
                    self.start_amqp();
                    self.set_state(State::AwaitAmqpHeader);
                } else {
                    self.finish(CloseReason::SaslFailed);
                }
            }
            _ => self.fail(Violation::SaslOrder.to_error()),
        }
    }

    fn on_sasl_init(&mut self, init: SaslInit) {
        let SaslInit { mechanism, initial_response, hostname } = init;
        self.set_state(State::Sasl(SaslState::Driver));
        if self.config.sasl.mechanisms.contains(&mechanism) {
            self.push(Event::SaslInit { mechanism, initial_response, hostname });
        } else {
            self.sasl_outcome(SaslCode::Auth);
        }
    }

    fn choose_mechanism(&mut self, offer: &SaslMechanisms) {
        let Some(sasl) = self.client_sasl().cloned() else { return };
        if !offer.sasl_server_mechanisms.contains(&sasl.mechanism) {
            self.finish(CloseReason::SaslFailed);
            return;
        }
        let init = SaslFrame::Init(SaslInit {
            mechanism: sasl.mechanism,
            initial_response: sasl.initial_response,
            hostname: self.config.hostname.clone(),
        });
        self.write_sasl(&init);
        self.set_state(State::Sasl(SaslState::Outcome));
    }

    /// Server role: answers [`Event::SaslInit`] or [`Event::SaslResponse`]. After anything but
    /// [`SaslCode::Ok`] the connection is over. What the peer sent ahead is dealt with now.
    pub fn sasl_outcome(&mut self, code: SaslCode) {
        if self.sasl_state() != Some(SaslState::Driver) {
            return;
        }
        self.write_sasl_outcome(code);
        if code == SaslCode::Ok {
            self.set_state(State::AwaitAmqpHeader);
            self.process_received();
        } else {
            self.finish(CloseReason::SaslFailed);
        }
    }

    /// Server role: answers [`Event::SaslInit`] or [`Event::SaslResponse`] with a challenge.
    pub fn sasl_challenge(&mut self, challenge: Bytes) {
        if self.sasl_state() == Some(SaslState::Driver) {
            self.write_sasl(&SaslFrame::Challenge(challenge));
            self.set_state(State::Sasl(SaslState::Response));
            self.process_received();
        }
    }
}
