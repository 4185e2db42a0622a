"""TCP, TLS and WebSocket; all of them on the one port of the broker."""

import json
import urllib.request

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage, TransportType
from azure.servicebus.exceptions import ServiceBusError

from harness import ca_certificate, policies, receive_one

NAMESPACE_HOST = "sbtest.servicebus.windows.net"
OTHER_HOST = "other.servicebus.windows.net"


def connect(broker, *, transport=TransportType.Amqp, tls=True, verify=True, host=NAMESPACE_HOST, policy="root", **options):
    """A client that is told a public host name and where that host really is."""
    emulator = "" if tls else ";UseDevelopmentEmulator=true"
    key = policies()[policy]
    if tls and verify:
        options["connection_verify"] = ca_certificate()
    return ServiceBusClient.from_connection_string(
        f"Endpoint=sb://{host};SharedAccessKeyName={policy};SharedAccessKey={key}{emulator}",
        custom_endpoint_address=f"sb://127.0.0.1:{broker.port}",
        transport_type=transport,
        retry_total=0,
        **options,
    )


def round_trip(client, queue, size=250 * 1024):
    payload = bytes(range(256)) * (size // 256)
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.send_messages(ServiceBusMessage(payload))
        message = receive_one(receiver, 30)
        assert b"".join(message.body) == payload
        receiver.complete_message(message)
        assert receiver.peek_messages(1, sequence_number=1) == []


def test_tls_with_a_trusted_certificate(broker, queue):
    with connect(broker) as client:
        round_trip(client, queue)


def test_tls_with_an_untrusted_certificate_is_refused_by_the_client(broker, client, queue):
    with connect(broker, verify=False) as untrusting, pytest.raises(ServiceBusError):
        round_trip(untrusting, queue, 256)
    round_trip(client, queue, 256)


def test_websocket_over_tls(broker, queue):
    with connect(broker, transport=TransportType.AmqpOverWebsocket) as client:
        round_trip(client, queue)


def test_websocket_without_tls(broker, queue):
    with connect(broker, transport=TransportType.AmqpOverWebsocket, tls=False) as client:
        round_trip(client, queue)


def test_one_port_serves_every_transport(broker, client, queue):
    round_trip(client, queue, 256)
    for transport in (TransportType.Amqp, TransportType.AmqpOverWebsocket):
        with connect(broker, transport=transport) as one:
            round_trip(one, queue, 256)
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.port}/health", timeout=5) as answer:
        assert json.load(answer)["status"] == "healthy"


def test_the_host_name_selects_the_namespace(broker, queue):
    with connect(broker, host=OTHER_HOST, policy="other") as client:
        round_trip(client, "only_in_the_other_namespace", 256)
    with connect(broker) as client, pytest.raises(ServiceBusError):
        round_trip(client, "only_in_the_other_namespace", 256)
    with connect(broker) as client:
        round_trip(client, queue, 256)
