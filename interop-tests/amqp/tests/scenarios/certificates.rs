//! Clients that authenticate by a certificate (SASL EXTERNAL).

use bytes::{Bytes, BytesMut};
use lockstep_amqp::{
    codec::{self, Frame},
    types::{SaslFrame, SaslInit},
};
use lockstep_interop_amqp::{
    ANSWER, Client, Failed, HOST, Login, Outcome, RawConnection, SASL_HEADER, receiver, sender, text_message,
    utc_millis,
};

use crate::{
    suite::{Scenario, scenarios},
    tls_tunnel::{Over, TlsTunnel},
};

scenarios![
    generic_external_by_client_certificate,
    a_client_certificate_opens_what_it_is_named_for,
    a_client_certificate_counts_over_websocket,
    a_client_certificate_alone_gives_no_rights,
    a_client_certificate_of_another_authority_ends_the_handshake,
];

const UNAUTHORIZED: &str = "amqp:unauthorized-access";
const EXTERNAL: &str = "EXTERNAL";

fn tunnel(s: &Scenario, certificate: Option<&str>) -> Outcome<TlsTunnel> {
    TlsTunnel::open(s.broker(), certificate, Over::Tls)
}

/// The mechanisms that are offered, and the outcome of EXTERNAL with a response.
fn external(tunnel: &TlsTunnel, response: Option<Bytes>) -> Outcome<(Vec<String>, u8)> {
    let mut raw = RawConnection::connect(tunnel.address())?;
    raw.write(&SASL_HEADER)?;
    raw.expect_header(SASL_HEADER)?;
    let offered = match raw.next_frame(ANSWER)? {
        Some(Frame::Sasl(SaslFrame::Mechanisms(offered))) => offered.sasl_server_mechanisms,
        other => return Err(Failed::new(format!("no mechanisms: {other:?}"))),
    };
    let init =
        SaslInit { mechanism: EXTERNAL.into(), initial_response: response, hostname: Some(HOST.into()) };
    let mut out = BytesMut::new();
    codec::encode_sasl(&mut out, &SaslFrame::Init(init));
    raw.write(&out)?;
    match raw.next_frame(ANSWER)? {
        Some(Frame::Sasl(SaslFrame::Outcome(outcome))) => {
            Ok((offered.iter().map(|mechanism| mechanism.as_str().to_owned()).collect(), outcome.code))
        }
        other => Err(Failed::new(format!("no outcome: {other:?}"))),
    }
}

fn send_and_receive(client: &mut Client, queue: &str) -> Outcome {
    let link = client.sender(queue)?;
    client.send(link, text_message("m", None))?;
    let link = client.receiver(queue, 1)?;
    let delivery = client.receive(link)?;
    assert_eq!(delivery.text(), "m");
    client.complete(&delivery)
}

fn generic_external_by_client_certificate(s: &Scenario) -> Outcome {
    let known = tunnel(s, Some("client"))?;
    let mut client = Client::connect(known.address(), Login::external(b""))?;
    send_and_receive(&mut client, s.queue())?;
    client.close()?;
    let all = ["MSSBCBS", "PLAIN", "ANONYMOUS", EXTERNAL];
    for own in [None, Some(&b""[..]), Some(b"CN=worker")] {
        assert_eq!(external(&known, own.map(Bytes::from_static))?, (all.map(str::to_owned).to_vec(), 0));
    }
    // Whoever names somebody else is not taken at the certificate's word.
    for other in [&b"CN=root"[..], b"worker", b"\xff"] {
        assert_eq!(external(&known, Some(Bytes::from_static(other)))?.1, 1, "{other:?}");
    }
    let stranger = tunnel(s, Some("stranger"))?;
    assert_eq!(external(&stranger, None)?, (all.map(str::to_owned).to_vec(), 1));
    // Without a certificate it is neither offered nor taken.
    let nobody = tunnel(s, None)?;
    assert_eq!(external(&nobody, None)?, (all[..3].iter().map(ToString::to_string).collect(), 1));
    Ok(())
}

fn a_client_certificate_opens_what_it_is_named_for(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let tunnel = tunnel(s, Some("auditor"))?;
    let mut client = Client::connect(tunnel.address(), Login::external(b"auditor.example"))?;
    let link = client.receiver(queue, 1)?;
    client.detach(link)?;
    assert_eq!(client.refused(sender("s", queue))?.0, UNAUTHORIZED);
    assert_eq!(client.refused(receiver("r", "generic_external_by_client_certificate"))?.0, UNAUTHORIZED);
    // A token adds to it, and takes nothing away.
    let audience = format!("sb://{HOST}/{queue}");
    let token = s.broker().home().token("send-only", &audience, utc_millis() / 1_000 + 60);
    client.put_token(&audience, &token)?.ok()?;
    send_and_receive(&mut client, queue)?;
    client.close()?;
    // Another namespace gives it nothing.
    let login = Login::external(b"").host("other.servicebus.windows.net");
    assert!(Client::connect(tunnel.address(), login).is_err());
    Ok(())
}

fn a_client_certificate_counts_over_websocket(s: &Scenario) -> Outcome {
    let tunnel = TlsTunnel::open(s.broker(), Some("client"), Over::WebSocketTls)?;
    let mut client = Client::connect(tunnel.address(), Login::external(b""))?;
    send_and_receive(&mut client, s.queue())?;
    client.close()?;
    let stranger = TlsTunnel::open(s.broker(), Some("stranger"), Over::WebSocketTls)?;
    assert_eq!(external(&stranger, None)?.1, 1);
    Ok(())
}

fn a_client_certificate_alone_gives_no_rights(s: &Scenario) -> Outcome {
    let tunnel = tunnel(s, Some("client"))?;
    for login in [Login::without_sasl(), Login::anonymous()] {
        let mut client = Client::connect(tunnel.address(), login)?;
        assert_eq!(client.refused(sender("s", s.queue()))?.0, UNAUTHORIZED);
        assert_eq!(client.refused(receiver("r", s.queue()))?.0, UNAUTHORIZED);
        client.close()?;
    }
    // Nor over plain TCP, where there is none.
    let login = Login::external(b"CN=worker");
    assert!(Client::connect(s.broker().address(), login).is_err());
    Ok(())
}

fn a_client_certificate_of_another_authority_ends_the_handshake(s: &Scenario) -> Outcome {
    let failure = TlsTunnel::failure(s.broker(), "foreign")?;
    assert!(failure.contains("UnknownCA"), "{failure}");
    // Others are served as before.
    let mut client = s.connect()?;
    send_and_receive(&mut client, s.queue())?;
    client.close()
}
