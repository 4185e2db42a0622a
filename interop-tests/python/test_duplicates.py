"""Messages with the id of an earlier one, on queues that detect duplicates."""

import datetime
import uuid

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage
from azure.servicebus.exceptions import OperationTimeoutError

from harness import assert_nothing_arrives, bodies, receive, receive_one, wait_for_time_to_pass

WINDOW_S = 10
LATER = datetime.timedelta(hours=1)


def send(client, queue, *pairs, session_id=None):
    """(message id, body) pairs, one transfer each."""
    with client.get_queue_sender(queue) as sender:
        for identity, text in pairs:
            sender.send_messages(ServiceBusMessage(text, message_id=identity, session_id=session_id))


def complete_all(receiver, count):
    messages = receive(receiver, count)
    for message in messages:
        receiver.complete_message(message)
    return bodies(messages)


def test_a_duplicate_is_accepted_and_dropped(client, queue):
    identity = uuid.uuid4()
    send(client, queue, *[(identity, str(n)) for n in range(5)], (str(identity), "as text"), (None, "a"), (None, "b"))
    with client.get_queue_receiver(queue) as receiver:
        messages = receive(receiver, 4)
        assert bodies(messages) == ["0", "as text", "a", "b"]
        assert messages[0].message_id == identity
        assert messages[2].message_id != messages[3].message_id
        assert_nothing_arrives(receiver, 0.5)


def test_ids_are_remembered_when_their_message_is_gone(client, queue):
    send(client, queue, ("completed", "m"), ("dead-lettered", "m"), ("deferred", "m"))
    with client.get_queue_receiver(queue) as receiver:
        completed, dead, deferred = receive(receiver, 3)
        receiver.complete_message(completed)
        receiver.dead_letter_message(dead)
        receiver.defer_message(deferred)
        send(client, queue, ("completed", "x"), ("dead-lettered", "x"), ("deferred", "x"), ("new", "after"))
        assert complete_all(receiver, 1) == ["after"]


def test_ids_are_forgotten_with_their_window(client, queue):
    with client.get_queue_receiver(queue) as receiver:
        send(client, queue, ("id", "m1"))
        assert complete_all(receiver, 1) == ["m1"]
        wait_for_time_to_pass(WINDOW_S / 5)
        send(client, queue, ("id", "within the window"))
        # A duplicate does not make the window longer.
        wait_for_time_to_pass(WINDOW_S * 4 / 5 + 0.5)
        send(client, queue, ("id", "m2"))
        assert complete_all(receiver, 1) == ["m2"]
        assert_nothing_arrives(receiver, 0.5)


def test_duplicates_in_a_batch_are_dropped_one_by_one(client, queue):
    send(client, queue, ("known", "m0"))
    with client.get_queue_sender(queue) as sender:
        ids = ["a", "b", "a", "known", "c"]
        sender.send_messages([ServiceBusMessage(str(n), message_id=one) for n, one in enumerate(ids)])
    with client.get_queue_receiver(queue) as receiver:
        assert complete_all(receiver, 4) == ["m0", "0", "1", "4"]
        assert_nothing_arrives(receiver, 0.5)


def test_duplicates_are_detected_after_a_restart(own_broker, queue):
    broker = own_broker()
    with broker.client() as client:
        send(client, queue, ("consumed", "m1"), ("waiting", "m2"))
        with client.get_queue_receiver(queue) as receiver:
            receiver.complete_message(receive_one(receiver))
    broker.restart()
    with broker.client() as client:
        send(client, queue, ("consumed", "x"), ("waiting", "x"), ("new", "m3"))
        with client.get_queue_receiver(queue) as receiver:
            assert complete_all(receiver, 2) == ["m2", "m3"]
            assert_nothing_arrives(receiver, 0.5)


def test_duplicates_of_scheduled_messages(client, queue):
    due = datetime.datetime.now(datetime.timezone.utc) + LATER
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.schedule_messages(ServiceBusMessage("scheduled", message_id="1"), due)
        sender.send_messages(ServiceBusMessage("sent", message_id="2"))
        sender.send_messages(ServiceBusMessage("x", message_id="1"))
        sender.send_messages(ServiceBusMessage("x", message_id="2", scheduled_enqueue_time_utc=due))
        numbers = sender.schedule_messages(
            [ServiceBusMessage("x", message_id="2"), ServiceBusMessage("also scheduled", message_id="3")], due
        )
        assert len(set(numbers)) == 2
        assert bodies(receiver.peek_messages(10)) == ["scheduled", "sent", "also scheduled"]


def test_activation_is_no_duplicate(client, queue):
    due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.schedule_messages(ServiceBusMessage("m1", message_id="1"), due)
        assert complete_all(receiver, 1) == ["m1"]
        sender.send_messages(ServiceBusMessage("x", message_id="1"))
        assert_nothing_arrives(receiver, 0.5)


def test_a_duplicate_makes_no_message_session(broker, client, queue):
    send(client, queue, ("id", "m1"), session_id="first")
    send(client, queue, ("id", "m1"), session_id="second")
    with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=10) as receiver:
        assert receiver.session.session_id == "first"
        with broker.client(retry_total=0) as impatient, pytest.raises(OperationTimeoutError):
            with impatient.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=1):
                pass
        assert complete_all(receiver, 1) == ["m1"]


def test_on_a_partitioned_queue_a_duplicate_has_the_same_key(client, queue):
    with client.get_queue_sender(queue) as sender:
        for key in ("a", "b", "a", None, None):
            sender.send_messages(ServiceBusMessage(str(key), message_id="id", partition_key=key))
    with client.get_queue_receiver(queue) as receiver:
        assert complete_all(receiver, 3) == ["a", "b", "None"]
        assert_nothing_arrives(receiver, 0.5)
