"""Shortens what Proton wants to hear, and what the scenarios of Proton share."""

import base64
import hashlib
import hmac
import time
import urllib.parse
import uuid

import broker_process
import pytest
from broker_process import DELIVERY_DEADLINE_S, Broker, certificate_file, policies
from proton import Array, Data, Delivery, Message, SSLDomain, Timeout, UNDESCRIBED, int32
from proton.reactor import LinkOption
from proton.utils import BlockingConnection

from snippets import Management, RequestRefused

TOKEN_LIFETIME_S = 600


def wait_until(condition, what):
    return broker_process.wait_until(condition, what=what)


def sas_token(resource, policy="root") -> str:
    """A shared access signature for `resource`, as Service Bus defines it."""
    audience = urllib.parse.quote_plus(resource)
    expiry = int(time.time()) + TOKEN_LIFETIME_S
    key = policies()[policy].encode()
    signature = base64.b64encode(hmac.new(key, f"{audience}\n{expiry}".encode(), hashlib.sha256).digest())
    signature = urllib.parse.quote_plus(signature)
    return f"SharedAccessSignature sr={audience}&sig={signature}&se={expiry}&skn={policy}"


class Settings(LinkOption):
    """Sets attributes of a link before it is attached."""

    def __init__(self, **attributes):
        self.attributes = attributes

    def apply(self, link):
        for name, value in self.attributes.items():
            setattr(link, name, value)


class Inbox:
    """A blocking receiver, by single deliveries: (message, delivery) pairs."""

    def __init__(self, receiver):
        self.receiver = receiver
        self.link = receiver.link
        self.connection = receiver.connection
        self.waiting = receiver.fetcher.incoming

    def receive(self, count=1):
        """Asks for `count` deliveries and waits for them."""
        self.link.flow(count)
        self.arrived(count)
        return [self.waiting.popleft() for _ in range(count)]

    def receive_one(self):
        return self.receive(1)[0]

    def arrived(self, count):
        self.connection.wait(lambda: len(self.waiting) >= count, timeout=DELIVERY_DEADLINE_S, msg=f"{count} messages")

    def drain(self, credit=0):
        """Uses up the credit; the broker's answer means that nothing else is there."""
        self.link.drain(credit)
        self.connection.wait(lambda: self.link.credit == 0, timeout=DELIVERY_DEADLINE_S, msg="answer to a drain")

    def is_empty(self) -> bool:
        """Whether the queue has nothing for this link, by a credit and a drain."""
        self.drain(1)
        return not self.waiting

    def confirmed(self, delivery, state):
        """Asks for an outcome and settles when the broker has; the broker's outcome."""
        delivery.update(state)
        self.connection.wait(lambda: delivery.settled, timeout=DELIVERY_DEADLINE_S, msg="confirmation")
        outcome = delivery.remote_state
        condition = delivery.remote.condition
        delivery.settle()
        return outcome, condition

    def close(self):
        self.receiver.close()


def let_time_pass(connection, seconds):
    """Lets real time pass where its passing is the subject, with the connection at work."""
    with pytest.raises(Timeout):
        connection.wait(lambda: False, timeout=seconds)


class Scenario:
    """What one scenario works with; its connections are closed when it ends."""

    def __init__(self, queue, broker):
        self.queue = queue
        self.broker = broker
        self.connections = []

    def connect(self, scheme="amqp", **options):
        """`options` are Proton's own."""
        url = f"{scheme}://localhost:{self.broker.port}"
        plain = {"user": "root", "password": policies()["root"], "allowed_mechs": "PLAIN"}
        connection = BlockingConnection(url, timeout=DELIVERY_DEADLINE_S, **{**plain, **options})
        self.connections.append(connection)
        return connection

    def trusting(self) -> SSLDomain:
        domain = SSLDomain(SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(certificate_file("ca.pem"))
        domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME, certificate_file("ca.pem"))
        return domain

    def sender(self, connection, queue=None, **settings):
        queue = queue or self.queue
        return connection.create_sender(queue, name=f"{queue}-{uuid.uuid4()}", options=Settings(**settings))

    def inbox(self, connection, queue=None, options=(), **settings) -> Inbox:
        queue = queue or self.queue
        name = f"{queue}-{uuid.uuid4()}"
        return Inbox(connection.create_receiver(queue, credit=0, name=name, options=[*options, Settings(**settings)]))

    def put(self, connection, *messages):
        """Sends, and everything must be accepted."""
        sender = self.sender(connection)
        for message in messages:
            delivery = sender.send(message if isinstance(message, Message) else Message(body=message))
            assert delivery.remote_state == Delivery.ACCEPTED
        sender.close()

    def management(self, connection):
        return Management(connection, self.queue)

    def peek(self, management, start=1, count=100):
        """What `com.microsoft:peek-message` shows, in order."""
        try:
            body = {"from-sequence-number": start, "message-count": int32(count)}
            answer = management.ask("com.microsoft:peek-message", body)
        except RequestRefused as nothing:
            assert nothing.status == 204
            return []
        messages = []
        for entry in answer.body["messages"]:
            message = Message()
            message.decode(entry["message"])
            messages.append(message)
        return messages

    def end(self):
        for connection in self.connections:
            if connection.conn is not None:
                connection.close()


def lock_tokens(*messages):
    return {"lock-tokens": Array(UNDESCRIBED, Data.UUID, *[m.instructions["x-opt-lock-token"] for m in messages])}


def bodies(deliveries) -> list:
    return [message.body for message, _ in deliveries]


def settle(delivery, state=Delivery.ACCEPTED):
    delivery.update(state)
    delivery.settle()


def flush(connection):
    """Has everything written: Proton puts new credit before outcomes that were given earlier, in one write."""
    connection.wait(lambda: connection.conn.transport.pending() == 0, timeout=DELIVERY_DEADLINE_S, msg="writing")


def refused(error_class, condition, action):
    """The action must fail with this condition."""
    with pytest.raises(error_class) as caught:
        action()
    assert caught.value.condition == condition, caught.value
