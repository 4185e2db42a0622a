"""Messages that nobody took in time."""

import datetime

import pytest
from azure.servicebus import ServiceBusMessage, ServiceBusMessageState, ServiceBusSubQueue
from azure.servicebus.exceptions import MessageNotFoundError

from harness import (
    assert_nothing_arrives,
    bodies,
    body,
    receive,
    receive_one,
    wait_for_time_to_pass,
    wait_until,
)

SECOND = datetime.timedelta(seconds=1)
# Expired messages are found when someone receives, and in the background within a minute.
SWEEP_DEADLINE_S = 75


def send(client, queue, *pairs, session_id=None):
    """(body, time to live in seconds or None) pairs, one transfer each."""
    with client.get_queue_sender(queue) as sender:
        for text, seconds in pairs:
            lives = seconds and datetime.timedelta(seconds=seconds)
            sender.send_messages(ServiceBusMessage(text, time_to_live=lives, session_id=session_id))


def dead_letters_of(client, queue):
    return client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)


def all_of(receiver):
    return receiver.peek_messages(100, sequence_number=1)


def test_an_expired_message_is_never_delivered(client, queue):
    with client.get_queue_receiver(queue) as receiver:
        assert all_of(receiver) == []  # connected, the clock may run
        send(client, queue, ("short", 4), ("long", 600), ("for ever", None))
        short, long, for_ever = all_of(receiver)
        assert (short.time_to_live, long.time_to_live, for_ever.time_to_live) == (4 * SECOND, 600 * SECOND, None)
        assert for_ever.expires_at_utc is None
        wait_for_time_to_pass(4.2)
        messages = receive(receiver, 2)
        assert bodies(messages) == ["long", "for ever"]
        assert messages[0].time_to_live == 600 * SECOND
        assert messages[0].expires_at_utc == messages[0].enqueued_time_utc + 600 * SECOND
        for message in messages:
            receiver.complete_message(message)
        assert all_of(receiver) == []
    with dead_letters_of(client, queue) as dead_letters:
        assert all_of(dead_letters) == []


def test_an_expired_message_is_dead_lettered(client, queue):
    send(client, queue, ("m1", 1), ("m2", 1), ("later", 600))
    with client.get_queue_receiver(queue) as receiver, dead_letters_of(client, queue) as dead_letters:
        wait_for_time_to_pass(1.2)
        assert body(receive_one(receiver)) == "later"
        expired = receive(dead_letters, 2)
        assert [(body(m), m.sequence_number, m.delivery_count) for m in expired] == [("m1", 1, 0), ("m2", 2, 0)]
        assert {m.dead_letter_reason for m in expired} == {"TTLExpiredException"}
        assert all(m.dead_letter_error_description for m in expired)
        # There the time does not count any more; what it was is still to be seen.
        assert [m.expires_at_utc - m.enqueued_time_utc for m in expired] == [SECOND, SECOND]
        dead_letters.abandon_message(expired[0])
        assert body(receive_one(dead_letters)) == "m1"


def test_messages_expire_without_a_receiver(client, queue):
    send(client, queue, ("m1", 1))
    with dead_letters_of(client, queue) as dead_letters:
        message = receive_one(dead_letters, SWEEP_DEADLINE_S)
        assert (body(message), message.dead_letter_reason) == ("m1", "TTLExpiredException")


def test_the_time_to_live_of_a_queue_is_the_longest(client, queue):
    with client.get_queue_receiver(queue) as receiver:
        send(client, queue, ("none", None), ("longer", 600), ("shorter", 1))
        assert [m.time_to_live for m in all_of(receiver)] == [3 * SECOND, 3 * SECOND, SECOND]
        for message in receive(receiver, 2):
            assert message.expires_at_utc == message.enqueued_time_utc + 3 * SECOND
            receiver.abandon_message(message)
        wait_for_time_to_pass(3.2)
        assert_nothing_arrives(receiver, 0.5)


def test_a_locked_message_expires_when_it_comes_back(client, queue):
    with client.get_queue_receiver(queue) as receiver:
        send(client, queue, ("completed", 2), ("abandoned", 2))
        completed, abandoned = receive(receiver, 2)
        wait_for_time_to_pass(2.2)
        receiver.complete_message(completed)
        receiver.abandon_message(abandoned)
        assert_nothing_arrives(receiver, 0.5)
        assert all_of(receiver) == []
    with dead_letters_of(client, queue) as dead_letters:
        message = receive_one(dead_letters)
        assert (body(message), message.dead_letter_reason) == ("abandoned", "TTLExpiredException")
        assert_nothing_arrives(dead_letters, 0.5)


