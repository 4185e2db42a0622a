"""Who may do what."""

import base64
import hashlib
import hmac
import time
import urllib.parse

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusAuthenticationError, ServiceBusAuthorizationError, ServiceBusError

from harness import bodies, body, policies, receive_one


def send(client, queue, text="m1"):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage(text))


def test_a_bad_key_is_refused(broker, queue):
    with broker.client(key="bm90IHRoZSBrZXk=", retry_total=0) as client:
        with pytest.raises(ServiceBusAuthenticationError):
            send(client, queue)
        with pytest.raises(ServiceBusAuthenticationError):
            with client.get_queue_receiver(queue):
                pass


def test_an_unknown_policy_is_refused(broker, queue):
    with broker.client(name="nobody", retry_total=0) as client, pytest.raises(ServiceBusAuthenticationError):
        send(client, queue)


def test_the_secondary_key_opens_the_namespace(broker, queue):
    with broker.client("root.secondary") as client:
        send(client, queue)
        with client.get_queue_receiver(queue) as receiver:
            receiver.complete_message(receive_one(receiver))


def test_a_listen_only_key_cannot_send(broker, client, queue):
    send(client, queue)
    with broker.client("listen-only", retry_total=0) as listener:
        with pytest.raises(ServiceBusAuthorizationError, match="'Send' claim"):
            send(listener, queue, "m2")
        with listener.get_queue_receiver(queue) as receiver:
            assert bodies(receiver.peek_messages(10)) == ["m1"]
            receiver.complete_message(receive_one(receiver))


def test_a_send_only_key_cannot_receive(broker, client, queue):
    with broker.client("send-only", retry_total=0) as speaker:
        send(speaker, queue)
        with pytest.raises(ServiceBusAuthorizationError, match="'Listen' claim"):
            with speaker.get_queue_receiver(queue):
                pass
        send(speaker, queue, "m2")
    with client.get_queue_receiver(queue) as receiver:
        assert bodies(receiver.peek_messages(10)) == ["m1", "m2"]


def test_a_queue_policy_opens_only_its_queue(broker, queue):
    with broker.client("queue-policy", retry_total=0) as client:
        send(client, queue)
        with client.get_queue_receiver(queue) as receiver:
            assert body(receive_one(receiver)) == "m1"
        with pytest.raises(ServiceBusError):
            send(client, "send_receive_complete")


def token(resource, policy, expires_in_s):
    expiry = str(int(time.time()) + expires_in_s)
    resource = urllib.parse.quote_plus(resource)
    digest = hmac.new(policies()[policy].encode(), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    signature = urllib.parse.quote_plus(base64.b64encode(digest))
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={policy}"


def client_with_token(broker, ready_made):
    host = f"127.0.0.1:{broker.port}"
    return ServiceBusClient.from_connection_string(
        f"Endpoint=sb://{host};SharedAccessSignature={ready_made};UseDevelopmentEmulator=true", retry_total=0
    )


def test_a_ready_made_token_opens_the_namespace(broker, queue):
    with client_with_token(broker, token(f"sb://127.0.0.1:{broker.port}/", "root", 300)) as client:
        send(client, queue)
        with client.get_queue_receiver(queue) as receiver:
            receiver.complete_message(receive_one(receiver))
    elsewhere = token(f"sb://127.0.0.1:{broker.port}/some-other-queue", "root", 300)
    with client_with_token(broker, elsewhere) as client, pytest.raises(ServiceBusError):
        send(client, queue)


def test_an_expired_token_is_refused(broker, queue):
    expired = token(f"sb://127.0.0.1:{broker.port}/", "root", -60)
    with client_with_token(broker, expired) as client, pytest.raises(ServiceBusError):
        send(client, queue)
