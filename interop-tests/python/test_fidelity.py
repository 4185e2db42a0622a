"""What comes out is what went in."""

import datetime
import uuid

from azure.servicebus import ServiceBusMessage
from azure.servicebus.amqp import (
    AmqpAnnotatedMessage,
    AmqpMessageBodyType,
    AmqpMessageHeader,
    AmqpMessageProperties,
)

from harness import body, receive, receive_one


def send(client, queue, *messages):
    with client.get_queue_sender(queue) as sender:
        for message in messages:
            sender.send_messages(message)


SENT = {
    "content_type": "application/json",
    "correlation_id": "correlation",
    "message_id": "identity",
    "partition_key": "partition",
    "reply_to": "reply queue",
    "reply_to_session_id": "reply session",
    "session_id": "partition",
    "subject": "subject",
    "to": "destination",
}


def described(message):
    return {name: getattr(message, name) for name in SENT}


def test_properties_survive_the_round_trip(client, queue):
    send(client, queue, ServiceBusMessage(b'{"n": 1}', application_properties={"k": "v"}, **SENT))
    with client.get_queue_receiver(queue) as receiver:
        message = receive_one(receiver)
        assert described(message) == SENT
        assert body(message) == '{"n": 1}'
        assert message.application_properties == {b"k": b"v"}


def test_application_property_types_survive(client, queue):
    moment = 1_700_000_000_123
    properties = {
        "bool": True,
        "int": 7,
        "negative": -7,
        "float": 1.5,
        "text": "größer",
        "uuid": uuid.UUID("01234567-89ab-cdef-0123-456789abcdef"),
        "time": datetime.datetime.fromtimestamp(moment / 1000, datetime.timezone.utc),
        "null": None,
    }
    send(client, queue, ServiceBusMessage("m", application_properties=properties))
    with client.get_queue_receiver(queue) as receiver:
        got = {key.decode(): value for key, value in receive_one(receiver).application_properties.items()}
    assert got.pop("time") == moment  # the SDK hands timestamps back in milliseconds
    assert got.pop("text").decode() == properties["text"]
    expected = {key: value for key, value in properties.items() if key not in ("time", "text")}
    assert got == expected
    assert {key: type(value) for key, value in got.items()} == {k: type(v) for k, v in expected.items()}


def test_what_was_not_sent_stays_absent(client, queue):
    send(client, queue, ServiceBusMessage("bare"))
    with client.get_queue_receiver(queue) as receiver:
        message = receive_one(receiver)
    absent = [name for name in SENT if name != "message_id"] + ["application_properties", "time_to_live"]
    absent += ["scheduled_enqueue_time_utc", "dead_letter_reason", "dead_letter_source", "expires_at_utc"]
    assert {name: getattr(message, name) for name in absent} == dict.fromkeys(absent)
    assert message.message_id, "the broker fills in a missing message id"


def test_body_kinds_survive(client, queue):
    send(
        client,
        queue,
        AmqpAnnotatedMessage(data_body=[b"one", b"two"]),
        AmqpAnnotatedMessage(value_body={"list": [1, None, "x"], "n": 5}),
        ServiceBusMessage(None),
        AmqpAnnotatedMessage(sequence_body=[[1, 2], ["three"]]),
        ServiceBusMessage(b""),
    )
    with client.get_queue_receiver(queue) as receiver:
        data, value, null, sequence, empty = receive(receiver, 5)
    assert (data.body_type, list(data.body)) == (AmqpMessageBodyType.DATA, [b"one", b"two"])
    assert (value.body_type, value.body) == (AmqpMessageBodyType.VALUE, {b"list": [1, None, b"x"], b"n": 5})
    assert (null.body_type, null.body) == (AmqpMessageBodyType.VALUE, None)
    assert (sequence.body_type, list(sequence.body)) == (AmqpMessageBodyType.SEQUENCE, [[1, 2], [b"three"]])
    assert b"".join(empty.body) == b""


def test_a_received_message_can_be_sent_again(client, queue):
    original = AmqpAnnotatedMessage(
        data_body=b"payload",
        application_properties={"k": 1},
        # Sent again, texts are binary.
        annotations={"x-own-annotation": "kept", "x-opt-partition-key": "group"},
        header=AmqpMessageHeader(priority=7, durable=True),
        properties=AmqpMessageProperties(message_id="id", subject="subject", group_id="group", content_encoding="zip"),
    )
    send(client, queue, original)
    for _ in range(2):
        with client.get_queue_receiver(queue) as receiver:
            message = receive_one(receiver)
            raw = message.raw_amqp_message
            assert body(message) == "payload"
            assert message.application_properties == {b"k": 1}
            assert raw.annotations[b"x-own-annotation"] == b"kept"
            assert (raw.header.priority, raw.header.durable, message.delivery_count) == (7, True, 0)
            assert (message.message_id, message.subject, message.session_id) == ("id", "subject", "group")
            assert message.partition_key == "group"
            assert raw.properties.content_encoding in (b"zip", "zip")
            send(client, queue, message)
            receiver.complete_message(message)