def test_a_deferred_message_expires_when_it_is_asked_for(unretried, queue):
    with unretried.get_queue_receiver(queue) as receiver:
        send(unretried, queue, ("m1", 2))
        message = receive_one(receiver)
        receiver.defer_message(message)
        wait_for_time_to_pass(2.2)
        assert_nothing_arrives(receiver, 0.5)
        # Nobody asked for it: it stays.
        assert [(body(m), m.state) for m in all_of(receiver)] == [("m1", ServiceBusMessageState.DEFERRED)]
        with pytest.raises(MessageNotFoundError):
            receiver.receive_deferred_messages(message.sequence_number)
        assert all_of(receiver) == []
    with dead_letters_of(unretried, queue) as dead_letters:
        message = receive_one(dead_letters)
        assert (body(message), message.dead_letter_reason) == ("m1", "TTLExpiredException")


def test_a_scheduled_message_lives_from_when_it_is_due(client, queue):
    due = datetime.datetime.now(datetime.timezone.utc) + 2 * SECOND
    with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
        sender.schedule_messages(ServiceBusMessage("m1", time_to_live=SECOND), due)
        message = receive_one(receiver)
        assert (body(message), message.time_to_live) == ("m1", SECOND)
        assert message.enqueued_time_utc >= due - datetime.timedelta(milliseconds=1)
        assert message.expires_at_utc == message.enqueued_time_utc + SECOND


def test_one_expired_message_expires_its_message_session(client, queue):
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        send(client, queue, ("in flight", None), session_id="s")
        in_flight = receive_one(receiver)
        send(client, queue, ("m1", None), ("m2", 1), ("m3", None), session_id="s")
        send(client, queue, ("other", None), session_id="another")
        wait_for_time_to_pass(1.2)
        assert_nothing_arrives(receiver, 0.5)
        receiver.session.set_state(b"kept")
        receiver.complete_message(in_flight)
        assert receiver.peek_messages(10, sequence_number=1) == []
        assert receiver.session.get_state() == b"kept"
        send(client, queue, ("new", None), session_id="s")
        assert body(receive_one(receiver)) == "new"
    with client.get_queue_receiver(queue, session_id="another") as receiver:
        assert body(receive_one(receiver)) == "other"
    with dead_letters_of(client, queue) as dead_letters:
        messages = receive(dead_letters, 3)
        assert [(body(m), m.session_id) for m in messages] == [("m1", "s"), ("m2", "s"), ("m3", "s")]
        assert {m.dead_letter_reason for m in messages} == {"TTLExpiredException"}


def test_messages_of_a_message_session_expire_one_by_one(client, queue):
    send(client, queue, ("m1", None), ("m2", 1), ("m3", None), session_id="s")
    wait_for_time_to_pass(1.2)
    with client.get_queue_receiver(queue, session_id="s") as receiver:
        assert bodies(receive(receiver, 2)) == ["m1", "m3"]
    with dead_letters_of(client, queue) as dead_letters:
        assert body(receive_one(dead_letters)) == "m2"
        assert_nothing_arrives(dead_letters, 0.5)


def test_expiry_of_a_message_session_waits_for_a_receiver(client, queue):
    send(client, queue, ("m1", 1), session_id="s")
    wait_for_time_to_pass(1.2)
    with dead_letters_of(client, queue) as dead_letters:
        assert_nothing_arrives(dead_letters, 1)
        with client.get_queue_receiver(queue, session_id="s") as receiver:
            assert_nothing_arrives(receiver, 0.5)
            assert body(receive_one(dead_letters)) == "m1"


def test_messages_that_expired_while_the_broker_was_down(own_broker, queue):
    broker = own_broker()
    with broker.client() as client:
        send(client, queue, ("m1", 1), ("m2", 600))
    broker.kill()
    wait_for_time_to_pass(1)
    broker.start()
    with broker.client() as client, client.get_queue_receiver(queue) as receiver:
        message = receive_one(receiver)
        assert (body(message), message.time_to_live) == ("m2", 600 * SECOND)
        receiver.complete_message(message)
        wait_until(lambda: all_of(receiver) == [], what="the expiry")
    with broker.client() as client, dead_letters_of(client, queue) as dead_letters:
        assert body(receive_one(dead_letters)) == "m1"
