"""The state blob of a message session."""

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import MessageSizeExceededError

from harness import receive_one


def test_state_is_kept_replaced_and_cleared(client, queue):
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        assert receiver.session.get_state() is None
        receiver.session.set_state(b"first")
        assert receiver.session.get_state() == b"first"
        receiver.session.set_state(b"second, longer")
        assert receiver.session.get_state() == b"second, longer"
        receiver.session.set_state(None)
        assert receiver.session.get_state() is None
        receiver.session.set_state("as text")
        assert receiver.session.get_state() == b"as text"


def test_state_of_any_bytes_is_kept_and_no_bytes_clear_it(client, queue):
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        every_byte = bytes(range(256)) * 40
        receiver.session.set_state(every_byte)
        assert receiver.session.get_state() == every_byte
        receiver.session.set_state(b"")
        assert receiver.session.get_state() is None


def test_state_is_isolated_between_message_sessions(client, queue):
    with client.get_queue_receiver(queue, session_id="a") as a, client.get_queue_receiver(queue, session_id="b") as b:
        a.session.set_state(b"of a")
        assert b.session.get_state() is None
        b.session.set_state(b"of b")
        assert (a.session.get_state(), b.session.get_state()) == (b"of a", b"of b")
        a.session.set_state(None)
        assert b.session.get_state() == b"of b"


def test_state_is_seen_by_the_next_holder(broker, client, queue):
    with client.get_queue_sender(queue) as sender:
        sender.send_messages(ServiceBusMessage("m1", session_id="s"))
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        receiver.session.set_state(b"step 1")
        receiver.complete_message(receive_one(receiver))
        assert receiver.session.get_state() == b"step 1"
    with broker.client() as other, other.get_queue_receiver(queue, session_id="s") as receiver:
        assert receiver.session.get_state() == b"step 1"


def test_state_over_the_limit_is_refused_and_the_old_kept(client, queue):
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        largest = b"x" * (200 * 1024)
        receiver.session.set_state(largest)
        with pytest.raises(MessageSizeExceededError):
            receiver.session.set_state(b"y" * (300 * 1024))
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        assert receiver.session.get_state() == largest


def test_state_survives_a_restart(own_broker, queue):
    broker = own_broker()
    with broker.client() as client, client.get_queue_receiver(queue, session_id="s") as receiver:
        receiver.session.set_state(b"before the crash")
        broker.kill()
    broker.start()
    with broker.client() as client:
        with client.get_queue_receiver(queue, session_id="other") as receiver:
            assert receiver.session.get_state() is None
        with client.get_queue_receiver(queue, session_id="s") as receiver:
            assert receiver.session.get_state() == b"before the crash"
