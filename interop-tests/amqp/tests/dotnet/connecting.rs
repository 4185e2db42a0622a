//! Connections and tokens.

use lockstep_interop_amqp::{HOST, Outcome, text_message};

use crate::{
    sdk::{From, Mode, Sdk},
    suite::{Scenario, scenarios},
    tls_tunnel::{Over, TlsTunnel},
};

scenarios![
    dotnet_connects_and_puts_tokens,
    dotnet_without_a_hostname_is_served,
    dotnet_over_tls_and_websocket,
    dotnet_closes_link_session_and_connection_in_order,
    dotnet_goes_on_after_a_detach_of_the_broker,
];

/// SASL `MSSBCBS` without a host, settled requests with one empty tag; 202 and 401 are what
/// AmqpCbsLink.cs knows.
fn dotnet_connects_and_puts_tokens(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    for entity in [queue.to_owned(), format!("{queue}/$management"), queue.to_owned()] {
        assert_eq!(sdk.put_token(&entity, None, 600)?.0, 202);
    }
    let (status, text) = sdk.put_token(queue, Some("skn=nobody"), 600)?;
    assert_eq!(status, 401, "{text}");
    let (status, text) = sdk.put_token(queue, None, -60)?;
    assert!(status == 401 && text.contains("ExpiredToken"), "{status} {text}");
    // The links of $cbs and the tokens before live on.
    send_and_receive(&mut sdk, queue, "m")?;
    sdk.close(&[])
}

fn send_and_receive(sdk: &mut Sdk<'_>, queue: &str, text: &str) -> Outcome {
    let mut sender = sdk.sender(queue)?;
    assert_eq!(sdk.send(&mut sender, &text_message(text, None), false)?, Ok(()));
    let mut receiver = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let deliveries = sdk.receive(&mut receiver, 1, 1)?;
    assert_eq!(deliveries[0].message.text(), text);
    sdk.complete(&mut receiver, &deliveries[0])?;
    sdk.close_receiver(&receiver)
}

/// The audience of the tokens names it; so does TLS, where there is TLS.
fn dotnet_without_a_hostname_is_served(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let tunnel = TlsTunnel::open(s.broker(), None, Over::Tls)?;
    for address in [tunnel.address(), s.broker().address()] {
        let mut sdk = Sdk::connect_to(s, address, None)?;
        send_and_receive(&mut sdk, queue, "m")?;
        sdk.close(&[])?;
    }
    Ok(())
}

/// The path ends with a slash, and the sub-protocol is `AMQPWSB10` (WebSocketTransportInitiator.cs).
fn dotnet_over_tls_and_websocket(s: &Scenario) -> Outcome {
    let queue = s.queue();
    for over in [Over::Tls, Over::WebSocketTls] {
        let tunnel = TlsTunnel::open(s.broker(), None, over)?;
        let mut sdk = Sdk::connect_to(s, tunnel.address(), Some(HOST))?;
        // Beyond one frame and one WebSocket message.
        send_and_receive(&mut sdk, queue, &"x".repeat(150_000))?;
        sdk.close(&[])?;
    }
    Ok(())
}

/// Each end is answered, and what was held is free.
fn dotnet_closes_link_session_and_connection_in_order(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut sender = sdk.sender(queue)?;
    assert_eq!(sdk.send(&mut sender, &text_message("m", Some("s")), false)?, Ok(()));
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    sdk.receive(&mut link, 1, 1)?;
    let management = sdk.management(queue)?;
    sdk.close_receiver(&link)?;
    let mut other = Sdk::connect(s)?;
    let mut again = other.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    let deliveries = other.receive(&mut again, 1, 1)?;
    // Closing raised no count: the message was not abandoned.
    assert_eq!(deliveries[0].message.delivery_count(), Some(0));
    other.complete(&mut again, &deliveries[0])?;
    // An end without a detach frees it too.
    other.end(&again)?;
    let third = other.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    // And so does the close of a connection with links on it.
    sdk.close(&[&management])?;
    assert_eq!(third.message_session.as_deref(), Some("s"));
    other.close(&[])?;
    let mut last = Sdk::connect(s)?;
    last.receiver(queue, Mode::PeekLock, From::MessageSession("s"))?;
    last.close(&[])
}

/// A token that runs out takes its links; the SDK makes new ones on the same connection
/// (FaultTolerantAmqpObject), and settles by `$management` what it had received.
fn dotnet_goes_on_after_a_detach_of_the_broker(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut sdk = Sdk::connect(s)?;
    let mut sender = sdk.sender(queue)?;
    for text in ["1", "2"] {
        assert_eq!(sdk.send(&mut sender, &text_message(text, None), false)?, Ok(()));
    }
    let mut link = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let before = sdk.receive(&mut link, 1, 1)?;
    // The token before is replaced by one that is good for two seconds.
    assert_eq!(sdk.put_token(queue, None, 2)?.0, 202);
    let error = sdk.detached(&link)?;
    assert_eq!(error.condition.as_str(), "amqp:unauthorized-access", "{error:?}");
    sdk.end(&link)?;
    let mut again = sdk.receiver(queue, Mode::PeekLock, From::Queue)?;
    let after = sdk.receive(&mut again, 1, 1)?;
    assert_eq!(after[0].message.text(), "2");
    let mut management = sdk.management(queue)?;
    let body = crate::receiving::disposition("completed", &before[0].tag, &[])?;
    sdk.manage(&mut management, "update-disposition", Some(again.name()), body)?.ok();
    sdk.complete(&mut again, &after[0])?;
    sdk.close(&[&management])
}
