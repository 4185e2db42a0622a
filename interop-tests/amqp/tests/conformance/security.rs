//! SASL (5.3).

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    codec::{self, Frame},
    types::{Performative, SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, Symbol},
};
use lockstep_interop_amqp::{AMQP_HEADER, ANSWER, Failed, HOST, Outcome, RawConnection, SASL_HEADER};

use crate::suite::Scenario;
use crate::{authenticated, checks, open};

checks![conformance_security:
    mechanisms_come_first_and_fit_in_the_smallest_frame,
    a_mechanism_that_is_not_offered_gets_outcome_auth_and_the_end,
    channel_and_extended_header_of_a_sasl_frame_mean_nothing,
    a_sasl_frame_holds_one_value,
    frames_of_a_server_and_amqp_frames_end_the_exchange,
    after_the_outcome_the_amqp_header_comes_and_no_other,
    sasl_and_amqp_in_one_write_are_answered_in_order,
];

fn offered(s: &Scenario) -> Outcome<(RawConnection, SaslMechanisms)> {
    let mut raw = s.broker().connect_raw()?;
    raw.write(&SASL_HEADER)?;
    raw.expect_header(SASL_HEADER)?;
    match raw.next_frame(ANSWER)? {
        Some(Frame::Sasl(SaslFrame::Mechanisms(offer))) => Ok((raw, offer)),
        other => Err(Failed::new(format!("{other:?} instead of sasl-mechanisms"))),
    }
}

fn encoded(frame: &SaslFrame) -> Vec<u8> {
    let mut out = BytesMut::new();
    codec::encode_sasl(&mut out, frame);
    out.to_vec()
}

fn init(mechanism: &str) -> Vec<u8> {
    encoded(&SaslFrame::Init(SaslInit {
        mechanism: Symbol::new(mechanism),
        initial_response: Some(Bytes::from_static(b"anonymous")),
        hostname: Some(HOST.into()),
    }))
}

/// Whatever is said before the end: an outcome that is not ok, if any.
fn expect_failed(raw: &mut RawConnection, what: &str) -> Outcome {
    loop {
        match raw.next_frame(ANSWER)? {
            None => return Ok(()),
            Some(Frame::Sasl(SaslFrame::Outcome(outcome))) if outcome.code != 0 => {}
            other => return Err(Failed::new(format!("{what}: {other:?}"))),
        }
    }
}

fn expect_ok(raw: &mut RawConnection) -> Outcome {
    match raw.next_frame(ANSWER)? {
        Some(Frame::Sasl(SaslFrame::Outcome(outcome))) if outcome.code == 0 => Ok(()),
        other => Err(Failed::new(format!("{other:?} instead of outcome 0"))),
    }
}

/// 5.3.1, 5.3.2, 5.3.3.1
fn mechanisms_come_first_and_fit_in_the_smallest_frame(s: &Scenario) -> Outcome {
    let (_raw, offer) = offered(s)?;
    assert!(!offer.sasl_server_mechanisms.is_empty());
    assert!(encoded(&SaslFrame::Mechanisms(offer)).len() <= 512);
    Ok(())
}

/// 5.3.3.2 mechanism
fn a_mechanism_that_is_not_offered_gets_outcome_auth_and_the_end(s: &Scenario) -> Outcome {
    let (mut raw, _) = offered(s)?;
    raw.write(&init("SCRAM-SHA-256"))?;
    let outcome = raw.next_frame(ANSWER)?;
    assert!(
        matches!(&outcome, Some(Frame::Sasl(SaslFrame::Outcome(outcome))) if outcome.code == 1),
        "{outcome:?}"
    );
    assert!(raw.next_frame(ANSWER)?.is_none());
    Ok(())
}

/// 5.3.1
fn channel_and_extended_header_of_a_sasl_frame_mean_nothing(s: &Scenario) -> Outcome {
    let (mut raw, _) = offered(s)?;
    let plain = init("ANONYMOUS");
    let size = u32::try_from(plain.len() + 4).unwrap_or(0).to_be_bytes();
    raw.write(&[&size[..], &[3, 1, 0xab, 0xcd, 1, 2, 3, 4], &plain[8..]].concat())?;
    expect_ok(&mut raw)
}

/// 5.3.1: none is an irrecoverable error, and so are two.
fn a_sasl_frame_holds_one_value(s: &Scenario) -> Outcome {
    let (mut raw, _) = offered(s)?;
    raw.write(&[0, 0, 0, 8, 2, 1, 0, 0])?;
    expect_failed(&mut raw, "an empty frame")?;
    let (mut raw, _) = offered(s)?;
    let mut two = init("ANONYMOUS");
    two.push(0x40);
    let size = u32::try_from(two.len()).unwrap_or(0).to_be_bytes();
    two[..4].copy_from_slice(&size);
    raw.write(&two)?;
    expect_failed(&mut raw, "two values")
}

/// 5.3.2
fn frames_of_a_server_and_amqp_frames_end_the_exchange(s: &Scenario) -> Outcome {
    let mut amqp = BytesMut::new();
    codec::encode_frame(&mut amqp, 0, &Performative::Open(Box::new(open())));
    let mechanisms = SaslMechanisms { sasl_server_mechanisms: vec![Symbol::new("PLAIN")] };
    for (what, bytes) in [
        ("mechanisms", encoded(&SaslFrame::Mechanisms(mechanisms))),
        ("challenge", encoded(&SaslFrame::Challenge(Bytes::new()))),
        ("a response to nothing", encoded(&SaslFrame::Response(Bytes::new()))),
        ("outcome", encoded(&SaslFrame::Outcome(SaslOutcome { code: 0, additional_data: None }))),
        ("open", amqp.to_vec()),
    ] {
        let (mut raw, _) = offered(s)?;
        raw.write(&bytes)?;
        expect_failed(&mut raw, what)?;
    }
    Ok(())
}

/// 5.3.2
fn after_the_outcome_the_amqp_header_comes_and_no_other(s: &Scenario) -> Outcome {
    for header in [SASL_HEADER, *b"AMQP\x00\x01\x00\x01"] {
        let mut raw = authenticated(s)?;
        raw.write(&header)?;
        assert_eq!(raw.read_to_end()?[..8], AMQP_HEADER, "{header:?}");
    }
    authenticated(s)?.open(None)?;
    Ok(())
}

/// 2.4.2, 5.3.2
fn sasl_and_amqp_in_one_write_are_answered_in_order(s: &Scenario) -> Outcome {
    let mut raw = s.broker().connect_raw()?;
    let mut out = BytesMut::from(&SASL_HEADER[..]);
    out.extend_from_slice(&init("ANONYMOUS"));
    out.extend_from_slice(&AMQP_HEADER);
    codec::encode_frame(&mut out, 0, &Performative::Open(Box::new(open())));
    raw.write(&out)?;
    raw.expect_header(SASL_HEADER)?;
    assert!(matches!(raw.next_frame(ANSWER)?, Some(Frame::Sasl(SaslFrame::Mechanisms(_)))));
    expect_ok(&mut raw)?;
    raw.expect_header(AMQP_HEADER)?;
    let open = raw.next_frame(ANSWER)?;
    assert!(
        matches!(&open, Some(Frame::Amqp { channel: 0, performative: Performative::Open(_), .. })),
        "{open:?}"
    );
    Ok(())
}
