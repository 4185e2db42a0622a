"""The lock of a message session over time. The queues here lock for five seconds."""

import datetime
import subprocess
import sys
import time

import pytest
from azure.servicebus import AutoLockRenewer, ServiceBusMessage, ServiceBusReceiveMode
from azure.servicebus.exceptions import SessionCannotBeLockedError, SessionLockLostError

from harness import HERE, bodies, body, receive, receive_one, wait_for_time_to_pass, wait_until

LOCK_S = 5


def send(client, queue, session_id, *texts):
    with client.get_queue_sender(queue) as sender:
        for text in texts:
            sender.send_messages(ServiceBusMessage(text, session_id=session_id))


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def accepted(client, queue, session_id):
    """The opened receiver, or None while someone else holds the message session."""
    receiver = client.get_queue_receiver(queue, session_id=session_id)
    try:
        receiver.session.renew_lock()
        return receiver
    except SessionCannotBeLockedError:
        receiver.close()
        return None


def test_renewal_holds_a_message_session_past_its_lock_duration(broker, client, queue):
    send(client, queue, "s", "m1")
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        message = receive_one(receiver)
        for _ in range(3):
            wait_for_time_to_pass(2.5)
            receiver.session.renew_lock()
        with broker.client(retry_total=0) as other:
            assert accepted(other, queue, "s") is None
        receiver.complete_message(message)
        assert receiver.peek_messages(10) == []


def test_renewal_resets_and_never_accumulates(client, queue):
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        previous = receiver.session.locked_until_utc
        slack = datetime.timedelta(seconds=1)
        for _ in range(5):
            wait_for_time_to_pass(0.05)
            until = receiver.session.renew_lock()
            assert until > previous
            left = until - now()
            assert datetime.timedelta(seconds=LOCK_S) - slack < left <= datetime.timedelta(seconds=LOCK_S), left
            previous = until


def test_automatic_renewal_holds_a_message_session(broker, client, queue):
    send(client, queue, "s", "m1")
    with AutoLockRenewer(max_lock_renewal_duration=60) as renewer:
        with client.get_queue_receiver(queue, session_id="s", auto_lock_renewer=renewer) as receiver:
            message = receive_one(receiver)
            wait_for_time_to_pass(LOCK_S + 2)
            with broker.client(retry_total=0) as other:
                assert accepted(other, queue, "s") is None
            receiver.complete_message(message)


def test_receiving_as_long_as_the_lock_lasts_ends_in_peace(client, queue):
    send(client, queue, "s", "m1", "m2")
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    with client.get_queue_receiver(queue, session_id="s", receive_mode=mode, max_wait_time=LOCK_S) as receiver:
        assert [body(message) for message in receiver] == ["m1", "m2"]


def test_expiry_is_seen_by_the_holder_and_counted_for_the_next(broker, queue):
    with broker.client(retry_total=0) as client, broker.client(retry_total=0) as other:
        send(client, queue, "s", "m1", "m2", "m3")
        with client.get_queue_receiver(queue, session_id="s") as holder:
            messages = receive(holder, 2)
            assert [message.delivery_count for message in messages] == [0, 0]
            following = wait_until(lambda: accepted(other, queue, "s"), LOCK_S + 5, "the accept after expiry")
            with pytest.raises(SessionLockLostError):
                holder.complete_message(messages[0])
            with following:
                messages = receive(following, 3)
                assert bodies(messages) == ["m1", "m2", "m3"]
                # the third was never handed out in the lost hold
                assert [message.delivery_count for message in messages] == [1, 1, 0]
                for message in messages:
                    following.complete_message(message)


def test_state_and_renewal_after_expiry_fail(client, queue):
    with client.get_queue_receiver(queue, session_id="s") as holder:
        holder.session.set_state(b"kept")
        wait_for_time_to_pass(LOCK_S + 0.5)
        for operation in (
            holder.session.renew_lock,
            holder.session.get_state,
            lambda: holder.session.set_state(b"lost"),
            lambda: holder.receive_messages(max_wait_time=1),
        ):
            with pytest.raises(SessionLockLostError):
                operation()
    with client.get_queue_receiver(queue, session_id="s") as following:
        assert following.session.get_state() == b"kept"


HOLDER_PROGRAM = """
import sys
from azure.servicebus import ServiceBusClient
connection_string, queue = sys.argv[1:]
receiver = ServiceBusClient.from_connection_string(connection_string).get_queue_receiver(queue, session_id="s")
receiver.__enter__()
print([str(message) for message in receiver.receive_messages(max_wait_time=20)], flush=True)
sys.stdin.read()
"""


def hold_and_get_killed(broker, queue):
    """Another process accepts "s", receives one message and is killed."""
    command = [sys.executable, "-c", HOLDER_PROGRAM, broker.connection_string(), queue]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE)
    try:
        assert holder.stdout.readline().strip() == "['m1']"
    finally:
        holder.kill()
        holder.wait()


def test_a_killed_client_keeps_its_lock_until_expiry(broker, queue):
    with broker.client(retry_total=0) as client:
        send(client, queue, "s", "m1")
        hold_and_get_killed(broker, queue)
        killed = time.monotonic()
        assert accepted(client, queue, "s") is None
        with wait_until(lambda: accepted(client, queue, "s"), LOCK_S + 5, "the accept after expiry") as receiver:
            assert time.monotonic() - killed > 1
            message = receive_one(receiver)
            assert (body(message), message.delivery_count) == ("m1", 1)


def test_a_broken_connection_releases_its_lock_at_once_under_dev(own_broker, queue):
    broker = own_broker(options=["--dev"])
    with broker.client(retry_total=0) as client:
        send(client, queue, "s", "m1")
        hold_and_get_killed(broker, queue)
        with wait_until(lambda: accepted(client, queue, "s"), 3, "the accept after the loss") as receiver:
            assert body(receive_one(receiver)) == "m1"
