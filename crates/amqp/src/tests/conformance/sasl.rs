//! The SASL layer, and headers of security layers (5.2, 5.3).

use bytes::{Bytes, BytesMut};

use crate::{
    CloseReason, Config, Event, SaslCode, SaslPolicy,
    codec::{self, Frame},
    tests::support::*,
    types::{SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, Symbol},
};

fn encoded(frame: &SaslFrame) -> Vec<u8> {
    let mut out = BytesMut::new();
    codec::encode_sasl(&mut out, frame);
    out.to_vec()
}

fn init_of(bytes: usize) -> SaslFrame {
    SaslFrame::Init(SaslInit {
        mechanism: Symbol::new("PLAIN"),
        initial_response: Some(Bytes::from(vec![b'x'; bytes])),
        hostname: None,
    })
}

/// A server that has offered its mechanisms.
fn offering() -> Server {
    let mut server = Server::new(config());
    server.receive_bytes(&SASL);
    server.written();
    server
}

fn failed(server: &mut Server) {
    assert_eq!(server.events(), [Event::Closed(CloseReason::SaslFailed)]);
}

/// 5.3.1: bytes 6 and 7 and the extended header of a SASL frame mean nothing.
#[test]
fn channel_and_extended_header_of_a_sasl_frame_are_ignored() {
    let plain = encoded(&init_of(10));
    let mut odd = (plain.len() as u32 + 4).to_be_bytes().to_vec();
    odd.extend_from_slice(&[3, 1, 0xab, 0xcd, 1, 2, 3, 4]);
    odd.extend_from_slice(&plain[8..]);
    let mut server = offering();
    server.receive_bytes(&odd);
    assert!(matches!(&server.events()[..], [Event::SaslInit { .. }]));
}

/// 5.3.1
#[test]
fn a_sasl_frame_holds_exactly_one_value() {
    let mut server = offering();
    server.receive_bytes(&[0, 0, 0, 8, 2, 1, 0, 0]);
    failed(&mut server);
    let mut two = encoded(&init_of(10));
    two.extend_from_slice(&[0x00, 0x53, 0x41, 0x45]);
    let size = two.len() as u32;
    two[..4].copy_from_slice(&size.to_be_bytes());
    let mut server = offering();
    server.receive_bytes(&two);
    failed(&mut server);
}

/// 5.3.1: larger ones are taken than the 512 bytes of the standard; none is written.
#[test]
fn sasl_frames_are_taken_up_to_8192_bytes_and_written_up_to_512() {
    let overhead = encoded(&init_of(1_000)).len() - 1_000;
    let mut server = offering();
    server.receive_bytes(&encoded(&init_of(8_192 - overhead)));
    assert!(matches!(&server.events()[..], [Event::SaslInit { .. }]));
    let mut server = offering();
    server.receive_bytes(&encoded(&init_of(8_193 - overhead)));
    failed(&mut server);
    let mut server = Server::new(config());
    server.receive_bytes(&SASL);
    assert!(server.written().len() - 8 <= 512);
}

/// 5.3.2: frames that only a server sends, and a response that nobody asked for.
#[test]
fn sasl_frames_of_the_other_role_or_out_of_turn_end_the_exchange() {
    let out_of_turn = [
        SaslFrame::Mechanisms(SaslMechanisms { sasl_server_mechanisms: vec![Symbol::new("PLAIN")] }),
        SaslFrame::Challenge(Bytes::new()),
        SaslFrame::Response(Bytes::new()),
        SaslFrame::Outcome(SaslOutcome { code: 0, additional_data: None }),
    ];
    for frame in out_of_turn {
        let mut server = offering();
        server.receive_bytes(&encoded(&frame));
        failed(&mut server);
    }
    let mut server = offering();
    server.receive_bytes(&encoded(&init_of(3)));
    server.events();
    server.engine.sasl_challenge(Bytes::from_static(b"?"));
    server.receive_bytes(&encoded(&init_of(3)));
    failed(&mut server);
}

/// 5.3.2: no AMQP frame comes within the SASL layer.
#[test]
fn an_amqp_frame_in_the_sasl_layer_ends_it() {
    let mut server = offering();
    server.receive(Script::default().open());
    failed(&mut server);
}

/// 5.3.2: after the outcome the layer below begins with its own header, and there is no second
/// SASL layer.
#[test]
fn after_the_outcome_the_amqp_header_comes_and_no_other() {
    for (header, taken) in [(AMQP, true), (SASL, false)] {
        let mut server = offering();
        server.receive_bytes(&encoded(&init_of(3)));
        server.events();
        server.engine.sasl_outcome(SaslCode::Ok);
        server.written();
        server.receive(Script::default().header(header).open());
        let events = server.events();
        assert_eq!(matches!(&events[..], [Event::Opened(_)]), taken, "{events:?}");
        assert_eq!(server.written()[..8], AMQP);
    }
}

/// 5.3.3.1: a list without a mechanism cannot be sent; then there is no SASL layer.
#[test]
fn without_mechanisms_the_sasl_header_is_answered_by_amqps() {
    let none = Config { sasl: SaslPolicy { mechanisms: Vec::new(), required: false }, ..config() };
    let mut server = Server::new(none);
    server.receive_bytes(&SASL);
    assert_eq!(server.written()[..], AMQP);
    assert!(matches!(&server.events()[..], [Event::Closed(CloseReason::Local(Some(_)))]));
}

/// 5.3.3.6: every code that is not ok ends the connection.
#[test]
fn every_failed_outcome_is_told_and_ends_the_connection() {
    for (code, number) in
        [(SaslCode::Auth, 1), (SaslCode::Sys, 2), (SaslCode::SysPerm, 3), (SaslCode::SysTemp, 4)]
    {
        let mut server = offering();
        server.receive_bytes(&encoded(&init_of(3)));
        server.events();
        server.engine.sasl_outcome(code);
        let mut written = BytesMut::from(&SASL[..]);
        written.extend_from_slice(&server.written());
        let frames = decode(&written);
        assert!(
            matches!(&frames[..], [Frame::Sasl(SaslFrame::Outcome(outcome))] if outcome.code == number),
            "{frames:?}"
        );
        failed(&mut server);
    }
}
