//! What the peer sends: frames that mean something, with numbers that often do.

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    codec::{encode_sasl, encode_transfer},
    types::{
        Begin, Close, DeliveryState, Detach, Disposition, End, Error, Flow, Modified, Outcome, Performative,
        Role, SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, Symbol, Transfer,
    },
};

use super::Harness;
use crate::targets::attach::{begin, open, plain_attach};

impl Harness<'_> {
    fn channel(&mut self) -> u16 {
        match self.input.u8() {
            choice @ 0..=247 => u16::from(choice % 3),
            _ => self.input.u16(),
        }
    }

    fn handle(&mut self) -> u32 {
        match self.input.u8() {
            choice @ 0..=247 => u32::from(choice % 4),
            _ => self.input.u32(),
        }
    }

    pub(super) fn peer_frame(&mut self) {
        let channel = self.channel();
        let performative = match self.input.u8() % 16 {
            0 => {
                let remote_channel = self.input.bool().then(|| u16::from(self.input.u8() % 3));
                let mut begin = Begin { remote_channel, ..begin() };
                begin.next_outgoing_id = self.input.serial(0);
                begin.incoming_window = self.input.serial(0);
                begin.handle_max = self.input.serial(2);
                Performative::Begin(Box::new(begin))
            }
            1 | 2 => {
                let role = if self.input.bool() { Role::Receiver } else { Role::Sender };
                let name = ["s", "r", "a", "b"][self.input.below(4)];
                let handle = self.handle();
                let mut attach = plain_attach(role, name, handle);
                let choice = self.input.u8();
                if choice & 1 == 1 {
                    attach.initial_delivery_count = Some(self.input.serial(0));
                }
                if choice & 2 == 2 {
                    attach.source = None;
                    attach.target = None;
                }
                Performative::Attach(Box::new(attach))
            }
            3..=6 => self.peer_flow(),
            7..=10 => return self.peer_transfer(channel),
            11 | 12 => {
                let role = if self.input.bool() { Role::Receiver } else { Role::Sender };
                let first = self.input.serial(self.first_serial);
                let last = self.input.bool().then(|| first.wrapping_add(self.input.serial(0)));
                Performative::Disposition(Disposition {
                    role,
                    first,
                    last,
                    settled: self.input.bool(),
                    state: self.state(),
                    batchable: false,
                })
            }
            13 => {
                let handle = self.handle();
                Performative::Detach(Detach { handle, closed: self.input.bool(), error: self.error() })
            }
            14 => Performative::End(End { error: self.error() }),
            _ => match self.input.u8() % 4 {
                0 => Performative::Close(Close { error: self.error() }),
                1 => Performative::Open(Box::new(open())),
                _ => Performative::Begin(Box::new(begin())),
            },
        };
        self.frame(channel, performative);
    }

    fn peer_flow(&mut self) -> Performative {
        let choice = self.input.u8();
        let link_credit = (choice & 1 == 1).then(|| self.input.serial(0));
        self.granted += u64::from(link_credit.unwrap_or(0));
        Performative::Flow(Flow {
            next_incoming_id: (choice & 2 == 2).then(|| self.input.serial(self.first_serial)),
            incoming_window: self.input.serial(0),
            next_outgoing_id: self.input.serial(0),
            outgoing_window: 5,
            handle: (choice & 4 == 4).then(|| self.handle()),
            delivery_count: (choice & 8 == 8).then(|| self.input.serial(self.first_serial)),
            link_credit,
            available: None,
            drain: choice & 16 == 16,
            echo: choice & 32 == 32,
        })
    }

    fn peer_transfer(&mut self, channel: u16) {
        let choice = self.input.u8();
        let handle = self.handle();
        let transfer = Transfer {
            handle,
            delivery_id: (choice & 1 == 0).then(|| self.input.serial(0)),
            delivery_tag: (choice & 1 == 0).then(|| Bytes::from_static(b"tag")),
            message_format: Some(0),
            settled: (choice & 2 == 2).then_some(choice & 4 == 4),
            more: choice & 8 == 8,
            rcv_settle_mode: None,
            state: if choice & 16 == 16 { self.state() } else { None },
            resume: choice & 32 == 32,
            aborted: choice & 64 == 64,
            batchable: false,
        };
        let size = if choice & 128 == 128 { self.input.below(256) * 8 } else { self.input.below(16) };
        let mut out = BytesMut::new();
        encode_transfer(&mut out, channel, &transfer, &[&vec![0x70; size]]);
        self.feed(&out);
    }

    pub(super) fn peer_sasl(&mut self) {
        let frame = match self.input.u8() % 5 {
            0 => SaslFrame::Mechanisms(SaslMechanisms {
                sasl_server_mechanisms: vec![Symbol::from(["PLAIN", "X"][self.input.below(2)])],
            }),
            1 => SaslFrame::Init(SaslInit {
                mechanism: Symbol::from(["PLAIN", "ANONYMOUS", "X"][self.input.below(3)]),
                initial_response: None,
                hostname: None,
            }),
            2 => SaslFrame::Challenge(Bytes::from_static(b"?")),
            3 => SaslFrame::Response(Bytes::from_static(b"!")),
            _ => SaslFrame::Outcome(SaslOutcome { code: self.input.u8() % 6, additional_data: None }),
        };
        let mut out = BytesMut::new();
        encode_sasl(&mut out, &frame);
        self.feed(&out);
    }

    pub(super) fn state(&mut self) -> Option<DeliveryState> {
        Some(DeliveryState::Outcome(match self.input.u8() % 6 {
            0 => return None,
            1 => return Some(DeliveryState::Received { section_number: 1, section_offset: 2 }),
            2 => Outcome::Accepted,
            3 => Outcome::Released,
            4 => Outcome::Rejected(self.error()),
            _ => Outcome::Modified(Modified { delivery_failed: Some(true), ..Modified::default() }),
        }))
    }

    pub(super) fn error(&mut self) -> Option<Error> {
        self.input.bool().then(|| Error::new("amqp:internal-error", "because"))
    }
}
